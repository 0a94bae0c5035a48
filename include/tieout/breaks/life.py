"""The life of breaks as one run moves it: first seen, aged, re-opened, gone; and how the whole follows from before.

Set-based: what the store keeps is bound as the table `kept`, what the run found as `found_breaks` and `found_matches`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import select

from tieout.lake.engine import Engine
from tieout.reconcile import Definition
from tieout.reconcile.sql import joined, text
from tieout.reconcile.sql import name as quoted
from tieout.store import Store
from tieout.store.breaks import CLOSED, BreakRow, Sighting, last_recorded

_KEPT = pa.schema(
    [
        ("legal_entity_id", pa.string()),
        ("break_key", pa.string()),
        ("ordinal", pa.int64()),
        ("state", pa.string()),
        ("break_type", pa.string()),
        ("first_seen", pa.date32()),
        ("content", pa.string()),
        ("cap", pa.decimal128(38, 6)),
        ("cap_currency", pa.string()),
        ("expires", pa.date32()),
        ("decided_on", pa.date32()),
    ]
)
_ROWS = 50_000
_SIX_PLACES = Decimal("0.000001")
_CLOSED = ", ".join(text(state) for state in CLOSED)


def kept_lives(store: Store, definition_id: str) -> tuple[pa.Table, date | None]:
    """Every break of a definition that the store knows, with the newest business date that was recorded."""
    query = select(*(getattr(BreakRow, name) for name in _KEPT.names)).where(BreakRow.definition_id == definition_id)
    batches = []
    with store.reading() as session:
        found = session.connection().execute(query)
        # the driver's own values: a million rows made into Python's dates and decimals one by one cost seconds
        while rows := found.cursor.fetchmany(_ROWS):
            columns = zip(_KEPT, zip(*rows, strict=True), strict=True)
            batches.append(pa.record_batch([_column(f.type, values) for f, values in columns], schema=_KEPT))
        found.close()
        newest = last_recorded(session, definition_id)
    return pa.Table.from_batches(batches, schema=_KEPT), newest


def _column(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """A column of what the driver gives: SQLite has dates as texts, both databases have amounts as texts."""
    if pa.types.is_decimal(kind):
        return pa.array([None if v is None else Decimal(v).quantize(_SIX_PLACES) for v in values], kind)
    if pa.types.is_date(kind) and any(isinstance(v, str) for v in values):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


def make_life(
    session: Engine,
    definition: Definition,
    business_date: date,
    *,
    kept: pa.Table,
    looks_back: bool,
    sides: Mapping[str, Path],
    complete: bool,
    unproven: Collection[str],
) -> None:
    """Make `current_breaks`, `gone_breaks` and `forward` from what was found, what was before, and what is kept.

    Needs the views `breaks` and `totals` of the lake. With `looks_back` the date lies before the newest one recorded:
    what was before it then comes from the dates before it alone.
    """
    session.bind("kept", kept)
    day = {"day": business_date, "definition": definition.id}
    session.execute(_PRIOR, day)
    if looks_back:
        session.execute(_EARLIER_DATES, day)
    else:
        session.execute(_EARLIER_KEPT)
    session.execute(f"CREATE OR REPLACE TEMP TABLE cause_of AS {_causes(session, definition, sides)}")
    session.execute(_CURRENT, {"day": business_date, "measure": definition.measure})
    session.execute(_GONE, {"complete": complete, "unproven": list(unproven), "definition": definition.id})
    session.execute(_forward(definition), day)


def sightings(session: Engine) -> Iterator[Sighting]:
    """The breaks that are new to the store or differ from what it keeps."""
    return _sightings(session.sql(_CHANGED))


def departures(session: Engine) -> Iterator[Sighting]:
    """The breaks that are gone and that the store does not have closed yet."""
    return _sightings(session.sql(_DEPARTED))


def _sightings(table: pa.Table) -> Iterator[Sighting]:
    for batch in table.to_batches(_ROWS):
        yield from (Sighting(**row) for row in batch.to_pylist())


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


# Breaks of the business date before: the newest earlier one that was reconciled.
_PRIOR = """
CREATE OR REPLACE TEMP TABLE prior AS
SELECT * FROM breaks
WHERE definition_id = $definition
  AND business_date = (
    SELECT max(business_date) FROM totals WHERE definition_id = $definition AND business_date < $day
  )
