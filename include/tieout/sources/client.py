"""One thin client for every vendor: timeouts, a request rate, retries of reads, typed errors without secrets.

Facts behind the retry policy: a read may be repeated after any passing fault; a vendor that says when to come back
is obeyed; waits without such a hint are exponential with full jitter, so that many processes do not march in step.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests_ratelimiter import LimiterAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from tieout.errors import RateLimited, Refused, SourceError, Unavailable
from tieout.ids import sha256_hex
from tieout.lake.landing import parse
from tieout.observe import redact
from tieout.transport import TooLarge, checked_address, new_session, read_body

TIMEOUT = (10.0, 120.0)  # seconds to connect, and to wait for the next byte
TRIES = 8
LONGEST_WAIT = 300.0  # seconds; a vendor that asks for more is left alone until the next run
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 525)})

Params = list[tuple[str, str]]
Verdict = Literal["passing", "quota", "expired"]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` requests per `unit`."""

    limit: float
    unit: str = "second"


@dataclass(frozen=True, slots=True)
class Clock:
    """The time a client goes by; tests pass their own so that nothing sleeps."""

    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a vendor: status, headers, body as received, and the vendor's clock when it answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request: str
    served_at: datetime
    value: Any = None
    """The body as JSON, numbers with a fraction as strings, undecodable bytes as lone surrogates."""

    @property
    def request_id(self) -> str | None:
        """The vendor's own id of the request, for its support desk."""
        names = ("Request-Id", "X-Request-Id", "X-Zendesk-Request-Id", "X-Sfdc-Request-Id")
        return next((self.headers[n] for n in names if n in self.headers), None)

    @property
    def sha256(self) -> str:
        """Hash of the body as received."""
        return sha256_hex(self.body)


class _Passing(Exception):
    """A fault that may pass; `wait` is when the vendor wants to be asked again."""

    def __init__(self, why: str, *, status: int | None = None, wait: float | None = None) -> None:
        self.why, self.status, self.wait = why, status, wait
        super().__init__(why)


class _Expired(Exception):
    """The session has expired."""


