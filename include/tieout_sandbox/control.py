"""Start, stop and set the clock of the company in a box: ERP, vendor simulators, drop folder.

Everything listens on loopback at ports that were free, with passwords made anew at every start. What runs is written
to `state.json` under the sandbox's home as it starts, so that `down` ends exactly that, by process id, whatever
happened in between. Stopping deletes the databases: a fresh company has a fresh ERP.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import requests

from tieout.settings import Connection
from tieout_sandbox import company_store, postgres, processes
from tieout_sandbox.company.files import write_drop
from tieout_sandbox.company.model import Company
from tieout_sandbox.processes import ProcessId, SandboxError
from tieout_sandbox.simulators import process as simulators
from tieout_sandbox.tryton import chart, history, server, template
from tieout_sandbox.tryton.accountant import accountant_connection, post_manual_moves

Part = Literal["erp", "vendors", "drop"]
PARTS: tuple[Part, ...] = ("erp", "vendors", "drop")
DATABASE = "erp"
FIRST_NIGHT = datetime(2026, 3, 30, 9, tzinfo=UTC)


@dataclass
class State:
    """What runs under a home: no secrets, those are in `connections.json` and `secrets.json` beside it."""

    home: Path
    seed: int
    scale: int
    clean: bool
    parts: tuple[Part, ...]
    now: datetime
    processes: dict[str, ProcessId] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    ready: bool = False

    @property
    def running(self) -> bool:
        """Whether it started completely and every process still lives."""
        return self.ready and all(process.alive for process in self.processes.values())

    def save(self) -> None:
        """Write `state.json`."""
        value = {
            "seed": self.seed,
            "scale": self.scale,
            "clean": self.clean,
            "parts": list(self.parts),
            "now": self.now.isoformat(),
            "processes": {name: process.as_dict() for name, process in self.processes.items()},
            "urls": self.urls,
            "ready": self.ready,
        }
        _write_private(self.home / "state.json", value)

    @classmethod
    def load(cls, home: Path) -> State | None:
        """What `state.json` says, or None without one."""
        path = home / "state.json"
        if not path.exists():
            return None
        value = json.loads(path.read_text())
        return cls(
            home=home,
            seed=value["seed"],
            scale=value["scale"],
            clean=value["clean"],
            parts=tuple(value["parts"]),
            now=datetime.fromisoformat(value["now"]),
            processes={name: ProcessId(**process) for name, process in value["processes"].items()},
            urls=value["urls"],
            ready=value["ready"],
        )

    @property
    def connections(self) -> dict[str, str]:
        """Airflow connections by environment variable, secrets included."""
        return dict(json.loads((self.home / "connections.json").read_text()))

    def connection(self, conn_id: str) -> Connection:
        """One of them as a value."""
        return Connection.from_env(conn_id, self.connections)

    @property
    def secrets(self) -> dict[str, Any]:
        """What tests and the clock need besides connections: the control token, the ERP's other users."""
        return dict(json.loads((self.home / "secrets.json").read_text()))


