"""Zendesk: cursor exports of tickets and users, the time-based export of organizations.

The exports are ordered by when Zendesk generated a record, not by `updated_at`, and keep back the newest minute. The
cursor they end with is kept and continued, never made up again from a time. The counts Zendesk offers are
approximate, so they are noted and prove an extract where they agree, but do not fail one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from requests.auth import HTTPBasicAuth

from tieout.errors import Refused
from tieout.lake.landing import ControlTotal, ExtractRef
from tieout.settings import Connection
from tieout.sources.client import Clock, HttpClient, Params, Verdict
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
        run.source.name, connection.host, auth=auth, rate=run.source.rate, clock=clock, judge=_judge
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
        lo = mark.hi or self.run.source.start
        self.client.window = window_text(lo, hi)

        def fill(pages: Pages) -> Filled:
            feed = dict(mark.feed)
            seen: set[tuple[Any, Any]] = set()
            living: dict[Any, str] = {}
            for page in self._pages(mark):
                records = [r for r in page.records if not _repeats(r, seen)]
                living.update((r.get("id"), str(r.get("created_at"))) for r in records if _lives(r))
                pages.land_page(Page(records, page.answer))
                feed |= self._where(page)
            return Filled(self._created(living, lo, hi) if lo else self._all(living), feed)

        return [*done, self.run.extract(self.name, lo, hi, fill)]

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

    def _all(self, living: Mapping[Any, str]) -> ControlTotal:
        """After an export from the beginning: the count of what is not deleted."""
        return self._count(f"api/v2/{self.name}/count.json", [], "count of what is not deleted", len(living))

    def _created(self, living: Mapping[Any, str], lo: datetime, hi: datetime) -> ControlTotal:
        """After any other: what a search finds created in the window."""
        bounds = [instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for instant in (lo, hi)]
        query = f"type:{self.name[:-1]} created>={bounds[0]} created<{bounds[1]}"
        landed = sum(bounds[0] <= created < bounds[1] for created in living.values())
        return self._count("api/v2/search/count.json", [("query", query)], "search for what was created", landed)

    def _count(self, path: str, params: Params, how: str, landed: int) -> ControlTotal:
        try:
            count = self.client.get(path, params).value["count"]
        except Refused as refused:
            return ControlTotal(f"no count: {refused.message}")
        claimed = count.get("value") if isinstance(count, dict) else count
        return ControlTotal(f"Zendesk's {how}", {"count": str(claimed)}, {"count": str(landed)}, approximate=True)


def _judge(status: int, _: bytes) -> Verdict | None:
    """Zendesk answers 409 while it is busy with the same records."""
    return "passing" if status == 409 else None


def _repeats(record: Any, seen: set[tuple[Any, Any]]) -> bool:
    """Whether neighbouring pages brought this version of the record already; remembers it if not."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), int):
        return False
    key = (record["id"], str(record.get("generated_timestamp") or record.get("updated_at")))
    if key in seen:
        return True
    seen.add(key)
    return False


def _lives(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    return record.get("status") != "deleted" and record.get("active") is not False and not record.get("deleted_at")
