"""The gate: measure every canonical table, have Great Expectations judge it, keep the Data Docs with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tieout.errors import DataError
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.quality.measure import measure
from tieout.quality.results import GateResult
from tieout.quality.rules import Suite, load_suites
from tieout.settings import Settings

ROWS_FOR_EXPECTATIONS = 100_000
"""Up to so many rows Great Expectations sees the rows themselves; above, the engine's counts over all of them.

It hashes every value of a frame before it looks at one: over larger tables that would be most of the gate's time.
"""


def gate(
    snapshot: Mapping[str, int],
    *,
    lake: Lake,
    settings: Settings,
    run_id: str,
    business_date: str = "",
    expectations: bool = True,
    rows_for_expectations: int = ROWS_FOR_EXPECTATIONS,
    progress: Callable[[str], None] | None = None,
) -> GateResult:
    """Check every canonical table of a published snapshot against its rules.

    The Data Docs and `gate.json` are written to `<reports>/<business date or run>/quality`. Without `expectations`
    only the engine measures. Raises DataError if engine and Great Expectations disagree on a rule: then one of the
    two is wrong and nothing may pass.
    """
    run_name = run_id.replace("/", "_").replace(":", "_")
    folder = settings.reports / (business_date or run_name) / "quality"
    judge = None
    if expectations:
        from tieout.quality.expectations import Expectations

        judge = Expectations(folder, run_name)
    suites, results = load_suites(settings), []
    with engine(settings) as session:
        lake.bind(session, snapshot, _tables(suites))
        for suite in suites:
            if suite.entity not in snapshot:
                continue
            if progress is not None:
                progress(f"quality {suite.entity}")
            rows = session.scalar(f'SELECT count(*) FROM "{suite.entity}"')
            found = measure(session, suite, "rows" if rows <= rows_for_expectations else "metrics")
            if judge is not None:
                verdict = judge.check(session, suite, found)
                ours = frozenset(r.id for r in found.failed)
                if verdict.failed != ours:
                    raise DataError(
                        "engine and Great Expectations disagree", record=suite.entity, expected=sorted(ours),
                        got=sorted(verdict.failed),
                    )  # fmt: skip
            results.append(found)
    docs = judge.build_docs() if judge is not None else None
    result = GateResult(tuple(results), docs)
    _keep(result, folder)
    return result


def _tables(suites: tuple[Suite, ...]) -> list[str]:
    named = {s.entity for s in suites}
    named |= {r.references.table for s in suites for r in s.rules if r.references}
    return sorted(named)


def _keep(result: GateResult, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rules = [
        {
            "entity": s.entity, "rule": r.id, "says": r.says, "severity": r.severity, "rows_failing": r.rows_failing,
            "value_at_risk": {c: str(a) for c, a in r.value_at_risk.items()}, "examples": list(r.examples),
        }
        for s in result.suites
        for r in s.rules
    ]  # fmt: skip
    content = {"success": result.success, "entities": result.report_rows(), "rules": rules}
    (folder / "gate.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
