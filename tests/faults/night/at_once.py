"""One run among several at once: `at_once.py night RUN_ID DATE` or `at_once.py backfill RUN_ID FROM TO`.

Each step is tried again after an error that says so, as Airflow tries a task again; nothing else keeps the runs apart.
"""

import sys
import time
from contextlib import suppress

from tieout.errors import IncompleteExtract, LedgerError, TieoutError
from tieout.orchestration import checking, closing, intake, past_dates, planning, posting, recompute, steps
from tieout.orchestration.work import Work

TRIES = 300


def tried(step, *args, **kwargs):
    """A step's result, however often another process was in its way."""
    for attempt in range(TRIES):
        try:
            return step(*args, **kwargs)
        except TieoutError as error:
            # another run posts while the ledger is read: the extract was not kept, and is read again
            if not (error.retryable or isinstance(error, IncompleteExtract)) or attempt == TRIES - 1:
                raise
            print(f"again: {step.__name__}: {type(error).__name__}", file=sys.stderr)
            time.sleep(1)
    raise AssertionError("unreachable")


def post(work: Work, run_id: str) -> None:
    due = [run["conf"]["batch_id"] for run in tried(posting.resume_posting, work, run_id)]
    for batch_id in due:
        tried(posting.submit, work, batch_id)
        tried(posting.read_back, work, batch_id)
    tried(posting.posting_result, work, run_id, due)


def night(work: Work, run_id: str, day: str) -> None:
    steps.open_run(work, run_id, "nightly", day)
    for source in work.sources.values():
        if source.kind != "erp":
            tried(intake.extract, work, run_id, source.name, day)
    tried(intake.conform, work, run_id)
    tried(checking.quality_gate, work, run_id, day)
    tried(checking.aggregate_usage, work, run_id, day)
    tried(checking.reconcile_sources, work, run_id, day)
    tried(planning.plan_journals, work, run_id, day)
    post(work, run_id)
    tried(intake.read_ledger, work, run_id, day)
    tried(checking.reconcile_ledger, work, run_id, day, ledger_read=True)
    tried(posting.prove, work, run_id, day)
    tried(closing.report, work, run_id, day)


def backfill(work: Work, run_id: str, first: str, last: str) -> None:
    form = {
        "from_date": first, "to_date": last, "entities": [e.id for e in work.entities.entities], "mode": "post",
        "reason": "several runs at once",
    }  # fmt: skip
    request = tried(past_dates.open_backfill, work, run_id, form, "anna")
    tried(past_dates.backfill_dry_run, work, request)
    for run in request["runs"]:
        tried(recompute.recompute, work, run["run_id"], run["business_date"])
    with suppress(LedgerError):  # a night planned it meanwhile, or otherwise: what was approved is not posted twice
        tried(past_dates.decide, work, run_id, who="ben", accept=True, comment="")
        tried(past_dates.plan_backfill, work, request)
    post(work, run_id)


if __name__ == "__main__":
    {"night": night, "backfill": backfill}[sys.argv[1]](Work.from_env(), *sys.argv[2:])
