"""The part of SOQL a connector needs, parsed and turned into SQL over the stored records.

SELECT fields | COUNT() | aggregates FROM object WHERE comparisons, IN, LIKE, AND, OR, NOT GROUP BY ORDER BY LIMIT
OFFSET. Errors carry Salesforce's code and its way to point at the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tieout_sandbox.simulators.salesforce.objects import Field, SObject, find

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:\\.|[^'\\])*')
    | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
    | (?P<date>\d{4}-\d\d-\d\d)
    | (?P<number>[+-]?\d+(?:\.\d+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_COMPARISONS = {"=": "IS", "!=": "IS NOT", "<>": "IS NOT", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_AGGREGATES = {"COUNT", "SUM", "MIN", "MAX", "AVG", "COUNT_DISTINCT"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
STAMPS = ("SystemModstamp", "LastModifiedDate")


class SoqlError(Exception):
    """A query Salesforce refuses."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`SUM(Amount) total`; `field` is None in COUNT()."""

    function: str
    field: Field | None
    alias: str


@dataclass(frozen=True, slots=True)
class Soql:
    """A parsed query: what to show, and the SQL conditions of its WHERE over the documents."""

    sobject: SObject
    fields: tuple[Field, ...]
    aggregates: tuple[Aggregate, ...]
    where: str
    params: tuple[Any, ...]
    group_by: tuple[Field, ...]
    order: str
    limit: int | None
    offset: int

    @property
    def counts_only(self) -> bool:
        """SELECT COUNT(): the answer is `totalSize` alone."""
        return len(self.aggregates) == 1 and self.aggregates[0].field is None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Soql:
    """Parse one query. Raises SoqlError MALFORMED_QUERY, INVALID_FIELD or INVALID_TYPE."""
    return _Parser(text).query()


