"""Only processes that the sandbox started are ended, and they do end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tieout_sandbox import processes
from tieout_sandbox.processes import ProcessId, SandboxError

STUBBORN = (
    "import signal, subprocess, sys, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print('up', flush=True); time.sleep(60)"
)


def start(tmp_path: Path, code: str) -> ProcessId:
    return processes.start([sys.executable, "-c", code], log=tmp_path / "log", cwd=tmp_path, env=os.environ)


def test_a_process_with_the_same_pid_but_another_start_is_not_ours() -> None:
    mine = ProcessId.of(os.getpid())
    assert mine.alive
    assert not ProcessId(mine.pid, mine.created - 100).alive


def test_stopping_ends_a_stubborn_server_and_its_children(tmp_path: Path) -> None:
    server = start(tmp_path, STUBBORN)
    processes.wait_until(
        lambda: "up" in (tmp_path / "log").read_text(), what="server", process=server, log=tmp_path / "log"
    )
    running = server.process()
    assert running is not None
    family = [ProcessId.of(p.pid) for p in (running, *running.children(recursive=True))]
    assert len(family) == 2
    processes.stop(server, timeout=0.3)
    assert not any(member.alive for member in family)
    processes.stop(server)


def test_a_server_that_ends_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = start(tmp_path, "raise SystemExit('no such database')")
    with pytest.raises(SandboxError, match="no such database"):
        processes.wait_until(lambda: False, what="server", process=server, log=tmp_path / "log", timeout=10)


def test_a_log_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    server = start(tmp_path, "pass")
    processes.stop(server)
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
