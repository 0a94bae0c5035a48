"""An Airflow home of the tests' own, set before anything imports Airflow."""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_HOME = Path(tempfile.mkdtemp(prefix="airflow-test-"))

os.environ.update(
    AIRFLOW_HOME=str(_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME / 'airflow.db'}",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    TIEOUT_RETRY_SECONDS="0",
    TIEOUT_CONFIG=str(ROOT / "include" / "tieout_sandbox" / "config"),
)
sys.path.insert(0, str(ROOT / "plugins"))
