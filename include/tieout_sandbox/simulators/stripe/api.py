"""Stripe's endpoints: authentication, version, idempotency, lists, objects, events, reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tieout_sandbox.simulators.documents import Document, Query
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.stripe import errors, params, reports
from tieout_sandbox.simulators.stripe.errors import StripeError
from tieout_sandbox.simulators.stripe.present import Presenter
from tieout_sandbox.simulators.stripe.resources import (
    CREDIT_NOTE_LINES,
    CUSTOMER_BALANCE,
    LINES,
    RESOURCES,
    SUBSCRIPTION_STATUSES,
    Resource,
)
from tieout_sandbox.simulators.wire import Answer, World, basic_credentials, bearer_token, form, query_text, spoil

VERSION = "2024-06-20"
_EVENTS_KEPT = 30 * 86400
_KEYS_KEPT = 24 * 3600
_MAX_EVENT_TYPES = 20
_GRANTED = {"rak_reporting_write"}  # restricted keys read everything and may ask for reports, nothing else
_SUB_LISTS = {
    ("invoices", "lines"): LINES,
    ("credit_notes", "lines"): CREDIT_NOTE_LINES,
    ("customers", "balance_transactions"): CUSTOMER_BALANCE,
}


@dataclass(frozen=True, slots=True)
class _Caller:
    account: str
    key: str
    restricted: bool


@dataclass(slots=True)
class _Remembered:
    """What a POST with an idempotency key answered; `answer` is None while it is under way."""

    fingerprint: str
    at: int
    request_id: str
    answer: Answer | None = None


@dataclass(slots=True)
class _Api:
    world: World
    requests: int = 0
    remembered: dict[tuple[str, str], _Remembered] = field(default_factory=dict)
    runs: reports.Runs = field(default_factory=reports.Runs)

    async def handle(self, request: Request) -> Response:
        self.requests += 1
        request_id = "req_" + hashlib.sha256(f"{self.requests}:{request.url}".encode()).hexdigest()[:14]
        headers = {"Request-Id": request_id, "Stripe-Version": VERSION}
        try:
            caller = self._caller(request)
            self._check_version(request)
            answer = await self._answer(request, caller, request_id)
        except StripeError as e:
            error = e.error | {"request_log_url": f"https://dashboard.stripe.com/test/logs/{request_id}"}
            answer = Answer({"error": error}, e.status, e.headers or {})
        return Answer(answer.body, answer.status, headers | answer.headers, answer.media_type).response()

    def _caller(self, request: Request) -> _Caller:
        basic = basic_credentials(request)
        key = basic[0] if basic else bearer_token(request)
        if not key:
            raise errors.no_key()
        for account, keys in self.world.credentials["stripe"].items():
            if key in (keys["secret"], keys["restricted"]):
                return _Caller(account, key, key == keys["restricted"])
        raise errors.wrong_key(key)

    @staticmethod
    def _check_version(request: Request) -> None:
        asked = request.headers.get("stripe-version", VERSION)
        if asked != VERSION:
            raise errors.invalid(f"Invalid Stripe API version: {asked}")

    async def _answer(self, request: Request, caller: _Caller, request_id: str) -> Answer:
        path = request.path_params["path"].strip("/")
        parts = path.split("/")
        if request.method == "GET":
            return self._get(request, caller, parts)
        if request.method == "POST":
            return await self._post(request, caller, parts, request_id)
        raise errors.unknown_url(request.method, f"/v1/{path}")

    # --- reading ----------------------------------------------------------------------------------------------

    def _get(self, request: Request, caller: _Caller, parts: list[str]) -> Answer:
        asked = params.nested(request.query_params.multi_items())
        show = Presenter(self.world.store, caller.account, self.world.clock.now)
        match parts:
            case ["balance"]:
                return Answer(_balance(show))
            case ["subscription_items"]:
                return self._subscription_items(request, show, asked)
            case ["reporting", "report_runs", *run_id] | ["files", *run_id] if len(run_id) <= 2:
                return self.runs.get(parts, show, self.world.clock.now, _base_url(request))
            case [name] if name in RESOURCES:
                return self._list(request, show, RESOURCES[name], asked, url=f"/v1/{name}")
            case [name, object_id] if name in RESOURCES:
                return self._retrieve(request, show, RESOURCES[name], object_id, asked)
            case ["charges", charge, "refunds"]:
                self._parent(show, "charges", charge)
                url = f"/v1/charges/{charge}/refunds"
                return self._list(request, show, RESOURCES["refunds"], asked | {"charge": charge}, url=url)
            case ["customers", customer, "balance_transactions", transaction]:
                self._parent(show, "customers", customer)
                return self._retrieve(request, show, CUSTOMER_BALANCE, transaction, asked)
            case [name, parent, sub] if (name, sub) in _SUB_LISTS:
                self._parent(show, name, parent)
                resource = _SUB_LISTS[name, sub]
                return self._list(request, show, resource, asked, url=f"/v1/{name}/{parent}/{sub}", parent=parent)
        raise errors.unknown_url("GET", "/v1/" + "/".join(parts))

    @staticmethod
    def _parent(show: Presenter, name: str, object_id: str) -> None:
        if show.find(name, object_id) is None:
            raise errors.missing(RESOURCES[name].noun, object_id)

    def _retrieve(
        self, request: Request, show: Presenter, resource: Resource, object_id: str, asked: dict[str, Any]
    ) -> Answer:
        params.refuse_unknown(asked, {"expand"})
        row = show.store.get(show.collection(resource.name), object_id, show.now)
        if row is None or (resource.name == "events" and row.stamp < show.now - _EVENTS_KEPT):
            raise errors.missing(resource.noun, object_id)
        shown = show.object(resource.name, row)
        show.expand(shown, _expansions(asked), is_list=False)
        return Answer(spoil(self.world, "stripe", resource.name, request, [shown])[0])

    def _list(
        self,
        request: Request,
        show: Presenter,
        resource: Resource,
        asked: dict[str, Any],
        *,
        url: str,
        parent: str | None = None,
    ) -> Answer:
        params.refuse_unknown(asked, resource.known)
        limit = params.limit(asked)
        expansions = _expansions(asked)
        query = _filtered(resource, asked, show.now)
        if parent is not None:
            query = query.under(parent)
        query, backwards = _paged(show, resource, query, asked)
        query = Query(query.where, query.params, query.order, limit + 1)
        if "payout" in asked:
            payout = show.find("payouts", asked["payout"])
            if payout is None:
                raise errors.missing("payout", asked["payout"], param="payout", status=400)
            if not payout["automatic"]:
                raise errors.invalid(
                    "Balance transaction history can only be filtered on automatic transfers, not manual.",
                    param="payout",
                )
        follow_up = "starting_after" in asked or "ending_before" in asked
        reading = f"{show.account} {url}"
        duplicate = self.world.dial.duplicate_page(
            request.method, request.url.path, query_text(request), reading=reading, follow_up=follow_up
        )
        if duplicate is not None:
            return duplicate
        rows = list(show.store.select(show.collection(resource.name), show.now, query))
        has_more = len(rows) > limit
        rows = rows[:limit]
        if backwards:
            rows.reverse()
        body: dict[str, Any] = {"object": "list", "data": [show.object(resource.name, r) for r in rows]}
        show.expand(body, expansions, is_list=True)
        body["data"] = spoil(self.world, "stripe", resource.name, request, body["data"])
        answer = Answer(body | {"has_more": has_more, "url": url})
        # A page served again still has a successor, or its reader would stop before the page it was asked for.
        again = Answer(body | {"has_more": True, "url": url})
        self.world.dial.remember_page(request.method, request.url.path, query_text(request), again, reading=reading)
        return answer

    def _subscription_items(self, request: Request, show: Presenter, asked: dict[str, Any]) -> Answer:
        params.refuse_unknown(asked, {"limit", "starting_after", "ending_before", "expand", "subscription"})
        limit = params.limit(asked)
        if "subscription" not in asked:
            raise errors.invalid(
                "Missing required param: subscription.", code="parameter_missing", param="subscription"
            )
        row = show.store.get(show.collection("subscriptions"), asked["subscription"], show.now)
        if row is None:
            raise errors.missing("subscription", asked["subscription"], param="subscription", status=400)
        items = show.subscription_items(row.body)
        ids = [i["id"] for i in items]
        first, last = 0, len(items)
        if "starting_after" in asked:
            first = _position(ids, asked["starting_after"], "starting_after") + 1
            last = min(len(items), first + limit)
        elif "ending_before" in asked:
            last = _position(ids, asked["ending_before"], "ending_before")
            first = max(0, last - limit)
        else:
            last = min(len(items), limit)
        more = first > 0 if "ending_before" in asked else last < len(items)
        body: dict[str, Any] = {
            "object": "list",
            "data": items[first:last],
            "has_more": more,
            "url": "/v1/subscription_items",
        }
        show.expand(body, _expansions(asked), is_list=True)
        body["data"] = spoil(self.world, "stripe", "subscription_items", request, body["data"])
        return Answer(body)

    # --- writing ----------------------------------------------------------------------------------------------

    async def _post(self, request: Request, caller: _Caller, parts: list[str], request_id: str) -> Answer:
        operation, permission = self._operation(parts)
        if caller.restricted and permission not in _GRANTED:
            raise errors.forbidden(caller.key, caller.account, permission)
        pairs = await form(request)
        key = request.headers.get("idempotency-key")
        if key is None:
            return operation(request, caller, params.nested(pairs), request_id)
        if len(key) > 255:
            raise errors.invalid("Idempotency keys may be at most 255 characters long.")
        now = self.world.clock.now
        fingerprint = hashlib.sha256(json.dumps([parts, sorted(pairs)]).encode()).hexdigest()
        slot = (caller.account, key)
        earlier = self.remembered.get(slot)
        if earlier is not None and earlier.at > now - _KEYS_KEPT:
            if earlier.fingerprint != fingerprint:
                raise errors.key_reused(key)
            if earlier.answer is None:
                raise errors.key_in_use(key)
            replayed = {
                "Idempotency-Key": key,
                "Idempotent-Replayed": "true",
                "Original-Request": earlier.request_id,
            }
            return Answer(earlier.answer.body, earlier.answer.status, replayed)
        remembered = self.remembered[slot] = _Remembered(fingerprint, now, request_id)
        try:
            remembered.answer = operation(request, caller, params.nested(pairs), request_id)
        except StripeError as error:
            # Requests refused by validation never began, so their key stays free.
            del self.remembered[slot]
            error.headers = {"Idempotency-Key": key}
            raise
        return Answer(
            remembered.answer.body,
            remembered.answer.status,
            {"Idempotency-Key": key, "Original-Request": request_id},
        )

    def _operation(self, parts: list[str]) -> tuple[Callable[..., Answer], str]:
        match parts:
            case ["customers", customer]:
                return lambda *args: self._update_customer(customer, *args), "rak_customer_write"
            case ["reporting", "report_runs"]:
                return self._create_report_run, "rak_reporting_write"
        raise errors.unknown_url("POST", "/v1/" + "/".join(parts))

    def _create_report_run(self, request: Request, caller: _Caller, asked: dict[str, Any], _: str) -> Answer:
        return self.runs.create(asked, caller.account, self.world.clock.now)

    def _update_customer(
        self, customer: str, request: Request, caller: _Caller, asked: dict[str, Any], request_id: str
    ) -> Answer:
        changeable = {"description", "email", "name", "phone"}
        params.refuse_unknown(asked, {*changeable, "metadata", "expand"})
        show = Presenter(self.world.store, caller.account, self.world.clock.now)
        row = show.store.get(show.collection("customers"), customer, show.now)
        if row is None or row.body.get("deleted"):
            raise errors.missing("customer", customer)
        body = dict(row.body)
        body.update({name: asked[name] or None for name in changeable & set(asked)})
        if "metadata" in asked:
            changed = asked["metadata"] or dict.fromkeys(body.get("metadata", {}), "")
            if not isinstance(changed, dict):
                raise errors.invalid("Invalid object", param="metadata")
            merged = body.get("metadata", {}) | changed
            body["metadata"] = {k: v for k, v in merged.items() if v != ""}
        self._write(show, "customers", customer, body, row.version, "customer.updated", request_id, request)
        shown = show.find("customers", customer)
        assert shown is not None  # noqa: S101
        return Answer(shown)

    def _write(
        self,
        show: Presenter,
        name: str,
        object_id: str,
        body: dict[str, Any],
        previous: int,
        event_type: str,
        request_id: str,
        request: Request,
    ) -> None:
        now = show.now
        store = show.store
        version = store.last_version(show.collection(name), object_id) + 1
        store.put(Document("stripe", show.account, name, object_id, body["created"], now, version, body))
        event_id = "evt_" + hashlib.sha256(f"{object_id}:{version}".encode()).hexdigest()[:24]
        event = {
            "type": event_type,
            "created": now,
            "ref": [name, object_id, version],
            "previous": previous,
            "request": {"id": request_id, "idempotency_key": request.headers.get("idempotency-key")},
        }
        store.put(Document("stripe", show.account, "events", event_id, now, now, 1, event))


def _expansions(asked: dict[str, Any]) -> list[str]:
    expand = asked.get("expand", [])
    if not isinstance(expand, list):
        raise errors.invalid("Invalid array", param="expand")
    return expand


def _filtered(resource: Resource, asked: dict[str, Any], now: int) -> Query:
    """The conditions that a list's parameters set."""
    query = Query(order=resource.order)
    for name in asked:
        value = asked[name]
        if name in resource.ranges:
            for operator, bound in params.moment_range(value, name):
                query = query.and_(f"{resource.ranges[name]} {operator} ?", bound)
        elif name in resource.equals:
            query = query.and_(f"{resource.equals[name]} = ?", value)
        elif name in resource.booleans:
            query = query.and_(f"{resource.booleans[name]} = ?", int(params.boolean(value, name)))
        elif name in resource.lists:
            if not isinstance(value, list):
                raise errors.invalid("Invalid array", param=name)
            if name == "types" and len(value) > _MAX_EVENT_TYPES:
                raise errors.invalid(f"You may list at most {_MAX_EVENT_TYPES} types.", param="types")
            query = query.and_(f"{resource.lists[name]} IN ({','.join('?' * len(value))})", *value)
        elif name == resource.parent:
            query = query.under(value)
    match resource.name:
        case "events":
            if "type" in asked and "types" in asked:
                raise errors.invalid("You may only specify one of these parameters: type, types.")
            query = query.and_("stamp >= ?", now - _EVENTS_KEPT)
        case "subscriptions":
            query = _by_status(query, asked.get("status"))
        case "customers":
            query = query.and_("json_extract(body, '$.deleted') IS NOT 1")
    return query


