"""Usage on many machines: a cluster of real processes gives what the engine on one machine gives, row for row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tieout.lake.engine import engine
from tieout.usage import Usage, aggregate
from tieout.usage.handed import Request
from tieout_sandbox import spark
from tieout_sandbox.bench.every_rule import METERS, generate
from tieout_sandbox.bench.many_machines import content

ROOT = Path(__file__).parents[3]
ROWS = 20_000


def submit(cluster: spark.Cluster, request: Request, home: Path) -> Usage:
    """Have the nightly DAG's task `submit_usage` hand the request to the cluster, as Airflow's provider does it."""
    environment = {
        **cluster.environment,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW_CONN_SPARK_TEST": json.dumps({"conn_type": "spark", "host": cluster.master}),
        "TIEOUT_CONFIG": str(ROOT / "include" / "tieout_sandbox" / "config"),
        "TIEOUT_ENGINE": "spark",
        "TIEOUT_SPARK_CONNECTION": "spark_test",
    }
    command = [sys.executable, Path(__file__).with_name("submit.py"), request.write()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return request.answered()


@pytest.mark.server
@pytest.mark.timeout(1500)  # the first time PySpark is installed
def test_a_cluster_sums_events_up_as_one_machine_does(tmp_path, spark_cluster):
    with engine() as session:
        given = generate(session, tmp_path / "events", ROWS)
        here = aggregate(**given, session=session)
    files = {name: [paths] if isinstance(paths, str) else paths for name, paths in given.items()
             if name not in ("entities", "meters")}  # fmt: skip
    request = Request(**files, entities=given["entities"], meters=METERS, snapshot={}, folder=str(tmp_path / "handed"))
    assert content(submit(spark_cluster, request, tmp_path)) == content(here)

    # nothing of the comparison is empty: every aggregation, corrections, conflicts, late events, every fault
    assert set(here.rows["aggregation"].to_pylist()) == {meter.aggregation for meter in METERS.meters.values()}
    assert set(here.quarantined["reason_code"].to_pylist()) == {
        "unknown_subscription", "unknown_meter", "unknown_unit", "negative", "future", "missing"
    }  # fmt: skip
    assert min(here.repeated, here.changed, here.conflicts.num_rows) > 30
    assert any(here.rows["late_count"].to_pylist())
    assert not os.listdir(tmp_path / "handed" / "work")
    assert len(list(spark_cluster.folder.glob("work-*/app-*"))) == spark_cluster.workers
