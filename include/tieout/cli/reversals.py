"""`tieout reversal …`: take a posted batch back, in whole or in part, by a mirror that two people approve."""

from __future__ import annotations

import getpass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from tieout.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Reversals of posted batches, in whole or in part, and what they link.")


@app.command("plan")
def plan(
    batch: Annotated[str, typer.Argument(help="the posted batch: TIEOUT/<slot>/v<version>")],
    on: Annotated[str, typer.Option(help="date of the reversal, in an open period")],
    reason: Annotated[str, typer.Option(help="why, for the audit log")],
    document: Annotated[
        list[str] | None, typer.Option(help="only the events of this document number or source id; repeatable")
    ] = None,
    line: Annotated[list[int] | None, typer.Option(help="only this line; repeatable, whole events together")] = None,
    share: Annotated[str | None, typer.Option(help="only this share of it, such as 0.4")] = None,
    amount: Annotated[str | None, typer.Option(help="only this amount of debits of it")] = None,
    keep_out: Annotated[
        str | None, typer.Option(help="the second person who agrees that it is not to be posted again")
    ] = None,
) -> None:
    """Plan the mirror; it waits for approval, and is posted and read back like every batch.

    Without --keep-out the next night plans again what the sources say then.
    """
    from tieout.ledger import Part
    from tieout.orchestration import reversals
    from tieout.orchestration.work import Work

    part = Part(tuple(line or ()), tuple(document or ()), _decimal(share), _decimal(amount))
    made = reversals.plan(
        Work.from_env(), batch, on=_day(on), part=part, actor=getpass.getuser(), reason=reason, keep_out_by=keep_out
    )
    for journal in made.journals:
        typer.echo(f"{journal.run_key}  {journal.debit} {journal.currency}  {journal.line_count} lines")
    typer.echo(f"{made.batch_id} is {made.state.replace('_', ' ')}")


@app.command("links")
def links(name: Annotated[str, typer.Argument(help="a batch, or a slot of an origin")]) -> None:
    """What a batch reverses or was reversed by, and which late entries belong to a slot."""
    from tieout.orchestration import reversals
    from tieout.orchestration.work import Work

    for link in reversals.links_of(Work.from_env(), name):
        state = f"  ({link.state.replace('_', ' ')})" if link.state else ""
        typer.echo(f"{link.batch_id}{state}  {link.kind.replace('_', ' ')}  {link.target}")


def _decimal(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise ConfigError("not a number", got=text, expected="such as 0.4 or 100.00") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
