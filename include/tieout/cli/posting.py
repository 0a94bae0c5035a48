"""`tieout posting …`: what people decide about journals that stopped; all of it audited."""

from __future__ import annotations

import getpass
from datetime import date
from typing import Annotated

import typer

from tieout.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Journals that stopped: a person's decision, audited.")

Batch = Annotated[str, typer.Argument(help="the batch, as reports name it: TIEOUT/<slot>/v<version>")]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]
Second = Annotated[str, typer.Option(help="the second person who decided")]


@app.command()
def recheck(batch: Batch) -> None:
    """Read a mismatched batch again after it was corrected in the ERP, or ask again for an unknown one."""
    from tieout.orchestration import by_hand
    from tieout.orchestration.work import Work

    typer.echo(by_hand.recheck(Work.from_env(), batch, getpass.getuser()))


@app.command()
def reverse(
    batch: Batch, on: Annotated[str, typer.Option(help="date of the mirror")], second: Second, reason: Reason
) -> None:
    """Take a posted or mismatched batch out of the ledger; the next night plans its content again."""
    from tieout.orchestration import by_hand
    from tieout.orchestration.work import Work

    day, actor = _day(on), getpass.getuser()
    typer.echo(by_hand.reverse(Work.from_env(), batch, on=day, actor=actor, second=second, reason=reason))


@app.command()
def resolve(
    batch: Batch,
    reason: Reason,
    second: Annotated[str | None, typer.Option(help="the second person; needed without --document")] = None,
    document: Annotated[
        list[str] | None, typer.Option(help="<run key>=<id in the ERP> of an equal document there; repeatable")
    ] = None,
) -> None:
    """End a refused or lost batch: an equal document stands in the ERP, or two people say it is not to be posted."""
    from tieout.orchestration import by_hand
    from tieout.orchestration.work import Work

    documents = dict(_pair(text) for text in document) if document else None
    actor = getpass.getuser()
    typer.echo(by_hand.resolve(Work.from_env(), batch, actor=actor, reason=reason, second=second, documents=documents))


def _pair(text: str) -> tuple[str, str]:
    key, _, erp_id = text.partition("=")
    if not key or not erp_id:
        raise ConfigError("not a document", got=text, expected="<run key>=<id in the ERP>")
    return key, erp_id


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
