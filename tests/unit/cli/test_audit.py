"""`tieout audit verify` finds whatever was done to the log, by somebody who may do anything to the database."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tieout import schema
from tieout.cli.commands import app
from tieout.ids import Slot, run_key, short_key
from tieout.lake.tables import Lake
from tieout.ledger import Protocol, post_batch
from tieout.orchestration.work import Work
from tieout.store import batches
from tieout.store.audit import GENESIS, _hash, write_anchors
from tieout_sandbox.file_ledger import FileLedger
from tieout_sandbox.testing import fresh_store

CHAIN = "US/main"
AGREE = "1 audit chains verified; {} anchors in files and {} in the ERP's journals agree\n"
ACTS = 6
Forger = sqlite3.Connection


def rechain(forger: Forger) -> None:
    """Number the rows anew, compute every hash again, and set the head to it: a chain that is whole in itself."""
    rows = forger.execute(
        "SELECT at, action, actor, subject, payload, rowid FROM audit_log WHERE chain = ? ORDER BY sequence, rowid",
        (CHAIN,),
    ).fetchall()
    forger.execute("UPDATE audit_log SET sequence = -sequence WHERE chain = ?", (CHAIN,))
    previous = GENESIS
    for number, (at, action, actor, subject, payload, row) in enumerate(rows, 1):
        instant = datetime.fromisoformat(at).replace(tzinfo=UTC)
        digest = _hash(CHAIN, number, instant, action, actor, subject, payload, previous)
        forger.execute(
            "UPDATE audit_log SET sequence = ?, previous = ?, hash = ? WHERE rowid = ?", (number, previous, digest, row)
        )
        previous = digest
    forger.execute("UPDATE audit_heads SET length = ?, head = ? WHERE chain = ?", (len(rows), previous, CHAIN))


def changed(forger: Forger) -> None:
    forger.execute("UPDATE audit_log SET payload = '{\"number\":99}' WHERE sequence = 3")


def removed(forger: Forger) -> None:
    forger.execute("DELETE FROM audit_log WHERE sequence = 3")


def inserted(forger: Forger) -> None:
    forger.execute("UPDATE audit_log SET sequence = 100 WHERE sequence = 6")
    forger.execute(
        "INSERT INTO audit_log SELECT chain, 6, at, action, 'forger', subject, payload, previous, hash "
        "FROM audit_log WHERE sequence = 5"
    )
    forger.execute("UPDATE audit_log SET sequence = 7 WHERE sequence = 100")


def cut(forger: Forger) -> None:
    forger.execute("DELETE FROM audit_log WHERE sequence > 4")


def all_gone(forger: Forger) -> None:
    forger.execute("DELETE FROM audit_log")
    forger.execute("DELETE FROM audit_heads")


def then_recomputed(tamper: Callable[[Forger], None]) -> Callable[[Forger], None]:
    def both(forger: Forger) -> None:
        tamper(forger)
        rechain(forger)

    return both


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (changed, "row 3: its content was changed"),
        (removed, "row 3: missing"),
        (inserted, "row 6: "),
        (cut, "truncated: 6 rows were anchored"),
        (all_gone, "truncated: 6 rows were anchored"),
        (then_recomputed(changed), "row 6: recomputed"),
        (then_recomputed(removed), "truncated: 6 rows were anchored"),
        (then_recomputed(inserted), "row 6: recomputed"),
        (then_recomputed(cut), "truncated: 6 rows were anchored"),
    ],
    ids=["changed", "removed", "inserted", "cut", "all gone", "changed and recomputed", "removed and recomputed",
         "inserted and recomputed", "cut and recomputed"],
)  # fmt: skip
def test_whatever_was_done_to_the_log_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tamper: Callable[[Forger], None], found: str
) -> None:
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIEOUT_STORE", f"sqlite:///{tmp_path / 'store.sqlite'}")
    monkeypatch.setenv("TIEOUT_ANCHORS", str(tmp_path / "elsewhere"))
    store = fresh_store(tmp_path / "store.sqlite")
    for number in range(ACTS):
        store.audit(CHAIN, "act", "me", {"number": number})
    write_anchors(tmp_path / "elsewhere", "2026-03-29", [store.anchor(CHAIN)])
    whole = CliRunner().invoke(app, ["audit", "verify"])
    assert (whole.exit_code, whole.output) == (0, AGREE.format(1, 0))
    with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as forger:
        for trigger in ("audit_log_no_UPDATE", "audit_log_no_DELETE"):
            forger.execute(f"DROP TRIGGER {trigger}")
        tamper(forger)
    result = CliRunner().invoke(app, ["audit", "verify"])
    assert result.exit_code == 1
    assert found in result.output


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store, ledger and lake after two nights, each of which posted a journal and read the ledger."""
    folder = tmp_path_factory.mktemp("nights")
    store, erp = fresh_store(folder / "store.sqlite"), FileLedger(folder / "erp.sqlite")
    for day in (date(2026, 3, 29), date(2026, 3, 30)):
        slot = Slot("US", "main", "2026-03", "billing", day)
        key, line = run_key(slot, 1), {"description": "", "dimensions": {}, "amount": "110.00"}
        lines = [line | {"account": "11000", "side": "debit"}, line | {"account": "40100", "side": "credit"}]
        content = {"entity": "US", "date": day, "currency": "USD", "narrative": "billing", "lines": lines}
        with store.transaction() as session:
            journal = batches.PlannedJournal(key, short_key(key), "USD", day, Decimal(110), 2, content)
            batches.plan(
                session, slot, 1, [journal], digest="d" * 64, accounting_date=day, kind="original", origin=None,
                needs_approval=False, run_id="r", actor="al", now=store.now(),
            )  # fmt: skip
            batches.transition(session, key, "validated", actor="al", now=store.now())
        assert post_batch(key, erp, store, protocol=Protocol(settle=timedelta(0), checks=())) == "posted"
    common = {"source": "erp", "source_version": "1", "legal_entity_id": "US", "raw_ref": "r", "is_deleted": False}
    rows = [
        common
        | {"id": e.erp_id, "source_id": e.erp_id, "correlation_id": e.erp_id, "move_id": e.journal_id,
           "accounting_date": e.date, "account": e.account, "debit": e.debit, "credit": e.credit,
           "currency": e.currency, "narrative": e.narrative, "line_text": e.description, "run_key": e.run_key}
        for page in erp.gl_entries("US", date(2026, 1, 1), date(2026, 12, 31)) for e in page
    ]  # fmt: skip
    Lake(folder / "lake").write("gl_entry", pa.Table.from_pylist(rows, schema=schema.table("gl_entry").arrow))
    return folder


