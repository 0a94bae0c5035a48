"""The invariants of every reconciliation, on small random sides against the oracle."""

from __future__ import annotations

import importlib.util
import random
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout.lake.engine import engine
from tieout.reconcile import Definition, reconcile

_spec = importlib.util.spec_from_file_location("reconcile_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

QUICK = settings(max_examples=8, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
SHAPE = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.string()),
        ("legal_entity_id", pa.string()),
        ("customer", pa.string()),
        ("currency", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("day", pa.date32()),
        ("status", pa.string()),
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
    }
)
# many keys per example: running the engine costs more than the rows
ROWS = st.lists(ROW, max_size=40)


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


def keyed(cardinality="1:1", minor_units=0):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["id"]}
    return Definition.model_validate(
        {
            "id": "sample",
            "title": "Sample",
            "left": {"name": "left"} | side,
            "right": {"name": "right"} | side,
            "passes": [{"name": "by_key", "cardinality": cardinality, "by": ["key"]}],
            "compare": [
                {"name": "amount", "kind": "amount", "left": "amount", "right": "amount",
                 "tolerance": {"minor_units": minor_units}},
                {"name": "day", "kind": "date", "left": "day", "right": "day"},
                {"name": "status", "kind": "status", "left": "status", "right": "status"},
            ],
        }
    )  # fmt: skip


def search(accept):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["id"], "identity": ["id"]}
    return Definition.model_validate(
        {
            "id": "sample",
            "title": "Sample",
            "left": {"name": "left"} | side,
            "right": {"name": "right"} | side,
            "passes": [
                {"name": "by_amount", "method": "search", "by": ["customer"],
                 "amount": {"left": "amount", "right": "amount"}, "window": {"earliest": -3, "latest": 3},
                 "accept": accept},
            ],
        }
    )  # fmt: skip


def outcomes(result):
    """{key: (type or matched, left rows, right rows)}; fails where one key has two outcomes."""
    found = {}
    for row in result.matches.to_pylist():
        assert row["match_key"] not in found
        found[row["match_key"]] = ("matched", row["left_rows"], row["right_rows"])
    for row in result.breaks.to_pylist():
        assert row["break_key"] not in found
        found[row["break_key"]] = (row["break_type"], row["left_rows"], row["right_rows"])
    return found


def ids(result):
    """Every id of each side with how often it is listed."""
    listed = {"left": defaultdict(int), "right": defaultdict(int)}
    for table in (result.matches, result.breaks):
        for row in table.to_pylist():
            for side, seen in listed.items():
                for one in filter(None, row[f"{side}_ids"].split("; ")):
                    seen[one] += 1
    return listed


def content(result):
    return [t.to_pylist() for t in (result.matches, result.breaks, result.totals)]


MANY = {"1:1": None, "1:N": "right", "N:1": "left"}


@QUICK
@given(left=ROWS, right=ROWS, cardinality=st.sampled_from(list(MANY)), minor_units=st.sampled_from([0, 1]))
def test_a_keyed_pass_judges_as_the_oracle_does(session, left, right, cardinality, minor_units):
    left, right = sides(left, right)
    result = reconcile(keyed(cardinality, minor_units), arrow(left), arrow(right), engine=session)
    expected = {}
    for key, outcome in oracle.keyed(left, right, tolerance=Decimal(minor_units) / 100, many=MANY[cardinality]).items():
        expected[key] = outcome
    found = defaultdict(list)
    for row in result.matches.to_pylist():
        found[row["match_key"]].append(("matched", row["left_rows"], row["right_rows"]))
    for row in result.breaks.to_pylist():
        found[row["break_key"]].append((row["break_type"], row["left_rows"], row["right_rows"]))
    # rows of one key without a counterpart are one break per currency
    merged = {
        key: (rows[0][0], sum(r[1] for r in rows), sum(r[2] for r in rows))
        for key, rows in found.items()
        if len({r[0] for r in rows}) == 1
    }
    assert merged == expected


@QUICK
@given(
    left=ROWS,
    right=ROWS,
    definition=st.sampled_from([keyed("1:1"), keyed("1:N"), search("automatic"), search("suggested")]),
)
def test_each_row_lands_once_and_sums_are_kept(session, left, right, definition):
    left, right = sides(left, right)
    result = reconcile(definition, arrow(left), arrow(right), engine=session)
    listed = ids(result)
    assert listed["left"] == {row["id"]: 1 for row in left}
    assert listed["right"] == {row["id"]: 1 for row in right}
    for side, rows in (("left", left), ("right", right)):
        for wanted in (("all",), ("matched", "break", "excluded")):
            amounts = defaultdict(Decimal)
            for total in result.totals.to_pylist():
                if total["outcome"] in wanted:
                    amounts[total["currency"]] += total[f"{side}_amount"] or 0
            assert {c: a for c, a in amounts.items() if a} == oracle.sums(rows)


@QUICK
@given(
    left=ROWS,
    right=ROWS,
    seed=st.integers(0, 99),
    definition=st.sampled_from([keyed("1:N"), search("automatic"), search("suggested")]),
)
def test_the_order_of_rows_changes_nothing(session, left, right, seed, definition):
    left, right = sides(left, right)
    first = reconcile(definition, arrow(left), arrow(right), engine=session)
    shuffle = random.Random(seed)
    again = reconcile(
        definition, arrow(shuffle.sample(left, len(left))), arrow(shuffle.sample(right, len(right))), engine=session
    )
    assert content(again) == content(first)


