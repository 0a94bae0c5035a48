"""NetSuite: the alphabet of external ids, exact numbers on the wire, and what its file may say."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.erp.netsuite import NetSuiteConfig, external_id, run_key_of
from tieout.erp.rest import exact_json
from tieout.errors import ConfigError, Rejected

_PARTS = st.lists(st.text("aZ09_-", min_size=1, max_size=6), min_size=2, max_size=8)


@settings(max_examples=40)
@given(_PARTS)
def test_a_run_key_comes_back_from_its_external_id_and_keeps_its_prefixes(parts: list[str]) -> None:
    key = "/".join(["TIEOUT", *parts])
    assert run_key_of(external_id(key)) == key
    assert external_id(key).startswith(external_id("/".join(["TIEOUT", *parts[:-1]])))


@pytest.mark.parametrize("text", [None, "", "INV-17", "TIEOUT", "TIEOUT_"])
def test_other_peoples_external_ids_are_no_run_keys(text: str | None) -> None:
    assert run_key_of(text) is None


def test_a_sign_outside_the_alphabet_is_refused() -> None:
    with pytest.raises(Rejected, match="external id"):
        external_id("TIEOUT/US/main|x/v1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+2"), "100"),
        (Decimal("12345678901234567890.01"), "12345678901234567890.01"),
        ({"a": [None, True, 3, 'q"', date(2026, 3, 1)]}, '{"a":[null,true,3,"q\\"","2026-03-01"]}'),
    ],
)
def test_json_holds_the_very_number(value: object, text: str) -> None:
    assert exact_json(value) == text
    json.loads(text)


def test_a_float_never_reaches_an_erp() -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        exact_json({"amount": 0.1})


@pytest.mark.parametrize(
    "changed",
    [
        {"dimensions": {"product_family": "tl.id; DROP"}},
        {"zone": "Mars/Olympus"},
        {"tables": {"class": "a b"}},
        {"page": 0},
        {"colour": "red"},
    ],
)
def test_a_file_that_says_what_netsuite_cannot_do_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        NetSuiteConfig.load({"companies": {"US": "2"}} | changed)


def test_a_custom_segments_values_are_in_a_table_of_its_name() -> None:
    config = NetSuiteConfig.load({"companies": {"US": "2"}, "tables": {"custcol_x": "customlist_x"}})
    tables = [config.table(field) for field in ("class", "cseg_tax", "custcol_x")]
    assert tables == ["classification", "customrecord_cseg_tax", "customlist_x"]
