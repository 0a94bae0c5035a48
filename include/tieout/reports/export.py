"""Result tables as plain files for data teams: Parquet and CSV per business date, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from tieout import schema
from tieout.lake.engine import Engine
from tieout.lake.tables import Lake

BY_DATE = ("breaks", "breaks_gone", "breaks_forward", "matches", "totals", "journals")
BY_JOURNAL = ("journal_lines", "journal_drilldown")


def export(business_date: date, folder: Path, *, engine: Engine, lake: Lake, snapshot: Mapping[str, int]) -> list[Path]:
    """Write each result table's rows of a business date to `folder` as `<table>.parquet` and `<table>.csv`.

    Rows are in key order. Texts a spreadsheet would take for a formula are prefixed with an apostrophe in the CSV
    only. Returns the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lake.bind(engine, snapshot, (*BY_DATE, *BY_JOURNAL))
    written: list[Path] = []
    for table in (*BY_DATE, *BY_JOURNAL):
        day = "business_date = $day"
        where = day if table in BY_DATE else f"run_key IN (SELECT run_key FROM journals WHERE {day})"
        order = ", ".join(f'"{column}"' for column in schema.table(table).key)
        written.append(
            engine.copy(
                f'SELECT * FROM "{table}" WHERE {where} ORDER BY {order}',
                folder / f"{table}.parquet",
                {"day": business_date},
            )
        )
        written.append(
            engine.copy(
                f'SELECT {_safe_columns(table)} FROM "{table}" WHERE {where} ORDER BY {order}',
                folder / f"{table}.csv",
                {"day": business_date},
            )
        )
    return written


def _safe_columns(table: str) -> str:
    """Columns for a CSV: texts beginning like a formula get an apostrophe, the rest is as it is."""
    parts = []
    for column in schema.table(table).columns:
        name = f'"{column.name}"'
        if column.kind == "text":
            parts.append(
                f"CASE WHEN regexp_matches({name}, '^[=+@\\t\\r\\n-]') THEN '''' || {name} ELSE {name} END AS {name}"
            )
        else:
            parts.append(name)
    return ", ".join(parts)
