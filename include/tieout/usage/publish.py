"""The usage step of a run: aggregate the published events and publish the summary."""

from __future__ import annotations

from tieout.entities import load_entities
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.usage.summary import aggregate

_INPUTS = ("usage_event", "subscription", "subscription_item", "product")


def publish_summary(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> dict[str, int]:
    """Aggregate all published usage events and publish `usage_summary` and `usage_quarantine`; returns the counts."""
    snapshot = store.published()
    files = {name: lake.files(name, snapshot[name]) if name in snapshot else [] for name in _INPUTS}
    with engine(settings) as session:
        usage = aggregate(
            *(files[name] for name in _INPUTS),
            entities=load_entities(settings.config_file("entities.yaml")),
            session=session,
        )
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
