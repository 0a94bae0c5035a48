"""One entity's billing as Stripe objects and the events of their changes, at API version 2024-06-20.

Bodies leave out what `resources.TEMPLATES` fills in; lines, prices and tax rates inside them are ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from tieout.money import minor_digits, to_minor
from tieout_sandbox.company.model import (
    BillingCustomer,
    Charge,
    Company,
    CreditNote,
    CustomerBalanceTransaction,
    Dispute,
    Entity,
    Invoice,
    InvoiceLine,
    InvoiceVersion,
    Price,
    Refund,
    Subscription,
)
from tieout_sandbox.simulators.documents import Document
from tieout_sandbox.simulators.instants import digest, midnight, seconds, utc_midnight

_LATE_EVERY = 40  # one event in so many appears late
_LATEST = 40 * 60
_QUIET = (8 * 3600 + 50 * 60, 9 * 3600 + 5 * 60)  # nothing may move across this part of a UTC day
_DUE_DAYS = 30
_EVIDENCE_DAYS = 9
_PAYMENT_DETAILS: dict[str, dict[str, Any]] = {
    "card": {
        "type": "card",
        "card": {
            "amount_authorized": None,
            "brand": "visa",
            "checks": None,
            "country": "US",
            "exp_month": 12,
            "exp_year": 2030,
            "fingerprint": None,
            "funding": "credit",
            "installments": None,
            "last4": "4242",
            "mandate": None,
            "network": "visa",
            "three_d_secure": None,
            "wallet": None,
        },
    },
    "sepa_debit": {
        "type": "sepa_debit",
        "sepa_debit": {
            "bank_code": None,
            "branch_code": None,
            "country": "DE",
            "fingerprint": None,
            "last4": "3000",
            "mandate": None,
        },
    },
    "ach_debit": {
        "type": "ach_debit",
        "ach_debit": {
            "account_holder_type": "company",
            "bank_name": None,
            "country": "US",
            "fingerprint": None,
            "last4": "6789",
            "routing_number": None,
        },
    },
    "customer_balance": {"type": "customer_balance", "customer_balance": {}},
}


def render(company: Company) -> Iterator[Document]:
    """Every Stripe account of the company: objects with their versions, and events."""
    for entity in company.entities:
        yield from _Account(company, entity).documents()


@dataclass(slots=True)
class _Account:
    company: Company
    entity: Entity
    taxed: set[str] = field(default_factory=set)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    intervals: dict[str, Price] = field(default_factory=dict)

    def documents(self) -> Iterator[Document]:
        mine = self.entity.id
        company = self.company
        yield from self._catalogue()
        balances: dict[str, list[CustomerBalanceTransaction]] = defaultdict(list)
        for t in company.customer_balance_transactions:
            balances[t.customer_id].append(t)
        for c in company.customers:
            if c.legal_entity_id == mine:
                yield from self._customer(c, balances[c.id])
        invoices_of: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for invoice in company.invoices:
            if invoice.legal_entity_id == mine:
                if invoice.subscription_id:
                    invoices_of[invoice.subscription_id].append((invoice.created, invoice.id))
                yield from self._invoice(invoice)
        for subscription in company.subscriptions:
            if subscription.legal_entity_id == mine:
                yield from self._subscription(subscription, invoices_of[subscription.id])
        for note in company.credit_notes:
            if note.legal_entity_id == mine:
                yield from self._credit_note(note)
        yield from self._payments()
        yield from self._balance()

    # --- catalogue --------------------------------------------------------------------------------------------

    def _catalogue(self) -> Iterator[Document]:
        e = self.entity
        opened = min(p.created for p in self.company.products)
        rate = {
            "created": seconds(opened),
            "display_name": e.tax_name,
            "country": e.country,
            "jurisdiction": e.country,
            "percentage": float(e.tax_percent),
            "effective_percentage": float(e.tax_percent),
            "tax_type": {"US": "sales_tax", "JP": "jct"}.get(e.country, "vat"),
        }
        yield from self._once("tax_rates", e.tax_code, opened, opened, rate, "tax_rate.created")
        for p in self.company.products:
            product_id = p.stripe_ids.get(e.id)
            if product_id is None:
                continue
            body = {
                "created": seconds(p.created),
                "updated": seconds(p.created),
                "active": True,
                "name": p.name,
                "unit_label": p.unit,
                "metadata": {"crm_product_id": p.crm_id, "sku": p.key} if p.mapped else {},
            }
            yield from self._once("products", product_id, p.created, p.created, body, "product.created")
        for price in self.company.prices:
            if price.legal_entity_id == e.id:
                self.intervals[price.id] = price
                yield from self._once(
                    "prices", price.id, price.created, price.created, self._price(price), "price.created"
                )

    def _price(self, price: Price) -> dict[str, Any]:
        recurring = None
        if not price.one_off:
            yearly = price.interval_months == 12
            recurring = {
                "aggregate_usage": "sum" if price.usage_type == "metered" else None,
                "interval": "year" if yearly else "month",
                "interval_count": 1 if yearly else price.interval_months,
                "meter": None,
                "trial_period_days": None,
                "usage_type": price.usage_type,
            }
        return {
            "created": seconds(price.created),
            "active": True,
            "currency": price.currency.lower(),
            "product": price.product_id,
            "recurring": recurring,
            "type": "one_time" if price.one_off else "recurring",
            **(self._tiers(price) if price.unit_amount is None else self._unit(price.unit_amount)),
        }

    def _tiers(self, price: Price) -> dict[str, Any]:
        tiers = [
            {"flat_amount": None, "flat_amount_decimal": None, "up_to": t.up_to, **self._unit(t.unit_amount)}
            for t in price.tiers
        ]
        return {"billing_scheme": "tiered", "tiers_mode": price.tiers_mode, "tiers": tiers}

    # --- customers --------------------------------------------------------------------------------------------

    def _customer(self, c: BillingCustomer, changes: list[CustomerBalanceTransaction]) -> Iterator[Document]:
        if c.taxed:
            self.taxed.add(c.id)
        self.names[c.id] = (c.name, c.email)
        created = seconds(c.created)
        body: dict[str, Any] = {
            "created": created,
            "name": c.name,
            "email": c.email,
            "currency": c.currency.lower(),
            "address": _address(c.country),
            "tax_exempt": "none" if c.taxed else "exempt",
            "invoice_prefix": digest(c.id)[:8].upper(),
            "metadata": {"crm_account_id": c.account_id} if c.account_id else {},
        }
        yield from self._once("customers", c.id, c.created, c.created, body, "customer.created")
        version = 1
        for version, t in enumerate(changes, 2):
            change = {
                "amount": self._minor(t.amount),
                "created": seconds(t.created),
                "currency": t.currency.lower(),
                "customer": c.id,
                "ending_balance": self._minor(t.ending_balance),
                "invoice": t.invoice_id,
                "type": t.type,
            }
            yield self._document(
                "customer_balance_transactions", t.id, seconds(t.created), t.created, 1, change, parent=c.id
            )
            body = body | {"balance": self._minor(t.ending_balance)}
            yield self._document("customers", c.id, created, t.created, version, body)
            yield self._event("customer.updated", "customers", c.id, version, t.created, t.created)
        if c.deleted_at is not None:
            gone = body | {"deleted": True}
            yield self._document("customers", c.id, created, c.deleted_at, version + 1, gone)
            yield self._event("customer.deleted", "customers", c.id, version + 1, c.deleted_at, c.deleted_at)

    # --- subscriptions ----------------------------------------------------------------------------------------

    def _subscription(self, s: Subscription, invoices: list[tuple[datetime, str]]) -> Iterator[Document]:
        fixed = {
            "created": seconds(s.created),
            "billing_cycle_anchor": seconds(s.anchor),
            "collection_method": s.collection_method,
            "currency": s.currency.lower(),
            "customer": s.customer_id,
            "days_until_due": _DUE_DAYS if s.collection_method == "send_invoice" else None,
            "default_tax_rates": [self.entity.tax_code] if s.customer_id in self.taxed else [],
            "start_date": seconds(s.start_date),
            "trial_start": _maybe(s.trial_start),
            "trial_end": _maybe(s.trial_end),
        }
        before = None
        for number, v in enumerate(s.versions, 1):
            items = []
            for i in v.items:
                item: dict[str, Any] = {
                    "id": i.id,
                    "created": seconds(i.created),
                    "price": i.price_id,
                    "subscription": s.id,
                    "metadata": {"crm_line_id": i.crm_line_id} if i.crm_line_id else {},
                }
                items.append(item if i.quantity is None else item | {"quantity": i.quantity})
            body = fixed | {
                "status": v.status,
                "cancel_at_period_end": v.cancel_at_period_end,
                "cancel_at": seconds(v.current_period_end) if v.cancel_at_period_end else None,
                "canceled_at": _maybe(v.canceled_at),
                "ended_at": _maybe(v.ended_at),
                "cancellation_details": {
                    "comment": None,
                    "feedback": None,
                    "reason": "cancellation_requested" if v.canceled_at else None,
                },
                "current_period_start": seconds(v.current_period_start),
                "current_period_end": seconds(v.current_period_end),
                "items": items,
                "latest_invoice": max((i for i in invoices if i[0] <= v.at), default=(None, None))[1],
                "metadata": {"contract_id": v.contract_id} if v.contract_id else {},
            }
            yield self._document("subscriptions", s.id, seconds(s.created), v.visible_at, number, body)
            if before is None:
                kind = "customer.subscription.created"
            elif v.status == "canceled" and before != "canceled":
                kind = "customer.subscription.deleted"
            else:
                kind = "customer.subscription.updated"
            yield self._event(kind, "subscriptions", s.id, number, v.at, v.visible_at)
            before = v.status

    # --- invoices and credit notes ----------------------------------------------------------------------------

    def _invoice(self, invoice: Invoice) -> Iterator[Document]:
        taxed = invoice.customer_id in self.taxed
        first = invoice.versions[0].visible_at
        for line in invoice.lines:
            yield from self._line(invoice, line, taxed, first)
        name, email = self.names.get(invoice.customer_id, (None, None))
        total = self._minor(invoice.total)
        tax = self._minor(invoice.tax)
        fixed = {
            "account_country": self.entity.country,
            "account_name": self.entity.name,
            "billing_reason": invoice.billing_reason,
            "collection_method": invoice.collection_method,
            "created": seconds(invoice.created),
            "currency": invoice.currency.lower(),
            "customer": invoice.customer_id,
            "customer_name": name,
            "customer_email": email,
            "customer_tax_exempt": "none" if taxed else "exempt",
            "due_date": _maybe(invoice.due_at),
            "period_start": midnight(invoice.period_start, self.entity.zone),
            "period_end": midnight(invoice.period_end, self.entity.zone),
            "subscription": invoice.subscription_id,
            "subtotal": self._minor(invoice.subtotal),
            "subtotal_excluding_tax": self._minor(invoice.subtotal),
            "tax": tax if taxed else None,
            "total": total,
            "total_excluding_tax": total - tax,
            "total_tax_amounts": [self._tax(tax, total - tax)] if taxed else [],
        }
        before: InvoiceVersion | None = None
        for number, v in enumerate(invoice.versions, 1):
            body = fixed | self._invoice_state(invoice, v)
            yield self._document("invoices", invoice.id, seconds(invoice.created), v.visible_at, number, body)
            for kind in _invoice_events(before, v):
                yield self._event(kind, "invoices", invoice.id, number, v.at, v.visible_at)
            before = v

    def _invoice_state(self, invoice: Invoice, v: InvoiceVersion) -> dict[str, Any]:
        draft = v.status == "draft"
        credited = self._minor(v.credited_before_payment)
        reached = {
            "finalized_at": None if draft else _maybe(invoice.finalized_at),
            "marked_uncollectible_at": _reached(invoice.uncollectible_at, v.at),
            "paid_at": _maybe(invoice.paid_at) if v.status == "paid" else None,
            "voided_at": _maybe(invoice.voided_at) if v.status == "void" else None,
        }
        return {
            "amount_due": self._minor(invoice.total - invoice.credit_applied) - credited,
            "amount_paid": self._minor(v.amount_paid),
            "amount_remaining": self._minor(v.amount_remaining),
            "attempt_count": v.attempt_count,
            "attempted": v.attempt_count > 0 or v.charge_id is not None,
            "auto_advance": v.status in ("draft", "open"),
            "charge": v.charge_id,
            "payment_intent": _intent(v.charge_id) if v.charge_id else None,
            "effective_at": None if draft else _maybe(invoice.finalized_at),
            "starting_balance": self._minor(invoice.starting_balance),
            "ending_balance": None if draft else self._minor(invoice.ending_balance),
            "number": None if draft else invoice.number,
            "paid": v.status == "paid",
            "paid_out_of_band": v.paid_out_of_band,
            "post_payment_credit_notes_amount": self._minor(v.credited_after_payment),
            "pre_payment_credit_notes_amount": credited,
            "status": v.status,
            "status_transitions": reached,
        }

    def _line(self, invoice: Invoice, line: InvoiceLine, taxed: bool, visible: datetime) -> Iterator[Document]:
        zone = self.entity.zone
        amount = self._minor(line.amount)
        tax = self._minor(line.tax)
        common: dict[str, Any] = {
            "amount": amount,
            "currency": invoice.currency.lower(),
            "description": line.description,
            "period": {"start": midnight(line.period_start, zone), "end": midnight(line.period_end, zone)},
            "price": line.price_id,
            "proration": line.proration,
            "quantity": line.quantity,
            "subscription": invoice.subscription_id,
            "metadata": {"meter": line.meter} if line.meter else {},
            "tax_rates": [self.entity.tax_code] if taxed else [],
        }
        body = common | {
            "amount_excluding_tax": amount,
            "invoice": invoice.id,
            "tax_amounts": [self._tax(tax, amount)] if taxed else [],
            "type": line.kind,
            "unit_amount_excluding_tax": self._unit(line.unit_amount)["unit_amount_decimal"],
        }
        if line.subscription_item_id:
            body["subscription_item"] = line.subscription_item_id
        if line.invoice_item_id:
            body["invoice_item"] = line.invoice_item_id
        yield self._document("lines", line.id, line.line_no, visible, 1, body, parent=invoice.id)
        if line.invoice_item_id:
            item = common | {
                "customer": invoice.customer_id,
                "date": seconds(invoice.created),
                "invoice": invoice.id,
                **self._unit(line.unit_amount),
            }
            yield self._document(
                "invoiceitems", line.invoice_item_id, seconds(invoice.created), visible, 1, item, parent=invoice.id
            )
            yield self._event("invoiceitem.created", "invoiceitems", line.invoice_item_id, 1, invoice.created, visible)

    def _credit_note(self, note: CreditNote) -> Iterator[Document]:
        taxed = note.customer_id in self.taxed
        subtotal, tax, total = (self._minor(a) for a in (note.subtotal, note.tax, note.total))
        for position, line in enumerate(note.lines, 1):
            amount = self._minor(line.amount)
            body = {
                "amount": amount,
                "amount_excluding_tax": amount,
                "description": line.description,
                "invoice_line_item": line.invoice_line_id,
                "quantity": 1,
                "tax_amounts": [self._tax(self._minor(line.tax), amount)] if taxed else [],
                "tax_rates": [self.entity.tax_code] if taxed else [],
                "type": "invoice_line_item",
            }
            yield self._document("credit_note_lines", line.id, position, note.visible_at, 1, body, parent=note.id)
        body = {
            "amount": total,
            "created": seconds(note.created),
            "currency": note.currency.lower(),
            "customer": note.customer_id,
            "effective_at": seconds(note.created),
            "invoice": note.invoice_id,
            "memo": note.memo,
            "number": note.number,
            "pdf": f"https://pay.stripe.com/credit_notes/{note.id}/pdf",
            "reason": note.reason,
            "refund": note.refund_id,
            "subtotal": subtotal,
            "subtotal_excluding_tax": subtotal,
            "tax_amounts": [self._tax(tax, subtotal)] if taxed else [],
            "total": total,
            "total_excluding_tax": total - tax,
            "type": note.kind,
        }
        yield from self._once(
            "credit_notes", note.id, note.created, note.visible_at, body, "credit_note.created", parent=note.invoice_id
        )

    # --- payments ---------------------------------------------------------------------------------------------

    def _payments(self) -> Iterator[Document]:
        mine = self.entity.id
        changes: dict[str, list[tuple[datetime, datetime, str, Decimal]]] = defaultdict(list)
        for r in self.company.refunds:
            if r.legal_entity_id == mine:
                changes[r.charge_id].append((r.created, r.visible_at, "charge.refunded", r.amount))
                body: dict[str, Any] = {
                    "amount": self._minor(r.amount),
                    "balance_transaction": r.balance_transaction_id,
                    "charge": r.charge_id,
                    "created": seconds(r.created),
                    "currency": r.currency.lower(),
                    "metadata": {"credit_note": r.credit_note_id} if r.credit_note_id else {},
                    "payment_intent": _intent(r.charge_id),
                    "reason": r.reason if r.reason in ("duplicate", "fraudulent") else "requested_by_customer",
                    "status": "succeeded",
                }
                yield from self._once(
                    "refunds", r.id, r.created, r.visible_at, body, "refund.created", parent=r.charge_id
                )
                if r.failed_at is not None:
                    changes[r.charge_id].append((r.failed_at, r.failed_at, "charge.updated", -r.amount))
                    yield from self._failed_refund(r, body, r.failed_at)
        for d in self.company.disputes:
            if d.legal_entity_id == mine:
                changes[d.charge_id].append((d.created, d.versions[0].visible_at, "", Decimal(0)))
                yield from self._dispute(d)
        for c in self.company.charges:
            if c.legal_entity_id == mine:
                yield from self._charge(c, sorted(changes[c.id]))

    def _failed_refund(self, r: Refund, body: dict[str, Any], at: datetime) -> Iterator[Document]:
        failed = body | {
            "failure_balance_transaction": r.failure_balance_transaction_id,
            "failure_reason": r.failure_reason,
            "status": "failed",
        }
        yield self._document("refunds", r.id, seconds(r.created), at, 2, failed, parent=r.charge_id)
        for kind in ("refund.updated", "charge.refund.updated"):
            yield self._event(kind, "refunds", r.id, 2, at, at)

    def _charge(self, c: Charge, changes: list[tuple[datetime, datetime, str, Decimal]]) -> Iterator[Document]:
        name, email = self.names.get(c.customer_id, (None, None))
        failed = c.status == "failed"
        amount = self._minor(c.amount)
        metadata = {}
        if c.invoice_id is None and c.allocations:
            metadata["invoice_numbers"] = ";".join(f"{a.invoice_number}:{a.amount}" for a in c.allocations)
        body: dict[str, Any] = {
            "amount": amount,
            "amount_captured": 0 if failed else amount,
            "balance_transaction": c.balance_transaction_id,
            "billing_details": {"address": _address(None), "email": email, "name": name, "phone": None},
            "captured": not failed,
            "created": seconds(c.created),
            "currency": c.currency.lower(),
            "customer": c.customer_id,
            "description": c.description,
            "invoice": c.invoice_id,
            "metadata": metadata,
            "paid": not failed,
            "payment_intent": _intent(c.id),
            "payment_method": "pm_" + digest(c.customer_id, c.method),
            "payment_method_details": _PAYMENT_DETAILS[c.method],
            "status": c.status,
        }
        if failed:
            body |= {
                "failure_code": "card_declined",
                "failure_message": "Your card was declined.",
                "outcome": {
                    "network_status": "declined_by_network",
                    "reason": "generic_decline",
                    "risk_level": "normal",
                    "seller_message": "The bank did not return any further details with this decline.",
                    "type": "issuer_declined",
                },
            }
        created = seconds(c.created)
        kind = "charge.failed" if failed else "charge.succeeded"
        yield from self._once("charges", c.id, c.created, c.visible_at, body, kind)
        refunded = 0
        for number, (at, visible, change, refund) in enumerate(changes, 2):
            if change:
                refunded += self._minor(refund)
                body = body | {"amount_refunded": refunded, "refunded": 0 < amount <= refunded}
            else:
                body = body | {"disputed": True}
            yield self._document("charges", c.id, created, visible, number, body)
            yield self._event(change or "charge.updated", "charges", c.id, number, at, visible)
        intent = {
            "amount": amount,
            "amount_received": 0 if failed else amount,
            "created": created,
            "currency": c.currency.lower(),
            "customer": c.customer_id,
            "description": c.description,
            "invoice": c.invoice_id,
            "latest_charge": c.id,
            "payment_method": None if failed else body["payment_method"],
            "payment_method_types": [c.method if c.method != "ach_debit" else "us_bank_account"],
            "status": "requires_payment_method" if failed else "succeeded",
        }
        kind = "payment_intent.payment_failed" if failed else "payment_intent.succeeded"
        yield from self._once("payment_intents", _intent(c.id), c.created, c.visible_at, intent, kind)

    def _dispute(self, d: Dispute) -> Iterator[Document]:
        fixed = {
            "amount": self._minor(d.amount),
            "charge": d.charge_id,
            "created": seconds(d.created),
            "currency": d.currency.lower(),
            "evidence_details": {
                "due_by": seconds(d.created) + _EVIDENCE_DAYS * 86400,
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "payment_intent": _intent(d.charge_id),
            "reason": d.reason,
        }
        for number, v in enumerate(d.versions, 1):
            body = fixed | {"balance_transactions": list(v.balance_transaction_ids), "status": v.status}
            yield self._document("disputes", d.id, seconds(d.created), v.visible_at, number, body, parent=d.charge_id)
            closed = v.status in ("won", "lost")
            kinds = ["charge.dispute.closed" if closed else "charge.dispute.updated"]
            if number == 1:
                kinds = ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
            elif v.status == "won":
                kinds.append("charge.dispute.funds_reinstated")
            for kind in kinds:
                yield self._event(kind, "disputes", d.id, number, v.at, v.visible_at)

    # --- balance ----------------------------------------------------------------------------------------------

    def _balance(self) -> Iterator[Document]:
        for t in self.company.balance_transactions:
            if t.legal_entity_id != self.entity.id:
                continue
            fee = self._minor(t.fee)
            detail = {
                "amount": fee,
                "application": None,
                "currency": t.currency.lower(),
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
            body = {
                "amount": self._minor(t.amount),
                "available_on": seconds(t.available_at),
                "created": seconds(t.created),
                "currency": t.currency.lower(),
                "description": t.description,
                "fee": fee,
                "fee_details": [detail] if fee else [],
                "net": self._minor(t.net),
                "reporting_category": t.reporting_category,
                "source": t.source_id,
                "type": t.type,
            }
            yield self._document(
                "balance_transactions",
                t.id,
                seconds(t.created),
                t.visible_at,
                1,
                body,
                # a payout's list has its own transaction too
                parent=t.payout_id or (t.source_id if t.type == "payout" else None) or "",
            )
        for p in self.company.payouts:
            if p.legal_entity_id != self.entity.id:
                continue
            fixed = {
                "amount": self._minor(p.amount),
                "arrival_date": utc_midnight(p.arrival_date),
                "automatic": True,
                "balance_transaction": p.balance_transaction_id,
                "created": seconds(p.created),
                "currency": p.currency.lower(),
                "destination": "ba_" + digest(self.entity.bank_account),
                "statement_descriptor": p.bank_reference,
            }
            for number, v in enumerate(p.versions, 1):
                # Stripe knows what a payout carries some time after it made it
                known = number > 1
                body = fixed | {
                    "status": v.status,
                    "reconciliation_status": "completed" if known else "in_progress",
                }
                if v.status == "failed":
                    body |= {
                        "failure_code": "account_closed",
                        "failure_message": "The bank account has been closed.",
                    }
                yield self._document("payouts", p.id, seconds(p.created), v.visible_at, number, body)
                kind = "payout.created" if number == 1 else f"payout.{v.status}"
                kind = kind if kind in ("payout.created", "payout.paid", "payout.failed") else "payout.updated"
                yield self._event(kind, "payouts", p.id, number, v.at, v.visible_at)
                if number == 2:
                    kind = "payout.reconciliation_completed"
                    yield self._event(kind, "payouts", p.id, number, v.at, v.visible_at)

    # --- parts ------------------------------------------------------------------------------------------------

    def _document(
        self,
        name: str,
        object_id: str,
        stamp: int,
        visible: datetime,
        version: int,
        body: dict[str, Any],
        parent: str = "",
    ) -> Document:
        return Document(
            "stripe", self.entity.stripe_account, name, object_id, stamp, seconds(visible), version, body, parent
        )

    def _once(
        self,
        name: str,
        object_id: str,
        created: datetime,
        visible: datetime,
        body: dict[str, Any],
        event: str,
        parent: str = "",
    ) -> Iterator[Document]:
        """An object's first version and the event that tells of it."""
        yield self._document(name, object_id, seconds(created), visible, 1, body, parent)
        yield self._event(event, name, object_id, 1, created, visible)

    def _event(self, kind: str, name: str, object_id: str, version: int, at: datetime, visible: datetime) -> Document:
        event_id = "evt_" + digest(kind, object_id, version)
        body: dict[str, Any] = {"type": kind, "created": seconds(at), "ref": [name, object_id, version]}
        if version > 1:
            body["previous"] = version - 1
        seen = seconds(visible) + _lateness(event_id, seconds(visible))
        return Document("stripe", self.entity.stripe_account, "events", event_id, seconds(at), seen, 1, body)

    def _minor(self, amount: Decimal) -> int:
        return to_minor(amount, self.entity.currency, "stripe")

    def _unit(self, amount: Decimal) -> dict[str, Any]:
        """A unit price in minor units: whole in `unit_amount`, always exact in `unit_amount_decimal`."""
        minor = amount.scaleb(minor_digits(self.entity.currency, "stripe")).normalize()
        whole = minor == minor.to_integral_value()
        return {"unit_amount": int(minor) if whole else None, "unit_amount_decimal": format(minor, "f")}

    def _tax(self, tax: int, taxable: int) -> dict[str, Any]:
        return {
            "amount": tax,
            "inclusive": False,
            "tax_rate": self.entity.tax_code,
            "taxability_reason": "standard_rated",
            "taxable_amount": taxable,
        }


