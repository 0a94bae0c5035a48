"""kill -9 around every write to the real ERP and every commit of the store: exactly one journal in it."""

from __future__ import annotations

import os
import signal
import traceback
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tieout.erp.jsonrpc import JsonRpc
from tieout.errors import ErpUnavailable
from tieout.ids import Slot, run_key, short_key
from tieout.ledger import Protocol, post_batch
from tieout.store import Store, batches

pytestmark = [pytest.mark.server, pytest.mark.fault]
FIRST = date(2026, 3, 29)
PROTOCOL = Protocol(settle=timedelta(seconds=0.2), checks=(0.1,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    made.upgrade()
    return made


def planned(store: Store, version: int) -> str:
    """A validated batch of two lines; each test case takes another version of the slot."""
    slot = Slot("US", "main", "2026-03", "billing", FIRST)
    key = run_key(slot, version)
    line = {"description": "invoice", "dimensions": {}, "amount": "110.00"}
    lines = [line | {"account": "11000", "side": "debit"}, line | {"account": "40100", "side": "credit"}]
    content = {"entity": "US", "date": FIRST, "currency": "USD", "narrative": "billing", "lines": lines}
    journal = batches.PlannedJournal(key, short_key(key), "USD", FIRST, Decimal(110), 2, content)
    with store.transaction() as session:
        batch = batches.plan(
            session, slot, version, [journal], digest="d" * 64, accounting_date=FIRST, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="test", now=store.now(),
        )  # fmt: skip
        batches.transition(session, batch.batch_id, "validated", actor="test", now=store.now())
        return batch.batch_id


def run(erp: Any, store: Store, batch_id: str, kill_at: str = "") -> tuple[int, list[str]]:
    """Post in a process that kills itself at a point; gives its exit (-9: killed) and the points it passed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os._exit(_post(erp, store.url, batch_id, kill_at, writer))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        passed = pipe.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), passed


def _post(erp: Any, url: str, batch_id: str, kill_at: str, writer: int) -> int:
    passed: Counter[str] = Counter()

    def by(step: str) -> None:
        passed[step] += 1
        point = f"{step} {passed[step]}"
        os.write(writer, f"{point}\n".encode())
        if point == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    send = JsonRpc._send

    def stepping(self: JsonRpc, method: str, *args: Any, **options: Any) -> Any:
        by(f"before {method}")
        answer = send(self, method, *args, **options)
        by(f"after {method}")
        return answer

    JsonRpc._send = stepping  # type: ignore[method-assign]
    try:
        store = Store(url)
        event.listen(store._database.engine, "commit", lambda connection: by("commit"))
        return 0 if post_batch(batch_id, erp.ledger(), store, protocol=PROTOCOL) == "posted" else 2
    except BaseException:
        traceback.print_exc()
        return 1


def test_killed_around_any_write_the_next_process_leaves_exactly_one_posted_journal(erp: Any, store: Store) -> None:
    ended, passed = run(erp, store, planned(store, 1))
    assert ended == 0
    # between two points that only read nothing differs; where something was written, both of its sides are killed at
    reading = ("search", "read", "login", "get_preferences")
    points = [p for p in passed if not p.split()[1].endswith(reading)]
    assert sum(p.startswith(("before", "after")) for p in points) >= 4, passed
    for number, kill_at in enumerate(points, 2):
        batch_id = planned(store, number)
        assert run(erp, store, batch_id, kill_at)[0] == -signal.SIGKILL, kill_at
        assert run(erp, store, batch_id)[0] == 0, kill_at
        found = [r for r in erp.ledger().find_by_run_key(batch_id) if r.run_key == batch_id]
        assert [r.state for r in found] == ["posted"], kill_at
        with store.reading() as session:
            assert batches.get(session, batch_id).state == "posted", kill_at
    assert store.verify_audit("US/main", [store.anchor("US/main")]) == []
    balances = {b.account: b.closing for b in erp.ledger().trial_balance("US", FIRST)}
    assert balances["11000"] == 110 * (len(points) + 1)


def test_while_the_erp_is_down_a_batch_waits_and_is_posted_once_it_is_back(erp: Any, store: Store) -> None:
    batch_id = planned(store, 999)
    erp.stop()
    down = erp.ledger(pause_ms=1)
    with pytest.raises(ErpUnavailable):
        post_batch(batch_id, down, store, protocol=PROTOCOL)
    with store.reading() as session:
        assert batches.get(session, batch_id).state == "validated"
    erp.restart()
    assert post_batch(batch_id, erp.ledger(), store, protocol=PROTOCOL) == "posted"
    assert len(erp.ledger().find_by_run_key(batch_id)) == 1
