"""Opening balances at go-live: stored once, audited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Date, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import StoreError
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant
from tieout.store.batches import chain_of


class GoLiveBalanceRow(Base):
    """What an account held the day before Tieout took over (debit positive), by the ERP's trial balance."""

    __tablename__ = "golive_balances"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40), primary_key=True)
    account: Mapped[str] = mapped_column(String(60), primary_key=True)
    currency: Mapped[str] = mapped_column(String(3), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(Amount)
    as_of: Mapped[date] = mapped_column(Date)
    loaded_at: Mapped[datetime] = mapped_column(Instant)


class GoLiveTieRow(Base):
    """A sub-ledger at go-live against its account: what the documents add up to, what the ledger says."""

    __tablename__ = "golive_ties"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40), primary_key=True)
    role: Mapped[str] = mapped_column(String(60), primary_key=True)
    currency: Mapped[str] = mapped_column(String(3), primary_key=True)
    account: Mapped[str] = mapped_column(String(60))
    documents: Mapped[Decimal] = mapped_column(Amount)
    ledger_balance: Mapped[Decimal] = mapped_column(Amount)
    difference: Mapped[Decimal] = mapped_column(Amount)
    loaded_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """An account's balance at go-live, debit positive."""

    account: str
    currency: str
    balance: Decimal


@dataclass(frozen=True, slots=True)
class OpeningTie:
    """A role's open documents against its account at go-live, both debit positive."""

    role: str
    account: str
    currency: str
    documents: Decimal
    ledger_balance: Decimal

    @property
    def difference(self) -> Decimal:
        """What the documents do not explain."""
        return self.ledger_balance - self.documents


def load_opening(
    session: Session,
    entity: str,
    ledger: str,
    as_of: date,
    balances: Iterable[OpeningBalance],
    ties: Iterable[OpeningTie],
    *,
    actor: str,
    now: datetime,
) -> bool:
    """Store an entity's opening position, once; False if it is already there (then nothing changes)."""
    if is_taken_over(session, entity, ledger):
        return False
    listed, tied = list(balances), list(ties)
    total: dict[str, Decimal] = {}
    for b in listed:
        total[b.currency] = total.get(b.currency, Decimal(0)) + b.balance
    if any(total.values()):
        raise StoreError("the opening trial balance does not balance", record=f"{entity}/{ledger}", got=total)
    for b in listed:
        session.add(
            GoLiveBalanceRow(
                legal_entity_id=entity,
                ledger=ledger,
                account=b.account,
                currency=b.currency,
                balance=b.balance,
                as_of=as_of,
                loaded_at=now,
            )
        )
    for t in tied:
        session.add(
            GoLiveTieRow(
                legal_entity_id=entity,
                ledger=ledger,
                role=t.role,
                account=t.account,
                currency=t.currency,
                documents=t.documents,
                ledger_balance=t.ledger_balance,
                difference=t.difference,
                loaded_at=now,
            )
        )
    session.flush()
    audit.append(
        session,
        chain_of(entity, ledger),
        "golive.loaded",
        actor,
        {
            "as_of": as_of,
            "balances": [[b.account, b.currency, b.balance] for b in listed],
            "ties": [[t.role, t.account, t.currency, t.documents, t.ledger_balance, t.difference] for t in tied],
        },
        now,
        subject=f"golive:{entity}/{ledger}",
    )
    return True


def is_taken_over(session: Session, entity: str, ledger: str) -> bool:
    """Whether a ledger's opening position was loaded; one that held nothing then has only the ties of its documents."""
    return bool(opening(session, entity, ledger) or opening_ties(session, entity, ledger))


def opening(session: Session, entity: str, ledger: str) -> list[OpeningBalance]:
    """An entity's opening balances by account; empty before they are loaded."""
    query = (
        select(GoLiveBalanceRow)
        .where(GoLiveBalanceRow.legal_entity_id == entity, GoLiveBalanceRow.ledger == ledger)
        .order_by(GoLiveBalanceRow.account, GoLiveBalanceRow.currency)
    )
    return [OpeningBalance(r.account, r.currency, r.balance) for r in session.scalars(query)]


def opening_ties(session: Session, entity: str, ledger: str) -> list[OpeningTie]:
    """How an entity's open documents tied to its accounts at go-live."""
    query = (
        select(GoLiveTieRow)
        .where(GoLiveTieRow.legal_entity_id == entity, GoLiveTieRow.ledger == ledger)
        .order_by(GoLiveTieRow.role, GoLiveTieRow.currency)
    )
    return [OpeningTie(r.role, r.account, r.currency, r.documents, r.ledger_balance) for r in session.scalars(query)]
