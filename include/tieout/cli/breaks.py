"""`tieout breaks …`: find breaks, look at one, and decide about one or many; every decision audited."""

from __future__ import annotations

import getpass
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tieout.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tieout.orchestration.work import Work
    from tieout.store.break_acts import Done
    from tieout.store.break_list import Filter

app = typer.Typer(invoke_without_command=True, help="Breaks: find them, look at one, decide about one or many.")

Definition = Annotated[str | None, typer.Option(help="only this reconciliation")]
Entity = Annotated[str | None, typer.Option(help="only this legal entity")]
Owner = Annotated[str | None, typer.Option(help="only what this team or person looks after")]
State = Annotated[
    list[str] | None, typer.Option(help="only in this state; repeatable; default: all that are not closed")
]
Type = Annotated[str | None, typer.Option("--type", help="only of this type")]
Currency = Annotated[str | None, typer.Option(help="only in this currency")]
MinAge = Annotated[int | None, typer.Option(min=0, help="only if so many days old, from the first economic date")]
MinAmount = Annotated[str | None, typer.Option(help="only if worth at least this")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, everything in full")]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]
Day = Annotated[str | None, typer.Option(help="as a run reported them on this business date, YYYY-MM-DD")]


@app.callback()
def breaks(
    context: typer.Context,
    business_date: Day = None,
    definition: Definition = None,
    limit: Annotated[int, typer.Option(help="at most so many")] = 50,
) -> None:
    """Breaks: find them, look at one, decide about one or many. Without a command: those of a business date."""
    if context.invoked_subcommand is not None:
        return
    if business_date is None:
        typer.echo(context.get_help())
        return
    from tieout.orchestration.checking import breaks as breaks_of

    rows = breaks_of(_work(), _day(business_date), definition)
    for row in rows[:limit]:
        typer.echo(f"{row['definition_id']}  {row['break_type']}  {row['legal_entity_id'] or '-'}  {row['sentence']}")
    typer.echo(f"{len(rows)} breaks on {business_date}" + (f", {limit} shown" if len(rows) > limit else ""))


@app.command("list")
def list_breaks(
    definition: Definition = None,
    entity: Entity = None,
    owner: Owner = None,
    state: State = None,
    break_type: Type = None,
    currency: Currency = None,
    min_age: MinAge = None,
    min_amount: MinAmount = None,
    limit: Annotated[int, typer.Option(min=0, help="at most so many; 0 = all")] = 50,
    as_json: AsJson = False,
) -> None:
    """List breaks as they stand now, the largest amounts first."""
    from tieout.store.break_list import count, listed

    wanted, work = _filter(definition, entity, owner, state, break_type, currency, min_age, min_amount), _work()
    with work.store.reading() as session:
        found = [asdict(row) for row in listed(session, wanted, limit or None)]
        total = len(found) if limit == 0 or len(found) < limit else count(session, wanted)
    if not found:
        _refuse_unknown(work, definition)
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
        return
    for row in found:
        who = f"{row['owner']}{', ' + row['assignee'] if row['assignee'] else ''}"
        said = f" ({row['verdict']}, settles at the next run)" if row["verdict"] == "accepted" else ""
        typer.echo(
            f"{row['break_id'][:12]}  {row['state']}{said}  {row['break_type']}  {row['legal_entity_id'] or '-'}  "
            f"{_money(row['value'], row['currency'])}  since {row['economic_date'] or row['first_seen']}  {who}\n"
            f"    {row['sentence']}"
        )
    typer.echo(f"{total:,} breaks" + (f", {len(found)} shown" if total > len(found) else ""))


@app.command()
def show(
    break_id: Annotated[str, typer.Argument(help="its id, or the beginning of it")],
    rows: Annotated[bool, typer.Option(help="with the rows behind it")] = True,
    as_json: AsJson = False,
) -> None:
    """Show one break: its sentence, the parts of the difference, rivals, rows, and everything that happened to it."""
    from tieout.breaks.desk import show as shown

    work = _work()
    one = shown(break_id, store=work.store, lake=work.lake, settings=work.settings, rows=rows)
    if as_json:
        typer.echo(json.dumps(asdict(one), indent=2, default=str))
        return
    kept, found = one.kept, one.found
    typer.echo(f"{kept['break_id']}\n{kept['sentence']}")
    if found:
        typer.echo(found["next_action"])
    facts = {
        "reconciliation": kept["definition_id"],
        "entity": kept["legal_entity_id"] or "-",
        "type": kept["break_type"],
        "state": kept["state"],
        "owner": kept["owner"],
        "assigned to": kept["assignee"],
        "at stake": _money(kept["value"], kept["currency"]),
        "accepted up to": kept["cap"] and _money(kept["cap"], kept["cap_currency"]),
        "accepted until": kept["expires"],
        "economic date": kept["economic_date"],
        "first seen": kept["first_seen"],
        "last seen": kept["last_seen"],
        "difference": None if found.get("difference") is None else _money(found["difference"], found["currency"]),
        "rivals": found.get("rivals"),
        "evidence": found.get("reason"),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            typer.echo(f"  {name}: {value}")
    for name, value in found.items():
        if name.startswith("part_") and value:
            typer.echo(f"    of it {name.removeprefix('part_').replace('_', ' ')}: {_money(value, found['currency'])}")
    for side, behind in one.rows.items():
        for row in behind:
            told = ", ".join(f"{column} {value}" for column, value in row.items() if value is not None)
            typer.echo(f"  {side}: {told}")
    for change in one.history:
        moved = "" if change.from_state == change.to_state else f" {change.from_state or 'new'} → {change.to_state}"
        retyped = "" if change.from_type in (None, change.to_type) else f" {change.from_type} → {change.to_type}"
        said = f": {change.note}" if change.note else ""
        details = f" {json.dumps(change.details, sort_keys=True)}" if change.details else ""
        what = (change.action or "recorded").replace("_", " ")
        typer.echo(f"  {change.at:%Y-%m-%d %H:%M} UTC  {change.actor}  {what}{moved}{retyped}{said}{details}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which breaks a command is about, by whom, and whether it is really to be done."""

    ids: tuple[str, ...]
    csv: Path | None
    wanted: Filter
    actor: str
    apply: str | None
    partly: bool

    @property
    def is_bulk(self) -> bool:
        """Anything but breaks named one by one."""
        return self.csv is not None or not self.wanted.is_empty

    def find(self, work: Work) -> list[str]:
        """The full ids. Raises ConfigError unless breaks are named in exactly one way."""
        from tieout.breaks.desk import read_ids
        from tieout.store.break_list import chosen_ids, full_id, whole_ids

        ways = [bool(self.ids), self.csv is not None, not self.wanted.is_empty]
        if sum(ways) != 1:
            raise ConfigError(
                "say which breaks", expected="ids, or --csv, or a filter such as --definition: one of them"
            )
        with work.store.reading() as session:
            if self.ids:
                return [full_id(session, one) for one in self.ids]
            if self.csv is not None:
                return whole_ids(session, read_ids(self.csv))
            found = chosen_ids(session, self.wanted)
        if not found:
            _refuse_unknown(work, self.wanted.definition_id)
        return found


def _filter(
    definition: str | None,
    entity: str | None,
    owner: str | None,
    state: list[str] | None,
    break_type: str | None,
    currency: str | None,
    min_age: int | None,
    min_amount: str | None,
) -> Filter:
    from tieout.schema import BREAK_TYPES
    from tieout.schema.results import BREAK_STATES
    from tieout.store.break_list import Filter

    for value, known in ((break_type, BREAK_TYPES), *((s, BREAK_STATES) for s in state or ())):
        if value is not None and value not in known:
            raise ConfigError("no such type or state of a break", got=value, expected=", ".join(known))
    amount = None if min_amount is None else _amount(min_amount)
    code = currency and currency.upper()
    return Filter(definition, entity, owner, tuple(state or ()), break_type, code, min_age, amount)


def _refuse_unknown(work: Work, definition: str | None) -> None:
    """Raise ConfigError where nothing was found because no reconciliation is called so."""
    from tieout.breaks import definition_ids
    from tieout.ledger.halts import DEFINITION as READ_BACK

    known = sorted([*definition_ids(work.settings), READ_BACK])
    if definition is not None and definition not in known:
        raise ConfigError("no such reconciliation", got=definition, expected=", ".join(known))


def about_breaks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which breaks it is about; it takes them as its first argument, `Chosen`."""

    def options(
        ids: Annotated[list[str] | None, typer.Argument(help="ids of breaks, or the beginnings of them")] = None,
        csv: Annotated[Path | None, typer.Option(help="a CSV file with a column break_id")] = None,
        definition: Definition = None,
        entity: Entity = None,
        in_care_of: Annotated[str | None, typer.Option("--owner", help="only what this team or person has")] = None,
        state: State = None,
        break_type: Type = None,
        currency: Currency = None,
        min_age: MinAge = None,
        min_amount: MinAmount = None,
        actor: Annotated[str | None, typer.Option("--as", help="who does it; default: this machine's user")] = None,
        apply: Annotated[
            str | None, typer.Option(help="do it: the mark that the dry run of this bulk action printed")
        ] = None,
        partly: Annotated[bool, typer.Option("--partly", help="leave out what is refused, instead of all")] = False,
    ) -> Chosen:
        wanted = _filter(definition, entity, in_care_of, state, break_type, currency, min_age, min_amount)
        return Chosen(tuple(ids or ()), csv, wanted, getpass.getuser() if actor is None else actor, apply, partly)

    common = inspect.signature(options, eval_str=True).parameters
    own = dict(list(inspect.signature(command, eval_str=True).parameters.items())[1:])

    @wraps(command)
    def run(**given: Any) -> None:
        command(options(**{name: given.pop(name) for name in common}), **given)

    merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own.values(), *common.values())]
    typing.cast("Any", run).__signature__ = inspect.Signature(merged)
    run.__annotations__ = {p.name: p.annotation for p in merged}
    return run


@app.command()
@about_breaks
def assign(
    chosen: Chosen,
    to: Annotated[str, typer.Option(help="who looks after them from now on")],
    reason: Reason = "",
) -> None:
    """Give breaks to somebody."""
    _do(chosen, "assign", assignee=to, reason=reason)


@app.command()
@about_breaks
def unassign(chosen: Chosen, reason: Reason = "") -> None:
    """Take breaks back from whom they were given to."""
    _do(chosen, "unassign", reason=reason)


@app.command()
@about_breaks
def comment(chosen: Chosen, text: Annotated[str, typer.Option(help="what is to be remembered")]) -> None:
    """Write something down beside breaks; nothing else changes."""
    _do(chosen, "comment", reason=text)


@app.command()
@about_breaks
def resolve(
    chosen: Chosen,
    reason: Reason,
    evidence: Annotated[list[Path], typer.Option(help="a file that proves it, kept by its content hash; repeatable")],
) -> None:
    """Say that breaks are settled, with reason and evidence; one that a later night still finds is open again."""
    _do(chosen, "resolve", reason=reason, files=evidence)


@app.command()
@about_breaks
def known(
    chosen: Chosen,
    reason: Reason,
    until: Annotated[str, typer.Option(help="last business date it is accepted for, YYYY-MM-DD")],
    cap: Annotated[str | None, typer.Option(help="most it may grow to, for example '120.00 EUR'")] = None,
    by: Annotated[str | None, typer.Option(help="who answers for it")] = None,
    evidence: Annotated[list[Path] | None, typer.Option(help="a file that explains it; repeatable")] = None,
) -> None:
    """Accept differences as known; one that grows beyond its cap or expires is open again."""
    limit, currency = _capped(cap)
    _do(
        chosen,
        "known_difference",
        reason=reason,
        expires=_day(until),
        cap=limit,
        cap_currency=currency,
        assignee=by,
        files=evidence or (),
    )


@app.command()
@about_breaks
def accept(
    chosen: Chosen,
    reason: Reason = "",
    candidates: Annotated[
        list[str] | None, typer.Option("--with", help="which rival, where several fit; repeatable: those that add up")
    ] = None,
) -> None:
    """Accept suggested matches; they settle at the next run."""
    _do(chosen, "accept", reason=reason, candidates=candidates or ())


@app.command()
@about_breaks
def reject(
    chosen: Chosen,
    reason: Reason,
    candidate: Annotated[str | None, typer.Option("--with", help="which rival, where several fit")] = None,
) -> None:
    """Reject suggested matches; the next run does not suggest them again."""
    _do(chosen, "reject", reason=reason, candidates=(candidate,) if candidate else ())


@app.command()
@about_breaks
def withdraw(chosen: Chosen, reason: Reason) -> None:
    """Take back what was accepted or rejected; the next run looks at the rows anew."""
    _do(chosen, "withdraw", reason=reason)


@app.command("write-off")
@about_breaks
def write_off(chosen: Chosen, reason: Reason, evidence: Annotated[list[Path] | None, typer.Option()] = None) -> None:
    """Ask that differences be written off; a second person approves it."""
    _do(chosen, "write_off", reason=reason, files=evidence or ())


@app.command("approve-write-off")
@about_breaks
def approve_write_off(chosen: Chosen, reason: Reason = "") -> None:
    """Agree to write-offs that somebody else asked for; each gets a journal, which a third person approves."""
    _do(chosen, "approve_write_off", reason=reason)


@app.command()
@about_breaks
def reopen(chosen: Chosen, reason: Reason) -> None:
    """Open breaks again that were resolved, accepted as known or to be written off, and are still there.

    A journal that was to write them off is not posted then; one that was posted is reversed with `tieout reversal`.
    """
    _do(chosen, "reopen", reason=reason)


def _do(
    chosen: Chosen, action: str, *, files: Sequence[Path] = (), candidates: Sequence[str] = (), **fields: Any
) -> None:
    """One break named by its id: at once. Many: shown first, done with the mark that showing them printed."""
    from tieout.breaks import desk
    from tieout.store.break_acts import Act

    work = _work()
    ids = chosen.find(work)
    if not ids:
        typer.echo("no breaks found")
        return
    if action in ("accept", "reject"):
        fields["pairs"] = desk.pairs_of(
            ids, store=work.store, lake=work.lake, settings=work.settings, counterparts=candidates
        )
    if action == "write_off":
        fields["write_offs"] = desk.write_offs_of(ids, store=work.store, lake=work.lake, settings=work.settings)
    missing = [str(f) for f in files if not f.is_file()]
    if missing:
        raise ConfigError("the evidence is not there", got=", ".join(missing))
    fields["evidence"] = tuple(desk.fingerprint(f) for f in files)
    act = Act(action, chosen.actor, **fields)
    if chosen.is_bulk or len(ids) > 1:
        planned = desk.preview(act, ids, work.store)
        if chosen.apply is None:
            _report(planned.done, planned.amounts, would=True)
            stopped = planned.done.refused and not chosen.partly
            if stopped or not planned.done.changed:
                typer.echo("nothing can be done: mend the list, or add --partly to leave these out")
                raise typer.Exit(1)
            typer.echo(f"nothing is changed yet; to do it, repeat the command with --apply {planned.mark}")
            return
        if chosen.apply != planned.mark:
            raise DataError(
                "not what the dry run showed: breaks have changed since, or the command is another one",
                expected=planned.mark,
                got=chosen.apply,
                remedy="look at the dry run again",
            )
    for file in files:
        desk.keep_evidence(file, work.settings)
    done = desk.act_on(act, ids, work.store, partly=chosen.partly)
    _report(done, {}, would=False)
    if action == "approve_write_off" and done.changed:
        _plan_journals(work, [identity for identity, _, _ in done.changed])
    if done.refused and not (chosen.partly and done.changed):
        raise typer.Exit(1)


def _plan_journals(work: Work, ids: Sequence[str]) -> None:
    """Plan the journals of accepted write-offs, these and any that waited, and say which they are."""
    from tieout.orchestration.write_offs import plan_by_hand

    made = plan_by_hand(work)
    for batch in made:
        for journal in batch.journals:
            amount = _money(journal.debit, journal.currency)
            typer.echo(f"{journal.run_key}  {amount}  waits for the approval of a third person")
    for one in sorted(set(ids) - {batch.origin for batch in made}):
        typer.echo(f"{one[:12]}  its journal cannot be planned yet; the next night tries again and says why")


def _report(done: Done, amounts: Mapping[str, Decimal], *, would: bool) -> None:
    counts: dict[tuple[str, str], int] = {}
    for _, before, after in done.changed:
        counts[before, after] = counts.get((before, after), 0) + 1
    for (before, after), number in sorted(counts.items()):
        moved = f"{before} → {after}" if before != after else f"stay {before}"
        typer.echo(f"{number:,} {'would be' if would else ''} {moved}".replace("  ", " "))
    for currency, amount in sorted(amounts.items()):
        typer.echo(f"worth {_money(amount, currency)} in all")
    for refusal in done.refused:
        typer.echo(f"refused: {refusal}", err=True)


def _work() -> Work:
    from tieout.orchestration.work import Work

    return Work.from_env()


def _money(value: Decimal | None, currency: str | None) -> str:
    if value is None:
        return "not priced"
    places = max(2, -int(value.normalize().as_tuple().exponent))
    return f"{value:,.{places}f} {currency or ''}".rstrip()


def _capped(text: str | None) -> tuple[Decimal | None, str | None]:
    if text is None:
        return None, None
    amount, _, currency = text.strip().partition(" ")
    if len(currency) != 3:
        raise ConfigError("not a cap", got=text, expected="amount and currency, such as '120.00 EUR'")
    return _amount(amount), currency.upper()


def _amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ConfigError("not an amount", got=text, expected="digits and a point, such as 1200.00") from None
    if not value.is_finite() or value < 0:
        raise ConfigError("not an amount", got=text, expected="zero or more")
    return value


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
