"""SAP S/4HANA as a ledger: journal entries by SOAP (JournalEntryCreateRequestConfirmation), read back by OData.

SAP does not say that its synchronous service knows duplicates, so a journal is looked up by its reference before
anything is sent; each message carries the UUID by which SAP's idempotency framework, where a tenant has it on, tells
them. The reference is the short run key; the parts of the long one lie in the document's header, and belong to a
reference only if their hash is it. Documents are read from the operational journal entry items, because the basic items
(`API_JOURNALENTRYITEMBASIC_SRV`) have no document numbers; these are the ledger's own balances, and the trial balance
is held against them.

The communication user needs the scenarios Finance – Posting Integration (SAP_COM_0002) and those of the two reading
services. SAP publishes no service for posting periods: a closed one shows only when a journal is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import Field, field_validator
from requests.auth import HTTPBasicAuth

from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.drafts import is_under, mirror, refuse_unfit
from tieout.erp.http import LOOK_IT_UP
from tieout.erp.port import (
    ZERO,
    Balance,
    ErpJournal,
    ErpLine,
    Fence,
    GlAccount,
    GlEntry,
    JournalRef,
    PeriodStatus,
    anchored,
    unfenced,
)
from tieout.erp.rest import Rest, readable
from tieout.erp.sap_soap import ACTION, JournalEntryService, UnreadableConfirmation
from tieout.errors import ConfigError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.settings import Connection
from tieout.transport import same_origin

DIMENSIONS = {
    "CostCenter": 10,
    "ProfitCenter": 10,
    "Segment": 10,
    "FunctionalArea": 16,
    "OrderID": 12,
    "Reference3IDByBusinessPartner": 20,
}
"""Where a dimension can be kept: elements that both the WSDL and the operational items have, with their lengths."""
_ON_THE_ITEM = frozenset({"Reference3IDByBusinessPartner"})
_CLOSED = re.compile(r"201\(F5\)|posting period .*not open", re.IGNORECASE | re.DOTALL)
_HEADER_PARTS = ("Reference1InDocumentHeader", "Reference2InDocumentHeader", "AccountingDocumentHeaderText")
_LENGTHS = (20, 20, 25)
_ITEM_TEXT = 50
_MOST_ITEMS = 999  # of a document in the entry view
_COLUMNS = (
    "CompanyCode", "FiscalYear", "AccountingDocument", "AccountingDocumentItem", "FiscalPeriod", "PostingDate",
    "GLAccount", "DebitCreditCode", "IsNegativePosting", "AmountInCompanyCodeCurrency", "CompanyCodeCurrency",
    "DocumentItemText", "DocumentReferenceID", *_HEADER_PARTS, "AccountingDocumentCreationDate", "CreationTime",
    "LastChangeDate",
)  # fmt: skip


class SapConfig(ErpConfig):
    """`erp/sap.yaml`. A company is a company code.

    A dimension is an element of the account assignment: CostCenter, ProfitCenter, Segment, FunctionalArea or OrderID,
    or Reference3IDByBusinessPartner for one that SAP keeps as text.
    """

    max_lines: int = Field(default=900, ge=2, le=_MOST_ITEMS)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Dimension → our value → SAP's, where they differ; SAP's are in capitals and short."""
    document_type: str = Field(default="SA", min_length=1, max_length=2)
    created_by: str = Field(default="TIEOUT", min_length=1, max_length=12)
    ledger: str = Field(default="0L", min_length=2, max_length=2)
    """The ledger whose balances are read; without one every ledger's would be added up."""
    soap_path: str = "sap/bc/srt/scs_ext/sap/journalentrycreaterequestconfi"
    items_path: str = "sap/opu/odata/sap/API_OPLACCTGDOCITEMCUBE_SRV/A_OperationalAcctgDocItemCube"
    basic_path: str = "sap/opu/odata/sap/API_JOURNALENTRYITEMBASIC_SRV"
    page: int = Field(default=5000, ge=1)
    """Rows read at once; more where one document has more."""
    settle_seconds: int = Field(default=600, ge=1)

    @field_validator("dimensions")
    @classmethod
    def _have_a_place(cls, value: dict[str, str]) -> dict[str, str]:
        for element in value.values():
            if element not in DIMENSIONS:
                raise ValueError(f"{element!r} is no place for a dimension; one of {', '.join(DIMENSIONS)}")
        return value


@dataclass(frozen=True, slots=True)
class _Company:
    """What SAP knows of a legal entity's company code, read once."""

    entity: str
    code: str
    currency: str
    accounts: frozenset[str]


