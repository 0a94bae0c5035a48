"""The subset pass: which rows of one side add up to one row of the other, taken only where a single answer exists.

Exact and set-based: each row's candidates are cut into two halves, the sums of every combination of a half are grouped,
and the halves are joined on what is missing to the whole. So n candidates cost 2 × 2^(n/2) rows instead of 2^n, and the
number of answers is counted without listing them.
"""

from __future__ import annotations

from tieout.reconcile.candidates import (
    clear,
    equalities,
    in_window,
    open_for,
    refuse_beyond,
    refuse_blow_up,
    set_copies_aside,
    settle,
    sided,
)
from tieout.reconcile.definition import Definition, SubsetPass
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SideName
from tieout.reconcile.sql import AMOUNT, text, within


def run_subset_pass(session: Session, definition: Definition, match_pass: SubsetPass, index: int) -> None:
    """Settle single rows that some rows of the other side add up to: uniquely, or as ambiguous breaks."""
    one: SideName = match_pass.identity
    many: SideName = "right" if one == "left" else "left"
    open_for(session, match_pass, index)
    columns = equalities(definition, match_pass, index)
    refuse_blow_up(session, definition, match_pass, index, columns)
    session.make(f"possible_{index}", _possible(definition, match_pass, index, columns))
    set_copies_aside(session, match_pass, index)
    session.make(f"items_{index}", _items(index, one, many))
    session.run(
        f"{one}_refusals",
        f"INSERT INTO {one}_refusals SELECT DISTINCT target, {_too_many(definition, match_pass, many)}"
        f" FROM items_{index} WHERE items > {match_pass.max_items}",
    )
    # only equal sums can be looked up; within a tolerance every pair of half sums has to be looked at
    each = "(1::HUGEINT << half) + (1::HUGEINT << (items - half))"
    if not match_pass.amount.tolerance.is_zero:
        each = "1::HUGEINT << items"
    combinations = session.rows(
        f"SELECT coalesce(sum({each}), 0)::VARCHAR\n"
        f"FROM (SELECT DISTINCT target, items, half FROM items_{index} WHERE items <= {match_pass.max_items})"
    )
    refuse_beyond(definition, match_pass, int(combinations[0][0]), "combinations")
    for part in ("first", "second"):
        session.make(f"{part}_sums_{index}", _sums(match_pass, index, part))
    session.make(f"answers_{index}", _answers(definition, match_pass, index, one))
    session.make(f"touched_{index}", _touched(index))
    session.make(f"clear_{index}", _clear(index))
    session.make(f"contested_{index}", _contested(index))
    kind = "'suggested_match'" if match_pass.accept == "suggested" else "NULL"
    found = (
        f"SELECT target AS claimant, {kind}::VARCHAR AS break_type, {sided(one, 'target')} FROM clear_{index}"
        f"\n    UNION ALL SELECT target, {kind}, {sided(many, 'item')} FROM touched_{index}"
        f" SEMI JOIN clear_{index} USING (target)"
        f"\n    UNION ALL SELECT DISTINCT claimant, 'ambiguous', {sided(one, 'claimant')} FROM contested_{index}"
        f"\n    UNION ALL SELECT claimant, 'ambiguous', {sided(many, 'rival')} FROM contested_{index}"
        " WHERE is_first"
    )
    settle(session, match_pass, index, found)
    clear(session, index)


def _too_many(definition: Definition, match_pass: SubsetPass, many: SideName) -> str:
    record = getattr(definition, many).record
    said = f" candidates ({record}) are more than the {match_pass.max_items} that pass {match_pass.name} adds up"
    return f"items || {text(said)}"


def _possible(definition: Definition, match_pass: SubsetPass, index: int, columns: list[str]) -> str:
    """Every row that may be part of a sum, with the row it may be part of. Zeros change no sum and take no part."""
    one, many = match_pass.identity[0], "r" if match_pass.identity == "left" else "l"
    sought, item = f"{one}.sought_{index}", f"{many}.sought_{index}"
    currency = "l.currency" if definition.left.currency else None
    fits = within(f"l.sought_{index}", f"r.sought_{index}", match_pass.amount.tolerance, currency)
    conditions = [*(f"l.{c} = r.{c}" for c in columns), in_window(match_pass), f"{sought} <> 0", f"{item} <> 0"]
    # where all parts have the sign of the sum, a part greater than the sum is in no answer
    return (
        f"SELECT left_no, right_no, target_id, id, sought, part, currency FROM (\n"
        f"  SELECT l.row_no AS left_no, r.row_no AS right_no, {one}.id AS target_id, {many}.id, {sought} AS sought,\n"
        f"  {item} AS part, l.currency,\n  abs({item}) > abs({sought}) AND NOT {fits} AS is_greater,\n"
        f"  bool_and(sign({item}) = sign({sought})) OVER (PARTITION BY {one}.row_no) AS is_one_sign\n"
        f"  FROM left_open_{index} l JOIN right_open_{index} r ON {' AND '.join(conditions)}\n"
        ") WHERE NOT (is_greater AND is_one_sign)"
    )


