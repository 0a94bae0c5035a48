"""Usage handed to a cluster: what is asked and answered survives being a file, and half an answer is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import engine
from tieout.lake.hashing import result_hash
from tieout.lake.tables import Lake
from tieout.orchestration import checking
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import Store
from tieout.usage import Usage, aggregate, publish_summary
from tieout.usage.handed import Request
from tieout.usage.publish import hand_over, publish_answer
from tieout_sandbox.bench.every_rule import ENTITIES, METERS, generate
from tieout_sandbox.testing import fresh_store


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Request, Usage]:
    with engine() as session:
        given = generate(session, tmp_path / "events", 500, parts=2)
        usage = aggregate(**given, session=session)
    files = {
        name: [paths] if isinstance(paths, str) else paths
        for name, paths in given.items()
        if isinstance(paths, str | list)
    }
    return Request(**files, entities=ENTITIES, meters=METERS, snapshot={}, folder=str(tmp_path / "handed")), usage


def test_a_request_is_read_as_it_was_written_and_so_is_its_answer(asked):
    request, usage = asked
    assert Request.read(request.write()) == request
    request.answer(usage)
    assert request.answered() == usage


def test_without_its_last_file_there_is_no_answer(asked):
    request, usage = asked
    request.answer(usage)
    (Path(request.folder) / "counts.json").unlink()
    with pytest.raises(DataError, match=r"the cluster gave no answer.*spark-submit"):
        request.answered()
    request.forget()
    assert not Path(request.folder).exists()


def filled(name: str, path: str) -> pa.Table:
    """Rows of a file as rows of a table of the lake: what is required and not there gets some value."""
    some = {"text": "x", "int": 1, "bool": False, "date": date(2026, 3, 1), "instant": datetime(2026, 3, 1, tzinfo=UTC)}
    shape = schema.table(name)
    rest = {c.name: some[c.kind] for c in shape.columns if c.required and c.kind in some}
    return pa.Table.from_pylist([rest | row for row in pq.read_table(path).to_pylist()], shape.arrow)


def test_what_a_cluster_answers_is_published_as_if_it_were_summed_up_here(tmp_path: Path) -> None:
    store, lake = fresh_store(tmp_path / "store.sqlite"), Lake(tmp_path / "lake")
    with engine() as session:
        given = generate(session, tmp_path / "events", 500, parts=1)
    files = {"usage_event": given["events"][0], "subscription": given["subscriptions"],
             "subscription_item": given["subscription_items"], "product": given["products"]}  # fmt: skip
    store.publish("filled", {name: lake.write(name, filled(name, path)) for name, path in files.items()}, {})
    here = Settings(tmp_path, SHIPPED_CONFIG, lake.root, store.url)
    there = replace(here, engine="auto", spark_connection="spark_default", spark_from_rows=given_rows(lake, store))

    counts = publish_summary(lake=lake, store=store, settings=here, run_id="here")
    expected = hashes(lake, store)
    assert counts["events"] == there.spark_from_rows

    few = replace(there, spark_from_rows=there.spark_from_rows + 1)
    assert hand_over(lake=lake, store=store, settings=few, run_id="there") is None
    uri = hand_over(lake=lake, store=store, settings=there, run_id="there")
    assert uri is not None
    asked = Request.read(uri)
    with pytest.raises(DataError, match="no answer"):
        publish_answer(uri, lake=lake, store=store, settings=there, run_id="there")
    asked.answer(
        aggregate(asked.events, asked.subscriptions, asked.subscription_items, asked.products, entities=asked.entities,
                  meters=asked.meters, billed=asked.billed_periods())
    )  # fmt: skip
    work = Work(there)
    work.store.start_run("there", "nightly")
    found = checking.publish_usage(work, "there", uri)
    assert {name: found[name] for name in counts} == counts
    assert hashes(lake, store) == expected
    # and rated, as here
    usage = lake.read("usage_summary", store.published()["usage_summary"])
    assert found["unrated"] == usage["grain"].to_pylist().count("period") > 0
    assert not Path(asked.folder).exists()


def given_rows(lake: Lake, store: Store) -> int:
    return lake.row_count("usage_event", store.published()["usage_event"])


def hashes(lake: Lake, store: Store) -> dict[str, str]:
    published = store.published()
    names = ("usage_summary", "usage_quarantine", "usage_conflict", "usage_late", "usage_watermark")
    return {name: result_hash(lake.read(name, published[name]), schema.table(name).key) for name in names}
