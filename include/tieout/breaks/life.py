"""The life of breaks as one run moves it: first seen, aged, re-opened, gone; and how the whole follows from before.

Set-based: what the store keeps is bound as the table `kept`, what the run found as `found_breaks` and `found_matches`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import ColumnElement, String, cast, func, literal, select

from tieout.lake.engine import Engine
from tieout.reconcile import Definition
from tieout.reconcile.sql import joined, text
from tieout.reconcile.sql import name as quoted
from tieout.store import Store
from tieout.store.breaks import CLOSED, BreakRow, Sighting, last_recorded

_KEPT = pa.schema(
    [
        ("break_id", pa.string()),
        ("content", pa.string()),
        ("first_seen", pa.date32()),
        ("state", pa.string()),
        ("break_type", pa.string()),
        ("cap", pa.decimal128(38, 6)),
        ("cap_currency", pa.string()),
        ("expires", pa.date32()),
        ("decided_on", pa.date32()),
        ("written_off", pa.decimal128(38, 6)),
        ("written_off_currency", pa.string()),
    ]
)
_ROWS = 50_000
_CLOSED = ", ".join(text(state) for state in CLOSED)


def kept_lives(store: Store, definition_id: str) -> tuple[pa.Table, date | None]:
    """Every break of a definition that the store knows, with the newest business date that was recorded.

    The database makes one text of each break, none of whose parts holds a `|`: a million rows of eleven values each,
    made one by one, would cost seconds.
    """
    line: ColumnElement[str] = literal("")
    for place, name in enumerate(_KEPT.names):
        column = getattr(BreakRow, name)
        told: ColumnElement[str] = column if isinstance(column.type, String) else cast(column, String)
        line = line + ("|" if place else "") + (func.coalesce(told, "") if column.nullable else told)
    lines = BytesIO()
    with store.reading() as session:
        found = session.connection().execute(select(line).where(BreakRow.definition_id == definition_id))
        while rows := found.cursor.fetchmany(_ROWS):
            lines.write("\n".join([text for (text,) in rows]).encode() + b"\n")
        found.close()
        newest = last_recorded(session, definition_id)
    if not lines.tell():
        return _KEPT.empty_table(), newest
    table = csv.read_csv(
        BytesIO(lines.getbuffer()),
        read_options=csv.ReadOptions(column_names=_KEPT.names),
        parse_options=csv.ParseOptions(delimiter="|", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=_KEPT, null_values=[""], strings_can_be_null=True),
    )
    return table, newest


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
    session.execute(_SEEN_BEFORE if looks_back else _SEEN_AND_KEPT, day if looks_back else None)
    cause, joins = _causes(session, definition, sides)
    session.execute(_life(cause, joins), {"day": business_date})
    session.execute(_current(definition.measure))
    session.execute(_GONE, {"complete": complete, "unproven": list(unproven), **day})
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


def _causes(session: Engine, definition: Definition, sides: Mapping[str, Path]) -> tuple[str, str]:
    """What a found break goes back to, and the joins that say so: the cause of its first row.

    The right side's before the left's: billing and the ledger are nearer to the money than the CRM.
    """
    causes, joins = [], ""
    for side_name, side in (("right", definition.right), ("left", definition.left)):
        if side.cause is not None:
            session.bind(f"{side_name}_causes", [str(sides[side_name])])
            row_id = joined([f"{quoted(column)}::VARCHAR" for column in side.id])
            entity = f"coalesce({quoted(side.entity)}::VARCHAR, '')"
            listed = (
                f"SELECT {entity} AS entity, {row_id} AS id, min({quoted(side.cause)}::VARCHAR) AS cause "
                f"FROM {side_name}_causes WHERE {quoted(side.cause)} IS NOT NULL GROUP BY ALL"
            )
            table = f"cause_of_{side_name}"
            joins += (
                f"\nLEFT JOIN ({listed}) AS {table} ON {table}.entity = b.legal_entity_id "
                f"AND {table}.id = split_part(b.{side_name}_ids, '; ', 1)"
            )
            causes.append(f"{table}.cause")
    return f"coalesce({', '.join(causes)})" if causes else "NULL::VARCHAR", joins


# What names a break in every run, as 16 bytes: a million of them are compared, none of the texts it is made of.
_ID = "left(sha256(concat_ws('|', definition_id, legal_entity_id, ordinal, break_key)), 32)"

_DAY_BEFORE = """
  definition_id = $definition AND business_date = (
    SELECT max(business_date) FROM totals WHERE definition_id = $definition AND business_date < $day
  )
