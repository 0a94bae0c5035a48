"""What the vendors show of the generated company says what the company's facts say."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from tieout_sandbox.company_store import stored_company
from tieout_sandbox.simulators.instants import seconds
from tieout_sandbox.simulators.salesforce.render import render as salesforce
from tieout_sandbox.simulators.stripe.render import render as stripe
from tieout_sandbox.simulators.stripe.resources import ID_PREFIXES, TEMPLATES
from tieout_sandbox.simulators.zendesk.render import render as zendesk

DIGITS = {"USD": 2, "EUR": 2, "JPY": 0}


@pytest.fixture(scope="module")
def company():
    return stored_company(7, 1, False)


@pytest.fixture(scope="module")
def documents(company):
    return [*stripe(company), *salesforce(company), *zendesk(company)]


@pytest.fixture(scope="module")
def newest(documents):
    """(object, id) → body of its last version."""
    return {(d.object, d.id): d.body for d in sorted(documents, key=lambda d: d.version)}


def minor(amount: Decimal, currency: str) -> int:
    return int(amount.scaleb(DIGITS[currency]))


def test_the_same_company_renders_the_same_documents(company, documents):
    assert [*stripe(company), *salesforce(company), *zendesk(company)] == documents


def test_every_version_has_its_own_number_and_none_is_missing(documents):
    numbers = defaultdict(list)
    for d in documents:
        numbers[d.system, d.account, d.object, d.id].append(d.version)
    assert all(sorted(v) == list(range(1, len(v) + 1)) for v in numbers.values())


def test_nothing_is_visible_before_it_is_stamped(documents):
    late = [d for d in documents if d.system != "stripe" and d.visible_at < d.stamp]
    assert late == []


def test_how_many_objects(company, documents):
    found = Counter((d.system, d.object) for d in documents if d.version == 1)
    expected = {
        ("stripe", "customers"): company.customers,
        ("stripe", "subscriptions"): company.subscriptions,
        ("stripe", "invoices"): company.invoices,
        ("stripe", "credit_notes"): company.credit_notes,
        ("stripe", "charges"): company.charges,
        ("stripe", "payment_intents"): company.charges,
        ("stripe", "refunds"): company.refunds,
        ("stripe", "disputes"): company.disputes,
        ("stripe", "balance_transactions"): company.balance_transactions,
        ("stripe", "payouts"): company.payouts,
        ("salesforce", "Account"): company.accounts,
        ("salesforce", "SBQQ__Subscription__c"): company.contract_lines,
        ("salesforce", "Entitlement"): company.entitlements,
        ("zendesk", "tickets"): company.tickets,
        ("zendesk", "organizations"): company.organizations,
    }
    assert {key: found[key] for key in expected} == {key: len(facts) for key, facts in expected.items()}


def test_amounts_are_whole_minor_units(company, newest):
    for invoice in company.invoices:
        shown = newest["invoices", invoice.id]
        assert shown["total"] == minor(invoice.total, invoice.currency)
        assert shown["total"] == shown["subtotal"] + (shown["tax"] or 0)
        lines = [newest["lines", line.id] for line in invoice.lines]
        assert sum(line["amount"] for line in lines) == shown["subtotal"]
        assert sum(t["amount"] for line in lines for t in line["tax_amounts"]) == (shown["tax"] or 0)
        assert shown["amount_remaining"] <= max(0, shown["total"])
    for charge in company.charges:
        assert newest["charges", charge.id]["amount"] == minor(charge.amount, charge.currency)
    for moved in company.balance_transactions:
        shown = newest["balance_transactions", moved.id]
        assert shown["net"] == shown["amount"] - shown["fee"]


def test_prices_finer_than_a_cent_keep_their_digits(company, newest):
    for price in company.prices:
        shown = newest["prices", price.id]
        if price.unit_amount is None:
            assert (shown["billing_scheme"], shown["tiers_mode"]) == ("tiered", price.tiers_mode)
            shown_tiers = [(t["up_to"], Decimal(t["unit_amount_decimal"])) for t in shown["tiers"]]
            scale = DIGITS[price.currency]
            assert shown_tiers == [(t.up_to, t.unit_amount.scaleb(scale)) for t in price.tiers]
            continue
        assert Decimal(shown["unit_amount_decimal"]) == price.unit_amount.scaleb(DIGITS[price.currency])
        assert shown["unit_amount"] in (None, int(Decimal(shown["unit_amount_decimal"])))


def test_references_between_stripe_objects_resolve(documents, newest):
    unresolved = set()
    for d in documents:
        if d.system != "stripe" or d.object == "events":
            continue
        for name, value in d.body.items():
            prefix, _, rest = value.partition("_") if isinstance(value, str) else ("", "", "")
            refers = (
                prefix in ID_PREFIXES and rest and name not in ("id", "description", "reconciliation_status", "status")
            )
            if refers and (ID_PREFIXES[prefix], value) not in newest:
                unresolved.add((d.object, name, value))
    assert unresolved == set()


def test_each_event_names_a_version_that_exists(documents):
    versions = {(d.account, d.object, d.id, d.version): d.visible_at for d in documents}
    for d in documents:
        if d.object == "events":
            key = (d.account, *d.body["ref"])
            assert versions[key] <= d.visible_at
            assert "previous" not in d.body or (*key[:3], d.body["previous"]) in versions


def test_each_change_is_told_by_an_event(documents):
    told = {(d.account, *d.body["ref"]) for d in documents if d.object == "events"}
    silent = {"lines", "credit_note_lines", "balance_transactions", "customer_balance_transactions", "events"}
    changes = {(d.account, d.object, d.id, d.version) for d in documents if d.system == "stripe"}
    assert {c for c in changes - told if c[1] not in silent} == set()


def test_some_events_appear_late_but_none_across_the_night_run(documents):
    versions = {(d.account, d.object, d.id, d.version): d.visible_at for d in documents}
    late = 0
    for d in documents:
        if d.object == "events" and d.visible_at > versions[(d.account, *d.body["ref"])]:
            late += 1
            shown = versions[(d.account, *d.body["ref"])]
            nine = shown - shown % 86400 + 9 * 3600
            assert not shown <= nine < d.visible_at
    assert late > 50


def test_payment_references(company, newest):
    referring = [c for c in company.charges if c.invoice_id is None and c.allocations]
    assert referring
    for charge in referring:
        shown = newest["charges", charge.id]["metadata"]["invoice_numbers"]
        parts = [part.rsplit(":", 1) for part in shown.split(";")]
        assert [(n, Decimal(a)) for n, a in parts] == [(a.invoice_number, a.amount) for a in charge.allocations]
    for charge in company.charges:
        if charge.invoice_id is not None or not charge.allocations:
            assert newest["charges", charge.id]["metadata"] == {}


def test_linking_keys(company, newest):
    for customer in company.customers:
        metadata = newest["customers", customer.id]["metadata"]
        assert metadata.get("crm_account_id") == customer.account_id
    for subscription in company.subscriptions:
        items = newest["subscriptions", subscription.id]["items"]
        assert [i["metadata"].get("crm_line_id") for i in items] == [
            i.crm_line_id for i in subscription.versions[-1].items
        ]
    for organization in company.organizations:
        assert newest["organizations", str(organization.id)]["external_id"] == organization.external_id


def test_terms_end_on_their_last_day_in_salesforce(company, newest):
    for line in company.contract_lines:
        shown = newest["SBQQ__Subscription__c", line.id]["SBQQ__SubscriptionEndDate__c"]
        assert shown < line.end_date.isoformat()


def test_salesforce_numbers_read_back_as_the_decimals_they_were(company, newest):
    for line in company.contract_lines:
        shown = newest["SBQQ__Subscription__c", line.id]["SBQQ__NetPrice__c"]
        expected = line.net_unit_price
        assert (None if shown is None else Decimal(repr(shown))) == expected


def test_a_ticket_is_generated_when_it_is_shown(company, documents):
    by_id = {str(t.id): t for t in company.tickets}
    for d in documents:
        if d.object == "tickets":
            assert d.stamp == d.visible_at == seconds(by_id[d.id].versions[d.version - 1].visible_at)


def test_stored_bodies_leave_out_what_a_template_says(documents):
    assert {d.object for d in documents if d.system == "stripe"} - set(TEMPLATES) == set()
