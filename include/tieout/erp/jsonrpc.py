"""Tryton's JSON-RPC: exact values both ways, and every answer or its absence as one typed outcome.

Reads are tried again. A write is sent once: without an answer its outcome is unknown, and only what provably did
not happen (connection refused, session refused, lock not obtained) is reported as not happened. An error in an
answer is a refusal only if it is one of Tryton's for users; any other is the ERP's own failure.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import count
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tieout.errors import ErpError, ErpRateLimited, ErpUnavailable, Rejected, UnknownOutcome
from tieout.observe.steps import redact
from tieout.settings import Connection
from tieout.transport import TooLarge, checked_address, new_session, read_body

log = logging.getLogger("tieout.erp")

_READ_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOCKED = b"could not obtain lock"
_REFUSALS = frozenset({"UserError", "UserWarning", "AccessError", "ValidationError"})
"""Tryton sends every access and validation error as `UserError`; the last two are for servers that name them."""


class LockNotObtained(ErpUnavailable):
    """Another writer held the sequence's lock: the ERP rolled back, nothing was carried out."""


class RpcError(Rejected):
    """The ERP refused what was asked; `kind` is its class (`UserError`, `UserWarning`, …), `text` its message."""

    def __init__(self, kind: str, text: str, method: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"the ERP refused: {text}", record=method)


class _Failed(ErpUnavailable):
    """The ERP failed inside while it read; `text` is the first line of what it says about it."""

    def __init__(self, text: str, method: str) -> None:
        self.text = text
        super().__init__("the ERP failed while it read", record=method, got=text)


def encode(value: Any) -> dict[str, Any]:
    """JSON form of a value JSON has no type for. Raises TypeError for anything else, floats never get here."""
    if isinstance(value, Decimal):
        return {"__class__": "Decimal", "decimal": format(value, "f")}
    if isinstance(value, datetime):
        return {
            "__class__": "datetime",
            **{
                part: getattr(value, part)
                for part in ("year", "month", "day", "hour", "minute", "second", "microsecond")
            },
        }
    if isinstance(value, date):
        return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
    raise TypeError(f"cannot be sent to the ERP: {value!r}")


def decode(value: dict[str, Any]) -> Any:
    """A value from its JSON form."""
    match value.get("__class__"):
        case "Decimal":
            return Decimal(value["decimal"])
        case "date":
            return date(value["year"], value["month"], value["day"])
        case "datetime":
            return datetime(  # noqa: DTZ001 - Tryton's instants are UTC without saying so
                *(value[p] for p in ("year", "month", "day", "hour", "minute", "second", "microsecond"))
            )
        case "time":
            return time_of_day(value["hour"], value["minute"], value["second"], value["microsecond"])
        case "timedelta":
            return timedelta(seconds=int(value["seconds"]))
        case "bytes":
            return base64.b64decode(value["base64"])
    return value


def refuse_floats(values: Any) -> None:
    """Raises TypeError if a float hides anywhere in `values`: the ERP would take it for an amount."""
    if isinstance(values, float):
        raise TypeError(f"a float must not reach the ERP: {values!r}")
    nested: Iterable[Any] = ()
    if isinstance(values, dict):
        nested = values.values()
    elif isinstance(values, list | tuple):
        nested = values
    for value in nested:
        refuse_floats(value)


class _SessionAuth(requests.auth.AuthBase):
    """Puts the session into the header; an own class keeps requests from taking one out of `.netrc`."""

    def __init__(self, header: str | None) -> None:
        self.header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.header:
            request.headers["Authorization"] = self.header
        return request


