"""Zendesk: cursor exports of tickets and users, the time-based export of organizations.

The exports are ordered by when Zendesk generated a record, not by `updated_at`, and keep back the newest minute. The
cursor they end with is kept and continued, never made up again from a time. The counts Zendesk offers are
approximate, so they are noted and prove an extract where they agree, but do not fail one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from requests.auth import HTTPBasicAuth

from tieout.errors import Refused
from tieout.lake.landing import ControlTotal, ExtractRef
from tieout.settings import Connection
from tieout.sources.client import Clock, HttpClient
from tieout.sources.extract import Extraction, Filled, Mark, Pages, window_end, window_text
from tieout.sources.pagers import CursorExport, Page, TimeExport

WITHHELD = timedelta(seconds=61)  # the exports refuse a start in the last minute
_BY_CURSOR = ("tickets", "users")


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Read the exports from where they stood to their end and return the new extracts.

    An export cannot be asked to end early: records generated after `until` may come along.
    """
    auth = HTTPBasicAuth((connection.login or "").encode(), (connection.password or "").encode())
    with HttpClient(
        run.source.name, connection.host, auth=auth, rate=run.source.rate, clock=clock, passing=frozenset({409})
    ) as client:
        now = client.server_time("api/v2/users/count.json")
        hi = window_end(now, run.source.lag, until)
        return [ref for name in run.source.objects for ref in _Export(run, client, name, now).catch_up(hi)]


class _Export:
    """One object's export being read."""

    def __init__(self, run: Extraction, client: HttpClient, name: str, now: datetime) -> None:
        self.run, self.client, self.name, self.now = run, client, name, now

    def catch_up(self, hi: datetime) -> list[ExtractRef]:
        done = self.run.adopt(self.name)
        mark = self.run.mark(self.name)
        if mark.hi is not None and mark.hi >= hi:
            return done
        self.client.window = window_text(mark.hi or self.run.source.start, hi)

        def fill(pages: Pages) -> Filled:
            feed = dict(mark.feed)
            seen: set[tuple[Any, Any]] = set()
            living: set[Any] = set()
            for page in self._pages(mark):
                records = [r for r in page.records if not _repeats(r, seen)]
                living.update(r.get("id") for r in records if isinstance(r, dict) and _lives(r))
                pages.land(
                    records,
                    request=page.answer.request,
                    request_id=page.answer.request_id,
                    status=page.answer.status,
                    fetched_at=page.answer.served_at,
                    sha256=page.answer.sha256,
                )
                feed |= self._where(page)
            first = mark.hi is None and self.run.source.start is None
            return Filled(self._count(len(living)) if first else None, feed)

        return [*done, self.run.extract(self.name, mark.hi or self.run.source.start, hi, fill)]

    def _pages(self, mark: Mark) -> Iterator[Page]:
        start = int(mark.feed.get("end_time") or self._first_start())
        if self.name in _BY_CURSOR:
            cursor = mark.feed.get("after_cursor")
            path = f"api/v2/incremental/{self.name}/cursor.json"
            yield from CursorExport(self.client, path, self.name, start, cursor)
        else:
            yield from TimeExport(self.client, f"api/v2/incremental/{self.name}.json", self.name, start)

    def _first_start(self) -> int:
        """Where a first export begins: the configured start, but never inside the minute that is kept back."""
        latest = int((self.now - WITHHELD).timestamp())
        start = self.run.source.start
        return min(int(start.astimezone(UTC).timestamp()), latest) if start else 0

    def _where(self, page: Page) -> dict[str, Any]:
        """What to go on from after this page."""
        name = "after_cursor" if self.name in _BY_CURSOR else "end_time"
        value = page.answer.value.get(name)
        return {name: value} if value is not None else {}

    def _count(self, landed: int) -> ControlTotal:
        how = "Zendesk's approximate count of what is not deleted"
        try:
            count = self.client.get(f"api/v2/{self.name}/count.json").value["count"]
        except Refused as refused:
            return ControlTotal(f"no count: {refused.message}")
        return ControlTotal(how, {"count": str(count.get("value"))}, {"count": str(landed)}, approximate=True)


def _repeats(record: Any, seen: set[tuple[Any, Any]]) -> bool:
    """Whether neighbouring pages brought this version of the record already; remembers it if not."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), int):
        return False
    key = (record["id"], str(record.get("generated_timestamp") or record.get("updated_at")))
    if key in seen:
        return True
    seen.add(key)
    return False


def _lives(record: dict[str, Any]) -> bool:
    return record.get("status") != "deleted" and record.get("active") is not False and not record.get("deleted_at")
