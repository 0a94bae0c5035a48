"""Drop folders: `<root>/<feed>/dt=YYYY-MM-DD/` with data files and a manifest that says when they are whole.

Only files a manifest lists, with the size and SHA-256 it gives, are read; anything else is left alone and reported.
A file whose bytes contradict its checksum or row count is set aside whole. A file delivered again with other bytes is
a new version and is read again; with the same bytes it is nothing new.

A Parquet file of plain columns with more rows than a page holds is landed byte for byte; all others become pages of
records. Where the source has an `archive`, a file moves there once its extract is committed and the watermark knows it;
a process killed in between leaves it to the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError

from tieout.errors import ConfigError, Unavailable
from tieout.lake.landing import ControlTotal, ExtractRef, Record, Unreadable, parse
from tieout.settings import Connection
from tieout.sources.client import Clock
from tieout.sources.extract import Extraction, Filled, Pages
from tieout.sources.file_formats import (
    AT_ONCE,
    UNREADABLE,
    Poisoned,
    is_large_and_plain,
    proven_columns,
    records_of,
    weight,
)
from tieout.sources.places import place, told

log = logging.getLogger("tieout.sources")

MANIFEST = "_MANIFEST.json"
LARGEST_MANIFEST = 16 << 20  # bytes; a hundred thousand files
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
    digest: str = ""  # SHA-256 of the file as it is
    copy: Path | None = None  # on this machine, of a file from elsewhere

    @property
    def whole(self) -> bool:
        """The file's bytes are those its manifest promised."""
        return self.digest == self.entry.sha256.lower()

    @property
    def refused(self) -> str:
        """What is noted of the file once it was set aside: mended bytes or a mended manifest make it another one."""
        return f"bad:{self.digest}:{self.entry.sha256.lower()}:{self.entry.rows}"


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Land every new or changed file, one extract a feed.

    Of the folders that name a day, those whose day (in UTC) begins before `until` are read; all others always are.
    """
    filesystem, root = place(connection)
    with told(run.source.name, connection.host):
        there = filesystem.isdir(root)
    if not there:
        raise Unavailable("the drop folder cannot be reached", source=run.source.name, request=connection.host)
    if run.source.archive in run.source.objects:
        raise ConfigError("the archive is a folder beside the feeds", record=run.source.name, got=run.source.archive)
    done = []
    for name in run.source.objects:
        with run.landing.incoming(run.source.name) as incoming:
            feed = _Feed(run, filesystem, root, name, clock or Clock(), until, incoming)
            done += feed.catch_up()
            feed.archive()
    return done


class _Feed:
    """One feed's folder being read."""

    def __init__(
        self, run: Extraction, filesystem: Any, root: str, name: str, clock: Clock, until: datetime | None,
        incoming: Path,
    ) -> None:  # fmt: skip
        self.run, self.fs, self.root, self.name, self.clock = run, filesystem, root, name, clock
        self.folder, self.until, self.incoming = f"{root}/{name}", until, incoming
        self._is_here = isinstance(filesystem, LocalFileSystem)
        self._left_alone: dict[str, str] = {}

    def catch_up(self) -> list[ExtractRef]:
        done = self.run.adopt(self.name)
        mark = self.run.mark(self.name)
        known: dict[str, str] = dict(mark.feed.get("files", {}))
        with self._told():
            candidates = [d for d in self._deliveries(known) if known.get(d.path) != d.entry.sha256.lower()]
            due = [d for c in candidates if (d := self._digested(c)) and known.get(d.path) != d.refused]
        if self._left_alone:
            log.warning("source=%s object=%s left alone: %s", self.run.source.name, self.name, self._left_alone)
        if not due:
            return done
        lo, hi = _days(due)
        if mark.hi is not None and (hi is None or mark.hi > hi):
            hi = mark.hi
        identity = [f"{d.path}:{d.entry.sha256}:{d.digest}" for d in due]
        return [
            *done,
            self.run.extract(self.name, lo, hi, lambda pages: self._fill(pages, due, known), identity=identity),
        ]

    def archive(self) -> None:
        """Move what the watermark knows as read out of the folder, and a manifest whose files are all gone.

        Only bytes that were landed are moved: a file that is being delivered again with others stays.
        """
        if self.run.source.archive is None:
            return
        known = self.run.mark(self.name).feed.get("files", {})
        with self._told():
            for delivery in list(self._deliveries(known)):
                if known.get(delivery.path) == delivery.entry.sha256.lower() and self._digested(delivery).whole:
                    self._move(
                        delivery.path, f"{delivery.entry.sha256[:12].lower()}-{posixpath.basename(delivery.path)}"
                    )
            for folder in self._folders():
                self._archive_manifest(folder, known)

    def _archive_manifest(self, folder: str, known: dict[str, str]) -> None:
        there = {posixpath.basename(f["name"]) for f in self.fs.ls(folder, detail=True) if f["type"] == "file"}
        if there != {MANIFEST}:
            return
        content = self.fs.cat_file(f"{folder}/{MANIFEST}")
        manifest, below = _manifest(content), folder[len(self.folder) :].strip("/")
        listed = manifest.files if manifest else ()
        if listed and all(known.get(posixpath.join(below, e.name)) == e.sha256.lower() for e in listed):
            digest = hashlib.sha256(content).hexdigest()
            self._move(posixpath.join(below, MANIFEST), f"{digest[:12]}-{MANIFEST}")

    def _move(self, path: str, name: str) -> None:
        target = posixpath.join(self.root, str(self.run.source.archive), self.name, posixpath.dirname(path), name)
        self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
        self.fs.mv(f"{self.folder}/{path}", target)

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return told(self.run.source.name, self.folder)

    def _deliveries(self, known: Mapping[str, str]) -> Iterator[Delivery]:
        """Listed files that are there in full; notes what is left alone."""
        for folder in self._folders():
            there = {posixpath.basename(f["name"]): f for f in self.fs.ls(folder, detail=True)}
            inside = {name: f for name, f in there.items() if f["type"] == "file"}
            below = folder[len(self.folder) :].strip("/")
            links = [n for n, f in there.items() if f.get("islink") or f["type"] == "link"]
            self._left_alone.update({posixpath.join(below, n): "a link, which is not followed" for n in links})
            if MANIFEST not in inside:
                self._left_alone.update({posixpath.join(below, n): "its folder has no manifest" for n in inside})
                continue
            if inside[MANIFEST]["size"] > LARGEST_MANIFEST:
                self._left_alone[posixpath.join(below, MANIFEST)] = (
                    f"the manifest has more than {LARGEST_MANIFEST} bytes"
                )
                continue
            manifest = _manifest(self.fs.cat_file(f"{folder}/{MANIFEST}"))
            if manifest is None:
                self._left_alone[posixpath.join(below, MANIFEST)] = "the manifest is not whole or not valid"
                continue
            listed = Counter(entry.name for entry in manifest.files)
            for entry in manifest.files:
                path = posixpath.join(below, entry.name)
                found = inside.pop(entry.name, None)
                if listed[entry.name] > 1:
                    self._left_alone[path] = "listed more than once"
                elif not _NAME.match(entry.name) or found is None:
                    if self.run.source.archive is None or known.get(path) != entry.sha256.lower():
                        self._left_alone.setdefault(path, "listed, but not there")
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
        folders = sorted(f["name"] for f in inside if f["type"] == "directory" and self._has_begun(f["name"]))
        return [*([self.folder] if any(f["type"] == "file" for f in inside) else []), *folders]

    def _has_begun(self, folder: str) -> bool:
        """Whether a folder's day begins before what is to be read."""
        begin = _begin(folder)
        return self.until is None or begin is None or begin < self.until

    def _digested(self, delivery: Delivery) -> Delivery:
        if self._is_here:
            with self.fs.open(f"{self.folder}/{delivery.path}", "rb") as file:
                return replace(delivery, digest=_digest(file))
        copy = self._copy(delivery)
        with copy.open("rb") as file:
            return replace(delivery, digest=_digest(file), copy=copy)

    def _copy(self, delivery: Delivery) -> Path:
        """A copy on this machine; what is read from it is no longer at the mercy of a network."""
        self.run.beat()
        copy = self.incoming / hashlib.sha256(delivery.path.encode()).hexdigest()
        self.fs.get_file(f"{self.folder}/{delivery.path}", str(copy))
        return copy

    def _opened(self, delivery: Delivery) -> Any:
        return delivery.copy.open("rb") if delivery.copy else self.fs.open(f"{self.folder}/{delivery.path}", "rb")

    def _fill(self, pages: Pages, due: list[Delivery], known: dict[str, str]) -> Filled:
        landing = _Pages(pages, self.name, self.run.source.page_rows, self.clock)
        claimed, counted, unproven = 0, 0, False
        read, set_aside = [], []
        for delivery in due:
            entry, digest = delivery.entry, delivery.digest
            self.run.beat()
            try:
                rows = self._land(landing, delivery)
            except Poisoned as why:
                landing.poisoned(delivery, str(why))
                set_aside.append({"path": delivery.path, "reason": str(why), "rows": entry.rows})
                known[delivery.path] = delivery.refused
                continue
            known[delivery.path] = digest
            read.append({"path": delivery.path, "sha256": digest, "records": rows})
            counted += rows
            claimed += entry.rows or 0
            unproven = unproven or entry.rows is None
        landing.flush()
        if unproven:
            control = ControlTotal("a manifest without row counts", {}, {"rows": str(counted)})
        else:
            control = ControlTotal("rows in the manifests", {"rows": str(claimed)}, {"rows": str(counted)})
        facts = {"files": read, "set_aside": set_aside, "left_alone": self._left_alone}
        return Filled(control, {"files": known}, facts)

    def _land(self, landing: _Pages, delivery: Delivery) -> int:
        """Land one file's records and return their number. Raises Poisoned, then none of them is landed."""
        entry, drift = delivery.entry, landing.pages.drift
        if not delivery.whole:
            raise Poisoned(f"checksum differs from the manifest: {delivery.digest[:16]}… not {entry.sha256[:16]}…")
        largest = self.run.source.unpacked_gb << 30
        if (rows := self._land_as_is(landing.pages, delivery, largest)) is not None:
            return rows
        with self._opened(delivery) as raw, landing.file(delivery) as file:
            try:
                for record in records_of(raw, delivery.path, drift, f"{self.name}/{delivery.path}", largest=largest):
                    file.add(record)
            except UNREADABLE as error:
                raise Poisoned(f"cannot be read: {type(error).__name__}: {error}") from None
            if delivery.copy is None:
                raw.seek(0)
                if _digest(raw) != delivery.digest:
                    raise Poisoned("was changed while it was read")
            _as_promised(entry, file.count)
            return file.count

    def _land_as_is(self, pages: Pages, delivery: Delivery, largest: int) -> int | None:
        """Land a large file of plain columns byte for byte and return its rows; None for any other file.

        Raises Poisoned where the file does not keep what it and its manifest say.
        """
        if not delivery.path.lower().endswith(".parquet"):
            return None
        with self._opened(delivery) as raw:
            if not is_large_and_plain(raw, above=self.run.source.page_rows, largest=largest):
                return None
        copy = delivery.copy or self._copy(delivery)
        with copy.open("rb") as file:
            if delivery.copy is None and _digest(file) != delivery.digest:
                raise Poisoned("was changed while it was read")
        proven = proven_columns(copy)
        if proven is None:
            return None
        rows, columns = proven
        _as_promised(delivery.entry, rows)
        request = f"{self.name}/{delivery.path}"
        pages.drift.see_columns(columns, request)
        pages.land_file(
            copy, rows=rows, columns=columns, request=request, fetched_at=self.clock.now(), sha256=delivery.digest
        )
        return rows


