"""Odoo 14 and later as a ledger: entries of one miscellaneous journal, each under an external id made of its run key.

Odoo lets the same reference be posted any number of times, so the external id (`ir.model.data`, unique) is the hard
key: `load` makes the entry's draft under it or finds the one there is, a second call writes its lines, the third posts
it. The reference carries the run key too, which finds copies that have no external id. Posting into a locked period
does not fail in Odoo, it moves the date; so the lock dates are read right before, and the date is compared after.

The user needs: the group *Billing administrator / Accountant* (create, write, delete and post journal entries), read
on the chart, journals, analytic plans and accounts, in each company it posts to.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
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
    written,
)
from tieout.erp.http import LOOK_IT_UP, ErpHttp
from tieout.erp.odoo_rpc import OdooRpc, Wire
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
from tieout.errors import ConfigError, ErpError, ErpUnavailable, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.settings import Connection

_MODULE = "tieout"
_MOVE_FIELDS = ["company_id", "name", "date", "ref", "state"]
_LOCKS = {
    "user_hard_lock_date": "locked",
    "hard_lock_date": "locked",
    "user_fiscalyear_lock_date": "closed",
    "fiscalyear_lock_date": "closed",
    "period_lock_date": "closed",
}
"""Lock dates that hold for entries without taxes, and what a date up to one is. Those of the user know exceptions."""
_ACCOUNT_OFF = "deprecated"
_PLANS_SINCE, _GROUPED_SINCE = 16, 19
_LINES_AT_ONCE = 5000


class OdooConfig(ErpConfig):
    """`erp/odoo.yaml`. A company is given by its name.

    A dimension is an analytic plan of the given name, a value the analytic account in it with that code, else name.
    """

    api: Wire = "auto"
    """`json-2` (19 and later), `json-rpc`, or what the server's version has."""
    journal: str = "TIE"
    """Code of the miscellaneous journal that takes our entries in each company; nobody else should use it."""
    page: int = Field(default=500, ge=1)
    """Entries read at once."""


@dataclass(frozen=True, slots=True)
class _Company:
    """What the ERP knows of a legal entity, read once."""

    entity: str
    id: int
    currency: str
    digits: int
    journal: int
    accounts: Mapping[str, int]
    codes: Mapping[int, str]
    analytic: Mapping[tuple[str, str], int]

    @property
    def context(self) -> dict[str, Any]:
        """The context every call carries; archived accounts are seen as well."""
        return _context(self.id)

    def amount(self, value: Any) -> Decimal:
        """An amount of an answer at the currency's digits. Raises ErpUnavailable for one that has more."""
        exact = Decimal(value or 0)
        rounded = exact.quantize(Decimal(1).scaleb(-self.digits))
        if abs(exact - rounded) > Decimal("0.000001"):
            raise ErpUnavailable("the ERP sent an amount with more digits than its currency has", got=str(exact))
        return rounded


