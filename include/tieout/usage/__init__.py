"""Usage: events become sums per subscription, meter, day and billing period, and what those should have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout.usage.commitments import CreditUse, draw_down, true_up
    from tieout.usage.incremental import References, UsageState
    from tieout.usage.late import late_worth
    from tieout.usage.price_books import PriceBook, csv_price_book, stripe_price_book, zuora_price_book
    from tieout.usage.publish import publish_summary
    from tieout.usage.rate_published import publish_rating
    from tieout.usage.rating import Rated, rate
    from tieout.usage.summary import Usage, aggregate

__all__ = [
    "CreditUse",
    "PriceBook",
    "Rated",
    "References",
    "Usage",
    "UsageState",
    "aggregate",
    "csv_price_book",
    "draw_down",
    "late_worth",
    "publish_rating",
    "publish_summary",
    "rate",
    "stripe_price_book",
    "true_up",
    "zuora_price_book",
]

_HOME = {
    "CreditUse": "commitments",
    "draw_down": "commitments",
    "true_up": "commitments",
    "late_worth": "late",
    "PriceBook": "price_books",
    "Rated": "rating",
    "References": "incremental",
    "Usage": "summary",
    "UsageState": "incremental",
    "aggregate": "summary",
    "csv_price_book": "price_books",
    "publish_rating": "rate_published",
    "publish_summary": "publish",
    "rate": "rating",
    "stripe_price_book": "price_books",
    "zuora_price_book": "price_books",
}


def __getattr__(name: str) -> Any:
    """Load the engine only when usage is really worked on: a DAG file that names this package pays nothing."""
    if name not in _HOME:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"tieout.usage.{_HOME[name]}"), name)
