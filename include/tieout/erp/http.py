"""HTTP to an ERP: calls within the configured guardrails, and each answer, or its absence, as one typed outcome.

Reads are tried again. A write is sent once: without an answer its outcome is unknown, and only what provably did not
happen (connection refused, asked to slow down) is reported as not happened. What an answer's body means is the
protocol's own business (`jsonrpc` for Tryton, `odoo_rpc` for Odoo, …).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tieout.erp.config import ErpConfig
from tieout.erp.pace import Pace
from tieout.errors import ErpError, ErpRateLimited, ErpUnavailable, Rejected, UnknownOutcome
from tieout.transport import TooLarge, new_session, read_body

log = logging.getLogger("tieout.erp")

T = TypeVar("T")

LOOK_IT_UP = "look it up by its run key before anything else"
_REFUSED = frozenset({400, 403, 404, 405, 409, 412, 413, 415, 422})
_READ_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ERP answered: status, header fields (names in any case) and the whole body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class NotLetIn(ErpUnavailable):
    """The ERP does not take our session, password, token or key: nothing was carried out, and it is no refusal of a
    journal. Never tried again by itself, because wrong passwords lock a user out.
    """


class LockNotObtained(ErpUnavailable):
    """Another writer was in the way: the ERP rolled back, nothing was carried out."""


class HeaderAuth(requests.auth.AuthBase):
    """Puts a credential into the header; an own class keeps requests from taking one out of `.netrc`."""

    def __init__(self, header: str | None) -> None:
        self.header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.header:
            request.headers["Authorization"] = self.header
        return request


class ErpHttp:
    """One session with an ERP at `address` (checked by `tieout.transport.checked_address`).

    `timeout` in seconds (connect, read); `tries` and `pause` (seconds) are for reads; at most `calls_per_second` are
    sent and at most `open_calls` are under way at once, by all processes of this machine together.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: tuple[float, float],
        tries: int,
        pause: float,
        calls_per_second: float | None = None,
        open_calls: int = 1,
    ) -> None:
        self.timeout, self.tries, self.pause = timeout, tries, pause
        self.session = new_session(address)
        # a redirect or a retry by the transport would send a write twice
        adapter = HTTPAdapter(max_retries=0)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        origin = urlsplit(address)._replace(path="", query="", fragment="").geturl()
        self._pace = Pace(origin, calls_per_second=calls_per_second, open_calls=open_calls, patience=2 * timeout[1])

    @classmethod
    def of(cls, address: str, config: ErpConfig) -> ErpHttp:
        """With the patience and the guardrails of an ERP's configuration."""
        return cls(
            address,
            timeout=(config.connect_timeout, config.read_timeout),
            tries=config.tries,
            pause=config.pause_ms / 1000,
            calls_per_second=config.calls_per_second,
            open_calls=config.open_calls,
        )

    def send(
        self,
        method: str,
        url: str,
        call: str,
        *,
        write: bool,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        auth: requests.auth.AuthBase | None = None,
    ) -> Answer:
        """Send once. `call` names it in errors. Raises UnknownOutcome (a write without answer) or ErpUnavailable."""
        try:
            with self._pace.call():
                answer = self.session.request(
                    method,
                    url,
                    data=body,
                    headers=dict(headers or {}),
                    auth=auth or HeaderAuth(None),
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                )
                content = read_body(answer)
        except TooLarge as error:
            raise unreadable(call, str(error), write=write) from None
        except requests.RequestException as error:
            raise _no_answer(call, error, write=write) from None
        return Answer(answer.status_code, content, answer.headers)

    def again(self, ask: Callable[[], T]) -> T:
        """Ask, and ask again while the ERP is unavailable, up to `tries` times; for reads only."""
        for attempt in range(1, self.tries + 1):
            try:
                return ask()
            except ErpUnavailable as error:
                if attempt == self.tries or isinstance(error, NotLetIn):
                    raise
                wait = random.uniform(0, self.pause * 2**attempt)
                log.warning("reading the ERP again in %.1f s: %s", wait, error.message)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Drop the connections."""
        self.session.close()


def refusal(call: str, answer: Answer, conn_id: str, *, write: bool, says: str = "") -> ErpError:
    """What an answer that is no success means by its status alone; `says` is the ERP's own sentence, if it gave one."""
    got = f"HTTP {answer.status}{f': {says}' if says else ''}"
    if answer.status == 401:
        return NotLetIn(
            "the ERP refuses our credentials",
            record=conn_id,
            got=got,
            remedy="check login and password, or the key and its end",
        )
    if answer.status == 429:
        return ErpRateLimited("the ERP asks us to slow down", record=call, got=got)
    if answer.status in _REFUSED:
        return Rejected("the ERP refuses the request", record=call, got=got)
    if write:
        return UnknownOutcome("the ERP failed while it carried out a write", record=call, got=got, remedy=LOOK_IT_UP)
    kind = ErpUnavailable if answer.status in _READ_AGAIN else Rejected
    return kind("the ERP cannot answer", record=call, got=got)


def unreadable(call: str, got: str, *, write: bool) -> ErpError:
    """An answer that makes no sense: after a write it says nothing about what was carried out."""
    if write:
        return UnknownOutcome("the ERP's answer cannot be read", record=call, got=got, remedy=LOOK_IT_UP)
    return ErpUnavailable("the ERP's answer cannot be read", record=call, got=got)


def _no_answer(call: str, error: requests.RequestException, *, write: bool) -> ErpError:
    never_sent = isinstance(error, requests.exceptions.ConnectTimeout) or (
        error.args and isinstance(error.args[0], MaxRetryError) and isinstance(error.args[0].reason, NewConnectionError)
    )
    name = type(error).__name__
    if write and not never_sent:
        return UnknownOutcome("no answer from the ERP after a write", record=call, got=name, remedy=LOOK_IT_UP)
    return ErpUnavailable("the ERP does not answer", record=call, got=name, remedy="start it, or try later")
