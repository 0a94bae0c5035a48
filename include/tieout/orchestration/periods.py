"""Periods and late events by hand: both states side by side, a period moved, a held event decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from tieout.calendar import Period, period_named, period_of
from tieout.entities import LegalEntity
from tieout.errors import ConfigError, LedgerError, StoreError
from tieout.orchestration.work import Work
from tieout.store import batches, late_events, periods
from tieout.store.late_events import LateEvent
from tieout.store.periods import Obstacle, PeriodState

if TYPE_CHECKING:
    from tieout.erp import Ledger


NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True)
class PeriodLine:
    """A period of a ledger: our state, the ERP's (and why), whether they agree, what still keeps it from closing."""

    legal_entity_id: str
    ledger: str
    period: str
    ours: PeriodState
    erp: str
    erp_reason: str | None
    agrees: bool
    unfinished: int
    held: int
    held_gross: Decimal
    currency: str


def agree(ours: str, erp: str) -> bool:
    """Whether our state of a period and the ERP's say the same: a soft-closed one is still open in the ERP."""
    return erp in ("closed", "locked") if ours == "closed" else erp == "open"


def status(work: Work, entities: Sequence[str] = (), until: date | None = None) -> list[PeriodLine]:
    """Every period since each ledger was taken over, up to `until` (the period after today's, if none): both states.

    Raises ErpError if an ERP cannot be asked.
    """
    last = until or (work.store.now().date() + timedelta(days=31))
    found = []
    for entity in work.chosen(entities):
        for one in entity.in_force:
            view = entity.of_ledger(one.ledger)
            if view.taken_over_on > last:
                continue
            with work.store.reading() as session:
                ours = periods.moved(session, entity.id, view.ledger, work.store.now())
            with work.ledger(view.ledger) as ledger:
                for period in _periods(view, last):
                    state = ours.get(period.name, PeriodState(period.name, "open"))
                    erp = ledger.period_status(entity.id, _day_in(view, period))
                    unfinished, held = _open_items(work, view, period.name)
                    found.append(
                        PeriodLine(
                            entity.id,
                            view.ledger,
                            period.name,
                            state,
                            erp.state if erp.told else NOT_TOLD,
                            erp.reason,
                            not erp.told or agree(state.state, erp.state),
                            len(unfinished),
                            len(held),
                            sum((event.gross for event in held), Decimal(0)),
                            entity.functional_currency,
                        )
                    )
    return found


def move(
    work: Work, entity_id: str, ledger: str | None, name: str, to: str, *, actor: str, reason: str,
    second: str | None = None,
) -> list[Obstacle]:  # fmt: skip
    """Move a period of a ledger while nobody posts to it; audited. Gives what stands in the way of its close.

    It is closed over that only by a `second` person. Raises ConfigError where the ERP's state contradicts the move,
    IllegalTransition where there is no such step or something is in the way, LeaseHeld while somebody posts, ErpError
    where the ERP cannot be asked.
    """
    view, period = _found(work, entity_id, ledger, name)
    with work.store.lease(batches.chain_of(view.id, view.ledger)):
        with work.ledger(view.ledger) as erp:
            there = erp.period_status(view.id, _day_in(view, period))
            if there.told and not agree(to, there.state):
                raise ConfigError(
                    "the ERP's period does not agree",
                    record=f"{view.id}/{view.ledger}/{name}",
                    expected="closed" if to == "closed" else "open",
                    got=there.state,
                    remedy="change it in the ERP first",
                )
            found = _in_the_way(work, view, period, erp) if to in ("soft_closed", "closed") else []
        with work.store.transaction() as session:
            periods.move(
                session, view.id, view.ledger, name, to, actor=actor, second=second, reason=reason,
                in_the_way=found, now=work.store.now(),
            )  # fmt: skip
    return found


def in_the_way(work: Work, entity_id: str, ledger: str | None, name: str) -> list[Obstacle]:
    """What stands in the way of a period's close now. Raises ErpError where the ERP cannot be asked."""
    view, period = _found(work, entity_id, ledger, name)
    with work.ledger(view.ledger) as erp:
        return _in_the_way(work, view, period, erp)


def _in_the_way(work: Work, view: LegalEntity, period: Period, erp: Ledger) -> list[Obstacle]:
    """The close backlog as it is now, of one ledger: only breaks and held events are as the newest runs left them.

    What belongs to no entity stands in the way of each: a source that all share may lack something of this one.
    """
    from tieout.ledger.proof import prove
    from tieout.orchestration.closing import unfinished

    try:
        proof = prove(view, period.end, erp, work.store)
    except LedgerError:  # never taken over: the backlog says that there is no proof
        proof = None
    there = erp.period_status(view.id, _day_in(view, period))
    untold = Obstacle(
        "period", f"{view.ledger} {period.name}", NOT_TOLD, "general ledger", there.reason,
        "look in the ERP whether it is closed",
    )  # fmt: skip
    table = unfinished(
        work, view, period, today=work.store.now().date(), snapshot=work.store.published(), proof=proof,
        until=period.end, shared=True,
    )  # fmt: skip
    chain = batches.chain_of(view.id, view.ledger)
    names = [field.name for field in fields(Obstacle)]
    return ([] if there.told else [untold]) + [
        Obstacle(**{name: row[name] for name in names})
        for row in table.to_pylist()
        if row["kind"] != "journal" or batches.chain_of_batch(row["item"]) == chain
    ]


