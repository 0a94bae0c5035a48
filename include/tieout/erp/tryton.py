"""Tryton 8.2 as a ledger: moves of one journal, found again by the run key in their description.

Tryton has no idempotency of its own. A journal is therefore looked up first, created as a draft, looked up again
(the oldest draft wins, our others go), posted, and read back. Posted moves are never touched. Once something was
written, a question the ERP does not answer leaves the outcome unknown.

The user needs: read, write, create and delete on `account.move` (with its lines) and, where dimensions are used,
on `analytic_account.line`; read and create on `account.journal.period`; read on the chart, periods, journals and
companies; "company filter: all" where it posts to several companies.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tieout.entities import EntityId
from tieout.erp.jsonrpc import JsonRpc, LockNotObtained, RpcError
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
    unfenced,
)
from tieout.errors import ConfigError, ErpError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.settings import Connection

log = logging.getLogger("tieout.erp")

_BEGINNING = date(1900, 1, 1)
_OURS = re.compile(r"(TIEOUT/\S+) (T[0-9A-F]{15})\Z")
_PERIOD_CLOSED = re.compile(r"closed (journal-)?period|no open period|for field \"Period\"", re.IGNORECASE)
_MOVE_FIELDS = ["company", "number", "date", "post_date", "description", "state", "journal"]


class TrytonConfig(BaseModel):
    """`erp/tryton.yaml`: which company is which legal entity, where journals go, and what may be asked at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    companies: dict[EntityId, str]
    """Legal entity → code of the company's party, else its name."""
    journal: str = "TIE"
    """Code of the journal that takes our moves; nobody else should use it."""
    dimensions: tuple[str, ...] = ()
    """Dimensions kept in the ERP: each is an analytic root of that code, a value the account `<dimension>:<value>`."""
    max_lines: int = Field(default=500, ge=2)
    """Lines per journal; a longer batch is split before it gets here."""
    page: int = Field(default=500, ge=1)
    """Moves read at once."""
    connect_timeout: int = 10
    read_timeout: int = 120
    tries: int = Field(default=5, ge=1)
    pause_ms: int = 500
    """Before reading again; grows with each try."""
    settle_seconds: int = Field(default=60, ge=1)
    """How long a write whose sender died may still be under way in the ERP; see `tieout.ledger.post.Protocol`."""

    @classmethod
    def load(cls, value: Mapping[str, Any]) -> TrytonConfig:
        """Check the content of the file. Raises ConfigError."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError(f"erp/tryton.yaml is not usable: {error}") from None


@dataclass(frozen=True, slots=True)
class _Company:
    """What the ERP knows of a legal entity, read once."""

    entity: str
    id: int
    currency: str
    accounts: Mapping[str, int]
    codes: Mapping[int, str]
    analytic: Mapping[str, int]

    @property
    def context(self) -> dict[str, Any]:
        """The context every call carries."""
        return {"company": self.id, "language": "en"}


class TrytonLedger:
    """The general ledgers of the companies of one Tryton database. Implements `tieout.erp.port.Ledger`."""

    def __init__(self, connection: Connection, config: TrytonConfig) -> None:
        self.config = config
        self._rpc = JsonRpc(
            connection,
            timeout=(config.connect_timeout, config.read_timeout),
            tries=config.tries,
            pause=config.pause_ms / 1000,
        )
        self._companies: dict[str, _Company] = {}
        self._journal_id: int | None = None
        self._currency_ids: dict[str, int] | None = None

    def close(self) -> None:
        """End the session."""
        self._rpc.close()

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Journals of ours whose run key is `key` or starts with it at a `/`, drafts included, oldest first."""
        key = key if key.startswith("TIEOUT/") else f"TIEOUT/{key}"
        named = key.split("/")[1] if key.count("/") else None
        entities = [entity or named] if (entity or named) in self.config.companies else list(self.config.companies)
        found: list[JournalRef] = []
        for one in entities:
            company = self._company(str(one))
            rows = self._search_read(
                "account.move",
                [("company", "=", company.id), ("description", "like", f"{key}%")],
                _MOVE_FIELDS,
                company,
            )
            for row in rows:
                ours = _OURS.match(row["description"] or "")
                if ours and (ours[1] == key or ours[1].startswith(f"{key}/")):
                    found.append(_ref(company.entity, row, ours[1]))
        return found

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """The period around `on`, closed too where only our journal is closed in it."""
        company = self._company(entity)
        row = self._period(company, on)
        if row is None:
            return PeriodStatus(entity, on, "absent", reason=f"the ERP has no period around {on}")
        status = PeriodStatus(entity, on, row["state"], row["name"], row["start_date"], row["end_date"], _reason(row))
        if row["state"] != "open":
            return status
        closed = self._search_read(
            "account.journal.period",
            [
                ("period", "=", row["id"]),
                ("journal", "=", self._journal(company)),
                ("state", "=", "closed"),
            ],
            ["state"],
            company,
        )
        if closed:
            reason = f"journal {self.config.journal} is closed in period {row['name']}"
            return PeriodStatus(entity, on, "closed", row["name"], row["start_date"], row["end_date"], reason)
        return status

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The journal as Tryton holds it. Raises Rejected if there is no such move."""
        company = self._company(ref.entity)
        rows = self._search_read("account.move", [("id", "=", int(ref.erp_id))], _MOVE_FIELDS, company)
        if not rows:
            raise Rejected("the ERP has no such journal", record=f"move {ref.erp_id}", expected=ref.run_key)
        row = rows[0]
        if row["company"] != company.id:
            raise Rejected("the journal belongs to another company", record=f"move {ref.erp_id}")
        lines = self._lines([row["id"]], company)[row["id"]]
        ours = _OURS.match(row["description"] or "")
        return ErpJournal(
            entity=ref.entity,
            run_key=ours[1] if ours else "",
            short_key=ours[2] if ours else "",
            date=row["date"],
            currency=company.currency,
            narrative="" if ours else row["description"] or "",
            lines=tuple(line for _, line in lines),
            state=row["state"],
            number=row["number"],
        )

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """Opening, movement and closing per account, posted moves only."""
        company = self._company(entity)
        opening = self._totals(company, _BEGINNING, since - timedelta(days=1)) if since else {}
        movement = self._totals(company, since or _BEGINNING, on)
        balances = []
        for code in sorted(opening.keys() | movement.keys()):
            before_debit, before_credit = opening.get(code, (ZERO, ZERO))
            debit, credit = movement.get(code, (ZERO, ZERO))
            balances.append(Balance(entity, code, company.currency, before_debit - before_credit, debit, credit))
        return balances

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted lines dated from `since` to `until`, both included."""
        return self._entries(entity, [("date", ">=", since), ("date", "<=", until)])

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of moves created or changed in `[since, until)`; the write date is empty until a change."""
        low, high = (instant.astimezone(UTC).replace(tzinfo=None) for instant in (since, until))
        return self._entries(
            entity,
            [
                [
                    "OR",
                    [("write_date", ">=", low), ("write_date", "<", high)],
                    [("write_date", "=", None), ("create_date", ">=", low), ("create_date", "<", high)],
                ]
            ],
        )

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts of the company that take postings, by code."""
        company = self._company(entity)
        rows = self._search_read(
            "account.account",
            [("company", "=", company.id), ("type", "!=", None), ("closed", "!=", True), ("code", "!=", None)],
            ["code", "name"],
            company,
        )
        found = (GlAccount(entity, row["code"], row["name"], company.currency) for row in rows)
        return sorted(found, key=lambda account: account.code)

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Post once, by the run key.

        Raises Rejected (nothing stays behind), PeriodClosed, ErpUnavailable (not carried out), UnknownOutcome (a
        draft or the posted move may be there: the next call finds it).
        """
        company = self._company(journal.entity)
        self._check(journal, company)
        self._rpc.login()
        present = self.find_by_run_key(journal.run_key, entity=journal.entity)
        posted = self._posted(present, journal)
        if posted:
            drafts = [ref for ref in present if ref.state == "draft" and ref.run_key == journal.run_key]
            self._delete(drafts, company, fence)
            return posted
        if not any(self._is_whole(draft, journal) for draft in present):
            status = self.period_status(journal.entity, journal.date)
            if not status.is_open:
                raise _closed(journal, status)
            self._create_draft(journal, company, fence)
        with _written(journal):
            present = self.find_by_run_key(journal.run_key, entity=journal.entity)
            whole = [draft for draft in present if draft.state == "draft" and self._is_whole(draft, journal)]
        posted = self._posted(present, journal)
        if not posted and not whole:
            raise UnknownOutcome(
                "the draft just created is not to be found", record=journal.run_key, remedy="look it up again"
            )
        keep = posted or whole[0]
        others = [d for d in present if d.run_key == journal.run_key and d.state == "draft" and d.erp_id != keep.erp_id]
        left = self._delete(others, company, fence)
        if not posted:
            if left:
                # it may be there because it was posted meanwhile; ours would be the second
                raise UnknownOutcome(
                    "another draft of the journal cannot be deleted",
                    record=journal.run_key,
                    got=[f"move {draft.erp_id}" for draft in left],
                    remedy="the next try looks it up again; if it stays, delete it by hand in the ERP",
                )
            self._post_draft(keep, journal, company, fence)
        with _written(journal):
            return self._read_ref(keep, company)

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a posted journal, dated `on` (Tryton's cancel would date itself)."""
        original = self.read_back(ref)
        if original.state != "posted":
            raise Rejected("only a posted journal can be reversed", record=ref.run_key, got=original.state)
        return self.post(original.mirrored(on, run_key, short_key), fence=fence)

    def _check(self, journal: ErpJournal, company: _Company) -> None:
        """Refuse what the ERP would misread. Balance, digits and dates are the ERP's own to refuse."""
        if journal.currency != company.currency:
            raise Rejected(
                "a journal is in the entity's functional currency",
                record=journal.run_key,
                expected=company.currency,
                got=journal.currency,
            )
        if len(journal.lines) > self.config.max_lines:
            raise Rejected(
                "too many lines for one journal",
                record=journal.run_key,
                expected=f"at most {self.config.max_lines}",
                got=len(journal.lines),
                remedy="split the batch",
            )
        description = f"{journal.run_key} {journal.short_key}"
        if not _OURS.match(description):
            raise Rejected("not a run key", record=description, expected="TIEOUT/<slot>/v<n> T<15 hex digits>")
        for number, line in enumerate(journal.lines, 1):
            where = f"{journal.run_key} line {number}"
            if line.account not in company.accounts:
                raise Rejected(
                    "the ERP has no such account",
                    record=where,
                    got=line.account,
                    remedy=f"create it in company {journal.entity}, or map the role to another account",
                )
            if line.foreign_currency is not None and line.foreign_currency not in self._currencies():
                raise Rejected(
                    "the ERP has no such currency", record=where, got=line.foreign_currency, remedy="create it there"
                )
            for dimension, value in line.dimensions.items():
                if not value:
                    continue
                if dimension not in self.config.dimensions:
                    raise Rejected(
                        "the ERP keeps no such dimension",
                        record=where,
                        got=dimension,
                        expected=self.config.dimensions,
                        remedy="add it to `dimensions` in erp/tryton.yaml and to the ERP, or leave it out",
                    )
                if f"{dimension}:{value}" not in company.analytic:
                    raise Rejected("the ERP has no such dimension value", record=where, got=f"{dimension}:{value}")

    def _create_draft(self, journal: ErpJournal, company: _Company, fence: Fence) -> None:
        period = self._period(company, journal.date)
        if period is None:
            raise Rejected("the period just seen is gone from the ERP", record=journal.run_key, got=journal.date)
        values = {
            "company": company.id,
            "journal": self._journal(company),
            "period": period["id"],
            "date": journal.date,
            "description": f"{journal.run_key} {journal.short_key}",
            "lines": [["create", [self._line_values(line, journal, company) for line in journal.lines]]],
        }
        try:
            self._write("model.account.move.create", [values], company, fence)
        except RpcError as error:
            raise _refused(journal, error) from None

    def _line_values(self, line: ErpLine, journal: ErpJournal, company: _Company) -> dict[str, Any]:
        values: dict[str, Any] = {
            "account": company.accounts[line.account],
            "debit": line.debit,
            "credit": line.credit,
            "description": line.description or journal.narrative or None,
        }
        if line.foreign_currency is not None:
            values["second_currency"] = self._currencies()[line.foreign_currency]
            values["amount_second_currency"] = line.foreign_amount
        analytic = [
            {
                "account": company.analytic[f"{dimension}:{value}"],
                "debit": line.debit,
                "credit": line.credit,
                "date": journal.date,
            }
            for dimension, value in sorted(line.dimensions.items())
            if value
        ]
        if analytic:
            values["analytic_lines"] = [["create", analytic]]
        return values

    def _post_draft(self, draft: JournalRef, journal: ErpJournal, company: _Company, fence: Fence) -> None:
        try:
            self._write("model.account.move.post", [int(draft.erp_id)], company, fence)
        except Rejected as error:
            with _written(journal):
                state = self._read_ref(draft, company).state
            if state == "posted":
                return  # somebody finished what an earlier attempt of ours began
            self._delete([draft], company, fence)
            raise (_refused(journal, error) if isinstance(error, RpcError) else error) from None

    def _write(self, method: str, records: list[Any], company: _Company, fence: Fence) -> None:
        """Write; where another writer held a lock everything was rolled back, so the same call is made again."""
        for attempt in range(1, self.config.tries + 1):
            fence()
            try:
                self._rpc.write(method, records, context=company.context)
                return
            except LockNotObtained:
                if attempt == self.config.tries:
                    raise
                time.sleep(self.config.pause_ms / 1000 * attempt)

    def _delete(self, drafts: Iterable[JournalRef], company: _Company, fence: Fence) -> list[JournalRef]:
        """Delete drafts of ours; gives those of which it is not certain that they are gone."""
        left = []
        for draft in drafts:
            try:
                self._write("model.account.move.delete", [int(draft.erp_id)], company, fence)
            except ErpError as error:
                log.warning("draft %s of %s was not deleted: %s", draft.erp_id, draft.run_key, error.message)
                left.append(draft)
        return left

    def _is_whole(self, draft: JournalRef, journal: ErpJournal) -> bool:
        return draft.state == "draft" and same_content(self.read_back(draft), journal)

    def _posted(self, present: Iterable[JournalRef], journal: ErpJournal) -> JournalRef | None:
        posted = [ref for ref in present if ref.state == "posted" and ref.run_key == journal.run_key]
        if len(posted) > 1:
            raise Rejected(
                "the ERP holds this journal more than once",
                record=journal.run_key,
                got=[ref.number for ref in posted],
                remedy="reverse all but one by hand in the ERP, then resume",
            )
        return posted[0] if posted else None

    def _read_ref(self, ref: JournalRef, company: _Company) -> JournalRef:
        rows = self._search_read("account.move", [("id", "=", int(ref.erp_id))], _MOVE_FIELDS, company)
        if not rows:
            raise UnknownOutcome("the journal vanished from the ERP", record=ref.run_key)
        return _ref(ref.entity, rows[0], ref.run_key)

    # --- reading ----------------------------------------------------------------------------------------------

    def _search_read(
        self, model: str, domain: list[Any], fields: list[str], company: _Company | None
    ) -> list[dict[str, Any]]:
        """Every record of a domain in the order of ids, by keyset, a page at a time."""
        context = company.context if company else {"language": "en"}
        rows: list[dict[str, Any]] = []
        for page in self._pages(model, domain, fields, context, self.config.page):
            rows += page
        return rows

    def _pages(
        self, model: str, domain: list[Any], fields: list[str], context: dict[str, Any], size: int
    ) -> Iterator[list[dict[str, Any]]]:
        last = -1
        while True:
            page = self._rpc.read(
                f"model.{model}.search_read",
                [domain, ("id", ">", last)],
                0,
                size,
                [("id", "ASC")],
                fields,
                context=context,
            )
            if page:
                yield page
            if len(page) < size:
                return
            last = page[-1]["id"]

    def _entries(self, entity: str, domain: list[Any]) -> Iterator[list[GlEntry]]:
        company = self._company(entity)
        fields = [*_MOVE_FIELDS, "create_date", "write_date", "period.name"]
        where = [("company", "=", company.id), ("state", "=", "posted"), *domain]
        for moves in self._pages("account.move", where, fields, company.context, self.config.page):
            lines = self._lines([move["id"] for move in moves], company)
            yield [entry for move in moves for entry in _gl_entries(company, move, lines[move["id"]])]

    def _lines(self, moves: list[int], company: _Company) -> dict[int, list[tuple[int, ErpLine]]]:
        """Lines with their ids per move, in the order they were written."""
        fields = ["move", "account", "debit", "credit", "description"]
        fields += ["amount_second_currency", "second_currency.code"]
        dimensions = self._dimensions(moves, company) if self.config.dimensions else {}
        lines: dict[int, list[tuple[int, ErpLine]]] = {move: [] for move in moves}
        for page in self._pages("account.move.line", [("move", "in", moves)], fields, company.context, 5000):
            for row in page:
                line = ErpLine(
                    account=company.codes.get(row["account"], f"#{row['account']}"),
                    debit=_exact(row["debit"]),
                    credit=_exact(row["credit"]),
                    description=row["description"] or "",
                    dimensions=dimensions.get(row["id"], {}),
                    **_foreign(row),
                )
                lines[row["move"]].append((row["id"], line))
        return lines

    def _dimensions(self, moves: list[int], company: _Company) -> dict[int, dict[str, str]]:
        """Dimension values per line id."""
        names = {number: code for code, number in company.analytic.items()}
        found: dict[int, dict[str, str]] = {}
        rows = self._search_read(
            "analytic_account.line", [("move_line.move", "in", moves)], ["move_line", "account"], company
        )
        for row in rows:
            dimension, _, value = names.get(row["account"], "").partition(":")
            if dimension in self.config.dimensions:
                found.setdefault(row["move_line"], {})[dimension] = value
        return found

    def _totals(self, company: _Company, since: date, until: date) -> dict[str, tuple[Decimal, Decimal]]:
        """Debits and credits per account code; dates without a fiscal year make Tryton sum over all years."""
        context = {**company.context, "from_date": since, "to_date": until, "posted": True}
        rows = self._rpc.read(
            "model.account.account.read",
            sorted(company.codes),
            ["debit", "credit", "line_count"],
            context=context,
        )
        return {
            company.codes[row["id"]]: (_exact(row["debit"]), _exact(row["credit"])) for row in rows if row["line_count"]
        }

    def _period(self, company: _Company, on: date) -> dict[str, Any] | None:
        rows = self._search_read(
            "account.period",
            [
                ("company", "=", company.id),
                ("start_date", "<=", on),
                ("end_date", ">=", on),
                ("type", "=", "standard"),
            ],
            ["name", "start_date", "end_date", "state"],
            company,
        )
        return rows[0] if rows else None

    def _currencies(self) -> dict[str, int]:
        """Currency code → the ERP's id; asked only where a journal carries a foreign amount."""
        if self._currency_ids is None:
            rows = self._search_read("currency.currency", [], ["code"], None)
            self._currency_ids = {row["code"]: row["id"] for row in rows}
        return self._currency_ids

    def _journal(self, company: _Company) -> int:
        if self._journal_id is None:
            rows = self._search_read("account.journal", [("code", "=", self.config.journal)], ["code"], company)
            if not rows:
                raise ConfigError("the ERP has no such journal", got=self.config.journal)
            self._journal_id = int(rows[0]["id"])
        return self._journal_id

    def _company(self, entity: str) -> _Company:
        if entity not in self._companies:
            wanted = self.config.companies.get(entity)
            if wanted is None:
                raise ConfigError(
                    "no ERP company for this legal entity",
                    got=entity,
                    expected=list(self.config.companies),
                    remedy="add it to `companies` in erp/tryton.yaml",
                )
            self._companies[entity] = self._load_company(entity, wanted)
        return self._companies[entity]

    def _load_company(self, entity: str, wanted: str) -> _Company:
        rows = self._search_read(
            "company.company",
            ["OR", ("party.code", "=", wanted), ("party.name", "=", wanted)],
            ["currency.code"],
            None,
        )
        if len(rows) != 1:
            raise ConfigError("the ERP has not exactly one such company", record=entity, got=len(rows), expected=wanted)
        number = rows[0]["id"]
        bare = _Company(entity, number, rows[0]["currency."]["code"], {}, {}, {})
        accounts = self._search_read(
            "account.account", [("company", "=", number), ("type", "!=", None)], ["code", "closed"], bare
        )
        analytic: list[dict[str, Any]] = []
        if self.config.dimensions:
            analytic = self._search_read(
                "analytic_account.account", [("company", "=", number), ("type", "=", "normal")], ["code"], bare
            )
        return _Company(
            entity=entity,
            id=number,
            currency=bare.currency,
            accounts={row["code"]: row["id"] for row in accounts if row["code"] and not row["closed"]},
            codes={row["id"]: row["code"] or f"#{row['id']}" for row in accounts},
            analytic={row["code"]: row["id"] for row in analytic if row["code"]},
        )


