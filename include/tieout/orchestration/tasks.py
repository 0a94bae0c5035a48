"""The steps as Airflow tasks: context in, plain strings to `steps`, references out. No rule of the business is here."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import PokeReturnValue, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from tieout.orchestration import assets
from tieout.orchestration.pools import ERP_POOL
from tieout.settings import Settings

POSTING_DAG = "post_journal"


def _work() -> Any:
    """What the steps work with. They are imported inside the tasks, because a DAG file must load in milliseconds."""
    from tieout.orchestration.connections import airflow_connection
    from tieout.orchestration.work import Work

    return Work.from_env(connect=airflow_connection)


def _unless_report(run: dict[str, str]) -> None:
    """Skip a task that would read or write the outside in a run that only reports a past date."""
    if run.get("kind") == "report":
        raise AirflowSkipException("this run reports from the lake: nothing is extracted, planned or posted")


def _unless_cut_short(run: dict[str, str], reached: Any) -> None:
    """Skip a task that runs whatever became of its neighbours, where the run did not get that far at all."""
    if reached is None and run.get("kind") != "report":
        raise AirflowSkipException("an earlier task failed: there is nothing whole to work on")


def _run_id(context: Any) -> str:
    return f"{context['dag'].dag_id}.{context['dag_run'].run_id}"


@task
def open_night() -> dict[str, str]:
    """Decide the business date and open the run's record."""
    from tieout.orchestration import steps
    from tieout.orchestration.business_date import business_date

    context = get_current_context()
    day = business_date(context["params"], context["dag_run"].data_interval_start)
    # Airflow's own backfill of past dates reports from the lake; only the `backfill` workflow may post
    kind = "report" if context["dag_run"].run_type == "backfill" else "nightly"
    return dict(steps.open_run(_work(), _run_id(context), kind, day.isoformat()))


@task
def open_month() -> dict[str, str]:
    """Decide the fiscal period to close and open the run's record."""
    from tieout.orchestration import steps
    from tieout.orchestration.business_date import period

    context = get_current_context()
    closed = period(context["params"], context["dag_run"].data_interval_end)
    return dict(steps.open_month(_work(), _run_id(context), closed))


@task
def open_catch_up() -> dict[str, str]:
    """Open the run's record for everything visible now."""
    from tieout.orchestration import steps

    return dict(steps.open_run(_work(), _run_id(get_current_context()), "micro_batch", ""))


@task
def extract(run: dict[str, str], source: str) -> dict[str, Any]:
    """Read one source up to the end of the business date and land it, or find that this was done already."""
    from tieout.orchestration import intake

    _unless_report(run)
    return dict(intake.extract(_work(), run["run_id"], source, run["business_date"]))


@task(outlets=[assets.CANONICAL], trigger_rule=TriggerRule.NONE_FAILED)
def conform(run: dict[str, str], landed: list[dict[str, Any]]) -> dict[str, Any]:
    """Make canonical rows of everything landed; what cannot be one is quarantined with its reason."""
    from tieout.orchestration import intake

    return dict(intake.conform(_work(), run["run_id"]))


@task(outlets=[assets.FRESHNESS])
def freshness(run: dict[str, str], conformed: dict[str, Any]) -> dict[str, Any]:
    """Record how far each source has been read."""
    from tieout.orchestration import intake

    return dict(intake.freshness(_work(), run["run_id"]))


@task
def quality_gate(run: dict[str, str]) -> dict[str, Any]:
    """Check every canonical table against its suite; failures are priced in money."""
    from tieout.orchestration import checking

    return dict(checking.quality_gate(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.USAGE])
def aggregate_usage(run: dict[str, str]) -> dict[str, Any]:
    """Deduplicate usage events and sum them per subscription, meter and period."""
    from tieout.orchestration import checking

    return dict(checking.aggregate_usage(_work(), run["run_id"], run["business_date"]))


@task.short_circuit(ignore_downstream_trigger_rules=False)
def hand_over_usage(run: dict[str, str]) -> str | None:
    """Write the request for the cluster; where the events are few enough, sum them up here and skip the cluster."""
    from tieout.orchestration import checking

    return checking.hand_over_usage(_work(), run["run_id"], run["business_date"])


