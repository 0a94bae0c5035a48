"""Opening balances at go-live: stored once, audited, signed by a person before any journal of the ledger is posted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Date, Integer, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import LedgerError, StoreError
from tieout.ids import content_hash
from tieout.store import audit
from tieout.store.base import Amount, Base, Instant
from tieout.store.batches import chain_of
from tieout.store.people import need_two

WHOLE = "*"
"""In place of a stream: the whole ledger."""


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


class GoLiveSignOffRow(Base):
    """Whether a ledger's opening position was signed, or a stream's posting allowed without; `*` is all of them.

    A ledger without a row was taken over before signatures were kept: nothing of it waits.
    """

    __tablename__ = "golive_sign_offs"

    legal_entity_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    ledger: Mapped[str] = mapped_column(String(40), primary_key=True)
    stream: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    """unsigned, signed or waived"""
    signatures: Mapped[int] = mapped_column(Integer)
    """How many people sign: one or two; always two where documents and ledger differ."""
    digest: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(200))
    second: Mapped[str | None] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class SignOff:
    """How a ledger's go-live stands: unsigned, signed or waived (`stream`: for which; `*` all), by whom and why.

    `digest` binds the balances and ties that were loaded.
    """

    stream: str
    state: str
    signatures: int
    digest: str
    actor: str
    second: str | None
    reason: str


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
    signatures: int = 1,
    waiver: str = "",
) -> bool:
    """Store an entity's opening position, once; False if it is already there (then nothing changes).

    It waits for the signatures of one or two people; with a `waiver`, the reason why nobody needs to sign, for none.
    """
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
        subject=_subject(entity, ledger),
    )
    session.add(
        GoLiveSignOffRow(
            legal_entity_id=entity, ledger=ledger, stream=WHOLE, state="unsigned", signatures=signatures,
            digest=_digest(listed, tied), actor="", second=None, reason="", changed_at=now,
        )
    )  # fmt: skip
    session.flush()
    if waiver.strip():
        _settle(session, entity, ledger, WHOLE, "waived", actor, None, waiver, now)
    return True


def sign(
    session: Session, entity: str, ledger: str, digest: str, *, actor: str, second: str | None, reason: str,
    now: datetime,
) -> None:  # fmt: skip
    """Sign a ledger's opening position: exactly the one of this `digest`; audited.

    Raises LedgerError where none was loaded, it is another one or signed already; IllegalTransition where a second
    person or the reason is lacking: two people are configured, or documents and ledger differ.
    """
    kept = _sign_off(session, entity, ledger)
    record = f"{entity}/{ledger}"
    if kept.state == "signed":
        raise LedgerError("the go-live is signed already", record=record, got=kept.actor)
    if digest != kept.digest:
        raise LedgerError("that is not the opening position", record=record, expected=kept.digest, got=digest)
    differs = any(tie.difference for tie in opening_ties(session, entity, ledger))
    if kept.signatures > 1 or differs or second is not None:
        need_two(record, actor, second, reason)
    _settle(session, entity, ledger, WHOLE, "signed", actor, second, reason, now)


def waive(
    session: Session, entity: str, ledger: str, stream: str, *, actor: str, second: str, reason: str, now: datetime
) -> None:
    """Let a stream (`*`: all) be posted though the go-live is not signed; two people and a reason, audited.

    Raises LedgerError where nothing was loaded or it is signed, IllegalTransition without two people or a reason.
    """
    if _sign_off(session, entity, ledger).state == "signed":
        raise LedgerError("the go-live is signed: nothing is to be waived", record=f"{entity}/{ledger}")
    need_two(f"{entity}/{ledger}", actor, second, reason)
    _settle(session, entity, ledger, stream, "waived", actor, second, reason, now)


def sign_offs(session: Session, entity: str, ledger: str) -> list[SignOff]:
    """How a ledger's go-live stands, the whole ledger first, then streams that were waived."""
    query = (
        select(GoLiveSignOffRow)
        .where(GoLiveSignOffRow.legal_entity_id == entity, GoLiveSignOffRow.ledger == ledger)
        .order_by(GoLiveSignOffRow.stream != WHOLE, GoLiveSignOffRow.stream)
    )
    return [
        SignOff(r.stream, r.state, r.signatures, r.digest, r.actor, r.second, r.reason) for r in session.scalars(query)
    ]


def is_unsigned(session: Session, entity: str, ledger: str, stream: str) -> bool:
    """Whether a stream's journals wait because the ledger's go-live is neither signed nor waived."""
    stands = {one.stream: one.state for one in sign_offs(session, entity, ledger)}
    return stands.get(WHOLE) == "unsigned" and stands.get(stream) != "waived"


def refuse_unsigned(session: Session, entity: str, ledger: str, stream: str) -> None:
    """Raise LedgerError where a stream's journals wait for the signature of the go-live."""
    if is_unsigned(session, entity, ledger, stream):
        raise LedgerError(
            "the go-live is not signed", record=f"{entity}/{ledger} {stream}",
            remedy="look at it with `tieout golive show`, then sign it, or two people waive it for a stream",
        )  # fmt: skip


def _sign_off(session: Session, entity: str, ledger: str) -> SignOff:
    found = sign_offs(session, entity, ledger)
    if not found:
        raise LedgerError(
            "there is no opening position to sign", record=f"{entity}/{ledger}", remedy="the first night loads it"
        )
    return found[0]


def _settle(
    session: Session, entity: str, ledger: str, stream: str, state: str, actor: str, second: str | None, reason: str,
    now: datetime,
) -> None:  # fmt: skip
    whole = session.get(GoLiveSignOffRow, (entity, ledger, WHOLE), with_for_update=True)
    assert whole is not None  # noqa: S101  callers have read it
    session.merge(
        GoLiveSignOffRow(
            legal_entity_id=entity, ledger=ledger, stream=stream, state=state, signatures=whole.signatures,
            digest=whole.digest, actor=actor, second=second, reason=reason, changed_at=now,
        )
    )  # fmt: skip
    session.flush()
    facts = {"stream": stream, "digest": whole.digest, "second": second, "reason": reason}
    audit.append(
        session, chain_of(entity, ledger), f"golive.{state}", actor, facts, now, subject=_subject(entity, ledger)
    )


def _digest(balances: Iterable[OpeningBalance], ties: Iterable[OpeningTie]) -> str:
    return content_hash(
        {
            "balances": sorted([b.account, b.currency, b.balance] for b in balances),
            "ties": sorted([t.role, t.account, t.currency, t.documents, t.ledger_balance] for t in ties),
        }
    )


def _subject(entity: str, ledger: str) -> str:
    return f"golive:{entity}/{ledger}"


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
