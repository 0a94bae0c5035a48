"""Usage: events become sums per subscription, meter, day and billing period, and what those should have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout.usage.incremental import References, UsageState
    from tieout.usage.rating import Rated
    from tieout.usage.summary import Usage

__all__ = ["Rated", "References", "Usage", "UsageState", "aggregate", "publish_summary", "rate"]


def __getattr__(name: str) -> Any:
    """Load the engine only when usage is really worked on: a DAG file that names this package pays nothing."""
    if name in ("Usage", "aggregate"):
        from tieout.usage import summary

        return getattr(summary, name)
    if name in ("References", "UsageState"):
        from tieout.usage import incremental

        return getattr(incremental, name)
    if name in ("Rated", "rate"):
        from tieout.usage import rating

        return getattr(rating, name)
    if name == "publish_summary":
        from tieout.usage.publish import publish_summary

        return publish_summary
    raise AttributeError(name)
