"""`tieout reconcile …`: run a definition, measure it on labelled pairs, simulate a change; nothing is ever stored."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tieout.errors import ConfigError


class _RunsByDefault(TyperGroup):
    """`tieout reconcile <definition>` is `tieout reconcile run <definition>`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunsByDefault, no_args_is_help=True, help="Run a definition, measure it, simulate a change. Nothing is stored."
)

Definition = Annotated[str, typer.Argument(help="id of a configured definition, or path of a YAML file")]
Left = Annotated[Path | None, typer.Option(help="Parquet file of the left side; without it the published tables")]
Right = Annotated[Path | None, typer.Option(help="Parquet file of the right side")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON")]


@app.command()
def run(
    definition: Definition,
    business_date: Annotated[str, typer.Option(help="business date, YYYY-MM-DD")],
) -> None:
    """Run one reconciliation over the published tables, print its summary, change nothing."""
    from tieout.orchestration.checking import preview_reconciliation
    from tieout.orchestration.work import Work

    result = preview_reconciliation(Work.from_env(), definition, _day(business_date))
    typer.echo(json.dumps(result, indent=2, default=str))


@app.command()
def measure(
    definition: Definition,
    truth: Annotated[
        Path,
        typer.Option(
            help="CSV or Parquet of the true pairs: left_id, right_id, and legal_entity_id where entities number alike"
        ),
    ],
    business_date: Annotated[str | None, typer.Option(help="of the published tables, YYYY-MM-DD")] = None,
    left: Left = None,
    right: Right = None,
    as_json: AsJson = False,
) -> None:
    """Precision, recall and F1 on labelled pairs, per pass and for the whole; and whether probabilities hold."""
    from tieout.orchestration.judging import measure_definition
    from tieout.reconcile.measure import Score, as_facts

    day = None if business_date is None else _day(business_date)
    found = measure_definition(definition, truth, business_date=day, left=left, right=right)
    if as_json:
        typer.echo(json.dumps(as_facts(found), indent=2, default=str))
        return

    def line(score: Score) -> str:
        figures = (score.precision, score.recall, score.f1)
        return f"{score.name:32}{score.claimed:>10,}{score.right:>10,}{score.true:>10,}" + "".join(
            f"{'–' if figure is None else f'{figure:.4f}':>11}" for figure in figures
        )

    typer.echo(f"{'':32}{'claimed':>10}{'right':>10}{'true':>10}{'precision':>11}{'recall':>11}{'F1':>11}")
    for score in (*found.passes, found.whole, found.suggested):
        typer.echo(line(score))
    if found.calibration:
        typer.echo(f"\n{'probability':16}{'pairs':>10}{'expected':>11}{'true':>11}")
        for one in found.calibration:
            typer.echo(f"{f'{one.lower}–{one.upper}':16}{one.pairs:>10,}{one.expected:>11.4f}{one.observed:>11.4f}")
    for name, table in (("not true", found.wrong), ("missed", found.missed)):
        for row in table.slice(0, 10).to_pylist():
            entity = f"{row['legal_entity_id']} " if row["legal_entity_id"] else ""
            typer.echo(f"{name}: {entity}{row['left_id']} – {row['right_id']}")


@app.command()
def simulate(
    definition: Annotated[str, typer.Argument(help="id of a configured definition")],
    changed: Annotated[Path, typer.Option("--with", help="the changed definition, a YAML file")],
    from_date: Annotated[str, typer.Option(help="first business date")],
    to_date: Annotated[str, typer.Option(help="last business date")],
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(help="list at most so many changes of each date")] = 20,
) -> None:
    """What a changed definition would have done on past dates, over the tables as they were then."""
    from tieout.orchestration.judging import simulate_definition
    from tieout.orchestration.work import Work

    days = simulate_definition(Work.from_env(), definition, changed, _day(from_date), _day(to_date))
    if as_json:
        told = [
            {"business_date": d, "summary": s.summary.to_pylist(), "changes": s.changes.to_pylist()} for d, s in days
        ]
        typer.echo(json.dumps(told, indent=2, default=str))
        return
    for day, found in days:
        typer.echo(f"{day}: {found.changes.num_rows:,} changes")
        for row in found.summary.to_pylist():
            typer.echo(f"  {row['number']:>8,} {_plural(row)} {row['change']}  {_moved(row)}  {_money(row)}")
        for row in found.changes.slice(0, limit).to_pylist():
            typer.echo(
                f"    {row['kind']} {row['change']}: {row['legal_entity_id'] or '-'} {row['key']}  {_moved(row)}"
            )
    if not days:
        typer.echo("no night of these dates was run")


def _plural(row: dict[str, Any]) -> str:
    return {"match": "matches", "break": "breaks"}[row["kind"]]


def _moved(row: dict[str, Any]) -> str:
    return f"{row['was'] or '–'} → {row['is'] or '–'}"


def _money(row: dict[str, Any]) -> str:
    return "not priced" if row["value"] is None else f"{row['value']:,.2f} {row['currency'] or ''}".rstrip()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError("not a date", got=text, expected="YYYY-MM-DD") from None
