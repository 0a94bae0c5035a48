"""The usage step of a run: aggregate the published events, here or on a cluster, and publish what came of them.

Only the aggregation goes to a cluster; what it comes to in money is asked of its results, here. What came late, and
what other contents of an event would move, is priced by rating the billing period with and without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from tieout.usage.rate_published import ALWAYS, published_book
from tieout.usage.statements import run, run_marks
from tieout.usage.summary import Usage, aggregate, bind_references
from tieout.usage.worth import rate_cases
from tieout.usage.zones import known_zones

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
        return _publish(usage, session, lake, store, settings, run_id, snapshot)


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
        counts = _publish(request.answered(), session, lake, store, settings, run_id, request.snapshot)
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
    """A session of this machine that knows what was billed."""
    with engine(settings) as session:
        lake.bind(session, snapshot, ("invoice", "invoice_line"))
        run(session, "publish")
        yield session


def _publish(
    usage: Usage,
    session: Engine,
    lake: Lake,
    store: Store,
    settings: Settings,
    run_id: str,
    snapshot: Mapping[str, int],
) -> dict[str, int]:
    meters = load_meters(settings.config_file("meters.yaml"))
    for name, rows in (("usage_summary", usage.rows), ("usage_conflict", usage.conflicts)):
        session.bind(f"made_{name}", rows, schema.table(name).arrow)
    book = published_book(lake, snapshot, settings, session).rows
    subscriptions = lake.files("subscription", snapshot["subscription"]) if "subscription" in snapshot else []
    watermark = _table(session, "usage_watermark", _WATERMARK, {"hours": meters.late_after_hours})
    rate_cases(session, _LATE_CASES, book, ALWAYS, subscriptions=subscriptions)
    late_usage = _table(session, "usage_late", _LATE)
    conflicts = usage.conflicts
    if session.scalar("SELECT count(*) FROM made_usage_conflict"):
        _place_conflicts(session, _files(lake, snapshot), settings, meters)
        rate_cases(session, "SELECT * FROM conflict_case", book, ALWAYS, subscriptions=subscriptions)
        conflicts = _table(session, "usage_conflict", _CONFLICTS)
    tables: dict[str, pa.Table | list[str]] = {
        "usage_summary": usage.rows,
        "usage_quarantine": usage.quarantined,
        "usage_conflict": conflicts,
        "usage_late": late_usage,
        "usage_watermark": watermark,
    }
    versions = {name: lake.write(name, _writable(name, rows)) for name, rows in tables.items()}
    late, conflicting, rows = (
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
        "conflicts": conflicting,
        "late": late,
        "rows": rows,
    }


def _place_conflicts(session: Engine, files: Sequence[Rows], settings: Settings, meters: Meters) -> None:
    """Make the table `conflict_case`: the periods that other contents of events would change, for `rate_cases`."""
    _, subscriptions, items, products, former_prices = files
    entities = load_entities(settings.config_file("entities.yaml"))
    bind_references(session, subscriptions, items, products, former_prices, None, entities, meters)
    zones = session.rows("SELECT DISTINCT zone FROM subscription_list")
    session.bind("content_zones", known_zones(zone for (zone,) in zones))
    for name in ("conflicts", "periods", "conflict_cases"):
        run(session, name)


def _writable(name: str, rows: pa.Table | list[str]) -> pa.Table | list[Path]:
    """What the lake writes: a table, or files; no files are an empty table."""
    if isinstance(rows, pa.Table):
        return rows
    return [Path(f) for f in rows] or schema.table(name).arrow.empty_table()


def _table(session: Engine, name: str, query: str, params: dict[str, int] | None = None) -> pa.Table:
    return session.sql(query, params).cast(schema.table(name).arrow)


_CONFLICTS = """
WITH moved AS (
  SELECT c.source, c.event_id, c.version_no,
    CASE WHEN count(*) = count(w.amount) AND count(DISTINCT w.currency) <= 1 THEN max(abs(w.amount)) END AS amount,
    CASE WHEN count(DISTINCT w.currency) <= 1 THEN min(w.currency) END AS currency
  FROM conflict_case AS c JOIN case_worth AS w USING (case_no)
  GROUP BY ALL
)
SELECT c.* REPLACE (m.amount AS amount, m.currency AS currency)
FROM made_usage_conflict AS c
LEFT JOIN moved AS m ON m.source = c.source AND m.event_id = c.event_id AND m.version_no = c.version_no
ORDER BY c.source, c.event_id, c.version_no
"""
_LATE_CASES = """
SELECT row_number() OVER (ORDER BY subscription_source_id, meter, period_start) AS case_no,
  subscription_source_id, meter, period_start, period_end, quantity, quantity_in_time AS other_quantity
FROM made_usage_summary
WHERE grain = 'period' AND quantity <> quantity_in_time
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
  u.late_count, w.amount, w.currency, u.correlation_id
FROM rated_case AS c
JOIN case_worth AS w USING (case_no)
JOIN made_usage_summary AS u
  ON u.grain = 'period' AND u.subscription_source_id = c.subscription_source_id AND u.meter = c.meter
  AND u.period_start = c.period_start
LEFT JOIN billed AS b
  ON b.subscription_source_id = u.subscription_source_id AND b.meter = u.meter AND b.period_start = u.period_start
ORDER BY u.subscription_source_id, u.meter, u.period_start
"""
_WATERMARK = """
SELECT source, max(last_occurred_at) AS last_occurred_at, max(last_received_at) AS last_received_at,
  max(last_received_at) - to_hours(CAST($hours AS INTEGER)) AS complete_until,
  CAST(sum(deliveries) AS BIGINT) AS deliveries, CAST(sum(late_deliveries) AS BIGINT) AS late_deliveries,
  max(longest_delay_seconds) AS longest_delay_seconds
FROM marks GROUP BY source ORDER BY source
"""
