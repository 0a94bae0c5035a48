"""`tieout audit verify` finds whatever was done to the log, by somebody who may do anything to the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.store.audit import GENESIS, _hash, write_anchors
from tieout_sandbox.testing import fresh_store

CHAIN = "US/main"
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
    assert (whole.exit_code, whole.output) == (0, "1 audit chains verified, 1 anchors agree\n")
    with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as forger:
        for trigger in ("audit_log_no_UPDATE", "audit_log_no_DELETE"):
            forger.execute(f"DROP TRIGGER {trigger}")
        tamper(forger)
    result = CliRunner().invoke(app, ["audit", "verify"])
    assert result.exit_code == 1
    assert found in result.output
