"""SAP S/4HANA as its contracts describe it, with what surprises its users.

Every journal is answered with HTTP 200: a confirmation without a document number is a refusal. The same journal sent
twice is two documents. An optional element in the wrong place is ignored. A closed posting period is told by no
service. The basic journal entry items have balances per ledger and no documents; the operational items have documents
and one ledger.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tieout.settings import Connection
from tieout_sandbox.simulators import odata
from tieout_sandbox.simulators.faults import Fault
from tieout_sandbox.simulators.sap import contract
from tieout_sandbox.simulators.wire import Answer, basic_credentials
from tieout_sandbox.tryton import chart

ODATA = "/sap/opu/odata/sap"
ITEMS = f"{ODATA}/API_OPLACCTGDOCITEMCUBE_SRV/A_OperationalAcctgDocItemCube"
BASIC = f"{ODATA}/API_JOURNALENTRYITEMBASIC_SRV"
DIMENSION_ELEMENTS = {"product_family": "ProfitCenter", "tax_code": "Reference3IDByBusinessPartner"}
_CODES = {"US": "1710", "DE": "1010", "JP": "3710"}
_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
_ITEM_COLUMNS = """
CompanyCode FiscalYear AccountingDocument AccountingDocumentItem FiscalPeriod PostingDate DocumentDate GLAccount
DebitCreditCode IsNegativePosting AmountInCompanyCodeCurrency CompanyCodeCurrency DocumentItemText AssignmentReference
DocumentReferenceID Reference1InDocumentHeader Reference2InDocumentHeader AccountingDocumentHeaderText
AccountingDocumentType AccountingDocumentCreationDate CreationTime LastChangeDate CostCenter ProfitCenter Segment
FunctionalArea OrderID Reference3IDByBusinessPartner IsReversal IsReversed Ledger
"""
ITEM_COLUMNS = tuple(_ITEM_COLUMNS.split())
_DATES = frozenset({"PostingDate", "DocumentDate", "AccountingDocumentCreationDate", "LastChangeDate"})


@dataclass
class Sap:
    """A system's company codes."""

    kind = "sap"
    open_limit: int = 20
    most_rows: int = 100_000
    lag: int = 0
    """Readings for which a new document stays unseen."""
    lag_once: bool = False
    """Only the next document is seen late."""
    idempotent: bool = False
    """Whether a message whose header's UUID was answered before is answered so again, and not carried out."""
    refusal_number: str = " "
    """What stands for the document number in a refusal: blank, or ten zeros."""
    interface_named: bool = True
    """Confirmations name their interface, as they do since some release after 2020."""
    user: str = "TIEOUT_COMM"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(20))
    now: datetime = datetime(2026, 3, 30, 9, 0, tzinfo=UTC)
    items: list[dict[str, Any]] = field(default_factory=list)
    ledger_only: list[tuple[str, str, str, Decimal]] = field(default_factory=list)
    """Postings into the leading ledger alone: (company code, day, account, amount)."""
    closed: set[tuple[int, int]] = field(default_factory=set)
    _hidden: dict[str, int] = field(default_factory=dict)
    _answered: dict[str, str] = field(default_factory=dict)
    _last: int = 100_000_000

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route(contract.PATH, self._soap, methods=["POST", "GET"]),
            Route(ITEMS, self._items, methods=["GET"]),
            Route(BASIC + "/{name}", self._basic, methods=["GET"]),
        ]

    def rate_limited(self, fault: Fault) -> Response:
        """429 of the cloud's gateway."""
        return Answer("Too Many Requests", 429, {"Retry-After": str(fault.retry_after)}, "text/plain").response()

    def server_error(self, fault: Fault) -> Response:
        """5xx of the gateway, a page."""
        return Answer(f"<html>{fault.status}</html>", fault.status, media_type="text/html").response()

    # --- how an adapter gets in -------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """What `erp/sap.yaml` says for this system."""
        families = {value: f"PC_{value.upper()}"[:10] for value in chart.DIMENSIONS["product_family"]}
        taxes = {value: f"TAX{n}" for n, value in enumerate(chart.DIMENSIONS["tax_code"], 1)}
        return {
            "companies": dict(_CODES),
            "dimensions": dict(DIMENSION_ELEMENTS),
            "values": {"product_family": families, "tax_code": taxes},
        }

    def connection(self, url: str) -> Connection:
        """How Tieout signs in, at `url`."""
        extra = {"wsdl": f"{url}{contract.PATH}?wsdl"}
        return Connection("sap", url, self.user, self.password, None, extra)

    def expire(self) -> None:
        """Give the communication user another password."""
        self.password = secrets.token_urlsafe(20)

    # --- what a test arranges ---------------------------------------------------------------------------------

    def shut(self, day: str, *, shut: bool = True) -> None:
        """Close the posting period of a day, or open it again."""
        moment = date.fromisoformat(day)
        (self.closed.add if shut else self.closed.discard)((moment.year, moment.month))

    def by_hand(self, company: str, day: str, *lines: tuple[str, str, str], text: str = "by hand") -> str:
        """An accountant's own document: lines of (account, debit, credit)."""
        header = {
            "CompanyCode": _CODES[company],
            "PostingDate": day,
            "DocumentDate": day,
            "DocumentReferenceID": "BY HAND",
            "DocumentHeaderText": text,
        }
        entries = [
            {"GLAccount": account, "amount": Decimal(debit or 0) - Decimal(credit or 0), "DocumentItemText": text}
            for account, debit, credit in lines
        ]
        return self._store(header, entries)

    def documents(self) -> list[str]:
        """The numbers of what was posted."""
        return list(dict.fromkeys(str(item["AccountingDocument"]) for item in self.items))

    # --- posting ----------------------------------------------------------------------------------------------

    async def _soap(self, request: Request) -> Response:
        if not self._let_in(request):
            return _denied()
        if request.method == "GET":
            address = str(request.url.replace(query=""))
            return Answer(contract.wsdl(address), media_type="text/xml").response()
        try:
            envelope = ElementTree.fromstring(await request.body())  # noqa: S314 - our own adapter's message
            bulk = envelope.find(f"{_ENVELOPE}Body/{{{contract.NAMESPACE}}}JournalEntryBulkCreateRequest")
            requests = bulk.findall("JournalEntryCreateRequest") if bulk is not None else []
            if bulk is None or bulk.find("MessageHeader/CreationDateTime") is None or not requests:
                raise ValueError("the message is not valid")
        except (ElementTree.ParseError, ValueError) as error:
            return _fault(str(error))
        uuid = bulk.findtext("MessageHeader/UUID") if self.idempotent else None
        if uuid is None or uuid not in self._answered:
            told = self._confirmations([self._one(one) for one in requests])
            if uuid is None:
                return Answer(told, media_type="text/xml").response()
            self._answered[uuid] = told
        return Answer(self._answered[uuid], media_type="text/xml").response()

    def _one(self, request: ElementTree.Element) -> tuple[str, str, str, list[tuple[str, str]]]:
        """Post one journal or say why not: document, company code, fiscal year, log of (type, note)."""
        entry = request.find("JournalEntry")
        header = {n: (entry.findtext(n) or "") if entry is not None else "" for n, _ in contract.ENTRY}
        items = []
        for item in entry.findall("Item") if entry is not None else []:
            line: dict[str, Any] = {name: item.findtext(name) or "" for name, _ in contract.ITEM}
            # only where the contract has them: elsewhere they are ignored
            line |= {name: item.findtext(f"AccountAssignment/{name}") or "" for name, _ in contract.ASSIGNMENT}
            amount = item.find("AmountInTransactionCurrency")
            line["amount"] = Decimal(amount.text or "0") if amount is not None else Decimal(0)
            line["currency"] = amount.get("currencyCode") if amount is not None else None
            items.append(line)
        wrong = self._wrong(header, items)
        if wrong:
            return self.refusal_number, " ", "0000", [("609(RW)", "Error in document: BKPFF $ 0M32TI1"), *wrong]
        number = self._store(header, items)
        note = f"Document posted successfully: BKPFF {number}{header['CompanyCode']}{header['PostingDate'][:4]} 0M4SMVI"
        return number, header["CompanyCode"], header["PostingDate"][:4], [("605(RW)", note)]

    def _wrong(self, header: Mapping[str, str], items: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
        if header["CompanyCode"] not in _CODES.values():
            return [("165(F5)", f"Company code {header['CompanyCode']} is not defined")]
        wrong = []
        day = date.fromisoformat(header["PostingDate"])
        if (day.year, day.month) in self.closed:
            wrong.append(("201(F5)", f"Posting period {day.month:03} {day.year} is not open"))
        known = {number for number, _, _ in chart.ACCOUNTS}
        wrong += [
            ("507(F5)", f"G/L account {item['GLAccount']} is not defined in chart of accounts YCOA")
            for item in items
            if item["GLAccount"] not in known
        ]
        if any((item["amount"] < 0) != (item["DebitCreditCode"] == "H") for item in items if item["amount"]):
            wrong.append(("100(GLE_MCA)", "The sign of an amount contradicts its debit/credit code"))
        if sum(item["amount"] for item in items):
            wrong.append(("702(F5)", "Balance in transaction currency"))
        return wrong

    def _store(self, header: Mapping[str, str], items: Sequence[Mapping[str, Any]]) -> str:
        self._last += 1
        number, day = f"{self._last:010}", date.fromisoformat(header["PostingDate"])
        company = next(c for c in chart.COMPANIES if _CODES[c["id"]] == header["CompanyCode"])
        for n, item in enumerate(items, 1):
            row = dict.fromkeys(ITEM_COLUMNS, "") | {name: item.get(name, "") for name in ITEM_COLUMNS}
            row |= {name: header[name] for name in ITEM_COLUMNS if name in header}
            row |= {
                "FiscalYear": str(day.year), "FiscalPeriod": f"{day.month:03}", "AccountingDocument": number,
                "AccountingDocumentItem": f"{n:03}", "PostingDate": f"{header['PostingDate']}T00:00:00",
                "DocumentDate": f"{header['DocumentDate']}T00:00:00",
                "GLAccount": str(item["GLAccount"]).zfill(10),
                "DebitCreditCode": "S" if item["amount"] >= 0 else "H", "IsNegativePosting": False,
                "AmountInCompanyCodeCurrency": item["amount"], "CompanyCodeCurrency": company["currency"],
                "AccountingDocumentHeaderText": header.get("DocumentHeaderText", ""),
                "AccountingDocumentCreationDate": f"{self.now:%Y-%m-%d}T00:00:00",
                "CreationTime": f"{self.now:PT%HH%MM%SS}", "LastChangeDate": None,
                "IsReversal": False, "IsReversed": False,
            }  # fmt: skip
            self.items.append(row)
        if self.lag:
            self._hidden[number] = self.lag
            self.lag = 0 if self.lag_once else self.lag
        return number

    def _confirmations(self, made: Sequence[tuple[str, str, str, list[tuple[str, str]]]]) -> str:
        stamp = f"{self.now:%Y-%m-%dT%H:%M:%S}.000000Z"
        head = f"<UUID>{uuid.uuid4()}</UUID><CreationDateTime>{stamp}</CreationDateTime>"
        parts = []
        for number, company, year, log in made:
            severity = 1 if log[0][0] == "605(RW)" else 3
            notes = "".join(
                f"<Item><TypeID>{kind}</TypeID><SeverityCode>{severity}</SeverityCode><Note>{escape(note)}</Note></Item>"
                for kind, note in log
            )
            parts.append(
                f"<JournalEntryCreateConfirmation><MessageHeader>{head}</MessageHeader><JournalEntryCreateConfirmation>"
                f"<AccountingDocument>{number}</AccountingDocument><CompanyCode>{company}</CompanyCode>"
                f"<FiscalYear>{year}</FiscalYear></JournalEntryCreateConfirmation><Log>"
                f"<MaximumLogItemSeverityCode>{severity}</MaximumLogItemSeverityCode>{notes}</Log>"
                "</JournalEntryCreateConfirmation>"
            )
        return (
            '<soap-env:Envelope xmlns:soap-env="http://schemas.xmlsoap.org/soap/envelope/"><soap-env:Header/>'
            f'<soap-env:Body><n0:JournalEntryBulkCreateConfirmation xmlns:n0="{contract.NAMESPACE}">'
            f"<MessageHeader>{head}<SenderBusinessSystemID>SIM</SenderBusinessSystemID></MessageHeader>"
            f"{'<ConfirmationInterfaceOrignName/>' if self.interface_named else ''}{''.join(parts)}<Log/>"
            "</n0:JournalEntryBulkCreateConfirmation></soap-env:Body></soap-env:Envelope>"
        )

    # --- reading ----------------------------------------------------------------------------------------------

    async def _items(self, request: Request) -> Response:
        for number in [n for n, left in self._hidden.items() if left <= 0]:
            del self._hidden[number]
        rows = [item for item in self.items if item["AccountingDocument"] not in self._hidden]
        self._hidden = {number: left - 1 for number, left in self._hidden.items()}
        return self._rows(request, rows, dict.fromkeys(ITEM_COLUMNS, 1))

    async def _basic(self, request: Request) -> Response:
        match request.path_params["name"]:
            case "A_CompanyCode":
                rows = [
                    {"CompanyCode": _CODES[c["id"]], "CompanyCodeName": c["name"], "Currency": c["currency"],
                     "ChartOfAccounts": "YCOA", "FiscalYearVariant": "K4"}
                    for c in chart.COMPANIES
                ]  # fmt: skip
            case "A_GLAccountInChartOfAccounts":
                rows = [
                    {"ChartOfAccounts": "YCOA", "GLAccount": number.zfill(10), "AccountIsBlockedForPosting": False,
                     "AccountIsMarkedForDeletion": False}
                    for number, _, _ in chart.ACCOUNTS
                ]  # fmt: skip
            case "A_JournalEntryItemBasic":
                rows = self._balances()
            case _:
                return _problem(404, "Resource not found for the segment")
        return self._rows(request, rows, {name: 1 for row in rows[:1] for name in row} or dict.fromkeys(_BASIC, 1))

    def _balances(self) -> list[dict[str, Any]]:
        """Net per company code, ledger, account and period, and what a year brings into the next one."""
        sums: dict[tuple[str, str, str, str], Decimal] = {}

        def add(company: str, ledger: str, account: str, period: str, amount: Decimal) -> None:
            key = company, ledger, account, period
            sums[key] = sums.get(key, Decimal(0)) + amount

        postings = [
            (i["CompanyCode"], ledger, i["GLAccount"], i["PostingDate"], i["AmountInCompanyCodeCurrency"])
            for i in self.items
            for ledger in ("0L", "2L")
        ]
        postings += [
            (company, "0L", account.zfill(10), day, amount) for company, day, account, amount in self.ledger_only
        ]
        for company, ledger, account, day, amount in postings:
            add(company, ledger, account, f"{day[:4]}0{day[5:7]}", amount)
            add(company, ledger, account, f"{int(day[:4]) + 1}000", amount)
        return [
            {"ID": "/".join(key), "CompanyCode": key[0], "Ledger": key[1], "GLAccount": key[2],
             "LedgerFiscalYear": key[3][:4], "FiscalPeriod": key[3][4:], "FiscalYearPeriod": key[3],
             "AmountInCompanyCodeCurrency": amount}
            for key, amount in sums.items()
        ]  # fmt: skip

    def _rows(self, request: Request, rows: list[dict[str, Any]], columns: Mapping[str, int]) -> Response:
        if not self._let_in(request):
            return _denied()
        query = dict(request.query_params)
        if query.get("$format") != "json":
            return Answer("<feed/>", media_type="application/atom+xml").response()
        try:
            if "$filter" in query:
                test = odata.test_of(query["$filter"], columns)
                rows = [row for row in rows if test(row)]
            rows = odata.ordered(rows, query.get("$orderby", ""))
            selected = query["$select"].split(",") if "$select" in query else list(columns)
            for name in selected:
                if name not in columns:
                    raise odata.BadQuery(f"Property {name} not found in type")
        except odata.BadQuery as error:
            return _problem(400, str(error))
        start = int(query.get("$skiptoken", query.get("$skip", "0")))
        end = min(start + self.most_rows, int(query.get("$top", len(rows))))
        held: dict[str, Any] = {
            "results": [{name: _shown(name, row[name]) for name in selected} for row in rows[start:end]]
        }
        if end < min(len(rows), int(query.get("$top", len(rows)))):
            following = urlencode({**query, "$skiptoken": str(end)})
            held["__next"] = f"{request.url.replace(query=following)}"
        return Answer({"d": held}).response()

    def _let_in(self, request: Request) -> bool:
        return basic_credentials(request) == (self.user, self.password)


_BASIC = ("ID", "CompanyCode", "Ledger", "GLAccount", "LedgerFiscalYear", "FiscalPeriod", "FiscalYearPeriod",
          "AmountInCompanyCodeCurrency")  # fmt: skip


def _shown(name: str, value: Any) -> Any:
    if name in _DATES:
        return f"/Date({int(datetime.fromisoformat(f'{value}+00:00').timestamp() * 1000)})/" if value else None
    if name == "GLAccount":
        return value.lstrip("0")
    return format(value, "f") if isinstance(value, Decimal) else value


def _denied() -> Response:
    return Answer("<html>Anmeldung fehlgeschlagen</html>", 401, {"www-authenticate": "Basic"}, "text/html").response()


def _problem(status: int, message: str) -> Response:
    return Answer(
        {"error": {"code": "005056A509B11EE1B9A8FEC11C21578E", "message": {"lang": "en", "value": message}}}, status
    ).response()


def _fault(text: str) -> Response:
    body = (
        '<soap-env:Envelope xmlns:soap-env="http://schemas.xmlsoap.org/soap/envelope/"><soap-env:Body><soap-env:Fault>'
        f"<faultcode>soap-env:Client</faultcode><faultstring>{escape(text)}</faultstring></soap-env:Fault>"
        "</soap-env:Body></soap-env:Envelope>"
    )
    return Answer(body, 500, media_type="text/xml").response()
