"""Taking over an entity's ledger: opening balances from the ERP, open documents tied to their accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from tieout.entities import LegalEntity
from tieout.erp.port import Ledger
from tieout.errors import LedgerError
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.ledger.events import bind, prepare, statement
from tieout.ledger.rules import Rules
from tieout.settings import Settings
from tieout.store import Store, golive
from tieout.store.golive import OpeningBalance, OpeningTie, SignOff


@dataclass(frozen=True, slots=True)
class Opening:
    """An entity's position the day before go-live; `loaded` is False if it had been stored before."""

    balances: tuple[OpeningBalance, ...]
    ties: tuple[OpeningTie, ...]
    loaded: bool

    @property
    def is_there(self) -> bool:
        """Whether the ledger was taken over; an ERP that held nothing then has no balances, but its documents' ties."""
        return bool(self.balances or self.ties)


def load(
    entity: LegalEntity,
    ledger: Ledger,
    *,
    lake: Lake,
    store: Store,
    rules: Rules,
    snapshot: Mapping[str, int],
    settings: Settings | None = None,
    chart: Mapping[str, str] | None = None,
    actor: str = "tieout",
) -> Opening:
    """Store the ERP's trial balance of the day before the take-over, once, with what our documents explain of it.

    That is the day before go-live; for a later ledger (`entity.of_ledger`) the one before its cut-over, or before its
    replayed history begins. `chart` leads from the mapping's accounts to the ledger's.

    Open invoices, customer credit, deferred schedules, unbilled usage, open disputes, processor clearing and cash in
    transit are recomputed from canonical tables as of that day, other currencies at the rates of their documents; each
    is tied to its account and the difference stated. Raises LedgerError if the ERP's own trial balance does not
    balance or a document has no rate, ErpError if it cannot be read. A second call reads nothing and
    changes nothing. Until people signed it, nothing is posted, unless the entity's configuration says why not.
    """
    stored = opening(store, entity)
    if stored.is_there:
        return stored
    as_of = entity.taken_over_on - timedelta(days=1)
    rows = ledger.trial_balance(entity.id, as_of)
    balances = tuple(OpeningBalance(r.account, r.currency, r.closing) for r in rows)
    if sum((b.balance for b in balances), Decimal(0)):
        raise LedgerError("the ERP's trial balance does not balance", record=f"{entity.id} at {as_of}")
    held = {(b.account, b.currency): b.balance for b in balances}
    ties = []
    for role, documents in _documents(entity, lake, snapshot, settings).items():
        currency = entity.functional_currency
        ours = rules.account(entity.id, role, currency, as_of)
        account = (chart or {}).get(ours, ours)
        ties.append(OpeningTie(role, account, currency, documents, held.get((account, currency), Decimal(0))))
    with store.transaction() as session:
        loaded = golive.load_opening(
            session, entity.id, entity.ledger, as_of, balances, ties, actor=actor, now=store.now(),
            signatures=entity.go_live_signatures, waiver=entity.go_live_waiver,
        )  # fmt: skip
    return Opening(balances, tuple(ties), loaded)


def opening(store: Store, entity: LegalEntity) -> Opening:
    """What was stored at go-live; empty before."""
    with store.reading() as session:
        return Opening(
            tuple(golive.opening(session, entity.id, entity.ledger)),
            tuple(golive.opening_ties(session, entity.id, entity.ledger)),
            loaded=False,
        )


def signed(store: Store, entity: LegalEntity) -> list[SignOff]:
    """How the go-live of an entity's ledger stands; empty before it is loaded, or where it needs no signature."""
    with store.reading() as session:
        return golive.sign_offs(session, entity.id, entity.ledger)


def accrual_of_others(store: Store, entity: LegalEntity) -> OpeningTie | None:
    """The accrual that the first ledger of an entity was taken over with, where Tieout accrues from then on.

    Whoever made it takes it back on the first day: Tieout reverses its own only. None where the account held nothing.
    """
    if entity.ledger != entity.in_force[0].ledger or not entity.posts("accrual", entity.taken_over_on):
        return None
    ties = opening(store, entity).ties
    return next((tie for tie in ties if tie.role == "unbilled_receivable" and tie.ledger_balance), None)


def _documents(
    entity: LegalEntity, lake: Lake, snapshot: Mapping[str, int], settings: Settings | None
) -> dict[str, Decimal]:
    """What each role's documents add up to the day before the take-over, debit positive."""
    with engine(settings) as session:
        bind(session, lake, snapshot)
        first = entity.taken_over_on
        taken_over = entity.model_copy(update={"go_live": first})  # as far as these documents go, it is the go-live
        prepare(session, taken_over, first, first)
        session.execute(statement("opening"))
        rows = session.rows(
            "SELECT role, currency, open_amount, carried_at FROM opening_position ORDER BY role, currency"
        )
    found: dict[str, Decimal] = {}
    for role, currency, open_amount, carried_at in rows:
        if carried_at is None:
            raise LedgerError(
                "no exchange rate for open documents at go-live",
                record=f"{entity.id} {role}",
                got=f"{open_amount} {currency}",
                remedy="load the rates of the days of these documents first",
            )
        found[role] = found.get(role, Decimal(0)) + carried_at
    return found
