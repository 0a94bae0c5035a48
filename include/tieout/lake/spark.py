"""The engine on many machines: a Spark session that runs the same SQL over the same Parquet files.

Statements are written in DuckDB's dialect and translated (`dialect`). Nothing of ours runs on the executors, so they
need neither Python nor this package. Arithmetic is ANSI: what overflows fails, nothing becomes null or loses places.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tieout.errors import ConfigError, DataError
from tieout.lake.dialect import for_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What results depend on; memory, cores and credentials of object stores stand in Spark's own spark-defaults.conf
_SEMANTICS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # a product of decimals that does not fit fails instead of losing places
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.execution.arrow.useLargeVarTypes": "false",
}


class Spark:
    """A Spark session with views bound to files and Arrow tables. Made by `spark()`; used by one thread."""

    def __init__(self, session: SparkSession, work: str) -> None:
        self.session, self.work = session, work
        self._tables = 0

    def bind(
        self, name: str, data: Sequence[str | Path] | str | Path | pa.Table, schema: pa.Schema | None = None
    ) -> None:
        """Make `name` a view over Parquet files or an Arrow table, replacing a view of that name.

        With `schema` the view has exactly its columns: those absent from older files are null, those of partitions
        are read from the path, and no files at all make an empty view. An Arrow table travels through the driver.
        """
        if isinstance(data, pa.Table):
            table = data if schema is None else data.select(schema.names).cast(schema)
            self._name(self.session.createDataFrame(table), name)
            return
        files = [located(str(f)) for f in ([data] if isinstance(data, str | Path) else data)]
        if not files:
            if schema is None:
                raise DataError("no files to bind and no schema to bind them by", record=name)
            self.bind(name, schema.empty_table())
            return
        rows = self.session.read.option("basePath", _root(files[0])).option("mergeSchema", "true").parquet(*files)
        if schema is not None:
            present = set(rows.columns)
            given = ((_quoted(f.name), f.name in present, _type(f.type)) for f in schema)
            rows = rows.selectExpr(
                *(f"CAST({col if there else 'NULL'} AS {kind}) AS {col}" for col, there, kind in given)
            )
        self._name(rows, name)

    def execute(self, statement: str, params: Mapping[str, Any] | None = None) -> None:
        """Run statements that return nothing: CREATE TEMP TABLE or VIEW, DROP.

        A table is written to the work folder and read from there: computed once, and the plan of what is built on it
        stays short.
        """
        for one in for_spark(statement):
            if one.drops:
                self.session.catalog.dropTempView(str(one.name))
            elif one.name is None:
                raise DataError("the rows of a query are asked for by `sql`", got=one.query[:200])
            elif one.kept:
                rows = self._query(one.query, params)
                # its own schema, so that a column of nothing but nulls keeps its type
                self._name(self.session.read.schema(rows.schema).parquet(self._written(rows, one.name)), one.name)
            else:
                # by its text: what it names may be bound anew later, as in DuckDB
                self.session.sql(f"CREATE OR REPLACE TEMPORARY VIEW {_quoted(one.name)} AS {one.query}")

    def sql(self, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a query and return all its rows, which travel through the driver; instants are in UTC."""
        return self._only(query, params).toArrow()

    def spool(self, query: str, params: Mapping[str, Any] | None = None) -> str:
        """Write a query's rows to a folder of Parquet files that lives as long as the session."""
        return self._written(self._only(query, params), "spool")

    def copy(self, query: str, path: str | Path, params: Mapping[str, Any] | None = None) -> Path:
        """Write a query's rows, which travel through the driver, into one Parquet file of the driver's machine."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.sql(query, params), target, compression="zstd")
        return target

    def rows(self, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query that gives a handful of rows and return them as Python tuples; instants are aware, in UTC."""
        return [tuple(row.values()) for row in self.sql(query, params).to_pylist()]

    def scalar(self, query: str, params: Mapping[str, Any] | None = None) -> Any:
        """The single value of a query that gives one row of one column."""
        return self.rows(query, params)[0][0]

    def _only(self, query: str, params: Mapping[str, Any] | None) -> DataFrame:
        statements = for_spark(query)
        if len(statements) != 1 or statements[0].name is not None:
            raise DataError("one query is expected", got=query[:200])
        return self._query(statements[0].query, params)

    def _query(self, query: str, params: Mapping[str, Any] | None) -> DataFrame:
        return self.session.sql(query, args=dict(params)) if params else self.session.sql(query)

    def _written(self, rows: DataFrame, name: str) -> str:
        self._tables += 1
        folder = f"{self.work}/{self._tables:04}-{name}"
        rows.write.parquet(folder)
        return folder

    def _name(self, rows: DataFrame, name: str) -> None:
        rows.createOrReplaceTempView(name)


@contextmanager
def spark(master: str | None, work: str, *, name: str = "tieout") -> Iterator[Spark]:
    """A Spark session of its own at `master` (`spark://…`, `yarn`, `k8s://…`; None: what spark-submit says).

    Temporary tables lie in a new folder under `work`, which every executor must reach, and go with the session.
    Raises ConfigError where PySpark is not installed or the master cannot be reached.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError(
            "PySpark is not installed here", got=error, remedy="pip install -r requirements-spark.txt"
        ) from error
    builder = SparkSession.builder.appName(name)
    if master is not None:
        builder = builder.master(master)
    for key, value in _SEMANTICS.items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise ConfigError("no Spark session can be had", record=master, got=str(error)[:500]) from error
    own = f"{located(work)}/{uuid.uuid4().hex}"
    try:
        yield Spark(session, own)
    finally:
        try:
            _delete(session, own)
        finally:
            session.stop()


def located(path: str) -> str:
    """A file's or folder's URI as Spark's file systems want it: local ones with `file:`, S3 by its `s3a` connector."""
    scheme, separator, rest = path.partition("://")
    if not separator:
        return f"file://{Path(path).resolve()}"
    return f"s3a://{rest}" if scheme == "s3" else path


def _root(file: str) -> str:
    """The folder of a table: above its partitions, which are read from the path."""
    folders = file.split("/")[:-1]
    return "/".join(part for part in folders if "=" not in part)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _type(kind: pa.DataType) -> str:
    """Spark's type for an Arrow type. Raises DataError for types no table of ours has."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "TIMESTAMP_NTZ"
    if pa.types.is_list(kind):
        return f"ARRAY<{_type(kind.value_type)}>"
    for matches, name in _SIMPLE_TYPES:
        if matches(kind):
            return name
    raise DataError("no Spark type for an Arrow type", got=kind)


_SIMPLE_TYPES = (
    (pa.types.is_string, "STRING"),
    (pa.types.is_large_string, "STRING"),
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int16, "SMALLINT"),
    (pa.types.is_int32, "INT"),
    (pa.types.is_int64, "BIGINT"),
    (pa.types.is_float64, "DOUBLE"),
    (pa.types.is_date32, "DATE"),
    (pa.types.is_binary, "BINARY"),
)


def _delete(session: SparkSession, folder: str) -> None:
    """Delete a folder through Spark's own file system, which has the credentials."""
    jvm: Any = session.sparkContext._jvm
    path = jvm.org.apache.hadoop.fs.Path(folder)
    path.getFileSystem(session.sparkContext._jsc.hadoopConfiguration()).delete(path, True)
