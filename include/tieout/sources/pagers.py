"""How each vendor cuts a list into pages: objects that yield pages until the vendor itself says it was the last.

None of them takes a short page for the end, follows an address found in an answer, or believes a page twice: a page
that was already served is asked for again, and if it stays the same the list cannot be read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tieout.errors import IncompleteExtract, Unavailable
from tieout.ids import sha256_hex
from tieout.sources.client import Answer, HttpClient, Params
from tieout.sources.config import Feed

_ASK_AGAIN = 3
FIELD_LIMIT = 64 << 20  # bytes of one CSV field; more cannot be a record


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one answer."""

    records: list[Any]
    answer: Answer


@dataclass(slots=True)
class _Repeats:
    """Tells a page that was already served, by where it starts."""

    client: HttpClient
    starts: set[str] = field(default_factory=set)

    def fresh(self, ask: Callable[[], Answer], start_of: Callable[[Answer], str | None]) -> Answer:
        """The answer to `ask`, asked again while it begins like an earlier page."""
        for attempt in range(_ASK_AGAIN):
            answer = ask()
            start = start_of(answer)
            if start is None:
                return answer
            if start not in self.starts:
                self.starts.add(start)
                return answer
            self.client.clock.sleep(self.client.clock.jitter() * 2**attempt)
        raise self.client.error(
            Unavailable, "the vendor serves a page again instead of the next one", answer.request, got=start,
            remedy="run again later; nothing of this extract was kept",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StripeList:
    """Stripe: `starting_after` (or, from the other end, `ending_before`) the last id, until `has_more` is false."""

    client: HttpClient
    path: str
    params: Params
    after: str | None = None
    cursor: str = "starting_after"
    limit: int = 100

    def __iter__(self) -> Iterator[Page]:
        repeats, after = _Repeats(self.client), self.after
        while True:
            params = [*self.params, ("limit", str(self.limit)), *([(self.cursor, after)] if after else [])]
            answer = repeats.fresh(lambda params=params: self.client.get(self.path, params), _stripe_start)  # type: ignore[misc]
            data = member(self.client, answer, "data", list)
            yield Page(data, answer)
            if member(self.client, answer, "has_more", bool) is False:
                return
            if not data:
                raise self.client.error(IncompleteExtract, "an empty page says there is more", answer.request)
            after = str(data[-1 if self.cursor == "starting_after" else 0]["id"])


@dataclass(frozen=True, slots=True)
class SoqlQuery:
    """Salesforce REST: `queryAll`, then the locator in `nextRecordsUrl`, until `done`."""

    client: HttpClient
    base: str  # services/data/vNN.0
    soql: str

    def __iter__(self) -> Iterator[Page]:
        repeats = _Repeats(self.client)
        path, params = f"{self.base}/queryAll", [("q", self.soql)]
        while True:
            answer = repeats.fresh(lambda path=path, params=params: self.client.get(path, params), _soql_start)  # type: ignore[misc]
            yield Page(member(self.client, answer, "records", list), answer)
            if member(self.client, answer, "done", bool):
                return
            # only its last part is used: the vendor's URL has met double slashes and other hosts
            locator = member(self.client, answer, "nextRecordsUrl", str).rsplit("/", 1)[-1]
            path, params = f"{self.base}/query/{locator}", []


@dataclass(frozen=True, slots=True)
class BulkResults:
    """Salesforce Bulk 2.0: CSV pages of a finished query job, until the header `Sforce-Locator` is the text `null`."""

    client: HttpClient
    path: str  # …/jobs/query/<id>/results
    rows: int = 10_000

    def __iter__(self) -> Iterator[Page]:
        repeats, locator = _Repeats(self.client), None
        while True:
            params = [("maxRecords", str(self.rows)), *([("locator", locator)] if locator else [])]
            answer = repeats.fresh(lambda params=params: self._read(params), lambda a: sha256_hex(a.body))  # type: ignore[misc]
            records = _csv_records(answer.body)
            told = answer.headers.get("Sforce-NumberOfRecords")
            if told is not None and int(told) != len(records):
                raise self.client.error(
                    IncompleteExtract, "a page of bulk results is not whole", answer.request,
                    expected=told, got=len(records),
                )  # fmt: skip
            yield Page(records, answer)
            locator = answer.headers.get("Sforce-Locator")
            if locator in (None, "null"):
                return

    def _read(self, params: Params) -> Answer:
        return self.client.get(self.path, params, headers={"Accept": "text/csv"}, json_body=False)


@dataclass(frozen=True, slots=True)
class CursorExport:
    """Zendesk's cursor exports: `start_time` once, then `cursor`, until `end_of_stream`."""

    client: HttpClient
    path: str
    name: str
    start_time: int
    cursor: str | None = None

    def __iter__(self) -> Iterator[Page]:
        repeats, cursor = _Repeats(self.client), self.cursor
        while True:
            params = [("cursor", cursor)] if cursor else [("start_time", str(self.start_time))]
            answer = repeats.fresh(
                lambda params=params: self.client.get(self.path, params), lambda a: _zendesk_start(a, self.name)  # type: ignore[misc]
            )  # fmt: skip
            yield Page(member(self.client, answer, self.name, list), answer)
            if member(self.client, answer, "end_of_stream", bool):
                return
            following = member(self.client, answer, "after_cursor", str)
            if following == cursor:
                raise self.client.error(IncompleteExtract, "the cursor does not move", answer.request, got=cursor)
            cursor = following


@dataclass(frozen=True, slots=True)
class TimeExport:
    """Zendesk's time-based export: `start_time` moves to each page's `end_time`, until `end_of_stream`.

    Neighbouring pages overlap, so records repeat; a page that ends where it started can never be left.
    """

    client: HttpClient
    path: str
    name: str
    start_time: int

    def __iter__(self) -> Iterator[Page]:
        start = self.start_time
        while True:
            answer = self.client.get(self.path, [("start_time", str(start))])
            yield Page(member(self.client, answer, self.name, list), answer)
            if member(self.client, answer, "end_of_stream", bool):
                return
            following = _next_start(answer.value)
            if following is None or following <= start:
                raise self.client.error(
                    IncompleteExtract, "more records share one second than a page holds", answer.request,
                    got=datetime.fromtimestamp(start, UTC).isoformat(),
                    remedy="ask the vendor's support to split the second, or load this object by its list endpoint",
                )  # fmt: skip
            start = following


@dataclass(frozen=True, slots=True)
class JsonPages:
    """Any API that lists JSON records: by a cursor until an answer has none, by number until a page is empty, or one.

    A page that holds what an earlier one held is asked for again, like everywhere.
    """

    client: HttpClient
    feed: Feed
    params: Params

    def __iter__(self) -> Iterator[Page]:
        feed, repeats = self.feed, _Repeats(self.client)
        cursor, number = None, 1
        sized = [(feed.size_param, str(feed.size))] if feed.size_param else []
        while True:
            where = [(feed.cursor_param, cursor)] if cursor else []
            where += [(feed.page_param, str(number))] if feed.page_param else []
            params = [*self.params, *sized, *where]
            answer = repeats.fresh(lambda params=params: self.client.get(feed.path, params), self._start)  # type: ignore[misc]
            records = self._records(answer)
            if records or not feed.page_param:
                yield Page(records, answer)
            if feed.page_param:
                if not records:
                    return
                number += 1
                continue
            following = at_path(answer.value, feed.cursor) if feed.cursor else None
            if following in (None, "", False):
                return
            if str(following) == cursor:
                raise self.client.error(IncompleteExtract, "the cursor does not move", answer.request, got=cursor)
            cursor = str(following)

    def _records(self, answer: Answer) -> list[Any]:
        found = at_path(answer.value, self.feed.records)
        if not isinstance(found, list):
            raise self.client.error(
                IncompleteExtract, f"the answer has no list at {self.feed.records or 'its top'}", answer.request,
                expected="list", got=type(found).__name__,
            )  # fmt: skip
        return found

    def _start(self, answer: Answer) -> str | None:
        return answer.sha256 if self._records(answer) else None


def at_path(value: Any, path: str) -> Any:
    """What stands in a JSON value under keys joined by dots; None where there is nothing."""
    for key in filter(None, path.split(".")):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def member(client: HttpClient, answer: Answer, name: str, kind: type) -> Any:
    """A member of an answer's object, which must be there and of a type: an answer without it is no answer."""
    value = answer.value.get(name) if isinstance(answer.value, dict) else None
    if not isinstance(value, kind):
        raise client.error(
            IncompleteExtract, f"the answer has no usable {name}", answer.request,
            expected=kind.__name__, got=type(value).__name__,
        )  # fmt: skip
    return value


def _stripe_start(answer: Answer) -> str | None:
    data = answer.value.get("data") if isinstance(answer.value, dict) else None
    return str(data[0].get("id")) if isinstance(data, list) and data and isinstance(data[0], dict) else None


def _soql_start(answer: Answer) -> str | None:
    records = answer.value.get("records") if isinstance(answer.value, dict) else None
    return str(records[0].get("Id")) if isinstance(records, list) and records and "Id" in records[0] else None


def _zendesk_start(answer: Answer, name: str) -> str | None:
    """A page is told by its first record in its version and by where it leads."""
    value = answer.value if isinstance(answer.value, dict) else {}
    records = value.get(name)
    if not isinstance(records, list) or not records:
        return None
    return f"{records[0].get('id')} {records[0].get('updated_at')} {value.get('after_cursor')}"


def _next_start(value: dict[str, Any]) -> int | None:
    if isinstance(value.get("end_time"), int):
        return int(value["end_time"])
    asked = dict(parse_qsl(urlsplit(str(value.get("next_page") or "")).query)).get("start_time", "")
    return int(asked) if asked.isdigit() else None


def _csv_records(body: bytes) -> list[dict[str, str]]:
    """The rows of one CSV page with its header; bad bytes stay visible as lone surrogates for landing to flag."""
    csv.field_size_limit(FIELD_LIMIT)
    return list(csv.DictReader(io.StringIO(body.decode("utf-8", "surrogateescape"), newline="")))
