"""One function decides the business date of a run, another its period."""

from datetime import UTC, date, datetime

import pytest

from tieout.errors import ConfigError
from tieout.orchestration.business_date import business_date, period

START = datetime(2026, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("params", "interval_start", "expected"),
    [
        ({"business_date": "2026-03-29"}, START, date(2026, 3, 29)),
        ({"business_date": None}, START, date(2026, 3, 30)),
        ({}, START, date(2026, 3, 30)),
        ({"business_date": "2026-03-29"}, None, date(2026, 3, 29)),
    ],
    ids=["the param wins", "blank param", "no param", "no interval"],
)
def test_the_param_wins_over_the_interval(params, interval_start, expected):
    assert business_date(params, interval_start) == expected


def test_a_period_is_named_by_param_or_is_the_one_that_ends_with_the_interval():
    assert period({"period": "2026-02"}, START) == "2026-02"
    assert period({}, START) == "2026-03-29"


@pytest.mark.parametrize("decide", [business_date, period])
def test_a_run_without_date_says_what_to_give(decide):
    with pytest.raises(ConfigError, match="remedy: give"):
        decide({}, None)


def test_a_date_that_is_none_says_what_is_expected():
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        business_date({"business_date": "31.03.2026"}, None)
