"""However records are split into pages, ordered, repeated and spread over calls, the tables come out the same."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout.conform.steps import conform
from tieout.lake.hashing import result_hash
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store

ENTITIES = """
entities:
  - {id: US, name: US, functional_currency: USD, zone: America/Los_Angeles, country: US, go_live: 2026-03-29}
"""
START = datetime(2026, 3, 30, tzinfo=UTC)
BILLING = SimpleNamespace(name="stripe_us", kind="stripe", legal_entity="US")


def refund(number: int, version: int) -> dict[str, Any]:
    """A refund as read at minute `version`; every fifth one cannot be read."""
    status = ("pending", "succeeded", "failed")[version % 3]
    amount = "much" if number == 4 else 100 * number + version
    return {"id": f"re_{number}", "amount": amount, "currency": "usd", "created": 1774800000, "charge": "ch_1",
            "status": status, "balance_transaction": None}  # fmt: skip


reading = st.tuples(st.integers(0, 5), st.integers(0, 3))
readings = st.lists(reading, min_size=1, max_size=12)


@st.composite
def landed_twice(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """The same readings landed in two ways: lists of calls, each a list of (minute, records) pages."""
    first = draw(readings)
    second = draw(st.permutations(first + draw(st.lists(st.sampled_from(first), max_size=4))))
    return draw(_split(first)), draw(_split(second))


@st.composite
def _split(draw: st.DrawFn, records: list[tuple[int, int]]) -> list[list[tuple[int, list[dict[str, Any]]]]]:
    calls: list[list[tuple[int, list[dict[str, Any]]]]] = [[]]
    for number, version in records:
        if draw(st.booleans()):
            calls.append([])
        pages = calls[-1]
        if pages and pages[-1][0] == version and draw(st.booleans()):
            pages[-1][1].append(refund(number, version))
        else:
            pages.append((version, [refund(number, version)]))
    return calls


def outcome(calls: list[list[tuple[int, list[dict[str, Any]]]]]) -> tuple[dict[str, str], int]:
    """Land and conform call by call; the hashes of the tables, and records minus rows, merged and quarantined."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "entities.yaml").write_text(ENTITIES)
        store, lake, landing = Store(f"sqlite:///{root / 's.sqlite'}"), Lake(root / "lake"), Landing(root / "raw")
        store.upgrade()
        config = Settings(root, root, str(root / "lake"), store.url)
        unaccounted = landed = 0
        for n, pages in enumerate(calls):
            writer = landing.open("stripe_us", "refunds", window_lo=None, window_hi=None, extract_id=f"{n + 1:08}-x")
            for minute, records in pages:
                when = START + timedelta(minutes=minute)
                writer.page(records, request_id=None, http_status=200, fetched_at=when)
                landed += len(records)
            writer.commit()
            result = conform(BILLING, landing=landing, lake=lake, store=store, config=config, run_id=f"r{n}")
            unaccounted += result.rows_in - result.rows_out - result.rows_merged - result.rows_quarantined
        published = store.published()
        keys = {"refund": ["source", "source_id"], "quarantine": ["source", "object", "record_digest"]}
        tables = {name: lake.read(name, published[name]) if name in published else None for name in keys}
        log = lake.read("conformed_extracts", published["conformed_extracts"])
        assert sum(log["records"].to_pylist()) == landed
        return {n: result_hash(t, keys[n]) for n, t in tables.items() if t is not None and t.num_rows}, unaccounted


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(landed_twice())
def test_splitting_ordering_and_repeating_pages_change_nothing(ways: tuple[list[Any], list[Any]]) -> None:
    (one, missing), (other, lost) = outcome(ways[0]), outcome(ways[1])
    assert one == other
    assert missing == lost == 0
