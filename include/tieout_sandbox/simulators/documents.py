"""The vendors' records over time: every version of every object in one SQLite file, read by index.

A simulator never holds the company in memory. It asks this store for what a vendor would show at an instant: the
highest version of each object that is visible by then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

_NEVER = 1 << 40  # superseded_at of a newest version: later than any clock
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE collections (
    collection INTEGER PRIMARY KEY, system TEXT NOT NULL, account TEXT NOT NULL, object TEXT NOT NULL,
    UNIQUE (system, account, object));
CREATE TABLE documents (
    collection INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, stamp INTEGER NOT NULL,
    visible_at INTEGER NOT NULL, superseded_at INTEGER NOT NULL, parent TEXT NOT NULL, body TEXT NOT NULL);
"""
_INDEXES = """
CREATE UNIQUE INDEX documents_by_id ON documents (collection, id, version);
CREATE INDEX documents_by_stamp ON documents (collection, stamp, id);
CREATE INDEX documents_by_parent ON documents (collection, parent, stamp, id) WHERE parent <> '';
"""
_SUPERSEDE = f"""
UPDATE documents SET superseded_at = COALESCE(
    (SELECT MIN(newer.visible_at) FROM documents newer
      WHERE newer.collection = documents.collection AND newer.id = documents.id
        AND newer.version > documents.version), {_NEVER})
"""


@dataclass(frozen=True, slots=True)
class Document:
    """One version of one vendor object.

    `stamp` is what the vendor orders and filters by (Stripe `created`, Salesforce `SystemModstamp`, Zendesk
    `generated_timestamp`), `visible_at` when the vendor's API starts to show this version; both unix seconds.
    `parent` is the one reference lists are filtered by most (an invoice's lines, a payout's transactions).
    """

    system: str
    account: str
    object: str
    id: str
    stamp: int
    visible_at: int
    version: int
    body: dict[str, Any]
    parent: str = ""


class Row(NamedTuple):
    """A stored version as read back."""

    id: str
    version: int
    stamp: int
    visible_at: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """Which current rows of a collection: SQL conditions over columns and `body`, order, and a slice."""

    where: tuple[str, ...] = ()
    params: tuple[Any, ...] = ()
    order: str = "stamp DESC, id DESC"
    limit: int | None = None
    offset: int = 0

    def and_(self, condition: str, *params: Any) -> Query:
        """The same query with one more condition."""
        return Query((*self.where, condition), (*self.params, *params), self.order, self.limit, self.offset)

    def under(self, parent: str) -> Query:
        """The same query within one parent; says what lets SQLite take the index, which leaves the parentless out."""
        return self.and_("parent = ? AND parent <> ''", parent)


