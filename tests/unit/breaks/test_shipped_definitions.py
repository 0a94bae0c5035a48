from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from tieout.breaks import definition_ids
from tieout.ids import Slot
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import batches
from tieout.store.batches import PlannedJournal
from tieout.usage import publish_rating
from tieout_sandbox.company.days import add_months

DAY = date(2026, 3, 29)
SHIPPED = definition_ids(Settings(SHIPPED_CONFIG, SHIPPED_CONFIG, "", ""))


def test_the_seven_reconciliations_ship():
    assert SHIPPED == [
        "case_to_contract",
        "contract_to_subscription",
        "entitlement_to_contract",
        "invoice_to_receivable",
        "journal_to_ledger",
        "payment_to_invoice",
        "usage_to_billing",
    ]


@pytest.mark.parametrize("definition_id", SHIPPED)
def test_every_definition_runs_on_an_empty_lake(house, definition_id):
    result = house.run(definition_id)
    assert result.summary.breaks == 0
    assert result.matches.num_rows == result.totals.num_rows == 0


def line(root, **changes):
    return {
        "source_id": root, "root_line_id": root, "contract_source_id": "K1", "customer_id": "crm:A",
        "customer_source_id": "A",
        "product_id": "p:seat", "product_source_id": "01t", "product_family": "seats", "quantity": 10,
        "monthly_amount": 100,
        "start_date": date(2026, 1, 1), "end_date": date(2027, 1, 1), "is_trial": False,
    } | changes  # fmt: skip


def item(number, root, **changes):
    return {
        "source_id": number, "subscription_source_id": "sub", "customer_id": "crm:A", "customer_source_id": "cus",
        "product_id": "p:seat", "product_source_id": "prod", "crm_line_id": root, "quantity": 10, "monthly_amount": 100,
        "usage_type": "licensed", "status": "active", "start_date": date(2026, 1, 1),
    } | changes  # fmt: skip


def contract(**changes):
    return {
        "source_id": "K1", "number": "100", "customer_id": "crm:A", "customer_source_id": "A", "status": "Activated",
        "start_date": date(2026, 1, 1), "end_date": date(2027, 1, 1),
    } | changes  # fmt: skip


def test_contract_to_subscription(house):
    house.put("contract", contract(), contract(source_id="K2", status="Cancelled"))
    house.put(
        "contract_line",
        line("good"),
        line("amended"),
        line("amendment", root_line_id="amended", quantity=5, monthly_amount=50, start_date=date(2026, 2, 1)),
        line("not_billed"),
        line("price"),
        line("quantity"),
        line("currency"),
        line("unmapped", product_id=None),
        line("twice"),
        line("canceled"),
        line("trial", is_trial=True),
        line("ended", terminated_date=date(2026, 3, 1)),
        line("of_cancelled_contract", contract_source_id="K2"),
        line("past_due"),
    )
    house.put(
        "subscription_item",
        item("si_1", "good"),
        item("si_2", "amended", quantity=15, monthly_amount=150),
        item("si_3", "price", monthly_amount=90),
        item("si_4", "quantity", quantity=11),
        item("si_5", "currency", currency="EUR"),
        item("si_6", "unmapped", product_id=None),
        item("si_7", "twice"),
        item("si_8", "twice"),
        item("si_9", "canceled", status="canceled", ended_date=date(2026, 3, 10)),
        item("si_10", "trial", status="trialing"),
        item("si_11", None),
        item("si_12", "unknown_customer", customer_id=None),
        item("si_13", "ended"),
        item("si_14", "old", status="canceled", ended_date=date(2026, 1, 10)),
        item("si_15", "past_due", status="past_due"),
    )
    assert house.found("contract_to_subscription") == {
        ("US", "not_billed", "missing_right"),
        ("US", "price", "amount"),
        ("US", "quantity", "attribute"),
        ("US", "currency", "currency"),
        ("US", "unmapped", "mapping"),
        ("US", "twice", "duplicate"),
        ("US", "canceled", "status"),
        ("US", "si_11", "missing_left"),
        ("US", "unknown_customer", "orphan"),
        ("US", "ended", "missing_left"),
    }


def usage(subscription, **changes):
    return {
        "subscription_source_id": subscription, "meter": "api", "grain": "period", "period_start": date(2026, 2, 20),
        "period_end": date(2026, 3, 20), "quantity": 7, "event_count": 1, "corrected_count": 0, "late_count": 0,
    } | changes  # fmt: skip


def invoice(number, **changes):
    return {
        "source_id": f"in_{number}", "number": number, "customer_id": "crm:A", "customer_source_id": "cus",
        "status": "paid",
        "subtotal": 100, "tax": 19, "total": 119, "amount_paid": 119, "amount_remaining": 0,
        "accounting_date": date(2026, 3, 20),
    } | changes  # fmt: skip


def usage_line(number, subscription, **changes):
    return {
        "source_id": f"il_{subscription}", "invoice_source_id": f"in_{number}", "invoice_number": number, "line_no": 1,
        "subscription_source_id": subscription, "meter": "api", "amount": 1, "tax": 0, "quantity": 7,
        "is_proration": False,
        "period_start": date(2026, 2, 20), "period_end": date(2026, 3, 20), "accounting_date": date(2026, 3, 20),
    } | changes  # fmt: skip


def test_usage_to_billing(house):
    recent = {"period_start": date(2026, 2, 28), "period_end": date(2026, 3, 28)}
    house.put(
        "usage_summary",
        usage("good"), usage("short"), usage("unbilled"), usage("none", quantity=0), usage("fresh", **recent),
        usage("running", period_start=date(2026, 3, 20), period_end=date(2026, 4, 20)),
    )  # fmt: skip
    house.put("invoice", invoice("N1"), invoice("N2", status="draft"))
    house.put(
        "invoice_line",
        usage_line("N1", "good"), usage_line("N1", "short", quantity=6), usage_line("N1", "uncounted", quantity=8),
        usage_line("N2", "unbilled"),
    )  # fmt: skip
    rated(house)
    assert house.found("usage_to_billing") == {
        ("US", "short|api|2026-02-20", "amount"),
        ("US", "unbilled|api|2026-02-20", "missing_right"),
        ("US", "uncounted|api|2026-02-20", "missing_left"),
        ("US", "fresh|api|2026-02-28", "timing"),
    }


