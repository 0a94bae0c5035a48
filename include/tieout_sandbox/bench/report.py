"""The list of benchmarks and the page people read, both joined run by run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_HEAD = """# Benchmarks

`make bench ROWS=100000` generates its own data, runs every benchmark below beside its floor and its peers, each in a
process of its own, and joins the figures to [`benchmarks.json`](benchmarks.json); `make bench SCALE=1` also measures
two nights of the company in a box ([performance.md](performance.md)). An entry replaces the one of the same name, rows
and memory limit.

- The data: string keys, two currencies, decimal amounts, 0.5% breaks of every type a key can show, duplicates on the
  right side, the right side shuffled; Parquet with zstd.
- The **floor** is one pass of the engine that reads every compared column of both sides and computes the control
  totals (by entity, currency, month); the command prints the query.
- What cannot be had for less, measured as single statements of the engine at 10M a side, in floors of processor time:
  hashing every row once 1.0 to 1.1, control totals 0.4, reading the rows of unequal buckets again 0.8 to 1.0, so
  2.2 to 2.5 for `keyed_differing` before anything is summed; writing ten million matches 2.7 to 3.9 more for
  `keyed_all`. `payments_by_reference`: payments grouped and joined to invoices, nothing else, 4.7.
  `payments_unreferenced`: writing its million breaks, worded already, 9.4.
- `summarise` turns accounting events into journals of some hundred lines; `summarise_sources` also sums every line
  again from its source rows. Their floor scans the events and groups the same columns, nothing else.
- `posting_tryton` posts journals of 50 lines (its rows are lines) into a real Tryton by the whole protocol. Its floor:
  the two calls that create and post the same journals and nothing else; the two take turns on one server.
- Wall and processor seconds are of the work itself, result files included, without imports; peak memory is of the whole
  process. Ratios within one entry hold on a busy machine, seconds do not.
- `usage`: 36-character ids, 1% further deliveries (some with other content, some under another day), 1% late; exact
  deduplication by source and id over all files. Its floor reads every column of the events. Its peers deduplicate by id
  too; they tell no other content under an id, no late usage and no faulty event, and pandas sums floats.
- `usage_batch` sums up again after one day's file was replaced by one with a thousand events more; ids are compared
  with those of all days.
- The peers get the same files. They compare amounts as floats, and none of them gives control totals by entity,
  currency and period, a break type or an exact account of duplicates. One that fails or takes over nine
  minutes is left out.
"""
_COLUMNS = (
    "benchmark",
    "rows",
    "wall s",
    "floor s",
    "× floor",
    "CPU × floor",
    "peak MB",
    "limit",
    "peers: wall s (× ours)",
    "date",
)


def made() -> dict[str, Any]:
    """When and where a figure was made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} processors, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def line(figures: Mapping[str, Any]) -> str:
    """One benchmark for the terminal."""
    peers = ", ".join(f"{name} {seconds} s" for name, seconds in figures["peers"].items())
    return (
        f"{figures['name']}: {figures['rows']:,} rows, {figures['wall_s']} s wall, {figures['cpu_s']} s CPU, "
        f"{figures['ratio_to_floor']} × the floor of {figures['floor_s']} s, {figures['peak_mb']} MB"
        + (f"; peers: {peers}" if peers else "")
    )


def of_night(scale: int, number: int, night: Mapping[str, Any]) -> dict[str, Any]:
    """A night of the company as an entry: its floor is one scan of the inputs of all steps that have one."""
    floor = sum(step["floor_cpu_seconds"] or 0 for step in night["steps"])
    return {
        "name": f"night_{number}_scale_{scale}",
        "rows": sum(step["records"] or 0 for step in night["steps"] if step["step"].startswith("extract/")),
        "wall_s": night["seconds"],
        "floor_s": round(floor, 3),
        "ratio_to_floor": round(night["seconds"] / floor, 1) if floor else None,
        "peak_mb": night["peak_mb"],
        "peers": {},
        "cpu_s": night["cpu_seconds"],
        "floor_cpu_s": round(floor, 3),
        **made(),
    }


def join(docs: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Put entries into `benchmarks.json`, each in the place of an older one of its kind, and write the page anew."""
    path = docs / "benchmarks.json"
    kept = {_kind(entry): entry for entry in json.loads(path.read_text())} if path.exists() else {}
    kept |= {_kind(entry): dict(entry) for entry in entries}
    listed = [kept[kind] for kind in sorted(kept)]
    path.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (docs / "benchmarks.md").write_text(page(listed), encoding="utf-8")


def page(entries: Iterable[Mapping[str, Any]]) -> str:
    """The list as a page."""
    listed = list(entries)
    rows = ["| " + " | ".join(_COLUMNS) + " |", "|---" + "|---:" * 6 + "|---|---|---|"]
    for entry in listed:
        peers = ", ".join(f"{n} {s:.3g} ({s / entry['wall_s']:.1f} ×)" for n, s in entry["peers"].items())
        cpu = f"{entry['cpu_s'] / entry['floor_cpu_s']:.2f}" if entry.get("floor_cpu_s") else ""
        figures = (entry["name"], f"{entry['rows']:,}", f"{entry['wall_s']:.3g}", f"{entry['floor_s']:.3g}")
        cells = (*figures, entry["ratio_to_floor"], cpu, entry["peak_mb"], entry.get("memory_limit", ""), peers)
        rows.append("| " + " | ".join(str(cell) for cell in (*cells, entry["date"])) + " |")
    machines = sorted({entry["machine"] for entry in listed})
    queries = dict.fromkeys(entry["floor_query"] for entry in listed if entry.get("floor_query"))
    floors = max(queries, key=len, default="")
    return "\n".join(
        [_HEAD, *rows, "", f"Machine: {'; '.join(machines)}.", "", "A floor's query:", "", "```sql", floors, "```", ""]
    )


def _kind(entry: Mapping[str, Any]) -> tuple[str, int, str]:
    return entry["name"], entry["rows"], entry.get("memory_limit", "")
