"""The life of breaks: one row per break that was ever found, and every change of its type or state.

The rows behind a break are in the lake's `breaks` table, by business date; here is what people and time add to it.
Each recorded run appends one act per definition to the audit chain `breaks/<definition>`, with the hash of its changes;
what people do (`store.break_acts`) is one act per break in the same chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import Date, Integer, String, Text, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.ids import canonical_key, sha256_hex
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant, Json

CLOSED = ("resolved", "disappeared")
"""States from which a break that is found again comes back to `open`."""

NIGHT = "tieout"
"""The actor of what a run records."""

_CHUNK = 20_000


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
    """When it was last found, as of its last change: read it by `seen_until`."""
    sentence: Mapped[str] = mapped_column(Text)
    content: Mapped[str | None] = mapped_column(String(32))
    """Fingerprint of what a run found, so that a night tells what changed without reading every sentence."""
    assignee: Mapped[str | None] = mapped_column(String(200))
    cap: Mapped[Decimal | None] = mapped_column(Amount)
    cap_currency: Mapped[str | None] = mapped_column(String(3))
    expires: Mapped[date | None] = mapped_column(Date)
    """Last business date on which a known difference is accepted."""
    decided_by: Mapped[str | None] = mapped_column(String(200))
    """Who brought it to its state; null where a run did."""
    decided_on: Mapped[date | None] = mapped_column(Date)
    """The newest business date that was known when its state was decided."""
    approved_by: Mapped[str | None] = mapped_column(String(200))
    """The second person behind a write-off."""
    written_off: Mapped[Decimal | None] = mapped_column(Amount)
    """What journals that were read back have written off of it: left − right, in `written_off_currency`."""
    written_off_currency: Mapped[str | None] = mapped_column(String(3))


class BreakChangeRow(Base):
    """What happened to a break: a change of its type or state, or what a person did or said."""

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
    actor: Mapped[str | None] = mapped_column(String(200))
    """Null: the run."""
    action: Mapped[str | None] = mapped_column(String(40))
    note: Mapped[str | None] = mapped_column(Text)
    details: Mapped[Any | None] = mapped_column(Json)


class BreakNightRow(Base):
    """The newest business date whose breaks were recorded, also where there were none."""

    __tablename__ = "break_nights"

    definition_id: Mapped[str] = mapped_column(String(60), primary_key=True)
    business_date: Mapped[date] = mapped_column(Date)


class BreakVerdictRow(Base):
    """What a person said of a match that was suggested, or of a candidate: rows and amounts as they were then."""

    __tablename__ = "break_verdicts"

    break_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    definition_id: Mapped[str] = mapped_column(String(60), index=True)
    legal_entity_id: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(10))
    left_ids: Mapped[str] = mapped_column(Text, primary_key=True)
    right_ids: Mapped[str] = mapped_column(Text, primary_key=True)
    left_amount: Mapped[Decimal | None] = mapped_column(Amount)
    right_amount: Mapped[Decimal | None] = mapped_column(Amount)
    actor: Mapped[str] = mapped_column(String(200))
    decided_on: Mapped[date] = mapped_column(Date)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A break as one run found it, or found it gone (then `state` says how it ended).

    `was_state` and `was_type` are what the run knew of it before; without a state it is new. `note` says why a state
    that a person gave it ended.
    """

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
    was_state: str | None = None
    was_type: str | None = None
    note: str | None = None
    content: str | None = None

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
    at: datetime | None = None
    actor: str | None = None
    action: str | None = None
    note: str | None = None
    details: Mapping[str, Any] | None = None


def break_id(definition_id: str, legal_entity_id: str, key: str, ordinal: int) -> str:
    """32 hex digits of definition, entity, key and ordinal."""
    return sha256_hex(canonical_key(definition_id, legal_entity_id, ordinal, key))[:32]


def select_breaks(session: Session, definition_id: str) -> list[BreakRow]:
    """Every break of a definition that was ever found, by entity, key and ordinal."""
    order = (BreakRow.legal_entity_id, BreakRow.break_key, BreakRow.ordinal)
    return list(session.scalars(select(BreakRow).where(BreakRow.definition_id == definition_id).order_by(*order)))


def last_recorded(session: Session, definition_id: str) -> date | None:
    """The newest business date whose breaks were recorded; None before the first."""
    night = session.get(BreakNightRow, definition_id)
    if night is not None:
        return night.business_date
    return session.scalar(select(func.max(BreakRow.last_seen)).where(BreakRow.definition_id == definition_id))


def seen_until(session: Session, row: BreakRow) -> date:
    """The newest business date that found a break: one that is not closed was found by the newest run.

    So a night need not touch a million rows to say that nothing happened to them.
    """
    newest = None if row.state in CLOSED else last_recorded(session, row.definition_id)
    return newest or row.last_seen


def history(session: Session, identity: str, *, people: bool = False) -> list[Change]:
    """Everything that happened to one break, oldest first; with `people` also when, by whom and what they said.

    Without, two stores that came to the same by the same runs give the same.
    """
    rows = session.scalars(
        select(BreakChangeRow).where(BreakChangeRow.break_id == identity).order_by(BreakChangeRow.sequence)
    )
    return [
        Change(
            r.business_date,
            r.run_id,
            r.from_state,
            r.to_state,
            r.from_type,
            r.to_type,
            *((r.at, r.actor or NIGHT, r.action or "recorded", r.note, r.details) if people else ()),
        )
        for r in rows
    ]


