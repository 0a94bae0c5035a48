"""What every pass leaves: groups of left and right rows, and the links that say which row is in which group."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tieout.reconcile.session import Session
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
    "working": "VARCHAR",  # how what is compared comes about
    "rivals": "VARCHAR",
    "probability": "DECIMAL(18,9)",
    "left_ids": "VARCHAR",  # where the pass knows them anyway; otherwise they follow from the links
    "right_ids": "VARCHAR",
}


_CONSTANT = re.compile(r"NULL|'[^']*'|[0-9]+")


def start_groups(session: Session) -> None:
    """Make the view `groups`, of no groups yet."""
    _show(session, [])


def add_groups(session: Session, columns: Mapping[str, str], source: str) -> None:
    """Add a group for each row of a source; columns not given are null.

    Every call makes a table of its own, and of it only what is not the same for all: a pass that settles a million rows
    pair by pair fills half of the columns, and the engine writes none of the others.
    """
    unknown = set(columns) - set(GROUP_COLUMNS)
    if unknown:
        raise KeyError(f"no group columns {unknown}")
    table = f"groups_{len(session.groups) + 1}"
    constant = {column: value for column, value in columns.items() if _CONSTANT.fullmatch(value)}
    listed = [f"  ({value})::{GROUP_COLUMNS[c]} AS {c}" for c, value in columns.items() if c not in constant]
    session.make(table, "SELECT\n" + ",\n".join(listed) + f"\nFROM {source}")
    shown = [
        c if c in columns and c not in constant else f"{constant.get(c, 'NULL')}::{kind} AS {c}"
        for c, kind in GROUP_COLUMNS.items()
    ]
    _show(session, [*session.groups, f"SELECT {', '.join(shown)} FROM {table}"])


def replace_groups(session: Session, query: str) -> None:
    """Let a query over `groups` take the place of all groups."""
    table = f"groups_{len(session.groups) + 1}_anew"
    session.make(table, query)
    _show(session, [f"FROM {table}"])


def _show(session: Session, parts: list[str]) -> None:
    session.groups = parts
    none = "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in GROUP_COLUMNS.items()) + " WHERE false"
    shown = "\nUNION ALL\n".join(parts or [none])
    session.run("groups", f"CREATE OR REPLACE TEMP VIEW groups AS\n{shown}")
