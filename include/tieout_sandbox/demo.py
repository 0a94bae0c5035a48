"""`make demo`: three nights and a month end of the company in a box in real Airflow, then all nights again.

`make up` starts the same company with the Airflow UI and leaves it running until `make down`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tieout.errors import TieoutError
from tieout.settings import Settings
from tieout_sandbox import control
from tieout_sandbox.airflow import Airflow, Client, TaskState, start_airflow
from tieout_sandbox.company_store import stored_company
from tieout_sandbox.processes import ProcessId, SandboxError, stop
from tieout_sandbox.summary import Observed, observe_month_end, observe_night, show, summarise
from tieout_sandbox.tryton import chart
from tieout_sandbox.tryton.accountant import accountant_connection, count_moves

CONFIG = Path(__file__).resolve().parent / "config"
NIGHTS = (date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31))
PERIOD, MONTH_END_CLOCK = "2026-03", datetime(2026, 4, 2, 9, tzinfo=UTC)
OWNED = ".made-by-the-sandbox"  # only a data root with this file in it is ever emptied
SUMMARY = "demo-summary.json"


def night_clock(business_date: date) -> datetime:
    """When the night of a business date starts in the demo: the next day, 09:00 UTC, over in every zone."""
    return datetime.combine(business_date + timedelta(days=1), datetime.min.time(), tzinfo=UTC) + timedelta(hours=9)


@dataclass(frozen=True)
class Options:
    """What to show: which company, and where its servers and its data live."""

    run: Path
    data: Path
    seed: int = 7
    scale: int = 1
    clean: bool = False


class Narrator:
    """Tells the person at the terminal what happens, each line with the minutes and seconds since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        passed = int(time.monotonic() - self.start)
        print(f"[{passed // 60:02d}:{passed % 60:02d}] {text}", flush=True)

    def task(self, label: str, log: Callable[[TaskState], str]) -> Callable[[TaskState], None]:
        """A listener for tasks as they end; failed ones come with what their log says."""

        def tell(task: TaskState) -> None:
            if task.state in ("success", "failed"):
                self.say(f"  {label}  {task.name:<28} {task.state} {task.seconds or 0:6.1f} s")
            if task.state == "failed":
                print(log(task), flush=True)

        return tell


def demo(options: Options) -> Path:
    """Run the whole demo and return the path of `demo-summary.json`."""
    narrator = Narrator()
    with running(options, narrator) as airflow:
        client = Client(airflow)
        settings = Settings.from_env(airflow.env)
        nights = [_night(client, settings, options, narrator, day, 1) for day in NIGHTS]
        month = _month_end(client, settings, options, narrator)
        before = _moves(options)
        again = [_night(client, settings, options, narrator, day, 2) for day in NIGHTS]
        summary = summarise(nights, month, again, moves=(before, _moves(options)))
        path = options.data / SUMMARY
        path.write_text(json.dumps(summary, indent=2) + "\n")
        show(summary, nights, month)
    narrator.say("everything stopped")
    return path


def _night(client: Client, settings: Settings, options: Options, narrator: Narrator, day: date, turn: int) -> Observed:
    narrator.say(f"night of {day}" + (" again: it must post nothing" if turn > 1 else ""))
    if turn == 1:
        control.set_clock(options.run / "sandbox", night_clock(day))
    seconds = _run(
        client, narrator, "nightly_reconciliation", f"night__{day}__{turn}", {"business_date": str(day)}, str(day)
    )
    run_id = f"nightly_reconciliation.night__{day}__{turn}"
    company = stored_company(options.seed, options.scale, options.clean)
    return observe_night(settings, run_id, day, seconds, company)


def _month_end(client: Client, settings: Settings, options: Options, narrator: Narrator) -> Observed:
    narrator.say(f"month end of {PERIOD}")
    control.set_clock(options.run / "sandbox", MONTH_END_CLOCK)
    seconds = _run(client, narrator, "month_end", f"month__{PERIOD}", {"period": PERIOD}, PERIOD)
    return observe_month_end(settings, f"month_end.month__{PERIOD}", seconds)


def _moves(options: Options) -> dict[str, int]:
    """Moves per company, as the ERP itself counts them."""
    state = control.State.load(options.run / "sandbox")
    assert state is not None  # noqa: S101  it runs
    password = state.secrets["erp"][chart.ACCOUNTANT]
    return count_moves(accountant_connection(state.urls["tryton"], control.DATABASE, password))


