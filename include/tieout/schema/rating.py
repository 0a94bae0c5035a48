"""Rating: the price book that usage is priced with, and the lines that come of it."""

from __future__ import annotations

from tieout.schema.canonical import _c, _r
from tieout.schema.tables import Table

RATING: tuple[Table, ...] = (
    Table(
        "price_book",
        "Prices of meters, one row per price and tier; a price without tiers is one row.",
        ("price_source_id", "subscription_source_id", "meter", "valid_from", "tier_no"),
        (
            _c(
                "subscription_source_id",
                "text",
                "subscription the price was agreed for; null: for all without their own",
            ),
            _r("meter", "text", "what is counted"),
            _r("price_source_id", "text", "the price's id"),
            _r("model", "text", "how quantity becomes money", "flat", "unit", "package", "graduated", "volume"),
            _r("tier_no", "int", "1 for the lowest tier, and on prices without tiers"),
            _c("up_to", "quantity", "last quantity of the tier; null: no end"),
            _c("unit_amount", "price", "amount per unit, or per package, in currency units"),
            _c("flat_amount", "price", "amount for reaching the tier; the first tier's is charged without usage too"),
            _c("package_size", "quantity", "units in a package; null: each unit counts by itself"),
            _c("package_round", "text", "what a broken package counts", "up", "down"),
            _c("included_quantity", "quantity", "units free of charge before the first tier counts"),
            _c("minimum_amount", "money", "least charge of a billing period; the gap is a line of its own"),
            _r("currency", "text", "ISO 4217 code"),
            _c("rounding", "text", "what billing rounds; null: each line", "line", "total"),
            _c(
                "proration",
                "text",
                "how fixed amounts are cut where it is in force for a part of a period only; null: not at all, and the"
                " price of the last day holds",
                "none",
                "day",
                "second",
            ),
            _c("valid_from", "date", "first day in force; null: always was"),
            _c("valid_to", "date", "first day no longer in force; null: still is"),
            _c("starts_at", "instant", "the second it came into force, where seconds are prorated; null: midnight"),
            _c("ends_at", "instant", "the second it ended; null: midnight"),
            _c("zone", "text", "IANA zone of those midnights; null: UTC"),
        ),
        "result",
    ),
    Table(
        "rated_lines",
        "What usage costs by the price book, one row per billing period, price and tier that charges something.",
        ("subscription_source_id", "meter", "period_start", "line_no"),
        (
            _r("subscription_source_id", "text", "billing subscription"),
            _r("meter", "text", "what is counted"),
            _r("period_start", "date", "first day of the billing period"),
            _r("period_end", "date", "first day after it"),
            _r("line_no", "int", "position within the billing period, from 1"),
            _r("charge", "text", "what it charges for", "usage", "minimum"),
            _r("price_source_id", "text", "the price's id"),
            _c("tier_no", "int", "tier; null on the line that fills up to the minimum"),
            _r("quantity", "quantity", "units, or packages, charged here"),
            _c("unit_amount", "price", "amount of each"),
            _c("flat_amount", "price", "amount on top"),
            _r("exact_amount", "exact", "before rounding"),
            _r("amount", "money", "at the currency's minor unit"),
            _r("currency", "text", "ISO 4217 code"),
            _c("arithmetic", "text", "how the amount comes about, for people; null where it was not asked for"),
        ),
        "result",
    ),
    Table(
        "unrated_usage",
        "Usage that could not be priced, with the reason.",
        ("subscription_source_id", "meter", "period_start"),
        (
            _r("subscription_source_id", "text", "billing subscription"),
            _r("meter", "text", "what is counted"),
            _r("period_start", "date", "first day of the billing period"),
            _r("period_end", "date", "first day after it"),
            _r("quantity", "quantity", "usage of the period"),
            _r(
                "reason_code",
                "text",
                "why",
                "no_price",
                "two_prices",
                "broken_price",
                "unknown_currency",
                "too_large",
                "no_days",
            ),
            _r("reason", "text", "the same as a sentence"),
        ),
        "result",
    ),
)