@pytest.mark.parametrize(
    ("where", "tamper", "found"),
    [
        (
            "lake",
            then_recomputed(changed),
            "row 4: recomputed: its hash differs from the anchor of the posting of",
        ),
        ("lake", then_recomputed(cut), "truncated: 12 rows were anchored at the posting of TIEOUT/US/main/2026-03/"),
        ("lake", all_gone, "truncated: 12 rows were anchored"),
        ("ERP", all_gone, "truncated: 12 rows were anchored"),
    ],
    ids=["changed and recomputed", "cut and recomputed", "all gone", "all gone, asked in the ERP"],
)
def test_without_any_anchor_file_the_memos_of_the_journals_tell(
    nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, tamper: Callable[[Forger], None],
    found: str,
) -> None:  # fmt: skip
    shutil.copy(nights / "store.sqlite", tmp_path / "store.sqlite")
    for name, value in {
        "TIEOUT_HOME": tmp_path / "home", "TIEOUT_STORE": f"sqlite:///{tmp_path / 'store.sqlite'}",
        "TIEOUT_LAKE": nights / "lake" if where == "lake" else tmp_path / "none",
        "TIEOUT_CONFIG_APPROVAL": "off", "AIRFLOW_CONN_TRYTON": '{"host": "localhost"}',
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    command = ["audit", "verify", *(["--erp"] if where == "ERP" else [])]
    erp = SimpleNamespace(ledger=lambda connection: FileLedger(nights / "erp.sqlite"))
    monkeypatch.setattr(Work, "erp_behind", lambda work, source: erp)
    whole = CliRunner().invoke(app, command)
    assert (whole.exit_code, whole.output) == (0, AGREE.format(0, 2))
    with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as forger:
        for trigger in ("audit_log_no_UPDATE", "audit_log_no_DELETE"):
            forger.execute(f"DROP TRIGGER {trigger}")
        tamper(forger)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert found in result.output