def up(
    home: Path,
    *,
    seed: int = 7,
    scale: int = 1,
    clean: bool = False,
    now: datetime = FIRST_NIGHT,
    only: set[Part] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> State:
    """Start the company and wait until everything answers; does nothing where the same company already runs.

    What a killed run left behind is ended first. Raises SandboxError if another company runs under this home, or
    with the log's end if a server does not start; then nothing is left running.
    """
    home = home.resolve()
    parts = tuple(part for part in PARTS if only is None or part in only)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    with _exclusive(home):
        present = State.load(home)
        if present and present.running:
            wanted, found = (seed, scale, clean, parts), (present.seed, present.scale, present.clean, present.parts)
            if wanted != found:
                raise SandboxError(
                    "another company runs under this home",
                    record=str(home),
                    expected=f"seed, scale, clean, parts = {wanted}",
                    got=found,
                    remedy="tieout sandbox down",
                )
            return present
        _down(home)
        state = State(home, seed, scale, clean, parts, now.astimezone(UTC))
        state.save()
        try:
            _start(state, say)
        except BaseException:
            _down(home)
            raise
    return state


def down(home: Path) -> None:
    """End every process that `up` started under this home and delete its databases and secrets; logs stay."""
    home = home.resolve()
    if home.exists():
        with _exclusive(home):
            _down(home)


def status(home: Path) -> dict[str, Any]:
    """Which servers live and answer, where, and what the clock says."""
    state = State.load(home.resolve())
    if state is None:
        return {"running": False, "servers": {}}
    return {
        "running": state.running,
        "now": state.now.isoformat(),
        "company": {"seed": state.seed, "scale": state.scale, "clean": state.clean},
        "servers": {
            name: {"url": state.urls.get(name), "pid": process.pid, "alive": process.alive}
            for name, process in state.processes.items()
        },
    }


def set_clock(home: Path, now: datetime) -> State:
    """Let everything that happened until `now` be seen: drop files, manual moves in the ERP, the vendors' clock."""
    home = home.resolve()
    with _exclusive(home):
        state = _running(home)
        state.now = now.astimezone(UTC)
        _set_clock(state, company_store.stored_company(state.seed, state.scale, state.clean))
        state.save()
    return state


def stop_erp(home: Path) -> None:
    """Take the ERP down, as in an outage; its database stays."""
    with _exclusive(home):
        server.stop(_running(home).processes["tryton"])


def start_erp(home: Path) -> State:
    """Bring the ERP back after `stop_erp`, at its address and with its passwords."""
    with _exclusive(home):
        state = _running(home, but="tryton")
        _remember(state, "tryton", server.start_again(state.home, state.urls["tryton"], [DATABASE]))
    return state


def _running(home: Path, but: str = "") -> State:
    state = State.load(home)
    alive = state is not None and state.ready and all(p.alive for n, p in state.processes.items() if n != but)
    if state is None or not alive:
        raise SandboxError("the sandbox does not run", record=str(home), remedy="tieout sandbox up")
    return state


def _start(state: State, say: Callable[[str], None]) -> None:
    connections: dict[str, dict[str, Any]] = {}
    secrets: dict[str, Any] = {}
    say("preparing the company, its documents and its ledger")
    with ThreadPoolExecutor(max_workers=2) as beside:
        # once and for everybody: a large company is gigabytes
        made = beside.submit(company_store.stored_company, state.seed, state.scale, state.clean)
        if "erp" in state.parts:
            pg = postgres.start(state.home / "postgres")
            _remember(state, "postgres", pg.process)
            # the ERP's modules take half a minute once; the company is generated meanwhile
            ledger = beside.submit(_make_ledger, state, pg, made.result, say)
        if "vendors" in state.parts:
            documents = state.home / "vendors.sqlite"
            company_store.copy_documents(state.seed, state.scale, state.clean, documents, made.result)
        company = made.result()
        if "erp" in state.parts:
            ledger.result()
    if "erp" in state.parts:
        say("starting the ERP")
        _start_erp(state, pg, connections, secrets)
    if "vendors" in state.parts:
        say("starting the vendors")
        _start_vendors(state, documents, company, connections, secrets)
    if "drop" in state.parts:
        (state.home / "drop").mkdir(exist_ok=True)
        connections["drop"] = {"conn_type": "generic", "host": (state.home / "drop").as_uri()}
    _write_private(state.home / "secrets.json", secrets)
    environment = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
    _write_private(state.home / "connections.json", environment)
    _set_clock(state, company)
    state.ready = True
    state.save()


def _make_ledger(state: State, pg: postgres.Server, company: Callable[[], Company], say: Callable[[str], None]) -> None:
    """The ERP's database with everything that was booked before go-live."""

    def load(database: str) -> None:
        with pg.connect(database) as connection:
            history.load(connection, company().erp_history)

    key = company_store.company_key(state.seed, state.scale, state.clean)
    template.ledger(pg, DATABASE, history_key=key, load=load, say=say)


def _start_erp(state: State, pg: postgres.Server, connections: dict[str, Any], secrets: dict[str, Any]) -> None:
    erp = server.start(state.home, pg, [DATABASE])
    _remember(state, "tryton", erp.process, erp.url)
    secrets["erp"] = erp.passwords
    connections["tryton"] = {
        "conn_type": "http",
        "host": erp.url,
        "login": chart.POSTER,
        "password": erp.passwords[chart.POSTER],
        "schema": DATABASE,
    }


def _start_vendors(
    state: State, documents: Path, company: Company, connections: dict[str, Any], secrets: dict[str, Any]
) -> None:
    keys = state.home / "vendors.secrets.json"
    log = state.home / "vendors.log"
    running = simulators.start(documents, keys, now=_text(state.now), log=log)
    _remember(state, "vendors", ProcessId.of(running.pid), running.base_url)
    made = json.loads(keys.read_text())
    secrets["control_token"] = made["control_token"]
    for entity in company.entities:
        key = made["stripe"][entity.stripe_account]["restricted"]
        connections[entity.source] = {"conn_type": "http", "host": f"{running.base_url}/stripe", "password": key}
    crm, support = made["salesforce"], made["zendesk"]
    connections["salesforce"] = {
        "conn_type": "http",
        "host": f"{running.base_url}/salesforce",
        "login": crm["client_id"],
        "password": crm["client_secret"],
    }
    connections["zendesk"] = {
        "conn_type": "http",
        "host": f"{running.base_url}/zendesk",
        "login": f"{support['email']}/token",
        "password": support["token"],
    }


def _set_clock(state: State, company: Company) -> None:
    if "drop" in state.parts:
        write_drop(company, state.home / "drop", state.now)
    if "erp" in state.parts:
        due = [move for move in company.manual_moves if move.visible_at <= state.now]
        password = state.secrets["erp"][chart.ACCOUNTANT]
        post_manual_moves(accountant_connection(state.urls["tryton"], DATABASE, password), due)
    if "vendors" in state.parts:
        answer = requests.post(
            f"{state.urls['vendors']}/_control/clock",
            json={"now": _text(state.now)},
            headers={"Authorization": f"Bearer {state.secrets['control_token']}"},
            timeout=30,
        )
        if answer.status_code != 200:
            raise SandboxError("the vendors' clock cannot be set", got=f"HTTP {answer.status_code}")


def _down(home: Path) -> None:
    state = State.load(home)
    if state is None:
        return
    stop = {"postgres": postgres.stop, "tryton": server.stop}
    # what was started last is stopped first: nothing loses what it still needs
    for name, process in reversed(state.processes.items()):
        stop.get(name, processes.stop)(process)
    if "erp" in state.parts:
        postgres.purge(home / "postgres")
    shutil.rmtree(home / "drop", ignore_errors=True)
    for leftover in (*home.glob("vendors.sqlite*"), *home.glob("*.json"), home / "trytond.conf"):
        leftover.unlink(missing_ok=True)


def _remember(state: State, name: str, process: ProcessId, url: str | None = None) -> None:
    state.processes[name] = process
    if url:
        state.urls[name] = url
    state.save()


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_private(path: Path, value: Any) -> None:
    """Write JSON that only its owner can read, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(value, out, indent=2)
    partial.replace(path)


@contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
