"""Where an event is posted: the ledger in force on its date, its own date while the period is open, else forward.

"Open" means open in both: in Tieout (or soft-closed with a permission) and in the ERP, as it was last read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from tieout.calendar import fiscal_year_start, period_of
from tieout.entities import LegalEntity
from tieout.errors import LedgerError
from tieout.store import Store, periods

PeriodOpen = Callable[[date], bool]
"""Whether an ERP takes postings on a date."""

_LATE_DAYS_AHEAD = 400


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an event's legs are posted: ledger, period and date of their slot; and where they belonged."""

    ledger: str
    period: str
    on: date
    origin_ledger: str
    origin_period: str
    is_prior_year: bool = False


def placement(
    entity: LegalEntity, store: Store, erp_open: PeriodOpen | Mapping[str, PeriodOpen] | None
) -> Callable[[date], Placement]:
    """An event's date → its placement. `erp_open` is one ERP's answer, or one by ledger. Raises LedgerError."""
    now = store.now()
    own: dict[tuple[str, str], bool] = {}
    other: dict[tuple[str, str], bool] = {}

    def in_erp(ledger: str, day: date) -> bool:
        asked = erp_open.get(ledger) if isinstance(erp_open, Mapping) else erp_open
        return asked is None or asked(day)

    def takes_its_own(ledger: str, day: date) -> bool:
        key = ledger, period_of(entity, day).name
        if key not in own:
            with store.reading() as session:
                own[key] = periods.accepts(session, entity.id, *key, now) and in_erp(ledger, day)
        return own[key]

    def takes_others(ledger: str, day: date) -> bool:
        key = ledger, period_of(entity, day).name
        if key not in other:
            with store.reading() as session:
                state = periods.period_state(session, entity.id, *key)
            other[key] = state == "open" and in_erp(ledger, day)
        return other[key]

    def place(day: date) -> Placement:
        ledger, period = entity.ledger_on(day), period_of(entity, day).name
        if takes_its_own(ledger, day):
            return Placement(ledger, period, day, ledger, period)
        on = _next(entity, day)
        while not takes_others(entity.ledger_on(on), on):
            on = _next(entity, on)
            if on > max(day, now.date()) + timedelta(days=_LATE_DAYS_AHEAD):
                raise LedgerError("no open period to post a late event in", record=f"{entity.id} {day}")
        earlier_year = fiscal_year_start(entity, day) < fiscal_year_start(entity, on)
        return Placement(entity.ledger_on(on), period_of(entity, on).name, on, ledger, period, earlier_year)

    return place


def _next(entity: LegalEntity, day: date) -> date:
    """The next first day: of a period, or of a ledger that takes over in the middle of one."""
    following = period_of(entity, day).end + timedelta(days=1)
    return min([following, *(one.since for one in entity.in_force if day < one.since)])
