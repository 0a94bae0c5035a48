"""Odoo's two wires over `tieout.erp.http`: JSON-2 from 19 on, JSON-RPC before; the same calls and errors on both.

JSON-2 (`/json/2/<model>/<method>`) takes named arguments and answers with HTTP statuses; JSON-RPC (`/jsonrpc`, service
`object`, method `execute_kw`) answers errors with HTTP 200. Both run a call in one transaction that an error rolls
back. Source: Odoo's developer documentation, "External JSON-2 API" and "External RPC API".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import count
from typing import Any, Literal

from tieout.erp.http import (
    LOOK_IT_UP,
    Answer,
    ErpHttp,
    HeaderAuth,
    LockNotObtained,
    NotLetIn,
    refusal,
    unreadable,
)
from tieout.errors import ConfigError, ErpError, ErpUnavailable, Rejected, UnknownOutcome
from tieout.observe.steps import redact
from tieout.settings import Connection
from tieout.transport import checked_address

Wire = Literal["auto", "json-2", "json-rpc"]

OLDEST, JSON_2_SINCE = 14, 19
_ODOO = "odoo.exceptions."
_REFUSALS = frozenset({"UserError", "ValidationError", "AccessError", "MissingError", "RedirectWarning", "Warning"})
_ROLLED_BACK = frozenset(
    {"SerializationFailure", "LockNotAvailable", "DeadlockDetected", "LockError", "ConcurrencyError"}
)


class OdooRefusal(Rejected):
    """Odoo refused what was asked and rolled back; `kind` is its exception (`UserError`, …), `text` its message."""

    def __init__(self, kind: str, text: str, call: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(f"the ERP refused: {text}", record=call)


class OdooRpc:
    """A client of one Odoo database, by the API key of one user."""

    def __init__(self, connection: Connection, http: ErpHttp, *, wire: Wire = "auto") -> None:
        self.connection, self._http, self._wanted = connection, http, wire
        self.url = checked_address(connection.host, connection.conn_id)
        self._ids = count(1)
        self._version: int | None = None
        self._user: int | None = None

    @property
    def version(self) -> int:
        """Odoo's major version. Raises ConfigError for one older than 14."""
        if self._version is None:
            self._version = self._ask_version()
            if self._version < OLDEST:
                raise ConfigError(
                    "this Odoo is too old",
                    record=self.connection.conn_id,
                    got=self._version,
                    expected=f"{OLDEST} or later",
                )
        return self._version

    @property
    def by_json_2(self) -> bool:
        """Whether calls go over JSON-2."""
        return self._wanted == "json-2" or (self._wanted == "auto" and self.version >= JSON_2_SINCE)

    def read(self, model: str, method: str, *, context: Mapping[str, Any], **arguments: Any) -> Any:
        """Call a method that changes nothing, again if need be."""
        return self._http.again(lambda: self._call(model, method, None, context, arguments, write=False))

    def write(
        self, model: str, method: str, ids: list[int] | None = None, *, context: Mapping[str, Any], **arguments: Any
    ) -> Any:
        """Call a method that changes something, on records where it is one of theirs: once.

        Raises OdooRefusal, LockNotObtained and ErpUnavailable (not carried out), UnknownOutcome (no answer).
        """
        return self._call(model, method, ids, context, arguments, write=True)

    def close(self) -> None:
        """Drop the connections; a key has no session to end."""
        self._http.close()

    def _call(
        self,
        model: str,
        method: str,
        ids: list[int] | None,
        context: Mapping[str, Any],
        arguments: Mapping[str, Any],
        *,
        write: bool,
    ) -> Any:
        call = f"{model}.{method}"
        if self.by_json_2:
            named = {**arguments, "context": context, **({} if ids is None else {"ids": ids})}
            answer = self._post(f"/json/2/{model}/{method}", named, call, write=write, key=True)
            if answer.status == 200:
                return _parsed(answer, call, write=write)
            raise self._error(call, answer, _of_json_2(answer), write=write)
        if self._user is None:
            self._user = self._authenticate()
        connection = self.connection
        place = [connection.schema, self._user, connection.password, model, method]
        return self._rpc(
            "object",
            "execute_kw",
            [*place, [] if ids is None else [ids], {**arguments, "context": context}],
            call,
            write=write,
        )

    def _rpc(self, service: str, method: str, args: list[Any], call: str, *, write: bool) -> Any:
        params = {"service": service, "method": method, "args": args}
        body = {"jsonrpc": "2.0", "method": "call", "id": next(self._ids), "params": params}
        answer = self._post("/jsonrpc", body, call, write=write)
        if answer.status != 200:
            raise refusal(call, answer, self.connection.conn_id, write=write)
        value = _parsed(answer, call, write=write)
        if not isinstance(value, dict) or "jsonrpc" not in value:
            raise unreadable(call, f"{len(answer.body)} bytes", write=write)
        if "error" in value:
            data = value["error"].get("data") if isinstance(value["error"], dict) else None
            raise self._error(call, answer, data if isinstance(data, dict) else {}, write=write)
        return value.get("result")  # a method that returns nothing is answered without a result

    def _post(self, path: str, body: Mapping[str, Any], call: str, *, write: bool, key: bool = False) -> Answer:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if key and self.connection.schema:
            headers["X-Odoo-Database"] = self.connection.schema
        auth = HeaderAuth(f"bearer {self.connection.password}") if key else None
        sent = json.dumps(body, default=_exact_number).encode()
        return self._http.send("POST", f"{self.url}{path}", call, write=write, body=sent, headers=headers, auth=auth)

    def _authenticate(self) -> int:
        """The user's id. Raises NotLetIn for a wrong login or key."""
        connection = self.connection
        args: list[Any] = [connection.schema, connection.login, connection.password, {}]
        user = self._http.again(lambda: self._rpc("common", "authenticate", args, "common.authenticate", write=False))
        if not isinstance(user, int) or not user:
            raise NotLetIn(
                "the ERP refuses our credentials",
                record=connection.conn_id,
                remedy="check login and API key, and its end",
            )
        return user

    def _ask_version(self) -> int:
        """From `/web/version`, which later versions have; else from the service that earlier ones have."""

        def ask() -> Any:
            answer = self._http.send("GET", f"{self.url}/web/version", "version", write=False)
            if answer.status == 200:
                return _parsed(answer, "version", write=False).get("version_info")
            if answer.status in (404, 405) and self._wanted != "json-2":
                return self._rpc("common", "version", [], "common.version", write=False).get("server_version_info")
            raise refusal("version", answer, self.connection.conn_id, write=False)

        try:
            info = self._http.again(ask)
            # an online server's is "saas~18", …
            return int(str(info[0]).rpartition("~")[2])
        except (AttributeError, TypeError, ValueError, IndexError, KeyError):
            raise ErpUnavailable("the ERP does not tell its version", record=self.connection.conn_id) from None

    def _error(self, call: str, answer: Answer, told: Mapping[str, Any], *, write: bool) -> ErpError:
        """Odoo's exception, told the same way on both wires, as a typed error."""
        name = str(told.get("name") or "")
        kind, text = name.rpartition(".")[2], _first_line(str(told.get("message") or ""))
        if kind == "AccessDenied":
            return NotLetIn(
                "the ERP refuses our credentials",
                record=self.connection.conn_id,
                remedy="check the API key, and its end",
            )
        if kind in _ROLLED_BACK:
            return LockNotObtained("another transaction was in the way", record=call, got=kind)
        if name.startswith(_ODOO) and kind in _REFUSALS:
            return OdooRefusal(kind, text, call)
        if answer.status != 200:
            return refusal(call, answer, self.connection.conn_id, write=write, says=text)
        got = f"{name}: {text}" if name else "an error without words"
        if write:
            return UnknownOutcome(
                "the ERP failed while it carried out a write", record=call, got=got, remedy=LOOK_IT_UP
            )
        return ErpUnavailable("the ERP failed while it read", record=call, got=got)


def _of_json_2(answer: Answer) -> Mapping[str, Any]:
    """The error object; early errors are HTML and have none."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _parsed(answer: Answer, call: str, *, write: bool) -> Any:
    try:
        return json.loads(answer.body, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise unreadable(call, f"{len(answer.body)} bytes", write=write) from None


def _exact_number(value: Any) -> float:
    """A Decimal as the JSON number that reads back as the same amount. Raises Rejected where there is none."""
    if not isinstance(value, Decimal):
        raise TypeError(f"cannot be sent to the ERP: {value!r}")
    number = float(value)
    if Decimal(repr(number)) != value:
        raise Rejected("the ERP's wire cannot carry the amount exactly", got=str(value), expected="at most 15 digits")
    return number


def _first_line(text: str) -> str:
    """The first line of a message, without credentials; the traceback beside it may show records."""
    return redact(next(iter(text.strip().splitlines()), ""))[:300]
