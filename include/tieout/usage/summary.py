"""Aggregate usage events: each event once, corrections and voids applied, nothing silently left out.

The statements stand beside this module: `effective_events.sql` says what each event counts for, `summary.sql` sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import Entities
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.usage.inputs import Rows, bind

_SQL = Path(__file__).parent
_SENTENCES = {
    "unknown_subscription": "billing knows no subscription ' || subscription_source_id || '",
    "unknown_meter": "no product or price has a meter ' || meter || '",
    "unknown_unit": "unit holds ''' || coalesce(unit, '') || ''', which is not what ' || meter || ' is counted in",
    "negative": "quantity holds ' || quantity || ' where at least 0 is expected",
    "future": "the event happened at ' || occurred_at || ', after it was received at ' || received_at || '",
    "missing": "a ' || kind || ' must name the event it refers to",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage summed up. `events = counted + repeated + changed + quarantined.num_rows`."""

    rows: pa.Table
    """Columns of `usage_summary`: one row per subscription, meter and period, at grain `day` and at grain `period`."""
    quarantined: pa.Table
    """Columns of `usage_quarantine`: events that could not be counted, with their reason."""
    events: int
    counted: int
    """Events that are summed or voided."""
    repeated: int
    """Further deliveries of an event."""
    changed: int
    """Corrections and voids, whose effect is in the event they refer to."""


def aggregate(
    events: Rows,
    subscriptions: Rows,
    subscription_items: Rows,
    products: Rows,
    *,
    entities: Entities,
    session: Engine | None = None,
) -> Usage:
    """Sum usage events per subscription and meter, by day and by billing period.

    Arguments are Arrow tables or Parquet files with the canonical columns of `usage_event`, `subscription`,
    `subscription_item` and `product`. Days are days in the zone of the subscription's legal entity; a billing period
    counts from the subscription's anchor by the interval of its metered price. An event counts once, by its source
    and event id; the first received delivery counts. A correction replaces the quantity of the event it names, a void
    removes it, both on the day the event happened. Events of an unknown subscription or meter, in another unit than
    the meter's, negative, or received before they happened, are returned apart. Of the canonical columns only ids,
    meter, quantity and instants are needed; an event without `kind` is usage, one without `received_at` was received
    when it happened. Raises DataError for a column that is needed and missing, for quantities in a float column, and
    if the counts do not add up.
    """
    if session is None:
        with engine() as own:
            return aggregate(events, subscriptions, subscription_items, products, entities=entities, session=own)
    given = {"usage_event": events, "subscription": subscriptions, "subscription_item": subscription_items,
             "product": products}  # fmt: skip
    for name, data in given.items():
        bind(session, name, data, _NEEDED[name])
    zones = [{"id": e.id, "zone": e.zone} for e in entities.entities]
    session.bind("legal_entities", pa.Table.from_pylist(zones, pa.schema([("id", pa.string()), ("zone", pa.string())])))
    session.execute(_REFERENCES)
    session.execute((_SQL / "effective_events.sql").read_text(encoding="utf-8"))
    rows = session.sql((_SQL / "summary.sql").read_text(encoding="utf-8")).cast(schema.table("usage_summary").arrow)
    return _checked(rows, session)


_NEEDED = {
    "usage_event": ("event_id", "subscription_source_id", "meter", "quantity", "occurred_at"),
    "subscription": ("source_id",),
    "subscription_item": ("subscription_source_id",),
    "product": (),
}


_REFERENCES = """
CREATE OR REPLACE TEMP VIEW events AS
  SELECT * REPLACE (
    coalesce(source, '') AS source, coalesce(source_id, event_id) AS source_id, coalesce(raw_ref, '') AS raw_ref,
    coalesce(kind, 'usage') AS kind, coalesce(received_at, occurred_at) AS received_at
  )
  FROM given_usage_event;
CREATE OR REPLACE TEMP TABLE subscriptions AS
  SELECT s.source_id, s.legal_entity_id, s.customer_id,
    coalesce(s.billing_anchor, s.start_date, s.accounting_date) AS anchor,
    coalesce(i.metered, i.months, 1) AS months
  FROM given_subscription s
  LEFT JOIN (
    SELECT source, subscription_source_id, max(interval_months) AS months,
      max(interval_months) FILTER (usage_type = 'metered') AS metered
    FROM given_subscription_item GROUP BY ALL
  ) i ON i.source IS NOT DISTINCT FROM s.source AND i.subscription_source_id = s.source_id
  -- an id that two accounts use would make the event's owner a guess
  QUALIFY count(*) OVER (PARTITION BY s.source_id) = 1;
CREATE OR REPLACE TEMP TABLE meters AS
  SELECT meter, CASE WHEN count(DISTINCT unit) = 1 THEN max(unit) END AS unit
  FROM (
    SELECT meter, unit FROM given_product WHERE meter IS NOT NULL
    UNION ALL SELECT meter, NULL FROM given_subscription_item WHERE meter IS NOT NULL
  )
  GROUP BY meter
"""


def _checked(rows: pa.Table, session: Engine) -> Usage:
    """The result with its counts, after proving that no event was lost or counted twice."""
    cases = " ".join(f"WHEN '{code}' THEN '{words}'" for code, words in _SENTENCES.items())
    quarantined = session.sql(
        f"""
        SELECT source, source_id, event_id, raw_ref, subscription_source_id, meter, quantity, legal_entity_id,
          reason_code, CASE reason_code {cases} END AS reason
        FROM judged WHERE reason_code IS NOT NULL ORDER BY source, event_id
        """
    ).cast(schema.table("usage_quarantine").arrow)
    counts: Mapping[str, int] = {
        name: session.scalar(query)
        for name, query in {
            "events": "SELECT count(*) FROM events",
            "judged": "SELECT count(*) FROM judged",
            "counted": "SELECT count(*) FROM judged WHERE reason_code IS NULL AND kind = 'usage'",
            "changes": "SELECT count(*) FROM judged WHERE reason_code IS NULL AND kind <> 'usage'",
            "summed": "SELECT coalesce(sum(quantity), 0) FROM effective",
        }.items()
    }
    whole = counts["counted"] + counts["changes"] + quarantined.num_rows
    if counts["judged"] != whole:
        raise DataError("usage events in are not events out", expected=counts["judged"], got=whole)
    session.bind("summed", rows)
    for grain in ("day", "period"):
        total = session.scalar(f"SELECT coalesce(sum(quantity), 0) FROM summed WHERE grain = '{grain}'")
        if total != counts["summed"]:
            raise DataError("sums do not add up to their events", record=grain, expected=counts["summed"], got=total)
    return Usage(
        rows=rows,
        quarantined=quarantined,
        events=counts["events"],
        counted=counts["counted"],
        repeated=counts["events"] - counts["judged"],
        changed=counts["changes"],
    )
