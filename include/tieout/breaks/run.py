"""`run`: one configured reconciliation of one business date, its result tables published, its breaks aged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from tieout import schema
from tieout.breaks.inputs import bind_sides, configured_definition, rules_hash, side_queries
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.observe.steps import step
from tieout.reconcile import Definition, Reconciliation, Summary, reconcile
from tieout.reconcile.sql import joined, text
from tieout.reconcile.sql import name as quoted
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.breaks import CLOSED, Sighting, record, select_breaks


def run(
    definition_id: str,
    business_date: date,
    *,
    lake: Lake,
    store: Store,
    settings: Settings,
    run_id: str,
    sides_complete: bool = True,
    unproven_entities: Collection[str] = (),
    as_was: str | None = None,
) -> Reconciliation:
    """Reconcile a business date on the tables that are published for the run, and publish what was found.

    With `as_was` both sides are read as that earlier run saw them.

    Writes the date's part of `matches`, `breaks`, `breaks_gone` and `totals`. What is new, continuing, reopened or gone
    follows from the dates before, so running a date again gives the same tables. A break that is gone is `resolved`
    only if `sides_complete`, its entity is none of `unproven_entities`, and each of its rows is matched now; otherwise
    it `disappeared` and needs a look. The returned tables have the life of each break; `summary.definition_hash` covers
    the queries of the sides too.

    Raises ConfigError for an unknown definition, DefinitionError and DataError as `reconcile` does.
    """
    found, tables = _worked_out(
        definition_id,
        business_date,
        lake=lake,
        store=store,
        settings=settings,
        run_id=run_id,
        sides_complete=sides_complete,
        unproven_entities=unproven_entities,
        as_was=as_was,
    )
    where = f"business_date = '{business_date.isoformat()}' AND definition_id = '{definition_id}'"
    versions = {name: lake.write(name, table, where=where) for name, table in sorted(tables.items())}
    store.publish(run_id, versions, {"definition_id": definition_id, "business_date": business_date.isoformat()})
    with store.transaction() as transaction:
        record(
            transaction,
            definition_id,
            business_date,
            run_id,
            _sightings(tables["breaks"]),
            _sightings(tables["breaks_gone"]),
            store.now(),
        )
    return Reconciliation(tables["matches"], tables["breaks"], tables["totals"], found)


def look(
    definition_id: str, business_date: date, *, lake: Lake, store: Store, settings: Settings, run_id: str
) -> dict[str, pa.Table]:
    """What `run` would write of a business date, by result table; nothing is published and no break's life moves.

    Both sides are what the tables published for the run say, so of a past date this is what is known now.
    """
    return _worked_out(
        definition_id, business_date, lake=lake, store=store, settings=settings, run_id=run_id, sides_complete=False
    )[1]


def _worked_out(
    definition_id: str,
    business_date: date,
    *,
    lake: Lake,
    store: Store,
    settings: Settings,
    run_id: str,
    sides_complete: bool,
    unproven_entities: Collection[str] = (),
    as_was: str | None = None,
) -> tuple[Summary, dict[str, pa.Table]]:
    """The summary and the four result tables of a reconciliation, each break with its life."""
    definition = configured_definition(settings, definition_id)
    queries = side_queries(settings, definition)
    snapshot = store.published(run_id)
    with step(f"reconcile {definition_id}") as current, engine(settings) as session:
        sides = bind_sides(
            session,
            queries,
            lake=lake,
            snapshot=snapshot if as_was is None else store.published(as_was),
            store=store,
            settings=settings,
            business_date=business_date,
        )
        found = reconcile(definition, sides["left"], sides["right"], engine=session, as_of=business_date)
        tables = _with_life(
            session,
            found,
            lake=lake,
            snapshot=snapshot,
            store=store,
            business_date=business_date,
            definition=definition,
            sides=sides,
            complete=sides_complete,
            unproven=unproven_entities,
        )
        current.count(matches=found.summary.matched, breaks=found.summary.breaks, gone=tables["breaks_gone"].num_rows)
    return replace(found.summary, definition_hash=rules_hash(definition, queries)), tables


def _with_life(
    session: Engine,
    found: Reconciliation,
    *,
    lake: Lake,
    snapshot: Any,
    store: Store,
    business_date: date,
    definition: Definition,
    sides: Mapping[str, Path],
    complete: bool,
    unproven: Collection[str],
) -> dict[str, pa.Table]:
    """The four result tables in the lake's schema, each break with its cause, state, age and what changed."""
    lake.bind(session, snapshot, ["breaks", "totals"])
    session.bind("kept_state", _kept_states(store, definition.id))
    for name in ("matches", "breaks", "totals"):
        session.bind(f"found_{name}", getattr(found, name))
    session.execute(_EARLIER, {"day": business_date, "definition": definition.id})
    session.execute(f"CREATE OR REPLACE TEMP TABLE cause_of AS {_causes(session, definition, sides)}")
    session.execute(_CURRENT, {"day": business_date, "measure": definition.measure})
    session.execute(_GONE, {"complete": complete, "unproven": list(unproven), "definition": definition.id})
    queries = {
        "matches": "SELECT $day AS business_date, * FROM found_matches",
        "totals": "SELECT $day AS business_date, * FROM found_totals",
        "breaks": "SELECT $day AS business_date, * FROM current_breaks",
        "breaks_gone": "SELECT $day AS business_date, * FROM gone_breaks",
    }
    tables = {}
    for name, query in queries.items():
        shape = schema.table(name).arrow
        tables[name] = session.sql(query, {"day": business_date}).select(shape.names).cast(shape)
    return tables


