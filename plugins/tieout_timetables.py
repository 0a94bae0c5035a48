"""When scheduled workflows run: once a business date is over everywhere, and on a business day after each period end.

Airflow loads this file in every process as the top-level module `tieout_timetables`; keep it flat and light.
The entities (zones, holidays) are read from `entities.yaml` when a date is computed, never when a DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import DateTime


def _midnight(day: date) -> DateTime:
    return pendulum.datetime(day.year, day.month, day.day, tz="UTC")


def _instant(moment: datetime) -> DateTime:
    return pendulum.instance(moment.astimezone(UTC))


class _Ticks(Timetable):
    """Walks a sequence of dates, each with the interval it stands for and the later moment its run starts."""

    def __init__(self) -> None:
        self.now: Callable[[], DateTime] = lambda: pendulum.now("UTC")

    def first_of(self, day: date) -> date:
        """The first date of the tick that holds a date."""
        raise NotImplementedError

    def following(self, day: date) -> date:
        """The first date of the next tick."""
        raise NotImplementedError

    def run_after(self, day: date) -> DateTime:
        """When the run of the tick that starts on `day` may begin."""
        raise NotImplementedError

    def _interval(self, day: date) -> DataInterval:
        return DataInterval(_midnight(day), _midnight(self.following(day)))

    def _latest_due(self, moment: DateTime) -> date:
        day = self.first_of(moment.date())
        while self.run_after(day) > moment:
            day = self.first_of(day - timedelta(days=1))
        return day

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """A run started by hand without a date works on the latest tick that is over."""
        return self._interval(self._latest_due(run_after))

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The tick after the last one; without catch-up, nothing before the latest that is due."""
        if last_automated_data_interval is not None:
            # from where it ended, whatever a calendar that was changed since makes of the dates before
            day = last_automated_data_interval.end.date()
        elif restriction.earliest is not None:
            earliest = restriction.earliest.in_timezone("UTC")
            day = self.first_of(earliest.date())
            if _midnight(day) < earliest:
                day = self.following(day)
        else:
            return None
        if not restriction.catchup:
            day = max(day, self._latest_due(self.now()))
        if restriction.latest is not None and _midnight(day) > restriction.latest:
            return None
        return DagRunInfo(
            run_after=self.run_after(day),
            data_interval=self._interval(day),
            partition_key=None,
            partition_date=None,
        )


class BusinessDateTimetable(_Ticks):
    """One run per calendar date for all entities, after that date is over in every entity's zone, plus the lag."""

    description = "each business date, once it is over in every legal entity"

    @property
    def summary(self) -> str:
        """Shown in the list of DAGs."""
        return "each business date"

    def first_of(self, day: date) -> date:
        return day

    def following(self, day: date) -> date:
        return day + timedelta(days=1)

    def run_after(self, day: date) -> DateTime:
        from tieout.orchestration.calendars import business_date_complete_at

        return _instant(business_date_complete_at(day))


class MonthEndTimetable(_Ticks):
    """One run per end of a fiscal period, on business day `business_day` after it in every entity that closes one.

    Entities whose calendars differ end their periods on different days; each of these days has a run of its own.
    """

    def __init__(self, *, business_day: int = 1, hour: int = 6) -> None:
        super().__init__()
        self.business_day, self.hour = business_day, hour
        self.description = (
            f"each end of a fiscal period, BD{business_day} after it at {hour:02d}:00 in every legal entity that closes"
        )

    @property
    def summary(self) -> str:
        """Shown in the list of DAGs."""
        return f"BD{self.business_day} {self.hour:02d}:00"

    def serialize(self) -> dict[str, Any]:
        """The arguments, for the metadata database."""
        return {"business_day": self.business_day, "hour": self.hour}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> MonthEndTimetable:
        """The timetable `serialize` described."""
        return cls(**data)

    def first_of(self, day: date) -> date:
        from tieout.orchestration.calendars import span_of_period_end

        return span_of_period_end(day)[0]

    def following(self, day: date) -> date:
        from tieout.orchestration.calendars import span_of_period_end

        return span_of_period_end(day)[1] + timedelta(days=1)

    def run_after(self, day: date) -> DateTime:
        from tieout.orchestration.calendars import period_end_due_at, span_of_period_end

        return _instant(period_end_due_at(span_of_period_end(day)[1], self.business_day, self.hour))
