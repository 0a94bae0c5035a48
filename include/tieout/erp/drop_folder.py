"""Files that two systems hand each other in a folder: written whole or not at all, believed only with their manifest.

A file `x.csv` counts once its manifest `x.csv.ok` is there: JSON with `bytes` and `sha256` of the file, `made_at`, and
whatever its kind needs besides. The manifest is written last, so half a file is never read. Nothing is overwritten.
A manifest that is no JSON object is left alone while it may still be written; after that `x.csv.ok.refused` beside it
says why its file is not read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tieout.errors import ErpUnavailable, Rejected

log = logging.getLogger("tieout.erp")

MARKER = ".ok"
REFUSED = ".refused"
STILL_WRITTEN = timedelta(minutes=10)
"""How long after its last change a manifest that is no JSON may be one that is not whole yet."""
LARGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Manifest:
    """A delivered file: its path below the root, and what its manifest says of it."""

    path: str
    says: Mapping[str, Any]
    arrived_at: datetime

    @property
    def made_at(self) -> datetime:
        """When the other system made the file. Raises ErpUnavailable if it does not say so with a zone."""
        try:
            made = datetime.fromisoformat(str(self.says["made_at"]))
        except (KeyError, ValueError):
            made = None
        if made is None or made.tzinfo is None:
            raise ErpUnavailable("a manifest needs made_at with its zone", record=self.path + MARKER)
        return made.astimezone(UTC)


class DropFolder:
    """A folder at any address fsspec knows (`file:///…`, `s3://…`, `sftp://…`)."""

    def __init__(self, address: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(address)
        self._local = isinstance(self.fs, LocalFileSystem)

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there yet, whole and on disk before its name appears; False if it is there."""
        target = posixpath.join(self.root, path)
        self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
        if not self._local:  # one put is whole or not there; two writers are kept apart by the ledger's lease
            if self.fs.exists(target):
                return False
            self.fs.pipe_file(target, content)
            return True
        final = Path(target)
        partial = final.with_name(f".{final.name}.{uuid4().hex}.part")
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            final.hardlink_to(partial)  # fails where the name is taken, which a rename would not
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(final.parent)
        return True

    def deliver(self, path: str, content: bytes, **says: Any) -> bool:
        """Hand over a file and then its manifest; what an attempt that died left is completed. False if it was done.

        Raises Rejected where a file of that name has another content.
        """
        if not self.create(path, content) and self.read(path) != content:
            raise Rejected("a file of that name with another content was dropped before", record=path)
        manifest = {"bytes": len(content), "sha256": digest(content), **says}
        return self.create(path + MARKER, json.dumps(manifest, sort_keys=True, indent=1).encode())

    def delivered(self, below: str, recursive: bool = False) -> list[Manifest]:
        """The delivered files of a folder by path; one whose manifest is unreadable, and stays so, is set aside."""
        folder = posixpath.join(self.root, below)
        self.fs.invalidate_cache()
        try:
            found = (
                self.fs.find(folder, detail=True)
                if recursive
                else {i["name"]: i for i in self.fs.ls(folder, detail=True)}
            )
        except FileNotFoundError:
            return []
        manifests = []
        for name in sorted(found):
            if not name.endswith(MARKER):
                continue
            path = posixpath.relpath(name, self.root)
            if (content := self.read(path)) is None:
                continue
            arrived = _modified(found[name])
            try:
                says = json.loads(content)
            except ValueError as error:
                if datetime.now(UTC) - arrived > STILL_WRITTEN:
                    self._set_aside(path, content, f"the manifest is no JSON: {error}")
                continue
            if isinstance(says, dict):
                manifests.append(Manifest(path.removesuffix(MARKER), says, arrived))
            else:
                self._set_aside(path, content, "the manifest is no JSON object")
        return manifests

    def _set_aside(self, path: str, content: bytes, why: str) -> None:
        """Say beside a manifest, once, why its file is not read."""
        note = {"reason": why, "bytes": len(content), "sha256": digest(content), "remedy": "deliver it anew"}
        if self.create(path + REFUSED, json.dumps(note, sort_keys=True, indent=1).encode()):
            log.warning("%s is set aside: %s", path, why)

    def read(self, path: str) -> bytes | None:
        """The content of a file, None if it is not there."""
        target = posixpath.join(self.root, path)
        try:
            if self.fs.size(target) > LARGEST:
                raise ErpUnavailable("a file is too large to be read", record=path, expected=f"at most {LARGEST} bytes")
            return bytes(self.fs.cat_file(target))
        except FileNotFoundError:
            return None

    def rows(self, manifest: Manifest) -> Iterator[dict[str, str]]:
        """The records of a delivered CSV file, provided that it is the file its manifest speaks of.

        Raises ErpUnavailable where size, checksum or number of rows differ, or the file is no CSV in UTF-8.
        """
        content = self.read(manifest.path)
        if (
            content is None
            or len(content) != manifest.says.get("bytes")
            or digest(content) != manifest.says.get("sha256")
        ):
            raise ErpUnavailable(
                "a file of the ERP differs from its manifest",
                record=manifest.path,
                remedy="deliver it again, under a new name",
            )
        try:
            rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ErpUnavailable("a file of the ERP is no CSV in UTF-8", record=manifest.path, got=str(error)) from None
        if len(rows) != manifest.says.get("rows"):
            raise ErpUnavailable(
                "a file of the ERP has other rows than its manifest says",
                record=manifest.path,
                expected=manifest.says.get("rows"),
                got=len(rows),
            )
        return iter(rows)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified(info: Mapping[str, Any]) -> datetime:
    """When a file got its content, as its filesystem tells it; now, where it tells nothing."""
    found = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created")
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, UTC)
    if isinstance(found, datetime):
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)
