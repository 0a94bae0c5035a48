"""The periods of each ledger: open, soft-closed, closed, reopened; who moved them and why, audited.

Open → soft-closed (only corrections with permission) → closed. A period is reopened with a reason, a closed one by two
people; a permission to correct a soft-closed one takes two people as well and ends by itself. A period is closed over
what stands in the way only by two people, and the audit log keeps all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Integer, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import IllegalTransition, StoreError
from tieout.store import audit
from tieout.store.base import Base, Instant
from tieout.store.batches import chain_of
from tieout.store.people import need_two

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "open": frozenset({"soft_closed"}),
    "soft_closed": frozenset({"closed", "open"}),
    "closed": frozenset({"soft_closed", "open"}),
}
"""From each state, where a period may go."""


class PeriodRow(Base):
    """Our own state of a fiscal period of a ledger; a period without a row is open."""

    __tablename__ = "ledger_periods"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40), primary_key=True)
    period: Mapped[str] = mapped_column(String(7), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    actor: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(Instant)


class PermitRow(Base):
    """A permission to correct a soft-closed period; it ends by itself, or when the period moves."""

    __tablename__ = "period_permits"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    legal_entity_id: Mapped[str] = mapped_column(String(16))
    ledger: Mapped[str] = mapped_column(String(40))
    period: Mapped[str] = mapped_column(String(7))
    granted_by: Mapped[str] = mapped_column(String(200))
    second: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    granted_at: Mapped[datetime] = mapped_column(Instant)
    ends_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class PeriodState:
    """Our state of a period, who moved it there and why; of a period never moved only the state."""

    period: str
    state: str
    actor: str = ""
    reason: str = ""
    changed_at: datetime | None = None
    permitted_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in the way of a close: an item of the close backlog, what it is, whose it is, what it is worth."""

    kind: str
    item: str
    state: str
    owner: str
    what: str | None
    next_action: str
    amount: Decimal | None = None
    currency: str | None = None

    def __str__(self) -> str:
        value = "" if self.amount is None else f", {self.amount.normalize():f} {self.currency or ''}".rstrip()
        return f"{self.kind} {self.item}: {self.state}{value}; {self.owner}: {self.next_action}"


def period_state(session: Session, entity: str, ledger: str, period: str) -> str:
    """Our state of a period: open, soft_closed or closed."""
    row = session.get(PeriodRow, (entity, ledger, period))
    return "open" if row is None else row.state


def moved(session: Session, entity: str, ledger: str, now: datetime) -> dict[str, PeriodState]:
    """Every period of a ledger that was ever moved, by name."""
    query = select(PeriodRow).where(PeriodRow.legal_entity_id == entity, PeriodRow.ledger == ledger)
    return {
        row.period: PeriodState(
            row.period, row.state, row.actor, row.reason, row.changed_at, _permitted_until(session, row, now)
        )
        for row in session.scalars(query.order_by(PeriodRow.period))
    }


def accepts(session: Session, entity: str, ledger: str, period: str, now: datetime) -> bool:
    """Whether entries of the period's own dates may be posted: it is open, or soft-closed with a permission."""
    row = session.get(PeriodRow, (entity, ledger, period))
    return row is None or row.state == "open" or _permitted_until(session, row, now) is not None


def move(
    session: Session,
    entity: str,
    ledger: str,
    period: str,
    to: str,
    *,
    actor: str,
    reason: str,
    now: datetime,
    second: str | None = None,
    in_the_way: Sequence[Obstacle] = (),
) -> None:
    """Move a period and audit it, with what stands in the way of a close.

    Raises IllegalTransition: no such step, no reason, a closed one moved, or one closed over something in the way,
    without a second person. Whether the ERP agrees is for the caller to ask.
    """
    before, record = period_state(session, entity, ledger, period), f"{entity}/{ledger}/{period}"
    if to not in TRANSITIONS[before]:
        raise IllegalTransition(
            f"a period cannot go from {before} to {to}", record=record, expected=sorted(TRANSITIONS[before])
        )
    if not reason.strip():
        raise IllegalTransition("a period is moved for a reason", record=record, remedy="say why")
    if before == "closed":
        need_two(record, actor, second, reason)
    if to == "closed" and in_the_way and second is None:
        raise IllegalTransition(
            f"{len(in_the_way)} items stand in the way of the close",
            record=record,
            got="\n  ".join(["", *map(str, in_the_way)]),
            remedy="finish them; or a second person closes over them for a reason: --second",
        )
    if second is not None:
        need_two(record, actor, second, reason)
    session.merge(
        PeriodRow(
            legal_entity_id=entity,
            ledger=ledger,
            period=period,
            state=to,
            actor=actor,
            reason=reason,
            changed_at=now,
        )
    )
    session.flush()
    name = "period.reopened" if to == "open" or before == "closed" else f"period.{to}"
    _audit(
        session,
        entity,
        ledger,
        period,
        name,
        actor,
        {"from": before, "to": to, "reason": reason, "second": second}
        | ({"in_the_way": [asdict(one) for one in in_the_way]} if in_the_way else {}),
        now,
    )


def permit(
    session: Session,
    entity: str,
    ledger: str,
    period: str,
    *,
    actor: str,
    second: str,
    reason: str,
    ends_at: datetime,
    now: datetime,
) -> None:
    """Allow corrections of a soft-closed period until an instant; audited. Raises IllegalTransition, StoreError."""
    record = f"{entity}/{ledger}/{period}"
    if period_state(session, entity, ledger, period) != "soft_closed":
        raise IllegalTransition("only a soft-closed period is corrected with permission", record=record)
    need_two(record, actor, second, reason)
    if ends_at <= now:
        raise StoreError("a permission needs an end that is still to come", record=record, got=ends_at)
    session.add(
        PermitRow(
            legal_entity_id=entity,
            ledger=ledger,
            period=period,
            granted_by=actor,
            second=second,
            reason=reason,
            granted_at=now,
            ends_at=ends_at,
        )
    )
    session.flush()
    facts = {"second": second, "reason": reason, "ends_at": ends_at}
    _audit(session, entity, ledger, period, "period.permitted", actor, facts, now)


def _permitted_until(session: Session, row: PeriodRow, now: datetime) -> datetime | None:
    """Until when a soft-closed period may be corrected; a permission of before its last move counts no more."""
    if row.state != "soft_closed":
        return None
    query = select(PermitRow.ends_at).where(
        PermitRow.legal_entity_id == row.legal_entity_id,
        PermitRow.ledger == row.ledger,
        PermitRow.period == row.period,
        PermitRow.granted_at >= row.changed_at,
        PermitRow.ends_at > now,
    )
    return max(session.scalars(query), default=None)


def _audit(
    session: Session,
    entity: str,
    ledger: str,
    period: str,
    action: str,
    actor: str,
    facts: dict[str, Any],
    now: datetime,
) -> None:
    subject = f"period:{entity}/{ledger}/{period}"
    audit.append(session, chain_of(entity, ledger), action, actor, {"period": period, **facts}, now, subject=subject)