"""

# Breaks of the business date before: the newest earlier one that was reconciled.
_PRIOR = f"""
CREATE OR REPLACE TEMP TABLE prior AS
SELECT coalesce(break_id, {_ID})::UUID AS id, legal_entity_id, break_type, currency, value, first_seen
FROM breaks WHERE {_DAY_BEFORE}
"""

# The store remembers every break that was ever found, so that only one earlier date has to be read.
_SEEN_AND_KEPT = """
CREATE OR REPLACE TEMP TABLE seen AS
SELECT id, coalesce(k.first_seen, p.first_seen) AS first_seen, p.id IS NOT NULL AS was_open
FROM prior AS p FULL JOIN (SELECT break_id::UUID AS id, first_seen FROM kept) AS k USING (id)
"""

# Looking back, the store knows too much: every earlier date is read, with first sighting and last appearance.
_SEEN_BEFORE = f"""
CREATE OR REPLACE TEMP TABLE seen AS
WITH past AS (
  SELECT coalesce(break_id, {_ID})::UUID AS id, min(first_seen) AS first_seen
  FROM breaks WHERE definition_id = $definition AND business_date < $day GROUP BY ALL
)
SELECT id, past.first_seen, p.id IS NOT NULL AS was_open FROM past LEFT JOIN prior AS p USING (id)
"""


# Whether journals that were read back have written off as much as still differs, to the same side.
_WRITTEN_OFF = """coalesce(
      k.written_off_currency = b.currency AND b.value <= abs(k.written_off)
      AND coalesce(sign(nullif(b.difference, 0)) = sign(k.written_off), true), false)"""

_STILL_WRITTEN_OFF = "'found again; it is written off'"
_REMAINDER = r"""CASE
        WHEN k.written_off_currency = b.currency AND b.value > abs(k.written_off)
          AND coalesce(sign(nullif(b.difference, 0)) = sign(k.written_off), true)
          THEN 'it grew beyond what was written off: '
            || regexp_replace((b.value - abs(k.written_off))::DECIMAL(38, 6)::VARCHAR, '(\.\d\d\d*?)0+$', '\1')
            || ' ' || b.currency || ' is left'
        ELSE 'it is no longer the difference that was written off'
      END"""


def _life(cause: str, joins: str) -> str:
    """The statement for `life`: of each found break only what time and people add, and what movements are made of.

    A decision of the same business date stands where the date is run again; later, a break that is found though it was
    closed is open again, and so is a known difference that outgrew its cap or expired. What journals wrote off stays
    written off as long as the difference does not grow beyond it: the two systems go on to differ.
    """
    return f"""
CREATE OR REPLACE TEMP TABLE life AS
WITH moved AS (
  SELECT
    b.id, b.legal_entity_id, b.break_type, b.currency, b.value, b.is_material, b.economic_date, b.owner, b.sentence,
    {cause} AS cause,
    CASE
      WHEN k.state IN ({_CLOSED}) AND k.decided_on IS DISTINCT FROM $day AND {_WRITTEN_OFF}
        THEN {_STILL_WRITTEN_OFF}
      WHEN k.state = 'written_off' AND NOT {_WRITTEN_OFF} THEN {_REMAINDER}
      WHEN k.state IN ({_CLOSED}) AND k.decided_on IS DISTINCT FROM $day THEN 'found again'
      WHEN k.state = 'known_difference' AND k.expires < $day THEN 'the known difference expired on ' || k.expires
      WHEN k.state = 'known_difference'
        AND (b.currency IS DISTINCT FROM k.cap_currency OR (b.value IS NULL) <> (k.cap IS NULL))
        THEN 'the known difference is no longer one amount in its currency'
      WHEN k.state = 'known_difference' AND b.value > k.cap THEN 'the known difference grew beyond its cap'
    END AS note,
    k.state AS was_state, k.break_type AS was_type, k.content AS was_content,
    e.id IS NULL OR e.first_seen >= $day AS is_new, coalesce(e.was_open, false) AS was_open,
    least(e.first_seen, $day) AS first_seen
  FROM (SELECT *, {_ID}::UUID AS id FROM found_breaks) AS b
  LEFT JOIN seen AS e USING (id)
  LEFT JOIN (SELECT * EXCLUDE (break_id), break_id::UUID AS id FROM kept) AS k ON k.id = b.id{joins}
)
SELECT
  * EXCLUDE (is_new, was_open, economic_date, owner, sentence),
  CASE
    WHEN note = {_STILL_WRITTEN_OFF} THEN 'written_off'
    WHEN note IS NOT NULL THEN 'open'
    ELSE coalesce(was_state, 'open')
  END AS state,
  CASE WHEN is_new AND NOT was_open THEN 'new' WHEN was_open THEN 'continuing' ELSE 'reopened' END AS change,
  greatest($day - economic_date, 0) AS age_days,
  $day - first_seen AS days_seen,
  md5(concat_ws('|', owner, coalesce(currency, '-'), coalesce(value::VARCHAR, '-'),
    coalesce(economic_date::VARCHAR, '-'), first_seen, sentence)) AS content
