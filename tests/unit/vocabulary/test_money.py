from decimal import Decimal

import pytest

from tieout.errors import DataError
from tieout.money import format_money, from_minor, minor_digits, round_money, to_minor


# ISO 4217, and Stripe's own table where it differs (docs.stripe.com/currencies).
@pytest.mark.parametrize(
    ("currency", "vendor", "digits"),
    [
        ("EUR", "iso", 2),
        ("JPY", "iso", 0),
        ("KWD", "iso", 3),
        ("MGA", "iso", 2),
        ("MGA", "stripe", 0),
        ("UGX", "iso", 0),
        ("UGX", "stripe", 2),
        ("ISK", "stripe", 2),
        ("IQD", "stripe", 2),
        ("IQD", "iso", 3),
    ],
)
def test_minor_units_follow_the_vendors_own_table(currency, vendor, digits):
    assert minor_digits(currency, vendor) == digits


def test_an_unknown_currency_is_an_error_that_names_it():
    with pytest.raises(DataError, match="ZZZ"):
        minor_digits("ZZZ")


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [("0.005", "EUR", "0.01"), ("-0.005", "EUR", "-0.01"), ("2.5", "JPY", "3"), ("1.0005", "KWD", "1.001")],
)
def test_rounding_goes_half_away_from_zero_at_the_minor_unit(amount, currency, rounded):
    assert round_money(Decimal(amount), currency) == Decimal(rounded)


def test_tax_by_line_and_on_total_differ_as_published():
    """Xero developer guide, "Rounding": 25.06, 25.61, 25.63 at 15% give 11.44 by line and 11.45 on the total."""
    lines = [Decimal("25.06"), Decimal("25.61"), Decimal("25.63")]
    rate = Decimal("0.15")
    assert sum(round_money(line * rate, "USD") for line in lines) == Decimal("11.44")
    assert round_money(sum(lines) * rate, "USD") == Decimal("11.45")


def test_minor_units_and_amounts_convert_both_ways():
    assert from_minor(1050, "EUR") == Decimal("10.50")
    assert from_minor(1050, "JPY") == Decimal("1050")
    assert to_minor(Decimal("10.50"), "EUR") == 1050
    with pytest.raises(DataError, match="finer"):
        to_minor(Decimal("10.505"), "EUR")


def test_amounts_are_shown_with_separators_and_currency():
    assert format_money(Decimal("-1234.5"), "EUR") == "-1,234.50 EUR"
    assert format_money(Decimal("1234.5"), "JPY") == "1,235 JPY"
