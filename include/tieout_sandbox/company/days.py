"""Days and instants of the company: local days of the entities, and when on a day something happens."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

START = date(2025, 10, 1)
GO_LIVE = date(2026, 3, 29)
END = date(2026, 4, 16)
"""Facts are generated for [START, END)."""
DAY = timedelta(days=1)


@cache
def add_months(day: date, months: int) -> date:
    """The same day of a later month, or that month's last day where it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


@cache
def midnight(zone: str, day: date) -> datetime:
    """The UTC instant at which a local day begins."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


@cache
def _window(zone: str, day: date) -> tuple[datetime, float]:
    """The part of a local day in which state may change: after 09:05 UTC of that date (the previous business date has
    been read by then) and before 08:50 UTC of the next."""
    opens = datetime.combine(day, time(9, 6), UTC)
    start = max(midnight(zone, day), opens)
    end = min(midnight(zone, day + DAY), opens + timedelta(hours=23, minutes=43))
    return start, (end - start).total_seconds() - 90


def moment(zone: str, day: date, fraction: float) -> datetime:
    """An instant on a local day, `fraction` (0 to 1) of the way through the hours in which state may change."""
    start, seconds = _window(zone, day)
    return start + timedelta(seconds=int(seconds * fraction))


def batch_time(zone: str, day: date) -> datetime:
    """When the files of a local day reach the drop folder: half an hour after it ended."""
    return midnight(zone, day + DAY) + timedelta(minutes=30)


def local_date(zone: str, instant: datetime) -> date:
    """The local day of an instant."""
    return instant.astimezone(ZoneInfo(zone)).date()
