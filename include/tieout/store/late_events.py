"""Late events that wait for a person: too much for their closed period, or of a prior fiscal year; what was decided.

A decision binds the exact entries it was about: an event that changes afterwards is tested, and decided, again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Date, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import StoreError
from tieout.ids import Slot
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant
from tieout.store.batches import chain_of
from tieout.store.people import need_two

HELD, RELEASED, NOT_TO_BE_POSTED, SETTLED = "held", "released", "not_to_be_posted", "settled"
STATES = (HELD, RELEASED, NOT_TO_BE_POSTED, SETTLED)
"""`settled`: it waits no more because the event went away, changed, or its period was opened again."""


class LateEventRow(Base):
    """A late event by its unit: the event, an accrual together with its reversal."""

    __tablename__ = "late_events"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    unit: Mapped[str] = mapped_column(String(300), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40))
    event_type: Mapped[str] = mapped_column(String(80))
    event_date: Mapped[date] = mapped_column(Date)
    origin_slot: Mapped[str] = mapped_column(String(160), index=True)
    origin_period: Mapped[str] = mapped_column(String(7))
    document_number: Mapped[str | None] = mapped_column(String(200))
    currency: Mapped[str] = mapped_column(String(3))
    gross: Mapped[Decimal] = mapped_column(Amount)
    content: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), index=True)
    held_at: Mapped[datetime] = mapped_column(Instant)
    changed_at: Mapped[datetime] = mapped_column(Instant)
    decided_by: Mapped[str | None] = mapped_column(String(200))
    second: Mapped[str | None] = mapped_column(String(200))
    comment: Mapped[str | None] = mapped_column(Text)


@dataclass(frozen=True, slots=True)
class LateEvent:
    """A late event as it waits: `content` are its entries, one `date leg account amount` a line, debit positive."""

    unit: str
    ledger: str
    event_type: str
    event_date: date
    origin_slot: str
    origin_period: str
    document_number: str | None
    currency: str
    gross: Decimal
    content: str
    reason: str
    state: str = HELD


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a unit with exactly this content."""

    unit: str
    content: str
    state: str


def hold(
    session: Session, entity: str, found: Iterable[LateEvent], scope: Sequence[str], first: date, last: date,
    *, actor: str, now: datetime,
) -> None:  # fmt: skip
    """Record the events a plan held and settle those of its scope that it no longer held; each act audited.

    The scope are events of the types `scope` dated from `first` to `last`, both included.
    """
    listed = {event.unit: event for event in found}
    held = select(LateEventRow).where(LateEventRow.legal_entity_id == entity, LateEventRow.state == HELD)
    rows = {row.unit: row for row in session.scalars(held)}
    acts: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for unit, event in listed.items():
        row = rows.get(unit) or session.get(LateEventRow, (entity, unit))
        if row is not None and (row.state, row.content, row.reason) == (HELD, event.content, event.reason):
            continue
        if row is None or row.content != event.content or row.state != HELD:
            facts = {
                "content": event.content, "gross": event.gross, "reason": event.reason, "origin": event.origin_slot,
            }  # fmt: skip
            acts.setdefault((event.ledger, "late.held"), []).append((_subject(entity, unit), facts))
        session.merge(
            LateEventRow(
                legal_entity_id=entity,
                unit=unit,
                **{name: getattr(event, name) for name in _OF_EVENT},
                state=HELD,
                held_at=row.held_at if row is not None and row.state == HELD else now,
                changed_at=now,
                decided_by=None,
                second=None,
                comment=None,
            )
        )
    for unit, row in rows.items():
        if row.state == HELD and unit not in listed and row.event_type in scope and first <= row.event_date <= last:
            row.state, row.changed_at = SETTLED, now
            facts = {"content": row.content, "origin": row.origin_slot}
            acts.setdefault((row.ledger, "late.settled"), []).append((_subject(entity, unit), facts))
    session.flush()
    for (ledger, action), subjects in sorted(acts.items()):
        audit.append_all(session, chain_of(entity, ledger), action, actor, subjects, now)


_OF_EVENT = (
    "ledger", "event_type", "event_date", "origin_slot", "origin_period", "document_number", "currency", "gross",
    "content", "reason",
)  # fmt: skip


def decide(
    session: Session, entity: str, units: Iterable[str], to: str, *, actor: str, second: str, reason: str, now: datetime
) -> None:
    """Release held events to the open period, or say that they are not to be posted; two people, audited.

    Raises StoreError where one is not held, IllegalTransition where a second person or the reason is lacking.
    """
    if to not in (RELEASED, NOT_TO_BE_POSTED):
        raise StoreError("no such decision", got=to, expected=(RELEASED, NOT_TO_BE_POSTED))
    need_two(f"late events of {entity}", actor, second, reason)
    for unit in sorted(set(units)):
        row = session.get(LateEventRow, (entity, unit), with_for_update=True, populate_existing=True)
        if row is None or row.state != HELD:
            raise StoreError(
                "no such event is held", record=unit, got=row.state if row else None, remedy="see `tieout late list`"
            )
        row.state, row.changed_at, row.decided_by, row.second, row.comment = to, now, actor, second, reason
        facts = {"content": row.content, "origin": row.origin_slot, "second": second, "reason": reason}
        _audit(session, entity, row, f"late.{to}", actor, facts, now)


