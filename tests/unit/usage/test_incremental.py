"""Usage kept up to date by day is what all events give, whatever happened in between, and reads only what it must."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from one_engine import SESSION

from tieout import schema
from tieout.entities import Entities, LegalEntity
from tieout.lake.hashing import result_hash
from tieout.usage import aggregate, incremental
from tieout.usage.incremental import References, Update, UsageState
from tieout.usage.meters import Meter, Meters

ENTITIES = Entities(
    entities=(
        LegalEntity(id="US", name="US", functional_currency="USD", zone="America/Los_Angeles", country="US",
                    go_live=date(2026, 3, 29)),
    )
)  # fmt: skip
COMMON = {"source_version": "1", "correlation_id": "c", "raw_ref": "r", "is_deleted": False}
QUIET, FIRST, SECOND, THIRD = "2026-03-01", "2026-03-08", "2026-03-09", "2026-03-10"


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = schema.table(name).arrow
    return pa.Table.from_pylist([{f.name: (COMMON | r).get(f.name) for f in shape} for r in rows], schema=shape)


def event(id: str, day: str, quantity: int = 10, hour: int = 12, **changes: Any) -> dict[str, Any]:
    at = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour)
    return {
        "id": id, "source": "drop", "source_id": id, "event_id": id, "subscription_source_id": "sub_1", "meter": "api",
        "unit": "call", "quantity": Decimal(quantity), "occurred_at": at, "received_at": at + timedelta(hours=1),
        "kind": "usage", "usage_date": at.date(), "event_day": at.date(),
    } | changes  # fmt: skip


def subscription(id: str = "sub_1", anchor: date = date(2026, 1, 10), **more: Any) -> dict[str, Any]:
    return {"id": id, "source": "stripe", "source_id": id, "legal_entity_id": "US", "customer_id": "crm:1",
            "billing_anchor": anchor} | more  # fmt: skip


def references(
    *subscriptions: dict[str, Any], meter: str = "sum", billed: date | None = None, weeks: bool = False
) -> References:
    given = subscriptions or (subscription(), subscription("sub_2", date(2026, 1, 31)))
    items = [{"id": f"si_{s['id']}", "source": "stripe", "source_id": f"si_{s['id']}", "usage_type": "metered",
              "subscription_source_id": s["id"], "meter": "api"}
             | ({"interval_days": 7} if weeks else {"interval_months": 1}) for s in given]  # fmt: skip
    periods = {"subscription_source_id": ["sub_1"], "meter": ["api"], "period_start": [date(2026, 2, 10)],
               "billed_on": [billed]}  # fmt: skip
    percentile = Decimal(95) if meter == "percentile" else None
    return References(
        table("subscription", *given), table("subscription_item", *items),
        table("product", {"id": "p", "source": "crm", "source_id": "p", "meter": "api", "unit": "call"}), ENTITIES,
        Meters(meters={"api": Meter(aggregation=meter, percentile=percentile)}),
        pa.table(periods) if billed else None,
    )  # fmt: skip


BASE = [event(f"quiet_{n}", QUIET, subscription_source_id=f"sub_{1 + n % 2}", value_key="z") for n in range(60)]


@dataclass
class Kept:
    """A state, and the files of each day, written anew where a day's events are others."""

    folder: Path
    files: dict[str, tuple[list[dict[str, Any]], str]] = field(default_factory=dict)
    written: int = 0

    def update(self, given: References, *events: dict[str, Any], home: Path | None = None) -> Update:
        """The update, which gives what all events give."""
        by_day: dict[str, list[dict[str, Any]]] = {}
        for one in (*BASE, *events):
            by_day.setdefault(str(one["event_day"]), []).append(one)
        self.files = {day: self._file(day, rows) for day, rows in by_day.items()}
        days = {day: [path] for day, (_, path) in self.files.items()}
        update = UsageState(home or self.folder / "state").update(days, given, session=SESSION["engine"])
        whole = aggregate(
            table("usage_event", *BASE, *events), given.subscriptions, given.subscription_items, given.products,
            entities=ENTITIES, meters=given.meters, billed=given.billed, session=SESSION["engine"],
        )  # fmt: skip
        now = update.usage
        assert result_hash(now.rows, KEY) == result_hash(whole.rows, KEY)
        for name in ("quarantined", "conflicts"):
            assert getattr(now, name).to_pylist() == getattr(whole, name).to_pylist()
        for name in ("events", "counted", "repeated", "changed", "faulty"):
            assert getattr(now, name) == getattr(whole, name)
        assert sum(update.marks["deliveries"].to_pylist()) == whole.events
        return update

    def _file(self, day: str, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
        if day in self.files and self.files[day][0] == rows:
            return self.files[day]
        self.written += 1
        path = self.folder / f"{day}-{self.written}.parquet"
        pq.write_table(table("usage_event", *rows), path)
        return rows, str(path)


KEY = schema.table("usage_summary").key
METERS = ("sum", "count", "max", "last", "unique", "time_weighted", "percentile")
drawn = st.builds(
    event,
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from([FIRST, SECOND, THIRD]),
    st.integers(-1, 5),
    st.integers(0, 23),
    kind=st.sampled_from(["usage", "usage", "correction", "void"]),
    corrects_event_id=st.sampled_from([None, "a", "b", "c", "quiet_1"]),
    value_key=st.sampled_from(["x", "y"]),
    subscription_source_id=st.sampled_from(["sub_1", "sub_2", "sub_3"]),
    received_at=st.integers(0, 40).map(lambda days: datetime(2026, 3, 11, tzinfo=UTC) + timedelta(days=days)),
)
GIVEN = (
    {},
    {"billed": date(2026, 3, 12)},
    {"subscriptions": (subscription(anchor=date(2026, 1, 9)), subscription("sub_2", date(2026, 1, 31)))},
    {"subscriptions": (subscription(zone="Asia/Tokyo"), subscription("sub_3"))},
)


@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(
    pool=st.lists(drawn, min_size=1, max_size=8), meter=st.sampled_from(METERS),
    steps=st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 0, 0, 1, 2, 3])), min_size=2, max_size=4),
)  # fmt: skip
def test_whatever_days_and_references_become_the_rows_are_those_of_all_events(
    tmp_path_factory: pytest.TempPathFactory, pool: list[Any], meter: str, steps: list[tuple[int, int]]
) -> None:
    kept = Kept(tmp_path_factory.mktemp("kept"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental, "LAYERS", 2)
        for chosen, which in steps:
            given = dict(GIVEN[which])
            events = [one for n, one in enumerate(pool) if chosen >> n & 1]
            # compares rows, counts, quarantine and conflicts with those of all events
            kept.update(references(*given.pop("subscriptions", ()), meter=meter, **given), *events)


A, B = event("a", FIRST, 5), event("b", SECOND, 7, subscription_source_id="sub_2")
LATE = datetime(2026, 4, 20, tzinfo=UTC)
CASES: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "nothing": ([A, B], set()),
    "a new event": ([A, B, event("c", SECOND)], {SECOND}),
    "a new day": ([A, B, event("c", THIRD)], {THIRD}),
    "a late delivery of the same": ([A, A | {"received_at": LATE}, B], {FIRST}),
    "other content on another day": ([A, B, event("a", THIRD, 9, received_at=LATE)], {FIRST, THIRD}),
    "an id that came elsewhere": ([A, B, event("quiet_1", THIRD)], {QUIET, THIRD}),
    "a correction": ([A, B, event("c", THIRD, 1, kind="correction", corrects_event_id="a")], {FIRST, THIRD}),
    "a void": ([A, B, event("c", THIRD, 0, kind="void", corrects_event_id="b")], {SECOND, THIRD}),
    "an event that is gone": ([B], set()),
    "an event that cannot be counted": ([A, B, event("c", SECOND, subscription_source_id="sub_9")], {SECOND}),
}