@contextmanager
def _written(journal: ErpJournal) -> Iterator[None]:
    """Reads after something was written: their errors are no answer about the journal, so its outcome is unknown."""
    try:
        yield
    except UnknownOutcome:
        raise
    except ErpError as error:
        raise UnknownOutcome(
            "the ERP does not say what became of the journal",
            record=journal.run_key,
            got=str(error),
            remedy="look it up by its run key before anything else",
        ) from error


def same_content(left: ErpJournal, right: ErpJournal) -> bool:
    """Whether two journals say the same to the ledger: entity, key, currency, date; accounts, amounts, dimensions."""

    def content(journal: ErpJournal) -> tuple[Any, ...]:
        lines = sorted(
            (
                line.account,
                line.debit,
                line.credit,
                sorted((k, v) for k, v in line.dimensions.items() if v),
                line.foreign_currency or "",
                line.foreign_amount or ZERO,
            )
            for line in journal.lines
        )
        return journal.entity, journal.run_key, journal.currency, journal.date, lines

    return content(left) == content(right)


def _gl_entries(company: _Company, move: dict[str, Any], lines: list[tuple[int, ErpLine]]) -> Iterator[GlEntry]:
    ours = _OURS.match(move["description"] or "")
    changed = (move["write_date"] or move["create_date"]).replace(tzinfo=UTC)
    for position, (line_id, line) in enumerate(lines, 1):
        yield GlEntry(
            entity=company.entity,
            erp_id=str(line_id),
            journal_id=str(move["id"]),
            journal_number=move["number"],
            date=move["date"],
            posted_on=move["post_date"],
            period=move["period."]["name"],
            account=line.account,
            debit=line.debit,
            credit=line.credit,
            currency=company.currency,
            narrative=move["description"] or "",
            description=line.description,
            run_key=ours[1] if ours else None,
            line_no=position if ours else None,
            changed_at=changed,
            dimensions=line.dimensions,
            foreign_currency=line.foreign_currency,
            foreign_amount=line.foreign_amount,
        )


