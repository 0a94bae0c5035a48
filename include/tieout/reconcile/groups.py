"""What every pass leaves: groups of left and right rows, and the links that say which row is in which group."""

from __future__ import annotations

from tieout.reconcile.sql import AMOUNT

GROUP_COLUMNS: dict[str, str] = {
    "group_id": "BIGINT",
    "pass_name": "VARCHAR",
    "break_type": "VARCHAR",  # null: a match
    "entity": "VARCHAR",
    "group_key": "VARCHAR",
    "named": "VARCHAR",  # the side whose row names the group
    "left_currency": "VARCHAR",
    "right_currency": "VARCHAR",
    "left_rows": "BIGINT",
    "right_rows": "BIGINT",
    "left_amount": AMOUNT,
    "right_amount": AMOUNT,
    "difference": AMOUNT,
    "tax": AMOUNT,  # what the difference of tax amounts explains
    "tax_rounding": AMOUNT,  # how much of that is one side rounding by line, the other on the total
    "fee": AMOUNT,
    "withholding": AMOUNT,
    "fx": AMOUNT,
    "is_partial": "BOOLEAN",
    "field": "VARCHAR",
    "left_value": "VARCHAR",
    "right_value": "VARCHAR",
    "tolerated": "VARCHAR",
    "left_date": "DATE",
    "right_date": "DATE",
    "left_period": "VARCHAR",
    "right_period": "VARCHAR",
    "label": "VARCHAR",
    "reason": "VARCHAR",
    "rivals": "VARCHAR",
    "probability": "DECIMAL(18,9)",
}


def empty_groups() -> str:
    """A query for the empty table of groups."""
    return "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in GROUP_COLUMNS.items()) + " WHERE false"


def insert_groups(query_columns: dict[str, str], source: str) -> str:
    """A statement that adds groups; columns not given are null."""
    unknown = set(query_columns) - set(GROUP_COLUMNS)
    if unknown:
        raise KeyError(f"no group columns {unknown}")
    selected = ",\n".join(
        f"  ({query_columns.get(column, 'NULL')})::{kind} AS {column}" for column, kind in GROUP_COLUMNS.items()
    )
    return f"INSERT INTO groups SELECT\n{selected}\nFROM {source}"
