"""The sandbox's PostgreSQL: private, on loopback, from the system or from the wheel, and gone without a trace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tieout_sandbox import postgres
from tieout_sandbox.processes import SandboxError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=["system", "wheel"])
def pg(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIEOUT_SANDBOX_POSTGRES", request.param)
        with postgres.temporary(tmp_path_factory.mktemp(request.param)) as server:
            yield server


def test_it_answers_on_loopback_and_asks_for_the_password(pg: postgres.Server) -> None:
    with pg.connect() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=pg.host, port=pg.port, user=pg.role, password="guess", dbname="postgres")


def test_the_server_does_not_run_as_root(pg: postgres.Server) -> None:
    process = pg.process.process()
    assert process is not None
    assert process.uids().effective != 0


def test_databases_are_copied_dumped_and_restored_whole(pg: postgres.Server, tmp_path: Path) -> None:
    pg.create("first")
    with pg.connect("first") as connection:
        connection.execute("CREATE TABLE t AS SELECT 12.34::numeric AS amount")
    pg.create("second", template="first")
    pg.dump("second", tmp_path / "second.dump")
    pg.restore(tmp_path / "second.dump", "third")
    with pg.connect("third") as connection:
        assert str(connection.execute("SELECT amount FROM t").fetchone()[0]) == "12.34"  # type: ignore[index]
    assert pg.databases() == ["first", "postgres", "second", "third"]


def test_a_password_shows_neither_in_repr_nor_in_the_process_list(pg: postgres.Server) -> None:
    process = pg.process.process()
    assert process is not None
    assert pg.password not in repr(pg)
    assert pg.password not in " ".join(process.cmdline())


def test_what_a_killed_run_left_behind_is_ended_by_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    first = postgres.start(folder)
    second = postgres.start(folder)
    try:
        assert not first.process.alive
        assert second.databases() == ["postgres"]
        os.kill(second.process.pid, signal.SIGKILL)
        third = postgres.start(folder)
        assert third.databases() == ["postgres"]
        postgres.stop(third.process)
        assert not third.process.alive
    finally:
        postgres.purge(folder)
    assert not (postgres.data_folder(folder) / "data").exists()
    assert postgres.data_folder(folder) == folder or not postgres.data_folder(folder).exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres._SPEED, "shared_buffers", "nonsense")
    with pytest.raises(SandboxError, match="shared_buffers"):
        postgres.start(tmp_path / "postgres")
    postgres.purge(tmp_path / "postgres")
