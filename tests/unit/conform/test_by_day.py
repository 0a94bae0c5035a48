"""Usage events are kept by day: new ones replace the days they touch, and nothing else is written again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake

from tieout.conform import steps
from tieout.lake.hashing import result_hash
from tieout_sandbox.testing import fresh_store

KEY = ["source", "source_id"]
TWO_DAYS = [("ev_1", "2026-03-28T23:59:59Z", "10", 13), ("ev_2", "2026-03-29T00:00:00Z", "10", 13)]


def landed(world: Any, make: Any, *told: tuple[str, str, str, int]) -> None:
    """One extract of events: id, when it happened, quantity, and the hour of 30 March it was received in."""
    events = [
        make.usage(id, occurred_at=at, quantity=quantity, received_at=f"2026-03-30T{hour:02}:00:00Z")
        for id, at, quantity, hour in told
    ]
    world.land(world.DROP, "usage", events)


def files(world: Any) -> dict[str, list[str]]:
    """The published files by day."""
    return world.lake.parts("usage_event", world.store.published()["usage_event"])  # type: ignore[no-any-return]


def another(world: Any) -> Any:
    """A world with the same configuration in which nothing has happened yet."""
    root = world.root / "another"
    root.mkdir()
    store = fresh_store(root / "store.sqlite")
    return type(world)(root, replace(world.settings, home=root, lake=str(root / "lake"), store=store.url), store)


SECOND = {
    "an event of one day": ([("ev_3", "2026-03-28T12:00:00Z", "1", 14)], {"2026-03-28"}),
    "an event of a new day": ([("ev_3", "2026-03-27T12:00:00Z", "1", 14)], {"2026-03-27"}),
    "the same event again": ([("ev_1", "2026-03-28T23:59:59Z", "10", 14)], set()),
    "other content later": ([("ev_1", "2026-03-29T08:00:00Z", "10", 14)], {"2026-03-29"}),
    "other content received before": (
        [("ev_1", "2026-03-29T08:00:00Z", "10", 12)], {"2026-03-28", "2026-03-29"},
    ),
    "the same content received before": ([("ev_1", "2026-03-28T23:59:59Z", "10", 12)], {"2026-03-28"}),
}  # fmt: skip


@pytest.mark.parametrize(("second", "days"), SECOND.values(), ids=SECOND)
def test_new_events_replace_their_days_alone_byte_for_byte_as_if_all_had_come_at_once(
    world: Any, make: Any, second: list[tuple[str, str, str, int]], days: set[str]
) -> None:
    once = another(world)
    for one in (world, once):
        landed(one, make, *TWO_DAYS)
        if one is world:
            one.conform()
            before = files(world)
        landed(one, make, *second)
        result = one.conform()
        if one is world:
            assert ("usage_event" in result.tables) == bool(days)
    now = files(world)
    assert set(before) == {"2026-03-28", "2026-03-29"}
    assert {day for day in before | now if before.get(day) != now.get(day)} == days
    digests = [
        {day: [hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in paths] for day, paths in files(one).items()}
        for one in (world, once)
    ]
    assert digests[0] == digests[1]
    assert {str(row["event_day"]) for row in world.rows("usage_event")} == set(now)


def test_events_linked_otherwise_are_written_again_by_their_days(world: Any, make: Any) -> None:
    landed(world, make, *TWO_DAYS)
    world.land(world.DROP, "usage", [make.usage("ev_3", subscription_id="sub_2", occurred_at="2026-03-27T12:00:00Z")])
    world.conform()
    before = files(world)
    subscription = {"id": "sub_2", "customer": "cus_1", "status": "active", "created": 1767225600, "currency": "usd",
                    "items": {"object": "list", "has_more": False, "data": []}}  # fmt: skip
    world.land(world.BILLING, "subscriptions", [subscription])
    landed(world, make, ("ev_4", "2026-03-28T12:00:00Z", "1", 14))
    world.conform()
    now = files(world)
    assert {day for day in now if before[day] != now[day]} == {"2026-03-27", "2026-03-28"}
    assert [r["legal_entity_id"] for r in world.rows("usage_event")] == [None, None, "US", None]


def test_a_table_of_the_older_layout_is_written_whole_once_and_its_old_version_stays_readable(
    world: Any, make: Any
) -> None:
    landed(world, make, *TWO_DAYS)
    world.conform()
    rows = world.table("usage_event")
    uri = world.lake.uri("usage_event")
    write_deltalake(uri, rows.drop_columns(["event_day"]), mode="overwrite", schema_mode="overwrite", partition_by=[])
    old = world.lake.version("usage_event")
    world.store.publish("older", {"usage_event": old})
    assert world.lake.parts("usage_event", old) is None
    landed(world, make, ("ev_3", "2026-03-28T12:00:00Z", "1", 14))
    world.conform()
    assert set(files(world)) == {"2026-03-28", "2026-03-29"}
    assert {str(r["event_day"]) for r in world.rows("usage_event")} == {"2026-03-28", "2026-03-29"}
    older = world.lake.read("usage_event", old)
    assert result_hash(older.drop_columns(["event_day"]), KEY) == result_hash(rows.drop_columns(["event_day"]), KEY)
    before = files(world)
    landed(world, make, ("ev_4", "2026-03-28T12:00:00Z", "1", 15))
    world.conform()
    assert before["2026-03-29"] == files(world)["2026-03-29"]


@pytest.mark.parametrize("rows", [1, 2])
def test_days_written_in_portions_and_what_a_killed_call_left_are_put_right(
    world: Any, make: Any, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(steps, "_PORTION_ROWS", rows)
    landed(world, make, *TWO_DAYS, ("ev_3", "2026-03-27T12:00:00Z", "1", 13))
    world.conform()
    published = world.store.published()["usage_event"]
    rows_then, before = world.table("usage_event"), files(world)
    # written by a call that did not live to publish it
    stray = world.lake.write("usage_event", rows_then.slice(0, 0), where="event_day IN ('2026-03-29')")
    assert stray > published
    assert result_hash(world.table("usage_event"), KEY) == result_hash(rows_then, KEY)
    landed(world, make, ("ev_4", "2026-03-28T12:00:00Z", "1", 14))
    world.conform()
    assert [r["event_id"] for r in world.rows("usage_event")] == ["ev_1", "ev_2", "ev_3", "ev_4"]
    assert files(world)["2026-03-27"] == before["2026-03-27"]
