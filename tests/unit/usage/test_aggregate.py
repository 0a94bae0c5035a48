"""Usage: each event once, corrections and voids where the event happened, billing periods counted from the anchor."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import SESSION

from tieout import schema
from tieout.entities import Entities, LegalEntity
from tieout.errors import DataError
from tieout.lake.hashing import result_hash
from tieout.usage import Usage, aggregate, parts, summary
from tieout.usage.meters import Meter, Meters
from tieout_sandbox.bench import events as generated

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


def run(
    *events: dict[str, Any],
    anchor: date = date(2026, 1, 10),
    months: int = 1,
    entity: str = "US",
    meter: Meter | None = None,
    data: Any = None,
    until: datetime | date | None = None,
    **changes: Any,
) -> Usage:
    return aggregate(
        table("usage_event", *events) if data is None else data,
        table("subscription", subscription(anchor=anchor, entity=entity) | changes),
        table("subscription_item", item(months, entity=entity)),
        table("product", {"id": "p", "source": "crm", "source_id": "p", "meter": "api", "unit": "call"}),
        entities=ENTITIES,
        meters=Meters(meters={} if meter is None else {"api": meter}),
        until=until,
        session=SESSION["engine"],
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


@pytest.mark.parametrize(
    ("price", "first", "after"),
    [
        ({"interval_days": 1}, date(2026, 3, 15), date(2026, 3, 16)),
        ({"interval_days": 7}, date(2026, 3, 14), date(2026, 3, 21)),
        ({"interval_days": 14}, date(2026, 3, 7), date(2026, 3, 21)),
        ({"interval_months": 1}, date(2026, 3, 10), date(2026, 4, 10)),
        ({"interval_months": 3}, date(2026, 1, 10), date(2026, 4, 10)),
        ({"interval_months": 24}, date(2026, 1, 10), date(2028, 1, 10)),
    ],
    ids=["a day", "a week", "two weeks", "a month", "a quarter", "two years"],
)  # fmt: skip
def test_a_billing_period_is_as_long_as_the_interval_of_its_meters_price(
    price: dict[str, int], first: date, after: date
) -> None:
    """Whatever the other prices of the subscription say, and before the anchor too."""
    others = {
        "licence": {"interval_months": 12, "usage_type": "licensed", "meter": None},
        "storage": {"interval_months": 1, "meter": "storage"},
        "lines": {"interval_days": 7, "meter": "lines"},
    }
    items = [item() | {"id": n, "source_id": n, "interval_months": None} | more for n, more in others.items()]
    usage = aggregate(
        table("usage_event", event("e1"), event("e2", 2, meter="storage"), event("e3", 3, meter="lines")),
        table("subscription", subscription()),
        table("subscription_item", *items, item() | {"interval_months": None} | price),
        table("product", *({"id": m, "source": "crm", "source_id": m, "meter": m, "unit": "call"}
                           for m in ("api", "storage", "lines"))),
        entities=ENTITIES, session=SESSION["engine"],
    )  # fmt: skip
    found = {r["meter"]: (r["period_start"], r["period_end"]) for r in usage.rows.to_pylist() if r["grain"] == "period"}
    assert found == {
        "api": (first, after), "storage": (date(2026, 3, 10), date(2026, 4, 10)),
        "lines": (date(2026, 3, 14), date(2026, 3, 21)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("intervals", "first", "after"),
    [
        ([("licensed", {"interval_months": 12}), ("metered", {"interval_days": 7})], (3, 14), (3, 21)),
        ([("licensed", {"interval_days": 7})], (3, 14), (3, 21)),
        ([], (3, 10), (4, 10)),
    ],
    ids=["of the metered prices", "of any price", "no price: a month"],
)
def test_a_meter_that_no_price_names_follows_the_subscription(
    intervals: list[Any], first: tuple[int, int], after: tuple[int, int]
) -> None:
    items = [item() | {"meter": None, "interval_months": None, "usage_type": kind} | each for kind, each in intervals]
    usage = aggregate(
        table("usage_event", event("e1")), table("subscription", subscription()), table("subscription_item", *items),
        table("product", {"id": "p", "source": "crm", "source_id": "p", "meter": "api", "unit": "call"}),
        entities=ENTITIES, session=SESSION["engine"],
    )  # fmt: skip
    assert periods(usage) == [(date(2026, *first), date(2026, *after), Decimal(10))]


def test_a_billing_period_ends_where_a_price_with_another_interval_takes_over() -> None:
    made = {"old": (date(2026, 1, 10), {"interval_months": 1}), "new": (date(2026, 3, 20), {"interval_days": 7})}
    items = [item() | {"id": n, "source_id": n, "accounting_date": day, "interval_months": None} | price
             for n, (day, price) in made.items()]  # fmt: skip
    usage = aggregate(
        table("usage_event", *(event(f"e{n}", n, occurred_at=NOON + timedelta(days=n)) for n in range(20))),
        table("subscription", subscription()), table("subscription_item", *items),
        table("product", {"id": "p", "source": "crm", "source_id": "p", "meter": "api", "unit": "call"}),
        entities=ENTITIES, session=SESSION["engine"],
    )  # fmt: skip
    assert periods(usage) == [
        (date(2026, 3, 10), date(2026, 3, 20), Decimal(sum(range(5)))),
        (date(2026, 3, 20), date(2026, 3, 21), Decimal(5)),
        (date(2026, 3, 21), date(2026, 3, 28), Decimal(sum(range(6, 13)))),
        (date(2026, 3, 28), date(2026, 4, 4), Decimal(sum(range(13, 20)))),
    ]


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


@pytest.mark.parametrize(
    ("changes", "quantity"),
    [
        ([("c", "b", "a", 20), ("v", "v", "b", 0)], 10),
        ([("v", "v", "b", 0), ("c", "b", "a", 20)], 10),
        ([("c", "b", "a", 20), ("c", "c", "a", 30), ("v", "v", "b", 0)], 30),
        ([("c", "b", "a", 20), ("c", "c", "a", 30), ("v", "v", "c", 0)], 20),
        ([("c", "b", "a", 20), ("c", "c", "b", 30), ("v", "v", "c", 0), ("v", "w", "b", 0)], 10),
        ([("c", "b", "a", 20), ("v", "v", "b", 0), ("v", "w", "v", 0)], 20),
        ([("c", "b", "a", 20), ("v", "v", "b", 0), ("v", "w", "v", 0), ("v", "x", "w", 0)], 10),
        ([("v", "v", "a", 0)], None),
        ([("v", "v", "a", 0), ("v", "w", "v", 0)], 10),
        ([("c", "b", "a", 20), ("v", "v", "b", 0), ("c", "c", "a", 40)], 40),
        ([("c", "b", "lost", 20), ("v", "v", "b", 0)], 10),
        ([("c", "b", "c", 20), ("c", "c", "b", 30), ("v", "d", "e", 0), ("v", "e", "d", 0)], 60),
    ],
)
def test_a_void_takes_back_the_very_change_it_names(changes: list[tuple[str, str, str, int]], quantity: int) -> None:
    """Twelve stories of an event `a` of ten; circles stand by themselves."""
    told = [
        event(id, q, kind={"c": "correction", "v": "void"}[kind], corrects_event_id=names,
              received_at=NOON + timedelta(hours=n))
        for n, (kind, id, names, q) in enumerate(changes, 2)
    ]  # fmt: skip
    usage = run(event("a", 10), *told)
    assert [q for _, _, q in periods(usage) if q] == ([] if quantity is None else [quantity])
    assert (usage.counted, usage.changed) == (1, len(changes))


def test_what_was_known_when_a_void_took_a_correction_back() -> None:
    """Corrected before the period ended on 10 April, taken back after."""
    end = datetime(2026, 4, 11, tzinfo=UTC)
    usage = run(
        event("a", 10),
        event("b", 20, kind="correction", corrects_event_id="a", received_at=NOON + timedelta(days=1)),
        event("v", 0, kind="void", corrects_event_id="b", received_at=end),
    )
    (row,) = (r for r in usage.rows.to_pylist() if r["grain"] == "period")
    assert (row["quantity"], row["quantity_in_time"], row["late_count"]) == (10, 20, 1)


@pytest.mark.parametrize("length", [127, 128, 129, 300])
def test_a_chain_of_corrections_may_have_any_length(length: int) -> None:
    chain = [
        event(f"c{n}", n + 1, kind="correction", corrects_event_id=f"c{n - 1}", received_at=NOON + timedelta(minutes=n))
        for n in range(1, length + 1)
    ]
    assert [q for _, _, q in periods(run(event("c0", 1), *chain))] == [length + 1]


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


def days(usage: Usage) -> dict[date, Decimal]:
    return {r["period_start"]: r["quantity"] for r in usage.rows.to_pylist() if r["grain"] == "day"}


def test_other_content_under_one_id_is_told_with_every_content() -> None:
    usage = run(event("e1", 99, received_at=NOON + timedelta(days=2)), event("e1", 10), event("e1", 10), event("e2"))
    told = [(r["version_no"], r["counts"], r["quantity"], r["deliveries"]) for r in usage.conflicts.to_pylist()]
    assert told == [(1, True, Decimal(10), 2), (2, False, Decimal(99), 1)]
    assert {r["legal_entity_id"] for r in usage.conflicts.to_pylist()} == {"US"}
    assert (usage.events, usage.counted, usage.repeated) == (4, 2, 2)


HOURS = {"m1": (0, 8), "m2": (1, 2), "m3": (2, 4), "m4": (30, 6)}  # id → (hours after noon, quantity)


@pytest.mark.parametrize(
    ("meter", "two_days", "period"),
    [
        (Meter(aggregation="sum"), (14, 6), 20),
        (Meter(aggregation="count"), (3, 1), 4),
        (Meter(aggregation="max"), (8, 6), 8),
        (Meter(aggregation="last"), (4, 6), 6),
        (Meter(aggregation="unique"), (2, 1), 2),
        (Meter(aggregation="percentile", percentile=Decimal(50)), (4, 6), 4),
        (Meter(aggregation="percentile", percentile=Decimal(95)), (8, 6), 8),
    ],
    ids=lambda value: f"{value.aggregation}{value.percentile or ''}" if isinstance(value, Meter) else None,
)
def test_a_meter_is_summed_up_as_it_says(meter: Meter, two_days: tuple[int, int], period: int) -> None:
    events = [
        event(id, quantity, occurred_at=NOON + timedelta(hours=hours), value_key="ann" if quantity > 2 else "bob")
        for id, (hours, quantity) in HOURS.items()
    ]
    again = event("m2", 2, occurred_at=NOON + timedelta(hours=1), value_key="bob")
    usage = run(*events, again, meter=meter)
    assert list(days(usage).values()) == [Decimal(q) for q in two_days]
    assert [q for *_, q in periods(usage)] == [Decimal(period)]
    assert {r["aggregation"] for r in usage.rows.to_pylist()} == {meter.aggregation}


SEATS = Meter(aggregation="time_weighted")


def test_a_level_counts_for_the_share_of_the_day_it_held_whatever_the_days_length() -> None:
    # Los Angeles: 8 March 2026 has 23 hours, the clock goes from 2 to 3
    first = event("s1", 5, occurred_at=datetime(2026, 3, 7, 8, tzinfo=UTC))
    then = event("s2", 8, occurred_at=datetime(2026, 3, 9, 19, tzinfo=UTC))  # noon
    usage = run(first, then, meter=SEATS, until=datetime(2026, 3, 12, 7, tzinfo=UTC))
    assert list(days(usage).values()) == [Decimal(q) for q in ("5", "5", "6.5", "8", "8")]
    assert periods(usage) == [
        (date(2026, 2, 10), date(2026, 3, 10), Decimal("16.5")),
        (date(2026, 3, 10), date(2026, 4, 10), Decimal(16)),
    ]
    ended = run(
        first,
        then,
        meter=SEATS,
        until=datetime(2026, 3, 12, 7, tzinfo=UTC),
        ended_at=datetime(2026, 3, 10, 7, tzinfo=UTC),
    )
    assert list(days(ended).values()) == [Decimal(q) for q in ("5", "5", "6.5")]


@pytest.mark.parametrize(("entity", "zone"), [("US", "America/Los_Angeles"), ("JP", "Asia/Tokyo")])
@pytest.mark.parametrize("until", [date(2026, 1, 31), None])
def test_levels_hold_until_the_end_of_a_day_in_the_subscriptions_zone(
    entity: str, zone: str, until: date | None
) -> None:
    """Five seats all through January; events stop before, of this customer or of all."""
    midnight = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    last = [] if until else [event("s2", 5, occurred_at=datetime(2026, 1, 31, 10, tzinfo=ZoneInfo(zone)))]
    set_once = event("s1", 5, occurred_at=midnight)
    usage = run(set_once, *last, meter=SEATS, until=until, entity=entity, anchor=date(2026, 1, 1))
    assert periods(usage) == [(date(2026, 1, 1), date(2026, 2, 1), Decimal(155))]


def test_a_level_that_came_late_for_its_period_is_known_in_time_for_the_next() -> None:
    """Set on 31 January, received on 2 February; taken back and set anew after February was billed."""
    late = event("s1", 5, occurred_at=datetime(2026, 1, 31, 20, tzinfo=UTC),
                 received_at=datetime(2026, 2, 2, 12, tzinfo=UTC))  # fmt: skip
    told = {"meter": SEATS, "anchor": date(2026, 1, 1), "until": date(2026, 3, 31)}
    usage = run(late, **told)
    assert in_time(usage) == {1: (0, Decimal("2.5")), 2: (140, 140), 3: (155, 155)}
    assert {d.month: q for d, q in days_in_time(usage).items() if d.day == 1} == {2: 5, 3: 5}
    after = datetime(2026, 3, 5, tzinfo=UTC)
    changed = event("c1", 7, kind="correction", corrects_event_id="s1", occurred_at=after)
    assert in_time(run(late, changed, **told)) == {1: (0, Decimal("3.5")), 2: (140, 196), 3: (217, 217)}
    before = event("s0", 2, occurred_at=datetime(2026, 1, 1, 8, tzinfo=UTC))
    assert in_time(run(late, changed, before, **told)) == {1: (62, Decimal("64.5")), 2: (140, 196), 3: (217, 217)}


def in_time(usage: Usage) -> dict[int, tuple[Decimal, Decimal]]:
    return {
        r["period_start"].month: (r["quantity_in_time"], r["quantity"])
        for r in usage.rows.to_pylist() if r["grain"] == "period"
    }  # fmt: skip


def days_in_time(usage: Usage) -> dict[date, Decimal]:
    return {r["period_start"]: r["quantity_in_time"] for r in usage.rows.to_pylist() if r["grain"] == "day"}


def test_a_meter_whose_prices_disagree_is_not_guessed() -> None:
    items = [item(sub=s) | {"aggregation": how} for s, how in (("sub_1", "max"), ("sub_2", "sum"))]
    usage = aggregate(
        table("usage_event", event("e1")), table("subscription", subscription()), table("subscription_item", *items),
        table("product"), entities=ENTITIES, session=SESSION["engine"],
    )  # fmt: skip
    assert [r["reason_code"] for r in usage.quarantined.to_pylist()] == ["unclear_aggregation"]


def test_days_are_the_subscriptions_own_where_its_contract_names_a_zone() -> None:
    evening = datetime(2026, 3, 31, 16, tzinfo=UTC)
    assert list(days(run(event("e1", occurred_at=evening), zone="Asia/Tokyo"))) == [date(2026, 4, 1)]
    nowhere = run(event("e1"), zone="Europe/Atlantis")
    assert [r["reason_code"] for r in nowhere.quarantined.to_pylist()] == ["unknown_zone"]


def test_before_an_anchor_that_was_moved_periods_count_from_the_start_and_end_at_the_anchor() -> None:
    noon = {day: datetime(2026, *day, 20, tzinfo=UTC) for day in ((3, 4), (3, 14), (3, 20))}
    usage = run(
        *(event(f"e{n}", 1, occurred_at=at) for n, at in enumerate(noon.values())),
        anchor=date(2026, 3, 15), start_date=date(2026, 2, 5),
    )  # fmt: skip
    assert [(start, end) for start, end, _ in periods(usage)] == [
        (date(2026, 2, 5), date(2026, 3, 5)),
        (date(2026, 3, 5), date(2026, 3, 15)),
        (date(2026, 3, 15), date(2026, 4, 15)),
    ]


def test_what_came_after_the_period_was_billed_is_told_from_what_was_billed() -> None:
    late = datetime(2026, 4, 12, tzinfo=UTC)
    events = table(
        "usage_event",
        event("e1", 10), event("e2", 4, received_at=late), event("e3", 3),
        event("c1", 1, kind="correction", corrects_event_id="e3", received_at=late + timedelta(days=2)),
    )  # fmt: skip
    refs = (table("subscription", subscription()), table("subscription_item", item()), table("product"))
    known = []
    for billed_on in (None, date(2026, 4, 13), date(2026, 4, 20)):
        billed = None if billed_on is None else pa.table({
            "subscription_source_id": ["sub_1"], "meter": ["api"], "period_start": [date(2026, 3, 10)],
            "billed_on": [billed_on],
        })  # fmt: skip
        usage = aggregate(events, *refs, entities=ENTITIES, billed=billed, session=SESSION["engine"])
        (row,) = (r for r in usage.rows.to_pylist() if r["grain"] == "period")
        known.append((row["quantity_in_time"], row["quantity"]))
    assert known == [(13, 15), (17, 15), (15, 15)]


drawn = st.builds(
    event,
    st.sampled_from(["a", "b", "c", "d"]),
    st.integers(-1, 5),
    kind=st.sampled_from(["usage", "usage", "correction", "void"]),
    corrects_event_id=st.sampled_from([None, "a", "b", "c"]),
    value_key=st.sampled_from(["x", "y"]),
    # around the days on which the clocks of Los Angeles change, a month ends, and a leap year has one day more
    occurred_at=st.tuples(st.sampled_from([(2026, 3, 8), (2026, 10, 31), (2028, 2, 28)]), st.integers(0, 60)).map(
        lambda at: datetime(*at[0], tzinfo=UTC) + timedelta(hours=at[1])
    ),
    received_at=st.integers(0, 90).map(lambda days: datetime(2028, 3, 1, tzinfo=UTC) + timedelta(days=days)),
)
METERS = [Meter(aggregation=kind) for kind in ("sum", "count", "max", "last", "unique", "time_weighted")]
METERS += [Meter(aggregation="percentile", percentile=Decimal(95))]
KEY = schema.table("usage_summary").key


@settings(max_examples=6, deadline=None)
@given(data=st.data(), events=st.lists(drawn, min_size=1, max_size=8), meter=st.sampled_from(METERS))
def test_files_order_and_further_deliveries_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, events: list[Any], meter: Meter
) -> None:
    """Together in one table, or cut into files and slices anyhow, the same rows; all additive sums add up."""
    folder = tmp_path_factory.mktemp("split")
    one = run(*events, meter=meter)
    again = [e | {"raw_ref": "elsewhere"} for e in data.draw(st.lists(st.sampled_from(events), max_size=4))]
    shuffled = data.draw(st.permutations([*events, *again]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=2)))
    files = []
    for n, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(shuffled)], strict=True)):
        pq.write_table(table("usage_event", *shuffled[start:end]), folder / f"{n}.parquet")
        files.append(str(folder / f"{n}.parquet"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "TOGETHER", 0)
        patch.setattr(parts, "SLICE_ROWS", 2)
        patch.setattr(parts, "BUCKET_ROWS", 3)
        other = run(meter=meter, data=files)
    assert result_hash(one.rows, KEY) == result_hash(other.rows, KEY)
    for name in ("quarantined", "conflicts"):
        before, after = (getattr(usage, name).drop_columns(["raw_ref"]).to_pylist() for usage in (one, other))
        without = [[{k: v for k, v in r.items() if k != "deliveries"} for r in rows] for rows in (before, after)]
        assert without[0] == without[1]
    for usage in (one, other):
        assert usage.events == usage.counted + usage.repeated + usage.changed + usage.faulty
    assert other.repeated == one.repeated + len(again)
    if meter.aggregation in ("sum", "count", "time_weighted"):
        for column in ("quantity", "event_count"):
            sums = {g: sum(r[column] for r in one.rows.to_pylist() if r["grain"] == g) for g in ("day", "period")}
            assert sums["day"] == sums["period"]


def test_one_event_more_moves_one_number_of_each_grain() -> None:
    events = [event(f"e{n}", n, occurred_at=NOON + timedelta(days=n)) for n in range(1, 6)]
    one, more = run(*events), run(*events, event("e9", 7, occurred_at=NOON + timedelta(days=3)))
    moved = [
        (b["grain"], a["quantity"] - b["quantity"])
        for a, b in zip(more.rows.to_pylist(), one.rows.to_pylist(), strict=True)
        if a != b
    ]
    assert moved == [("day", 7), ("period", 7)]


def test_written_a_portion_of_the_subscriptions_at_a_time_the_summary_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In portions, over slices and ranges of hashes: the rows of all at once."""
    generated.generate(SESSION["engine"], tmp_path, 3000)

    def summary_rows() -> pa.Table:
        assert generated.run(tmp_path, "1GB") > 2900
        files = sorted((tmp_path / "out").glob("usage_summary-*.parquet"))
        found = pa.concat_tables([pq.read_table(file) for file in files])
        shutil.rmtree(tmp_path / "out")
        portions.append(len(files))
        return found.cast(schema.table("usage_summary").arrow)

    portions: list[int] = []
    together = summary_rows()
    monkeypatch.setattr(summary, "PORTION_PARTS", 400)
    monkeypatch.setattr(parts, "TOGETHER", 0)
    monkeypatch.setattr(parts, "SLICE_ROWS", 500)
    monkeypatch.setattr(parts, "BUCKET_ROWS", 1000)
    assert result_hash(summary_rows(), KEY) == result_hash(together, KEY)
    assert portions[0] == 1
    assert portions[1] > 3
