"""
# Micro-batch

**What.** Every 15 minutes: changes in Stripe and Zendesk to the lake, and how fresh each source is.

**When.** Every quarter of an hour. It shares watermarks with the nightly run: whichever comes first reads, the
other finds nothing left to do.

**When it is red.** The log names source, window and request. The next run starts where this one stopped; no clear
is needed.

**Owner.** finance-data.
"""

from airflow.sdk import CronDataIntervalTimetable, dag

from tieout.orchestration import tasks
from tieout.orchestration.catalog import vendor_sources
from tieout.orchestration.defaults import DEFAULT_ARGS, START, TAGS, scheduled
from tieout.orchestration.pools import source_pool


@dag(
    schedule=scheduled(CronDataIntervalTimetable("*/15 * * * *", timezone="UTC")),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    tags=[*TAGS, "micro-batch"],
)
def micro_batch():
    now = tasks.open_catch_up()
    landed = [
        tasks.extract.override(task_id=f"extract_{source}", pool=source_pool(source))(now, source)
        for source in vendor_sources("stripe", "zendesk")
    ]
    tasks.freshness(now, tasks.conform(now, landed))


micro_batch()
