"""Each side's rows in one standard form: entity, currency, amount, day, key columns, compared values, evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from tieout.errors import DataError
from tieout.money import currencies
from tieout.reconcile.causes import cause_columns, standard_causes
from tieout.reconcile.definition import Comparison, Definition, FuzzyPass, Key, KeyedPass, Side
from tieout.reconcile.sql import AMOUNT, NUMBER, SEVERAL, coalesced, joined, mapped, name, normalised, text
from tieout.reconcile.working_days import calendar_of, counts_business, working_day

if TYPE_CHECKING:
    from tieout.reconcile.session import Session

SideName = Literal["left", "right"]
SIDES: tuple[SideName, SideName] = ("left", "right")

_DECIMAL = re.compile(r"DECIMAL\(\d+,\s*(\d+)\)")
# An expression over columns that costs next to nothing: casts, defaults, and texts put together.
_FOR_NOTHING = re.compile(
    r"""(?: "(?:[^"]|"")*+" | '(?:[^']|'')*+' | ::[A-Z]+(?:\(\d+,\d+\))? | \|\| | [0-9\s(),]
    | \b(?:coalesce|nullif|NULL|CASE|WHEN|THEN|ELSE|END|AND|IS|NOT|true|false)\b )++""",
    re.VERBOSE,
)
OF_ROW = "of row: "
"""Before the names of columns that stand beside those of the input."""
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}


def check_columns(definition: Definition, side_name: SideName, types: dict[str, str]) -> None:
    """Raise DataError for a column the side lacks, or whose type cannot carry what the definition says it does."""
    side: Side = getattr(definition, side_name)
    wanted: list[tuple[str, str, str]] = [("entity", side.entity, "any")]
    named = (("currency", side.currency), ("label", side.label), ("cause", side.cause))
    wanted += [(role, column, "any") for role, column in (*named, *told(side).items()) if column]
    wanted += [("period", side.period, "any")] if side.period else []
    wanted += [("amount", side.amount, "amount")] if side.amount else []
    wanted += [("date", side.date, "date")] if side.date else []
    wanted += [("id", c, "any") for c in side.id] + [("identity", c, "any") for c in side.identity]
    wanted += [(f"evidence {e.type}", e.column, "any") for e in side.evidence]
    for match_pass in definition.passes:
        wanted += [(f"pass {match_pass.name}", getattr(key, side_name), "key") for key in match_pass.by]
        if not isinstance(match_pass, KeyedPass):
            wanted.append((f"pass {match_pass.name} amount", getattr(match_pass.amount, side_name), "amount"))
        if isinstance(match_pass, FuzzyPass):
            wanted += [(f"pass {match_pass.name} {t.name}", getattr(t, side_name), "any") for t in match_pass.texts]
    for comparison in definition.compare:
        exact = comparison.kind in ("amount", "number", "date")
        wanted.append(
            (f"compare {comparison.name}", getattr(comparison, side_name), comparison.kind if exact else "any")
        )
    wanted += cause_columns(definition, side_name)
    for role, column, kind in wanted:
        where = f"{definition.id}, {side_name} side, {role}"
        if column not in types:
            raise DataError(
                f"no column {column}",
                record=where,
                expected=f"one of {', '.join(types)}",
                remedy="correct the column's name in the definition, or add it to the side's query",
            )
        _check_type(where, column, kind, types[column])


def _check_type(where: str, column: str, kind: str, found: str) -> None:
    if kind == "date" and found not in ("DATE", '"NULL"'):
        raise DataError(
            f"column {column} is no date",
            record=where,
            expected="DATE",
            got=found,
            remedy="cast it in the side's query; an instant becomes a date in the legal entity's zone",
        )
    if kind == "key" and found in ("FLOAT", "DOUBLE"):
        raise DataError(
            f"column {column} is no exact key",
            record=where,
            expected="a text, a whole number or a date",
            got=found,
            remedy="cast it in the side's query; a whole number with gaps may have been read as a float, 12 as 12.0",
        )
    if kind not in ("amount", "number"):
        return
    places = 6 if kind == "amount" else 12
    decimal = _DECIMAL.fullmatch(found)
    if not (decimal and int(decimal.group(1)) <= places) and found not in _INTEGERS and found != '"NULL"':
        raise DataError(
            f"column {column} is no exact {kind}",
            record=where,
            expected=f"DECIMAL with at most {places} decimals, or an integer",
            got=found,
            remedy="money is never a float: cast the column to DECIMAL where it is read",
        )


def decimals(kind: str) -> int:
    """How many decimals a column of exact amounts has."""
    decimal = _DECIMAL.fullmatch(kind)
    return int(decimal.group(1)) if decimal else 0


def told(side: Side) -> dict[str, str]:
    """What a side's query itself says about its rows: the standard column and the side's."""
    return {alias: column for alias, column in (("told", side.reason), ("working", side.working)) if column}


def control_totals(definition: Definition, side_name: SideName, types: Mapping[str, str]) -> str:
    """The query for a side's rows and sums by entity, currency and period, with the latest day of each.

    `priced` counts the rows that have an amount: a sum of none is null, not zero.
    """
    side: Side = getattr(definition, side_name)
    columns = standard_columns(definition, side_name)
    total = f"sum({columns['amount']})"
    if side.amount and _DECIMAL.fullmatch(types[side.amount]):  # summed as it is stored: the cast costs more
        total = f"sum({name(side.amount)})::{AMOUNT}"
    grouped = f"{columns['entity']} AS entity, {columns['currency']} AS currency"
    priced = f"count({name(side.amount)})" if side.amount else "0::BIGINT"
    sums = f"count(*) AS rows, {priced} AS priced, {total} AS amount"
    if side.period:
        grouped += f", {columns['period']} AS period"
        return f"SELECT {grouped}, {sums}, max({columns['day']}) AS latest\nFROM {side_name}_input GROUP BY 1, 2, 3"
    # a period is written once per day, not once per row; a column as it stands has few values that the engine knows of
    plain = ", ".join(name(c) if c else "NULL" for c in (side.entity, side.currency, side.date))
    return (
        f"SELECT {grouped}, {columns['period']} AS period, sum(rows)::BIGINT AS rows,\n"
        f"  sum(priced)::BIGINT AS priced, sum(amount) AS amount, max({columns['day']}) AS latest\n"
        f"FROM (SELECT {plain}, {sums} FROM {side_name}_input GROUP BY ALL)\nGROUP BY 1, 2, 3"
    )


def unknown_currencies(side_name: SideName) -> str:
    """The query for the codes of a side that are no currency: nobody knows how many decimals they have."""
    known = ", ".join(text(code) for code, _, _ in currencies())
    return f"SELECT DISTINCT currency FROM {side_name}_all WHERE currency NOT IN ({known})"


def standard_columns(definition: Definition, side_name: SideName, no_currencies: Sequence[str] = ()) -> dict[str, str]:
    """The columns of the standard form as expressions over `<side>_input`, those about working days apart.

    Rows in one of `no_currencies` have that as their evidence: they match nothing.
    """
    side: Side = getattr(definition, side_name)
    day = name(side.date) if side.date else "NULL::DATE"
    period = f"{name(side.period)}::VARCHAR" if side.period else f"strftime({day}, '%Y-%m')"
    row_id = joined([f"{name(c)}::VARCHAR" for c in side.id])
    columns = {
        "entity": f"coalesce({name(side.entity)}::VARCHAR, '')",
        "currency": f"{name(side.currency)}::VARCHAR" if side.currency else "NULL::VARCHAR",
        "amount": f"{name(side.amount)}::{AMOUNT}" if side.amount else f"NULL::{AMOUNT}",
        "day": day,
        "period": period,
        "label": f"{name(side.label)}::VARCHAR" if side.label else "NULL::VARCHAR",
        "id": row_id,
        "identity": _identity(definition, side_name, row_id),
        "excluded": _reasons(side, "always"),
        "spare": _reasons(side, "unmatched"),
    }
    columns |= {alias: f"{name(column)}::VARCHAR" for alias, column in told(side).items()}
    for applies, prefix in (("always", "proof"), ("unmatched", "lone")):
        found = [e for e in side.evidence if e.applies == applies or prefix == "lone"]
        cases = [(f"nullif({name(e.column)}::VARCHAR, '')", e.type) for e in found]
        if no_currencies:
            code = columns["currency"]
            listed = ", ".join(text(c) for c in no_currencies)
            said = f"coalesce(nullif({code}, ''), 'an empty text') || ' is no ISO 4217 currency'"
            cases.append((f"CASE WHEN {code} IN ({listed}) THEN {said} END", "mapping"))
        whens = " ".join(f"WHEN {value} IS NOT NULL THEN {text(kind)}" for value, kind in cases)
        columns[f"{prefix}_type"] = f"CASE {whens} END" if cases else "NULL::VARCHAR"
        columns[f"{prefix}_reason"] = coalesced(*(v for v, _ in cases)) if cases else "NULL::VARCHAR"
    for index, match_pass in enumerate(definition.passes, 1):
        for position, key in enumerate(match_pass.by, 1):
            columns[f"key_{index}_{position}"] = normalised(getattr(key, side_name), key.normalise)
        condition = getattr(match_pass.where, side_name)
        columns[f"takes_part_{index}"] = f"coalesce({_condition(condition)}, false)" if condition else "true"
        if not isinstance(match_pass, KeyedPass):
            columns[f"sought_{index}"] = f"{name(getattr(match_pass.amount, side_name))}::{AMOUNT}"
        if isinstance(match_pass, FuzzyPass):
            for position, likeness in enumerate(match_pass.texts, 1):
                columns[f"text_{index}_{position}"] = normalised(getattr(likeness, side_name), likeness.normalise)
    for comparison in definition.compare:
        columns[f"is_{comparison.name}"] = _compared(comparison, side_name)
    return columns | standard_causes(definition, side_name)


def standard_rows(
    definition: Definition, side_name: SideName, no_currencies: Sequence[str] = (), source: str | None = None
) -> str:
    """The query that brings `<side>_input`, or another source of its rows, into standard form."""
    columns, source = _standard(definition, side_name, no_currencies, source)
    return f"SELECT\n{_listed(columns)}\nFROM {source}"


def make_rows(
    session: Session,
    definition: Definition,
    side_name: SideName,
    types: Mapping[str, str],
    no_currencies: Sequence[str] = (),
    source: str | None = None,
) -> None:
    """Make `<side>_rows`, the rows in standard form with a number each: no result may depend on what that is.

    It is a view: a table holds the columns of the input, once however many standard columns show them, and what is
    not had from them for nothing.
    """
    columns, source = _standard(definition, side_name, no_currencies, source)
    # an input's own `rowid` would hide the table's
    worked_out = {a: e for a, e in columns.items() if not _FOR_NOTHING.fullmatch(e) or '"rowid"' in e.lower()}
    shown = {alias: name(OF_ROW + alias) if alias in worked_out else value for alias, value in columns.items()}
    held = {c: name(c) for c in types if any(name(c) in value for value in shown.values())}
    held |= {OF_ROW + alias: value for alias, value in worked_out.items()}
    session.make(f"{side_name}_held", f"SELECT\n{_listed(held) or '    NULL AS nothing'}\nFROM {source}")
    view = f"SELECT\n    rowid AS row_no,\n{_listed(shown)}\nFROM {side_name}_held"
    session.run(f"{side_name}_rows", f"CREATE TEMP VIEW {side_name}_rows AS\n{view}")


def _listed(columns: Mapping[str, str]) -> str:
    return ",\n".join(f"    {expression} AS {name(alias)}" for alias, expression in columns.items())


def _standard(
    definition: Definition, side_name: SideName, no_currencies: Sequence[str], source: str | None
) -> tuple[dict[str, str], str]:
    """The columns of the standard form, those about working days among them, and what they are expressions over."""
    columns = standard_columns(definition, side_name, no_currencies)
    source = source or f"{side_name}_input"
    if definition.counts_working_days:
        calendar = calendar_of(definition, columns["entity"])
        numbered = {"workday": columns["day"]}
        numbered |= {f"at_{c.name}": columns[f"is_{c.name}"] for c in definition.compare if counts_business(c)}
        for alias, value in numbered.items():
            columns[alias] = f"of_{alias}.work_number"
            source += f"\n{working_day(f'of_{alias}', calendar, value)}"
        columns["calendar"] = calendar
    return columns, source


def _identity(definition: Definition, side_name: SideName, row_id: str) -> str:
    side: Side = getattr(definition, side_name)
    if side.identity:
        return joined([f"{name(c)}::VARCHAR" for c in side.identity])
    keyed = next((p for p in definition.passes if isinstance(p, KeyedPass)), None)
    if keyed is None:
        return row_id
    parts = [_shown(normalised(getattr(k, side_name), k.normalise), k) for k in keyed.by]
    return f"CASE WHEN {' AND '.join(f'{p} IS NOT NULL' for p in parts)} THEN {joined(parts)} ELSE {row_id} END"


def _shown(expression: str, key: Key) -> str:
    return f"replace({expression}, {SEVERAL}, ', ')" if key.is_several else expression


def _reasons(side: Side, applies: str) -> str:
    cases = [(e.when, e.reason) for e in side.exclude if e.applies == applies]
    whens = " ".join(f"WHEN {_condition(condition)} THEN {text(reason)}" for condition, reason in cases)
    if applies == "always" and side.filter:
        whens = f"WHEN {_condition(side.filter)} IS NOT TRUE THEN 'outside the filter' {whens}"
    return f"CASE {whens} END" if whens else "NULL::VARCHAR"


def _condition(condition: str) -> str:
    """A condition of the definition in brackets; one that ends in a comment ends before the closing one."""
    return f"({condition}\n)" if "--" in condition else f"({condition})"


def _compared(comparison: Comparison, side_name: SideName) -> str:
    column = getattr(comparison, side_name)
    if comparison.kind == "amount":
        return f"{name(column)}::{AMOUNT}"
    if comparison.kind == "number":
        return f"{name(column)}::{NUMBER}"
    if comparison.kind == "date":
        return f"{name(column)}::DATE"
    return mapped(column, comparison.normalise, getattr(comparison, f"{side_name}_values"))


def open_rows(side_name: SideName, index: int | None = None, keys: int = 0) -> str:
    """The rows no earlier pass has settled; with a pass's number, those that take part in it and have its key."""
    conditions = ["excluded IS NULL"]
    if index is not None:
        conditions += [f"takes_part_{index}"] + [f"key_{index}_{i} IS NOT NULL" for i in range(1, keys + 1)]
    return f"SELECT * FROM {side_name}_rows ANTI JOIN {side_name}_links USING (row_no) WHERE {' AND '.join(conditions)}"
