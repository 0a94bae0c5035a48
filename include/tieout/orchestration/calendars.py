"""When a business date, or a fiscal period of some entity, is over and ready to be worked on."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from tieout.calendar import add_business_days, complete_at, period_ends, period_named, period_of
from tieout.entities import Entities, LegalEntity, load_entities
from tieout.errors import ConfigError
from tieout.settings import Settings


@lru_cache(maxsize=1)
def configured_entities() -> Entities:
    """`entities.yaml` of this process; a scheduler picks up a changed file when it restarts."""
    return load_entities(Settings.from_env().last_approved().config_file("entities.yaml"))


def business_date_complete_at(business_date: date, entities: Entities | None = None) -> datetime:
    """When a business date is over in the zone of every entity, plus the configured lag (UTC)."""
    entities = entities or configured_entities()
    lag = timedelta(hours=entities.lag.hour, minutes=entities.lag.minute)
    return complete_at(entities.entities, business_date, lag)


def span_of_period_end(day: date, entities: Entities | None = None) -> tuple[date, date]:
    """First and last day of the span that holds a date and ends with the next end of any entity's fiscal period."""
    return period_ends((entities or configured_entities()).entities, day)


def closing_on(day: date, entities: Entities) -> list[LegalEntity]:
    """The entities whose fiscal period ends on a date."""
    return [entity for entity in entities.entities if period_of(entity, day).end == day]


def period_end_due_at(day: date, business_day: int, hour: int, entities: Entities | None = None) -> datetime:
    """When BD`business_day` after a period's last day has reached `hour` o'clock in every entity that closes (UTC)."""
    moments = [
        datetime.combine(add_business_days(entity, day, business_day), time(hour), tzinfo=ZoneInfo(entity.zone))
        for entity in closing_on(day, entities or configured_entities())
    ]
    return max(moments).astimezone(UTC)


def name_of_period_end(day: date, entities: Entities) -> str:
    """What the month end of a date is called: the period, where all entities close one of that name, else the date."""
    closing = closing_on(day, entities)
    names = {period_of(entity, day).name for entity in closing}
    return names.pop() if len(names) == 1 and len(closing) == len(entities.entities) else f"close-{day}"


def last_day_of(period: str, entities: Entities) -> date:
    """The last day of a fiscal period, named `YYYY-MM` or by that day itself. Raises ConfigError for what is none.

    A name that means other dates from one entity to the next names no period; the last day does.
    """
    if re.fullmatch(r"\d{4}-\d{2}", period):
        ends = {period_named(entity, period).end for entity in entities.entities}
        if len(ends) == 1:
            return ends.pop()
        raise ConfigError(
            "the entities' periods of that name end on different days", got=period, expected=sorted(map(str, ends)),
            remedy="give the last day of the period to close",
        )  # fmt: skip
    try:
        day = date.fromisoformat(period)
    except ValueError:
        raise ConfigError("not a period", got=period, expected="YYYY-MM, or its last day YYYY-MM-DD") from None
    if not closing_on(day, entities):
        _, end = span_of_period_end(day, entities)
        raise ConfigError("no entity's fiscal period ends on that day", got=period, expected=f"{end}, the next one")
    return day
