"""SQL text for names, values, normalised keys and money; everything the generated statements are built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from tieout.money import currencies
from tieout.reconcile.definition import Extract, Normaliser, Split, Tolerance

AMOUNT = "DECIMAL(38,6)"
NUMBER = "DECIMAL(38,12)"

_NORMALISERS = {
    "trim": "trim({0})",
    "collapse_spaces": r"trim(regexp_replace({0}, '[\s\pZ]+', ' ', 'g'))",
    "upper": "upper({0})",
    "lower": "lower({0})",
    # a key of zeros alone keeps one, so that it does not become an empty key
    "strip_leading_zeros": "regexp_replace({0}, '^0+(.)', '\\1')",
    "digits_only": "regexp_replace({0}, '[^0-9]', '', 'g')",
    "nfc": "nfc_normalize({0})",
    "nfkc": "nfkc_normalize({0})",  # the session teaches it to the engine
}
# between the values of a key of which one row has several
SEVERAL = "chr(31)"


def name(column: str) -> str:
    """A column or table name, quoted."""
    return '"' + column.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def normalised(column: str, steps: Iterable[Normaliser]) -> str:
    """A column as text with normalisers applied in order; an empty text becomes null, which never matches.

    Where a step gives several values, they are sorted, without repeats, and joined by `SEVERAL`.
    """
    return _normalised(f"{name(column)}::VARCHAR", steps)


def _normalised(expression: str, steps: Iterable[Normaliser]) -> str:
    is_list = False
    for step in steps:
        if is_list:
            expression = f"list_transform({expression}, lambda part: {_applied('part', step)})"
        else:
            expression = _applied(expression, step)
        is_list = is_list or isinstance(step, Split) or (isinstance(step, Extract) and step.every)
    if is_list:
        parts = f"list_sort(list_distinct(list_filter({expression}, lambda part: part <> '')))"
        expression = f"array_to_string({parts}, {SEVERAL})"
    return f"nullif({expression}, '')"


def _applied(expression: str, step: Normaliser) -> str:
    if isinstance(step, Split):
        return f"string_split({expression}, {text(step.split)})"
    if isinstance(step, Extract):
        return f"regexp_extract{'_all' if step.every else ''}({expression}, {text(step.extract)}, {step.group})"
    return _NORMALISERS[step].format(expression)


def mapped(column: str, steps: Sequence[Normaliser], values: Mapping[str, str]) -> str:
    """A normalised column with the listed words replaced by the common vocabulary, both as normalising leaves them.

    A word of which it leaves nothing, such as what a pattern is to find, is meant as it stands.
    """
    expression = normalised(column, steps)
    if not values:
        return expression

    def word(value: str) -> str:
        return f"coalesce({_normalised(text(value), steps)}, {text(value)})" if steps else text(value)

    cases = " ".join(f"WHEN {word(k)} THEN {word(v)}" for k, v in sorted(values.items()))
    return f"CASE {expression} {cases} ELSE {expression} END"


def joined(expressions: Sequence[str]) -> str:
    """Several values as one key text, `|` between them, nulls as empty texts."""
    return " || '|' || ".join(f"coalesce({e}, '')" for e in expressions)


def coalesced(*expressions: str) -> str:
    """The first value that is not null."""
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


def one_currency(row: str = "") -> str:
    """The currency of a group of rows, null where they mix several."""
    return f"CASE WHEN {mixes_currencies(row)} THEN NULL ELSE min({row}currency) END"


def one_currency_sum(row: str = "") -> str:
    """The sum of a group of rows, null where they mix currencies."""
    return f"CASE WHEN {mixes_currencies(row)} THEN NULL ELSE sum({row}amount) END"


def mixes_currencies(row: str = "") -> str:
    """Whether a group of rows has amounts of several currencies, or of one and of none."""
    currency = f"{row}currency"
    return f"(min({currency}) <> max({currency}) OR count({currency}) NOT IN (0, count(*)))"


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


@cache
def digits_of(currency: str, occurring: frozenset[str] | None = None) -> str:
    """The decimal places of a currency expression; computed once per row, because `money` needs it in many places.

    Where it is known which currencies occur, it is no longer than they need.
    """
    by_digits: dict[int, list[str]] = {}
    for code, digits, _ in currencies():
        if digits != 2 and (occurring is None or code in occurring):
            by_digits.setdefault(digits, []).append(text(code))
    cases = " ".join(
        f"WHEN {currency} IN ({', '.join(codes)}) THEN {digits}" for digits, codes in sorted(by_digits.items())
    )
    return f"CASE {cases} ELSE 2 END" if cases else "2"


def macros() -> tuple[str, ...]:
    """Statements that teach the engine to write money and numbers as people do.

    `money(amount, currency, digits)` gives `-1,234.50 EUR`, and `finely(amount, currency)` all decimals there are, for
    differences (`is_finer`) of less than a minor unit; `plain(number)` drops zeros after the point. A macro's
    arguments are copied into its text wherever they are used, so each uses them as rarely as it can.
    """
    create = "CREATE OR REPLACE TEMP MACRO"
    return (
        # for the sides' own queries
        f"{create} grouped(whole) AS ltrim(reverse(regexp_replace(reverse(whole), '([0-9]{{3}})', '\\1,', 'g')), ',')",
        f"{create} per_unit(d) AS CASE d WHEN 0 THEN 1 WHEN 2 THEN 100 WHEN 3 THEN 1000 WHEN 4 THEN 10000 "
        "ELSE 1000000 END",
        f"{create} in_units(amount, d) AS round(abs(amount) * per_unit(d), 0)::HUGEINT",
        f"{create} spaced(amount, d) AS CASE WHEN amount < 0 THEN '-' ELSE '' END "
        "|| format('{:,}', in_units(amount, d) // per_unit(d)) "
        "|| CASE WHEN d = 0 THEN '' ELSE '.' || right('000000' || in_units(amount, d)::VARCHAR, d) END",
        f"{create} is_finer(amount, d) AS amount % (CASE d WHEN 0 THEN 1 WHEN 2 THEN 0.01 WHEN 3 THEN 0.001 "
        "ELSE 0.0001 END)::DECIMAL(5, 4) <> 0",
        f"{create} finely(amount, c) AS regexp_replace(spaced(amount, 6), '(\\.\\d\\d\\d*?)0+$', '\\1') || ' ' || c",
        f"{create} cents(amount) AS amount::DECIMAL(18, 6)::DECIMAL(18, 2)",
        # most amounts fit the engine's own texts, of a decimal and, where it needs commas, of a whole number
        f"{create} money(amount, c, d) AS CASE WHEN d = 2 AND amount BETWEEN 0 AND 999 THEN cents(amount)::VARCHAR "
        "WHEN d = 2 AND amount BETWEEN 0 AND 99999999999 "
        "THEN format('{:,}', floor(cents(amount))::BIGINT) || right(cents(amount)::VARCHAR, 3) "
        "ELSE spaced(amount, d) END || ' ' || c",
        f"{create} plain(n) AS regexp_replace(n::VARCHAR, '(\\.[0-9]*[1-9])0+$|\\.0*$', '\\1')",
    )
