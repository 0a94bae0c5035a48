"""Revenue releases and accruals: days served, cumulative, once; worked examples with published answers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tieout.calendar import ended_periods
from tieout.ledger import MONTH_END, load_rules, plan_month_ends
from tieout.money import round_money
from tieout.schema import table
from tieout.settings import Settings
from tieout.usage import rate

RULES = load_rules(Settings.from_env({}))

GO_LIVE, END, NEXT = date(2026, 3, 29), date(2026, 3, 31), date(2026, 4, 1)
DEFERRED, SEATS, USAGE, UNBILLED = "21000", "40100", "40300", "11100"


def earned(total: Decimal, start: date, end: date, upto: date, currency: str) -> Decimal:
    """What days `[start, end)` have earned of `total` by the end of `upto`: the engine's straight line, plainly."""
    days, passed = (end - start).days, max(0, min((end - start).days, (upto - start).days + 1))
    return total if passed == days else round_money(total * passed / days, currency)


def traced(plan: Any, account: str) -> dict[tuple[str, str], list[tuple[str, str, str, Decimal]]]:
    """By journal stream and side of an account's lines: source, id, document and amount of each row behind them."""
    found: dict[tuple[str, str], list[tuple[str, str, str, Decimal]]] = {}
    parts = plan.journals.drilldown.to_pylist()
    for line in plan.journals.lines.to_pylist():
        rows = [p for p in parts if (p["run_key"], p["line_no"]) == (line["run_key"], line["line_no"])]
        assert sum(p["amount"] for p in rows) == line["amount"]
        assert all(p["raw_ref"] and p["source_id"] for p in rows)
        if line["account"] == account:
            told = [(p["source"], p["source_id"], p["document_number"], p["amount"]) for p in rows]
            found[line["event_type"], line["side"]] = sorted(told, key=lambda row: row[1])
    return found


def month_end(books: Any, day: date = END) -> Any:
    plan = books.plan(day, streams=MONTH_END)
    assert set(books.post(plan)) <= {"posted"}
    return plan


def test_a_line_billed_before_go_live_releases_from_go_live_on(books: Any) -> None:
    books.invoice("OLD", date(2026, 3, 1), {"amount": "31", "start": date(2026, 3, 1), "end": NEXT})
    plan = month_end(books)
    assert plan.batches == ("TIEOUT/US/main/2026-03/release/2026-03-31/v1",)
    assert books.balances() == {DEFERRED: Decimal("3"), SEATS: Decimal("-3")}
    assert month_end(books).batches == ()


def test_a_line_billed_after_go_live_releases_every_day_it_has_served(books: Any) -> None:
    books.invoice("NEW", date(2026, 3, 30), {"amount": "30", "start": date(2026, 3, 20), "end": date(2026, 4, 19)})
    month_end(books)
    assert books.balances() == {DEFERRED: Decimal("12"), SEATS: Decimal("-12")}


def test_a_line_that_reduces_an_earlier_one_releases_backwards(books: Any) -> None:
    books.invoice(
        "UP",
        date(2026, 3, 30),
        {"amount": "-10", "start": date(2026, 3, 30), "end": date(2026, 4, 9)},
        {"amount": "20", "start": date(2026, 3, 30), "end": date(2026, 4, 9)},
    )
    plan = month_end(books)
    assert books.balances() == {DEFERRED: Decimal("2"), SEATS: Decimal("-2")}
    lines = plan.journals.lines.to_pylist()
    said = {(line["account"], line["side"], line["description"]) for line in lines}
    assert said == {
        (DEFERRED, "debit", "release seats"), (SEATS, "credit", "release seats"),
        (DEFERRED, "credit", "release seats, taken back"), (SEATS, "debit", "release seats, taken back"),
    }  # fmt: skip


def test_what_a_credit_note_unwound_is_not_released_again(books: Any) -> None:
    books.invoice("A", date(2026, 3, 22), {"amount": "10", "start": date(2026, 3, 22), "end": NEXT})
    books.credit("C", date(2026, 3, 30), "A", 1, "2")
    books.post(books.plan(END))
    month_end(books)
    # 7 had been released at go-live, 2 of the 3 left were credited
    assert books.balances()[DEFERRED] == Decimal("3")
    assert books.balances()[SEATS] == Decimal("-1")


