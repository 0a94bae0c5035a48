from datetime import UTC, date, datetime, timedelta

import pytest

from tieout.calendar import (
    accounting_date,
    add_business_days,
    complete_at,
    ended_periods,
    fiscal_year_start,
    period_ends,
    period_named,
    period_of,
    window,
)
from tieout.entities import LegalEntity
from tieout.errors import ConfigError, DataError


def entity(zone="Europe/Berlin", country="DE", **more):
    return LegalEntity(
        id="XX", name="x", functional_currency="EUR", zone=zone, country=country, go_live=date(2026, 1, 1), **more
    )


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Asia/Tokyo", date(2026, 3, 29), 24),
        ("America/Los_Angeles", date(2026, 3, 8), 23),
    ],
)
def test_a_business_date_is_as_long_as_its_local_day(zone, day, hours):
    span = window(entity(zone), day)
    assert span.end - span.start == timedelta(hours=hours)


def test_the_end_of_a_window_belongs_to_the_next_day():
    span = window(entity("Asia/Tokyo"), date(2026, 3, 31))
    assert span.start in span
    assert span.end not in span
    assert accounting_date(span.end, "Asia/Tokyo") == date(2026, 4, 1)


@pytest.mark.parametrize(
    ("zone", "instant", "day"),
    [
        ("Pacific/Niue", datetime(2026, 4, 1, 10, 59, tzinfo=UTC), date(2026, 3, 31)),  # UTC-11
        ("Pacific/Niue", datetime(2026, 4, 1, 11, 0, tzinfo=UTC), date(2026, 4, 1)),
        ("Pacific/Tongatapu", datetime(2026, 3, 31, 10, 59, tzinfo=UTC), date(2026, 3, 31)),  # UTC+13
        ("Pacific/Tongatapu", datetime(2026, 3, 31, 11, 0, tzinfo=UTC), date(2026, 4, 1)),
    ],
)
def test_month_end_falls_where_the_entity_lives(zone, instant, day):
    assert accounting_date(instant, zone) == day


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(DataError):
        accounting_date(datetime(2026, 3, 31), "UTC")  # noqa: DTZ001


def test_a_date_is_complete_once_it_is_over_in_the_last_zone():
    both = [entity("Asia/Tokyo"), entity("America/Los_Angeles")]
    assert complete_at(both, date(2026, 3, 29)) == datetime(2026, 3, 30, 7, 0, tzinfo=UTC)


def test_calendar_month_periods_end_on_the_last_day():
    assert period_of(entity(), date(2024, 2, 29)).name == "2024-02"
    assert period_of(entity(), date(2024, 2, 1)).end == date(2024, 2, 29)


def test_a_period_is_over_with_its_last_day():
    weeks = entity(fiscal_calendar="4-4-5", fiscal_year_start=date(2026, 1, 1))
    for owner, day, names in (
        (entity(), date(2026, 1, 30), []),
        (entity(), date(2026, 2, 28), ["2026-01", "2026-02"]),
        (weeks, date(2026, 1, 27), []),
        (weeks, date(2026, 3, 31), ["2026-01", "2026-02"]),
        (weeks, date(2026, 4, 1), ["2026-01", "2026-02", "2026-03"]),
    ):
        assert [period.name for period in ended_periods(owner, day)] == names


def test_between_two_period_ends_of_any_entity_no_period_ends():
    weeks = entity(fiscal_calendar="4-4-5", fiscal_year_start=date(2026, 1, 1))
    assert period_ends([entity()], date(2026, 3, 20)) == (date(2026, 3, 1), date(2026, 3, 31))
    day, ends = date(2026, 1, 1), []
    while day < date(2026, 5, 1):
        start, end = period_ends([entity(), weeks], day)
        assert (start, period_ends([entity(), weeks], end)) == (day, (start, end))
        ends.append(end)
        day = end + timedelta(days=1)
    assert [f"{end:%m-%d}" for end in ends] == ["01-28", "01-31", "02-25", "02-28", "03-31", "04-01", "04-29", "04-30"]


@pytest.mark.parametrize("pattern", ["4-4-5", "4-5-4", "5-4-4"])
def test_week_periods_follow_each_other_without_gap(pattern):
    owner = entity(fiscal_calendar=pattern, fiscal_year_start=date(2025, 1, 26))
    day, spans = date(2025, 1, 26), []
    while day < date(2031, 1, 1):
        period = period_of(owner, day)
        assert day == period.start
        spans.append((period.end - period.start).days + 1)
        day = period.end + timedelta(days=1)
    weeks = [int(w) * 7 for w in pattern.split("-")] * 4
    assert spans[:12] == weeks
    assert {sum(spans[i : i + 12]) for i in range(0, len(spans) - 12, 12)} <= {364, 371}


@pytest.mark.parametrize(
    ("more", "day", "begins"),
    [
        ({}, date(2026, 1, 1), date(2026, 1, 1)),
        ({"fiscal_year_start": date(2025, 7, 1)}, date(2026, 6, 30), date(2025, 7, 1)),
        ({"fiscal_year_start": date(2025, 7, 1)}, date(2026, 7, 1), date(2026, 7, 1)),
        ({"fiscal_calendar": "4-4-5", "fiscal_year_start": date(2025, 1, 26)}, date(2026, 1, 24), date(2025, 1, 26)),
    ],
)
def test_a_date_lies_in_one_fiscal_year_and_its_period_is_found_by_name(more, day, begins):
    owner = entity(**more)
    assert fiscal_year_start(owner, day) == begins
    period = period_of(owner, day)
    assert period_named(owner, period.name) == period
    for name in ("2026-13", "2026", "March"):
        with pytest.raises(ConfigError, match="not a period"):
            period_named(owner, name)


def test_business_days_skip_weekends_holidays_and_closures():
    berlin = entity(region="BE", closures=(date(2026, 4, 7),))
    # Good Friday 3 April and Easter Monday 6 April 2026 are public holidays in Berlin.
    assert add_business_days(berlin, date(2026, 4, 2), 1) == date(2026, 4, 8)
    assert add_business_days(berlin, date(2026, 4, 8), -1) == date(2026, 4, 2)
