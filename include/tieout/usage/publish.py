"""The usage step of a run: aggregate the published events, here or on a cluster, and publish what came of them.

Only the aggregation goes to a cluster; what it comes to in money is asked of its results, here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from tieout import schema
from tieout.entities import load_entities
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.usage.handed import Request
from tieout.usage.incremental import References, UsageState
from tieout.usage.inputs import Rows, bind
from tieout.usage.meters import Meters, load_meters
from tieout.usage.parts import NEEDED, TOGETHER
from tieout.usage.statements import run, run_marks
from tieout.usage.summary import Usage, aggregate

_INPUTS = ("usage_event", "subscription", "subscription_item", "product", "former_price")


def publish_summary(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> dict[str, int]:
    """Aggregate all published usage events and publish the tables of usage together; returns the counts.

    Of many events only the days are read that are others than what was summed up last (`UsageState`). The tables are
    `usage_summary`, `usage_quarantine`, `usage_conflict` (what the other contents of an event would move, in money),
    `usage_late` (what came too late for its billing period) and `usage_watermark` (how far each source has come).
    """
    snapshot = store.published()
    files = _files(lake, snapshot)
    with _local(lake, snapshot, settings) as session:
        given: dict[str, Any] = {
            "entities": load_entities(settings.config_file("entities.yaml")),
            "meters": load_meters(settings.config_file("meters.yaml")),
            "former_prices": files[4],
            "billed": session.sql("SELECT * EXCLUDE (billed_quantity) FROM billed"),
        }
        until = _business_date(store, run_id)
        if settings.spark_master and settings.engine_for(_events(lake, snapshot)) == "spark":
            from tieout.lake.spark import spark

            with spark(settings.spark_master, settings.spark_work, name="tieout usage") as cluster:
                usage = aggregate(*files[:4], **given, until=until, session=cluster)
            _mark(session, files[0], given["meters"])
        elif days := _days(lake, snapshot):
            references = References(files[1], files[2], files[3], **given)
            update = UsageState(settings.usage_state).update(
                days, references, until=until, out=session.scratch / "usage", session=session
            )
            usage = update.usage
            session.bind("marks", update.marks)
        else:
            usage = aggregate(*files[:4], **given, until=until, out=session.scratch / "usage", session=session)
            _mark(session, files[0], given["meters"])
        return _publish(usage, session, lake, store, settings, run_id)


def hand_over(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> str | None:
    """Write the request for spark-submit and return its URI; None where the events are few enough for this machine."""
    snapshot = store.published()
    if settings.engine_for(_events(lake, snapshot)) != "spark":
        return None
    events, subscriptions, items, products, former_prices = _files(lake, snapshot)
    request = Request(
        events=events,
        subscriptions=subscriptions,
        subscription_items=items,
        products=products,
        former_prices=former_prices,
        entities=load_entities(settings.config_file("entities.yaml")),
        meters=load_meters(settings.config_file("meters.yaml")),
        snapshot=dict(snapshot),
        until=_business_date(store, run_id),
        folder=f"{settings.spark_work}/{run_id}",
    )
    request.forget()  # what an earlier try of this run left must not be taken for the answer
    with _local(lake, snapshot, settings) as session:
        return request.write(session.sql("SELECT * EXCLUDE (billed_quantity) FROM billed"))


def publish_answer(uri: str, *, lake: Lake, store: Store, settings: Settings, run_id: str) -> dict[str, int]:
    """Publish what the cluster answered to a request; returns the counts. Raises DataError if there is no answer."""
    request = Request.read(uri)
    with _local(lake, request.snapshot, settings) as session:
        _mark(session, request.events, request.meters)
        counts = _publish(request.answered(), session, lake, store, settings, run_id)
    request.forget()
    return counts


def _files(lake: Lake, snapshot: Mapping[str, int]) -> list[list[str]]:
    return [lake.files(name, snapshot[name]) if name in snapshot else [] for name in _INPUTS]


def _business_date(store: Store, run_id: str) -> date | None:
    """The day whose end levels weighted by time are counted up to; None: the last day with events."""
    run = store.run(run_id)
    return run.business_date if run else None


def _events(lake: Lake, snapshot: Mapping[str, int]) -> int:
    return lake.row_count("usage_event", snapshot["usage_event"]) if "usage_event" in snapshot else 0


def _days(lake: Lake, snapshot: Mapping[str, int]) -> dict[str, list[str]]:
    """The files of the events by event day; none where they are few, or not all kept by day: then all are read."""
    if _events(lake, snapshot) <= TOGETHER:
        return {}
    days = lake.parts("usage_event", snapshot["usage_event"]) or {}
    return {} if None in days else {day: files for day, files in days.items() if day is not None}


def _mark(session: Engine, events: Rows, meters: Meters) -> None:
    """Make the view `marks` of all these events."""
    bind(session, "usage_event", events, NEEDED)
    run_marks(session, meters.late_after_hours)


@contextmanager
def _local(lake: Lake, snapshot: Mapping[str, int], settings: Settings) -> Iterator[Engine]:
    """A session of this machine that knows what was billed and what a unit costs."""
    with engine(settings) as session:
        lake.bind(session, snapshot, ("invoice", "invoice_line", "subscription_item"))
        run(session, "publish")
        yield session


def _publish(
    usage: Usage, session: Engine, lake: Lake, store: Store, settings: Settings, run_id: str
) -> dict[str, int]:
    hours = load_meters(settings.config_file("meters.yaml")).late_after_hours
    for name, rows in (("usage_summary", usage.rows), ("usage_conflict", usage.conflicts)):
        session.bind(f"made_{name}", rows, schema.table(name).arrow)
    tables: dict[str, pa.Table | list[str]] = {
        "usage_summary": usage.rows,
        "usage_quarantine": usage.quarantined,
        "usage_conflict": _table(session, "usage_conflict", _CONFLICTS),
        "usage_late": _table(session, "usage_late", _LATE),
        "usage_watermark": _table(session, "usage_watermark", _WATERMARK, {"hours": hours}),
    }
    versions = {name: lake.write(name, _writable(name, rows)) for name, rows in tables.items()}
    late, conflicts, rows = (
        int(session.scalar(query))
        for query in (
            "SELECT coalesce(sum(late_count), 0) FROM made_usage_summary WHERE grain = 'period'",
            "SELECT count(DISTINCT (source, event_id)) FROM made_usage_conflict",
            "SELECT count(*) FROM made_usage_summary",
        )
    )
    store.publish(run_id, versions, {"step": "usage"})
    return {
        "events": usage.events,
        "counted": usage.counted,
        "repeated": usage.repeated,
        "changed": usage.changed,
        "quarantined": usage.faulty,
        "conflicts": conflicts,
        "late": late,
        "rows": rows,
    }


def _writable(name: str, rows: pa.Table | list[str]) -> pa.Table | list[Path]:
    """What the lake writes: a table, or files; no files are an empty table."""
    if isinstance(rows, pa.Table):
        return rows
    return [Path(f) for f in rows] or schema.table(name).arrow.empty_table()


def _table(session: Engine, name: str, query: str, params: dict[str, int] | None = None) -> pa.Table:
    return session.sql(query, params).cast(schema.table(name).arrow)


# two contents of one subscription, meter and day differ by what one has more; else either could be the wrong bill's
_CONFLICTS = """
SELECT c.* REPLACE (
  CASE
    WHEN p.currency IS DISTINCT FROM q.currency OR c.kind <> 'usage' OR f.kind <> 'usage' THEN NULL
    WHEN c.subscription_source_id = f.subscription_source_id AND c.meter = f.meter
        AND CAST(c.occurred_at AS DATE) = CAST(f.occurred_at AS DATE)
      THEN TRY_CAST(abs(TRY_CAST(c.quantity - f.quantity AS DECIMAL(20,9)) * TRY_CAST(p.unit_amount AS DECIMAL(18,12)))
        AS DECIMAL(18,4))
    ELSE TRY_CAST(greatest(
      TRY_CAST(c.quantity AS DECIMAL(20,9)) * TRY_CAST(p.unit_amount AS DECIMAL(18,12)),
      TRY_CAST(f.quantity AS DECIMAL(20,9)) * TRY_CAST(q.unit_amount AS DECIMAL(18,12))) AS DECIMAL(18,4))
  END AS amount,
  CASE WHEN p.currency = q.currency THEN p.currency END AS currency
)
FROM made_usage_conflict AS c
JOIN made_usage_conflict AS f ON f.source = c.source AND f.event_id = c.event_id AND f.version_no = 1
LEFT JOIN unit_price AS p ON p.subscription_source_id = c.subscription_source_id AND p.meter = c.meter
LEFT JOIN unit_price AS q ON q.subscription_source_id = f.subscription_source_id AND q.meter = f.meter
ORDER BY c.source, c.event_id, c.version_no
"""
_LATE = """
SELECT u.subscription_source_id, u.meter, u.period_start, u.period_end, u.legal_entity_id, u.customer_id,
  CASE
    WHEN b.billed_on IS NULL THEN 'before_billing'
    WHEN b.billed_quantity = u.quantity THEN 'billed'
    ELSE 'after_billing'
  END AS late_class,
  b.billed_on,
  u.quantity_in_time, u.quantity, CAST(u.quantity - u.quantity_in_time AS DECIMAL(28,9)) AS late_quantity, u.unit,
  u.late_count,
  TRY_CAST(TRY_CAST(u.quantity - u.quantity_in_time AS DECIMAL(20,9)) * TRY_CAST(p.unit_amount AS DECIMAL(18,12))
    AS DECIMAL(18,4)) AS amount,
  p.currency, u.correlation_id
FROM made_usage_summary AS u
LEFT JOIN billed AS b
  ON b.subscription_source_id = u.subscription_source_id AND b.meter = u.meter AND b.period_start = u.period_start
LEFT JOIN unit_price AS p ON p.subscription_source_id = u.subscription_source_id AND p.meter = u.meter
WHERE u.grain = 'period' AND u.quantity <> u.quantity_in_time
ORDER BY u.subscription_source_id, u.meter, u.period_start
"""
_WATERMARK = """
SELECT source, max(last_occurred_at) AS last_occurred_at, max(last_received_at) AS last_received_at,
  max(last_received_at) - to_hours(CAST($hours AS INTEGER)) AS complete_until,
  CAST(sum(deliveries) AS BIGINT) AS deliveries, CAST(sum(late_deliveries) AS BIGINT) AS late_deliveries,
  max(longest_delay_seconds) AS longest_delay_seconds
FROM marks GROUP BY source ORDER BY source
"""
