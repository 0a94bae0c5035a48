"""Fiscal periods: calendar months, or the weeks of a 4-4-5, 4-5-4 or 5-4-4 year."""

from __future__ import annotations

import calendar as _calendar
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from tieout.entities import LegalEntity
from tieout.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One fiscal period; both dates belong to it. `name` is `YYYY-MM`, MM counted within the fiscal year."""

    name: str
    start: date
    end: date

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end


def period_of(entity: LegalEntity, day: date) -> Period:
    """The fiscal period of an entity that holds a date."""
    if entity.fiscal_calendar == "months":
        last = _calendar.monthrange(day.year, day.month)[1]
        return Period(f"{day:%Y-%m}", day.replace(day=1), day.replace(day=last))
    return _week_period(entity, day)


def period_ends(entities: Iterable[LegalEntity], day: date) -> tuple[date, date]:
    """The span around a date in which no entity's fiscal period ends but on its last day: first and last day."""
    around = [period_of(entity, day) for entity in entities]
    return max(period.start for period in around), min(period.end for period in around)


def ended_periods(entity: LegalEntity, day: date) -> list[Period]:
    """The entity's fiscal periods since go-live that are over by the end of a date, oldest first."""
    found, period = [], period_of(entity, entity.go_live)
    while period.end <= day:
        found.append(period)
        period = period_of(entity, period.end + timedelta(days=1))
    return found


def period_named(entity: LegalEntity, name: str) -> Period:
    """The fiscal period of that name. Raises ConfigError where the entity's calendar has none."""
    if re.fullmatch(r"\d{4}-\d{2}", name):
        # a week calendar's year may begin up to a year before the calendar year it is named after
        day = date(int(name[:4]) - 1, 1, 1)
        while day.year <= int(name[:4]) + 1:
            period = period_of(entity, day)
            if period.name == name:
                return period
            day = period.end + timedelta(days=1)
    raise ConfigError("not a period", record=entity.id, got=name, expected="YYYY-MM")


def fiscal_year_start(entity: LegalEntity, day: date) -> date:
    """The first day of the entity's fiscal year that holds a date."""
    if entity.fiscal_calendar != "months":
        return _year_start(entity, day)
    first = date(day.year, entity.fiscal_year_start.month, 1)
    return first if first <= day else first.replace(year=day.year - 1)


def _week_period(entity: LegalEntity, day: date) -> Period:
    """A year has 52 weeks; a 53rd falls into its last period when the weekday has drifted a week off."""
    pattern = [int(weeks) for weeks in entity.fiscal_calendar.split("-")] * 4
    start = _year_start(entity, day)
    following = _year_start(entity, start + timedelta(weeks=53, days=1))
    if following <= start:
        following = start + timedelta(weeks=52)
    edge = start
    for number, weeks in enumerate(pattern, 1):
        nxt = following if number == 12 else edge + timedelta(weeks=weeks)
        if edge <= day < nxt:
            return Period(f"{_fiscal_year(entity, start)}-{number:02d}", edge, nxt - timedelta(days=1))
        edge = nxt
    raise AssertionError("a date always falls into one of twelve periods")  # pragma: no cover


def _year_start(entity: LegalEntity, day: date) -> date:
    """The start of the fiscal year that holds `day`: the anchor's weekday nearest to the anchor's month and day."""
    anchor = entity.fiscal_year_start
    candidates = [_nearest(anchor, year) for year in (day.year - 1, day.year, day.year + 1)]
    return max(c for c in candidates if c <= day)


def _nearest(anchor: date, year: int) -> date:
    day = date(year, anchor.month, min(anchor.day, _calendar.monthrange(year, anchor.month)[1]))
    shift = (anchor.weekday() - day.weekday() + 3) % 7 - 3
    return day + timedelta(days=shift)


def _fiscal_year(entity: LegalEntity, start: date) -> int:
    """Fiscal years are named after the calendar year in which most of their days fall."""
    return (start + timedelta(weeks=26)).year
