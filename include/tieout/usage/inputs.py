"""What usage functions are given: Arrow tables or Parquet files, brought to the columns of the data model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from tieout import schema
from tieout.errors import DataError
from tieout.lake.session import Session

Rows: TypeAlias = "pa.Table | Sequence[str] | str | Path"

FORMER_NEEDED = ("subscription_source_id", "subscription_item_source_id", "price_source_id", "occurred_at")
"""The columns of `former_price` that nothing can be said without."""


def bind(session: Session, table: str, data: Rows, needed: Sequence[str]) -> None:
    """Make the view `given_<table>` with the columns of that table; those the data lacks are null.

    Raises DataError for a column of `needed` that is missing, and for an exact column given as float.
    """
    shape = pa.schema([field.with_nullable(True) for field in schema.table(table).arrow])
    if not isinstance(data, pa.Table):
        session.bind(f"given_{table}", [data] if isinstance(data, str | Path) else list(data), shape)
        return
    missing = [c for c in needed if c not in data.column_names]
    if missing:
        raise DataError("columns are missing", record=table, got=data.column_names, expected=missing)
    for field in shape:
        given = data.schema.field(field.name).type if field.name in data.column_names else None
        if pa.types.is_decimal(field.type) and given is not None and pa.types.is_floating(given):
            raise DataError(f"{field.name} in a float column is not exact", record=table, remedy="use a decimal column")
    columns = [
        data[f.name].cast(f.type) if f.name in data.column_names else pa.nulls(data.num_rows, f.type) for f in shape
    ]
    session.bind(f"given_{table}", pa.table(columns, schema=shape))
