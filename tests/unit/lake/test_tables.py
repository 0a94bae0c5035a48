"""Table snapshots: replaced by predicate, read by version, bound with the schema's columns."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import engine
from tieout.lake.tables import Lake

COMMON = {
    "source_version": "1", "correlation_id": "c", "raw_ref": "r", "is_deleted": False, "legal_entity_id": "US",
}  # fmt: skip


def invoices(*rows: tuple[str, str, str]) -> pa.Table:
    shape = schema.table("invoice").arrow
    full = [
        COMMON | dict.fromkeys(("subtotal", "total", "amount_paid", "amount_remaining", "tax"), Decimal(amount))
        | {"source": source, "source_id": sid, "id": f"{source}:{sid}", "status": "open", "currency": "USD"}
        for source, sid, amount in rows
    ]  # fmt: skip
    return pa.Table.from_pylist([{f.name: r.get(f.name) for f in shape} for r in full], schema=shape)


def test_a_part_of_a_table_is_replaced_and_older_versions_stay_readable(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.version("invoice") is None
    first = lake.write("invoice", invoices(("a", "1", "10.00"), ("b", "1", "5.50")))
    second = lake.write("invoice", invoices(("a", "2", "7")), where="source = 'a'")
    assert lake.version("invoice") == second > first
    assert sorted(lake.read("invoice", first)["source_id"].to_pylist()) == ["1", "1"]
    rows = sorted((r["source"], r["source_id"], r["total"]) for r in lake.read("invoice", second).to_pylist())
    assert rows == [("a", "2", Decimal("7.0000")), ("b", "1", Decimal("5.5000"))]
    third = lake.write("invoice", invoices(), where="source = 'a'")
    assert lake.read("invoice", third)["source"].to_pylist() == ["b"]


def test_rows_outside_the_replaced_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside the part"):
        Lake(tmp_path).write("invoice", invoices(("b", "1", "1")), where="source = 'a'")


def test_a_table_never_written_binds_as_an_empty_view_with_its_columns(tmp_path: Path) -> None:
    with engine() as session:
        Lake(tmp_path).bind(session, {}, ["invoice", "case", "quarantine"])
        assert session.sql("SELECT * FROM invoice").column_names == list(schema.table("invoice").names)
        assert session.scalar('SELECT count(*) FROM "case"') == 0


def test_files_and_readers_are_written_like_tables(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with engine() as session:
        session.bind("i", invoices(("a", "1", "10"), ("a", "2", "11")))
        spooled = session.spool("SELECT * FROM i")
        from_file = lake.read("invoice", lake.write("invoice", spooled))
    from_reader = lake.read("invoice", lake.write("invoice", invoices(("a", "1", "10"), ("a", "2", "11")).to_reader()))
    assert from_file.sort_by("source_id").equals(from_reader.sort_by("source_id"))


def test_missing_columns_become_null_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("invoice", invoices(("a", "1", "10")).drop_columns(["number"]))
    assert lake.read("invoice")["number"].to_pylist() == [None]
    with pytest.raises(DataError, match="not in the table's schema"):
        lake.write("invoice", invoices(("a", "1", "10")).append_column("colour", [["red"]]))


WRITER = """
import sys, pyarrow as pa
from tieout.lake.tables import Lake
root, source = sys.argv[1:]
part = Lake(root).read("invoice").slice(0, 1)
part = part.set_column(part.column_names.index("source"), "source", pa.array([source]))
for n in range(6):
    Lake(root).write("invoice", pa.concat_tables([part] * n or [part.slice(0, 0)]), where=f"source = '{source}'")
"""


def test_writers_of_different_parts_at_once_lose_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("invoice", invoices(("c", "1", "1")))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), s]) for s in ("a", "b")]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert sorted(lake.read("invoice")["source"].to_pylist()) == ["a"] * 5 + ["b"] * 5 + ["c"]


def test_a_table_outside_the_data_model_keeps_the_shape_of_its_data(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("scratch", pa.table({"on": pa.array([date(2026, 3, 31)])}))
    assert lake.read("scratch").to_pylist() == [{"on": date(2026, 3, 31)}]


def test_a_table_made_before_a_column_existed_is_widened_and_its_old_versions_stay_readable(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    full = invoices(("a", "1", "10"))
    write_deltalake(str(tmp_path / "invoice"), full.drop_columns(["mapping_gap", "credited_before_payment"]))
    lake = Lake(tmp_path)
    new = lake.write("invoice", invoices(("a", "1", "10"), ("a", "2", "11")))
    assert lake.read("invoice", new).column_names == list(schema.table("invoice").names)
    assert lake.read("invoice", 0)["mapping_gap"].to_pylist() == [None]


def test_rows_without_a_day_are_a_partition_that_is_replaced_like_any_other(tmp_path: Path) -> None:
    lake, shape = Lake(tmp_path), schema.table("usage_event").arrow
    row = COMMON | {
        "source": "a", "event_id": "e", "subscription_source_id": "s", "meter": "m", "quantity": Decimal(1),
        "received_at": datetime(2026, 3, 1, tzinfo=UTC), "kind": "usage", "usage_date": date(2026, 3, 1),
    }  # fmt: skip

    def events(*days: date | None) -> pa.Table:
        rows = [row | {"id": str(n), "source_id": str(n), "event_day": day} for n, day in enumerate(days)]
        return pa.Table.from_pylist([{f.name: r.get(f.name) for f in shape} for r in rows], schema=shape)

    first = lake.write("usage_event", events(None, date(2026, 3, 1), date(2026, 3, 2)))
    second = lake.write("usage_event", events(None, None), where="event_day IN ('2026-03-02') OR event_day IS NULL")
    before, now = lake.parts("usage_event", first), lake.parts("usage_event", second)
    assert before is not None
    assert now is not None
    assert (set(before), set(now)) == ({None, "2026-03-01", "2026-03-02"}, {None, "2026-03-01"})
    assert before["2026-03-01"] == now["2026-03-01"]
    found = sorted(lake.read("usage_event", second)["event_day"].to_pylist(), key=str)
    assert found == [date(2026, 3, 1), None, None]
