"""The engine's SQL for Spark: DuckDB's dialect is the source, sqlglot translates, and what differs is put right here.

The two engines have functions of one name that mean different things (months between dates, division, hashes), and a
word of DuckDB that sqlglot does not know would reach Spark as it stands. So every function it passes on by name must be
known here; the others are refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tieout.errors import DataError


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement for Spark: a query, and what becomes of its rows."""

    query: str
    name: str | None = None
    """The view that it makes; None: its rows are the answer."""
    kept: bool = False
    """The view is a table: computed once, not at every use."""
    drops: bool = False
    """Only the name counts, and the view of that name goes."""


@lru_cache(maxsize=256)
def for_spark(sql: str) -> tuple[Statement, ...]:
    """Every statement of a text in DuckDB's dialect, for Spark.

    Known are queries, `CREATE TEMP TABLE` and `TEMP VIEW … AS`, and `DROP`. A parameter `$name` becomes `:name`. A
    local time given to `timezone` must be written `CAST(… AS TIMESTAMP)`: its type decides the direction. Raises
    DataError for a statement of another kind, and for one that has a function nobody said Spark's word for.
    """
    try:
        return tuple(_statement(one) for one in sqlglot.parse(sql, read="duckdb") if one is not None)
    except SqlglotError as error:
        raise DataError("Spark has no words for a statement", record=sql[:200], got=str(error)[:500]) from error


def _statement(tree: exp.Expr) -> Statement:
    if isinstance(tree, exp.Drop) and (dropped := tree.find(exp.Table)) is not None:
        return Statement("", dropped.name, drops=True)
    if isinstance(tree, exp.Create) and tree.expression is not None and tree.find(exp.TemporaryProperty):
        return Statement(_query(tree.expression), tree.this.name, kept=tree.kind == "TABLE")
    if isinstance(tree, exp.Query):
        return Statement(_query(tree))
    raise DataError(
        "Spark is not given a statement of this kind",
        got=tree.sql("duckdb")[:200],
        expected="a query, CREATE TEMP TABLE or VIEW, DROP",
    )


def _query(tree: exp.Expr) -> str:
    said = tree.copy().transform(_put_right)
    return said.sql("spark", comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE)


def _put_right(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Anonymous):
        rule = _FUNCTIONS.get(node.name.lower())
        if rule is None:
            raise DataError(f"Spark's word for the function {node.name.lower()} is not known", got=node.sql("duckdb"))
        return rule(*node.expressions)
    if isinstance(node, exp.Add) and isinstance(node.expression, exp.Anonymous):
        # added months stay in a shorter month's last day, in both engines
        if node.expression.name.lower() == "to_months":
            return _call("ADD_MONTHS", node.this, *node.expression.expressions)
    elif isinstance(node, exp.DateDiff) and node.text("unit").upper() == "MONTH":
        return _months_between(node.expression, node.this)
    elif isinstance(node, exp.Cast) and isinstance(node.this.unnest(), exp.IntDiv) and node.to.is_type("DECIMAL"):
        return exp.cast(_whole_quotient(node.this.unnest()), node.to)
    elif isinstance(node, exp.DataType) and node.is_type("INT128"):
        return exp.DataType.build("DECIMAL(38, 0)")
    elif isinstance(node, exp.AtTimeZone):
        return _at_zone(node.args["zone"], node.this)
    elif isinstance(node, exp.Star) and node.args.get("replace"):
        raise DataError("Spark cannot replace a column of a star", got=node.sql("duckdb"), remedy="name the columns")
    return node


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[a.transform(_put_right) for a in arguments])


def _at_zone(zone: exp.Expr, time: exp.Expr) -> exp.Expr:
    """A local time in a zone as an instant, an instant as the local time there.

    The session's zone is UTC, so an instant cast to a time without a zone is its time in UTC.
    """
    utc, local = exp.Literal.string("UTC"), exp.DataType.build("TIMESTAMPNTZ")
    if isinstance(time, exp.Cast) and time.to.is_type("TIMESTAMP", "TIMESTAMPNTZ"):
        return exp.cast(_call("CONVERT_TIMEZONE", zone, utc, exp.cast(time.this, local)), "TIMESTAMPLTZ")
    return _call("CONVERT_TIMEZONE", utc, zone, exp.cast(time, local))


def _months_between(first: exp.Expr, last: exp.Expr) -> exp.Expr:
    """How many month borders lie between two dates; Spark's own difference counts whole months."""
    years = exp.Sub(this=_call("YEAR", last.copy()), expression=_call("YEAR", first.copy()))
    months = exp.Sub(this=_call("MONTH", last.copy()), expression=_call("MONTH", first.copy()))
    return exp.paren(exp.Add(this=exp.Mul(this=exp.paren(years), expression=exp.Literal.number(12)), expression=months))


def _whole_quotient(node: exp.IntDiv) -> exp.Expr:
    """A whole quotient that is cast to DECIMAL is one of whole decimals, where Spark's `DIV` keeps 64 bits."""
    over, by = (part.transform(_put_right) for part in (node.this, node.expression))
    multiple = exp.Sub(this=over, expression=exp.Mod(this=over.copy(), expression=by))
    return exp.Div(this=exp.paren(multiple), expression=by.copy())


_FUNCTIONS: dict[str, Callable[..., exp.Expr]] = {
    # Spark's `hash` has 32 bits: too many candidates
    "hash": lambda *values: _call("XXHASH64", *values),
    "timezone": _at_zone,
    "epoch_us": lambda instant: _call("UNIX_MICROS", instant),
}
