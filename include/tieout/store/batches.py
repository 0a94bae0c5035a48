"""Journal batches: what is to be posted for a slot and version, the state machine, the write-ahead record.

A batch is one slot and version; it holds one or more journals (one per currency, more where an ERP's line limit
splits it). A journal's exact content is stored when the batch is planned, so that what is submitted, looked up
and read back is the same text whatever process does it. Every change of state is audited in its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Date, ForeignKey, Integer, String, Text, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import IllegalTransition, LedgerError, StoreError
from tieout.ids import Slot, content_hash, run_key
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant, Json

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "planned": frozenset({"validated"}),
    "validated": frozenset({"awaiting_approval", "submitted"}),
    "awaiting_approval": frozenset({"approved", "rejected_by_approver"}),
    "approved": frozenset({"submitted", "awaiting_approval"}),
    "submitted": frozenset({"confirmed", "rejected", "unknown", "partially_posted"}),
    "unknown": frozenset({"confirmed", "submitted", "partially_posted", "manually_resolved"}),
    "partially_posted": frozenset({"submitted", "confirmed", "unknown", "mismatched", "manually_resolved"}),
    "confirmed": frozenset({"posted", "mismatched", "partially_posted", "unknown"}),
    "mismatched": frozenset({"posted", "partially_posted", "reversing"}),
    "posted": frozenset({"reversing"}),
    "reversing": frozenset({"reversing", "reversed", "posted", "mismatched"}),
    "rejected": frozenset({"manually_resolved"}),
    "rejected_by_approver": frozenset(),
    "reversed": frozenset(),
    "manually_resolved": frozenset(),
}
"""From each state, where a batch may go. `partially_posted` takes part only where a batch has several journals.

`reversing` is one whose mirrors are being sent; with nothing of them in the ledger it goes back to what it was.
"""

STATES = tuple(TRANSITIONS)
RESUMABLE = ("validated", "approved", "submitted", "unknown", "partially_posted", "confirmed")
"""States from which the protocol goes on by itself."""

FINISHED = ("posted", "reversed", "manually_resolved", "rejected_by_approver")
UNFINISHED = tuple(state for state in STATES if state not in (*FINISHED, "rejected"))
"""States in which a batch keeps later versions of its slot waiting."""

VOIDED = ("rejected", "rejected_by_approver", "reversed")
"""States whose content is not, and will not come to be, in the ledger; the next version carries it again."""

WRITE_OFF = "write_off"
"""Kind of a batch that writes a break off, its `origin`; its stream is told by the beginning of the break's id."""

REVERSAL = "reversal"
"""Kind of a batch that mirrors another one, its `origin`."""

TAKEN_BACK, REPOSTED = "taken_back", "reposted"
"""Kinds of the two versions by which a restated slot is taken back whole and posted anew."""

ALWAYS_APPROVED = (REVERSAL, TAKEN_BACK, REPOSTED, WRITE_OFF)
"""Kinds that take something out of a ledger: a second person approves them, whatever they amount to."""

NOT_POSTED = "not_posted"
"""State of a journal that two people said is not to be posted: it never stood in the ledger, and does not count."""

BY_HAND = "by_hand"
"""State of a journal that an equal document stands for, which somebody wrote into the ERP; its `erp_id` names it."""

JOURNAL_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"submitted", "confirmed", BY_HAND, NOT_POSTED}),
    "submitted": frozenset({"confirmed", "rejected", "unknown", "pending", BY_HAND, NOT_POSTED}),
    "unknown": frozenset({"confirmed", "submitted", BY_HAND, NOT_POSTED}),
    "confirmed": frozenset({"posted", "mismatched", "unknown"}),
    "mismatched": frozenset({"posted", "reversed", "rejected", BY_HAND, NOT_POSTED}),
    "rejected": frozenset({"submitted", "confirmed", BY_HAND, NOT_POSTED}),
    "posted": frozenset({"reversed"}),
    "reversed": frozenset(),
    BY_HAND: frozenset(),
    NOT_POSTED: frozenset(),
}
"""A journal that was rejected is sent again only as the missing part of a `partially_posted` batch; so is one that was
`mismatched` because it is not there, once a person has looked."""


