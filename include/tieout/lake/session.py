"""What a step needs of an engine, whichever it is: DuckDB on one machine (`engine`), Spark on many (`spark`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


class Session(Protocol):
    """Views bound to files and Arrow tables, and SQL in DuckDB's dialect over them; days and instants are in UTC."""

    def bind(
        self, name: str, data: Sequence[str | Path] | str | Path | pa.Table, schema: pa.Schema | None = None
    ) -> None:
        """Make `name` a view over Parquet files or an Arrow table, replacing a view of that name."""

    def execute(self, statement: str, params: Mapping[str, Any] | None = None) -> None:
        """Run statements that return nothing: CREATE TEMP TABLE or VIEW, DROP."""

    def sql(self, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a query and return all its rows."""

    def spool(self, query: str, params: Mapping[str, Any] | None = None) -> str | Path:
        """Write a query's rows where `bind` finds them, for as long as the session lives: rows too many for memory."""

    def copy(self, query: str, path: str | Path, params: Mapping[str, Any] | None = None) -> Path:
        """Write a query's rows into one file of this machine: Parquet, or CSV with a heading where the path ends so."""

    def rows(self, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query that gives a handful of rows."""

    def scalar(self, query: str, params: Mapping[str, Any] | None = None) -> Any:
        """The single value of a query that gives one row of one column."""