def metered_item(subscription, **changes):
    return {"subscription_source_id": subscription, "meter": "api", "unit_amount": "0.31", "currency": "JPY"} | changes


def test_the_lines_of_one_invoice_bill_one_usage(house):
    """Ten units are counted; whatever the prices, what one invoice bills of them is taken together."""
    house.put("invoice", invoice("N1"), invoice("N2"))
    tens = ("tiers", "short", "twice", "plain", "changed", "again", "doubled", "corrected")
    house.put("usage_summary", *(usage(s, quantity=10) for s in tens))
    house.put("price", *({"source_id": s, "billing_scheme": s} for s in ("tiered", "per_unit")))
    billed = [
        ("tiers", "N1", 4, "tiered"), ("tiers", "N1", 6, "tiered"),
        ("short", "N1", 4, "tiered"), ("short", "N1", 5, "tiered"),
        ("twice", "N1", 4, "tiered"), ("twice", "N1", 6, "tiered"), ("twice", "N2", 10, "tiered"),
        ("plain", "N1", 4, "per_unit"), ("plain", "N1", 6, "per_unit"),
        ("changed", "N1", 4, "old"), ("changed", "N1", 6, "new"),
        ("again", "N1", 10, "per_unit"), ("again", "N2", 10, "per_unit"),
        ("doubled", "N1", 10, "per_unit"), ("doubled", "N1", 10, "per_unit"),
        ("corrected", "N1", 11, "per_unit"), ("corrected", "N1", -1, "per_unit"),
    ]  # fmt: skip
    house.put(
        "invoice_line",
        *(
            usage_line(number, s, source_id=f"il_{n}", quantity=q, price_source_id=price)
            for n, (s, number, q, price) in enumerate(billed)
        ),
    )
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    found = {(b["break_key"].split("|")[0], b["break_type"]): b["reason"] for b in breaks}
    assert set(found) == {("short", "amount"), ("twice", "duplicate"), ("again", "duplicate"), ("doubled", "amount")}
    assert found["short", "amount"] == found["doubled", "amount"] == "wrong quantity"


def test_what_several_invoices_bill_of_one_usage(house):
    """Ten units are counted. In parts, or with a correction, they are billed once; what is beyond is billed again."""
    bills = {
        "parts": {"N1": [6], "N2": [4]}, "corrected": {"N1": [11], "N2": [-1]},
        "credited": {"N1": [10], "N2": [10, -10]}, "renewed": {"N1": [12], "N2": [-12], "N3": [10]},
        "under": {"N1": [6], "N2": [3]},
        "again": {"N1": [10], "N2": [10]}, "more": {"N1": [10], "N2": [1]}, "too much": {"N1": [12], "N2": [-1]},
    }  # fmt: skip
    house.put(
        "usage_summary", *(usage(s, quantity=10) for s in (*bills, "moved")), usage("large", quantity="12345678.5")
    )
    house.put("invoice", *(invoice(n) for n in ("N1", "N2", "N3")))
    lines = [(s, number, q, "JPY") for s, each in bills.items() for number, parts in each.items() for q in parts]
    # billed in another currency, taken back, and billed in the right one
    lines += [("moved", "N1", 10, "EUR"), ("moved", "N2", -10, "EUR"), ("moved", "N3", 10, "JPY")]
    lines += [("large", "N1", 1000, "JPY"), ("large", "N2", -3000, "JPY")]
    house.put("subscription_item", *(metered_item(s, unit_amount=3) for s in (*bills, "moved")))
    house.put(
        "invoice_line",
        *(usage_line(number, s, source_id=f"il_{n}", quantity=q, amount=3 * q, currency=currency)
          for n, (s, number, q, currency) in enumerate(lines)),
    )  # fmt: skip
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    found = {b["break_key"].split("|")[0]: (b["break_type"], b["reason"], b["difference"]) for b in breaks}
    assert {s: kind[0] for s, kind in found.items()} == {
        "under": "amount", "too much": "amount", "again": "duplicate", "more": "duplicate", "large": "amount",
    }  # fmt: skip
    (large,) = (b["sentence"] for b in breaks if b["break_key"].startswith("large|"))
    assert "12,345,678.5 by metering but -2,000 by billing" in large, large
    assert found["under"][1:] == ("wrong quantity", 3)
    assert found["too much"][1:] == ("wrong quantity", -3)
    (under,) = (b["sentence"] for b in breaks if b["break_key"].startswith("under|"))
    assert under.endswith("10 by metering but 9 by billing; 10 × 3 = 30 JPY; billed 9 for 27 JPY; short 3 JPY."), under