@dataclass(slots=True)
class DocumentStore:
    """One file of documents. Open for building with `create`, for serving with `open`."""

    connection: sqlite3.Connection
    _collections: dict[tuple[str, str, str], int] = field(default_factory=dict)

    @classmethod
    def create(cls, path: Path | str) -> DocumentStore:
        """A new empty file; an existing one is replaced."""
        for leftover in (Path(path), Path(f"{path}-wal"), Path(f"{path}-shm")):
            leftover.unlink(missing_ok=True)
        store = cls(_connect(path))
        store.connection.executescript(_SCHEMA)
        return store

    @classmethod
    def open(cls, path: Path | str) -> DocumentStore:
        """A file written before. Raises FileNotFoundError where there is none."""
        if not Path(path).exists():
            raise FileNotFoundError(path)
        store = cls(_connect(path))
        for number, *key in store.connection.execute("SELECT collection, system, account, object FROM collections"):
            store._collections[tuple(key)] = number
        return store

    def close(self) -> None:
        self.connection.close()

    def collection(self, system: str, account: str, object_name: str) -> int:
        """The number of a collection, made on first use."""
        key = (system, account, object_name)
        number = self._collections.get(key)
        if number is None:
            number = self._collections[key] = len(self._collections) + 1
            self.connection.execute("INSERT INTO collections VALUES (?, ?, ?, ?)", (number, *key))
        return number

    def add(self, documents: Iterable[Document], batch: int = 2000) -> int:
        """Append documents while building; returns how many. `seal` makes them readable."""
        rows: list[tuple[Any, ...]] = []
        written = 0
        for d in documents:
            text = _encode(d.body)
            number = self.collection(d.system, d.account, d.object)
            rows.append((number, d.id, d.version, d.stamp, d.visible_at, _NEVER, d.parent, text))
            if len(rows) == batch:
                written += self._insert(rows)
                rows = []
        return written + self._insert(rows)

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> int:
        self.connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return len(rows)

    def seal(self) -> None:
        """Build the indexes and say of each version when the next one replaces it."""
        self.connection.executescript(_INDEXES)
        self.connection.execute(_SUPERSEDE)
        self.connection.execute("ANALYZE")
        self.connection.commit()

    def put(self, document: Document) -> None:
        """Write one more version at run time (a POST), visible from its `visible_at`."""
        number = self.collection(document.system, document.account, document.object)
        with self.connection:
            self.connection.execute(
                "UPDATE documents SET superseded_at = MIN(superseded_at, ?) WHERE collection = ? AND id = ?",
                (document.visible_at, number, document.id),
            )
            self._insert(
                [
                    (
                        number,
                        document.id,
                        document.version,
                        document.stamp,
                        document.visible_at,
                        _NEVER,
                        document.parent,
                        _encode(document.body),
                    )
                ]
            )

    def meta(self, key: str) -> Any:
        """A value stored beside the documents, or None."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, key: str, value: Any) -> None:
        with self.connection:
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def objects(self) -> list[tuple[str, str, str, int]]:
        """Every collection as (system, account, object, versions stored)."""
        return self.connection.execute(
            "SELECT system, account, object, COUNT(*) FROM collections JOIN documents USING (collection) "
            "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()

    def get(self, collection: int, document_id: str, now: int) -> Row | None:
        """The version of one object that is current at `now`."""
        for row in self.select(collection, now, Query().and_("id = ?", document_id)):
            return row
        return None

    def version(self, collection: int, document_id: str, version: int) -> Row | None:
        """One version whatever the clock says (an event shows the object as it was)."""
        found = self.connection.execute(
            "SELECT id, version, stamp, visible_at, body FROM documents "
            "WHERE collection = ? AND id = ? AND version = ?",
            (collection, document_id, version),
        ).fetchone()
        return None if found is None else Row._make((*found[:4], json.loads(found[4])))

    def last_version(self, collection: int, document_id: str) -> int:
        """The highest version number stored, 0 for an unknown object."""
        (found,) = self.connection.execute(
            "SELECT COALESCE(MAX(version), 0) FROM documents WHERE collection = ? AND id = ?", (collection, document_id)
        ).fetchone()
        return int(found)

    def select(self, collection: int, now: int, query: Query) -> Iterator[Row]:
        """Current rows in the query's order."""
        where, params = _current(collection, now, query)
        limit = -1 if query.limit is None else query.limit
        sql = (
            f"SELECT id, version, stamp, visible_at, body FROM documents WHERE {where} "
            f"ORDER BY {query.order} LIMIT ? OFFSET ?"
        )
        for row in self.connection.execute(sql, (*params, limit, query.offset)).fetchall():
            yield Row._make((*row[:4], json.loads(row[4])))

    def aggregate(self, collection: int, now: int, query: Query, expressions: str, group_by: str = "") -> list[Any]:
        """SQL aggregates over current rows: `COUNT(*)`, or sums by group."""
        where, params = _current(collection, now, query)
        tail = f" GROUP BY {group_by} ORDER BY {group_by}" if group_by else ""
        return self.connection.execute(
            f"SELECT {expressions} FROM documents WHERE {where}{tail}",
            params,
        ).fetchall()

    def count(self, collection: int, now: int, query: Query | None = None) -> int:
        """How many current rows."""
        return int(self.aggregate(collection, now, query or Query(), "COUNT(*)")[0][0])


def _current(collection: int, now: int, query: Query) -> tuple[str, tuple[Any, ...]]:
    where = " AND ".join(("collection = ?", "visible_at <= ?", "superseded_at > ?", *query.where))
    return where, (collection, now, now, *query.params)


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # rebuilt from the company whenever it is lost
    connection.execute("PRAGMA cache_size = -32000")
    return connection
