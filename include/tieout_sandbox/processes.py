"""Servers as plain processes: started detached, waited for until they answer, stopped by their own pid."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tieout.errors import TieoutError


class SandboxError(TieoutError):
    """A server of the sandbox did not start or does not answer."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid with its start time, so that a pid the system gave to somebody else is never mistaken for ours."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The identity of a running process."""
        return cls(pid, psutil.Process(pid).create_time())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `state.json`."""
        return asdict(self)

    def process(self) -> psutil.Process | None:
        """The running process, or None if it ended."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            # the start time is read from the clock ticks since boot: the same to a hundredth of a second
            if abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process() is not None


def free_port() -> int:
    """A TCP port on loopback nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    argv: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    user: int | None = None,
    group: int | None = None,
) -> ProcessId:
    """Start a server detached from this process, its output in `log` (readable by the owner alone)."""
    log.touch(mode=0o600)
    with log.open("ab") as out:
        identity: dict[str, Any] = {} if user is None else {"user": user, "group": group, "extra_groups": []}
        process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            close_fds=True,
            **identity,
        )
    process.returncode = 0  # it outlives this object on purpose; otherwise Python warns that it forgot a child
    return ProcessId.of(process.pid)


def wait_until(answers: Callable[[], bool], *, what: str, process: ProcessId, log: Path, timeout: float = 60.0) -> None:
    """Wait until `answers()` is true. Raises SandboxError with the end of the log if it ends or stays silent."""
    deadline = time.monotonic() + timeout
    while not answers():
        if not process.alive or time.monotonic() > deadline:
            state = "does not answer" if process.alive else "ended at once"
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            raise SandboxError(f"{what} {state}", record=str(log), got=tail.strip() or None)
        time.sleep(0.05)


def stop(process: ProcessId, *, timeout: float = 15.0, quick_signal: int | None = None) -> None:
    """End one process and its children: politely, then by force. Nothing happens if it is gone."""
    running = process.process()
    if running is None:
        return
    with suppress(psutil.NoSuchProcess):
        family = [running, *running.children(recursive=True)]
        running.send_signal(quick_signal) if quick_signal is not None else running.terminate()
        _, left = psutil.wait_procs(family, timeout=timeout)
        for survivor in left:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(left, timeout=5)
