"""What a break compares: the field, and what the left and the right system say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]

_MONEY = re.compile(r"(-?[0-9][0-9,]*(?:\.[0-9]+)?) ([A-Z]{3})")


@dataclass(frozen=True, slots=True)
class Amount:
    """Money as one side has it."""

    value: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Compared:
    """The compared field in words and both sides' values: an amount, or a text that is never empty."""

    field: str
    left: Amount | str
    right: Amount | str


def compared(row: Row) -> Compared:
    """What a row of `breaks` compares.

    A break with a compared field shows that field's values. One without (a record that is missing, there more than once
    or cannot be tied to anything) shows each side's amount, or `there`, `missing` and `expected` where none is known.
    """
    if row.get("field") == "currency" and None not in (row.get("left_amount"), row.get("right_amount")):
        return Compared(
            "currency",
            _amount(row["left_amount"], row.get("left_value")),
            _amount(row["right_amount"], row.get("right_value")),
        )
    if row.get("field"):
        name = str(row["field"]).replace("_", " ")
        return Compared(name, _value(row.get("left_value")), _value(row.get("right_value")))
    left, right = row.get("left_rows") or 0, row.get("right_rows") or 0
    several = left > 1 or right > 1
    name = f"{left:,} against {right:,} records" if several else "the record"
    return Compared(name, _record(row, "left", left), _record(row, "right", right))


def _record(row: Row, side: str, rows: int) -> Amount | str:
    if not rows:
        return "expected" if row.get("break_type") == "timing" else "missing"
    if row.get(f"{side}_amount") is None or not row.get("currency"):
        return "there"
    return _amount(row[f"{side}_amount"], row["currency"])


def _amount(value: Decimal, currency: str | None) -> Amount | str:
    return Amount(value, currency) if currency else f"{value:,}"


def _value(text: str | None) -> Amount | str:
    """A value as `breaks` words it; money such as `1,190.00 EUR` as an amount again."""
    money = _MONEY.fullmatch(text or "")
    if money:
        return Amount(Decimal(money[1].replace(",", "")), money[2])
    return text or "empty"
