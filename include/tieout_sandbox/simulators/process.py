"""Start and stop the simulators as a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


_children: dict[int, subprocess.Popen[bytes]] = {}


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
    """Start serving `db` and wait until it answers. Raises RuntimeError with the log's end if it does not."""
    ready = db.with_suffix(f".{os.getpid()}.ready")
    ready.unlink(missing_ok=True)
    log = log or db.with_suffix(".log")
    command = [sys.executable, "-m", "tieout_sandbox.simulators", "--db", str(db), "--secrets", str(secrets)]
    command += ["--port", str(port), "--ready", str(ready)] + (["--now", now] if now else [])
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
    _children[process.pid] = process
    deadline = time.monotonic() + wait
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process.pid)
            raise RuntimeError(f"the simulators did not start; end of {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)
    line = json.loads(ready.read_text())
    ready.unlink()
    return Running(process.pid, line["port"])


def stop(pid: int, wait: float = 5.0) -> None:
    """End the process with this id, politely first. Quiet if it has already gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and not _gone(pid):
            time.sleep(0.02)
        if _gone(pid):
            break
    _children.pop(pid, None)


def _gone(pid: int) -> bool:
    if pid in _children:
        return _children[pid].poll() is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
