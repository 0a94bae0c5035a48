"""Company facts as vendors write them: instants as unix seconds, local days as midnights, stable pseudo-random ids."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo


def seconds(moment: datetime) -> int:
    """An aware instant as unix seconds."""
    return int(moment.timestamp())


@cache
def midnight(day: date, zone: str) -> int:
    """The first second of a local day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp())


def utc_midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def last_day(end: date) -> date:
    """The last day of a half-open term, as Salesforce's inclusive end dates want it."""
    return end - timedelta(days=1)


def digest(*parts: object) -> str:
    """24 hexadecimal digits that depend on nothing but the parts."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]
