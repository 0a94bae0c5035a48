"""What summarising accounting events into journals costs beside scanning and grouping their columns alone.

`python -m tieout_sandbox.bench.journals --rows 1e7` generates a night's events of a large company, runs the floor, the
summary without and with its drill-down, each in a process of its own, and prints the ratios.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from tieout_sandbox.bench import report

PARTS = ("floor", "lines", "whole")
"""`lines` is the summary as lines, `whole` with the drill-down of every line written to Parquet."""
_AMOUNTS = ("net", "tax", "gross", "to_receivable", "to_credit")
FLOOR = (
    "SELECT legal_entity_id, event_type, event_date, currency, product_family, tax_code, count(*), "
    + ", ".join(f"sum({name})" for name in _AMOUNTS)
    + " FROM read_parquet($path) GROUP BY ALL"
)


def generate(path: Path, rows: int) -> None:
    """Invoice lines and payments of four entities on three days; each event balances, every product is mapped."""
    from tieout.lake.engine import engine, sql_type
    from tieout.ledger import EVENTS

    known = {
        "event_id": "'e' || i",
        "event_type": "['invoice_ahead', 'invoice_delivered', 'payment_processor', 'fee'][1 + (i % 4)]",
        "legal_entity_id": "['US', 'DE', 'JP', 'UK'][1 + (h // 16) % 4]",
        "document_id": "'d' || i // 4 || '.' || i % 4",
        "document_number": "'INV-' || i // 4",
        "event_date": "DATE '2026-03-29' + CAST(h // 64 % 3 AS INTEGER)",
        "currency": "['USD', 'EUR', 'JPY', 'GBP'][1 + (h // 16) % 4]",
        "product_family": "CASE WHEN i % 4 < 2 THEN ['seats', 'platform', 'usage', 'support'][1 + (h // 256) % 4] END",
        "tax_code": "CASE WHEN i % 4 < 2 THEN ['standard', 'reduced', 'exempt'][1 + (h // 1024) % 3] END",
        "net": "CASE WHEN i % 4 < 2 THEN h % 100000 ELSE 0 END",
        "tax": "CASE WHEN i % 4 < 2 THEN h % 1000 ELSE 0 END",
        "gross": "CASE WHEN i % 4 < 2 THEN h % 100000 + h % 1000 ELSE h % 5000 END",
        "to_receivable": "CASE WHEN i % 4 = 2 THEN h % 5000 ELSE 0 END",
        "source": "'stripe'",
        "source_id": "'s' || i",
        "correlation_id": "'c' || i // 4",
        "raw_ref": "'raw/' || i // 500 || '#' || i % 500",
    }
    zero = {"deferred", "recognised", "to_credit", "rounding"}
    columns = ", ".join(
        f"CAST({known.get(f.name, '0' if f.name in zero else 'NULL')} AS {sql_type(f.type)}) AS {f.name}"
        for f in EVENTS
    )
    with engine(memory_limit="4GB") as session:
        session.copy(
            f"SELECT {columns} FROM (SELECT i, CAST(hash(i) % 1000000 AS BIGINT) AS h FROM range({rows}) AS r(i))", path
        )


def part(name: str, path: Path, memory: str) -> dict[str, Any]:
    """One measured part, in this process."""
    from tieout.lake.engine import engine
    from tieout.ledger import load_rules, summarise
    from tieout.observe import peak_memory_mb
    from tieout.settings import Settings

    rules = load_rules(Settings.from_env({}))
    started, used = time.perf_counter(), time.process_time()
    with engine(memory_limit=memory) as session:
        if name == "floor":
            lines = len(session.rows(FLOOR, {"path": str(path)}))
        else:
            out = path.parent / "drilldown.parquet" if name == "whole" else None
            made = summarise(path, rules, as_of=date(2026, 4, 1), drilldown=out or False, session=session)
            lines = made.lines.num_rows
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - used,
        "peak_mb": peak_memory_mb(),
        "lines": lines,
    }


def measure(rows: int, memory: str, repeat: int) -> list[dict[str, Any]]:
    """The figures of both summaries, of several interleaved rounds the fastest."""
    best: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="tieout-bench-") as folder:
        path = Path(folder) / "events.parquet"
        generate(path, rows)
        for name in PARTS * repeat:
            own = [sys.executable, "-m", __spec__.name, "--memory", memory, "--part", name, "--path", str(path)]
            found = json.loads(subprocess.run(own, check=True, capture_output=True, text=True).stdout)
            if found["wall_s"] < best.get(name, found | {"wall_s": float("inf")})["wall_s"]:
                best[name] = found
    floor = best["floor"]
    return [
        {
            "name": f"summarise_{name}",
            "rows": rows,
            "lines": best[name]["lines"],
            "wall_s": round(best[name]["wall_s"], 3),
            "floor_s": round(floor["wall_s"], 3),
            "ratio_to_floor": round(best[name]["wall_s"] / floor["wall_s"], 2),
            "peak_mb": best[name]["peak_mb"],
            "peers": {},
            "cpu_s": round(best[name]["cpu_s"], 3),
            "floor_cpu_s": round(floor["cpu_s"], 3),
            "memory_limit": memory,
            "floor_query": FLOOR,
            **report.made(),
        }
        for name in PARTS[1:]
    ]


def main() -> None:
    """`python -m tieout_sandbox.bench.journals`."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=float, default=1e6)
    asked.add_argument("--memory", default="4GB")
    asked.add_argument("--repeat", type=int, default=3)
    asked.add_argument("--part", choices=PARTS)
    asked.add_argument("--path", type=Path)
    given = asked.parse_args()
    if given.part:
        sys.stdout.write(json.dumps(part(given.part, given.path, given.memory)))
        return
    for figures in measure(int(given.rows), given.memory, given.repeat):
        sys.stdout.write(report.line(figures) + f"; {figures['lines']} lines\n")


if __name__ == "__main__":
    main()
