"""The usage step of a run: aggregate the published events, here or on a cluster, and publish the summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tieout.entities import load_entities
from tieout.lake.engine import engine
from tieout.lake.session import Session
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.usage.handed import Request
from tieout.usage.meters import Meters
from tieout.usage.summary import Usage, aggregate

_INPUTS = ("usage_event", "subscription", "subscription_item", "product")


def publish_summary(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> dict[str, int]:
    """Aggregate all published usage events and publish `usage_summary` and `usage_quarantine`; returns the counts."""
    snapshot = store.published()
    files = _files(lake, snapshot)
    with _session(settings, _events(lake, snapshot)) as session:
        usage = aggregate(
            *(files[name] for name in _INPUTS),
            entities=load_entities(settings.config_file("entities.yaml")),
            session=session,
        )
    return _publish(usage, lake, store, run_id)


def hand_over(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> str | None:
    """Write the request for spark-submit and return its URI; None where the events are few enough for this machine."""
    snapshot = store.published()
    if settings.engine_for(_events(lake, snapshot)) != "spark":
        return None
    files = _files(lake, snapshot)
    request = Request(
        events=files["usage_event"],
        subscriptions=files["subscription"],
        subscription_items=files["subscription_item"],
        products=files["product"],
        entities=load_entities(settings.config_file("entities.yaml")),
        meters=Meters(),
        folder=f"{settings.spark_work}/{run_id}",
    )
    request.forget()  # what an earlier try of this run left must not be taken for the answer
    return request.write()


def publish_answer(uri: str, *, lake: Lake, store: Store, run_id: str) -> dict[str, int]:
    """Publish what the cluster answered to a request; returns the counts. Raises DataError if there is no answer."""
    request = Request.read(uri)
    counts = _publish(request.answered(), lake, store, run_id)
    request.forget()
    return counts


@contextmanager
def _session(settings: Settings, events: int) -> Iterator[Session]:
    if settings.engine_for(events) == "spark" and settings.spark_master:
        from tieout.lake.spark import spark

        with spark(settings.spark_master, settings.spark_work, name="tieout usage") as cluster:
            yield cluster
    else:
        with engine(settings) as local:
            yield local


def _files(lake: Lake, snapshot: dict[str, int]) -> dict[str, list[str]]:
    return {name: lake.files(name, snapshot[name]) if name in snapshot else [] for name in _INPUTS}


def _events(lake: Lake, snapshot: dict[str, int]) -> int:
    return lake.row_count("usage_event", snapshot["usage_event"]) if "usage_event" in snapshot else 0


def _publish(usage: Usage, lake: Lake, store: Store, run_id: str) -> dict[str, int]:
    versions = {
        "usage_summary": lake.write("usage_summary", usage.rows),
        "usage_quarantine": lake.write("usage_quarantine", usage.quarantined),
    }
    store.publish(run_id, versions, {"step": "usage"})
    return {
        "events": usage.events,
        "counted": usage.counted,
        "repeated": usage.repeated,
        "changed": usage.changed,
        "quarantined": usage.quarantined.num_rows,
        "rows": usage.rows.num_rows,
    }
