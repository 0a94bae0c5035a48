"""NetSuite's REST services as its guides describe them, with what surprises their users.

A field it does not know is dropped in silence unless the header says `Error`; a PUT of an external id that is there
rewrites the record, and appends lines unless told to replace them; an unapproved journal is stored with 204 and posts
nothing; SuiteQL may see a record later than the record service; amounts are rounded to the currency's digits.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tieout.settings import Connection
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.netsuite import tables
from tieout_sandbox.simulators.netsuite.signature import REALM, OAuthToken
from tieout_sandbox.simulators.wire import Answer
from tieout_sandbox.tryton import chart

_HEADER = """
accountingBook approvalStatus approved class createdDate createdFrom currency customForm department exchangeRate
excludeFromGLNumbering externalId id isBookSpecific isReversal lastModifiedDate line location memo nextApprover nexus
postingPeriod refName reversalDate reversalDefer reversalEntry subsidiary taxPointDate toSubsidiary tranDate tranId
transactionNumber void
"""
_LINE = """
account class cleared credit debit department eliminate endDate entity grossAmt item line lineCreatedDate
lineLastModifiedDate location memo revenueRecognitionRule schedule scheduleType startDate tax1Acct tax1Amt taxAccount
taxCode taxRate1 totalAmount
"""
HEADER_FIELDS = frozenset(_HEADER.split())
LINE_FIELDS = frozenset(_LINE.split()) | {tables.SEGMENT}
_RECORD = "/services/rest/record/v1/journalEntry"
_FAULT = "https://www.rfc-editor.org/rfc/rfc9110.html"


class _Refusal(Exception):
    def __init__(self, detail: str, code: str = "USER_ERROR", *, path: str | None = None, status: int = 400) -> None:
        self.status, self.title = status, "Bad Request" if status == 400 else "Not Found"
        self.detail: dict[str, str] = {"detail": detail, "o:errorCode": code}
        if path:
            self.detail["o:errorPath"] = path
        super().__init__(detail)

    def answer(self) -> Response:
        return _problem(self.status, self.title, self.detail)


@dataclass
class NetSuite:
    """An account's books and how it is set up."""

    kind = "netsuite"
    approval_routing: bool = False
    """Journals wait for somebody's approval whatever they ask for."""
    lag: int = 0
    """Queries for which a new journal stays unseen by SuiteQL."""
    lag_once: bool = False
    """Only the next journal is seen late."""
    books: tuple[int, ...] = (1, 2)
    """Accounting books; each repeats every amount."""
    open_limit: int = 5
    page_limit: int = 1000
    token: OAuthToken = field(default_factory=OAuthToken.new)
    db: sqlite3.Connection = field(default_factory=tables.new_books)
    now: datetime = datetime(2026, 3, 30, 9, 0, tzinfo=UTC)

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route(_RECORD, self._guarded(self._create), methods=["POST"]),
            Route(_RECORD + "/{key}", self._guarded(self._one), methods=["GET", "PUT", "PATCH", "DELETE"]),
            Route("/services/rest/query/v1/suiteql", self._guarded(self._suiteql), methods=["POST"]),
        ]

    def rate_limited(self, fault: Fault) -> Response:
        """429 as the account's concurrency governance says it."""
        detail = {
            "detail": "The request could not be processed because the concurrent request limit was exceeded.",
            "o:errorCode": "CONCURRENCY_LIMIT_EXCEEDED",
        }
        return _problem(429, "Too Many Requests", detail, {"Retry-After": str(fault.retry_after)})

    def server_error(self, fault: Fault) -> Response:
        """5xx; a gateway's are pages."""
        if fault.status in (502, 503, 504):
            return Answer(f"<html>{fault.status}</html>", fault.status, media_type="text/html").response()
        if fault.status == 401:
            return self.busy_as_login_failure()
        detail = {"detail": "An unexpected error occurred.", "o:errorCode": "UNEXPECTED_ERROR"}
        return _problem(fault.status, "Internal Server Error", detail)

    def busy_as_login_failure(self) -> Response:
        """What an overloaded account answers: a login failure that is none."""
        detail = {"detail": "Invalid login attempt.", "o:errorCode": "INVALID_LOGIN_ATTEMPT"}
        return _problem(401, "Unauthorized", detail)

    # --- how an adapter gets in -------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """What `erp/netsuite.yaml` says for this account."""
        companies = {c["id"]: c["name"] for c in chart.COMPANIES}
        return {"companies": companies, "dimensions": dict(tables.DIMENSION_FIELDS), "zone": tables.ZONE}

    def connection(self, url: str) -> Connection:
        """How Tieout signs in, at `url`."""
        extra = {"consumer_key": self.token.consumer_key, "consumer_secret": self.token.consumer_secret}
        return Connection("netsuite", url, self.token.token_id, self.token.token_secret, REALM, extra)

    def expire(self) -> None:
        """Take back the token; NetSuite's do not end by themselves."""
        self.token.renew()

    # --- what a test arranges ---------------------------------------------------------------------------------

    def shut(self, day: str, *, shut: bool = True, column: str = "closed") -> None:
        """Close the month that `day` lies in, or lock it (`alllocked`), or open it again."""
        self.db.execute(
            f"UPDATE accountingperiod SET {column} = ? WHERE isyear = 'F' AND isquarter = 'F'"
            " AND ? BETWEEN startdate AND enddate",
            ("T" if shut else "F", day),
        )

    def approve(self) -> None:
        """Somebody approves every journal that waits."""
        self.db.execute(
            "UPDATE every_transaction SET approvalstatus = '2', posting = 'T', lastmodifieddate = ?",
            (self._wall(),),
        )
        self.db.execute("UPDATE transactionaccountingline SET posting = 'T'")

    def by_hand(self, company: str, day: str, *lines: tuple[str, str, str], text: str = "by hand") -> int:
        """An accountant's own posted journal: lines of (account number, debit, credit)."""
        items = [
            {"account": self._account(number), "debit": debit or None, "credit": credit or None, "memo": text}
            for number, debit, credit in lines
        ]
        return self._store(None, self._subsidiary(company), day, self._month(day), text, items, "T", hidden=0)

    def journals(self) -> list[sqlite3.Row]:
        """Every stored transaction."""
        return self.db.execute("SELECT * FROM every_transaction ORDER BY id").fetchall()

    # --- the record service -----------------------------------------------------------------------------------

    def _guarded(self, handler: Any) -> Any:
        async def answer(request: Request) -> Response:
            if not self.token.signed(request):
                return _problem(
                    401, "Unauthorized", {"detail": "Invalid login attempt.", "o:errorCode": "INVALID_LOGIN"}
                )
            try:
                body = json.loads(await request.body() or b"{}", parse_float=Decimal)
                return handler(request, body)  # type: ignore[no-any-return]
            except ValueError:
                return _Refusal("Invalid JSON", "INVALID_CONTENT").answer()
            except _Refusal as refusal:
                return refusal.answer()

        return answer

    def _create(self, request: Request, body: dict[str, Any]) -> Response:
        self._names(request, body)
        if body.get("externalId") and self._find(f"eid:{body['externalId']}") is not None:
            raise _Refusal("This record already exists", "DUP_RCRD")
        return self._no_content(request, self._save(body, body.get("externalId")))

    def _one(self, request: Request, body: dict[str, Any]) -> Response:
        key = request.path_params["key"]
        row = self._find(key)
        if request.method == "PUT" and row is None and key.startswith("eid:"):
            self._names(request, body)
            return self._no_content(request, self._save(body, key.removeprefix("eid:")))
        if row is None:
            raise _Refusal("The record instance does not exist.", "NONEXISTENT_ID", status=404)
        if request.method == "GET":
            return Answer(self._shown(row)).response()
        if request.method == "DELETE":
            for table, column in (
                ("transactionaccountingline", '"transaction"'),
                ("transactionline", '"transaction"'),
                ("every_transaction", "id"),
            ):
                self.db.execute(f"DELETE FROM {table} WHERE {column} = ?", (row["id"],))
            return Response(status_code=204)
        self._names(request, body)
        self._rewrite(row, body, replace="line" in request.query_params.get("replace", "").split(","))
        return self._no_content(request, row["id"])

    def _names(self, request: Request, body: dict[str, Any]) -> None:
        """Refuse or drop, as the header says, what is no field of the record."""
        strict = request.headers.get("X-NetSuite-PropertyNameValidation", "Warning") == "Error"
        places = [("", body, HEADER_FIELDS)]
        items = (body.get("line") or {}).get("items", [])
        places += [(f"line.items[{n}].", item, LINE_FIELDS) for n, item in enumerate(items)]
        for where, holder, known in places:
            for name in [name for name in holder if name not in known]:
                if strict:
                    raise _Refusal(f"Unknown reference or field named {name}.", "INVALID_CONTENT", path=where + name)
                del holder[name]

    def _save(self, body: Mapping[str, Any], external: str | None) -> int:
        items = self._items(body)
        day = body.get("tranDate") or self.now.date().isoformat()
        period = int(body["postingPeriod"]["id"]) if "postingPeriod" in body else self._month(day)
        self._refuse_shut(period)
        subsidiary = int(self._reference(body, "subsidiary", "subsidiary"))
        approved = not self.approval_routing and str((body.get("approvalStatus") or {}).get("id", "2")) == "2"
        posting = "T" if approved else "F"
        lag, self.lag = self.lag, 0 if self.lag_once else self.lag
        return self._store(external, subsidiary, day, period, body.get("memo"), items, posting, hidden=lag)

    def _store(
        self, external: str | None, subsidiary: int, day: str, period: int, memo: str | None,
        items: Sequence[Mapping[str, Any]], posting: str, *, hidden: int,
    ) -> int:  # fmt: skip
        with self.db:
            self.db.execute("BEGIN")
            number = self.db.execute("SELECT COALESCE(MAX(id), 5000) + 1 FROM every_transaction").fetchone()[0]
            self.db.execute(
                "INSERT INTO every_transaction VALUES (?, 'Journal', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    number, external, f"JE{number}", memo, day, posting, "2" if posting == "T" else "1", period,
                    self._wall(), self._wall(), hidden,
                ),
            )  # fmt: skip
            tables.store_lines(self.db, number, subsidiary, items, posting, books=self.books)
        return int(number)

    def _rewrite(self, row: sqlite3.Row, body: Mapping[str, Any], *, replace: bool) -> None:
        """Change a record that is there: this is what makes a second PUT dangerous."""
        self._refuse_shut(row["postingperiod"])
        kept = [] if replace else self._kept(row["id"])
        items = kept + self._items(body, balanced=False)
        subsidiary = self.db.execute(
            'SELECT subsidiary FROM transactionline WHERE "transaction" = ?', (row["id"],)
        ).fetchone()[0]
        self.db.execute('DELETE FROM transactionline WHERE "transaction" = ?', (row["id"],))
        self.db.execute('DELETE FROM transactionaccountingline WHERE "transaction" = ?', (row["id"],))
        tables.store_lines(self.db, row["id"], subsidiary, items, row["posting"], books=self.books)
        self.db.execute(
            "UPDATE every_transaction SET memo = COALESCE(?, memo), trandate = COALESCE(?, trandate),"
            " lastmodifieddate = ? WHERE id = ?",
            (body.get("memo"), body.get("tranDate"), self._wall(), row["id"]),
        )

    def _kept(self, number: int) -> list[dict[str, Any]]:
        rows = self.db.execute(
            "SELECT tl.*, tal.account, tal.debit, tal.credit FROM transactionline tl JOIN transactionaccountingline tal"
            ' ON tal."transaction" = tl."transaction" AND tal.transactionline = tl.id AND tal.accountingbook = 1'
            ' WHERE tl."transaction" = ? ORDER BY tl.id',
            (number,),
        )
        return [dict(row) for row in rows]

    def _items(self, body: Mapping[str, Any], *, balanced: bool = True) -> list[dict[str, Any]]:
        digits = Decimal(1) if self._currency(body) == "JPY" else Decimal("0.01")
        made = []
        for number, item in enumerate((body.get("line") or {}).get("items", [])):
            line: dict[str, Any] = {"memo": item.get("memo"), "account": self._reference(item, "account", "account")}
            for side in ("debit", "credit"):
                if item.get(side) is not None:
                    amount = Decimal(str(item[side])).quantize(digits, ROUND_HALF_UP)
                    line[side] = format(amount, "f")
            if ("debit" in line) == ("credit" in line):
                raise _Refusal("Please enter either a debit or a credit.", path=f"line.items[{number}]")
            for name, table in (("class", "classification"), (tables.SEGMENT, f"customrecord_{tables.SEGMENT}")):
                if name in item:
                    line[name] = self._reference(item, name, table)
            made.append(line)
        total = sum(Decimal(i.get("debit", "0")) - Decimal(i.get("credit", "0")) for i in made)
        if balanced and (not made or total):
            raise _Refusal("The amounts of the debit and credit lines of this transaction are not in balance.")
        return made

    def _currency(self, body: Mapping[str, Any]) -> str:
        if "currency" not in body:
            return "USD"
        return str(self.db.execute("SELECT symbol FROM currency WHERE id = ?", (body["currency"]["id"],)).fetchone()[0])

    def _reference(self, holder: Mapping[str, Any], name: str, table: str) -> str:
        value = str((holder.get(name) or {}).get("id", ""))
        if not value or self.db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (value,)).fetchone() is None:
            raise _Refusal(f"Invalid reference key {value} for {name}.", "INVALID_KEY_OR_REF", path=name)
        return value

    def _refuse_shut(self, period: int) -> None:
        row = self.db.execute("SELECT * FROM accountingperiod WHERE id = ?", (period,)).fetchone()
        if row is None:
            raise _Refusal(f"Invalid reference key {period} for postingPeriod.", "INVALID_KEY_OR_REF")
        if "T" in (row["closed"], row["alllocked"]):
            raise _Refusal(
                "The transaction date you specified is not within an open period: this period is closed or locked."
            )

    def _find(self, key: str) -> sqlite3.Row | None:
        column = "externalid" if key.startswith("eid:") else "id"
        found: sqlite3.Row | None = self.db.execute(
            f"SELECT * FROM every_transaction WHERE {column} = ?", (key.removeprefix("eid:"),)
        ).fetchone()
        return found

    def _shown(self, row: sqlite3.Row) -> dict[str, Any]:
        status = {"1": "Pending Approval", "2": "Approved"}[row["approvalstatus"]]
        return {
            "links": [{"rel": "self", "href": f"{_RECORD}/{row['id']}"}],
            "id": str(row["id"]),
            "externalId": row["externalid"],
            "tranId": row["tranid"],
            "tranDate": row["trandate"],
            "memo": row["memo"],
            "approvalStatus": {"id": row["approvalstatus"], "refName": status},
            "postingPeriod": {"id": str(row["postingperiod"])},
            "line": {"links": [{"rel": "self", "href": f"{_RECORD}/{row['id']}/line"}]},
        }

    def _no_content(self, request: Request, number: int) -> Response:
        return Response(status_code=204, headers={"Location": f"{request.base_url}{_RECORD.lstrip('/')}/{number}"})

    # --- SuiteQL ----------------------------------------------------------------------------------------------

    def _suiteql(self, request: Request, body: dict[str, Any]) -> Response:
        if request.headers.get("Prefer") != "transient":
            raise _Refusal("Required header 'Prefer' is missing or has no value 'transient'.", "INVALID_HEADER")
        limit, offset = (
            int(request.query_params.get(name, given)) for name, given in (("limit", "1000"), ("offset", "0"))
        )
        if not 0 < limit <= self.page_limit or offset % limit:
            raise _Refusal("Invalid limit or offset: the offset must be divisible by the limit.", "INVALID_PARAMETER")
        try:
            rows = tables.query(self.db, body["q"])
        except (sqlite3.Error, KeyError) as error:
            raise _Refusal(
                f"Invalid search query. Detailed unprocessed description follows. {error}", "INVALID_PARAMETER"
            ) from None
        if re.search(r"\bFROM transaction\b", body["q"]):
            self.db.execute("UPDATE every_transaction SET hidden = hidden - 1 WHERE hidden > 0")
        page = rows[offset : offset + limit]
        return Answer(
            {
                "links": [{"rel": "self", "href": str(request.url)}],
                "count": len(page),
                "hasMore": offset + limit < len(rows),
                "items": [{"links": [], **row} for row in page],
                "offset": offset,
                "totalResults": len(rows),
            }
        ).response()

    # --- the books --------------------------------------------------------------------------------------------

    def _wall(self) -> str:
        return f"{self.now.astimezone(ZoneInfo(tables.ZONE)):%Y-%m-%d %H:%M:%S}"

    def _month(self, day: str) -> int:
        row = self.db.execute(
            "SELECT id FROM accountingperiod WHERE isyear = 'F' AND isquarter = 'F'"
            " AND ? BETWEEN startdate AND enddate",
            (day,),
        ).fetchone()
        if row is None:
            raise _Refusal(f"There is no accounting period for {day}.")
        return int(row["id"])

    def _account(self, number: str) -> int:
        return int(self.db.execute("SELECT id FROM account WHERE acctnumber = ?", (number,)).fetchone()[0])

    def _subsidiary(self, company: str) -> int:
        name = next(c["name"] for c in chart.COMPANIES if c["id"] == company)
        return int(self.db.execute("SELECT id FROM subsidiary WHERE name = ?", (name,)).fetchone()[0])


def _problem(status: int, title: str, detail: dict[str, str], headers: Mapping[str, str] | None = None) -> Response:
    body = {"type": _FAULT, "title": title, "status": status, "o:errorDetails": [detail]}
    answer = Answer(body, status, dict(headers or {}), media_type="application/vnd.oracle.resource+json; type=error")
    return answer.response()
