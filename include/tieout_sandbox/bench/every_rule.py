"""Usage in which every rule of aggregation and of deduplication has something to do, made by the engine."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from tieout.entities import Entities, LegalEntity
from tieout.lake.engine import Engine
from tieout.usage.meters import Meter, Meters

ENTITIES = Entities(
    entities=tuple(
        LegalEntity(id=id, name=id, functional_currency=currency, zone=zone, country=id, go_live=date(2026, 3, 1))
        for id, currency, zone in (
            ("US", "USD", "America/Los_Angeles"),
            ("JP", "JPY", "Asia/Tokyo"),
            # midnight of 5 April 2026 comes twice there, and that of 6 September never
            ("CL", "CLP", "America/Santiago"),
        )
    )
)
METERS = Meters(
    meters={
        "calls": Meter(aggregation="sum"),
        "jobs": Meter(aggregation="count"),
        "peak": Meter(aggregation="max"),
        "stored": Meter(aggregation="last"),
        "people": Meter(aggregation="unique"),
        "seats": Meter(aggregation="time_weighted"),
        "bandwidth": Meter(aggregation="percentile", percentile=Decimal(95)),
    }
)
_NAMES = ", ".join(f"'{name}'" for name in (*METERS.meters, "unheard_of"))

# Every number comes from a hash of the row's own, so the same size gives the same rows.
_EVENTS = f"""
WITH numbered AS (
  SELECT range AS n, CAST(hash(range) >> 8 AS BIGINT) AS h, CAST(hash(range, 'when') >> 8 AS BIGINT) AS w,
    CAST(hash(range, 'what') >> 8 AS BIGINT) AS v
  FROM range($first, $after)
), plain AS (
  SELECT
    n, h, v, printf('e%011d', n) AS event_id,
    -- one in a thousand belongs to no subscription, one in five hundred to no meter
    CASE WHEN h % 1000 = 0 THEN 'sub_none' ELSE 'sub_' || h % $subscriptions END AS subscription_source_id,
    [{_NAMES}][CASE WHEN h % 500 = 1 THEN 8 ELSE 1 + h // 1000 % 7 END] AS meter,
    CAST(v % 1000000 AS DECIMAL(18, 0)) * 0.001 - CASE WHEN h % 700 = 2 THEN 2000 ELSE 0 END AS amount,
    'user_' || v % 50 AS value_key,
    -- 45 days from 10 March: clocks change in Los Angeles and in Santiago
    TIMESTAMPTZ '2026-03-10 00:00:00+00' + to_microseconds(w % 3888000000000) AS occurred_at,
    -- one in fifty is days late
    to_microseconds(v % 60000000 + CASE WHEN h % 50 = 3 THEN v % 864000000000 ELSE 0 END) AS delay,
    -- one in forty corrects an earlier event, perhaps a correction itself; one in eighty removes one
    CASE WHEN n > 100 AND h % 80 = 4 THEN 'void' WHEN n > 100 AND h % 40 = 5 THEN 'correction' ELSE 'usage' END AS kind
  FROM numbered
), sent AS (
  SELECT
    'drop' AS source, event_id, event_id AS source_id, subscription_source_id, meter,
    CASE WHEN h % 900 = 6 THEN 'crate' ELSE 'unit' END AS unit,
    CAST(amount AS DECIMAL(28, 9)) AS quantity, value_key, kind,
    -- an earlier event near by, of the same subscription or not; one in ten names none that exists
    CASE WHEN kind = 'usage' THEN NULL WHEN v % 10 = 0 THEN 'never_came' WHEN h % 333 = 7 THEN NULL
      ELSE printf('e%011d', n - 1 - v % 20) END AS corrects_event_id,
    occurred_at, occurred_at + delay - CASE WHEN h % 800 = 8 THEN INTERVAL 1 DAY ELSE INTERVAL 0 DAY END AS received_at,
    'page-' || n // 10000 AS raw_ref, h, v
  FROM plain
)
SELECT * EXCLUDE (h, v) FROM sent
UNION ALL
-- one in a hundred comes again, hours or days later, one in a thousand with another quantity
SELECT * EXCLUDE (h, v) REPLACE (
  received_at + to_microseconds(v % 300000000000) AS received_at, 'again-' || raw_ref AS raw_ref,
  CAST(CASE WHEN v % 10 = 1 THEN quantity + 1 ELSE quantity END AS DECIMAL(28, 9)) AS quantity)
FROM sent WHERE h % 100 = 9
"""


def generate(session: Engine, folder: Path, rows: int, *, parts: int = 6) -> dict[str, Any]:
    """Write events in `parts` files, one of an older shape, and what they belong to; the arguments of `aggregate`."""
    folder.mkdir(parents=True, exist_ok=True)
    subscriptions = max(20, rows // 500)
    files = []
    for part in range(parts):
        first, after = rows * part // parts, rows * (part + 1) // parts
        query = f"SELECT * {'EXCLUDE (raw_ref)' if part == 0 else ''} FROM ({_EVENTS})"
        params = {"first": first, "after": after, "subscriptions": subscriptions}
        files.append(session.copy(query, folder / f"events-{part}.parquet", params))
    references = {
        "subscriptions": f"""
          SELECT 'sub_' || range AS source_id, 'stripe' AS source, ['US', 'JP', 'CL'][1 + range % 3] AS legal_entity_id,
            'crm:' || range // 2 AS customer_id, DATE '2026-01-01' + CAST(range % 31 AS INTEGER) AS billing_anchor,
            DATE '2025-12-15' AS start_date, CASE WHEN range % 10 = 0 THEN 'Australia/Lord_Howe' END AS zone,
            CASE WHEN range % 7 = 0 THEN TIMESTAMPTZ '2026-04-05 03:30:00+00' END AS ended_at
          FROM range({subscriptions})""",
        "subscription_items": f"""
          SELECT 'sub_' || range AS subscription_source_id, 'stripe' AS source, 'metered' AS usage_type,
            CAST(1 + range % 2 * 2 AS BIGINT) AS interval_months, NULL AS interval_days, NULL AS meter,
            CAST(NULL AS DATE) AS accounting_date
          FROM range({subscriptions})
          UNION ALL
          -- prices of days, of weeks, and one that gives way to another in the middle of what is summed up
          SELECT 'sub_' || range, 'stripe', 'metered', CASE WHEN n = 3 THEN 12 END, [1, 7, NULL, 14][n],
            ['calls', 'seats', 'peak', 'peak'][n], CASE WHEN n < 4 THEN DATE '2026-01-01' ELSE DATE '2026-04-01' END
          FROM range({subscriptions}), (VALUES (1), (2), (3), (4)) AS given(n)
          WHERE range % 3 = 0""",
        "products": "SELECT unnest(['" + "', '".join(METERS.meters) + "']) AS meter, 'unit' AS unit",
    }
    return {
        "events": [str(f) for f in files],
        **{name: str(session.copy(query, folder / f"{name}.parquet")) for name, query in references.items()},
        "entities": ENTITIES,
        "meters": METERS,
    }
