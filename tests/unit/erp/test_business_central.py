"""Business Central: numbers and codes made from run keys, and amounts that come as text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.erp.business_central import _stated, batch_code, document_number, slot_number
from tieout.errors import ErpUnavailable

SLOT = "TIEOUT/US/main/2026-03/invoices/2026-03-29"


@settings(max_examples=30)
@given(st.integers(1, 99), st.sampled_from(["", "/1of3", "/reversed", "/2of3/reversed/2"]))
def test_a_document_number_fits_and_begins_with_its_slots(version: int, tail: str) -> None:
    key = f"{SLOT}/v{version}{tail}"
    number = document_number(key)
    assert len(number) == 20
    assert number.upper() == number
    assert number.isalnum()
    assert number.startswith(slot_number(SLOT))
    assert slot_number(key) == slot_number(f"{SLOT}/") == slot_number(SLOT.removeprefix("TIEOUT/"))
    assert len(batch_code(key)) == 10
    assert batch_code(key)[-1] == "X"


def test_a_key_shorter_than_a_slot_asks_for_all_of_ours() -> None:
    assert slot_number("US") == slot_number("TIEOUT/") == "TIE"


@pytest.mark.parametrize(
    ("text", "amount"),
    [("", "0"), ("0.00", "0"), ("72,893.84", "72893.84"), ("-1,234,567.5", "-1234567.5"), ("1234", "1234")],
)
def test_an_amount_of_the_trial_balance_is_read_exactly(text: str, amount: str) -> None:
    assert _stated(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["1.234,56", "1,23", "12 345.00", "1e5", "n/a"])
def test_an_amount_in_another_languages_form_is_refused_and_not_guessed(text: str) -> None:
    with pytest.raises(ErpUnavailable, match="cannot be read"):
        _stated(text)
