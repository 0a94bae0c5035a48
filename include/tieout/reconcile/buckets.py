"""Sets identical rows aside before matching: buckets of keys whose rows are the same on both sides need no join.

The engine reads each side once and gives, per row, a hash of its key, two independent 64-bit hashes of its key and all
compared values, and its compared amounts in units of their last decimal. Arrays hold, per bucket of keys, the left sums
less the right ones. A bucket counts as equal only if both sides agree on the number of rows, the exact sum of every
compared amount per currency and the sums of both halves of the 128-bit hash, and if no key in it is there twice. The
rows of all other buckets are read again and compared key by key in the same way; what still differs goes through the
passes. Everything else is a match without a difference and goes into totals and summary only.

The residual risk: rows of one bucket that differ but have equal 128-bit hash sums and equal sums of every amount. No
difference in a total can hide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tieout.reconcile.definition import Definition, KeyedPass
from tieout.reconcile.session import Session
from tieout.reconcile.sides import OF_ROW, SIDES, SideName, decimals, make_rows, standard_columns, standard_rows
from tieout.reconcile.sql import AMOUNT, joined, name, text

_ROWS_PER_BUCKET = 4  # at most, where there are few currencies
_ROOM = 192 << 20  # bytes of sums, as long as they are not more than a bucket per row
# What is above either limit takes the ordinary way, so that no sum of a bucket overflows: 2^12 · 2^50 < 2^63.
_MOST_ROWS = 1 << 12
_MOST_UNITS = 1 << 50
_TOO_LARGE = -(1 << 62)
_NO_BUCKET = 1 << 32  # of rows that take no part; always kept
_AT_ONCE = 1 << 14  # rows whose buckets stay in the processor's cache from one sum to the next
_KEY = f'"{OF_ROW}key"'
_RIGHT = 32  # the bit above which a bucket counts the rows of the right side

_SMALL_DECIMAL = re.compile(r"DECIMAL\((1[0-8]|\d),")  # the engine keeps it in at most eight bytes

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Line:
    """A side's row as expressions over its input, the same for both sides where the values are the same."""

    takes_part: str
    key: str
    upper: str
    lower: str
    amounts: tuple[str, ...]
    """Compared amounts, exact."""
    units: tuple[str, ...]
    """The same as integers or as the decimals they are stored as, null where there is no amount."""
    currency: str
    has_evidence: str
    columns: tuple[str, ...]
    """The input's columns that the definition reads."""


def can_set_aside(definition: Definition) -> bool:
    """Whether the first pass matches two identical rows, alone with their key, whatever else there is."""
    first = definition.passes[0]
    windows = [c.window for c in definition.compare if c.window]
    return (
        isinstance(first, KeyedPass)
        and first.cardinality != "N:N"
        and first.accept != "suggested"
        # one day on both sides may lie outside the window, or be no day of the calendar
        and all(w.count == "calendar" and w.earliest <= 0 <= w.latest for w in windows)
    )


def keep_differing(
    session: Session,
    definition: Definition,
    types: Mapping[SideName, Mapping[str, str]],
    no_currencies: Mapping[SideName, Sequence[str]],
) -> int:
    """Make `<side>_rows` of what is not provably identical; gives how many pairs were set aside.

    `<side>_whole` shows all of a side's rows in standard form.
    """
    lines = {side: _line(definition, side, types, no_currencies[side]) for side in SIDES}
    rows = {side: session.rows(f"SELECT coalesce(sum(rows), 0)::BIGINT FROM {side}_all")[0][0] for side in SIDES}
    found = session.rows("SELECT DISTINCT currency FROM (FROM left_all UNION ALL FROM right_all) ORDER BY ALL")
    currencies = [code for (code,) in found if code is not None]
    balance = _Balance(max(rows.values()), len(currencies) + 1, len(lines["left"].units))
    for side in SIDES:
        balance.weigh(session, side, _weighed(side, lines[side], currencies), rows[side])
    unequal = np.append(np.flatnonzero(balance.unequal()), _NO_BUCKET)
    session.connection.register("unequal", pa.table({"bucket": unequal.astype(np.uint64)}))
    for side in SIDES:
        session.make(f"{side}_kept", _kept(side, lines[side], balance.buckets, currencies))
    session.make("differing", _differing(lines["left"]))
    kept = 0
    for side in SIDES:
        whole = standard_rows(definition, side, no_currencies[side])
        session.run(f"{side}_whole", f"CREATE TEMP VIEW {side}_whole AS\n{whole}")
        source = f"(FROM {side}_kept WHERE {_KEY} IS NULL OR {_KEY} IN (FROM differing)) kept"
        make_rows(session, definition, side, types[side], no_currencies[side], source)
        session.drop(f"{side}_kept")
        kept = session.rows(f"SELECT count(*) FROM {side}_rows")[0][0]
    return int(rows["right"] - kept)