@task(outlets=[assets.USAGE], trigger_rule=TriggerRule.NONE_FAILED)
def publish_usage(run: dict[str, str], request: str | None) -> dict[str, Any]:
    """Publish what the cluster answered; nothing is left to do where usage was summed up here."""
    from tieout.orchestration import checking

    return dict(checking.publish_usage(_work(), run["run_id"], request)) if request else {}


def usage(run: Any) -> tuple[Any, Any]:
    """The first and the last task of the usage step: one task here, or three with spark-submit in the middle.

    `TIEOUT_SPARK_CONNECTION` names the Airflow connection of the cluster; its provider is imported only then.
    """
    connection = Settings.from_env().spark_connection
    if connection is None:
        whole = aggregate_usage(run)
        return whole, whole
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    request = hand_over_usage(run)
    submit_usage = SparkSubmitOperator(
        task_id="submit_usage",
        conn_id=connection,
        name="tieout-usage",
        application=str(Path(__file__).resolve().parents[1] / "usage" / "application.py"),
        application_args=["{{ ti.xcom_pull(task_ids='hand_over_usage') }}"],
    )
    published = publish_usage(run, request)
    request >> submit_usage >> published
    return request, published


@task(outlets=[assets.BREAKS])
def reconcile_sources(run: dict[str, str]) -> dict[str, Any]:
    """Run every reconciliation that needs no ledger."""
    from tieout.orchestration import checking

    _unless_report(run)
    return dict(checking.reconcile_sources(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.BREAKS], trigger_rule=TriggerRule.ALL_DONE)
def reconcile_ledger(
    run: dict[str, str], posting: dict[str, Any] | None, ledger: dict[str, Any] | None
) -> dict[str, Any]:
    """Run the reconciliations against the ledger; what needs a fresh read of it stays unproven without one."""
    from tieout.orchestration import checking

    _unless_report(run)
    _unless_cut_short(run, posting)
    return dict(checking.reconcile_ledger(_work(), run["run_id"], run["business_date"], ledger_read=ledger is not None))


@task(outlets=[assets.JOURNALS])
def plan_journals(run: dict[str, str]) -> dict[str, Any]:
    """Summarise accounting events into journals and check them, one batch per slot."""
    from tieout.orchestration import planning

    _unless_report(run)
    return dict(planning.plan_journals(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.JOURNALS])
def plan_month_end(run: dict[str, str]) -> dict[str, Any]:
    """Plan the period's revenue releases and its accruals with their reversals on day 1."""
    from tieout.orchestration import planning

    return dict(planning.plan_month_end(_work(), run["run_id"], run["business_date"]))


@task(pool=ERP_POOL)
def resume_posting(run: dict[str, str]) -> list[dict[str, Any]]:
    """Which batches are due, to be posted or to be asked about, each as the posting run to start."""
    from tieout.orchestration import posting

    _unless_report(run)
    work = _work()
    return [*posting.resume_posting(work, run["run_id"]), *posting.ask_for_approval(work)]


def start_posting(due: Any) -> Any:
    """Start one posting run per due batch; the store decides what is due, never the existence of a run."""
    return TriggerDagRunOperator.partial(
        task_id="start_posting",
        trigger_dag_id=POSTING_DAG,
        logical_date=None,
        skip_when_already_exists=True,
    ).expand_kwargs(due)


@task.sensor(poke_interval=2, timeout=timedelta(hours=1).total_seconds(), trigger_rule=TriggerRule.NONE_FAILED)
def await_posting(run: dict[str, str], due: list[dict[str, Any]]) -> PokeReturnValue:
    """Wait until every posting run has ended, well or not, or waits for a person.

    Batches the ERP did not take, or nobody approved yet, wait for the next night.
    """
    from tieout.orchestration import posting

    _unless_report(run)
    if not _ended([one["trigger_run_id"] for one in due]) and not _ended(posting.not_waiting(_work(), due)):
        return PokeReturnValue(False)
    return PokeReturnValue(
        True, posting.posting_result(_work(), run["run_id"], [one["conf"]["batch_id"] for one in due])
    )