class Bearer(AuthBase):
    """`Authorization: Bearer …`. An auth object also keeps requests from taking one out of a .netrc file."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HttpClient:
    """Reads one source's API below `base_url`.

    Every error names the source, the window under way (`window`, set by the caller) and the request without its
    credentials. Redirects are not followed and no address found in an answer is ever called, so credentials only
    go where the connection points. `judge` knows what a vendor means by a status beyond the usual: a `passing` fault,
    a used-up `quota` that no repeating brings back, or an `expired` session, which `renew` renews once per request.
    """

    def __init__(
        self,
        source: str,
        base_url: str,
        *,
        auth: AuthBase | None = None,
        headers: Mapping[str, str] | None = None,
        rate: Rate | None = None,
        clock: Clock | None = None,
        judge: Callable[[int, bytes], Verdict | None] = lambda status, body: None,
    ) -> None:
        self.source, self.base_url, self.window = source, checked_address(base_url, source), ""
        self.clock = clock or Clock()
        self.requests = 0
        self.renew: Callable[[], object] | None = None
        self._judge = judge
        self._session = new_session(self.base_url)
        self._session.auth = auth
        self._session.headers.update({"Accept": "application/json", "User-Agent": "tieout", **(headers or {})})
        adapter = LimiterAdapter(limit_statuses=(), **_limits(rate)) if rate else HTTPAdapter()
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def authenticate(self, auth: AuthBase) -> None:
        """Use these credentials from now on."""
        self._session.auth = auth

    def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        accept: tuple[int, ...] = (200,),
        headers: Mapping[str, str] | None = None,
        json_body: bool = True,
    ) -> Answer:
        """Read `path` below the base URL, retrying passing faults.

        A status outside `accept` raises Refused; Unavailable or RateLimited when a passing fault did not pass. A 200
        whose body is no JSON counts as a cut body and is asked for again, unless `json_body` is false.
        """
        return self._send("GET", path, params, accept=accept, headers=headers, json_body=json_body)

    def submit(
        self,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        json_: Mapping[str, Any] | None = None,
        accept: tuple[int, ...] = (200, 201),
    ) -> Answer:
        """POST something that may safely happen twice (a sign-in, a query job), with the retries of a read."""
        return self._send("POST", path, None, accept=accept, data=form, json=json_)

    def delete(self, path: str) -> None:
        """Tidy up at the vendor's side; that it fails is no reason for the extract to fail."""
        with contextlib.suppress(requests.RequestException):
            self.requests += 1
            self._session.delete(self._url(path), timeout=TIMEOUT, allow_redirects=False, stream=True).close()

    def server_time(self, path: str) -> datetime:
        """The vendor's clock, from the `Date` of any answer to `path`, whatever its status."""
        answered = tuple(status for status in range(200, 500) if status not in PASSING)
        answer = self._send("GET", path, None, accept=answered, json_body=False)
        if "Date" not in answer.headers:
            raise self.error(Refused, "the answer has no Date header to take the vendor's clock from", answer.request)
        return answer.served_at

    def error(self, kind: type[SourceError], message: str, request: str | None = None, **more: Any) -> SourceError:
        """An error of this source and window, without credentials."""
        return kind(
            redact(message),
            source=self.source,
            window=self.window or None,
            request=redact(request) if request else None,
            **more,
        )

    def _url(self, path: str) -> str:
        return f"{self.base_url}/{path.lstrip('/')}"

    def _send(
        self,
        method: str,
        path: str,
        params: Params | None,
        *,
        accept: tuple[int, ...],
        json_body: bool = True,
        **body: Any,
    ) -> Answer:
        request = f"{method} {urlsplit(self._url(path)).path}" + (f"?{urlencode(params)}" if params else "")
        tries = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=self._wait,
            retry=retry_if_exception_type(_Passing),
            sleep=self.clock.sleep,
            reraise=True,
        )
        try:
            return self._renewing(lambda: tries(self._once, method, path, params, request, accept, json_body, body))
        except _Passing as fault:
            kind = RateLimited if fault.status in (403, 429) else Unavailable
            asked = f"the vendor asked to wait {fault.wait:.0f} s" if fault.wait is not None else None
            raise self.error(
                kind, f"no usable answer after {tries.statistics['attempt_number']} tries: {fault.why}", request,
                remedy=asked or "run again later; nothing of this extract was kept",
            ) from None  # fmt: skip

    def _renewing(self, ask: Callable[[], Answer]) -> Answer:
        """The answer to `ask`, asked a second time with a new session if the old one has expired."""
        try:
            return ask()
        except _Expired:
            renew, self.renew = self.renew, None  # signing in must not renew in turn, nor a new session expire
        try:
            if renew:
                renew()
            return ask()
        finally:
            self.renew = renew

    def _once(
        self,
        method: str,
        path: str,
        params: Params | None,
        request: str,
        accept: tuple[int, ...],
        json_body: bool,
        body: dict[str, Any],
    ) -> Answer:
        self.requests += 1
        try:
            response = self._session.request(
                method, self._url(path), params=params, timeout=TIMEOUT, allow_redirects=False, stream=True, **body
            )
            content = read_body(response)
        except TooLarge as error:
            raise self.error(
                Refused, str(error), request, remedy="no answer of the vendor's should; ask it why"
            ) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Passing(type(error).__name__) from None
        except requests.RequestException as error:
            raise self.error(Refused, f"request could not be sent: {type(error).__name__}", request) from None
        answer = Answer(response.status_code, response.headers, content, request, self._served_at(response.headers))
        if answer.status in accept:
            if not json_body:
                return answer
            try:
                # a single bad byte must not cost the whole page: landing flags the record that holds it
                return replace(answer, value=parse(answer.body.decode("utf-8", "surrogateescape")))
            except ValueError:
                raise _Passing("the body is cut: no whole JSON document", status=answer.status) from None
        why = f"HTTP {answer.status} {_reason(answer.body)}".rstrip()
        verdict = self._judge(answer.status, answer.body)
        if verdict == "quota":
            raise self.error(
                RateLimited, f"the vendor's quota is used up: {why}", request, remedy="wait until the quota renews"
            )
        if verdict == "expired" and self.renew:
            raise _Expired
        if verdict == "passing" or answer.status in PASSING:
            wait = _asked_wait(answer.headers, answer.served_at)
            if wait is not None and wait > LONGEST_WAIT:
                raise self.error(
                    RateLimited, f"the vendor asks to come back in {wait:.0f} s: {why}", request,
                    remedy=f"run again after {wait:.0f} s",
                )  # fmt: skip
            raise _Passing(why, status=answer.status, wait=wait)
        raise self.error(Refused, f"the vendor refused: {why}", request, remedy=_REMEDIES.get(answer.status))

    def _wait(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, _Passing) and fault.wait is not None:
            return fault.wait
        return self.clock.jitter() * min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1))

    def _served_at(self, headers: Mapping[str, str]) -> datetime:
        stamp = headers.get("Date")
        try:
            return parsedate_to_datetime(stamp).astimezone(UTC) if stamp else self.clock.now()
        except ValueError:
            return self.clock.now()


_REMEDIES = {
    401: "check the connection's credentials",
    403: "give the connection's user the right to read this object, or take the object out of sources.yaml",
    404: "check the connection's host and the object's name",
}


def _limits(rate: Rate) -> dict[str, Any]:
    return {f"per_{rate.unit}": rate.limit}


def _asked_wait(headers: Mapping[str, str], served_at: datetime) -> float | None:
    """Seconds the vendor wants us to wait: Retry-After (seconds or a date), else RateLimit-Reset (seconds)."""
    for name in ("Retry-After", "RateLimit-Reset"):
        value = headers.get(name)
        if not value:
            continue
        try:
            return max(0.0, float(value))
        except ValueError:
            with contextlib.suppress(ValueError):
                return max(0.0, (parsedate_to_datetime(value).astimezone(UTC) - served_at).total_seconds())
    return None


def _reason(body: bytes) -> str:
    """What a vendor's error body says, in a few words."""
    try:
        return "; ".join(list(_said(json.loads(body)))[:3])[:300]
    except (ValueError, RecursionError):
        return ""


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _said(part)
    elif isinstance(value, Mapping):
        for name in ("error", "errorCode", "code", "error_description", "description", "message"):
            part = value.get(name)
            if isinstance(part, str):
                yield part
            elif isinstance(part, Mapping | list):
                yield from _said(part)