def _by_status(query: Query, status: str | None) -> Query:
    """Canceled subscriptions are left out unless they are asked for."""
    column = "json_extract(body, '$.status')"
    if status is None:
        return query.and_(f"{column} <> 'canceled'")
    if status not in SUBSCRIPTION_STATUSES:
        known = ", ".join(SUBSCRIPTION_STATUSES)
        raise errors.invalid(f"Invalid status: must be one of {known}", param="status")
    if status == "all":
        return query
    if status == "ended":
        return query.and_(f"{column} IN ('canceled', 'incomplete_expired')")
    return query.and_(f"{column} = ?", status)


def _paged(show: Presenter, resource: Resource, query: Query, asked: dict[str, Any]) -> tuple[Query, bool]:
    """The query moved behind or before the object a page is counted from; whether it now runs backwards."""
    cursors = [c for c in ("ending_before", "starting_after") if c in asked]
    if not cursors:
        return query, False
    if len(cursors) == 2:
        raise errors.invalid("You may only specify one of these parameters: ending_before, starting_after.")
    cursor = cursors[0]
    row = show.store.get(show.collection(resource.name), asked[cursor], show.now)
    if row is None:
        raise errors.missing(resource.noun, asked[cursor], param=cursor, status=400)
    backwards = cursor == "ending_before"
    descending = resource.order.endswith("DESC")
    operator = "<" if descending != backwards else ">"
    query = query.and_(f"(stamp, id) {operator} (?, ?)", row.stamp, row.id)
    if backwards:
        order = "stamp, id" if descending else "stamp DESC, id DESC"
        query = Query(query.where, query.params, order)
    return query, backwards


