"""What a step leaves behind: what it cost, and files for its own user only."""

import os
from datetime import UTC, datetime

from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store


def test_what_a_step_writes_only_its_own_user_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    monkeypatch.delenv("TIEOUT_STORE", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_TIEOUT_STORE", raising=False)
    Store(f"sqlite:///{tmp_path / 'store.sqlite'}").upgrade()
    os.umask(0o022)
    Work.from_env()
    (tmp_path / "report").touch()
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o600


def test_a_step_leaves_its_times_and_the_memory_its_process_needed_beside_what_it_counted(tmp_path):
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path)})
    Store(settings.store).upgrade()
    work = Work(settings)
    work.store.start_run("night", "nightly")
    with work.kept("night", "usage") as facts:
        facts["rows"] = 7
    kept = work.store.facts("night")["usage"]
    assert kept["rows"] == 7
    assert datetime.fromisoformat(kept["started_at"]) <= datetime.now(UTC)
    assert kept["milliseconds"] >= 0
    assert kept["cpu_milliseconds"] >= 0
    assert kept["peak_mb"] > 0
