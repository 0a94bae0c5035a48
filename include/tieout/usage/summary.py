"""Aggregate usage events: each event once, corrections and voids applied, nothing silently left out.

The statements stand beside this module, in the order they run: `references`, `dedup`, `judged`, `changes`,
`effective_events`, `dated`, `parts`, `summary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import Entities
from tieout.errors import DataError
from tieout.lake.engine import engine
from tieout.lake.session import Session
from tieout.usage.inputs import Rows, bind
from tieout.usage.meters import Meters
from tieout.usage.zones import known_zones, zone_days

_SQL = Path(__file__).parent
_SENTENCES = {
    "unknown_subscription": "billing knows no subscription ' || subscription_source_id || '",
    "unknown_zone": "the zone of subscription ' || subscription_source_id || ' is none of the IANA database",
    "unknown_meter": "no product or price has a meter ' || meter || '",
    "unclear_aggregation": "prices of ' || meter || ' sum it up in more than one way: say which in meters.yaml",
    "unknown_unit": "unit holds ''' || coalesce(unit, '') || ''', which is not what ' || meter || ' is counted in",
    "negative": "quantity holds ' || quantity || ' where at least 0 is expected",
    "future": "the event happened at ' || strftime(occurred_at, '%Y-%m-%d %H:%M:%S') || ' UTC, after it was received at '"
    " || strftime(received_at, '%Y-%m-%d %H:%M:%S') || ' UTC",
    "missing": "a ' || kind || ' must name the event it refers to",
    "no_value": "an event of ' || meter || ' must carry the value that is counted once",
}


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
    given = {"usage_event": events, "subscription": subscriptions, "subscription_item": subscription_items,
             "product": products}  # fmt: skip
    for name, data in given.items():
        bind(session, name, data, _NEEDED[name])
    _bind_references(session, entities, meters or Meters())
    for name in ("dedup", "judged", "changes", "effective_events", "dated"):
        _run(session, name)
    parts = " UNION ALL ".join(statements("parts"))
    session.execute(f"CREATE OR REPLACE TEMP TABLE parts AS {parts}")
    _sum_up(session, until)
    rows = session.sql(
        f"SELECT {', '.join(schema.table('usage_summary').names)} FROM summed "
        "ORDER BY subscription_source_id, meter, grain, period_start"
    ).cast(schema.table("usage_summary").arrow)
    return _checked(rows, session)


_NEEDED = {
    "usage_event": ("event_id", "subscription_source_id", "meter", "quantity", "occurred_at"),
    "subscription": ("source_id",),
    "subscription_item": ("subscription_source_id",),
    "product": (),
}


def statements(name: str) -> list[str]:
    """The statements of one of the files beside this module."""
    return [s for s in (_SQL / f"{name}.sql").read_text(encoding="utf-8").split(";\n") if s.strip()]


def _run(session: Session, name: str) -> None:
    if name == "changes":
        first, hop, last = statements(name)
        session.execute(first)
        # each hop doubles the length of the chains followed: seven are enough for a hundred corrections of corrections
        for _ in range(7):
            if not session.scalar("SELECT max(open) FROM roots"):
                break
            session.execute(hop)
            session.execute("CREATE OR REPLACE TEMP TABLE roots AS SELECT * FROM hopped")
        session.execute(last)
        return
    for statement in statements(name):
        session.execute(statement)


def _bind_references(session: Session, entities: Entities, meters: Meters) -> None:
    zones = [{"id": e.id, "zone": e.zone} for e in entities.entities]
    session.bind("entity_zones", pa.Table.from_pylist(zones, pa.schema([("id", pa.string()), ("zone", pa.string())])))
    own = [zone for (zone,) in session.rows("SELECT DISTINCT zone FROM given_subscription WHERE zone IS NOT NULL")]
    session.bind("zones", known_zones([*own, *(e.zone for e in entities.entities), "UTC"]))
    settings = [
        {"meter": name, "aggregation": m.aggregation, "percentile": m.percentile} for name, m in meters.meters.items()
    ]
    shape = pa.schema({"meter": pa.string(), "aggregation": pa.string(), "percentile": pa.decimal128(6, 3)})
    session.bind("configured_meters", pa.Table.from_pylist(settings, shape))
    _run(session, "references")


def _sum_up(session: Session, until: datetime | None) -> None:
    """Make the view `summed` over `parts`."""
    points = session.rows("SELECT min(point_at), max(point_at), max(usage_day) FROM parts")
    first, last, day = points[0]
    if until is None:
        until = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1) if day else datetime.now(UTC)
    horizon = f"TIMESTAMPTZ '{until.astimezone(UTC).isoformat()}'"
    zones = [zone for (zone,) in session.rows("SELECT DISTINCT zone FROM subscriptions WHERE zone IS NOT NULL")]
    days = timedelta(days=2)
    begin = (first or until) - days
    session.bind("zone_days", zone_days(zones if first else [], begin.date(), (max(until, begin) + days).date()))
    for statement in statements("summary"):
        session.execute(statement.replace("$until", horizon))


def _quarantine(session: Session) -> pa.Table:
    cases = " ".join(f"WHEN '{code}' THEN '{words}'" for code, words in _SENTENCES.items())
    return session.sql(
        f"""
        SELECT source, source_id, event_id, raw_ref, subscription_source_id, meter, quantity, legal_entity_id,
          reason_code, CASE reason_code {cases} END AS reason
        FROM judged WHERE reason_code IS NOT NULL ORDER BY source, event_id
        """
    ).cast(schema.table("usage_quarantine").arrow)


def _checked(rows: pa.Table, session: Session) -> Usage:
    """The result with its counts, after proving that no event was lost or counted twice."""
    quarantined = _quarantine(session)
    counts: Mapping[str, int] = {
        name: session.scalar(query)
        for name, query in {
            "events": "SELECT count(*) FROM deliveries",
            "judged": "SELECT count(*) FROM judged",
            "counted": "SELECT count(*) FROM judged WHERE reason_code IS NULL AND kind = 'usage'",
            "changes": "SELECT count(*) FROM judged WHERE reason_code IS NULL AND kind <> 'usage'",
        }.items()
    }
    whole = counts["counted"] + counts["changes"] + quarantined.num_rows
    if counts["judged"] != whole:
        raise DataError("usage events in are not events out", expected=counts["judged"], got=whole)
    return Usage(
        rows=rows,
        quarantined=quarantined,
        conflicts=session.sql(_CONFLICTS).cast(schema.table("usage_conflict").arrow),
        events=counts["events"],
        counted=counts["counted"],
        repeated=counts["events"] - counts["judged"],
        changed=counts["changes"],
    )


_CONFLICTS = """
SELECT c.source, c.event_id, c.version_no, c.version_no = 1 AS counts, c.subscription_source_id, c.meter, c.quantity,
  c.unit, c.kind, c.corrects_event_id, c.value_key, c.occurred_at, c.received_at, c.deliveries, c.raw_ref,
  s.legal_entity_id, NULL AS amount, NULL AS currency
FROM conflicts AS c
LEFT JOIN subscriptions AS s ON s.source_id = c.subscription_source_id
ORDER BY c.source, c.event_id, c.version_no
"""
