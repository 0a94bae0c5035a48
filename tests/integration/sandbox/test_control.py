"""Up, down, status and clock of the whole company: everything that starts is known, private, and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest
import requests
import yaml

import tieout_sandbox
from tieout.erp import Ledger, connect
from tieout_sandbox import control
from tieout_sandbox.company_store import stored_company
from tieout_sandbox.control import State
from tieout_sandbox.processes import SandboxError

pytestmark = pytest.mark.server

BEFORE_GO_LIVE = date(2026, 3, 28)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A company of this module's own: its clock is moved."""
    home = tmp_path_factory.mktemp("sandbox")
    yield control.up(home)
    control.down(home)


@pytest.fixture(scope="module")
def ledger(sandbox: State) -> Ledger:
    config = Path(tieout_sandbox.__file__).parent / "config" / "erp" / "tryton.yaml"
    return connect("tryton", sandbox.connection("tryton"), yaml.safe_load(config.read_text()))


def test_every_source_has_a_connection(sandbox: State) -> None:
    assert set(sandbox.connections) == {
        f"AIRFLOW_CONN_{name}"
        for name in ("STRIPE_US", "STRIPE_DE", "STRIPE_JP", "SALESFORCE", "ZENDESK", "DROP", "TRYTON")
    }
    assert sandbox.connection("stripe_us").password != sandbox.connection("stripe_jp").password


def test_a_shell_gets_the_connections(sandbox: State) -> None:
    tieout = Path(sys.executable).with_name("tieout")
    told = f'eval "$("{tieout}" sandbox env --home "{sandbox.home}")"; env -0'
    shell = subprocess.run(["sh", "-c", told], capture_output=True, check=True)
    found = dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if line)
    assert {name: found.get(name) for name in sandbox.connections} == sandbox.connections


def test_every_server_is_alive_and_says_where(sandbox: State) -> None:
    status = control.status(sandbox.home)
    assert status["running"]
    assert {name: server["alive"] for name, server in status["servers"].items()} == {
        "postgres": True,
        "tryton": True,
        "vendors": True,
    }


def test_nothing_listens_beyond_loopback(sandbox: State) -> None:
    for identity in sandbox.processes.values():
        process = identity.process()
        assert process is not None
        family = [process, *process.children(recursive=True)]
        listening = {
            c.laddr.ip
            for p in family
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN and c.type == socket.SOCK_STREAM
        }
        assert listening <= {"127.0.0.1"}


def test_secrets_are_in_two_private_files_and_nowhere_else(sandbox: State) -> None:
    assert sandbox.home.stat().st_mode & 0o077 == 0
    secrets = [sandbox.connection(c).password for c in ("tryton", "stripe_us", "stripe_de", "salesforce", "zendesk")]
    secrets += [*sandbox.secrets["erp"].values(), sandbox.secrets["control_token"]]
    holders = set()
    for file in (p for p in sandbox.home.rglob("*") if p.is_file()):
        content = file.read_bytes()
        if any(secret.encode() in content for secret in secrets):
            assert file.stat().st_mode & 0o077 == 0, file
            holders.add(file.name)
    assert holders == {"connections.json", "secrets.json", "vendors.secrets.json"}


@pytest.mark.parametrize("entity", ["US", "DE", "JP"])
def test_the_ledger_holds_the_history_to_the_cent(sandbox: State, ledger: Ledger, entity: str) -> None:
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for move in stored_company(sandbox.seed, sandbox.scale, sandbox.clean).erp_history:
        if move.legal_entity_id == entity and move.date <= BEFORE_GO_LIVE:
            for line in move.lines:
                expected[line.account] += line.debit - line.credit
    held = {b.account: b.closing for b in ledger.trial_balance(entity, BEFORE_GO_LIVE)}
    assert held == expected
    assert sum(held.values()) == 0


def test_the_clock_lets_drop_files_and_manual_moves_appear_once(sandbox: State, ledger: Ledger) -> None:
    company = stored_company(sandbox.seed, sandbox.scale, sandbox.clean)

    def manual() -> int:
        pages = [p for e in ("US", "DE", "JP") for p in ledger.gl_entries(e, date(2026, 3, 29), date(2026, 12, 31))]
        return len({e.journal_id for page in pages for e in page if e.narrative.startswith("MANUAL")})

    def files() -> set[Path]:
        return {p.relative_to(sandbox.home) for p in (sandbox.home / "drop").rglob("*") if p.is_file()}

    def due(now: datetime) -> int:
        return sum(1 for m in company.manual_moves if m.visible_at <= now and m.date >= date(2026, 3, 29))

    assert manual() == due(sandbox.now)
    before, later = files(), datetime(2026, 4, 2, 9, tzinfo=UTC)
    for _ in range(2):
        control.set_clock(sandbox.home, later)
        assert manual() == due(later)
    assert before < files()
    answer = requests.get(sandbox.connection("zendesk").host + "/api/v2/users.json", timeout=10)
    assert answer.headers["Date"].startswith("Thu, 02 Apr 2026 09:00")


def test_up_twice_is_up_once_and_another_company_is_refused(sandbox: State) -> None:
    again = control.up(sandbox.home)
    assert again.processes == sandbox.processes
    with pytest.raises(SandboxError, match="another company"):
        control.up(sandbox.home, seed=8)


def test_what_a_kill_left_is_noticed_and_replaced_and_down_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = control.up(home, only={"erp"})
    os.kill(first.processes["tryton"].pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while control.status(home)["running"]:
        assert time.monotonic() < deadline
    with pytest.raises(SandboxError, match="does not run"):
        control.set_clock(home, first.now + timedelta(days=1))
    second = control.up(home, only={"erp"})
    assert not first.processes["postgres"].alive
    assert control.status(home)["running"]
    control.down(home)
    assert not any(process.alive for process in second.processes.values())
    assert not control.status(home)["running"]
    assert not list(home.glob("*.json"))
    control.down(home)


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[State] = []

    def fail(state: State, *_: object) -> None:
        started.append(state)
        raise SandboxError("the ERP does not start today")

    monkeypatch.setattr(control, "_make_ledger", fail)
    with pytest.raises(SandboxError, match="today"):
        control.up(tmp_path / "home", only={"erp"})
    assert not any(process.alive for process in started[0].processes.values())
    assert not (tmp_path / "home" / "state.json").exists()
