"""`make bench`: what two nights of the company in a box cost, step by step, in one process without Airflow.

`python -m tieout_sandbox.measure --scale N` starts the company in a temporary home, runs the nights in a process of
their own, so that its peak memory is theirs alone, prints one table a night, and stops everything again.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tieout.errors import TieoutError
from tieout.settings import Settings
from tieout_sandbox import control
from tieout_sandbox.demo import CONFIG, NIGHTS, night_clock
from tieout_sandbox.processes import SandboxError

MEASURED = NIGHTS[:2]
_COUNTS = ("records", "read", "rows", "matches", "breaks", "batches", "expectations", "failed")


def measure(scale: int, say: Callable[[str], None] = print) -> None:
    """Start the company, run the measured nights one after the other, print what each cost; everything is stopped."""
    with tempfile.TemporaryDirectory(prefix="tieout-measure-") as folder:
        home = Path(folder)
        company = home / "sandbox"
        try:
            state = control.up(company, scale=scale, now=night_clock(MEASURED[0]), say=say)
            env = _environment(home / "data", state.connections)
            _upgrade_store(env)
            for day in MEASURED:
                control.set_clock(company, night_clock(day))
                say("")
                _in_a_process_of_its_own(day, env)
        finally:
            control.down(company)


def night(day: date) -> None:
    """Run one night in this process and print its steps, what they counted, and this process's peak memory."""
    from tieout.orchestration import steps
    from tieout.orchestration.work import Work

    work, run_id, start = Work.from_env(), f"measure_{day}", time.monotonic()
    steps.night(work, run_id, day.isoformat())
    seconds = time.monotonic() - start
    facts = work.store.run(run_id).facts
    print(f"night of {day}: {seconds:.1f} s, peak memory {_peak_mb()} MB, {_landed(facts)} records landed")
    for line in table(facts, seconds):
        print(line)


def table(facts: Mapping[str, Any], seconds: float) -> list[str]:
    """One line per step: its name, wall seconds, and what it counted; last what no step keeps, which is the posting."""
    lines = [f"  {'step':<36} {'seconds':>8}  counted"]
    rest = seconds
    for name, step in facts.items():
        if isinstance(step, Mapping) and "milliseconds" in step:
            rest -= step["milliseconds"] / 1000
            keys = [k for k in _COUNTS if isinstance(step.get(k), int) and (k != "rows" or "expectations" not in step)]
            counted = ", ".join(f"{key} {step[key]:,}" for key in keys)  # the gate's rows are those that fail
            lines.append(f"  {name:<36} {step['milliseconds'] / 1000:>8.2f}  {counted}".rstrip())
    posted = sum(step["posted"] for name, step in facts.items() if name.startswith("posting/"))
    lines.append(f"  {'posting, reading back, the rest':<36} {rest:>8.2f}  posted {posted:,}")
    return lines


def _landed(facts: Mapping[str, Any]) -> str:
    return f"{sum(step['records'] for name, step in facts.items() if name.startswith('extract/')):,}"


def _peak_mb() -> int:
    """This process's largest resident set so far (Linux counts it in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _environment(data: Path, connections: Mapping[str, str]) -> dict[str, str]:
    """What the night's process sees: nobody else's settings, the company's connections, an empty data root."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    return {**ours, **connections, "TIEOUT_HOME": str(data), "TIEOUT_CONFIG": str(CONFIG)}


def _upgrade_store(env: Mapping[str, str]) -> None:
    from tieout.store import Store

    Store(Settings.from_env(env).store).upgrade()


def _in_a_process_of_its_own(day: date, env: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "tieout_sandbox.measure", "--night", day.isoformat()]
    done = subprocess.run(command, env=dict(env), check=False)
    if done.returncode != 0:
        raise SandboxError(f"the night of {day} failed", got=f"exit code {done.returncode}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; `--night` is what the command starts itself with, one process per night."""
    parser = argparse.ArgumentParser(prog="python -m tieout_sandbox.measure", description="What two nights cost.")
    parser.add_argument("--scale", type=int, default=1, help="how large a company: 1 has hundreds of customers")
    parser.add_argument("--night", type=date.fromisoformat, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        if options.night:
            night(options.night)
        else:
            measure(options.scale, lambda text: print(text, flush=True))
    except TieoutError as error:
        print(f"measure: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
