"""Which accounting date an instant has in a legal entity, and which instants an accounting date covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tieout.entities import LegalEntity
from tieout.errors import DataError


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of instants `[start, end)`, both UTC."""

    start: datetime
    end: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"


def accounting_date(instant: datetime, zone: str) -> date:
    """The calendar date of an instant in a zone. Raises DataError for an instant without a zone of its own."""
    if instant.tzinfo is None:
        raise DataError("an instant without a zone has no accounting date", got=instant)
    return instant.astimezone(ZoneInfo(zone)).date()


def midnight(day: date, zone: str) -> datetime:
    """The first instant of a local date, in UTC; where a zone skips midnight, the first instant that exists."""
    local = datetime.combine(day, time.min, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)


def window(entity: LegalEntity, business_date: date) -> Window:
    """The instants that make up one business date of an entity: 23 or 25 hours long on days the clock changes."""
    return Window(midnight(business_date, entity.zone), midnight(business_date + timedelta(days=1), entity.zone))


def complete_at(entities: Iterable[LegalEntity], business_date: date, lag: timedelta = timedelta(0)) -> datetime:
    """The moment (UTC) at which a business date is over in every entity, plus a lag."""
    return max(window(entity, business_date).end for entity in entities) + lag
