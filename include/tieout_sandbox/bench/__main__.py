"""`make bench`: what a reconciliation costs beside one read of its input, and beside the peers.

`python -m tieout_sandbox.bench --rows N` generates the data in a temporary folder, runs floor, Tieout and peers one
after the other, each in a process of its own, prints a line per benchmark and joins the figures to the list in
`docs/benchmarks.json`, from which it writes `docs/benchmarks.md`. It also posts a journal of 50 lines per thousand rows
into a real ERP. `--scale N` also measures two nights of the company.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tieout_sandbox.bench import peers, posting, report
from tieout_sandbox.bench.cases import CASES, PEERS, USAGE_PEERS, Case

ROOT = Path(__file__).resolve().parents[3]
PEERS_HOME = ROOT / "build" / "bench-peers"
_TOO_LONG = 540  # seconds after which a run is stopped and left out


def bench(
    case: Case, rows: int, folder: Path, *, repeat: int, memory: str, with_peers: Collection[str]
) -> dict[str, Any] | None:
    """The figures of one benchmark; of several rounds the fastest, each round interleaved. None if it never ended."""
    count = max(12, int(rows * case.share))
    home = folder / f"{case.generate.__name__}-{count}"
    own = [sys.executable, "-m", "tieout_sandbox.bench", "--memory", memory, "--folder", str(home)]
    own += ["--rows", str(count), "--case", case.name, "--part"]
    commands = {"floor": [*own, "floor"], "tieout": [*own, "run"]}
    asked = [peer for peer in case.peers if peer in with_peers]
    if asked:
        python = str(_peers_python())
        commands |= {peer: [python, peers.__file__, peer, str(home)] for peer in asked}
    if not home.exists() and _process([*own, "generate"], seconds=None) is None:
        shutil.rmtree(home, ignore_errors=True)  # half of the data is no data for the next benchmark of the same
        return None
    best: dict[str, dict[str, Any]] = {}
    for _ in range(repeat):
        for name, command in commands.items():
            found = _process(command)
            if found and found["wall_s"] < best.get(name, found | {"wall_s": float("inf")})["wall_s"]:
                best[name] = found
    if not {"floor", "tieout"} <= set(best):
        return None
    floor, tieout = best["floor"], best["tieout"]
    return {
        "name": case.name,
        "rows": count,
        "wall_s": round(tieout["wall_s"], 3),
        "floor_s": round(floor["wall_s"], 3),
        "ratio_to_floor": round(tieout["wall_s"] / floor["wall_s"], 2),
        "peak_mb": tieout["peak_mb"],
        "peers": {peer: round(best[peer]["wall_s"], 3) for peer in asked if peer in best},
        "peers_peak_mb": {peer: best[peer]["peak_mb"] for peer in asked if peer in best},
        "cpu_s": round(tieout["cpu_s"], 3),
        "floor_cpu_s": round(floor["cpu_s"], 3),
        "memory_limit": memory,
        "floor_query": floor["query"],
        **report.made(),
    }


def part(name: str, case: Case, rows: int, folder: Path, memory: str) -> dict[str, Any]:
    """One measured part of a benchmark, in this process."""
    from tieout.lake.engine import engine
    from tieout.observe import peak_memory_mb
    from tieout.reconcile import reconcile

    if name == "generate":
        with engine(memory_limit="4GB") as session:
            case.generate(session, folder, rows)
        return {}
    files = {
        side: sorted((folder / side).glob("*.parquet")) or [folder / f"{side}.parquet"] for side in ("left", "right")
    }
    query = case.floor(folder, files)
    for late in ("pandas", "iso4217"):  # by pyarrow with its first table, and by whoever asks for currencies
        import_module(late)  # no import is measured: the peers too import before the clock runs
    start, used = time.monotonic(), time.process_time()  # each part opens the session it needs
    if name == "run" and case.run is not None:
        found = case.run(folder, memory)
    else:
        with engine(memory_limit=memory) as session:
            if name == "floor":
                found = len(session.rows(query))
            else:
                result = reconcile(
                    case.definition, files["left"], files["right"], engine=session, matches=case.matches,
                    out=folder / "out",
                )  # fmt: skip
                found = result.summary.breaks
    wall, cpu = time.monotonic() - start, time.process_time() - used
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak_memory_mb(), "found": found, "query": query}


def _process(command: Sequence[str], seconds: float | None = _TOO_LONG) -> dict[str, Any] | None:
    """What a part printed; None where it failed or took too long, said on stderr."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except subprocess.CalledProcessError as error:
        print(f"left out: {' '.join(command[1:4])}: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    except subprocess.TimeoutExpired:
        print(f"left out: {' '.join(command[1:4])}: more than {seconds} s", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _peers_python() -> Path:
    """The Python of the peers' environment, built once."""
    python = PEERS_HOME / "bin" / "python"
    complete = PEERS_HOME / ".complete"
    if not complete.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        venv = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(PEERS_HOME)]
        subprocess.run(venv, check=True)
        wanted = str(Path(__file__).with_name("peers.txt"))
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", wanted], check=True)
        complete.touch()
    return python


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; `--part` is what the command starts itself with."""
    parser = argparse.ArgumentParser(prog="python -m tieout_sandbox.bench", description="What reconciling costs.")
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=100_000, help="rows of the keyed sides")
    names = [*(c.name for c in CASES), posting.NAME]
    parser.add_argument("--case", action="append", choices=names, help="only these")
    parser.add_argument("--repeat", type=int, help="rounds; default 3, and 1 above a million rows")
    parser.add_argument("--memory", default="2GB", help="the engine's memory limit")
    parser.add_argument("--peer", action="append", choices=(*PEERS, *USAGE_PEERS), help="only these; default all")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--scale", type=int, help="also two nights of a company of this scale")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where benchmarks.json and .md are")
    parser.add_argument("--folder", type=Path, help="where the data is kept; default a temporary folder")
    parser.add_argument("--part", choices=("generate", "floor", "run"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    cases = [c for c in CASES if c.name in (options.case or [c.name])]
    if options.part:
        print(json.dumps(part(options.part, cases[0], options.rows, options.folder, options.memory)))
        return
    repeat = options.repeat or (3 if options.rows <= 1_000_000 else 1)
    with tempfile.TemporaryDirectory(prefix="tieout-bench-") as temporary:
        folder = options.folder or Path(temporary)
        shown: set[str] = set()
        failed = []
        for case in cases:
            with_peers = () if options.no_peers else options.peer or (*PEERS, *USAGE_PEERS)
            figures = bench(case, options.rows, folder, repeat=repeat, memory=options.memory, with_peers=with_peers)
            if figures is None:
                failed.append(case.name)
                continue
            if figures["floor_query"] not in shown:
                print(f"\nthe floor of {case.title}:\n{figures['floor_query']}")
                shown.add(figures["floor_query"])
            print(report.line(figures), flush=True)
            report.join(options.docs, [figures | {"floor_query": _without_paths(figures["floor_query"], folder)}])
    if posting.NAME in (options.case or [posting.NAME]):
        figures = posting.measure(max(5, options.rows // 1000))
        print(report.line(figures), flush=True)
        report.join(options.docs, [figures])
    if options.scale is not None:
        report.join(options.docs, _nights(options.scale))
    if failed:
        sys.exit(f"no figures for {', '.join(failed)}")


def _without_paths(query: str, folder: Path) -> str:
    return query.replace(f"{folder}{os.sep}", "")


def _nights(scale: int) -> list[dict[str, Any]]:
    """Two nights of the company as entries of the same list."""
    from tieout_sandbox.measure import measure

    with tempfile.TemporaryDirectory(prefix="tieout-measure-") as folder:
        figures = measure(scale, Path(folder), say=lambda text: print(text, flush=True))
    path = ROOT / "build" / f"bench-scale-{scale}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return [report.of_night(scale, number, night) for number, night in enumerate(figures["nights"], 1)]


if __name__ == "__main__":
    main()