@QUICK
@given(left=ROWS, right=ROWS, cardinality=st.sampled_from(list(MANY)))
def test_swapped_sides_give_the_mirror_image(session, left, right, cardinality):
    left, right = sides(left, right)
    definition = keyed(cardinality)
    there = reconcile(definition, arrow(left), arrow(right), engine=session)
    back = reconcile(definition.mirrored(), arrow(right), arrow(left), engine=session)
    flip = {"missing_left": "missing_right", "missing_right": "missing_left"}
    rows = sorted(
        (b["break_key"], b["break_type"], b["left_rows"], b["right_rows"], b["left_amount"], b["right_amount"],
         b["difference"], b["left_ids"], b["right_ids"])
        for b in there.breaks.to_pylist()
    )  # fmt: skip
    mirrored = sorted(
        (b["break_key"], flip.get(b["break_type"], b["break_type"]), b["right_rows"], b["left_rows"], b["right_amount"],
         b["left_amount"], None if b["difference"] is None else -b["difference"], b["right_ids"], b["left_ids"])
        for b in back.breaks.to_pylist()
    )  # fmt: skip
    assert _sortable(mirrored) == _sortable(rows)
    assert {(m["match_key"], m["left_ids"], m["right_ids"]) for m in there.matches.to_pylist()} == {
        (m["match_key"], m["right_ids"], m["left_ids"]) for m in back.matches.to_pylist()
    }


def _sortable(rows):
    return sorted(rows, key=str)


@QUICK
@given(
    left=ROWS,
    right=ROWS,
    cardinality=st.sampled_from(list(MANY)),
    units=st.tuples(st.integers(0, 3), st.integers(0, 200)),
)
def test_a_wider_tolerance_never_breaks_a_match(session, left, right, cardinality, units):
    left, right = sides(left, right)
    narrow, wide = (
        reconcile(keyed(cardinality, n), arrow(left), arrow(right), engine=session)
        for n in (units[0], units[0] + units[1])
    )
    matched = [{m["match_key"] for m in r.matches.to_pylist()} for r in (narrow, wide)]
    assert matched[0] <= matched[1]


@QUICK
@given(left=ROWS, right=ROWS, definition=st.sampled_from([keyed("1:1"), keyed("1:1", 1)]), copied=st.booleans())
def test_setting_identical_rows_aside_changes_no_break_and_no_total(session, left, right, definition, copied):
    left, right = sides(left, left if copied else right)
    everything = reconcile(definition, arrow(left), arrow(right), engine=session)
    differing = reconcile(definition, arrow(left), arrow(right), engine=session, matches="differing")
    assert differing.breaks.to_pylist() == everything.breaks.to_pylist()
    assert differing.totals.to_pylist() == everything.totals.to_pylist()
    assert differing.summary == everything.summary
    assert {m["match_key"] for m in differing.matches.to_pylist()} == {
        m["match_key"] for m in everything.matches.to_pylist() if m["tolerated"]
    }


@QUICK
@given(left=ROWS, right=ROWS)
def test_parts_of_a_difference_add_up(session, left, right):
    left, right = sides(left, right)
    result = reconcile(keyed("1:N"), arrow(left), arrow(right), engine=session)
    for row in result.breaks.to_pylist():
        parts = [row[c] for c in row if c.startswith("part_")]
        if row["difference"] is None:
            assert parts == [None] * 8
        else:
            assert sum(parts) == row["difference"]


@QUICK
@given(left=ROWS, right=ROWS)
def test_a_search_matches_only_what_has_no_rival(session, left, right):
    left, right = sides(left, right)
    of_left, of_right = oracle.searched(left, right, 3)
    result = reconcile(search("only_if_unambiguous"), arrow(left), arrow(right), engine=session)
    matched = {(m["left_ids"], m["right_ids"]) for m in result.matches.to_pylist()}
    alone = {(a, b) for a, fits in of_left.items() for b in fits if len(fits) == 1 and len(of_right[b]) == 1}
    assert matched == alone
    contested = {a for a in of_left if not any(a == one for one, _ in alone)}
    ambiguous = {b["break_key"]: b["rivals"] for b in result.breaks.to_pylist() if b["break_type"] == "ambiguous"}
    assert ambiguous == {a: "; ".join(sorted(of_left[a])) for a in contested}


@QUICK
@given(left=ROWS, right=ROWS)
def test_an_automatic_search_leaves_no_pair_behind(session, left, right):
    left, right = sides(left, right)
    of_left, _ = oracle.searched(left, right, 3)
    result = reconcile(search("automatic"), arrow(left), arrow(right), engine=session)
    pairs = {(m["left_ids"], m["right_ids"]) for m in result.matches.to_pylist()}
    assert all(b in of_left[a] for a, b in pairs)
    used_left, used_right = {a for a, _ in pairs}, {b for _, b in pairs}
    assert not [(a, b) for a, fits in of_left.items() for b in fits if a not in used_left and b not in used_right]