def _ended(run_ids: list[str]) -> bool:
    return not run_ids or len(run_ids) <= get_current_context()["ti"].get_dr_count(
        dag_id=POSTING_DAG, run_ids=run_ids, states=["success", "failed"]
    )


@task(pool=ERP_POOL, outlets=[assets.LEDGER])
def read_ledger(run: dict[str, str]) -> dict[str, Any]:
    """Copy what a second ledger gets too, then read every ERP's general ledger back into the lake."""
    from tieout.orchestration import intake

    _unless_report(run)
    return dict(intake.read_ledger(_work(), run["run_id"], run["business_date"]))


@task(pool=ERP_POOL, trigger_rule=TriggerRule.ALL_DONE)
def prove(run: dict[str, str], posted: dict[str, Any] | None, ledger: dict[str, Any] | None) -> dict[str, Any]:
    """Opening balance + our journals + foreign entries = trial balance, per entity and account, in each ERP."""
    from tieout.orchestration import posting

    _unless_report(run)
    _unless_cut_short(run, posted)
    return dict(posting.prove(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.REPORT], trigger_rule=TriggerRule.ALL_DONE)
def report(run: dict[str, str], ledger: dict[str, Any] | None, proof: dict[str, Any] | None) -> dict[str, Any]:
    """Write result tables, HTML and workbook of the business date, and close the run's record.

    A run that only reports a past date leaves what that night wrote alone: its report stands beside it.
    """
    from tieout.orchestration import closing
    from tieout.orchestration import recompute as past_date

    _unless_cut_short(run, ledger)
    if run.get("kind") == "report":
        return dict(past_date.recompute(_work(), run["run_id"], run["business_date"]))
    return dict(closing.report(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.BACKLOG], trigger_rule=TriggerRule.ALL_DONE)
def close_backlog(run: dict[str, str], posting: dict[str, Any] | None, proof: dict[str, Any] | None) -> dict[str, Any]:
    """List what stands between the period and its close."""
    from tieout.orchestration import closing

    _unless_cut_short(run, posting)
    return dict(closing.close_backlog(_work(), run["run_id"], run["business_date"]))


@task(pool=ERP_POOL)
def submit(batch_id: str) -> str:
    """Look the batch up in the ERP, then send what is missing; returns the batch's state."""
    from tieout.orchestration import posting

    return str(posting.submit(_work(), batch_id))


@task(pool=ERP_POOL, outlets=[assets.POSTINGS])
def read_back(batch_id: str, submitted: str) -> str:
    """Read the journals back and compare every line; only then the batch is posted."""
    from tieout.orchestration import posting

    return str(posting.read_back(_work(), batch_id))


@task
def backfill_request() -> dict[str, Any]:
    """Check the form, write who asked and why to the audit log, and list the business dates."""
    from tieout.orchestration import past_dates

    context = get_current_context()
    asked_by = context["dag_run"].triggering_user_name or "unknown"
    return dict(past_dates.open_backfill(_work(), _run_id(context), dict(context["params"]), asked_by))


@task
def dry_run(request: dict[str, Any]) -> dict[str, Any]:
    """Per date and entity, which journals would change and by how many lines; nothing is written."""
    from tieout.orchestration import past_dates

    return dict(past_dates.backfill_dry_run(_work(), request))


@task
def business_dates(request: dict[str, Any], preview: dict[str, Any]) -> list[dict[str, str]]:
    """One run record per business date of the request, oldest first."""
    return list(request["runs"])


@task(outlets=[assets.REPORT], max_active_tis_per_dagrun=1)
def recompute(run: dict[str, str]) -> dict[str, Any]:
    """Reconcile and report one past date from the lake, beside its own report; nothing outside is read."""
    from tieout.orchestration import recompute as past_date

    return dict(past_date.recompute(_work(), run["run_id"], run["business_date"]))


@task(outlets=[assets.JOURNALS])
def plan_differences(request: dict[str, Any], recomputed: list[dict[str, Any]]) -> dict[str, str]:
    """In mode `post`, plan the journals of the requested dates: only differences become new versions."""
    from tieout.orchestration import past_dates

    return dict(past_dates.plan_backfill(_work(), request))
