"""The answer key: which breaks a run must find. Only tests and the demo's summary read it, never the pipeline."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tieout_sandbox.company.model import Company

SCHEMA = pa.schema(
    [
        ("label_id", pa.string()),
        ("definition_id", pa.string()),
        ("break_type", pa.string()),
        ("legal_entity_id", pa.string()),  # empty where the record belongs to nobody
        ("break_key", pa.string()),  # key values joined by |
        ("visible_from", pa.date32()),  # first business date whose run must find it
        ("visible_to", pa.date32()),  # first later business date whose run must no longer find it; null: it lasts
        ("amount", pa.decimal128(18, 4)),
        ("currency", pa.string()),
        ("note", pa.string()),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("object", pa.string()),
        ("reason", pa.string()),
        ("business_date", pa.date32()),
        ("count", pa.int64()),  # set aside since the beginning, by the run of the business date
    ]
)


def answer_key(company: Company) -> pa.Table:
    """One row per planted break, ordered by definition, type and key."""
    return _table(company.labels, SCHEMA)


def quarantine_key(company: Company) -> pa.Table:
    """How many records of a feed are set aside by the run of a business date, by reason."""
    return _table(company.quarantine, QUARANTINE_SCHEMA)


def write_answer_key(company: Company, folder: Path) -> list[Path]:
    """Write `labels.parquet` and `quarantine.parquet` into a folder, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "labels.parquet", folder / "quarantine.parquet"]
    for path, table in zip(paths, (answer_key(company), quarantine_key(company)), strict=True):
        pq.write_table(table, path)
    return paths


def _table(rows: list, schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)
