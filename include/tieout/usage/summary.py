"""Aggregate usage events: each event once, corrections and voids applied, nothing silently left out.

The statements stand beside this module, in the order they run: `held_prices`, `references`, `subscriptions`, `dedup`,
`judged`, `changes`, `effective_events` (or `plain_events`), `dated`, `parts`, `used_days`, `periods`, `summary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import Entities
from tieout.lake.engine import Engine, engine
from tieout.lake.session import Session
from tieout.usage.inputs import FORMER_NEEDED, Rows, bind
from tieout.usage.meters import Meters
from tieout.usage.parts import PARTS, collect
from tieout.usage.statements import run, statements
from tieout.usage.zones import zone_days, zone_ends


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage summed up. `events = counted + repeated + changed + quarantined`.

    `rows`, `quarantined` and `conflicts` are Arrow tables, or Parquet files where `aggregate` was given a folder.
    """

    rows: pa.Table | list[str]
    """Columns of `usage_summary`: one row per subscription, meter and period, at grain `day` and at grain `period`."""
    quarantined: pa.Table | list[str]
    """Columns of `usage_quarantine`: events that could not be counted, with their reason."""
    conflicts: pa.Table | list[str]
    """Columns of `usage_conflict`: every content of an event id that came with more than one."""
    events: int
    counted: int
    """Events that are summed or voided."""
    repeated: int
    """Further deliveries of an event."""
    changed: int
    """Corrections and voids, whose effect is in the event they refer to."""
    faulty: int
    """Events in `quarantined`."""


def aggregate(
    events: Rows,
    subscriptions: Rows,
    subscription_items: Rows,
    products: Rows,
    *,
    entities: Entities,
    meters: Meters | None = None,
    former_prices: Rows | None = None,
    billed: Rows | None = None,
    until: datetime | date | None = None,
    out: Path | None = None,
    session: Session | None = None,
) -> Usage:
    """Sum usage events per subscription and meter, by day and by billing period.

    Arguments are Arrow tables or Parquet files with the canonical columns of `usage_event`, `subscription`,
    `subscription_item` and `product`. Days are days in the zone of the subscription, else of its legal entity; a
    billing period counts from the subscription's anchor by the interval of the meter's price, before a later anchor
    from the subscription's start, and ends where the price gives way to one with another interval. How a meter is
    summed up `meters` says, else its prices, else it is added. `former_prices` (columns of `former_price`) are those
    that items had before.

    An event counts once, by its source and event id; the first received delivery counts, and other content under the
    id is told in `conflicts`. A correction replaces the quantity of the event it names, a void removes it, both on the
    day the event happened. A level weighted by time holds until the next one, at most until `until` (a date:
    that day's end in the subscription's zone; not given: the last day an event happened on) or the subscription's end.
    Events of an unknown subscription or meter, in
    another unit than the meter's, negative, or received before they happened, are returned apart.

    `quantity_in_time` leaves out what came on the period's last day or later, or, where `billed` (columns
    subscription_source_id, meter, period_start, billed_on) knows the day the period was billed, on that day or later.

    Of the canonical columns only ids, meter, quantity and instants are needed; an event without `kind` is usage, one
    without `received_at` was received when it happened. Events in files are read a slice at a time; with `out` the
    results are written there, a part of the subscriptions at a time, and any number of events fits the session's memory
    limit. Raises DataError for a column that is needed and missing, for quantities in a float column, and if the counts
    do not add up.
    """
    if session is None:
        with engine() as own:
            return aggregate(events, subscriptions, subscription_items, products, entities=entities, meters=meters,
                             former_prices=former_prices, billed=billed, until=until, out=out, session=own)  # fmt: skip
    bind_references(session, subscriptions, subscription_items, products, former_prices, billed, entities,
                    meters or Meters())  # fmt: skip
    found = collect(session, events)
    session.bind("all_parts", found.files, None if found.files else PARTS)
    rows = sum_up(session, until, out)
    return Usage(
        rows=rows,
        quarantined=listed(session, "usage_quarantine", found.faulty, "SELECT * FROM listed", out),
        conflicts=listed(session, "usage_conflict", found.conflicts, CONFLICTS, out),
        events=found.events,
        counted=found.counted,
        repeated=found.repeated,
        changed=found.changed,
        faulty=found.quarantined,
    )


_NEEDED = {
    "subscription": ("source_id",),
    "subscription_item": ("subscription_source_id",),
    "product": (),
}


