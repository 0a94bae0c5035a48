"""A configured reconciliation checked without data: its queries, columns, conditions and codes, against the tables.

Every table is made empty, a column of codes as an enumeration of them. So the engine itself says what columns a query
gives, which of them still are codes of a table, and what a condition may name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb

from tieout import schema
from tieout.breaks.inputs import FOLDER, check_id, definition_path, side_query, tables_of
from tieout.errors import ConfigError, DataError, DefinitionError
from tieout.lake.engine import Engine, engine
from tieout.reconcile import Definition, load_definition
from tieout.reconcile.sides import SIDES, SideName, check_columns
from tieout.reconcile.sql import macros, name, text
from tieout.settings import Settings, line_of
from tieout.store.batches import JOURNAL_TRANSITIONS
from tieout.store.copies import TRANSITIONS as COPY_TRANSITIONS

_LINE = re.compile(r"LINE (\d+):")
_CODE = re.compile(r"ENUM\((.*)\)")

Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class _Named:
    """A column that a definition names, and where."""

    location: Location
    column: str


def definition_mistakes(settings: Settings, definition_id: str) -> list[ConfigError]:
    """Everything that keeps a configured reconciliation from running over the tables, each with file, line, remedy."""
    path = definition_path(settings, definition_id)
    try:
        definition = load_definition(path)
        check_id(definition, path)
    except ConfigError as error:
        return [error]
    found: list[ConfigError] = []
    queries: dict[str, str] = {}
    for side in SIDES:
        try:
            queries[side] = side_query(settings, definition, side)
        except ConfigError as error:
            told = DefinitionError(
                error.message,
                record=_at(path, (side, "sql")),
                expected=error.expected,
                got=error.got,
                remedy=error.remedy,
            )
            found.append(told)
    if found:
        return found
    with engine(settings) as session:
        for macro in macros():
            session.execute(macro)
        _make_tables(session, queries)
        for side in SIDES:
            mistake = _query_mistake(session, settings, definition, side, queries[side])
            if mistake is not None:
                found.append(mistake)
                continue
            types = {str(r[0]): str(r[1]) for r in session.rows(f"DESCRIBE {side}_side")}
            found += _column_mistakes(path, definition, side, types)
            found += _condition_mistakes(session, path, definition, side, types)
            found += _code_mistakes(path, definition, side, types)
    return found


def _make_tables(session: Engine, queries: dict[str, str]) -> None:
    """Every table the queries read, empty."""
    for table in tables_of(queries):
        columns = ", ".join(f"{name(c.name)} {_type(c)}" for c in schema.table(table).columns)
        session.execute(f"CREATE TEMP TABLE {name(table)} ({columns})")
    session.execute(
        "CREATE TEMP TABLE legal_entity (id VARCHAR, name VARCHAR, functional_currency VARCHAR, zone VARCHAR, "
        "go_live DATE)"
    )
    session.execute("CREATE TEMP TABLE currency_digits (currency VARCHAR, digits BIGINT)")
    states = ", ".join(text(state) for state in JOURNAL_TRANSITIONS)
    session.execute(f"CREATE TEMP TABLE journal_state (run_key VARCHAR, state ENUM({states}))")
    session.execute("CREATE TEMP TABLE journal_document (run_key VARCHAR, document VARCHAR)")
    copied = ", ".join(text(state) for state in COPY_TRANSITIONS)
    session.execute(f"CREATE TEMP TABLE journal_copy (ledger VARCHAR, run_key VARCHAR, state ENUM({copied}))")
    session.execute(
        "CREATE TEMP TABLE entity_ledger (legal_entity_id VARCHAR, ledger VARCHAR, source VARCHAR, taken_over_on DATE)"
    )
    session.execute(
        "CREATE TEMP TABLE chart (legal_entity_id VARCHAR, ledger VARCHAR, account VARCHAR, ledger_account VARCHAR)"
    )


def _type(column: Any) -> str:
    if column.values:
        return f"ENUM({', '.join(text(value) for value in column.values)})"
    return schema.DUCKDB_TYPES[column.kind]


def _query_mistake(
    session: Engine, settings: Settings, definition: Definition, side: SideName, query: str
) -> ConfigError | None:
    """Run a side's query over the empty tables into `<side>_side`."""
    file = settings.config_file(f"{FOLDER}/{getattr(definition, side).sql}")
    parameters = {"business_date": "2026-01-01"} if "$business_date" in query else None
    try:
        session.execute(
            f"CREATE TEMP TABLE {side}_side AS {query.replace('$business_date', '$business_date::DATE')}", parameters
        )
    except duckdb.Error as error:
        said = str(error)
        line = _LINE.search(said)
        before = len(file.read_text(encoding="utf-8").split("\n")) - len(
            file.read_text(encoding="utf-8").lstrip().split("\n")
        )
        at = f"{file}:{int(line.group(1)) + before}" if line else str(file)
        return ConfigError(
            f"the query of the {side} side of {definition.id} does not fit the tables",
            record=at,
            got=_first_line(said),
            remedy="docs/tables.md lists every table with its columns and codes",
        )
    return None


