"""The bodies of whole runs without Airflow: opening a run's record, a night, a month end, step by step."""

from __future__ import annotations

from datetime import date, timedelta

from tieout.orchestration import calendars, checking, closing, intake, planning, posting
from tieout.orchestration.catalog import LEDGER_KIND
from tieout.orchestration.facts import Facts
from tieout.orchestration.provenance import made_with
from tieout.orchestration.work import Work

AS_WAS = "Run again after later dates or the month end: the reconciliations read the tables as they were that night."
AS_KNOWN_NOW = "Computed again after later dates: this shows what is known now, not what was known that night."


def open_run(work: Work, run_id: str, kind: str, business_date: str) -> dict[str, str]:
    """Record that a run starts; an empty business date means everything visible now.

    `kind`: nightly, micro_batch, or report for a run that computes a past date again from the lake. A night that is
    run again after later dates, or after its month end, reconciles the tables as they were, so that it finds what it
    found: billing and CRM show only today's state of a record, and with it a past date would be full of differences
    that were none.
    """
    day = date.fromisoformat(business_date) if business_date else None
    work.store.start_run(run_id, kind, day)
    work.store.add_facts(run_id, {"made_with": made_with(work.settings)})
    if day is not None and _later_work_is_done(work, day):
        first = night_of(work, run_id, day) if kind == "nightly" else None
        if first is None:
            work.unproven(run_id, AS_KNOWN_NOW)
            work.store.add_facts(run_id, {"as_known_now": True})
        else:
            work.store.add_facts(run_id, {"as_was": first, "note": AS_WAS})
    return {"run_id": run_id, "business_date": business_date, "kind": kind}


def night_of(work: Work, run_id: str, day: date) -> str | None:
    """The last run of a date that saw it before later dates were done; None if there was none that ended."""
    nights = [
        run
        for run in work.store.runs("nightly", day)
        if run.run_id != run_id and run.finished_at and not {"as_was", "as_known_now"} & set(run.facts)
    ]
    return nights[-1].run_id if nights else None


def _later_work_is_done(work: Work, day: date) -> bool:
    """Whether a night of a later date has ended, or a month end, which posts at the month's last date."""
    first_later = {"nightly": day + timedelta(days=1), "month_end": day}
    return any(
        run.business_date and run.business_date >= first and run.finished_at
        for kind, first in first_later.items()
        for run in work.store.runs(kind)
    )


def open_month(work: Work, run_id: str, period: str) -> dict[str, str]:
    """Record that a fiscal period's end starts, named `YYYY-MM` or by its last day, which is the run's business date.

    Raises ConfigError where no entity's period ends so, or where the name means other dates from one to the next.
    """
    last = calendars.last_day_of(period, work.entities)
    work.store.start_run(run_id, "month_end", last)
    name = calendars.name_of_period_end(last, work.entities)
    work.store.add_facts(run_id, {"period": name, "made_with": made_with(work.settings)})
    return {"run_id": run_id, "business_date": last.isoformat()}


def night(work: Work, run_id: str, business_date: str) -> Facts:
    """Everything a night does, in its order, in this process; the run's facts."""
    open_run(work, run_id, "nightly", business_date)
    for source in work.sources.values():
        if source.kind != LEDGER_KIND:
            intake.extract(work, run_id, source.name, business_date)
    intake.conform(work, run_id)
    checking.quality_gate(work, run_id, business_date)
    checking.aggregate_usage(work, run_id, business_date)
    checking.reconcile_sources(work, run_id, business_date)
    planning.plan_journals(work, run_id, business_date)
    _post(work, run_id)
    intake.read_ledger(work, run_id, business_date)
    checking.reconcile_ledger(work, run_id, business_date, ledger_read=True)
    posting.prove(work, run_id, business_date)
    closing.report(work, run_id, business_date)
    return work.store.facts(run_id)


def month_end(work: Work, run_id: str, period: str) -> Facts:
    """Everything a month end does, in its order, in this process; the run's facts."""
    business_date = open_month(work, run_id, period)["business_date"]
    planning.plan_month_end(work, run_id, business_date)
    _post(work, run_id)
    intake.read_ledger(work, run_id, business_date)
    posting.prove(work, run_id, business_date)
    closing.close_backlog(work, run_id, business_date)
    return work.store.facts(run_id)


def _post(work: Work, run_id: str) -> None:
    due = [run["conf"]["batch_id"] for run in posting.resume_posting(work, run_id)]
    for batch_id in due:
        posting.submit(work, posting.check_approval(work, batch_id))
        posting.read_back(work, batch_id)
    posting.posting_result(work, run_id, due)
