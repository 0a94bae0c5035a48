"""Business Central as a ledger: general journal lines of the standard API v2.0, read back from the G/L entries.

A journal goes into a journal batch of its own, because `post` posts whatever is in a batch, and nobody else's lines
may be in it. The batch is the draft of `tieout.erp.drafts`. Its lines carry one document number made from slot and
run key, by which the G/L entries are found again; the first line's description begins with the run key. A batch that an
earlier attempt left is deleted, not mended: a request to it that still is under way then finds nothing.

The standard API has no currency: lines are in the company's local currency, and any other is refused.

The user needs: API access, edit on general journals, post in general journals, read on G/L entries, accounts,
dimensions, accounting periods and general ledger setup of each company.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from pydantic import Field
from requests.auth import AuthBase, HTTPBasicAuth

from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.drafts import is_under, mirror, post_once, refuse_unfit, same_content, written
from tieout.erp.http import Answer, ErpHttp, HeaderAuth, unreadable
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
from tieout.erp.rest import Refused, Rest, readable
from tieout.errors import ConfigError, ErpError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.settings import Connection
from tieout.transport import checked_address, same_origin

_CLOSED = re.compile(
    r"allowed posting dates|accounting period|posting date .*(closed|locked)", re.IGNORECASE | re.DOTALL
)
_RUN_KEY = re.compile(r"(TIEOUT(?:/[^\s/]+){2,})(?: (.*))?\Z", re.DOTALL)
_SLOT_PARTS = 6  # TIEOUT, entity, ledger, period, stream, business date
_OPERATIONS = 100  # of one $batch; Business Central's most
_DESCRIPTION = 100  # characters
_NO_DATE = "0001-01-01"
_AMOUNT = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?\Z")
_ENTRY = (
    "entryNumber,postingDate,documentNumber,accountNumber,description,debitAmount,creditAmount,lastModifiedDateTime"
)


class BusinessCentralConfig(ErpConfig):
    """`erp/businesscentral.yaml`. A company is given by its id, else its name.

    A dimension is one of that code; a value is the display name of one of its dimension values.
    """

    page: int = Field(default=5000, ge=1, le=20_000)
    """Rows read at once."""
    settle_seconds: int = Field(default=600, ge=1)


@dataclass(frozen=True, slots=True)
class _Company:
    """What Business Central knows of a legal entity, read once."""

    entity: str
    path: str
    currency: str
    accounts: Mapping[str, str]
    """Number → name of the accounts that take postings."""
    codes: Mapping[str, Mapping[str, str]]
    """Dimension → value → code."""
    values: Mapping[str, Mapping[str, str]]
    """The ERP's dimension code → value's code → value."""
    names: Mapping[str, str]
    """The ERP's dimension code → dimension."""


def document_number(run_key: str) -> str:
    """Twenty signs that a run key's document has: `TIE`, nine for its slot, eight for the whole key."""
    return slot_number(run_key) + _signs(run_key, 8)


def slot_number(key: str) -> str:
    """How the document numbers of a slot begin; of a shorter key, how ours begin at all."""
    parts = f"TIEOUT/{key.removeprefix('TIEOUT/')}".rstrip("/").split("/")
    return "TIE" + _signs("/".join(parts[:_SLOT_PARTS]), 9) if len(parts) >= _SLOT_PARTS else "TIE"


def batch_code(run_key: str) -> str:
    """Ten signs for a run key's journal batch; the last is a letter, as posting counts up a number at the end."""
    return f"T{_signs(run_key, 8)}X"