def permit(
    work: Work, entity_id: str, ledger: str | None, name: str, *, until: date, actor: str, second: str, reason: str
) -> None:
    """Allow corrections of a soft-closed period to the end of a day (UTC); audited."""
    view, _ = _found(work, entity_id, ledger, name)
    ends = datetime.combine(until + timedelta(days=1), time(), UTC)
    with work.store.transaction() as session:
        periods.permit(
            session, view.id, view.ledger, name, actor=actor, second=second, reason=reason, ends_at=ends,
            now=work.store.now(),
        )  # fmt: skip


def late(work: Work, entity_id: str | None, period: str | None, states: Iterable[str]) -> list[tuple[str, LateEvent]]:
    """Late events by entity, those held if no state is named."""
    if entity_id is not None:
        work.chosen([entity_id])
    wanted = tuple(states) or (late_events.HELD,)
    if unknown := set(wanted) - set(late_events.STATES):
        raise ConfigError("no such state", got=sorted(unknown), expected=late_events.STATES)
    found = []
    with work.store.reading() as session:
        for entity in work.chosen([entity_id] if entity_id else []):
            found += [(entity.id, event) for event in late_events.late_events(session, entity.id, wanted, period)]
    return found


def decide(
    work: Work, entity_id: str, units: Sequence[str], to: str, *, actor: str, second: str, reason: str,
    period: str | None = None,
) -> int:  # fmt: skip
    """Release held events, or say they are not to be posted: those named, or all of an origin period; how many."""
    work.chosen([entity_id])
    with work.store.transaction() as session:
        if period is not None:
            units = [event.unit for event in late_events.late_events(session, entity_id, period=period)]
        if not units:
            raise StoreError("no event is named", remedy="name events, or --period for all that are held of one")
        late_events.decide(
            session, entity_id, units, to, actor=actor, second=second, reason=reason, now=work.store.now()
        )
    return len(units)


def reopen_for(
    work: Work, entity_id: str, units: Sequence[str], *, actor: str, second: str, reason: str, to: str = "open"
) -> list[str]:
    """Decide that the original periods of held events are opened again; gives these periods.

    The next plan posts the events to their own dates. Raises as `move` does, and StoreError where one is not held.
    """
    with work.store.reading() as session:
        held = {event.unit: event for event in late_events.late_events(session, entity_id)}
    if unknown := sorted(set(units) - set(held)):
        raise StoreError("no such event is held", record=entity_id, got=unknown, remedy="see `tieout late list`")
    origins = sorted({(held[u].origin_slot.split("/")[1], held[u].origin_period) for u in units})
    for ledger, period in origins:
        view, _ = _found(work, entity_id, ledger, period)
        with work.store.reading() as session:
            is_open = periods.period_state(session, view.id, ledger, period) == to
        if not is_open:
            move(work, entity_id, ledger, period, to, actor=actor, second=second, reason=f"for late events: {reason}")
        work.store.audit(
            batches.chain_of(view.id, ledger),
            "late.period_reopened",
            actor,
            {"period": period, "units": sorted(units), "second": second, "reason": reason},
            subject=f"period:{view.id}/{ledger}/{period}",
        )
    return [period for _, period in origins]


def _found(work: Work, entity_id: str, ledger: str | None, name: str) -> tuple[LegalEntity, Period]:
    entity = work.entities[entity_id]
    period = period_named(entity, name)
    names = [one.ledger for one in entity.in_force]
    if ledger is None:
        ledger = entity.ledger_on(period.end)
    if ledger not in names:
        raise ConfigError("the entity has no such ledger", record=entity_id, got=ledger, expected=names)
    return entity.of_ledger(ledger), period


def _periods(view: LegalEntity, last: date) -> Iterator[Period]:
    day = view.taken_over_on
    while day <= last:
        period = period_of(view, day)
        yield period
        day = period.end + timedelta(days=1)


def _day_in(view: LegalEntity, period: Period) -> date:
    """A day of the period that its ledger takes: the ERP taken over in the middle of it may know no earlier one."""
    return min(period.end, max(period.start, view.taken_over_on))


def _open_items(work: Work, view: LegalEntity, period: str) -> tuple[list[str], list[LateEvent]]:
    with work.store.reading() as session:
        found = batches.concerning_period(session, view.id, period)
        held = late_events.late_events(session, view.id, period=period)
    newest = {b.slot: b.version for b in found}  # in the order of versions
    unfinished = [
        b.batch_id
        for b in found
        if b.slot.ledger == view.ledger
        and b.state not in batches.FINISHED
        and not (b.state == "rejected" and b.version < newest[b.slot])
    ]
    return unfinished, [event for event in held if event.ledger == view.ledger or _belongs(event, view)]


def _belongs(event: LateEvent, view: LegalEntity) -> bool:
    return event.origin_slot.split("/")[1] == view.ledger
