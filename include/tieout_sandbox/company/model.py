"""What a generated company consists of: facts only, in no vendor's wire format.

Conventions
- Amounts are `Decimal` in currency units, exact at the currency's minor unit (JPY has none); prices per unit may be
  finer. Renderers turn them into a vendor's form.
- Instants are aware UTC datetimes; dates are days in the zone of the legal entity. Terms and periods are half-open:
  an `end` is the first day that no longer belongs (Salesforce's own end dates are inclusive: the renderer subtracts
  a day). Period boundaries of billing are local midnights of the legal entity.
- Whatever changes over time has `versions`, oldest first. `at` is the version's own stamp (Stripe event `created`,
  Salesforce SystemModstamp, Zendesk updated_at and generated_timestamp); `visible_at >= at` is when a vendor's API
  begins to show it. The object does not exist before its first version's `visible_at`. Objects without versions
  never change and carry `created` and `visible_at` themselves.
- State changes that belong to a local day are visible by 08:50 UTC of the next UTC day and not before 09:05 UTC of
  the day itself, so that the state at 09:00 UTC after a business date is the state as of that date for every entity.
  Only a few opportunities are shown later than that, with the stamp of before.
- Ids are the vendors' own, assigned here: Stripe `cus_…`, Salesforce 18 characters, Zendesk integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

Family = Literal["seats", "platform", "usage", "support"]
Interval = Literal[1, 3, 12]


@dataclass(frozen=True, slots=True)
class Entity:
    """A legal entity with the accounts it has at vendors."""

    id: str
    """US, DE, JP."""
    name: str
    currency: str
    zone: str
    country: str
    stripe_account: str
    """`acct_…`."""
    source: str
    """Configured source of its billing: stripe_us, stripe_de, stripe_jp."""
    bank_account: str
    """Account number on bank statements."""
    tax_code: str
    """Stripe tax rate id `txr_…`."""
    tax_name: str
    """Sales Tax, VAT …"""
    tax_percent: Decimal
    """8.25, 19, 10."""


# ---------------------------------------------------------------------- catalogue


@dataclass(frozen=True, slots=True)
class Product:
    """A product, known to CRM (one record) and billing (one record per Stripe account)."""

    key: str
    """Stable short name, e.g. `seat_standard`; SKU in both systems."""
    name: str
    family: Family
    kind: Literal["seat", "tier", "usage", "support", "other"]
    crm_id: str
    """Product2 Id (01t…)."""
    stripe_ids: dict[str, str]
    """Legal entity id → `prod_…`; Stripe's product.metadata.crm_product_id = crm_id where `mapped`."""
    mapped: bool
    """In the shipped product mapping; false only for planted products, which carry no shared id either."""
    created: datetime
    meter: str | None = None
    unit: str | None = None
    """Unit of the meter: `call`, `gb_hour`."""
    support_level: str | None = None
    """Premium, Gold."""


@dataclass(frozen=True, slots=True)
class PriceTier:
    up_to: int | None
    """Last unit of the tier; None on the last one."""
    unit_amount: Decimal
    """Currency units per unit; may be finer than the minor unit."""


@dataclass(frozen=True, slots=True)
class Price:
    """A price in one Stripe account."""

    id: str
    """`price_…`."""
    legal_entity_id: str
    product_key: str
    product_id: str
    """`prod_…`."""
    currency: str
    unit_amount: Decimal | None
    """Currency units per unit and interval; may be finer than the minor unit for metered prices
    (Stripe's unit_amount_decimal). None on tiered prices."""
    interval_months: Interval
    usage_type: Literal["licensed", "metered"]
    created: datetime
    one_off: bool = False
    """Price of a one-time item (Stripe type `one_time`)."""
    tiers: tuple[PriceTier, ...] = ()
    tiers_mode: Literal["graduated", "volume"] | None = None
    """graduated: each unit at its own tier's amount, a line per tier; volume: all units at that of the tier reached."""


# ---------------------------------------------------------------------- CRM


@dataclass(frozen=True, slots=True)
class AccountVersion:
    at: datetime
    visible_at: datetime
    legal_entity_id: str
    """Entity that bills the customer (custom field Billing_Entity__c)."""
    status: Literal["Prospect", "Customer", "Former Customer"]
    """Custom field Status__c."""


