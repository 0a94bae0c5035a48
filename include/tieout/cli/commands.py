"""The commands of `tieout`; heavy modules are imported inside each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from tieout.cli import breaks, golive, ledgers, periods, posting, reconcile, reversals, sandbox
from tieout.errors import ConfigError
from tieout.settings import Settings

if TYPE_CHECKING:
    from tieout.store import Store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold credentials
    help="Proves that billing, CRM, support, usage and ERP agree.",
)
store_app = typer.Typer(no_args_is_help=True, help="The store: what Tieout remembers.")
config_app = typer.Typer(no_args_is_help=True, help="The configuration finance and integration engineers edit.")
audit_app = typer.Typer(no_args_is_help=True, help="The tamper-evident audit log.")
app.add_typer(store_app, name="store")
app.add_typer(config_app, name="config")
app.add_typer(audit_app, name="audit")
app.add_typer(breaks.app, name="breaks")
app.add_typer(golive.app, name="golive")
app.add_typer(ledgers.app, name="ledger")
app.add_typer(periods.app, name="period")
app.add_typer(periods.late_app, name="late")
app.add_typer(posting.app, name="posting")
app.add_typer(reconcile.app, name="reconcile")
app.add_typer(reversals.app, name="reversal")
app.add_typer(sandbox.app, name="sandbox")


@store_app.command("upgrade")
def store_upgrade() -> None:
    """Create the store's tables, or bring them up to this version."""
    from tieout.store import Store

    Store(Settings.from_env().store).upgrade()
    typer.echo("the store is up to date")


@store_app.command("roles")
def store_roles(
    application: Annotated[str, typer.Option(help="the role that workers log in with")] = "tieout_app",
) -> None:
    """Print the SQL that gives the application its rights on PostgreSQL; the owner runs it after each upgrade."""
    from tieout.store.roles import statements

    for statement in statements(application):
        typer.echo(f"{statement};")


@config_app.command("check")
def config_check() -> None:
    """Check every configuration file; the exit code is 1 if one cannot be used."""
    from tieout.orchestration.checks import check_configuration, missing_connections

    settings = Settings.from_env()
    problems = check_configuration(settings)
    for problem in problems:
        typer.echo(f"{problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{settings.config} can be used")
    if missing := missing_connections(settings, os.environ):
        typer.echo(f"not checked, because only Airflow may know them: connections {', '.join(missing)}")


@config_app.command("status")
def config_status(
    diff: Annotated[bool, typer.Option("--diff", help="line by line what differs from what is in force")] = False,
) -> None:
    """Say which version is in force, what waits for a second person, and what the folder has beyond both."""
    from tieout.ids import sha256_hex
    from tieout.orchestration import configuration as versions
    from tieout.store import configuration

    settings, store = _settings_and_store()
    if settings.config_approval == "off":
        typer.echo("TIEOUT_CONFIG_APPROVAL=off: every run uses the folder as it is")
    with store.reading() as session:
        live, waiting = configuration.in_force(session), configuration.pending(session)
    if live is None:
        typer.echo(f"nothing is in force yet: the first start takes {settings.config}")
        return
    by = (
        "bootstrapped"
        if live.decided_by == live.proposed_by
        else f"by {live.proposed_by}, approved by {live.decided_by}"
    )
    typer.echo(f"in force   version {live.number}, {live.digest[:12]}, {by}, {live.decided_at:%Y-%m-%d %H:%M} UTC")
    if waiting is not None:
        typer.echo(
            f"proposed   version {waiting.number}, {waiting.digest[:12]}, by {waiting.proposed_by}: {waiting.reason}"
        )
        _tell_changes(waiting.changes)
        if diff:
            typer.echo(versions.difference(store, live.files, versions.files_of(store, waiting)))
    folder = versions.draft(settings)
    hashes = {name: sha256_hex(text) for name, text in folder.items()}
    pending_files = waiting.files if waiting is not None else live.files
    more = configuration.changes_between(pending_files, hashes)
    if not more:
        typer.echo(f"{settings.config} has nothing beyond that")
        return
    typer.echo(f"{settings.config} differs, not proposed yet:")
    _tell_changes(more)
    if diff:
        typer.echo(versions.difference(store, pending_files, folder))


@config_app.command("propose")
def config_propose(
    who: Annotated[str, typer.Option("--as", help="who changed it; stated, not authenticated")],
    reason: Annotated[str, typer.Option(help="why, for the audit log")],
) -> None:
    """Propose the folder as it is; it goes live once somebody else approves it."""
    from tieout.orchestration import configuration as versions

    made = versions.propose(*_settings_and_store(), who=who, reason=reason)
    typer.echo(f"version {made.number} waits for somebody other than {made.proposed_by}:")
    _tell_changes(made.changes)
    typer.echo(f"`tieout config approve {made.number} --as <person>`; until then every run uses what is in force")


