"""Instants, zones, accounting dates, fiscal periods and business days of a legal entity."""

from tieout.calendar.business_days import add_business_days, business_day_of_month, is_business_day
from tieout.calendar.dates import Window, accounting_date, complete_at, window
from tieout.calendar.periods import Period, ended_periods, fiscal_year_start, last_ended, period_named, period_of

__all__ = [
    "Period",
    "Window",
    "accounting_date",
    "add_business_days",
    "business_day_of_month",
    "complete_at",
    "ended_periods",
    "fiscal_year_start",
    "is_business_day",
    "last_ended",
    "period_named",
    "period_of",
    "window",
]