def withhold(
    session: Session, reversal: str, events: Iterable[LateEvent], *, actor: str, second: str, reason: str, now: datetime
) -> None:
    """Say of events, late or not, that they are not to be posted with exactly their content; audited.

    That is so as long as the batch `reversal`, which takes them back, counts; what was decided before is kept with it.
    Of a batch that was itself to post them and is resolved without, it is so from now on.
    """
    slot, told = Slot.of(reversal), []
    by = {"state": NOT_TO_BE_POSTED, "decided_by": actor, "second": second, "comment": reason}
    for event in events:
        row = session.get(LateEventRow, (slot.legal_entity_id, event.unit))
        before = _told(row) if row is not None and row.state in (RELEASED, NOT_TO_BE_POSTED) else None
        kept = {name: getattr(event, name) for name in _OF_EVENT} | by
        told.append({"unit": event.unit, "kept": kept, "before": before})
        _put(session, slot.legal_entity_id, event.unit, kept, reversal, actor, now)
    chain = chain_of(slot.legal_entity_id, slot.ledger)
    audit.append(session, chain, _KEEPS_OUT, actor, {"events": told}, now, subject=reversal)


def follow(session: Session, reversal: str, *, counts: bool, actor: str, now: datetime) -> None:
    """What a reversal keeps out stays out while it counts; once it does not, what was decided before holds again."""
    slot = Slot.of(reversal)
    entity = slot.legal_entity_id
    for act in audit.entries(session, chain_of(entity, slot.ledger), reversal):
        for told in act.payload["events"] if act.action == _KEEPS_OUT else ():
            kept, before = (_read(told[name]) for name in ("kept", "before"))
            row = session.get(LateEventRow, (entity, told["unit"]), with_for_update=True, populate_existing=True)
            if counts:
                _put(session, entity, told["unit"], kept, reversal, actor, now)
            elif row is not None and (row.state, row.content) == (NOT_TO_BE_POSTED, kept["content"]):
                _put(session, entity, told["unit"], before or kept | {"state": SETTLED}, reversal, actor, now)


_KEEPS_OUT = "batch.keeps_out"
_DECIDED = ("state", "decided_by", "second", "comment")


def _told(row: LateEventRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*_OF_EVENT, *_DECIDED)}


def _read(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `withhold` audited, as the row's values."""
    if told is None:
        return {}
    return {**told, "event_date": date.fromisoformat(told["event_date"]), "gross": Decimal(told["gross"])}


def _put(
    session: Session, entity: str, unit: str, values: Mapping[str, Any], reversal: str, actor: str, now: datetime
) -> None:
    row = session.merge(LateEventRow(legal_entity_id=entity, unit=unit, **values, held_at=now, changed_at=now))
    facts = {
        "content": row.content, "origin": row.origin_slot, "second": row.second, "reason": row.comment,
        "reversal": reversal,
    }  # fmt: skip
    _audit(session, entity, row, f"late.{row.state}", actor, facts, now)


def decisions(session: Session, entity: str) -> list[Decision]:
    """What was decided about events of an entity and still counts, by unit."""
    query = select(LateEventRow).where(
        LateEventRow.legal_entity_id == entity, LateEventRow.state.in_((RELEASED, NOT_TO_BE_POSTED))
    )
    rows = session.scalars(query.order_by(LateEventRow.unit))
    return [Decision(row.unit, row.content, row.state) for row in rows]


def late_events(
    session: Session, entity: str | None = None, states: Iterable[str] = (HELD,), period: str | None = None
) -> list[LateEvent]:
    """Late events by entity, origin period and unit."""
    query = select(LateEventRow).where(LateEventRow.state.in_(list(states)))
    if entity is not None:
        query = query.where(LateEventRow.legal_entity_id == entity)
    if period is not None:
        query = query.where(LateEventRow.origin_period == period)
    rows = session.scalars(query.order_by(LateEventRow.legal_entity_id, LateEventRow.origin_period, LateEventRow.unit))
    return [LateEvent(row.unit, **{name: getattr(row, name) for name in _OF_EVENT}, state=row.state) for row in rows]


def _subject(entity: str, unit: str) -> str:
    return f"late:{entity}/{unit}"


def _audit(
    session: Session,
    entity: str,
    row: LateEventRow,
    action: str,
    actor: str,
    facts: Mapping[str, object],
    now: datetime,
) -> None:
    session.flush()
    audit.append(session, chain_of(entity, row.ledger), action, actor, facts, now, subject=_subject(entity, row.unit))
