"""Zendesk's endpoints: incremental exports by cursor and by time, lists, single objects, counts."""

from __future__ import annotations

import hmac
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tieout_sandbox.simulators.clock import iso, parse_instant
from tieout_sandbox.simulators.documents import Query, Row
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.wire import Answer, World, basic_credentials, bearer_token, query_text, spoil

_WITHHELD = 60  # exports keep back the most recent minute
_EXPORT_PAGE = 1000
_LIST_PAGE = 100
_SAMPLE = 50
_PER_MINUTE = 700
_OBJECTS = {"tickets": "ticket", "users": "user", "organizations": "organization"}
_SEARCH_TERM = re.compile(r'(\w+)(:|<=|>=|<|>)("[^"]*"|\S+)')
_STATUSES = ["new", "open", "pending", "hold", "solved", "closed"]

TEMPLATES: dict[str, dict[str, Any]] = {
    "tickets": {
        "allow_attachments": True,
        "allow_channelback": False,
        "assignee_id": None,
        "brand_id": 360001,
        "collaborator_ids": [],
        "custom_fields": [],
        "custom_status_id": None,
        "due_at": None,
        "email_cc_ids": [],
        "external_id": None,
        "follower_ids": [],
        "followup_ids": [],
        "forum_topic_id": None,
        "from_messaging_channel": False,
        "group_id": None,
        "has_incidents": False,
        "is_public": True,
        "problem_id": None,
        "recipient": None,
        "satisfaction_rating": {"score": "unoffered"},
        "sharing_agreement_ids": [],
        "tags": [],
        "ticket_form_id": None,
        "type": None,
        "via": {"channel": "email", "source": {"from": {}, "rel": None, "to": {}}},
    },
    "users": {
        "active": True,
        "alias": None,
        "chat_only": False,
        "custom_role_id": None,
        "default_group_id": None,
        "details": None,
        "email": None,
        "external_id": None,
        "iana_time_zone": "Etc/UTC",
        "last_login_at": None,
        "locale": "en-US",
        "locale_id": 1,
        "moderator": False,
        "notes": None,
        "only_private_comments": False,
        "phone": None,
        "photo": None,
        "report_csv": False,
        "restricted_agent": True,
        "role_type": None,
        "shared": False,
        "shared_agent": False,
        "shared_phone_number": None,
        "signature": None,
        "suspended": False,
        "tags": [],
        "ticket_restriction": "requested",
        "time_zone": "Etc/UTC",
        "two_factor_auth_enabled": False,
        "user_fields": {},
        "verified": True,
    },
    "organizations": {
        "details": None,
        "group_id": None,
        "notes": None,
        "organization_fields": {},
        "shared_comments": False,
        "shared_tickets": False,
        "tags": [],
    },
}


@dataclass(slots=True)
class ZendeskError(Exception):
    """An answer other than success."""

    status: int
    body: dict[str, Any]


def _error(status: int, error: str, description: str) -> ZendeskError:
    return ZendeskError(status, {"error": error, "description": description})


def _not_found() -> ZendeskError:
    return _error(404, "RecordNotFound", "Not found")


