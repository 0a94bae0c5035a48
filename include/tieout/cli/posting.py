"""`tieout posting …`: what people decide about journals that stopped; all of it audited."""

from __future__ import annotations

import getpass
from datetime import date
from typing import Annotated

import typer

from tieout.errors import ConfigError
from tieout.money import format_money

app = typer.Typer(no_args_is_help=True, help="Journals that stopped: a person's decision, audited.")

Batch = Annotated[str, typer.Argument(help="the batch, as reports name it: TIEOUT/<slot>/v<version>")]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]
Content = Annotated[str, typer.Option(help="the content's hash, as `show` prints it; twelve characters will do")]
As = Annotated[str, typer.Option("--as", help="who decides; stated, not authenticated: sign in to Airflow instead")]
Second = Annotated[str, typer.Option(help="the second person who decided")]


@app.command()
def recheck(batch: Batch) -> None:
    """Read a mismatched batch again after it was corrected in the ERP, or ask again for an unknown one."""
    from tieout.orchestration import by_hand
    from tieout.orchestration.work import Work

    typer.echo(by_hand.recheck(Work.from_env(), batch, getpass.getuser()))


@app.command()
def reverse(
    batch: Batch,
    on: Annotated[str, typer.Option(help="date of the mirror")],
    second: Second,
    reason: Reason,
    mirror: Annotated[
        list[str] | None, typer.Option(help="id in the ERP of the mirror that counts, where it holds one twice")
    ] = None,
) -> None:
    """Take a posted or mismatched batch out of the ledger, or go on with it; the next night plans its content again."""
    from tieout.orchestration import by_hand
    from tieout.orchestration.work import Work

    day, actor = _day(on), getpass.getuser()
    work, counting = Work.from_env(), mirror or ()
    typer.echo(by_hand.reverse(work, batch, on=day, actor=actor, second=second, reason=reason, counting=counting))


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


@app.command()
def waiting() -> None:
    """List the batches that wait for a person's approval."""
    from tieout.orchestration.work import Work
    from tieout.store import approvals, batches

    with Work.from_env().store.reading() as session:
        found = batches.select_batches(session, states=["awaiting_approval"])
        prepared = {b.batch_id: sorted({p.who for p in approvals.preparers(session, b)}) for b in found}
    for batch in found:
        gross = ", ".join(format_money(amount, currency) for currency, amount in sorted(batch.gross.items()))
        owner = f"  owner {batch.owner}: {batch.reason}" if batch.owner else ""
        by = ", ".join(prepared[batch.batch_id]) or "nobody in particular"
        typer.echo(f"{batch.batch_id}  {batch.content_hash[:12]}  {gross} gross  prepared by {by}{owner}")
    typer.echo(f"{len(found)} batches wait for approval")


@app.command("blocked")
def show_blocked() -> None:
    """List what waits unposted by what is missing, with the money that waits for it; the most first."""
    from tieout.ledger import blocked
    from tieout.orchestration.work import Work

    work = Work.from_env()
    version = work.store.published().get("journal_held")
    found = [] if version is None else blocked(work.lake.read("journal_held", version))
    for one in found:
        typer.echo(str(one))
    typer.echo(f"{len(found)} causes hold accounting events back")


@app.command()
def show(batch: Batch) -> None:
    """Show a batch as an approver sees it: lines, source rows, the period before, who prepared it."""
    from rich.console import Console
    from rich.markdown import Markdown

    from tieout.orchestration.approval import shown
    from tieout.orchestration.work import Work

    Console().print(Markdown(shown(Work.from_env(), batch)))


@app.command()
def approve(batch: Batch, content: Content, as_: As, comment: Annotated[str, typer.Option()] = "") -> None:
    """Approve exactly the content that `show` printed; the next night, or the waiting run, posts it."""
    _decide(batch, content, as_, comment, accept=True)


@app.command()
def reject(batch: Batch, content: Content, as_: As, reason: Reason) -> None:
    """Reject a batch with a reason; the next night plans its content again, under the next version."""
    _decide(batch, content, as_, reason, accept=False)


def _decide(batch_id: str, content: str, who: str, comment: str, *, accept: bool) -> None:
    from tieout.orchestration import approval
    from tieout.orchestration.work import Work
    from tieout.store import batches

    work = Work.from_env()
    with work.store.reading() as session:
        digest = batches.get(session, batch_id).content_hash
    if len(content) < 12 or not digest.startswith(content):
        raise ConfigError(
            "that is not the batch's content", record=batch_id, got=content, expected=f"{digest[:12]} or longer",
            remedy="look at it with `tieout posting show`, then decide",
        )  # fmt: skip
    typer.echo(approval.decide(work, batch_id, digest, who=who, accept=accept, comment=comment, via="command line"))


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
