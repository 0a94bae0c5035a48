"""What is owed at the end of a commitment's term, what prepaid credit pays, what late units add."""

from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import SESSION

from tieout import schema
from tieout.errors import DataError
from tieout.usage import draw_down, late_worth, true_up


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = pa.schema([f.with_nullable(True) for f in schema.table(name).arrow])
    exact = {f.name for f in shape if pa.types.is_decimal(f.type)}
    return pa.Table.from_pylist(
        [{k: Decimal(str(v)) if k in exact and v is not None else v for k, v in row.items()} for row in rows], shape
    )


def charged(month: int, amount: Any, **changes: Any) -> dict[str, Any]:
    return {
        "subscription_source_id": "sub", "meter": "api", "period_start": date(2026, month, 1),
        "period_end": date(2026, month + 1, 1), "amount": amount, "currency": "USD",
    } | changes  # fmt: skip


def credit(number: str, amount: Any, granted: date, expires: date | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "credit_id": number, "subscription_source_id": "sub", "amount": amount, "currency": "USD",
        "granted_on": granted, "expires_on": expires,
    } | changes  # fmt: skip


def test_what_a_term_falls_short_of_its_commitment_is_owed_once_at_its_end() -> None:
    year = {"commitment_id": "c", "subscription_source_id": "sub", "term_start": date(2026, 1, 1),
            "term_end": date(2026, 4, 1), "amount": 1000, "currency": "USD"}  # fmt: skip
    lines = table("rated_lines", charged(1, 300), charged(2, 250), charged(2, 50, meter="storage"), charged(4, 999))
    given = table("commitment", year, year | {"commitment_id": "m", "meter": "storage", "amount": 40})
    due = true_up(lines, given, (date(2026, 3, 1), date(2026, 4, 1)), session=SESSION["engine"]).to_pylist()
    assert [(x["commitment_id"], x["charged"], x["amount"]) for x in due] == [("c", 600, 400), ("m", 50, 0)]
    assert true_up(lines, given, (date(2026, 1, 1), date(2026, 3, 1)), session=SESSION["engine"]).num_rows == 0
    foreign = table("rated_lines", charged(1, 300, currency="EUR"))
    with pytest.raises(DataError, match="another currency"):
        true_up(foreign, given, (date(2026, 3, 1), date(2026, 4, 1)), session=SESSION["engine"])


def test_the_oldest_credit_pays_first_and_what_is_left_stays_until_it_expires() -> None:
    lines = table("rated_lines", charged(1, 60), charged(2, 60), charged(3, 60), charged(3, 5, currency="EUR"))
    credits = table(
        "prepaid_credit",
        credit("old", 100, date(2025, 6, 1), date(2026, 3, 1)),
        credit("new", 50, date(2026, 2, 1)),
        credit("gone", 10, date(2024, 1, 1), date(2026, 1, 31)),
    )
    use = draw_down(lines, credits, session=SESSION["engine"])
    drawn = [(x["credit_id"], x["period_start"].month, x["amount"]) for x in use.draws.to_pylist()]
    assert drawn == [("new", 2, 20), ("new", 3, 30), ("old", 1, 60), ("old", 2, 40)]
    half_way = draw_down(lines, credits, date(2026, 2, 1), session=SESSION["engine"]).balances.to_pylist()
    assert [(x["credit_id"], x["drawn"], x["expired"], x["balance"]) for x in half_way] == [
        ("gone", 0, 10, 0), ("new", 0, 0, 50), ("old", 60, 0, 40),
    ]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    amounts=st.lists(st.integers(0, 90), min_size=11, max_size=11),
    grants=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
)
def test_drawing_down_agrees_with_paying_month_by_month(amounts: list[int], grants: list[tuple[int, int, int]]) -> None:
    """Against plain Python that walks through time; and for every credit granted = drawn + expired + balance."""
    lines = table("rated_lines", *(charged(m, a) for m, a in enumerate(amounts, 1)))
    rows = [
        credit(f"c{n}", a, date(2026, m, 15), date(2026, min(m + keeps, 12), 10))
        for n, (a, m, keeps) in enumerate(grants)
    ]
    left, expected = {r["credit_id"]: r["amount"] for r in rows}, {}
    for month, amount in enumerate(amounts, 1):
        ends = date(2026, month + 1, 1)
        for row in sorted(rows, key=lambda r: (r["granted_on"], r["expires_on"], r["credit_id"])):
            if row["granted_on"] < ends <= row["expires_on"] and (taken := min(left[row["credit_id"]], amount)):
                left[row["credit_id"]] -= taken
                amount -= taken
                expected[row["credit_id"], month] = taken
    use = draw_down(lines, table("prepaid_credit", *rows), session=SESSION["engine"])
    assert {(x["credit_id"], x["period_start"].month): x["amount"] for x in use.draws.to_pylist()} == expected
    for row in use.balances.to_pylist():
        assert row["granted"] == row["drawn"] + row["expired"] + row["balance"]


def test_late_units_cost_what_they_add_to_their_period() -> None:
    def used(quantity: Any, sub: str) -> dict[str, Any]:
        return {"subscription_source_id": sub, "meter": "api", "grain": "period", "period_start": date(2026, 3, 1),
                "period_end": date(2026, 4, 1), "quantity": quantity}  # fmt: skip

    prices = [
        {"meter": "api", "price_source_id": "p", "model": "graduated", "currency": "USD", "included_quantity": 10,
         "tier_no": n, "up_to": up_to, "unit_amount": each} for n, up_to, each in ((1, 5, 2), (2, None, 1))
    ]  # fmt: skip
    late = late_worth(
        table("usage_summary", used(9, "within"), used(18, "beyond"), used(40, "on time")),
        table("usage_summary", used(4, "within"), used(6, "beyond")), table("price_book", *prices),
        (date(2026, 3, 1), date(2026, 4, 1)), session=SESSION["engine"],
    ).to_pylist()  # fmt: skip
    # beyond: 8 chargeable instead of 2, so three more in the first tier and three in the second
    assert [(x["subscription_source_id"], x["late_quantity"], x["amount"]) for x in late] == [
        ("beyond", 6, 9), ("within", 4, 0),
    ]  # fmt: skip
