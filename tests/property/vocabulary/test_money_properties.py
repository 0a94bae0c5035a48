from hypothesis import given
from hypothesis import strategies as st

from tieout.money import from_minor, to_minor

currency = st.sampled_from(["EUR", "USD", "JPY", "KWD"])


@given(st.integers(-(10**12), 10**12), currency)
def test_minor_units_survive_the_round_trip(minor, code):
    assert to_minor(from_minor(minor, code), code) == minor
