"""The engine: one DuckDB session that runs set-based SQL over Parquet files and Arrow tables."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import pyarrow as pa

from tieout.errors import DataError

if TYPE_CHECKING:
    from tieout.settings import Settings

_FORMATS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880",
    ".csv": "FORMAT csv, HEADER true",
}
_QUICK = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 122880"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Engine:
    """A DuckDB session with views bound to files and Arrow tables. Made by `engine()`; used by one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, scratch: Path) -> None:
        self.connection, self.scratch = connection, scratch
        self._arrow: dict[str, pa.Table] = {}
        self._spooled = 0

    def bind(
        self, name: str, data: Sequence[str | Path] | str | Path | pa.Table, schema: pa.Schema | None = None
    ) -> None:
        """Make `name` a view over Parquet files or an Arrow table, replacing a view of that name.

        With `schema` the view has exactly its columns in its order: columns absent from older files are null,
        columns of partitions are read from the path, and no files at all make an empty view.
        """
        if not _NAME.match(name):
            raise DataError("not a name for a view", got=name, expected="letters, digits and underscores")
        self.connection.unregister(name)
        self.connection.execute(f'DROP VIEW IF EXISTS "{name}"')
        if isinstance(data, pa.Table):
            self._arrow[name] = data if schema is None else data.select(schema.names).cast(schema)
            self.connection.register(name, self._arrow[name])
            return
        files = [str(data)] if isinstance(data, str | Path) else [str(f) for f in data]
        if not files:
            if schema is None:
                raise DataError("no files to bind and no schema to bind them by", record=name)
            self.bind(name, schema.empty_table())
            return
        if schema is None:
            query = f"SELECT * FROM read_parquet({_text_list(files)})"
        else:
            query = self._typed_scan(files, schema)
        self.connection.execute(f'CREATE TEMP VIEW "{name}" AS {query}')

    def sql(self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> pa.Table:
        """Run a query and return all its rows as an Arrow table, timestamps in UTC."""
        relation = self.connection.sql(query, params=params)
        return pa.table({}) if relation is None else relation.to_arrow_table()

    def execute(self, statement: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> None:
        """Run a statement that returns nothing, such as CREATE TEMP TABLE or COPY."""
        self.connection.execute(statement, params)

    def rows(self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query that gives a handful of rows and return them as Python tuples."""
        rows: list[tuple[Any, ...]] = self.connection.execute(query, params).fetchall()
        return rows

    def scalar(self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:
        """The single value of a query that gives one row of one column."""
        return self.rows(query, params)[0][0]

    def copy(
        self,
        query: str,
        path: str | Path,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        quick: bool = False,
    ) -> Path:
        """Stream a query's rows into one file, written under another name and renamed when whole.

        Parquet (zstd; `quick` packs it loosely, at half the cost), or CSV with a heading where the path ends so.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")  # two processes may write the same file
        form = _QUICK if quick and target.suffix == ".parquet" else _FORMATS[target.suffix]
        self.connection.execute(f"COPY ({query}) TO {_text(str(partial))} ({form})", params)
        partial.replace(target)
        return target

    def spool(self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Path:
        """Stream a query's rows into a Parquet file that lives as long as the session: rows too many for memory."""
        self._spooled += 1
        target = self.scratch / f"spool-{self._spooled:04}.parquet"
        # read once or twice and gone: packed quickly rather than small
        self.connection.execute(f"COPY ({query}) TO {_text(str(target))} (FORMAT parquet, COMPRESSION snappy)", params)
        return target

    def _typed_scan(self, files: Sequence[str], schema: pa.Schema) -> str:
        """A scan of files of one table, old and new, that gives the schema's columns and types."""
        hive = {part.split("=", 1)[0] for part in files[0].split("/") if "=" in part}
        scan = f"read_parquet({_text_list(files)}, union_by_name = true, hive_partitioning = {str(bool(hive)).lower()}"
        if hive:
            typed = ", ".join(f"{_quoted(f.name)}: {sql_type(f.type)}" for f in schema if f.name in hive)
            scan += f", hive_types = {{{typed}}}" if typed else ""
        scan += ")"
        present = {row[0] for row in self.connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()}
        columns = ", ".join(
            f"CAST({_quoted(f.name) if f.name in present else 'NULL'} AS {sql_type(f.type)}) AS {_quoted(f.name)}"
            for f in schema
        )
        return f"SELECT {columns} FROM {scan}"


@contextmanager
def engine(settings: Settings | None = None, *, memory_limit: str = "2GB", threads: int = 2) -> Iterator[Engine]:
    """A fresh session under the settings' memory and thread limits, with a scratch folder of its own.

    Time zone is UTC, order of rows is not preserved unless asked for, nothing is downloaded, no progress bar.
    """
    if settings is not None:
        memory_limit, threads = settings.memory_limit, settings.threads
    scratch = Path(tempfile.mkdtemp(prefix="tieout-engine-"))
    try:
        with (
            _instance((memory_limit, threads), scratch / "spill") as instance,
            closing(instance.cursor()) as connection,
        ):
            connection.execute("SET enable_progress_bar = false")
            yield Engine(connection, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_Limits: TypeAlias = tuple[str, int]
_idle: dict[_Limits, duckdb.DuckDBPyConnection] = {}


@contextmanager
def _instance(limits: _Limits, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An instance of DuckDB for one session alone, so that its limits are that session's.

    All that a session makes is temporary and belongs to its own connection. The instance is left to the next session
    of these limits, because starting one costs as much as some ten statements; not after an error, which it may not
    have survived, nor once it has spilled, because its files are in the scratch folder.
    """
    instance = _idle.pop(limits, None) or _start(limits)
    try:
        instance.execute(f"SET temp_directory = {_text(str(spill))}")
        yield instance
    except BaseException:
        instance.close()
        raise
    if spill.exists() or _idle.setdefault(limits, instance) is not instance:
        instance.close()


def _start(limits: _Limits) -> duckdb.DuckDBPyConnection:
    memory_limit, threads = limits
    instance = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "threads": threads,
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    # many statements read one file: its footer once; that of a file written anew is read anew
    instance.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL parquet_metadata_cache = true")
    return instance


def _close_idle() -> None:
    while _idle:
        _idle.popitem()[1].close()


atexit.register(_close_idle)
os.register_at_fork(before=_close_idle)  # a child has none of its threads, and would wait for them


def sql_type(kind: pa.DataType) -> str:
    """The engine's type for an Arrow type. Raises DataError for types no table of ours has."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "VARCHAR"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    for matches, name in _SIMPLE_TYPES:
        if matches(kind):
            return name
    raise DataError("no engine type for an Arrow type", got=kind)


_SIMPLE_TYPES = (
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int16, "SMALLINT"),
    (pa.types.is_int32, "INTEGER"),
    (pa.types.is_int64, "BIGINT"),
    (pa.types.is_float64, "DOUBLE"),
    (pa.types.is_date32, "DATE"),
    (pa.types.is_binary, "BLOB"),
)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _text_list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(v) for v in values) + "]"
