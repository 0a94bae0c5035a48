"""Usage as files: the same events in every format, a drop folder anywhere, and the rows they become."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tieout.conform.steps import ConformResult, conform
from tieout.lake.landing import ExtractRef, Landing
from tieout.lake.tables import Lake
from tieout.settings import Connection, Settings
from tieout.sources import catch_up
from tieout.sources.config import SourceConfig
from tieout.store import Store
from tieout_sandbox.testing import fresh_store

Event = Mapping[str, str | None]
LOCAL = fsspec.filesystem("file")
COLUMNS = (
    "event_source", "event_type", "event_id", "occurred_at", "received_at", "subscription_id", "meter", "quantity",
    "unit", "kind", "corrects_event_id", "value_key",
)  # fmt: skip


def event(id: str = "e1", **changes: str | None) -> dict[str, str | None]:
    return {
        "event_source": "/gateway", "event_type": "request", "event_id": id, "occurred_at": "2026-03-01T10:00:00Z",
        "received_at": "2026-03-01T10:00:05Z", "subscription_id": "sub_1", "meter": "api", "quantity": "1.5",
        "unit": "call", "kind": "usage", "corrects_event_id": None, "value_key": None,
    } | changes  # fmt: skip


def cloud_event(e: Event) -> dict[str, Any]:
    """The event as a structured CloudEvent."""
    inside = ("subscription_id", "meter", "quantity", "unit", "kind", "corrects_event_id", "value_key")
    data = {name: e[name] for name in inside if e[name] is not None}
    return {
        "specversion": "1.0", "id": e["event_id"], "source": e["event_source"], "type": e["event_type"],
        "time": e["occurred_at"], "datacontenttype": "application/json",
        "data": data | {"received_at": e["received_at"]},
    }  # fmt: skip


def listed(e: Event) -> dict[str, Any]:
    """The event as OpenMeter lists what it has ingested: the subject is the subscription, the value is `value`."""
    inner = cloud_event(e)
    data = inner["data"] | {"value": e["quantity"]}
    del data["quantity"], data["received_at"], data["subscription_id"]
    return {"event": inner | {"subject": e["subscription_id"], "data": data}, "ingestedAt": e["received_at"]}


def json_lines(records: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


def csv_rows(events: Iterable[Event]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows({k: v or "" for k, v in e.items()} for e in events)
    return out.getvalue().encode()


def parquet_rows(events: Iterable[Event]) -> bytes:
    exact = {"quantity": pa.decimal128(28, 9), "occurred_at": pa.timestamp("us", "UTC")}
    shape = pa.schema([(name, exact.get(name, pa.string())) for name in COLUMNS])
    rows = [
        dict(e)
        | {"quantity": Decimal(str(e["quantity"])), "occurred_at": datetime.fromisoformat(str(e["occurred_at"]))}
        for e in events
    ]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=shape), out, compression="zstd", row_group_size=2)
    return out.getvalue()


FORMATS: dict[str, tuple[str, Callable[[list[Event]], bytes]]] = {
    "lines": ("jsonl", json_lines),
    "lines_gzip": ("ndjson.gz", lambda e: gzip.compress(json_lines(e))),
    "lines_zstd": ("jsonl.zst", lambda e: zstandard.compress(json_lines(e))),
    "csv": ("csv", csv_rows),
    "csv_gzip": ("csv.gz", lambda e: gzip.compress(csv_rows(e))),
    "csv_zstd": ("csv.zst", lambda e: zstandard.compress(csv_rows(e))),
    "parquet": ("parquet", parquet_rows),
    "parquet_as_it_is": ("parquet", parquet_rows),
    "cloud_events": ("jsonl.gz", lambda e: gzip.compress(json_lines(map(cloud_event, e)))),
    "cloud_events_batch": ("json", lambda e: json.dumps(list(map(cloud_event, e)), indent=1).encode()),
    "cloud_events_alone": ("json.zst", lambda e: zstandard.compress(json_lines(map(cloud_event, e)))),
    "openmeter": ("jsonl", lambda e: json_lines(map(listed, e))),
}  # fmt: skip


@dataclass
class World:
    """Drop files anywhere, read them, conform them, look at the rows."""

    home: Path
    landing: Landing = field(init=False)
    store: Store = field(init=False)
    lake: Lake = field(init=False)
    settings: Settings = field(init=False)
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    runs: int = 0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "config").mkdir(exist_ok=True)
        self.landing, self.lake = Landing(self.home / "raw"), Lake(self.home / "lake")
        self.store = fresh_store(self.home / "store.sqlite")
        self.settings = Settings(self.home, self.home / "config", str(self.home / "lake"), self.store.url)

    def drop(
        self, root: Path | str, name: str, content: bytes, rows: int | None, *, fs: Any = LOCAL, **entry: Any
    ) -> str:
        """One file with its line in the day's manifest; returns its path."""
        folder = f"{root}/usage/dt=2026-03-01"
        fs.makedirs(folder, exist_ok=True)
        manifest = f"{folder}/_MANIFEST.json"
        files = json.loads(fs.cat_file(manifest))["files"] if fs.exists(manifest) else []
        listed = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": rows}
        files = [f for f in files if f["name"] != name] + [listed | entry]
        fs.pipe_file(f"{folder}/{name}", content)
        fs.pipe_file(manifest, json.dumps({"files": files}).encode())
        return f"{folder}/{name}"

    def read(self, connection: Connection, name: str = "drop", **config: Any) -> list[ExtractRef]:
        source = SourceConfig(name=name, kind="files", connection="drop", objects=("usage",), **config)
        self.sources[name] = source
        return catch_up(source, connection, landing=self.landing, store=self.store)

    def conform(self) -> ConformResult:
        self.runs += 1
        return conform(
            list(self.sources.values()), landing=self.landing, lake=self.lake, store=self.store, config=self.settings,
            run_id=f"run-{self.runs}",
        )  # fmt: skip

    def table(self, name: str) -> pa.Table:
        return self.lake.read(name, self.store.published()[name])
