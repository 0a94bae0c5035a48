"""What a table is: columns with types, meaning and key; the one source of Arrow schemas, DDL and the dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Kind = Literal["text", "int", "bool", "date", "instant", "money", "sum", "quantity", "price", "rate", "exact"]

# Exact types. Money fits 99 trillion with four places (three-decimal currencies and a guard digit); sums of money
# fit any currency and keep finer inputs;
# quantities and unit prices carry more places because vendors send up to twelve; a product of the two is exact.
DUCKDB_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "date": "DATE",
    "instant": "TIMESTAMPTZ",
    "money": "DECIMAL(18,4)",
    "sum": "DECIMAL(38,6)",
    "quantity": "DECIMAL(28,9)",
    "price": "DECIMAL(28,12)",
    "rate": "DECIMAL(18,9)",
    "exact": "DECIMAL(38,21)",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, kind, meaning; `required` columns are never null in valid rows."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    values: tuple[str, ...] = ()
    """The only texts allowed, where the column is a code."""


@dataclass(frozen=True)
class Table:
    """One table of the lake: canonical entity or result."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    group: Literal["canonical", "result"] = "canonical"
    partition_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        if len(names) != len(set(names)) or not set(self.key) <= set(names):
            raise ValueError(f"table {self.name}: repeated column, or key outside the columns")

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in schema order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def arrow(self) -> Any:
        """The Arrow schema (`pyarrow.Schema`)."""
        import pyarrow as pa

        types = {
            "text": pa.string(),
            "int": pa.int64(),
            "bool": pa.bool_(),
            "date": pa.date32(),
            "instant": pa.timestamp("us", tz="UTC"),
            "money": pa.decimal128(18, 4),
            "sum": pa.decimal128(38, 6),
            "quantity": pa.decimal128(28, 9),
            "price": pa.decimal128(28, 12),
            "rate": pa.decimal128(18, 9),
            "exact": pa.decimal128(38, 21),
        }
        return pa.schema([pa.field(c.name, types[c.kind], nullable=not c.required) for c in self.columns])
