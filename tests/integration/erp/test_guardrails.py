"""Never more calls per second, and never more open calls, than configured: counted at the server, over processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tieout.erp.http import ErpHttp
from tieout.erp.pace import Pace
from tieout.errors import ErpUnavailable

CALLERS, THREADS, CALLS = 2, 2, 6
CALLER = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from tieout.erp.http import ErpHttp
url, per_second, open_calls = sys.argv[1], float(sys.argv[2]) or None, int(sys.argv[3])

def call(_):
    http = ErpHttp(url, timeout=(5, 30), tries=1, pause=0, calls_per_second=per_second, open_calls=open_calls)
    for _ in range({CALLS}):
        http.send("GET", url, "call", write=False)

with ThreadPoolExecutor({THREADS}) as pool:
    list(pool.map(call, range({THREADS})))
"""


@dataclass
class Counter:
    """What the server saw: when each call came, and how many were open at most."""

    url: str
    came: list[float] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    @property
    def most_in_a_second(self) -> int:
        times = sorted(self.came)
        return max(sum(1 for t in times if start <= t < start + 1) for start in times)


@pytest.fixture
def server() -> Iterator[Counter]:
    counter, lock = Counter(""), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                counter.came.append(time.monotonic())
                counter.open += 1
                counter.most_open = max(counter.most_open, counter.open)
            time.sleep(0.02)
            with lock:
                counter.open -= 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    counter.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield counter
    made.shutdown()
    made.server_close()


def run(server: Counter, per_second: float, open_calls: int) -> None:
    arguments = [server.url, str(per_second), str(open_calls)]
    callers = [subprocess.Popen([sys.executable, "-c", CALLER, *arguments]) for _ in range(CALLERS)]
    assert [caller.wait(60) for caller in callers] == [0] * CALLERS
    assert len(server.came) == CALLERS * THREADS * CALLS


def test_never_more_calls_per_second_than_configured(server: Counter) -> None:
    run(server, per_second=10, open_calls=3)
    assert server.most_in_a_second <= 10
    assert server.most_open <= 3


@pytest.mark.parametrize("limit", [1, 2])
def test_never_more_open_calls_than_configured(server: Counter, limit: int) -> None:
    run(server, per_second=0, open_calls=limit)
    assert server.most_open <= limit
    assert server.most_open > limit - 2  # they are really called at once


def test_a_call_that_hangs_makes_the_erp_unavailable_not_the_next_one_wait_for_ever(server: Counter) -> None:
    hanging = ErpHttp(server.url, timeout=(5, 30), tries=1, pause=0)
    other = ErpHttp(server.url, timeout=(0.1, 0.1), tries=1, pause=0)
    with hanging._pace.call(), pytest.raises(ErpUnavailable, match="open call"):
        other.send("GET", server.url, "call", write=True)
    assert other.send("GET", server.url, "call", write=True).status == 200


def test_less_than_one_call_a_second_is_kept_too(server: Counter) -> None:
    http = ErpHttp(server.url, timeout=(5, 30), tries=1, pause=0, calls_per_second=0.8)
    for _ in range(2):
        http.send("GET", server.url, "call", write=False)
    first, second = server.came
    assert second - first >= 1.25


def test_a_call_whose_process_died_is_forgotten(tmp_path: Path) -> None:
    died = Pace("http://erp", calls_per_second=1, open_calls=1, patience=0.2, folder=tmp_path)
    started = died._wait_for_turn()
    with Pace("http://erp", calls_per_second=1, open_calls=1, patience=0.2, folder=tmp_path).call():
        assert time.monotonic() - started >= 0.2
        with died._calls() as calls:
            assert len(calls) == 1
            assert repr(started) not in calls
