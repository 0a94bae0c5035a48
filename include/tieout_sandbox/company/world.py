"""The company while it is generated: what all customers add to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from random import Random

from tieout_sandbox.company.catalogue import ENTITIES, PriceBook
from tieout_sandbox.company.drafts import BalanceDraft, ChargeDraft, CreditDraft, InvoiceDraft, LabelDraft
from tieout_sandbox.company.identifiers import Numbering, stripe_id
from tieout_sandbox.company.model import Company, Ticket


@dataclass(slots=True)
class World:
    """The company and the drafts that wait for numbers."""

    company: Company
    prices: PriceBook = field(default_factory=PriceBook)
    numbers: Numbering = field(init=False)
    invoices: list[InvoiceDraft] = field(default_factory=list)
    charges: list[ChargeDraft] = field(default_factory=list)
    credits: list[CreditDraft] = field(default_factory=list)
    balance_changes: list[BalanceDraft] = field(default_factory=list)
    disputes: list[tuple[str, date, Random]] = field(default_factory=list)
    """Charge key, day it is disputed, the customer's dice."""
    tickets: list[tuple[str, str | None, Ticket]] = field(default_factory=list)
    """Key, legal entity and ticket, whose id is still 0."""
    labels: list[LabelDraft] = field(default_factory=list)
    account_ids: dict[str, str] = field(default_factory=dict)
    """Plan key → CRM account."""

    def __post_init__(self) -> None:
        self.numbers = Numbering(self.company.seed)

    def id(self, prefix: str, key: str) -> str:
        """A Stripe id for a key."""
        return stripe_id(prefix, self.company.seed, key)

    def label(
        self,
        definition_id: str,
        break_type: str,
        entity: str,
        key: str,
        visible_from: date,
        visible_to: date | None = None,
        amount: Decimal | None = None,
        note: str = "",
    ) -> None:
        """Note a planted break."""
        currency = next((e.currency for e in ENTITIES if e.id == entity), None) if amount is not None else None
        self.labels.append(
            LabelDraft(definition_id, break_type, entity, key, visible_from, visible_to, amount, currency, note)
        )