def test_what_usage_falls_short_of_a_commitment_is_due_at_the_end_of_its_term(house, tmp_path):
    """A hundred was committed to, thirty charged: seventy are due, once, under the price that the commitment names."""
    house.settings = replace(house.settings, config=tmp_path / "config")
    folder = tmp_path / "config" / "commitments"
    folder.mkdir(parents=True)
    names = ("right", "unbilled", "cheap", "dear", "elsewhere", "reached", "foreign", "twice")
    heading = "commitment_id,subscription_source_id,term_start,term_end,amount,currency,price_source_id"
    agreed = [f"c-{s},{s},2025-03-20,2026-03-20,{30 if s == 'reached' else 100},USD,true_up" for s in names]
    agreed += ["c-free,free,2025-03-20,2026-03-20,100,USD,", "c-open,open,2026-03-20,2027-03-20,100,USD,true_up",
               "c-odd,odd,2025-03-20,2026-03-20,100.00001,USD,true_up"]  # fmt: skip
    (folder / "sales.csv").write_text("\n".join([heading, *agreed]) + "\n")
    everyone = (*names, "free", "open", "odd")
    house.put("usage_summary", *(usage(s, quantity=10) for s in everyone))
    house.put("subscription", *({"source_id": s} for s in everyone))
    house.put(
        "subscription_item",
        *(metered_item(s, unit_amount=3, currency="EUR" if s == "foreign" else "USD") for s in everyone),
    )
    house.put("invoice", invoice("N1"), invoice("N2", accounting_date=date(2026, 3, 22)))
    owed = {"right": [70], "cheap": [60], "dear": [80], "foreign": [70], "twice": [50, 20]}
    house.put(
        "invoice_line",
        *(usage_line("N1", s, source_id=f"use_{s}", quantity=10, amount=30, currency="EUR" if s == "foreign" else "USD")
          for s in everyone),
        *(usage_line(f"N{n}", s, source_id=f"up_{s}{n}", meter=None, quantity=1, amount=a, price_source_id="true_up")
          for s, amounts in owed.items() for n, a in enumerate(amounts, 1)),
        usage_line("N1", "elsewhere", source_id="up_elsewhere", meter=None, amount=70, price_source_id="fee"),
    )  # fmt: skip
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    found = {b["break_key"]: (b["break_type"], b["reason"], b["value"]) for b in breaks}
    assert found == {
        "unbilled|commitment c-unbilled|2025-03-20": ("missing_right", "commitment not billed", 70),
        "elsewhere|commitment c-elsewhere|2025-03-20": ("missing_right", "commitment not billed", 70),
        "cheap|commitment c-cheap|2025-03-20": ("amount", "wrong commitment", 10),
        "dear|commitment c-dear|2025-03-20": ("amount", "wrong commitment", 10),
    }
    (cheap,) = (b["sentence"] for b in breaks if b["break_key"].startswith("cheap"))
    assert cheap.endswith("100.00 USD committed − 30.00 USD charged = 70.00 USD; billed 60.00 USD; short 10.00 USD.")
    aside = house.lake.read("price_quarantine", house.store.published()["price_quarantine"]).to_pylist()
    assert {(r["price_source_id"], r["reason_code"]) for r in aside} == {
        ("c-foreign", "other_currency"), ("c-odd", "no_number"),
    }  # fmt: skip


def test_usage_billed_right_on_several_lines_is_no_break(house, tmp_path):
    """Prices of a book: one that changes within the period, one with a minimum, one of tiers."""
    house.settings = replace(house.settings, config=tmp_path / "config")
    book = tmp_path / "config" / "price_books" / "list.csv"
    book.parent.mkdir(parents=True)
    book.write_text(
        "meter,subscription_source_id,price_source_id,model,tier_no,unit_amount,up_to,minimum_amount,proration,"
        "valid_from,valid_to,currency\n"
        "api,changed,old,unit,1,2,,,day,,2026-03-02,USD\napi,changed,new,unit,1,1,,,day,2026-03-02,,USD\n"
        "api,tiers,list,graduated,1,2,600,,,,,USD\napi,tiers,list,graduated,2,1,,,,,,USD\n"
        + "".join(f"api,{s},least,unit,1,0.1,,500,,,,USD\n" for s in ("least", "whole", "idle", "unfilled", "fewer"))
        + "api,one,dear,unit,1,250,,500,,,,USD\n"
        + "".join(f"api,{s},flat,unit,1,1,,,,,,USD\n" for s in ("host", "guest"))
    )
    thousand = ("changed", "least", "whole", "tiers", "unfilled", "fewer")
    days = {date(2026, 2, 21): 400, date(2026, 3, 3): 600}
    house.put(
        "usage_summary", *(usage(s, quantity=1000) for s in thousand), usage("one", quantity=1),
        usage("idle", quantity=0), usage("host", quantity=30), usage("guest", quantity=12),
        *(usage("changed", grain="day", period_start=d, period_end=d + timedelta(1), quantity=q)
          for d, q in days.items()),
    )  # fmt: skip
    house.put("invoice", invoice("N1"))
    billed = [
        ("changed", 400, 800, "old"), ("changed", 600, 600, "new"),
        ("least", 1000, 100, "least"), ("least", 1, 400, "least"), ("whole", 1000, 500, "least"),
        ("tiers", 600, 1200, "list"), ("tiers", 400, 400, "list"),
        ("one", 1, 250, "dear"), ("one", 1, 250, "dear"), ("idle", 1, 500, "least"),
        ("unfilled", 1000, 100, "least"), ("fewer", 900, 90, "least"), ("fewer", 1, 400, "least"),
        ("host", 30, 30, "flat"), ("host", 12, 12, "flat"),
    ]  # fmt: skip
    house.put(
        "invoice_line",
        *(
            usage_line("N1", s, source_id=f"il_{n}", line_no=n, quantity=q, amount=a, price_source_id=p)
            for n, (s, q, a, p) in enumerate(billed)
        ),
    )
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    assert {(b["break_key"].split("|")[0], b["break_type"], b["reason"], b["value"]) for b in breaks} == {
        ("unfilled", "amount", "wrong amount", 400), ("fewer", "amount", "wrong quantity", 10),
        # twelve units that another customer used
        ("guest", "attribute", "wrong customer", 12),
    }  # fmt: skip


