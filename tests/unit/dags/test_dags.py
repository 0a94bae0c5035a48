"""Every workflow is listed, loads without error, survives Airflow's own storage, and carries what operators rely on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = {
    "backfill.py": ["backfill"],
    "micro_batch.py": ["micro_batch"],
    "month_end.py": ["month_end"],
    "nightly_reconciliation.py": ["nightly_reconciliation"],
    "post_journal.py": ["post_journal"],
}
HEAVY = (
    "duckdb",
    "pandas",
    "pyarrow",
    "deltalake",
    "great_expectations",
    "xlsxwriter",
    "simple_salesforce",
    "tieout_sandbox",
)

# What a component does: plugins as top-level modules, then every DAG file; airflow's own imports apart.
LOAD_ALL = """
import importlib.util, json, sys, time
sys.path.insert(0, sys.argv[1] + "/plugins")
import airflow.sdk, airflow.timetables.base, airflow.plugins_manager
import airflow.providers.standard.operators.trigger_dagrun, airflow.providers.standard.operators.empty
before, start = set(sys.modules), time.process_time()
from pathlib import Path
for path in sorted(Path(sys.argv[1], "plugins").glob("*.py")) + sorted(Path(sys.argv[1], "dags").glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
print(json.dumps({"seconds": time.process_time() - start, "new": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture(scope="module")
def dagbag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="dags-folder")


@pytest.fixture(scope="module")
def loaded():
    found = subprocess.run([sys.executable, "-c", LOAD_ALL, str(ROOT)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_no_dag_file_has_an_import_error(dagbag):
    assert dagbag.import_errors == {}


def test_every_dag_file_is_listed_with_its_dags(dagbag):
    found: dict[str, list[str]] = {}
    for dag in dagbag.dags.values():
        found.setdefault(Path(dag.fileloc).name, []).append(dag.dag_id)
    assert {name: sorted(ids) for name, ids in found.items()} == WORKFLOWS
    assert {p.name for p in (ROOT / "dags").glob("*.py")} == set(WORKFLOWS)


def test_every_dag_can_be_stored_and_read_back(dagbag):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        stored = DagSerialization.serialize_dag(dag)
        assert DagSerialization.deserialize_dag(json.loads(json.dumps(stored))).dag_id == dag.dag_id


def test_every_dag_says_how_to_run_it_and_who_owns_it(dagbag):
    for dag in dagbag.dags.values():
        for heading in ("**What.**", "**When.**", "**When it is red.**", "**Owner.**"):
            assert heading in dag.doc_md, dag.dag_id
        assert "tieout" in dag.tags
        assert not dag.catchup
        for one in dag.tasks:
            assert one.owner == "finance-data"
            assert one.retries >= 2


def test_every_task_uses_a_pool_that_is_created(dagbag):
    from tieout.orchestration.pools import pools

    known = {*pools(), "default_pool"}
    used = {one.pool for dag in dagbag.dags.values() for one in dag.tasks}
    assert used <= known
    assert all(pool["slots"] == 1 for pool in pools().values())


def test_extracts_of_one_source_share_a_pool_of_their_own(dagbag):
    extracts = [t for d in dagbag.dags.values() for t in d.tasks if t.task_id.startswith("extract_")]
    assert extracts
    for one in extracts:
        assert one.pool == f"source_{one.task_id.removeprefix('extract_')}"


def test_whatever_touches_the_erp_waits_for_its_pool(dagbag):
    tasks = {t.task_id: t for d in dagbag.dags.values() for t in d.tasks}
    assert {tasks[name].pool for name in ("submit", "read_back", "read_ledger", "prove")} == {"erp"}


def test_the_graph_of_the_night_reads_like_the_night(dagbag):
    night = dagbag.dags["nightly_reconciliation"]
    order = [t.task_id for t in night.topological_sort() if not t.task_id.startswith("extract_")]
    expected = [
        "open_night",
        "conform",
        "quality_gate",
        "aggregate_usage",
        "plan_journals",
        "resume_posting",
        "start_posting",
        "await_posting",
        "read_ledger",
        "prove",
        "report",
        "complete",
    ]
    assert [t for t in order if t in expected] == expected


def test_loading_all_files_imports_nothing_heavy(loaded):
    assert [m for m in loaded["new"] if m.split(".")[0] in HEAVY] == []


def test_loading_all_files_takes_well_under_a_second(loaded):
    assert loaded["seconds"] < 0.8