@dataclass(slots=True)
class _Api:
    world: World
    minute: int = 0
    in_minute: int = 0

    async def handle(self, request: Request) -> Response:
        headers = self._rate_headers()
        try:
            self._authenticate(request)
            answer = self._answer(request)
        except ZendeskError as e:
            answer = Answer(e.body, e.status)
        return Answer(answer.body, answer.status, headers | answer.headers).response()

    def _rate_headers(self) -> dict[str, str]:
        """The account's limit, counted down over each minute of real time."""
        minute, second = divmod(int(time.monotonic()), 60)
        if minute != self.minute:
            self.minute, self.in_minute = minute, 0
        self.in_minute += 1
        left = str(max(0, _PER_MINUTE - self.in_minute))
        return {
            "rate-limit": str(_PER_MINUTE),
            "rate-limit-remaining": left,
            "rate-limit-reset": str(60 - second),
            "x-rate-limit": str(_PER_MINUTE),
            "x-rate-limit-remaining": left,
        }

    def _authenticate(self, request: Request) -> None:
        known = self.world.credentials["zendesk"]
        basic = basic_credentials(request)
        given = f"{basic[0]}:{basic[1]}" if basic else f"{known['email']}/token:{bearer_token(request) or ''}"
        if not hmac.compare_digest(given.encode(), f"{known['email']}/token:{known['token']}".encode()):
            raise ZendeskError(401, {"error": "Couldn't authenticate you"})

    def _answer(self, request: Request) -> Answer:
        path = request.path_params["path"].strip("/").removesuffix(".json")
        match path.split("/"):
            case ["incremental", "tickets" | "users" as name, "cursor"]:
                return self._cursor_export(request, name)
            case ["incremental", name] if name in _OBJECTS:
                return self._time_export(request, name)
            case ["incremental", name, "sample"] if name in _OBJECTS:
                return self._time_export(request, name, sample=True)
            case ["search", "count"]:
                return Answer({"count": self._search_count(request.query_params.get("query", ""))})
            case [name, "count"] if name in _OBJECTS:
                value = self.world.store.count(self._collection(name), self.world.clock.now, _living())
                return Answer({"count": {"refreshed_at": self.world.clock.iso, "value": value}})
            case [name] if name in _OBJECTS:
                return self._list(request, name)
            case [name, object_id] if name in _OBJECTS and object_id.isdigit():
                row = self.world.store.get(self._collection(name), object_id, self.world.clock.now)
                if row is None or row.body.get("status") == "deleted":
                    raise _not_found()
                shown = self._shown(request, name, [row], generated=False)
                return Answer({_OBJECTS[name]: shown[0]})
        raise _error(404, "InvalidEndpoint", "Not found")

    # --- incremental exports ----------------------------------------------------------------------------------

    def _start_time(self, request: Request) -> int:
        text = request.query_params.get("start_time", "")
        if not re.fullmatch(r"-?\d+", text):
            raise _error(400, "InvalidStartTime", "start_time must be an integer (unix epoch time)")
        start = int(text)
        if start > self.world.clock.now - _WITHHELD:
            raise _error(400, "StartTimeTooRecent", "Too recent start_time. Use a start_time older than 60 seconds")
        return start

    def _cursor_export(self, request: Request, name: str) -> Answer:
        asked = request.query_params
        size = self._size(asked.get("per_page"), _EXPORT_PAGE)
        until = self.world.clock.now - _WITHHELD
        query = Query(order="stamp, CAST(id AS INTEGER)", limit=size + 1).and_("stamp < ?", until)
        if "cursor" in asked:
            stamp, object_id = _read_cursor(asked["cursor"])
            query = query.and_("(stamp, CAST(id AS INTEGER)) > (?, ?)", stamp, object_id)
            duplicate = self.world.dial.duplicate_page(
                request.method, request.url.path, query_text(request), reading=name
            )
            if duplicate is not None:
                return duplicate
        else:
            stamp, object_id = self._start_time(request), 0
            query = query.and_("stamp >= ?", stamp)
        rows = list(self.world.store.select(self._collection(name), self.world.clock.now, query))
        end = len(rows) <= size
        rows = rows[:size]
        after = _cursor(rows[-1].stamp, int(rows[-1].id)) if rows else _cursor(stamp, object_id)
        before = _cursor(rows[0].stamp, int(rows[0].id)) if rows and "cursor" in asked else None
        base = f"{_base_url(request)}/api/v2/incremental/{name}/cursor.json"
        body = {
            name: self._shown(request, name, rows, generated=True),
            "after_cursor": after,
            "after_url": f"{base}?{urlencode({'cursor': after})}",
            "before_cursor": before,
            "before_url": f"{base}?{urlencode({'cursor': before})}" if before else None,
            "end_of_stream": end,
        }
        answer = Answer(body)
        if not end:
            self.world.dial.remember_page(request.method, request.url.path, query_text(request), answer, reading=name)
        return answer

    def _time_export(self, request: Request, name: str, *, sample: bool = False) -> Answer:
        """By time only: a page ends with everything of its last second, and the next one begins with that second."""
        start = self._start_time(request)
        size = _SAMPLE if sample else self._size(request.query_params.get("per_page"), _EXPORT_PAGE)
        until = self.world.clock.now - _WITHHELD
        collection, now = self._collection(name), self.world.clock.now
        window = Query(order="stamp, CAST(id AS INTEGER)").and_("stamp >= ? AND stamp < ?", start, until)
        # A page goes at least one row past the second it starts with, or its reader would never get on.
        size = max(size, self.world.store.count(collection, now, window.and_("stamp = ?", start)) + 1)
        page = list(self.world.store.select(collection, now, Query(window.where, window.params, window.order, size)))
        end = len(page) < size
        if page and not end:
            same = window.and_("stamp = ?", page[-1].stamp)
            known = {r.id for r in page}
            page += [r for r in self.world.store.select(collection, now, same) if r.id not in known]
            end = self.world.store.count(collection, now, window.and_("stamp > ?", page[-1].stamp)) == 0
        end_time = page[-1].stamp if page else start
        following = f"{_base_url(request)}/api/v2/incremental/{name}.json?{urlencode({'start_time': end_time})}"
        return Answer(
            {
                name: self._shown(request, name, page, generated=True),
                "count": len(page),
                "end_of_stream": end,
                "end_time": end_time,
                "next_page": following if page else None,
            }
        )

    # --- lists and counts -------------------------------------------------------------------------------------

    def _list(self, request: Request, name: str) -> Answer:
        """Cursor paging with `page[size]`, else numbered pages."""
        asked = request.query_params
        collection, now = self._collection(name), self.world.clock.now
        base = f"{_base_url(request)}/api/v2/{name}.json"
        query = Query(order="CAST(id AS INTEGER)").and_(*_living().where)
        if "page[size]" in asked or "page[after]" in asked:
            size = self._size(asked.get("page[size]"), _LIST_PAGE)
            if "page[after]" in asked:
                query = query.and_("CAST(id AS INTEGER) > ?", _read_cursor(asked["page[after]"])[1])
            rows = list(
                self.world.store.select(collection, now, Query(query.where, query.params, query.order, size + 1))
            )
            more, rows = len(rows) > size, rows[:size]
            after = _cursor(0, int(rows[-1].id)) if rows else None
            following = f"{base}?{urlencode({'page[size]': size, 'page[after]': after})}" if more else None
            return Answer(
                {
                    name: self._shown(request, name, rows, generated=False),
                    "meta": {"has_more": more, "after_cursor": after, "before_cursor": None},
                    "links": {"next": following, "prev": None},
                }
            )
        size = self._size(asked.get("per_page"), _LIST_PAGE)
        page = max(1, int(asked.get("page", "1"))) if asked.get("page", "1").isdigit() else 1
        total = self.world.store.count(collection, now, query)
        sliced = Query(query.where, query.params, query.order, size, (page - 1) * size)
        rows = list(self.world.store.select(collection, now, sliced))
        more = page * size < total
        return Answer(
            {
                name: self._shown(request, name, rows, generated=False),
                "count": total,
                "next_page": f"{base}?{urlencode({'page': page + 1, 'per_page': size})}" if more else None,
                "previous_page": f"{base}?{urlencode({'page': page - 1, 'per_page': size})}" if page > 1 else None,
            }
        )

    def _search_count(self, text: str) -> int:
        """`type:ticket status<solved created>=2026-03-01 organization:123`."""
        name, query = "tickets", _living()
        for term, operator, value in _SEARCH_TERM.findall(text):
            value = value.strip('"')
            compared = "=" if operator == ":" else operator
            match term:
                case "type":
                    name = f"{value}s"
                    if name not in _OBJECTS:
                        raise _error(422, "invalid", f"Invalid search: type:{value}")
                case "status":
                    if value not in _STATUSES:
                        raise _error(422, "invalid", f"Invalid search: status:{value}")
                    ranked = "CASE json_extract(body, '$.status') " + " ".join(
                        f"WHEN '{s}' THEN {i}" for i, s in enumerate(_STATUSES)
                    )
                    query = query.and_(f"{ranked} END {compared} ?", _STATUSES.index(value))
                case "created" | "updated":
                    moment = value if "T" in value else f"{value}T00:00:00Z"
                    try:
                        bound = iso(parse_instant(moment))
                    except ValueError:
                        raise _error(422, "invalid", f"Invalid search: {term}{operator}{value}") from None
                    query = query.and_(f"json_extract(body, '$.{term}_at') {compared} ?", bound)
                case "organization" | "requester":
                    query = query.and_(f"json_extract(body, '$.{term}_id') = ?", int(value))
                case _:
                    raise _error(422, "invalid", f"Invalid search: {term}")
        return self.world.store.count(self._collection(name), self.world.clock.now, query)

    # --- parts ------------------------------------------------------------------------------------------------

    def _collection(self, name: str) -> int:
        return self.world.store.collection("zendesk", "desk", name)

    @staticmethod
    def _size(text: str | None, largest: int) -> int:
        if text is None:
            return largest
        if not text.isdigit() or not 1 <= int(text) <= largest:
            raise _error(400, "InvalidPaginationParameter", f"page size must be between 1 and {largest}")
        return int(text)

    def _shown(self, request: Request, name: str, rows: list[Row], *, generated: bool) -> list[dict[str, Any]]:
        records = list(self._records(request, name, rows, generated))
        return spoil(self.world, "zendesk", name, request, records)

    def _records(self, request: Request, name: str, rows: list[Row], generated: bool) -> Iterator[dict[str, Any]]:
        base = _base_url(request)
        for row in rows:
            url = f"{base}/api/v2/{name}/{row.id}.json"
            record = {"id": int(row.id), "url": url, **TEMPLATES[name], **row.body}
            if generated and name == "tickets":
                record["generated_timestamp"] = row.stamp
            yield record


