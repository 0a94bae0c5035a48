"""NetSuite as a ledger: journal entries of the REST record service, read back by SuiteQL.

A journal's external id is its run key in NetSuite's alphabet, and NetSuite refuses a second record of the same one.
A journal is therefore created by POST, which says so where it is there already; `PUT eid:` would rewrite it, lines and
all, posted or not, and is never sent. Nor is anything else that changes or deletes a record.

The record service shows a journal at once; SuiteQL may show it a little later, which is what a read-back waits for.

The role needs: Make Journal Entry (create), SuiteAnalytics Workbook, REST Web Services, Log in using Access Tokens, and
view on accounts, accounting periods, subsidiaries, currencies and the records that dimensions are kept in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator
from requests.auth import AuthBase

from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.drafts import closed, is_under, mirror, refuse_unfit, written
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
from tieout.errors import ConfigError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.settings import Connection

RECORD = "services/rest/record/v1/journalEntry"
SUITEQL = "services/rest/query/v1/suiteql"
STRICT = {"X-NetSuite-PropertyNameValidation": "Error", "X-NetSuite-PropertyValueValidation": "Error"}
"""Without these NetSuite drops a field it does not know, a dimension for instance, and says nothing."""

RUN_KEY = re.compile(r"TIEOUT(/[^\s/]+){2,}\Z")
_DIMENSION_FIELD = re.compile(r"(department|class|location|cseg\w*|custcol\w*)\Z")
_DIMENSION_TABLES = {"department": "department", "class": "classification", "location": "location"}
_CLOSED = re.compile(r"period.{0,40}(closed|locked)|(closed|locked).{0,40}period", re.IGNORECASE | re.DOTALL)
_DUPLICATE = re.compile(r"already exists|DUP_|duplicate", re.IGNORECASE)
_APPROVED = "2"
_MEMO = 999  # characters a memo holds
_ROWS = 1000  # of one SuiteQL answer; NetSuite's most
_CEILING = 100_000  # rows of one query by paging; NetSuite's most

_HEADS = """
SELECT t.id AS id, t.externalid AS externalid, t.tranid AS tranid, t.posting AS posting,
       TO_CHAR(t.trandate, 'YYYY-MM-DD') AS trandate
