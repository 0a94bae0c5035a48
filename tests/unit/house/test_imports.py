"""The layers hold, the library works without Airflow, and nothing but the command knows the sandbox."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in ("airflow", "tieout_sandbox"):
    sys.modules[name] = None
import tieout
AIRFLOW = ("tieout.web", "tieout.orchestration.tasks", "tieout.orchestration.assets",
           "tieout.orchestration.connections", "tieout.orchestration.defaults", "tieout.orchestration.human")
for module in pkgutil.walk_packages(tieout.__path__, "tieout."):
    bound = module.name.startswith(AIRFLOW) or ".migrations" in module.name or module.name.endswith("__main__")
    if not bound:
        importlib.import_module(module.name)
"""


def test_the_library_imports_without_airflow_and_without_the_sandbox():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dependencies_point_downward_only():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
