"""Tables in Markdown for a form of Airflow and for the terminal; what vendors wrote in a cell is text, never markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from tieout.money import minor_digits

_ESCAPED = str.maketrans({c: f"\\{c}" for c in "|\\`<>[]!_"} | {"\n": " ", "\r": " "})


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """A table; the columns numbered in `right` (from 0) hold figures."""
    ruler = ["---:" if n in right else "---" for n in range(len(head))]
    return "\n".join("| " + " | ".join(_cell(str(c)) for c in row) + " |" for row in (head, ruler, *rows))


def figure(amount: Decimal, currency: str) -> str:
    """An amount at its currency's digits, without the currency: `1,234.50`."""
    return f"{amount:,.{minor_digits(currency)}f}"


def _cell(text: str) -> str:
    return text.translate(_ESCAPED)
