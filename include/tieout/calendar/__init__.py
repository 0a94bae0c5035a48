"""Instants, zones, accounting dates, fiscal periods and business days of a legal entity."""

from tieout.calendar.business_days import add_business_days, is_business_day
from tieout.calendar.dates import Window, accounting_date, complete_at, window
from tieout.calendar.periods import Period, ended_periods, fiscal_year_start, period_ends, period_named, period_of

__all__ = [
    "Period",
    "Window",
    "accounting_date",
    "add_business_days",
    "complete_at",
    "ended_periods",
    "fiscal_year_start",
    "is_business_day",
    "period_ends",
    "period_named",
    "period_of",
    "window",
]