@dataclass(frozen=True, slots=True)
class Account:
    """CRM Account: the customer master; `id` is the golden id."""

    id: str
    """001…, 18 characters."""
    name: str
    parent_id: str | None
    country: str
    currency: str
    industry: str
    website: str
    created: datetime
    versions: tuple[AccountVersion, ...]


@dataclass(frozen=True, slots=True)
class OpportunityVersion:
    at: datetime
    visible_at: datetime
    stage: Literal["Prospecting", "Negotiation/Review", "Closed Won", "Closed Lost"]


@dataclass(frozen=True, slots=True)
class Opportunity:
    id: str
    """006…"""
    account_id: str
    name: str
    kind: Literal["New Business", "Amendment", "Renewal"]
    amount: Decimal
    """Net amount over the term."""
    currency: str
    close_date: date
    created: datetime
    versions: tuple[OpportunityVersion, ...]


@dataclass(frozen=True, slots=True)
class QuoteLine:
    id: str
    """a0T…"""
    product_key: str
    product_id: str
    """Product2 Id."""
    quantity: Decimal | None
    net_unit_price: Decimal | None
    """Per unit and month."""
    net_total: Decimal


@dataclass(frozen=True, slots=True)
class QuoteVersion:
    at: datetime
    visible_at: datetime
    status: Literal["Draft", "Presented", "Accepted", "Denied"]


@dataclass(frozen=True, slots=True)
class Quote:
    """CPQ quote (SBQQ__Quote__c)."""

    id: str
    """a0Q…"""
    number: str
    """Q-00001."""
    account_id: str
    opportunity_id: str
    legal_entity_id: str
    contract_id: str | None
    """Contract it made (New, Renewal) or amends (SBQQ__MasterContract__c)."""
    kind: Literal["New", "Amendment", "Renewal"]
    net_amount: Decimal
    currency: str
    start_date: date
    end_date: date
    lines: tuple[QuoteLine, ...]
    created: datetime
    versions: tuple[QuoteVersion, ...]


@dataclass(frozen=True, slots=True)
class ContractVersion:
    at: datetime
    visible_at: datetime
    status: Literal["Draft", "Activated", "Cancelled"]
    end_date: date
    """First day after the term; moves forward when the contract is cancelled."""


@dataclass(frozen=True, slots=True)
class Contract:
    id: str
    """800…"""
    number: str
    """00000100."""
    account_id: str
    legal_entity_id: str
    """Custom field Legal_Entity__c."""
    currency: str
    start_date: date
    term_months: int
    opportunity_id: str
    quote_id: str
    created: datetime
    versions: tuple[ContractVersion, ...]


@dataclass(frozen=True, slots=True)
class ContractLineVersion:
    at: datetime
    visible_at: datetime
    terminated_date: date | None = None
    """First day no longer in force (SBQQ__TerminatedDate__c as it is)."""
    is_trial: bool = False
    """Custom field Is_Trial__c: nothing is billed while true."""


@dataclass(frozen=True, slots=True)
class ContractLine:
    """CPQ subscription (SBQQ__Subscription__c); an amendment adds a delta line with the same root."""

    id: str
    """a0X…"""
    root_id: str
    """Its own id, or that of the line an amendment changes (SBQQ__RootId__c)."""
    contract_id: str
    account_id: str
    legal_entity_id: str
    product_key: str
    product_id: str
    """Product2 Id."""
    quantity: Decimal | None
    """Units; a signed difference on amendment lines; None on usage lines."""
    net_unit_price: Decimal | None
    """Per unit and month (SBQQ__NetPrice__c; the term unit of every product is one month); None on usage lines."""
    currency: str
    billing_frequency: Literal["Monthly", "Quarterly", "Annual"]
    start_date: date
    end_date: date
    quote_id: str
    created: datetime
    versions: tuple[ContractLineVersion, ...]
    support_level: str | None = None

    @property
    def monthly_amount(self) -> Decimal | None:
        """Net amount per month; a difference on amendment lines."""
        return None if self.quantity is None or self.net_unit_price is None else self.quantity * self.net_unit_price


