"""From which size on Spark pays: the same usage summed up by DuckDB and by a cluster of two workers on this machine.

Usage in which every rule has something to do (`every_rule`): all seven aggregations, deduplication, corrections, voids,
late and faulty events, billing periods of all lengths. Every column of the three results must be the same, and every
count. `python -m tieout_sandbox.bench.many_machines 2e4 1e6` prints a line per size; docs/guide/spark.md has them.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tieout import schema
from tieout.lake.engine import engine
from tieout.lake.hashing import result_hash
from tieout.usage import Usage, aggregate, application
from tieout.usage.handed import TABLES, Request
from tieout_sandbox import spark
from tieout_sandbox.bench.every_rule import generate

# what a cluster has unless told otherwise; the sandbox turns it off because its runs are short
_AS_SHIPPED = {
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.shuffle.partitions": "32",
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
    "spark.executor.extraJavaOptions": "-XX:+UseParallelGC",
}


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Seconds of both engines for so many events: wall, processor, and the cluster's start, which any size pays."""
    with engine(memory_limit="2GB") as session:
        given = generate(session, folder / "events", rows)
    started, used = time.monotonic(), time.process_time()
    with engine(memory_limit="2GB") as session:
        here = aggregate(**given, session=session)
    figures = {"rows": rows, "duckdb_s": time.monotonic() - started, "duckdb_cpu_s": time.process_time() - used}
    files = {name: [value] if isinstance(value, str) else value for name, value in given.items()}
    request = Request(**files, snapshot={}, folder=str(folder / "handed"))
    with spark.cluster(folder / "cluster", memory_mb=2048, conf=_AS_SHIPPED) as running:
        started, used = time.monotonic(), _cpu(running)
        command = ["spark-submit", "--master", running.master, application.__file__, request.write()]
        subprocess.run(command, env=dict(running.environment), check=True, capture_output=True)
        figures |= {"spark_s": time.monotonic() - started, "spark_cpu_s": _cpu(running) - used}
    if content(request.answered()) != content(here):
        raise AssertionError(f"the engines disagree about {rows} events")
    figures["aggregations"] = len(set(here.rows["aggregation"].to_pylist()))
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in figures.items()}


def content(usage: Usage) -> dict[str, object]:
    """What must be the same: counts, and for each table how many rows it has and the hash of all its columns."""
    tables = {
        table: (len(getattr(usage, name)), result_hash(getattr(usage, name), schema.table(table).key, exclude=()))
        for name, table in TABLES.items()
    }
    return tables | {name: getattr(usage, name) for name in ("events", "counted", "repeated", "changed", "faulty")}


def _cpu(running: spark.Cluster) -> float:
    """Processor seconds of the cluster's daemons, their ended executors and this process's ended children."""
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    daemons = [p.process() for p in running.processes]
    times = [psutil.Process(p.pid).cpu_times() for p in daemons if p is not None]
    return own.ru_utime + own.ru_stime + sum(t.user + t.system + t.children_user + t.children_system for t in times)


if __name__ == "__main__":
    for size in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="tieout-bench-", dir=os.environ.get("TMPDIR")) as made:
            print(json.dumps(measure(int(float(size)), Path(made))), flush=True)
