"""Drop folders: `<root>/<feed>/dt=YYYY-MM-DD/` with data files and a manifest that says when they are whole.

Only files a manifest lists, with the size and SHA-256 it gives, are read; anything else is left alone and reported.
A file whose bytes contradict its checksum or row count is set aside whole. A file delivered again with other bytes is
a new version and is read again; with the same bytes it is nothing new.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import json
import logging
import posixpath
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from pydantic import BaseModel, ConfigDict, ValidationError

from tieout.errors import Unavailable
from tieout.lake.landing import ControlTotal, ExtractRef, Record, Unreadable, parse
from tieout.settings import Connection
from tieout.sources.client import Clock
from tieout.sources.drift import Drift
from tieout.sources.extract import Extraction, Filled, Pages
from tieout.sources.pagers import FIELD_LIMIT

log = logging.getLogger("tieout.sources")

MANIFEST = "_MANIFEST.json"
LOOKED_AT = 1000  # lines of each file held against the contract one by one; after them every hundredth
_DAY = re.compile(r"dt=(\d{4}-\d{2}-\d{2})\Z")
_NAME = re.compile(r"[^/\\]+\Z")
_CHUNK = 1 << 20


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str
    rows: int | None = None


class _Manifest(BaseModel):
    files: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that its manifest lists."""

    path: str  # below the feed's folder
    entry: _Entry


class Poisoned(Exception):
    """The file cannot be what its manifest says; its message says why."""


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Land every new or changed file, one extract a feed; `until` is not used, because files carry no clock."""
    del until
    filesystem, root = fsspec.core.url_to_fs(connection.host)
    if not filesystem.isdir(root):
        raise Unavailable("the drop folder cannot be reached", source=run.source.name, request=connection.host)
    done = []
    for name in run.source.objects:
        done += _Feed(run, filesystem, f"{root}/{name}", name, clock or Clock()).catch_up()
    return done


class _Feed:
    """One feed's folder being read."""

    def __init__(self, run: Extraction, filesystem: Any, folder: str, name: str, clock: Clock) -> None:
        self.run, self.fs, self.folder, self.name, self.clock = run, filesystem, folder, name, clock
        self._left_alone: dict[str, str] = {}

    def catch_up(self) -> list[ExtractRef]:
        done = self.run.adopt(self.name)
        mark = self.run.mark(self.name)
        known: dict[str, str] = dict(mark.feed.get("files", {}))
        due = [d for d in self._deliveries() if self._is_due(d, known)]
        if self._left_alone:
            log.warning("source=%s object=%s left alone: %s", self.run.source.name, self.name, self._left_alone)
        if not due:
            return done
        lo, hi = _days(due)
        if mark.hi is not None and (hi is None or mark.hi > hi):
            hi = mark.hi
        identity = [f"{d.path}:{d.entry.sha256}:{self._digest(d)}" for d in due]
        return [
            *done,
            self.run.extract(self.name, lo, hi, lambda pages: self._fill(pages, due, known), identity=identity),
        ]

    def _deliveries(self) -> Iterator[Delivery]:
        """Listed files that are there in full; notes what is left alone."""
        for folder in self._folders():
            inside = {posixpath.basename(f["name"]): f for f in self.fs.ls(folder, detail=True) if f["type"] == "file"}
            below = folder[len(self.folder) :].strip("/")
            if MANIFEST not in inside:
                self._left_alone.update({posixpath.join(below, n): "its folder has no manifest" for n in inside})
                continue
            try:
                manifest = _Manifest.model_validate(parse(self.fs.cat_file(f"{folder}/{MANIFEST}")))
            except (ValidationError, ValueError):
                self._left_alone[posixpath.join(below, MANIFEST)] = "the manifest is not whole or not valid"
                continue
            for entry in manifest.files:
                path = posixpath.join(below, entry.name)
                found = inside.pop(entry.name, None)
                if not _NAME.match(entry.name) or found is None:
                    self._left_alone[path] = "listed, but not there"
                elif found["size"] < entry.size:
                    self._left_alone[path] = f"half written: {found['size']} of {entry.size} bytes"
                else:
                    yield Delivery(path, entry)
            unlisted = [n for n in inside if n != MANIFEST and not n.startswith((".", "_"))]
            self._left_alone.update({posixpath.join(below, n): "not listed in the manifest" for n in unlisted})

    def _folders(self) -> list[str]:
        if not self.fs.isdir(self.folder):
            return []
        inside = self.fs.ls(self.folder, detail=True)
        folders = sorted(f["name"] for f in inside if f["type"] == "directory")
        return [*([self.folder] if any(f["type"] == "file" for f in inside) else []), *folders]

    def _is_due(self, delivery: Delivery, known: Mapping[str, str]) -> bool:
        before = known.get(delivery.path)
        if before is not None and before.startswith("bad:"):
            return before != f"bad:{self._digest(delivery)}"
        return before != delivery.entry.sha256

    def _digest(self, delivery: Delivery) -> str:
        digest = hashlib.sha256()
        with self.fs.open(f"{self.folder}/{delivery.path}", "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _fill(self, pages: Pages, due: list[Delivery], known: dict[str, str]) -> Filled:
        claimed, counted, unproven = 0, 0, False
        read, set_aside = [], []
        for delivery in due:
            start = pages.writer.mark()
            digest = self._digest(delivery)
            try:
                rows = self._land(pages, delivery, digest)
            except Poisoned as why:
                pages.writer.rewind(start)
                self._land_poisoned(pages, delivery, digest, str(why))
                set_aside.append({"path": delivery.path, "reason": str(why), "rows": delivery.entry.rows})
                known[delivery.path] = f"bad:{digest}"
                continue
            known[delivery.path] = digest
            read.append({"path": delivery.path, "sha256": digest, "records": rows})
            counted += rows
            claimed += delivery.entry.rows or 0
            unproven = unproven or delivery.entry.rows is None
        if unproven:
            control = ControlTotal("a manifest without row counts", {}, {"rows": str(counted)})
        else:
            control = ControlTotal("rows in the manifests", {"rows": str(claimed)}, {"rows": str(counted)})
        facts = {"files": read, "set_aside": set_aside, "left_alone": self._left_alone}
        return Filled(control, {"files": known}, facts)

    def _land(self, pages: Pages, delivery: Delivery, digest: str) -> int:
        """Land one file's records and return their number. Raises Poisoned."""
        entry = delivery.entry
        if digest != entry.sha256.lower():
            raise Poisoned(f"checksum differs from the manifest: {digest[:16]}… instead of {entry.sha256[:16]}…")
        request, count = f"{self.name}/{delivery.path}", 0
        with self.fs.open(f"{self.folder}/{delivery.path}", "rb") as raw:
            try:
                for batch in _batches(_records(raw, delivery.path, pages.drift, request), self.run.source.page_rows):
                    self._page(pages, batch, request, count + 1, digest)
                    count += len(batch)
            except _UNREADABLE as error:
                raise Poisoned(f"cannot be read: {type(error).__name__}: {error}") from None
        if entry.rows is not None and count != entry.rows:
            raise Poisoned(f"row count differs from the manifest: {count} instead of {entry.rows}")
        return count

    def _land_poisoned(self, pages: Pages, delivery: Delivery, digest: str, why: str) -> None:
        """One record that stands for the whole file, so that the quarantine shows it."""
        facts = {"file": f"{self.name}/{delivery.path}", "sha256": digest, **delivery.entry.model_dump()}
        text = json.dumps(facts, sort_keys=True)
        self._page(pages, [Unreadable(text, f"file set aside: {why}")], f"{self.name}/{delivery.path}", 1, digest)

    def _page(self, pages: Pages, records: list[Record], request: str, first_row: int, digest: str) -> None:
        pages.land(
            records,
            request=request,
            request_id=f"{request}#{first_row}",
            status=None,
            fetched_at=self.clock.now(),
            sha256=digest,
            look=False,
        )


_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowInvalid, csv.Error)