FROM moved
"""


def _current(measure: str | None) -> str:
    """The statement for `current_breaks`: found breaks with their life. A view: read once as a whole, and not kept."""
    told = "note, was_state, was_type, was_content, cause, state, change, first_seen, age_days, days_seen, content"
    return f"""
CREATE OR REPLACE TEMP VIEW current_breaks AS
SELECT b.* EXCLUDE (id), replace(b.id::VARCHAR, '-', '') AS break_id, {text(measure) if measure else "NULL"} AS measure,
  {", ".join(f"l.{column}" for column in told.split(", "))}
FROM (SELECT *, {_ID}::UUID AS id FROM found_breaks) AS b JOIN life AS l ON l.id = b.id
"""


# A break is resolved by itself only where all its rows are matched now; one whose ids were cut short cannot prove it.
# Ids are one entity's own: two entities may number their invoices alike.
_GONE = f"""
CREATE OR REPLACE TEMP TABLE gone_breaks AS
WITH gone AS (
  SELECT b.*, s.first_seen AS first_seen_ever
  FROM (SELECT *, coalesce(break_id, {_ID})::UUID AS id FROM breaks WHERE {_DAY_BEFORE}) AS b
  JOIN (FROM seen AS s ANTI JOIN life USING (id) WHERE s.was_open) AS s ON s.id = b.id
), row_of AS (
  SELECT id, legal_entity_id, 'left' AS side, unnest(string_split(left_ids, '; ')) AS row_id FROM gone
  UNION ALL
  SELECT id, legal_entity_id, 'right', unnest(string_split(right_ids, '; ')) FROM gone
), matched AS (
  SELECT DISTINCT legal_entity_id, side, row_id FROM (
    SELECT legal_entity_id, 'left' AS side, unnest(string_split(left_ids, '; ')) AS row_id FROM found_matches
    UNION ALL SELECT legal_entity_id, 'right', unnest(string_split(right_ids, '; ')) FROM found_matches
  ) SEMI JOIN row_of USING (legal_entity_id, side, row_id)
), unmatched AS (
  SELECT DISTINCT id FROM row_of ANTI JOIN matched USING (legal_entity_id, side, row_id) WHERE row_id <> ''
)
SELECT
  $definition AS definition_id, g.id, g.legal_entity_id, g.break_key, g.ordinal, g.break_type,
  CASE
    WHEN $complete AND u.id IS NULL
      AND NOT coalesce(list_contains($unproven::VARCHAR[], g.legal_entity_id), false) THEN 'resolved'
    ELSE 'disappeared'
  END AS state,
  g.owner, g.currency, g.value, g.first_seen_ever AS first_seen, g.sentence
FROM gone AS g
LEFT JOIN unmatched AS u ON u.id = g.id
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
JOIN kept AS k ON k.break_id::UUID = g.id
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
    closing = "SELECT {} AS move, legal_entity_id, currency, 1 AS n, value FROM life WHERE {}"
    return f"""
CREATE OR REPLACE TEMP TABLE forward AS
WITH continued AS (
  SELECT
    b.legal_entity_id, b.currency, b.value, p.currency AS currency_before, p.value AS value_before,
    (b.currency IS DISTINCT FROM p.currency)::INT AS changed
  FROM life AS b JOIN prior AS p USING (id)
), moves AS (
  SELECT 'opening' AS move, legal_entity_id, currency, 1 AS n, value FROM prior
  UNION ALL SELECT change, legal_entity_id, currency, 1, value FROM life WHERE change <> 'continuing'
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
