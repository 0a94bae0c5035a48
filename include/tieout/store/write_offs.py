"""Write-offs of breaks: what was asked for, by whom, and what became of its batch; a break follows its batch here.

A break is `written_off` once the batch of its write-off was read back, and open again where that batch is refused,
withdrawn or reversed. How much of a break stands written off is always told by the batches, never counted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Date, ForeignKey, Integer, String, and_, exists, func, insert, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import LedgerError
from tieout.store import audit, batches
from tieout.store.base import Amount, Base
from tieout.store.batches import BatchRow
from tieout.store.breaks import NIGHT, BreakChangeRow, BreakRow, last_recorded

WITHDRAWABLE = ("awaiting_approval", "approved")
"""States in which nothing of a batch can have reached the ERP: what nobody wants any more is taken back."""

_STANDING = ("posted", "manually_resolved")
"""States in which a batch may stand in the ledger."""


class WriteOffRow(Base):
    """A write-off that was asked for: of how much of a break, on which account, and the batch that posts it."""

    __tablename__ = "write_offs"

    break_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    difference: Mapped[Decimal] = mapped_column(Amount)
    """What is written off: left − right, less what stands written off already."""
    value: Mapped[Decimal] = mapped_column(Amount)
    """What the break was worth when it was asked for."""
    currency: Mapped[str] = mapped_column(String(3))
    role: Mapped[str] = mapped_column(String(60))
    side: Mapped[str] = mapped_column(String(6))
    """The side on which the role's account is posted."""
    asked_by: Mapped[str] = mapped_column(String(200))
    approved_by: Mapped[str | None] = mapped_column(String(200))
    approved_on: Mapped[date | None] = mapped_column(Date)
    """The newest business date when it was approved: dates the journal."""
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("batches.batch_id"), index=True)
    ended: Mapped[str | None] = mapped_column(String(20))
    """posted, refused, withdrawn or reversed; null while it is under way."""


