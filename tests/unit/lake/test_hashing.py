"""The result hash: content decides, order and provenance do not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from tieout.errors import DataError
from tieout.lake.hashing import result_hash

TABLE = pa.table(
    {
        "k": ["a", "b", "c"],
        "amount": pa.array([Decimal("1.50"), None, Decimal("-2.00")], pa.decimal128(18, 2)),
        "on": [date(2026, 3, 31), None, date(2026, 4, 1)],
        "at": pa.array([datetime(2026, 3, 31, 23, 0, tzinfo=UTC)] * 3, pa.timestamp("us", tz="UTC")),
        "raw_ref": ["x#1", "x#2", "x#3"],
    }
)


def test_row_order_and_provenance_do_not_change_the_hash() -> None:
    shuffled = TABLE.take([2, 0, 1]).set_column(4, "raw_ref", [["y#7", "y#8", "y#9"]])
    assert result_hash(shuffled, ["k"]) == result_hash(TABLE, ["k"])


def test_every_value_counts() -> None:
    other = TABLE.set_column(1, "amount", [pa.array([Decimal("1.51"), None, Decimal("-2.00")], pa.decimal128(18, 2))])
    assert result_hash(other, ["k"]) != result_hash(TABLE, ["k"])
    null_for_empty = pa.table({"k": ["a"], "t": pa.array([None], pa.string())})
    assert result_hash(null_for_empty, ["k"]) != result_hash(pa.table({"k": ["a"], "t": [""]}), ["k"])


def test_borders_between_values_cannot_be_mistaken() -> None:
    left, right = pa.table({"k": ["a,b"], "t": ["c"]}), pa.table({"k": ["a"], "t": ["b,c"]})
    assert result_hash(left, ["k"]) != result_hash(right, ["k"])


def test_rows_that_share_a_key_are_ordered_by_their_values() -> None:
    twice = pa.table({"k": ["a", "a"], "n": [1, 2]})
    assert result_hash(twice, ["k"]) == result_hash(twice.take([1, 0]), ["k"])


def test_floats_are_refused() -> None:
    with pytest.raises(DataError, match="float"):
        result_hash(pa.table({"k": ["a"], "x": [0.1]}), ["k"])
