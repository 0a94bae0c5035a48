"""Days in the zones of customers: which zones there are, and when their days begin and end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_LONGEST_LOOK = timedelta(days=40)
_ZONES = pa.schema({"zone": pa.string(), "utc_offset": pa.int64()})
_DAYS = pa.schema(
    {
        "zone": pa.string(),
        "day": pa.date32(),
        "starts_at": pa.timestamp("us", "UTC"),
        "ends_at": pa.timestamp("us", "UTC"),
    }
)


def known_zones(names: Iterable[str], span: tuple[datetime, datetime] | None = None) -> pa.Table:
    """The zones of the IANA database among `names`; `utc_offset` in microseconds where one holds all over `span`.

    An offset is looked up every hour of the span and a day around it: clocks change on whole quarters of hours and
    never back within one. Longer spans than 40 days have none, but UTC's.
    """
    rows = []
    for name in sorted(set(names)):
        zone = _zone(name)
        if zone is not None:
            rows.append({"zone": name, "utc_offset": _constant_offset(zone, span)})
    return pa.Table.from_pylist(rows, _ZONES)


def zone_days(names: Iterable[str], first: date, after: date) -> pa.Table:
    """When each day of `[first, after)` begins and ends in each zone; a day that a zone skips has no row."""
    rows = []
    for name in sorted(set(names)):
        zone = _zone(name)
        if zone is None:
            continue
        starts = [_start(first + _DAY * n, zone) for n in range((after - first).days + 1)]
        rows += [
            {"zone": name, "day": first + _DAY * n, "starts_at": begin, "ends_at": end}
            for n, (begin, end) in enumerate(zip(starts, starts[1:], strict=False))
            if begin < end
        ]
    return pa.Table.from_pylist(rows, _DAYS)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _start(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day; where midnight is skipped, the instant the clock jumps over it."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _constant_offset(zone: ZoneInfo, span: tuple[datetime, datetime] | None) -> int | None:
    if zone.key == "UTC":
        return 0
    if span is None or span[1] - span[0] > _LONGEST_LOOK:
        return None
    at, offsets = span[0] - _DAY, set()
    while at <= span[1] + _DAY + _HOUR:
        offsets.add(at.astimezone(zone).utcoffset())
        at += _HOUR
    (offset, *others) = offsets
    return None if others or offset is None else offset // timedelta(microseconds=1)
