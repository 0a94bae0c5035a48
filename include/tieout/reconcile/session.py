"""One run's connection to the engine: binds the inputs, runs the generated statements and keeps their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tieout.errors import DataError, DefinitionError
from tieout.lake.engine import Engine, sql_type
from tieout.lake.engine import engine as new_engine
from tieout.reconcile.sql import macros, name, text

# results are texts that hardly repeat: looking long for repeats and packing harder costs a quarter and saves nothing
_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 1000, ROW_GROUP_SIZE 122880"
_BATCH = 122_880  # rows, a multiple of the engine's own vectors
_AHEAD = "32MB"  # how much the engine may have ready before it waits for the reader

Rows: TypeAlias = "pa.Table | str | Path | Sequence[str | Path]"


class Session:
    """Runs statements and remembers them with the step they belong to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.statements: list[tuple[str, str]] = []
        self.currencies: frozenset[str] = frozenset()  # those that occur
        self.groups: list[str] = []  # the queries that `groups` is made of
        self.models: dict[str, dict[str, Any]] = {}  # what fuzzy passes weighed by
        self._knows_nfkc = False
        connection.execute("SET TimeZone = 'UTC'")
        for macro in macros():
            connection.execute(macro)

    def teach_nfkc(self) -> None:
        """Add `nfkc_normalize`, which the engine lacks: Unicode's compatibility form (ﬁ is fi, full width is half)."""
        try:
            self.connection.create_function("nfkc_normalize", _nfkc, ["VARCHAR"], "VARCHAR", type="arrow")
        except duckdb.CatalogException:  # an earlier pass of this run did
            return
        self._knows_nfkc = True

    def close(self) -> None:
        """Unlearn what every session of the instance would see, and nobody could call once this one has ended."""
        if self._knows_nfkc:
            self.connection.remove_function("nfkc_normalize")

    def bind(self, view: str, rows: Rows) -> dict[str, str]:
        """Make `view` show an Arrow table or Parquet files; gives its columns' types."""
        if isinstance(rows, pa.Table):
            self.connection.register(view, rows)
        elif isinstance(rows, str | Path | Sequence):
            files = [str(rows)] if isinstance(rows, str | Path) else [str(f) for f in rows]
            try:
                listed = ", ".join(text(f) for f in files)
                self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM read_parquet([{listed}])")
            except duckdb.Error as error:
                raise DataError("Parquet files cannot be read", record=view, got=str(error).splitlines()[0]) from None
        else:
            raise DataError(
                "not rows", record=view, got=type(rows).__name__, expected="an Arrow table or Parquet paths"
            )
        return {str(r[0]): str(r[1]) for r in self.connection.execute(f"DESCRIBE {view}").fetchall()}

    def make(self, table: str, query: str) -> None:
        """Run a query into a temporary table."""
        self.run(table, f"CREATE TEMP TABLE {name(table)} AS\n{query}")

    def run(self, step: str, statement: str) -> None:
        """Run a statement of a step.

        A condition the engine cannot understand raises DefinitionError, a value that does not fit DataError.
        """
        self.statements.append((step, statement))
        with _understood(step):
            self.connection.execute(statement)

    def drop(self, *tables: str) -> None:
        """Give back the memory of tables that no later step reads."""
        for table in tables:
            self.run(table, f"DROP TABLE {name(table)}")

    def stream(self, step: str, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query in batches, while the engine goes on with the next; to be read to the end."""
        self.statements.append((step, query))
        with _understood(step):
            self.connection.execute(f"SET streaming_buffer_size = '{_AHEAD}'")
            yield from self.connection.sql(query).to_arrow_reader(_BATCH)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A handful of rows as Python values."""
        found: list[tuple[Any, ...]] = self.connection.execute(query).fetchall()
        return found

    def arrays(self, query: str) -> dict[str, npt.NDArray[Any]]:
        """The columns of a query, none of which has nulls, as arrays."""
        found: dict[str, npt.NDArray[Any]] = self.connection.execute(query).fetchnumpy()
        return found

    def arrow(self, step: str, query: str, schema: pa.Schema) -> pa.Table:
        """All rows of a query in a given schema."""
        self.statements.append((step, query))
        with _understood(step):
            return self.connection.sql(query).to_arrow_table().select(schema.names).cast(schema)

    def write(self, query: str, schema: pa.Schema, path: Path) -> Path:
        """Stream all rows of a query in a given schema into a Parquet file."""
        self.statements.append((path.stem, query))
        columns = ", ".join(f"CAST({name(f.name)} AS {sql_type(f.type)}) AS {name(f.name)}" for f in schema)
        with _understood(path.stem):
            self.connection.execute(f"COPY (SELECT {columns} FROM ({query})) TO {text(str(path))} ({_PARQUET})")
        return path

    def explained(self) -> str:
        """The statements run so far, as one readable script."""
        return "\n\n".join(f"-- {step}\n{statement};" for step, statement in self.statements)


@contextmanager
def _understood(step: str) -> Iterator[None]:
    """Raise DefinitionError for a condition that the engine cannot understand, DataError for a value it cannot take."""
    try:
        yield
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        raise DefinitionError(
            f"a condition of the definition is not understood in step {step}",
            got=str(error).strip().splitlines()[0],
            remedy="check `filter`, `exclude`, `where` and column names against the side's columns",
        ) from None
    except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException) as error:
        raise DataError(
            f"a value does not fit in step {step}",
            got=str(error).strip().splitlines()[0],
            expected="conditions that are true or false of every row, amounts and their sums below 10^32",
            remedy="check `filter`, `exclude` and `where` against the side's values, and its amounts",
        ) from None


def _nfkc(values: pa.Array) -> pa.Array:
    return pc.utf8_normalize(values, form="NFKC")


@contextmanager
def open_session(engine: Engine | None) -> Iterator[Session]:
    """A session on its own cursor, so that it leaves nothing behind; without an engine, on a fresh one."""
    with new_engine() if engine is None else nullcontext(engine) as given:
        cursor = given.connection.cursor()
        session = Session(cursor)
        try:
            yield session
        finally:
            session.close()
            cursor.close()
