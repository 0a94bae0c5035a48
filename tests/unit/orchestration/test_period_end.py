"""The end of a fiscal period is planned and reported for the entities that close one, each in a run of its own."""

from __future__ import annotations

import importlib
from datetime import date
from typing import Any

import pytest

from tieout.errors import ConfigError
from tieout.orchestration import closing, planning, steps
from tieout.orchestration.work import Work
from tieout.settings import Settings

MONTH_END, WEEKS_END = date(2026, 3, 31), date(2026, 4, 1)


@pytest.fixture
def work(tmp_path: Any, monkeypatch: Any) -> Work:
    """US closes months, DE 4-4-5 weeks from the first of January on."""
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    monkeypatch.delenv("TIEOUT_STORE", raising=False)
    made = Work(Settings.from_env())
    made.store.upgrade()
    us, de = made.entities["US"], made.entities["DE"]
    weeks = de.model_copy(update={"fiscal_calendar": "4-4-5", "fiscal_year_start": date(2026, 1, 1)})
    made.__dict__["entities"] = made.entities.model_copy(update={"entities": (us, weeks)})
    return made


def test_a_period_is_named_where_it_means_one_date_and_else_told_by_its_last_day(work: Work) -> None:
    with pytest.raises(ConfigError, match="end on different days") as told:
        steps.open_month(work, "m", "2026-03")
    assert "2026-03-31" in str(told.value)
    with pytest.raises(ConfigError, match="no entity's fiscal period ends on that day") as told:
        steps.open_month(work, "m", "2026-03-30")
    assert "2026-03-31, the next one" in str(told.value)
    with pytest.raises(ConfigError, match="not a period"):
        steps.open_month(work, "m", "March")
    assert steps.open_month(work, "m", "2026-04-01")["business_date"] == "2026-04-01"
    assert work.store.facts("m")["period"] == "close-2026-04-01"
    work.__dict__["entities"] = work.entities.model_copy(update={"entities": (work.entities["US"],)})
    assert steps.open_month(work, "n", "2026-03")["business_date"] == "2026-03-31"
    assert work.store.facts("n")["period"] == "2026-03"


@pytest.mark.parametrize(
    ("day", "entity", "period"), [(MONTH_END, "US", "2026-03"), (WEEKS_END, "DE", "2026-03")], ids=["month", "weeks"]
)
def test_only_who_closes_is_planned_and_has_a_backlog(
    work: Work, monkeypatch: Any, day: date, entity: str, period: str
) -> None:
    planned, listed, named = [], [], []
    monkeypatch.setattr("tieout.ledger.plan.plan_month_ends", lambda one, day, **_: planned.append(one.id) or ())
    written = importlib.import_module("tieout.close.backlog")  # the package has a function of that name
    monkeypatch.setattr(written, "write", lambda table, one, period, **_: listed.append((one.id, period)))
    monkeypatch.setattr(closing, "_report", lambda work, run_id, day, naming: named.append(naming) or {})
    monkeypatch.setattr(planning, "_periods_read", lambda work, entity: {})
    run_id = steps.open_month(work, "m", day.isoformat())["run_id"]
    planning.plan_month_end(work, run_id, day.isoformat())
    closing.close_backlog(work, run_id, day.isoformat())
    assert planned == [entity]
    assert [(one, found.name, found.end) for one, found in listed] == [(entity, period, day)]
    assert named == [{"title": f"Month end {day}", "name": f"close-{day}"}]