class BatchRow(Base):
    """A slot's version: its content by hash, its state, what it corrects or reverses."""

    __tablename__ = "batches"
    __table_args__ = (UniqueConstraint("slot", "version"),)

    batch_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    slot: Mapped[str] = mapped_column(String(160), index=True)
    version: Mapped[int] = mapped_column(Integer)
    legal_entity_id: Mapped[str] = mapped_column(String(16), index=True)
    ledger: Mapped[str] = mapped_column(String(40))
    period: Mapped[str] = mapped_column(String(7), index=True)
    stream: Mapped[str] = mapped_column(String(40))
    business_date: Mapped[date] = mapped_column(Date)
    accounting_date: Mapped[date] = mapped_column(Date)
    kind: Mapped[str] = mapped_column(String(20))
    origin: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(30), index=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    gross: Mapped[Any] = mapped_column(Json)
    needs_approval: Mapped[bool] = mapped_column(Boolean)
    counts: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str | None] = mapped_column(Text)
    owner: Mapped[str | None] = mapped_column(String(100))
    run_id: Mapped[str] = mapped_column(String(250))
    attempts: Mapped[int] = mapped_column(Integer)
    planned_at: Mapped[datetime] = mapped_column(Instant)
    changed_at: Mapped[datetime] = mapped_column(Instant)


class BatchJournalRow(Base):
    """A journal of a batch: the content to post, and how far posting it got (the write-ahead record)."""

    __tablename__ = "batch_journals"

    run_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    short_key: Mapped[str] = mapped_column(String(16), unique=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str] = mapped_column(String(3))
    accounting_date: Mapped[date] = mapped_column(Date)
    debit: Mapped[Decimal] = mapped_column(Amount)
    line_count: Mapped[int] = mapped_column(Integer)
    content: Mapped[Any] = mapped_column(Json)
    content_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(20))
    attempts: Mapped[int] = mapped_column(Integer)
    fence: Mapped[int | None] = mapped_column(Integer)
    anchor: Mapped[str | None] = mapped_column(String(80))
    submitted_at: Mapped[datetime | None] = mapped_column(Instant)
    erp_id: Mapped[str | None] = mapped_column(String(100))
    erp_number: Mapped[str | None] = mapped_column(String(100))
    note: Mapped[str | None] = mapped_column(Text)


@dataclass(frozen=True, slots=True)
class PlannedJournal:
    """A journal to be stored with its batch. `content` is what will be posted, as canonical JSON values."""

    run_key: str
    short_key: str
    currency: str
    accounting_date: date
    debit: Decimal
    line_count: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BatchJournal:
    """A journal of a batch and how far posting it got."""

    run_key: str
    short_key: str
    batch_id: str
    number: int
    currency: str
    accounting_date: date
    debit: Decimal
    line_count: int
    content: Mapping[str, Any]
    content_hash: str
    state: str
    attempts: int
    submitted_at: datetime | None
    erp_id: str | None
    erp_number: str | None
    note: str | None
    anchor: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror that `posting reverse` made of a journal: under which key, where the ERP holds it, dated when.

    `of`: the ERP's id of what it mirrors; None where that was not noted yet.
    """

    run_key: str
    erp_id: str
    on: date
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A slot's version. `counts`: its content is, or is expected to come to be, in the ledger."""

    batch_id: str
    slot: Slot
    version: int
    accounting_date: date
    kind: str
    origin: str | None
    state: str
    content_hash: str
    gross: Mapping[str, Decimal]
    needs_approval: bool
    counts: bool
    reason: str | None
    owner: str | None
    run_id: str
    attempts: int
    planned_at: datetime
    changed_at: datetime
    journals: tuple[BatchJournal, ...]

    @property
    def chain(self) -> str:
        """The audit chain of its ledger."""
        return chain_of(self.slot.legal_entity_id, self.slot.ledger)

    @property
    def counting(self) -> tuple[BatchJournal, ...]:
        """Its journals whose content is, or is expected to come to be, in the ledger."""
        return tuple(journal for journal in self.journals if self.counts and journal.state != NOT_POSTED)

    @property
    def halts(self) -> bool:
        """Whether its stream waits because the ERP holds one of its journals otherwise than it was sent."""
        return self.state == "mismatched" or any(journal.state == "mismatched" for journal in self.journals)