def bind_references(
    session: Session,
    subscriptions: Rows,
    subscription_items: Rows,
    products: Rows,
    former_prices: Rows | None,
    billed: Rows | None,
    entities: Entities,
    meters: Meters,
) -> None:
    """Make the tables that events are judged and placed by: `subscription_list`, `meters`, `meter_intervals`,
    `billed_periods`."""
    given = {"subscription": subscriptions, "subscription_item": subscription_items, "product": products}
    for name, data in given.items():
        bind(session, name, data, _NEEDED[name])
    bind(session, "former_price", [] if former_prices is None else former_prices, FORMER_NEEDED)
    bind(session, "usage_event", schema.table("usage_event").arrow.empty_table(), ())
    session.bind("billed_periods", _BILLED.empty_table() if billed is None else billed, _BILLED)
    zones = [{"id": e.id, "zone": e.zone} for e in entities.entities]
    session.bind("entity_zones", pa.Table.from_pylist(zones, pa.schema([("id", pa.string()), ("zone", pa.string())])))
    settings = [
        {"meter": name, "aggregation": m.aggregation, "percentile": m.percentile} for name, m in meters.meters.items()
    ]
    shape = pa.schema({"meter": pa.string(), "aggregation": pa.string(), "percentile": pa.decimal128(6, 3)})
    session.bind("configured_meters", pa.Table.from_pylist(settings, shape))
    run(session, "held_prices")
    run(session, "references")


def sum_up(session: Session, until: datetime | date | None, out: Path | None) -> pa.Table | list[str]:
    """The rows of `usage_summary` that come of the view `all_parts`; files in `out`, where that is given."""
    parts, first, day = session.rows("SELECT count(*), min(point_at), max(usage_day) FROM all_parts")[0]
    until = until or day or date(1970, 1, 1)
    zones = [zone for (zone,) in session.rows("SELECT DISTINCT zone FROM subscription_list")]
    session.bind("zone_ends", zone_ends(zones, until))
    last = until.astimezone(UTC).date() if isinstance(until, datetime) else until
    begin, margin = min(first.date() if first else last, last), timedelta(days=2)
    session.bind("zone_days", zone_days(zones if first else [], begin - margin, last + margin))
    portions = max(1, -(-parts // PORTION_PARTS)) if out is not None else 1
    parted = session if portions > 1 and isinstance(session, Engine) else None
    if parted:
        _part_by_subscription(parted, portions)
    files: list[str] = []
    for n in range(portions):
        if parted:
            _take_portion(parted, n)
        else:
            some = "" if portions == 1 else f" WHERE hash(subscription_source_id) % {portions} = {n}"
            session.execute(f"CREATE OR REPLACE TEMP VIEW parts AS SELECT * FROM all_parts{some}")
        for statement in (s for name in ("used_days", "periods", "summary") for s in statements(name)):
            session.execute(statement)
        query = f"SELECT {', '.join(schema.table('usage_summary').names)} FROM summed"
        if out is None:
            key = ", ".join(schema.table("usage_summary").key)
            return session.sql(f"{query} ORDER BY {key}").cast(schema.table("usage_summary").arrow)
        files.append(str(session.copy(query, out / f"usage_summary-{n:04}.parquet")))
    if parted:
        parted.execute("DROP TABLE parts")
    return files


def _part_by_subscription(session: Engine, portions: int) -> None:
    """Write the parts once more, apart by subscription: else each portion would read all of them."""
    folder = session.scratch / "portions"
    session.execute("SET partitioned_write_flush_threshold = 65536")  # rows each thread holds back, of all portions
    session.execute(
        f"COPY (SELECT *, hash(subscription_source_id) % {portions} AS portion FROM all_parts) TO '{folder}'"
        " (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (portion), OVERWRITE)"
    )


def _take_portion(session: Engine, number: int) -> None:
    """Make `parts` one portion, as a table: the statements read it two dozen times."""
    session.execute("DROP TABLE IF EXISTS parts" if number else "DROP VIEW IF EXISTS parts")
    session.bind("portion", sorted((session.scratch / "portions" / f"portion={number}").glob("*.parquet")), PARTS)
    session.execute("CREATE TEMP TABLE parts AS SELECT * FROM portion")


PORTION_PARTS = 2_000_000
_BILLED = pa.schema(
    {
        "subscription_source_id": pa.string(),
        "meter": pa.string(),
        "period_start": pa.date32(),
        "billed_on": pa.date32(),
    }
)


def listed(
    session: Session, table: str, files: Sequence[str | Path], query: str, out: Path | None
) -> pa.Table | list[str]:
    """What a query gives of the view `listed` of these files: a table of that name, or a file of it."""
    if not files:
        return schema.table(table).arrow.empty_table() if out is None else []
    session.bind("listed", files)
    return list_rows(session, table, query, out)


def list_rows(session: Session, table: str, query: str, out: Path | None) -> pa.Table | list[str]:
    """The rows of a query as a table of that name, or as a file of it in the folder `out`."""
    if out is not None:
        return [str(session.copy(query, out / f"{table}.parquet"))]
    shape = schema.table(table)
    return session.sql(f"{query} ORDER BY {', '.join(shape.key)}").cast(shape.arrow)


CONFLICTS = """
SELECT c.source, c.event_id, c.version_no, c.version_no = 1 AS counts, c.subscription_source_id, c.meter, c.quantity,
  c.unit, c.kind, c.corrects_event_id, c.value_key, c.occurred_at, c.received_at, c.deliveries, c.raw_ref,
  s.legal_entity_id, CAST(NULL AS DECIMAL(18, 4)) AS amount, CAST(NULL AS VARCHAR) AS currency
FROM listed AS c
LEFT JOIN subscription_list AS s ON s.source_id = c.subscription_source_id
"""