class BusinessCentralLedger:
    """The general ledgers of the companies of one environment. Implements `tieout.erp.port.Ledger`, and its drafts."""

    def __init__(self, connection: Connection, config: BusinessCentralConfig) -> None:
        self.config = config
        self._rest = Rest(connection.host, connection.conn_id, config, sign=lambda http: _sign_in(connection, http))
        self._companies: dict[str, _Company] = {}

    def close(self) -> None:
        """Drop the connections."""
        self._rest.close()

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Journals of ours whose run key is `key` or starts with it at a `/`, batches not posted yet included."""
        named = f"TIEOUT/{key.removeprefix('TIEOUT/')}/".split("/")[1]
        wanted = entity or named
        entities = [wanted] if wanted in self.config.companies else list(self.config.companies)
        # batches first: what is posted between the two questions is then seen twice, not missed
        drafts = [ref for one in entities for ref in self._drafts(self._company(one), key)]
        posted = [ref for one in entities for ref in self._posted(self._company(one), key)]
        return posted + drafts

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """The accounting period around `on`, and whether the company allows posting on that day.

        A closed fiscal year is locked. Allowed dates of a single user are not to be seen by the API.
        """
        company = self._company(entity)
        periods = sorted(self._rows(f"{company.path}/accountingPeriods"), key=lambda row: str(row["startingDate"]))
        before = [row for row in periods if row["startingDate"] <= on.isoformat()]
        after = [row for row in periods if row["startingDate"] > on.isoformat()]
        if not before or not after:
            return PeriodStatus(entity, on, "absent", reason=f"the ERP has no accounting period around {on}")
        row, setup = before[-1], self._setup(company.path)
        start, end = _day(row["startingDate"]), _day(after[0]["startingDate"]) - timedelta(days=1)
        name = f"{row['name']} {start.year}"
        allowed = [setup.get("allowPostingFrom") or _NO_DATE, setup.get("allowPostingTo") or _NO_DATE]
        if row.get("closed"):
            return PeriodStatus(entity, on, "locked", name, start, end, f"the fiscal year of {name} is closed")
        early = allowed[0] != _NO_DATE and on.isoformat() < allowed[0]
        late = allowed[1] != _NO_DATE and on.isoformat() > allowed[1]
        if early or late:
            reason = f"posting is allowed from {allowed[0]} to {allowed[1]} in the ERP"
            return PeriodStatus(entity, on, "closed", name, start, end, reason)
        return PeriodStatus(entity, on, "open", name, start, end)

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The document as the ledger holds it, else the batch. Raises Rejected if there is neither."""
        found = self.read_back_many([ref])[0]
        if isinstance(found, Rejected):
            raise found
        return found

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """`read_back` of each, in the order of `refs`; the refusal for one that is not there."""
        held: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entity in dict.fromkeys(ref.entity for ref in refs):
            numbers = [ref.erp_id for ref in refs if ref.entity == entity and ref.state == "posted"]
            for row in self._documents(self._company(entity), numbers):
                held.setdefault((entity, row["documentNumber"]), []).append(row)
        return [
            self._draft_content(ref)
            if ref.state == "draft"
            else self._content(ref, held.get((ref.entity, ref.erp_id), []))
            for ref in refs
        ]

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """Opening, movement and closing per account, summed from the entries and held against the ERP's own figure.

        Raises ErpUnavailable where the two disagree, as while somebody posts.
        """
        company = self._company(entity)
        sums: dict[str, list[Decimal]] = {}
        where = f"postingDate le {on.isoformat()}"
        for page in self._pages(f"{company.path}/generalLedgerEntries", {"$filter": where, "$select": _ENTRY}):
            for row in page:
                total = sums.setdefault(row["accountNumber"], [ZERO, ZERO, ZERO])
                debit, credit = _exact(row["debitAmount"]), _exact(row["creditAmount"])
                if since is not None and row["postingDate"] < since.isoformat():
                    total[0] += debit - credit
                else:
                    total[1] += debit
                    total[2] += credit
        self._refuse_disagreement(company, on, {code: a[0] + a[1] - a[2] for code, a in sums.items()})
        return [Balance(entity, code, company.currency, *sums[code]) for code in sorted(sums)]

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted lines dated from `since` to `until`, both included."""
        company = self._company(entity)
        where = f"postingDate ge {since.isoformat()} and postingDate le {until.isoformat()}"
        return self._whole_documents(company, self._entry_pages(company, where))

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of documents with an entry made or changed in `[since, until)`."""
        company = self._company(entity)
        where = f"lastModifiedDateTime ge {_instant(since)} and lastModifiedDateTime lt {_instant(until)}"
        changed = (row["documentNumber"] for page in self._entry_pages(company, where) for row in page)
        rows = self._documents(company, list(dict.fromkeys(changed)))
        return self._whole_documents(company, iter([rows]))

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts that take postings, by number."""
        company = self._company(entity)
        return [GlAccount(entity, code, name, company.currency) for code, name in sorted(company.accounts.items())]

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Post once, by the run key.

        Raises Rejected (nothing stays behind), PeriodClosed, ErpUnavailable (not carried out), UnknownOutcome.
        """
        company = self._company(journal.entity)
        refuse_unfit(
            journal,
            self.config,
            currency=company.currency,
            accounts=company.accounts,
            has_value=lambda dimension, value: value in company.codes[dimension],
        )
        key = _RUN_KEY.match(journal.run_key)
        if not key or key[2] is not None or len(journal.run_key) > _DESCRIPTION:
            raise Rejected("not a run key", record=journal.run_key, expected="TIEOUT/<slot>/v<n>, 100 signs at most")
        return post_once(self, journal, fence)

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a posted journal, dated `on`."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def create_draft(self, journal: ErpJournal, fence: Fence) -> JournalRef:
        """Fill a new batch with the journal's lines and see that it holds just them."""
        company = self._company(journal.entity)
        batch = self._new_batch(company, journal, fence)
        path = f"{company.path}/journals({batch})/journalLines"
        refused = None
        try:
            lines = self._in_batches([("POST", path, body) for body in _line_bodies(journal)], journal, fence)
            self._in_batches(
                [
                    ("POST", f"{company.path}/journalLines({stored['id']})/dimensionSetLines", body)
                    for stored, line in zip(lines, journal.lines, strict=True)
                    for body in self._dimension_bodies(company, line)
                ],
                journal,
                fence,
            )
        except Rejected as error:
            refused = error  # it may be that of a request which arrived twice
        draft = JournalRef(journal.entity, batch, journal.run_key, journal.date, "draft")
        with written(journal):
            held = self.read_back(draft)
        if same_content(held, journal):
            return draft
        self._delete_batch(company, batch, fence)
        raise refused or UnknownOutcome(
            "the batch did not become the journal", record=journal.run_key, got=f"{len(held.lines)} lines",
            remedy="the next try makes it anew",
        )  # fmt: skip

    def post_draft(self, draft: JournalRef, journal: ErpJournal, fence: Fence) -> None:
        """Post the batch, and remove it once it is empty."""
        company = self._company(journal.entity)
        self._write("POST", f"{company.path}/journals({draft.erp_id})/Microsoft.NAV.post", journal, fence, value={})
        with suppress(ErpError):  # an empty batch does no harm
            self._delete_batch(company, draft.erp_id, fence)

    def delete_draft(self, draft: JournalRef, fence: Fence) -> None:
        """Delete a batch of ours with its lines."""
        self._delete_batch(self._company(draft.entity), draft.erp_id, fence)

    def read_ref(self, ref: JournalRef) -> JournalRef:
        """Where the journal stands now. Raises UnknownOutcome if it is gone."""
        for found in self.find_by_run_key(ref.run_key, entity=ref.entity):
            if found.run_key == ref.run_key:
                return found
        raise UnknownOutcome("the journal vanished from the ERP", record=ref.run_key)

    def _new_batch(self, company: _Company, journal: ErpJournal, fence: Fence) -> str:
        """An empty batch under the journal's code; one that an earlier attempt left empty goes first."""
        code = batch_code(journal.run_key)
        body = {"code": code, "displayName": journal.run_key}
        try:
            return str(self._write("POST", f"{company.path}/journals", journal, fence, value=body)["id"])
        except Rejected:
            left = self._batches(company, f"code eq {_text(code)}")
            if not left:
                raise
            if left[0]["displayName"] != journal.run_key:
                raise Rejected(
                    "another batch has the code of ours", record=journal.run_key, got=left[0]["displayName"],
                    remedy="rename that batch in the ERP",
                ) from None  # fmt: skip
        self._delete_batch(company, left[0]["id"], fence)
        return str(self._write("POST", f"{company.path}/journals", journal, fence, value=body)["id"])

    def _dimension_bodies(self, company: _Company, line: ErpLine) -> list[dict[str, str]]:
        return [
            {"code": self.config.dimensions[dimension], "valueCode": company.codes[dimension][value]}
            for dimension, value in sorted(line.dimensions.items())
            if value
        ]

    def _delete_batch(self, company: _Company, batch: str, fence: Fence) -> None:
        try:
            # it is ours alone, whatever state it is in
            self._rest.write("DELETE", f"{company.path}/journals({batch})", fence=fence, headers={"If-Match": "*"})
        except Refused as error:
            if error.status != 404:
                raise

    def _write(self, method: str, path: str, journal: ErpJournal, fence: Fence, *, value: Any) -> dict[str, Any]:
        try:
            answer = self._rest.write(method, path, fence=fence, value=value)
        except Refused as error:
            raise _refused(journal, error.value, error.text) from None
        return {} if answer.status == 204 else _stored(answer, journal)

    def _in_batches(
        self, operations: Sequence[tuple[str, str, dict[str, Any]]], journal: ErpJournal, fence: Fence
    ) -> list[dict[str, Any]]:
        """Carry out operations by hundreds, each hundred whole or not at all; gives what was stored, in their order."""
        stored: list[dict[str, Any]] = []
        for start in range(0, len(operations), _OPERATIONS):
            some = operations[start : start + _OPERATIONS]
            asked = [
                {"id": str(n), "method": m, "url": url, "headers": {"Content-Type": "application/json"}, "body": body}
                for n, (m, url, body) in enumerate(some)
            ]
            # all of them or none: half of the lines could balance
            headers = {"Isolation": "snapshot"}
            try:
                answer = self._rest.write("POST", "$batch", fence=fence, value={"requests": asked}, headers=headers)
            except Refused as error:
                raise _refused(journal, error.value, error.text) from None
            answers = {one["id"]: one for one in _stored(answer, journal)["responses"]}
            for n in range(len(some)):
                one = answers.get(str(n))
                if one is None or one["status"] >= 300:
                    failed = next((a for a in answers.values() if a["status"] >= 300), one or {})
                    raise _refused(journal, failed.get("body"), str(failed)[:300])
                stored.append(one["body"])
        return stored

    # --- reading ----------------------------------------------------------------------------------------------

    def _drafts(self, company: _Company, key: str) -> list[JournalRef]:
        """Batches of ours that have lines; an empty one is what is left of a journal that was posted, or not begun."""
        slot = f"TIEOUT/{key.removeprefix('TIEOUT/')}".rstrip("/")
        rows = self._batches(company, f"startswith(displayName,{_text(slot)})", expand="journalLines")
        return [
            JournalRef(
                company.entity, row["id"], row["displayName"], _day(row["journalLines"][0]["postingDate"]), "draft"
            )
            for row in rows
            if row["journalLines"] and is_under(row["displayName"], key)
        ]

    def _posted(self, company: _Company, key: str) -> list[JournalRef]:
        """Documents of ours; each is found by its first line, whose description begins with the run key."""
        number = slot_number(key)
        full = f"TIEOUT/{key.removeprefix('TIEOUT/')}"
        rows = self._rows(
            f"{company.path}/generalLedgerEntries",
            {"$filter": f"startswith(documentNumber,{_text(number)})", "$orderby": "entryNumber", "$select": _ENTRY},
        )
        found = []
        for document, entries in groupby(sorted(rows, key=_document), key=_document):
            lines = list(entries)
            keys = {k[1] for line in lines if (k := _RUN_KEY.match(line["description"] or ""))}
            ours = {one for one in keys if document_number(one) == document}
            if not ours and document == document_number(full):
                ours = {full}
            if not ours:
                raise Rejected(
                    "a document of ours has lost its run key", record=f"document {document}",
                    remedy="somebody changed the description of its first entry; write the run key back",
                )  # fmt: skip
            run_key = ours.pop()
            if is_under(run_key, key):
                first = min(lines, key=lambda line: int(line["entryNumber"]))
                ref = JournalRef(company.entity, document, run_key, _day(first["postingDate"]), "posted", document)
                found.append((int(first["entryNumber"]), ref))
        return [ref for _, ref in sorted(found, key=lambda one: one[0])]

    def _documents(self, company: _Company, numbers: Sequence[str]) -> list[dict[str, Any]]:
        """The entries of documents, in the order of posting."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(numbers), 20):
            where = " or ".join(f"documentNumber eq {_text(n)}" for n in numbers[start : start + 20])
            for page in self._entry_pages(company, where):
                rows += page
        return rows

    def _entry_pages(self, company: _Company, where: str) -> Iterator[list[dict[str, Any]]]:
        return self._pages(
            f"{company.path}/generalLedgerEntries",
            {"$filter": where, "$orderby": "documentNumber,entryNumber", "$expand": "dimensionSetLines"},
        )

    def _content(self, ref: JournalRef, rows: list[dict[str, Any]]) -> ErpJournal | Rejected:
        company = self._company(ref.entity)
        if not rows:
            return Rejected("the ERP has no such journal", record=f"document {ref.erp_id}", expected=ref.run_key)
        days = sorted({row["postingDate"] for row in rows})
        key = next((k[1] for row in rows if (k := _RUN_KEY.match(row["description"] or ""))), "")
        ours = key if key and document_number(key) == ref.erp_id else ""
        return ErpJournal(
            entity=ref.entity,
            run_key=ours,
            short_key=short_key(ours) if ours else "",
            # a document of two days is none of ours: the other day is shown, so that it is seen
            date=_day(next((day for day in days if day != ref.date.isoformat()), days[0])),
            currency=company.currency,
            narrative="",
            lines=tuple(self._line(company, row) for row in rows),
            state="posted",
            number=ref.erp_id,
        )

    def _draft_content(self, ref: JournalRef) -> ErpJournal | Rejected:
        company = self._company(ref.entity)
        batches = self._batches(company, f"id eq {ref.erp_id}")
        if not batches:
            return Rejected("the ERP has no such journal", record=f"batch {ref.erp_id}", expected=ref.run_key)
        path = f"{company.path}/journals({ref.erp_id})/journalLines"
        rows = self._rows(path, {"$expand": "dimensionSetLines", "$orderby": "lineNumber"})
        lines = []
        for row in rows:
            amount = _exact(row["amount"])
            sides = {"debitAmount": max(amount, ZERO), "creditAmount": max(-amount, ZERO)}
            lines.append(self._line(company, {**row, **sides}))
        # a line of another document in our batch would be posted with it: it makes the batch another journal
        own = {document_number(ref.run_key)} == {row["documentNumber"] for row in rows}
        run_key = str(batches[0]["displayName"])
        return ErpJournal(
            entity=ref.entity,
            run_key=run_key if own else "",
            short_key=short_key(run_key) if own else "",
            date=_day(rows[0]["postingDate"]) if len({row["postingDate"] for row in rows}) == 1 else date.min,
            currency=company.currency,
            narrative="",
            lines=tuple(lines),
            state="draft",
        )

    def _line(self, company: _Company, row: Mapping[str, Any]) -> ErpLine:
        key = _RUN_KEY.match(row["description"] or "")
        dimensions = {}
        for held in row.get("dimensionSetLines") or []:
            dimension = company.names.get(held["code"])
            if dimension:
                values = company.values[held["code"]]
                dimensions[dimension] = values.get(held["valueCode"], f"#{held['valueCode']}")
        return ErpLine(
            account=row["accountNumber"],
            debit=_exact(row["debitAmount"]),
            credit=_exact(row["creditAmount"]),
            description=(key[2] or "") if key else row["description"] or "",
            dimensions=dimensions,
        )

    def _whole_documents(self, company: _Company, pages: Iterator[list[dict[str, Any]]]) -> Iterator[list[GlEntry]]:
        """Pages cut where a document ends."""
        kept: list[dict[str, Any]] = []
        for page in pages:
            rows = kept + page
            last = rows[-1]["documentNumber"] if rows else None
            kept = [row for row in rows if row["documentNumber"] == last]
            whole = rows[: len(rows) - len(kept)]
            if whole:
                yield list(self._gl_entries(company, whole))
        if kept:
            yield list(self._gl_entries(company, kept))

    def _gl_entries(self, company: _Company, rows: Iterable[dict[str, Any]]) -> Iterator[GlEntry]:
        for document, entries in groupby(rows, key=_document):
            lines = list(entries)
            key = next((k[1] for row in lines if (k := _RUN_KEY.match(row["description"] or ""))), None)
            ours = key if key and document_number(key) == document else None
            for position, row in enumerate(lines, 1):
                line, day = self._line(company, row), _day(row["postingDate"])
                yield GlEntry(
                    entity=company.entity,
                    erp_id=str(row["entryNumber"]),
                    journal_id=document,
                    journal_number=document or None,
                    date=day,
                    posted_on=None,
                    period=f"{day:%Y-%m}",
                    account=line.account,
                    debit=line.debit,
                    credit=line.credit,
                    currency=company.currency,
                    narrative=lines[0]["description"] or "",
                    description=line.description,
                    run_key=ours,
                    line_no=position if ours else None,
                    changed_at=_changed(row.get("lastModifiedDateTime"), day),
                    dimensions=line.dimensions,
                )

    def _refuse_disagreement(self, company: _Company, on: date, closings: Mapping[str, Decimal]) -> None:
        where = f"dateFilter ge {_NO_DATE} and dateFilter le {on.isoformat()}"
        stated = {
            row["number"]: _stated(row["balanceAtDateDebit"]) - _stated(row["balanceAtDateCredit"])
            for row in self._rows(f"{company.path}/trialBalances", {"$filter": where})
            if row.get("accountType", "Posting") == "Posting"
        }
        wrong = {c for c in closings.keys() | stated.keys() if closings.get(c, ZERO) != stated.get(c, ZERO)}
        if wrong:
            account = min(wrong)
            raise ErpUnavailable(
                "the trial balance is not the sum of the entries", record=f"{company.entity}, account {account}",
                expected=stated.get(account, ZERO), got=closings.get(account, ZERO),
                remedy="read again: somebody may have posted meanwhile, or may not see every entry",
            )  # fmt: skip

    def _batches(self, company: _Company, where: str, *, expand: str | None = None) -> list[dict[str, Any]]:
        return self._rows(f"{company.path}/journals", {"$filter": where} | ({"$expand": expand} if expand else {}))

    def _setup(self, path: str) -> dict[str, Any]:
        rows = self._rows(f"{path}/generalLedgerSetup")
        if not rows:
            raise ConfigError("the ERP shows no general ledger setup", record=path)
        return rows[0]

    def _rows(self, path: str, params: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        return [row for page in self._pages(path, params) for row in page]

    def _pages(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[list[dict[str, Any]]]:
        """Every row of a collection, page by page; the ERP's own link leads to the next."""
        headers = {"Prefer": f"odata.maxpagesize={self.config.page}"}
        answer = readable(self._rest.read("GET", path, params=params, headers=headers), path)
        while True:
            rows = answer.get("value", [answer])
            if rows:
                yield rows
            link = answer.get("@odata.nextLink")
            if not link:
                return
            if not same_origin(link, self._rest.base) or not link.startswith(f"{self._rest.base}/"):
                raise ErpUnavailable("the ERP's next page is at another address", record=path, got=link[:200])
            answer = readable(self._rest.read("GET", link.removeprefix(self._rest.base), headers=headers), path)

    def _company(self, entity: str) -> _Company:
        if entity not in self._companies:
            self._companies[entity] = self._load_company(entity, self.config.company_of(entity))
        return self._companies[entity]

    def _load_company(self, entity: str, wanted: str) -> _Company:
        rows = [row for row in self._rows("companies") if wanted in (row["id"], row["name"])]
        if len(rows) != 1:
            raise ConfigError("the ERP has not exactly one such company", record=entity, got=len(rows), expected=wanted)
        path = f"companies({rows[0]['id']})"
        codes: dict[str, dict[str, str]] = {}
        if self.config.dimensions:
            held = {
                row["code"]: row.get("dimensionValues") or []
                for row in self._rows(f"{path}/dimensions", {"$expand": "dimensionValues"})
            }
            codes = {name: _value_codes(name, code, held) for name, code in self.config.dimensions.items()}
        return _Company(
            entity=entity,
            path=path,
            currency=self._setup(path)["localCurrencyCode"],
            accounts={
                row["number"]: row["displayName"]
                for row in self._rows(f"{path}/accounts")
                if row.get("accountType", "Posting") == "Posting"
                and not row["blocked"]
                and row.get("directPosting", True)
            },
            codes=codes,
            values={
                self.config.dimensions[name]: {code: value for value, code in values.items()}
                for name, values in codes.items()
            },
            names={code: name for name, code in self.config.dimensions.items()},
        )


