"""Conforming: typed rows, versions merged, links to customers and products, counts that add up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tieout.conform import steps
from tieout.errors import DataError

START = datetime(2026, 3, 30, 9, tzinfo=UTC)


def test_an_invoice_and_its_line_become_typed_rows(world: Any, make: Any) -> None:
    world.land(world.CRM, "Account", [make.account()])
    world.land(world.BILLING, "customers", [make.customer()])
    world.land(world.BILLING, "invoices", [make.invoice()])
    result = world.conform()
    assert (result.rows_in, result.rows_out, result.rows_merged, result.rows_quarantined) == (3, 3, 0, 0)
    found = world.one("invoice")
    assert found["id"] == "stripe_us:in_1"
    assert found["customer_id"] == "crm:001000000000001AAA"
    assert (found["subtotal"], found["tax"], found["total"]) == (Decimal("100"), Decimal("8.25"), Decimal("108.25"))
    assert found["occurred_at"] == datetime(2026, 3, 30, 8, 0, tzinfo=UTC)
    assert found["accounting_date"] == date(2026, 3, 30)
    assert found["mapping_gap"] is None
    line = world.one("invoice_line")
    assert (line["amount"], line["tax"], line["tax_code"]) == (Decimal("100"), Decimal("8.25"), "txr_1")
    assert (line["product_id"], line["product_family"]) == ("crm:01tSEAT", "seats")
    assert (line["period_start"], line["period_end"]) == (date(2026, 3, 30), date(2026, 4, 30))
    assert line["line_no"] == 1
    assert line["customer_id"] == "crm:001000000000001AAA"
    assert line["raw_ref"] == "stripe_us/invoices/00000003-x/1#0"


def test_tax_of_an_invoice_is_kept_by_rate(world: Any, make: Any) -> None:
    rates = [
        {"amount": 825, "inclusive": False, "tax_rate": "txr_state", "taxable_amount": 10000},
        {"amount": 100, "inclusive": True, "tax_rate": "txr_city", "taxable_amount": None},
    ]
    world.land(world.BILLING, "invoices", [make.invoice(total_tax_amounts=rates)])
    world.conform()
    columns = ("source_id", "line_no", "tax_code", "amount", "taxable_amount", "is_included", "currency")
    assert [tuple(r[c] for c in columns) for r in world.rows("invoice_tax_line")] == [
        ("in_1:1", 1, "txr_state", Decimal("8.25"), Decimal("100"), False, "USD"),
        ("in_1:2", 2, "txr_city", Decimal("1"), None, True, "USD"),
    ]


def test_a_quote_that_amends_a_contract_is_an_amendment(world: Any) -> None:
    quote = {
        "Id": "a0qAMEND", "SystemModstamp": "2026-03-30T08:00:00.000+0000",
        "CreatedDate": "2026-03-30T08:00:00.000+0000",
        "IsDeleted": False, "Name": "Q-2", "SBQQ__Account__c": "001A", "SBQQ__MasterContract__c": "800C",
        "SBQQ__Type__c": "Amendment", "SBQQ__Status__c": "Accepted", "SBQQ__NetAmount__c": "-120.50",
        "CurrencyIsoCode": "USD", "SBQQ__StartDate__c": "2026-04-01", "Legal_Entity__c": "US",
    }  # fmt: skip
    new = quote | {"Id": "a0qNEW", "Name": "Q-1", "SBQQ__Type__c": "Quote", "SBQQ__MasterContract__c": None}
    lost = quote | {"Id": "a0qLOST", "Name": "Q-3", "SBQQ__MasterContract__c": None}
    world.land(world.CRM, "SBQQ__Quote__c", [quote, new, lost])
    assert world.conform(world.CRM).rows_quarantined == 1
    assert world.one("quarantine")["source_id"] == "a0qLOST"
    assert [r["kind"] for r in world.rows("quote")] == ["Amendment", "New"]
    found = world.one("amendment")
    assert (found["source_id"], found["contract_source_id"], found["net_amount"]) == (
        "a0qAMEND",
        "800C",
        Decimal("-120.5"),
    )
    assert found["effective_date"] == date(2026, 4, 1)


def test_yen_has_no_minor_unit(world: Any, make: Any) -> None:
    world.land(
        world.BILLING_JP, "invoices", [make.invoice(currency="jpy", lines={"data": [make.line(currency="jpy")]})]
    )
    world.conform()
    assert world.one("invoice")["total"] == Decimal("10825")
    assert world.one("invoice")["accounting_date"] == date(2026, 3, 30)


def test_the_newest_version_wins_whatever_the_order_of_landing(world: Any, make: Any) -> None:
    paid = make.invoice(status="paid", amount_paid=10825, amount_remaining=0)
    world.land(world.BILLING, "invoices", [paid], at=datetime(2026, 3, 31, 9, tzinfo=UTC))
    world.land(world.BILLING, "invoices", [make.invoice()], at=datetime(2026, 3, 30, 9, tzinfo=UTC))
    result = world.conform()
    assert world.one("invoice")["status"] == "paid"
    assert (result.rows_in, result.rows_out, result.rows_merged) == (2, 1, 1)


def test_only_new_extracts_are_read_and_merged_into_what_was_there(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice(), make.invoice("in_2", number="US-2026-000002")])
    world.conform()
    paid = make.invoice(status="paid", amount_paid=10825, amount_remaining=0)
    world.land(world.BILLING, "invoices", [paid])
    result = world.conform()
    assert (result.rows_in, result.rows_out) == (1, 1)
    assert [r["status"] for r in world.rows("invoice")] == ["paid", "open"]
    nothing = world.conform()
    assert nothing.tables == {}
    assert nothing.rows_in == 0


def test_repeated_and_older_records_count_as_merged(world: Any, make: Any) -> None:
    world.land(world.BILLING, "customers", [make.customer(), make.customer(), make.customer("cus_2")])
    first = world.conform()
    assert (first.rows_in, first.rows_out, first.rows_merged, first.rows_quarantined) == (3, 2, 1, 0)
    world.land(world.BILLING, "customers", [make.customer()], at=START - timedelta(days=1))
    older = world.conform()
    assert (older.rows_in, older.rows_out, older.rows_merged, older.rows_quarantined) == (1, 0, 1, 0)


def test_a_record_lost_on_the_way_is_an_error(world: Any, make: Any, monkeypatch: Any) -> None:
    merge = steps._Work._merge_main

    def losing(self: Any, *args: Any) -> None:
        merge(self, *args)
        self.session.bind("made_customer", self.session.sql("SELECT * FROM made_customer WHERE source_id <> 'cus_2'"))

    monkeypatch.setattr(steps._Work, "_merge_main", losing)
    world.land(world.BILLING, "customers", [make.customer(), make.customer("cus_2")])
    with pytest.raises(DataError, match=r"rows in are not rows out \+ merged \+ quarantined.*1 kept, 0 merged, 0 quar"):
        world.conform()
    assert world.rows("customer") == []


def test_lines_of_an_older_version_go_with_it(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice(lines={"data": [make.line("il_1"), make.line("il_2")]})])
    world.conform()
    world.land(world.BILLING, "invoices", [make.invoice(lines={"data": [make.line("il_2"), make.line("il_3")]})])
    world.conform()
    assert [r["source_id"] for r in world.rows("invoice_line")] == ["il_2", "il_3"]


def test_a_customer_mastered_later_is_found_on_rows_read_before(world: Any, make: Any) -> None:
    world.land(world.BILLING, "customers", [make.customer()])
    world.land(world.BILLING, "invoices", [make.invoice()])
    world.conform()
    assert world.one("invoice")["customer_id"] is None
    assert world.one("crosswalk")["decided_by"] == "none"
    world.land(world.CRM, "Account", [make.account()])
    world.conform(world.CRM)
    assert world.one("invoice")["customer_id"] == "crm:001000000000001AAA"


def test_links_made_again_on_every_call_stay_what_they_are(world: Any, make: Any) -> None:
    child = make.account("001000000000002AAA", ParentId="001000000000001AAA")
    world.land(world.CRM, "Account", [make.account(), child])
    world.land(world.BILLING, "invoices", [make.invoice()])
    world.land(
        world.BILLING,
        "charges",
        [{"id": "ch_1", "customer": "cus_1", "amount": 10825, "currency": "usd", "status": "succeeded",
          "created": 1774857600, "invoice": "in_1", "metadata": {}}],
    )  # fmt: skip
    world.conform()
    before = {name: world.rows(name) for name in ("customer", "payment_allocation", "payment", "invoice_line")}
    assert before["customer"][1]["parent_id"] == "crm:001000000000001AAA"
    assert before["payment_allocation"][0]["invoice_reference"] == "US-2026-000001"
    world.land(world.CRM, "Account", [make.account("001000000000003AAA")])
    world.land(world.BILLING, "customers", [make.customer("cus_9")])
    world.conform()
    for name, rows in before.items():
        assert [r for r in world.rows(name) if r["source_id"] in {b["source_id"] for b in rows}] == rows


def test_support_and_billing_find_the_crm_customer_by_the_id_they_share(world: Any, make: Any) -> None:
    world.land(world.CRM, "Account", [make.account()])
    world.land(world.BILLING, "customers", [make.customer(), make.customer("cus_2", metadata={})])
    world.land(
        world.SUPPORT,
        "organizations",
        [{"id": 7, "name": "Acme", "external_id": "001000000000001", "created_at": "2026-01-01T00:00:00Z",
          "updated_at": "2026-01-01T00:00:00Z"}],
    )  # fmt: skip
    world.conform()
    found = {(r["source"], r["source_id"]): (r["canonical_id"], r["decided_by"]) for r in world.rows("crosswalk")}
    assert found == {
        ("salesforce", "001000000000001AAA"): ("crm:001000000000001AAA", "own"),
        ("stripe_us", "cus_1"): ("crm:001000000000001AAA", "shared_id"),
        ("stripe_us", "cus_2"): (None, "none"),
        ("zendesk", "7"): ("crm:001000000000001AAA", "shared_id"),
    }


def test_a_customer_deleted_in_billing_stays_linked_one_deleted_in_the_crm_does_not(world: Any, make: Any) -> None:
    world.land(world.CRM, "Account", [make.account(), make.account("001000000000002AAA", IsDeleted=True)])
    gone = {"id": "cus_1", "object": "customer", "created": 1767225600, "deleted": True,
            "metadata": {"crm_account_id": "001000000000001AAA"}}  # fmt: skip
    other = make.customer("cus_2", metadata={"crm_account_id": "001000000000002AAA"})
    world.land(world.BILLING, "customers", [gone, other])
    world.conform()
    found = {r["source_id"]: r["canonical_id"] for r in world.rows("crosswalk") if r["source"] == "stripe_us"}
    assert found == {"cus_1": "crm:001000000000001AAA", "cus_2": None}


def test_an_explicit_mapping_decides_before_everything_else(world: Any, make: Any) -> None:
    (world.settings.config / "mappings" / "customers.csv").write_text(
        "source,source_id,canonical_id,valid_from,valid_to\nstripe_us,cus_1,crm:001000000000009AAA,,\n"
    )
    world.land(world.CRM, "Account", [make.account()])
    world.land(world.BILLING, "customers", [make.customer()])
    world.conform()
    (row,) = (r for r in world.rows("crosswalk") if r["source"] == "stripe_us")
    assert (row["canonical_id"], row["decided_by"]) == ("crm:001000000000009AAA", "mapping")


def test_an_unmapped_product_blocks_its_invoice_and_a_mapping_frees_it(world: Any, make: Any) -> None:
    sold = make.line(price={"id": "price_9", "product": "prod_new"})
    world.land(world.BILLING, "invoices", [make.invoice(lines={"data": [sold]})])
    world.conform()
    assert world.one("invoice")["mapping_gap"] == "no product family is mapped for prod_new"
    with (world.settings.config / "mappings" / "products.csv").open("a") as mapping:
        mapping.write("stripe_us,prod_new,crm:01tNEW,platform,2025-01-01,\n")
    world.conform()
    assert world.one("invoice")["mapping_gap"] is None
    assert world.one("invoice_line")["product_family"] == "platform"


def test_a_mapping_holds_from_its_day_on(world: Any, make: Any) -> None:
    (world.settings.config / "mappings" / "products.csv").write_text(
        "source,source_id,canonical_id,family,valid_from,valid_to\n"
        "stripe,prod_seat,crm:01tSEAT,seats,2025-01-01,2026-03-30\n"
        "stripe,prod_seat,crm:01tSEAT,platform,2026-03-30,\n"
    )
    before = {"finalized_at": 1774800000, "paid_at": None, "voided_at": None, "marked_uncollectible_at": None}
    world.land(
        world.BILLING,
        "invoices",
        [make.invoice("in_1", status_transitions=before, lines={"data": [make.line("il_1")]}),
         make.invoice("in_2", lines={"data": [make.line("il_2")]})],
    )  # fmt: skip
    world.conform()
    assert [r["product_family"] for r in world.rows("invoice_line")] == ["seats", "platform"]


def test_a_product_takes_its_family_from_the_crm_product_it_names(world: Any, make: Any) -> None:
    (world.settings.config / "mappings" / "products.csv").write_text(
        "source,source_id,canonical_id,family,valid_from,valid_to\nsalesforce,01tSEAT,crm:01tSEAT,seats,2025-01-01,\n"
    )
    world.land(
        world.CRM,
        "Product2",
        [{"Id": "01tSEAT", "Name": "Seat", "IsActive": "true", "IsDeleted": "false",
          "CreatedDate": "2025-01-01T00:00:00Z", "SystemModstamp": "2025-01-01T00:00:00Z"}],
    )  # fmt: skip
    product = {"id": "prod_seat", "name": "Seat", "created": 1735689600, "active": True,
               "metadata": {"crm_product_id": "01tSEAT"}}  # fmt: skip
    world.land(world.BILLING, "products", [product])
    world.land(world.BILLING, "invoices", [make.invoice()])
    world.conform()
    assert world.one("invoice_line")["product_family"] == "seats"
    (row,) = (r for r in world.rows("product") if r["source"] == "stripe_us")
    assert (row["id"], row["family"], row["decided_by"]) == ("crm:01tSEAT", "seats", "shared_id")


def test_a_payment_for_several_invoices_is_split_as_it_says(world: Any, make: Any) -> None:
    charge = {
        "id": "ch_1", "customer": "cus_1", "amount": 35000, "currency": "usd", "status": "succeeded",
        "created": 1774857600,
        "invoice": None, "metadata": {"invoice_numbers": "US-2026-000001:100.00;US-2026-000099:250.00"},
        "payment_method_details": {"type": "ach_debit"}, "balance_transaction": "txn_1",
    }  # fmt: skip
    settled = {
        "id": "txn_1", "amount": 35000, "fee": 280, "net": 34720, "currency": "usd", "type": "charge",
        "reporting_category": "charge", "created": 1774944000, "available_on": 1775001600,
        "status": "pending", "source": "ch_1",
    }  # fmt: skip
    world.land(world.BILLING, "invoices", [make.invoice()])
    world.land(world.BILLING, "charges", [charge])
    world.land(world.BILLING, "balance_transactions", [settled])
    world.conform()
    parts = [
        (r["source_id"], r["invoice_reference"], r["invoice_source_id"], r["amount"])
        for r in world.rows("payment_allocation")
    ]
    assert parts == [
        ("ch_1:1", "US-2026-000001", "in_1", Decimal("100.0000")),
        ("ch_1:2", "US-2026-000099", None, Decimal("250.0000")),
    ]
    payment = world.one("payment")
    assert (payment["allocated"], payment["fee"]) == (Decimal("350"), Decimal("2.80"))
    assert payment["settled_date"] == date(2026, 3, 31)
    assert world.one("balance_transaction")["available_on"] == date(2026, 4, 1)


def test_a_lost_dispute_is_closed_on_the_day_billing_says_so(world: Any, make: Any) -> None:
    moved = {"id": "txn_9", "created": 1774857600, "fee": 1500, "amount": -10000}
    lost = {
        "id": "dp_1", "created": 1774857600, "charge": "ch_1", "status": "lost", "amount": 10000, "currency": "usd",
        "reason": "fraudulent", "balance_transactions": [moved],
    }  # fmt: skip
    told = {"id": "evt_1", "created": 1774944000, "type": "charge.dispute.closed", "data": {"object": {"id": "dp_1"}}}
    world.land(world.BILLING, "disputes", [lost])
    world.land(world.BILLING, "events", [told])
    world.conform()
    found = world.one("dispute")
    assert (found["withdrawn_date"], found["closed_date"]) == (date(2026, 3, 30), date(2026, 3, 31))
    assert found["fee"] == Decimal("15")


def test_a_subscription_item_has_its_exact_monthly_amount(world: Any, make: Any) -> None:
    def price(id: str, amount: str, interval: str, count: int, **more: Any) -> dict[str, Any]:
        recurring = {"interval": interval, "interval_count": count, "usage_type": "licensed"} | more
        return {
            "id": id,
            "product": "prod_seat",
            "currency": "usd",
            "unit_amount_decimal": amount,
            "recurring": recurring,
        }

    items = [
        {"id": "si_1", "quantity": 3, "price": price("p1", "1050", "month", 1), "metadata": {"crm_line_id": "a0X1"}},
        {"id": "si_2", "quantity": 1, "price": price("p2", "100000", "year", 1), "metadata": {}},
        {"id": "si_3", "price": price("p3", "0.25", "month", 3, usage_type="metered"), "metadata": {}},
        {"id": "si_4", "price": price("p4", "0.25", "week", 2, usage_type="metered"), "metadata": {}},
    ]
    sub = {
        "id": "sub_1", "created": 1774800000, "customer": "cus_1", "status": "active", "currency": "usd",
        "start_date": 1774800000, "trial_end": None, "current_period_start": 1774800000,
        "current_period_end": 1777478400,
        "canceled_at": None, "ended_at": None, "billing_cycle_anchor": 1774800000, "metadata": {"contract_id": "800C"},
        "items": {"data": items},
    }  # fmt: skip
    world.land(world.BILLING, "subscriptions", [sub])
    world.conform()
    found = [
        (r["monthly_amount"], r["unit_amount"], r["interval_months"], r["interval_days"], r["crm_line_id"])
        for r in world.rows("subscription_item")
    ]
    assert found == [
        (Decimal("31.5000"), Decimal("10.5"), 1, None, "a0X1"),
        (Decimal("83.3333"), Decimal("1000"), 12, None, None),
        (None, Decimal("0.0025"), 3, None, None),
        (None, Decimal("0.0025"), None, 14, None),
    ]
    assert world.one("subscription")["contract_ref"] == "800C"


def test_an_event_of_a_changed_subscription_tells_the_metered_prices_that_it_had(world: Any, make: Any) -> None:
    """Of other objects and licences it tells none, nor of an item in an older shape."""

    def item(id: str, usage_type: str = "metered") -> dict[str, Any]:
        recurring = {"interval": "week", "usage_type": usage_type}
        price = {"id": "p_old", "product": "prod_api", "currency": "usd", "unit_amount_decimal": "0.25",
                 "metadata": {"meter": "api"}, "recurring": recurring}  # fmt: skip
        return {"id": id, "created": 1772000000, "price": price}

    def event(id: str, kind: str, *before: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": id,
            "created": 1774829000,
            "type": kind,
            "data": {"object": {"id": "sub_1"}, "previous_attributes": {"items": {"data": list(before)}}},
        }

    world.land(world.BILLING, "events", [
        event("evt_1", "customer.subscription.updated", item("si_1"), item("si_2", "licensed"),
              {"id": "si_3", "plan": {"id": "plan_1"}}),
        event("evt_2", "checkout.session.completed", item("si_1")),
        event("evt_3", "customer.subscription.created"),
    ])  # fmt: skip
    assert world.conform().rows_quarantined == 0
    found = world.one("former_price")
    expected = {
        "source_id": "evt_1:si_1", "subscription_source_id": "sub_1", "subscription_item_source_id": "si_1",
        "price_source_id": "p_old", "meter": "api", "unit_amount": Decimal("0.0025"), "interval_days": 7,
        "interval_months": None, "start_date": date(2026, 2, 24), "accounting_date": date(2026, 3, 29),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert len(world.rows("billing_event")) == 3


def test_the_first_delivery_of_a_usage_event_counts(world: Any, make: Any) -> None:
    world.land(world.DROP, "usage", [make.usage(), make.usage("ev_2", quantity="2.5")])
    world.land(world.DROP, "usage", [make.usage(quantity="10")])
    result = world.conform()
    assert [(r["event_id"], r["quantity"]) for r in world.rows("usage_event")] == [
        ("ev_1", Decimal("10")),
        ("ev_2", Decimal("2.5")),
    ]
    assert result.rows_merged == 1
    assert world.rows("usage_event")[0]["received_at"] == world.rows("usage_event")[1]["received_at"]


def test_events_are_written_again_only_where_what_they_refer_to_moves_them(world: Any, make: Any) -> None:
    subscription = {"id": "sub_1", "customer": "cus_1", "status": "active", "created": 1767225600, "currency": "usd",
                    "items": {"object": "list", "has_more": False, "data": []}}  # fmt: skip
    world.land(world.DROP, "usage", [make.usage()])
    world.conform()
    assert world.one("usage_event")["customer_id"] is None
    found = []
    for land in (
        lambda: world.land(world.BILLING, "subscriptions", [subscription | {"id": "sub_other"}]),
        lambda: world.land(world.BILLING, "subscriptions", [subscription]),
        lambda: world.land(world.CRM, "Account", [make.account()]),
        lambda: world.land(world.BILLING, "customers", [make.customer()]),
        lambda: world.land(world.BILLING, "customers", [make.customer("cus_2")]),
    ):
        land()
        written = "usage_event" in world.conform().tables
        row = world.one("usage_event")
        found.append((written, row["legal_entity_id"], row["customer_id"]))
    acme = "crm:001000000000001AAA"
    assert found == [(False, None, None), (True, "US", None), (False, "US", None), (True, "US", acme),
                     (False, "US", acme)]  # fmt: skip


def test_contract_ends_are_the_first_day_after(world: Any, make: Any) -> None:
    line = {
        "Id": "a0X1", "IsDeleted": False, "SystemModstamp": "2025-10-01T08:00:00.000+0000", "CurrencyIsoCode": "EUR",
        "CreatedDate": "2025-10-01T08:00:00.000+0000", "SBQQ__Contract__c": "800C",
        "SBQQ__Account__c": "001000000000001AAA",
        "SBQQ__Product__c": "01tSEAT", "SBQQ__RootId__c": "", "SBQQ__Quantity__c": "-2.0", "SBQQ__NetPrice__c": "19.99",
        "SBQQ__SubscriptionStartDate__c": "2025-10-01", "SBQQ__SubscriptionEndDate__c": "2026-09-30",
        "SBQQ__BillingFrequency__c": "Monthly",
    }  # fmt: skip
    world.land(world.CRM, "SBQQ__Subscription__c", [line])
    world.conform()
    found = world.one("contract_line")
    assert (found["start_date"], found["end_date"]) == (date(2025, 10, 1), date(2026, 10, 1))
    assert (found["quantity"], found["monthly_amount"]) == (Decimal("-2"), Decimal("-39.98"))
    assert found["root_line_id"] == "a0X1"


def test_replay_after_a_mapping_is_corrected_gives_what_a_first_reading_would(world: Any, make: Any) -> None:
    from tieout.lake.hashing import result_hash

    world.land(world.BILLING, "invoices", [make.invoice(), make.invoice("in_2", number="N2", customer=None)])
    world.conform()
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_1"]
    before = result_hash(world.table("invoice"), ["source", "source_id"])
    result = world.replay(world.BILLING)
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (2, 1, 1)
    assert result_hash(world.table("invoice"), ["source", "source_id"]) == before
    shipped = Path("include/config/conform/stripe/invoices.yaml").read_text()
    own = world.settings.config / "conform" / "stripe" / "invoices.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        shipped.replace("customer_source_id: {path: customer, required: true}", "customer_source_id: customer")
    )
    world.replay(world.BILLING, objects=["invoices"])
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_1", "in_2"]
    assert world.rows("quarantine") == []
    assert world.store.quarantined() == []


def test_usage_is_converted_to_the_unit_its_meter_counts_in_always_from_what_was_sent(world: Any, make: Any) -> None:
    product = {"Id": "01tHOURS", "Name": "Hours", "IsActive": "true", "IsDeleted": "false", "Family": "Usage",
               "Meter__c": "hours", "QuantityUnitOfMeasure": "hour",
               "CreatedDate": "2025-01-01T00:00:00Z", "SystemModstamp": "2025-01-01T00:00:00Z"}  # fmt: skip
    world.land(world.CRM, "Product2", [product])
    told = [make.usage(f"ev_{n}", meter="hours", unit=u, quantity=q) for n, (q, u) in enumerate(
        [("90", "minute"), ("100", "minute"), ("3", "hour"), ("2", "furlong"), ("1", "gb")])]  # fmt: skip
    world.land(world.DROP, "usage", told)
    expected = [
        (Decimal("1.5"), "hour", Decimal(90), "minute"),
        (Decimal("1.666666667"), "hour", Decimal(100), "minute"),
        (Decimal(3), "hour", Decimal(3), "hour"),
        (Decimal(2), "furlong", Decimal(2), "furlong"),
        (Decimal(1), "gb", Decimal(1), "gb"),
    ]

    def rows() -> list[Any]:
        return [
            (r["quantity"], r["unit"], r["original_quantity"], r["original_unit"]) for r in world.rows("usage_event")
        ]

    world.conform()
    assert rows() == expected
    # a table that is mended reaches what was read before, once
    (world.settings.config / "units.yaml").write_text(
        "conversions:\n  - {from: furlong, to: hour, factor: 7}\n"
        "  - {from: hour, to: minute, factor: 60, valid_to: 2026-03-29}\n"
        "  - {from: minute, to: hour, factor: 1/100, valid_from: 2026-03-29}\n"
        "  - {from: gb, to: hour, factor: 5}\n  - {from: gb, to: hour, factor: 6, meter: hours}\n"
    )
    world.conform()
    world.conform()
    converted = [Decimal("0.9"), Decimal(1), Decimal(3), Decimal(14), Decimal(6)]
    assert [r[:2] for r in rows()] == [(quantity, "hour") for quantity in converted]