def _living() -> Query:
    return Query().and_("json_extract(body, '$.status') IS NOT 'deleted'")


def _cursor(stamp: int, object_id: int) -> str:
    return urlsafe_b64encode(f"{stamp}.0||{object_id}".encode()).decode()


def _read_cursor(text: str) -> tuple[int, int]:
    try:
        stamp, object_id = urlsafe_b64decode(text.encode()).decode().split(".0||")
        return int(stamp), int(object_id)
    except ValueError:
        raise _error(400, "InvalidCursor", "The cursor parameter is malformed") from None


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"


def routes(world: World) -> list[Route]:
    """Everything below `/api/v2/`."""
    api = _Api(world)
    handle: Callable[[Request], Any] = api.handle
    return [Route("/api/v2/{path:path}", handle, methods=["GET"])]


def rate_limited(fault: Fault) -> Response:
    """429 as Zendesk says it."""
    body = {
        "error": "APIRateLimitExceeded",
        "description": "Number of allowed API requests per minute exceeded",
    }
    headers = {"Retry-After": str(fault.retry_after), "rate-limit-remaining": "0", "x-rate-limit-remaining": "0"}
    return Answer(body, 429, headers).response()


def server_error(fault: Fault) -> Response:
    """5xx as Zendesk says it: the gateway's are pages, not JSON."""
    if fault.status in (502, 503, 504, 520, 524):
        return Answer(f"<html><body>{fault.status}</body></html>", fault.status, media_type="text/html").response()
    return Answer({"error": "InternalError", "description": "An internal error occurred"}, fault.status).response()