def _position(ids: list[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise errors.missing("subscription item", wanted, param=param, status=400)
    return ids.index(wanted)


def _balance(show: Presenter) -> dict[str, Any]:
    """What is available and what is pending, per currency, from every balance transaction so far."""
    split = "CASE WHEN json_extract(body, '$.available_on') <= ? THEN 'available' ELSE 'pending' END"
    rows = show.store.connection.execute(
        f"SELECT json_extract(body, '$.currency'), {split}, SUM(json_extract(body, '$.net')) "
        "FROM documents WHERE collection = ? AND visible_at <= ? AND superseded_at > ? GROUP BY 1, 2",
        (show.now, show.collection("balance_transactions"), show.now, show.now),
    ).fetchall()
    totals = {(currency, side): net for currency, side, net in rows}

    def side(name: str) -> list[dict[str, Any]]:
        return [
            {"amount": totals.get((c, name), 0), "currency": c, "source_types": {"card": totals.get((c, name), 0)}}
            for c in sorted({c for c, _ in totals})
        ]

    return {"object": "balance", "available": side("available"), "livemode": False, "pending": side("pending")}


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"


def routes(world: World) -> list[Route]:
    """Everything below `/v1/`."""
    api = _Api(world)
    handle: Callable[[Request], Awaitable[Response]] = api.handle
    return [Route("/v1/{path:path}", handle, methods=["GET", "POST", "DELETE"])]


def rate_limited(fault: Fault) -> Response:
    """429 as Stripe says it."""
    headers = {
        "Retry-After": str(fault.retry_after),
        "Stripe-Rate-Limited-Reason": "global-rate",
        "Stripe-Should-Retry": "true",
        "Request-Id": f"req_limited{fault.fired:04d}",
    }
    return Answer({"error": errors.too_many_requests().error}, 429, headers).response()


def server_error(fault: Fault) -> Response:
    """5xx as Stripe says it."""
    headers = {"Stripe-Should-Retry": "true", "Request-Id": f"req_failed{fault.fired:04d}"}
    return Answer({"error": errors.unknown_failure(fault.status).error}, fault.status, headers).response()
