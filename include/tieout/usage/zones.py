"""Days in the zones of customers: which zones there are, and when their days begin and end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pyarrow as pa

_MICRO = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_LOOK = timedelta(days=2)
_LONGEST_SPAN = timedelta(days=200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONES = pa.schema(
    {"zone": pa.string(), "first_offset": pa.int64(), "changes_at": pa.int64(), "then_offset": pa.int64()}
)
_INSTANT = pa.timestamp("us", "UTC")
_DAYS = pa.schema({"zone": pa.string(), "day": pa.date32(), "starts_at": _INSTANT, "ends_at": _INSTANT})
_ENDS = pa.schema({"zone": pa.string(), "until_at": _INSTANT})


def known_zones(names: Iterable[str], span: tuple[datetime, datetime] | None = None) -> pa.Table:
    """The zones of the IANA database among `names`, with their offsets all over `span` and two days around it.

    `first_offset` in microseconds holds before `changes_at` (microseconds since 1970), `then_offset` from it on. All
    three are null where the clock changes twice or more in the span, or the span is longer than 200 days or not given.
    """
    rows = []
    for name in sorted(set(names)):
        zone = _zone(name)
        if zone is not None:
            first, changes_at, then = _offsets(zone, span)
            rows.append({"zone": name, "first_offset": first, "changes_at": changes_at, "then_offset": then})
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
            for n, (begin, end) in enumerate(pairwise(starts))
            if begin < end
        ]
    return pa.Table.from_pylist(rows, _DAYS)


def zone_ends(names: Iterable[str], until: datetime | date) -> pa.Table:
    """When time ends that is counted up to an instant, or up to the end of a day in each zone."""
    zones = [(name, zone) for name in sorted(set(names)) if (zone := _zone(name)) is not None]
    rows = [
        {"zone": name, "until_at": until if isinstance(until, datetime) else _start(until + _DAY, zone)}
        for name, zone in zones
    ]
    return pa.Table.from_pylist(rows, _ENDS)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _start(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a day; where midnight is skipped, the instant the clock jumps over it."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _offsets(zone: ZoneInfo, span: tuple[datetime, datetime] | None) -> tuple[int | None, int | None, int | None]:
    """The offset before the only change of the clock, when that is, and the offset after it."""
    if span is None or span[1] - span[0] > _LONGEST_SPAN:
        return (0, 0, 0) if zone.key == "UTC" else (None, None, None)
    begin, end = (at.replace(microsecond=0) for at in (span[0] - 2 * _DAY, span[1] + 2 * _DAY))
    changes = []
    at = begin
    # two changes of a clock are never less than days apart
    while at < end:
        after = min(at + _LOOK, end)
        if _offset(zone, at) != _offset(zone, after):
            changes.append(_change(zone, at, after))
        at = after
    if len(changes) > 1:
        return None, None, None
    changes_at = (changes[0] if changes else begin) - _EPOCH
    return _offset(zone, begin), changes_at // _MICRO, _offset(zone, end)


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The first second of the later offset, between an instant of the earlier one and an instant of the later one."""
    later = _offset(zone, high)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) // 2).replace(microsecond=0)
        low, high = (low, middle) if _offset(zone, middle) == later else (middle, high)
    return high


def _offset(zone: ZoneInfo, at: datetime) -> int:
    return (at.astimezone(zone).utcoffset() or timedelta()) // _MICRO
