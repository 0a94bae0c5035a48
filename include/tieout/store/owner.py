"""Who holds a lease, written so that another process on the same machine can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


@cache
def _machine() -> str:
    """This boot of this machine and this process namespace: only inside it does a process id mean anything."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return f"host:{socket.gethostname()}"
    return f"{boot}/{namespace}"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where there is no such process or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]  # state, then start time (proc(5) fields 3 and 22)


def this_process() -> str:
    """The owner text of the calling process."""
    pid = os.getpid()
    return f"{_machine()} {pid} {_started(pid) or '-'}"


def is_dead(owner: str) -> bool:
    """True only if the owner provably no longer runs: same boot, same namespace, and its process is gone."""
    machine, _, rest = owner.partition(" ")
    pid, _, started = rest.partition(" ")
    if machine != _machine() or not pid.isdigit() or started in ("", "-"):
        return False
    return _started(int(pid)) != started
