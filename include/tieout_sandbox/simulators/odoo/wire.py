"""Both of Odoo's wires over the simulated books, and faults on request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tieout_sandbox.simulators.odoo.books import Books, OdooError

Fault = Literal["rate_limit", "locked", "lose_request", "lose_answer", "fail_after", "gateway_page"]


@dataclass
class Wire:
    """Answers calls of one database. `faults` are used up one per call of a method that writes, oldest first."""

    books: Books
    database: str = "erp"
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[float, str]] = field(default_factory=list)
    """When each call began and which it was."""
    most_open: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted(self, call: str) -> Iterator[None]:
        """Keep when a call began, and how many were under way at once."""
        self.calls.append((time.monotonic(), call))
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        try:
            yield
        finally:
            self._open -= 1

    def json_2(self, path: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """`/json/2/<model>/<method>`: named arguments, statuses."""
        if self.books.version < 19:
            return 404, None
        if headers.get("X-Odoo-Database") != self.database:
            return 404, None
        if self._user(headers.get("Authorization", "").removeprefix("bearer ")) is None:
            return 401, _told("werkzeug.exceptions.Unauthorized", "Invalid apikey")
        arguments = json.loads(body)
        model, method = path.split("/")[3:5]
        context, ids = arguments.pop("context", {}), arguments.pop("ids", None)
        try:
            return 200, self._call(model, method, ids, context, arguments)
        except OdooError as error:
            return error.status, _told(error.name, error.message)

    def json_rpc(self, body: bytes) -> Any:
        """`/jsonrpc`: errors with HTTP 200, no result where a method returns nothing."""
        request = json.loads(body)
        params = request["params"]
        try:
            result = self._service(params["service"], params["method"], params["args"])
        except OdooError as error:
            told = {"code": 200, "message": "Odoo Server Error", "data": _told(error.name, error.message)}
            return {"jsonrpc": "2.0", "id": request["id"], "error": told}
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        return answer if result is None else {**answer, "result": result}

    def _service(self, service: str, method: str, args: list[Any]) -> Any:
        if (service, method) == ("common", "version"):
            version = self.books.version
            return {"server_version": f"{version}.0", "server_version_info": [version, 0, 0, "final", 0, ""]}
        if args[0] != self.database:
            raise OdooError("psycopg2.OperationalError", f'database "{args[0]}" does not exist', 500)
        if (service, method) == ("common", "authenticate"):
            return self._user(args[2], args[1]) or False
        _, user, key, model, called, positional, arguments = args
        if self._user(key) != user:
            raise OdooError("odoo.exceptions.AccessDenied", "Access Denied", 403)
        context = arguments.pop("context", {})
        return self._call(model, called, positional[0] if positional else None, context, arguments)

    def _call(self, model: str, method: str, ids: list[int] | None, context: Any, arguments: Any) -> Any:
        fault = self.faults.pop(0) if self.faults and method in ("load", "write", "action_post", "unlink") else None
        with self._lock:
            match fault:
                case "lose_request":
                    raise _Cut
                case "rate_limit":
                    raise _Instead(429, b"<html>Too Many Requests</html>")
                case "gateway_page":
                    raise _Instead(502, b"<html>Bad Gateway</html>")
                case "locked":
                    raise OdooError("psycopg2.errors.SerializationFailure", "could not serialize access", 500)
            result = self.books.call(model, method, ids, context, arguments)
            match fault:
                case "lose_answer":
                    raise _Cut
                case "fail_after":
                    raise OdooError("builtins.RuntimeError", "cannot answer after all", 500)
            return result

    def _user(self, key: str, login: str | None = None) -> int | None:
        row = self.books.db.execute("SELECT * FROM apikey WHERE key = ? AND ended = 0", (key,)).fetchone()
        return row["user"] if row and login in (None, row["login"]) else None


class _Cut(Exception):
    """The connection ends here."""


class _Instead(Exception):
    """Another answer than Odoo's: of what stands before it."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def serve(wire: Wire, port: int = 0) -> ThreadingHTTPServer:
    """A server on loopback, not yet answering; `server_port` is where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            version = wire.books.version
            if self.path == "/web/version" and version >= 19:
                self._answer(200, {"version": f"{version}.0", "version_info": [version, 0, 0, "final", 0, ""]})
            else:
                self._send(404, b"<!doctype html><title>404 Not Found</title>", "text/html")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                with wire.counted(self.path):
                    if self.path == "/jsonrpc":
                        self._answer(200, wire.json_rpc(body))
                    elif self.path.startswith("/json/2/"):
                        self._answer(*wire.json_2(self.path, self.headers, body))
                    else:
                        self._send(404, b"<!doctype html><title>404 Not Found</title>", "text/html")
            except _Instead as instead:
                self._send(instead.status, instead.body, "text/html")
            except _Cut:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, value: Any) -> None:
            if status == 404 and value is None:
                self._send(404, b"<!doctype html><title>404 Not Found</title>", "text/html")
            else:
                self._send(status, json.dumps(value).encode(), "application/json; charset=utf-8")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


@contextmanager
def answering(wire: Wire, port: int = 0) -> Iterator[str]:
    """The base URL of a server that answers in a thread of this process while the block lasts."""
    server = serve(wire, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _told(name: str, message: str) -> dict[str, Any]:
    """An exception as Odoo tells it, its traceback included."""
    debug = f"Traceback (most recent call last):\n  …\n{name}: {message}\n"
    return {"name": name, "message": message, "arguments": [message], "context": {}, "debug": debug}
