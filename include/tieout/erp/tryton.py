"""Tryton 8.2 as a ledger: moves of one journal, found again by the run key in their description.

Tryton has no idempotency of its own. A journal is therefore looked up first, created as a draft (or the oldest whole
draft of an earlier attempt is taken, and our others go), posted, and looked up again. Posted moves are never touched.
Once something was written, a question the ERP does not answer leaves the outcome unknown.

The user needs: read, write, create and delete on `account.move` (with its lines) and, where dimensions are used,
on `analytic_account.line`; read and create on `account.journal.period`; read on the chart, periods, journals and
companies; "company filter: all" where it posts to several companies.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import Field

from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.drafts import (
    again_if_locked,
    closed,
    entry_text,
    is_under,
    keys_in,
    mirror,
    post_once,
    reference,
    refuse_unfit,
)
from tieout.erp.jsonrpc import JsonRpc, RpcError
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
from tieout.errors import ConfigError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.settings import Connection

log = logging.getLogger("tieout.erp")

_READ_AT_ONCE = 100  # moves; at the most lines a move may have, an answer of some tens of megabytes
_BEGINNING = date(1900, 1, 1)
_PERIOD_CLOSED = re.compile(r"closed (journal-)?period|no open period|for field \"Period\"", re.IGNORECASE)
_MOVE_FIELDS = ["company", "number", "date", "post_date", "description", "state", "journal"]


class TrytonConfig(ErpConfig):
    """`erp/tryton.yaml`. A company is given by the code of its party, else its name.

    A dimension is an analytic root of the given code, a value the account `<dimension>:<value>` below it.
    """

    journal: str = "TIE"
    """Code of the journal that takes our moves; nobody else should use it."""
    page: int = Field(default=500, ge=1)
    """Moves read at once."""


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
            calls_per_second=config.calls_per_second,
            open_calls=config.open_calls,
        )
        self._companies: dict[str, _Company] = {}
        self._journal_id: int | None = None
        self._currency_ids: dict[str, int] | None = None
        self._periods: dict[tuple[str, date], int] = {}
        """Ids of periods seen open, by entity and date: asked for once, the ERP refuses what was closed since."""

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
                ours = keys_in(row["description"])
                if ours and is_under(ours[0], key):
                    found.append(_ref(company.entity, row, ours[0]))
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
        shut = self._search_read(
            "account.journal.period",
            [
                ("period", "=", row["id"]),
                ("journal", "=", self._journal(company)),
                ("state", "=", "closed"),
            ],
            ["state"],
            company,
        )
        if shut:
            reason = f"journal {self.config.journal} is closed in period {row['name']}"
            return PeriodStatus(entity, on, "closed", row["name"], row["start_date"], row["end_date"], reason)
        self._periods[entity, on] = row["id"]
        return status

    def _status_to_post(self, entity: str, on: date) -> PeriodStatus:
        if (entity, on) in self._periods:
            return PeriodStatus(entity, on, "open")
        return self.period_status(entity, on)

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The journal as Tryton holds it. Raises Rejected if there is no such move."""
        (shown,) = self.read_back_many([ref])
        if isinstance(shown, Rejected):
            raise shown
        return shown

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """Journals as Tryton holds them, in the order of `refs`: three calls for a hundred of them."""
        shown: dict[JournalRef, ErpJournal | Rejected] = {}
        for entity in dict.fromkeys(ref.entity for ref in refs):
            wanted, company = [ref for ref in refs if ref.entity == entity], self._company(entity)
            for start in range(0, len(wanted), _READ_AT_ONCE):
                numbers = {ref: int(ref.erp_id) for ref in wanted[start : start + _READ_AT_ONCE]}
                where = [("id", "in", list(numbers.values()))]
                moves = {row["id"]: row for row in self._search_read("account.move", where, _MOVE_FIELDS, company)}
                lines = self._lines(list(moves), company) if moves else {}
                for ref, number in numbers.items():
                    shown[ref] = _shown(ref, moves.get(number), lines.get(number, []), company)
        return [shown[ref] for ref in refs]

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
        """Post once, by the run key; see `tieout.erp.drafts.post_once`."""
        self._check(journal, self._company(journal.entity))
        return post_once(self, journal, fence, period=self._status_to_post)

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a posted journal, dated `on` (Tryton's cancel would date itself)."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def _check(self, journal: ErpJournal, company: _Company) -> None:
        """Refuse what the ERP would misread. Balance, digits and dates are the ERP's own to refuse."""
        refuse_unfit(
            journal,
            self.config,
            currency=company.currency,
            accounts=company.accounts,
            has_value=lambda dimension, value: f"{dimension}:{value}" in company.analytic,
            currencies=self._currencies,
        )
        reference(journal)

    def create_draft(self, journal: ErpJournal, fence: Fence) -> JournalRef:
        """Bring the journal into the ERP as a draft."""
        company = self._company(journal.entity)
        status = self._status_to_post(journal.entity, journal.date)
        if not status.is_open:
            raise closed(journal, status)
        values = {
            "company": company.id,
            "journal": self._journal(company),
            "period": self._periods[journal.entity, journal.date],
            "date": journal.date,
            "description": entry_text(journal),
            "lines": [["create", [self._line_values(line, journal, company) for line in journal.lines]]],
        }
        try:
            (made,) = self._write("model.account.move.create", [values], company, fence)
        except RpcError as error:
            self._periods.clear()
            raise _refused(journal, error) from None

        return JournalRef(journal.entity, str(made), journal.run_key, journal.date, "draft")

    def post_draft(self, draft: JournalRef, journal: ErpJournal, fence: Fence) -> None:
        """Post a draft."""
        try:
            self._write("model.account.move.post", [int(draft.erp_id)], self._company(draft.entity), fence)
        except RpcError as error:
            raise _refused(journal, error) from None

    def delete_draft(self, draft: JournalRef, fence: Fence) -> None:
        """Delete a draft."""
        self._write("model.account.move.delete", [int(draft.erp_id)], self._company(draft.entity), fence)

    def read_ref(self, ref: JournalRef) -> JournalRef:
        """State and number a move has now."""
        company = self._company(ref.entity)
        rows = self._search_read("account.move", [("id", "=", int(ref.erp_id))], _MOVE_FIELDS, company)
        if not rows:
            raise UnknownOutcome("the journal vanished from the ERP", record=ref.run_key)
        return _ref(ref.entity, rows[0], ref.run_key)

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

    def _write(self, method: str, records: list[Any], company: _Company, fence: Fence) -> Any:
        return again_if_locked(
            lambda: self._rpc.write(method, records, context=company.context),
            fence,
            tries=self.config.tries,
            pause=self.config.pause_ms / 1000,
        )

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
            self._companies[entity] = self._load_company(entity, self.config.company_of(entity))
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


def _gl_entries(company: _Company, move: dict[str, Any], lines: list[tuple[int, ErpLine]]) -> Iterator[GlEntry]:
    ours = keys_in(move["description"])
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
            run_key=ours[0] if ours else None,
            line_no=position if ours else None,
            changed_at=changed,
            dimensions=line.dimensions,
            foreign_currency=line.foreign_currency,
            foreign_amount=line.foreign_amount,
        )


def _shown(
    ref: JournalRef, row: Mapping[str, Any] | None, lines: list[tuple[int, ErpLine]], company: _Company
) -> ErpJournal | Rejected:
    """A move as the port's journal, or why it is none of ours to show."""
    if row is None:
        return Rejected("the ERP has no such journal", record=f"move {ref.erp_id}", expected=ref.run_key)
    if row["company"] != company.id:
        return Rejected("the journal belongs to another company", record=f"move {ref.erp_id}")
    ours = keys_in(row["description"])
    return ErpJournal(
        entity=ref.entity,
        run_key=ours[0] if ours else "",
        short_key=ours[1] if ours else "",
        date=row["date"],
        currency=company.currency,
        narrative="" if ours else row["description"] or "",
        lines=tuple(line for _, line in lines),
        state=row["state"],
        number=row["number"],
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


def _refused(journal: ErpJournal, error: RpcError) -> Rejected:
    kind = PeriodClosed if _PERIOD_CLOSED.search(error.text) else Rejected
    return kind("the ERP refused the journal", record=journal.run_key, got=error.text)


ADAPTER = Adapter(TrytonConfig, TrytonLedger, receivable_modes=("gl_control",))