def chain_of(entity: str, ledger: str) -> str:
    """The audit chain, and the writer lease, of an entity's ledger."""
    return f"{entity}/{ledger}"


def chain_of_batch(batch_id: str) -> str:
    """The audit chain of a batch's ledger, from its id alone."""
    return "/".join(batch_id.split("/")[1:3])


def batch_id_of(slot: Slot, version: int) -> str:
    """A batch's id: the run key of its slot and version."""
    return run_key(slot, version)


def plan(
    session: Session,
    slot: Slot,
    version: int,
    journals: Iterable[PlannedJournal],
    *,
    digest: str,
    accounting_date: date,
    kind: str,
    origin: str | None,
    needs_approval: bool,
    run_id: str,
    actor: str,
    now: datetime,
    facts: Mapping[str, Any] | None = None,
) -> Batch:
    """Store a batch as planned, with its journals. The same slot, version and content again changes nothing.

    One that takes something out of the ledger always needs approval, whoever plans it.

    Raises LedgerError if the slot's version exists with other content.
    """
    batch_id = batch_id_of(slot, version)
    existing = session.get(BatchRow, batch_id)
    if existing is not None:
        if existing.content_hash != digest:
            raise LedgerError(
                "the slot's version exists with other content",
                record=batch_id,
                expected=existing.content_hash,
                got=digest,
                remedy="plan it as the next version",
            )
        return get(session, batch_id)
    listed = list(journals)
    gross: dict[str, Decimal] = {}
    for journal in listed:
        gross[journal.currency] = gross.get(journal.currency, Decimal(0)) + journal.debit
    session.add(
        BatchRow(
            batch_id=batch_id,
            slot=str(slot),
            version=version,
            legal_entity_id=slot.legal_entity_id,
            ledger=slot.ledger,
            period=slot.period,
            stream=slot.stream,
            business_date=slot.business_date,
            accounting_date=accounting_date,
            kind=kind,
            origin=origin,
            state="planned",
            content_hash=digest,
            gross=gross,
            needs_approval=needs_approval or kind in ALWAYS_APPROVED,
            counts=True,
            run_id=run_id,
            attempts=0,
            planned_at=now,
            changed_at=now,
        )
    )
    session.flush()
    for number, journal in enumerate(listed, 1):
        session.add(
            BatchJournalRow(
                run_key=journal.run_key,
                short_key=journal.short_key,
                batch_id=batch_id,
                number=number,
                currency=journal.currency,
                accounting_date=journal.accounting_date,
                debit=journal.debit,
                line_count=journal.line_count,
                content=dict(journal.content),
                content_hash=content_hash(journal.content),
                state="pending",
                attempts=0,
            )
        )
    session.flush()
    audit.append(
        session,
        chain_of(slot.legal_entity_id, slot.ledger),
        "batch.planned",
        actor,
        {
            "content_hash": digest,
            "gross": gross,
            "journals": {j.run_key: content_hash([j.accounting_date, j.content]) for j in listed},
            "kind": kind,
            "origin": origin,
            "run_id": run_id,
        }
        | dict(facts or {}),
        now,
        subject=batch_id,
    )
    return get(session, batch_id)