def test_a_release_names_its_invoice_line_and_the_credit_notes_that_made_it_smaller(books: Any) -> None:
    books.invoice("A", date(2026, 3, 22), {"amount": "10", "start": date(2026, 3, 22), "end": NEXT})
    books.credit("C", date(2026, 3, 30), "A", 1, "1.50")
    books.credit("D", END, "A", 1, "0.50")
    books.post(books.plan(END))
    assert traced(month_end(books), SEATS) == {
        ("release", "credit"): [("stripe", "A.1", "A", Decimal(3))],
        ("release", "debit"): [("stripe", "C.1", "C", Decimal("1.50")), ("stripe", "D.1", "D", Decimal("0.50"))],
    }


def test_a_release_names_the_void_that_ended_it(books: Any) -> None:
    line = {"amount": "10", "start": date(2026, 3, 22), "end": NEXT}
    books.invoice("A", date(2026, 3, 22), line, voided_date=date(2026, 3, 30), status="void")
    (rows,) = [r for side, r in traced(month_end(books), SEATS).items() if side[1] == "debit"]
    assert [(source_id, amount) for _, source_id, _, amount in rows] == [("A.1", Decimal(3))]
    assert books.balances().get(SEATS) is None


def test_over_the_months_the_whole_amount_is_released_and_nothing_more(books: Any) -> None:
    books.invoice("A", GO_LIVE, {"amount": "100", "start": GO_LIVE, "end": date(2026, 6, 28)})  # 91 days
    seen = []
    for day in (END, date(2026, 4, 30), date(2026, 5, 31), date(2026, 6, 30), date(2026, 7, 31)):
        month_end(books, day)
        seen.append(books.balances().get(SEATS))
    assert seen == [Decimal(v) for v in ("-3.30", "-36.26", "-70.33", "-100", "-100")]


def test_a_late_invoice_of_an_open_month_adds_a_version_to_the_release(books: Any) -> None:
    books.invoice("A", GO_LIVE, {"amount": "30", "start": GO_LIVE, "end": date(2026, 4, 28)})
    month_end(books)
    books.invoice("B", GO_LIVE, {"amount": "60", "start": GO_LIVE, "end": date(2026, 4, 28)})
    assert month_end(books).batches == ("TIEOUT/US/main/2026-03/release/2026-03-31/v2",)
    assert books.balances() == {DEFERRED: Decimal("9"), SEATS: Decimal("-9")}


def test_what_builds_on_an_invoice_that_waits_waits_with_it(books: Any) -> None:
    ahead = {"amount": "30", "start": GO_LIVE, "end": date(2026, 4, 28)}
    books.invoice("A", GO_LIVE, ahead, {"amount": "5", "family": None})
    books.credit("C", date(2026, 3, 30), "A", 1, "10")
    assert books.plan(END).batches == ()
    assert month_end(books).batches == ()
    books.rows["invoice_line"]["A.2"]["product_family"] = "usage"
    books.post(books.plan(END))
    month_end(books)
    assert books.balances() == {
        "11000": Decimal("25"), DEFERRED: Decimal("-17"), SEATS: Decimal("-3"), USAGE: Decimal("-5"),
    }  # fmt: skip


def test_proration_in_a_91_day_quarter() -> None:
    # Lago, upgrade proration specification: 910.00 per quarter, 32 days used
    start = date(2026, 1, 1)
    assert earned(Decimal("910.00"), start, start + timedelta(91), start + timedelta(31), "EUR") == Decimal("320.00")


def test_a_credit_note_of_a_month_ended_on_its_first_day() -> None:
    # Lago, credit note rounding specification: 200.00 + 25 % tax, 29 of 30 days credited
    start = date(2026, 4, 1)
    net = Decimal(200) - earned(Decimal(200), start, start + timedelta(30), start, "EUR")
    assert (net, net + round_money(net * Decimal("0.25"), "EUR")) == (Decimal("193.33"), Decimal("241.66"))


def test_the_engines_release_equals_the_plain_schedule(make_books: Any) -> None:
    books = make_books(functional_currency="JPY")
    start, end = date(2026, 3, 29), date(2027, 3, 29)
    books.invoice("A", start, {"amount": "1000", "start": start, "end": end})
    for day in (END, date(2026, 4, 30), date(2026, 5, 31)):
        month_end(books, day)
        assert -books.balances()[SEATS] == earned(Decimal(1000), start, end, day, "JPY")


