"""What a step leaves behind is for its own user only."""

import os

from tieout.orchestration.work import Work
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
