"""The same events handed in by any format become the same rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from usage_world import FORMATS, World, event

from tieout.lake.hashing import PROVENANCE, result_hash
from tieout.settings import Connection

events = st.lists(
    st.builds(
        lambda second, quantity, kind, key, zone: event(
            f"e{second}",
            occurred_at=f"2026-03-01T10:00:{second:02}{zone}",
            quantity=quantity,
            kind=kind,
            value_key=key,
            corrects_event_id=None if kind == "usage" else "e0",
        ),
        second=st.integers(1, 59),
        quantity=st.decimals(0, 10**12, places=9).map(lambda d: format(d, "f")),
        kind=st.sampled_from(["usage", "correction", "void"]),
        key=st.none() | st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=9),
        zone=st.sampled_from(["Z", ".250Z", "+09:00"]),
    ),
    min_size=3,
    max_size=9,
    unique_by=lambda e: e["event_id"],
)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(events)
def test_every_format_gives_the_same_rows(told: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for name, (ending, write) in FORMATS.items():
            content = write(told)
            root = Path(folder) / "drops" / name
            world.drop(root, f"part.{ending}", content, len(told))
            as_it_is = name == "parquet_as_it_is"
            (ref,) = world.read(Connection("drop", f"file://{root}"), name, page_rows=2 if as_it_is else 1000)
            assert (ref.records, ref.faults, ref.control.proven) == (len(told), 0, True), name
            assert len(ref.as_is) == as_it_is
            if as_it_is:
                assert Path(ref.path_of(ref.as_is[0])).read_bytes() == content
        result = world.conform()
        assert (result.rows_out, result.rows_quarantined) == (len(told) * len(FORMATS), 0)
        rows = world.table("usage_event")
        hashes = set()
        for name in FORMATS:
            mine = rows.filter([source == name for source in rows["source"].to_pylist()])
            hashes.add(result_hash(mine, ["source_id"], exclude=PROVENANCE | {"source", "id", "correlation_id"}))
        assert len(hashes) == 1


@pytest.mark.parametrize("name", ["parquet", "parquet_as_it_is"])
def test_a_bad_row_of_a_parquet_file_is_set_aside_alone_and_its_record_can_be_read(world: World, name: str) -> None:
    told = [event("e1", kind="guess"), event("e2"), event("e3", quantity="7")]
    world.drop(world.home / "d", "a.parquet", FORMATS[name][1](told), 3)
    world.read(Connection("drop", f"file://{world.home}/d"), page_rows=2 if "as_it" in name else 1000)
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (2, 1)
    (bad,) = world.table("quarantine").to_pylist()
    assert (bad["source_id"], bad["reason"]) == (
        "/gateway#e1",
        "kind holds 'guess' where one of usage, correction, void is expected",
    )
    record = world.landing.record(bad["raw_ref"])
    assert '"event_id":"e1"' in record
    assert '"quantity":"1.500000000"' in record
