"""REST calls to an ERP over `tieout.erp.http`: signed, exact JSON both ways, refusals with the ERP's own words.

Reads are tried again. A write is sent once: without an answer its outcome is unknown. Only what the ERP says it did
not begin (too many calls, credentials it does not take) is sent again, and the fence is asked before each sending.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from requests.auth import AuthBase

from tieout.erp.config import ErpConfig
from tieout.erp.http import Answer, ErpHttp, refusal, unreadable
from tieout.erp.port import Fence
from tieout.errors import ErpRateLimited, ErpUnavailable, Rejected
from tieout.observe.steps import redact
from tieout.transport import checked_address

log = logging.getLogger("tieout.erp")

LONGEST_WAIT = 60.0  # seconds; an ERP that asks for more is left alone until the next attempt at posting


class Refused(Rejected):
    """The ERP answered that it does not do what was asked: `status`, its words as `text`, and the `body`."""

    def __init__(self, record: str, status: int, body: bytes) -> None:
        self.status, self.body, self.text = status, body, redact(body[:2000].decode("utf-8", "replace"))
        super().__init__("the ERP refused", record=record, got=f"HTTP {status} {self.text[:300]}")

    @property
    def value(self) -> Any:
        """The body as JSON; an empty object if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class Denied(ErpUnavailable):
    """The ERP does not take our credentials, or says so because it is busy; nothing was carried out."""


def exact_json(value: Any) -> str:
    """JSON text in which a Decimal is the very number. Raises TypeError for floats and what JSON has no form for."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return f'"{value.isoformat()}"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(k))}:{exact_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(exact_json, value)) + "]"
    if value is None or isinstance(value, str | int):
        return json.dumps(value)
    raise TypeError(f"cannot be sent to the ERP: {value!r}")


class Rest:
    """Calls below one base address over `tieout.erp.http`.

    `sign` makes the credentials of a session, with calls of its own if it needs them, and afresh once they are refused.
    """

    def __init__(
        self,
        base: str,
        conn_id: str,
        config: ErpConfig,
        *,
        sign: Callable[[ErpHttp], AuthBase],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base, self.conn_id, self.config = checked_address(base, conn_id), conn_id, config
        self._sign = sign
        self._auth: AuthBase | None = None
        self._headers = {"Accept": "application/json", "User-Agent": "tieout", **(headers or {})}
        self._http = ErpHttp.of(self.base, config)

    def close(self) -> None:
        """Drop the connections."""
        self._auth = None
        self._http.close()

    def read(self, method: str, path: str, **request: Any) -> Answer:
        """Ask for something that changes nothing, again if need be.

        Keywords: `params`, `headers`, `value` (sent as JSON), `body` (sent as it is). Raises Refused, or
        ErpUnavailable and its kinds once every try has failed.
        """
        return self._http.again(lambda: self._once(method, path, write=False, **request))

    def write(self, method: str, path: str, *, fence: Fence, **request: Any) -> Answer:
        """Ask for a change: once, unless the ERP says that it did not begin.

        Raises Refused, ErpUnavailable (not carried out) and its kinds, UnknownOutcome (no answer).
        """
        for attempt in range(1, self.config.tries + 1):
            fence()
            try:
                return self._once(method, path, write=True, **request)
            except (ErpRateLimited, Denied):
                if attempt == self.config.tries:
                    raise
                time.sleep(random.uniform(0, self.config.pause_ms / 1000 * 2**attempt))
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        path: str,
        *,
        write: bool,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        value: Any = None,
        body: bytes | None = None,
    ) -> Answer:
        call = f"{method} /{path.lstrip('/')}"
        address = f"{self.base}/{path.lstrip('/')}" + (f"?{urlencode(params, quote_via=quote)}" if params else "")
        if value is not None:
            body, headers = exact_json(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        if self._auth is None:
            self._auth = self._sign(self._http)
        answer = self._http.send(
            method, address, call, write=write, body=body, headers={**self._headers, **(headers or {})}, auth=self._auth
        )
        self._judge(call, answer, write=write)
        return answer

    def _judge(self, call: str, answer: Answer, *, write: bool) -> None:
        """Raise for anything but success."""
        says = redact(answer.body[:300].decode("utf-8", "replace"))
        match answer.status:
            case status if 200 <= status < 300:
                return
            case 401 | 403 as status:
                self._auth = None
                raise Denied(
                    "the ERP does not let us", record=f"{self.conn_id}, {call}", got=f"HTTP {status}: {says}",
                    remedy="check the connection's credentials and rights; some ERPs answer so while they are busy",
                )  # fmt: skip
            case 429:
                self._wait_as_asked(answer)
                raise refusal(call, answer, self.conn_id, write=write, says=says)
            case status if status < 500 and status not in (408, 425):
                raise Refused(call, status, answer.body)
            case _:
                raise refusal(call, answer, self.conn_id, write=write, says=says)

    def _wait_as_asked(self, answer: Answer) -> None:
        """Leave the ERP alone as long as it asks for, unless that is longer than an attempt at posting should take."""
        wait = _asked_wait(answer.headers)
        if wait and wait <= LONGEST_WAIT:
            log.warning("the ERP asks to be left alone for %.0f s", wait)
            time.sleep(wait)


def readable(answer: Answer, call: str) -> Any:
    """The JSON of an answer to a read, every number with a fraction as Decimal.

    Raises ErpUnavailable if it is none, as of a gateway or cut off.
    """
    try:
        return json.loads(answer.body, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise unreadable(call, f"{len(answer.body)} bytes", write=False) from None


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`, which is a number or a date."""
    value = headers.get("Retry-After")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
