"""Registers with Airflow what Tieout adds to it."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from tieout_timetables import BusinessDateTimetable, MonthEndTimetable


class TieoutPlugin(AirflowPlugin):
    """Tieout's timetables, so that scheduled DAGs can be stored and read back by every component."""

    name = "tieout"
    timetables = [BusinessDateTimetable, MonthEndTimetable]  # noqa: RUF012  Airflow's own attribute