def _line_bodies(journal: ErpJournal) -> list[dict[str, Any]]:
    """The lines as the API takes them: debits positive, run key before the first text, anchor after the second."""
    bodies = []
    for number, line in enumerate(journal.lines, 1):
        text = line.description or journal.narrative
        if number == 1:
            text = f"{journal.run_key} {text}".rstrip()
        bodies.append(
            {
                "lineNumber": number * 10_000,
                "accountType": "G/L Account",
                "accountNumber": line.account,
                "postingDate": journal.date,
                "documentNumber": document_number(journal.run_key),
                "amount": line.debit - line.credit,
                "description": anchored(text, journal.anchor if number == 2 else "", _DESCRIPTION),
            }
        )
    return bodies


def _value_codes(name: str, code: str, held: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    if code not in held:
        raise ConfigError("the ERP has no such dimension", record=name, got=code, expected=sorted(held))
    values: dict[str, str] = {}
    for row in held[code]:
        if row["displayName"] in values:
            raise ConfigError("two values of a dimension have one name", record=name, got=row["displayName"])
        values[row["displayName"]] = row["code"]
    return values


def _sign_in(connection: Connection, http: ErpHttp) -> AuthBase:
    """A token for client id and secret from `token_url` of the connection's extra; without one, Basic (on premises)."""
    address = connection.extra.get("token_url")
    if not address:
        return HTTPBasicAuth(connection.login or "", connection.password or "")
    form = {
        "grant_type": "client_credentials",
        "client_id": connection.login or "",
        "client_secret": connection.password or "",
        "scope": str(connection.extra.get("scope") or "https://api.businesscentral.dynamics.com/.default"),
    }
    url = checked_address(str(address), connection.conn_id)
    answer = http.send(
        "POST",
        url,
        "sign-in",
        write=False,
        body=urlencode(form).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    try:
        return HeaderAuth(f"Bearer {json.loads(answer.body)['access_token']}")
    except (ValueError, KeyError, TypeError):
        raise ErpUnavailable(
            "the sign-in service gives no token",
            record=connection.conn_id,
            got=f"HTTP {answer.status}",
            remedy="check client id, secret, scope and token_url of the connection's credentials",
        ) from None


def _stored(answer: Answer, journal: ErpJournal) -> dict[str, Any]:
    """What a write says that it stored. Raises UnknownOutcome if that cannot be read."""
    with written(journal):
        stored = readable(answer, journal.run_key)
        if not isinstance(stored, dict):
            raise unreadable(journal.run_key, type(stored).__name__, write=True)
        return stored


def _refused(journal: ErpJournal, body: Any, text: str) -> Rejected:
    error = body.get("error") if isinstance(body, dict) else None
    words = str(error.get("message")) if isinstance(error, dict) else text
    kind = PeriodClosed if _CLOSED.search(words) else Rejected
    return kind("the ERP refused the journal", record=journal.run_key, got=words)


def _document(row: Mapping[str, Any]) -> str:
    return str(row["documentNumber"])


def _signs(text: str, count: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:count]


def _text(value: str) -> str:
    """A text literal of OData."""
    return "'" + value.replace("'", "''") + "'"


def _instant(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def _changed(text: str | None, day: date) -> datetime:
    """When an entry was last touched; entries older than the field have none, their day stands for it."""
    if not text or text.startswith("0001"):
        return datetime.combine(day, time(), UTC)
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _exact(value: Any) -> Decimal:
    """An amount as it came; a float would have lost its cents on the way."""
    if isinstance(value, Decimal | int):
        return Decimal(value)
    raise ErpUnavailable("the ERP sent an amount that is no decimal", got=repr(value))


def _stated(text: str) -> Decimal:
    """An amount of the trial balance, which is text with commas between thousands. Raises ErpUnavailable for others."""
    if not text:
        return ZERO
    if not _AMOUNT.match(text):
        raise ErpUnavailable("the ERP's trial balance cannot be read", got=text, expected="1,234.56")
    return Decimal(text.replace(",", ""))


ADAPTER = Adapter(BusinessCentralConfig, BusinessCentralLedger, receivable_modes=("gl_control",))
