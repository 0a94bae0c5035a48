"""`make bench`: what two nights of the company in a box cost, step by step, in one process without Airflow.

`python -m tieout_sandbox.measure --scale N` starts the company in a temporary home, runs the nights, each in a
process of its own, so that its peak memory is its alone, prints one table a night, and stops everything again.
Beside each step stands a scan floor measured in the same process: reading the step's own input once. Processor time
and the ratio of the two hold on a busy machine too; wall time does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieout.errors import TieoutError
from tieout.settings import Settings
from tieout_sandbox import control
from tieout_sandbox.demo import CONFIG, NIGHTS, night_clock
from tieout_sandbox.processes import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tieout.orchestration.facts import Facts
    from tieout_sandbox.scan_floor import Floor

MEASURED = NIGHTS[:2]
_FORGET_PEAK = "5"  # what Linux takes in clear_refs to start a process's peak memory anew


def measure(
    scale: int, home: Path, nights: Sequence[date] = MEASURED, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Start the company under `home`, run nights one after the other, print what each cost; gives the figures."""
    company, figures = home / "sandbox", []
    try:
        start = time.monotonic()
        state = control.up(company, scale=scale, now=night_clock(nights[0]), say=say)
        ready = time.monotonic() - start
        env = _environment(home / "data", state.connections)
        _upgrade_store(env)
        for day in nights:
            control.set_clock(company, night_clock(day))
            figures.append(_in_a_process_of_its_own(day, env, home / f"night-{day}.json"))
            say("")
            for line in table(figures[-1]):
                say(line)
    finally:
        control.down(company)
    machine = {"processors": os.cpu_count(), "memory_mb": _memory_mb(), "python": platform.python_version()}
    return {"scale": scale, "machine": machine, "company_ready_seconds": round(ready, 1), "nights": figures}


def night(day: date) -> dict[str, Any]:
    """Run one night in this process; its figures, with the scan floor of each step that has one."""
    from tieout.observe import peak_memory_mb
    from tieout.orchestration import steps
    from tieout.orchestration.work import Work
    from tieout_sandbox.scan_floor import floors

    class Measured(Work):
        """Work whose steps each start with no peak memory behind them."""

        @contextmanager
        def kept(self, run_id: str, name: str) -> Iterator[Facts]:
            _forget_peak()
            with super().kept(run_id, name) as facts:
                yield facts

    work, run_id = Measured.from_env(), f"measure_{day}"
    start, used = time.monotonic(), time.process_time()
    facts = steps.night(work, run_id, day.isoformat())
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - used
    found = lines(facts, dict(floors(work, run_id, day)))
    return {
        "business_date": str(day),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "rest_seconds": round(seconds - sum(line["seconds"] for line in found), 2),
        "peak_mb": max(peak_memory_mb(), *(line["peak_mb"] for line in found)),
        "steps": found,
    }


def lines(facts: Mapping[str, Any], floors: Mapping[str, Floor]) -> list[dict[str, Any]]:
    """Per step of a run, in the order they began: times, records, records per second, peak memory, its floor if any.

    `records` are those the step read: landed by an extract, else the rows of its floor.
    """
    found = []
    kept = {name: step for name, step in facts.items() if isinstance(step, Mapping) and "milliseconds" in step}
    for name, step in sorted(kept.items(), key=lambda one: one[1]["started_at"]):
        floor, seconds, cpu = floors.get(name), step["milliseconds"] / 1000, step["cpu_milliseconds"] / 1000
        records = step["records"] + step.get("kept_raw", 0) if "records" in step else floor.rows if floor else None
        found.append(
            {
                "step": name,
                "seconds": seconds,
                "cpu_seconds": cpu,
                "records": records,
                "records_per_second": round(records / seconds) if records and seconds else None,
                "peak_mb": step["peak_mb"],
                "floor_cpu_seconds": round(floor.cpu_seconds, 4) if floor and floor.rows else None,
                "times_floor": round(cpu / floor.cpu_seconds, 1) if floor and floor.rows else None,
            }
        )
    return found


_COLUMNS = {
    "step": "step", "seconds": "seconds", "cpu_seconds": "CPU s", "records": "records",
    "records_per_second": "records/s", "peak_mb": "peak MB", "floor_cpu_seconds": "floor s", "times_floor": "x floor",
}  # fmt: skip


def table(figures: Mapping[str, Any]) -> list[str]:
    """The figures of a night as lines for the terminal, columns aligned, heaviest things easy to find."""
    shown = [list(_COLUMNS.values())]
    for line in figures["steps"]:
        shown.append([_cell(name, line[name]) for name in _COLUMNS])
    rest = {"step": "everything between the steps", "seconds": figures["rest_seconds"]}
    shown.append([_cell(name, rest.get(name)) for name in _COLUMNS])
    total = {"step": "the night", **{name: figures[name] for name in ("seconds", "cpu_seconds", "peak_mb")}}
    shown.append([_cell(name, total.get(name)) for name in _COLUMNS])
    widths = [max(len(row[n]) for row in shown) for n in range(len(_COLUMNS))]
    aligned = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in shown
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [f"night of {figures['business_date']}", aligned[0], rule, *aligned[1:-1], rule, aligned[-1]]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.2f}" if name.endswith("seconds") else f"{value:,.1f}" if name == "times_floor" else f"{value:,}"


def _forget_peak() -> None:
    """Let the peak memory of this process start again from what it holds now; where that cannot be, it goes on."""
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
    except OSError:
        return


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _environment(data: Path, connections: Mapping[str, str]) -> dict[str, str]:
    """What the night's process sees: nobody else's settings, the company's connections, an empty data root."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    return {**ours, **connections, "TIEOUT_HOME": str(data), "TIEOUT_CONFIG": str(CONFIG)}


def _upgrade_store(env: Mapping[str, str]) -> None:
    from tieout.store import Store

    Store(Settings.from_env(env).store).upgrade()


def _in_a_process_of_its_own(day: date, env: Mapping[str, str], out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tieout_sandbox.measure", "--night", day.isoformat(), "--json", str(out)]
    done = subprocess.run(command, env=dict(env), check=False)
    if done.returncode != 0:
        raise SandboxError(f"the night of {day} failed", got=f"exit code {done.returncode}")
    return dict(json.loads(out.read_text()))


def _write(figures: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; `--night` is what the command starts itself with, one process per night."""
    parser = argparse.ArgumentParser(prog="python -m tieout_sandbox.measure", description="What two nights cost.")
    parser.add_argument("--scale", type=int, default=1, help="how large a company: 1 has hundreds of customers")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--night", type=date.fromisoformat, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        if options.night:
            _write(night(options.night), options.json)
            return
        with tempfile.TemporaryDirectory(prefix="tieout-measure-") as folder:
            figures = measure(options.scale, Path(folder), say=lambda text: print(text, flush=True))
        if options.json:
            _write(figures, options.json)
            print(f"\n{options.json}")
    except TieoutError as error:
        print(f"measure: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