def aside_matches(definition: Definition) -> str:
    """The query for the pairs that were set aside, in the columns of `matches`."""
    first = definition.passes[0]
    keys = [f"key_1_{i}" for i in range(1, len(first.by) + 1)]
    shared = ["entity", *keys]
    aside = " AND ".join(["l.excluded IS NULL", "l.takes_part_1", *(f"l.{k} <> ''" for k in shared)])
    source, right_id, right_amount = "left_whole l", "l.id", "l.amount"
    if (definition.left.amount is None) != (definition.right.amount is None):  # then it was not compared
        right_amount = "r.amount"
    if right_amount == "r.amount" or not _key_is_id(definition):
        open_right = aside.replace("l.", "r.")
        source += f" JOIN (SELECT {', '.join(shared)}, id, amount FROM right_whole r WHERE {open_right}) r"
        source, right_id = f"{source} USING ({', '.join(shared)})", "r.id"
    ordinal = "1::BIGINT"
    if len(keys) > 1:  # keys of several parts may read the same
        ordinal = f"row_number() OVER (PARTITION BY l.entity, match_key ORDER BY {', '.join(f'l.{k}' for k in keys)})"
    difference = f"{'0' if definition.first_amount else 'NULL'}::{AMOUNT}"
    return (
        f"SELECT {text(definition.id)} AS definition_id, l.entity AS legal_entity_id,\n"
        f"  {text(first.name)} AS pass_name, {joined([f'l.{k}' for k in keys])} AS match_key,\n"
        f"  {ordinal} AS ordinal, l.currency AS currency,\n"
        f"  1::BIGINT AS left_rows, 1::BIGINT AS right_rows, l.amount AS left_amount, {right_amount} AS right_amount,\n"
        f"  {difference} AS difference, NULL::VARCHAR AS tolerated, l.id AS left_ids, {right_id} AS right_ids\n"
        f"FROM {source}\nWHERE {aside} AND hash({', '.join(f'l.{c}' for c in shared)}) NOT IN (FROM differing)"
    )


def _key_is_id(definition: Definition) -> bool:
    """Whether the key, as it stands, is what names a row on either side: then an identical row has the same id."""
    (key, *more) = definition.passes[0].by
    return not more and not key.normalise and definition.left.id == (key.left,) and definition.right.id == (key.right,)


