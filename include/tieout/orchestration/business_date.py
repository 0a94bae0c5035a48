"""The one place that decides which business date, or which period, a run works on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from tieout.errors import ConfigError


def business_date(params: Mapping[str, Any], interval_start: datetime | None) -> date:
    """The run's business date: the `business_date` param where given, else the date its interval stands for.

    Runs started by hand or over REST may have no interval at all; they must then name the date.
    """
    given = params.get("business_date")
    if given:
        return _parse(str(given), "business_date")
    if interval_start is None:
        raise ConfigError("the run has no business date", remedy="give business_date, for example 2026-03-31")
    return interval_start.date()


def period(params: Mapping[str, Any], interval_end: datetime | None) -> str:
    """The fiscal period a month-end run closes: the `period` param as given, else the last day of its interval."""
    given = params.get("period")
    if given:
        return str(given)
    if interval_end is None:
        raise ConfigError("the run has no period", remedy="give period, for example 2026-03, or its last day")
    return (interval_end - timedelta(days=1)).date().isoformat()


def _parse(text: str, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{name} is no date", got=text, expected="YYYY-MM-DD") from None
