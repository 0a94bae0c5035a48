"""An ERP's simulator on loopback, in a thread: its books are an object that a test looks into and changes.

`serve(erp)` answers as long as its block lasts. The dial (`faults.Dial`) disturbs the line, `asked` lists what came in,
`most_open` and their times are what a guardrail is held against, `restart` ends the server as a crash would and
starts it again with the same books at the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute

from tieout.erp import Ledger, connect
from tieout.settings import Connection
from tieout_sandbox.simulators.faults import Dial, Fault
from tieout_sandbox.simulators.line import CuttableHttp, Receive, Scope, Send, disturbed


class SimulatedErp(Protocol):
    """What a simulator brings: its routes and how it words what the line does to it."""

    kind: str
    """Which adapter it is for."""
    open_limit: int
    """Requests it takes at once; one more is answered by `rate_limited`."""

    def routes(self) -> Sequence[BaseRoute]: ...

    def rate_limited(self, fault: Fault) -> Response: ...

    def server_error(self, fault: Fault) -> Response: ...

    @property
    def config(self) -> dict[str, Any]:
        """What the adapter's file says for these books."""
        ...

    def connection(self, url: str) -> Connection:
        """How the adapter signs in, at `url`."""
        ...

    def expire(self) -> None:
        """Refuse whatever session or token was given out so far."""
        ...

    def shut(self, day: str, *, shut: bool = True) -> None:
        """Close the period around a day, or open it again."""
        ...

    def by_hand(self, company: str, day: str, *lines: tuple[str, str, str], text: str = "by hand") -> object:
        """An accountant's own posted journal: lines of (account, debit, credit)."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what was asked, how it was answered, when it came (seconds of a monotonic clock)."""

    method: str
    path: str
    status: int
    at: float


@dataclass
class LedgerServer:
    """A simulator that answers."""

    erp: SimulatedErp
    dial: Dial = field(default_factory=Dial)
    asked: list[Asked] = field(default_factory=list)
    most_open: int = 0
    port: int = 0
    _open: int = 0
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def ledger(self, url: str | None = None, **config: Any) -> Ledger:
        """An adapter on this simulator, or on `url` in front of it; keywords change its configuration."""
        quick = {"tries": 2, "pause_ms": 5, "read_timeout": 60}
        connection = self.erp.connection(url or self.url)
        return connect(self.erp.kind, connection, self.erp.config | quick | config)

    def start(self) -> None:
        """Listen, at the port it had before if it had one."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app(), http=CuttableHttp, ws="none", lifespan="off", access_log=False, log_level="critical"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End at once; requests under way get no answer."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(20)
        self._open = 0

    def restart(self) -> None:
        """End as a crash would and come back with the same books."""
        self.stop()
        self.start()

    @staticmethod
    def _run(server: uvicorn.Server, listener: socket.socket) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(server.serve(sockets=[listener]))

    def _app(self) -> object:
        inner = Starlette(routes=list(self.erp.routes()))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            at, known = time.monotonic(), False

            def note(status: int) -> None:
                nonlocal known
                if not known:
                    self.asked.append(Asked(scope["method"], scope["path"], status, at))
                known = True

            async def noted(message: dict[str, int]) -> None:
                if "status" in message:
                    note(message["status"])  # before the client has its answer: what it asks next is listed after
                await send(message)

            self._open += 1
            self.most_open = max(self.most_open, self._open)
            try:
                if self._open > self.erp.open_limit:
                    await self.erp.rate_limited(Fault("rate_limit", retry_after=0))(scope, receive, noted)
                else:
                    await disturbed(inner, self.dial, self.erp, scope, receive, noted)
            finally:
                self._open -= 1
                note(0)

        return app


@contextlib.contextmanager
def serve(erp: SimulatedErp) -> Iterator[LedgerServer]:
    """A server for the block."""
    server = LedgerServer(erp)
    server.start()
    try:
        yield server
    finally:
        server.stop()
