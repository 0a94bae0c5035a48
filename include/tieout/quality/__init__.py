"""The quality gate: every canonical table against its rules, with Great Expectations, failures priced in money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout.quality.results import GateResult

__all__ = ["GateResult", "gate"]


def __getattr__(name: str) -> Any:
    """Load what the gate needs only when it is used: a DAG file that names this package pays nothing."""
    if name == "gate":
        from tieout.quality.check import gate

        return gate
    if name == "GateResult":
        from tieout.quality.results import GateResult

        return GateResult
    raise AttributeError(name)
