"""What still runs when something fails: the ERP down costs only its proof, a source down costs the night, never a
half-true report."""

import os
import sys
from pathlib import Path

import pytest

from tieout.errors import ErpUnavailable, Unavailable

sys.path.insert(0, str(Path(__file__).parent))
from wiring_stubs import DAY, install


@pytest.fixture(scope="module")
def dags():
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils import db

    db.initdb()
    root = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    return DagBag(dag_folder=root, bundle_path=root, bundle_name="dags-folder").dags


@pytest.fixture
def dag(dags):
    return dags["nightly_reconciliation"]


@pytest.fixture
def called(monkeypatch):
    """Names of the steps called, each replaced by a note of its name."""
    return install(monkeypatch)


def run(dag, **conf):
    finished = dag.test(run_conf=conf or {"business_date": DAY})
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
    from tieout.orchestration import intake, posting

    for module, step in ((intake, "read_ledger"), (posting, "prove")):
        monkeypatch.setattr(module, step, failing(ErpUnavailable("connection refused")))
    state, tasks = run(dag)
    assert state == "failed"
    assert {"reconcile_sources", "plan_journals", "reconcile_ledger", "report"} <= set(called)
    assert tasks["report"] == "success"
    assert (tasks["prove"], tasks["complete"]) == ("failed", "upstream_failed")


def test_one_erp_that_cannot_be_read_does_not_keep_the_others_from_being_proved(dag, called, monkeypatch):
    from tieout.orchestration import intake

    monkeypatch.setattr(intake, "read_ledger", failing(ErpUnavailable("connection refused")))
    state, tasks = run(dag)
    assert "prove" in called
    assert (tasks["prove"], tasks["report"]) == ("success", "success")
    assert (state, tasks["complete"]) == ("failed", "upstream_failed")


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
    assert "recompute" in called
    assert not {"reconcile_sources", "reconcile_ledger", "report"} & set(called)  # they would replace that night's


def test_a_month_end_plans_posts_proves_and_lists_the_backlog(dags, called):
    state, _ = run(dags["month_end"], period="2026-03")
    assert state == "success"
    assert called == [
        "open_month", "plan_month_end", "resume_posting", "ask_for_approval", "posting_result", "read_ledger", "prove",
        "close_backlog",
    ]  # fmt: skip


def test_a_micro_batch_reads_stripe_and_zendesk_only(dags, called):
    state, tasks = run(dags["micro_batch"], none=True)
    assert state == "success"
    extracts = sorted(task for task in tasks if task.startswith("extract_"))
    assert extracts == ["extract_stripe_de", "extract_stripe_jp", "extract_stripe_us", "extract_zendesk"]
    assert called[-2:] == ["conform", "freshness"]


def test_a_backfill_shows_before_it_computes_and_plans_last(dags, called):
    form = {
        "from_date": DAY,
        "to_date": "2026-03-30",
        "entities": ["US"],
        "mode": "post",
        "reason": "a missing mapping",
    }
    state, _ = run(dags["backfill"], **form)
    assert state == "success"
    assert called == [
        "open_backfill", "backfill_dry_run", "question", "decision", "recompute", "recompute",
        "plan_backfill", "resume_posting", "ask_for_approval", "posting_result",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"mode": "delete"}, {"reason": "short"}, {"entities": ["XX"]}], ids=["mode", "reason", "entity"]
)
def test_the_backfill_form_refuses_what_it_does_not_offer(dags, wrong):
    from airflow.sdk.exceptions import ParamValidationError

    ((name, value),) = wrong.items()
    with pytest.raises(ParamValidationError):
        dags["backfill"].params.get_param(name).resolve(value)
