"""The engine's side of the gate: which rows break which rule, and the money behind them, in one pass per table."""

from __future__ import annotations

from decimal import Decimal

from tieout import schema
from tieout.lake.engine import Engine
from tieout.quality.results import RuleResult, SuiteResult
from tieout.quality.rules import Suite, fails

_EXAMPLES = 5


def measure(session: Engine, suite: Suite, measured: str) -> SuiteResult:
    """Check a suite against the view of its entity's name; leaves the table `broken` with a flag per rule."""
    flags = ", ".join(f'({fails(rule)}) AS "f_{rule.id}"' for rule in suite.rules)
    value = f'abs(r."{suite.value}")' if suite.value else "NULL::DECIMAL(18,4)"
    currency = f'r."{suite.currency}"' if suite.value else "NULL::VARCHAR"
    any_flag = " OR ".join(f'"f_{rule.id}"' for rule in suite.rules)
    example = "r.raw_ref" if "raw_ref" in schema.table(suite.entity).names else "NULL::VARCHAR"
    session.execute(
        f"CREATE OR REPLACE TEMP TABLE broken AS SELECT * FROM (SELECT {example} AS example, {value} AS value, "
        f'{currency} AS currency, {flags} FROM "{suite.entity}" r) WHERE {any_flag}'
    )
    failing = ", ".join(f'count(*) FILTER ("f_{r.id}")' for r in suite.rules)
    counts = session.rows(f"SELECT {failing} FROM broken")[0]
    results = []
    for rule, count in zip(suite.rules, counts, strict=True):
        amounts, examples = _behind(session, f'"f_{rule.id}"') if count else ({}, ())
        results.append(RuleResult(rule.id, rule.says, rule.severity, count, amounts, examples))
    return SuiteResult(
        entity=suite.entity,
        rows=session.scalar(f'SELECT count(*) FROM "{suite.entity}"'),
        rules=tuple(results),
        rows_failing=session.scalar("SELECT count(*) FROM broken"),
        value_at_risk=_behind(session, "true")[0],
        measured=measured,
    )


def _behind(session: Engine, condition: str) -> tuple[dict[str, Decimal], tuple[str, ...]]:
    amounts = session.rows(
        f"SELECT currency, sum(value) FROM broken WHERE ({condition}) AND value IS NOT NULL AND currency IS NOT NULL "
        "GROUP BY 1 ORDER BY 1"
    )
    examples = session.rows(
        f"SELECT example FROM broken WHERE ({condition}) AND example IS NOT NULL ORDER BY 1 LIMIT {_EXAMPLES}"
    )
    return dict(amounts), tuple(row[0] for row in examples)