class SapLedger:
    """The general ledgers of company codes of one SAP system. Implements `tieout.erp.port.Ledger`."""

    def __init__(self, connection: Connection, config: SapConfig) -> None:
        self.config, self._connection = config, connection
        credentials = HTTPBasicAuth(connection.login or "", connection.password or "")
        self._rest = Rest(connection.host, connection.conn_id, config, sign=lambda _: credentials)
        self._soap: JournalEntryService | None = None
        self._companies: dict[str, _Company] = {}
        self._theirs = {d: config.values.get(d, {}) for d in config.dimensions}
        self._ours = {d: {theirs: ours for ours, theirs in known.items()} for d, known in self._theirs.items()}

    def close(self) -> None:
        """Drop the connections."""
        self._rest.close()

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Documents of ours whose run key is `key` or starts with it at a `/`, oldest first; there are no drafts."""
        parts = f"TIEOUT/{key.removeprefix('TIEOUT/')}".rstrip("/").split("/")[1:]
        wanted = entity or (parts[0] if parts else "")
        entities = [wanted] if wanted in self.config.companies else list(self.config.companies)
        found: list[tuple[datetime, JournalRef]] = []
        for one in entities:
            company = self._company(one)
            if len(parts) >= 5:
                where = (
                    f"Reference1InDocumentHeader eq {_text(f'{parts[2]}/{parts[4]}')}"
                    f" and Reference2InDocumentHeader eq {_text(parts[3])}"
                )
            else:
                where = "startswith(DocumentReferenceID,'T') eq true"
            for rows in self._documents(company, where):
                run_key = self._run_key(company, rows[0])
                if run_key and is_under(run_key, key):
                    found.append((_created(rows[0]), _ref(company, rows[0], run_key)))
        return [ref for _, ref in sorted(found, key=lambda pair: (pair[0], pair[1].erp_id))]

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """The month around `on`, open as far as SAP tells: whether it is shows only when a journal is refused."""
        first = on.replace(day=1)
        return PeriodStatus(
            entity, on, "open", f"{on:%Y-%m}", first, _last_of_month(on),
            reason="SAP does not tell its posting periods; a closed one refuses the journal", told=False,
        )  # fmt: skip

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The document as SAP holds it. Raises Rejected if there is none."""
        found = self.read_back_many([ref])[0]
        if isinstance(found, Rejected):
            raise found
        return found

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """`read_back` of each, in the order of `refs`; the refusal for one that is not there."""
        held: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entity in dict.fromkeys(ref.entity for ref in refs):
            company = self._company(entity)
            keys = [key for ref in refs if ref.entity == entity and (key := _document_key(ref.erp_id))]
            for start in range(0, len(keys), 20):
                where = " or ".join(
                    f"(FiscalYear eq {_text(year)} and AccountingDocument eq {_text(number)})"
                    for year, number in keys[start : start + 20]
                )
                for rows in self._documents(company, f"({where})"):
                    held[entity, _erp_id(company, rows[0])] = rows
        return [self._content(ref, held.get((ref.entity, ref.erp_id), [])) for ref in refs]

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """Opening, movement and closing per account: the operational items, and what the ledger's balances have more.

        The latter (postings into one ledger, which the entry view does not show) are told month by month, so they count
        up to the last month that is over on `on`.
        """
        company = self._company(entity)
        sums: dict[str, list[Decimal]] = {}
        over = on if on == _last_of_month(on) else on.replace(day=1) - timedelta(days=1)
        until_over: dict[str, Decimal] = {}
        for rows in self._documents(company, f"PostingDate le {_moment(on)}"):
            for row in rows:
                total = sums.setdefault(_account(row["GLAccount"]), [ZERO, ZERO, ZERO])
                debit, credit = _sides(row)
                day = _day(row["PostingDate"])
                if since is not None and day < since:
                    total[0] += debit - credit
                else:
                    total[1] += debit
                    total[2] += credit
                if day <= over:
                    account = _account(row["GLAccount"])
                    until_over[account] = until_over.get(account, ZERO) + debit - credit
        for account, stated in self._basic_balances(company, over).items():
            more = stated - until_over.get(account, ZERO)
            if more:
                total = sums.setdefault(account, [ZERO, ZERO, ZERO])
                total[1] += max(more, ZERO)
                total[2] += max(-more, ZERO)
        return [Balance(entity, account, company.currency, *sums[account]) for account in sorted(sums)]

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted items with a posting date from `since` to `until`, both included."""
        where = f"PostingDate ge {_moment(since)} and PostingDate le {_moment(until)}"
        return self._entries(entity, where, lambda rows: True)

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted items of documents made or changed in `[since, until)`; of a change SAP tells only the day."""
        low, high = since.astimezone(UTC), until.astimezone(UTC)
        days = [f"ge {_moment(low.date())}", f"le {_moment(high.date())}"]
        fields = ("AccountingDocumentCreationDate", "LastChangeDate")
        where = " or ".join("(" + " and ".join(f"{field} {day}" for day in days) + ")" for field in fields)

        def inside(rows: list[dict[str, Any]]) -> bool:
            changed = _date_of(rows[0]["LastChangeDate"])
            return low <= _created(rows[0]) < high or (changed is not None and low.date() <= changed <= high.date())

        return self._entries(entity, f"({where})", inside)

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts of the chart that are not blocked for posting, by number; SAP's service gives them no names."""
        company = self._company(entity)
        return [GlAccount(entity, code, code, company.currency) for code in sorted(company.accounts)]

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Post once: a document with the journal's reference is returned as it is, else the journal is sent.

        Raises Rejected (nothing stays behind), PeriodClosed, ErpUnavailable (not carried out), UnknownOutcome.
        """
        company = self._company(journal.entity)
        refuse_unfit(
            journal,
            self.config,
            currency=company.currency,
            accounts=company.accounts,
            has_value=lambda dimension, value: self._fits(dimension, value),
        )
        header = self._header_parts(journal)
        present = self._of_reference(company, journal)
        if present:
            return present
        message = self._service().message(*self._message(journal, company, header))
        answer = self._rest.write(
            "POST",
            self.config.soap_path,
            fence=fence,
            body=message,
            headers={"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{ACTION}"', "Accept": "text/xml"},
        )
        try:
            confirmation = self._service().confirmation(answer.body)
        except UnreadableConfirmation as error:
            raise UnknownOutcome(
                "SAP's confirmation cannot be read", record=journal.run_key, got=str(error), remedy=LOOK_IT_UP
            ) from None
        if confirmation.document is None:
            kind = PeriodClosed if _CLOSED.search(confirmation.log) else Rejected
            raise kind("SAP refused the journal", record=journal.run_key, got=confirmation.log)
        number, year = confirmation.document, confirmation.fiscal_year
        return JournalRef(
            journal.entity, f"{company.code}/{year}/{number}", journal.run_key, journal.date, "posted", number
        )

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a document, dated `on`; SAP's reversal would date and number itself."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def _of_reference(self, company: _Company, journal: ErpJournal) -> JournalRef | None:
        """The document that carries the journal's short key, whatever became of its other references."""
        found = list(self._documents(company, f"DocumentReferenceID eq {_text(journal.short_key)}"))
        if len(found) > 1:
            raise Rejected(
                "the ERP holds this journal more than once",
                record=journal.run_key,
                got=[rows[0]["AccountingDocument"] for rows in found],
                remedy="reverse all but one by hand in the ERP, then resume",
            )
        return _ref(company, found[0][0], journal.run_key) if found else None

    def _header_parts(self, journal: ErpJournal) -> tuple[str, str, str]:
        """Period and day, stream, and the rest of a run key, each for a field of the document's header."""
        parts = journal.run_key.split("/")
        if len(parts) < 7 or parts[0] != "TIEOUT" or short_key(journal.run_key) != journal.short_key:
            raise Rejected("not a run key", record=f"{journal.run_key} {journal.short_key}")
        made = (f"{parts[3]}/{parts[5]}", parts[4], "/".join([parts[2], *parts[6:]]))
        for text, length in zip(made, _LENGTHS, strict=True):
            if len(text) > length:
                raise Rejected(
                    "a part of the run key is too long for SAP", record=journal.run_key, got=text,
                    expected=f"at most {length} signs", remedy="give the stream or the ledger a shorter name",
                )  # fmt: skip
        return made

    def _run_key(self, company: _Company, row: Mapping[str, Any]) -> str | None:
        """The run key of a document of ours: what the header says, if its hash is the reference."""
        first, stream, rest = (row[part] or "" for part in _HEADER_PARTS)
        period, _, day = first.partition("/")
        ledger, _, tail = rest.partition("/")
        key = "/".join(["TIEOUT", company.entity, ledger, period, stream, day, tail])
        return key if short_key(key) == row["DocumentReferenceID"] else None

    def _message(
        self, journal: ErpJournal, company: _Company, parts: tuple[str, str, str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        header = {
            "ID": journal.short_key,
            # where the service is idempotent it answers a second delivery of this as it answered the first
            "UUID": str(uuid5(NAMESPACE_URL, journal.run_key)),
            "CreationDateTime": datetime.now(UTC).replace(microsecond=0),
        }
        entry = {
            "OriginalReferenceDocumentType": "BKPFF",
            "BusinessTransactionType": "RFBU",
            "AccountingDocumentType": self.config.document_type,
            "DocumentReferenceID": journal.short_key,
            "DocumentHeaderText": parts[2],
            "CreatedByUser": self.config.created_by,
            "CompanyCode": company.code,
            "DocumentDate": journal.date,
            "PostingDate": journal.date,
            "Reference1InDocumentHeader": parts[0],
            "Reference2InDocumentHeader": parts[1],
            "Item": [self._item(n, line, journal) for n, line in enumerate(journal.lines, 1)],
        }
        return header, entry

    def _item(self, number: int, line: ErpLine, journal: ErpJournal) -> dict[str, Any]:
        item: dict[str, Any] = {
            "ReferenceDocumentItem": str(number),
            "GLAccount": {"_value_1": line.account},
            "AmountInTransactionCurrency": {"_value_1": line.debit - line.credit, "currencyCode": journal.currency},
            "DebitCreditCode": "S" if line.debit else "H",
            # the document's header has no room left beside the run key
            "DocumentItemText": anchored(
                line.description or journal.narrative, journal.anchor if number == 1 else "", _ITEM_TEXT
            ),
        }
        assignment: dict[str, str] = {}
        for dimension, value in sorted(line.dimensions.items()):
            if value:
                element = self.config.dimensions[dimension]
                (item if element in _ON_THE_ITEM else assignment)[element] = self._sap_value(dimension, value)
        return item | ({"AccountAssignment": assignment} if assignment else {})

    def _sap_value(self, dimension: str, value: str) -> str:
        return self._theirs[dimension].get(value, value)

    def _fits(self, dimension: str, value: str) -> bool:
        """Whether SAP can hold a value as it stands; whether it has it, SAP says when it gets the journal."""
        element = self.config.dimensions[dimension]
        theirs = self._sap_value(dimension, value)
        keeps_case = element in _ON_THE_ITEM
        return len(theirs) <= DIMENSIONS[element] and (keeps_case or theirs == theirs.upper())

    def _service(self) -> JournalEntryService:
        if self._soap is None:
            place = str(self._connection.extra.get("wsdl") or "")
            if not place:
                raise ConfigError(
                    "the connection names no WSDL", record=self._connection.conn_id,
                    remedy='save the WSDL of your tenant\'s service and put {"wsdl": "/path/to/it"} into extra',
                )  # fmt: skip
            self._soap = JournalEntryService(self._load_wsdl(place), place)
        return self._soap

    def _load_wsdl(self, place: str) -> bytes:
        """From a file, or from the system itself; nowhere else are our credentials sent."""
        if "://" in place:
            if not same_origin(place, self._rest.base):
                raise ConfigError("the WSDL's address is not the connection's host", record=place)
            return self._rest.read("GET", place.partition("://")[2].partition("/")[2], headers={"Accept": "*/*"}).body
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise ConfigError("the WSDL cannot be read", record=place, got=error.strerror) from None

    # --- reading ----------------------------------------------------------------------------------------------

    def _entries(
        self, entity: str, where: str, wanted: Callable[[list[dict[str, Any]]], bool]
    ) -> Iterator[list[GlEntry]]:
        company = self._company(entity)
        page: list[GlEntry] = []
        for rows in self._documents(company, where):
            if wanted(rows):
                page += self._gl_entries(company, rows)
            if len(page) >= self.config.page:
                yield page
                page = []
        if page:
            yield page

    def _gl_entries(self, company: _Company, rows: list[dict[str, Any]]) -> Iterator[GlEntry]:
        ours = self._run_key(company, rows[0])
        created, changed = _created(rows[0]), _date_of(rows[0]["LastChangeDate"])
        for position, row in enumerate(rows, 1):
            line = self._line(row)
            yield GlEntry(
                entity=company.entity,
                erp_id=f"{_erp_id(company, row)}/{row['AccountingDocumentItem']}",
                journal_id=_erp_id(company, row),
                journal_number=row["AccountingDocument"],
                date=_day(row["PostingDate"]),
                posted_on=created.date(),
                period=f"{row['FiscalYear']}-{row['FiscalPeriod'].lstrip('0').zfill(2)}",
                account=line.account,
                debit=line.debit,
                credit=line.credit,
                currency=company.currency,
                narrative=ours or row["AccountingDocumentHeaderText"] or "",
                description=line.description,
                run_key=ours,
                line_no=position if ours else None,
                changed_at=max(created, datetime.combine(changed, time(), UTC)) if changed else created,
                dimensions=line.dimensions,
            )

    def _content(self, ref: JournalRef, rows: list[dict[str, Any]]) -> ErpJournal | Rejected:
        company = self._company(ref.entity)
        if not rows:
            return Rejected("the ERP has no such journal", record=f"document {ref.erp_id}", expected=ref.run_key)
        run_key = self._run_key(company, rows[0]) or ""
        return ErpJournal(
            entity=ref.entity,
            run_key=run_key,
            short_key=short_key(run_key) if run_key else "",
            date=_posted_in(rows[0]),
            currency=rows[0]["CompanyCodeCurrency"],
            narrative=rows[0]["AccountingDocumentHeaderText"] or "",
            lines=tuple(self._line(row) for row in rows),
            state="posted",
            number=rows[0]["AccountingDocument"],
        )

    def _line(self, row: Mapping[str, Any]) -> ErpLine:
        debit, credit = _sides(row)
        dimensions = {
            dimension: self._ours[dimension].get(row[element], row[element])
            for dimension, element in self.config.dimensions.items()
            if row[element]
        }
        return ErpLine(_account(row["GLAccount"]), debit, credit, row["DocumentItemText"] or "", dimensions)

    def _documents(self, company: _Company, where: str) -> Iterator[list[dict[str, Any]]]:
        """The items of each document of a company code that meets `where`, by fiscal year and number, by keyset."""
        columns = ",".join(dict.fromkeys((*_COLUMNS, *self.config.dimensions.values())))
        order = "FiscalYear,AccountingDocument,AccountingDocumentItem"
        base = f"CompanyCode eq {_text(company.code)} and ({where})"
        after, size = "", self.config.page
        while True:
            rows = self._rows(
                self.config.items_path,
                {"$filter": base + after, "$orderby": order, "$select": columns, "$top": str(size)},
            )
            whole = [list(items) for _, items in groupby(rows, key=_place)]
            if len(rows) == size:
                if len(whole) == 1:
                    size *= 2  # one document fills the page: it is asked for again with more room
                    continue
                whole.pop()  # it may go on
            yield from whole
            if len(rows) < size:
                return
            year, number = _place(whole[-1][0])
            after = (
                f" and (FiscalYear gt {_text(year)} or"
                f" (FiscalYear eq {_text(year)} and AccountingDocument gt {_text(number)}))"
            )

    def _basic_balances(self, company: _Company, over: date) -> dict[str, Decimal]:
        """Net movement per account of the ledger up to the month that ends on `over`, carry-forwards left out."""
        period = "016" if over.month == 12 else f"{over.month:03}"
        where = (
            f"CompanyCode eq {_text(company.code)} and Ledger eq {_text(self.config.ledger)}"
            f" and FiscalYearPeriod le {_text(f'{over.year:04}{period}')}"
        )
        columns = "GLAccount,FiscalPeriod,FiscalYearPeriod,AmountInCompanyCodeCurrency"
        rows = self._rows(f"{self.config.basic_path}/A_JournalEntryItemBasic", {"$filter": where, "$select": columns})
        totals: dict[str, Decimal] = {}
        for row in rows:
            if row["FiscalPeriod"] != "000":
                account = _account(row["GLAccount"])
                totals[account] = totals.get(account, ZERO) + _amount(row["AmountInCompanyCodeCurrency"])
        return totals

    def _rows(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        """The rows of an OData 2 answer, with those of the pages the service itself cuts it into."""
        rows: list[dict[str, Any]] = []
        asked: Mapping[str, str] | None = {**params, "$format": "json"}
        while True:
            answer = readable(self._rest.read("GET", path, params=asked), path)
            try:
                held = answer["d"]
                rows += held["results"]
            except (KeyError, TypeError):
                raise ErpUnavailable("the ERP's answer cannot be read", record=path) from None
            link = held.get("__next")
            if not link:
                return rows
            if not same_origin(link, self._rest.base):
                raise ErpUnavailable("the ERP's next page is at another address", record=path, got=link[:200])
            path, asked = link.partition("://")[2].partition("/")[2], None

    def _company(self, entity: str) -> _Company:
        if entity not in self._companies:
            self._companies[entity] = self._load_company(entity, self.config.company_of(entity))
        return self._companies[entity]

    def _load_company(self, entity: str, code: str) -> _Company:
        basic = self.config.basic_path
        rows = self._rows(f"{basic}/A_CompanyCode", {"$filter": f"CompanyCode eq {_text(code)}"})
        if len(rows) != 1:
            raise ConfigError(
                "the ERP has not exactly one such company code", record=entity, got=len(rows), expected=code
            )
        chart = rows[0]["ChartOfAccounts"]
        accounts = self._rows(
            f"{basic}/A_GLAccountInChartOfAccounts",
            {
                "$filter": f"ChartOfAccounts eq {_text(chart)}",
                "$select": "GLAccount,AccountIsBlockedForPosting,AccountIsMarkedForDeletion",
            },
        )
        usable = (a for a in accounts if not a["AccountIsBlockedForPosting"] and not a["AccountIsMarkedForDeletion"])
        return _Company(entity, code, rows[0]["Currency"], frozenset(_account(a["GLAccount"]) for a in usable))


def _ref(company: _Company, row: Mapping[str, Any], run_key: str) -> JournalRef:
    return JournalRef(
        company.entity, _erp_id(company, row), run_key, _day(row["PostingDate"]), "posted", row["AccountingDocument"]
    )


def _erp_id(company: _Company, row: Mapping[str, Any]) -> str:
    return f"{company.code}/{row['FiscalYear']}/{row['AccountingDocument']}"


def _document_key(erp_id: str) -> tuple[str, str] | None:
    """Fiscal year and number out of `<company code>/<year>/<number>`."""
    parts = erp_id.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 else None


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["FiscalYear"]), str(row["AccountingDocument"])


def _posted_in(row: Mapping[str, Any]) -> date:
    """The posting date; where the fiscal period is another month's, the first day of that month.

    The special periods 13 to 16 belong to December.
    """
    day, period = _day(row["PostingDate"]), min(int(row["FiscalPeriod"]), 12)
    if (int(row["FiscalYear"]), period) == (day.year, day.month) or not period:
        return day
    return date(int(row["FiscalYear"]), period, 1)


def _sides(row: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """Debit and credit of an item: the code tells the side, and a negative posting takes back from it."""
    amount = abs(_amount(row["AmountInCompanyCodeCurrency"]))
    if row["IsNegativePosting"]:
        amount = -amount
    return (amount, ZERO) if row["DebitCreditCode"] == "S" else (ZERO, amount)


def _account(number: str) -> str:
    """An account without the zeros that SAP pads a number with."""
    return number.lstrip("0") or number if number.isdigit() else number


def _amount(value: Any) -> Decimal:
    """An amount of OData 2, which is text. A float would have lost its cents on the way."""
    try:
        if isinstance(value, str | int | Decimal):
            return Decimal(value)
    except InvalidOperation:
        pass
    raise ErpUnavailable("the ERP sent an amount that is no decimal", got=repr(value))


def _date_of(text: str | None) -> date | None:
    """A date as OData 2 writes it in JSON: `/Date(milliseconds)/`."""
    found = re.match(r"/Date\((-?\d+)", text or "")
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(found[1]))).date() if found else None


def _day(text: str | None) -> date:
    day = _date_of(text)
    if day is None:
        raise ErpUnavailable("the ERP sent no date where one belongs", got=text)
    return day


def _created(row: Mapping[str, Any]) -> datetime:
    """When a document was entered, by the system's clock, which is UTC."""
    clock = re.match(r"PT(\d+)H(\d+)M(\d+)S", row["CreationTime"] or "")
    moment = time(int(clock[1]), int(clock[2]), int(clock[3])) if clock else time()
    return datetime.combine(_day(row["AccountingDocumentCreationDate"]), moment, UTC)


def _moment(day: date) -> str:
    return f"datetime'{day.isoformat()}T00:00:00'"


def _last_of_month(day: date) -> date:
    following = (
        date(day.year + day.month // 12, day.month % 12 + 1, 1) if (day.year, day.month) < (9999, 12) else date.max
    )
    return following - timedelta(days=1) if following != date.max else date.max


def _text(value: str) -> str:
    """A text literal of OData."""
    return "'" + value.replace("'", "''") + "'"


ADAPTER = Adapter(SapConfig, SapLedger, receivable_modes=("gl_control",))