@dataclass(frozen=True, slots=True)
class EntitlementVersion:
    at: datetime
    visible_at: datetime
    status: Literal["Active", "Inactive", "Expired"]
    end_date: date
    level: str
    """Custom field Support_Level__c."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    id: str
    """550…"""
    name: str
    account_id: str
    legal_entity_id: str
    """Custom field Legal_Entity__c."""
    contract_line_id: str | None
    """Root line id (custom field Contract_Line__c)."""
    start_date: date
    created: datetime
    versions: tuple[EntitlementVersion, ...]


# ---------------------------------------------------------------------- billing


@dataclass(frozen=True, slots=True)
class BillingCustomer:
    """A customer in one Stripe account."""

    id: str
    """`cus_…`."""
    legal_entity_id: str
    account_id: str | None
    """metadata.crm_account_id; None only where planted."""
    name: str
    email: str
    country: str
    currency: str
    taxed: bool
    created: datetime
    deleted_at: datetime | None = None
    """From then on Stripe answers `deleted: true`."""


@dataclass(frozen=True, slots=True)
class CustomerBalanceTransaction:
    """A change of the credit a customer has in billing, which its next invoices use up."""

    id: str
    """`cbtxn_…`."""
    legal_entity_id: str
    customer_id: str
    currency: str
    type: Literal["adjustment", "applied_to_invoice"]
    """adjustment: a payment was larger than what it pays; applied_to_invoice: an invoice took credit or, with a
    negative total, gave it."""
    amount: Decimal
    """As Stripe signs it: negative gives the customer credit."""
    ending_balance: Decimal
    invoice_id: str | None
    created: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A subscription item as one version of its subscription shows it."""

    id: str
    """`si_…`."""
    price_id: str
    product_key: str
    quantity: int | None
    """None on metered prices."""
    crm_line_id: str | None
    """metadata.crm_line_id: root contract line."""
    created: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionVersion:
    at: datetime
    visible_at: datetime
    status: Literal["trialing", "active", "past_due", "canceled"]
    current_period_start: datetime
    current_period_end: datetime
    items: tuple[SubscriptionItem, ...]
    contract_id: str | None
    """metadata.contract_id; a renewal moves it to the new contract."""
    cancel_at_period_end: bool = False
    canceled_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    id: str
    """`sub_…`."""
    legal_entity_id: str
    customer_id: str
    """`cus_…`."""
    currency: str
    collection_method: Literal["charge_automatically", "send_invoice"]
    start_date: datetime
    """Local midnight of the first day."""
    anchor: datetime
    """billing_cycle_anchor: local midnight of the first paid day. Period n starts n intervals of months after the
    anchor's local date, on the month's last day where the month is shorter, counted from the anchor each time."""
    anchor_date: date
    interval_months: Interval
    trial_start: datetime | None
    trial_end: datetime | None
    created: datetime
    versions: tuple[SubscriptionVersion, ...]


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    id: str
    """`il_…`."""
    line_no: int
    kind: Literal["subscription", "invoiceitem"]
    """Stripe line type: invoiceitem for prorations and one-off items."""
    invoice_item_id: str | None
    """`ii_…` on invoiceitem lines."""
    subscription_item_id: str | None
    price_id: str
    product_key: str
    product_id: str
    """`prod_…`."""
    family: Family
    meter: str | None
    """metadata.meter on usage lines."""
    description: str
    quantity: int
    unit_amount: Decimal
    amount: Decimal
    """Net of tax; negative for unused time."""
    tax: Decimal
    """Rounded per line; 0 where the customer is not taxed."""
    period_start: date
    period_end: date
    """Service days [start, end) in the entity's zone; a line whose end is after the invoice's accounting date is
    billed ahead, otherwise the service was delivered."""
    proration: bool = False