@config_app.command("approve")
def config_approve(
    number: Annotated[int, typer.Argument(help="the proposal's number, as `status` prints it")],
    who: Annotated[str, typer.Option("--as", help="who approves; stated, not authenticated")],
    comment: Annotated[str, typer.Option()] = "",
) -> None:
    """Let a proposal go live: everything that starts from now on uses it."""
    from tieout.orchestration import configuration as versions

    live = versions.decide(*_settings_and_store(), number, who=who, accept=True, comment=comment)
    typer.echo(f"version {live.number} is in force")


@config_app.command("reject")
def config_reject(
    number: Annotated[int, typer.Argument(help="the proposal's number")],
    who: Annotated[str, typer.Option("--as", help="who rejects; stated, not authenticated")],
    reason: Annotated[str, typer.Option(help="why, for the audit log")],
) -> None:
    """Reject a proposal; what is in force stays."""
    from tieout.orchestration import configuration as versions

    versions.decide(*_settings_and_store(), number, who=who, accept=False, comment=reason)
    typer.echo(f"version {number} is rejected")


def _settings_and_store() -> tuple[Settings, Store]:
    from tieout.store import Store

    settings = Settings.from_env()
    store = Store(settings.store)
    if not store.ready():
        raise ConfigError("the store has no tables yet", remedy="run `tieout store upgrade`")
    return settings, store


def _tell_changes(changes: Mapping[str, str]) -> None:
    for name, change in changes.items():
        typer.echo(f"  {change:<8} {name}")


@audit_app.command("verify")
def audit_verify(
    erp: Annotated[bool, typer.Option("--erp", help="read the journals from the ERPs now, not from the lake")] = False,
) -> None:
    """Verify every audit chain against itself and its anchors outside the store; exit code 1 on any problem.

    Anchors are in files (`TIEOUT_ANCHORS`) and in the memo of every journal in the ERP, as the last night read it.
    """
    from tieout.lake.tables import Lake
    from tieout.orchestration.anchors import anchors_in_erps, anchors_in_lake
    from tieout.orchestration.work import Work
    from tieout.store import Store
    from tieout.store.audit import read_anchors

    settings = Settings.from_env()
    store, found = Store(settings.store), 0
    files = read_anchors(settings.anchors)
    memos = anchors_in_erps(Work.from_env()) if erp else anchors_in_lake(Lake(settings.lake))
    anchors = [*files, *memos]
    chains = sorted({*store.audit_chains(), *(a.chain for a in anchors)})
    for chain in chains:
        problems = store.verify_audit(chain, anchors)
        found += len(problems)
        for problem in problems:
            typer.echo(str(problem), err=True)
    if found:
        raise typer.Exit(1)
    agree = f"{len(files)} anchors in files and {len(memos)} in the ERP's journals agree"
    typer.echo(f"{len(chains)} audit chains verified; {agree}")


@audit_app.command("show")
def audit_show(subject: Annotated[str, typer.Argument(help="a batch, a backfill's run, a period …")]) -> None:
    """Everything that was done about one subject, in order, and by whom."""
    from tieout.store import Store

    for entry in Store(Settings.from_env().store).audit_entries(subject=subject):
        when, payload = f"{entry.at:%Y-%m-%d %H:%M:%S} UTC", json.dumps(entry.payload, sort_keys=True)
        typer.echo(f"{entry.chain} {entry.sequence}  {when}  {entry.actor}  {entry.action}  {payload}")


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="configured source")],
    object: Annotated[str | None, typer.Option(help="only this object, e.g. invoices")] = None,
) -> None:
    """Conform quarantined records again, after a mapping or a rule was mended; no vendor is asked."""
    from tieout.orchestration.intake import replay as replay_source
    from tieout.orchestration.work import Work

    facts = replay_source(Work.from_env(), source, object)
    typer.echo(f"{facts['read']} records read again: {facts['rows']} rows, {facts['quarantined']} still quarantined")


@app.command()
def backfill(
    from_date: Annotated[str, typer.Option(help="first business date")],
    to_date: Annotated[str, typer.Option(help="last business date")],
    entities: Annotated[str, typer.Option(help="legal entities, separated by commas; empty = all")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would change; required, posting is Airflow's")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON instead of tables")] = False,
) -> None:
    """Show what posting past dates would change: what exists, what would be added, the net effect per account.

    Posting is the `backfill` workflow's, behind its form and a second person's approval.
    """
    if not dry_run:
        raise ConfigError("the command only shows", remedy="add --dry-run, or use the backfill workflow in Airflow")
    from tieout.orchestration.past_dates import preview_backfill
    from tieout.orchestration.work import Work

    chosen = [e for e in entities.split(",") if e]
    found = preview_backfill(Work.from_env(), _day(from_date), _day(to_date), chosen)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(found.markdown()))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
