"""Journals copied into a second ledger under their original keys: history at a cut-over, both ledgers in parallel.

The write-ahead record of `tieout.ledger.cutover`: a copy's content is stored before it is sent, every step is audited
in the chain of the ledger it goes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Date, Integer, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import IllegalTransition, StoreError
from tieout.ids import content_hash
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant, Json
from tieout.store.batches import chain_of

TRANSITIONS: Mapping[str, frozenset[str]] = {
    "pending": frozenset({"submitted", "posted", "mismatched"}),
    "submitted": frozenset({"posted", "mismatched", "rejected", "unknown", "pending"}),
    "unknown": frozenset({"submitted", "posted", "mismatched"}),
    "rejected": frozenset({"submitted", "posted", "mismatched"}),
    "mismatched": frozenset({"posted", "mismatched"}),
    "posted": frozenset(),
}
"""From each state, where a copy may go; one that is refused or lost is looked up and tried again by the next replay."""

UNSENT = ("pending", "rejected")
"""States in which the ERP holds nothing of a copy, so that its content follows the journal's."""


class CopyRow(Base):
    """A journal in a ledger other than the one it was planned for: content, state, where it stands there."""

    __tablename__ = "ledger_copies"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40), primary_key=True)
    run_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    short_key: Mapped[str] = mapped_column(String(16))
    batch_id: Mapped[str] = mapped_column(String(200), index=True)
    currency: Mapped[str] = mapped_column(String(3))
    accounting_date: Mapped[date] = mapped_column(Date)
    debit: Mapped[Decimal] = mapped_column(Amount)
    content: Mapped[Any] = mapped_column(Json)
    content_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(20), index=True)
    attempts: Mapped[int] = mapped_column(Integer)
    anchor: Mapped[str | None] = mapped_column(String(80))
    changed_at: Mapped[datetime] = mapped_column(Instant)
    erp_id: Mapped[str | None] = mapped_column(String(100))
    erp_number: Mapped[str | None] = mapped_column(String(100))
    note: Mapped[str | None] = mapped_column(Text)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copied journal and how far it got."""

    run_key: str
    short_key: str
    batch_id: str
    currency: str
    accounting_date: date
    debit: Decimal
    content: Mapping[str, Any]
    state: str = "pending"
    changed_at: datetime | None = None
    erp_id: str | None = None
    erp_number: str | None = None
    note: str | None = None
    anchor: str = ""


def plan(session: Session, entity: str, ledger: str, copies: Iterable[Copy], *, actor: str, now: datetime) -> int:
    """Record copies to make; gives how many were new or, not having been sent, have other content now."""
    known = {copy.run_key: copy for copy in copies_of(session, entity, ledger)}
    acts = []
    for copy in copies:
        before = known.get(copy.run_key)
        if before is not None and (before.state not in UNSENT or before.content == copy.content):
            continue
        digest = content_hash(copy.content)
        session.merge(
            CopyRow(
                legal_entity_id=entity,
                ledger=ledger,
                **{name: getattr(copy, name) for name in _PLANNED},
                content_hash=digest,
                state="pending",
                attempts=0,
                changed_at=now,
            )
        )
        acts.append((_subject(entity, ledger, copy.run_key), {"content_hash": digest, "debit": copy.debit}))
    session.flush()
    if acts:
        audit.append_all(session, chain_of(entity, ledger), "copy.planned", actor, acts, now)
    return len(acts)


_PLANNED = ("run_key", "short_key", "batch_id", "currency", "accounting_date", "debit", "content")


def mark(
    session: Session, entity: str, ledger: str, run_key: str, to: str, *, actor: str, now: datetime, fence: int,
    erp_id: str | None = None, erp_number: str | None = None, note: str | None = None,
) -> Copy:  # fmt: skip
    """Move one copy and audit it; going to `submitted` is the write-ahead record. Raises IllegalTransition.

    With the first attempt the copy gets its anchor: the end of the audit chain of the ledger it goes to.
    """
    row = session.get(CopyRow, (entity, ledger, run_key), with_for_update=True, populate_existing=True)
    if row is None:
        raise StoreError("no such copy", got=run_key)
    if to not in TRANSITIONS[row.state]:
        raise IllegalTransition(f"a copy cannot go from {row.state} to {to}", record=run_key)
    before, row.state, row.changed_at, row.note = row.state, to, now, note
    row.attempts += to == "submitted"
    row.erp_id, row.erp_number = erp_id or row.erp_id, erp_number or row.erp_number
    session.flush()
    facts = {
        "from": before, "attempt": row.attempts, "fence": fence, "content_hash": row.content_hash, "erp_id": row.erp_id,
        "erp_number": row.erp_number, "note": note,
    }  # fmt: skip
    chain, subject = chain_of(entity, ledger), _subject(entity, ledger, run_key)
    audit.append(session, chain, f"copy.{to}", actor, facts, now, subject=subject)
    if to == "submitted" and row.attempts == 1:
        row.anchor = audit.memo(audit.anchor(session, chain, now), run_key)
    return _copy(row)


def altered(session: Session, entity: str, ledger: str, copies: Iterable[Copy]) -> list[str]:
    """Run keys of copies whose stored content or date is not what was audited when they were planned last."""
    found = []
    for copy in copies:
        acts = audit.entries(session, chain_of(entity, ledger), _subject(entity, ledger, copy.run_key))
        planned = [act.payload["content_hash"] for act in acts if act.action == "copy.planned"]
        is_whole = planned[-1:] == [content_hash(copy.content)]
        if not is_whole or copy.content["date"] != copy.accounting_date.isoformat():
            found.append(copy.run_key)
    return found


def copies_of(session: Session, entity: str, ledger: str) -> list[Copy]:
    """Every copy in a ledger, by accounting date and run key."""
    query = select(CopyRow).where(CopyRow.legal_entity_id == entity, CopyRow.ledger == ledger)
    rows = session.scalars(query.order_by(CopyRow.accounting_date, CopyRow.run_key))
    return [_copy(row) for row in rows]


def states(session: Session) -> list[tuple[str, str, str]]:
    """Ledger, run key and state of every copy."""
    query = select(CopyRow.ledger, CopyRow.run_key, CopyRow.state).order_by(CopyRow.ledger, CopyRow.run_key)
    return [(ledger, key, state) for ledger, key, state in session.execute(query)]


def _copy(row: CopyRow) -> Copy:
    kept = (*_PLANNED, "state", "changed_at", "erp_id", "erp_number", "note")
    return Copy(**{name: getattr(row, name) for name in kept}, anchor=row.anchor or "")


def _subject(entity: str, ledger: str, run_key: str) -> str:
    return f"copy:{entity}/{ledger}:{run_key}"
