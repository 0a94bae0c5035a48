"""The part of OData's query language that the simulated ERPs take: `$filter`, `$orderby`, `$select`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Test = Callable[[Row], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<typed>(?:datetime|datetimeoffset|guid)'[^']*')|(?P<mark>[(),])"
    r"|(?P<word>[^\s(),']+))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


class BadQuery(ValueError):
    """A query that the service does not understand."""


def test_of(text: str, columns: Mapping[str, Any]) -> Test:
    """The condition of a `$filter`. `columns` are the names there are. Raises BadQuery."""
    parser = _Parser(text, columns)
    test = parser.any_of()
    if parser.tokens:
        raise BadQuery(f"syntax error at {parser.tokens[0]!r} in {text!r}")
    return test


def ordered(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Rows in the order of an `$orderby`."""
    for part in reversed([p.split() for p in text.split(",") if p.strip()]):
        rows = sorted(
            rows, key=lambda row: (row.get(part[0]) is not None, row.get(part[0])), reverse=part[1:] == ["desc"]
        )
    return rows


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, Any]) -> None:
        self.columns = columns
        self.tokens: list[str] = []
        end = 0
        while end < len(text.rstrip()):
            found = _TOKEN.match(text, end)
            if not found:
                raise BadQuery(f"syntax error in {text!r}")
            self.tokens.append(found[found.lastgroup or 0])
            end = found.end()

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens or (wanted is not None and self.tokens[0] != wanted):
            raise BadQuery(f"expected {wanted or 'something'}, got {self.tokens[:1]}")
        return self.tokens.pop(0)

    def any_of(self) -> Test:
        tests = [self.all_of()]
        while self.tokens[:1] == ["or"]:
            self.take()
            tests.append(self.all_of())
        return lambda row: any(test(row) for test in tests)

    def all_of(self) -> Test:
        tests = [self.one()]
        while self.tokens[:1] == ["and"]:
            self.take()
            tests.append(self.one())
        return lambda row: all(test(row) for test in tests)

    def one(self) -> Test:
        if self.tokens[:1] == ["("]:
            self.take()
            inner = self.any_of()
            self.take(")")
            return inner
        word = self.take()
        if word == "startswith":
            self.take("(")
            column = self.column(self.take())
            self.take(",")
            start = self.value(self.take())
            self.take(")")
            if self.tokens[:1] == ["eq"]:  # OData 2 compares the function's answer
                self.take()
                self.take("true")
            return lambda row: str(row.get(column) or "").startswith(start)
        column, compare, value = self.column(word), _COMPARE.get(self.take()), self.value(self.take())
        if compare is None:
            raise BadQuery(f"no such comparison after {word}")
        return lambda row: row.get(column) is not None and compare(_like(row[column], value), value)

    def column(self, name: str) -> str:
        if name not in self.columns:
            raise BadQuery(f"Could not find a property named '{name}'.")
        return name

    @staticmethod
    def value(literal: str) -> Any:
        if literal.startswith("'"):
            return literal[1:-1].replace("''", "'")
        typed = re.fullmatch(r"(datetime|datetimeoffset|guid)'(.*)'", literal)
        if typed:
            return typed[2]
        if literal in ("true", "false"):
            return literal == "true"
        return Decimal(literal) if re.fullmatch(r"-?\d+(\.\d+)?", literal) else literal


def _like(held: Any, value: Any) -> Any:
    return Decimal(held) if isinstance(value, Decimal) and not isinstance(held, bool) else held
