"""Approvals: who prepared a batch, who was asked about it, what was decided; posting reads the decision here.

A decision binds the content hash. Whoever prepared the batch (domain rule "Approval") may not approve it. What Airflow
shows or was told counts for nothing until it is written here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import LedgerError
from tieout.ids import Slot
from tieout.store import audit, configuration, write_offs
from tieout.store.base import Base, Instant, Json
from tieout.store.batches import (
    REPOSTED,
    TAKEN_BACK,
    Batch,
    BatchRow,
    batch_id_of,
    get,
    select_batches,
    transition,
)
from tieout.store.breaks import deciders as break_deciders
from tieout.store.people import same_person
from tieout.store.runs import RunRow

SHAPING = ("posting_rules.yaml", "mappings/", "conform/", "entities.yaml", "erp/")
"""Configuration files that a journal is made by."""


class ApprovalRow(Base):
    """A decision on a batch; it binds the content hash, so a changed batch needs another one."""

    __tablename__ = "approvals"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    decision: Mapped[str] = mapped_column(String(20))
    approver: Mapped[str] = mapped_column(String(200))
    preparers: Mapped[Any] = mapped_column(Json)
    comment: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime] = mapped_column(Instant)


class ApprovalRequestRow(Base):
    """Who was asked about which content of a batch, by which run, and until when the answer is waited for."""

    __tablename__ = "approval_requests"

    run: Mapped[str] = mapped_column(String(250), primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    asked: Mapped[Any] = mapped_column(Json)
    asked_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    ended: Mapped[str | None] = mapped_column(String(20))
    """How it ended: approved, rejected, escalated, refused; null while it waits."""


@dataclass(frozen=True, slots=True)
class Preparer:
    """Somebody who may not approve a batch, and why."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Request:
    """A question that was put: about which batch and content, and until when it waits."""

    run: str
    batch_id: str
    content_hash: str
    asked: tuple[str, ...]
    asked_at: datetime
    expires_at: datetime
    ended: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, by whom, and who counted as preparer then."""

    decision: str
    approver: str
    comment: str
    preparers: tuple[str, ...]


def gross_of_slot(session: Session, slot: Slot, before: int | None = None) -> dict[str, Decimal]:
    """Gross debits by currency of a slot's versions (those before a version) that were posted or still may be.

    What was posted and reversed counts: it moved, and it is posted again. So neither splitting nor going back and
    forth keeps a slot under its threshold.
    """
    gross: dict[str, Decimal] = {}
    for batch in select_batches(session, slot=slot):
        if batch.state in ("rejected", "rejected_by_approver") or (before is not None and batch.version >= before):
            continue
        for currency, amount in batch.gross.items():
            gross[currency] = gross.get(currency, Decimal(0)) + amount
    return gross


def vouched_until(session: Session, slot: Slot) -> datetime | None:
    """When the newest approved batch of the slot's entity, ledger and stream was planned.

    Its approver saw what was made by the rules and decisions of that moment, and vouches for no later ones. Streams are
    kept apart: an approved cash batch vouches for no change to what billing is made by.
    """
    return session.scalar(
        select(func.max(BatchRow.planned_at))
        .join(ApprovalRow, BatchRow.batch_id == ApprovalRow.batch_id)
        .where(
            BatchRow.legal_entity_id == slot.legal_entity_id,
            BatchRow.ledger == slot.ledger,
            BatchRow.stream == slot.stream,
            ApprovalRow.decision == "approved",
        )
    )


def preparers(session: Session, batch: Batch) -> tuple[Preparer, ...]:
    """Who, since the newest approved batch of the stream was planned, changed a rule or mapping, decided about breaks
    or asked for a posting backfill.

    Changes count once they are in force, breaks if they are the entity's or the group's, backfills if they include the
    entity; who asked for the run that planned the batch always counts.
    """
    since, entity = vouched_until(session, batch.slot), batch.slot.legal_entity_id
    found = [Preparer(who, "decided about breaks") for who in break_deciders(session, entity, since)]
    found += [Preparer(who, "decided about the write-off") for who in write_offs.preparers(session, batch.batch_id)]
    found += [Preparer(who, "changed rules or mappings") for who in configuration.authors(session, SHAPING, since)]
    query = select(RunRow).where((RunRow.kind == "backfill") | (RunRow.run_id == batch.run_id))
    for run in session.scalars(query):
        asked_by, own = run.params.get("asked_by"), run.run_id == batch.run_id
        posts = run.params.get("mode") == "post" and entity in run.params.get("entities", ())
        recent = since is None or run.started_at > since
        if asked_by and (own or (posts and recent)):
            found.append(Preparer(asked_by, f"asked for the {run.kind}"))
    return tuple(sorted(set(found), key=lambda p: (p.who.casefold(), p.why)))


def unasked(session: Session, now: datetime) -> list[str]:
    """Batches that wait for a decision while no question about them is open, in posting order."""
    open_now = set(
        session.scalars(
            select(ApprovalRequestRow.batch_id).where(
                ApprovalRequestRow.ended.is_(None), ApprovalRequestRow.expires_at > now
            )
        )
    )
    waiting = select_batches(session, states=["awaiting_approval"])
    return [batch.batch_id for batch in waiting if batch.batch_id not in open_now]


def ask(session: Session, batch_id: str, run: str, asked: Iterable[str], expires_at: datetime, now: datetime) -> None:
    """Record that a run asks about a batch as it now is; a run that asks again keeps its record."""
    batch, named = get(session, batch_id), sorted(asked)
    row = session.get(ApprovalRequestRow, run)
    if row is None:
        row = ApprovalRequestRow(run=run, batch_id=batch_id)
        session.add(row)
    row.content_hash, row.asked, row.asked_at, row.expires_at, row.ended = (
        batch.content_hash, named, now, expires_at, None,
    )  # fmt: skip
    facts = {"content_hash": batch.content_hash, "asked": named, "expires_at": expires_at, "run": run}
    audit.append(session, batch.chain, "approval.asked", "tieout", facts, now, subject=batch_id)


def request(session: Session, run: str) -> Request | None:
    """What a run asked."""
    r = session.get(ApprovalRequestRow, run)
    if r is None:
        return None
    return Request(r.run, r.batch_id, r.content_hash, tuple(r.asked), r.asked_at, r.expires_at, r.ended)


def escalated(session: Session, batch_id: str) -> bool:
    """Whether a question about the batch was left unanswered."""
    query = select(ApprovalRequestRow.run).where(
        ApprovalRequestRow.batch_id == batch_id, ApprovalRequestRow.ended == "escalated"
    )
    return session.scalar(query.limit(1)) is not None


def escalate(session: Session, run: str, owner: str, reason: str, now: datetime) -> Batch:
    """End a run's question without a decision: the batch stays where it is, and `owner` owns it from now on."""
    asked = session.get(ApprovalRequestRow, run)
    if asked is None:
        raise LedgerError("nobody was asked by this run", record=run)
    asked.ended = "escalated"
    row = session.get(BatchRow, asked.batch_id, with_for_update=True, populate_existing=True)
    assert row is not None  # noqa: S101  held by the foreign key
    batch = get(session, asked.batch_id)
    if row.state == "awaiting_approval":
        row.owner, row.reason = owner, reason
    audit.append(
        session, batch.chain, "approval.escalated", "tieout", {"run": run, "owner": owner, "reason": reason}, now,
        subject=batch.batch_id,
    )  # fmt: skip
    session.flush()
    return get(session, batch.batch_id)