@dataclass(frozen=True, slots=True)
class ToWriteOff:
    """What of a break can be written off, and where: `role` on `side`, against the write-off account."""

    difference: Decimal
    currency: str
    role: str
    side: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A write-off that two people agreed on and that no batch carries yet."""

    break_id: str
    number: int
    definition_id: str
    legal_entity_id: str
    break_key: str
    sentence: str
    amount: Decimal
    currency: str
    role: str
    side: str
    approved_on: date
    asked_by: str
    approved_by: str


def request(session: Session, break_id: str, what: ToWriteOff, value: Decimal, actor: str, now: datetime) -> None:
    """Keep what a write-off was asked of; an earlier one that the break left behind ends."""
    withdraw(session, break_id, actor, "asked for anew", now)
    newest = session.scalar(select(func.max(WriteOffRow.number)).where(WriteOffRow.break_id == break_id))
    session.add(
        WriteOffRow(
            break_id=break_id, number=(newest or 0) + 1, difference=what.difference, value=value,
            currency=what.currency, role=what.role, side=what.side, asked_by=actor,
        )
    )  # fmt: skip
    session.flush()


def approve(session: Session, break_id: str, actor: str, on: date) -> None:
    """Keep who agreed to the write-off that is under way, and when."""
    row = _under_way(session, break_id)
    if row is None:
        raise LedgerError("no write-off was asked for", record=break_id)
    row.approved_by, row.approved_on = actor, on


def on_their_way(session: Session, break_ids: Sequence[str]) -> set[str]:
    """Those of the breaks whose write-off may have reached the ERP, so that it can no longer be taken back."""
    query = (
        select(WriteOffRow.break_id)
        .join(BatchRow, BatchRow.batch_id == WriteOffRow.batch_id)
        .where(
            WriteOffRow.break_id.in_(break_ids),
            WriteOffRow.ended.is_(None),
            BatchRow.state.not_in((*WITHDRAWABLE, "rejected", "rejected_by_approver")),
        )
    )
    return set(session.scalars(query))


def withdraw(session: Session, break_id: str, actor: str, reason: str, now: datetime) -> None:
    """End the write-off that is under way; a batch that still waits is never posted."""
    row = _under_way(session, break_id)
    if row is not None:
        _withdraw(session, row, actor, reason, now)


def _under_way(session: Session, break_id: str) -> WriteOffRow | None:
    return session.scalar(select(WriteOffRow).where(WriteOffRow.break_id == break_id, WriteOffRow.ended.is_(None)))


def _withdraw(session: Session, row: WriteOffRow, actor: str, reason: str, now: datetime) -> None:
    row.ended = "withdrawn"
    state = batches.state_of(session, row.batch_id) if row.batch_id else None
    if row.batch_id and state == "approved":
        batches.transition(session, row.batch_id, "awaiting_approval", actor=actor, now=now, reason=reason)
    if row.batch_id and state in WITHDRAWABLE:
        batches.transition(session, row.batch_id, "rejected_by_approver", actor=actor, now=now, reason=reason)


def accepted(session: Session) -> list[Accepted]:
    """The write-offs that need a batch: approved, and none carries them, or the ERP refused the one that did."""
    query = (
        select(WriteOffRow, BreakRow)
        .join(BreakRow, BreakRow.break_id == WriteOffRow.break_id)
        .outerjoin(BatchRow, BatchRow.batch_id == WriteOffRow.batch_id)
        .where(
            WriteOffRow.ended.is_(None),
            WriteOffRow.approved_by.is_not(None),
            BreakRow.state == "write_off_pending",
            WriteOffRow.batch_id.is_(None) | (BatchRow.state == "rejected"),
        )
        .order_by(WriteOffRow.break_id)
    )
    return [
        Accepted(
            b.break_id, w.number, b.definition_id, b.legal_entity_id, b.break_key, b.sentence, abs(w.difference),
            w.currency, w.role, w.side, w.approved_on, w.asked_by, w.approved_by,
        )
        for w, b in session.execute(query)
        if w.approved_by is not None and w.approved_on is not None
    ]  # fmt: skip


def carry(session: Session, what: Accepted, batch_id: str) -> None:
    """Keep which batch posts a write-off. Raises LedgerError where it was withdrawn or carried meanwhile."""
    row = session.get(WriteOffRow, (what.break_id, what.number), with_for_update=True, populate_existing=True)
    state = batches.state_of(session, row.batch_id) if row is not None and row.batch_id else "rejected"
    if row is None or row.ended is not None or (state != "rejected" and row.batch_id != batch_id):
        raise LedgerError("the write-off was taken back or planned meanwhile", record=what.break_id)
    row.batch_id = batch_id


def preparers(session: Session, batch_id: str) -> list[str]:
    """Who asked for and agreed to the write-off that a batch posts."""
    rows = session.execute(
        select(WriteOffRow.asked_by, WriteOffRow.approved_by).where(WriteOffRow.batch_id == batch_id)
    )
    return [who for row in rows for who in row if who]


def settle(session: Session, now: datetime) -> int:
    """Bring every break that was to be written off to what its batches say; gives how many changed. Again: nothing."""
    # those of years ago stay as they are: only what has not ended, or was reversed since, is looked at
    was_reversed = exists().where(BatchRow.origin == WriteOffRow.batch_id, BatchRow.kind == batches.REVERSAL)
    is_gone = exists().where(BatchRow.batch_id == WriteOffRow.batch_id, BatchRow.state.not_in(_STANDING))
    moving = select(WriteOffRow.break_id).where(
        or_(WriteOffRow.ended.is_(None), was_reversed, and_(WriteOffRow.ended == "posted", is_gone))
    )
    query = select(WriteOffRow).where(WriteOffRow.break_id.in_(moving))
    of_break: dict[str, list[WriteOffRow]] = {}
    for row in session.scalars(query.order_by(WriteOffRow.break_id, WriteOffRow.number)):
        of_break.setdefault(row.break_id, []).append(row)
    return sum(_settle_one(session, identity, rows, now) for identity, rows in sorted(of_break.items()))


def _settle_one(session: Session, break_id: str, rows: Sequence[WriteOffRow], now: datetime) -> bool:
    standing, before = Decimal(0), [(row.ended, row.batch_id) for row in rows]
    kept = session.get(BreakRow, break_id, with_for_update=True, populate_existing=True)
    assert kept is not None  # noqa: S101  breaks are never deleted
    state, note, batch_id = kept.state, "", None
    for row in rows:
        batch = session.get(BatchRow, row.batch_id) if row.batch_id else None
        share = _in_ledger(session, batch)
        standing += row.difference * share
        if row.ended == "posted" and not share:
            row.ended = "reversed"
        if row.ended in ("posted", "reversed") and share != 1 and kept.state == "written_off":
            state, note, batch_id = "open", "its journal was reversed", row.batch_id
        if row.ended is not None:
            continue
        if share:
            row.ended = "posted"
            note, batch_id = f"written off by {row.batch_id}", row.batch_id
            state = "written_off" if kept.state == "write_off_pending" else kept.state
        elif batch is not None and batch.state in ("rejected_by_approver", "reversed", "manually_resolved"):
            row.ended = "refused"
            if kept.state == "write_off_pending":
                state, note, batch_id = (
                    "open",
                    f"its write-off was refused: {batch.reason or batch.state}",
                    row.batch_id,
                )
        elif (batch is None or batch.state in (*WITHDRAWABLE, "rejected")) and (why := _unwanted(kept, row)):
            _withdraw(session, row, NIGHT, why, now)
            if kept.state == "write_off_pending":
                state, note, batch_id = "open", why, row.batch_id
    _tell(session, kept, state, note, {"batch": batch_id} if batch_id else {}, now)
    written = (standing, rows[-1].currency) if standing else (None, None)
    changed = before != [(row.ended, row.batch_id) for row in rows] or written != (
        kept.written_off, kept.written_off_currency,
    )  # fmt: skip
    kept.written_off, kept.written_off_currency = written
    session.flush()
    return changed


def _in_ledger(session: Session, batch: BatchRow | None) -> Decimal:
    """Which part of a batch stands in the ledger, from 0 to 1."""
    if batch is None or batch.state not in _STANDING:
        return Decimal(0)
    if batch.state == "manually_resolved":
        journals = batches.get(session, batch.batch_id).journals
        if not all(journal.state in ("posted", batches.BY_HAND) for journal in journals):
            return Decimal(0)  # a second person's "not to be posted"
    mirrors = session.scalars(
        select(BatchRow).where(
            BatchRow.origin == batch.batch_id,
            BatchRow.kind == batches.REVERSAL,
            BatchRow.counts,
            BatchRow.state.in_(_STANDING),
        )
    )
    whole = sum((Decimal(amount) for amount in batch.gross.values()), Decimal(0))
    taken = sum((Decimal(amount) for mirror in mirrors for amount in mirror.gross.values()), Decimal(0))
    return (whole - taken) / whole


def _unwanted(kept: BreakRow, row: WriteOffRow) -> str | None:
    """Why a write-off that is not posted yet must not be any more."""
    if kept.state != "write_off_pending":
        return f"the break is {kept.state.replace('_', ' ')}"
    if (kept.value, kept.currency) != (row.value, row.currency):
        now = "no single amount" if kept.value is None else f"{kept.value.normalize():f} {kept.currency or ''}".rstrip()
        return f"its write-off was decided about {row.value.normalize():f} {row.currency}, it is now {now}"
    return None


def _tell(session: Session, kept: BreakRow, state: str, note: str, details: Mapping[str, Any], now: datetime) -> None:
    """Move a break and keep why, in its history and in the audit chain of its definition."""
    if not note:
        return
    if state == "open" and kept.assignee:
        state = "assigned"
    before, kept.state = kept.state, state
    newest = last_recorded(session, kept.definition_id) or kept.last_seen
    if state in ("open", "assigned"):
        kept.approved_by = None
    if state != before:
        kept.decided_by, kept.decided_on = None, newest
    if state != before and state != "written_off":
        kept.last_seen = newest
    action = "written_off" if note.startswith("written off by") else "write_off_ended"
    session.execute(
        insert(BreakChangeRow),
        [
            {
                "break_id": kept.break_id, "business_date": newest, "run_id": "", "at": now, "from_state": before,
                "to_state": state, "from_type": kept.break_type, "to_type": kept.break_type, "actor": NIGHT,
                "action": action, "note": note, "details": dict(details),
            }
        ],
    )  # fmt: skip
    facts = {"from_state": before, "to_state": state, "reason": note, "value": kept.value, "currency": kept.currency}
    audit.append(
        session, f"breaks/{kept.definition_id}", f"break.{action}", NIGHT, facts | dict(details), now,
        subject=kept.break_id,
    )  # fmt: skip
