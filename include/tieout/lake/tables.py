"""Table snapshots: Delta tables under one root, each write a new version, readers choosing the version."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset

from tieout import schema
from tieout.errors import DataError, TieoutError
from tieout.settings import private_folder

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from tieout.lake.engine import Engine

# Versions that runs, reports and evidence refer to stay readable for the longest legal retention we know.
RETENTION = "interval 4018 days"
_ATTEMPTS = 12

TableData: TypeAlias = "pa.Table | pa.RecordBatchReader | Path | Sequence[Path]"


class WriteConflict(TieoutError):
    """Other processes kept changing the table while this one tried to write; try the step again."""

    retryable = True


class Lake:
    """The tables under `root` (a folder or an object store's URI).

    Uses deltalake, which panics in a process forked after its first use: only for task processes, never in a
    parent that forks.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        self._files: dict[tuple[str, int], tuple[str, ...]] = {}  # of versions read: a version never changes

    def uri(self, table: str) -> str:
        """Where a table is."""
        return f"{self.root}/{table}"

    def version(self, table: str) -> int | None:
        """The newest version of a table, published or not; None if nothing was ever written."""
        from deltalake import DeltaTable

        return DeltaTable(self.uri(table)).version() if DeltaTable.is_deltatable(self.uri(table)) else None

    def write(self, table: str, data: TableData, *, where: str | None = None) -> int:
        """Replace the rows for which the SQL predicate `where` holds (all rows, if None) and return the new version.

        `data` is an Arrow table, a reader, or Parquet files; columns are cast to the table's schema, absent ones
        become null. The change is one atomic commit. A commit that meets another writer's is done again on top of
        it; WriteConflict after a dozen tries, or at once for a reader, which can be read only once. Rows of `data`
        outside `where` are refused by DataError. Where all rows are replaced, the table is laid out by the schema's
        partitions, however it was before.
        """
        from deltalake import write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        shape = _shape(table, data)
        layout = list(schema.table(table).partition_by) if table in schema.TABLES else []
        for attempt in range(_ATTEMPTS):
            target = self._open_or_create(table, shape)
            try:
                anew = where is None and target.metadata().partition_columns != layout
                write_deltalake(
                    target, _batches(data, shape), mode="overwrite", predicate=where,
                    schema_mode="overwrite" if anew else None, partition_by=layout if anew else None,
                )  # fmt: skip
                return int(target.version())
            except CommitFailedError as conflict:
                if isinstance(data, pa.RecordBatchReader) or attempt == _ATTEMPTS - 1:
                    raise WriteConflict("the table kept changing under this write", record=table) from conflict
                time.sleep(random.uniform(0.02, 0.1) * 2 ** min(attempt, 5))
            except DeltaError as error:
                if "failed validation" not in str(error):
                    raise
                raise DataError(
                    "rows lie outside the part of the table being replaced", record=table, expected=where
                ) from error
        raise AssertionError("unreachable")

    def files(self, table: str, version: int) -> list[str]:
        """The Parquet files that make up a version, in a stable order."""
        from deltalake import DeltaTable

        if (table, version) not in self._files:
            self._files[table, version] = tuple(sorted(DeltaTable(self.uri(table), version=version).file_uris()))
        return list(self._files[table, version])

    def parts(self, table: str, version: int) -> dict[str | None, list[str]] | None:
        """The Parquet files of a version by the value of the one column it is partitioned by; None if it is not.

        The value is a text; None: rows without a value.
        """
        from deltalake import DeltaTable

        found = DeltaTable(self.uri(table), version=version)
        if len(found.metadata().partition_columns) != 1:
            return None
        parts: dict[str | None, list[str]] = {}
        for uri in sorted(found.file_uris()):
            value = uri.rsplit("/", 2)[1].partition("=")[2]
            parts.setdefault(None if value == "__HIVE_DEFAULT_PARTITION__" else value, []).append(uri)
        return parts

    def row_count(self, table: str, version: int) -> int:
        """How many rows a version has, by its log: no file is read."""
        from deltalake import DeltaTable

        actions = pa.table(DeltaTable(self.uri(table), version=version).get_add_actions(flatten=True))
        return int(pa.compute.sum(actions["num_records"]).as_py() or 0)

    def read(self, table: str, version: int | None = None) -> pa.Table:
        """All rows of a version (the newest, if None) in the table's schema; empty if there is no version yet."""
        from tieout.lake.engine import engine

        with engine() as session:
            self.bind(session, {table: self.version(table) if version is None else version}, [table])
            found = session.sql(f'SELECT * FROM "{table}"')
            return found.cast(schema.table(table).arrow) if table in schema.TABLES else found

    def bind(self, engine: Engine, snapshot: Mapping[str, int | None], tables: Iterable[str]) -> None:
        """Make each table a view of the engine as the snapshot has it; a table without a version is empty."""
        for table in tables:
            version = snapshot.get(table)
            files = [] if version is None else self.files(table, version)
            engine.bind(table, files, schema.table(table).arrow if table in schema.TABLES else None)

    def _open_or_create(self, table: str, shape: pa.Schema) -> DeltaTable:
        """The table, made with its partitions and retention, widened by new nullable columns of the schema."""
        from deltalake import DeltaTable

        uri = self.uri(table)
        if not DeltaTable.is_deltatable(uri):
            if "://" not in uri:
                private_folder(Path(uri))
            # mode "ignore": of two first writers one creates the table and the other finds it
            return DeltaTable.create(
                uri,
                schema=shape,
                mode="ignore",
                partition_by=list(schema.table(table).partition_by) or None if table in schema.TABLES else None,
                configuration={
                    "delta.logRetentionDuration": RETENTION,
                    "delta.deletedFileRetentionDuration": RETENTION,
                },
            )
        found = DeltaTable(uri)
        known = {field.name for field in found.schema().fields}
        added = [f for f in shape if f.name not in known]
        if added:
            from deltalake import Schema

            found.alter.add_columns(list(Schema.from_arrow(pa.schema(added)).fields))
            found = DeltaTable(uri)
        return found


def _shape(table: str, data: TableData) -> pa.Schema:
    """The schema to write by: the data model's, or the data's own for a table the model does not know."""
    if table in schema.TABLES:
        return schema.table(table).arrow
    if isinstance(data, pa.Table | pa.RecordBatchReader):
        return data.schema
    return pyarrow.dataset.dataset([str(p) for p in _paths(data)], format="parquet").schema


def _paths(data: Path | Sequence[Path]) -> list[Path]:
    return [data] if isinstance(data, Path) else list(data)


def _batches(data: TableData, shape: pa.Schema) -> pa.RecordBatchReader:
    """The data as one stream of batches with exactly the schema's columns."""
    if isinstance(data, pa.Table):
        return _shaped(data, shape).to_reader()
    if isinstance(data, pa.RecordBatchReader):
        source: Iterable[pa.RecordBatch] = data
    else:
        files = pyarrow.dataset.dataset([str(p) for p in _paths(data)], format="parquet")
        # the writer is the slow side: what is read ahead of it only waits in memory
        source = files.to_batches(batch_size=65536, batch_readahead=1, fragment_readahead=1)
    shaped = (batch for piece in source for batch in _shaped(pa.Table.from_batches([piece]), shape).to_batches())
    return pa.RecordBatchReader.from_batches(shape, shaped)


def _shaped(table: pa.Table, shape: pa.Schema) -> pa.Table:
    unknown = [c for c in table.column_names if c not in shape.names]
    if unknown:
        raise DataError("columns are not in the table's schema", got=unknown, expected=shape.names)
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in shape
    ]
    return pa.Table.from_arrays([_chunked(c) for c in columns], schema=shape)


def _chunked(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