def decide(
    session: Session,
    batch_id: str,
    digest: str,
    *,
    approver: str,
    accept: bool,
    comment: str,
    now: datetime,
    allowed: Collection[str] = (),
    also_known_as: Collection[str] = (),
    also_prepared: Iterable[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Batch:
    """Record a decision on a batch that waits for one, and move it.

    `allowed`: who may decide, anybody if empty. `also_known_as`: the approver's names elsewhere, as which they may have
    prepared it. Raises LedgerError if the approver prepared it, is not allowed to
    decide, gives no reason for a rejection, or decided on other content than the batch now has.
    """
    batch = get(session, batch_id)
    who = approver.strip()
    prepared = (*preparers(session, batch), *(Preparer(name, "named as preparer") for name in also_prepared))
    own = [p.why for p in prepared if any(same_person(p.who, name) for name in (who, *also_known_as))]
    if not who:
        raise LedgerError("a decision needs somebody who takes it", record=batch_id)
    if accept and own:
        raise LedgerError(
            f"a preparer may not approve: {who} {own[0]}", record=batch_id,
            remedy="ask somebody who prepared none of it",
        )  # fmt: skip
    if allowed and not own and not any(same_person(name, who) for name in allowed):
        raise LedgerError("not among those who may decide", record=batch_id, got=who, expected=sorted(allowed))
    if not accept and not comment.strip():
        raise LedgerError("a rejection needs a reason", record=batch_id)
    if digest != batch.content_hash:
        raise LedgerError(
            "the decision is about other content", record=batch_id, expected=batch.content_hash, got=digest
        )
    names = sorted({p.who for p in prepared})
    decision = "approved" if accept else "rejected"
    session.add(
        ApprovalRow(
            batch_id=batch_id,
            content_hash=digest,
            decision=decision,
            approver=who,
            preparers=names,
            comment=comment,
            decided_at=now,
        )
    )
    still_open = select(ApprovalRequestRow).where(
        ApprovalRequestRow.batch_id == batch_id, ApprovalRequestRow.ended.is_(None)
    )
    for asked in session.scalars(still_open):
        asked.ended = decision
    if not accept:
        _reject_pair(session, batch, who, comment, now)
    return transition(
        session,
        batch_id,
        "approved" if accept else "rejected_by_approver",
        actor=who,
        now=now,
        facts={"approver": who, "preparers": names, "comment": comment} | dict(facts or {}),
        reason=None if accept else comment,
    )


def _reject_pair(session: Session, batch: Batch, who: str, comment: str, now: datetime) -> None:
    """Of a restated slot neither half goes alone: what is not taken back is not posted anew, nor the other way round.

    A half that may have reached the ERP stays; the next plan posts what differs then.
    """
    step = {TAKEN_BACK: 1, REPOSTED: -1}.get(batch.kind)
    other = session.get(BatchRow, batch_id_of(batch.slot, batch.version + step)) if step else None
    if other is None or {other.kind, batch.kind} != {TAKEN_BACK, REPOSTED}:
        return
    if other.state == "approved":
        transition(session, other.batch_id, "awaiting_approval", actor=who, now=now, reason=comment)
    if other.state == "awaiting_approval":
        reason = f"{batch.batch_id} was rejected: {comment}"
        transition(session, other.batch_id, "rejected_by_approver", actor=who, now=now, reason=reason)


def refuse_second(session: Session, batch: Batch, who: str, allowed: Collection[str] = ()) -> None:
    """Raise LedgerError if somebody may not be the second person of what is done with a batch by hand.

    The same rule as for its approval: no preparer, and one of `allowed`, if any are named.
    """
    if any(same_person(p.who, who) for p in preparers(session, batch)):
        raise LedgerError("a preparer may not approve", record=batch.batch_id, got=who)
    if allowed and not any(same_person(name, who) for name in allowed):
        raise LedgerError("not among those who may approve", record=batch.batch_id, got=who, expected=sorted(allowed))


def refuse(session: Session, batch_id: str, who: str, why: str, now: datetime) -> None:
    """Audit an answer that could not count; the batch goes on waiting."""
    batch = get(session, batch_id)
    audit.append(session, batch.chain, "approval.refused", who, {"why": why}, now, subject=batch_id)


def decision(session: Session, batch_id: str) -> Decision | None:
    """The newest decision on a batch."""
    row = _newest(session, batch_id)
    return None if row is None else Decision(row.decision, row.approver, row.comment, tuple(row.preparers))


def is_approved(session: Session, batch: Batch) -> bool:
    """Whether the newest decision on the batch approves exactly its content."""
    row = _newest(session, batch.batch_id)
    return row is not None and row.decision == "approved" and row.content_hash == batch.content_hash


def _newest(session: Session, batch_id: str) -> ApprovalRow | None:
    return session.scalar(
        select(ApprovalRow).where(ApprovalRow.batch_id == batch_id).order_by(ApprovalRow.id.desc()).limit(1)
    )