def test_usage_charged_in_two_currencies_shows_its_working_and_never_as_nothing(house, tmp_path):
    """The price changes its currency within the period; what is due is no one amount."""
    house.settings = replace(house.settings, config=tmp_path / "config")
    book = tmp_path / "config" / "price_books" / "list.csv"
    book.parent.mkdir(parents=True)
    heading = "meter,subscription_source_id,price_source_id,model,tier_no,unit_amount,flat_amount,proration,valid_from,"
    rows = "".join(
        f"api,{s},a-usd,{model},1,{first},{flat},day,,2026-03-02,USD\n"
        f"api,{s},b-eur,{model},1,{last},{flat},day,2026-03-02,,EUR\n"
        for s, model, first, last, flat in (("used", "unit", 2, 1, ""), ("idle", "flat", "", "", 28),
                                            ("part", "unit", 2, 1, ""), ("both", "unit", 2, 1, ""),
                                            ("wrong", "unit", 2, 1, ""))
    ) + "api,other,c-eur,unit,1,2,,,,,EUR\n"  # fmt: skip
    book.write_text(f"{heading}valid_to,currency\n{rows}")
    house.put(
        "usage_summary", usage("used", quantity=1000), usage("idle", quantity=0), usage("other", quantity=7),
        *(usage(s, quantity=1000) for s in ("part", "both", "wrong")),
        *(usage(s, grain="day", period_start=d, period_end=d + timedelta(1), quantity=q)
          for s in ("used", "part", "both", "wrong") for d, q in ((date(2026, 2, 21), 400), (date(2026, 3, 3), 600))),
    )  # fmt: skip
    house.put("invoice", invoice("N1"), invoice("N2"))
    house.put(
        "invoice_line", usage_line("N1", "part", quantity=400, amount=800, price_source_id="a-usd"),
        usage_line("N1", "other", quantity=7, amount=14, price_source_id="c-eur"),
        # an invoice for each currency
        *(usage_line("N1", s, source_id=f"usd_{s}", quantity=400, amount=800, price_source_id="a-usd")
          for s in ("both", "wrong")),
        *(usage_line("N2", s, source_id=f"eur_{s}", quantity=600, amount=a, price_source_id="b-eur", currency="EUR")
          for s, a in (("both", 600), ("wrong", 550))),
    )  # fmt: skip
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    found = {b["break_key"].split("|")[0]: (b["break_type"], b["reason"], b["value"], b["sentence"]) for b in breaks}
    mixed, terms = "charged in two currencies", "400 × 2 = 800 USD; 600 × 1 = 600 EUR"
    assert found["used"][:3] == ("missing_right", mixed, None)
    assert found["used"][3].endswith(f"is on no invoice, {mixed}: {terms}; billed nothing.")
    assert found["idle"][:3] == ("missing_right", mixed, None)
    assert found["part"][:2] == ("currency", mixed)
    assert found["part"][3].endswith(f"; {terms}; billed 800.00 USD.")
    assert "both" not in found
    assert found["wrong"][:2] == ("amount", mixed)
    assert found["wrong"][3].endswith(f"; {terms}; billed 550.00 EUR and 800.00 USD.")
    assert found["other"][:2] == ("currency", "wrong currency")
    assert found["other"][3].endswith("in EUR by metering but in USD by billing; 7 × 2 = 14.00 EUR; billed 14.00 USD.")


def rated(house):
    """Rate the usage that was put, as the nightly run does before it reconciles."""
    house.runs += 1
    house.store.start_run(f"rate-{house.runs}", "nightly", DAY)
    publish_rating(lake=house.lake, store=house.store, settings=house.settings, run_id=f"rate-{house.runs}")


def test_every_kind_of_usage_leak_shows_its_money_and_how_it_comes_about(house, tmp_path):
    """Counted by metering, rated by the book of billing's own prices, against what the invoices charge."""
    used = {
        "right": 12000, "short": 1000, "unbilled": 7, "given": 7, "tier": 12000, "version": 100, "late": 321,
        "owner": 456, "two prices": 5, "listed": 8,
    }  # fmt: skip
    house.put("usage_summary", *(usage(s, quantity=q, unit="call", customer_id=f"crm:{s}") for s, q in used.items()))
    house.put(
        "price",
        {"source_id": "plain", "billing_scheme": "per_unit", "unit_amount": "0.31"},
        {"source_id": "old", "billing_scheme": "per_unit", "unit_amount": "0.20"},
        {"source_id": "tiers", "billing_scheme": "tiered", "tiers_mode": "graduated"},
    )
    house.put(
        "price_tier",
        *(
            {"price_source_id": "tiers", "tier_no": n, "up_to": up_to, "unit_amount": each}
            for n, up_to, each in ((1, 1000, "0"), (2, 10000, "0.0030"), (3, None, "0.0019"))
        ),
    )
    tiered = ("right", "tier")
    house.put(
        "subscription_item",
        *(metered_item(s, currency="USD", price_source_id="tiers" if s in tiered else "plain", unit_amount=None)
          for s in (*used, "uncounted", "stranger") if s != "listed"),
        metered_item("two prices", price_source_id="old"),
    )  # fmt: skip
    house.put("invoice", invoice("N1"))
    billed = [  # subscription, quantity, money, price and what else
        ("right", 1000, "0", "tiers", {}), ("right", 9000, "27", "tiers", {}), ("right", 2000, "3.80", "tiers", {}),
        ("short", 600, "186", "plain", {}), ("uncounted", 7, "2.17", "plain", {}),
        ("tier", 12000, "22.80", "tiers", {}), ("version", 100, "20", "old", {}),
        ("late", 321, "99.51", "plain", {"period_start": date(2026, 1, 20)}),
        ("stranger", 456, "141.36", "plain", {}),
    ]  # fmt: skip
    house.put(
        "invoice_line",
        *(
            usage_line("N1", s, source_id=f"il_{n}", quantity=q, amount=a, price_source_id=p, **more)
            for n, (s, q, a, p, more) in enumerate(billed)
        ),
    )
    house.put("product", {"source_id": "prod_api", "name": "API calls", "meter": "api"})
    house.put("contract_line", line("L1", product_id="src:prod_api", product_source_id="prod_api"))
    house.put("entitlement", entitlement("e1", "L1", customer_id="crm:given"))
    house.settings = replace(house.settings, config=tmp_path / "config")
    listed = tmp_path / "config" / "price_books" / "list.csv"
    listed.parent.mkdir(parents=True)
    listed.write_text("meter,price_source_id,model,tier_no,unit_amount,currency\napi,list,unit,1,0.5,USD\n")
    rated(house)
    found = {b["break_key"].split("|")[0]: b for b in house.run("usage_to_billing").breaks.to_pylist()}
    worth = {k: (b["break_type"], b["reason"], b["value"], b["sentence"].partition(": ")[2]) for k, b in found.items()}
    assert worth == {
        "short": ("amount", "wrong quantity", Decimal("124"), "1,000 by metering but 600 by billing; "
                  "1,000 × 0.31 = 310.00 USD; billed 600 for 186.00 USD; short 124.00 USD."),
        "unbilled": ("missing_right", "used not billed", Decimal("2.17"),
                     "7 × 0.31 = 2.17 USD; billed nothing; short 2.17 USD."),
        "given": ("missing_right", "free by entitlement", Decimal("2.17"),
                  "7 × 0.31 = 2.17 USD; billed nothing; short 2.17 USD."),
        "uncounted": ("missing_left", "billed not used", Decimal("2.17"), "nothing was counted; billed 2.17 USD."),
        "tier": ("amount", "wrong tier", Decimal("8"), "30.80 USD by metering but 22.80 USD by billing; "
                 "1,000 in tier 1 × 0 + 9,000 in tier 2 × 0.003 + 2,000 in tier 3 × 0.0019 = 30.80 USD; "
                 "billed 22.80 USD; short 8.00 USD."),
        "version": ("amount", "wrong price version", Decimal("11"), "31.00 USD by metering but 20.00 USD by billing; "
                    "100 × 0.31 = 31.00 USD; billed 20.00 USD; short 11.00 USD."),
        "late": ("cut_off", "wrong period", Decimal("99.51"), "321 × 0.31 = 99.51 USD; billed 99.51 USD."),
        "owner": ("attribute", "wrong customer", Decimal("141.36"), "456 × 0.31 = 141.36 USD; billed 141.36 USD."),
        "two prices": ("missing_right", "used not billed", None, ""),
        "listed": ("missing_right", "used not billed", Decimal(4),
                   "8 × 0.5 = 4.00 USD; billed nothing; short 4.00 USD."),
    }  # fmt: skip