def metered(books: Any, used: str, *, price: str = "0.05", until: date = date(2026, 4, 15)) -> None:
    """A metered item with usage on the 20th and the 31st of March in a billing period from the 15th."""
    books.put(
        "subscription_item", "si", subscription_source_id="sub", usage_type="metered", meter="calls", unit_amount=price,
        product_family="usage", status="active", start_date=date(2026, 1, 15),
    )  # fmt: skip
    common = {
        "subscription_source_id": "sub",
        "meter": "calls",
        "event_count": 1,
        "corrected_count": 0,
        "late_count": 0,
    }
    for name, grain, start, end, quantity in (
        ("p", "period", date(2026, 3, 15), until, used),
        ("d20", "day", date(2026, 3, 20), date(2026, 3, 21), "1000"),
        ("d31", "day", date(2026, 3, 31), NEXT, str(Decimal(used) - 1000)),
        ("d01", "day", NEXT, date(2026, 4, 2), "777"),
    ):
        row = common | {"grain": grain, "period_start": start, "period_end": end, "quantity": Decimal(quantity)}
        books.rows["usage_summary"][name] = row | {
            "legal_entity_id": books.entity.id, "customer_id": None, "unit": None, "correlation_id": "u",
        }  # fmt: skip


def test_usage_not_invoiced_is_accrued_and_reversed_on_day_1_once(books: Any) -> None:
    metered(books, "1500")
    plan = month_end(books)
    assert plan.batches == (
        "TIEOUT/US/main/2026-03/accrual/2026-03-31/v1",
        "TIEOUT/US/main/2026-04/accrual/2026-04-01/v1",
    )
    assert books.balances(END) == {UNBILLED: Decimal("75"), USAGE: Decimal("-75")}
    assert books.balances(NEXT) == {}
    assert month_end(books).batches == ()


@pytest.mark.parametrize(("price", "days"), [("0.05", ("50", "25")), ("0.0333", ("33.3", "16.65")), ("0.00999", None)])
def test_an_accrual_names_every_day_of_usage_and_the_days_add_up(books: Any, price: str, days: Any) -> None:
    metered(books, "1500", price=price)
    plan = month_end(books)
    found = traced(plan, USAGE)
    whole = round_money(1500 * Decimal(price), "USD")
    for rows in found.values():  # the accrual and its reversal
        assert [row[:2] for row in rows] == [
            ("usage_summary", "sub/calls/2026-03-20"), ("usage_summary", "sub/calls/2026-03-31"),
        ]  # fmt: skip
        assert sum(row[3] for row in rows) == whole
        if days:
            assert [row[3] for row in rows] == [Decimal(day) for day in days]
    assert set(found) == {("accrual", "credit"), ("accrual_reversal", "debit")}


def test_what_is_still_not_invoiced_is_accrued_again_in_full(books: Any) -> None:
    metered(books, "1500")
    month_end(books)
    month_end(books, date(2026, 4, 30))
    assert books.balances(date(2026, 4, 30)) == {UNBILLED: Decimal("113.85"), USAGE: Decimal("-113.85")}
    assert books.balances(date(2026, 5, 1)) == {}


def test_usage_on_an_invoice_of_the_period_is_not_accrued(books: Any) -> None:
    metered(books, "1500", until=END)
    line = {"amount": "75", "family": "usage", "meter": "calls", "subscription_source_id": "sub"}
    books.invoice("A", END, line | {"start": date(2026, 3, 15), "end": END})
    assert month_end(books).batches == ()


def test_late_usage_changes_accrual_and_reversal_by_the_difference(books: Any) -> None:
    metered(books, "1500")
    month_end(books)
    metered(books, "1600")
    assert [b[-2:] for b in month_end(books).batches] == ["v2", "v2"]
    assert books.balances(END) == {UNBILLED: Decimal("80"), USAGE: Decimal("-80")}
    assert books.balances(NEXT) == {}


