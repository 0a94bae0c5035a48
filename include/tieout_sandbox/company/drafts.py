"""Records still being written: what a customer's life adds to before it is frozen into the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from tieout_sandbox.company.model import ContractLine, ContractLineVersion, InvoiceLine, InvoiceVersion

ZERO = Decimal(0)


@dataclass(slots=True)
class LineDraft:
    """A contract line whose versions are not complete yet."""

    facts: dict[str, object]
    versions: list[ContractLineVersion]

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    def freeze(self) -> ContractLine:
        """The line with its versions in order of time."""
        versions = tuple(sorted(self.versions, key=lambda v: v.at))
        return ContractLine(**self.facts, versions=versions)  # type: ignore[arg-type]


@dataclass(slots=True)
class InvoiceDraft:
    """An invoice before it has a number: numbers follow finalisation over all customers of an entity."""

    key: str
    id: str
    entity: str
    customer_id: str
    subscription_id: str | None
    account_id: str | None
    collection: Literal["charge_automatically", "send_invoice"]
    reason: Literal["subscription_create", "subscription_cycle", "subscription_update", "manual"]
    on: date
    created: datetime
    finalized_at: datetime
    period_start: date
    period_end: date
    lines: list[InvoiceLine]
    facts: list[Fact] = field(default_factory=list)
    stays_draft: bool = False
    case: str | None = None
    starting_balance: Decimal = ZERO
    """The customer's balance before finalisation, negative where the customer has credit."""

    @property
    def credit_applied(self) -> Decimal:
        """What the customer's credit pays of it; negative where the invoice's own total is, and adds to the credit."""
        return self.total if self.total < 0 else min(self.total, -self.starting_balance)

    @property
    def subtotal(self) -> Decimal:
        return sum((line.amount for line in self.lines), ZERO)

    @property
    def tax(self) -> Decimal:
        return sum((line.tax for line in self.lines), ZERO)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.tax

    @property
    def paid(self) -> Decimal:
        return sum((f.amount for f in self.facts if f.kind == "paid"), ZERO)

    @property
    def credited_before(self) -> Decimal:
        return sum((f.amount for f in self.facts if f.kind == "credited_before"), ZERO)

    @property
    def open_amount(self) -> Decimal:
        """What is still to be paid after every fact so far; nothing once voided or given up."""
        if any(f.kind in ("void", "uncollectible") for f in self.facts):
            return ZERO
        return self.total - self.credit_applied - self.paid - self.credited_before

    def versions(self) -> tuple[InvoiceVersion, ...]:
        """Draft, open, and one version per fact."""
        paid = before = after = ZERO
        charge: str | None = None
        status: Literal["draft", "open", "paid", "uncollectible", "void"] = "draft"
        out_of_band, attempts = False, 0
        result = [
            InvoiceVersion(self.created, self.created, status, ZERO, self.total, ZERO, ZERO, None, False),
        ]
        if self.stays_draft:
            return tuple(result)
        opened = Fact(self.finalized_at, "open")
        for fact in [opened, *sorted(self.facts, key=lambda f: f.at)]:
            if fact.kind == "open":
                status = "open"
            elif fact.kind == "paid":
                paid += fact.amount
                attempts += 1
                charge = fact.charge_id or charge
                out_of_band = out_of_band or fact.out_of_band
            elif fact.kind == "attempt":
                attempts += 1
            elif fact.kind == "credited_before":
                before += fact.amount
            elif fact.kind == "credited_after":
                after += fact.amount
            elif fact.kind in ("void", "uncollectible"):
                status = fact.kind
            remaining = self.total - self.credit_applied - paid - before
            if status == "open" and remaining == 0:
                status = "paid"
            result.append(
                InvoiceVersion(
                    fact.at, fact.at, status, paid, ZERO if status == "void" else remaining, before, after, charge,
                    out_of_band, attempts,
                )
            )  # fmt: skip
        return tuple(result)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened to an invoice after it was drafted."""

    at: datetime
    kind: Literal["open", "paid", "attempt", "credited_before", "credited_after", "void", "uncollectible"]
    amount: Decimal = ZERO
    charge_id: str | None = None
    out_of_band: bool = False


@dataclass(slots=True)
class ChargeDraft:
    """A payment whose references wait for invoice numbers: `pays` names invoice drafts by key."""

    key: str
    id: str
    entity: str
    customer_id: str
    amount: Decimal
    method: Literal["card", "sepa_debit", "ach_debit", "customer_balance"]
    invoice_key: str | None
    pays: list[tuple[str, Decimal]]
    at: datetime
    on: date
    unknown_reference: bool = False
    failed: bool = False
    case: str | None = None


@dataclass(slots=True)
class CreditDraft:
    """A credit note before it has a number: amounts by position of the invoice's lines."""

    key: str
    id: str
    invoice_key: str
    lines: list[tuple[InvoiceLine, Decimal, Decimal]]
    """Invoice line, net amount, tax."""
    paid_back: bool
    charge_key: str | None
    reason: Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"]
    memo: str
    at: datetime
    on: date
    refund_fails_after: int | None = None
    """Days until the refund comes back; drawn where not given."""

    @property
    def total(self) -> Decimal:
        return sum((net + tax for _, net, tax in self.lines), ZERO)


@dataclass(slots=True)
class BalanceDraft:
    """A change of a customer's credit; `invoice_key` names the invoice draft that took or gave it."""

    entity: str
    customer_id: str
    amount: Decimal
    """Negative gives the customer credit."""
    invoice_key: str | None
    at: datetime
    key: str


@dataclass(slots=True)
class LabelDraft:
    """A label whose key waits for numbers: `{invoice:…}` and `{ticket:…}` stand for them."""

    definition_id: str
    break_type: str
    legal_entity_id: str
    key: str
    visible_from: date
    visible_to: date | None
    amount: Decimal | None
    currency: str | None
    note: str