def entry(move, account, debit=0, credit=0, **changes):
    return {
        "source_id": f"{move}-{account}", "move_id": move, "account": account, "debit": debit, "credit": credit,
        "accounting_date": date(2026, 3, 20),
    } | changes  # fmt: skip


def booked(move, number, amount=119, tax=19, **changes):
    told = {"narrative": f"BillingSync {number}"} | changes
    return [
        entry(move, "11000", debit=amount, **told),
        entry(move, "22000", credit=tax, **told),
        entry(move, "40100", credit=amount - tax, **told),
    ]


def accounts(house):
    roles = {"11000": "receivable", "22000": "tax_payable", "40100": "revenue"}
    house.put(
        "gl_account",
        *({"source_id": c, "code": c, "role": r, "is_controlled": r != "revenue"} for c, r in roles.items()),
    )


def journal(house, *, state_posted=True, ledger="main"):
    run_key = f"TIEOUT/US/{ledger}/2026-03/billing/2026-03-29/v1"
    house.put(
        "journals",
        {
            "run_key": run_key, "slot": f"US/{ledger}/2026-03/billing/2026-03-29", "version": 1, "ledger": ledger,
            "period": "2026-03", "stream": "billing", "business_date": DAY, "accounting_date": DAY, "debit": 119,
            "credit": 119, "line_count": 2, "row_count": 1, "content_hash": "h",
        },
    )  # fmt: skip
    common = {"run_key": run_key, "event_type": "invoice_ahead", "product_family": "", "tax_code": "", "row_count": 1,
              "description": "d"}  # fmt: skip
    house.put(
        "journal_lines",
        common | {"line_no": 1, "account": "11000", "account_role": "receivable", "side": "debit", "amount": 119},
        common | {"line_no": 2, "account": "22000", "account_role": "tax_payable", "side": "credit", "amount": 19},
        common | {"line_no": 3, "account": "40100", "account_role": "revenue", "side": "credit", "amount": 100},
    )
    house.put(
        "journal_drilldown",
        *(
            {
                "run_key": run_key,
                "line_no": n,
                "event_id": "e1",
                "leg": n,
                "event_date": DAY,
                "amount": a,
                "document_number": "posted",
            }
            for n, a in ((1, 119), (2, 19), (3, 100))
        ),
    )
    return run_key


def test_invoice_to_receivable(house, monkeypatch):
    accounts(house)
    run_key = journal(house)
    state = "posted"
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [(run_key, state)])
    house.put(
        "invoice",
        invoice("good"), invoice("missed"), invoice("doubled"), invoice("amount"), invoice("tax"), invoice("period"),
        invoice("void", status="void", voided_date=date(2026, 3, 22)), invoice("draft", status="draft"),
        invoice("zero", subtotal=0, tax=0, total=0), invoice("gap", mapping_gap="no product family is mapped for X"),
        invoice("posted", accounting_date=DAY), invoice("tonight", accounting_date=DAY),
        invoice("tomorrow", accounting_date=date(2026, 3, 30)),
    )  # fmt: skip
    house.put(
        "gl_entry",
        *booked("m1", "good"), *booked("m2", "doubled"), *booked("m3", "doubled"), *booked("m4", "amount", 118),
        *booked("m5", "tax", 119, 18), *booked("m6", "period", accounting_date=date(2026, 2, 27)), *booked("m7",
        "void"),
        *booked("m8", "unknown"), *booked("m9", "x", narrative="BillingSync PAY ch_1"),
    )  # fmt: skip
    assert house.found("invoice_to_receivable") == {
        ("US", "missed", "missing_right"),
        ("US", "doubled", "duplicate"),
        ("US", "amount", "amount"),
        ("US", "tax", "amount"),
        ("US", "period", "cut_off"),
        ("US", "gap", "mapping"),
        ("US", "unknown", "missing_left"),
        ("US", "tonight", "timing"),
    }


def test_journal_to_ledger(house, monkeypatch):
    accounts(house)
    run_key = journal(house)
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [(run_key, "posted")])
    ours = {"run_key": run_key, "accounting_date": DAY}
    manual = {"narrative": "MANUAL correction", "accounting_date": DAY}
    house.put(
        "gl_entry",
        entry("j", "11000", debit=119, line_no=1, **ours),
        entry("j", "22000", credit=18, line_no=2, **ours),
        entry("x", "11000", debit=5, **manual),
        entry("x", "40100", credit=5, **manual),
        *booked("old", "A", accounting_date=date(2026, 3, 28)),
    )
    assert house.found("journal_to_ledger") == {
        ("US", "MANUAL correction|11000", "missing_left"),
        ("US", f"{run_key}|2", "amount"),
        ("US", f"{run_key}|3", "missing_right"),
    }


