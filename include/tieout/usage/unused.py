"""Billing periods that nothing was used in and that cost something all the same: a flat fee, a minimum."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout.entities import Entities
from tieout.lake.engine import Engine
from tieout.usage.inputs import Rows
from tieout.usage.meters import Meters
from tieout.usage.statements import run, statements
from tieout.usage.summary import bind_references


def unused_periods(
    usage: list[str],
    prices: pa.Table,
    subscriptions: Rows,
    subscription_items: Rows,
    *,
    former_prices: Rows | None = None,
    entities: Entities,
    until: date,
    out: Path,
    session: Engine,
) -> Path:
    """Write the billing periods without usage that a price charges for, as rows of `usage_summary` of quantity 0.

    `usage` are files of `usage_summary`; a subscription, meter and period that has a row there has usage, were it 0.
    `prices` has the columns of `price_book`. A period counts if it ended by `until` (not later than that day in the
    morning), the subscription ran on one of its days with a metered price, past its trial, and a price in force on its
    last day (prorated: on any) charges a flat amount or a minimum without usage. Periods are those of `aggregate`.
    Returns the Parquet file `out`.
    """
    bind_references(session, subscriptions, subscription_items, [], former_prices, None, entities, Meters())
    session.bind("unused_book", prices)
    for statement in statements("unused"):
        session.execute(statement, {"until": until} if "$until" in statement else None)
    run(session, "periods")
    session.bind("known_usage", usage, _SUMMARY)
    return session.copy(_UNUSED, out, {"until": until})


_SUMMARY = pa.schema(
    {"subscription_source_id": pa.string(), "meter": pa.string(), "grain": pa.string(), "period_start": pa.date32()}
)
_UNUSED = """
WITH period AS (
  SELECT DISTINCT
    m.subscription_source_id, m.meter, d.period_start, d.period_end, s.legal_entity_id, s.customer_id, s.currency
  FROM metered AS m
  JOIN subscription_days AS d ON d.subscription_source_id = m.subscription_source_id AND d.meter = m.meter
  JOIN subscriptions AS s ON s.source_id = m.subscription_source_id
  WHERE d.period_start < m.after_day AND d.period_end > m.first_day AND d.period_end <= $until
    AND (s.trial_end IS NULL OR d.period_start >= s.trial_end)
), idle AS (
  SELECT * FROM period
  ANTI JOIN (FROM known_usage WHERE grain = 'period') AS u USING (subscription_source_id, meter, period_start)
), offered AS (
  SELECT
    i.*, p.charges, p.subscription_source_id IS NOT NULL AS own,
    bool_or(p.subscription_source_id IS NOT NULL) OVER (
      PARTITION BY i.subscription_source_id, i.meter, i.period_start) AS has_own
  FROM idle AS i
  JOIN book_price AS p
    ON p.meter = i.meter AND coalesce(p.subscription_source_id, i.subscription_source_id) = i.subscription_source_id
    AND (p.subscription_source_id IS NOT NULL OR i.currency IS NULL OR i.currency = p.currency)
    AND p.first_day < i.period_end AND CASE WHEN p.prorated THEN p.after_day > i.period_start
      ELSE p.after_day >= i.period_end END
)
SELECT DISTINCT
  subscription_source_id, meter, 'period' AS grain, period_start, period_end, legal_entity_id, customer_id,
  CAST(0 AS DECIMAL(28, 9)) AS quantity
FROM offered
WHERE charges AND own = has_own
"""