"""

# The store remembers every break that was ever found, so that only one earlier date has to be read.
_EARLIER_KEPT = """
CREATE OR REPLACE TEMP TABLE earlier AS
SELECT
  legal_entity_id, break_key, ordinal, coalesce(k.first_seen, p.first_seen) AS first_seen,
  p.break_key IS NOT NULL AS was_open,
  p.break_type, p.owner, p.currency, p.value, p.sentence, p.left_ids, p.right_ids
FROM prior AS p
FULL JOIN kept AS k USING (legal_entity_id, break_key, ordinal)
"""

# Looking back, the store knows too much: every earlier date is read, with first sighting and last appearance.
_EARLIER_DATES = """
CREATE OR REPLACE TEMP TABLE earlier AS
WITH past AS (
  SELECT legal_entity_id, break_key, ordinal, min(first_seen) AS first_seen
  FROM breaks WHERE definition_id = $definition AND business_date < $day GROUP BY ALL
)
SELECT
  legal_entity_id, break_key, ordinal, past.first_seen, p.break_key IS NOT NULL AS was_open,
  p.break_type, p.owner, p.currency, p.value, p.sentence, p.left_ids, p.right_ids
FROM past
LEFT JOIN prior AS p USING (legal_entity_id, break_key, ordinal)
"""

# The cause of a break is that of its first row, the right side's before the left's: billing and the ledger are nearer
# to the money than the CRM. A decision of the same business date stands where the date is run again; later, a break
# that is found though it was closed is open again, and so is a known difference that outgrew its cap or expired.
_CURRENT = f"""
CREATE OR REPLACE TEMP TABLE current_breaks AS
WITH moved AS (
  SELECT
    b.*,
    CASE
      WHEN k.state IN ({_CLOSED}) AND k.decided_on IS DISTINCT FROM $day THEN 'found again'
      WHEN k.state = 'known_difference' AND k.expires < $day THEN 'the known difference expired on ' || k.expires
      WHEN k.state = 'known_difference'
        AND (b.currency IS DISTINCT FROM k.cap_currency OR (b.value IS NULL) <> (k.cap IS NULL))
        THEN 'the known difference is no longer one amount in its currency'
      WHEN k.state = 'known_difference' AND b.value > k.cap THEN 'the known difference grew beyond its cap'
    END AS note,
    k.state AS was_state, k.break_type AS was_type, k.content AS was_content,
    e.break_key IS NULL OR e.first_seen >= $day AS is_new, coalesce(e.was_open, false) AS was_open,
    least(e.first_seen, $day) AS first_seen
  FROM found_breaks AS b
  LEFT JOIN earlier AS e USING (legal_entity_id, break_key, ordinal)
  LEFT JOIN kept AS k USING (legal_entity_id, break_key, ordinal)
)
SELECT
  b.* EXCLUDE (is_new, was_open),
  left(sha256(concat_ws('|', b.definition_id, b.legal_entity_id, b.ordinal, b.break_key)), 32) AS break_id,
  $measure AS measure,
  coalesce(r.cause, l.cause) AS cause,
  CASE WHEN b.note IS NOT NULL THEN 'open' ELSE coalesce(b.was_state, 'open') END AS state,
  CASE WHEN b.is_new AND NOT b.was_open THEN 'new' WHEN b.was_open THEN 'continuing' ELSE 'reopened' END AS change,
  greatest($day - b.economic_date, 0) AS age_days,
  $day - b.first_seen AS days_seen,
  md5(concat_ws('|', b.owner, coalesce(b.currency, '-'), coalesce(b.value::VARCHAR, '-'),
    coalesce(b.economic_date::VARCHAR, '-'), b.first_seen, b.sentence)) AS content
