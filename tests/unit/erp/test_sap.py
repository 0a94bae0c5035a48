"""SAP: dates, accounts and amounts as OData 2 writes them, and what its file may say."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from tieout.erp.sap import SapConfig, _account, _amount, _date_of, _last_of_month, _posted_in
from tieout.errors import ConfigError, ErpUnavailable


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("/Date(1774742400000)/", date(2026, 3, 29)),
        ("/Date(-86400000)/", date(1969, 12, 31)),
        ("/Date(253402214400000)/", date(9999, 12, 31)),
        (None, None),
        ("2026-03-29", None),
    ],
)
def test_a_date_is_milliseconds_since_1970(text: str | None, day: date | None) -> None:
    assert _date_of(text) == day


@pytest.mark.parametrize(
    ("number", "account"), [("0000011000", "11000"), ("11000", "11000"), ("A0100", "A0100"), ("0", "0")]
)
def test_an_account_has_no_padding(number: str, account: str) -> None:
    assert _account(number) == account


def test_an_amount_is_text_and_never_a_float() -> None:
    assert _amount("-0.10") == Decimal("-0.10")
    for wrong in (0.1, "ten", None):
        with pytest.raises(ErpUnavailable, match="no decimal"):
            _amount(wrong)


@pytest.mark.parametrize(
    ("day", "last"),
    [
        (date(2026, 2, 3), date(2026, 2, 28)),
        (date(2026, 12, 31), date(2026, 12, 31)),
        (date.max, date.max),
    ],
)
def test_the_last_day_of_a_month(day: date, last: date) -> None:
    assert _last_of_month(day) == last


@pytest.mark.parametrize(
    ("year", "period", "shown"),
    [("2026", "003", date(2026, 3, 29)), ("2026", "004", date(2026, 4, 1)), ("2025", "016", date(2025, 12, 1))],
)
def test_a_document_is_shown_in_its_period(year: str, period: str, shown: date) -> None:
    row = {"PostingDate": "/Date(1774742400000)/", "FiscalYear": year, "FiscalPeriod": period}
    assert _posted_in(row) == shown


@pytest.mark.parametrize(
    "changed",
    [{"dimensions": {"x": "WBSElement"}}, {"max_lines": 1000}, {"ledger": "0"}, {"document_type": "SAX"}],
)
def test_a_file_that_says_what_sap_cannot_do_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SapConfig.load({"companies": {"US": "1710"}} | changed)