class JsonRpc:
    """A logged-in client of one Tryton database."""

    def __init__(self, connection: Connection, *, timeout: tuple[float, float], tries: int, pause: float) -> None:
        self.connection, self.timeout, self.tries, self.pause = connection, timeout, tries, pause
        self.url = f"{checked_address(connection.host, connection.conn_id)}/{connection.schema}/rpc/"
        self._ids = count(1)
        self._http = new_session(self.url)
        # a redirect or a retry by the transport would send a write twice
        self._http.mount("http://", HTTPAdapter(max_retries=0))
        self._http.mount("https://", HTTPAdapter(max_retries=0))
        self._auth: _SessionAuth | None = None

    def login(self) -> None:
        """Open a fresh session, which posting needs. Raises Rejected for wrong credentials, or ErpUnavailable."""
        login, password = self.connection.login or "", self.connection.password or ""
        params = [login, {"password": password}, "en"]
        self._auth = None
        try:
            result = self._again("common.db.login", params)
        except (RpcError, _Failed) as error:
            # a database the server was not started with answers every login with an internal error
            raise ErpUnavailable(
                "the ERP does not let us in",
                record=self.connection.conn_id,
                got=redact(error.text),
                remedy=f"check that the server serves the database {self.connection.schema!r}",
            ) from None
        user, token = result[0], result[1]
        header = base64.b64encode(f"{login}:{user}:{token}".encode()).decode()
        self._auth = _SessionAuth(f"Session {header}")

    def read(self, method: str, *params: Any, context: dict[str, Any]) -> Any:
        """Call a method that changes nothing, again if need be."""
        if self._auth is None:
            self.login()
        return self._again(method, [*params, context])

    def write(self, method: str, *params: Any, context: dict[str, Any]) -> Any:
        """Call a method that changes something: once.

        Raises RpcError (refused), ErpUnavailable (not carried out), UnknownOutcome (no answer).
        """
        if self._auth is None:
            self.login()
        try:
            return self._send(method, [*params, context], write=True)
        except _SessionEnded:
            # refused before anything was done, so sending it again is no repetition
            self.login()
            return self._send(method, [*params, context], write=True)

    def close(self) -> None:
        """End the session at the ERP as far as it answers, and drop the connections."""
        try:
            if self._auth is not None:
                self._send("common.db.logout", [], write=False)
        except ErpError:
            log.debug("the ERP did not answer the logout")
        finally:
            self._auth = None
            self._http.close()

    def _again(self, method: str, params: list[Any]) -> Any:
        for attempt in range(1, self.tries + 1):
            try:
                return self._send(method, params, write=False)
            except _SessionEnded:
                if method == "common.db.login" or attempt == self.tries:
                    raise
                self.login()
            except ErpUnavailable as error:
                if attempt == self.tries:
                    raise
                wait = random.uniform(0, self.pause * 2**attempt)
                log.warning("reading the ERP again in %.1f s: %s", wait, error.message)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _send(self, method: str, params: list[Any], *, write: bool) -> Any:
        refuse_floats(params)
        body = json.dumps({"id": next(self._ids), "method": method, "params": params}, default=encode)
        try:
            answer = self._http.post(
                self.url,
                data=body.encode(),
                headers={"Content-Type": "application/json"},
                auth=self._auth or _SessionAuth(None),
                timeout=self.timeout,
                allow_redirects=False,
                stream=True,
            )
            content = read_body(answer)
        except TooLarge as error:
            raise self._unreadable(method, str(error), write=write) from None
        except requests.RequestException as error:
            raise self._no_answer(method, error, write=write) from None
        return self._result(method, answer.status_code, content, write=write)

    def _no_answer(self, method: str, error: requests.RequestException, *, write: bool) -> ErpError:
        never_sent = isinstance(error, requests.exceptions.ConnectTimeout) or (
            error.args
            and isinstance(error.args[0], MaxRetryError)
            and isinstance(error.args[0].reason, NewConnectionError)
        )
        if write and not never_sent:
            return UnknownOutcome(
                "no answer from the ERP after a write",
                record=method,
                got=type(error).__name__,
                remedy="look it up by its run key before anything else",
            )
        return ErpUnavailable(
            "the ERP does not answer", record=method, got=type(error).__name__, remedy="start it, or try later"
        )

    def _result(self, method: str, status: int, content: bytes, *, write: bool) -> Any:
        if status == 200:
            try:
                value = json.loads(content, object_hook=decode, parse_float=Decimal)
                if "error" not in value:
                    return value["result"]
                error = value["error"]
            except (ValueError, TypeError, KeyError, RecursionError):
                raise self._unreadable(method, f"{len(content)} bytes", write=write) from None
            raise _rpc_error(method, error, write=write)
        if status == 401:
            raise _SessionEnded(
                "the ERP refuses our session", record=self.connection.conn_id, remedy="check login and password"
            )
        if status in (400, 403, 404, 413):
            raise Rejected("the ERP refuses the request", record=method, got=f"HTTP {status}")
        if status == 429:
            raise ErpRateLimited("the ERP asks us to slow down", record=method, got="HTTP 429")
        if status == 503 and _LOCKED in content:
            raise LockNotObtained("another writer holds the ERP's lock", record=method, got="HTTP 503")
        if write:
            raise UnknownOutcome(
                "the ERP failed while it carried out a write",
                record=method,
                got=f"HTTP {status}",
                remedy="look it up by its run key before anything else",
            )
        kind = ErpUnavailable if status in _READ_AGAIN else Rejected
        raise kind("the ERP cannot answer", record=method, got=f"HTTP {status}")

    def _unreadable(self, method: str, got: str, *, write: bool) -> ErpError:
        kind = UnknownOutcome if write else ErpUnavailable
        return kind("the ERP's answer cannot be read", record=method, got=got)


class _SessionEnded(Rejected):
    """HTTP 401: nothing was carried out."""


def _rpc_error(method: str, error: Any, *, write: bool) -> ErpError:
    """Tryton's `[class, arguments]` as a typed error; a concurrency error rolled back and may be tried again.

    Anything but a refusal comes as `[message, traceback]`: the ERP failed, before or after it committed.
    """
    kind = str(error[0]) if isinstance(error, list) and error else "unknown"
    detail = error[1] if isinstance(error, list) and len(error) > 1 else error
    if kind == "ConcurrencyException":
        return ErpUnavailable("records changed in the ERP meanwhile", record=method, got=_first_line(str(detail)))
    if kind in _REFUSALS:
        if kind == "UserWarning" and isinstance(detail, list) and len(detail) > 1:
            text = str(detail[1])
        elif isinstance(detail, list) and detail:
            text = str(detail[0])
        else:
            text = str(detail) or kind
        return RpcError(kind, redact(text), method)
    text = _first_line(kind) or "an error without words"
    if write:
        return UnknownOutcome(
            "the ERP failed while it carried out a write",
            record=method,
            got=text,
            remedy="look it up by its run key before anything else",
        )
    return _Failed(text, method)


def _first_line(text: str) -> str:
    """The first line of a message of the ERP's insides, without credentials; the others may show records."""
    return redact(next(iter(text.strip().splitlines()), ""))[:300]