_DECISIONS = ("resolve", "accept", "reject", "known_difference", "write_off", "approve_write_off")


def deciders(session: Session, legal_entity_id: str, since: datetime | None) -> set[str]:
    """Who resolved, accepted or wrote off breaks of an entity, or of the group, since an instant (ever, without one).

    They prepared what the journals of the entity are made of, so they may not approve them.
    """
    query = (
        select(BreakChangeRow.actor)
        .join(BreakRow, BreakRow.break_id == BreakChangeRow.break_id)
        .where(
            BreakRow.legal_entity_id.in_([legal_entity_id, ""]),
            BreakChangeRow.action.in_(_DECISIONS),
        )
        .distinct()
    )
    if since is not None:
        query = query.where(BreakChangeRow.at > since)
    return {actor for actor in session.scalars(query) if actor}


def record(
    session: Session,
    definition_id: str,
    business_date: date,
    run_id: str,
    found: Iterable[Sighting],
    gone: Iterable[Sighting],
    now: datetime,
) -> int:
    """Bring the store to what a run found; gives how many breaks changed type or state.

    `found` are the breaks that are new or differ from what is kept; every other one that is neither closed nor `gone`
    was found as it was. A run of a business date before the newest recorded one changes nothing: it looks back, it does
    not decide. A break that a person moved while the run worked stays where the person put it.
    """
    newest = last_recorded(session, definition_id)
    if newest is not None and business_date < newest:
        return 0
    session.merge(BreakNightRow(definition_id=definition_id, business_date=business_date))
    counts: dict[str, int] = {}
    digest = hashlib.sha256()
    stamp = {"business_date": business_date, "run_id": run_id, "at": now}
    for is_gone, sightings in ((False, found), (True, gone)):
        for chunk in _chunks(sightings):
            changes = _take_in(session, chunk, newest or business_date if is_gone else business_date, is_gone=is_gone)
            for change in changes:
                counts[str(change["to_state"])] = counts.get(str(change["to_state"]), 0) + 1
                digest.update("|".join(str(value) for value in change.values()).encode() + b"\n")
            if changes:
                _insert(session, BreakChangeRow, [change | stamp for change in changes])
    if counts:
        payload: Mapping[str, object] = {
            "business_date": business_date,
            "run_id": run_id,
            "to_state": counts,
            "changes_sha256": digest.hexdigest(),
        }
        audit.append(session, f"breaks/{definition_id}", "breaks recorded", NIGHT, payload, now, definition_id)
    return sum(counts.values())


def _chunks(sightings: Iterable[Sighting]) -> Iterator[list[Sighting]]:
    rest = iter(sightings)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _take_in(session: Session, sightings: list[Sighting], seen: date, *, is_gone: bool) -> list[dict[str, object]]:
    """Write what is new or different, last found on the date `seen`; gives the changes of type and state."""
    ids = [s.break_id for s in sightings if s.was_state is not None]
    now_states = dict(_states(session, ids))
    added: list[dict[str, object]] = []
    changed: list[dict[str, object]] = []
    changes: list[dict[str, object]] = []
    for sighting in sightings:
        identity, state = sighting.break_id, sighting.state
        if sighting.was_state is not None and now_states.get(identity) != sighting.was_state:
            if is_gone or identity not in now_states:
                continue  # a person closed it meanwhile
            state = now_states[identity]
        moved = state != (now_states[identity] if sighting.was_state is not None else None)
        values: dict[str, object] = {"break_id": identity, "state": state, "last_seen": seen}
        if not is_gone:
            values |= {name: getattr(sighting, name) for name in _FOUND}
        if sighting.was_state is None:
            added.append(values)
        elif moved:
            changed.append(values | _UNDECIDED)
        else:
            changed.append(values)
        if moved or sighting.was_type != sighting.break_type:
            changes.append(
                {
                    "break_id": identity,
                    "from_state": now_states.get(identity),
                    "to_state": state,
                    "from_type": sighting.was_type,
                    "to_type": sighting.break_type,
                    "note": sighting.note,
                }
            )
    if added:
        _insert(session, BreakRow, added)
    for with_decision in (True, False):  # one statement has one set of columns
        same = [row for row in changed if ("decided_by" in row) is with_decision]
        if same:
            session.execute(update(BreakRow), same)
    return changes


def _insert(session: Session, model: type[Base], rows: list[dict[str, object]]) -> None:
    """Insert rows as they are, without making an object of each."""
    session.execute(insert(Base.metadata.tables[model.__tablename__]), rows)


_FOUND = (
    "definition_id", "legal_entity_id", "break_key", "ordinal", "break_type", "owner", "currency", "value",
    "economic_date", "first_seen", "sentence", "content",
)  # fmt: skip
_UNDECIDED: dict[str, object] = dict.fromkeys(
    ("assignee", "cap", "cap_currency", "expires", "decided_by", "decided_on", "approved_by")
)
"""What a person decided ends with the state a run moves the break to."""


def _states(session: Session, ids: list[str]) -> Iterator[tuple[str, str]]:
    for start in range(0, len(ids), 500):
        found = session.execute(
            select(BreakRow.break_id, BreakRow.state).where(BreakRow.break_id.in_(ids[start : start + 500]))
        )
        yield from ((identity, state) for identity, state in found)