class _Balance:
    """Left sums less right sums of every bucket."""

    def __init__(self, rows: int, currencies: int, amounts: int) -> None:
        # what belongs to a bucket lies together: rows, upper, lower, then one sum per amount and currency
        self._width = 3 + amounts * currencies
        # the fewer rows share a bucket, the fewer are read again; many currencies share the memory that few would take
        fewest = rows // max(_ROWS_PER_BUCKET, currencies)
        self.buckets = max(1, fewest, min(rows, _ROOM // (8 * self._width)))
        self._currencies = currencies
        self._sums: Numbers = np.zeros(self.buckets * self._width, np.int64)
        self._barred = np.zeros(self.buckets, np.bool_)

    def weigh(self, session: Session, side: SideName, query: str, rows: int) -> None:
        """Add the left side's rows, or take off the right side's; the left side's repeated keys bar their bucket."""
        keys = np.empty(rows if side == "left" else 0, np.uint32)
        seen = 0
        for batch in session.stream(f"{side}_buckets", query):
            values = {c: _numbers(batch.column(c)) for c in batch.schema.names}
            for start in range(0, batch.num_rows, _AT_ONCE):
                self._add(side, {c: v[start : start + _AT_ONCE] for c, v in values.items()})
            if side == "left":
                keys[seen : seen + batch.num_rows] = values["key"]
                seen += batch.num_rows
        keys = keys[:seen]
        keys.sort()
        self._barred[self._bucket(keys[1:][keys[1:] == keys[:-1]])] = True

    def _add(self, side: SideName, values: Mapping[str, npt.NDArray[Any]]) -> None:
        add, one = (np.add, 1) if side == "left" else (np.subtract, 1 << _RIGHT)
        bucket = self._bucket(values["key"])
        place = bucket * self._width
        np.add.at(self._sums, place, one)
        for half, name_of_half in enumerate(("upper", "lower"), 1):  # modulo 2^64
            add.at(self._sums, place + half, values[name_of_half].view(np.int64))
        place += 3 + (values.get("currency", 0))
        for number in range((self._width - 3) // self._currencies):
            units = values[f"units_{number}"]
            if units.min() < -_MOST_UNITS or units.max() > _MOST_UNITS:
                self._barred[bucket[abs(units) > _MOST_UNITS]] = True
            add.at(self._sums, place + number * self._currencies, units)
        if "barred" in values:
            self._barred[bucket[values["barred"]]] = True

    def unequal(self) -> npt.NDArray[np.bool_]:
        """Which buckets may hold a difference."""
        sums = self._sums.reshape(self.buckets, self._width)
        left, right = sums[:, 0] & ((1 << _RIGHT) - 1), sums[:, 0] >> _RIGHT
        found: npt.NDArray[np.bool_] = self._barred | (left != right) | (left > _MOST_ROWS)
        for column in range(1, self._width):
            found |= sums[:, column] != 0
        return found

    def _bucket(self, keys: npt.NDArray[np.uint32]) -> Numbers:
        return ((keys.astype(np.uint64) * np.uint64(self.buckets)) >> np.uint64(32)).astype(np.int64)


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    """A column without nulls as an array; a decimal of at most 18 digits as the integer it is stored as."""
    if pa.types.is_decimal(column.type):
        low_words = np.frombuffer(column.buffers()[1], np.int64)[::2]
        return low_words[column.offset : column.offset + len(column)]
    found: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _line(
    definition: Definition,
    side: SideName,
    types: Mapping[SideName, Mapping[str, str]],
    no_currencies: Sequence[str],
) -> _Line:
    columns = standard_columns(definition, side, no_currencies)
    keys = [columns[f"key_1_{i}"] for i in range(1, len(definition.passes[0].by) + 1)]
    amounts: dict[str, str] = {}
    own = getattr(definition, side)
    pairs = {c.name: (c.left, c.right) for c in definition.compare if c.kind == "amount"}
    if definition.left.amount and definition.right.amount:
        pairs["amount of the row"] = (definition.left.amount, definition.right.amount)
    for left, right in dict.fromkeys(pairs.values()):
        column = left if side == "left" else right
        kinds = types["left"][left], types["right"][right]
        amounts[name(column)] = _units(name(column), types[side][column], kinds)
    texts, plain = [columns["currency"]], [*amounts.values()]
    for c in definition.compare:
        value = columns[f"is_{c.name}"]
        if c.kind == "date" and c.periods:
            by_compared_day = c.left == definition.left.date and c.right == definition.right.date
            plain += _periods(definition, side, columns, by_compared_day)
        if c.kind in ("date", "number"):
            plain.append(value)
        elif c.kind != "amount":
            texts.append(_plain(value, getattr(c, side), types[side]))
    keyed = [_plain(columns["entity"], own.entity, types[side])]
    keyed += [_plain(k, getattr(b, side), types[side]) for k, b in zip(keys, definition.passes[0].by, strict=True)]
    key = f"hash({', '.join(keyed)})"
    # a letter before a text shifts all of it: a hash that has nothing to do with the first
    other = [f"'~' || {value}" for value in [*reversed(texts), *reversed(keyed)]]
    everything = "\n".join(columns.values()).lower()
    return _Line(
        takes_part=" AND ".join(
            [f"({columns['excluded']}) IS NULL", columns["takes_part_1"], *(f"{value} <> ''" for value in keyed)]
        ),
        key=key,
        upper=f"hash({', '.join([key, *texts, *plain])})",
        lower=f"hash({', '.join([*reversed(plain), *other])})",
        amounts=tuple(amounts),
        units=tuple(amounts.values()),
        currency=columns["currency"],
        has_evidence=f"({columns['proof_type']}) IS NOT NULL" if columns["proof_type"] != "NULL::VARCHAR" else "false",
        columns=tuple(c for c in types[side] if c.lower() in everything),
    )


def _plain(value: str, column: str, types: Mapping[str, str]) -> str:
    """The column itself where only its null and its empty text mean the same: a row with either is merely kept."""
    same = (f"nullif({name(column)}::VARCHAR, '')", f"coalesce({name(column)}::VARCHAR, '')")
    return name(column) if value in same and types[column] == "VARCHAR" else value


def _periods(definition: Definition, side: SideName, columns: Mapping[str, str], by_compared_day: bool) -> list[str]:
    """What must agree besides a compared date so that both rows lie in one period."""
    if definition.left.period or definition.right.period:
        return [f"({columns['period']})"]
    return [] if by_compared_day else [f"(year({columns['day']}) * 12 + month({columns['day']}))"]


def _units(column: str, kind: str, kinds: tuple[str, str]) -> str:
    """An amount in units of its last decimal: as it is stored where both sides store it alike, else as an integer."""
    places = max(decimals(k) for k in kinds)
    if all(_SMALL_DECIMAL.match(k) and decimals(k) == places for k in kinds):
        return column if kind.startswith("DECIMAL(1") else f"{column}::DECIMAL(18,{places})"
    most = _MOST_UNITS // 10**places
    # within the limit this cannot overflow a decimal of 18 digits as long as there are few decimals
    exact = column if places <= 2 and kind.startswith("DECIMAL(1") else f"{column}::DECIMAL(38,{places})"
    return (
        f"CASE WHEN {column} BETWEEN -{most} AND {most} THEN ({exact} * {10**places})::BIGINT"
        f" WHEN {column} IS NOT NULL THEN {_TOO_LARGE} END"
    )


def _weighed(side: SideName, line: _Line, currencies: Sequence[str]) -> str:
    """The query for what a bucket is made of."""
    columns = {"key": f"({line.key} >> 32)::UINTEGER", "upper": line.upper, "lower": line.lower}
    columns |= {f"units_{n}": f"coalesce({units}, 0)" for n, units in enumerate(line.units)}
    if line.units and currencies:
        columns["currency"] = _coded(line.currency, currencies)
    if line.has_evidence != "false":
        columns["barred"] = line.has_evidence
    listed = ",\n".join(f"  {expression} AS {alias}" for alias, expression in columns.items())
    return f"SELECT\n{listed}\nFROM {side}_input WHERE {line.takes_part}"


def _coded(currency: str, currencies: Sequence[str]) -> str:
    """A currency expression as its place among those that occur; none at all comes after them."""
    cases = " ".join(f"WHEN {text(code)} THEN {n}" for n, code in enumerate(currencies))
    return f"(CASE {currency} {cases} ELSE {len(currencies)} END)::UTINYINT" if cases else "0::UTINYINT"


def _kept(side: SideName, line: _Line, buckets: int, currencies: Sequence[str]) -> str:
    """The query for the input's rows that are in an unequal bucket or in none, with what they are compared by.

    Each is hashed here, while its texts are at hand; a row that takes no part has no key.
    """
    bucket = f"((({line.key} >> 32) * {buckets}) >> 32)"
    key = line.key
    if line.takes_part != "true":
        bucket = f"CASE WHEN {line.takes_part} THEN {bucket} ELSE {_NO_BUCKET} END"
        key = f"CASE WHEN {line.takes_part} THEN {line.key} END"
    compared = {"key": key, "upper": line.upper, "lower": line.lower, "currency": _coded(line.currency, currencies)}
    compared |= {f"amount {n}": amount for n, amount in enumerate(line.amounts)} | {"barred": line.has_evidence}
    columns = ", ".join(name(c) for c in line.columns)
    weighed = ",\n".join(f"  {expression} AS {name(OF_ROW + c)}" for c, expression in compared.items())
    return f"SELECT {columns},\n{weighed}\nFROM {side}_input\nWHERE {bucket} IN (SELECT bucket FROM unequal)"


def _differing(line: _Line) -> str:
    """The query for the keys of kept rows that are not one row on each side with nothing between them."""
    both = " UNION ALL ".join(
        f"SELECT COLUMNS('^{OF_ROW}(.*)$') AS '\\1', {int(side == 'left')} AS of_left FROM {side}_kept"
        for side in SIDES
    )
    # of two numbers that are equal nothing is left but zero
    alike = [f"bit_xor({c}) = 0" for c in ("upper", "lower", "currency")]
    amounts = [name(f"amount {n}") for n in range(len(line.amounts))]
    alike += [f"min({a}) IS NOT DISTINCT FROM max({a}) AND count({a}) <> 1" for a in amounts]
    alike += [] if line.has_evidence == "false" else ["NOT bool_or(barred)"]
    return (
        f"SELECT key FROM (\n{both}\n) WHERE key IS NOT NULL GROUP BY key\n"
        f"HAVING NOT (count(*) = 2 AND sum(of_left) = 1 AND {' AND '.join(alike)})"
    )
