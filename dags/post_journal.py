"""
# Post journal

**What.** Brings one batch of journals into the ERP: one run per slot, version and attempt,
`post__<slot>__v<version>__a<attempt>`. It looks the batch up in the ERP before it sends anything, writes down what
it is about to send, reads every line back, and only then calls it posted. A batch over its entity's threshold first
waits in `approval` for a second person, who sees lines, source rows, the period before and who prepared it.

**When.** Started by the other workflows for each batch the store says is due. By hand: *Trigger* with a batch id; a
batch that is posted already stays as it is.

**When it is red.**
* `approval`: nobody decided in time; the batch was escalated and is asked about again by the next night. Nothing is
  ever approved by waiting. Blue and *awaiting input*: not red, somebody named there has to decide. Skipped: rejected.
* `submit`: *Rejected* names the ERP's reason (closed period, missing account): fix it, the next night posts a new
  version. *Unavailable* or *unknown outcome*: nothing to do, the next attempt looks the journal up first.
* `read_back`: what the ERP holds differs from what was sent. The stream halts; a controller decides.

**Owner.** finance-data. Marking a task successful posts nothing: the store's state counts.
"""

from airflow.sdk import Param, dag

from tieout.orchestration import tasks
from tieout.orchestration.defaults import DEFAULT_ARGS, START, TAGS
from tieout.orchestration.human import BatchApproval


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=4,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=[*TAGS, "posting"],
    params={"batch_id": Param("", type="string", title="Batch")},
)
def post_journal():
    batch = BatchApproval(task_id="approval").output
    submitted = tasks.submit(batch)
    tasks.read_back(batch, submitted)


post_journal()