@dataclass(frozen=True, slots=True)
class InvoiceVersion:
    at: datetime
    visible_at: datetime
    status: Literal["draft", "open", "paid", "uncollectible", "void"]
    amount_paid: Decimal
    amount_remaining: Decimal
    credited_before_payment: Decimal
    """pre_payment_credit_notes_amount."""
    credited_after_payment: Decimal
    """post_payment_credit_notes_amount."""
    charge_id: str | None
    """The charge that paid it through the processor's own invoice payment."""
    paid_out_of_band: bool
    attempt_count: int = 0


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice; amounts of the document never change, what is paid of it does (`versions`)."""

    id: str
    """`in_…`."""
    number: str | None
    """US-2026-000123; None on drafts that were never finalised (drafts show no number before finalisation)."""
    legal_entity_id: str
    customer_id: str
    subscription_id: str | None
    currency: str
    collection_method: Literal["charge_automatically", "send_invoice"]
    billing_reason: Literal["subscription_create", "subscription_cycle", "subscription_update", "manual"]
    lines: tuple[InvoiceLine, ...]
    subtotal: Decimal
    tax: Decimal
    """Sum of the lines' taxes."""
    total: Decimal
    created: datetime
    finalized_at: datetime | None
    accounting_date: date | None
    """Day of `finalized_at` in the entity's zone."""
    due_at: datetime | None
    period_start: date
    period_end: date
    versions: tuple[InvoiceVersion, ...]
    voided_at: datetime | None = None
    """From the version `void` on."""
    uncollectible_at: datetime | None = None
    """From the version `uncollectible` on."""
    paid_at: datetime | None = None
    """From the version `paid` on."""
    starting_balance: Decimal = Decimal(0)
    """The customer's balance before finalisation, negative where the customer has credit."""
    ending_balance: Decimal = Decimal(0)
    """And after it."""

    @property
    def credit_applied(self) -> Decimal:
        """What the customer's credit paid of it; what it added to the credit (negative) where its total is negative."""
        return self.ending_balance - self.starting_balance


@dataclass(frozen=True, slots=True)
class CreditNoteLine:
    id: str
    """`cnli_…`."""
    invoice_line_id: str
    product_key: str
    family: Family
    description: str
    amount: Decimal
    """Positive."""
    tax: Decimal


@dataclass(frozen=True, slots=True)
class CreditNote:
    id: str
    """`cn_…`."""
    number: str
    """US-2026-000123-CN-01."""
    legal_entity_id: str
    invoice_id: str
    invoice_number: str
    customer_id: str
    currency: str
    kind: Literal["pre_payment", "post_payment"]
    reason: Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"]
    memo: str
    lines: tuple[CreditNoteLine, ...]
    subtotal: Decimal
    tax: Decimal
    total: Decimal
    to_receivable: Decimal
    """Reduced the open invoice."""
    to_customer_credit: Decimal
    """Was paid already; sent back by `refund_id`."""
    refund_id: str | None
    created: datetime
    accounting_date: date
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentAllocation:
    invoice_number: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Charge:
    """A payment. `invoice_id` set: the processor's own invoice payment. Otherwise `allocations` are written to
    metadata.invoice_numbers (`number:amount;number:amount`, major units); none means no reference at all."""

    id: str
    """`ch_…` (payment_intent: replace the prefix by `pi_`)."""
    legal_entity_id: str
    customer_id: str
    currency: str
    amount: Decimal
    method: Literal["card", "sepa_debit", "ach_debit", "customer_balance"]
    invoice_id: str | None
    allocations: tuple[PaymentAllocation, ...]
    """Of every succeeded payment, the processor's own included (then one, for the whole invoice payment)."""
    status: Literal["succeeded", "failed"]
    balance_transaction_id: str | None
    fee: Decimal
    description: str
    created: datetime
    accounting_date: date
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class Refund:
    id: str
    """`re_…`."""
    legal_entity_id: str
    charge_id: str
    credit_note_id: str | None
    customer_id: str
    currency: str
    amount: Decimal
    balance_transaction_id: str
    reason: str
    created: datetime
    accounting_date: date
    visible_at: datetime
    failed_at: datetime | None = None
    """The bank sent it back: status `failed` from then on, and the amount is in the processor's balance again."""
    failed_date: date | None = None
    failure_balance_transaction_id: str | None = None
    failure_reason: Literal["lost_or_stolen_card", "expired_or_canceled_card", "declined"] | None = None


