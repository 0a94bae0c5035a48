"""
# Nightly reconciliation

**What.** One run per business date for all legal entities: reads every source up to the end of that date, checks
the data, reconciles billing, CRM, support and usage, plans the summarised journals, has them posted and read back,
reads the general ledger, reconciles against it, proves the trial balance and writes the report.

**When.** Once the date is over in the zone of every entity, plus the lag in `entities.yaml`. By hand: *Trigger*,
with the business date. Running a date again changes nothing that is already right: extracts that are complete are
skipped, journals that are posted are not posted again. A *Backfill* of this workflow reports past dates from the
lake and neither reads a vendor nor posts; the workflow `backfill` may post.

**When it is red.**
* `extract…`: the log names source, window and request. Clear the task once the vendor answers; nothing is lost.
* `conform`: a file of the lake could not be read or written; clear it. Bad records never fail it, they are
  quarantined.
* `quality_gate`: the gate's report names suite, rows and the money behind them. Fix the mapping or the source,
  clear.
* `submit_usage` (only with a Spark cluster): the log is spark-submit's. Clear it; nothing was published yet.
* `start_posting`, `await_posting`: look at the runs of `post_journal`. The ERP being down fails nothing else:
  batches wait for the next night, or for a clear of `resume_posting`.
* `read_ledger`, `prove`: an ERP could not be read. The others are read and proved, the report is written all the same
  and says what is unproven.

**Owner.** finance-data. Never mark `prove` successful by hand: the report reads its result, not its colour.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, TriggerRule, dag

from tieout.orchestration import tasks
from tieout.orchestration.catalog import vendor_sources
from tieout.orchestration.defaults import DEFAULT_ARGS, START, TAGS, scheduled
from tieout.orchestration.pools import source_pool
from tieout_timetables import BusinessDateTimetable


@dag(
    schedule=scheduled(BusinessDateTimetable()),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=[*TAGS, "nightly"],
    params={
        "business_date": Param(
            None, type=["null", "string"], format="date", title="Business date (blank: the run's own)"
        ),
    },
)
def nightly_reconciliation():
    night = tasks.open_night()

    landed = [
        tasks.extract.override(task_id=f"extract_{source}", pool=source_pool(source))(night, source)
        for source in vendor_sources()
    ]
    conformed = tasks.conform(night, landed)
    gate = tasks.quality_gate(night)
    usage, summed_up = tasks.usage(night)
    sources_reconciled = tasks.reconcile_sources(night)
    planned = tasks.plan_journals(night)

    due = tasks.resume_posting(night)
    started = tasks.start_posting(due)
    posting = tasks.await_posting(night, due)

    ledger = tasks.read_ledger(night)
    ledger_reconciled = tasks.reconcile_ledger(night, posting, ledger)
    proof = tasks.prove(night, posting, ledger)
    report = tasks.report(night, ledger_reconciled, proof)

    conformed >> gate >> usage
    summed_up >> [sources_reconciled, planned]
    [sources_reconciled, planned] >> due
    started >> posting >> ledger
    [ledger, report, proof] >> EmptyOperator(task_id="complete", trigger_rule=TriggerRule.NONE_FAILED)


nightly_reconciliation()