def test_lines_of_one_entry_by_others_and_an_unmapped_product_name_their_common_cause(house, monkeypatch):
    accounts(house)
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [])
    manual = {"narrative": "MANUAL shift", "move_number": "E-7", "accounting_date": DAY}
    house.put("gl_entry", entry("x", "11000", debit=5, **manual), entry("x", "22000", credit=5, **manual))
    ledger = house.run("journal_to_ledger").breaks.to_pylist()
    assert [(b["cause"], b["measure"]) for b in ledger] == [("ledger entry E-7", "balance")] * 2
    assert sorted(b["sentence"] for b in ledger) == [
        "Somebody other than Tieout posted 5.00 USD on a controlled account: credit of account 22000, entry E-7 of "
        '2026-03-29, "MANUAL shift".',
        "Somebody other than Tieout posted 5.00 USD on a controlled account: debit of account 11000, entry E-7 of "
        '2026-03-29, "MANUAL shift".',
    ]
    house.put("product", {"source_id": "prod_X", "name": "Add-on"})
    house.put("invoice", invoice("gap", mapping_gap="no product family is mapped for prod_X"))
    line = usage_line("gap", "s") | {"meter": None, "product_source_id": "prod_X", "product_family": None}
    house.put("invoice_line", line)
    (gap,) = house.run("invoice_to_receivable").breaks.to_pylist()
    assert (gap["cause"], gap["reason"]) == ("product prod_X", "no product family is mapped for prod_X (Add-on)")


@pytest.mark.parametrize(
    ("state", "found"),
    [
        pytest.param("mismatched", {("v1|1", "amount")}, id="held otherwise"),
        pytest.param("confirmed", set(), id="not read back yet"),
        pytest.param("reversed", set(), id="reversed"),
        pytest.param("rejected", {(f"v1|{n}", "missing_left") for n in (1, 2, 3)}, id="refused"),
    ],
)
def test_our_own_journals_in_the_ledger_are_nobody_elses(house, monkeypatch, state, found):
    accounts(house)
    run_key = journal(house)
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [(run_key, state)])
    ours = {"run_key": run_key, "accounting_date": DAY}
    mirror = {"run_key": f"{run_key}/reversed", "accounting_date": DAY}
    rows = [
        entry("j", "11000", debit=120, line_no=1, **ours),
        entry("j", "22000", credit=19, line_no=2, **ours),
        entry("j", "40100", credit=100, line_no=3, **ours),
    ]
    if state == "reversed":
        rows += [
            entry("m", "11000", credit=120, line_no=1, **mirror),
            entry("m", "22000", debit=19, line_no=2, **mirror),
            entry("m", "40100", debit=100, line_no=3, **mirror),
        ]
    house.put("gl_entry", *rows)
    assert {(key.rpartition("/")[2], kind) for _, key, kind in house.found("journal_to_ledger")} == found


def test_a_document_written_by_hand_in_a_journals_place_is_compared_by_account(house, monkeypatch):
    accounts(house)
    run_key = journal(house)
    with house.store.transaction() as session:
        day, content = DAY, {"lines": []}
        planned = [PlannedJournal(run_key, "k" * 16, "USD", day, Decimal(119), 3, content)]
        batches.plan(
            session, Slot("US", "main", "2026-03", "billing", day), 1, planned, digest="d", accounting_date=day,
            kind="original", origin=None, needs_approval=False, run_id="r", actor="a", now=house.store.now(),
        )  # fmt: skip
        batches.mark_journal(session, run_key, batches.BY_HAND, actor="a", now=house.store.now(), erp_id="x")
    told = {"narrative": "for TIEOUT", "accounting_date": DAY, "move_number": "E-9", "source": "erp"}
    lines = [  # in another order, one of ours in two lines
        entry("x", "40100", credit=100, **told),
        entry("x", "11000", debit=119, **told),
        entry("x", "22000", credit=9, **told) | {"source_id": "x-1"},
        entry("x", "22000", credit=10, **told) | {"source_id": "x-2"},
    ]

    def found(*rows):
        house.put("gl_entry", *rows)
        breaks = house.run("journal_to_ledger").breaks.to_pylist()
        return sorted((row["break_key"].rpartition("/")[2], row["break_type"]) for row in breaks)

    assert found(*lines) == []
    assert found(*lines[:-1]) == [("v1|22000", "amount")]
    assert found(*lines, entry("x", "40300", debit=5, **told)) == [("v1|40300", "missing_left")]
    gone = [line | {"is_deleted": True} for line in lines]
    assert found(*gone) == [(f"v1|{account}", "missing_right") for account in (11000, 22000, 40100)]
    assert found(*lines, entry("y", "11000", debit=5, **told)) == [("for TIEOUT|11000", "missing_left")]


def test_a_reversed_journal_and_its_mirror_are_nothing_only_while_they_undo_each_other(house, monkeypatch):
    accounts(house)
    run_key = journal(house)
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [(run_key, "reversed")])
    ours = {"run_key": run_key, "accounting_date": DAY}
    mirror = {"run_key": f"{run_key}/reversed", "accounting_date": DAY + timedelta(days=3)}
    original = [entry("j", "11000", debit=119, line_no=1, **ours), entry("j", "40100", credit=119, line_no=2, **ours)]
    undoing = [
        entry("m", "11000", credit=119, line_no=1, **mirror),
        entry("m", "40100", debit=119, line_no=2, **mirror),
    ]
    moved = [undoing[0], entry("m", "40300", debit=119, line_no=2, **mirror)]
    again = [entry("k", "11000", debit=119, line_no=1, **ours), entry("k", "40100", credit=119, line_no=2, **ours)]
    gone = [row | {"is_deleted": True} for row in undoing]

    def found(*rows):
        house.put("gl_entry", *rows)
        breaks = house.run("journal_to_ledger").breaks.to_pylist()
        return sorted(row["break_key"].rpartition("/")[2] for row in breaks)

    assert found(*original, *undoing) == []  # though the mirror is dated after the business date
    assert found(*original) == []  # tables as they were before the mirror
    assert found(*original, *moved) == ["v1|2"]
    assert found(*original, *undoing, *again) == ["v1|1", "v1|2"]  # as one break a line
    assert found(*original, *gone) == ["v1|1", "v1|2"]


