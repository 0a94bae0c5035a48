"""Price books from billing systems and files: every tier is taken or set aside with a reason."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.errors import DataError
from tieout.usage import csv_price_book, stripe_price_book, zuora_price_book


def shown(book: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[c] for c in columns) for row in book.to_pylist()]


def canonical(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = pa.schema([f.with_nullable(True) for f in schema.table(name).arrow])
    return pa.Table.from_pylist([{"source": "stripe_us"} | row for row in rows], schema=shape)


def test_stripe_prices_per_unit_in_packages_and_by_tiers() -> None:
    def item(sub: str, price: str, **more: Any) -> dict[str, Any]:
        return {"source_id": f"si_{sub}", "subscription_source_id": sub, "meter": "api", "price_source_id": price,
                "currency": "USD"} | more  # fmt: skip

    items = canonical(
        "subscription_item", item("a", "unit"), item("b", "pack"), item("c", "tiers"), item("d", "no_mode"),
        item("e", "gone", unit_amount=Decimal("0.7")), item("f", "gone"), item("seats", "unit", meter=None),
    )  # fmt: skip
    prices = canonical(
        "price",
        {"source_id": "unit", "billing_scheme": "per_unit", "unit_amount": Decimal("0.000000000001")},
        {"source_id": "pack", "billing_scheme": "per_unit", "unit_amount": Decimal(5),
         "package_size": Decimal(100), "package_round": "down"},
        {"source_id": "tiers", "billing_scheme": "tiered", "tiers_mode": "volume"},
        {"source_id": "no_mode", "billing_scheme": "tiered"},
    )  # fmt: skip
    tiers = canonical(
        "price_tier",
        {"source_id": "t1", "price_source_id": "tiers", "tier_no": 1, "up_to": Decimal(5), "unit_amount": Decimal(2)},
        {"source_id": "t2", "price_source_id": "tiers", "tier_no": 2, "flat_amount": Decimal(9)},
    )
    book = stripe_price_book(items, prices, tiers)
    assert shown(book.rows, "subscription_source_id", "model", "tier_no", "up_to", "unit_amount", "package_round") == [
        ("a", "unit", 1, None, Decimal("0.000000000001"), None),
        ("b", "package", 1, None, 5, "down"),
        ("c", "volume", 1, 5, 2, None),
        ("c", "volume", 2, None, None, None),
        ("e", "unit", 1, None, Decimal("0.7"), None),
    ]
    assert sorted(shown(book.quarantined, "subscription_source_id", "reason_code")) == [
        ("d", "no_mode"), ("f", "no_amount"),
    ]  # fmt: skip


def test_a_price_is_in_force_on_the_days_on_which_the_subscription_had_it() -> None:
    """An item changed, changed back, changed twice in a day, replaced by another item, left as it was, removed."""

    def day(number: int) -> date:
        return date(2026, 3, number)

    def item(sub: str, price: str, **more: Any) -> dict[str, Any]:
        return {"source_id": f"si_{sub}", "subscription_source_id": sub, "meter": "api", "price_source_id": price,
                "currency": "USD", "unit_amount": Decimal(1), "accounting_date": date(2026, 1, 5)} | more  # fmt: skip

    def former(sub: str, price: str, until: int, hour: int = 12, **more: Any) -> dict[str, Any]:
        return {"source_id": f"evt_{until}_{hour}:si_{sub}", "subscription_source_id": sub, "meter": "api",
                "subscription_item_source_id": f"si_{sub}", "price_source_id": price, "currency": "USD",
                "unit_amount": Decimal(2), "occurred_at": datetime(2026, 3, until, hour, tzinfo=UTC),
                "accounting_date": day(until), "start_date": date(2026, 1, 5)} | more  # fmt: skip

    items = [
        item("changed", "new"), item("back", "old"), item("twice", "last"), item("same", "old"),
        item("replaced", "new", source_id="si_other", accounting_date=day(20)),
    ]  # fmt: skip
    told = [
        former("changed", "old", 20), former("changed", "old", 2),
        former("back", "old", 10), former("back", "new", 20),
        former("twice", "old", 10, 8), former("twice", "wrong", 10, 9),
        former("same", "old", 10), former("same", "old", 20),
        former("replaced", "old", 10), former("replaced", "old", 20), former("removed", "old", 20),
    ]  # fmt: skip
    book = stripe_price_book(
        canonical("subscription_item", *items), canonical("price"), canonical("price_tier"),
        former=canonical("former_price", *told),
    )  # fmt: skip
    assert book.quarantined.num_rows == 0
    assert set(shown(book.rows, "subscription_source_id", "price_source_id", "valid_from", "valid_to")) == {
        ("changed", "old", None, day(20)), ("changed", "new", day(20), None),
        ("back", "old", None, day(10)), ("back", "new", day(10), day(20)), ("back", "old", day(20), None),
        ("twice", "old", None, day(10)), ("twice", "last", day(10), None),
        ("same", "old", None, None),
        ("replaced", "old", None, day(20)), ("replaced", "new", day(20), None),
        ("removed", "old", None, day(20)),
    }  # fmt: skip


CHARGE = {"SubscriptionId": "sub", "ChargeType": "Usage", "UOM": "GB", "EffectiveStartDate": "2026-01-01"}
TIER = {"Currency": "USD", "PriceFormat": "Per Unit"}


def zuora(columns: tuple[str, ...], *rows: dict[str, Any]) -> pa.Table:
    return pa.table({c: pa.array([r.get(c) for r in rows], pa.string()) for c in columns})


def test_zuora_charge_models() -> None:
    # docs.zuora.com, storage (usage, tiered with overage); overage pricing
    charges = zuora(
        ("Id", "SubscriptionId", "ChargeModel", "ChargeType", "UOM", "IncludedUnits", "EffectiveStartDate",
         "EffectiveEndDate"),
        *(CHARGE | {"Id": n, "ChargeModel": f"{model} Pricing", "IncludedUnits": included} for n, model, included in (
            ("flat", "Flat Fee", None), ("unit", "Per Unit", None), ("over", "Overage", "500"),
            ("steps", "Tiered with Overage", None), ("all", "Volume", None), ("none", "Overage", None),
            ("bad", "Tiered", None), ("odd", "Discount-Percentage", None))),
        CHARGE | {"Id": "fee", "ChargeModel": "Flat Fee Pricing", "ChargeType": "Recurring"},
    )  # fmt: skip
    tiers = zuora(
        ("RatePlanChargeId", "Tier", "StartingUnit", "EndingUnit", "Price", "PriceFormat", "IsOveragePrice",
         "Currency"),
        *(TIER | {"RatePlanChargeId": n, "Price": "0.5"} for n in ("flat", "unit", "over", "none", "odd", "fee")),
        TIER | {"RatePlanChargeId": "steps", "Price": ".15", "IsOveragePrice": "true"},
        TIER | {"RatePlanChargeId": "steps", "Tier": "1", "StartingUnit": "0", "EndingUnit": "500", "Price": "0"},
        TIER | {"RatePlanChargeId": "steps", "Tier": "2", "EndingUnit": "1000", "Price": ".10"},
        TIER | {"RatePlanChargeId": "all", "Tier": "1", "EndingUnit": "9", "Price": "20", "PriceFormat": "Flat Fee"},
        TIER | {"RatePlanChargeId": "all", "Tier": "2", "Price": "1"},
        TIER | {"RatePlanChargeId": "bad", "Tier": "1", "EndingUnit": "ten", "Price": "1"},
        TIER | {"RatePlanChargeId": "bad", "Tier": "2", "Price": "1"},
    )  # fmt: skip
    book = zuora_price_book(charges, tiers)
    found = shown(book.rows, "price_source_id", "model", "tier_no", "up_to", "unit_amount", "flat_amount",
                  "included_quantity")  # fmt: skip
    assert sorted(found) == [
        ("all", "volume", 1, 9, None, 20, None), ("all", "volume", 2, None, 1, None, None),
        ("flat", "flat", 1, None, None, Decimal("0.5"), None), ("over", "unit", 1, None, Decimal("0.5"), None, 500),
        ("steps", "graduated", 1, 500, 0, None, None), ("steps", "graduated", 2, 1000, Decimal("0.1"), None, None),
        ("steps", "graduated", 3, None, Decimal("0.15"), None, None),
        ("unit", "unit", 1, None, Decimal("0.5"), None, None),
    ]  # fmt: skip
    assert sorted(shown(book.quarantined, "price_source_id", "reason_code")) == [
        ("bad", "no_number"), ("bad", "no_number"), ("fee", "no_usage"), ("none", "no_included"), ("odd", "no_model"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("unit_amount", "0.0000000000005", "no_number"), ("unit_amount", "1e-30", "no_number"),
        ("unit_amount", "0.10000000000000000000001", "no_number"), ("unit_amount", "1e-3", None),
        ("unit_amount", "0.5000000000000000000000", None), ("unit_amount", " 1 ", None), ("unit_amount", "0e5", None),
        ("minimum_amount", "10.00005", "no_number"), ("minimum_amount", "10.00050", None),
        ("included_quantity", "0.0000000005", "no_number"), ("package_size", "0.9999999999", "no_number"),
        ("tier_no", "1.5", "no_number"), ("tier_no", "0.9", "no_number"), ("tier_no", "1.0", None),
        ("valid_from", "2026-01-05 13:00:00", "no_date"), ("valid_from", "2026/01/05", "no_date"),
        ("valid_from", "01/05/2026", "no_date"), ("valid_to", "2026-1-5", "no_date"),
        ("valid_to", "2026-02-30", "no_date"), ("valid_to", "2026-01-05", None),
        ("starts_at", "2026/01/05 10:00", "no_date"), ("starts_at", "2026-01-05 10:00:00+00", None),
    ],
)  # fmt: skip
def test_a_csv_cell_that_would_be_rounded_or_read_otherwise_sets_its_price_aside(
    tmp_path, column: str, cell: str, code: str | None
) -> None:
    row = {"meter": "api", "price_source_id": "p", "model": "unit", "tier_no": "1", "unit_amount": "1",
           "currency": "USD"} | {column: cell}  # fmt: skip
    (tmp_path / "prices.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    book = csv_price_book(tmp_path / "prices.csv")
    assert [r["reason_code"] for r in book.quarantined.to_pylist()] == ([code] if code else [])
    assert book.rows.num_rows == (0 if code else 1)


@pytest.mark.parametrize(
    ("where", "cell", "code"),
    [
        ("Price", "0.0000000000005", "no_number"), ("Price", "1e-3", None), ("Price", "1,5", "no_amount"),
        ("EndingUnit", "500.0000000001", "no_number"), ("EndingUnit", "500.0", None), ("Tier", "1.5", "no_number"),
        ("IncludedUnits", "0.0000000005", "no_number"), ("IncludedUnits", "10", None),
        ("EffectiveStartDate", "2026-01-05T00:00:00", "no_date"), ("EffectiveEndDate", "01/05/2026", "no_date"),
        ("EffectiveEndDate", "2026-12-31", None),
    ],
)  # fmt: skip
def test_a_zuora_cell_that_would_be_rounded_or_read_otherwise_sets_its_price_aside(
    where: str, cell: str, code: str | None
) -> None:
    model = "Overage Pricing" if where == "IncludedUnits" else "Tiered Pricing"
    charge = CHARGE | {"Id": "c", "ChargeModel": model, "EffectiveEndDate": None, "IncludedUnits": "1"}
    tier = TIER | {"RatePlanChargeId": "c", "Tier": "1", "StartingUnit": "0", "Price": "1", "EndingUnit": None,
                   "IsOveragePrice": None}  # fmt: skip
    (charge if where in charge else tier)[where] = cell
    book = zuora_price_book(zuora(tuple(charge), charge), zuora(tuple(tier), tier))
    assert [r["reason_code"] for r in book.quarantined.to_pylist()] == ([code] if code else [])
    assert book.rows.num_rows == (0 if code else 1)


def test_a_csv_file_is_read_exactly_and_a_bad_cell_sets_its_price_aside(tmp_path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "meter,price_source_id,model,tier_no,up_to,unit_amount,currency,valid_from\n"
        "api,fine,unit,1,,0.000000000001,USD,2026-01-01\n"
        "api,bad,graduated,1,ten,1,USD,\napi,bad,graduated,2,,1,USD,\n"
        "api,day,unit,1,,1,USD,yesterday\n,none,unit,1,,1,USD,\n"
    )
    book = csv_price_book(file)
    assert shown(book.rows, "price_source_id", "unit_amount") == [("fine", Decimal("0.000000000001"))]
    assert sorted(shown(book.quarantined, "price_source_id", "reason_code")) == [
        ("bad", "no_number"), ("bad", "no_number"), ("day", "no_date"), ("none", "no_meter"),
    ]  # fmt: skip
    file.write_text("meter,price_source_id,model,tier_no,currency,discount\n")
    with pytest.raises(DataError, match="no such column"):
        csv_price_book(file)
