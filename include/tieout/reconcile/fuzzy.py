"""The fuzzy pass: rows that are alike in amount, day and texts, each pair with the probability that it is one event.

The engine puts every candidate pair on its levels; pairs of one pattern of levels weigh the same. A row has at most one
counterpart, so a pair's probability also depends on its rivals, and on how sure those are of others (`belief`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tieout.reconcile.belief import Beliefs, total
from tieout.reconcile.candidates import (
    clear,
    equalities,
    in_window,
    open_for,
    refuse_blow_up,
    rivals_of,
    set_copies_aside,
    settle,
    settle_pairs,
    sided,
)
from tieout.reconcile.definition import Definition, FuzzyPass, TextLikeness
from tieout.reconcile.likelihood import MISSING, Model, Pattern, change, comparisons, first_guess, learned
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName
from tieout.reconcile.sql import joined, minor_unit, within

PROBABILITY = "DECIMAL(18,9)"
_TRAINED_ON = 100_000  # pairs
_TOO_FEW = 1_000  # strangers
_ROUNDS = 30
_SMALL_CHANGE = 1e-3
_ROUNDS_OF_BELIEF = 10
_LISTED_FROM = "0.01"  # a rival that is less probable is not worth anybody's time

_SIMILARITY = {
    # the order of the arguments must not matter
    "jaro_winkler": "jaro_winkler_similarity(least({0}, {1}), greatest({0}, {1}))",
    "levenshtein": "1 - levenshtein({0}, {1}) / greatest(strlen({0}), strlen({1}))",
    "jaccard": "jaccard({0}, {1})",
}
# what stands for letters of several bytes: control characters, which no memo has
_ONE_BYTE = " || ".join(f"chr({n})" for n in (*range(1, 9), 11, 12, *range(14, 31), 127))
if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SCORED = pa.schema([("pattern", pa.int64()), ("odds", pa.float64()), ("said", pa.string())])


def run_fuzzy_pass(session: Session, definition: Definition, match_pass: FuzzyPass, index: int) -> None:
    """Settle pairs that stand out: as matches or suggestions; rows that could well have several are ambiguous."""
    open_for(session, match_pass, index)
    columns = equalities(definition, match_pass, index)
    refuse_blow_up(session, definition, match_pass, index, columns)
    session.make(f"possible_{index}", _possible(definition, match_pass, index, columns))
    set_copies_aside(session, match_pass, index)
    session.make(f"patterns_{index}", _patterns(match_pass, index))
    session.make(f"compared_{index}", _compared(match_pass, index))
    _weigh(session, definition, match_pass, index, columns)
    _score(session, index)
    session.make(f"pairs_{index}", _standing_out(match_pass, index))
    own: SideName = match_pass.identity
    other: SideName = "right" if own == "left" else "left"
    session.make(f"rivals_{index}", _left_to_rivals(match_pass, index))
    session.make(f"contested_{index}", _contested(own, other, index))
    kind = "CASE WHEN is_sure THEN NULL ELSE 'suggested_match' END"
    rivals = rivals_of(f"contested_{index}", scored=True)
    settle_pairs(session, match_pass, index, kind, rivals=rivals, scored=True)
    found = (
        f"SELECT DISTINCT claimant, 'ambiguous' AS break_type, {sided(own, 'claimant')} FROM contested_{index}"
        f" WHERE rival IS NOT NULL\n    UNION ALL"
        f" SELECT claimant, 'ambiguous', {sided(other, 'rival')} FROM contested_{index} WHERE is_first"
    )
    settle(session, match_pass, index, found, scored=True)
    clear(session, index)


def _possible(definition: Definition, match_pass: FuzzyPass, index: int, columns: list[str]) -> str:
    """Every pair within tolerance and window, with its level in each comparison."""
    conditions = [*(f"l.{c} = r.{c}" for c in columns), in_window(match_pass), _close(definition, match_pass, index)]
    return (
        "SELECT l.row_no AS left_no, r.row_no AS right_no, l.id AS left_id, r.id AS right_id,\n"
        f"  {_compare(definition, match_pass, index)}\n"
        f"FROM left_open_{index} l JOIN right_open_{index} r\n  ON {' AND '.join(conditions)}"
    )


def _close(definition: Definition, match_pass: FuzzyPass, index: int) -> str:
    currency = "l.currency" if definition.left.currency else None
    return within(f"l.sought_{index}", f"r.sought_{index}", match_pass.amount.tolerance, currency)


def _compare(definition: Definition, match_pass: FuzzyPass, index: int) -> str:
    """The level of `l` and `r` in each comparison."""
    unit = f"({minor_unit('l.currency')})" if definition.left.currency else "1"
    apart = f"abs(l.sought_{index} - r.sought_{index})"
    near = [f"{apart} <= {units} * {unit}" for units in match_pass.amount.levels]
    day = "workday" if match_pass.window.count == "business" else "day"
    late = [f"r.{day} - l.{day} <= {end}" for end in match_pass.window.ends]
    levels = [_level(near), _level(late)]
    levels += [_text_level(t, f"l.text_{index}_{n}", f"r.text_{index}_{n}") for n, t in enumerate(match_pass.texts, 1)]
    return ",\n  ".join(f"{level} AS level_{n}" for n, level in enumerate(levels, 1))


def _level(tests: list[str]) -> str:
    """The number of the first test that holds, from 0."""
    whens = " ".join(f"WHEN {test} THEN {n}" for n, test in enumerate(tests))
    return f"CASE {whens} ELSE {len(tests)} END" if tests else "0"


def _text_level(text: TextLikeness, left: str, right: str) -> str:
    measure = _SIMILARITY[text.measure]
    # the engine compares bytes, so a letter of several bytes gets one of its own, the same in both texts
    beyond = f"regexp_replace(least({left}, {right}) || greatest({left}, {right}), '[\\x00-\\x7f]', '', 'g')"
    letters = f"array_to_string(list_sort(list_distinct(string_split({beyond}, ''))), '')"
    count = len(_ONE_BYTE.split(" || "))
    plain = [f"translate({t}, left({letters}, {count}), left({_ONE_BYTE}, length({letters})))" for t in (left, right)]
    is_plain = f"strlen({left}) = length({left}) AND strlen({right}) = length({right})"
    alike = f"CASE WHEN {is_plain} THEN {measure.format(left, right)} ELSE {measure.format(*plain)} END"
    tests = [f"{left} = {right}", *(f"{alike} >= {least:f}::DOUBLE" for least in text.levels)]
    return f"CASE WHEN {left} IS NULL OR {right} IS NULL THEN {MISSING} ELSE {_level(tests)} END"


def _levels(match_pass: FuzzyPass) -> str:
    return ", ".join(f"level_{n}" for n in range(1, len(match_pass.texts) + 3))


def _patterns(match_pass: FuzzyPass, index: int) -> str:
    """Each combination of levels that occurs, numbered."""
    levels = _levels(match_pass)
    return (
        f"SELECT row_number() OVER (ORDER BY {levels}) AS pattern, {levels} FROM candidates_{index} GROUP BY {levels}"
    )


def _compared(match_pass: FuzzyPass, index: int) -> str:
    """Candidate pairs with their pattern, and whether one of their rows has other candidates."""
    several = " OR ".join(
        f"{s}_no IN (SELECT {s}_no FROM candidates_{index} GROUP BY {s}_no HAVING count(*) > 1)" for s in SIDES
    )
    return (
        f"SELECT left_no, right_no, left_id, right_id, pattern, ({several}) AS is_crowded\n"
        f"FROM candidates_{index} JOIN patterns_{index} USING ({_levels(match_pass)})"
    )


def _weigh(session: Session, definition: Definition, match_pass: FuzzyPass, index: int, columns: list[str]) -> None:
    """Make `odds_<index>`: each pattern's odds, by the definition's parameters or by those that training finds.

    Training is expectation maximisation: how many pairs of a pattern belong together follows from the model, and the
    model from how many do. It always gives the same model for the same rows.
    """
    compared = comparisons(match_pass)
    prior = float(match_pass.prior) if match_pass.prior is not None else None
    strangers = _strangers(session, definition, match_pass, index, columns)
    model = first_guess(compared, strangers, prior)
    session.make(f"training_{index}", _training(index, columns))
    patterns = _counted(session, match_pass, index, f"training_{index}")
    is_given = prior is not None and all(one.given for one in compared)
    if patterns and not is_given:
        pairs = session.arrays(f"SELECT left_no, right_no, pattern FROM training_{index}")
        left_no, right_no, pattern = (pairs[c] for c in ("left_no", "right_no", "pattern"))
        beliefs, by_chance = Beliefs(left_no, right_no), Beliefs(left_no, right_no)
        rows = min(len(np.unique(left_no)), len(np.unique(right_no)))
        everywhere = np.zeros(len(pattern), np.int64)
        for _ in range(_ROUNDS):
            before = model
            odds = _odds_of(model, patterns)[pattern]
            beliefs.go_on(odds)
            expected = total(beliefs.probabilities(odds), pattern)
            chance = None
            if prior is None:
                alike = np.full(len(pattern), model.prior_odds)
                by_chance.go_on(alike)
                chance = total(by_chance.probabilities(alike), everywhere)[0]
            model = learned(model, compared, patterns, expected, chance, rows)
            if change(before, model) < _SMALL_CHANGE:
                break
    session.models[match_pass.name] = model.written(compared)
    every = _counted(session, match_pass, index, f"compared_{index}")
    scored = [(p.number, model.odds(p), model.said(compared, p)) for p in every]
    table = [dict(zip(_SCORED.names, row, strict=True)) for row in scored]
    session.connection.register("odds_given", pa.Table.from_pylist(table, schema=_SCORED))
    session.make(f"odds_{index}", "SELECT * FROM odds_given")
    session.connection.unregister("odds_given")


def _strangers(
    session: Session, definition: Definition, match_pass: FuzzyPass, index: int, columns: list[str]
) -> list[dict[int, int]]:
    """How pairs that cannot belong together lie on the levels of each comparison: what chance alone does.

    They agree in `by`, but the amount or the day rules them out. So equal amounts are counted among pairs whose days
    are too far apart, and lags among those whose amounts are. Where there are too few, texts of rows that do not agree
    in `by` are compared as well.
    """
    near, close = f"coalesce({in_window(match_pass)}, false)", _close(definition, match_pass, index)
    block = _block(columns, "l.")
    on = " AND ".join(f"l.{c} = r.{c}" for c in columns)
    counts = {s: f"(SELECT {', '.join(columns)}, count(*) AS n FROM {s}_open_{index} GROUP BY ALL)" for s in SIDES}
    sizes = f"SELECT {block} AS block, l.n * r.n AS pairs FROM {counts['left']} l JOIN {counts['right']} r ON {on}"
    session.make(
        f"strangers_{index}",
        f"SELECT {near} AS is_near, {close} AS is_close, {_compare(definition, match_pass, index)}\n"
        f"FROM left_open_{index} l JOIN right_open_{index} r ON {on}\n"
        f"SEMI JOIN ({_first_blocks(sizes)}) b ON b.block = {block}\nWHERE NOT ({near} AND {close})",
    )
    if session.rows(f"SELECT count(*) FROM strangers_{index}")[0][0] < _TOO_FEW:
        texts = "".join(f", text_{index}_{n}" for n in range(1, len(match_pass.texts) + 1))
        order = f"md5(id), id, sought_{index}, day{texts}"
        place = f"row_number() OVER (PARTITION BY entity ORDER BY {order}) AS place"
        numbered = {s: f"(SELECT *, {place} FROM {s}_open_{index})" for s in SIDES}
        other = " OR ".join(f"l.{c} <> r.{c}" for c in columns)
        session.run(
            f"strangers_{index}",
            f"INSERT INTO strangers_{index} SELECT false, false, {_compare(definition, match_pass, index)}\n"
            f"FROM {numbered['left']} l JOIN {numbered['right']} r USING (entity, place) WHERE {other}",
        )
    tests = ["is_close", "is_near", *("true" for _ in match_pass.texts)]
    return [
        dict(session.rows(f"SELECT level_{n}, count(*) FROM strangers_{index} WHERE {test} GROUP BY ALL"))
        for n, test in enumerate(tests, 1)
    ]


def _block(columns: list[str], row: str) -> str:
    return f"md5({joined([f'{row}{c}::VARCHAR' for c in columns])})"


def _first_blocks(sizes: str) -> str:
    """The first blocks (block, pairs) in an order of chance: about as many as training needs, each as a whole."""
    return (
        "SELECT block FROM (\n  SELECT block, sum(pairs) OVER (ORDER BY block) - pairs AS before\n"
        f"  FROM ({sizes})\n) WHERE before < {_TRAINED_ON}"
    )


def _training(index: int, columns: list[str]) -> str:
    """The pairs to learn from: whole blocks, so that every row is there with all its rivals."""
    blocks = (
        f"SELECT c.left_no, c.right_no, c.pattern, {_block(columns, 'o.')} AS block\n"
        f"FROM compared_{index} c JOIN left_open_{index} o ON o.row_no = c.left_no"
    )
    sizes = f"SELECT block, count(*) AS pairs FROM ({blocks}) GROUP BY block"
    return f"SELECT left_no, right_no, pattern FROM (\n{blocks}\n)\nSEMI JOIN ({_first_blocks(sizes)}) USING (block)"


def _counted(session: Session, match_pass: FuzzyPass, index: int, pairs: str) -> list[Pattern]:
    levels = _levels(match_pass)
    counted = session.rows(
        f"SELECT pattern, count(*), {levels} FROM {pairs} JOIN patterns_{index} USING (pattern) GROUP BY ALL ORDER BY 1"
    )
    return [Pattern(number, tuple(found), pairs_of) for number, pairs_of, *found in counted]


def _odds_of(model: Model, patterns: Sequence[Pattern]) -> Floats:
    """The odds of each pattern at the place of its number."""
    odds = np.zeros(max(p.number for p in patterns) + 1)
    for pattern in patterns:
        odds[pattern.number] = model.odds(pattern)
    return odds


def _score(session: Session, index: int) -> None:
    """Make `scored_<index>`: candidate pairs with their probability and what it is made of.

    Of a pair whose rows have no other candidate the odds say all.
    """
    crowd = session.arrays(
        f"SELECT left_no, right_no, odds FROM compared_{index} JOIN odds_{index} USING (pattern) WHERE is_crowded"
    )
    beliefs = Beliefs(crowd["left_no"], crowd["right_no"])
    for turn in range(_ROUNDS_OF_BELIEF):
        beliefs.go_on(crowd["odds"], halfway=turn < _ROUNDS_OF_BELIEF - 2)
    found = {n: crowd[n] for n in ("left_no", "right_no")} | {"believed": beliefs.probabilities(crowd["odds"])}
    session.connection.register("believed_given", pa.table(found))
    session.make(
        f"scored_{index}",
        "SELECT left_no, right_no, left_id, right_id, is_crowded, said,\n"
        f"  coalesce(believed, odds / (1 + odds))::{PROBABILITY} AS probability\n"
        f"FROM compared_{index} JOIN odds_{index} USING (pattern)"
        " LEFT JOIN believed_given USING (left_no, right_no)",
    )
    session.connection.unregister("believed_given")


def _standing_out(match_pass: FuzzyPass, index: int) -> str:
    """Pairs that are probable enough to be worth a word, of whose rows no other candidate comes close."""
    alone = " AND ".join(
        f"count(*) OVER (PARTITION BY {side}_no ORDER BY probability"
        f" RANGE BETWEEN {match_pass.margin:f}::{PROBABILITY} PRECEDING AND UNBOUNDED FOLLOWING) = 1"
        for side in ("left", "right")
    )
    is_sure = "false"
    if match_pass.accept != "suggested":
        is_sure = f"probability >= {match_pass.threshold:f}"
        if match_pass.accept == "only_if_unambiguous":
            is_sure += " AND NOT is_crowded"
    probable = f"probability >= {match_pass.suggest_from:f}"
    columns = f"SELECT left_no, right_no, left_id, right_id, probability, said, {is_sure} AS is_sure"
    return (
        f"{columns} FROM scored_{index} WHERE NOT is_crowded AND {probable}\nUNION ALL\n"
        f"{columns} FROM (FROM scored_{index} WHERE is_crowded)\nQUALIFY {probable} AND {alone}"
    )


def _left_to_rivals(match_pass: FuzzyPass, index: int) -> str:
    """Pairs of rows of which none stands out, where either row probably has a counterpart among the others."""
    total = "sum(probability) OVER (PARTITION BY {}_no)"
    return (
        f"SELECT * FROM (\n  SELECT *, greatest({total.format('left')}, {total.format('right')}) AS probably\n"
        f"  FROM scored_{index} WHERE left_no NOT IN (SELECT left_no FROM pairs_{index})"
        f" AND right_no NOT IN (SELECT right_no FROM pairs_{index})\n"
        f") WHERE probably >= {match_pass.suggest_from:f} AND probability >= {_LISTED_FROM}"
    )


def _contested(own: SideName, other: SideName, index: int) -> str:
    """Rivals by claimant: of rows that are ambiguous, and of suggested pairs those that either row could have taken.

    A row of the other side is put to its first claimant; the rivals of a suggested pair are only listed.
    """
    shown = "{} || ' (' || round(c.probability * 100, 1)::DECIMAL(4,1) || ' %)'"
    passed_over = (
        f"SELECT p.{own}_no, NULL, {{}}, c.probability, false\nFROM pairs_{index} p JOIN scored_{index} c"
        f" ON c.{{}}_no = p.{{}}_no AND c.{{}}_no <> p.{{}}_no\n"
        f"WHERE NOT p.is_sure AND c.probability >= {_LISTED_FROM}"
    )
    return (
        f"SELECT c.{own}_no AS claimant, c.{other}_no AS rival, {shown.format(f'c.{other}_id')} AS rival_id,\n"
        f"  c.probability, row_number() OVER (PARTITION BY c.{other}_no ORDER BY c.{own}_id) = 1 AS is_first\n"
        f"FROM rivals_{index} c\nUNION ALL\n"
        + passed_over.format(shown.format(f"c.{other}_id"), own, own, other, other)
        + "\nUNION ALL\n"
        + passed_over.format(shown.format(f"c.{own}_id"), other, other, own, own)
    )