def salesforce_time(seconds: int) -> str:
    """Unix seconds as REST answers write them: 2024-09-24T03:26:07.000+0000."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def column(field: Field) -> str:
    """The SQL that reads a field of a stored record."""
    if field.name == "Id":
        return "id"
    if field.name in STAMPS:
        return "stamp"
    value = f"json_extract(body, '$.{field.name}')"
    return f"COALESCE({value}, 0)" if field.type == "boolean" else value


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._scan())
        self.at = 0
        self.sobject: SObject

    def _scan(self) -> Iterator[_Token]:
        position = 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                start = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                raise self._error(f"unexpected token: '{self.text[start : start + 1]}'", start)
            yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            position = match.end()

    # --- clauses ----------------------------------------------------------------------------------------------

    def query(self) -> Soql:
        self._keyword("SELECT")
        first = self.at
        self._skip_to("FROM")
        self._keyword("FROM")
        name = self._word()
        sobject = find(name.text)
        if sobject is None:
            raise SoqlError(
                "INVALID_TYPE",
                self._pointed(
                    f"sObject type '{name.text}' is not supported. If you are attempting to use a custom object, be "
                    "sure to append the '__c' after the entity name. Please reference your WSDL or the describe call "
                    "for the appropriate names.",
                    name.at,
                ),
            )
        self.sobject = sobject
        after_from, self.at = self.at, first
        fields, aggregates = self._selection()
        self.at = after_from
        where, params = "", ()
        if self._accept("WHERE"):
            where, params = self._condition()
        group_by: tuple[Field, ...] = ()
        if self._accept("GROUP"):
            self._keyword("BY")
            group_by = tuple(self._names())
        order = self._order() if self._accept("ORDER") else "id"
        limit = self._integer() if self._accept("LIMIT") else None
        offset = self._integer() if self._accept("OFFSET") else 0
        if self.at < len(self.tokens):
            raise self._unexpected()
        if aggregates and fields and {f.name for f in fields} - {f.name for f in group_by}:
            raise SoqlError("MALFORMED_QUERY", f"Field must be grouped or aggregated: {fields[0].name}")
        return Soql(sobject, fields, aggregates, where, params, group_by, order, limit, offset)

    def _selection(self) -> tuple[tuple[Field, ...], tuple[Aggregate, ...]]:
        fields: list[Field] = []
        aggregates: list[Aggregate] = []
        while True:
            word = self._word()
            if self._sign("("):
                if word.text.upper() == "FIELDS":
                    self._word()
                    fields += self.sobject.fields
                else:
                    aggregates.append(self._aggregate(word, len(aggregates)))
                    continue_list = self._sign(",")
                    if not continue_list:
                        break
                    continue
                self._expect(")")
            else:
                fields.append(self._field(word))
            if not self._sign(","):
                break
        if not self._peek("FROM"):
            raise self._unexpected()
        return tuple(fields), tuple(aggregates)

    def _aggregate(self, word: _Token, position: int) -> Aggregate:
        function = word.text.upper()
        if function not in _AGGREGATES:
            raise self._error(f"unexpected token: '{word.text}'", word.at)
        field = None if self._peek_sign(")") else self._field(self._word())
        if field is None and function != "COUNT":
            raise self._unexpected()
        self._expect(")")
        alias = f"expr{position}"
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "word" and not self._peek("FROM"):
            alias = self._word().text
        return Aggregate(function, field, alias)

    def _names(self) -> Iterator[Field]:
        yield self._field(self._word())
        while self._sign(","):
            yield self._field(self._word())

    def _order(self) -> str:
        self._keyword("BY")
        parts = []
        while True:
            field = self._field(self._word())
            descending = self._accept("DESC")
            if not descending:
                self._accept("ASC")
            direction = "DESC" if descending else "ASC"
            nulls = "FIRST"
            if self._accept("NULLS"):
                nulls = "LAST" if self._accept("LAST") else "FIRST"
                if nulls == "FIRST":
                    self._accept("FIRST")
            parts.append(f"{column(field)} {direction} NULLS {nulls}")
            if not self._sign(","):
                break
        return ", ".join([*parts, "id"])

    # --- conditions -------------------------------------------------------------------------------------------

    def _condition(self) -> tuple[str, tuple[Any, ...]]:
        """One chain of AND or of OR: SOQL wants parentheses where they mix."""
        sql, params = self._term()
        joined = next((w for w in ("AND", "OR") if self._peek(w)), None)
        while joined and self._accept(joined):
            more, added = self._term()
            sql, params = f"{sql} {joined} {more}", params + added
        if joined and (self._peek("AND") or self._peek("OR")):
            raise self._unexpected()
        return sql, params

    def _term(self) -> tuple[str, tuple[Any, ...]]:
        if self._accept("NOT"):
            sql, params = self._term()
            return f"NOT ({sql})", params
        if self._sign("("):
            sql, params = self._condition()
            self._expect(")")
            return f"({sql})", params
        field = self._field(self._word())
        return self._comparison(field)

    def _comparison(self, field: Field) -> tuple[str, tuple[Any, ...]]:
        negated = self._accept("NOT")
        if self._accept("IN"):
            self._expect("(")
            values = [self._literal(field)]
            while self._sign(","):
                values.append(self._literal(field))
            self._expect(")")
            marks = ", ".join("?" * len(values))
            return f"{column(field)} {'NOT ' if negated else ''}IN ({marks})", tuple(values)
        if negated:
            raise self._unexpected()
        if self._accept("LIKE"):
            return f"{column(field)} LIKE ?", (self._literal(field),)
        token = self._next()
        if token.text not in _COMPARISONS:
            raise self._error(f"unexpected token: '{token.text}'", token.at)
        value = self._literal(field)
        collate = " COLLATE NOCASE" if isinstance(value, str) and field.type not in ("id", "reference") else ""
        # An index serves `=` but not `IS`; `!=` counts null as different, as SOQL does.
        operator = "=" if token.text == "=" and value is not None else _COMPARISONS[token.text]
        return f"{column(field)} {operator} ?{collate}", (value,)

    def _literal(self, field: Field) -> Any:
        token = self._next()
        wrong = SoqlError(
            "INVALID_FIELD",
            self._pointed(
                f"value of filter criterion for field '{field.name}' must be of type {field.type} and should "
                f"{'not ' if token.kind == 'string' else ''}be enclosed in quotes",
                token.at,
            ),
        )
        match token.kind:
            case "string":
                if field.type in ("date", "datetime", "currency", "double", "percent", "int", "boolean"):
                    raise wrong
                text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), token.text[1:-1])
                return self._full_id(text) if field.name == "Id" and len(text) == 15 else text
            case "datetime":
                if field.type != "datetime":
                    raise wrong
                moment = datetime.fromisoformat(token.text.replace("Z", "+00:00"))
                return moment.timestamp() if field.name in STAMPS else salesforce_time(int(moment.timestamp()))
            case "date":
                if field.type != "date":
                    raise wrong
                return token.text
            case "number":
                if field.type not in ("currency", "double", "percent", "int"):
                    raise wrong
                return float(token.text)
        match token.text.upper():
            case "NULL":
                return None
            case "TRUE" | "FALSE" if field.type == "boolean":
                return int(token.text.upper() == "TRUE")
        raise self._error(f"unexpected token: '{token.text}'", token.at)

    @staticmethod
    def _full_id(short: str) -> str:
        """The 18-character form of a 15-character id: three letters say which characters are capitals."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
        chunks = [short[i : i + 5] for i in (0, 5, 10)]
        return short + "".join(letters[sum(c.isupper() << i for i, c in enumerate(chunk))] for chunk in chunks)

    # --- tokens -----------------------------------------------------------------------------------------------

    def _field(self, word: _Token) -> Field:
        name = word.text.split(".")[-1] if word.text.lower().startswith(self.sobject.name.lower() + ".") else word.text
        field = self.sobject.field(name)
        if field is None:
            raise SoqlError(
                "INVALID_FIELD",
                self._pointed(
                    f"No such column '{word.text}' on entity '{self.sobject.name}'. If you are attempting to use a "
                    "custom field, be sure to append the '__c' after the custom field name. Please reference your "
                    "WSDL or the describe call for the appropriate names.",
                    word.at,
                ),
            )
        return field

    def _next(self) -> _Token:
        if self.at >= len(self.tokens):
            raise self._unexpected()
        self.at += 1
        return self.tokens[self.at - 1]

    def _word(self) -> _Token:
        if self.at >= len(self.tokens) or self.tokens[self.at].kind != "word":
            raise self._unexpected()
        return self._next()

    def _peek(self, keyword: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].text.upper() == keyword

    def _accept(self, keyword: str) -> bool:
        if not self._peek(keyword) or self.tokens[self.at].kind != "word":
            return False
        self.at += 1
        return True

    def _keyword(self, keyword: str) -> None:
        if not self._accept(keyword):
            raise self._unexpected()

    def _peek_sign(self, sign: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].text == sign

    def _sign(self, sign: str) -> bool:
        if not self._peek_sign(sign):
            return False
        self.at += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._unexpected()

    def _skip_to(self, keyword: str) -> None:
        while self.at < len(self.tokens) and not self._peek(keyword):
            self.at += 1

    def _integer(self) -> int:
        token = self._next()
        if token.kind != "number" or not token.text.isdigit():
            raise self._error(f"unexpected token: '{token.text}'", token.at)
        return int(token.text)

    def _unexpected(self) -> SoqlError:
        if self.at >= len(self.tokens):
            return self._error("unexpected token: '<EOF>'", len(self.text))
        token = self.tokens[self.at]
        return self._error(f"unexpected token: '{token.text}'", token.at)

    def _error(self, message: str, at: int) -> SoqlError:
        return SoqlError("MALFORMED_QUERY", self._pointed(message, at))

    def _pointed(self, message: str, at: int) -> str:
        before = self.text[max(0, at - 30) : at]
        return f"\n{before}{self.text[at : at + 30]}\n{' ' * len(before)}^\nERROR at Row:1:Column:{at + 1}\n{message}"
