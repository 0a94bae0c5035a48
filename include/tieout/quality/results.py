"""What the gate found, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tieout.money import format_money
from tieout.quality.rules import Severity


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule over one table; `examples` are raw references of a few failing rows."""

    id: str
    says: str
    severity: Severity
    rows_failing: int
    value_at_risk: Mapping[str, Decimal] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        return self.rows_failing == 0


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """All rules of one entity. Rows and value at risk count a row once, however many rules it breaks."""

    entity: str
    rows: int
    rules: tuple[RuleResult, ...]
    rows_failing: int
    value_at_risk: Mapping[str, Decimal]
    measured: str
    """`rows`: Great Expectations saw the rows; `metrics`: it saw the engine's counts over all rows."""

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The rules that do not hold."""
        return tuple(r for r in self.rules if not r.success)

    @property
    def success(self) -> bool:
        """No blocking rule fails."""
        return not any(r.severity == "blocking" for r in self.failed)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The gate of one run. `docs` is the first page of the Data Docs."""

    suites: tuple[SuiteResult, ...]
    docs: Path | None

    @property
    def success(self) -> bool:
        """No blocking rule fails anywhere."""
        return all(s.success for s in self.suites)

    @property
    def expectations(self) -> int:
        """Rules checked."""
        return sum(len(s.rules) for s in self.suites)

    @property
    def failed(self) -> int:
        """Rules that do not hold."""
        return sum(len(s.failed) for s in self.suites)

    @property
    def rows_failing(self) -> int:
        """Rows that break a rule."""
        return sum(s.rows_failing for s in self.suites)

    @property
    def value_at_risk(self) -> dict[str, Decimal]:
        """Money behind the failing rows, by currency."""
        total: dict[str, Decimal] = {}
        for suite in self.suites:
            for currency, amount in suite.value_at_risk.items():
                total[currency] = total.get(currency, Decimal(0)) + amount
        return total

    def report_rows(self) -> list[dict[str, Any]]:
        """One plain row per entity for reports and run facts; amounts as text, nothing that JSON would bend."""
        return [
            {
                "entity": s.entity,
                "rows": s.rows,
                "expectations": len(s.rules),
                "failed": len(s.failed),
                "blocking": not s.success,
                "rows_failing": s.rows_failing,
                "value_at_risk": ", ".join(format_money(a, c) for c, a in sorted(s.value_at_risk.items())),
                "reasons": "; ".join(f"{r.says} ({r.rows_failing} rows, {r.severity})" for r in s.failed),
                "measured": s.measured,
            }
            for s in self.suites
        ]