def _run(client: Client, narrator: Narrator, dag_id: str, run_id: str, params: Mapping[str, Any], label: str) -> float:
    """Run one workflow to its end; its seconds. Raises SandboxError if it fails."""
    start = time.monotonic()
    told = narrator.task(label, lambda task: client.log(dag_id, run_id, task))
    state = client.run(dag_id, run_id, params, told)
    seconds = round(time.monotonic() - start, 1)
    narrator.say(f"{dag_id} of {label}: {state} in {seconds:.0f} s")
    if state != "success":
        raise SandboxError(f"{dag_id} of {label} failed", record=run_id, remedy="see the lines above")
    return seconds


@contextmanager
def running(options: Options, narrator: Narrator) -> Iterator[Airflow]:
    """The company and Airflow for the length of a block; everything is stopped again, whatever happens."""
    try:
        yield start(options, narrator)
    finally:
        narrator.say("stopping everything")
        down(options)


def start(options: Options, narrator: Narrator) -> Airflow:
    """Start the company's servers and Airflow, on an empty data root."""
    down(options)
    options.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    options.run.chmod(0o700)
    _empty_data_root(options.data)
    narrator.say("starting the company: ERP, billing, CRM, support")
    company = control.up(
        options.run / "sandbox",
        seed=options.seed,
        scale=options.scale,
        clean=options.clean,
        now=night_clock(NIGHTS[0]),
        say=lambda text: narrator.say(f"  {text}"),
    )
    _upgrade_store(options)
    narrator.say("starting Airflow")
    home = options.run / "airflow"
    shutil.rmtree(home, ignore_errors=True)
    env = {
        "TIEOUT_HOME": str(options.data),
        "TIEOUT_CONFIG": str(CONFIG),
        "TIEOUT_CONFIG_APPROVAL": "off",  # whoever plays with the company changes its files alone
        "TIEOUT_SCHEDULE": "off",
        "TIEOUT_RETRY_SECONDS": "2",
    }
    airflow = start_airflow(home, connections=company.connections, env=env)
    _remember(options, airflow)
    narrator.say(f"Airflow answers on {airflow.url}")
    return airflow


def down(options: Options) -> None:
    """Stop what an earlier start left running, by process id."""
    remembered = options.run / "airflow.json"
    if remembered.exists():
        for process in json.loads(remembered.read_text()):
            stop(ProcessId(**process))
        remembered.unlink()
    control.down(options.run / "sandbox")


def _remember(options: Options, airflow: Airflow) -> None:
    path = options.run / "airflow.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps([process.as_dict() for process in airflow.processes]))


def _upgrade_store(options: Options) -> None:
    from tieout.store import Store

    Store(Settings.from_env({"TIEOUT_HOME": str(options.data)}).store).upgrade()


def _empty_data_root(data: Path) -> None:
    """A fresh company has a fresh ERP: what an earlier company left would not fit it."""
    if data.exists() and any(data.iterdir()):
        if not (data / OWNED).exists():
            raise SandboxError(
                "the data root holds files that the sandbox did not make",
                record=str(data),
                remedy="move them away, or set TIEOUT_HOME to another folder",
            )
        shutil.rmtree(data)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    data.chmod(0o700)
    (data / OWNED).touch()


def up(options: Options) -> None:
    """Start everything and leave it running, the clock at the first night."""
    narrator = Narrator()
    try:
        airflow = start(options, narrator)
    except BaseException:
        down(options)
        raise
    users = "\n".join(f"sign in   {user:<10}  {password}" for user, password in airflow.passwords.items())
    print(
        f"\nAirflow   {airflow.url}\n{users}\n\n"
        f"The company's clock stands at {night_clock(NIGHTS[0]):%Y-%m-%d %H:%M} UTC: trigger\n"
        f"nightly_reconciliation with business date {NIGHTS[0]}. The next morning comes with\n"
        f"`.venv/bin/tieout sandbox clock {night_clock(NIGHTS[1]):%Y-%m-%dT%H:%M:%SZ}`.\n"
        "Commands that ask the ERP, such as `tieout period check`, need its connection:\n"
        '`eval "$(.venv/bin/tieout sandbox env)"`. `make down` stops everything.'
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command: `demo` (default), `up` or `down`. Gives the exit code."""
    settings = Settings.from_env()
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("demo", "up", "down"), default="demo")
    parser.add_argument("--run", type=Path, default=Path(".run"), help="servers, passwords, Airflow's home")
    parser.add_argument("--data", type=Path, default=settings.home, help="the data root (TIEOUT_HOME)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--clean", action="store_true", help="a company without planted breaks")
    chosen = parser.parse_args(argv)
    options = Options(chosen.run.resolve(), chosen.data.resolve(), chosen.seed, chosen.scale, chosen.clean)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        if chosen.command == "demo":
            print(demo(options))
        elif chosen.command == "up":
            up(options)
        else:
            down(options)
    except KeyboardInterrupt:
        print("interrupted; everything this command started has been stopped", file=sys.stderr)
        return 130
    except TieoutError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
