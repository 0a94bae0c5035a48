"""Exact amounts: minor units per currency, and rounding."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from functools import cache

from tieout.errors import DataError

# Vendors' tables differ from ISO 4217 (Stripe: docs.stripe.com/currencies, "zero-decimal" and "special cases").
_VENDOR_DIGITS: dict[str, dict[str, int]] = {
    "stripe": {"MGA": 0, "UGX": 2, "ISK": 2, "IQD": 2},
}
ROUNDING_MODES = {"half_up": ROUND_HALF_UP, "half_even": ROUND_HALF_EVEN}


@cache
def minor_digits(currency: str, vendor: str = "iso") -> int:
    """Decimal places of a currency's minor unit in `vendor`'s table (`iso` or `stripe`).

    Raises DataError for a code that is no active ISO 4217 currency.
    """
    override = _VENDOR_DIGITS.get(vendor, {}).get(currency)
    if override is not None:
        return override
    from iso4217 import Currency

    try:
        digits = Currency(currency).exponent
    except ValueError:
        raise DataError("unknown currency", got=currency, expected="an ISO 4217 code such as EUR") from None
    return 0 if digits is None else int(digits)


@cache
def currencies() -> tuple[tuple[str, int, int], ...]:
    """Every active ISO 4217 code with its minor-unit digits by ISO and by Stripe, ordered by code."""
    from iso4217 import Currency

    codes = sorted({c.code for c in Currency})
    return tuple((code, minor_digits(code), minor_digits(code, "stripe")) for code in codes)


def unit(currency: str, vendor: str = "iso") -> Decimal:
    """The currency's minor unit: 0.01 for EUR, 1 for JPY, 0.001 for KWD."""
    return Decimal(1).scaleb(-minor_digits(currency, vendor))


def round_money(amount: Decimal, currency: str, mode: str = "half_up") -> Decimal:
    """`amount` at the currency's minor unit, half away from zero unless the source rounds `half_even`."""
    return amount.quantize(unit(currency), rounding=ROUNDING_MODES[mode])


def from_minor(amount: int, currency: str, vendor: str = "iso") -> Decimal:
    """Minor units as the vendor counts them (1050 for 10.50 EUR) to an exact amount."""
    return Decimal(amount).scaleb(-minor_digits(currency, vendor))


def to_minor(amount: Decimal, currency: str, vendor: str = "iso") -> int:
    """An exact amount to minor units. Raises DataError where the amount has a fraction of a unit."""
    scaled = amount.scaleb(minor_digits(currency, vendor))
    if scaled != scaled.to_integral_value():
        raise DataError("amount is finer than the currency's minor unit", got=f"{amount} {currency}")
    return int(scaled)


def format_money(amount: Decimal, currency: str) -> str:
    """For people: `1,234.50 EUR`, `1,235 JPY`, with a minus sign before a negative amount."""
    return f"{round_money(amount, currency):,} {currency}"