FROM moved AS b
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
), row_of AS (
  SELECT legal_entity_id, break_key, ordinal, 'left' AS side, unnest(string_split(left_ids, '; ')) AS id FROM gone
  UNION ALL
  SELECT legal_entity_id, break_key, ordinal, 'right', unnest(string_split(right_ids, '; ')) FROM gone
), matched AS (
  SELECT DISTINCT side, id FROM (
    SELECT 'left' AS side, unnest(string_split(left_ids, '; ')) AS id FROM found_matches
    UNION ALL SELECT 'right', unnest(string_split(right_ids, '; ')) FROM found_matches
  ) SEMI JOIN row_of USING (side, id)
), unmatched AS (
  SELECT DISTINCT legal_entity_id, break_key, ordinal FROM row_of ANTI JOIN matched USING (side, id) WHERE id <> ''
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

_CHANGED = """
SELECT
  definition_id, legal_entity_id, break_key, ordinal, break_type, state, owner, currency, value, economic_date,
  first_seen, sentence, was_state, was_type, note, content
FROM current_breaks
WHERE was_state IS NULL OR was_state <> state OR was_type <> break_type OR was_content IS DISTINCT FROM content
ORDER BY legal_entity_id, break_key, ordinal
"""

_DEPARTED = f"""
SELECT
  g.definition_id, g.legal_entity_id, g.break_key, g.ordinal, g.break_type, g.state, g.owner, g.currency, g.value,
  NULL AS economic_date, g.first_seen, g.sentence, k.state AS was_state, k.break_type AS was_type
FROM gone_breaks AS g
JOIN kept AS k USING (legal_entity_id, break_key, ordinal)
WHERE k.state NOT IN ({_CLOSED})
ORDER BY g.legal_entity_id, g.break_key, g.ordinal
"""


def _forward(definition: Definition) -> str:
    """The statement for `forward`: per entity and currency, what was open before, every movement, what is open now.

    Movements are counted one by one, none is what is left over, so that opening + movements = closing proves something.
    """
    cases = " ".join(
        f"WHEN {text(c)} THEN {v:f}" for c, v in sorted(definition.immaterial_limit.items()) if c != "default"
    )
    default = definition.immaterial_limit.get("default")
    default_sql = "NULL" if default is None else f"{default:f}"
    limit = f"CASE currency {cases} ELSE {default_sql} END" if cases else default_sql
    moves = ("opening", "new", "reopened", "revalued", "resolved", "disappeared", "closing")
    parts = ("known", "carried", "immaterial")
    sums = [
        f"coalesce(sum(n) FILTER (move = '{m}'), 0)::BIGINT AS {m}_breaks,\n"
        f"  coalesce(sum(value) FILTER (move = '{m}'), 0)::DECIMAL(38, 6) AS {m}_value"
        for m in (*moves, *parts)
    ]
    listed = ",\n  ".join(sums)
    closing = "SELECT {} AS move, legal_entity_id, currency, 1 AS n, value FROM current_breaks WHERE {}"
    return f"""
CREATE OR REPLACE TEMP TABLE forward AS
WITH continued AS (
  SELECT
    b.legal_entity_id, b.currency, b.value, p.currency AS currency_before, p.value AS value_before,
    (b.currency IS DISTINCT FROM p.currency)::INT AS changed
  FROM current_breaks AS b JOIN prior AS p USING (legal_entity_id, break_key, ordinal)
), moves AS (
  SELECT 'opening' AS move, legal_entity_id, currency, 1 AS n, value FROM prior
  UNION ALL SELECT change, legal_entity_id, currency, 1, value FROM current_breaks WHERE change <> 'continuing'
  UNION ALL SELECT 'revalued', legal_entity_id, currency_before, -changed, -value_before FROM continued
  UNION ALL SELECT 'revalued', legal_entity_id, currency, changed, value FROM continued
  UNION ALL SELECT state, legal_entity_id, currency, -1, -value FROM gone_breaks
  UNION ALL {closing.format("'closing'", "true")}
  UNION ALL {closing.format("'known'", "state = 'known_difference'")}
  UNION ALL {closing.format("'carried'", "date_trunc('month', first_seen) < date_trunc('month', $day::DATE)")}
  UNION ALL {closing.format("'immaterial'", "NOT is_material")}
), summed AS (
  SELECT $definition AS definition_id, legal_entity_id, coalesce(currency, '') AS currency,
  {listed}
  FROM moves GROUP BY ALL
)
SELECT *, ({limit})::DECIMAL(38, 6) AS immaterial_limit, coalesce(immaterial_value > ({limit}), false) AS is_watched
FROM summed
"""
