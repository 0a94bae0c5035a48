"""Usage: events become sums per subscription, meter, day and billing period, each event counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout.usage.summary import Usage

__all__ = ["Usage", "aggregate", "publish_summary"]


def __getattr__(name: str) -> Any:
    """Load the engine only when usage is really worked on: a DAG file that names this package pays nothing."""
    if name in ("Usage", "aggregate"):
        from tieout.usage import summary

        return getattr(summary, name)
    if name == "publish_summary":
        from tieout.usage.publish import publish_summary

        return publish_summary
    raise AttributeError(name)
