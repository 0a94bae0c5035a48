"""Conform: landed records of a source become canonical rows; what cannot is set aside with its reason.

One call reads the extracts it has not read before, merges them into the published tables, links rows to each other
and publishes all changed tables together. Killed anywhere, it leaves the published tables as they were, and the next
call starts from those.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from tieout import schema
from tieout.conform.links import LINKS, affected, load_rules, statement
from tieout.conform.mapping import EntityMapping, ObjectMapping, load_mappings
from tieout.conform.references import account_role_table, currency_table, legal_entity_table, mapped_ids, mapping_table
from tieout.conform.statements import CELL, FAULT, MACROS, MINOR_UNIT, RAW, record_columns, typed_rows
from tieout.entities import load_entities
from tieout.errors import DataError, LeaseHeld
from tieout.ids import content_hash
from tieout.lake.engine import Engine, engine, sql_type
from tieout.lake.hashing import PROVENANCE
from tieout.lake.landing import PAGE_SCHEMA, AsIs, ExtractRef, Landing, raw_ref, record_of_columns
from tieout.lake.quarantine import masked, sentence
from tieout.lake.tables import Lake
from tieout.observe.steps import step
from tieout.settings import Settings
from tieout.store import Lease, QuarantineItem, Store
from tieout.units import CONVERTED, conversion_table, load_units

log = logging.getLogger("tieout")

LEASE = "conform"
LEASE_TIME = timedelta(minutes=30)
ENTITIES = tuple(LINKS)


class Source(Protocol):
    """What conforming needs to know of a configured source."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def legal_entity(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """Records of one object read by one call: `records = rows + merged + quarantined`."""

    source: str
    object: str
    records: int
    rows: int
    merged: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class ConformResult:
    """What a call did: the new version of every table it changed, and its counts."""

    tables: dict[str, int]
    objects: tuple[ObjectCount, ...] = ()
    quarantined_amounts: Mapping[str, Decimal] = field(default_factory=dict)
    """Money behind the records this call set aside, by currency, as far as it can be read."""

    @property
    def rows_in(self) -> int:
        """Records read."""
        return sum(o.records for o in self.objects)

    @property
    def rows_out(self) -> int:
        """Records that are the newest of their kind."""
        return sum(o.rows for o in self.objects)

    @property
    def rows_merged(self) -> int:
        """Records that repeat another one, or are older than it."""
        return sum(o.merged for o in self.objects)

    @property
    def rows_quarantined(self) -> int:
        """Records set aside."""
        return sum(o.quarantined for o in self.objects)


def conform(
    sources: Source | Sequence[Source],
    *,
    landing: Landing,
    lake: Lake,
    store: Store,
    config: Settings,
    run_id: str,
    every_source: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> ConformResult:
    """Read the extracts of `sources` that were not read before into the canonical tables, and publish those.

    `every_source` names all configured sources with their kinds, where `sources` is only some of them. Waits for
    another process that conforms. Raises DataError where rows in are not rows out + merged + quarantined.
    """
    return _run(sources, landing, lake, store, config, run_id, every_source, progress, again=None)


def replay(
    sources: Source | Sequence[Source],
    *,
    landing: Landing,
    lake: Lake,
    store: Store,
    config: Settings,
    run_id: str,
    objects: Collection[str] | None = None,
    every_source: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> ConformResult:
    """Conform all landed extracts of `sources` again (or of some objects), as after a mapping was corrected.

    The rows these extracts gave before, and their place in the quarantine, are replaced by what they give now.
    """
    chosen = frozenset(objects) if objects is not None else frozenset({"*"})
    return _run(sources, landing, lake, store, config, run_id, every_source, progress, again=chosen)


def _run(
    sources: Source | Sequence[Source],
    landing: Landing,
    lake: Lake,
    store: Store,
    config: Settings,
    run_id: str,
    every_source: Mapping[str, str] | None,
    progress: Callable[[str], None] | None,
    again: frozenset[str] | None,
) -> ConformResult:
    listed = list(sources) if isinstance(sources, Sequence) else [sources]
    kinds = dict(every_source or {}) | {s.name: s.kind for s in listed}
    with _lease(store) as lease, engine(config) as session, step("conform") as current:
        work = _Work(session, lake, store.published(), config, run_id, kinds)
        for source in listed:
            if progress is not None:
                progress(f"conform {source.name}")
            work.read(source, landing, again)
        tables = work.write()
        if tables:
            store.renew(lease, LEASE_TIME)  # refused if another process took over: then nothing is published
            # before publishing: after a crash in between, the next run finds the same records and records them again
            _index_quarantine(store, run_id, session)
            store.publish(run_id, tables, {"step": "conform", "sources": [s.name for s in listed]})
        result = ConformResult(tables, tuple(work.counts), work.amounts())
        current.count(rows_in=result.rows_in, rows_out=result.rows_out, merged=result.rows_merged,
                      quarantined=result.rows_quarantined)  # fmt: skip
    return result


@contextmanager
def _lease(store: Store) -> Iterator[Lease]:
    """Hold the lease on the canonical tables, waiting for whoever has it."""
    deadline = time.monotonic() + LEASE_TIME.total_seconds()
    while True:
        try:
            held = store.acquire(LEASE, ttl=LEASE_TIME)
            break
        except LeaseHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    try:
        yield held
    finally:
        store.release(held)


def _index_quarantine(store: Store, run_id: str, session: Engine) -> None:
    """Tell the store's index which records wait, and which have been made good since."""
    waiting = session.rows(
        "SELECT raw_ref, source, object, reason_code, reason, field, legal_entity_id, currency, amount "
        "FROM quarantine WHERE NOT superseded AND raw_ref NOT IN "
        "(SELECT raw_ref FROM base_quarantine WHERE NOT superseded) ORDER BY raw_ref"
    )
    store.quarantine(run_id, (QuarantineItem(*row) for row in waiting))
    settled = session.rows(
        "SELECT raw_ref FROM base_quarantine WHERE NOT superseded "
        "AND raw_ref NOT IN (SELECT raw_ref FROM quarantine WHERE NOT superseded)"
    )
    store.settle_quarantine(run_id, (row[0] for row in settled))


