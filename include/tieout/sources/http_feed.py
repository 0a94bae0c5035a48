"""Usage events from an HTTP API that lists them in pages: the product's own, or a meter's such as OpenMeter's.

What the API looks like stands in `sources.yaml` (`feed:`): where the list is in an answer, how it is cut into pages and
how a window is asked for. Records become rows by the same mapping as files do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from requests.auth import AuthBase, HTTPBasicAuth

from tieout.errors import ConfigError
from tieout.lake.landing import ControlTotal, ExtractRef
from tieout.settings import Connection
from tieout.sources.client import Bearer, Clock, HttpClient, Params
from tieout.sources.config import Feed
from tieout.sources.extract import Extraction, Filled, Pages, window_end, window_text
from tieout.sources.pagers import JsonPages, at_path


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Read every object's list for the window since the last one, up to `until`; one extract an object.

    An API that cannot be asked for a window is read whole each time; what it told before is merged when conformed.
    """
    if run.source.feed is None:
        raise ConfigError("a source of kind http needs `feed`", record=run.source.name)
    done = []
    with HttpClient(
        run.source.name, connection.host, auth=_auth(connection), rate=run.source.rate, clock=clock
    ) as client:
        hi = window_end(client.server_time(run.source.feed.path), run.source.lag, until)
        for name in run.source.objects:
            done += _catch_up(run, client, run.source.feed, name, hi)
    return done


def _catch_up(run: Extraction, client: HttpClient, feed: Feed, name: str, hi: datetime) -> list[ExtractRef]:
    done = run.adopt(name)
    mark = run.mark(name)
    if mark.hi is not None and mark.hi >= hi:
        return done
    lo = mark.hi - run.source.reach_back if mark.hi else run.source.start
    client.window = window_text(lo, hi)

    def fill(pages: Pages) -> Filled:
        landed, claimed = 0, None
        for page in JsonPages(client, feed, _window(feed, lo, hi)):
            landed += len(page.records)
            if feed.total:
                claimed = at_path(page.answer.value, feed.total)
            pages.land_page(page)
        counted = {"count": str(landed)}
        if feed.total is None:
            return Filled(ControlTotal("the API tells no total", {}, counted))
        return Filled(ControlTotal(f"the API's own {feed.total}", {"count": str(claimed)}, counted))

    return [*done, run.extract(name, lo, hi, fill)]


def _window(feed: Feed, lo: datetime | None, hi: datetime) -> Params:
    asked: list[tuple[str, str]] = []
    if feed.since_param and lo is not None:
        asked.append((feed.since_param, _instant(lo)))
    if feed.until_param:
        asked.append((feed.until_param, _instant(hi)))
    return asked


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _auth(connection: Connection) -> AuthBase | None:
    """Basic where the connection has a login, else its password as a bearer token."""
    if connection.login:
        credentials: Any = (connection.login.encode(), (connection.password or "").encode())
        return HTTPBasicAuth(*credentials)
    return Bearer(connection.password) if connection.password else None
