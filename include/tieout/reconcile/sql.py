"""SQL text for names, values, normalised keys and money; everything the generated statements are built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from tieout.money import currencies
from tieout.reconcile.definition import Extract, Normaliser, Tolerance

AMOUNT = "DECIMAL(38,6)"
NUMBER = "DECIMAL(38,12)"

_NORMALISERS = {
    "trim": "trim({0})",
    "collapse_spaces": r"trim(regexp_replace({0}, '\s+', ' ', 'g'))",
    "upper": "upper({0})",
    "lower": "lower({0})",
    # a key of zeros alone keeps one, so that it does not become an empty key
    "strip_leading_zeros": "regexp_replace({0}, '^0+(.)', '\\1')",
    "digits_only": "regexp_replace({0}, '[^0-9]', '', 'g')",
    "nfc": "nfc_normalize({0})",
}


def name(column: str) -> str:
    """A column or table name, quoted."""
    return '"' + column.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def normalised(column: str, steps: Iterable[Normaliser]) -> str:
    """A column as text with normalisers applied in order; an empty text becomes null, which never matches."""
    expression = f"{name(column)}::VARCHAR"
    for step in steps:
        if isinstance(step, Extract):
            # the whole pattern when it has no group of its own
            group = 1 if "(" in step.extract.replace("\\(", "").replace("(?", "") else 0
            expression = f"regexp_extract({expression}, {text(step.extract)}, {group})"
        else:
            expression = _NORMALISERS[step].format(expression)
    return f"nullif({expression}, '')"


def mapped(expression: str, values: Mapping[str, str]) -> str:
    """An expression with the listed words replaced by the common vocabulary."""
    if not values:
        return expression
    cases = " ".join(f"WHEN {text(k)} THEN {text(v)}" for k, v in sorted(values.items()))
    return f"CASE {expression} {cases} ELSE {expression} END"


def joined(expressions: Sequence[str]) -> str:
    """Several values as one key text, `|` between them, nulls as empty texts."""
    return " || '|' || ".join(f"coalesce({e}, '')" for e in expressions)


def coalesced(*expressions: str) -> str:
    """The first value that is not null."""
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


@cache
def minor_unit(currency: str) -> str:
    """The minor unit of a currency expression as an exact amount."""
    by_digits: dict[int, list[str]] = {}
    for code, digits, _ in currencies():
        if digits != 2:
            by_digits.setdefault(digits, []).append(code)
    cases = " ".join(
        f"WHEN {currency} IN ({', '.join(text(c) for c in codes)}) THEN 1e-{digits}::{AMOUNT}"
        for digits, codes in sorted(by_digits.items())
    )
    return f"CASE {cases} ELSE 0.01::{AMOUNT} END"


def within(left: str, right: str, tolerance: Tolerance, currency: str | None) -> str:
    """Whether two amounts (of one currency) or numbers (without currency) agree; null agrees only with null."""
    equal = f"{left} IS NOT DISTINCT FROM {right}"
    if tolerance.is_zero:
        return f"({equal})"
    units = tolerance.minor_units
    if isinstance(units, dict):
        cases = " ".join(f"WHEN {text(c)} THEN {n}" for c, n in sorted(units.items()) if c != "default")
        count = (
            f"CASE {currency or 'NULL'} {cases} ELSE {units.get('default', 0)} END"
            if cases
            else str(units.get("default", 0))
        )
    else:
        count = str(units)
    unit = f"({minor_unit(currency)})" if currency else "1"
    by_units = f"abs({left} - {right}) <= ({count}) * {unit}"
    by_percent = f"abs({left} - {right}) * 100 <= {tolerance.percent:f} * greatest(abs({left}), abs({right}))"
    limit = f"({by_units} {'OR' if tolerance.combine == 'greater' else 'AND'} {by_percent})"
    side = {"both": "", "left_higher": f" AND {left} >= {right}", "right_higher": f" AND {left} <= {right}"}
    return f"({equal} OR coalesce({limit}{side[tolerance.direction]}, false))"


def macros() -> tuple[str, ...]:
    """Statements that teach the engine to write money and numbers as people do."""
    digits: dict[int, list[str]] = {}
    for code, places, _ in currencies():
        digits.setdefault(places, []).append(code)
    none, three = (", ".join(text(c) for c in digits.get(d, [""])) for d in (0, 3))
    whole = "format('{:,}', trunc(abs(a))::BIGINT)"
    sign = "CASE WHEN a < 0 THEN '-' ELSE '' END"

    def fraction(places: int) -> str:
        scaled = f"((abs(a) - trunc(abs(a))) * {10**places})::BIGINT"
        return f"'.' || lpad({scaled}::VARCHAR, {places}, '0')"

    return (
        f"CREATE OR REPLACE TEMP MACRO money_of(a, c) AS {sign} || {whole} || CASE WHEN c IN ({none}) THEN '' "
        f"WHEN c IN ({three}) THEN {fraction(3)} ELSE {fraction(2)} END || ' ' || c",
        # every branch is cast by itself: the engine would give them all the scale of the first
        f"CREATE OR REPLACE TEMP MACRO money(amount, c) AS money_of(CASE WHEN c IN ({none}) "
        f"THEN round(amount, 0)::{AMOUNT} WHEN c IN ({three}) THEN round(amount, 3)::{AMOUNT} "
        f"ELSE round(amount, 2)::{AMOUNT} END, c)",
        "CREATE OR REPLACE TEMP MACRO plain(n) AS CASE WHEN n::VARCHAR LIKE '%.%' "
        "THEN rtrim(rtrim(n::VARCHAR, '0'), '.') ELSE n::VARCHAR END",
    )