class _Pages:
    """Pages of a feed: small files share one, a large file has its own, none is begun by a file that fails."""

    def __init__(self, pages: Pages, feed: str, size: int, clock: Clock) -> None:
        self.pages, self.feed, self.size, self.clock = pages, feed, size, clock
        self._records: list[Record] = []
        self._weight = 0
        self._parts: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def file(self, delivery: Delivery) -> Iterator[_File]:
        """Takes the records of one file; all of them are taken back if the block raises."""
        file = _File(self, delivery)
        try:
            yield file
        except Poisoned:
            file.take_back()
            raise
        file.close()

    def take(self, delivery: Delivery, records: list[Record], first_row: int, weighs: int = 0) -> None:
        """Add records of one file, beginning a new page where this one would become too large."""
        if self._records and (len(self._records) + len(records) > self.size or self._weight + weighs > AT_ONCE):
            self.flush()
        self._weight += weighs
        self._parts.append(
            {
                "path": f"{self.feed}/{delivery.path}",
                "sha256": delivery.digest,
                "first_row": first_row,
                "first_position": len(self._records),
            }
        )
        self._records += records

    def poisoned(self, delivery: Delivery, why: str) -> None:
        """One record that stands for the whole file, so that the quarantine shows it."""
        facts = {"file": f"{self.feed}/{delivery.path}", "digest": delivery.digest, **delivery.entry.model_dump()}
        self.take(delivery, [Unreadable(json.dumps(facts, sort_keys=True), f"file set aside: {why}")], 1)

    def flush(self) -> None:
        """Land what has been taken."""
        if not self._records:
            return
        first = self._parts[0]
        self.pages.land(
            self._records,
            request=first["path"],
            request_id=f"{first['path']}#{first['first_row']}",
            status=None,
            fetched_at=self.clock.now(),
            sha256=first["sha256"] if len(self._parts) == 1 else None,
            look=False,
            parts=self._parts,
        )
        self._records, self._parts, self._weight = [], [], 0


