"""
# Backfill

**What.** Computes past business dates again from what the lake holds; neither a vendor nor the ERP is asked. *Report
only* reconciles the chosen entities and reports, in a folder of its own, `<date> as known on <now>`, with the reason
and who asked; the date's own report and breaks stay as they were. *Post* also plans the journals: only the difference
to what is posted becomes a new version of its slot, and only once somebody else than who asked approved it.

**When.** By hand: *Trigger*, fill in the form. The dry run comes first: its log, and the form of `approval`, show what
exists, what would be added and the net effect per account. The same without Airflow: `tieout backfill --dry-run`.

**When it is red.** `backfill_request` names the field of the form that cannot be used. `approval`: nobody decided in
time, nothing is posted. `plan_differences`: what would be posted is no longer what was approved; trigger it again.
Everything else can be cleared and run again.

**Owner.** finance-data. Who asked and why is in the audit log.
"""

from airflow.sdk import Param, dag

from tieout.orchestration import tasks
from tieout.orchestration.catalog import entity_ids
from tieout.orchestration.defaults import DEFAULT_ARGS, START, TAGS
from tieout.orchestration.human import BackfillApproval


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=[*TAGS, "backfill"],
    params={
        "from_date": Param("2026-01-01", type="string", format="date", title="First business date"),
        "to_date": Param("2026-01-01", type="string", format="date", title="Last business date"),
        "entities": Param(
            list(entity_ids()),
            type="array",
            items={"type": "string", "enum": list(entity_ids())},
            examples=list(entity_ids()),
            title="Legal entities",
        ),
        "mode": Param(
            "report_only",
            enum=["report_only", "post"],
            values_display={"report_only": "Report only", "post": "Post differences"},
            title="Mode",
        ),
        "reason": Param("", type="string", minLength=10, title="Reason, for the audit log"),
    },
)
def backfill():
    request = tasks.backfill_request()
    preview = tasks.dry_run(request)
    recomputed = tasks.recompute.expand(run=tasks.business_dates(request, preview))

    approved = BackfillApproval(task_id="approval")
    preview >> approved
    planned = tasks.plan_differences(request, recomputed)
    approved >> planned
    due = tasks.resume_posting(planned)
    started = tasks.start_posting(due)
    started >> tasks.await_posting(planned, due)


backfill()