@pytest.mark.parametrize("of_mirror", ["posted", "rejected"])
def test_a_copy_that_its_mirror_undid_is_nothing(house, monkeypatch, of_mirror):
    run_key = journal(house, ledger="old")
    monkeypatch.setattr("tieout.breaks.inputs.journal_states", lambda store: [(run_key, "reversed")])
    copied = [("main", run_key, "posted"), ("main", f"{run_key}/reversed", of_mirror)]
    monkeypatch.setattr("tieout.breaks.inputs.copy_states", lambda session: copied)
    ours = {"run_key": run_key, "accounting_date": DAY, "source": "erp"}
    house.put(
        "gl_entry",
        entry("j", "11000", debit=119, line_no=1, **ours),
        entry("j", "22000", credit=19, line_no=2, **ours),
        entry("j", "40100", credit=100, line_no=3, **ours),
        entry("m", "11000", credit=119, line_no=1, **ours | {"run_key": f"{run_key}/reversed"}),
        entry("m", "22000", debit=19, line_no=2, **ours | {"run_key": f"{run_key}/reversed"}),
        entry("m", "40100", debit=100, line_no=3, **ours | {"run_key": f"{run_key}/reversed"}),
    )
    found = {(key.rpartition("/")[2], kind) for _, key, kind in house.found("journal_to_ledger")}
    assert found == (set() if of_mirror == "posted" else {(f"reversed|{n}", "missing_left") for n in (1, 2, 3)})


def payment(number, **changes):
    return {
        "source_id": number, "customer_id": "crm:A", "customer_source_id": "cus", "status": "succeeded", "amount": 119,
        "allocated": 119, "accounting_date": date(2026, 3, 25),
    } | changes  # fmt: skip


def allocation(payment_id, reference, amount=119, known=True):
    return {
        "source_id": f"{payment_id}:{reference}", "payment_source_id": payment_id, "invoice_reference": reference,
        "invoice_source_id": f"in_{reference}" if known else None, "amount": amount,
    }  # fmt: skip


def test_payment_to_invoice(house):
    unpaid = {"status": "open", "amount_paid": 0}
    house.put(
        "invoice",
        invoice("good"), invoice("halves"), invoice("short"), invoice("unpaid_paid"), invoice("twice"),
        invoice("open", amount_remaining=119, customer_id="crm:O", **unpaid),
        invoice("one", amount_remaining=50, customer_id="crm:B", **unpaid),
        invoice("two_a", amount_remaining=60, customer_id="crm:C", **unpaid),
        invoice("two_b", amount_remaining=60, customer_id="crm:C", **unpaid),
        invoice("zero", total=0, amount_paid=0),
    )  # fmt: skip
    house.put(
        "payment",
        payment("ch_1"), payment("ch_2", amount=100, allocated=100), payment("ch_3", amount=19, allocated=19),
        payment("ch_4", amount=118, allocated=118), payment("ch_5"), payment("ch_6"),
        payment("ch_7"), payment("ch_8", allocated=0, amount=50, customer_id="crm:B"),
        payment("ch_9", allocated=0, amount=60, customer_id="crm:C"), payment("ch_10", allocated=0, amount=1),
        payment("ch_11", status="failed", allocated=0), payment("ch_12", amount=120),
    )  # fmt: skip
    house.put(
        "payment_allocation",
        allocation("ch_1", "good"), allocation("ch_2", "halves", 100), allocation("ch_3", "halves", 19),
        allocation("ch_4", "short", 118), allocation("ch_5", "twice"), allocation("ch_6", "twice"),
        allocation("ch_7", "US-2099-1", known=False),
    )  # fmt: skip
    assert house.found("payment_to_invoice") == {
        ("US", "short", "amount"),
        ("US", "unpaid_paid", "missing_right"),
        ("US", "twice", "duplicate"),
        ("US", "US-2099-1", "orphan"),
        ("US", "ch_8", "suggested_match"),
        ("US", "ch_9", "ambiguous"),
        ("US", "ch_10", "missing_left"),
    }


def case(number, **changes):
    return {
        "source_id": number, "legal_entity_id": None, "customer_id": "crm:A", "customer_source_id": "1",
        "status": "open",
        "opened_date": date(2026, 3, 20),
    } | changes  # fmt: skip


def test_case_to_contract(house):
    house.put("customer", {"id": "crm:A", "source_id": "A", "name": "Acme", "decided_by": "own"},
              {"id": "crm:B", "source_id": "B", "name": "Beta", "decided_by": "own",
              "legal_entity_id": "DE"})  # fmt: skip
    house.put("contract", contract(), contract(source_id="K2", customer_id="crm:B", end_date=date(2026, 3, 1)))
    house.put(
        "case",
        case("1"), case("2"), case("3", customer_id="crm:B"), case("4", customer_id=None),
        case("5", customer_id="crm:B", status="solved"),
    )  # fmt: skip
    assert house.found("case_to_contract") == {("DE", "3", "missing_right"), ("", "4", "orphan")}


def entitlement(number, root, **changes):
    return {
        "source_id": number, "customer_id": "crm:A", "customer_source_id": "A", "contract_line_ref": root,
        "level": "Premium",
        "status": "Active", "start_date": date(2026, 1, 1), "end_date": date(2027, 1, 1),
    } | changes  # fmt: skip


def test_entitlement_to_contract(house):
    support = {"product_family": "support", "product_source_id": "S"}
    house.put("product", {"source_id": "S", "name": "Premium support", "family": "support"})
    house.put("contract", contract())
    house.put(
        "contract_line",
        line("good", **support), line("level", **support), line("inactive", **support), line("missing", **support),
        line("new", start_date=date(2026, 3, 28), **support), line("seats"),
    )  # fmt: skip
    house.put(
        "entitlement",
        entitlement("e1", "good"), entitlement("e2", "level", level="Gold"), entitlement("e3", "inactive",
        status="Inactive"),
        entitlement("e4", None), entitlement("e5", "ended"), entitlement("e6", "over", status="Expired"),
        entitlement("e7", "past", end_date=date(2026, 3, 1)),
    )  # fmt: skip
    assert house.found("entitlement_to_contract") == {
        ("US", "level", "attribute"),
        ("US", "inactive", "status"),
        ("US", "missing", "missing_left"),
        ("US", "new", "timing"),
        ("US", "e4", "missing_right"),
        ("US", "ended", "missing_right"),
    }


