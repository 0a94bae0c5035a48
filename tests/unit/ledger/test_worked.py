"""Summaries split into journals, and worked examples with published answers that are no single event."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.lake.engine import engine
from tieout.ledger import EVENTS, blocked, events, load_rules, summarise
from tieout.ledger.events import SOURCES
from tieout.money import from_minor, round_money, to_minor
from tieout.settings import Settings

RULES = load_rules(Settings.from_env({}))
D29 = date(2026, 3, 29)


def test_five_hundred_thousand_over_36_months_by_a_file_of_schedules(make_books: Any) -> None:
    # ASC 606 five-step illustration: platform 420,000 over 36 months (last month takes the residue), onboarding 60,000
    # over the first three, migration 20,000 in month 2
    books = make_books(schedule_source="file", go_live=date(2025, 1, 1))
    start, end = date(2026, 1, 1), date(2029, 1, 1)
    families = {"420000": "platform", "60000": "support", "20000": "usage"}
    lines = [{"amount": a, "family": f, "start": start, "end": end} for a, f in families.items()]
    books.invoice("C", date(2026, 1, 1), *lines)
    monthly = [Decimal("11666.67")] * 35
    parts = {1: [*monthly, Decimal(420000) - sum(monthly)], 2: [Decimal(20000)] * 3, 3: [Decimal(0), Decimal(20000)]}
    for number, amounts in parts.items():
        for month, amount in enumerate(amounts):
            day = date(2026 + month // 12, month % 12 + 1, 1)
            books.put(
                "revenue_schedule", f"{number}.{month}", invoice_line_source_id=f"C.{number}", recognition_date=day,
                amount=amount,
            )  # fmt: skip
    found = {}
    with engine() as session:
        for table in SOURCES:
            rows = list(books.rows[table].values())
            session.bind(table, pa.Table.from_pylist(rows, schema=schema.table(table).arrow))
        for month in (date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31), date(2026, 4, 30), date(2028, 12, 31)):
            released = events(session, books.entity, ["release"], month, month)
            found[month] = sum(released["gross"].to_pylist(), Decimal(0))
    assert list(found.values()) == [
        Decimal("31666.67"), Decimal("51666.67"), Decimal("31666.67"), Decimal("11666.67"), Decimal("11666.55"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("minor", "currency", "vendor", "amount"),
    [
        (1500, "JPY", "stripe", "1500"), (10005, "KWD", "stripe", "10.005"), (10005, "BHD", "iso", "10.005"),
        (1500, "UGX", "stripe", "15.00"), (1500, "UGX", "iso", "1500"), (1500, "ISK", "stripe", "15.00"),
        (1500, "MGA", "stripe", "1500"), (1500, "MGA", "iso", "15.00"), (1500, "IQD", "stripe", "15.00"),
        (1500, "IQD", "iso", "1.500"),
    ],
)  # fmt: skip
def test_digits_are_those_of_the_vendors_table(minor: int, currency: str, vendor: str, amount: str) -> None:
    assert from_minor(minor, currency, vendor) == Decimal(amount)
    assert to_minor(Decimal(amount), currency, vendor) == minor


def test_an_annual_plan_changed_after_ten_days_sums_to_zero() -> None:
    # Kill Bill invoice tests: 2,399.95 from 2012-05-01, changed on 05-11; charge, repair and customer credit
    price, days = Decimal("2399.95"), (date(2013, 5, 1) - date(2012, 5, 1)).days
    used = round_money(price * 10 / days, "USD")
    assert (days, used) == (365, Decimal("65.75"))
    assert used - price + (price - used) == 0


def rows(families: list[str], **values: Any) -> list[dict[str, Any]]:
    zero = dict.fromkeys(("net", "tax", "gross", "deferred", "recognised", "to_receivable", "to_credit", "rounding"))
    base = dict.fromkeys(EVENTS.names) | dict.fromkeys(zero, Decimal(0))
    base |= {"event_type": "invoice_delivered", "legal_entity_id": "US", "event_date": D29, "currency": "USD"} | values
    return [
        base
        | {"event_id": f"e{n}", "document_id": f"d{n}", "product_family": family, "source_id": str(n)}
        | {"net": Decimal(n), "gross": Decimal(n)}
        for n, family in enumerate(families, 1)
    ]


def test_an_event_type_with_more_lines_than_a_journal_may_have_is_dealt_out_whole_event_by_event() -> None:
    given = rows(["seats", "platform", "usage", "support", "seats"])
    whole = summarise(pa.Table.from_pylist(given, schema=EVENTS), RULES)
    split = summarise(pa.Table.from_pylist(given, schema=EVENTS), RULES, line_limit=3)
    assert whole.headers["line_count"].to_pylist() == [5]
    assert [k.rpartition("/")[2] for k in split.headers["run_key"].to_pylist()] == ["1of2", "2of2"]
    assert max(split.headers["line_count"].to_pylist()) <= 3
    assert split.headers["debit"].to_pylist() == split.headers["credit"].to_pylist()
    assert sum(split.headers["debit"].to_pylist()) == whole.headers["debit"].to_pylist()[0] == Decimal(15)
    assert sorted(split.drilldown["event_id"].to_pylist()) == sorted(whole.drilldown["event_id"].to_pylist())


def test_an_unmapped_event_waits_alone_beside_many_that_are_alike(tmp_path: Any) -> None:
    given = rows(["seats", "seats", "nobody knows", "seats"])
    given[1]["document_id"] = given[2]["document_id"]
    made = summarise(pa.Table.from_pylist(given, schema=EVENTS), RULES, drilldown=tmp_path / "parts.parquet")
    assert [(r["event_id"], r["amount"]) for r in made.held.to_pylist()] == [("e2", Decimal(2)), ("e3", Decimal(3))]
    assert made.lines["amount"].to_pylist() == [Decimal(5), Decimal(5)]
    with engine() as session:
        assert session.rows(f"SELECT DISTINCT event_id FROM '{made.drilldown}' ORDER BY 1") == [("e1",), ("e4",)]


def test_an_event_type_that_comes_after_a_hundred_thousand_of_another_is_summed_by_its_rule() -> None:
    with engine() as session:
        session.bind("one", pa.Table.from_pylist(rows(["seats"]), schema=EVENTS))
        many = (
            session.sql("""
            SELECT * REPLACE ('d' || i AS document_id, 'e' || i AS event_id,
              CASE WHEN i < 150000 THEN event_type ELSE 'invoice_ahead' END AS event_type)
            FROM one, range(150003) AS r(i) ORDER BY i
        """)
            .select(EVENTS.names)
            .cast(EVENTS)
        )
    made = summarise(many, RULES, drilldown=False)
    found = made.lines.group_by("event_type").aggregate([("row_count", "min"), ("row_count", "max")])
    assert sorted(map(tuple, found.to_pandas().to_numpy())) == [
        ("invoice_ahead", 3, 3), ("invoice_delivered", 150_000, 150_000),
    ]  # fmt: skip
    assert made.held.num_rows == 0


def test_what_waits_is_priced_by_what_is_missing_and_a_journal_names_its_rules() -> None:
    given = rows(["seats", "nobody knows", "seats", "usage"])
    given[0]["document_id"] = given[1]["document_id"]  # waits with it, and for what it waits for
    given[2] |= {"held_reason": "product p is not mapped to a family"}
    made = summarise(pa.Table.from_pylist(given, schema=EVENTS), RULES)
    found = blocked(made.held)
    assert [(b.cause, b.amount, b.currency, b.events, b.since) for b in found] == [
        ("no account for role revenue, product family nobody knows, currency USD", Decimal(3), "USD", 2, D29),
        ("product p is not mapped to a family", Decimal(3), "USD", 1, D29),
    ]
    assert str(found[1]).endswith("2026-03-29: 1 document waits with 3.00 USD")
    assert made.headers["rules"].to_pylist() == [RULES.digest]


def test_lines_in_another_currency_carry_amount_rate_and_source_and_reach_the_erp(books: Any) -> None:
    books.put("fx_rate", "r", currency="EUR", to_currency="USD", rate_date=D29, rate="1.10", source="ecb")
    books.invoice("A", D29, {"amount": "100.00"}, currency="EUR")
    books.invoice("B", D29, {"amount": "7.00"}, currency="CHF")
    for line, currency in (("A.1", "EUR"), ("B.1", "CHF")):
        books.rows["invoice_line"][line]["currency"] = currency
    plan = books.plan(D29)
    assert [
        (r["currency"], r["amount"], r["transaction_currency"], r["transaction_amount"], r["rate"], r["rate_source"])
        for r in plan.journals.lines.to_pylist()
    ] == [("USD", Decimal("110"), "EUR", Decimal("100"), Decimal("1.1"), "ecb 2026-03-29")] * 2
    assert [(h.currency, h.amount) for h in plan.held] == [("CHF", Decimal("7"))]
    assert "no exchange rate of CHF to USD" in plan.journals.held["reason"].to_pylist()[0]
    assert books.post(plan) == ["posted"]
    assert [(line.foreign_currency, line.foreign_amount) for line in books.erp.journals()[0].lines] == [
        ("EUR", Decimal("100")), ("EUR", Decimal("-100")),
    ]  # fmt: skip
    assert books.plan(D29).batches == ()
    books.rows["fx_rate"]["r"]["rate"] = Decimal("1.20")
    books.rows["invoice_line"]["A.1"]["amount"] = Decimal("95.00")
    books.rows["invoice"]["A"] |= {"total": Decimal("95.00"), "subtotal": Decimal("95.00")}
    assert books.post(books.plan(D29)) == ["posted"]
    assert books.balances()["11000"] == Decimal("114")
