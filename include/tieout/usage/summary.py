"""Aggregate usage events: each event once, corrections and voids applied, nothing silently left out.

The statements stand beside this module, in the order they run: `references`, `subscriptions`, `dedup`, `judged`,
`changes`, `effective_events` (or `plain_events`), `dated`, `parts`, `summary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import Entities
from tieout.lake.engine import engine
from tieout.lake.session import Session
from tieout.usage.inputs import Rows, bind
from tieout.usage.meters import Meters
from tieout.usage.parts import collect
from tieout.usage.statements import run, statements
from tieout.usage.zones import zone_days


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage summed up. `events = counted + repeated + changed + quarantined.num_rows`."""

    rows: pa.Table
    """Columns of `usage_summary`: one row per subscription, meter and period, at grain `day` and at grain `period`."""
    quarantined: pa.Table
    """Columns of `usage_quarantine`: events that could not be counted, with their reason."""
    conflicts: pa.Table
    """Columns of `usage_conflict`: every content of an event id that came with more than one."""
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
    meters: Meters | None = None,
    until: datetime | None = None,
    session: Session | None = None,
) -> Usage:
    """Sum usage events per subscription and meter, by day and by billing period.

    Arguments are Arrow tables or Parquet files with the canonical columns of `usage_event`, `subscription`,
    `subscription_item` and `product`. Days are days in the zone of the subscription, else of its legal entity; a
    billing period counts from the subscription's anchor by the interval of its metered price, before a later anchor
    from the subscription's start. How a meter is summed up `meters` says, else its prices, else it is added.

    An event counts once, by its source and event id; the first received delivery counts, and other content under the
    id is told in `conflicts`. A correction replaces the quantity of the event it names, a void removes it, both on the
    day the event happened. A level weighted by time holds until the next one, at most until `until` (not given: the end
    of the last day an event happened on) or the subscription's end. Events of an unknown subscription or meter, in
    another unit than the meter's, negative, or received before they happened, are returned apart.

    Of the canonical columns only ids, meter, quantity and instants are needed; an event without `kind` is usage, one
    without `received_at` was received when it happened. Raises DataError for a column that is needed and missing, for
    quantities in a float column, and if the counts do not add up.
    """
    if session is None:
        with engine() as own:
            return aggregate(events, subscriptions, subscription_items, products, entities=entities, meters=meters,
                             until=until, session=own)  # fmt: skip
    given = {"subscription": subscriptions, "subscription_item": subscription_items, "product": products}
    for name, data in given.items():
        bind(session, name, data, _NEEDED[name])
    bind(session, "usage_event", schema.table("usage_event").arrow.empty_table(), ())
    _bind_references(session, entities, meters or Meters())
    found = collect(session, events)
    session.bind("parts", found.files)
    _sum_up(session, until)
    rows = session.sql(
        f"SELECT {', '.join(schema.table('usage_summary').names)} FROM summed "
        "ORDER BY subscription_source_id, meter, grain, period_start"
    )
    return Usage(
        rows=rows.cast(schema.table("usage_summary").arrow),
        quarantined=_listed(session, "usage_quarantine", found.faulty, "SELECT * FROM listed", "source, event_id"),
        conflicts=_listed(session, "usage_conflict", found.conflicts, _CONFLICTS, "source, event_id, version_no"),
        events=found.events,
        counted=found.counted,
        repeated=found.repeated,
        changed=found.changed,
    )


_NEEDED = {
    "subscription": ("source_id",),
    "subscription_item": ("subscription_source_id",),
    "product": (),
}


def _bind_references(session: Session, entities: Entities, meters: Meters) -> None:
    zones = [{"id": e.id, "zone": e.zone} for e in entities.entities]
    session.bind("entity_zones", pa.Table.from_pylist(zones, pa.schema([("id", pa.string()), ("zone", pa.string())])))
    settings = [
        {"meter": name, "aggregation": m.aggregation, "percentile": m.percentile} for name, m in meters.meters.items()
    ]
    shape = pa.schema({"meter": pa.string(), "aggregation": pa.string(), "percentile": pa.decimal128(6, 3)})
    session.bind("configured_meters", pa.Table.from_pylist(settings, shape))
    run(session, "references")


def _sum_up(session: Session, until: datetime | None) -> None:
    """Make the view `summed` over `parts`."""
    points = session.rows("SELECT min(point_at), max(usage_day) FROM parts")
    first, day = points[0]
    if until is None:
        until = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1) if day else datetime.now(UTC)
    horizon = f"TIMESTAMPTZ '{until.astimezone(UTC).isoformat()}'"
    zones = [zone for (zone,) in session.rows("SELECT DISTINCT zone FROM subscriptions WHERE zone IS NOT NULL")]
    days = timedelta(days=2)
    begin = (first or until) - days
    session.bind("zone_days", zone_days(zones if first else [], begin.date(), (max(until, begin) + days).date()))
    for statement in statements("summary"):
        session.execute(statement.replace("$until", horizon))


def _listed(session: Session, table: str, files: Sequence[str | Path], query: str, order: str) -> pa.Table:
    shape = schema.table(table).arrow
    if not files:
        return shape.empty_table()
    session.bind("listed", files)
    return session.sql(f"{query} ORDER BY {order}").cast(shape)


_CONFLICTS = """
SELECT c.source, c.event_id, c.version_no, c.version_no = 1 AS counts, c.subscription_source_id, c.meter, c.quantity,
  c.unit, c.kind, c.corrects_event_id, c.value_key, c.occurred_at, c.received_at, c.deliveries, c.raw_ref,
  s.legal_entity_id, NULL AS amount, NULL AS currency
FROM listed AS c
LEFT JOIN subscription_list AS s ON s.source_id = c.subscription_source_id
"""