@pytest.mark.parametrize(("events", "read"), CASES.values(), ids=CASES)
def test_only_the_days_are_read_that_are_others_or_hold_an_event_of_them(
    tmp_path: Path, events: list[dict[str, Any]], read: set[str]
) -> None:
    kept, given = Kept(tmp_path), references()
    assert set(kept.update(given, A, B).read) == {QUIET, FIRST, SECOND}
    assert set(kept.update(given, *events).read) == read
    # back to what it was, as a run of an earlier business date has it, and forth again
    kept.update(given, A, B)
    kept.update(given, *events)


MOVED = {
    "an anchor": (references(subscription(anchor=date(2026, 1, 20)), subscription("sub_2", date(2026, 1, 31))), set()),
    "a customer": (references(subscription(customer_id="crm:2"), subscription("sub_2", date(2026, 1, 31))), set()),
    "an interval": (references(weeks=True), set()),
    "an invoice": (references(billed=date(2026, 3, 3)), set()),
    "a subscription more": (
        references(subscription("sub_0"), subscription(), subscription("sub_2", date(2026, 1, 31))), set(),
    ),
    "a zone": (
        references(subscription(), subscription("sub_2", date(2026, 1, 31), zone="Asia/Tokyo")), {QUIET, SECOND},
    ),
    "a subscription gone": (references(subscription()), {QUIET, SECOND}),
    "a meter": (references(meter="max"), {QUIET, FIRST, SECOND}),
    "how late late is": (
        replace(references(), meters=Meters(meters={"api": Meter(aggregation="sum")}, late_after_hours=0)),
        {QUIET, FIRST, SECOND},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "read"), MOVED.values(), ids=MOVED)
