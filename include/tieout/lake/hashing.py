"""The result hash: one text for the content of a table, whatever the order of its rows and files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import pyarrow as pa

from tieout.errors import DataError

# Where a row came from and when it was fetched is not its content: the same records landed again, or split into
# other pages, must give the same hash.
PROVENANCE = frozenset(
    {"raw_ref", "run_id", "source_version", "fetched_at", "first_seen_run", "created_at", "updated_at", "ingested_at"}
)


def result_hash(table: pa.Table, key: Sequence[str], *, exclude: Collection[str] = PROVENANCE) -> str:
    """SHA-256 over the rows sorted by `key`, columns in the table's order, each value in canonical text.

    Columns in `exclude` (run ids, clock times, provenance) do not count. Rows that share a key are ordered by all
    their values, so a duplicate cannot make the hash depend on row order. Raises DataError for a float column,
    which has no exact text, and for a key column the table lacks.
    """
    from tieout.lake.engine import engine

    missing = [k for k in key if k not in table.column_names]
    if missing:
        raise DataError("key columns are not in the table", got=missing, expected=table.column_names)
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    if floats:
        raise DataError("a float column has no canonical text", got=floats, remedy="use a decimal column")
    columns = [c for c in table.column_names if c not in exclude or c in key]
    digest = hashlib.sha256("\x1f".join(columns).encode())
    texts = [f"{_canonical_text(table.schema.field(c))} AS c{i}" for i, c in enumerate(columns)]
    order = [f"c{columns.index(k)}" for k in key] + [f"c{i}" for i in range(len(columns))]
    with engine() as session:
        session.bind("t", table)
        relation = session.connection.sql(
            # JSON text of the list of values: separators inside a value cannot be mistaken for a border
            f"SELECT to_json([{', '.join(f'c{i}' for i in range(len(columns)))}])::VARCHAR AS line "
            f"FROM (SELECT {', '.join(texts)} FROM t) ORDER BY {', '.join(order)}"
        )
        for batch in relation.to_arrow_reader(65536):
            for line in batch.column(0).to_pylist():
                digest.update(b"\x1e" + line.encode())
        del relation
    return digest.hexdigest()


def _canonical_text(field: pa.Field) -> str:
    """SQL for a column's canonical text: instants in UTC to the microsecond, decimals at the column's scale."""
    name = '"' + field.name.replace('"', '""') + '"'
    if pa.types.is_timestamp(field.type):
        return f"strftime({name}::TIMESTAMPTZ AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if pa.types.is_nested(field.type):
        return f"to_json({name})::VARCHAR"
    return f"{name}::VARCHAR"
