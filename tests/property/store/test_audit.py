"""The audit chain: any change, removal, insertion or cut shows; a chain computed anew shows against an anchor."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout.store import Store
from tieout.store.audit import read_anchors, write_anchors
from tieout_sandbox.testing import fresh_store

LENGTH = 6


def chain(folder: Path, acts: int = LENGTH) -> tuple[Store, sqlite3.Connection]:
    """A store with a chain, and a connection of somebody who may do anything to the file."""
    folder.mkdir(exist_ok=True)
    path = folder / "store.sqlite"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    store = fresh_store(path)
    for number in range(acts):
        store.audit("US/main", "act", "me", {"number": number, "amount": Decimal("1.10")}, subject=f"s{number}")
    forger = sqlite3.connect(path, isolation_level=None)
    forger.execute("DROP TRIGGER audit_log_no_UPDATE")
    forger.execute("DROP TRIGGER audit_log_no_DELETE")
    return store, forger


def test_an_untouched_chain_verifies_and_keeps_amounts_as_text(tmp_path: Path) -> None:
    store, _ = chain(tmp_path)
    assert store.verify_audit("US/main", [store.anchor("US/main")]) == []
    assert store.audit_entries(subject="s3")[0].payload == {"number": 3, "amount": "1.10"}
    assert store.verify_audit("nobody") == []


def test_the_database_itself_refuses_to_change_or_delete_a_row(tmp_path: Path) -> None:
    store = fresh_store(tmp_path / "s.sqlite")
    store.audit("US/main", "act", "me", {})
    raw = sqlite3.connect(tmp_path / "s.sqlite")
    for statement in ("UPDATE audit_log SET actor = 'you'", "DELETE FROM audit_log"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            raw.execute(statement)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(1, LENGTH),
    column=st.sampled_from(["action", "actor", "subject", "payload", "at", "hash", "previous"]),
)
def test_a_changed_row_is_found(tmp_path: Path, row: int, column: str) -> None:
    store, forger = chain(tmp_path)
    new = "2020-01-01 00:00:00.000000" if column == "at" else "forged"
    forger.execute(f"UPDATE audit_log SET {column} = ? WHERE sequence = ?", (new, row))
    assert any(p.sequence in (row, row + 1, LENGTH) for p in store.verify_audit("US/main"))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(1, LENGTH), renumber=st.booleans())
def test_a_removed_row_is_found_even_if_the_rest_is_renumbered(tmp_path: Path, row: int, renumber: bool) -> None:
    store, forger = chain(tmp_path)
    forger.execute("DELETE FROM audit_log WHERE sequence = ?", (row,))
    if renumber:
        for later in range(row + 1, LENGTH + 1):
            forger.execute("UPDATE audit_log SET sequence = ? WHERE sequence = ?", (later - 1, later))
    assert store.verify_audit("US/main")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(after=st.integers(0, LENGTH - 1))
def test_an_inserted_row_is_found(tmp_path: Path, after: int) -> None:
    store, forger = chain(tmp_path)
    for later in range(LENGTH, after, -1):
        forger.execute("UPDATE audit_log SET sequence = ? WHERE sequence = ?", (later + 1, later))
    forger.execute(
        "INSERT INTO audit_log SELECT chain, ?, at, action, actor, subject, payload, previous, hash"
        " FROM audit_log WHERE sequence = (SELECT max(sequence) FROM audit_log)",
        (after + 1,),
    )
    assert store.verify_audit("US/main")


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_cut_tail_shows_in_the_head_and_against_an_anchor(tmp_path: Path, kept: int) -> None:
    store, forger = chain(tmp_path)
    write_anchors(tmp_path / "anchors", "2026-03-29", [store.anchor("US/main")])
    forger.execute("DELETE FROM audit_log WHERE sequence > ?", (kept,))
    assert store.verify_audit("US/main")
    forger.execute(
        "UPDATE audit_heads SET length = ?, head = coalesce((SELECT hash FROM audit_log WHERE sequence = ?), ?)",
        (kept, kept, "0" * 64),
    )
    assert store.verify_audit("US/main") == []  # the forger fixed the head: only what is kept outside shows it
    assert "truncated" in str(store.verify_audit("US/main", read_anchors(tmp_path / "anchors"))[0])


def test_a_chain_computed_anew_shows_against_an_anchor(tmp_path: Path) -> None:
    store, _ = chain(tmp_path / "a")
    kept = store.anchor("US/main")
    forged, _ = chain(tmp_path / "b")
    assert forged.verify_audit("US/main") == []
    assert "recomputed" in str(forged.verify_audit("US/main", [kept])[0])


def test_anchors_of_a_day_are_never_overwritten(tmp_path: Path) -> None:
    store, _ = chain(tmp_path)
    first = write_anchors(tmp_path / "anchors", "2026-03-29", [store.anchor("US/main")])
    store.audit("US/main", "act", "me", {})
    second = write_anchors(tmp_path / "anchors", "2026-03-29", [store.anchor("US/main")])
    assert first != second
    assert [a.length for a in read_anchors(tmp_path / "anchors")] == [LENGTH, LENGTH + 1]