def _records(raw: IO[bytes], path: str, drift: Drift, request: str) -> Iterator[Record]:
    """The records of one file by the ending of its name. Raises Poisoned for a format it does not know."""
    name = path.lower()
    stream = raw
    if name.endswith(".gz"):
        stream, name = gzip.GzipFile(fileobj=raw), name[:-3]  # type: ignore[assignment]  # all members of the file
    elif name.endswith((".zst", ".zstd")):
        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        stream, name = io.BufferedReader(reader, _CHUNK), name.rsplit(".", 1)[0]
    readers: dict[str, Callable[[IO[bytes], Drift, str], Iterator[Record]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    suffix = posixpath.splitext(name)[1]
    if suffix not in readers:
        raise Poisoned(f"no reader for {suffix or 'a name without ending'}; known: {', '.join(readers)}")
    yield from readers[suffix](stream, drift, request)


def _json_lines(stream: IO[bytes], drift: Drift, request: str) -> Iterator[Record]:
    for number, line in enumerate(stream):
        text = line.rstrip(b"\r\n").decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
        if not text.strip():
            continue
        if number < LOOKED_AT or number % 100 == 0:
            with contextlib.suppress(ValueError):  # landing flags it
                drift.see([parse(text)], request)
        yield text


def _csv_rows(stream: IO[bytes], drift: Drift, request: str) -> Iterator[Record]:
    """Rows by the header's names, all values text, an empty cell null; a row of another width is unreadable."""
    csv.field_size_limit(FIELD_LIMIT)
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        rows = csv.reader(text)
        header = next(rows, None)
        if header is None:
            raise Poisoned("the file has no header")
        drift.see_columns(header, request)
        for row in rows:
            if len(row) == len(header):
                yield {name: value or None for name, value in zip(header, row, strict=True)}
            elif row:
                yield Unreadable(json.dumps(row), f"has {len(row)} fields, the header has {len(header)}")
    finally:
        text.detach()  # the stream is its opener's to close


def _parquet_rows(stream: IO[bytes], drift: Drift, request: str) -> Iterator[Record]:
    """Rows as JSON would have them: numbers with a fraction, dates and times as text."""
    file = pq.ParquetFile(pa.BufferReader(stream.read()) if not stream.seekable() else stream)
    drift.see_columns(file.schema_arrow.names, request)
    for batch in file.iter_batches(batch_size=10_000):
        columns = [_as_json(column) for column in batch.columns]
        yield from pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()


def _as_json(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        utc = pc.cast(column, pa.timestamp(kind.unit, "UTC")) if kind.tz else column
        text = pc.strftime(utc, format="%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz else text
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind):
        return pc.cast(column, pa.string())
    return column


def _batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, size)):
        yield batch


def _days(deliveries: list[Delivery]) -> tuple[datetime | None, datetime | None]:
    """The days of the folders, as a window; open where a folder is named otherwise."""
    days = [
        date.fromisoformat(match[1])
        for d in deliveries
        if (match := _DAY.search(posixpath.dirname(d.path))) is not None
    ]
    if not days:
        return None, None
    at = [datetime(d.year, d.month, d.day, tzinfo=UTC) for d in (min(days), max(days))]
    return at[0], at[1] + timedelta(days=1)
