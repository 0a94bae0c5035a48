"""The line between an adapter and its server: a loopback proxy that fails once, at the request and the way asked for.

It works for any HTTP server, a real ERP or a simulator. Requests are counted from `begin`; a fault fires on one.
What the client sees is what a network does: a closed connection, silence, an answer that is not one, an answer of
somebody in between. A fault that kills does so from here, so that the moment is exact: before the server got the
request, or after it carried it out and before the answer left.
"""

from __future__ import annotations

import http.client
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tieout_sandbox.fault_matrix.subject import Answer, Request, Running, Subject

FAULTS = (
    "request lost", "answer lost", "request late", "answer late", "duplicated", "garbled", "429", "503",
    "500 after the work", "session expired", "restarted",
)  # fmt: skip
"""What the line can do to a request; `request late` arrives at the server only after the client gave up."""

READ_FAULTS = ("request lost", "garbled", "429", "503", "session expired")
"""What is tried on requests that only ask."""

KILLS = ("killed before", "killed after")
"""Kill -9 of the client while the server has not got the request, or has carried it out."""

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}
_LATEST = 30.0  # seconds a late request waits for its client to give up


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that came by: its number since `begin` (from 1), the protocol's step it belongs to, what it asks."""

    number: int
    step: str
    write: bool
    text: str


@dataclass
class Line:
    """A proxy in front of `running`; `url` is what the adapter connects to."""

    subject: Subject
    running: Running
    url: str = ""
    step: str = ""
    """Set by the client at each step of the protocol, so that a request is known by the step it belongs to."""
    passed: list[Passed] = field(default_factory=list)
    client: int = 0
    """Pid of the client that a fault kills."""
    fired: bool = False
    _fault: str | None = None
    _at: int = 0
    _on_its_way: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def begin(self, fault: str | None = None, at: int = 0) -> None:
        """Count from one again; with a `fault`, the request of number `at` suffers it."""
        with self._changed:
            self.passed, self.fired, self.client = [], False, 0
            self._fault, self._at = fault, at

    def quiet(self, seconds: float = 0.0) -> None:
        """Wait until nothing is on its way: a test's `sleep`, so that it never depends on how fast things are.

        A client that sleeps has given up what it waited for, so a late request is on its way to the server by now.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._on_its_way == 0, timeout=_LATEST * 2)

    def _take(self, request: Request) -> str | None:
        with self._changed:
            self._on_its_way += 1
            number = len(self.passed) + 1
            write = self.subject.is_write(request)
            text = f"{request.method} {urlsplit(request.path).path} {request.body[:80].decode(errors='replace')}"
            self.passed.append(Passed(number, self.step, write, text))
            if self._fault is None or number != self._at or self.fired:
                return None
            self.fired = True
            return self._fault

    def _done(self) -> None:
        with self._changed:
            self._on_its_way -= 1
            self._changed.notify_all()

    def carry(self, request: Request, headers: dict[str, str], gone: Callable[[], bool]) -> Answer | None:
        """The answer the client gets; None: the connection is closed without one."""
        fault = self._take(request)
        try:
            return self._carry(fault, request, headers, gone)
        except (OSError, http.client.HTTPException):
            return None  # the server is down: so it is for the client
        finally:
            self._done()

    def _carry(
        self, fault: str | None, request: Request, headers: dict[str, str], gone: Callable[[], bool]
    ) -> Answer | None:
        match fault:
            case "request lost":
                return None
            case "429":
                return self.subject.rate_limited
            case "503":
                return self.subject.unavailable
            case "killed before":
                return self._kill()
            case "session expired":
                self.running.expire_sessions()
            case "duplicated":
                self._pass_on(request, headers)
            case "request late":
                self._wait_for(gone)
        answer = self._pass_on(request, headers)
        match fault:
            case "answer lost" | "request late":
                return None
            case "answer late":
                self._wait_for(gone)
                return None
            case "restarted":
                self.running.restart()
                return None
            case "killed after":
                return self._kill()
            case "500 after the work":
                return self.subject.failed
            case "garbled":
                return Answer(answer.status, answer.body[: len(answer.body) // 2] + b"\xff\x00<garbled", answer.headers)
        return answer

    def _pass_on(self, request: Request, headers: dict[str, str]) -> Answer:
        address = urlsplit(str(self.running.url))
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
        try:
            connection.request(request.method, request.path, request.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
            return Answer(answer.status, body, {k: v for k, v in answer.getheaders() if k.lower() not in _HOP})
        finally:
            connection.close()

    def _kill(self) -> None:
        os.kill(self.client, signal.SIGKILL)

    @staticmethod
    def _wait_for(gone: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LATEST
        while not gone() and time.monotonic() < deadline:
            time.sleep(0.02)


@contextmanager
def line_to(subject: Subject, running: Running) -> Iterator[Line]:
    """A line to a running server, for the block."""
    line = Line(subject, running)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            answer = line.carry(Request(self.command, self.path, body), headers, self._gone)
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def _gone(self) -> bool:
            """Whether the client closed its side: then its socket reads as ended."""
            readable, _, _ = select.select([self.connection], [], [], 0)
            try:
                return bool(readable) and not self.connection.recv(1)
            except OSError:
                return True

        def log_message(self, format: str, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed or gave up: what this line is for."""

    server = Server(("127.0.0.1", 0), Handler)
    line.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        server.shutdown()
        server.server_close()