@dataclass(frozen=True, slots=True)
class DisputeVersion:
    at: datetime
    visible_at: datetime
    status: Literal["needs_response", "under_review", "won", "lost"]
    balance_transaction_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dispute:
    id: str
    """`dp_…`."""
    legal_entity_id: str
    charge_id: str
    customer_id: str
    currency: str
    amount: Decimal
    fee: Decimal
    reason: str
    created: datetime
    accounting_date: date
    closed_at: datetime | None
    closed_date: date | None
    versions: tuple[DisputeVersion, ...]


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    id: str
    """`txn_…`."""
    legal_entity_id: str
    type: Literal[
        "charge", "payment", "refund", "payment_refund", "refund_failure", "adjustment", "payout", "stripe_fee"
    ]
    reporting_category: Literal["charge", "refund", "refund_failure", "dispute", "dispute_reversal", "payout", "fee"]
    amount: Decimal
    """Gross, signed."""
    fee: Decimal
    net: Decimal
    currency: str
    source_id: str | None
    """Charge, refund, dispute or payout."""
    description: str
    created: datetime
    accounting_date: date
    available_at: datetime
    """available_on; `pending` before, `available` from then on."""
    payout_id: str | None
    """Payout that carries it; known from `payout_at` on. None on payouts themselves and while not paid out."""
    payout_at: datetime | None
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class PayoutVersion:
    at: datetime
    visible_at: datetime
    status: Literal["pending", "in_transit", "paid", "failed"]


@dataclass(frozen=True, slots=True)
class Payout:
    """An automatic payout: amount = net of its balance transactions."""

    id: str
    """`po_…`."""
    legal_entity_id: str
    currency: str
    amount: Decimal
    balance_transaction_id: str
    bank_reference: str
    """statement_descriptor, and a word of the bank line's reference."""
    created: datetime
    accounting_date: date
    arrival_date: date
    """The bank's booking date."""
    versions: tuple[PayoutVersion, ...]


# ---------------------------------------------------------------------- files: usage, bank, product


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One line of the usage feed, a repeated delivery of the same event included."""

    event_id: str
    legal_entity_id: str
    subscription_id: str
    customer_id: str
    """`cus_…`."""
    meter: str
    unit: str
    quantity: int
    occurred_at: datetime
    usage_date: date
    """Local day of `occurred_at`."""
    kind: Literal["usage", "correction", "void"]
    """A correction replaces, a void removes the event it names."""
    corrects_event_id: str | None
    visible_at: datetime
    """When the file that holds it reaches the drop folder (received_at)."""
    copy: int = 0
    """0 for the first delivery, 1 for a repeated one."""


@dataclass(frozen=True, slots=True)
class UnreadableUsageRow:
    """A line of the usage feed that cannot become a usage event."""

    legal_entity_id: str
    fields: dict[str, str]
    """As written to the file; every value is text."""
    reason: Literal["not_a_number", "unknown_unit", "negative"]
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class BankLine:
    id: str
    legal_entity_id: str
    account: str
    booking_date: date
    value_date: date
    amount: Decimal
    """Signed."""
    currency: str
    reference: str
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class ProvisioningRow:
    """What the product gives a subscription on the day of a snapshot."""

    id: str
    legal_entity_id: str
    as_of: date
    account_id: str
    subscription_id: str
    feature: str
    """Product key."""
    status: Literal["enabled", "disabled"]
    quantity: int | None
    visible_at: datetime


# ---------------------------------------------------------------------- support


@dataclass(frozen=True, slots=True)
class Organization:
    """Zendesk organisation."""

    id: int
    name: str
    external_id: str | None
    """CRM Account.Id; None or unknown only where planted."""
    domains: tuple[str, ...]
    created: datetime


@dataclass(frozen=True, slots=True)
class SupportUser:
    """Zendesk end user."""

    id: int
    organization_id: int
    name: str
    email: str
    created: datetime


@dataclass(frozen=True, slots=True)
class TicketVersion:
    at: datetime
    visible_at: datetime
    status: Literal["new", "open", "pending", "hold", "solved", "closed", "deleted"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Zendesk ticket; open while its status is new, open, pending or hold."""

    id: int
    organization_id: int | None
    requester_id: int | None
    subject: str
    description: str
    priority: Literal["low", "normal", "high", "urgent"]
    created: datetime
    versions: tuple[TicketVersion, ...]