def tiered(books: Any, used: str, mode: str, *tiers: tuple[str | None, str, str | None]) -> None:
    """The metered item's price in tiers: last unit, amount per unit, flat amount."""
    metered(books, used)
    books.rows["subscription_item"]["si"] |= {"unit_amount": None, "price_source_id": "price"}
    books.put("price", "price", billing_scheme="tiered", tiers_mode=mode)
    for number, (up_to, each, flat) in enumerate(tiers, 1):
        books.put(
            "price_tier", f"price:{number}", price_source_id="price", tier_no=number, up_to=up_to, unit_amount=each,
            flat_amount=flat,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "used", "accrued"),
    [
        ("graduated", "1500", "12.50"),  # 1000 × 0.0051 + 500 × 0.0048 + 5.00 flat
        ("graduated", "2500", "17.80"),  # 1000 × 0.0051 + 1000 × 0.0048 + 5.00 + 500 × 0.0031 rounded + 1.35
        ("volume", "1500", "12.20"),  # 1500 × 0.0048 + 5.00
        ("volume", "2000", "14.60"),  # the last unit of a tier is still in it
        ("volume", "2500", "9.10"),  # 2500 × 0.0031 rounded + 1.35
    ],
)
def test_usage_at_a_price_in_tiers_is_accrued_as_billing_charges_it(
    books: Any, mode: str, used: str, accrued: str
) -> None:
    tiered(books, used, mode, ("1000", "0.0051", None), ("2000", "0.0048", "5"), (None, "0.0031", "1.35"))
    month_end(books)
    assert books.balances(END) == {UNBILLED: Decimal(accrued), USAGE: -Decimal(accrued)}
    assert books.balances(NEXT) == {}


def test_tiered_usage_still_not_invoiced_is_accrued_again_over_all_of_it_as_rating_prices_it(books: Any) -> None:
    """A period of two months: at the first end 1500 units are in two tiers, at the second 2277 in three."""
    tiers = (("1000", "0.0051", None), ("2000", "0.0048", "5"), (None, "0.0031", "1.35"))
    tiered(books, "1500", "graduated", *tiers)
    book = [
        {"price_source_id": "p", "meter": "calls", "model": "graduated", "tier_no": n, "currency": "USD"}
        | {k: v and Decimal(v) for k, v in zip(("up_to", "unit_amount", "flat_amount"), tier, strict=True)}
        for n, tier in enumerate(tiers, 1)
    ]
    shapes = [pa.schema([f.with_nullable(True) for f in table(n).arrow]) for n in ("usage_summary", "price_book")]
    for end, used, expected in ((END, "1500", "12.50"), (date(2026, 4, 30), "2277", "17.11")):
        month_end(books, end)
        usage = {"subscription_source_id": "sub", "meter": "calls", "grain": "period", "period_start": end,
                 "period_end": end + timedelta(days=1), "quantity": Decimal(used)}  # fmt: skip
        given = (pa.Table.from_pylist(rows, s) for rows, s in zip(([usage], book), shapes, strict=True))
        lines = rate(*given, (end, end + timedelta(days=2))).lines
        assert sum(lines["amount"].to_pylist()) == Decimal(expected)
        assert books.balances(end) == {UNBILLED: Decimal(expected), USAGE: -Decimal(expected)}
    assert books.balances(date(2026, 5, 1)) == {}


def test_a_price_changed_since_leaves_what_was_accrued_before_it_as_it_was(books: Any) -> None:
    """Doubled on 5 April: March stays as it was accrued, at the old price, and April is accrued at the new one."""
    metered(books, "1500", price="0.05")
    month_end(books)
    books.rows["subscription_item"]["si"] |= {"unit_amount": Decimal("0.10"), "price_source_id": "new"}
    for day, price, each in ((5, "old", "0.05"), (9, "new", "0.10")):
        books.put(
            "former_price", f"evt_{day}:si", event_source_id=f"evt_{day}", subscription_source_id="sub", meter="calls",
            subscription_item_source_id="si", price_source_id=price, unit_amount=each,
            accounting_date=date(2026, 4, day), occurred_at=datetime(2026, 4, day, 12, tzinfo=UTC),
        )  # fmt: skip
    assert month_end(books).batches == ()
    assert books.balances(END) == {UNBILLED: Decimal("75"), USAGE: Decimal("-75")}
    month_end(books, date(2026, 4, 30))
    assert books.balances(date(2026, 4, 30)) == {UNBILLED: Decimal("227.70"), USAGE: Decimal("-227.70")}


