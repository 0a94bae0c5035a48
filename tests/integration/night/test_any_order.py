"""The same records in another order, other files and other pages lead to the same results: breaks, totals, journals."""

import gzip
import hashlib
import json
import os
import random
from datetime import date

import pyarrow.parquet as pq
import pytest
import zstandard

from tieout import schema
from tieout.lake.hashing import result_hash
from tieout.lake.landing import Unreadable
from tieout.orchestration import checking, intake, planning, steps
from tieout.orchestration.results import result_hashes
from tieout.orchestration.work import Work
from tieout.settings import Connection, Settings
from tieout.sources.files import MANIFEST
from tieout.store import Store
from tieout_sandbox import demo

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

DAY = str(demo.NIGHTS[0])
FORMATS = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.ZstdCompressor().compress}


def work_of(home, connect):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    work = Work(Settings.from_env({**ours, "TIEOUT_HOME": str(home), "TIEOUT_CONFIG": str(demo.CONFIG)}), connect)
    Store(work.settings.store).upgrade()
    steps.open_run(work, "night", "nightly", DAY)
    return work


def landed(extract):
    """The records of an extract, page by page."""
    return [pq.read_table(file).to_pylist() for file in extract.files()]


def land_shuffled(work, other, order):
    """Land what a vendor's pages held once more: pages in another order and cut elsewhere, records shuffled."""
    for source in work.sources.values():
        for extract in other.landing.extracts(source.name) if source.kind != "files" else ():
            writer = work.landing.open(
                source.name,
                extract.object,
                window_lo=extract.window_lo,
                window_hi=extract.window_hi,
                extract_id=extract.extract_id,
                sequence=extract.sequence,
            )
            pages = landed(extract)
            order.shuffle(pages)
            for rows in pages:
                order.shuffle(rows)
                cut = order.randrange(len(rows) + 1)
                for part in filter(None, (rows[:cut], rows[cut:])):
                    records = [r["record"] if r["fault"] is None else Unreadable(r["record"], r["fault"]) for r in part]
                    writer.page(records, request_id=None, http_status=200, fetched_at=part[0]["fetched_at"])
            writer.commit()


def deliver_shuffled(folder, other, order):
    """The records of all drop files in other files: mixed over days, formats and sizes, under meaningless names."""
    (source,) = (s for s in other.sources.values() if s.kind == "files")
    for feed in source.objects:
        texts = [r["record"] for e in other.landing.extracts(source.name, feed) for page in landed(e) for r in page]
        order.shuffle(texts)
        cuts = sorted(order.randrange(len(texts)) for _ in range(8))
        manifests = {}
        for start, end in zip([0, *cuts], [*cuts, len(texts)], strict=True):
            ending, pack = order.choice(list(FORMATS.items()))
            name = f"{order.getrandbits(64):016x}{ending}"
            content = pack("".join(f"{text}\n" for text in texts[start:end]).encode())
            inside = folder / feed / f"dt=2026-03-{order.choice((27, 28, 29))}"
            inside.mkdir(parents=True, exist_ok=True)
            (inside / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            listed = {"name": name, "size": len(content), "sha256": digest, "rows": end - start}
            manifests.setdefault(inside, []).append(listed)
        for inside, files in manifests.items():
            (inside / MANIFEST).write_text(json.dumps({"files": files}))


def results(work):
    """From canonical rows to journals, nothing posted: the hash of every table."""
    intake.conform(work, "night")
    checking.aggregate_usage(work, "night", DAY)
    checking.reconcile_sources(work, "night", DAY)
    planning.plan_journals(work, "night", DAY)
    checking.reconcile_ledger(work, "night", DAY, ledger_read=True)
    published = work.store.published("night")
    tables = [t for t in schema.CANONICAL if t.name in published]
    tables += [schema.table(name) for name in ("crosswalk", "quarantine", "usage_summary", "journal_drilldown")]
    hashes = {t.name: result_hash(work.lake.read(t.name, published[t.name]), t.key) for t in tables}
    return hashes | result_hashes(work, "night", date.fromisoformat(DAY))


def test_the_same_records_in_any_order_lead_to_the_same_results(sandbox, tmp_path):
    order = random.Random(7)
    delivered = work_of(tmp_path / "delivered", sandbox.connection)
    for source in delivered.sources.values():
        if source.kind != "erp":
            intake.extract(delivered, "night", source.name, DAY)
    intake.read_ledger(delivered, "night", DAY)

    drop = tmp_path / "drop"
    shuffled = work_of(
        tmp_path / "shuffled",
        lambda conn_id: Connection(conn_id, drop.as_uri()) if conn_id == "drop" else sandbox.connection(conn_id),
    )
    land_shuffled(shuffled, delivered, order)
    deliver_shuffled(drop, delivered, order)
    for source in shuffled.sources.values():
        if source.kind == "files":
            intake.extract(shuffled, "night", source.name, DAY)

    expected = results(delivered)
    assert results(shuffled) == expected
    assert len(expected) > 30
    assert len(checking.breaks(delivered, date.fromisoformat(DAY))) > 20
    assert delivered.store.quarantined()
