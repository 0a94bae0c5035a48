"""What all workflows share: owner, retries with backoff, failures no retry can mend, and whether they are scheduled."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

START = datetime(2026, 1, 1, tzinfo=UTC)
TAGS = ["tieout"]

_FINAL = ("ConfigError", "Refused", "IncompleteExtract", "DriftError", "DataError", "Rejected", "PeriodClosed",
          "LedgerError", "IllegalTransition")  # fmt: skip

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=f"tieout.errors.{name}", action=RetryAction.FAIL, reason="a person must act first")
        for name in _FINAL
    ]
)

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "finance-data",
    "retries": 2,
    "retry_delay": timedelta(seconds=int(os.environ.get("TIEOUT_RETRY_SECONDS", "30"))),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": RETRY_POLICY,
    "execution_timeout": timedelta(hours=2),
}


def scheduled(timetable: Any) -> Any:
    """The timetable, or none where TIEOUT_SCHEDULE=off: a company in a box stands at its own date, not today's."""
    return None if os.environ.get("TIEOUT_SCHEDULE", "on") == "off" else timetable
