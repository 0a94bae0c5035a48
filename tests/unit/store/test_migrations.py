"""A store that an earlier version began is brought up to this one, and loses nothing."""

import sqlite3
from pathlib import Path

from tieout.store import Store, models
from tieout.store.models import Base

ADDED = {
    "breaks": (
        "content",
        "assignee",
        "cap",
        "cap_currency",
        "expires",
        "decided_by",
        "decided_on",
        "approved_by",
        "written_off",
        "written_off_currency",
    ),
    "break_changes": ("actor", "action", "note", "details"),
    "batch_journals": ("anchor",),
}


def test_every_table_of_the_store_is_made_whatever_else_a_process_has_loaded():
    files = Path(models.__file__).parent.glob("*.py")
    assert {file.stem for file in files if "__tablename__" in file.read_text()} <= set(models.__all__)


def test_a_store_of_the_first_version_gets_what_breaks_need(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.upgrade()
    store.audit("US/main", "test", "anna", {})
    with sqlite3.connect(tmp_path / "store.sqlite") as raw:
        for table, columns in ADDED.items():
            for column in columns:
                raw.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        raw.execute("DROP TABLE break_verdicts")
        raw.execute("DROP TABLE break_nights")
        raw.execute("DROP TABLE ledger_copies")
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
    raw.close()
    store.upgrade()
    with sqlite3.connect(tmp_path / "store.sqlite") as raw:
        for table in Base.metadata.sorted_tables:
            there = {row[1] for row in raw.execute(f"PRAGMA table_info({table.name})")}
            assert there == set(table.c.keys()), table.name
    raw.close()
    assert store.verify_audit("US/main") == []
