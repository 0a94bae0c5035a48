"""The commands of `tieout`; heavy modules are imported inside each."""

from __future__ import annotations

import json
import os
from datetime import date
from typing import Annotated

import typer

from tieout.cli import breaks, ledgers, periods, posting, reconcile, reversals, sandbox
from tieout.errors import ConfigError
from tieout.settings import Settings

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


@audit_app.command("verify")
def audit_verify() -> None:
    """Verify every audit chain against itself and the anchors kept outside the store; exit code 1 on any problem."""
    from tieout.store import Store
    from tieout.store.audit import read_anchors

    settings = Settings.from_env()
    store, found = Store(settings.store), 0
    anchors = read_anchors(settings.anchors)
    chains = sorted({*store.audit_chains(), *(a.chain for a in anchors)})
    for chain in chains:
        problems = store.verify_audit(chain, anchors)
        found += len(problems)
        for problem in problems:
            typer.echo(str(problem), err=True)
    if found:
        raise typer.Exit(1)
    typer.echo(f"{len(chains)} audit chains verified, {len(anchors)} anchors agree")


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
) -> None:
    """Show which journals past dates would change. Posting them is the `backfill` workflow's, behind its form."""
    if not dry_run:
        raise ConfigError("the command only shows", remedy="add --dry-run, or use the backfill workflow in Airflow")
    from tieout.orchestration.past_dates import preview_backfill
    from tieout.orchestration.work import Work

    chosen = [e for e in entities.split(",") if e]
    preview = preview_backfill(Work.from_env(), _day(from_date), _day(to_date), chosen)
    typer.echo(json.dumps(preview, indent=2, default=str))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
