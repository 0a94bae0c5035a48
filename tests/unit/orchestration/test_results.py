"""A run leaves hashes of what it found and says where each step's records went; a later run is compared by them."""

from datetime import date

import pyarrow as pa
import pytest

from tieout import schema
from tieout.orchestration import steps
from tieout.orchestration.results import record_counts, result_hashes
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings

DAY, NEXT = date(2026, 3, 31), date(2026, 4, 1)


@pytest.fixture
def work(tmp_path):
    made = Work(Settings(tmp_path, SHIPPED_CONFIG, str(tmp_path / "lake"), f"sqlite:///{tmp_path / 'store.sqlite'}"))
    made.store.upgrade()
    return made


def rows(table, *values):
    zero = {"int": 1, "text": "x", "bool": False, "date": DAY, "money": 0, "sum": 0}
    full = [
        {c.name: row.get(c.name, zero[c.kind] if c.required else None) for c in schema.table(table).columns}
        for row in values
    ]
    return pa.Table.from_pylist(full, schema.table(table).arrow)


def found(work, run_id, *breaks, day=DAY):
    """A night that found these breaks."""
    steps.open_run(work, run_id, "nightly", str(day))
    table = rows("breaks", *({"break_key": key, "break_type": "amount", "business_date": day} for key in breaks))
    version = work.lake.write("breaks", table, where=f"business_date = '{day}'")
    work.store.publish(run_id, {"breaks": version})
    work.store.finish_run(run_id, "success")
    return result_hashes(work, run_id, day)


def test_runs_that_found_the_same_have_the_same_hashes(work):
    first = found(work, "first", "a", "b")
    assert set(first) == {"matches", "breaks", "totals", "journals", "journal_lines"}
    assert found(work, "again", "b", "a") == first
    other = found(work, "other", "a", "c")
    assert {table for table in first if other[table] != first[table]} == {"breaks"}


def test_another_date_changes_nothing(work):
    first = found(work, "first", "a")
    found(work, "next", "b", day=NEXT)
    assert result_hashes(work, "next", DAY) == first


@pytest.mark.parametrize(("kind", "day"), [("nightly", NEXT), ("month_end", DAY)])
def test_a_night_again_after_later_work_reads_what_it_read_then(work, kind, day):
    found(work, "first", "a")
    steps.open_run(work, "again", "nightly", str(DAY))
    assert "as_was" not in work.store.facts("again")
    work.store.start_run("later", kind, day)
    work.store.finish_run("later", "success")
    steps.open_run(work, "late", "nightly", str(DAY))
    assert work.store.facts("late")["as_was"] == "first"


def test_records_are_counted_per_step_source_and_object(work):
    work.store.start_run("night", "nightly", DAY)
    log = [
        {"source": "crm", "object": "Account", "extract_id": "1", "records": 5, "rows": 3, "merged": 1,
         "quarantined": 1, "run_id": "night"},
        {"source": "crm", "object": "Account", "extract_id": "2", "records": 2, "rows": 2, "merged": 0,
         "quarantined": 0, "run_id": "night"},
        {"source": "crm", "object": "Account", "extract_id": "0", "records": 9, "rows": 9, "merged": 0,
         "quarantined": 0, "run_id": "the night before"},
    ]  # fmt: skip
    work.store.publish(
        "night", {"conformed_extracts": work.lake.write("conformed_extracts", rows("conformed_extracts", *log))}
    )
    usage = {"usage": {"events": 4, "counted": 1, "repeated": 1, "changed": 1, "quarantined": 1}}
    assert record_counts(work, "night", usage) == [
        {"step": "conform", "source": "crm", "object": "Account", "in": 7, "out": 5, "merged": 1, "quarantined": 1},
        {"step": "usage", "source": "", "object": "usage_event", "in": 4, "out": 1, "merged": 2, "quarantined": 1},
    ]
