"""`tieout period …` and `tieout late …`: the periods of each ledger, and the late events that wait for a decision."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from tieout.errors import ConfigError

if TYPE_CHECKING:
    from tieout.store.periods import Obstacle

app = typer.Typer(no_args_is_help=True, help="Periods of each ledger: both states, close, reopen; all of it audited.")
late_app = typer.Typer(no_args_is_help=True, help="Late events of closed periods that wait for a decision.")

Entity = Annotated[str, typer.Argument(help="legal entity")]
Name = Annotated[str, typer.Argument(help="YYYY-MM")]
Ledger = Annotated[
    str | None, typer.Option(help="the ledger, where the entity has several; else the one in force then")
]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]
Second = Annotated[str, typer.Option(help="the second person who decided")]
Units = Annotated[list[str] | None, typer.Argument(help="events, as `tieout late list` names them")]
Of = Annotated[str | None, typer.Option("--period", help="all that are held of this origin period")]


@app.command("status")
def status(
    entity: Annotated[list[str] | None, typer.Option(help="only this legal entity; repeatable")] = None,
    until: Annotated[str | None, typer.Option(help="last date, YYYY-MM-DD; else a month from today")] = None,
) -> None:
    """Our state of every period and the ERP's, whether they agree, and what still keeps a period from closing."""
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    lines = periods.status(Work.from_env(), entity or (), _day(until) if until else None)
    rows: list[tuple[str, ...]] = [
        ("entity", "ledger", "period", "Tieout", "ERP", "", "journals", "held", "value held", "by", "why")
    ]
    for one in lines:
        until_text = (
            f" (permission to {one.ours.permitted_until:%Y-%m-%d %H:%M} UTC)" if one.ours.permitted_until else ""
        )
        rows.append(
            (
                one.legal_entity_id,
                one.ledger,
                one.period,
                _words(one.ours.state) + until_text,
                one.erp,
                "agree" if one.agrees else "DIFFER",
                str(one.unfinished),
                str(one.held),
                f"{_money(one.held_gross)} {one.currency}" if one.held else "",
                one.ours.actor,
                one.ours.reason or (one.erp_reason or "" if not one.agrees else ""),
            )
        )
    _table(rows)
    if any(not one.agrees for one in lines):
        typer.echo("Where they differ nothing is posted to the period until both say open.")


@app.command("soft-close")
def soft_close(entity: Entity, name: Name, reason: Reason, ledger: Ledger = None) -> None:
    """Only corrections with permission from here on; says what still stands in the way of the close."""
    _move(entity, ledger, name, "soft_closed", reason, None)


@app.command("check")
def check(entity: Entity, name: Name, ledger: Ledger = None) -> None:
    """List what stands in the way of a period's close now, with owner and amount; the exit code is 1 if anything does.

    Breaks and held events are those of the newest runs; the ledger is proved and the sources are looked at anew.
    """
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    found = periods.in_the_way(Work.from_env(), entity, ledger, name)
    _tell(found)
    typer.echo(f"{entity} {name}: {len(found) or 'no'} items stand in the way of the close")
    if found:
        raise typer.Exit(1)


@app.command("close")
def close(
    entity: Entity,
    name: Name,
    reason: Reason,
    second: Annotated[str | None, typer.Option(help="the second person who closes over what is in the way")] = None,
    ledger: Ledger = None,
) -> None:
    """Shut a soft-closed period; the ERP's must be closed, and nothing in the way, see `tieout period check`.

    A second person may close over what is in the way; who, why and all of it is written to the audit log.
    """
    _move(entity, ledger, name, "closed", reason, second)


@app.command("reopen")
def reopen(
    entity: Entity,
    name: Name,
    reason: Reason,
    second: Annotated[str | None, typer.Option(help="the second person; needed for a closed period")] = None,
    to: Annotated[str, typer.Option(help="open, or soft-closed: then corrections need a permission")] = "open",
    ledger: Ledger = None,
) -> None:
    """Open a period again, after the ERP's was; what waits or comes late goes to its own dates again."""
    target = to.replace("-", "_")
    if target not in ("open", "soft_closed"):
        raise ConfigError("no such state to reopen to", got=to, expected="open or soft-closed")
    _move(entity, ledger, name, target, reason, second)


