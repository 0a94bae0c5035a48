"""The invariants of every reconciliation, on small random sides, each outcome judged by a slow and plain oracle."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tieout.lake.engine import engine
from tieout.reconcile import Definition, reconcile

_spec = importlib.util.spec_from_file_location("reconcile_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)


def examples(count):
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # no shrinking: it would run the engine for minutes to make a failing example smaller
        phases=(Phase.explicit, Phase.generate),
    )


SHAPE = pa.schema(
    [
        ("fee", pa.decimal128(18, 2)),
        ("original", pa.decimal128(18, 2)),
        ("rate", pa.decimal128(18, 6)),
        ("id", pa.string()),
        ("key", pa.string()),
        ("legal_entity_id", pa.string()),
        ("customer", pa.string()),
        ("currency", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("day", pa.date32()),
        ("status", pa.string()),
        ("references", pa.string()),
    ]
)
DAYS = st.integers(0, 20).map(lambda n: date(2026, 3, 20) + timedelta(days=n))
AMOUNTS = st.sampled_from(["-5.00", "0.00", "0.01", "1.00", "1.01", "2.00", "3.00", "100.00"]).map(Decimal)
ROW = st.fixed_dictionaries(
    {
        "key": st.sampled_from([*"abcdefghij", None]),
        "customer": st.sampled_from(["u", "v", "w", "x", "y", None]),
        "currency": st.sampled_from(["EUR", "EUR", "EUR", "USD"]),
        "amount": AMOUNTS,
        "day": DAYS,
        "status": st.sampled_from(["open", "open", "open", "paid"]),
        "fee": AMOUNTS,
        "original": AMOUNTS,
        "rate": st.sampled_from(["0.5", "1.105", "1.2"]).map(Decimal),
        "references": st.sets(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=3).map(
            lambda names: ",".join(sorted(names)) or None
        ),
    }
)
# many keys per example: running the engine costs more than the rows
ROWS = st.lists(ROW, max_size=40)


@st.composite
def two_sides(draw):
    """Rows of both sides; many of the right ones are left ones again, as they are or with another amount or day."""
    left, others = draw(ROWS), draw(st.lists(ROW, max_size=15))
    kept = draw(
        st.lists(st.sampled_from(["as it is", "amount", "day", "gone"]), min_size=len(left), max_size=len(left))
    )
    right = [
        row | ({what: other[what]} if what in row else {})
        for row, what, other in zip(
            left, kept, draw(st.lists(ROW, min_size=len(left), max_size=len(left))), strict=True
        )
        if what != "gone"
    ]
    return sides(left, right + others)


CROWDED_ROW = st.tuples(st.sampled_from("uv"), st.sampled_from(["1.00", "1.01", "1.02"]), st.integers(0, 9))
PLAIN = {"key": None, "currency": "EUR", "status": "open", "fee": Decimal(0), "original": Decimal(0),
         "rate": Decimal(1), "references": None}  # fmt: skip


@st.composite
def crowded(draw):
    """Rows without a key that compete: few customers, amounts within cents, days side by side."""
    drawn = (draw(st.lists(CROWDED_ROW, min_size=5, max_size=20)) for _ in range(2))
    return sides(
        *(
            [
                PLAIN | {"customer": c, "amount": Decimal(a), "day": date(2026, 3, 1) + timedelta(days=d)}
                for c, a, d in rows
            ]
            for rows in drawn
        )
    )


@pytest.fixture(scope="module")
def session():
    with engine() as one:
        yield one


def sides(left, right):
    """Rows with ids of their own per side, as the oracle wants them."""
    return tuple(
        [row | {"id": f"{name}{n:02}", "legal_entity_id": "US"} for n, row in enumerate(rows)]
        for name, rows in (("L", left), ("R", right))
    )


def arrow(rows):
    return pa.Table.from_pylist(rows, schema=SHAPE)


def definition(*passes, minor_units=0):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["id"]}
    return {
        "id": "sample",
        "title": "Sample",
        "left": {"name": "left"} | side,
        "right": {"name": "right"} | side,
        "passes": list(passes),
        "compare": [
            {"name": "amount", "kind": "amount", "left": "amount", "right": "amount",
             "tolerance": {"minor_units": minor_units}},
            {"name": "day", "kind": "date", "left": "day", "right": "day"},
            {"name": "status", "kind": "status", "left": "status", "right": "status"},
        ],
    }  # fmt: skip


def keyed(cardinality="1:1"):
    return {"name": "by_key", "cardinality": cardinality, "by": ["key"]}


def search(accept, minor_units=0):
    return {
        "name": "by_amount", "method": "search", "by": ["customer"], "accept": accept,
        "amount": {"left": "amount", "right": "amount", "tolerance": {"minor_units": minor_units}},
        "window": {"earliest": -3, "latest": 2},
    }  # fmt: skip


def subset(cardinality, accept="only_if_unambiguous", minor_units=0, max_items=6):
    return search(accept, minor_units) | {
        "name": "by_sum", "method": "subset", "cardinality": cardinality, "max_items": max_items,
    }  # fmt: skip


def fuzzy(accept):
    """A pass with likelihoods of its own: to learn them is tested where there is enough to learn from."""
    return search(accept, 2) | {
        "name": "alike", "method": "fuzzy", "prior": "0.6", "threshold": "0.8", "margin": "0.1",
        "amount": {"left": "amount", "right": "amount", "tolerance": {"minor_units": 2},
                   "likelihood": {"m": ["0.7", "0.3"], "u": ["0.3", "0.7"]}},
        "window": {"earliest": -3, "latest": 2, "levels": [-2, 0],
                   "likelihood": {"m": ["0.2", "0.5", "0.3"], "u": ["0.3", "0.3", "0.4"]}},
        "texts": [{"name": "memo", "left": "references", "right": "references", "measure": "levenshtein",
                   "levels": ["0.5"], "likelihood": {"m": ["0.6", "0.3", "0.1"], "u": ["0.1", "0.3", "0.6"]}}],
    }  # fmt: skip


CONNECTED = {
    "name": "by_references",
    "cardinality": "N:N",
    "by": [{"left": "references", "right": "references", "normalise": [{"split": ","}, "trim"]}],
}
KEYED = [[keyed("1:1")], [keyed("1:N")], [keyed("N:1")]]
SEARCHED = [[search(accept, n)] for accept in ("automatic", "suggested", "only_if_unambiguous") for n in (0, 1)]
ADDED_UP = [[subset("1:N")], [subset("N:1", "suggested")], [subset("1:N", minor_units=1)], [subset("N:1", max_items=2)]]
IN_TURN = [
    [keyed("1:1"), search("only_if_unambiguous"), subset("1:N")],
    [keyed("1:N"), search("automatic")],
    [keyed("N:1"), CONNECTED],
]
FUZZY = [[fuzzy("automatic")], [keyed(), fuzzy("suggested")], [fuzzy("only_if_unambiguous"), search("suggested")]]
PASSES = KEYED + SEARCHED + [[CONNECTED]] + ADDED_UP + IN_TURN


def run(session, rules, left, right, **choices):
    return reconcile(rules, arrow(left), arrow(right), engine=session, **choices)


def listed(row, side):
    return [one for one in row[f"{side}_ids"].split("; ") if one]


def outcomes(result):
    """(matched or break type, left ids, right ids) of everything found."""
    found = [("matched", row) for row in result.matches.to_pylist()]
    found += [(row["break_type"], row) for row in result.breaks.to_pylist()]
    return {(kind, frozenset(listed(row, "left")), frozenset(listed(row, "right"))) for kind, row in found}


def content(result):
    return [table.to_pylist() for table in (result.matches, result.breaks, result.totals)]


@pytest.mark.parametrize("passes", PASSES, ids=lambda passes: " then ".join(one["name"] for one in passes))
@examples(2)
@given(rows=two_sides(), minor_units=st.sampled_from([0, 1]))
def test_outcomes_are_the_oracles_each_row_lands_once_and_sums_are_kept(session, passes, rows, minor_units):
    left, right = rows
    result = run(session, definition(*passes, minor_units=minor_units), left, right)
    assert outcomes(result) == oracle.reconcile(passes, left, right, minor_units, outcomes(result))
    each_row_lands_once_and_sums_are_kept(result, left, right)


def each_row_lands_once_and_sums_are_kept(result, left, right):
    for side, rows in (("left", left), ("right", right)):
        found = Counter(
            one for table in (result.matches, result.breaks) for r in table.to_pylist() for one in listed(r, side)
        )
        assert found == {row["id"]: 1 for row in rows}
        for wanted in (("all",), ("matched", "break", "excluded")):
            amounts = defaultdict(Decimal)
            for total in result.totals.to_pylist():
                if total["outcome"] in wanted:
                    amounts[total["currency"]] += total[f"{side}_amount"] or 0
            assert {c: a for c, a in amounts.items() if a} == oracle.sums(rows)
    for row in result.breaks.to_pylist():
        parts = [row[c] for c in row if c.startswith("part_")]
        assert parts == [None] * 8 if row["difference"] is None else sum(parts) == row["difference"]


@pytest.mark.parametrize("passes", FUZZY, ids=lambda passes: " then ".join(one["name"] for one in passes))
@examples(2)
@given(rows=crowded())
def test_a_fuzzy_pass_takes_what_stands_out_and_loses_nothing(session, passes, rows):
    left, right = rows
    result = run(session, definition(*passes), left, right)
    each_row_lands_once_and_sums_are_kept(result, left, right)
    of_left, _ = oracle.candidates(fuzzy("automatic"), left, right)
    accept = next(one["accept"] for one in passes if one["name"] == "alike")
    for row in [*result.matches.to_pylist(), *result.breaks.to_pylist()]:
        if row["probability"] is not None:
            assert row["right_ids"] in of_left[row["left_ids"]]
            is_sure = accept != "suggested" and row["probability"] >= Decimal("0.8")
            if accept == "only_if_unambiguous":
                is_sure = is_sure and len(of_left[row["left_ids"]]) == 1
            assert is_sure or "break_type" in row
            assert is_sure <= ("break_type" not in row) or accept == "only_if_unambiguous"


@examples(6)
@given(rows=two_sides(), seed=st.integers(0, 99), passes=st.sampled_from(PASSES + FUZZY))
def test_the_order_of_rows_changes_nothing(session, rows, seed, passes):
    left, right = rows
    first = run(session, definition(*passes), left, right)
    shuffle = random.Random(seed)
    again = run(session, definition(*passes), shuffle.sample(left, len(left)), shuffle.sample(right, len(right)))
    assert content(again) == content(first)


@examples(6)
@given(rows=two_sides() | crowded(), passes=st.sampled_from(PASSES + FUZZY))
def test_swapped_sides_give_the_mirror_image(session, rows, passes):
    left, right = rows
    rules = Definition.model_validate(definition(*passes))
    there = run(session, rules, left, right)
    back = run(session, rules.mirrored(), right, left)
    flip = {"missing_left": "missing_right", "missing_right": "missing_left"}
    rows = [
        (b["break_key"], b["break_type"], b["left_rows"], b["right_rows"], b["left_amount"], b["right_amount"],
         b["difference"], b["left_ids"], b["right_ids"], b["rivals"])
        for b in there.breaks.to_pylist()
    ]  # fmt: skip
    mirrored = [
        (b["break_key"], flip.get(b["break_type"], b["break_type"]), b["right_rows"], b["left_rows"], b["right_amount"],
         b["left_amount"], None if b["difference"] is None else -b["difference"], b["right_ids"], b["left_ids"],
         b["rivals"])
        for b in back.breaks.to_pylist()
    ]  # fmt: skip
    assert sorted(mirrored, key=str) == sorted(rows, key=str)
    assert {(m["match_key"], m["left_ids"], m["right_ids"]) for m in there.matches.to_pylist()} == {
        (m["match_key"], m["right_ids"], m["left_ids"]) for m in back.matches.to_pylist()
    }


@examples(6)
@given(
    rows=two_sides(),
    passes=st.sampled_from(KEYED),
    units=st.tuples(st.integers(0, 3), st.integers(0, 200)),
)
def test_a_wider_tolerance_never_breaks_a_match(session, rows, passes, units):
    left, right = rows
    narrow, wide = (
        run(session, definition(*passes, minor_units=n), left, right) for n in (units[0], units[0] + units[1])
    )
    matched = [{m["match_key"] for m in r.matches.to_pylist()} for r in (narrow, wide)]
    assert matched[0] <= matched[1]


@examples(6)
@given(
    rows=two_sides() | crowded(),
    accept=st.sampled_from(["automatic", "suggested", "only_if_unambiguous"]),
    units=st.sampled_from([2, 100]),
)
def test_a_wider_tolerance_makes_a_searched_match_ambiguous_at_worst(session, rows, accept, units):
    left, right = rows
    narrow, wide = (outcomes(run(session, definition(search(accept, n)), left, right)) for n in (0, units))
    kept = {"ambiguous", "matched", "suggested_match"}
    after = {one: kind for kind, of_left, of_right in wide for one in of_left | of_right}
    for kind, of_left, of_right in narrow:
        if kind in ("matched", "suggested_match"):
            assert {after[one] for one in of_left | of_right} <= kept


@examples(6)
@given(rows=two_sides(), minor_units=st.sampled_from([0, 1]), copied=st.booleans())
def test_setting_identical_rows_aside_changes_no_break_and_no_total(session, rows, minor_units, copied):
    left, right = rows
    right = [row | {"id": row["id"].replace("L", "R")} for row in left] if copied else right
    rules = definition(keyed(), minor_units=minor_units)
    everything = run(session, rules, left, right)
    differing = run(session, rules, left, right, matches="differing")
    assert differing.breaks.to_pylist() == everything.breaks.to_pylist()
    assert differing.totals.to_pylist() == everything.totals.to_pylist()
    assert differing.summary == everything.summary
    assert {m["match_key"] for m in differing.matches.to_pylist()} == {
        m["match_key"] for m in everything.matches.to_pylist() if m["tolerated"]
    }


@examples(6)
@given(
    rows=two_sides() | crowded(),
    choice=st.sampled_from(
        [{"accept": "only_if_unambiguous"}, {"accept": "suggested"}, {"accept": "suggested", "rivals": "refuse"}]
    ),
)
def test_a_break_lists_every_rival(session, rows, choice):
    left, right = rows
    rules = search(choice["accept"]) | choice
    of_left, of_right = oracle.candidates(rules, left, right)
    result = run(session, definition(rules), left, right)
    for row in result.breaks.to_pylist():
        named = row["break_key"]
        if row["break_type"] == "ambiguous":
            assert row["rivals"] == "; ".join(sorted(of_left[named]))
        elif row["break_type"] == "suggested_match":
            others = of_left[named] | of_right[row["right_ids"]]
            assert row["rivals"] == ("; ".join(sorted(others - {named, row["right_ids"]})) or None)


@examples(6)
@given(rows=crowded(), accept=st.sampled_from(["automatic", "suggested"]), minor_units=st.integers(0, 2))
def test_no_pairing_finds_partners_for_more_rows(session, rows, accept, minor_units):
    left, right = rows
    rules = search(accept, minor_units) | {"window": {"earliest": -1, "latest": 2}}
    found = outcomes(run(session, definition(rules), left, right))
    assert found == oracle.reconcile([rules], left, right, given=found)


@examples(6)
@given(rows=two_sides(), cardinality=st.sampled_from(["1:1", "1:N", "N:1"]))
def test_parts_add_up_and_mirror_whatever_explains_a_difference(session, rows, cardinality):
    left, right = rows
    rate = {"amount": "original", "rate": "rate"}
    rules = Definition.model_validate(
        definition(keyed(cardinality) | {"shortfall": "partial_payment"} if cardinality != "1:1" else keyed())
        | {
            "deductions": [{"part": "fee", "right": "fee"}, {"part": "withholding", "left": "fee"}],
            "conversions": {"left": rate, "right": rate},
        }
    )
    there, back = run(session, rules, left, right), run(session, rules.mirrored(), right, left)
    assert {row["break_key"]: parts(row, 1) for row in there.breaks.to_pylist()} == {
        row["break_key"]: parts(row, -1) for row in back.breaks.to_pylist()
    }


def parts(row, sign):
    """The parts of a difference, which must add up to it."""
    found = {c: row[c] for c in row if c.startswith("part_") and row[c]}
    assert sum(found.values()) == (row["difference"] or 0)
    return {c: sign * amount for c, amount in found.items()}
