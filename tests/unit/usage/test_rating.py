"""Rating: published answers for every price model, the price in force, exact rounding, and nothing silently dropped."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from one_engine import SESSION

from tieout import schema
from tieout.errors import DataError
from tieout.usage import Rated, rate

VECTORS = Path(__file__).with_name("vectors.yaml")
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


def rated(usage: list[dict[str, Any]], prices: list[dict[str, Any]], period: tuple[date, date] = MARCH) -> Rated:
    return rate(table("usage_summary", *usage), table("price_book", *prices), period, session=SESSION["engine"])


def total(quantity: str | int, prices: list[dict[str, Any]]) -> Decimal:
    result = rated([used(quantity)], prices)
    assert result.quarantined.num_rows == 0, result.quarantined.to_pylist()
    return sum((line["amount"] for line in result.lines.to_pylist()), Decimal(0))


def test_published_answers() -> None:
    """Every vector is a subscription with a price of its own: all are rated at once."""
    usage, prices, expected, lines = [], [], {}, {}
    for n, vector in enumerate(yaml.safe_load(VECTORS.read_text(encoding="utf-8"))):
        for quantity, usd in vector["cases"].items():
            sub = f"{n} {vector['source']}: {quantity}"
            usage.append(used(quantity, sub=sub))
            prices += [
                row | {"package_size": size}
                for row, size in zip(
                    price(
                        vector["model"], *(tuple((*t, None, None)[:3]) for t in vector["tiers"]), price_source_id=sub,
                        subscription_source_id=sub, minimum_amount=vector.get("minimum"),
                        included_quantity=vector.get("included"),
                    ),
                    [t[3] if len(t) > 3 else None for t in vector["tiers"]], strict=True,
                )
            ]  # fmt: skip
            expected[sub] = Decimal(usd)
            if quantity in vector.get("lines", {}):
                lines[sub] = [Decimal(a) for a in vector["lines"][quantity]]
    result = rated(usage, prices)
    assert result.quarantined.to_pylist() == []
    found: dict[str, list[Decimal]] = {sub: [] for sub in expected}
    for line in result.lines.to_pylist():
        found[line["subscription_source_id"]].append(line["amount"])
    assert {sub: sum(amounts, Decimal(0)) for sub, amounts in found.items()} == expected
    assert {sub: found[sub] for sub in lines} == lines


@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_the_first_tiers_flat_amount_is_charged_without_usage(model: str) -> None:
    # openmeterio/openmeter pull request 2119 and getlago/lago-api pull request 5760 settle it so
    assert total(0, price(model, (10, "1", "50"), (None, "0.5", "20"))) == 50


def test_a_broken_package_counts_whole_or_not_at_all() -> None:
    cases = [("10.5", "up", 10), (19, "down", 5), (9, "down", 0)]
    books = [
        row
        for n, (_, rounding, _) in enumerate(cases)
        for row in price("package", (None, "5", None), package_size=10, package_round=rounding,
                         price_source_id=f"p{n}", subscription_source_id=f"sub_{n}")
    ]  # fmt: skip
    lines = rated([used(q, sub=f"sub_{n}") for n, (q, _, _) in enumerate(cases)], books).lines.to_pylist()
    assert [x["amount"] for x in lines] == [usd for *_, usd in cases if usd]


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


def test_the_general_price_in_the_subscriptions_currency_holds() -> None:
    books = price("unit", (None, "1", None)) + price("unit", (None, "90", None), price_source_id="yen", currency="JPY")
    known = table("subscription", {"source_id": "sub_1", "currency": "JPY"}, {"source_id": "sub_2", "currency": "EUR"})
    result = rate(
        table("usage_summary", used(2), used(3, sub="sub_2")), table("price_book", *books), MARCH, subscriptions=known,
        session=SESSION["engine"],
    )  # fmt: skip
    assert [(x["amount"], x["currency"]) for x in result.lines.to_pylist()] == [(180, "JPY")]
    assert result.quarantined["reason"].to_pylist() == ["no price for api is in force on 2026-03-31 in EUR"]


def test_rounding_the_total_spreads_over_the_lines_what_adds_up_to_it() -> None:
    tiers = ((1, "0.005", None), (2, "0.005", None), (None, "0.005", None))
    lines = rated([used(3)], price("graduated", *tiers, rounding="total")).lines["amount"].to_pylist()
    assert (lines, sum(lines)) == ([Decimal("0.01"), 0, Decimal("0.01")], Decimal("0.02"))


def cut(flat: str, first: Any, after: Any, number: str, **changes: Any) -> list[dict[str, Any]]:
    return price("flat", (None, None, flat), price_source_id=number, valid_from=first, valid_to=after, proration="day",
                 **changes)  # fmt: skip


def test_fixed_amounts_are_cut_to_the_days_a_price_is_in_force() -> None:
    # Lago, upgrade proration specification: 910.00 per quarter of 91 days, 32 days used
    quarter = used(0, start=date(2026, 4, 1), period_end=date(2026, 7, 1))
    old, new = (cut(a, f, t, n) for a, f, t, n in (("910", None, date(2026, 5, 3), "old"),
                                                  ("1820", date(2026, 5, 3), None, "new")))  # fmt: skip
    lines = rated([quarter], old + new, (date(2026, 7, 1), date(2026, 7, 2))).lines
    assert lines.num_rows == 0
    lines = rated([quarter], old + new, (date(2026, 6, 1), date(2026, 7, 2))).lines.to_pylist()
    assert [(x["price_source_id"], x["amount"]) for x in lines] == [("new", 1180), ("old", 320)]
    assert lines[1]["arithmetic"] == "320 flat for 32 of 91 days = 320 USD"


def test_seconds_are_cut_by_the_clock_and_each_price_rates_the_usage_of_its_days() -> None:
    # docs.stripe.com/billing/subscriptions/prorations: from 10 to 20 USD halfway through the period: 5 and 10
    noon = datetime(2026, 3, 16, 12, tzinfo=UTC)
    halves = price("flat", (None, None, "10"), price_source_id="a", proration="second", valid_to=date(2026, 3, 16),
                   ends_at=noon) + price("flat", (None, None, "20"), price_source_id="b", proration="second",
                   valid_from=date(2026, 3, 16), starts_at=noon)  # fmt: skip
    assert rated([used(0)], halves).lines["amount"].to_pylist() == [5, 10]
    # Berlin's March has an hour less: the first 28 days are 672 of 743 hours
    zone = {"proration": "second", "zone": "Europe/Berlin"}
    units = price("unit", (None, "1", "743"), price_source_id="a", valid_to=date(2026, 3, 29), **zone) + price(
        "unit", (None, "2", "743"), price_source_id="b", valid_from=date(2026, 3, 29), **zone)  # fmt: skip
    days = [
        used(q, grain="day", start=date(2026, 3, d), period_end=date(2026, 3, d + 1)) for d, q in ((28, 4), (29, 6))
    ]
    lines = rated([used(10), *days], units).lines.to_pylist()
    assert [(x["quantity"], x["exact_amount"]) for x in lines] == [(4, 676), (6, 12 + 71)]
    (row,) = rated([used(11), *days], units).quarantined.to_pylist()
    assert row["reason_code"] == "no_days"
    ended = [row for row in units if row["price_source_id"] == "a"]
    (row,) = rated([used(10), *days], ended).quarantined.to_pylist()
    assert row["reason_code"] == "no_price"


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
        (price("package", (None, "999999999", None), package_size="0.000000001"), "too_large"),
        (price("unit", (None, "99999999999999", None)), "too_large"),
        (price("flat", (None, None, "1000000000000000")), "too_large"),
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
steps_up = st.lists(st.tuples(st.integers(1, 10**5), amounts, amounts), min_size=0, max_size=3)


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    books=st.lists(
        st.tuples(
            st.sampled_from(["unit", "package", "graduated", "volume", "flat"]), steps_up, amounts, amounts,
            st.sampled_from([None, 7, 1000, "1", "0.1", "0.001"]),
            st.sampled_from(["up", "down"]), st.sampled_from(["line", "total"]),
            st.integers(0, 5000), st.sampled_from([None, "250", "99999"]), st.sampled_from(["USD", "JPY", "KWD"]),
            st.decimals(0, 10**6, places=3),
        ), min_size=1, max_size=20,
    ),
)  # fmt: skip
@example([
    ("package", [], Decimal(1), Decimal(0), size, "up", "line", 0, None, "USD", Decimal(10**6))
    for size in ("1", "0.1", "0.001")
])  # fmt: skip
@example([("graduated", [(10**5, Decimal(150), Decimal(0))], Decimal(120), Decimal(0), "0.1", "up", "total", 0, None,
           "JPY", Decimal(quantity)) for quantity in ("3", "3.001", "100000.5")])  # fmt: skip
# many tiers narrower than a package
@example([("graduated", [(1, Decimal(9_999_000), Decimal(0))] * 3, Decimal(9_999_000), Decimal(0), 1000, "up", "line",
           0, None, "USD", Decimal(4))])  # fmt: skip
def test_plain_billing_periods_cost_what_the_general_statements_say(books: list[tuple[Any, ...]]) -> None:
    """A price that prorates but holds all through goes by the general statements: each line must be the same."""
    usage, plain, prorated = [], [], []
    for n, (model, steps, unit, flat, size, rounds, rounding, included, least, currency, quantity) in enumerate(books):
        ends = [sum(width for width, *_ in steps[: i + 1]) for i in range(len(steps))]
        tiers = [(end, u, f) for end, (_, u, f) in zip(ends, steps, strict=True)] + [(None, unit, flat)]
        rows = price(
            model, *(tiers if model in ("graduated", "volume") else tiers[-1:]), package_round=rounds,
            package_size=(size or 7) if model == "package" else size, rounding=rounding, included_quantity=included,
            minimum_amount=least, currency=currency, price_source_id=f"p{n}", subscription_source_id=f"sub_{n}",
        )  # fmt: skip
        usage.append(used(str(quantity), sub=f"sub_{n}"))
        plain += rows
        prorated += [row | {"proration": "day"} for row in rows]
    one, other = (rated(usage, book) for book in (plain, prorated))
    assert (one.quarantined.num_rows, other.quarantined.num_rows) == (0, 0)
    assert SESSION["engine"].scalar("SELECT count(*) FROM wanted WHERE usage_no > 0") == len(books)
    unnumbered = [c for c in one.lines.column_names if c not in ("line_no", "arithmetic")]
    assert one.lines.select(unnumbered).to_pylist() == other.lines.select(unnumbered).to_pylist()
    keys = set(zip(one.lines["subscription_source_id"].to_pylist(), one.lines["line_no"].to_pylist(), strict=True))
    assert len(keys) == one.lines.num_rows


def test_lines_go_into_files_where_a_folder_is_given(tmp_path: Path) -> None:
    usage = table("usage_summary", used(10), used("7.0000001", sub="sub_2"))
    book = table("price_book", *price("unit", (None, "2", None), minimum_amount="15"))
    told = {"session": SESSION["engine"], "worded": False}
    files = rate(usage, book, MARCH, out=tmp_path, **told).lines
    assert len(files) == 2, "plain ones, and those that are too fine for 64 bits"
    SESSION["engine"].bind("filed", files)
    found = SESSION["engine"].sql("SELECT * FROM filed ORDER BY subscription_source_id, line_no")
    shape = schema.table("rated_lines").arrow
    assert found.cast(shape).to_pylist() == rate(usage, book, MARCH, **told).lines.to_pylist()


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