@dataclass(frozen=True, slots=True)
class _Merged:
    """What a call made of the rows that one source has of an entity."""

    rows: Path
    """Rows that are new, and published ones they were put in order with."""
    gone: Path | None
    """`source_id`, `raw_ref` and `occurred_at` of the published rows that `rows` take the place of; None: of all."""


class _Work:
    """One call under way: the session, the tables it starts from, and the parts it has made."""

    def __init__(
        self, session: Engine, lake: Lake, base: Mapping[str, int], config: Settings, run_id: str,
        kinds: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.session, self.lake, self.config, self.run_id, self.kinds = session, lake, config, run_id, dict(kinds)
        self.base = {t: v for t, v in base.items() if t in schema.TABLES}
        self.counts: list[ObjectCount] = []
        self._merged: dict[str, dict[str, _Merged]] = {name: {} for name in ENTITIES}
        self._quarantined: dict[tuple[str, str], Path] = {}
        self._replaced: set[tuple[str, str]] = set()
        self._read_log: list[dict[str, Any]] = []
        self._files_read: list[tuple[str, str, str, str]] = []
        self._mappings: dict[str, dict[str, ObjectMapping]] = {}
        self._entities = load_entities(config.config_file("entities.yaml"))
        for name in (*ENTITIES, "quarantine", "conformed_extracts", "crosswalk"):
            version = self.base.get(name)
            files = [] if version is None else lake.files(name, version)
            session.bind(f"base_{name}", files, schema.table(name).arrow)
        session.execute(MACROS)
        session.execute(CONVERTED)
        session.bind("currencies", currency_table())
        session.bind("legal_entities", legal_entity_table(self._entities))
        known = "SELECT DISTINCT source, object, extract_id FROM base_conformed_extracts"
        self._known = set(session.rows(known))

    # --- reading ---------------------------------------------------------------------------------

    def read(self, source: Source, landing: Landing, again: frozenset[str] | None) -> None:
        """Type, check and merge the extracts of one source that are new, or to be read again."""
        mappings = self._mappings_of(source.kind)
        for name, mapping in mappings.items():
            replayed = again is not None and ("*" in again or name in again)
            extracts = [
                e for e in landing.extracts(source.name, name)
                if replayed or (source.name, name, e.extract_id) not in self._known
            ]  # fmt: skip
            if extracts or (replayed and self._has_rows(source.name, name)):
                self._read_object(source, mapping, extracts, replayed)

    def _mappings_of(self, kind: str) -> dict[str, ObjectMapping]:
        if kind not in self._mappings:
            self._mappings[kind] = load_mappings(self.config, kind)
        return self._mappings[kind]

    def _has_rows(self, source: str, name: str) -> bool:
        query = "SELECT count(*) > 0 FROM base_conformed_extracts WHERE source = $s AND object = $o"
        return bool(self.session.scalar(query, {"s": source, "o": name}))

    def _read_object(
        self, source: Source, mapping: ObjectMapping, extracts: Sequence[ExtractRef], replayed: bool
    ) -> None:
        shapes = self._bind_raw(extracts)
        self._files_read += [
            (source.name, mapping.object, f"{mapping.object}/{file['path']}", e.extract_id)
            for e in extracts
            for file in e.facts.get("files", ())
        ]
        for name in mapping.entities:
            queries = [
                typed_rows(mapping, name, source.name, source.legal_entity, raw=view, columns=columns)
                for view, columns in shapes
            ]
            self.session.bind(f"typed_{name}", [self.session.spool(query) for query in queries])
        self._collect_faults(mapping)
        if replayed:
            self._replaced.add((source.name, mapping.object))
        self._merge(source.name, mapping, replayed)
        while self._claimed_twice(source.name, mapping, replayed):
            self._merge(source.name, mapping, replayed)
        if self.session.scalar("SELECT count(*) FROM faulty"):
            self._quarantined[source.name, mapping.object] = self._quarantine(source, mapping)
        self._count(source.name, mapping, extracts)

    def _bind_raw(self, extracts: Sequence[ExtractRef]) -> list[tuple[str, Mapping[str, str] | None]]:
        """The view `raw`: one row per landed record, with its reference and why it is unreadable, if it is.

        Returns the views it is made of: `pages` of JSON texts, and one per shape of the files landed as they are, with
        its columns. `landed` is the view of how many records each extract has.
        """
        files = [f for e in extracts for f in e.files()]
        self.session.bind("pages", files or PAGE_SCHEMA.empty_table())
        self.session.execute(f"CREATE OR REPLACE TEMP VIEW raw_pages AS {RAW}")
        shapes: dict[tuple[tuple[str, str], ...], list[tuple[ExtractRef, AsIs]]] = {}
        for extract in extracts:
            for file in extract.as_is:
                shapes.setdefault(tuple(sorted(file.columns.items())), []).append((extract, file))
        views: list[tuple[str, Mapping[str, str] | None]] = [("raw_pages", None)]
        for number, (shape, found) in enumerate(shapes.items(), start=1):
            views.append((f"raw_file_{number}", dict(shape)))
            self._bind_as_is(f"raw_file_{number}", dict(shape), found)
        chosen = "raw_ref, fetched_at, record, record_fault"
        every = " UNION ALL ".join(f"SELECT {chosen} FROM {view}" for view, _ in views)
        self.session.execute(f"CREATE OR REPLACE TEMP VIEW raw AS {every}")
        counted = "SELECT extract_id, count(*) AS n FROM pages GROUP BY 1"
        for view, _ in views[1:]:
            counted += f" UNION ALL SELECT split_part(raw_ref, '/', 3), count(*) FROM {view} GROUP BY 1"
        self.session.execute(f"CREATE OR REPLACE TEMP VIEW landed AS {counted}")
        return views if files or len(views) == 1 else views[1:]

    def _bind_as_is(self, view: str, columns: Mapping[str, str], found: Sequence[tuple[ExtractRef, AsIs]]) -> None:
        """The rows of files landed as they are, in the columns of `raw` and in their own, named after CELL."""
        places = [
            {"path": e.path_of(f), "place": raw_ref(e.source, e.object, e.extract_id, f.page_no), "at": f.fetched_at}
            for e, f in found
        ]
        shape = pa.schema([("path", pa.string()), ("place", pa.string()), ("at", pa.timestamp("us", tz="UTC"))])
        self.session.bind(f"{view}_places", pa.Table.from_pylist(places, schema=shape))
        paths = ", ".join(_text(e.path_of(f)) for e, f in found)
        own = ", ".join(f"{_name(c)} AS {_name(CELL + c)}" for c in columns)
        self.session.execute(
            f"""
            CREATE OR REPLACE TEMP VIEW {view} AS
            SELECT p.place || file_row_number AS raw_ref, p.at AS fetched_at, {record_of_columns(columns)} AS record,
              CAST(NULL AS {FAULT}) AS record_fault, {own}
            FROM read_parquet([{paths}], filename = true, file_row_number = true) f
            JOIN {view}_places p ON p.path = f.filename
            """
        )

    def _collect_faults(self, mapping: ObjectMapping) -> None:
        """The table `faulty`: each record with a fault, with its first one; a fault in a list sets the record aside."""
        parts = " UNION ALL ".join(
            f"SELECT raw_ref, {n} AS rank, '{name}' AS entity, fault FROM \"typed_{name}\" WHERE fault IS NOT NULL"
            for n, name in enumerate(mapping.entities)
        )
        # of two elements of one record with one id only one could stay: told after all other faults
        parts += "".join(
            f" UNION ALL SELECT raw_ref, {n + len(mapping.entities)}, '{name}', "
            f"{_repeated_id(entity, 'source_id', 'an id of one line only')} "
            f'FROM "typed_{name}" WHERE fault IS NULL GROUP BY raw_ref, source_id HAVING count(*) > 1'
            for n, (name, entity) in enumerate(mapping.entities.items())
            if entity.is_list
        )
        self.session.execute(
            f"CREATE OR REPLACE TEMP TABLE faulty AS SELECT raw_ref, entity, fault FROM ({parts}) "
            "QUALIFY row_number() OVER (PARTITION BY raw_ref ORDER BY rank, fault.field, fault.code, fault.value) = 1"
        )

    def _quarantine(self, source: Source, mapping: ObjectMapping) -> Path:
        """Rows of the quarantine for the faulty records, one per distinct record."""
        money = _amount_at_risk(mapping)
        legal_entity = "NULL" if source.legal_entity is None else f"'{source.legal_entity}'"
        # their records are few and read twice; those of a file of columns are written as JSON only here
        self.session.execute("CREATE OR REPLACE TEMP TABLE faulty_raw AS FROM raw r SEMI JOIN faulty f USING (raw_ref)")
        return self.session.spool(
            f"""
            WITH shown AS (
              SELECT r.raw_ref, r.fetched_at, sha256(r.record) AS record_digest, f.entity,
                -- the record that stands for a whole file is known by the file's path
                CASE WHEN r.record_fault.expected LIKE 'file set aside: %' THEN json_extract_string(r.record, '$.file')
                  ELSE k.id_text END AS id_text, k.amount_text, k.currency_text,
                {{'code': f.fault.code, 'field': f.fault.field, 'value': {masked("f.fault.value")},
                  'expected': f.fault.expected}} AS fault
              FROM faulty_raw r
              JOIN faulty f ON f.raw_ref = r.raw_ref
              JOIN ({record_columns(mapping, "faulty_raw")}) k(ref, id_text, amount_text, currency_text)
                ON k.ref = r.raw_ref
            )
            SELECT '{source.name}' AS source, '{mapping.object}' AS object, record_digest, raw_ref,
              CASE WHEN length(id_text) <= 255 THEN id_text END AS source_id,
              {legal_entity} AS legal_entity_id, entity,
              fault.code AS reason_code, {sentence("fault")} AS reason, nullif(fault.field, '') AS field,
              fault.value AS value, {money} AS amount, c.code AS currency, fetched_at, false AS superseded,
              $run AS first_seen_run
            FROM shown LEFT JOIN currencies c ON c.vendor = '{mapping.vendor}' AND c.code = currency_text
            QUALIFY row_number() OVER (PARTITION BY record_digest ORDER BY raw_ref) = 1
            """,
            {"run": self.run_id},
        )

    # --- merging ---------------------------------------------------------------------------------

    def _merge(self, source: str, mapping: ObjectMapping, replayed: bool) -> None:
        """Merge the records without fault, then the rows made from their lists."""
        self._merge_main(source, mapping, replayed)
        for name in list(mapping.entities)[1:]:
            self._merge_list(source, name, mapping.main, replayed)

    def _claimed_twice(self, source: str, mapping: ObjectMapping, replayed: bool) -> int:
        """Set aside what claims an id in a list that another record has; how many records of this call that were.

        Of two records with one id in their lists only one could keep its row: the one received first does. Raises
        DataError where rows of a list are lost without such a record.
        """
        found = 0
        for name in list(mapping.entities)[1:]:
            rows = f'SELECT c.* FROM ({self._candidates(source, name, replayed)}) c SEMI JOIN "now_{mapping.main}" m'
            expected = self.session.scalar(f"SELECT count(*) FROM ({rows} ON m.raw_ref = c.raw_ref)")
            kept = self.session.scalar(f'SELECT count(*) FROM "now_{name}"')
            if expected == kept:
                continue
            before = self.session.scalar("SELECT count(*) FROM faulty")
            fault = _repeated_id(mapping.entities[name], "c.source_id", "an id that no other record has")
            self.session.execute(
                f"""
                INSERT INTO faulty
                SELECT c.raw_ref, '{name}', {fault} FROM "typed_{name}" c
                JOIN "now_{name}" k ON k.source_id = c.source_id AND k.raw_ref <> c.raw_ref
                SEMI JOIN "now_{mapping.main}" m ON m.raw_ref = c.raw_ref
                QUALIFY row_number() OVER (PARTITION BY c.raw_ref ORDER BY c.source_id) = 1
                """
            )
            more = self.session.scalar("SELECT count(*) FROM faulty") - before
            if not more:
                raise DataError("rows of a list were lost", record=f"{source}/{mapping.object}/{name}",
                                expected=expected, got=kept)  # fmt: skip
            found += more
        return found

    def _merge_main(self, source: str, mapping: ObjectMapping, replayed: bool) -> None:
        """Merge the records themselves: of the versions of one record the newest stays (or the first received)."""
        name, entity = mapping.main, mapping.entities[mapping.main]
        candidates, new = self._candidates(source, name, replayed), self._new(name)
        one = entity.identity or "source_id"
        # few records come more than once: only those are put in order. Candidates by a hash of eight bytes, decided by
        # the id itself: exact, and of the published ids none is held. Published rows are in order among themselves.
        self.session.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE new_ids AS SELECT hash({one}) AS h FROM ({new});
            CREATE OR REPLACE TEMP TABLE suspects AS
              SELECT h FROM new_ids GROUP BY h HAVING count(*) > 1
              UNION SELECT hash({one}) FROM "base_{name}" b SEMI JOIN new_ids n ON n.h = hash(b.{one})
              WHERE source = '{source}';
            CREATE OR REPLACE TEMP TABLE repeated AS
              SELECT {one} FROM ({candidates}) c SEMI JOIN suspects s ON s.h = hash(c.{one})
              GROUP BY {one} HAVING count(*) > 1
            """
        )
        order = self._order(source, mapping)
        kept = f"""
            SELECT * FROM ({candidates}) SEMI JOIN repeated USING ({one})
            QUALIFY row_number() OVER (PARTITION BY source_id ORDER BY {order}) = 1
        """
        if entity.keep == "distinct":
            content = f"sha256(to_json([{', '.join(f'CAST({c} AS VARCHAR)' for c in entity.content)}]))"
            known_as = f"CASE WHEN place = 1 THEN {one} ELSE {one} || '~' || left(content, 16) END"
            kept = f"""
            SELECT * EXCLUDE (place, content) REPLACE (
              {known_as} AS source_id, source || ':' || {known_as} AS id,
              left(sha256(source || ':' || {known_as}), 16) AS correlation_id
            )
            FROM (
              SELECT *, row_number() OVER (PARTITION BY {one} ORDER BY {order}) AS place
              FROM (
                SELECT *, {content} AS content FROM ({candidates}) SEMI JOIN repeated USING ({one})
                QUALIFY row_number() OVER (PARTITION BY {one}, content ORDER BY {order}) = 1
              )
            )
            """
        rows = self.session.spool(f"SELECT * FROM ({new}) ANTI JOIN repeated USING ({one}) UNION ALL BY NAME {kept}")
        gone = None if self._made_anew(name, replayed) else self.session.spool(
            f"SELECT source_id, raw_ref, occurred_at FROM \"base_{name}\" SEMI JOIN repeated USING ({one}) "
            f"WHERE source = '{source}'"
        )  # fmt: skip
        self._bind_now(name, source, _Merged(rows, gone))

    def _bind_now(self, name: str, source: str, made: _Merged) -> None:
        """Keep what was made of a source's rows; `made_<name>` are those rows, `now_<name>` all that the source has."""
        self._merged[name][source] = made
        self.session.bind(f"made_{name}", made.rows)
        stays = f"source = '{source}' AND NOT ({_replaced(source, made)})"
        self.session.execute(f'CREATE OR REPLACE TEMP VIEW "rest_{name}" AS SELECT * FROM "base_{name}" WHERE {stays}')
        self.session.execute(
            f'CREATE OR REPLACE TEMP VIEW "now_{name}" AS FROM "rest_{name}" UNION ALL BY NAME FROM "made_{name}"'
        )

    def _order(self, source: str, mapping: ObjectMapping) -> str:
        """SQL of the order of a record's versions, the one that stays first.

        Of two readings with one version the later extract is the newer: extract ids ascend. Within an extract pages
        are in the order they were read, but files in no order at all: there the content decides.
        """
        name = mapping.main
        keys = ["source_version", "raw_ref"]
        if self.kinds[source] == "files":
            version = ["split_part(source_version, '~', 1)"] if mapping.version is not None else []
            content = [f'"{c}"' for c in schema.table(name).names if c not in PROVENANCE]
            keys = [*version, "split_part(raw_ref, '/', 3)", *content, "raw_ref"]
        direction = "DESC" if mapping.entities[name].keep == "newest" else "ASC"
        return ", ".join(f"{key} {direction}" for key in keys)

    def _merge_list(self, source: str, name: str, main: str, replayed: bool) -> None:
        """Merge rows made from a list: those of the surviving version of each record, and no others."""
        merged = self.session.spool(
            f"""
            SELECT c.* FROM ({self._candidates(source, name, replayed)}) c
            SEMI JOIN "now_{main}" m ON m.raw_ref = c.raw_ref
            QUALIFY row_number() OVER (PARTITION BY c.source_id ORDER BY c.raw_ref) = 1
            """
        )
        self._bind_now(name, source, _Merged(merged, None))

    def _made_anew(self, name: str, replayed: bool) -> bool:
        """Whether no published row of a source has a say in its rows of an entity."""
        return replayed or name not in self.base

    def _candidates(self, source: str, name: str, replayed: bool) -> str:
        if self._made_anew(name, replayed):
            return self._new(name)
        return f"SELECT * FROM \"base_{name}\" WHERE source = '{source}' UNION ALL BY NAME {self._new(name)}"

    def _new(self, name: str) -> str:
        return f'SELECT * EXCLUDE (fault) FROM "typed_{name}" t ANTI JOIN faulty f ON f.raw_ref = t.raw_ref'

    def _count(self, source: str, mapping: ObjectMapping, extracts: Sequence[ExtractRef]) -> None:
        """Count per extract and prove that no record was lost or invented: each is kept, merged or in quarantine.

        Merged is counted by itself, not as what is left over: a record whose id another record of this or an earlier
        extract has kept.
        """
        main = mapping.main
        one = mapping.entities[main].identity or "source_id"
        rows = self.session.rows(
            f"""
            WITH fate AS (
              SELECT split_part(raw_ref, '/', 3) AS extract_id, count(*) AS kept, 0 AS merged, 0 AS quarantined
              FROM "made_{main}" WHERE split_part(raw_ref, '/', 3) IN (SELECT extract_id FROM landed) GROUP BY 1
              UNION ALL
              -- only of an id that came more than once can a record be left out
              SELECT split_part(t.raw_ref, '/', 3), 0, count(*), 0
              FROM (SELECT raw_ref, {one} FROM "typed_{main}" SEMI JOIN repeated USING ({one})) t
              ANTI JOIN faulty f ON f.raw_ref = t.raw_ref
              ANTI JOIN (SELECT raw_ref FROM "made_{main}" SEMI JOIN repeated USING ({one})) k ON k.raw_ref = t.raw_ref
              SEMI JOIN (SELECT {one} FROM "made_{main}" SEMI JOIN repeated USING ({one})) n ON n.{one} = t.{one}
              GROUP BY 1
              UNION ALL SELECT split_part(raw_ref, '/', 3), 0, 0, count(*) FROM faulty GROUP BY 1
            ), told AS (
              SELECT extract_id, sum(kept)::BIGINT AS kept, sum(merged)::BIGINT AS merged,
                sum(quarantined)::BIGINT AS quarantined
              FROM fate GROUP BY 1
            )
            SELECT extract_id, l.n::BIGINT, coalesce(kept, 0), coalesce(merged, 0), coalesce(quarantined, 0)
            FROM (SELECT extract_id, sum(n) AS n FROM landed GROUP BY 1) l LEFT JOIN told USING (extract_id)
            """
        )
        found = {extract: counts for extract, *counts in rows}
        total = [0, 0, 0, 0]
        for extract in extracts:
            records, kept, merged, bad = found.get(extract.extract_id, (0, 0, 0, 0))
            where = f"{source}/{mapping.object}/{extract.extract_id}"
            if records != extract.records:
                raise DataError("pages do not hold the records their extract counted", record=where,
                                expected=extract.records, got=records)  # fmt: skip
            if records != kept + merged + bad:
                raise DataError("rows in are not rows out + merged + quarantined", record=where, expected=records,
                                got=f"{kept} kept, {merged} merged, {bad} quarantined")  # fmt: skip
            self._read_log.append(
                {"source": source, "object": mapping.object, "extract_id": extract.extract_id, "records": records,
                 "rows": kept, "merged": merged, "quarantined": bad, "run_id": self.run_id}
            )  # fmt: skip
            total = [a + b for a, b in zip(total, (records, kept, merged, bad), strict=True)]
        twice = self.session.scalar(
            f"""
            WITH told AS (
              SELECT source_id FROM "made_{main}"
              UNION ALL SELECT source_id FROM "rest_{main}" r
              SEMI JOIN (SELECT hash(source_id) AS h FROM "made_{main}") m ON m.h = hash(r.source_id)
            ), suspects AS (SELECT hash(source_id) AS h FROM told GROUP BY 1 HAVING count(*) > 1)
            SELECT count(*) FROM (
              SELECT source_id FROM told t SEMI JOIN suspects s ON s.h = hash(t.source_id)
              GROUP BY 1 HAVING count(*) > 1
            )
            """
        )
        if twice:
            raise DataError("a record has two current versions", record=f"{source}/{mapping.object}")
        self.counts.append(ObjectCount(source, mapping.object, *total))

    # --- linking and writing -----------------------------------------------------------------------

    def write(self) -> dict[str, int]:
        """Link what changed, write every changed table, and return the new versions."""
        changed = {name for name, parts in self._merged.items() if parts}
        fingerprint = self._bind_mappings()
        new_rules = ("*", "mappings", fingerprint) not in self._known
        if not changed and not new_rules and not self._read_log and not self._replaced:
            return {}
        for name in ENTITIES:
            self._bind_merged(name)
        tables: dict[str, int] = {}
        crosswalk = self._crosswalk()
        if crosswalk is not None:
            tables["crosswalk"] = self.lake.write("crosswalk", crosswalk)
            changed.add("crosswalk")
        for name in affected(changed | (set(ENTITIES) if new_rules else set())):
            if self._kept_by_day(name):
                days = self._changed_days(name, relink=new_rules or name in affected(changed - {name}))
                if days != set():
                    tables[name] = self._write_by_day(name, days)
                continue
            if not self._merged[name] and (name not in self.base or self._links_hold(name)):
                continue
            if schema.table(name).partition_by == _BY_DAY:
                if name in self.base or self.session.scalar(f'SELECT count(*) FROM "merged_{name}"'):
                    tables[name] = self._write_by_day(name, None)
                continue
            linked, rows = self._link(name)
            if rows or name in self.base:
                tables[name] = self.lake.write(name, linked)
        quarantine = self._quarantine_now()
        self.session.bind("quarantine", quarantine, schema.table("quarantine").arrow)
        tables["quarantine"] = self.lake.write("quarantine", quarantine)
        tables["conformed_extracts"] = self.lake.write("conformed_extracts", self._log_now(fingerprint))
        return tables

    def _bind_mappings(self) -> str:
        """Views of finance's mappings; returns the hash of everything links depend on besides records."""
        rules = load_rules(self.config)
        products = mapped_ids(self.config, "products")
        customers = mapped_ids(self.config, "customers")
        self._crosswalk_rules = rules
        self.session.bind("product_rows", mapping_table(products, self.kinds))
        self.session.bind("customer_mapping", mapping_table(customers, self.kinds))
        roles = account_role_table(self.config)
        self.session.bind("account_roles", roles)
        masters = [name for name, kind in self.kinds.items() if kind == rules.master]
        self.session.bind("master_sources", pa.table({"source": pa.array(masters, pa.string())}))
        units = conversion_table(load_units(self.config))
        self.session.bind("unit_conversions", units)
        zones = [(e.id, e.zone) for e in self._entities.entities]
        ids = [
            [r.source, r.source_id, r.canonical_id, r.family, r.valid_from, r.valid_to] for r in (*products, *customers)
        ]
        statements = [statement(name) for name in ENTITIES]
        settings = [rules.master, rules.prefix, rules.by_name, *sorted(self.kinds.items())]
        return content_hash([settings, ids, zones, statements, roles.to_pylist(), units.to_pylist()])

    def _bind_merged(self, name: str, days: Collection[date | None] | None = None) -> None:
        """The view `merged_<name>`: published rows that stay, and those made by this call; of some event days only."""
        parts = self._merged[name]
        replaced = " OR ".join(_replaced(source, made) for source, made in parts.items()) or "false"
        query = f'SELECT * FROM "base_{name}" WHERE NOT ({replaced})'
        if days is not None:
            query += f" AND ({_of_days('event_day' if self._kept_by_day(name) else _EVENT_DAY, days)})"
        for made in parts.values():
            query += f" UNION ALL BY NAME SELECT * FROM read_parquet('{made.rows}')"
            if days is not None:
                query += f" WHERE {_of_days(_EVENT_DAY, days)}"
        self.session.execute(f'CREATE OR REPLACE TEMP VIEW "merged_{name}" AS {query}')
        version = self.base.get(name)
        files = [] if version is None else self.lake.files(name, version)
        self.session.bind(name, files, schema.table(name).arrow)

    def _crosswalk(self) -> Path | None:
        """The crosswalk as it is now; None if it is what it was."""
        now = self.session.spool(self._with_rules("crosswalk"))
        self.session.bind("crosswalk", now)
        self.session.execute(
            "CREATE OR REPLACE TEMP VIEW customer_of AS SELECT source, source_id, canonical_id, decided_by "
            "FROM crosswalk WHERE entity = 'customer' AND canonical_id IS NOT NULL"
        )
        self.session.execute(f"CREATE OR REPLACE TEMP TABLE product_mapping AS {self._with_rules('product_mapping')}")
        names = ", ".join(schema.table("crosswalk").names)
        difference = self.session.scalar(
            f"SELECT count(*) FROM ((SELECT {names} FROM crosswalk EXCEPT SELECT {names} FROM base_crosswalk) "
            f"UNION ALL (SELECT {names} FROM base_crosswalk EXCEPT SELECT {names} FROM crosswalk))"
        )
        return now if difference or "crosswalk" not in self.base else None

    def _with_rules(self, name: str) -> str:
        """A statement with the crosswalk's two settings put in: a view cannot hold parameters, and both are checked."""
        rules = self._crosswalk_rules
        return statement(name).replace("$prefix", f"'{rules.prefix}'").replace("$by_name", str(bool(rules.by_name)))

    def _kept_by_day(self, name: str) -> bool:
        """Whether the published table can be replaced day by day: with rows of no day in it, it is written whole."""
        if schema.table(name).partition_by != _BY_DAY or name not in self.base:
            return False
        parts = self.lake.parts(name, self.base[name])
        return parts is not None and None not in parts

    def _write_by_day(self, name: str, days: set[date | None] | None) -> int:
        """Write the linked rows of these days (None: the whole table, laid out anew), and return the version.

        A few million rows are written at a time, since the writer holds a day's rows together: the versions in between
        are published by nobody. Nor are rows that another call left there and never published: they are put right.
        """
        stays = {} if days is None else self.lake.parts(name, self.base[name]) or {}
        self._bind_merged(name, days)
        rows = dict(self.session.rows(f'SELECT {_EVENT_DAY}, count(*) FROM "merged_{name}" GROUP BY 1'))
        done, left = set[date | None](), set(rows) if days is None else days
        version: int | None = None
        while left or version is None:
            for portion in _portions(left, rows):
                self._bind_merged(name, portion)
                linked, _ = self._link(name)
                first_of_all = days is None and version is None
                version = self.lake.write(name, linked, where=None if first_of_all else _of_days("event_day", portion))
                linked.unlink()
            done |= left
            now = (version is not None and self.lake.parts(name, version)) or {}
            found = {day for day in stays.keys() | now.keys() if stays.get(day) != now.get(day)}
            left = {date.fromisoformat(day) if day else None for day in found} - done
        self._bind_merged(name)
        return version

    def _changed_days(self, name: str, relink: bool) -> set[date | None] | None:
        """The event days whose rows are others than the published ones; None: all may be.

        With `relink` the published rows are linked again to see whether they are linked as before.
        """
        changed: set[date | None] = set()
        for made in self._merged[name].values():
            if made.gone is None:
                return None
            # a row is what was read at its place, under its id: published ones that were only looked at are the same
            rows, gone = (
                f"SELECT source_id, raw_ref, occurred_at FROM read_parquet('{f}')" for f in (made.rows, made.gone)
            )
            query = f"(({rows}) EXCEPT ({gone})) UNION ALL (({gone}) EXCEPT ({rows}))"
            changed |= {day for (day,) in self.session.rows(f"SELECT DISTINCT {_EVENT_DAY} FROM ({query})")}
        if relink:
            query, differ = self._relinked(name)
            found = self.session.rows(
                f"SELECT {_EVENT_DAY}, count(*), count(*) FILTER ({differ}) FROM ({query}) GROUP BY 1"
            )
            self._bind_merged(name)
            if sum(rows for _, rows, _ in found) != self.session.scalar(f'SELECT count(*) FROM "base_{name}"'):
                return None
            changed |= {day for day, _, differing in found if differing}
        return changed

    def _links_hold(self, name: str) -> bool:
        """Whether an entity without new records would be linked to what it is linked to already."""
        query, differ = self._relinked(name)
        ((rows, differing),) = self.session.rows(f"SELECT count(*), count(*) FILTER ({differ}) FROM ({query})")
        self._bind_merged(name)
        return bool(differing == 0 and rows == self.session.scalar(f'SELECT count(*) FROM "base_{name}"'))

    def _relinked(self, name: str) -> tuple[str, str]:
        """SQL of the published rows linked again, and of whether one is linked otherwise than it was.

        Each row carries what it was through its statement, so one pass compares them and holds nothing. Leaves the view
        `merged_<name>` to be bound again.
        """
        self.session.execute(
            f'CREATE OR REPLACE TEMP VIEW "merged_{name}" AS SELECT b.*, b AS before FROM "base_{name}" b'
        )
        now = ", ".join(
            f"{_name(f.name)}: CAST({_name(f.name)} AS {sql_type(f.type)})" for f in schema.table(name).arrow
        )
        return statement(name), f"{{{now}}} IS DISTINCT FROM before"

    def _link(self, name: str) -> tuple[Path, int]:
        """The linked rows of an entity and their number."""
        columns = ", ".join(f'"{c}"' for c in schema.table(name).names)
        # a partition's bytes follow from its rows
        order = (
            " ORDER BY event_day, occurred_at, source, source_id" if schema.table(name).partition_by == _BY_DAY else ""
        )
        linked = self.session.spool(f"SELECT {columns} FROM ({statement(name)}){order}")
        self.session.bind(name, linked, schema.table(name).arrow)
        before, after = (self.session.scalar(f'SELECT count(*) FROM "{t}"') for t in (f"merged_{name}", name))
        if before != after:
            raise DataError("linking lost or repeated rows", record=name, expected=before, got=after)
        return linked, after

    def _quarantine_now(self) -> Path:
        """The whole quarantine: what was there, less what was read again, plus what this call set aside."""
        names = schema.table("quarantine").names
        columns = ", ".join(names)
        replaced = " OR ".join(f"(source = '{s}' AND object = '{o}')" for s, o in sorted(self._replaced)) or "false"
        query = f"SELECT {columns} FROM base_quarantine WHERE NOT ({replaced})"
        for path in self._quarantined.values():
            query += f" UNION ALL SELECT {columns} FROM read_parquet('{path}')"
        versions = " UNION ALL ".join(
            f"SELECT source, '{o}' AS object, source_id, max(string_split(source_version, '~')[-1]) AS fetched "
            f'FROM "merged_{m.main}" m SEMI JOIN waiting USING (source, source_id) GROUP BY ALL'
            for o, m in {o: m for ms in self._all_mappings() for o, m in ms.items()}.items()
        )
        chosen = ", ".join(f"q.{c}" for c in names if c not in ("superseded", "first_seen_run"))
        shape = pa.schema([(c, pa.string()) for c in ("source", "object", "path", "extract_id")])
        told = [dict(zip(shape.names, row, strict=True)) for row in self._files_read]
        self.session.bind("files_read", pa.Table.from_pylist(told, schema=shape))
        return self.session.spool(
            f"""
            WITH waiting AS ({query})
            SELECT {chosen},
              coalesce(v.fetched > strftime(q.fetched_at, '%Y-%m-%dT%H:%M:%S.%fZ'), false) OR f.path IS NOT NULL
                -- of a whole file it is told once, by the extract that read it
                OR (q.reason_code = 'unreadable' AND q.field IS NULL AND coalesce(b.superseded, false)) AS superseded,
              coalesce(b.first_seen_run, q.first_seen_run) AS first_seen_run
            FROM waiting q
            LEFT JOIN base_quarantine b USING (source, object, record_digest)
            LEFT JOIN ({versions}) v ON v.source = q.source AND v.object = q.object AND v.source_id = q.source_id
            LEFT JOIN (
              SELECT source, object, path, max(extract_id) AS extract_id FROM files_read GROUP BY ALL
            ) f ON f.source = q.source AND f.object = q.object AND f.path = q.source_id
              AND f.extract_id > split_part(q.raw_ref, '/', 3)
            QUALIFY row_number() OVER (PARTITION BY q.source, q.object, q.record_digest ORDER BY q.raw_ref) = 1
            """
        )

    def _all_mappings(self) -> list[dict[str, ObjectMapping]]:
        return [self._mappings_of(kind) for kind in sorted(set(self.kinds.values()))]

    def _log_now(self, fingerprint: str) -> pa.Table:
        shape = schema.table("conformed_extracts").arrow
        rules = {"source": "*", "object": "mappings", "extract_id": fingerprint, "run_id": self.run_id}
        counts = dict.fromkeys(("records", "rows", "merged", "quarantined"), 0)
        self.session.bind("read_log", pa.Table.from_pylist([*self._read_log, rules | counts], schema=shape))
        return self.session.sql(
            "SELECT * FROM base_conformed_extracts b WHERE source <> '*' "
            "AND (source, object, extract_id) NOT IN (SELECT (source, object, extract_id) FROM read_log) "
            "UNION ALL SELECT * FROM read_log ORDER BY source, object, extract_id"
        )

    def amounts(self) -> dict[str, Decimal]:
        """Money behind the records this call set aside, by currency."""
        found: dict[str, Decimal] = {}
        for path in self._quarantined.values():
            for currency, amount in self.session.rows(
                f"SELECT currency, sum(abs(amount)) FROM read_parquet('{path}') WHERE amount IS NOT NULL GROUP BY 1"
            ):
                found[currency] = found.get(currency, Decimal(0)) + amount
        return found


_BY_DAY = ("event_day",)
_PORTION_ROWS = 2_000_000
_EVENT_DAY = "CAST(timezone('UTC', occurred_at) AS DATE)"


def _of_days(column: str, days: Collection[date | None]) -> str:
    """SQL of whether a day is one of these, null among them; the engine and the lake both read it."""
    listed = ", ".join(f"'{day}'" for day in sorted(day for day in days if day))
    found = [f"{column} IN ({listed})"] * bool(listed) + [f"{column} IS NULL"] * (None in days)
    return " OR ".join(found) or "false"


def _portions(days: Collection[date | None], rows: Mapping[date | None, int]) -> Iterator[list[date | None]]:
    """The days in turn, as many at a time as have some million rows together; no days are one portion."""
    portion: list[date | None] = []
    together = 0
    for day in sorted(days, key=str):
        if portion and together + rows.get(day, 0) > _PORTION_ROWS:
            yield portion
            portion, together = [], 0
        portion.append(day)
        together += rows.get(day, 0)
    yield portion


def _replaced(source: str, made: _Merged) -> str:
    """SQL of whether a published row gives way to the rows made of its source."""
    ids = "" if made.gone is None else f" AND source_id IN (SELECT source_id FROM read_parquet('{made.gone}'))"
    return f"source = '{source}'{ids}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _repeated_id(entity: EntityMapping, value: str, expected: str) -> str:
    """SQL of the fault of an element whose id another one has."""
    (field, *_) = entity.columns["source_id"].paths or ("source_id",)
    return f"{{'code': 'repeated_id', 'field': '{field}', 'value': {value}, 'expected': '{expected}'}}"


def _amount_at_risk(mapping: ObjectMapping) -> str:
    """SQL of the money behind a faulty record, where both amount and currency can be read."""
    if mapping.amounts == "major":
        return "CASE WHEN c.code IS NOT NULL THEN TRY_CAST(amount_text AS DECIMAL(18,4)) END"
    return (
        "CASE WHEN regexp_full_match(amount_text, '-?[0-9]{1,14}') THEN CAST(TRY_CAST(amount_text AS DECIMAL(18,0)) * "
        f"{MINOR_UNIT} AS DECIMAL(18,4)) END"
    )
