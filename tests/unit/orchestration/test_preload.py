"""Tasks are forked from a process that has imported what they need; everything must still work on the other side."""

import subprocess
import sys

FORKED = """
import os, sys
import pyarrow as pa
from tieout.orchestration.preload import preload
preload()
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
lake = Lake(sys.argv[1])
rows = pa.table({c: ["a"] for c in ("entity", "source", "source_id", "decided_by")} | {"candidates": [1]})
version = lake.write("crosswalk", rows)
with engine() as session:
    lake.bind(session, {"crosswalk": version}, ["crosswalk"])
    assert session.scalar("SELECT count(*) FROM crosswalk") == 1
assert lake.read("crosswalk", version).to_pandas()["source_id"].tolist() == ["a"]
assert {"great_expectations", "tieout.quality.expectations", "tieout.erp.tryton"} <= set(sys.modules)
os._exit(0)
"""


def test_a_process_forked_after_it_writes_tables_and_queries_them(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