@pytest.mark.parametrize(
    ("removed", "kept", "followed_on", "amount"),
    [
        pytest.param(date(2026, 3, 25), False, None, "50", id="used before it was removed, and after"),
        pytest.param(date(2026, 3, 25), True, None, "50", id="marked as deleted"),
        pytest.param(date(2026, 4, 5), False, None, "75", id="removed after the period"),
        pytest.param(date(2026, 3, 25), False, date(2026, 3, 25), "150", id="another took its place"),
        pytest.param(date(2026, 4, 5), False, date(2026, 4, 5), "75", id="another took its place after the period"),
    ],
)
def test_usage_of_an_item_removed_since_is_accrued_until_it_was(
    books: Any, removed: date, kept: bool, followed_on: date | None, amount: str
) -> None:
    metered(books, "1500", price="0.05")
    if kept:
        books.rows["subscription_item"]["si"] |= {"is_deleted": True}
    else:
        del books.rows["subscription_item"]["si"]
    books.put(
        "former_price", "evt:si", event_source_id="evt", subscription_source_id="sub", meter="calls",
        subscription_item_source_id="si", price_source_id="old", unit_amount="0.05", product_family="usage",
        accounting_date=removed, occurred_at=datetime(removed.year, removed.month, removed.day, 12, tzinfo=UTC),
    )  # fmt: skip
    if followed_on:
        books.put(
            "subscription_item", "next", subscription_source_id="sub", usage_type="metered", meter="calls",
            unit_amount="0.10", product_family="usage", status="active", accounting_date=followed_on,
        )  # fmt: skip
    month_end(books)
    assert books.balances(END) == {UNBILLED: Decimal(amount), USAGE: -Decimal(amount)}


def test_usage_sold_in_packages_is_accrued_by_whole_packages(books: Any) -> None:
    metered(books, "1500", price="2.50")
    books.rows["subscription_item"]["si"] |= {"price_source_id": "price"}
    books.put("price", "price", billing_scheme="per_unit", package_size="400", package_round="up")
    month_end(books)
    assert books.balances(END) == {UNBILLED: Decimal("10"), USAGE: Decimal("-10")}


def test_usage_at_a_price_that_says_nothing_waits(books: Any) -> None:
    metered(books, "1500")
    books.rows["subscription_item"]["si"]["unit_amount"] = None
    plan = month_end(books)
    assert plan.batches == ()
    assert "neither a unit amount nor tiers" in plan.journals.held["reason"][0].as_py()


@pytest.mark.parametrize(
    ("open_from", "accrued"),
    [
        pytest.param(date(2026, 4, 15), None, id="billed ahead"),
        pytest.param(date(2026, 3, 22), "10.00", id="ten days late"),
        pytest.param(date(2026, 2, 22), "41.00", id="a month and ten days late"),
    ],
)
def test_a_fixed_fee_billed_late_is_accrued(books: Any, open_from: date, accrued: str | None) -> None:
    books.put(
        "subscription_item", "si", subscription_source_id="sub", usage_type="licensed", monthly_amount="31",
        product_family="seats", status="active", start_date=date(2026, 1, 1),
    )  # fmt: skip
    books.invoice(
        "A",
        date(2026, 2, 1),
        {"amount": "31", "subscription_source_id": "sub", "start": date(2026, 2, 1), "end": open_from},
    )
    month_end(books)
    assert books.balances(END).get(UNBILLED) == (accrued and Decimal(accrued))


def month_ends(books: Any, day: date, **options: Any) -> list[str]:
    """What the month end of a date plans and posts, over every period: the batches."""
    books.runs += 1
    plans = plan_month_ends(
        books.entity, day, lake=books.lake, store=books.store, rules=RULES, run_id=f"month{books.runs}",
        snapshot=books.snapshot(), **options,
    )  # fmt: skip
    for plan in plans:
        assert set(books.post(plan)) <= {"posted"}
    return [batch.removeprefix("TIEOUT/US/main/") for plan in plans for batch in plan.batches]


APRIL, MAY = date(2026, 4, 30), date(2026, 5, 31)
SERVED = {"amount": "30", "start": date(2026, 3, 30), "end": date(2026, 4, 29)}


@pytest.mark.parametrize("closed", [False, True])
def test_what_comes_after_the_month_end_of_its_month_is_released_by_the_next(books: Any, closed: bool) -> None:
    books.invoice("A", date(2026, 3, 30), SERVED)
    books.post(books.plan(END))
    assert month_ends(books, END) == ["2026-03/release/2026-03-31/v1"]
    books.invoice("LATE", date(2026, 3, 30), SERVED)
    period_open = (lambda day: day >= NEXT) if closed else None
    books.post(books.plan(APRIL, period_open=period_open))
    late = "2026-04/prior_period/2026-04-01/v2" if closed else "2026-03/release/2026-03-31/v2"
    assert month_ends(books, APRIL, period_open=period_open) == [late, "2026-04/release/2026-04-30/v1"]
    assert books.balances() == {"11000": Decimal(60), SEATS: Decimal(-60)}
    assert month_ends(books, MAY, period_open=period_open) == []


