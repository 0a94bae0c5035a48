"""Odoo in the fault matrix: the simulator as a process of its own, over JSON-2."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tieout import erp as erp_port
from tieout.settings import Connection
from tieout_sandbox import processes
from tieout_sandbox.fault_matrix.subject import Answer, Request, Shared, Subject
from tieout_sandbox.simulators.odoo.books import Books

COMPANY = "Northwind Cloud Inc."
CONFIG = {"companies": {"US": COMPANY}, "dimensions": {"product_family": "Product family"}, "pause_ms": 5}
VERSION, KEY = 19, "matrix-key"
_READS = ("search_read", "fields_get", "read_group", "formatted_read_group")


@dataclass
class RunningOdoo:
    """A simulated Odoo with books of its own."""

    folder: Path
    port: int
    process: processes.ProcessId | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> erp_port.Ledger:
        connection = Connection("odoo", url or self.url, "poster", KEY, "erp")
        return erp_port.connect("odoo", connection, CONFIG | {"read_timeout": timeout})

    def begin(self) -> None:
        """Start the process and wait until it answers."""
        argv = [sys.executable, "-m", "tieout_sandbox.simulators.odoo", "--db", self.folder / "odoo.sqlite"]
        argv += ["--port", str(self.port), "--version", str(VERSION)]
        log = self.folder / "odoo.log"
        self.process = processes.start(argv, log=log, cwd=self.folder, env=os.environ)
        processes.wait_until(self._answers, what="the simulated Odoo", process=self.process, log=log)

    def end(self) -> None:
        """End the process as a crash would."""
        if self.process is not None:
            processes.stop(self.process, quick_signal=signal.SIGKILL)

    def restart(self) -> None:
        self.end()
        self.begin()

    def expire_sessions(self) -> None:
        """A key is no session: nothing that was given out can end by itself."""

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextmanager
def start(shared: Shared) -> Iterator[RunningOdoo]:
    """Books in the subject's folder, served."""
    books = Books(shared.folder / "odoo.sqlite", VERSION)
    books.found(COMPANY, "USD", 2, {"11000": "Receivable", "40100": "Revenue"})
    books.dimension("Product family", "seats")
    books.key(KEY)
    books.close()
    running = RunningOdoo(shared.folder, processes.free_port())
    running.begin()
    try:
        yield running
    finally:
        running.end()


def is_write(request: Request) -> bool:
    """Whether a call changes records."""
    return request.method == "POST" and request.path.rpartition("/")[2] not in _READS


_ERROR = {"name": "builtins.RuntimeError", "message": "cannot answer", "arguments": [], "context": {}, "debug": ""}

SUBJECT = Subject(
    name="odoo",
    start=start,
    is_write=is_write,
    rate_limited=Answer(429, b"<html>Too Many Requests</html>", {"Content-Type": "text/html"}),
    unavailable=Answer(503, b"<html>Service Unavailable</html>", {"Content-Type": "text/html"}),
    failed=Answer(500, json.dumps(_ERROR).encode(), {"Content-Type": "application/json"}),
)