def _items(index: int, one: SideName, many: SideName) -> str:
    """The parts of each target, counted off from 0; those before `half` are combined first."""
    return (
        "SELECT *, items // 2 AS half FROM (\n"
        f"  SELECT {one}_no AS target, {many}_no AS item, target_id, id, sought, part, currency,\n"
        f"    row_number() OVER (PARTITION BY {one}_no ORDER BY id) - 1 AS place,\n"
        f"    count(*) OVER (PARTITION BY {one}_no) AS items\n  FROM candidates_{index}\n)"
    )


def _sums(match_pass: SubsetPass, index: int, part: str) -> str:
    """Every sum that combinations of a half reach: in how many ways, and which parts take part in any.

    A way is a number whose bits are the parts taken.
    """
    if part == "first":
        count, place, is_in = "half", "i.place", "i.place < i.half"
    else:
        count, place, is_in = "items - half", "(i.place - i.half)", "i.place >= i.half"
    return (
        "SELECT target, sought, currency, half, total, count(*) AS ways, bit_or(way) AS any_way,\n"
        "  min(way) = 0 AS has_none\nFROM (\n"
        f"  SELECT t.target, t.sought, t.currency, t.half, t.way, coalesce(sum(i.part), 0)::{AMOUNT} AS total\n"
        f"  FROM (SELECT DISTINCT target, sought, currency, half, unnest(range(1::BIGINT << ({count}))) AS way\n"
        f"    FROM items_{index} WHERE items <= {match_pass.max_items}) t\n"
        f"  LEFT JOIN items_{index} i ON i.target = t.target AND {is_in} AND (t.way >> {place}) & 1 = 1\n"
        "  GROUP BY ALL\n) GROUP BY ALL"
    )


def _answers(definition: Definition, match_pass: SubsetPass, index: int, one: SideName) -> str:
    """Pairs of half sums that make the whole, with the number of ways; taking nothing at all is no answer."""
    sums = {one: "a.sought", ("right" if one == "left" else "left"): "a.total + b.total"}
    tolerance = match_pass.amount.tolerance
    if tolerance.is_zero:
        reaches = "b.total = a.sought - a.total"
    else:
        currency = "a.currency" if definition.left.currency else None
        reaches = within(f"({sums['left']})", f"({sums['right']})", tolerance, currency)
    return (
        "SELECT * FROM (\n"
        "  SELECT a.target, a.half, a.ways * b.ways - (a.has_none AND b.has_none)::BIGINT AS ways,\n"
        "    a.any_way AS first_any, b.any_way AS second_any\n"
        f"  FROM first_sums_{index} a JOIN second_sums_{index} b ON a.target = b.target AND {reaches}\n) WHERE ways > 0"
    )


def _touched(index: int) -> str:
    """The parts that take part in any answer of a target."""
    return (
        "SELECT i.target, i.item, i.target_id, i.id FROM (\n"
        "  SELECT target, half, bit_or(first_any) AS first_any, bit_or(second_any) AS second_any\n"
        f"  FROM answers_{index} GROUP BY ALL\n) a JOIN items_{index} i USING (target, half)\n"
        "WHERE CASE WHEN i.place < half THEN first_any >> i.place ELSE second_any >> (i.place - half) END & 1 = 1"
    )


def _clear(index: int) -> str:
    """Targets with one answer, none of whose parts another target could take."""
    return (
        f"SELECT target FROM answers_{index} GROUP BY target HAVING sum(ways) = 1\n"
        f"EXCEPT\nSELECT target FROM touched_{index} WHERE item IN (\n"
        f"  SELECT item FROM touched_{index} GROUP BY item HAVING count(*) > 1\n)"
    )


def _contested(index: int) -> str:
    """The parts of every other target; each is put to its first claimant."""
    return (
        "SELECT target AS claimant, item AS rival, id AS rival_id,\n"
        "  row_number() OVER (PARTITION BY item ORDER BY target_id) = 1 AS is_first\n"
        f"FROM touched_{index} ANTI JOIN clear_{index} USING (target)"
    )