def get(session: Session, batch_id: str) -> Batch:
    """A batch with its journals. Raises StoreError if there is none."""
    row = session.get(BatchRow, batch_id)
    if row is None:
        raise StoreError("no such batch", got=batch_id)
    return _batch(row, _journal_rows(session, [batch_id]).get(batch_id, []))


def state_of(session: Session, batch_id: str, *, lock: bool = False) -> str:
    """A batch's state, without reading its journals; with `lock` it stays so until the transaction ends.

    Raises StoreError if there is none.
    """
    query = select(BatchRow.state).where(BatchRow.batch_id == batch_id)
    state = session.scalar(query.with_for_update() if lock else query)
    if state is None:
        raise StoreError("no such batch", got=batch_id)
    return state


def select_batches(
    session: Session,
    *,
    slot: Slot | None = None,
    entity: str | None = None,
    stream: str | None = None,
    period: str | None = None,
    states: Iterable[str] | None = None,
) -> list[Batch]:
    """Batches in the order they must be posted: by entity, business date, stream, version."""
    query = select(BatchRow).order_by(
        BatchRow.legal_entity_id, BatchRow.ledger, BatchRow.business_date, BatchRow.stream, BatchRow.version
    )
    if slot is not None:
        query = query.where(BatchRow.slot == str(slot))
    if entity is not None:
        query = query.where(BatchRow.legal_entity_id == entity)
    if stream is not None:
        query = query.where(BatchRow.stream == stream)
    if period is not None:
        query = query.where(BatchRow.period == period)
    if states is not None:
        query = query.where(BatchRow.state.in_(list(states)))
    rows = list(session.scalars(query))
    journals = _journal_rows(session, [r.batch_id for r in rows])
    return [_batch(row, journals.get(row.batch_id, [])) for row in rows]


def concerning_period(session: Session, entity: str, period: str) -> list[Batch]:
    """The batches of a fiscal period and those of earlier ones whose mirrors, half sent, may be dated in it."""
    being_reversed = select_batches(session, entity=entity, states=["reversing"])
    earlier = [batch for batch in being_reversed if batch.slot.period < period]
    return earlier + select_batches(session, entity=entity, period=period)


def mirrors_of(session: Session, batch: Batch) -> list[Mirror]:
    """The mirrors by which a batch was taken out of the ledger, as they were read back; none for any other batch."""
    if not any(journal.state == "reversed" for journal in batch.journals):
        return []
    return [
        Mirror(mirror["run_key"], mirror["erp_id"], date.fromisoformat(act.payload["on"]), mirror.get("of"))
        for act in audit.entries(session, batch.chain, batch.batch_id)
        if act.action == "batch.reversed"
        for mirror in act.payload.get("mirrors", ())
    ]


def next_version(session: Session, slot: Slot) -> int:
    """The version a new batch of the slot would get."""
    newest = session.scalar(select(func.max(BatchRow.version)).where(BatchRow.slot == str(slot)))
    return (newest or 0) + 1


