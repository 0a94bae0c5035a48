"""The generated company rated by its price book: the clean one is billed right, every planted leak is found."""

from collections import defaultdict
from datetime import UTC, date, datetime

import pytest

from tieout.lake.engine import engine
from tieout.reports.usage import TREND
from tieout.usage import publish_rating
from tieout_sandbox.company import Company
from tieout_sandbox.company.days import add_months
from tieout_sandbox.company_store import stored_company

NIGHT = date(2026, 4, 1)
CLOCK = datetime(2026, 4, 2, 9, tzinfo=UTC)


def usage_periods(company: Company) -> list[dict]:
    """Events added up per subscription, meter and monthly period, corrections and voids applied."""
    subscriptions = {s.id: s for s in company.subscriptions}
    accounts = {c.id: c.account_id for c in company.customers}
    events = {e.event_id: e for e in company.usage_events if e.visible_at <= CLOCK}
    replaced = {e.corrects_event_id for e in events.values()}
    sums: dict[tuple, int] = defaultdict(int)
    for event in events.values():
        if event.event_id in replaced or event.kind == "void":
            continue
        anchor, n = subscriptions[event.subscription_id].anchor_date, 0
        while add_months(anchor, n + 1) <= event.usage_date:
            n += 1
        period = (add_months(anchor, n), add_months(anchor, n + 1))
        sums[event.subscription_id, event.meter, event.unit, event.legal_entity_id, *period] += event.quantity
    return [
        {
            "subscription_source_id": sub, "meter": meter, "grain": "period", "period_start": start, "period_end": end,
            "legal_entity_id": entity, "customer_id": f"crm:{accounts[subscriptions[sub].customer_id]}",
            "quantity": quantity, "unit": unit, "event_count": 1, "corrected_count": 0, "late_count": 0,
        }
        for (sub, meter, unit, entity, start, end), quantity in sums.items()
    ]  # fmt: skip


def status(invoice) -> str:
    return [v for v in invoice.versions if v.visible_at <= CLOCK][-1].status


def put(house, company: Company) -> None:
    """The company's canonical tables of usage and billing, as its systems show them after the night."""
    products = {p.key: p for p in company.products}
    house.put("usage_summary", *usage_periods(company))
    house.put(
        "price",
        *(
            {
                "source_id": p.id, "legal_entity_id": p.legal_entity_id, "currency": p.currency,
                "unit_amount": p.unit_amount, "billing_scheme": "tiered" if p.tiers else "per_unit",
                "tiers_mode": p.tiers_mode,
            }
            for p in company.prices
        ),
    )  # fmt: skip
    house.put(
        "price_tier",
        *(
            {"source_id": f"{p.id}:{n}", "price_source_id": p.id, "tier_no": n, "up_to": t.up_to,
             "unit_amount": t.unit_amount, "currency": p.currency}
            for p in company.prices for n, t in enumerate(p.tiers, 1)
        ),
    )  # fmt: skip
    house.put(
        "subscription_item",
        *(
            {"source_id": i.id, "subscription_source_id": s.id, "price_source_id": i.price_id,
             "meter": products[i.product_key].meter, "currency": s.currency, "legal_entity_id": s.legal_entity_id}
            for s in company.subscriptions for i in s.versions[-1].items if products[i.product_key].meter
        ),
    )  # fmt: skip
    invoices = [i for i in company.invoices if i.accounting_date and i.accounting_date <= NIGHT]
    invoices = [i for i in invoices if any(v.status != "draft" and v.visible_at <= CLOCK for v in i.versions)]
    house.put(
        "invoice",
        *(
            {"source_id": i.id, "number": i.number, "status": status(i),
             "voided_date": NIGHT, "customer_source_id": i.customer_id, "legal_entity_id": i.legal_entity_id,
             "currency": i.currency, "accounting_date": i.accounting_date, "subtotal": 0, "tax": 0, "total": 0,
             "amount_paid": 0, "amount_remaining": 0}
            for i in invoices
        ),
    )  # fmt: skip
    house.put(
        "invoice_line",
        *(
            {"source_id": x.id, "invoice_source_id": i.id, "invoice_number": i.number, "line_no": x.line_no,
             "subscription_source_id": i.subscription_id, "meter": x.meter, "price_source_id": x.price_id,
             "amount": x.amount, "tax": 0, "currency": i.currency, "quantity": x.quantity, "is_proration": False,
             "period_start": x.period_start, "period_end": x.period_end, "legal_entity_id": i.legal_entity_id}
            for i in invoices for x in i.lines if x.meter
        ),
    )  # fmt: skip
    house.put("product", *({"id": f"p:{p.key}", "source_id": p.crm_id, "meter": p.meter} for p in company.products))
    house.put(
        "contract_line",
        *(
            {"source_id": x.id, "root_line_id": x.root_id, "product_id": f"p:{x.product_key}"}
            for x in company.contract_lines if products[x.product_key].meter
        ),
    )  # fmt: skip
    house.put(
        "entitlement",
        *(
            {"source_id": e.id, "customer_id": f"crm:{e.account_id}", "contract_line_ref": e.contract_line_id,
             "status": e.versions[-1].status, "start_date": e.start_date, "end_date": e.versions[-1].end_date}
            for e in company.entitlements
        ),
    )  # fmt: skip
    house.store.start_run("rate", "nightly", NIGHT)
    publish_rating(lake=house.lake, store=house.store, settings=house.settings, run_id="rate")


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "planted"])
def test_usage_of_the_company_is_rated_to_what_it_was_billed_but_for_the_planted_leaks(house, clean):
    company = stored_company(7, 1, clean)
    put(house, company)
    assert house.lake.read("unrated_usage", house.store.published()["unrated_usage"]).num_rows == 0
    found = house.run("usage_to_billing", NIGHT).breaks.to_pylist()
    expected = {
        (x.legal_entity_id, x.break_key, x.break_type, x.amount)
        for x in company.labels
        if x.definition_id == "usage_to_billing" and x.is_visible(NIGHT)
    }
    assert {(b["legal_entity_id"], b["break_key"], b["break_type"], b["value"]) for b in found} == expected
    kinds = {b["reason"] for b in found if b["break_type"] != "timing"}
    assert kinds == (
        set()
        if clean
        else {
            "used not billed", "billed not used", "wrong quantity", "wrong tier", "wrong price version",
            "wrong period", "wrong customer", "free by entitlement",
        }
    )  # fmt: skip
    with engine() as session:
        house.lake.bind(session, house.store.published(), ["usage_summary", "rated_lines", "invoice", "invoice_line"])
        trend = session.sql(TREND, {"day": NIGHT}).to_pylist()
    assert len({r["meter"] for r in trend}) == 4
    apart = [r for r in trend if (r["counted"], r["due"]) != (r["billed"], r["charged"])]
    if clean:
        assert apart == []
    else:
        assert {r["month"] for r in apart} <= {"2026-02", "2026-03"}
