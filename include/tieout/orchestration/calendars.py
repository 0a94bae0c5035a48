"""The moments at which a business date and a month are ready to be worked on, over all configured entities."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from tieout.calendar import business_day_of_month, complete_at
from tieout.entities import Entities, load_entities
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


def month_end_due_at(month: date, business_day: int, hour: int, entities: Entities | None = None) -> datetime:
    """When BD`business_day` of the month after `month` has reached `hour` o'clock in every entity (UTC)."""
    entities = entities or configured_entities()
    following = (month.replace(day=1) + timedelta(days=32)).replace(day=1)
    moments = [
        datetime.combine(
            business_day_of_month(entity, following.year, following.month, business_day),
            time(hour),
            tzinfo=ZoneInfo(entity.zone),
        )
        for entity in entities.entities
    ]
    return max(moments).astimezone(UTC)
