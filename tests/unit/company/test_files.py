"""The drop folder: what has arrived, whole, listed with its checksum, and untouched by a second write."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from tieout_sandbox.company import Company
from tieout_sandbox.company.files import write_drop


@pytest.fixture(scope="module")
def company(planted: Company) -> Company:
    """What arrives around go-live: months of small files would only be slow."""
    since = datetime(2026, 3, 26, tzinfo=UTC)
    recent = {
        feed: [row for row in getattr(planted, feed) if row.visible_at >= since]
        for feed in ("usage_events", "unreadable_usage", "bank_lines", "provisioning")
    }
    return replace(planted, **recent)


def listed(root: Path) -> dict[Path, dict]:
    found = {}
    for manifest in root.rglob("_MANIFEST.json"):
        for entry in json.loads(manifest.read_text())["files"]:
            found[manifest.parent / entry["name"]] = entry
    return found


def rows(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    elif path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().decompress(content, max_output_size=1 << 28)
    if ".csv" in path.name:
        return list(csv.DictReader(io.StringIO(content.decode())))
    return [json.loads(line) for line in content.splitlines()]


def test_files_hold_every_row_that_has_arrived_and_none_that_has_not(company: Company, tmp_path: Path) -> None:
    now = datetime(2026, 3, 31, 9, tzinfo=UTC)
    write_drop(company, tmp_path, now)
    files = listed(tmp_path)
    present = {p for p in tmp_path.rglob("*") if p.is_file() and p.name != "_MANIFEST.json"}
    assert present == set(files)
    for path, entry in files.items():
        assert (entry["size"], entry["sha256"]) == (
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        assert entry["rows"] == len(rows(path))
    counts = {feed: sum(e["rows"] for p, e in files.items() if feed in p.parts) for feed in ("usage", "bank")}
    usage = [e for e in company.usage_events if e.visible_at <= now]
    bad = [e for e in company.unreadable_usage if e.visible_at <= now]
    assert counts["usage"] == len(usage) + len(bad)
    assert counts["bank"] == sum(line.visible_at <= now for line in company.bank_lines)
    assert {"".join(p.suffixes) for p in files} >= {".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.zst"}
    read = [r for p in files if "usage" in p.parts for r in rows(p) if "device" not in p.name]
    assert sum(int(r["quantity"]) for r in read) == sum(e.quantity for e in usage)


def test_writing_again_adds_only_what_has_arrived_since(company: Company, tmp_path: Path) -> None:
    first, later = datetime(2026, 3, 29, 16, tzinfo=UTC), datetime(2026, 3, 30, 9, tzinfo=UTC)
    assert write_drop(company, tmp_path, first) > 0
    before = {p: p.read_bytes() for p in listed(tmp_path)}
    assert write_drop(company, tmp_path, first) == 0
    assert write_drop(company, tmp_path, later) > 0
    after = {p: p.read_bytes() for p in listed(tmp_path)}
    assert {p: after[p] for p in before} == before
    at_once = tmp_path / "at-once"
    write_drop(company, at_once, later)
    assert {p.relative_to(at_once): e for p, e in listed(at_once).items()} == {
        p.relative_to(tmp_path): e for p, e in listed(tmp_path).items() if "at-once" not in p.parts
    }