class OdooLedger:
    """The general ledgers of the companies of one Odoo database. Implements `tieout.erp.port.Ledger`."""

    def __init__(self, connection: Connection, config: OdooConfig) -> None:
        self.config = config
        self._rpc = OdooRpc(connection, ErpHttp.of(connection.host, config), wire=config.api)
        self._companies: dict[str, _Company] = {}
        self._locks: frozenset[str] = frozenset()
        """The fields of a company that this version has for lock dates."""

    def close(self) -> None:
        """Drop the connections."""
        self._rpc.close()

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Entries of ours whose run key is `key` or starts with it at a `/`, drafts included, oldest first.

        Found by external id, and by reference: a copy made by hand, or by a double post, has only that.
        """
        bare = key.removeprefix("TIEOUT/")
        named = entity or bare.partition("/")[0]
        entities = [named] if named in self.config.companies else list(self.config.companies)
        found: list[JournalRef] = []
        for one in entities:
            company = self._company(one)
            keys = self._external_keys([("name", "=like", f"{bare}%")], company)
            domain = ["|", ("id", "in", sorted(keys)), ("ref", "=like", f"TIEOUT/{bare}%")]
            for move in self._moves([("state", "in", ["draft", "posted"]), *domain], company):
                ours = keys.get(move["id"]) or _key_of(move)
                if ours and is_under(ours, key):
                    found.append(_ref(company.entity, move, ours))
        return found

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """The month around `on`, cut where a lock date falls into it; Odoo has no periods of its own."""
        company = self._company(entity)
        first, last = on.replace(day=1), on.replace(day=monthrange(on.year, on.month)[1])
        state, reason = "open", None
        for until, what, name in self._lock_dates(company):
            if on <= until:
                last = min(last, until)
                if state != "locked":
                    state, reason = what, f"{name} is {until} in the ERP"
            else:
                first = max(first, until + timedelta(days=1))
        return PeriodStatus(entity, on, state, f"{on:%Y-%m}", first, last, reason)  # type: ignore[arg-type]

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The entry as Odoo holds it. Raises Rejected if there is no such entry."""
        (found,) = self.read_back_many([ref])
        if isinstance(found, Rejected):
            raise found
        return found

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """`read_back` of each, in the order of `refs`, in a few calls; for one that is gone, the refusal."""
        found: dict[tuple[str, str], ErpJournal] = {}
        for entity in sorted({ref.entity for ref in refs}):
            company = self._company(entity)
            ids = sorted({int(ref.erp_id) for ref in refs if ref.entity == entity})
            moves = [m for m in self._moves([("id", "in", ids)], company) if m["state"] in ("draft", "posted")]
            keys = self._external_keys([("res_id", "in", ids)], company)
            lines = self._lines([move["id"] for move in moves], company)
            for move in moves:
                found[entity, str(move["id"])] = _journal(company, move, keys, lines[move["id"]])
        gone = "the ERP has no such journal, or it was cancelled"
        return [
            found.get((ref.entity, ref.erp_id)) or Rejected(gone, record=f"move {ref.erp_id}", expected=ref.run_key)
            for ref in refs
        ]

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """Opening, movement and closing per account, posted entries only."""
        company = self._company(entity)
        before = [("date", "<", since.isoformat())] if since else None
        opening = self._totals(company, before) if before else {}
        within = [("date", "<=", on.isoformat()), *([("date", ">=", since.isoformat())] if since else [])]
        movement = self._totals(company, within)
        balances = []
        for code in sorted(opening.keys() | movement.keys()):
            before_debit, before_credit = opening.get(code, (ZERO, ZERO))
            debit, credit = movement.get(code, (ZERO, ZERO))
            balances.append(Balance(entity, code, company.currency, before_debit - before_credit, debit, credit))
        return balances

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted lines dated from `since` to `until`, both included."""
        return self._entries(entity, [("date", ">=", since.isoformat()), ("date", "<=", until.isoformat())])

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of entries that, or a line of which, were written in `[since, until)`."""
        low, high = (f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for instant in (since, until))
        written = [["&", (field, ">=", low), (field, "<", high)] for field in ("write_date", "line_ids.write_date")]
        return self._entries(entity, ["|", *written[0], *written[1]])

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts of the company that take postings, by code."""
        company = self._company(entity)
        rows = self._rows(
            "account.account", [("id", "in", sorted(company.accounts.values()))], ["code", "name"], company.context
        )
        return sorted((GlAccount(entity, r["code"], r["name"], company.currency) for r in rows), key=lambda a: a.code)

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Post once, by the run key; see `tieout.erp.drafts.post_once`."""
        company = self._company(journal.entity)
        refuse_unfit(
            journal,
            self.config,
            currency=company.currency,
            accounts=company.accounts,
            has_value=lambda dimension, value: (dimension, value) in company.analytic,
        )
        reference(journal)
        if "." in journal.run_key:
            raise Rejected("no external id can be made of the run key", record=journal.run_key, expected="no full stop")
        return post_once(self, journal, fence)

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post our own mirror of a posted entry, dated `on` (Odoo's wizard fails where the original is locked)."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def create_draft(self, journal: ErpJournal, fence: Fence) -> JournalRef:
        """Make the draft under its external id, or find it, then give it exactly the journal's lines."""
        company = self._company(journal.entity)
        header = {
            "id": _external_id(journal.run_key),
            "journal_id/.id": str(company.journal),
            "date": journal.date.isoformat(),
            "ref": entry_text(journal),
        }
        loaded = self._write(company, fence, "account.move", "load", fields=list(header), data=[list(header.values())])
        if not isinstance(loaded, dict) or not loaded.get("ids"):
            messages = loaded.get("messages", []) if isinstance(loaded, dict) else []
            raise Rejected(
                "the ERP refused the journal",
                record=journal.run_key,
                got="; ".join(str(m.get("message")) for m in messages if isinstance(m, dict)) or "no reason given",
            )
        draft = int(loaded["ids"][0])
        lines = [[5, 0, 0], *([0, 0, self._line(line, journal, company)] for line in journal.lines)]
        try:
            self._write(company, fence, "account.move", "write", [draft], vals={"line_ids": lines})
        except Rejected:
            # half a draft does not stay behind; if it cannot be deleted, the next try finds it
            with suppress(ErpError):
                self._write(company, fence, "account.move", "unlink", [draft])
            raise
        return JournalRef(journal.entity, str(draft), journal.run_key, journal.date, "draft")

    def post_draft(self, draft: JournalRef, journal: ErpJournal, fence: Fence) -> None:
        """Post a draft, if its date is still open: Odoo would move the date of one that is locked, and say nothing."""
        company = self._company(draft.entity)
        status = self.period_status(draft.entity, journal.date)
        if not status.is_open:
            raise closed(journal, status)
        asked = self._write(company, fence, "account.move", "action_post", [int(draft.erp_id)])
        if isinstance(asked, dict):
            with written(journal):
                state = self.read_ref(draft).state
            if state == "draft":
                raise Rejected(
                    "the ERP wants a person to confirm the posting",
                    record=journal.run_key,
                    got=str(asked.get("name") or asked.get("res_model") or "a dialogue"),
                    remedy="switch that confirmation off for the poster's user",
                )

    def delete_draft(self, draft: JournalRef, fence: Fence) -> None:
        """Delete a draft; its external id goes with it."""
        self._write(self._company(draft.entity), fence, "account.move", "unlink", [int(draft.erp_id)])

    def read_ref(self, ref: JournalRef) -> JournalRef:
        """State, number and date an entry has now."""
        moves = self._moves([("id", "=", int(ref.erp_id))], self._company(ref.entity))
        if not moves or moves[0]["state"] not in ("draft", "posted"):
            raise UnknownOutcome("the journal vanished from the ERP", record=ref.run_key, remedy=LOOK_IT_UP)
        return _ref(ref.entity, moves[0], ref.run_key)

    def _write(
        self, company: _Company, fence: Fence, model: str, method: str, ids: list[int] | None = None, **arguments: Any
    ) -> Any:
        context = {**company.context, "default_move_type": "entry"}
        return again_if_locked(
            lambda: self._rpc.write(model, method, ids, context=context, **arguments),
            fence,
            tries=self.config.tries,
            pause=self.config.pause_ms / 1000,
        )

    def _line(self, line: ErpLine, journal: ErpJournal, company: _Company) -> dict[str, Any]:
        values: dict[str, Any] = {
            "account_id": company.accounts[line.account],
            "name": line.description or journal.narrative or reference(journal),
            "debit": line.debit,
            "credit": line.credit,
        }
        analytic = [company.analytic[item] for item in sorted(line.dimensions.items()) if item[1]]
        if analytic and self._rpc.version >= _PLANS_SINCE:
            values["analytic_distribution"] = {str(account): 100 for account in analytic}
        elif analytic:
            values["analytic_account_id"] = analytic[0]
        return values

    # --- reading ----------------------------------------------------------------------------------------------

    def _rows(self, model: str, domain: list[Any], fields: list[str], context: dict[str, Any]) -> list[dict[str, Any]]:
        """Every record of a domain in the order of ids."""
        return [row for page in self._pages(model, domain, fields, context, _LINES_AT_ONCE) for row in page]

    def _pages(
        self, model: str, domain: list[Any], fields: list[str], context: dict[str, Any], size: int
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages by keyset: what is added meanwhile shifts nothing."""
        last = 0
        while True:
            page = self._rpc.read(
                model,
                "search_read",
                domain=[("id", ">", last), *domain],
                fields=fields,
                limit=size,
                order="id asc",
                context=context,
            )
            if page:
                yield page
            if len(page) < size:
                return
            last = page[-1]["id"]

    def _moves(self, domain: list[Any], company: _Company) -> list[dict[str, Any]]:
        return self._rows("account.move", [("company_id", "=", company.id), *domain], _MOVE_FIELDS, company.context)

    def _external_keys(self, domain: list[Any], company: _Company) -> dict[int, str]:
        """Run keys by the entry they are the external id of."""
        ours = [("module", "=", _MODULE), ("model", "=", "account.move"), *domain]
        rows = self._rows("ir.model.data", ours, ["name", "res_id"], company.context)
        return {row["res_id"]: f"TIEOUT/{row['name']}" for row in rows}

    def _entries(self, entity: str, domain: list[Any]) -> Iterator[list[GlEntry]]:
        company = self._company(entity)
        where = [("company_id", "=", company.id), ("state", "=", "posted"), *domain]
        fields = [*_MOVE_FIELDS, "write_date"]
        for moves in self._pages("account.move", where, fields, company.context, self.config.page):
            ids = [move["id"] for move in moves]
            keys, lines = self._external_keys([("res_id", "in", ids)], company), self._lines(ids, company)
            yield [entry for move in moves for entry in _gl_entries(company, move, keys, lines[move["id"]])]

    def _lines(self, moves: list[int], company: _Company) -> dict[int, list[tuple[int, ErpLine]]]:
        """Lines with their ids per entry, in the order they were written; headings and notes are none."""
        analytic = "analytic_distribution" if self._rpc.version >= _PLANS_SINCE else "analytic_account_id"
        fields = ["move_id", "account_id", "debit", "credit", "name", *([analytic] if self.config.dimensions else [])]
        lines: dict[int, list[tuple[int, ErpLine]]] = {move: [] for move in moves}
        domain = [("move_id", "in", moves), ("account_id", "!=", False)]
        names = {number: item for item, number in company.analytic.items()}
        for row in self._rows("account.move.line", domain, fields, company.context) if moves else []:
            account = row["account_id"][0]
            line = ErpLine(
                account=company.codes.get(account, f"#{account}"),
                debit=company.amount(row["debit"]),
                credit=company.amount(row["credit"]),
                description=row["name"] or "",
                dimensions=_dimensions(row.get(analytic), names),
            )
            lines[row["move_id"][0]].append((row["id"], line))
        return lines

    def _totals(self, company: _Company, domain: list[Any]) -> dict[str, tuple[Decimal, Decimal]]:
        """Debits and credits per account code."""
        where = [("company_id", "=", company.id), ("parent_state", "=", "posted"), *domain]
        if self._rpc.version >= _GROUPED_SINCE:
            rows = self._rpc.read(
                "account.move.line",
                "formatted_read_group",
                domain=where,
                groupby=["account_id"],
                aggregates=["debit:sum", "credit:sum"],
                context=company.context,
            )
            sums = [(row["account_id"], row["debit:sum"], row["credit:sum"]) for row in rows]
        else:
            rows = self._rpc.read(
                "account.move.line",
                "read_group",
                domain=where,
                fields=["debit:sum", "credit:sum"],
                groupby=["account_id"],
                lazy=False,
                context=company.context,
            )
            sums = [(row["account_id"], row["debit"], row["credit"]) for row in rows]
        return {
            company.codes.get(account[0], f"#{account[0]}"): (company.amount(debit), company.amount(credit))
            for account, debit, credit in sums
            if account
        }

    def _lock_dates(self, company: _Company) -> list[tuple[date, str, str]]:
        """Lock dates that hold for our entries: until when, what a date up to it is, the field's name."""
        known = self._locks = self._locks or self._fields("res.company", [*_LOCKS, "parent_ids"], company.context)
        # what holds for the user knows exceptions and parent companies; before 18 the parents are asked themselves
        names = [n for n in _LOCKS if n in known and (n.startswith("user_") or f"user_{n}" not in known)]
        parents = "parent_ids" in known and not any(name.startswith("user_") for name in names)
        fields = [*names, *(["parent_ids"] if parents else [])]
        rows = self._rows("res.company", [("id", "=", company.id)], fields, company.context)
        if parents and rows and rows[0]["parent_ids"]:
            rows += self._rows("res.company", [("id", "in", rows[0]["parent_ids"])], names, company.context)
        return [(date.fromisoformat(row[n]), _LOCKS[n], n) for row in rows for n in names if row[n]]

    def _fields(self, model: str, names: list[str], context: dict[str, Any]) -> frozenset[str]:
        """Which of these fields a model has in this version."""
        return frozenset(self._rpc.read(model, "fields_get", allfields=names, attributes=["type"], context=context))

    def _company(self, entity: str) -> _Company:
        if entity not in self._companies:
            self._companies[entity] = self._load_company(entity, self.config.company_of(entity))
        return self._companies[entity]

    def _load_company(self, entity: str, wanted: str) -> _Company:
        rows = self._rows("res.company", [("name", "=", wanted)], ["currency_id"], {"lang": "en_US"})
        if len(rows) != 1:
            raise ConfigError("the ERP has not exactly one such company", record=entity, got=len(rows), expected=wanted)
        number, currency = rows[0]["id"], rows[0]["currency_id"]
        context = _context(number)
        (money,) = self._rows("res.currency", [("id", "=", currency[0])], ["name", "decimal_places"], context)
        own = ("company_id", "=", number)
        journals = self._rows("account.journal", [own, ("code", "=", self.config.journal)], ["type"], context)
        if len(journals) != 1:
            raise ConfigError("the ERP has no such journal", record=entity, got=self.config.journal)
        known = self._fields("account.account", ["company_ids", "active", _ACCOUNT_OFF], context)
        of_company = ("company_ids", "in", [number]) if "company_ids" in known else own
        switches = [name for name in ("active", _ACCOUNT_OFF) if name in known]
        accounts = self._rows("account.account", [of_company], ["code", *switches], context)
        return _Company(
            entity=entity,
            id=number,
            currency=money["name"],
            digits=money["decimal_places"],
            journal=journals[0]["id"],
            accounts={row["code"]: row["id"] for row in accounts if row["code"] and _in_use(row)},
            codes={row["id"]: row["code"] or f"#{row['id']}" for row in accounts},
            analytic=self._analytic(number, context) if self.config.dimensions else {},
        )

    def _analytic(self, company: int, context: dict[str, Any]) -> dict[tuple[str, str], int]:
        """Analytic accounts by dimension and value; before 16 there is one dimension, by group instead of plan."""
        dimensions = self.config.dimensions
        plans = self._rpc.version >= _PLANS_SINCE
        if not plans and len(dimensions) > 1:
            raise ConfigError(
                "this Odoo keeps one analytic account per line",
                got=tuple(dimensions),
                expected="one dimension, or Odoo 16",
            )
        found = {}
        for dimension, name in dimensions.items():
            domain = [("company_id", "in", [False, company]), ("plan_id.name" if plans else "group_id.name", "=", name)]
            for row in self._rows("account.analytic.account", domain, ["code", "name"], context):
                found[dimension, row["code"] or row["name"]] = row["id"]
        return found


def _context(company: int) -> dict[str, Any]:
    return {"allowed_company_ids": [company], "active_test": False, "lang": "en_US", "tracking_disable": True}


def _external_id(run_key: str) -> str:
    return f"{_MODULE}.{run_key.removeprefix('TIEOUT/')}"


def _key_of(move: Mapping[str, Any]) -> str | None:
    keys = keys_in(move["ref"] or None)
    return keys[0] if keys else None


def _in_use(account: Mapping[str, Any]) -> bool:
    return bool(account.get("active", True)) and not account.get(_ACCOUNT_OFF, False)


def _number(move: Mapping[str, Any]) -> str | None:
    return move["name"] if move["state"] == "posted" else None


def _ref(entity: str, move: Mapping[str, Any], run_key: str) -> JournalRef:
    return JournalRef(entity, str(move["id"]), run_key, date.fromisoformat(move["date"]), move["state"], _number(move))


def _journal(
    company: _Company, move: Mapping[str, Any], keys: Mapping[int, str], lines: list[tuple[int, ErpLine]]
) -> ErpJournal:
    run_key = keys.get(move["id"]) or _key_of(move)
    return ErpJournal(
        entity=company.entity,
        run_key=run_key or "",
        short_key=short_key(run_key) if run_key else "",
        date=date.fromisoformat(move["date"]),
        currency=company.currency,
        narrative="" if run_key else move["ref"] or "",
        lines=tuple(line for _, line in lines),
        state=move["state"],
        number=_number(move),
    )


def _gl_entries(
    company: _Company, move: Mapping[str, Any], keys: Mapping[int, str], lines: list[tuple[int, ErpLine]]
) -> Iterator[GlEntry]:
    run_key = keys.get(move["id"]) or _key_of(move)
    on = date.fromisoformat(move["date"])
    changed = datetime.fromisoformat(move["write_date"]).replace(tzinfo=UTC)
    for position, (line_id, line) in enumerate(lines, 1):
        yield GlEntry(
            entity=company.entity,
            erp_id=str(line_id),
            journal_id=str(move["id"]),
            journal_number=_number(move),
            date=on,
            posted_on=None,
            period=f"{on:%Y-%m}",
            account=line.account,
            debit=line.debit,
            credit=line.credit,
            currency=company.currency,
            narrative=move["ref"] or "",
            description=line.description,
            run_key=run_key,
            line_no=position if run_key else None,
            changed_at=changed,
            dimensions=line.dimensions,
        )


def _dimensions(value: Any, names: Mapping[int, tuple[str, str]]) -> dict[str, str]:
    """Dimensions of a line from its analytic distribution (`{"4,7": 100}`), or its one analytic account (`[4, name]`).

    A part of less than the whole is told with its percentage, so that it equals nothing we posted.
    """
    if not value:
        return {}
    shares = {str(value[0]): 100} if isinstance(value, list) else value
    found: dict[str, str] = {}
    for accounts, share in shares.items():
        for account in accounts.split(","):
            dimension, named = names.get(int(account), ("", ""))
            if dimension:
                told = named if Decimal(share) == 100 else f"{named} {share}%"
                found[dimension] = f"{found[dimension]}, {told}" if dimension in found else told
    return found


ADAPTER = Adapter(OdooConfig, OdooLedger, receivable_modes=("gl_control",))
