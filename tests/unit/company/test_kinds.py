"""Every kind of record and every turn of business that the generated company must have occurs at scale 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest

from tieout_sandbox.company import Company
from tieout_sandbox.company.model import InvoiceLine


def lines(company: Company) -> list[InvoiceLine]:
    return [line for invoice in company.invoices for line in invoice.lines]


def families(company: Company, family: str) -> list[InvoiceLine]:
    return [line for line in lines(company) if line.family == family]


def statuses(rows: list, status: str) -> list:
    return [row for row in rows if any(v.status == status for v in row.versions)]


def local(company: Company, entity: str, instant) -> date:
    return instant.astimezone(ZoneInfo(company.entity(entity).zone)).date()


def late_usage(company: Company) -> list:
    return [
        e for e in company.usage_events
        if local(company, e.legal_entity_id, e.visible_at) > e.usage_date + timedelta(days=1)
    ]  # fmt: skip


def after_billing_period(company: Company) -> list:
    """Subscriptions whose newest version is on another contract than their first: renewed."""
    return [s for s in company.subscriptions if s.versions[0].contract_id != s.versions[-1].contract_id]


def moved(company: Company) -> list:
    return [a for a in company.accounts if len({v.legal_entity_id for v in a.versions}) > 1]


def open_cases(company: Company) -> list:
    return [t for t in company.tickets if t.versions[-1].status in ("new", "open", "pending", "hold")]


def amended(company: Company, sign: int) -> list:
    return [
        x for x in company.contract_lines if x.root_id != x.id and x.quantity is not None and x.quantity * sign > 0
    ]  # fmt: skip


def allocated(charge) -> int:
    return sum(a.amount for a in charge.allocations)


def partly_paid(company: Company) -> list:
    """Invoices that two or more payments pay together."""
    parts = Counter(a.invoice_number for c in company.charges for a in c.allocations)
    return [n for n, count in parts.items() if count > 1]


KINDS: dict[str, Callable[[Company], list]] = {
    "customers below a parent": lambda c: [a for a in c.accounts if a.parent_id],
    "customers of the US entity": lambda c: [x for x in c.customers if x.legal_entity_id == "US"],
    "customers of the DE entity": lambda c: [x for x in c.customers if x.legal_entity_id == "DE"],
    "customers of the JP entity": lambda c: [x for x in c.customers if x.legal_entity_id == "JP"],
    "prospects that never bought": lambda c: [a for a in c.accounts if a.versions[-1].status == "Prospect"],
    "deleted billing customers": lambda c: [x for x in c.customers if x.deleted_at],
    "seats": lambda c: families(c, "seats"),
    "platform editions": lambda c: families(c, "platform"),
    "metered usage": lambda c: families(c, "usage"),
    "graduated prices": lambda c: [p for p in c.prices if p.tiers_mode == "graduated"],
    "volume prices": lambda c: [p for p in c.prices if p.tiers_mode == "volume"],
    "invoice lines of a second graduated tier": lambda c: [x for x in lines(c) if "Next" in x.description],
    "invoice lines of a volume price": lambda c: [x for x in lines(c) if x.meter == "compute"],
    "premium support": lambda c: families(c, "support"),
    "contracts": lambda c: c.contracts,
    "contract lines of metered products": lambda c: [x for x in c.contract_lines if x.quantity is None],
    "opportunities won": lambda c: [o for o in c.opportunities if o.versions[-1].stage == "Closed Won"],
    "opportunities lost": lambda c: [o for o in c.opportunities if o.versions[-1].stage == "Closed Lost"],
    "CPQ quotes of new business": lambda c: [q for q in c.quotes if q.kind == "New"],
    "CPQ quotes of amendments": lambda c: [q for q in c.quotes if q.kind == "Amendment"],
    "CPQ quotes of renewals": lambda c: [q for q in c.quotes if q.kind == "Renewal"],
    "upgrades": lambda c: amended(c, 1),
    "downgrades": lambda c: amended(c, -1),
    "proration of unused time": lambda c: [x for x in lines(c) if x.proration and x.amount < 0],
    "proration of remaining time": lambda c: [x for x in lines(c) if x.proration and x.amount > 0],
    "billing-entity change": moved,
    "trials": lambda c: statuses(c.subscriptions, "trialing"),
    "trials that became paid": lambda c: [
        s for s in statuses(c.subscriptions, "trialing") if s.versions[-1].status == "active"
    ],
    "past-due subscriptions": lambda c: statuses(c.subscriptions, "past_due"),
    "cancellations": lambda c: statuses(c.subscriptions, "canceled"),
    "cancellations announced ahead": lambda c: [
        s for s in c.subscriptions if any(v.cancel_at_period_end for v in s.versions)
    ],
    "renewals": after_billing_period,
    "usage events": lambda c: [e for e in c.usage_events if e.kind == "usage"],
    "usage delivered twice": lambda c: [e for e in c.usage_events if e.copy],
    "usage that is late": late_usage,
    "usage corrected": lambda c: [e for e in c.usage_events if e.kind == "correction"],
    "usage taken back": lambda c: [e for e in c.usage_events if e.kind == "void"],
    "invoices with tax": lambda c: [i for i in c.invoices if i.tax > 0],
    "invoices without tax": lambda c: [i for i in c.invoices if i.tax == 0 < i.total],
    "invoices never finalised": lambda c: [i for i in c.invoices if i.finalized_at is None],
    "invoices given up": lambda c: statuses(c.invoices, "uncollectible"),
    "negative invoices": lambda c: [i for i in c.invoices if i.total < 0],
    "invoices paid in part by credit": lambda c: [i for i in c.invoices if 0 < i.credit_applied < i.total],
    "voids": lambda c: statuses(c.invoices, "void"),
    "credit notes before payment": lambda c: [n for n in c.credit_notes if n.kind == "pre_payment"],
    "credit notes after payment": lambda c: [n for n in c.credit_notes if n.kind == "post_payment"],
    "payments": lambda c: [x for x in c.charges if x.status == "succeeded"],
    "payments that failed": lambda c: [x for x in c.charges if x.status == "failed"],
    "partial payments": partly_paid,
    "bulk payments": lambda c: [x for x in c.charges if len(x.allocations) > 1],
    "overpayments": lambda c: [x for x in c.charges if x.allocations and x.amount > allocated(x)],
    "customer credit from overpayments": lambda c: [
        t for t in c.customer_balance_transactions if t.type == "adjustment"
    ],
    "fees": lambda c: [b for b in c.balance_transactions if b.fee > 0],
    "refunds": lambda c: c.refunds,
    "failed refunds before go-live": lambda c: [r for r in c.refunds if r.failed_date and r.failed_date < c.go_live],
    "failed refunds after go-live": lambda c: [r for r in c.refunds if r.failed_date and r.failed_date >= c.go_live],
    "disputes": lambda c: c.disputes,
    "disputes won": lambda c: statuses(c.disputes, "won"),
    "disputes lost": lambda c: statuses(c.disputes, "lost"),
    "payouts": lambda c: c.payouts,
    "payouts that arrived": lambda c: statuses(c.payouts, "paid"),
    "bank lines": lambda c: c.bank_lines,
    "entitlements": lambda c: c.entitlements,
    "entitlements that expired": lambda c: statuses(c.entitlements, "Expired"),
    "provisioned features": lambda c: c.provisioning,
    "support cases open": open_cases,
    "support cases solved": lambda c: statuses(c.tickets, "solved"),
    "support cases deleted": lambda c: statuses(c.tickets, "deleted"),
    "records shown later than stamped": lambda c: [
        o for o in c.opportunities if any(v.visible_at > v.at for v in o.versions)
    ],
    "journal entries of the former integration": lambda c: c.erp_history,
    "journal entries made by hand": lambda c: c.manual_moves,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_occurs(clean: Company, kind: str) -> None:
    assert len(KINDS[kind](clean)) > 0


def test_every_break_type_is_planted(planted: Company) -> None:
    assert {label.break_type for label in planted.labels} == {
        "missing_left", "missing_right", "duplicate", "amount", "currency", "timing", "cut_off", "status", "attribute",
        "mapping", "orphan", "ambiguous", "suggested_match",
    }  # fmt: skip
    assert {row.reason for row in planted.unreadable_usage} == {"not_a_number", "unknown_unit", "negative"}
