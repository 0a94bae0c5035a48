"""Counting what was landed, to hold it against the vendor's own figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from tieout.errors import DataError
from tieout.lake.landing import ControlTotal
from tieout.money import minor_digits


class Figures:
    """Count of records and, per currency, the sum of one amount field, as the records have it.

    `unusable` counts records whose amount or currency cannot be read; the quarantine will name them, and sums that
    lack them prove nothing.
    """

    def __init__(self, amount: str | None = None, currency: str | None = "currency") -> None:
        self._amount, self._currency = amount, currency
        self.count = self.unusable = 0
        self._sums: dict[str, Decimal] = {}

    def add(self, records: Iterable[Any]) -> None:
        """Count these records."""
        for record in records:
            self.count += 1
            if self._amount and isinstance(record, Mapping):
                self.add_amount(record.get(self._amount), record.get(self._currency) if self._currency else None)

    def add_amount(self, amount: Any, currency: Any) -> None:
        """Add one amount to its currency's sum."""
        if amount is None:
            return
        try:
            if currency is not None:
                minor_digits(str(currency).upper())
            name = f"{self._amount} {currency}" if currency is not None else f"{self._amount}"
            self._sums[name] = self._sums.get(name, Decimal(0)) + Decimal(str(amount))
        except (InvalidOperation, DataError):
            self.unusable += 1

    def texts(self) -> dict[str, str]:
        """The figures by name; sums of zero are left out, as vendors differ on whether to name them."""
        return {"count": str(self.count)} | {n: plain(v) for n, v in sorted(self._sums.items()) if v}


def compared(how: str, claimed: Mapping[str, str], counted: Figures) -> ControlTotal:
    """The control total; where amounts could not be read only the counts are held against each other."""
    if not counted.unusable:
        return ControlTotal(how, claimed, counted.texts())
    return ControlTotal(f"{how}, counts only", {"count": claimed["count"]}, {"count": str(counted.count)})


def plain(amount: Decimal) -> str:
    """One text per value: no exponent, no trailing zeros, at most six decimals, as some vendors add up in floats."""
    text = format(round(amount, 6), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
