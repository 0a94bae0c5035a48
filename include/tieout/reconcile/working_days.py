"""Working days as numbers, so that a window counted in business days is a difference of two of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pyarrow as pa

from tieout.calendar.business_days import is_business_day
from tieout.reconcile.definition import Comparison, Definition, WorkCalendar
from tieout.reconcile.session import Session
from tieout.reconcile.sql import name, text

# Dates outside are typing errors, and have no number: they lie in no window.
_FIRST, _LAST = date(1970, 1, 1), date(2199, 12, 31)
_SHAPE = pa.schema([("work_calendar", pa.string()), ("work_date", pa.date32()), ("work_number", pa.int64())])


def counts_business(comparison: Comparison) -> bool:
    """Whether a compared date has a window of business days."""
    return comparison.window is not None and comparison.window.count == "business"


def make_working_days(session: Session, definition: Definition, as_of: date | None) -> None:
    """Make `working_days`: per calendar and date the number of working days up to it, the date included."""
    columns = [("left", definition.left.date), ("right", definition.right.date)]
    columns += [
        (side, getattr(c, side)) for c in definition.compare if counts_business(c) for side in ("left", "right")
    ]
    dates = " UNION ALL ".join(f"SELECT {name(c)} AS d FROM {side}_input" for side, c in columns if c)
    found = session.rows(
        f"SELECT min(d)::DATE, max(d)::DATE FROM ({dates}) WHERE d BETWEEN DATE '{_FIRST}' AND DATE '{_LAST}'"
    )[0]
    known = [d for d in (*found, as_of) if d is not None]
    calendars = {"": WorkCalendar()} | definition.calendars
    columns_of: dict[str, list[object]] = {field: [] for field in _SHAPE.names}
    if known:
        for label, calendar in calendars.items():
            for day, number in _numbered(calendar, min(known), max(known)):
                for field, value in zip(_SHAPE.names, (label, day, number), strict=True):
                    columns_of[field].append(value)
    session.connection.register("working_days_given", pa.table(columns_of, schema=_SHAPE))
    session.make("working_days", "SELECT * FROM working_days_given")
    session.connection.unregister("working_days_given")


def _numbered(calendar: WorkCalendar, first: date, last: date) -> Iterator[tuple[date, int]]:
    number, day = 0, first
    while day <= last:
        number += is_business_day(calendar, day)
        yield day, number
        day += timedelta(days=1)


def calendar_of(definition: Definition, entity: str) -> str:
    """Which calendar an entity expression works by."""
    default = "default" if "default" in definition.calendars else ""
    cases = " ".join(f"WHEN {text(e)} THEN {text(e)}" for e in sorted(definition.calendars) if e != "default")
    return f"CASE {entity} {cases} ELSE {text(default)} END" if cases else text(default)


def working_day(alias: str, calendar: str, day: str) -> str:
    """The join that finds the number of a date expression, as `<alias>.work_number`."""
    return f"LEFT JOIN working_days {alias} ON {alias}.work_calendar = {calendar} AND {alias}.work_date = {day}"