# ---------------------------------------------------------------------- ERP


@dataclass(frozen=True, slots=True)
class MoveLine:
    account: str
    """GL code."""
    debit: Decimal
    credit: Decimal
    text: str = ""


@dataclass(frozen=True, slots=True)
class ErpMove:
    """A balanced journal entry that stands in the ERP without Tieout's doing.

    Descriptions of the former integration: `BillingSync <invoice number>` (invoice), `BillingSync VOID <invoice
    number>`, `BillingSync UNC <invoice number>` (uncollectible), `BillingSync CN <credit note number>`,
    `BillingSync CRA <invoice number>` (customer credit applied), `BillingSync PAY <charge id>` (payment with its fee),
    `BillingSync REF <refund id>`, `BillingSync RFF <refund id>` (refund failed), `BillingSync DSP <dispute id>` (funds
    withdrawn), `BillingSync DSC <dispute id>` (closed), `BillingSync PO <payout id>` (sent),
    `BillingSync POA <payout id>` (arrived), `BillingSync REL 2026-02` (revenue released in the month).
    Accountants: `MANUAL <text>`. Opening: `OPENING <entity>`.
    """

    key: str
    """Unique, stable."""
    legal_entity_id: str
    date: date
    description: str
    lines: tuple[MoveLine, ...]
    visible_at: datetime
    """Before go-live for history; for manual moves the instant from which they are in the ERP."""


# ---------------------------------------------------------------------- answer key


@dataclass(frozen=True, slots=True)
class Label:
    """A planted break as a run must report it."""

    label_id: str
    definition_id: str
    break_type: str
    legal_entity_id: str
    """Empty where the record belongs to nobody (a ticket of an unknown organisation)."""
    break_key: str
    visible_from: date
    """First business date whose run must find it."""
    visible_to: date | None
    """First later business date whose run must no longer find it; None while it lasts."""
    amount: Decimal | None
    currency: str | None
    note: str

    def is_visible(self, business_date: date) -> bool:
        """Whether the run of that business date must report it."""
        return self.visible_from <= business_date and (self.visible_to is None or business_date < self.visible_to)


@dataclass(frozen=True, slots=True)
class QuarantineExpectation:
    """How many records of a feed a run must have set aside by a business date, by reason."""

    source: str
    object: str
    reason: str
    business_date: date
    count: int


@dataclass(slots=True)
class Company:
    """A whole company. Lists are ordered by id or time and equal for equal (seed, scale, clean)."""

    seed: int
    scale: int
    clean: bool
    go_live: date
    start: date
    end: date
    """Facts are generated for [start, end)."""
    entities: list[Entity] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    prices: list[Price] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    opportunities: list[Opportunity] = field(default_factory=list)
    quotes: list[Quote] = field(default_factory=list)
    contracts: list[Contract] = field(default_factory=list)
    contract_lines: list[ContractLine] = field(default_factory=list)
    entitlements: list[Entitlement] = field(default_factory=list)
    customers: list[BillingCustomer] = field(default_factory=list)
    customer_balance_transactions: list[CustomerBalanceTransaction] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    credit_notes: list[CreditNote] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    balance_transactions: list[BalanceTransaction] = field(default_factory=list)
    payouts: list[Payout] = field(default_factory=list)
    usage_events: list[UsageEvent] = field(default_factory=list)
    unreadable_usage: list[UnreadableUsageRow] = field(default_factory=list)
    bank_lines: list[BankLine] = field(default_factory=list)
    provisioning: list[ProvisioningRow] = field(default_factory=list)
    organizations: list[Organization] = field(default_factory=list)
    support_users: list[SupportUser] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    erp_history: list[ErpMove] = field(default_factory=list)
    manual_moves: list[ErpMove] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    quarantine: list[QuarantineExpectation] = field(default_factory=list)

    def entity(self, entity_id: str) -> Entity:
        """The entity of that id. Raises KeyError if there is none."""
        for entity in self.entities:
            if entity.id == entity_id:
                return entity
        raise KeyError(entity_id)
