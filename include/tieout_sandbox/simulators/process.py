"""Start and stop the simulators as a process of their own."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tieout_sandbox import processes


@dataclass(frozen=True, slots=True)
class Running:
    """A simulators' process that answers."""

    pid: int
    port: int

    @property
    def base_url(self) -> str:
        """The vendors' base URLs are this plus `/stripe`, `/salesforce`, `/zendesk`."""
        return f"http://127.0.0.1:{self.port}"


def start(
    db: Path, secrets: Path, *, port: int = 0, now: str | None = None, log: Path | None = None, wait: float = 60.0
) -> Running:
    """Start serving `db` and wait until it answers. Raises SandboxError with the log's end if it does not."""
    ready = db.with_name(f"{db.name}.{os.getpid()}.ready")
    ready.unlink(missing_ok=True)
    log = log or db.with_name(f"{db.name}.log")
    argv = [sys.executable, "-m", "tieout_sandbox.simulators", "--db", db, "--secrets", secrets, "--port", str(port)]
    argv += ["--ready", ready, *(["--now", now] if now else [])]
    process = processes.start(argv, log=log, cwd=db.parent, env=os.environ)
    processes.wait_until(ready.exists, what="the vendors' simulators", process=process, log=log, timeout=wait)
    line = json.loads(ready.read_text())
    ready.unlink()
    return Running(process.pid, line["port"])


def stop(pid: int) -> None:
    """End the process with this id, politely first. Quiet if it has already gone."""
    with suppress(psutil.NoSuchProcess):
        processes.stop(processes.ProcessId.of(pid))
