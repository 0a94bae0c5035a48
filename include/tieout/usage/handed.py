"""Usage handed to a cluster through spark-submit: what the program is asked, and what it answered, as files.

The program is `application`; both sides reach the folder as they reach the lake.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from tieout import schema
from tieout.entities import Entities
from tieout.errors import DataError
from tieout.usage.meters import Meters
from tieout.usage.summary import Usage

TABLES = {"rows": "usage_summary", "quarantined": "usage_quarantine", "conflicts": "usage_conflict"}
_COUNTS = ("events", "counted", "repeated", "changed", "faulty")


class Request(BaseModel):
    """The arguments of `aggregate`, and where its answer goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: list[str]
    subscriptions: list[str]
    subscription_items: list[str]
    products: list[str]
    former_prices: list[str] = []
    entities: Entities
    meters: Meters
    snapshot: dict[str, int]
    """Versions of the tables that the answer is about."""
    until: date | None = None
    """The last day that levels weighted by time are counted over."""
    folder: str
    """Of this request and its answer."""

    def write(self, billed: pa.Table | None = None) -> str:
        """Write the request into its folder and return the file's URI, which the program takes as its argument.

        `billed` says when periods were billed, as for `aggregate`.
        """
        if billed is not None:
            _write_table(self.billed, billed)
        return _write(f"{self.folder}/request.json", self.model_dump_json(by_alias=True).encode())

    @property
    def billed(self) -> str:
        """The file that says when periods were billed; it may be missing."""
        return f"{self.folder}/billed.parquet"

    @classmethod
    def read(cls, uri: str) -> Request:
        """The request that a file holds."""
        with fsspec.open(uri, "rb") as file:
            return cls.model_validate_json(file.read())

    def answer(self, usage: Usage) -> None:
        """Write the results as Parquet files, then how many events there were: without that there is no answer."""
        for name, table in TABLES.items():
            _write_table(f"{self.folder}/{table}.parquet", getattr(usage, name))
        counts = {name: getattr(usage, name) for name in _COUNTS}
        _write(f"{self.folder}/counts.json", json.dumps(counts).encode())

    def answered(self) -> Usage:
        """What the program answered. Raises DataError where it did not get that far."""
        try:
            with fsspec.open(f"{self.folder}/counts.json", "rb") as file:
                counts = json.load(file)
        except FileNotFoundError:
            raise DataError(
                "the cluster gave no answer", record=self.folder, remedy="look at the log of spark-submit, clear"
            ) from None
        tables = {}
        for name, table in TABLES.items():
            tables[name] = _read_table(f"{self.folder}/{table}.parquet").cast(schema.table(table).arrow)
        return Usage(**tables, **counts)

    def billed_periods(self) -> pa.Table | None:
        """When periods were billed, where the request says so."""
        files, path = fsspec.core.url_to_fs(self.billed)
        return _read_table(self.billed) if files.exists(path) else None

    def forget(self) -> None:
        """Delete the folder."""
        files, path = fsspec.core.url_to_fs(self.folder)
        if files.exists(path):
            files.rm(path, recursive=True)


def _write_table(uri: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _write(uri, sink.getvalue())


def _read_table(uri: str) -> pa.Table:
    with fsspec.open(uri, "rb") as file:
        return pq.read_table(file)


def _write(uri: str, content: bytes | pa.Buffer) -> str:
    if "://" not in uri:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    with fsspec.open(uri, "wb") as file:
        file.write(content)
    return uri
