"""What people said of suggestions: accepted ones settle first, rejected ones come apart, and no row is lost."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from tieout.errors import DataError
from tieout.reconcile import VERDICTS, reconcile

SIDE = {"name": "x", "id": ["id"], "currency": "currency", "amount": "amount", "date": "day"}
RULES = {
    "id": "d", "title": "Both sides", "left": SIDE, "right": SIDE,
    "passes": [{"name": "by_key", "by": ["key"], "accept": "suggested"}],
    "compare": [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount"}],
}  # fmt: skip


def side(*rows):
    kinds = {"amount": pa.decimal128(18, 2)}
    columns = ("legal_entity_id", "currency", "id", "key", "amount", "day")
    data = [("US", "USD", one, key, Decimal(amount), date(2026, 3, 1)) for one, key, amount in rows]
    return pa.table({c: pa.array(v, kinds.get(c)) for c, v in zip(columns, zip(*data, strict=True), strict=True)})


LEFT = side(("L1", "a", "10"), ("L2", "b", "20"), ("L3", "c", "30"))
RIGHT = side(("R1", "a", "10"), ("R2", "b", "20"), ("R3", "c", "30"))


def said(*verdicts):
    names = ("verdict", "left_ids", "right_ids", "left_amount", "right_amount")
    rows = [
        {"legal_entity_id": "US", "break_key": v[1], "actor": "anna"}
        | dict(zip(names, (*v[:3], Decimal(v[3]), Decimal(v[4])), strict=True))
        for v in verdicts
    ]
    return pa.Table.from_pylist(rows, schema=VERDICTS)


def outcome(verdicts):
    found = reconcile(RULES, LEFT, RIGHT, verdicts=verdicts)
    matches = {(m["pass_name"], m["left_ids"], m["right_ids"]) for m in found.matches.to_pylist()}
    return matches, {(b["break_type"], b["left_ids"], b["right_ids"]) for b in found.breaks.to_pylist()}, found


WAITING = {("suggested_match", f"L{n}", f"R{n}") for n in (1, 2, 3)}


def test_without_verdicts_everything_suggested_waits():
    assert outcome(None)[:2] == (set(), WAITING)


def test_an_accepted_match_settles_also_across_keys_and_the_rest_waits():
    matches, breaks, _ = outcome(said(("accepted", "L1", "R2", 10, 20)))
    assert matches == {("accepted", "L1", "R2")}
    assert breaks == {("missing_right", "L2", ""), ("missing_left", "", "R1"), ("suggested_match", "L3", "R3")}


@pytest.mark.parametrize(
    "verdicts",
    [
        (("accepted", "L1", "R1", 10, 11),),
        (("accepted", "L1", "R9", 10, 10),),
        (("accepted", "L1", "R1", 10, 10), ("accepted", "L1", "R2", 10, 20)),
    ],
    ids=["the amount changed", "a row is gone", "two claim one row"],
)
def test_what_no_longer_fits_waits_again(verdicts):
    assert outcome(said(*verdicts))[:2] == (set(), WAITING)


def test_a_rejected_match_of_a_keyed_pass_comes_apart_and_says_who_rejected_it():
    matches, breaks, found = outcome(said(("rejected", "L1", "R1", 10, 10), ("rejected", "L2", "R2", 20, 20)))
    assert matches == set()
    assert breaks == {
        ("missing_right", "L1", ""), ("missing_left", "", "R1"), ("missing_right", "L2", ""),
        ("missing_left", "", "R2"), ("suggested_match", "L3", "R3"),
    }  # fmt: skip
    reasons = {b["left_ids"]: b["reason"] for b in found.breaks.to_pylist() if b["break_type"] == "missing_right"}
    assert reasons["L1"] == "the match with R1 was rejected by anna"


def test_verdicts_without_their_columns_are_refused():
    with pytest.raises(DataError, match="lack columns"):
        reconcile(RULES, LEFT, RIGHT, verdicts=pa.table({"verdict": ["accepted"]}))
