"""Scheduled runs start when their business date or month is over everywhere, and can be stored and backfilled."""

from datetime import date

import pendulum
import pytest
from airflow.timetables.base import TimeRestriction

from tieout.orchestration import calendars
from tieout_timetables import BusinessDateTimetable, MonthEndTimetable


def utc(text):
    return pendulum.parse(text, tz="UTC")


def infos(timetable, first, last):
    """Every run between two logical dates, as a backfill asks for them: one after the other, with catch-up."""
    found, last_interval = [], None
    while True:
        info = timetable.next_dagrun_info(
            last_automated_data_interval=last_interval, restriction=TimeRestriction(utc(first), utc(last), True)
        )
        if info is None:
            return found
        found.append(info)
        last_interval = info.data_interval


@pytest.mark.parametrize(
    ("day", "run_after"),
    [
        (
            "2026-03-29",
            "2026-03-30T08:00:00",
        ),  # Los Angeles is the last: midnight PDT is 07:00 UTC, and the lag of an hour
        ("2026-03-07", "2026-03-08T09:00:00"),  # still standard time when the 7th ends
        ("2026-03-08", "2026-03-09T08:00:00"),  # the 8th has 23 hours in Los Angeles
    ],
)
def test_a_business_date_starts_after_the_last_entitys_midnight_and_the_lag(day, run_after):
    (info,) = infos(BusinessDateTimetable(), day, day)
    assert info.run_after == utc(run_after)
    assert info.data_interval.start == utc(day)
    assert info.data_interval.end == utc(day).add(days=1)


def test_a_backfill_covers_every_date_once():
    found = infos(BusinessDateTimetable(), "2026-03-28", "2026-04-01")
    assert [i.logical_date.date() for i in found] == [date(2026, 3, d) for d in (28, 29, 30, 31)] + [date(2026, 4, 1)]


def test_without_catch_up_the_first_run_is_the_latest_date_that_is_over():
    timetable = BusinessDateTimetable()
    timetable.now = lambda: utc("2026-03-30T07:59:00")
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(utc("2026-01-01"), None, False)
    )
    assert info.logical_date.date() == date(2026, 3, 28)


def test_a_run_by_hand_works_on_the_latest_date_that_is_over():
    interval = BusinessDateTimetable().infer_manual_data_interval(run_after=utc("2026-03-30T08:00:00"))
    assert interval.start.date() == date(2026, 3, 29)


def test_nothing_is_scheduled_after_the_last_date():
    found = BusinessDateTimetable().next_dagrun_info(
        last_automated_data_interval=BusinessDateTimetable()._interval(date(2026, 3, 31)),
        restriction=TimeRestriction(None, utc("2026-03-31"), True),
    )
    assert found is None


@pytest.mark.parametrize(
    ("business_day", "run_after"),
    [
        (1, "2026-04-01T13:00:00"),  # 06:00 in Los Angeles
        (3, "2026-04-07T04:00:00"),  # 06:00 in Berlin, after Good Friday and Easter Monday
    ],
)
def test_a_month_ends_on_the_business_day_of_its_last_entity(business_day, run_after):
    (info,) = infos(MonthEndTimetable(business_day=business_day), "2026-03-01", "2026-03-31")
    assert info.run_after == utc(run_after)
    assert info.data_interval.start == utc("2026-03-01")
    assert info.data_interval.end == utc("2026-04-01")


def test_each_period_end_of_any_entity_has_a_run_of_its_own(monkeypatch):
    shipped = calendars.configured_entities()
    us, de = (one for one in shipped.entities if one.id in ("US", "DE"))
    weeks = de.model_copy(update={"fiscal_calendar": "4-4-5", "fiscal_year_start": date(2026, 1, 1)})
    both = shipped.model_copy(update={"entities": (us, weeks)})
    monkeypatch.setattr(calendars, "configured_entities", lambda: both)
    found = infos(MonthEndTimetable(), "2026-03-01", "2026-04-30")
    assert [(i.data_interval.start, i.data_interval.end) for i in found] == [
        (utc("2026-03-01"), utc("2026-04-01")), (utc("2026-04-01"), utc("2026-04-02")),
        (utc("2026-04-02"), utc("2026-04-30")), (utc("2026-04-30"), utc("2026-05-01")),
    ]  # fmt: skip
    assert [i.run_after for i in found] == [
        utc("2026-04-01T13:00:00"),  # 06:00 in Los Angeles: it alone closes
        utc("2026-04-02T04:00:00"),  # 06:00 in Berlin, before Good Friday
        utc("2026-04-30T04:00:00"),
        utc("2026-05-01T13:00:00"),
    ]


def test_a_calendar_that_was_changed_leaves_no_date_out(monkeypatch):
    shipped = calendars.configured_entities()
    weeks = [
        one.model_copy(update={"fiscal_calendar": "4-4-5", "fiscal_year_start": date(2026, 1, 4)})
        for one in shipped.entities
    ]
    (march,) = infos(MonthEndTimetable(), "2026-03-01", "2026-03-31")
    monkeypatch.setattr(calendars, "configured_entities", lambda: shipped.model_copy(update={"entities": (*weeks,)}))
    info = MonthEndTimetable().next_dagrun_info(
        last_automated_data_interval=march.data_interval, restriction=TimeRestriction(None, None, True)
    )
    assert (info.data_interval.start, info.data_interval.end) == (utc("2026-04-01"), utc("2026-04-05"))


def test_months_follow_each_other_over_the_turn_of_the_year():
    found = infos(MonthEndTimetable(), "2025-11-01", "2026-02-01")
    assert [i.logical_date.date() for i in found] == [
        date(2025, 11, 1),
        date(2025, 12, 1),
        date(2026, 1, 1),
        date(2026, 2, 1),
    ]


@pytest.mark.parametrize("timetable", [BusinessDateTimetable(), MonthEndTimetable(business_day=3, hour=7)])
def test_a_timetable_survives_storage(timetable):
    again = type(timetable).deserialize(timetable.serialize())
    assert again.serialize() == timetable.serialize()
    assert again.summary == timetable.summary