def test_a_price_changed_since_leaves_what_was_billed_before_it_right_and_finds_what_was_not(house):
    """Three periods, the price doubled on the first day of the last: each is held against the price it had."""
    names = ("right", "early", "late")
    first, middle, last = [(add_months(date(2025, 12, 20), n), add_months(date(2025, 12, 20), n + 1)) for n in range(3)]
    house.put("price", {"source_id": "old", "unit_amount": 1, "currency": "USD"},
              {"source_id": "new", "unit_amount": 2, "currency": "USD"})  # fmt: skip
    house.put("subscription_item", *(metered_item(s, source_id=f"si_{s}", price_source_id="new") for s in names))
    house.put(
        "former_price",
        *(
            {"source_id": f"evt_{s}", "event_source_id": f"evt_{s}", "subscription_source_id": s, "meter": "api",
             "subscription_item_source_id": f"si_{s}", "price_source_id": "old", "accounting_date": last[0],
             "occurred_at": datetime.combine(last[0], time(12), UTC)}
            for s in names
        ),
    )  # fmt: skip
    spans = (first, middle, last)
    house.put("usage_summary", *(usage(s, quantity=10, period_start=a, period_end=b) for s in names for a, b in spans))
    house.put("invoice", invoice("N1"))
    billed = {"right": ("old", "old", "new"), "early": ("old", "new", "new"), "late": ("old", "old", "old")}
    house.put(
        "invoice_line",
        *(
            usage_line("N1", s, source_id=f"il_{s}{n}", quantity=10, price_source_id=price, currency="USD",
                       amount=10 if price == "old" else 20, period_start=a, period_end=b)
            for s, prices in billed.items() for n, (price, (a, b)) in enumerate(zip(prices, spans, strict=True))
        ),
    )  # fmt: skip
    rated(house)
    breaks = house.run("usage_to_billing").breaks.to_pylist()
    assert {(b["break_key"], b["reason"], b["difference"]) for b in breaks} == {
        (f"early|api|{middle[0]}", "wrong price version", -10), (f"late|api|{last[0]}", "wrong price version", 10),
    }  # fmt: skip


def test_what_is_due_without_usage_is_rated_and_looked_for_on_the_invoices(house):
    """Periods by the anchor, from the first running day to the end, past the trial, where a price charges for none."""
    first, anchor = DAY - timedelta(days=75), DAY - timedelta(days=70)
    runs = {
        "billed": {}, "unbilled": {}, "cheap": {}, "free": {}, "never": {"status": "incomplete_expired"},
        "trial": {"trial_end": DAY}, "ended": {"ended_at": datetime.combine(anchor, time(12), UTC)},
        "weekly": {"start_date": anchor, "ended_at": datetime.combine(anchor + timedelta(days=21), time(12), UTC)},
    }  # fmt: skip
    house.put(
        "price", *({"source_id": p, "billing_scheme": "tiered", "tiers_mode": "graduated"} for p in ("fee", "free"))
    )
    house.put(
        "price_tier",
        {"source_id": "t1", "price_source_id": "fee", "tier_no": 1, "flat_amount": "40", "unit_amount": "0.5"},
        {"source_id": "t2", "price_source_id": "free", "tier_no": 1, "flat_amount": "0", "unit_amount": "0.5"},
    )
    house.put(
        "subscription",
        *({"source_id": s, "start_date": first, "billing_anchor": anchor} | more for s, more in runs.items()),
    )
    house.put(
        "subscription_item",
        *(
            {"source_id": f"si_{s}", "subscription_source_id": s, "meter": "api", "accounting_date": first,
             "usage_type": "metered", "price_source_id": "free" if s == "free" else "fee"}
            | ({"interval_days": 7} if s == "weekly" else {"interval_months": 1})
            for s in runs
        ),
    )  # fmt: skip
    starts = [first, anchor, add_months(anchor, 1), add_months(anchor, 2)]
    used = {"period_start": starts[2], "period_end": starts[3], "unit": "call"}
    house.put("usage_summary", usage("billed", quantity=10, **used))
    rated(house)
    lines = house.lake.read("rated_lines", house.store.published()["rated_lines"]).to_pylist()
    fees = {(x["subscription_source_id"], x["period_start"], x["period_end"], x["amount"]) for x in lines}
    ended = {("ended", starts[0], starts[1], 40)}
    ended |= {("weekly", anchor + timedelta(7 * n), anchor + timedelta(7 * n + 7), 40) for n in range(3)}
    assert fees == ended | {
        (s, start, end, 45 if (s, n) == ("billed", 2) else 40)
        for s in ("billed", "unbilled", "cheap") for n, (start, end) in enumerate(pairwise(starts))
    }  # fmt: skip
    assert house.lake.read("unrated_usage", house.store.published()["unrated_usage"]).num_rows == 0

    house.put("invoice", invoice("N1"))
    amounts = {"billed": (40, 40, 45), "cheap": (40, 40, 30), "ended": (40,)}
    house.put(
        "invoice_line",
        *(
            usage_line("N1", s, source_id=f"il_{s}{n}", quantity=10 if amount == 45 else 0, price_source_id="fee",
                       amount=amount, period_start=starts[n], period_end=starts[n + 1])
            for s, each in amounts.items() for n, amount in enumerate(each)
        ),
    )  # fmt: skip
    breaks = house.run("usage_to_billing", DAY).breaks.to_pylist()
    assert Counter((b["break_key"].split("|")[0], b["break_type"], b["reason"], b["value"]) for b in breaks) == {
        ("unbilled", "missing_right", "due without usage", 40): 3,
        ("weekly", "missing_right", "due without usage", 40): 3,
        ("cheap", "amount", "wrong tier", 10): 1,
    }
    sentences = [b["sentence"] for b in breaks if b["reason"] == "due without usage"]
    assert all("0 in tier 1 × 0.5 + 40 = " in s for s in sentences), sentences
