from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tieout.money import allocate, from_minor, to_minor, unit

currency = st.sampled_from(["EUR", "USD", "JPY", "KWD"])
weights = st.lists(st.integers(0, 10**6).map(Decimal), min_size=1, max_size=40).filter(any)


@given(st.integers(-(10**12), 10**12), weights, currency)
def test_split_parts_are_whole_units_and_sum_to_the_total(minor, parts, code):
    total = from_minor(minor, code)
    split = allocate(total, parts, code)
    assert sum(split) == total
    for part, weight in zip(split, parts, strict=True):
        assert part % unit(code) == 0
        assert abs(part - total * weight / sum(parts)) < unit(code)


@given(st.integers(-(10**12), 10**12), currency)
def test_minor_units_survive_the_round_trip(minor, code):
    assert to_minor(from_minor(minor, code), code) == minor
