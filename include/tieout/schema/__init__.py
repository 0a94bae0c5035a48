"""The data model: canonical entities and result tables, one definition each."""

from tieout.schema.canonical import CANONICAL, COMMON
from tieout.schema.intake import INTAKE
from tieout.schema.rating import RATING
from tieout.schema.results import BREAK_STATES, BREAK_TYPES, RESULTS
from tieout.schema.tables import DUCKDB_TYPES, Column, Table

TABLES: dict[str, Table] = {t.name: t for t in (*CANONICAL, *INTAKE, *RATING, *RESULTS)}


def table(name: str) -> Table:
    """The table of that name. Raises KeyError naming the tables there are."""
    try:
        return TABLES[name]
    except KeyError:
        raise KeyError(f"no table {name}; there are {', '.join(sorted(TABLES))}") from None


__all__ = [
    "BREAK_STATES",
    "BREAK_TYPES",
    "CANONICAL",
    "COMMON",
    "DUCKDB_TYPES",
    "INTAKE",
    "RATING",
    "RESULTS",
    "TABLES",
    "Column",
    "Table",
    "table",
]