def transition(
    session: Session,
    batch_id: str,
    to: str,
    *,
    actor: str,
    now: datetime,
    facts: Mapping[str, Any] | None = None,
    reason: str | None = None,
    owner: str | None = None,
) -> Batch:
    """Move a batch and audit it in the same transaction. Raises IllegalTransition where there is no such step."""
    row = session.get(BatchRow, batch_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise StoreError("no such batch", got=batch_id)
    if to not in TRANSITIONS.get(row.state, frozenset()):
        raise IllegalTransition(
            f"a batch cannot go from {row.state} to {to}",
            record=batch_id,
            expected=sorted(TRANSITIONS[row.state]) or "nothing: the state is final",
            got=to,
        )
    before, counted, row.state, row.changed_at = row.state, row.counts, to, now
    row.reason, row.owner, row.counts = reason, owner, to not in VOIDED
    if to == "manually_resolved":
        states = session.scalars(select(BatchJournalRow.state).where(BatchJournalRow.batch_id == batch_id))
        row.counts = any(state != NOT_POSTED for state in states)
    session.flush()
    payload = {"from": before, "to": to, "content_hash": row.content_hash, "reason": reason, "owner": owner}
    audit.append(
        session,
        chain_of(row.legal_entity_id, row.ledger),
        f"batch.{to}",
        actor,
        payload | dict(facts or {}),
        now,
        subject=batch_id,
    )
    if row.kind == REVERSAL and row.counts and to in ("posted", "manually_resolved"):
        _note_reversed(session, row, actor, now)
    if row.kind == REVERSAL and row.counts != counted:
        from tieout.store import late_events  # it knows batches

        late_events.follow(session, batch_id, counts=row.counts, actor=actor, now=now)
    return get(session, batch_id)


def _note_reversed(session: Session, reversal: BatchRow, actor: str, now: datetime) -> None:
    """A reversal stands in the ledger: audit it with its origin, which is `reversed` once nothing of it is left.

    Both go on to count, because together they are nothing.
    """
    origin = session.get(BatchRow, reversal.origin, with_for_update=True, populate_existing=True)
    if origin is None or origin.state != "posted":
        return
    mirrors = session.scalars(
        select(BatchRow).where(BatchRow.origin == origin.batch_id, BatchRow.kind == REVERSAL, BatchRow.counts)
    )
    taken: dict[str, Decimal] = {}
    for mirror in mirrors:
        if mirror.state in ("posted", "manually_resolved"):
            for currency, amount in mirror.gross.items():
                taken[currency] = taken.get(currency, Decimal(0)) + Decimal(amount)
    is_whole = taken == {currency: Decimal(amount) for currency, amount in origin.gross.items()}
    if is_whole:
        origin.state, origin.changed_at, origin.reason = "reversed", now, f"reversed by {reversal.batch_id}"
    session.flush()
    audit.append(
        session,
        chain_of(origin.legal_entity_id, origin.ledger),
        "batch.reversed" if is_whole else "batch.partly_reversed",
        actor,
        {"reversal": reversal.batch_id, "taken_back": taken, "of": origin.gross, "content_hash": origin.content_hash},
        now,
        subject=origin.batch_id,
    )


def next_attempt(session: Session, batch_id: str) -> int:
    """Count one more attempt at posting a batch; gives its number, from 1."""
    row = session.get(BatchRow, batch_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise StoreError("no such batch", got=batch_id)
    row.attempts += 1
    return row.attempts


def mark_journal(
    session: Session,
    key: str,
    to: str,
    *,
    actor: str,
    now: datetime,
    fence: int | None = None,
    erp_id: str | None = None,
    erp_number: str | None = None,
    note: str | None = None,
) -> BatchJournal:
    """Move one journal of a batch and audit it. Going to `submitted` is the write-ahead record of an attempt.

    With the first attempt the journal gets its anchor, the end of the audit chain with that record; later ones send
    the same.
    """
    row = session.get(BatchJournalRow, key, with_for_update=True, populate_existing=True)
    if row is None:
        raise StoreError("no such journal", got=key)
    if to not in JOURNAL_TRANSITIONS[row.state]:
        raise IllegalTransition(f"a journal cannot go from {row.state} to {to}", record=key)
    batch = session.get(BatchRow, row.batch_id)
    assert batch is not None  # noqa: S101  held by the foreign key
    chain = chain_of(batch.legal_entity_id, batch.ledger)
    before, row.state, row.note = row.state, to, note
    if to == "submitted":
        row.attempts, row.submitted_at, row.fence = row.attempts + 1, now, fence
    row.erp_id, row.erp_number = erp_id or row.erp_id, erp_number or row.erp_number
    session.flush()
    audit.append(
        session,
        chain,
        f"journal.{to}",
        actor,
        {
            "run_key": key,
            "from": before,
            "attempt": row.attempts,
            "fence": fence,
            "content_hash": row.content_hash,
            "erp_id": row.erp_id,
            "erp_number": row.erp_number,
            "note": note,
        },
        now,
        subject=row.batch_id,
    )
    if to == "submitted" and row.attempts == 1:
        row.anchor = audit.memo(audit.anchor(session, chain, now), key)
    return _journal(row)


def audited_state(session: Session, batch: Batch) -> str | None:
    """The state that the audit log says the batch is in; None where it knows of none."""
    told = {f"batch.{state}": state for state in STATES}
    acts = audit.entries(session, batch.chain, batch.batch_id)
    return next((told[act.action] for act in reversed(acts) if act.action in told), None)


def altered(session: Session, batch: Batch) -> list[str]:
    """Journals whose stored content or date is not what was audited when the batch was planned."""
    for entry in audit.entries(session, batch.chain, batch.batch_id):
        if entry.action == "batch.planned":
            audited = entry.payload["journals"]
            break
    else:
        return [journal.run_key for journal in batch.journals]
    return [
        journal.run_key
        for journal in batch.journals
        if content_hash(journal.content) != journal.content_hash
        # what was planned before contents were audited one by one has their names only
        or (
            isinstance(audited, dict)
            and audited.get(journal.run_key) != content_hash([journal.accounting_date, journal.content])
        )
    ]


def standing_for(session: Session, batch: Batch, erp_id: str) -> list[str]:
    """The journals of the batch's entity and ledger that a document in the ERP stands for."""
    query = (
        select(BatchJournalRow.run_key)
        .join(BatchRow, BatchRow.batch_id == BatchJournalRow.batch_id)
        .where(
            BatchRow.legal_entity_id == batch.slot.legal_entity_id,
            BatchRow.ledger == batch.slot.ledger,
            BatchJournalRow.erp_id == erp_id,
        )
        .order_by(BatchJournalRow.run_key)
    )
    return list(session.scalars(query))


def _journal_rows(session: Session, batch_ids: list[str]) -> dict[str, list[BatchJournalRow]]:
    found: dict[str, list[BatchJournalRow]] = {}
    for start in range(0, len(batch_ids), 500):
        query = (
            select(BatchJournalRow)
            .where(BatchJournalRow.batch_id.in_(batch_ids[start : start + 500]))
            .order_by(BatchJournalRow.batch_id, BatchJournalRow.number)
        )
        for row in session.scalars(query):
            found.setdefault(row.batch_id, []).append(row)
    return found


def _batch(row: BatchRow, journals: list[BatchJournalRow]) -> Batch:
    return Batch(
        batch_id=row.batch_id,
        slot=Slot.parse(row.slot),
        version=row.version,
        accounting_date=row.accounting_date,
        kind=row.kind,
        origin=row.origin,
        state=row.state,
        content_hash=row.content_hash,
        gross={c: Decimal(a) for c, a in row.gross.items()},
        needs_approval=row.needs_approval,
        counts=row.counts,
        reason=row.reason,
        owner=row.owner,
        run_id=row.run_id,
        attempts=row.attempts,
        planned_at=row.planned_at,
        changed_at=row.changed_at,
        journals=tuple(_journal(j) for j in journals),
    )


def _journal(row: BatchJournalRow) -> BatchJournal:
    return BatchJournal(
        run_key=row.run_key,
        short_key=row.short_key,
        batch_id=row.batch_id,
        number=row.number,
        currency=row.currency,
        accounting_date=row.accounting_date,
        debit=row.debit,
        line_count=row.line_count,
        content=row.content,
        content_hash=row.content_hash,
        state=row.state,
        attempts=row.attempts,
        submitted_at=row.submitted_at,
        erp_id=row.erp_id,
        erp_number=row.erp_number,
        note=row.note,
        anchor=row.anchor or "",
    )
