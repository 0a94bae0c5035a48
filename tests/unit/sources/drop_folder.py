"""A drop folder for tests: files, their manifests, and what catching up lands."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

from tieout.lake.landing import Landing
from tieout.settings import Connection
from tieout.sources import catch_up
from tieout.sources.config import SourceConfig
from tieout_sandbox.testing import fresh_store

EVENT = {
    "event_id": "e1",
    "occurred_at": "2026-03-01T10:00:00Z",
    "subscription_id": "sub_1",
    "meter": "api",
    "quantity": "1.5",
}


class Drop:
    def __init__(self, home: Path) -> None:
        self.root = home / "drop"
        self.root.mkdir()
        self.landing = Landing(home / "raw")
        self.store = fresh_store(home / "store.sqlite")
        self.source = SourceConfig(name="drop", kind="files", connection="drop", objects=("usage",), page_rows=2)
        self.listed: dict[str, list] = {}

    def put(self, name: str, content: bytes, *, day="2026-03-01", rows=1, listed=True, **entry) -> Path:
        folder = self.root / "usage" / f"dt={day}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        files = self.listed.setdefault(day, [])
        if listed:
            files[:] = [f for f in files if f["name"] != name]
            digest = hashlib.sha256(content).hexdigest()
            files.append({"name": name, "size": len(content), "sha256": digest, "rows": rows, **entry})
        (folder / "_MANIFEST.json").write_text(json.dumps({"files": files}))
        return folder / name

    def catch_up(self, until=None):
        connection = Connection("drop", f"file://{self.root}")
        return catch_up(self.source, connection, landing=self.landing, store=self.store, until=until)

    def records(self, ref):
        return [
            (json.loads(r["record"]) if r["fault"] is None else r["record"], r["fault"])
            for file in ref.files()
            for r in pq.read_table(file).to_pylist()
        ]


def lines(*events) -> bytes:
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


def csv_file(*rows: str) -> bytes:
    return ("\n".join(["event_id,occurred_at,subscription_id,meter,quantity", *rows]) + "\n").encode()
