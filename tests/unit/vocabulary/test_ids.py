from datetime import date
from decimal import Decimal

import pytest

from tieout.ids import Slot, canonical_json, content_hash, run_key, short_key

SLOT = Slot("US", "main", "2026-03", "billing", date(2026, 3, 29))


def test_a_slot_is_written_and_read_back():
    assert str(SLOT) == "US/main/2026-03/billing/2026-03-29"
    assert Slot.parse(str(SLOT)) == SLOT


def test_run_keys_carry_slot_version_and_chunk():
    assert run_key(SLOT, 2) == "TIEOUT/US/main/2026-03/billing/2026-03-29/v2"
    assert run_key(SLOT, 1, (1, 1)).endswith("/v1")
    assert run_key(SLOT, 1, (2, 3)).endswith("/v1/2of3")


def test_the_short_key_fits_sixteen_characters_and_differs_by_version():
    keys = {short_key(run_key(SLOT, v)) for v in range(1, 50)}
    assert len(keys) == 49
    assert {len(k) for k in keys} == {16}


def test_content_has_one_text_whatever_the_order_of_its_keys():
    a = {"b": Decimal("1.10"), "a": date(2026, 3, 29)}
    assert canonical_json(a) == '{"a":"2026-03-29","b":"1.10"}'
    assert content_hash(a) == content_hash(dict(reversed(a.items())))


def test_a_float_has_no_place_in_content():
    with pytest.raises(TypeError):
        canonical_json({"amount": 1.1})
