"""A simulated ERP as a subject of the fault matrix: its books live in this process, its server in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from tieout.erp import Ledger
from tieout_sandbox.fault_matrix.subject import Answer, Shared
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.ledger_server import LedgerServer, SimulatedErp, serve


@dataclass
class RunningSimulator:
    """A simulator that answers."""

    server: LedgerServer
    sessions: bool
    """Whether the vendor gives out what can end: a session or token."""

    @property
    def url(self) -> str:
        return self.server.url

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> Ledger:
        return self.server.ledger(url, read_timeout=timeout)

    def restart(self) -> None:
        self.server.restart()

    def expire_sessions(self) -> None:
        if self.sessions:
            self.server.erp.expire()


def starter(
    erp: Callable[[], SimulatedErp], *, sessions: bool = False
) -> Callable[[Shared], AbstractContextManager[RunningSimulator]]:
    """What a subject starts its simulator with."""

    @contextmanager
    def start(shared: Shared) -> Iterator[RunningSimulator]:
        with serve(erp()) as server:
            yield RunningSimulator(server, sessions)

    return start


def answer(vendor: Any, kind: str, status: int = 500) -> Answer:
    """How a vendor words being overloaded (`rate_limited`) or failing (`server_error`)."""
    made = getattr(vendor, kind)(Fault(kind, status=status, retry_after=0))
    return Answer(made.status_code, bytes(made.body), dict(made.headers))
