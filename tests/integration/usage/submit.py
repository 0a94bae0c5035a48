"""What Airflow does when it comes to the task `submit_usage` of the nightly DAG, with this program's argument."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "plugins"))

from airflow.dag_processing.dagbag import DagBag  # noqa: E402  the timetable of the plugins folder is needed first

bag = DagBag(dag_folder=str(ROOT / "dags" / "nightly_reconciliation.py"), bundle_path=ROOT / "dags", bundle_name="dags")
task = bag.dags["nightly_reconciliation"].get_task("submit_usage")
assert task.upstream_task_ids == {"hand_over_usage"}
assert task.downstream_task_ids == {"publish_usage"}
task.application_args = sys.argv[1:]
task._get_hook().submit(task.application)
