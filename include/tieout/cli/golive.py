"""`tieout golive …`: the opening position of a ledger: shown, signed, or waived by two people; all of it audited."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from tieout.errors import ConfigError
from tieout.money import format_money

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.orchestration.work import Work

app = typer.Typer(
    no_args_is_help=True, help="Go-live: the opening position of a ledger, signed before anything is posted."
)

Entity = Annotated[str, typer.Argument(help="legal entity")]
Ledger = Annotated[str | None, typer.Option(help="the ledger, where the entity has several; else its first")]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]


@app.command("show")
def show(entity: Entity, ledger: Ledger = None) -> None:
    """Show how open documents tie to the ledger's accounts at go-live, who signed it, and what is to be signed."""
    from tieout.ledger import golive

    work, view = _of(entity, ledger)
    opening = golive.opening(work.store, view)
    for tie in opening.ties:
        amounts = (format_money(amount, tie.currency) for amount in (tie.documents, tie.ledger_balance, tie.difference))
        typer.echo("{:<24} {:<12} documents {}  ledger {}  difference {}".format(tie.role, tie.account, *amounts))
    if accrual := golive.accrual_of_others(work.store, view):
        amount = format_money(accrual.ledger_balance, accrual.currency)
        typer.echo(
            f"{accrual.account} is taken over with an accrual of {amount}: whoever made it reverses it in the ERP, "
            f"dated {view.taken_over_on}; Tieout reverses its own only, and no period closes before"
        )
    typer.echo(f"{len(opening.balances)} accounts have a balance")
    for one in golive.signed(work.store, view):
        by = " and ".join(name for name in (one.actor, one.second) if name)
        of = "the ledger" if one.stream == "*" else f"stream {one.stream}"
        typer.echo(f"{of} is {one.state}{f' by {by}: {one.reason}' if by else ''}  content {one.digest[:12]}")


@app.command("sign")
def sign(
    entity: Entity,
    content: Annotated[str, typer.Option(help="the content's hash, as `show` prints it; twelve characters will do")],
    reason: Annotated[str, typer.Option(help="what explains a difference; needed where there is one")] = "",
    second: Annotated[str | None, typer.Option(help="the second person; needed for a difference, or if configured")] = (
        None
    ),
    ledger: Ledger = None,
) -> None:
    """Sign exactly the position that `show` printed; from the next night on its journals are posted."""
    from tieout.store import golive

    work, view = _of(entity, ledger)
    with work.store.transaction() as session:
        digest = next((one.digest for one in golive.sign_offs(session, view.id, view.ledger)), "")
        if len(content) < 12 or not digest.startswith(content):
            raise ConfigError(
                "that is not the opening position", record=f"{view.id}/{view.ledger}", got=content,
                expected=f"{digest[:12]} or longer" if digest else "nothing: none was loaded yet",
                remedy="look at it with `tieout golive show`, then sign it",
            )  # fmt: skip
        golive.sign(
            session, view.id, view.ledger, digest, actor=getpass.getuser(), second=second, reason=reason,
            now=work.store.now(),
        )  # fmt: skip
    typer.echo(f"the go-live of {view.id}/{view.ledger} is signed")


@app.command("waive")
def waive(
    entity: Entity,
    stream: Annotated[str, typer.Option(help="the stream to be posted without a signature; * for all")],
    second: Annotated[str, typer.Option(help="the second person who decided")],
    reason: Reason,
    ledger: Ledger = None,
) -> None:
    """Let a stream be posted though the go-live is not signed; two people say why."""
    from tieout.entities import ANY_STREAM, APPROVABLE
    from tieout.store import golive

    if stream not in (ANY_STREAM, *APPROVABLE):
        raise ConfigError("no such stream", got=stream, expected=(ANY_STREAM, *APPROVABLE))
    work, view = _of(entity, ledger)
    with work.store.transaction() as session:
        golive.waive(
            session, view.id, view.ledger, stream, actor=getpass.getuser(), second=second, reason=reason,
            now=work.store.now(),
        )  # fmt: skip
    typer.echo(f"{view.id}/{view.ledger}: {'all streams' if stream == '*' else stream} go without a signature")


def _of(entity_id: str, ledger: str | None) -> tuple[Work, LegalEntity]:
    from tieout.orchestration.work import Work

    work = Work.from_env()
    entity = work.entities[entity_id]
    return work, entity.of_ledger(ledger or entity.ledger)