class _File:
    """The records of one file: kept back until the file is known to be good, unless there are too many."""

    def __init__(self, pages: _Pages, delivery: Delivery) -> None:
        self._pages, self._delivery = pages, delivery
        self._records: list[Record] = []
        self._weight = 0
        self._start: tuple[int, int, int] | None = None
        self.count = 0

    def add(self, record: Record) -> None:
        self._records.append(record)
        self._weight += weight(record)
        self.count += 1
        if len(self._records) >= self._pages.size or self._weight >= AT_ONCE:
            if self._start is None:
                self._pages.flush()
                self._start = self._pages.pages.writer.mark()
            self._land()
            self._pages.flush()

    def close(self) -> None:
        """The file was good: what was kept back goes to the page under way."""
        if self._records:
            self._land()

    def take_back(self) -> None:
        """The file was not good: pages it already has are removed."""
        self._records = []
        if self._start is not None:
            self._pages.pages.writer.rewind(self._start)

    def _land(self) -> None:
        self._pages.take(self._delivery, self._records, self.count - len(self._records) + 1, self._weight)
        self._records, self._weight = [], 0


def _manifest(content: bytes) -> _Manifest | None:
    """A manifest as read; None for one that is not whole or not valid."""
    try:
        return _Manifest.model_validate(parse(content))
    except (ValidationError, ValueError):
        return None


def _as_promised(entry: _Entry, rows: int) -> None:
    if entry.rows is not None and rows != entry.rows:
        raise Poisoned(f"row count differs from the manifest: {rows} instead of {entry.rows}")


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _begin(folder: str) -> datetime | None:
    """When a folder's day begins (UTC); None where it names none."""
    day = _DAY.search(folder)
    try:
        return datetime.combine(date.fromisoformat(day[1]), time(), UTC) if day else None
    except ValueError:
        return None


def _days(deliveries: list[Delivery]) -> tuple[datetime | None, datetime | None]:
    """The days of the folders, as a window; open where a folder is named otherwise."""
    begun = [begin for d in deliveries if (begin := _begin(posixpath.dirname(d.path))) is not None]
    return (min(begun), max(begun) + timedelta(days=1)) if begun else (None, None)
