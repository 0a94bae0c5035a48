"""Salesforce's endpoints: OAuth client credentials, SOQL, records, describes, deleted ids, limits, Bulk 2.0 queries."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tieout_sandbox.simulators.documents import Query, Row
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.salesforce import objects, soql
from tieout_sandbox.simulators.salesforce.soql import Soql, SoqlError, salesforce_time
from tieout_sandbox.simulators.wire import Answer, World, basic_credentials, bearer_token, form, query_text, spoil

ORG = "00D5g00000SandboxEAA"
USER = "0055g00000IntegrAAA"
_VERSIONS = range(45, 68)
_SESSION_SECONDS = 2 * 3600
_PAGE = 2000
_SMALLEST_PAGE = 200
_URI_LIMIT = 16_384
_DELETED_DAYS = 30
_BULK_PAGE = 250_000


@dataclass(slots=True)
class SalesforceError(Exception):
    """An answer other than success: a list of one error."""

    status: int
    code: str
    message: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cursor:
    """A query being paged: it goes on reading the org as it was when it began."""

    parsed: Soql
    everything: bool
    now: int
    total: int
    page: int


@dataclass(slots=True)
class _Job:
    """A Bulk 2.0 query job. Polling moves it on, as time would."""

    id: str
    parsed: Soql
    operation: str
    delimiter: str
    line_ending: str
    created: int
    version: str
    total: int
    fails: bool
    state: str = "UploadComplete"


@dataclass(slots=True)
class _Api:
    world: World
    tokens: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, _Cursor] = field(default_factory=dict)
    jobs: dict[str, _Job] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    made: int = 0

    # --- signing in -------------------------------------------------------------------------------------------

    async def token(self, request: Request) -> Response:
        """POST /services/oauth2/token."""
        asked = dict(await form(request))
        grant = asked.get("grant_type")
        if grant != "client_credentials":
            return _oauth_error("unsupported_grant_type", "grant type not supported")
        basic = basic_credentials(request)
        client_id, secret = basic or (asked.get("client_id", ""), asked.get("client_secret", ""))
        known = self.world.credentials["salesforce"]
        if not hmac.compare_digest(client_id.encode(), known["client_id"].encode()):
            return _oauth_error("invalid_client_id", "client identifier invalid")
        if not hmac.compare_digest(secret.encode(), known["client_secret"].encode()):
            return _oauth_error("invalid_client", "invalid client credentials")
        now = self.world.clock.now
        self.made += 1
        digest = hmac.new(known["client_secret"].encode(), f"{self.made}:{now}".encode(), hashlib.sha256).hexdigest()
        token = f"{ORG[:15]}!{digest}"
        self.tokens[token] = now + self.world.limits.get("salesforce_session_seconds", _SESSION_SECONDS)
        base = _base_url(request)
        return Answer(
            {
                "access_token": token,
                "signature": hashlib.sha256(token.encode()).hexdigest()[:44],
                "scope": "api",
                "instance_url": base,
                "id": f"{base}/id/{ORG}/{USER}",
                "token_type": "Bearer",
                "issued_at": str(now * 1000),
            }
        ).response()

    def _check_session(self, request: Request) -> None:
        token = bearer_token(request)
        if token is None or self.tokens.get(token, 0) <= self.world.clock.now:
            raise SalesforceError(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def _count_call(self) -> str:
        """One more of today's API calls; returns the header. Raises SalesforceError over the daily limit."""
        day = self.world.clock.now // 86400
        limit = self.world.limits.get("salesforce_daily", 100_000)
        if self.used.get(day, 0) >= limit:
            raise SalesforceError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.used[day] = self.used.get(day, 0) + 1
        return f"api-usage={self.used[day]}/{limit}"

    # --- dispatch ---------------------------------------------------------------------------------------------

    async def versions(self, _: Request) -> Response:
        """GET /services/data: needs no session."""
        found = [{"label": f"Release {v}", "url": f"/services/data/v{v}.0", "version": f"{v}.0"} for v in _VERSIONS]
        return Answer(found).response()

    async def handle(self, request: Request) -> Response:
        """Everything below /services/data/vXX.X/."""
        headers = {}
        try:
            if len(request.scope["raw_path"]) + len(request.scope["query_string"]) > _URI_LIMIT:
                return Answer("URI Too Long", 414, media_type="text/html").response()
            self._check_session(request)
            headers["Sforce-Limit-Info"] = self._count_call()
            version = request.path_params["version"]
            if not re.fullmatch(r"\d\d\.0", version) or int(version[:2]) not in _VERSIONS:
                raise _not_found()
            answer = await self._answer(request, version)
        except SoqlError as e:
            answer = Answer([{"message": e.message, "errorCode": e.code}], 400)
        except SalesforceError as e:
            error: dict[str, Any] = {"message": e.message, "errorCode": e.code}
            answer = Answer([error | ({"fields": list(e.fields)} if e.fields else {})], e.status)
        return Answer(answer.body, answer.status, headers | answer.headers, answer.media_type).response()

    async def _answer(self, request: Request, version: str) -> Answer:
        parts = request.path_params["path"].strip("/").split("/")
        base = f"/services/data/v{version}"
        match request.method, parts:
            case "GET", ["query" | "queryAll" as way]:
                return self._query(request, way, base)
            case "GET", ["query" | "queryAll", locator]:
                return self._next_page(request, locator, base)
            case "GET", ["limits"]:
                return Answer(self._limits())
            case "GET", ["sobjects"]:
                return Answer(objects.listing(base))
            case "GET", ["sobjects", name]:
                return Answer(objects.basic(_sobject(name), base))
            case "GET", ["sobjects", name, "describe"]:
                return Answer(objects.describe(_sobject(name), base))
            case "GET", ["sobjects", name, "deleted" | "updated" as what]:
                return self._changed_ids(request, _sobject(name), what)
            case "GET", ["sobjects", name, record_id]:
                return self._record(request, _sobject(name), record_id, base)
            case _, ["jobs", "query", *rest]:
                return await self._bulk(request, rest, version)
        raise _not_found()

    # --- SOQL over REST ---------------------------------------------------------------------------------------

    def _query(self, request: Request, way: str, base: str) -> Answer:
        text = request.query_params.get("q")
        if not text:
            raise SalesforceError(400, "MALFORMED_QUERY", "SOQL statements must not be empty")
        parsed = soql.parse(text)
        everything = way == "queryAll"
        now = self.world.clock.now
        total = self._total(parsed, everything, now)
        if parsed.counts_only:
            return Answer({"totalSize": total, "done": True, "records": []})
        if parsed.aggregates:
            records = self._aggregated(parsed, everything, now)
            return Answer({"totalSize": len(records), "done": True, "records": records})
        self.made += 1
        locator = "01g" + hashlib.sha256(f"{self.made}{text}".encode()).hexdigest()[:15]
        self.cursors[locator] = _Cursor(parsed, everything, now, total, _batch_size(request))
        return self._page(request, locator, 0, base)

    def _next_page(self, request: Request, locator: str, base: str) -> Answer:
        name, _, offset = locator.rpartition("-")
        if name not in self.cursors or not offset.isdigit():
            raise SalesforceError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        duplicate = self.world.dial.duplicate_page(request.method, request.url.path, query_text(request), reading=name)
        return duplicate or self._page(request, name, int(offset), base)

    def _page(self, request: Request, locator: str, offset: int, base: str) -> Answer:
        cursor = self.cursors[locator]
        size = min(cursor.page, cursor.total - offset)
        rows = self._rows(cursor.parsed, cursor.everything, cursor.now, offset, size)
        sobject = cursor.parsed.sobject
        records = [_shown(r, sobject, cursor.parsed.fields) for r in rows]
        records = spoil(self.world, "salesforce", sobject.name, request, records)
        for record, row in zip(records, rows, strict=True):
            record["attributes"] = {"type": sobject.name, "url": f"{base}/sobjects/{sobject.name}/{row.id}"}
        records = [{"attributes": r.pop("attributes"), **r} for r in records]
        done = offset + size >= cursor.total
        body: dict[str, Any] = {"totalSize": cursor.total, "done": done}
        if not done:
            body["nextRecordsUrl"] = f"{base}/query/{locator}-{offset + size}"
        answer = Answer(body | {"records": records})
        if not done:
            self.world.dial.remember_page(
                request.method, request.url.path, query_text(request), answer, reading=locator
            )
        return answer

    def _collection(self, sobject: objects.SObject) -> int:
        return self.world.store.collection("salesforce", "org", sobject.name)

    @staticmethod
    def _conditions(parsed: Soql, everything: bool) -> Query:
        query = Query(order=parsed.order)
        if parsed.where:
            query = query.and_(f"({parsed.where})", *parsed.params)
        return query if everything else query.and_("json_extract(body, '$.IsDeleted') IS NOT 1")

    def _total(self, parsed: Soql, everything: bool, now: int) -> int:
        conditions = self._conditions(parsed, everything)
        found = self.world.store.count(self._collection(parsed.sobject), now, conditions)
        found = max(0, found - parsed.offset)
        return found if parsed.limit is None else min(found, parsed.limit)

    def _rows(self, parsed: Soql, everything: bool, now: int, offset: int, size: int) -> list[Row]:
        query = self._conditions(parsed, everything)
        query = Query(query.where, query.params, query.order, size, parsed.offset + offset)
        return list(self.world.store.select(self._collection(parsed.sobject), now, query))

    def _aggregated(self, parsed: Soql, everything: bool, now: int) -> list[dict[str, Any]]:
        shown = [(f.name, soql.column(f)) for f in parsed.fields]
        for a in parsed.aggregates:
            inner = "*" if a.field is None else soql.column(a.field)
            sql = f"COUNT(DISTINCT {inner})" if a.function == "COUNT_DISTINCT" else f"{a.function}({inner})"
            shown.append((a.alias, sql))
        rows = self.world.store.aggregate(
            self._collection(parsed.sobject),
            now,
            self._conditions(parsed, everything),
            ", ".join(sql for _, sql in shown),
            ", ".join(soql.column(f) for f in parsed.group_by),
        )
        stamps = {
            a.alias
            for a in parsed.aggregates
            if a.field and a.field.name in soql.STAMPS and not a.function.startswith("COUNT")
        }
        return [
            {"attributes": {"type": "AggregateResult"}}
            | {
                name: salesforce_time(int(value)) if name in stamps and value is not None else value
                for (name, _), value in zip(shown, row, strict=True)
            }
            for row in rows
        ]

    # --- records and changes ----------------------------------------------------------------------------------

    def _record(self, request: Request, sobject: objects.SObject, record_id: str, base: str) -> Answer:
        row = self.world.store.get(self._collection(sobject), record_id, self.world.clock.now)
        if row is None:
            raise SalesforceError(
                404,
                "NOT_FOUND",
                f"Provided external ID field does not exist or is not accessible: {record_id}",
            )
        if row.body.get("IsDeleted"):
            raise SalesforceError(404, "ENTITY_IS_DELETED", "entity is deleted")
        fields = sobject.fields
        if "fields" in request.query_params:
            asked = request.query_params["fields"].split(",")
            fields = tuple(f for name in asked if (f := sobject.field(name.strip())) is not None)
        record = spoil(self.world, "salesforce", sobject.name, request, [_shown(row, sobject, fields)])[0]
        url = f"{base}/sobjects/{sobject.name}/{record_id}"
        return Answer({"attributes": {"type": sobject.name, "url": url}, **record})

    def _changed_ids(self, request: Request, sobject: objects.SObject, what: str) -> Answer:
        now = self.world.clock.now
        bounds = []
        for name in ("start", "end"):
            text = unquote_plus(request.query_params.get(name, "")).replace(" ", "+").replace("Z", "+00:00")
            try:
                bounds.append(int(datetime.fromisoformat(text).timestamp()))
            except ValueError:
                raise SalesforceError(400, "INVALID_FIELD", f"{name}: invalid date {text!r}") from None
        start, end = bounds
        if start < now - _DELETED_DAYS * 86400:
            raise SalesforceError(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
        if end <= start:
            raise SalesforceError(
                400, "INVALID_REPLICATION_DATE", "The end date must be at least one minute after the start date"
            )
        operator = "IS" if what == "deleted" else "IS NOT"
        query = (
            Query(order="stamp, id")
            .and_(f"json_extract(body, '$.IsDeleted') {operator} 1")
            .and_("stamp >= ? AND stamp < ?", start, end)
        )
        rows = list(self.world.store.select(self._collection(sobject), now, query))
        covered = salesforce_time(min(end, now))
        if what == "updated":
            return Answer({"ids": [r.id for r in rows], "latestDateCovered": covered})
        return Answer(
            {
                "deletedRecords": [{"deletedDate": salesforce_time(r.stamp), "id": r.id} for r in rows],
                "earliestDateAvailable": salesforce_time(now - 15 * 86400),
                "latestDateCovered": covered,
            }
        )

    def _limits(self) -> dict[str, dict[str, int]]:
        daily = self.world.limits.get("salesforce_daily", 100_000)
        used = self.used.get(self.world.clock.now // 86400, 0)
        return {
            "DailyApiRequests": {"Max": daily, "Remaining": daily - used},
            "DailyBulkApiBatches": {"Max": 15_000, "Remaining": 15_000},
            "DailyBulkV2QueryFileStorageMB": {"Max": 976_562, "Remaining": 976_562},
            "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000 - len(self.jobs)},
            "DataStorageMB": {"Max": 1024, "Remaining": 512},
        }

    # --- Bulk API 2.0 -----------------------------------------------------------------------------------------

    async def _bulk(self, request: Request, parts: list[str], version: str) -> Answer:
        match request.method, parts:
            case "POST", []:
                return self._create_job(await request.body(), version)
            case "GET", []:
                records = [self._job_info(j) for j in self.jobs.values()]
                return Answer({"done": True, "records": records, "nextRecordsUrl": None})
            case "GET", [job_id]:
                return Answer(self._poll(self._job(job_id)))
            case "PATCH", [job_id]:
                job = self._job(job_id)
                job.state = "Aborted"
                return Answer(self._job_info(job))
            case "DELETE", [job_id]:
                job = self._job(job_id)
                if job.state not in ("JobComplete", "Failed", "Aborted"):
                    raise SalesforceError(
                        400, "API_ERROR", "Error encountered when deleting the job because the job is not terminated"
                    )
                del self.jobs[job_id]
                return Answer(b"", 204)
            case "GET", [job_id, "results"]:
                return self._results(request, self._job(job_id))
        raise _not_found()

    def _create_job(self, body: bytes, version: str) -> Answer:
        try:
            asked = json.loads(body)
        except ValueError:
            raise SalesforceError(400, "JSON_PARSER_ERROR", "Unexpected character in the request body") from None
        unknown = set(asked) - {"operation", "query", "contentType", "columnDelimiter", "lineEnding"}
        if unknown:
            raise SalesforceError(400, "JSON_PARSER_ERROR", f'Unrecognized field "{sorted(unknown)[0]}"')
        if asked.get("operation") not in ("query", "queryAll"):
            raise SalesforceError(400, "INVALIDJOB", "InvalidJob : operation must be query or queryAll")
        parsed = soql.parse(asked.get("query", ""))
        if parsed.aggregates:
            raise SalesforceError(400, "API_ERROR", "Aggregate queries are not supported in Bulk API 2.0 Query")
        now = self.world.clock.now
        self.made += 1
        job_id = "7505g" + hashlib.sha256(f"{self.made}{asked}".encode()).hexdigest()[:10].upper() + "AAA"
        fails = self.world.limits.get("bulk_failures", 0) > 0
        if fails:
            self.world.limits["bulk_failures"] -= 1
        job = self.jobs[job_id] = _Job(
            job_id,
            parsed,
            asked["operation"],
            asked.get("columnDelimiter", "COMMA"),
            asked.get("lineEnding", "LF"),
            now,
            version,
            self._total(parsed, asked["operation"] == "queryAll", now),
            fails,
        )
        return Answer(self._job_info(job))

    def _job(self, job_id: str) -> _Job:
        if job_id not in self.jobs:
            raise _not_found()
        return self.jobs[job_id]

    def _poll(self, job: _Job) -> dict[str, Any]:
        following = {"UploadComplete": "InProgress", "InProgress": "Failed" if job.fails else "JobComplete"}
        job.state = following.get(job.state, job.state)
        info = self._job_info(job)
        done = job.total if job.state == "JobComplete" else 0
        info |= {"numberRecordsProcessed": done, "retries": 0, "totalProcessingTime": 100 + done // 10}
        info["isPkChunkingSupported"] = True
        if job.state == "Failed":
            info["errorMessage"] = "InternalServerError: retried more than fifteen times"
        return info

    def _job_info(self, job: _Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "operation": job.operation,
            "object": job.parsed.sobject.name,
            "createdById": USER,
            "createdDate": salesforce_time(job.created),
            "systemModstamp": salesforce_time(job.created),
            "state": job.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(job.version),
            "lineEnding": job.line_ending,
            "columnDelimiter": job.delimiter,
        }

    def _results(self, request: Request, job: _Job) -> Answer:
        if job.state != "JobComplete":
            raise SalesforceError(
                400, "INVALIDJOBSTATE", "Results are available only for jobs in the JobComplete state"
            )
        offset = 0
        locator = request.query_params.get("locator")
        if locator:
            try:
                offset = int(urlsafe_b64decode(locator + "=" * (-len(locator) % 4)))
            except ValueError:
                raise SalesforceError(400, "INVALID_QUERY_LOCATOR", "invalid query locator") from None
            duplicate = self.world.dial.duplicate_page(
                request.method, request.url.path, query_text(request), reading=job.id
            )
            if duplicate is not None:
                return duplicate
        size = min(int(request.query_params.get("maxRecords", _BULK_PAGE)), job.total - offset)
        rows = self._rows(job.parsed, job.operation == "queryAll", job.created, offset, size)
        records = [_shown(r, job.parsed.sobject, job.parsed.fields) for r in rows]
        records = spoil(self.world, "salesforce", job.parsed.sobject.name, request, records)
        following = offset + size
        last = following >= job.total
        end = "null" if last else urlsafe_b64encode(str(following).encode()).decode().rstrip("=")
        headers = {"Sforce-Locator": end, "Sforce-NumberOfRecords": str(len(records))}
        answer = Answer(_csv(records, job), headers=headers, media_type="text/csv")
        if not last:
            self.world.dial.remember_page(request.method, request.url.path, query_text(request), answer, reading=job.id)
        return answer


def _shown(row: Row, sobject: objects.SObject, fields: tuple[objects.Field, ...]) -> dict[str, Any]:
    """The asked fields of a stored record; system fields follow from its document."""
    stamp = salesforce_time(row.stamp)
    system = {
        "Id": row.id,
        "IsDeleted": False,
        "SystemModstamp": stamp,
        "LastModifiedDate": stamp,
        "CreatedById": USER,
        "LastModifiedById": USER,
        "OwnerId": USER,
    }
    return {f.name: row.body.get(f.name, system.get(f.name, False if f.type == "boolean" else None)) for f in fields}


def _csv(records: list[dict[str, Any]], job: _Job) -> str:
    """Bulk's CSV: every value quoted, null as nothing, times with Z."""
    names = list(dict.fromkeys(name for r in records for name in r)) or [f.name for f in job.parsed.fields]
    delimiters = {"COMMA": ",", "TAB": "\t", "SEMICOLON": ";", "PIPE": "|", "CARET": "^", "BACKQUOTE": "`"}
    out = io.StringIO()
    end = "\r\n" if job.line_ending == "CRLF" else "\n"
    writer = csv.writer(out, delimiter=delimiters[job.delimiter], quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerow(names)
    times = {f.name for f in job.parsed.fields if f.type == "datetime"}
    for record in records:
        writer.writerow(_csv_value(record.get(name), name in times) for name in names)
    return out.getvalue()


def _csv_value(value: Any, is_time: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("+0000", "Z") if is_time else str(value)


def _batch_size(request: Request) -> int:
    """`Sforce-Query-Options: batchSize=500`, kept within what Salesforce allows."""
    match = re.search(r"batchSize\s*=\s*(\d+)", request.headers.get("sforce-query-options", ""))
    return min(_PAGE, max(_SMALLEST_PAGE, int(match[1]))) if match else _PAGE


def _sobject(name: str) -> objects.SObject:
    found = objects.find(name)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> SalesforceError:
    return SalesforceError(404, "NOT_FOUND", "The requested resource does not exist")


def _oauth_error(code: str, description: str) -> Response:
    return Answer({"error": code, "error_description": description}, 400).response()


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"


def routes(world: World) -> list[Route]:
    """Everything below `/services/`."""
    api = _Api(world)
    handle: Callable[[Request], Any] = api.handle
    return [
        Route("/services/oauth2/token", api.token, methods=["POST"]),
        Route("/services/data", api.versions, methods=["GET"]),
        Route("/services/data/", api.versions, methods=["GET"]),
        Route("/services/data/v{version}/{path:path}", handle, methods=["GET", "POST", "PATCH", "DELETE"]),
    ]


def rate_limited(_: Fault) -> Response:
    """Salesforce answers an exhausted quota with 403."""
    body = [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    return Answer(body, 403).response()


def server_error(fault: Fault) -> Response:
    """5xx as Salesforce says it."""
    code = "SERVER_UNAVAILABLE" if fault.status == 503 else "UNKNOWN_EXCEPTION"
    body = [
        {
            "message": "An unexpected error occurred. Please include this ErrorId if you contact support",
            "errorCode": code,
        }
    ]
    return Answer(body, fault.status).response()
