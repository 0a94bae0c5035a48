"""`python -m tieout.orchestration.preload scheduler …`: Airflow with all that tasks import already in memory.

The local executor forks a process per task from the scheduler. What the scheduler has imported a task need not, and
imports are more than half of a night's processor time in tasks.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import tieout

HEAVY = ("deltalake", "duckdb", "great_expectations", "pandas", "pyarrow.dataset", "pyarrow.parquet", "xlsxwriter")
"""Packages that the steps import where they use them."""
_NOT_TASKS = ("tieout.cli", "tieout.web")


def preload() -> None:
    """Import what the steps may need, and use none of it: deltalake's threads would not survive a fork."""
    for name in HEAVY:
        import_module(name)
    for module in pkgutil.walk_packages(tieout.__path__, "tieout."):
        if not module.name.startswith(_NOT_TASKS) and not module.name.endswith("__main__"):
            import_module(module.name)


if __name__ == "__main__":
    from airflow.__main__ import main

    preload()
    main()