@app.command("permit")
def permit(
    entity: Entity,
    name: Name,
    until: Annotated[str, typer.Option(help="last day (UTC) of the permission")],
    second: Second,
    reason: Reason,
    ledger: Ledger = None,
) -> None:
    """Allow corrections of a soft-closed period for some days; it ends by itself, or when the period is moved."""
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    periods.permit(
        Work.from_env(), entity, ledger, name, until=_day(until), actor=getpass.getuser(), second=second, reason=reason
    )
    typer.echo(f"{entity} {name} may be corrected until the end of {until} (UTC)")


@late_app.command("list")
def late_list(
    entity: Annotated[str | None, typer.Option(help="only this legal entity")] = None,
    period: Annotated[str | None, typer.Option(help="only of this origin period")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="held, released, not_to_be_posted, settled; repeatable; default: held")
    ] = None,
    entries: Annotated[bool, typer.Option("--entries", help="with their entries: date, leg, account, amount")] = False,
) -> None:
    """What is held, why, and with how much money."""
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    found = periods.late(Work.from_env(), entity, period, state or ())
    totals: dict[str, Decimal] = {}
    for legal_entity, event in found:
        document = event.document_number or "-"
        amount = f"{_money(event.gross)} {event.currency}"
        typer.echo(f"{legal_entity}  {event.unit}  {document}  {amount}  {event.state}  {event.reason}")
        if entries:
            for line in event.content.splitlines():
                typer.echo(f"    {line}")
        totals[event.currency] = totals.get(event.currency, Decimal(0)) + event.gross
    sums = ", ".join(f"{_money(amount)} {currency}" for currency, amount in sorted(totals.items()))
    typer.echo(f"{len(found)} events{': ' + sums if sums else ''}")


@late_app.command("release")
def release(entity: Entity, second: Second, reason: Reason, units: Units = None, period: Of = None) -> None:
    """Post them to the open period, stream prior_period."""
    _decide(entity, units, period, "released", second, reason)
    typer.echo("the next night posts them to the first open day")


@late_app.command("drop")
def drop(entity: Entity, second: Second, reason: Reason, units: Units = None, period: Of = None) -> None:
    """Not to be posted: they stay reconciling items, and are decided again only if they change."""
    _decide(entity, units, period, "not_to_be_posted", second, reason)


@late_app.command("reopen")
def late_reopen(entity: Entity, second: Second, reason: Reason, units: Units = None) -> None:
    """Open their original periods again (after the ERP's were); the next night posts them to their own dates."""
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    opened = periods.reopen_for(
        Work.from_env(), entity, units or [], actor=getpass.getuser(), second=second, reason=reason
    )
    typer.echo(f"{entity} {', '.join(opened)} open again")


def _move(entity: str, ledger: str | None, name: str, to: str, reason: str, second: str | None) -> None:
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    found = periods.move(
        Work.from_env(), entity, ledger, name, to, actor=getpass.getuser(), second=second, reason=reason
    )
    _tell(found)
    typer.echo(f"{entity} {name} is {_words(to)}{f', over {len(found)} items in the way of a close' if found else ''}")


def _tell(found: Iterable[Obstacle]) -> None:
    for one in found:
        typer.echo(f"in the way: {one}")
        if one.what:
            typer.echo(f"    {one.what}")


def _decide(entity: str, units: list[str] | None, period: str | None, to: str, second: str, reason: str) -> None:
    from tieout.orchestration import periods
    from tieout.orchestration.work import Work

    count = periods.decide(
        Work.from_env(), entity, units or [], to, actor=getpass.getuser(), second=second, reason=reason, period=period
    )
    typer.echo(f"{count} late events of {entity}: {to.replace('_', ' ')}")


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _words(state: str) -> str:
    return state.replace("_", "-")


def _money(amount: Decimal) -> str:
    return f"{amount.normalize():,f}" if amount == amount.to_integral() else f"{amount.quantize(Decimal('0.01')):,f}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