def test_changed_references_count_at_once(tmp_path: Path, given: References, read: set[str]) -> None:
    kept = Kept(tmp_path)
    again = event("a", FIRST, 5, received_at=LATE)
    void = event("v", SECOND, 0, kind="void", corrects_event_id="quiet_3")
    for now, days in ((references(), {QUIET, FIRST, SECOND}), (given, read), (references(), read)):
        assert set(kept.update(now, A, again, B, void).read) == days


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [("state.json", flipped), ("state.json", cut), ("state.json", Path.unlink), ("hashes", flipped), ("parts", cut),
     ("came", Path.unlink), ("effective", flipped), ("rows", cut), ("marks", Path.unlink)],
)  # fmt: skip
def test_a_state_that_is_not_whole_is_made_anew(tmp_path: Path, name: str, damage: Any) -> None:
    kept, given = Kept(tmp_path), references()
    events = [A, A | {"received_at": LATE}, B]
    kept.update(given, *events)
    damage(sorted((tmp_path / "state").glob(f"{name}*"))[0])
    assert set(kept.update(given, *events).read) == {QUIET, FIRST, SECOND}
    assert kept.update(given, *events).read == ()


@pytest.mark.parametrize("name", ["_code", "_clocks"])
def test_other_code_or_other_clocks_read_all(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, given = Kept(tmp_path), references()
    kept.update(given, A, B)
    monkeypatch.setattr(incremental, name, lambda *_: [["UTC"], "2026-01-01", "2026-01-02", "other"])
    assert set(kept.update(given, A, B).read) == {QUIET, FIRST, SECOND}


@pytest.mark.parametrize("name", ["special", "effective", "state.json"])
def test_a_call_that_dies_leaves_the_state_as_it_was_and_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def dies(path: Path, target: Path) -> None:
        if target.name.startswith(name):
            raise KeyboardInterrupt
        renamed(path, target)

    renamed = Path.replace
    kept, given = Kept(tmp_path), references()
    kept.update(given, A, B)
    before = (tmp_path / "state" / "state.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            kept.update(given, A, B, event("c", SECOND))
    (tmp_path / "state" / ".parts-1.parquet.1.partial").write_text("left by a killed process")
    assert (tmp_path / "state" / "state.json").read_bytes() == before
    assert set(kept.update(given, A, event("c", SECOND)).read) == {SECOND}
    text = (tmp_path / "state" / "state.json").read_text()
    assert {p.name for p in (tmp_path / "state").iterdir() if p.name not in text} <= {"lock", "state.json"}
