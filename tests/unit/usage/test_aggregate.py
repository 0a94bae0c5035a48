"""Usage: each event once, corrections and voids where the event happened, billing periods counted from the anchor."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout import schema
from tieout.entities import Entities, LegalEntity
from tieout.errors import DataError
from tieout.lake.hashing import result_hash
from tieout.usage import Usage, aggregate

ENTITIES = Entities(
    entities=(
        LegalEntity(id="US", name="US", functional_currency="USD", zone="America/Los_Angeles", country="US",
                    go_live=date(2026, 3, 29)),
        LegalEntity(id="JP", name="JP", functional_currency="JPY", zone="Asia/Tokyo", country="JP",
                    go_live=date(2026, 3, 29)),
    )
)  # fmt: skip
NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
COMMON = {"source_version": "1", "correlation_id": "c", "raw_ref": "r", "is_deleted": False}


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = schema.table(name).arrow
    return pa.Table.from_pylist([{f.name: (COMMON | r).get(f.name) for f in shape} for r in rows], schema=shape)


def event(id: str, quantity: str | int = 10, **changes: Any) -> dict[str, Any]:
    at = changes.get("occurred_at", NOON)
    return {
        "id": id, "source": "drop", "source_id": id, "event_id": id, "subscription_source_id": "sub_1", "meter": "api",
        "unit": "call", "quantity": Decimal(quantity), "occurred_at": at, "received_at": at + timedelta(hours=1),
        "kind": "usage", "usage_date": date(2026, 3, 15),
    } | changes  # fmt: skip


def subscription(id: str = "sub_1", anchor: date = date(2026, 1, 10), entity: str = "US") -> dict[str, Any]:
    return {"id": id, "source": f"stripe_{entity}", "source_id": id, "legal_entity_id": entity, "customer_id": "crm:1",
            "billing_anchor": anchor}  # fmt: skip


def item(months: int = 1, sub: str = "sub_1", entity: str = "US") -> dict[str, Any]:
    return {"id": f"si_{sub}", "source": f"stripe_{entity}", "source_id": f"si_{sub}", "subscription_source_id": sub,
            "usage_type": "metered", "interval_months": months, "meter": "api"}  # fmt: skip


def run(*events: dict[str, Any], anchor: date = date(2026, 1, 10), months: int = 1, entity: str = "US") -> Usage:
    return aggregate(
        table("usage_event", *events),
        table("subscription", subscription(anchor=anchor, entity=entity)),
        table("subscription_item", item(months, entity=entity)),
        table("product", {"id": "p", "source": "crm", "source_id": "p", "meter": "api", "unit": "call"}),
        entities=ENTITIES,
    )


def periods(usage: Usage) -> list[tuple[date, date, Decimal]]:
    rows = [r for r in usage.rows.to_pylist() if r["grain"] == "period"]
    return [(r["period_start"], r["period_end"], r["quantity"]) for r in rows]


def test_events_are_summed_by_day_and_by_billing_period() -> None:
    usage = run(event("e1", 10), event("e2", "2.5"), event("e3", 4, occurred_at=NOON - timedelta(days=10)))
    assert periods(usage) == [
        (date(2026, 2, 10), date(2026, 3, 10), Decimal(4)),
        (date(2026, 3, 10), date(2026, 4, 10), Decimal("12.5")),
    ]
    days = [(r["period_start"], r["quantity"], r["event_count"]) for r in usage.rows.to_pylist() if r["grain"] == "day"]
    assert days == [(date(2026, 3, 5), Decimal(4), 1), (date(2026, 3, 15), Decimal("12.5"), 2)]


def test_a_repeated_delivery_counts_once_and_the_first_received_counts() -> None:
    again = event("e1", 99, received_at=NOON + timedelta(days=2))
    usage = run(again, event("e1", 10))
    assert periods(usage)[0][2] == Decimal(10)
    assert (usage.events, usage.counted, usage.repeated) == (2, 1, 1)


def test_a_correction_replaces_and_a_void_removes_on_the_day_of_the_event() -> None:
    later = NOON + timedelta(days=40)
    usage = run(
        event("e1", 10),
        event("e2", 20),
        event("c1", 7, kind="correction", corrects_event_id="e1", occurred_at=later),
        event("v1", 0, kind="void", corrects_event_id="e2", occurred_at=later),
    )
    assert periods(usage) == [(date(2026, 3, 10), date(2026, 4, 10), Decimal(7))]
    row = usage.rows.to_pylist()[0]
    assert (row["event_count"], row["corrected_count"], usage.changed) == (1, 2, 2)


def test_the_last_change_of_a_chain_counts() -> None:
    usage = run(
        event("e1", 10),
        event("c1", 7, kind="correction", corrects_event_id="e1", received_at=NOON + timedelta(hours=2)),
        event("c2", 8, kind="correction", corrects_event_id="c1", received_at=NOON + timedelta(hours=3)),
        event("c0", 1, kind="correction", corrects_event_id="e1", received_at=NOON + timedelta(hours=1)),
    )
    assert periods(usage)[0][2] == Decimal(8)


def test_a_correction_whose_event_never_came_stands_in_for_it() -> None:
    assert periods(run(event("c1", 7, kind="correction", corrects_event_id="lost")))[0][2] == Decimal(7)
    assert run(event("v1", 0, kind="void", corrects_event_id="lost")).rows.num_rows == 0


@pytest.mark.parametrize(
    ("anchor", "months", "day", "start", "end"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 27), date(2026, 1, 31), date(2026, 2, 28)),
        (date(2026, 1, 31), 1, date(2026, 2, 28), date(2026, 2, 28), date(2026, 3, 31)),
        (date(2026, 1, 31), 1, date(2026, 3, 31), date(2026, 3, 31), date(2026, 4, 30)),
        (date(2025, 11, 30), 3, date(2026, 2, 28), date(2026, 2, 28), date(2026, 5, 30)),
        (date(2025, 11, 30), 3, date(2026, 2, 27), date(2025, 11, 30), date(2026, 2, 28)),
        (date(2024, 2, 29), 12, date(2026, 2, 28), date(2026, 2, 28), date(2027, 2, 28)),
        (date(2026, 4, 1), 1, date(2026, 3, 31), date(2026, 3, 1), date(2026, 4, 1)),
    ],
)
def test_billing_periods_count_from_the_anchor(anchor: date, months: int, day: date, start: date, end: date) -> None:
    noon = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
    assert periods(run(event("e1", 1, occurred_at=noon), anchor=anchor, months=months)) == [(start, end, Decimal(1))]


def test_days_are_days_in_the_legal_entitys_zone() -> None:
    evening = datetime(2026, 3, 31, 16, tzinfo=UTC)
    (day,) = (r for r in run(event("e1", occurred_at=evening), entity="JP").rows.to_pylist() if r["grain"] == "day")
    assert day["period_start"] == date(2026, 4, 1)


def test_an_event_received_after_its_period_is_late() -> None:
    usage = run(event("e1", received_at=datetime(2026, 4, 10, 7, tzinfo=UTC)), event("e2"))
    (row,) = (r for r in usage.rows.to_pylist() if r["grain"] == "period")
    assert (row["event_count"], row["late_count"]) == (2, 1)
    in_time = run(event("e1", received_at=datetime(2026, 4, 10, 6, 59, tzinfo=UTC)))
    assert [r["late_count"] for r in in_time.rows.to_pylist() if r["grain"] == "period"] == [0]


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"subscription_source_id": "sub_x"}, "unknown_subscription", "sub_x"),
        ({"meter": "steam"}, "unknown_meter", "steam"),
        ({"unit": "gallon"}, "unknown_unit", "gallon"),
        ({"quantity": Decimal(-1)}, "negative", "-1"),
        ({"received_at": NOON - timedelta(hours=1)}, "future", "2026-03-15 12:00"),
        ({"kind": "void"}, "missing", "void"),
    ],
)
def test_events_that_cannot_be_counted_are_returned_apart(changes: dict[str, Any], code: str, word: str) -> None:
    usage = run(event("bad", **changes), event("good"))
    (row,) = usage.quarantined.to_pylist()
    assert (row["event_id"], row["reason_code"]) == ("bad", code)
    assert word in row["reason"]
    assert usage.counted == 1


def test_a_caller_of_its_own_needs_only_the_columns_that_count() -> None:
    events = pa.table({
        "event_id": ["e1", "e2", "e1"], "subscription_source_id": ["sub_1"] * 3, "meter": ["api"] * 3,
        "quantity": pa.array([1, 2, 1], pa.int64()), "occurred_at": pa.array([NOON] * 3, pa.timestamp("us", tz="UTC")),
    })  # fmt: skip
    subscriptions = pa.table({"source_id": ["sub_1"], "billing_anchor": [date(2026, 1, 10)], "legal_entity_id": ["US"]})
    items = pa.table({"subscription_source_id": ["sub_1"], "meter": ["api"], "interval_months": [1]})
    usage = aggregate(events, subscriptions, items, table("product"), entities=ENTITIES)
    assert periods(usage) == [(date(2026, 3, 10), date(2026, 4, 10), Decimal(3))]
    assert usage.repeated == 1


def test_floats_and_missing_columns_are_refused() -> None:
    events = table("usage_event", event("e1"))
    inexact = events.set_column(events.column_names.index("quantity"), "quantity", pa.array([0.1]))
    with pytest.raises(DataError, match="float"):
        aggregate(inexact, table("subscription"), table("subscription_item"), table("product"), entities=ENTITIES)
    with pytest.raises(DataError, match="missing"):
        aggregate(events.drop_columns(["meter"]), table("subscription"), table("subscription_item"), table("product"),
                  entities=ENTITIES)  # fmt: skip


drawn = st.builds(
    event,
    st.sampled_from(["a", "b", "c", "d"]),
    st.integers(-1, 5),
    kind=st.sampled_from(["usage", "usage", "correction", "void"]),
    corrects_event_id=st.sampled_from([None, "a", "b", "c"]),
    received_at=st.integers(0, 60).map(lambda hours: NOON + timedelta(hours=hours)),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(drawn, max_size=10).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_order_changes_nothing_and_every_event_is_accounted_for(ways: tuple[list[Any], list[Any]]) -> None:
    one, other = run(*ways[0]), run(*ways[1])
    key = ["subscription_source_id", "meter", "grain", "period_start"]
    assert result_hash(one.rows, key) == result_hash(other.rows, key)
    assert one.events == one.counted + one.repeated + one.changed + one.quarantined.num_rows
