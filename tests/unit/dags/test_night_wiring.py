"""What still runs when something fails: the ERP down costs only its proof, a source down costs the night, never a
half-true report."""

import os

import pytest

from tieout.errors import ErpUnavailable, Unavailable

DAY = "2026-03-29"
STEPS = {
    "steps": {"open_run": lambda work, run_id, kind, day: {"run_id": run_id, "business_date": day, "kind": kind}},
    "intake": {"extract": {}, "conform": {}, "read_ledger": {}},
    "checking": {"quality_gate": {}, "aggregate_usage": {}, "reconcile_sources": {}, "reconcile_ledger": {}},
    "planning": {"plan_journals": {}},
    "posting": {"resume_posting": [], "posting_result": {}, "prove": {}},
    "closing": {"report": {}},
}


@pytest.fixture(scope="module")
def dag():
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils import db

    db.initdb()
    root = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    return DagBag(dag_folder=root, bundle_path=root, bundle_name="dags-folder").dags["nightly_reconciliation"]


@pytest.fixture
def called(monkeypatch):
    """Every step replaced by a note of its name; returns the notes."""
    import importlib

    from tieout.orchestration import work

    notes: list[str] = []

    def stand_in(name, answer):
        def noted(*args, **kwargs):
            notes.append(name)
            return answer(*args, **kwargs) if callable(answer) else answer

        return noted

    monkeypatch.setattr(work.Work, "from_env", classmethod(lambda cls, connect=None: None))
    for module, functions in STEPS.items():
        loaded = importlib.import_module(f"tieout.orchestration.{module}")
        for name, answer in functions.items():
            monkeypatch.setattr(loaded, name, stand_in(name, answer))
    return notes


def run(dag):
    finished = dag.test(run_conf={"business_date": DAY})
    return finished.state, {ti.task_id: ti.state for ti in finished.get_task_instances()}


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_an_undisturbed_night_does_everything(dag, called):
    state, tasks = run(dag)
    assert state == "success"
    assert {"read_ledger", "reconcile_ledger", "prove", "report"} <= set(called)
    assert tasks["complete"] == "success"


def test_with_the_erp_down_all_but_its_proof_completes(dag, called, monkeypatch):
    from tieout.orchestration import intake

    monkeypatch.setattr(intake, "read_ledger", failing(ErpUnavailable("connection refused")))
    state, tasks = run(dag)
    assert state == "failed"
    assert {"reconcile_sources", "plan_journals", "reconcile_ledger", "report"} <= set(called)
    assert tasks["report"] == "success"
    assert tasks["prove"] == tasks["complete"] == "upstream_failed"


def test_with_a_source_down_nothing_is_reconciled_or_reported(dag, called, monkeypatch):
    from tieout.orchestration import intake

    monkeypatch.setattr(
        intake, "extract", failing(Unavailable("no answer", source="stripe_us", window="w", request="GET"))
    )
    state, _ = run(dag)
    assert state == "failed"
    assert called == ["open_run"]


def test_a_run_that_only_reports_reads_and_posts_nothing(dag, called, monkeypatch):
    from tieout.orchestration import steps

    report_only = lambda work, run_id, kind, day: {"run_id": run_id, "business_date": day, "kind": "report"}  # noqa: E731
    monkeypatch.setattr(steps, "open_run", report_only)
    state, _ = run(dag)
    assert state == "success"
    assert not {"extract", "plan_journals", "resume_posting", "read_ledger", "prove"} & set(called)
    assert {"reconcile_sources", "reconcile_ledger", "report"} <= set(called)
