"""Straight-line schedules in plain Python: the oracle of the engine's release query, and for files of schedules.

By month, each month takes the same rounded part and the last one the residue; by day, what is earned to date is
rounded, so the residue falls to the last day and no day is ever off by more than a minor unit.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from tieout.errors import DataError
from tieout.money import round_money


def by_months(total: Decimal, months: int, currency: str) -> list[Decimal]:
    """`total` in equal monthly parts at the minor unit, the last month taking the residue."""
    if months < 1:
        raise DataError("a schedule needs at least one month", got=months)
    part = round_money(total / months, currency)
    return [part] * (months - 1) + [total - part * (months - 1)]


def earned(total: Decimal, start: date, end: date, upto: date, currency: str) -> Decimal:
    """What days `[start, end)` have earned of `total` by the end of the date `upto`."""
    days = (end - start).days
    if days < 1:
        raise DataError("a service period needs at least one day", got=f"{start} to {end}")
    passed = max(0, min(days, (upto - start).days + 1))
    return total if passed == days else round_money(total * passed / days, currency)