FROM transaction t
WHERE t.type = 'Journal' AND t.externalid LIKE {prefix}
ORDER BY t.id
"""
_IDS = """
SELECT DISTINCT t.id AS id
FROM transaction t
JOIN transactionline tl ON tl.transaction = t.id
WHERE t.posting = 'T' AND tl.subsidiary = {subsidiary} AND t.id > {after} AND {where}
ORDER BY t.id
"""
_LINES = """
SELECT t.id AS id, t.type AS type, t.externalid AS externalid, t.tranid AS tranid, t.memo AS memo, t.posting AS posting,
       TO_CHAR(t.trandate, 'YYYY-MM-DD') AS trandate,
       TO_CHAR(t.createddate, 'YYYY-MM-DD HH24:MI:SS') AS createddate,
       TO_CHAR(t.lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS') AS lastmodifieddate,
       ap.periodname AS periodname, TO_CHAR(ap.startdate, 'YYYY-MM-DD') AS periodstart,
       TO_CHAR(ap.enddate, 'YYYY-MM-DD') AS periodend,
       tl.id AS line, tl.subsidiary AS subsidiary, tl.memo AS linememo, a.acctnumber AS acctnumber,
       tal.debit AS debit, tal.credit AS credit{dimensions}
FROM transaction t
JOIN transactionline tl ON tl.transaction = t.id
JOIN transactionaccountingline tal ON tal.transaction = tl.transaction AND tal.transactionline = tl.id
JOIN account a ON a.id = tal.account
LEFT JOIN accountingperiod ap ON ap.id = t.postingperiod
WHERE tal.accountingbook = {book} AND t.id IN ({ids})
ORDER BY t.id, tl.linesequencenumber, tl.id
"""
_BALANCES = """
SELECT a.acctnumber AS acctnumber,
       SUM(CASE WHEN t.trandate < {since} THEN COALESCE(tal.debit, 0) ELSE 0 END) AS debitbefore,
       SUM(CASE WHEN t.trandate < {since} THEN COALESCE(tal.credit, 0) ELSE 0 END) AS creditbefore,
       SUM(CASE WHEN t.trandate < {since} THEN 0 ELSE COALESCE(tal.debit, 0) END) AS debit,
       SUM(CASE WHEN t.trandate < {since} THEN 0 ELSE COALESCE(tal.credit, 0) END) AS credit
FROM transactionaccountingline tal
JOIN transactionline tl ON tl.transaction = tal.transaction AND tl.id = tal.transactionline
JOIN transaction t ON t.id = tal.transaction
JOIN account a ON a.id = tal.account
WHERE tal.posting = 'T' AND t.posting = 'T' AND tal.accountingbook = {book}
  AND tl.subsidiary = {subsidiary} AND t.trandate <= {on}
GROUP BY a.acctnumber
ORDER BY a.acctnumber
"""
_PERIOD = """
SELECT ap.id AS id, ap.periodname AS periodname, TO_CHAR(ap.startdate, 'YYYY-MM-DD') AS startdate,
       TO_CHAR(ap.enddate, 'YYYY-MM-DD') AS enddate, ap.closed AS closed, ap.alllocked AS alllocked
FROM accountingperiod ap
WHERE ap.isyear = 'F' AND ap.isquarter = 'F' AND ap.isadjust = 'F'
  AND ap.startdate <= {on} AND ap.enddate >= {on}
"""
_SUBSIDIARY = """
SELECT s.id AS id, s.name AS name, s.currency AS currency, c.symbol AS symbol
FROM subsidiary s
JOIN currency c ON c.id = s.currency
ORDER BY s.id
"""
_ACCOUNTS = """
SELECT a.id AS id, a.acctnumber AS acctnumber, a.accountsearchdisplayname AS name
FROM account a
WHERE a.isinactive = 'F' AND a.issummary = 'F' AND a.acctnumber IS NOT NULL
ORDER BY a.acctnumber
"""
_VALUES = "SELECT v.id AS id, v.name AS name FROM {table} v WHERE v.isinactive = 'F' ORDER BY v.id"


class _Row(dict[str, Any]):
    """A row of SuiteQL; a column without a value is not in it."""

    def __missing__(self, column: str) -> None:
        return None


class NetSuiteConfig(ErpConfig):
    """`erp/netsuite.yaml`. A company is a subsidiary by its internal id, else its name.

    A dimension is a line field: `department`, `class`, `location`, or a custom segment or column by its script id
    (`cseg_…`, `custcol_…`); a value is the name of a record in it.
    """

    max_lines: int = Field(default=200, ge=2)
    accounting_book: int = Field(default=1, ge=1)
    """Internal id of the book that is read; another one would count every amount again."""
    zone: str = "America/Los_Angeles"
    """The time zone of the integration's user, in which SuiteQL gives instants."""
    tables: dict[str, str] = Field(default_factory=dict)
    """Line field → the SuiteQL table of its values; a custom segment's is `customrecord_<script id>` by itself."""
    page: int = Field(default=100, ge=1, le=400)
    """Journals whose lines are read at once."""
    settle_seconds: int = Field(default=300, ge=1)

    @field_validator("dimensions")
    @classmethod
    def _are_line_fields(cls, value: dict[str, str]) -> dict[str, str]:
        for field in value.values():
            if not _DIMENSION_FIELD.match(field):
                raise ValueError(f"{field!r} is no line field: department, class, location, cseg_… or custcol_…")
        return value

    @field_validator("tables")
    @classmethod
    def _are_tables(cls, value: dict[str, str]) -> dict[str, str]:
        for table in value.values():
            if not re.fullmatch(r"\w+", table):
                raise ValueError(f"{table!r} is no table of SuiteQL")
        return value

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no time zone")
        return value

    def table(self, field: str) -> str:
        """Where the values of a line field are kept."""
        return self.tables.get(field) or _DIMENSION_TABLES.get(field) or f"customrecord_{field}"


@dataclass(frozen=True, slots=True)
class _Company:
    """What NetSuite knows of a legal entity, read once."""

    entity: str
    subsidiary: str
    currency_id: str
    currency: str
    accounts: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    """Dimension → value → internal id."""
    names: Mapping[str, tuple[str, Mapping[str, str]]]
    """Dimension → its column in SuiteQL, and internal id → value."""


def external_id(run_key: str) -> str:
    """A run key in the alphabet of external ids (letters, digits, `_`, `-`): `_` is doubled, `/` becomes `_-`.

    A key that starts with another has an external id that starts with the other's. Raises Rejected for other signs.
    """
    made = run_key.replace("_", "__").replace("/", "_-")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", made):
        raise Rejected("the run key has a sign that no external id takes", record=run_key)
    return made


def run_key_of(external_id: str | None) -> str | None:
    """The run key of a journal of ours, None for anybody else's."""
    found = re.sub(r"__|_-", lambda m: "_" if m[0] == "__" else "/", external_id or "")
    return found if RUN_KEY.match(found) else None


class NetSuiteLedger:
    """The general ledgers of the subsidiaries of one NetSuite account. Implements `tieout.erp.port.Ledger`."""

    def __init__(self, connection: Connection, config: NetSuiteConfig) -> None:
        self.config = config
        self._http = Rest(connection.host, connection.conn_id, config, sign=lambda _: _token(connection))
        self._zone = ZoneInfo(config.zone)
        self._companies: dict[str, _Company] = {}

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Journals of ours whose run key is `key` or starts with it at a `/`, unapproved included, oldest first."""
        slot = f"TIEOUT/{key.removeprefix('TIEOUT/')}".rstrip("/")
        found = []
        for row in self._query(_HEADS.format(prefix=_text(external_id(slot) + "%"))):
            ours = run_key_of(row["externalid"])
            named = ours.split("/")[1] if ours else ""
            if ours and is_under(ours, key) and named in self.config.companies and entity in (None, named):
                found.append(_ref(named, row, ours))
        return found

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """The month around `on`; closed, and locked for all transactions, is closed to us alike."""
        return _status(entity, on, self._period(on))

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The journal as the ledger's tables hold it. Raises Rejected if there is no such journal.

        Its date is the transaction date; where the posting period lies elsewhere, the first day of that period, because
        that is where the amounts are.
        """
        for attempt in range(1, self.config.tries + 1):
            found = self.read_back_many([ref])[0]
            if not isinstance(found, Rejected):
                return found
            if found.expected is None or not self._exists(ref.erp_id):
                raise found
            time.sleep(self.config.pause_ms / 1000 * attempt)
        raise ErpUnavailable("SuiteQL does not show the journal yet", record=f"journal {ref.erp_id}")

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """`read_back` of each, in the order of `refs`; the refusal for one that is not there."""
        held: dict[str, list[dict[str, Any]]] = {}
        for start in range(0, len(refs), self.config.page):
            for row in self._lines(ref.erp_id for ref in refs[start : start + self.config.page]):
                held.setdefault(str(row["id"]), []).append(row)
        return [self._journal(ref, held.get(ref.erp_id, [])) for ref in refs]

    def _journal(self, ref: JournalRef, rows: list[dict[str, Any]]) -> ErpJournal | Rejected:
        company = self._company(ref.entity)
        if not rows:
            return Rejected("the ERP has no such journal", record=f"journal {ref.erp_id}", expected=ref.run_key)
        if any(str(row["subsidiary"]) != company.subsidiary for row in rows):
            return Rejected("the journal belongs to another subsidiary", record=f"journal {ref.erp_id}")
        head = rows[0]
        ours = run_key_of(head["externalid"])
        return ErpJournal(
            entity=ref.entity,
            run_key=ours or "",
            short_key=short_key(ours) if ours else "",
            date=_posted_in(head),
            currency=company.currency,
            narrative=head["memo"] or "",
            lines=tuple(_line(row, company) for row in rows),
            state="posted" if head["posting"] == "T" else "draft",
            number=head["tranid"] or None,
        )

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """Opening, movement and closing per account by transaction date, posting lines of one book only."""
        company = self._company(entity)
        sql = _BALANCES.format(
            since=_date(since or date(1900, 1, 1)),
            on=_date(on),
            book=self.config.accounting_book,
            subsidiary=int(company.subsidiary),
        )
        return [
            Balance(
                entity,
                row["acctnumber"] or "",
                company.currency,
                _amount(row["debitbefore"]) - _amount(row["creditbefore"]),
                _amount(row["debit"]),
                _amount(row["credit"]),
            )
            for row in self._query(sql)
        ]

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted lines with a transaction date from `since` to `until`, both included."""
        return self._entries(entity, f"t.trandate >= {_date(since)} AND t.trandate <= {_date(until)}")

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of transactions last modified in `[since, until)`."""
        # NetSuite's clock is a wall clock that repeats an hour in autumn: a wider question, narrowed here
        low, high = (_wall(i, self._zone) for i in (since - timedelta(hours=1), until + timedelta(hours=1)))
        for page in self._entries(entity, f"t.lastmodifieddate >= {low} AND t.lastmodifieddate < {high}"):
            inside = [e for e in page if any(since <= i < until for i in self._readings(e.changed_at))]
            if inside:
                yield inside

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts that take postings, by number."""
        currency = self._company(entity).currency
        return [GlAccount(entity, row["acctnumber"], row["name"] or "", currency) for row in self._query(_ACCOUNTS)]

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Create the journal once, by its external id.

        A journal that an approval routing holds back comes back as a draft: it is not in the ledger until somebody
        approves it in NetSuite. Raises Rejected (nothing stays behind), PeriodClosed, ErpUnavailable (not carried out),
        UnknownOutcome.
        """
        company = self._company(journal.entity)
        refuse_unfit(
            journal,
            self.config,
            currency=company.currency,
            accounts=company.accounts,
            has_value=lambda dimension, value: value in company.values[dimension],
        )
        if not RUN_KEY.match(journal.run_key):
            raise Rejected("not a run key", record=journal.run_key, expected="TIEOUT/<slot>/v<n>")
        present = self._record(journal)
        if present:
            return present
        period = self._period(journal.date)
        status = _status(journal.entity, journal.date, period)
        if not status.is_open:
            raise closed(journal, status)
        body = self._body(journal, company, period)
        try:
            self._http.write("POST", RECORD, value=body, headers=STRICT, fence=fence)
        except Refused as error:
            if _DUPLICATE.search(error.text):
                with written(journal):
                    present = self._record(journal)
                if present:
                    return present
            raise _refused(journal, error) from None
        with written(journal):
            present = self._record(journal)
        if present is None:
            raise UnknownOutcome(
                "the journal just created is not to be found", record=journal.run_key, remedy="look it up again"
            )
        return present

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a posted journal, dated `on`."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def _record(self, journal: ErpJournal) -> JournalRef | None:
        """The journal as the record service has it now; None if it has none of this external id."""
        path = f"{RECORD}/eid:{external_id(journal.run_key)}"
        try:
            record = readable(self._http.read("GET", path), journal.run_key)
        except Refused as error:
            if error.status == 404:
                return None
            raise
        posted = str((record.get("approvalStatus") or {}).get("id", "")) == _APPROVED or record.get("approved") is True
        return JournalRef(
            journal.entity,
            str(record["id"]),
            journal.run_key,
            _day(record["tranDate"]),
            "posted" if posted else "draft",
            record.get("tranId"),
        )

    def _exists(self, number: str) -> bool:
        """Whether the record service has a journal of this internal id; SuiteQL may not show it yet."""
        try:
            self._http.read("GET", f"{RECORD}/{int(number)}")
        except Refused as error:
            if error.status == 404:
                return False
            raise
        return True

    def _body(self, journal: ErpJournal, company: _Company, period: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "externalId": external_id(journal.run_key),
            "subsidiary": {"id": company.subsidiary},
            "currency": {"id": company.currency_id},
            "tranDate": journal.date,
            # named, because NetSuite may otherwise choose the first open one
            "postingPeriod": {"id": str(period["id"])},
            "memo": anchored(journal.narrative or journal.run_key, journal.anchor, _MEMO),
            "approvalStatus": {"id": _APPROVED},
            "line": {"items": [self._item(line, journal, company) for line in journal.lines]},
        }

    def _item(self, line: ErpLine, journal: ErpJournal, company: _Company) -> dict[str, Any]:
        item: dict[str, Any] = {"account": {"id": company.accounts[line.account]}}
        item |= {"debit": line.debit} if line.debit else {"credit": line.credit}
        item |= {
            self.config.dimensions[dimension]: {"id": company.values[dimension][value]}
            for dimension, value in sorted(line.dimensions.items())
            if value
        }
        return item | {"memo": (line.description or journal.narrative)[:_MEMO]}

    # --- reading ----------------------------------------------------------------------------------------------

    def _entries(self, entity: str, where: str) -> Iterator[list[GlEntry]]:
        """Whole transactions in the order of their ids, by keyset: NetSuite pages no query beyond 100,000 rows."""
        company, after = self._company(entity), 0
        while True:
            sql = _IDS.format(subsidiary=int(company.subsidiary), after=after, where=where)
            ids = [int(row["id"]) for row in self._query(sql, most=self.config.page)]
            if not ids:
                return
            rows = [r for r in self._lines(map(str, ids)) if str(r["subsidiary"]) == company.subsidiary]
            page = [entry for entry in self._gl_entries(company, rows) if entry.debit or entry.credit]
            if page:
                yield page
            after = ids[-1]

    def _gl_entries(self, company: _Company, rows: Iterable[Mapping[str, Any]]) -> Iterator[GlEntry]:
        position: dict[str, int] = {}
        for row in rows:
            journal = str(row["id"])
            position[journal] = position.get(journal, 0) + 1
            ours = run_key_of(row["externalid"])
            line = _line(row, company)
            yield GlEntry(
                entity=company.entity,
                erp_id=f"{journal}.{row['line']}",
                journal_id=journal,
                journal_number=row["tranid"] or None,
                date=_day(row["trandate"]),
                posted_on=_day(row["createddate"][:10]),
                period=row["periodname"] or "",
                account=line.account,
                debit=line.debit,
                credit=line.credit,
                currency=company.currency,
                narrative=row["memo"] or "",
                description=line.description,
                run_key=ours,
                line_no=position[journal] if ours else None,
                changed_at=self._instant(row["lastmodifieddate"]),
                dimensions=line.dimensions,
            )

    def _lines(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """Header and lines of transactions, in the order the lines were written."""
        fields = "".join(f", tl.{field} AS {field}" for field in self.config.dimensions.values())
        return self._query(
            _LINES.format(
                dimensions=fields, book=self.config.accounting_book, ids=", ".join(str(int(number)) for number in ids)
            )
        )

    def _period(self, on: date) -> dict[str, Any]:
        """The month around a day; empty if there is none."""
        rows = self._query(_PERIOD.format(on=_date(on)))
        return rows[0] if rows else {}

    def _query(self, sql: str, *, most: int | None = None) -> list[dict[str, Any]]:
        """The rows of a SuiteQL query, page by page; only the first `most` of them where that is given."""
        rows: list[dict[str, Any]] = []
        size = min(most or _ROWS, _ROWS)
        while True:
            reply = self._http.read(
                "POST",
                SUITEQL,
                params={"limit": str(size), "offset": str(len(rows))},
                headers={"Prefer": "transient"},
                value={"q": " ".join(sql.split())},
            )
            page = readable(reply, "SuiteQL")
            rows += map(_Row, page["items"])
            if most is not None or not page["hasMore"]:
                return rows[:most]
            if len(rows) >= _CEILING or not page["items"]:
                raise ErpUnavailable(
                    "NetSuite gives no more than 100,000 rows of one query", record="SuiteQL", got=len(rows),
                    remedy="make `page` in the ERP's file smaller",
                )  # fmt: skip

    def _instant(self, text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=self._zone).astimezone(UTC)

    def _readings(self, instant: datetime) -> tuple[datetime, datetime]:
        """Both instants that a wall clock may have meant in the hour that it repeats; otherwise the same twice."""
        wall = instant.astimezone(self._zone)
        return wall.replace(fold=0).astimezone(UTC), wall.replace(fold=1).astimezone(UTC)

    def _company(self, entity: str) -> _Company:
        if entity not in self._companies:
            self._companies[entity] = self._load_company(entity, self.config.company_of(entity))
        return self._companies[entity]

    def _load_company(self, entity: str, wanted: str) -> _Company:
        rows = self._query(_SUBSIDIARY)
        found = [r for r in rows if str(r["id"]) == wanted] or [r for r in rows if r["name"] == wanted]
        if len(found) != 1:
            raise ConfigError(
                "the ERP has not exactly one such subsidiary", record=entity, got=len(found), expected=wanted
            )
        values = {name: self._values(name, field) for name, field in self.config.dimensions.items()}
        return _Company(
            entity=entity,
            subsidiary=str(found[0]["id"]),
            currency_id=str(found[0]["currency"]),
            currency=found[0]["symbol"],
            accounts={row["acctnumber"]: str(row["id"]) for row in self._query(_ACCOUNTS)},
            values=values,
            names={
                name: (self.config.dimensions[name].lower(), {number: value for value, number in held.items()})
                for name, held in values.items()
            },
        )

    def _values(self, dimension: str, field: str) -> dict[str, str]:
        held: dict[str, str] = {}
        for row in self._query(_VALUES.format(table=self.config.table(field))):
            if row["name"] in held:
                raise ConfigError("two values of a dimension have one name", record=dimension, got=row["name"])
            held[row["name"]] = str(row["id"])
        return held


def _token(connection: Connection) -> AuthBase:
    """Signs each request anew: token and its secret are login and password, the integration's own are in `extra`."""
    from requests_oauthlib import OAuth1

    consumer, secret = connection.extra.get("consumer_key"), connection.extra.get("consumer_secret")
    if not (connection.login and connection.password and connection.schema and consumer and secret):
        raise ConfigError(
            "the connection lacks a part of NetSuite's token",
            record=connection.conn_id,
            expected="login: token id, password: token secret, schema: account id (123456_SB1), "
            "extra: consumer_key and consumer_secret",
        )
    signed: AuthBase = OAuth1(
        consumer, secret, connection.login, connection.password,
        signature_method="HMAC-SHA256", realm=connection.schema,
    )  # fmt: skip
    return signed


def _status(entity: str, on: date, row: Mapping[str, Any]) -> PeriodStatus:
    if not row:
        return PeriodStatus(entity, on, "absent", reason=f"the ERP has no period around {on}")
    shut = "closed" if row["closed"] == "T" else "locked for all transactions" if row["alllocked"] == "T" else None
    return PeriodStatus(
        entity,
        on,
        "closed" if shut else "open",
        row["periodname"],
        _day(row["startdate"]),
        _day(row["enddate"]),
        f"period {row['periodname']} is {shut} in the ERP" if shut else None,
    )


def _refused(journal: ErpJournal, error: Refused) -> Rejected:
    details = error.value.get("o:errorDetails") if isinstance(error.value, dict) else None
    words = "; ".join(str(detail.get("detail", "")) for detail in details or []) or error.text
    kind = PeriodClosed if _CLOSED.search(words) else Rejected
    return kind("the ERP refused the journal", record=journal.run_key, got=words)


def _ref(entity: str, row: Mapping[str, Any], run_key: str) -> JournalRef:
    posted = row["posting"] == "T"
    number = row["tranid"] or None
    return JournalRef(entity, str(row["id"]), run_key, _day(row["trandate"]), "posted" if posted else "draft", number)


def _line(row: Mapping[str, Any], company: _Company) -> ErpLine:
    dimensions = {}
    for dimension, (column, names) in company.names.items():
        number = row.get(column)
        if number not in (None, ""):
            dimensions[dimension] = names.get(str(number), f"#{number}")
    return ErpLine(
        account=row["acctnumber"] or "",
        debit=_amount(row["debit"]),
        credit=_amount(row["credit"]),
        description=row["linememo"] or "",
        dimensions=dimensions,
    )


def _posted_in(head: Mapping[str, Any]) -> date:
    day = _day(head["trandate"])
    if not head["periodstart"] or head["periodstart"] <= day.isoformat() <= head["periodend"]:
        return day
    return _day(head["periodstart"])


def _text(value: str) -> str:
    """A text literal of SuiteQL; the service documents no parameters."""
    return "'" + value.replace("'", "''") + "'"


def _date(day: date) -> str:
    return f"TO_DATE('{day.isoformat()}', 'YYYY-MM-DD')"


def _wall(instant: datetime, zone: ZoneInfo) -> str:
    return f"TO_DATE('{instant.astimezone(zone):%Y-%m-%d %H:%M:%S}', 'YYYY-MM-DD HH24:MI:SS')"


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _amount(value: Any) -> Decimal:
    """An amount as SuiteQL sends it: text, absent for none. A float has lost its cents on the way."""
    if value in (None, ""):
        return ZERO
    try:
        if isinstance(value, str | int | Decimal):
            return Decimal(value)
    except InvalidOperation:
        pass
    raise ErpUnavailable("the ERP sent an amount that is no decimal", got=repr(value))


ADAPTER = Adapter(NetSuiteConfig, NetSuiteLedger, receivable_modes=("gl_control",))
