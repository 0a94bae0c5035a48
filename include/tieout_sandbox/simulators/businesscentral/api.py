"""Business Central's API v2.0 as its reference pages describe it, with what surprises their users.

`post` posts every line of the batch, whoever wrote it, and then counts up a number at the end of the batch's code; an
empty batch has nothing to post, which is also what a second post of the same batch hears. A line has no currency.
Allowed posting dates refuse what an open accounting period would take. The trial balance is text.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tieout.erp.rest import exact_json
from tieout.settings import Connection
from tieout_sandbox.simulators import odata
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.wire import Answer, basic_credentials, bearer_token, form
from tieout_sandbox.tryton import chart

ROOT = "/v2.0/7a2b/sandbox/api/v2.0"
DIMENSION_CODES = {"product_family": "PRODUCTFAMILY", "tax_code": "TAXCODE"}
JOURNAL_FIELDS = frozenset(
    {"code", "displayName", "templateDisplayName", "balancingAccountId", "balancingAccountNumber"}
)
_LINE = """
id journalId journalDisplayName lineNumber accountType accountId accountNumber postingDate documentNumber
externalDocumentNumber amount description comment taxCode balanceAccountType balancingAccountId balancingAccountNumber
lastModifiedDateTime
"""
LINE_FIELDS = frozenset(_LINE.split())
_ENTRY = """
id entryNumber postingDate documentNumber documentType accountId accountNumber description debitAmount creditAmount
additionalCurrencyDebitAmount additionalCurrencyCreditAmount lastModifiedDateTime
"""
ENTRY_FIELDS = frozenset(_ENTRY.split())
_MOST_OPERATIONS = 100
_COLLECTION = re.compile(r"companies\(([^)]*)\)/(\w+)\Z")
_SINGLE = re.compile(r"companies\(([^)]*)\)/(\w+)\(([^)]*)\)(?:/([\w.]+))?\Z")


class _Refusal(Exception):
    def __init__(self, message: str, code: str = "Application_DialogException", status: int = 400) -> None:
        self.message, self.code, self.status = message, code, status
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": f"{self.message}  CorrelationId:  {uuid.uuid4()}."}}


@dataclass
class _Company:
    id: str
    name: str
    currency: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    journals: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    dimensions: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Dimension set lines by the id of their journal line or entry."""
    allowed: tuple[str, str] = ("0001-01-01", "0001-01-01")
    closed_years: set[int] = field(default_factory=set)


