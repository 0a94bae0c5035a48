"""The life of breaks: one row per break that was ever found, and every change of its type or state.

The rows behind a break are in the lake's `breaks` table, by business date; here is what people and time add to it.
Each recorded run appends one act per definition to the audit chain `breaks/<definition>`, with the hash of its changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Date, Integer, String, Text, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.ids import canonical_key, content_hash, sha256_hex
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant

CLOSED = ("resolved", "written_off", "disappeared")
"""States from which a break that is found again comes back to `open`."""


class BreakRow(Base):
    """A break's identity and where its life stands."""

    __tablename__ = "breaks"

    break_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    definition_id: Mapped[str] = mapped_column(String(60), index=True)
    legal_entity_id: Mapped[str] = mapped_column(String(16))
    break_key: Mapped[str] = mapped_column(Text)
    ordinal: Mapped[int] = mapped_column(Integer)
    break_type: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), index=True)
    owner: Mapped[str] = mapped_column(String(100))
    currency: Mapped[str | None] = mapped_column(String(3))
    value: Mapped[Decimal | None] = mapped_column(Amount)
    economic_date: Mapped[date | None] = mapped_column(Date)
    first_seen: Mapped[date] = mapped_column(Date)
    last_seen: Mapped[date] = mapped_column(Date)
    sentence: Mapped[str] = mapped_column(Text)


class BreakChangeRow(Base):
    """A change of a break's type or state."""

    __tablename__ = "break_changes"

    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    break_id: Mapped[str] = mapped_column(String(32), index=True)
    business_date: Mapped[date] = mapped_column(Date)
    run_id: Mapped[str] = mapped_column(String(250))
    at: Mapped[datetime] = mapped_column(Instant)
    from_state: Mapped[str | None] = mapped_column(String(20))
    to_state: Mapped[str] = mapped_column(String(20))
    from_type: Mapped[str | None] = mapped_column(String(20))
    to_type: Mapped[str] = mapped_column(String(20))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A break as one run found it, or found it gone (then `state` says how it ended)."""

    definition_id: str
    legal_entity_id: str
    break_key: str
    ordinal: int
    break_type: str
    state: str
    owner: str
    currency: str | None
    value: Decimal | None
    economic_date: date | None
    first_seen: date
    sentence: str

    @property
    def break_id(self) -> str:
        """The break's identity, the same in every run."""
        return break_id(self.definition_id, self.legal_entity_id, self.break_key, self.ordinal)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a break's history."""

    business_date: date
    run_id: str
    from_state: str | None
    to_state: str
    from_type: str | None
    to_type: str


def break_id(definition_id: str, legal_entity_id: str, key: str, ordinal: int) -> str:
    """32 hex digits of definition, entity, key and ordinal."""
    return sha256_hex(canonical_key(definition_id, legal_entity_id, ordinal, key))[:32]


def select_breaks(session: Session, definition_id: str) -> list[BreakRow]:
    """Every break of a definition that was ever found, by entity, key and ordinal."""
    order = (BreakRow.legal_entity_id, BreakRow.break_key, BreakRow.ordinal)
    return list(session.scalars(select(BreakRow).where(BreakRow.definition_id == definition_id).order_by(*order)))


def last_recorded(session: Session, definition_id: str) -> date | None:
    """The newest business date whose breaks were recorded; None before the first."""
    return session.scalar(select(func.max(BreakRow.last_seen)).where(BreakRow.definition_id == definition_id))


def history(session: Session, identity: str) -> list[Change]:
    """Every change of one break, oldest first."""
    rows = session.scalars(
        select(BreakChangeRow).where(BreakChangeRow.break_id == identity).order_by(BreakChangeRow.sequence)
    )
    return [Change(r.business_date, r.run_id, r.from_state, r.to_state, r.from_type, r.to_type) for r in rows]


def record(
    session: Session,
    definition_id: str,
    business_date: date,
    run_id: str,
    found: Sequence[Sighting],
    gone: Iterable[Sighting],
    now: datetime,
) -> int:
    """Bring the store to what a run found; gives how many breaks changed type or state.

    A run of a business date before the newest recorded one changes nothing: it looks back, it does not decide.
    """
    newest = last_recorded(session, definition_id)
    if newest is not None and business_date < newest:
        return 0
    known = {
        row.break_id: row for row in session.scalars(select(BreakRow).where(BreakRow.definition_id == definition_id))
    }
    changes: list[dict[str, object]] = []
    added: list[dict[str, object]] = []
    seen: list[dict[str, object]] = []
    for sighting in found:
        before = known.get(sighting.break_id)
        values = asdict(sighting) | {"break_id": sighting.break_id, "last_seen": business_date}
        (added if before is None else seen).append(values)
        _note(changes, sighting, before)
    for sighting in gone:
        before = known.get(sighting.break_id)
        if before is None or before.state in CLOSED:
            continue
        seen.append({"break_id": sighting.break_id, "state": sighting.state})
        _note(changes, sighting, before)
    if added:
        session.execute(insert(BreakRow), added)
    if seen:
        session.execute(update(BreakRow), seen)
    if changes:
        stamp = {"business_date": business_date, "run_id": run_id, "at": now}
        session.execute(insert(BreakChangeRow), [c | stamp for c in changes])
        counts: dict[str, int] = {}
        for change in changes:
            counts[str(change["to_state"])] = counts.get(str(change["to_state"]), 0) + 1
        payload: Mapping[str, object] = {
            "business_date": business_date,
            "run_id": run_id,
            "to_state": counts,
            "changes_sha256": content_hash(changes),
        }
        audit.append(session, f"breaks/{definition_id}", "breaks recorded", "tieout", payload, now, definition_id)
    return len(changes)


def _note(changes: list[dict[str, object]], sighting: Sighting, before: BreakRow | None) -> None:
    old_state, old_type = (before.state, before.break_type) if before else (None, None)
    if (old_state, old_type) != (sighting.state, sighting.break_type):
        changes.append(
            {
                "break_id": sighting.break_id,
                "from_state": old_state,
                "to_state": sighting.state,
                "from_type": old_type,
                "to_type": sighting.break_type,
            }
        )
