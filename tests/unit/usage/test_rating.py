"""Rating: published answers for every price model, the price in force, exact rounding, and nothing silently dropped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.usage import Rated, rate

MARCH = (date(2026, 3, 1), date(2026, 4, 1))
NUMBERS = {"up_to", "unit_amount", "flat_amount", "package_size", "included_quantity", "minimum_amount", "quantity"}


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = pa.schema([f.with_nullable(True) for f in schema.table(name).arrow])
    typed = [{k: Decimal(v) if k in NUMBERS and v is not None else v for k, v in row.items()} for row in rows]
    return pa.Table.from_pylist(typed, schema=shape)


def used(quantity: str | int, sub: str = "sub_1", start: date = date(2026, 3, 1), **changes: Any) -> dict[str, Any]:
    return {
        "subscription_source_id": sub, "meter": "api", "grain": "period", "period_start": start,
        "period_end": date(2026, 4, 1), "quantity": quantity,
    } | changes  # fmt: skip


def price(model: str, *tiers: tuple[Any, Any, Any], **changes: Any) -> list[dict[str, Any]]:
    """Rows of the price book: a tier is (up to, unit amount, flat amount)."""
    head = {"meter": "api", "price_source_id": "price_1", "model": model, "currency": "USD"} | changes
    return [
        head | {"tier_no": n, "up_to": up_to, "unit_amount": unit, "flat_amount": flat}
        for n, (up_to, unit, flat) in enumerate(tiers, 1)
    ]


@pytest.fixture(scope="module", autouse=True)
def one_session() -> Iterator[None]:
    """One engine for the module: starting one takes longer than any of these tests."""
    with engine() as SESSION["engine"]:
        yield


SESSION: dict[str, Engine] = {}


def rated(usage: list[dict[str, Any]], prices: list[dict[str, Any]], period: tuple[date, date] = MARCH) -> Rated:
    return rate(table("usage_summary", *usage), table("price_book", *prices), period, session=SESSION["engine"])


def total(quantity: str | int, prices: list[dict[str, Any]]) -> Decimal:
    result = rated([used(quantity)], prices)
    assert result.quarantined.num_rows == 0, result.quarantined.to_pylist()
    return sum((line["amount"] for line in result.lines.to_pylist()), Decimal(0))


# docs.stripe.com/subscriptions/pricing-models/tiered-pricing: 1-5 at 7, 6-10 at 6.50, 11+ at 6 USD
FONTS = ((5, "7", None), (10, "6.5", None), (None, "6", None))
# the same page, with flat fees: 5 + 10, 4 + 20, 3 + 30, 2 + 40, 1 + 50 USD for each five fonts
FONTS_WITH_FEE = ((5, "5", "10"), (10, "4", "20"), (15, "3", "30"), (20, "2", "40"), (None, "1", "50"))


@pytest.mark.parametrize(("fonts", "usd"), [(1, "7"), (5, "35"), (6, "39"), (20, "120"), (25, "150")])
def test_stripe_volume_tiers(fonts: int, usd: str) -> None:
    assert total(fonts, price("volume", *FONTS)) == Decimal(usd)


@pytest.mark.parametrize(("fonts", "usd"), [(1, "7"), (5, "35"), (6, "41.50"), (20, "127.50"), (25, "157.50")])
def test_stripe_graduated_tiers(fonts: int, usd: str) -> None:
    assert total(fonts, price("graduated", *FONTS)) == Decimal(usd)


@pytest.mark.parametrize(("fonts", "usd"), [(1, "15"), (5, "35"), (6, "44"), (20, "80"), (25, "75")])
def test_stripe_volume_tiers_with_flat_fees(fonts: int, usd: str) -> None:
    assert total(fonts, price("volume", *FONTS_WITH_FEE)) == Decimal(usd)


@pytest.mark.parametrize(("fonts", "usd"), [(1, "15"), (5, "35"), (6, "59"), (20, "170"), (25, "225")])
def test_stripe_graduated_tiers_with_flat_fees(fonts: int, usd: str) -> None:
    assert total(fonts, price("graduated", *FONTS_WITH_FEE)) == Decimal(usd)


@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_the_first_tiers_flat_amount_is_charged_without_usage(model: str) -> None:
    # openmeterio/openmeter pull request 2119 and getlago/lago-api pull request 5760 settle it so
    assert total(0, price(model, (10, "1", "50"), (None, "0.5", "20"))) == 50


@pytest.mark.parametrize(
    ("quantity", "rounding", "usd"), [(0, "up", "0"), (1, "up", "5"), (10, "up", "5"), ("10.5", "up", "10"),
                                      (19, "down", "5"), (9, "down", "0")]
)  # fmt: skip
def test_packages_of_ten(quantity: str | int, rounding: str, usd: str) -> None:
    book = price("package", (None, "5", None), package_size=10, package_round=rounding)
    assert total(quantity, book) == Decimal(usd)


def test_a_flat_price_is_charged_whatever_was_used() -> None:
    assert total(0, price("flat", (None, None, "99"))) == total(10**9, price("flat", (None, None, "99"))) == 99


def test_included_units_are_free_and_the_line_shows_the_arithmetic() -> None:
    result = rated([used(1204331)], price("unit", (None, "0.0004", None), included_quantity=1000000))
    (line,) = result.lines.to_pylist()
    assert (line["quantity"], line["amount"]) == (204331, Decimal("81.73"))
    assert line["exact_amount"] == Decimal("81.7324")
    assert line["arithmetic"] == "1,204,331 used − 1,000,000 included = 204,331 × 0.0004 = 81.7324 USD"


def test_a_minimum_not_reached_is_filled_up_by_a_line_of_its_own() -> None:
    result = rated([used(10)], price("unit", (None, "2.5", None), minimum_amount="100"))
    assert [(n["charge"], n["amount"]) for n in result.lines.to_pylist()] == [("usage", 25), ("minimum", 75)]
    assert total(40, price("unit", (None, "2.5", None), minimum_amount="100")) == 100


@pytest.mark.parametrize(("currency", "amount"), [("USD", "1.24"), ("JPY", "1"), ("KWD", "1.235"), ("EUR", "1.24")])
def test_lines_are_rounded_half_away_from_zero_at_the_currencys_minor_unit(currency: str, amount: str) -> None:
    assert total(1, price("unit", (None, "1.2350", None), currency=currency)) == Decimal(amount)


def test_twelve_places_of_a_price_stay_exact() -> None:
    result = rated([used("3000000000")], price("unit", (None, "0.000000000001", None)))
    assert result.lines["exact_amount"].to_pylist() == [Decimal("0.003")]


def test_each_tier_is_rounded_by_itself_as_on_the_invoice() -> None:
    book = price("graduated", (1, "0.005", None), (2, "0.005", None), (None, "0.005", None))
    assert total(3, book) == Decimal("0.03")


def test_the_price_in_force_on_the_periods_last_day_holds() -> None:
    old = price("unit", (None, "1", None), price_source_id="old", valid_to=date(2026, 3, 31))
    new = price("unit", (None, "2", None), price_source_id="new", valid_from=date(2026, 3, 31))
    assert total(10, old + new) == 20


def test_a_price_agreed_with_the_subscription_goes_before_the_general_one() -> None:
    general = price("unit", (None, "1", None), price_source_id="list")
    own = price("unit", (None, "0.8", None), price_source_id="own", subscription_source_id="sub_1")
    result = rated([used(10), used(10, sub="sub_2")], general + own)
    assert result.lines["price_source_id"].to_pylist() == ["own", "list"]
    assert result.lines["amount"].to_pylist() == [8, 10]


def test_only_billing_periods_that_end_within_the_period_are_rated() -> None:
    rows = [
        used(1), used(2, start=date(2026, 2, 1), period_end=date(2026, 3, 1)),
        used(3, start=date(2026, 3, 2), period_end=date(2026, 4, 2)), used(4, grain="day"),
    ]  # fmt: skip
    assert rated(rows, price("unit", (None, "1", None))).lines["quantity"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("prices", "code"),
    [
        ([], "no_price"),
        (price("unit", (None, "1", None), meter="storage"), "no_price"),
        (price("unit", (None, "1", None)) + price("unit", (None, "2", None), price_source_id="p2"), "two_prices"),
        (price("graduated", (5, "1", None), (4, "1", None), (None, "1", None)), "broken_price"),
        (price("volume", (5, "1", None)), "broken_price"),
        (price("graduated", (None, "1", None), (10, "1", None)), "broken_price"),
        (price("package", (None, "1", None)), "broken_price"),
        (price("unit", (None, None, None)), "broken_price"),
        (price("strange", (None, "1", None)), "broken_price"),
        (price("unit", (None, "1", None), currency="XXY"), "unknown_currency"),
        (price("unit", (None, "9999999999999999", None)), "too_large"),
    ],
)
def test_what_cannot_be_rated_waits_with_its_reason_and_stops_nothing_else(
    prices: list[dict[str, Any]], code: str
) -> None:
    good = price("unit", (None, "1", None), price_source_id="good", subscription_source_id="sub_2")
    result = rated([used(10), used(7, sub="sub_2")], prices + good)
    (row,) = result.quarantined.to_pylist()
    assert (row["subscription_source_id"], row["reason_code"], row["quantity"]) == ("sub_1", code, 10)
    assert len(row["reason"]) > 20
    assert result.lines["amount"].to_pylist() == [7]


def test_amounts_in_floats_and_repeated_usage_are_refused() -> None:
    usage, book = table("usage_summary", used(1)), table("price_book", *price("unit", (None, "1", None)))
    floats = book.set_column(book.column_names.index("unit_amount"), "unit_amount", pa.array([1.0]))
    with pytest.raises(DataError, match="unit_amount in a float column"):
        rate(usage, floats, MARCH)
    with pytest.raises(DataError, match="comes in two rows"):
        rate(pa.concat_tables([usage, usage]), book, MARCH)


amounts = st.decimals(0, 1000, places=4)


@settings(max_examples=20, deadline=None)
@given(
    quantities=st.lists(st.decimals(0, 10**6, places=3), min_size=1, max_size=5),
    steps=st.lists(st.tuples(st.integers(1, 10**5), amounts, amounts), min_size=0, max_size=4),
    last=st.tuples(amounts, amounts),
    model=st.sampled_from(["graduated", "volume"]),
)
def test_tiers_agree_with_counting_them_one_by_one(
    quantities: list[Decimal], steps: list[tuple[int, Decimal, Decimal]], last: tuple[Decimal, Decimal], model: str
) -> None:
    """Against plain Python; whatever the quantities, each usage row is rated and the other rows change nothing."""
    tiers, end = [], 0
    for width, unit, flat in steps:
        end += width
        tiers.append((end, unit, flat))
    tiers.append((None, *last))
    result = rated([used(q, sub=f"sub_{n}") for n, q in enumerate(quantities)], price(model, *tiers))
    assert result.quarantined.num_rows == 0
    for n, quantity in enumerate(quantities):
        lines = [line for line in result.lines.to_pylist() if line["subscription_source_id"] == f"sub_{n}"]
        expected, below = Decimal(0), Decimal(0)
        for up_to, unit, flat in tiers:
            within = up_to is None or quantity <= up_to
            if model == "graduated":
                if quantity > below or below == 0:
                    expected += (min(quantity, up_to) if up_to else quantity) * unit - below * unit + flat
            elif within:
                expected += quantity * unit + flat
                break
            below = Decimal(up_to or 0)
        assert sum((line["exact_amount"] for line in lines), Decimal(0)) == expected