@dataclass
class BusinessCentral:
    """An environment's companies."""

    kind = "businesscentral"
    open_limit: int = 100
    most_rows: int = 20_000
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    now: datetime = datetime(2026, 3, 30, 9, 0, tzinfo=UTC)
    tokens: set[str] = field(default_factory=set)
    companies: dict[str, _Company] = field(default_factory=dict)
    by_name: dict[str, _Company] = field(default_factory=dict)
    on_premises: bool = False
    """A user's name and web service key get in without a token."""
    stale_trial_balance: bool = False
    """The trial balance does not know the entries yet."""

    def __post_init__(self) -> None:
        for one in chart.COMPANIES:
            company = _Company(str(uuid.uuid4()), one["name"], one["currency"])
            self.companies[company.id] = self.by_name[one["id"]] = company

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route(ROOT + "/{path:path}", self._answer, methods=["GET", "POST", "PATCH", "DELETE"]),
        ]

    def rate_limited(self, fault: Fault) -> Response:
        """429 as the service says it."""
        error = {"code": "Application_TooManyRequests", "message": "Too many requests reached."}
        return Answer({"error": error}, 429, {"Retry-After": str(fault.retry_after)}).response()

    def server_error(self, fault: Fault) -> Response:
        """5xx and 408."""
        return Answer({"error": {"code": "Unknown", "message": "failed"}}, fault.status).response()

    # --- how an adapter gets in -------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """What `erp/businesscentral.yaml` says for this environment."""
        return {"companies": {c["id"]: c["name"] for c in chart.COMPANIES}, "dimensions": dict(DIMENSION_CODES)}

    def connection(self, url: str) -> Connection:
        """How Tieout signs in, at `url`."""
        extra = {"token_url": f"{url}/oauth2/v2.0/token"}
        return Connection("businesscentral", f"{url}{ROOT}", self.client_id, self.client_secret, None, extra)

    def expire(self) -> None:
        """Take back every token given out."""
        self.tokens.clear()

    # --- what a test arranges ---------------------------------------------------------------------------------

    def shut(self, day: str, *, shut: bool = True) -> None:
        """Allow posting only after the month of `day`, or on every day again."""
        moment = date.fromisoformat(day)
        first = date(moment.year + moment.month // 12, moment.month % 12 + 1, 1)
        for company in self.companies.values():
            company.allowed = (first.isoformat() if shut else "0001-01-01", "0001-01-01")

    def by_hand(self, company: str, day: str, *lines: tuple[str, str, str], text: str = "by hand") -> str:
        """An accountant's own posted document: lines of (account, debit, credit)."""
        books = self.by_name[company]
        number = f"G{len(books.entries):05}"
        for account, debit, credit in lines:
            amount = Decimal(debit or 0) - Decimal(credit or 0)
            self._post_line(books, {"accountNumber": account, "postingDate": day, "documentNumber": number,
                                    "amount": amount, "description": text}, [])  # fmt: skip
        return number

    # --- the service ------------------------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        sent = dict(await form(request))
        if (sent.get("client_id"), sent.get("client_secret")) != (self.client_id, self.client_secret):
            return Answer({"error": "invalid_client", "error_description": "AADSTS7000215"}, 401).response()
        if sent.get("grant_type") != "client_credentials" or not sent.get("scope", "").endswith("/.default"):
            return Answer({"error": "invalid_request"}, 400).response()
        token = secrets.token_urlsafe(40)
        self.tokens.add(token)
        return Answer({"token_type": "Bearer", "expires_in": 3599, "access_token": token}).response()

    async def _answer(self, request: Request) -> Response:
        key = (self.client_id, self.client_secret)
        if bearer_token(request) not in self.tokens and not (self.on_premises and basic_credentials(request) == key):
            return Answer(
                {"error": {"code": "Authentication_InvalidCredentials", "message": "invalid"}}, 401
            ).response()
        path, body = request.path_params["path"], await request.body()
        base = str(request.base_url).rstrip("/") + ROOT
        try:
            sent = json.loads(body, parse_float=Decimal) if body else {}
        except ValueError:
            return Answer(_Refusal("invalid JSON", "BadRequest").body, 400).response()
        if path == "$batch":
            return self._batch(sent, base, whole=request.headers.get("Isolation") == "snapshot")
        status, made = self._carry_out(
            request.method, path, dict(request.query_params), sent, dict(request.headers), base
        )
        return Response(status_code=204) if status == 204 else Answer(exact_json(made), status).response()

    def _batch(self, sent: Mapping[str, Any], base: str, *, whole: bool) -> Response:
        """Operations in their order; the first that fails ends it, and takes all back where the isolation says so."""
        operations = sent["requests"]
        if len(operations) > _MOST_OPERATIONS:
            return Answer(_Refusal("more than 100 operations", "RequestEntityTooLarge").body, 413).response()
        kept = {c.id: (dict(c.journals), dict(c.lines), dict(c.dimensions)) for c in self.companies.values()}
        answers: list[dict[str, Any]] = []
        for one in operations:
            url = urlsplit(one["url"])
            status, body = self._carry_out(
                one["method"],
                unquote(url.path),
                dict(parse_qsl(url.query)),
                one.get("body") or {},
                one.get("headers") or {},
                base,
            )
            answers.append({"id": one["id"], "status": status, "headers": {}, "body": body})
            if status >= 300:
                break
        if whole and answers and answers[-1]["status"] >= 300:
            for company in self.companies.values():
                company.journals, company.lines, company.dimensions = kept[company.id]
        return Answer(exact_json({"responses": answers})).response()

    def _carry_out(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any], headers: Mapping[str, str], base: str
    ) -> tuple[int, Any]:
        lowered = {name.lower(): value for name, value in headers.items()}
        try:
            if path == "companies":
                named = [{"id": c.id, "name": c.name, "displayName": c.name} for c in self.companies.values()]
                return 200, {"value": named}
            if found := _COLLECTION.match(path):
                company = self._company(found[1])
                if method == "GET":
                    return 200, self._collection(self._rows(company, found[2], query), path, query, lowered, base)
                if method == "POST" and found[2] == "journals":
                    return 201, self._add_journal(company, body)
            if found := _SINGLE.match(path):
                return self._single(
                    self._company(found[1]), found[2], found[3], found[4], method, path, query, body, lowered, base
                )
        except _Refusal as refusal:
            return refusal.status, refusal.body
        except odata.BadQuery as error:
            return 400, _Refusal(str(error), "BadRequest").body
        return 404, _Refusal(f"Resource not found for the segment '{path}'.", "BadRequest_NotFound").body

    def _single(
        self, company: _Company, kind: str, key: str, tail: str | None, method: str, path: str,
        query: dict[str, str], body: dict[str, Any], headers: Mapping[str, str], base: str,
    ) -> tuple[int, Any]:  # fmt: skip
        if kind == "journalLines" and tail == "dimensionSetLines" and method == "POST":
            return 201, self._add_dimension(company, key, body)
        if kind != "journals" or key not in company.journals:
            raise _Refusal(f"The resource '{kind}({key})' does not exist.", "Internal_RecordNotFound", 404)
        if tail is None and method == "DELETE":
            if "if-match" not in headers:
                raise _Refusal("The If-Match header is missing.", "BadRequest_InvalidRequest", 400)
            del company.journals[key]
            company.lines = {n: line for n, line in company.lines.items() if line["journalId"] != key}
            return 204, None
        if tail == "journalLines" and method == "GET":
            rows = [line for line in company.lines.values() if line["journalId"] == key]
            return 200, self._collection(self._expanded(company, rows, query), path, query, headers, base)
        if tail == "journalLines" and method == "POST":
            return 201, self._add_line(company, key, body)
        if tail == "Microsoft.NAV.post" and method == "POST":
            self._post(company, key)
            return 204, None
        raise _Refusal("not found", "BadRequest_NotFound", 404)

    def _rows(self, company: _Company, kind: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        match kind:
            case "accounts":
                held = [*((number, name, "Posting") for number, name, _ in chart.ACCOUNTS), ("9", "ALL", "Total")]
                return [
                    {"id": _id(number), "number": number, "displayName": name, "blocked": False, "accountType": kind,
                     "directPosting": kind == "Posting", "netChange": Decimal(0)}
                    for number, name, kind in held
                ]  # fmt: skip
            case "dimensions":
                return [
                    {"id": _id(code), "code": code, "displayName": name, "dimensionValues": [
                        {"id": _id(value), "code": f"V{n}", "displayName": value}
                        for n, value in enumerate(chart.DIMENSIONS[name], 1)]}
                    for name, code in DIMENSION_CODES.items()
                ]  # fmt: skip
            case "generalLedgerSetup":
                low, high = company.allowed
                return [{"id": _id("setup"), "allowPostingFrom": low, "allowPostingTo": high,
                         "localCurrencyCode": company.currency}]  # fmt: skip
            case "accountingPeriods":
                return [
                    {"id": _id(f"{year}-{month}"), "startingDate": f"{year}-{month:02}-01",
                     "name": date(year, month, 1).strftime("%B"), "newFiscalYear": month == 1,
                     "closed": year in company.closed_years, "dateLocked": year in company.closed_years}
                    for year in (2025, 2026, 2027) for month in range(1, 13)
                ]  # fmt: skip
            case "journals":
                journals = list(company.journals.values())
                if query.get("$expand") == "journalLines":
                    lines = company.lines.values()
                    return [{**j, "journalLines": [x for x in lines if x["journalId"] == j["id"]]} for j in journals]
                return journals
            case "generalLedgerEntries":
                return self._expanded(company, company.entries, query)
            case "trialBalances":
                return self._trial_balance(company, query)
        raise _Refusal(f"Resource not found for the segment '{kind}'.", "BadRequest_NotFound", 404)

    def _collection(
        self, rows: list[dict[str, Any]], path: str, query: dict[str, str], headers: Mapping[str, str], base: str
    ) -> dict[str, Any]:
        if (where := query.get("$filter")) and not path.endswith("trialBalances"):
            columns = _COLUMNS.get(path.rpartition("/")[2]) or {name: 1 for row in rows for name in row}
            test = odata.test_of(where, columns)
            rows = [row for row in rows if test(row)]
        rows = odata.ordered(rows, query.get("$orderby", ""))
        start = int(query.get("$skiptoken", "0"))
        preferred = re.search(r"odata\.maxpagesize=(\d+)", headers.get("prefer", ""))
        size = min(int(preferred[1]) if preferred else self.most_rows, self.most_rows)
        end = min(start + size, int(query.get("$top", len(rows))))
        page = rows[start:end]
        if "$select" in query:
            wanted = query["$select"].split(",")
            page = [{name: row[name] for name in wanted} for row in page]
        answer: dict[str, Any] = {"@odata.context": f"{base}/$metadata", "value": page}
        if end < len(rows) and "$top" not in query:
            following = urlencode({**query, "$skiptoken": str(end)}, quote_via=quote)
            answer["@odata.nextLink"] = f"{base}/{path}?{following}"
        return answer

    @staticmethod
    def _expanded(company: _Company, rows: Sequence[dict[str, Any]], query: Mapping[str, str]) -> list[dict[str, Any]]:
        if query.get("$expand") != "dimensionSetLines":
            return list(rows)
        return [{**row, "dimensionSetLines": company.dimensions.get(row["id"], [])} for row in rows]

    def _trial_balance(self, company: _Company, query: Mapping[str, str]) -> list[dict[str, Any]]:
        until = re.search(r"dateFilter le (\S+)", query.get("$filter", ""))
        sums: dict[str, Decimal] = {}
        for entry in [] if self.stale_trial_balance else company.entries:
            if until is None or entry["postingDate"] <= until[1]:
                net = entry["debitAmount"] - entry["creditAmount"]
                sums[entry["accountNumber"]] = sums.get(entry["accountNumber"], Decimal(0)) + net
        return [
            {"number": number, "accountType": "Posting", "display": name, "totalDebit": "", "totalCredit": "",
             "balanceAtDateDebit": _shown(max(sums.get(number, Decimal(0)), Decimal(0))),
             "balanceAtDateCredit": _shown(max(-sums.get(number, Decimal(0)), Decimal(0))),
             "dateFilter": until[1] if until else ""}
            for number, name, _ in chart.ACCOUNTS
        ]  # fmt: skip

    # --- journals ---------------------------------------------------------------------------------------------

    def _add_journal(self, company: _Company, body: Mapping[str, Any]) -> dict[str, Any]:
        _known(body, JOURNAL_FIELDS, "journal")
        if len(body["code"]) > 10 or len(body.get("displayName", "")) > 100:
            raise _Refusal("The length of the string exceeds the field.", "Application_StringExceededLength")
        if any(j["code"] == body["code"] for j in company.journals.values()):
            raise _Refusal("The record already exists.", "Internal_EntityWithSameKeyExists")
        journal = {"@odata.etag": f'W/"{secrets.token_hex(8)}"', "id": str(uuid.uuid4()), "displayName": "",
                   "templateDisplayName": "GENERAL", "lastModifiedDateTime": self._stamp(), **body}  # fmt: skip
        company.journals[journal["id"]] = journal
        return journal

    def _add_line(self, company: _Company, journal: str, body: Mapping[str, Any]) -> dict[str, Any]:
        _known(body, LINE_FIELDS, "journalLine")
        if len(body.get("documentNumber", "")) > 20 or len(body.get("description", "")) > 100:
            raise _Refusal("The length of the string exceeds the field.", "Application_StringExceededLength")
        if body.get("accountNumber") not in {number for number, _, _ in chart.ACCOUNTS}:
            raise _Refusal("The G/L Account does not exist.", "Internal_InvalidTableRelation")
        line = {"id": str(uuid.uuid4()), "journalId": journal, "lastModifiedDateTime": self._stamp(),
                "description": "", "amount": Decimal(0), **body}  # fmt: skip
        line["amount"] = Decimal(line["amount"])
        company.lines[line["id"]] = line
        return line

    def _add_dimension(self, company: _Company, line: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if line not in company.lines:
            raise _Refusal("The journal line does not exist.", "Internal_RecordNotFound", 404)
        if any(d["code"] == body.get("code") for d in company.dimensions.get(line, [])):
            raise _Refusal("The record already exists.", "Internal_EntityWithSameKeyExists")
        held = self._rows(company, "dimensions", {})
        values = {row["code"]: {v["code"]: v["displayName"] for v in row["dimensionValues"]} for row in held}
        if body.get("valueCode") not in values.get(body.get("code", ""), {}):
            raise _Refusal("The Dimension Value does not exist.", "Internal_InvalidTableRelation")
        shown = values[body["code"]][body["valueCode"]]
        made = {"id": str(uuid.uuid4()), "parentId": line, "parentType": "Journal Line", "code": body["code"],
                "valueCode": body["valueCode"], "valueDisplayName": shown}  # fmt: skip
        company.dimensions[line] = [*company.dimensions.get(line, []), made]
        return made

    def _post(self, company: _Company, journal: str) -> None:
        """Post the whole batch, whoever wrote its lines."""
        lines = sorted((x for x in company.lines.values() if x["journalId"] == journal), key=lambda x: x["lineNumber"])
        if not lines:
            raise _Refusal("There is nothing to post.")
        low, high = company.allowed
        for line in lines:
            day = line["postingDate"]
            if day < low or (high != "0001-01-01" and day > high):
                raise _Refusal("Posting Date is not within your range of allowed posting dates.")
        for key in {(line["documentNumber"], line["postingDate"]) for line in lines}:
            out = sum(x["amount"] for x in lines if (x["documentNumber"], x["postingDate"]) == key)
            if out:
                raise _Refusal(f"The lines in the journal are out of balance by {out}. Document No.: {key[0]}.")
        for line in lines:
            self._post_line(company, line, company.dimensions.pop(line["id"], []))
            del company.lines[line["id"]]
        batch = company.journals[journal]
        if number := re.search(r"\d+\Z", batch["code"]):
            batch["code"] = batch["code"][: number.start()] + f"{int(number[0]) + 1:0{len(number[0])}}"

    def _post_line(self, company: _Company, line: Mapping[str, Any], dimensions: list[dict[str, str]]) -> None:
        number = len(company.entries) + 1
        entry = {
            "id": str(uuid.uuid4()), "entryNumber": number, "postingDate": line["postingDate"],
            "documentNumber": line["documentNumber"], "documentType": " ", "accountId": _id(line["accountNumber"]),
            "accountNumber": line["accountNumber"], "description": line["description"],
            "debitAmount": max(line["amount"], Decimal(0)), "creditAmount": max(-line["amount"], Decimal(0)),
            "additionalCurrencyDebitAmount": Decimal(0), "additionalCurrencyCreditAmount": Decimal(0),
            "lastModifiedDateTime": self._stamp(),
        }  # fmt: skip
        company.entries.append(entry)
        company.dimensions[str(entry["id"])] = [{**d, "parentType": "General Ledger Entry"} for d in dimensions]

    def _company(self, key: str) -> _Company:
        if key not in self.companies:
            raise _Refusal("The company does not exist.", "Internal_CompanyNotFound", 404)
        return self.companies[key]

    def _stamp(self) -> str:
        return f"{self.now:%Y-%m-%dT%H:%M:%S}.000Z"


_COLUMNS: dict[str, Mapping[str, int]] = {
    "generalLedgerEntries": dict.fromkeys(ENTRY_FIELDS, 1),
    "journals": dict.fromkeys(JOURNAL_FIELDS | {"id", "lastModifiedDateTime"}, 1),
    "journalLines": dict.fromkeys(LINE_FIELDS, 1),
}


def _known(body: Mapping[str, Any], fields: frozenset[str], kind: str) -> None:
    for name in body:
        if name not in fields:
            raise _Refusal(f"The property '{name}' does not exist on type 'Microsoft.NAV.{kind}'.", "BadRequest")


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def _shown(amount: Decimal) -> str:
    return f"{amount:,.2f}" if amount else ""
