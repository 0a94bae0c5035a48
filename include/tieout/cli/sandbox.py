"""`tieout sandbox …`: the company in a box on loopback, for trying out and for tests."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tieout.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="A company in a box: ERP, billing, CRM and support on loopback.")

Home = Annotated[Path, typer.Option(help="where its servers keep their state")]
HOME = Path(".run/sandbox")


@app.command()
def up(
    home: Home = HOME,
    seed: Annotated[int, typer.Option(help="which company")] = 7,
    scale: Annotated[int, typer.Option(help="how large: 1 has hundreds of customers")] = 1,
    clean: Annotated[bool, typer.Option(help="no planted breaks")] = False,
    now: Annotated[str, typer.Option(help="the company's clock")] = "2026-03-30T09:00:00Z",
) -> None:
    """Start the company's servers; connections are in `connections.json` under its home."""
    from tieout_sandbox import control

    control.up(home.resolve(), seed=seed, scale=scale, clean=clean, now=_instant(now), say=typer.echo)
    typer.echo(f"running; connections: {home / 'connections.json'}")


@app.command()
def down(home: Home = HOME) -> None:
    """Stop the servers."""
    from tieout_sandbox import control

    control.down(home.resolve())


@app.command()
def status(home: Home = HOME) -> None:
    """Which servers run, where they answer, what their clock says."""
    from tieout_sandbox import control

    typer.echo(json.dumps(control.status(home.resolve()), indent=2, default=str))


@app.command()
def clock(now: Annotated[str, typer.Argument(help="for example 2026-03-31T09:00:00Z")], home: Home = HOME) -> None:
    """Set the company's clock: what happened until then becomes visible."""
    from tieout_sandbox import control

    control.set_clock(home.resolve(), _instant(now))


@app.command()
def env(home: Home = HOME) -> None:
    """Its connections, for a shell whose commands ask its ERP: `eval "$(tieout sandbox env)"`."""
    from tieout_sandbox.control import State

    state = State.load(home.resolve())
    if state is None or not state.running:
        raise ConfigError("no company runs", record=str(home), remedy="start it: `tieout sandbox up`, or `make up`")
    for name, value in sorted(state.connections.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


def _instant(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("not an instant", got=text, expected="for example 2026-03-31T09:00:00Z") from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