def test_a_credit_note_that_comes_after_the_month_end_of_its_month_takes_its_release_back(books: Any) -> None:
    books.invoice("A", date(2026, 3, 30), SERVED)
    books.post(books.plan(END))
    month_ends(books, END)
    books.credit("C", date(2026, 3, 30), "A", 1, "30")
    books.post(books.plan(APRIL))
    assert month_ends(books, APRIL)[0] == "2026-03/release/2026-03-31/v2"
    assert books.balances() == {}


def test_releases_are_looked_at_a_year_at_a_time_and_differ_by_what_came_late(make_books: Any) -> None:
    start = date(2025, 12, 31)
    books = make_books(go_live=date(2025, 1, 1))
    books.invoice("A", start, {"amount": "30", "start": start, "end": date(2026, 1, 30)})

    def both(version: int) -> list[str]:
        return [f"2025-12/release/2025-12-31/v{version}", f"2026-01/release/2026-01-31/v{version}"]

    assert month_ends(books, date(2026, 2, 28)) == both(1)
    books.invoice("B", start, {"amount": "60", "start": start, "end": date(2026, 1, 30)})
    assert month_ends(books, date(2026, 2, 28)) == both(2)
    assert books.balances() == {DEFERRED: Decimal(90), SEATS: Decimal(-90)}


def test_the_accrual_of_an_earlier_month_is_corrected_while_that_month_is_open(books: Any) -> None:
    metered(books, "1500", until=END)
    assert len(month_ends(books, END)) == 2
    line = {"amount": "75", "family": "usage", "meter": "calls", "subscription_source_id": "sub"}
    books.invoice("A", END, line | {"start": date(2026, 3, 15), "end": END})
    books.post(books.plan(APRIL))
    assert month_ends(books, APRIL, period_open=lambda day: day >= NEXT) == []
    assert books.balances(END)[USAGE] == Decimal(-125)
    assert month_ends(books, APRIL) == ["2026-03/accrual/2026-03-31/v2", "2026-04/accrual/2026-04-01/v2"]
    assert books.balances(END) == books.balances(NEXT) == {"11000": Decimal(75), USAGE: Decimal(-75)}


def test_a_fee_that_ended_later_is_still_accrued_in_the_month_before(books: Any) -> None:
    books.put(
        "subscription_item", "si", subscription_source_id="sub", usage_type="licensed", monthly_amount="31",
        product_family="seats", status="active", start_date=date(2026, 3, 1),
    )  # fmt: skip
    assert len(month_ends(books, END)) == 2
    books.rows["subscription_item"]["si"] |= {"status": "canceled", "ended_date": date(2026, 4, 15)}
    assert month_ends(books, APRIL) == []


@pytest.mark.parametrize("weeks", ["4-4-5", "4-5-4", "5-4-4"])
def test_every_period_of_a_week_calendar_is_planned_once_it_is_over(make_books: Any, weeks: str) -> None:
    start = date(2026, 1, 1)
    books = make_books(fiscal_calendar=weeks, fiscal_year_start=start, go_live=start)
    books.invoice("A", start, {"amount": "365", "start": start, "end": date(2027, 1, 1)})
    periods = ended_periods(books.entity, APRIL)
    planned: dict[str, date] = {}
    for day in (date(2026, 1, 31), date(2026, 2, 28), END, APRIL):
        for batch in month_ends(books, day):
            planned[batch.split("/")[0]] = day
        over = [(p.end - start).days + 1 for p in periods if p.end <= day]
        assert -books.balances().get(SEATS, Decimal(0)) == max(over, default=0)
    assert sorted(planned) == [p.name for p in periods]
    assert all(p.end <= planned[p.name] < p.end + timedelta(days=31) for p in periods)


def test_nothing_is_planned_before_the_first_period_is_over(books: Any) -> None:
    books.invoice("A", date(2026, 3, 30), SERVED)
    assert month_ends(books, date(2026, 3, 30)) == []