def _named(definition: Definition, side: SideName) -> Iterator[_Named]:
    """Every column of a side that the definition names."""
    told = getattr(definition, side)
    for role in ("entity", "currency", "amount", "date", "period", "label", "reason", "working", "cause"):
        if getattr(told, role):
            yield _Named((side, role), getattr(told, role))
    for role in ("id", "identity"):
        for position, column in enumerate(getattr(told, role)):
            yield _Named((side, role, position), column)
    for position, evidence in enumerate(told.evidence):
        yield _Named((side, "evidence", position, "column"), evidence.column)
    for number, match_pass in enumerate(definition.passes):
        at: Location = ("passes", number)
        for position, key in enumerate(match_pass.by):
            yield _Named((*at, "by", position, side), getattr(key, side))
        if match_pass.method != "keyed":
            yield _Named((*at, "amount", side), getattr(match_pass.amount, side))
        for position, likeness in enumerate(getattr(match_pass, "texts", ())):
            yield _Named((*at, "texts", position, side), getattr(likeness, side))
    for number, comparison in enumerate(definition.compare):
        yield _Named(("compare", number, side), getattr(comparison, side))
    for number, deduction in enumerate(definition.deductions):
        if getattr(deduction, side):
            yield _Named(("deductions", number, side), getattr(deduction, side))
    if definition.conversions:
        conversion = getattr(definition.conversions, side)
        for role in ("amount", "rate", "source"):
            if getattr(conversion, role):
                yield _Named(("conversions", side, role), getattr(conversion, role))
    if definition.tax_lines and definition.tax_lines.side == side:
        yield _Named(("tax_lines", "net"), definition.tax_lines.net)
        yield _Named(("tax_lines", "rate"), definition.tax_lines.rate)


def _column_mistakes(
    path: Path, definition: Definition, side: SideName, types: dict[str, str]
) -> Iterator[ConfigError]:
    lacking = False
    for named in _named(definition, side):
        if named.column not in types:
            lacking = True
            yield DefinitionError(
                f"{_where(named.location)} names a column that the {side} side does not have",
                record=_at(path, named.location),
                got=named.column,
                expected=_near(named.column, types),
                remedy=f"correct the name, or add it to {getattr(definition, side).sql}",
            )
    if lacking:
        return
    try:
        check_columns(definition, side, types)
    except DataError as error:
        column = next((n for n in _named(definition, side) if f"column {n.column} " in f"{error.message} "), None)
        yield DefinitionError(
            error.message,
            record=_at(path, column.location if column else (side,)),
            expected=error.expected,
            got=error.got,
            remedy=f"{error.remedy} ({getattr(definition, side).sql})",
        )


def _condition_mistakes(
    session: Engine, path: Path, definition: Definition, side: SideName, types: dict[str, str]
) -> Iterator[ConfigError]:
    told = getattr(definition, side)
    conditions: list[tuple[Location, str]] = []
    if told.filter:
        conditions.append(((side, "filter"), told.filter))
    conditions += [((side, "exclude", n, "when"), e.when) for n, e in enumerate(told.exclude)]
    for number, match_pass in enumerate(definition.passes):
        if condition := getattr(match_pass.where, side):
            conditions.append((("passes", number, "where", side), condition))
    for location, condition in conditions:
        try:
            session.rows(f"SELECT CASE WHEN ({condition}\n) THEN 1 END FROM {side}_side")
        except duckdb.Error as error:
            yield DefinitionError(
                f"{_where(location)} is no condition on the rows",
                record=_at(path, location),
                got=f"{condition}: {_first_line(error)}",
                expected=f"columns {', '.join(types)}",
                remedy="write an SQL condition over the columns of the side's query",
            )
            continue
        for column, kind in types.items():
            codes = _codes(kind) or []
            for code in _compared_with(column, condition) if codes else ():
                if code not in codes:
                    yield DefinitionError(
                        f"{_where(location)} asks for a value that {column} never has",
                        record=_at(path, location),
                        got=f"{condition}: {code}",
                        expected=", ".join(codes),
                        remedy="correct the value",
                    )


def _compared_with(column: str, condition: str) -> list[str]:
    """The texts a condition holds a column against, by `=`, `<>` or `IN`."""
    named = rf"\b{re.escape(column)}\b"
    found = re.findall(rf"{named}\s*(?:=|<>|!=)\s*'([^']*)'", condition)
    for listed in re.findall(rf"{named}\s+(?:NOT\s+)?IN\s*\(([^)]*)\)", condition, re.IGNORECASE):
        found += re.findall(r"'([^']*)'", listed)
    return found


def _code_mistakes(path: Path, definition: Definition, side: SideName, types: dict[str, str]) -> Iterator[ConfigError]:
    """Codes in a value map that the column never has. A column whose query computes it has no known codes."""
    for number, comparison in enumerate(definition.compare):
        codes = _codes(types.get(getattr(comparison, side), ""))
        if codes is None or comparison.normalise:
            continue
        for code in getattr(comparison, f"{side}_values"):
            if code not in codes:
                yield DefinitionError(
                    f"compare.{comparison.name} maps a value that {getattr(comparison, side)} never has",
                    record=_at(path, ("compare", number, f"{side}_values", code)),
                    got=code,
                    expected=", ".join(codes),
                    remedy="correct the value, or leave it out",
                )


def _codes(kind: str) -> list[str] | None:
    found = _CODE.fullmatch(kind)
    return re.findall(r"'((?:[^']|'')*)'", found.group(1)) if found else None


def _near(column: str, types: dict[str, str]) -> str:
    near = get_close_matches(column, types, 3, 0.6)
    return f"{' or '.join(near)}?" if near else f"one of {', '.join(types)}"


def _where(location: Location) -> str:
    return ".".join(map(str, location))


def _at(path: Path, location: Location) -> str:
    return f"{path}:{line_of(path, location)}"


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0]
