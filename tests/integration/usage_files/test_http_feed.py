"""Usage listed by an HTTP API: paged, cut, refused and repeated answers, and the window that is asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from usage_world import World, cloud_event, event, listed

from tieout.errors import SourceError
from tieout.settings import Connection
from tieout.sources import catch_up
from tieout.sources.client import Clock
from tieout.sources.config import SourceConfig

Reply = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]


class Api(ThreadingHTTPServer):
    """A server that answers with what `answer` makes of the n-th request and its parameters."""

    answer: Callable[[int, dict[str, str]], Reply]
    asked: list[dict[str, str]]


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        params = dict(parse_qsl(urlsplit(self.path).query))
        if not params:  # only the clock is wanted
            self._send(200, b"{}", {})
            return
        self.server.asked.append(params | {"auth": self.headers.get("Authorization", "")})
        status, body, *headers = self.server.answer(len(self.server.asked), params)
        self._send(status, body, *headers or [{}])

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api(("127.0.0.1", 0), _Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


FEED = {
    "path": "/v1/events", "records": "items", "cursor": "nextCursor", "size_param": "limit", "size": 2,
    "total": "total", "since_param": "from", "until_param": "to",
}  # fmt: skip
EVENTS = [event(f"e{n}") for n in range(5)]


def page(records: list[Any], following: str | None, total: int = 5) -> bytes:
    return json.dumps({"items": records, "nextCursor": following, "total": total}).encode()


def by_cursor(_: int, params: dict[str, str]) -> Reply:
    start = int(params.get("cursor", "0"))
    more = str(start + 2) if start + 2 < 5 else None
    return 200, page([listed(e) for e in EVENTS[start : start + 2]], more)


def read(world: World, api: Api, **feed: Any) -> list[Any]:
    source = SourceConfig(
        name="meter", kind="http", connection="meter", feed=FEED | feed, start=datetime(2026, 1, 1, tzinfo=UTC)
    )
    world.sources["meter"] = source
    connection = Connection("meter", f"http://127.0.0.1:{api.server_port}", password="token-1")
    clock = Clock(sleep=lambda _: None)
    return catch_up(source, connection, landing=world.landing, store=world.store, clock=clock)


def test_faults_between_pages_cost_nothing_and_the_rows_are_those_of_files(world: World, api: Api) -> None:
    def faulty(number: int, params: dict[str, str]) -> Reply:
        whole = by_cursor(number, params)
        faults: dict[int, Reply] = {
            1: (503, b"{}"),
            3: (200, whole[1][:-20]),  # cut: no whole document
            4: (429, b"{}", {"Retry-After": "1"}),
            5: by_cursor(0, {}),  # the first page again in place of the second
            7: (200, whole[1], {"Content-Length": str(len(whole[1]) + 9)}),  # a connection dropped in the body
        }
        return faults.get(number, whole)

    api.answer = faulty
    (ref,) = read(world, api)
    assert (ref.records, ref.pages, ref.control.proven) == (5, 3, True)
    first = api.asked[0]
    assert first["from"] == "2026-01-01T00:00:00Z"
    assert (first["limit"], first["auth"]) == ("2", "Bearer token-1")
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (5, 0)
    assert sorted(world.table("usage_event")["event_id"].to_pylist()) == [f"/gateway#e{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(lambda n: page(EVENTS[:2], "7"), "serves a page again", id="a page again and again"),
        pytest.param(lambda n: page(EVENTS[n : n + 1], "7"), "cursor does not move", id="a cursor that stays"),
        pytest.param(lambda n: page(EVENTS[:2], None), "not what the vendor's own figure", id="a page short"),
        pytest.param(lambda n: b'{"items": null}', "no list at items", id="no list"),
        pytest.param(lambda n: page([{"x": 1}] * 5, None), "has vanished", id="no events"),
    ],
)
def test_what_cannot_be_read_whole_leaves_nothing(world: World, api: Api, answer: Any, error: str) -> None:
    api.answer = lambda number, _: (200, answer(number))
    with pytest.raises(SourceError, match=error):
        read(world, api)
    assert world.landing.extracts("meter") == []


def test_a_refusal_is_told_without_the_token(world: World, api: Api) -> None:
    api.answer = lambda number, _: (401, b'{"error": "no such user"}')
    with pytest.raises(SourceError, match=r"refused.*no such user") as told:
        read(world, api)
    assert "token-1" not in str(told.value)


def test_pages_by_number_end_with_an_empty_one(world: World, api: Api) -> None:
    def by_number(_: int, params: dict[str, str]) -> Reply:
        start = (int(params["page"]) - 1) * 2
        return 200, json.dumps([cloud_event(e) for e in EVENTS[start : start + 2]]).encode()

    api.answer = by_number
    (ref,) = read(world, api, records="", cursor=None, page_param="page", total=None)
    assert (ref.records, ref.control.proven) == (5, False)
    assert [a["page"] for a in api.asked] == ["1", "2", "3", "4"]
