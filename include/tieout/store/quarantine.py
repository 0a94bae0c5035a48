"""Index of quarantined rows: enough to count, price and replay them; the rows themselves stay in the lake."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Integer, String, Text, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.store.base import Amount, Base, Instant

_CHUNK = 500


class QuarantineRow(Base):
    """One rejected record and why. `state`: open, replayed (conformed since), dismissed."""

    __tablename__ = "quarantine_items"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    raw_ref: Mapped[str] = mapped_column(String(400), unique=True)
    source: Mapped[str] = mapped_column(String(100), index=True)
    object: Mapped[str] = mapped_column(String(100))
    reason_code: Mapped[str] = mapped_column(String(80))
    reason: Mapped[str] = mapped_column(Text)
    field: Mapped[str | None] = mapped_column(String(200))
    legal_entity_id: Mapped[str | None] = mapped_column(String(16))
    currency: Mapped[str | None] = mapped_column(String(3))
    amount: Mapped[Decimal | None] = mapped_column(Amount)
    state: Mapped[str] = mapped_column(String(20), index=True)
    first_run: Mapped[str] = mapped_column(String(250))
    last_run: Mapped[str] = mapped_column(String(250))
    first_seen: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class QuarantineItem:
    """A rejected record as the index keeps it; `amount` is what waits behind it, where it could be read."""

    raw_ref: str
    source: str
    object: str
    reason_code: str
    reason: str
    field: str | None = None
    legal_entity_id: str | None = None
    currency: str | None = None
    amount: Decimal | None = None


def add(session: Session, run_id: str, items: Iterable[QuarantineItem], now: datetime) -> int:
    """Record rejected rows; one already known keeps its first sighting. Gives the number of new ones."""
    pending = {item.raw_ref: item for item in items}
    refs = sorted(pending)
    new = 0
    for start in range(0, len(refs), _CHUNK):
        part = refs[start : start + _CHUNK]
        known = {r.raw_ref: r for r in session.scalars(select(QuarantineRow).where(QuarantineRow.raw_ref.in_(part)))}
        for ref in part:
            item, row = pending[ref], known.get(ref)
            if row is None:
                row = QuarantineRow(raw_ref=ref, first_run=run_id, first_seen=now)
                session.add(row)
                new += 1
            row.source, row.object, row.reason_code, row.reason = (
                item.source,
                item.object,
                item.reason_code,
                item.reason,
            )
            row.field, row.legal_entity_id = item.field, item.legal_entity_id
            row.currency, row.amount, row.state, row.last_run = item.currency, item.amount, "open", run_id
        session.flush()
    return new


def settle(session: Session, run_id: str, raw_refs: Iterable[str], state: str = "replayed") -> int:
    """Mark open items as replayed or dismissed; gives how many."""
    refs, changed = sorted(set(raw_refs)), 0
    for start in range(0, len(refs), _CHUNK):
        result = session.execute(
            update(QuarantineRow)
            .where(QuarantineRow.raw_ref.in_(refs[start : start + _CHUNK]), QuarantineRow.state == "open")
            .values(state=state, last_run=run_id)
        )
        changed += result.rowcount  # type: ignore[attr-defined]
    return changed


def items(session: Session, source: str | None = None, state: str = "open") -> list[QuarantineItem]:
    """Quarantined records in the order of their reference."""
    query = select(QuarantineRow).where(QuarantineRow.state == state).order_by(QuarantineRow.raw_ref)
    if source is not None:
        query = query.where(QuarantineRow.source == source)
    return [
        QuarantineItem(
            r.raw_ref, r.source, r.object, r.reason_code, r.reason, r.field, r.legal_entity_id, r.currency, r.amount
        )
        for r in session.scalars(query)
    ]
