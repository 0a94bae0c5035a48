"""Business days of an entity: weekdays that are neither a public holiday where it sits nor its own closure."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Protocol


class Workplace(Protocol):
    """What decides where days are worked; a legal entity is one. Without a country there are no public holidays."""

    @property
    def country(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def closures(self) -> tuple[date, ...]: ...


@lru_cache(maxsize=64)
def _holidays(country: str, region: str | None, year: int) -> Any:
    import holidays

    return holidays.country_holidays(country, subdiv=region, years=year)


def is_business_day(entity: Workplace, day: date) -> bool:
    """Whether the entity works on that date."""
    return (
        day.weekday() < 5
        and day not in entity.closures
        and not (entity.country and day in _holidays(entity.country, entity.region, day.year))
    )


def add_business_days(entity: Workplace, day: date, count: int) -> date:
    """The date `count` business days after (or before, if negative) a date; 0 gives the date itself.

    BD1 of a close is 1 after the period's last day.
    """
    step = timedelta(days=1 if count > 0 else -1)
    while count:
        day += step
        if is_business_day(entity, day):
            count -= 1 if count > 0 else -1
    return day
