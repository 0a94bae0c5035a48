"""What a changed definition would change: matches and breaks gained, lost and changed, by money. Stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tieout.reconcile.run import Reconciliation, reconcile
from tieout.reconcile.session import Rows, open_session

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.reconcile.definition import Definition


@dataclass(frozen=True)
class Simulation:
    """What differs between two results over the same rows.

    `changes`: kind (match, break), change (gained, lost, changed), legal_entity_id, key, currency, value, was and is
    (pass of a match, type and value of a break), sentence. `summary`: their number and value by kind, change,
    currency, was and is.
    """

    changes: pa.Table
    summary: pa.Table


def simulate(
    definition: Definition | Mapping[str, Any] | Path | str,
    changed: Definition | Mapping[str, Any] | Path | str,
    left: Rows,
    right: Rows,
    *,
    engine: Engine | None = None,
    as_of: date | None = None,
    verdicts: pa.Table | None = None,
) -> Simulation:
    """Run both definitions over the same two sides and compare. Arguments and errors as `reconcile`."""
    before, after = (
        reconcile(rules, left, right, engine=engine, as_of=as_of, verdicts=verdicts) for rules in (definition, changed)
    )
    return compare(before, after, engine=engine)


def compare(before: Reconciliation, after: Reconciliation, *, engine: Engine | None = None) -> Simulation:
    """The differences between two results. Matches are told by their rows, breaks by entity, key and ordinal."""
    with open_session(engine) as session:
        for when, result in (("before", before), ("after", after)):
            session.bind(f"matches_{when}", result.matches)
            session.bind(f"breaks_{when}", result.breaks)
        session.make("changes", _CHANGES)
        summary = session.connection.sql(
            'SELECT kind, change, currency, was, "is", count(*) AS number, sum(value) AS value FROM changes\n'
            'GROUP BY ALL ORDER BY kind, change, currency, was, "is"'
        ).to_arrow_table()
        changes = session.connection.sql(
            "SELECT * FROM changes ORDER BY kind, change, legal_entity_id, key, currency, value"
        ).to_arrow_table()
    return Simulation(changes, summary)


_CHANGES = """
WITH matched AS (
  SELECT
    CASE WHEN b.left_ids IS NULL THEN 'gained' WHEN a.left_ids IS NULL THEN 'lost' ELSE 'changed' END AS change,
    legal_entity_id, coalesce(a.match_key, b.match_key) AS key, coalesce(a.currency, b.currency) AS currency,
    abs(coalesce(a.left_amount, a.right_amount, b.left_amount, b.right_amount)) AS value,
    b.pass_name AS was, a.pass_name AS "is", coalesce(a.tolerated, '') AS sentence,
    b.left_ids IS NOT NULL AND a.left_ids IS NOT NULL AND a.pass_name = b.pass_name
      AND a.difference IS NOT DISTINCT FROM b.difference AND a.tolerated IS NOT DISTINCT FROM b.tolerated AS is_same
  FROM matches_before AS b
  FULL JOIN matches_after AS a USING (legal_entity_id, left_ids, right_ids)
), broken AS (
  SELECT
    CASE WHEN b.break_type IS NULL THEN 'gained' WHEN a.break_type IS NULL THEN 'lost' ELSE 'changed' END AS change,
    legal_entity_id, break_key AS key, coalesce(a.currency, b.currency) AS currency,
    coalesce(a.value, b.value) AS value, b.break_type AS was, a.break_type AS "is",
    coalesce(a.sentence, b.sentence) AS sentence,
    coalesce(a.break_type = b.break_type AND a.value IS NOT DISTINCT FROM b.value
      AND a.currency IS NOT DISTINCT FROM b.currency AND a.is_material = b.is_material
      AND a.rivals IS NOT DISTINCT FROM b.rivals AND a.left_ids = b.left_ids AND a.right_ids = b.right_ids,
      false) AS is_same
  FROM breaks_before AS b
  FULL JOIN breaks_after AS a USING (legal_entity_id, break_key, ordinal)
)
SELECT 'match' AS kind, * EXCLUDE (is_same) FROM matched WHERE NOT is_same
UNION ALL
SELECT 'break', * EXCLUDE (is_same) FROM broken WHERE NOT is_same
"""
