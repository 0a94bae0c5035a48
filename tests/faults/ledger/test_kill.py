"""kill -9 at every step of the protocol, then another process: exactly one journal, the audit chain whole."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import event

from tieout.errors import LeaseHeld
from tieout.ids import Slot, run_key, short_key
from tieout.ledger import Protocol, post_batch
from tieout.store import Store, batches
from tieout_sandbox.file_ledger import FileLedger

pytestmark = pytest.mark.fault
HELD = 75
DAY = date(2026, 3, 29)
SLOT = Slot("US", "main", "2026-03", "billing", DAY)


def prepared(folder: Path) -> tuple[Store, Path, str]:
    """A store with one validated batch, and an empty ERP."""
    folder.mkdir(exist_ok=True)
    store = Store(f"sqlite:///{folder / 'store.sqlite'}")
    store.upgrade()
    key = run_key(SLOT, 1)
    line = {"description": "invoice", "dimensions": {}, "amount": "110.00"}
    content = {
        "entity": "US",
        "date": DAY,
        "currency": "USD",
        "narrative": "billing",
        "lines": [line | {"account": "11000", "side": "debit"}, line | {"account": "40100", "side": "credit"}],
    }
    journal = batches.PlannedJournal(key, short_key(key), "USD", DAY, Decimal(110), 2, content)
    with store.transaction() as session:
        batch = batches.plan(
            session, SLOT, 1, [journal], digest="d" * 64, accounting_date=DAY, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="test", now=store.now(),
        )  # fmt: skip
        batches.transition(session, batch.batch_id, "validated", actor="test", now=store.now())
    erp = folder / "erp.sqlite"
    FileLedger(erp)  # its file exists before anybody is killed
    return store, erp, batch.batch_id


def copied(folder: Path, name: str) -> tuple[Store, Path, str]:
    """A copy of the prepared `fresh` store and ERP."""
    shutil.copytree(folder / "fresh", folder / name)
    store = Store(f"sqlite:///{folder / name / 'store.sqlite'}")
    return store, folder / name / "erp.sqlite", run_key(SLOT, 1)


def run(store: Store, erp: Path, batch_id: str, kill_at: str = "never 1") -> tuple[int, list[str]]:
    """Post in a process of its own that kills itself at a point; gives its exit (-9: killed) and the points it passed.

    A point is a step of the ERP or a commit of the store, and how often the process came by.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os._exit(_post(store.url, erp, batch_id, kill_at, writer))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        passed = pipe.read().splitlines()
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), passed


def _post(url: str, erp: Path, batch_id: str, kill_at: str, writer: int) -> int:
    passed: Counter[str] = Counter()

    def by(step: str) -> None:
        passed[step] += 1
        point = f"{step} {passed[step]}"
        os.write(writer, f"{point}\n".encode())
        if point == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        store = Store(url)
        event.listen(store._database.engine, "commit", lambda connection: by("commit"))
        ledger = FileLedger(erp, on_step=by)
        state = post_batch(batch_id, ledger, store, protocol=Protocol(settle=timedelta(0), checks=(0.0,)))
    except LeaseHeld:
        return HELD
    except BaseException:
        traceback.print_exc()
        return 1
    return 0 if state == "posted" else 2


def test_killed_at_any_point_the_next_process_leaves_exactly_one_journal(tmp_path: Path) -> None:
    # the points come from an undisturbed posting, so a step added to the protocol is killed at unasked
    prepared(tmp_path / "fresh")
    ended, points = run(*copied(tmp_path, "undisturbed"))
    assert ended == 0
    assert {"find 1", "post 1", "stored 1", "read 1", "commit 1"} <= set(points)
    for number, kill_at in enumerate(points):
        store, erp, batch_id = copied(tmp_path, str(number))
        assert run(store, erp, batch_id, kill_at)[0] == -signal.SIGKILL, kill_at
        assert run(store, erp, batch_id)[0] == 0, kill_at
        assert len(FileLedger(erp).journals()) == 1, kill_at
        assert store.verify_audit("US/main") == [], kill_at
        with store.reading() as session:
            assert batches.get(session, batch_id).state == "posted", kill_at


def test_processes_at_once_leave_exactly_one_journal(tmp_path: Path) -> None:
    store, erp, batch_id = prepared(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: run(store, erp, batch_id)[0], range(3)))
    assert set(ends) <= {0, HELD}
    assert run(store, erp, batch_id)[0] == 0
    assert len(FileLedger(erp).journals()) == 1
    assert store.verify_audit("US/main") == []