def _ref(entity: str, row: Mapping[str, Any], run_key: str) -> JournalRef:
    return JournalRef(entity, str(row["id"]), run_key, row["date"], row["state"], row["number"])


def _foreign(row: Mapping[str, Any]) -> dict[str, Any]:
    """Tryton's second currency of a line, as the port names it; nothing where the line has none."""
    if row.get("amount_second_currency") is None:
        return {}
    return {
        "foreign_currency": row["second_currency."]["code"],
        "foreign_amount": _exact(row["amount_second_currency"]),
    }


def _exact(value: Any) -> Decimal:
    """An amount as it came; anything but a Decimal would have lost its cents on the way."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int):
        return Decimal(value)
    raise ErpUnavailable("the ERP sent an amount that is no decimal", got=type(value).__name__)


def _reason(period: Mapping[str, Any]) -> str | None:
    return None if period["state"] == "open" else f"period {period['name']} is {period['state']} in the ERP"


def _closed(journal: ErpJournal, status: PeriodStatus) -> Rejected:
    kind = Rejected if status.state == "absent" else PeriodClosed
    remedy = (
        "create the fiscal year in the ERP" if status.state == "absent" else "reopen it, or post to the next period"
    )
    return kind("the date cannot be posted to", record=journal.run_key, got=status.reason, remedy=remedy)


def _refused(journal: ErpJournal, error: RpcError) -> Rejected:
    kind = PeriodClosed if _PERIOD_CLOSED.search(error.text) else Rejected
    return kind("the ERP refused the journal", record=journal.run_key, got=error.text)
