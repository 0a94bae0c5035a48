"""
# Month end

**What.** Plans the revenue releases and the accruals (each with a reversal on day 1 of the next period) of the entities
whose fiscal period ends on the run's last day, has them posted and read back, proves the trial balance at that day and
lists what stands between the period and its close. What came for earlier periods after their end is released now, as a
new version, or as a late entry where the period is closed.

**When.** On the first business day after each end of a fiscal period, 06:00 in every entity that closes one; entities
whose calendars differ have runs of their own. By hand: *Trigger*, with the period or, where its name means other dates
from one entity to the next, its last day. It reads the lake as the nights left it: run the period's last night first.

**When it is red.** As for the nightly run. The close backlog is written even if the ERP is down; it then says so.

**Owner.** finance-data.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, TriggerRule, dag

from tieout.orchestration import tasks
from tieout.orchestration.defaults import DEFAULT_ARGS, START, TAGS, scheduled
from tieout_timetables import MonthEndTimetable


@dag(
    schedule=scheduled(MonthEndTimetable(business_day=1, hour=6)),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=[*TAGS, "close"],
    params={
        "period": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}(-\d{2})?$",
            title="Period, YYYY-MM, or its last day, YYYY-MM-DD (blank: the run's own)",
        ),
    },
)
def month_end():
    month = tasks.open_month()
    planned = tasks.plan_month_end(month)

    due = tasks.resume_posting(month)
    started = tasks.start_posting(due)
    posting = tasks.await_posting(month, due)

    ledger = tasks.read_ledger(month)
    proof = tasks.prove(month, posting, ledger)
    backlog = tasks.close_backlog(month, posting, proof)

    planned >> due
    started >> posting >> ledger
    [ledger, backlog, proof] >> EmptyOperator(task_id="complete", trigger_rule=TriggerRule.NONE_FAILED)


month_end()
