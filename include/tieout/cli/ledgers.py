"""`tieout ledger …`: a second ledger of an entity: what is replayed into it, and both compared account by account."""

from __future__ import annotations

import csv
import getpass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from tieout.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Two ERPs at once: replay history into the new one, compare both.")

Entity = Annotated[str, typer.Argument(help="legal entity")]


@app.command("replay")
def replay(
    entity: Entity,
    ledger: Annotated[str, typer.Argument(help="the ledger to replay into, as entities.yaml names it")],
    since: Annotated[str | None, typer.Option("--from", help="first date; else the whole configured span")] = None,
    until: Annotated[str | None, typer.Option("--to", help="last date")] = None,
    post: Annotated[bool, typer.Option("--post/--dry-run", help="post; without it the command only shows")] = False,
) -> None:
    """Copy posted journals into another ledger under their original keys; it may be interrupted and run again."""
    from tieout.orchestration import ledgers
    from tieout.orchestration.work import Work

    done = ledgers.replay(
        Work.from_env(), entity, ledger, since=_day(since), until=_day(until), dry_run=not post, actor=getpass.getuser()
    )
    counted = ", ".join(f"{count} {state}" for state, count in done.states.items()) or "no journals"
    typer.echo(f"{entity} {ledger}, {done.since} to {done.until}: {counted}")
    for copy in done.to_post:
        typer.echo(f"  would post {copy.run_key}  {copy.accounting_date}  {copy.debit} {copy.currency}")
    for account, amount in done.net.items():
        typer.echo(f"  net effect on {account}: {amount:,}")
    for account in done.unknown_accounts:
        typer.echo(f"  the ERP has no account {account}: create it, or map it in mappings/charts.csv")
    for note in done.notes:
        typer.echo(f"  {note}", err=True)
    if post and not done.is_whole:
        raise typer.Exit(1)


@app.command("compare")
def compare(
    entity: Entity,
    on: Annotated[str, typer.Option(help="at the end of this day")],
    left: Annotated[str | None, typer.Option(help="one ledger; else the last two of the entity")] = None,
    right: Annotated[str | None, typer.Option(help="the other")] = None,
    out: Annotated[Path | None, typer.Option(help="also as a CSV file")] = None,
    every: Annotated[bool, typer.Option("--all", help="accounts that agree too")] = False,
) -> None:
    """Both trial balances account by account; the exit code is 1 where they differ."""
    from tieout.orchestration import ledgers
    from tieout.orchestration.work import Work

    day = _day(on)
    if day is None or (left is None) != (right is None):
        raise ConfigError("a day, and both ledgers or none", got=(on, left, right))
    found = ledgers.compare(Work.from_env(), entity, day, (left, right) if left and right else None)
    heading = (
        "account",
        "currency",
        found.left,
        found.right,
        "difference",
        "opening",
        "journals",
        "others",
        "unexplained",
    )
    rows = [
        (
            line.account,
            line.currency,
            *(
                f"{amount:f}"
                for amount in (
                    line.left, line.right, line.difference, line.of_opening, line.of_ours, line.of_foreign,
                    line.unexplained,
                )
            ),
        )
        for line in found.lines
        if every or line.difference
    ]  # fmt: skip
    if out:
        with out.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([heading, *rows])
    if rows:
        widths = [max(len(row[n]) for row in [heading, *rows]) for n in range(len(heading))]
        for row in [heading, *rows]:
            cells = [
                cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            typer.echo("  ".join(cells).rstrip())
    for name, entries in ((found.left, found.foreign_left), (found.right, found.foreign_right)):
        for entry in entries:
            typer.echo(
                f"entry by others in {name}: {entry.date} {entry.account} "
                f"{entry.debit - entry.credit} {entry.narrative}"
            )
    differing = sum(1 for line in found.lines if line.difference)
    typer.echo(
        f"{entity} on {on}: {len(found.lines)} accounts, {differing or 'none'} differ{'s' if differing == 1 else ''}"
    )
    if differing:
        raise typer.Exit(1)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