def _invoice_events(before: InvoiceVersion | None, now: InvoiceVersion) -> list[str]:
    """The event types Stripe sends for one step of an invoice's life."""
    kinds = ["invoice.created"] if before is None else []
    was = "draft" if before is None else before.status
    if was == "draft" and now.status != "draft":
        kinds.append("invoice.finalized")
    if now.status != was:
        kinds += {
            "paid": ["invoice.paid"] if now.paid_out_of_band else ["invoice.paid", "invoice.payment_succeeded"],
            "void": ["invoice.voided"],
            "uncollectible": ["invoice.marked_uncollectible"],
        }.get(now.status, [])
    elif before is not None and now.attempt_count > before.attempt_count:
        kinds.append("invoice.payment_failed")
    return kinds or ["invoice.updated"]


def _lateness(event_id: str, visible: int) -> int:
    """Seconds after its object that an event appears; never so late that a night sees another state for it."""
    number = int(event_id[4:], 16)
    if number % _LATE_EVERY:
        return 0
    late = number % _LATEST
    of_day = visible % 86400
    return late if of_day + late < _QUIET[0] or of_day > _QUIET[1] else 0


def _intent(charge_id: str) -> str:
    return "pi_" + charge_id.removeprefix("ch_")


def _maybe(moment: datetime | None) -> int | None:
    return None if moment is None else seconds(moment)


def _reached(moment: datetime | None, at: datetime) -> int | None:
    return seconds(moment) if moment is not None and moment <= at else None


def _address(country: str | None) -> dict[str, Any]:
    return {"city": None, "country": country, "line1": None, "line2": None, "postal_code": None, "state": None}