def _causes(session: Engine, definition: Definition, sides: Mapping[str, Path]) -> str:
    """The query for what each row of a side goes back to, by the row's id; nothing where the side does not say."""
    parts = ["SELECT NULL::VARCHAR AS side, NULL::VARCHAR AS id, NULL::VARCHAR AS cause WHERE false"]
    for side_name, side in (("left", definition.left), ("right", definition.right)):
        if side.cause is not None:
            session.bind(f"{side_name}_causes", [str(sides[side_name])])
            row_id = joined([f"{quoted(column)}::VARCHAR" for column in side.id])
            parts.append(
                f"SELECT {text(side_name)}, {row_id}, min({quoted(side.cause)}::VARCHAR) FROM {side_name}_causes "
                f"WHERE {quoted(side.cause)} IS NOT NULL GROUP BY ALL"
            )
    return "\nUNION ALL\n".join(parts)


# Breaks of the business dates before, each with its first sighting and its last appearance.
_EARLIER = """
CREATE OR REPLACE TEMP TABLE earlier AS
WITH past AS (
  SELECT * FROM breaks WHERE definition_id = $definition AND business_date < $day
)
SELECT
  p.legal_entity_id, p.break_key, p.ordinal, min(p.first_seen) AS first_seen, max(p.business_date) AS last_seen,
  max(p.business_date) = (
    SELECT max(business_date) FROM totals WHERE definition_id = $definition AND business_date < $day
  ) AS was_open,
  arg_max(p.break_type, p.business_date) AS break_type, arg_max(p.owner, p.business_date) AS owner,
  arg_max(p.currency, p.business_date) AS currency, arg_max(p.value, p.business_date) AS value,
  arg_max(p.sentence, p.business_date) AS sentence,
  arg_max(p.left_ids, p.business_date) AS left_ids, arg_max(p.right_ids, p.business_date) AS right_ids
FROM past AS p
GROUP BY ALL
"""

# The cause of a break is that of its first row, the right side's before the left's: billing and the ledger are nearer
# to the money than the CRM.
_CURRENT = """
CREATE OR REPLACE TEMP TABLE current_breaks AS
SELECT
  b.*,
  $measure AS measure,
  coalesce(r.cause, l.cause) AS cause,
  coalesce(s.state, 'open') AS state,
  CASE WHEN e.break_key IS NULL THEN 'new' WHEN e.was_open THEN 'continuing' ELSE 'reopened' END AS change,
  coalesce(e.first_seen, $day) AS first_seen,
  greatest($day - b.economic_date, 0) AS age_days,
  $day - coalesce(e.first_seen, $day) AS days_seen
FROM found_breaks AS b
LEFT JOIN earlier AS e USING (legal_entity_id, break_key, ordinal)
LEFT JOIN kept_state AS s USING (legal_entity_id, break_key, ordinal)
LEFT JOIN cause_of AS r ON r.side = 'right' AND r.id = split_part(b.right_ids, '; ', 1)
LEFT JOIN cause_of AS l ON l.side = 'left' AND l.id = split_part(b.left_ids, '; ', 1)
"""

# A break is resolved by itself only where all its rows are matched now; one whose ids were cut short cannot prove it.
_GONE = """
CREATE OR REPLACE TEMP TABLE gone_breaks AS
WITH gone AS (
  SELECT * FROM earlier AS e
  WHERE e.was_open
    AND NOT EXISTS (
      SELECT 1 FROM found_breaks AS b
      WHERE b.legal_entity_id = e.legal_entity_id AND b.break_key = e.break_key AND b.ordinal = e.ordinal
    )
), matched AS (
  SELECT 'left' AS side, unnest(string_split(left_ids, '; ')) AS id FROM found_matches
  UNION ALL SELECT 'right', unnest(string_split(right_ids, '; ')) FROM found_matches
), row_of AS (
  SELECT legal_entity_id, break_key, ordinal, 'left' AS side, unnest(string_split(left_ids, '; ')) AS id FROM gone
  UNION ALL
  SELECT legal_entity_id, break_key, ordinal, 'right', unnest(string_split(right_ids, '; ')) FROM gone
), unmatched AS (
  SELECT DISTINCT legal_entity_id, break_key, ordinal FROM row_of
  WHERE id <> '' AND (side, id) NOT IN (SELECT (side, id) FROM matched)
)
SELECT
  $definition AS definition_id, g.legal_entity_id, g.break_key, g.ordinal, g.break_type,
  CASE
    WHEN $complete AND u.break_key IS NULL
      AND NOT coalesce(list_contains($unproven::VARCHAR[], g.legal_entity_id), false) THEN 'resolved'
    ELSE 'disappeared'
  END AS state,
  g.owner, g.currency, g.value, g.first_seen, g.sentence
FROM gone AS g
LEFT JOIN unmatched AS u USING (legal_entity_id, break_key, ordinal)
"""


def _kept_states(store: Store, definition_id: str) -> pa.Table:
    """Where people have taken a break's life (assigned, known difference …); open and closed ones need no row."""
    with store.reading() as session:
        kept = [b for b in select_breaks(session, definition_id) if b.state not in (*CLOSED, "open")]
    shape = pa.schema(
        [("legal_entity_id", pa.string()), ("break_key", pa.string()), ("ordinal", pa.int64()), ("state", pa.string())]
    )
    return pa.Table.from_pylist([{c: getattr(b, c) for c in shape.names} for b in kept], schema=shape)


def _sightings(table: pa.Table) -> list[Sighting]:
    columns = [c for c in Sighting.__dataclass_fields__ if c in table.column_names]
    return [Sighting(**({"economic_date": None} | row)) for row in table.select(columns).to_pylist()]
