"""Tryton's JSON-RPC over `tieout.erp.http`: exact values both ways, sessions, and what its errors mean.

A session that was refused is opened again, once a call. An error in an answer is a refusal only if it is one of
Tryton's for users; any other is the ERP's own failure.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import count
from typing import Any

from tieout.erp.http import LOOK_IT_UP, ErpHttp, HeaderAuth, LockNotObtained, NotLetIn, refusal, unreadable
from tieout.errors import ErpError, ErpUnavailable, Rejected, UnknownOutcome
from tieout.observe.steps import redact
from tieout.settings import Connection
from tieout.transport import checked_address

log = logging.getLogger("tieout.erp")

_LOCKED = b"could not obtain lock"
_REFUSALS = frozenset({"UserError", "UserWarning", "AccessError", "ValidationError"})
"""Tryton sends every access and validation error as `UserError`; the last two are for servers that name them."""


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


class JsonRpc:
    """A logged-in client of one Tryton database."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: tuple[float, float],
        tries: int,
        pause: float,
        calls_per_second: float | None = None,
        open_calls: int = 1,
    ) -> None:
        self.connection = connection
        self.url = f"{checked_address(connection.host, connection.conn_id)}/{connection.schema}/rpc/"
        self._ids = count(1)
        self._http = ErpHttp(
            self.url,
            timeout=timeout,
            tries=tries,
            pause=pause,
            calls_per_second=calls_per_second,
            open_calls=open_calls,
        )
        self._auth: HeaderAuth | None = None

    def login(self) -> None:
        """Open a fresh session. Raises Rejected for wrong credentials, or ErpUnavailable."""
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
        self._auth = HeaderAuth(f"Session {header}")

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
        except NotLetIn:
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
        def ask() -> Any:
            try:
                return self._send(method, params, write=False)
            except NotLetIn:
                if method == "common.db.login":
                    raise
                self.login()
                return self._send(method, params, write=False)

        return self._http.again(ask)

    def _send(self, method: str, params: list[Any], *, write: bool) -> Any:
        refuse_floats(params)
        body = json.dumps({"id": next(self._ids), "method": method, "params": params}, default=encode)
        headers = {"Content-Type": "application/json"}
        answer = self._http.send(
            "POST", self.url, method, write=write, body=body.encode(), headers=headers, auth=self._auth
        )
        if answer.status == 503 and _LOCKED in answer.body:
            raise LockNotObtained("another writer holds the ERP's lock", record=method, got="HTTP 503")
        if answer.status != 200:
            raise refusal(method, answer, self.connection.conn_id, write=write)
        try:
            value = json.loads(answer.body, object_hook=decode, parse_float=Decimal)
            if "error" not in value:
                return value["result"]
            error = value["error"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise unreadable(method, f"{len(answer.body)} bytes", write=write) from None
        raise _rpc_error(method, error, write=write)


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
            remedy=LOOK_IT_UP,
        )
    return _Failed(text, method)


def _first_line(text: str) -> str:
    """The first line of a message of the ERP's insides, without credentials; the others may show records."""
    return redact(next(iter(text.strip().splitlines()), ""))[:300]
