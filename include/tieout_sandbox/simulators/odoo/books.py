"""The records of a simulated Odoo in one SQLite file, and the rules its models hold them to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_TABLES = """
CREATE TABLE company (id INTEGER PRIMARY KEY, name TEXT UNIQUE, currency INTEGER, fiscalyear_lock TEXT, hard_lock TEXT);
CREATE TABLE currency (id INTEGER PRIMARY KEY, name TEXT, decimal_places INTEGER);
CREATE TABLE journal (id INTEGER PRIMARY KEY, company INTEGER, code TEXT, type TEXT);
CREATE TABLE account (id INTEGER PRIMARY KEY, company INTEGER, code TEXT, name TEXT, off INTEGER DEFAULT 0);
CREATE TABLE analytic (id INTEGER PRIMARY KEY, plan TEXT, code TEXT, name TEXT);
CREATE TABLE move (id INTEGER PRIMARY KEY AUTOINCREMENT, company INTEGER, journal INTEGER, date TEXT, ref TEXT,
  state TEXT, name TEXT, write_date TEXT, posted_before INTEGER DEFAULT 0);
CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT, move INTEGER, account INTEGER, name TEXT, debit TEXT,
  credit TEXT, analytic TEXT, write_date TEXT);
CREATE TABLE xmlid (id INTEGER PRIMARY KEY AUTOINCREMENT, module TEXT, name TEXT, model TEXT, res_id INTEGER,
  UNIQUE (module, name));
CREATE TABLE apikey (key TEXT PRIMARY KEY, login TEXT, user INTEGER, ended INTEGER DEFAULT 0);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT);
"""
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda has, wants: has == wants,
    "!=": lambda has, wants: has != wants,
    "in": lambda has, wants: has in wants,
    "not in": lambda has, wants: has not in wants,
    ">": lambda has, wants: has is not False and has > wants,
    ">=": lambda has, wants: has is not False and has >= wants,
    "<": lambda has, wants: has is not False and has < wants,
    "<=": lambda has, wants: has is not False and has <= wants,
}


class OdooError(Exception):
    """An exception of Odoo's: `name` as the wire tells it, `status` as JSON-2 answers it."""

    def __init__(self, name: str, message: str, status: int) -> None:
        super().__init__(message)
        self.name, self.message, self.status = name, message, status


def user_error(message: str) -> OdooError:
    return OdooError("odoo.exceptions.UserError", message, 422)


@dataclass
class Books:
    """A database of Odoo's. Every call is one transaction, and an error rolls it back."""

    path: Path
    version: int = 19
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        new = not self.path.exists()
        self.db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA synchronous = OFF")
        if new:
            with self.transaction():
                for statement in _TABLES.split(";"):
                    self.db.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.close()

    # --- what an administrator arranges -------------------------------------------------------------------------

    def found(
        self, company: str, currency: str, digits: int, accounts: Mapping[str, str], *, journal: str = "TIE"
    ) -> int:
        """A company with its chart and a miscellaneous journal; its id."""
        with self.transaction():
            money = self.insert("currency", name=currency, decimal_places=digits)
            number = self.insert("company", name=company, currency=money)
            self.insert("journal", company=number, code=journal, type="general")
            self.insert("journal", company=number, code="MISC", type="general")
            for code, name in accounts.items():
                self.insert("account", company=number, code=code, name=name)
        return number

    def dimension(self, plan: str, *values: str) -> None:
        with self.transaction():
            for value in values:
                self.insert("analytic", plan=plan, code=value, name=value.title())

    def key(self, key: str, login: str = "poster") -> None:
        with self.transaction():
            self.insert("apikey", key=key, login=login, user=7)

    def end_keys(self) -> None:
        self.db.execute("UPDATE apikey SET ended = 1")

    def lock(self, company: str, until: date | None, *, hard: bool = False) -> None:
        column = "hard_lock" if hard else "fiscalyear_lock"
        self.db.execute(f"UPDATE company SET {column} = ? WHERE name = ?", (until and until.isoformat(), company))

    def archive(self, code: str) -> None:
        self.db.execute("UPDATE account SET off = 1 WHERE code = ?", (code,))

    def setting(self, name: str, value: Any = None) -> Any:
        """A setting of the simulator's: written where a value is given; what it is."""
        if value is not None:
            self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, json.dumps(value)))
        row = self.db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def by_hand(self, company: str, on: date, ref: str, *lines: tuple[str, str, str], journal: str = "MISC") -> int:
        """An accountant's own posted entry: lines of (account, debit, credit)."""
        number = self.one("SELECT id FROM company WHERE name = ?", company)["id"]
        with self.transaction():
            book = self.one("SELECT id FROM journal WHERE company = ? AND code = ?", number, journal)["id"]
            move = self.insert(
                "move", company=number, journal=book, date=on.isoformat(), ref=ref, state="draft", name="/",
                write_date=self.stamp(),
            )  # fmt: skip
            for code, debit, credit in lines:
                account = self.one("SELECT id FROM account WHERE company = ? AND code = ?", number, code)["id"]
                self.insert(
                    "line", move=move, account=account, name=ref, debit=debit, credit=credit, write_date=self.stamp()
                )
            self.post(move)
        return move

    # --- methods of models --------------------------------------------------------------------------------------

    def call(self, model: str, method: str, ids: list[int] | None, context: Row, arguments: Row) -> Any:
        """A method of a model in a transaction of its own. Raises OdooError."""
        handler = getattr(self, f"_{model.replace('.', '_')}_{method}", None) or getattr(self, f"_any_{method}", None)
        if model not in MODELS:
            raise OdooError("werkzeug.exceptions.NotFound", f"the model {model!r} does not exist", 404)
        if handler is None or (method == "formatted_read_group" and self.version < 19):
            raise OdooError("builtins.AttributeError", f"The method '{model}.{method}' does not exist", 404)
        with self.transaction():
            return handler(model, ids or [], context, **arguments)

    def _any_fields_get(
        self, model: str, ids: list[int], context: Row, allfields: list[str], attributes: Any = None
    ) -> Row:
        known = MODELS[model](self)
        return {name: {"type": "any"} for name in allfields if name in known}

    def _any_search_read(
        self, model: str, ids: list[int], context: Row, domain: list[Any], fields: list[str],
        limit: int | None = None, order: str = "id asc", offset: int = 0,
    ) -> list[Row]:  # fmt: skip
        known = MODELS[model](self)
        for name in fields:
            if name not in known:
                raise OdooError("builtins.ValueError", f"Invalid field {name!r} on {model!r}", 500)
        matches = _matcher(model, domain, known)
        found = [row for row in self.records(model, context, domain) if matches(row)]
        found.sort(key=lambda row: row["id"])
        return [{"id": row["id"], **{f: row[f] for f in fields}} for row in found[offset : limit and offset + limit]]

    def _account_move_line_read_group(
        self, model: str, ids: list[int], context: Row, domain: list[Any], fields: list[str], groupby: list[str],
        lazy: bool = True,
    ) -> list[Row]:  # fmt: skip
        return [
            {"account_id": account, "debit": float(d), "credit": float(c), "__count": n, "__domain": domain}
            for account, d, c, n in self._sums(model, context, domain)
        ]

    def _account_move_line_formatted_read_group(
        self, model: str, ids: list[int], context: Row, domain: list[Any], groupby: list[str], aggregates: list[str]
    ) -> list[Row]:
        return [
            {"account_id": account, "debit:sum": float(d), "credit:sum": float(c), "__extra_domain": []}
            for account, d, c, _ in self._sums(model, context, domain)
        ]

    def _sums(self, model: str, context: Row, domain: list[Any]) -> list[tuple[list[Any], Decimal, Decimal, int]]:
        matches = _matcher(model, domain, MODELS[model](self))
        sums: dict[int, tuple[list[Any], Decimal, Decimal, int]] = {}
        for row in self.records(model, context, domain):
            if matches(row):
                account = row["account_id"]
                _, debit, credit, count = sums.get(account[0], (account, Decimal(0), Decimal(0), 0))
                debit, credit = debit + Decimal(repr(row["debit"])), credit + Decimal(repr(row["credit"]))
                sums[account[0]] = (account, debit, credit, count + 1)
        return list(sums.values())

    def _account_move_load(
        self, model: str, ids: list[int], context: Row, fields: list[str], data: list[list[str]]
    ) -> Row:
        """Creates, or changes what the external id names already; its errors are no errors of the call."""
        (values,) = (dict(zip(fields, row, strict=True)) for row in data)
        module, _, name = values["id"].partition(".")
        message = None
        book = self.db.execute("SELECT * FROM journal WHERE id = ?", (values["journal_id/.id"],)).fetchone()
        if book is None or book["company"] not in context["allowed_company_ids"]:
            message = f"No matching record found for database id '{values['journal_id/.id']}' in field 'Journal'"
        known = self.db.execute(
            "SELECT m.* FROM xmlid AS x JOIN move AS m ON m.id = x.res_id WHERE x.module = ? AND x.name = ?",
            (module, name),
        ).fetchone()
        if known is not None and known["state"] == "posted":
            message = "You cannot edit the journal of an account move if it has been posted once."
        if message:
            return {
                "ids": False,
                "messages": [{"type": "error", "record": 0, "rows": {"from": 0, "to": 0}, "message": message}],
            }
        if known is not None:
            self.db.execute(
                "UPDATE move SET date = ?, ref = ?, write_date = ? WHERE id = ?",
                (values["date"], values["ref"], self.stamp(), known["id"]),
            )
            return {"ids": [known["id"]], "messages": []}
        move = self.insert(
            "move", company=book["company"], journal=book["id"], date=values["date"], ref=values["ref"], state="draft",
            name="/", write_date=self.stamp(),
        )  # fmt: skip
        self.insert("xmlid", module=module, name=name, model=model, res_id=move)
        return {"ids": [move], "messages": []}

    def _account_move_write(self, model: str, ids: list[int], context: Row, vals: Row) -> bool:
        for number in ids:
            move = self.move(number)
            if move["state"] == "posted":
                raise user_error("You cannot modify a posted entry of this journal.")
            for command in vals["line_ids"]:
                if command[0] == 5:
                    self.db.execute("DELETE FROM line WHERE move = ?", (number,))
                elif command[0] == 0:
                    self._add_line(move, command[2])
            self._check_balanced(number)
            self.db.execute("UPDATE move SET write_date = ? WHERE id = ?", (self.stamp(), number))
        return True

    def _account_move_action_post(self, model: str, ids: list[int], context: Row) -> Any:
        if self.setting("confirm"):
            return {"type": "ir.actions.act_window", "name": "Confirm Entries", "res_model": "validate.account.move"}
        for number in ids:
            self.post(number)
        return False if self.version >= 17 else None

    def _account_move_button_draft(self, model: str, ids: list[int], context: Row) -> None:
        for number in ids:
            self.db.execute("UPDATE move SET state = 'draft', write_date = ? WHERE id = ?", (self.stamp(), number))

    def _account_move_unlink(self, model: str, ids: list[int], context: Row) -> bool:
        for number in ids:
            if self.move(number)["posted_before"]:
                raise user_error("You cannot delete an entry which has been posted once.")
            self.db.execute("DELETE FROM line WHERE move = ?", (number,))
            self.db.execute("DELETE FROM xmlid WHERE model = ? AND res_id = ?", (model, number))
            self.db.execute("DELETE FROM move WHERE id = ?", (number,))
        return True

    def post(self, number: int) -> None:
        """Post an entry: in a locked period its date is moved, and nobody is told."""
        move = self.move(number)
        if move["state"] != "draft":
            raise user_error(f"The entry {move['name']} (id {number}) must be in draft.")
        if not self.one("SELECT count(*) AS n FROM line WHERE move = ?", number)["n"]:
            raise user_error("You need to add a line before posting.")
        self._check_balanced(number)
        company = self.one("SELECT * FROM company WHERE id = ?", move["company"])
        on = move["date"]
        violated = [lock for lock in (company["fiscalyear_lock"], company["hard_lock"]) if lock and on <= lock]
        if violated:
            on = (date.fromisoformat(max(violated)) + timedelta(days=1)).isoformat()
        code = self.one("SELECT code FROM journal WHERE id = ?", move["journal"])["code"]
        prefix = f"{code}/{on[:4]}/{on[5:7]}/"
        taken = self.one(
            "SELECT count(*) AS n FROM move WHERE company = ? AND name LIKE ?", move["company"], f"{prefix}%"
        )
        self.db.execute(
            "UPDATE move SET state = 'posted', posted_before = 1, date = ?, name = ?, write_date = ? WHERE id = ?",
            (on, f"{prefix}{taken['n'] + 1:04}", self.stamp(), number),
        )

    def _add_line(self, move: Row, values: Row) -> None:
        analytic = "analytic_distribution" if self.version >= 16 else "analytic_account_id"
        unknown = values.keys() - {"account_id", "name", "debit", "credit", analytic}
        if unknown:
            raise OdooError("builtins.ValueError", f"Invalid field {min(unknown)!r} on model 'account.move.line'", 500)
        account = self.db.execute("SELECT * FROM account WHERE id = ?", (values["account_id"],)).fetchone()
        if account is None or account["company"] != move["company"]:
            raise user_error("Incompatible companies on records")
        if account["off"]:
            raise user_error("A line of this move is using an archived account, you cannot post it.")
        digits = self.one(
            "SELECT decimal_places FROM currency JOIN company ON company.currency = currency.id WHERE company.id = ?",
            move["company"],
        )["decimal_places"]
        amounts = {side: format(round(Decimal(repr(values[side])), digits), "f") for side in ("debit", "credit")}
        self.insert(
            "line", move=move["id"], account=account["id"], name=values["name"], write_date=self.stamp(),
            analytic=json.dumps(values.get(analytic)), **amounts,
        )  # fmt: skip

    def _check_balanced(self, number: int) -> None:
        rows = self.db.execute("SELECT debit, credit FROM line WHERE move = ?", (number,)).fetchall()
        difference = sum((Decimal(r["debit"]) - Decimal(r["credit"]) for r in rows), Decimal(0))
        if difference:
            raise user_error(f"The entry is not balanced. The difference between debit and credit is {difference}.")

    # --- records as the wire shows them -------------------------------------------------------------------------

    def records(self, model: str, context: Row, domain: list[Any]) -> list[Row]:
        """All records of a model; of entries and lines, only those that a plain condition on ids leaves."""
        match model:
            case "account.move":
                return [self._move(row) for row in self._by_id("move", "id", domain)]
            case "account.move.line":
                moves = {m["id"]: m for m in map(dict, self.db.execute("SELECT * FROM move"))}
                codes = {a["id"]: a for a in map(dict, self.db.execute("SELECT * FROM account"))}
                return [self._line(row, moves[row["move"]], codes) for row in self._by_id("line", "move", domain)]
            case "account.account":
                return [
                    {"id": a["id"], "code": a["code"], "name": a["name"], "company_id": a["company"],
                     "company_ids": [a["company"]], "deprecated": bool(a["off"]), "active": not a["off"]}
                    for a in self.db.execute("SELECT * FROM account")
                ]  # fmt: skip
            case "account.journal":
                return [
                    {"id": j["id"], "code": j["code"], "type": j["type"], "company_id": j["company"]}
                    for j in self.db.execute("SELECT * FROM journal")
                ]
            case "account.analytic.account":
                return [
                    {"id": a["id"], "code": a["code"], "name": a["name"], "company_id": False,
                     "plan_id.name": a["plan"], "group_id.name": a["plan"]}
                    for a in self.db.execute("SELECT * FROM analytic")
                ]  # fmt: skip
            case "res.company":
                return [
                    {"id": c["id"], "name": c["name"], "currency_id": [c["currency"], "…"], "parent_ids": [c["id"]],
                     "fiscalyear_lock_date": c["fiscalyear_lock"] or False, "hard_lock_date": c["hard_lock"] or False,
                     "user_fiscalyear_lock_date": c["fiscalyear_lock"] or False,
                     "user_hard_lock_date": c["hard_lock"] or False,
                     "period_lock_date": False}
                    for c in self.db.execute("SELECT * FROM company")
                ]  # fmt: skip
            case "res.currency":
                return [dict(row) for row in self.db.execute("SELECT * FROM currency")]
            case _:
                return [dict(row) for row in self.db.execute("SELECT * FROM xmlid")]

    def _by_id(self, table: str, column: str, domain: list[Any]) -> Iterator[Row]:
        named = {"id": "id", "move": "move_id"}[column]
        wanted = (
            [term[2] for term in domain if list(term)[:2] in ([named, "in"], [named, "="])] if "|" not in domain else []
        )
        ids = wanted[0] if wanted and isinstance(wanted[0], list) else wanted[:1]
        query = f"SELECT * FROM {table}" + (f" WHERE {column} IN ({', '.join('?' * len(ids))})" if wanted else "")
        return map(dict, self.db.execute(query, ids if wanted else ()))

    def _move(self, row: Row) -> Row:
        lines = self.db.execute("SELECT write_date FROM line WHERE move = ?", (row["id"],)).fetchall()
        return {
            "id": row["id"], "company_id": row["company"], "name": row["name"], "date": row["date"],
            "state": row["state"], "ref": row["ref"] or False, "write_date": row["write_date"],
            "line_ids.write_date": [r[0] for r in lines],
        }  # fmt: skip

    @staticmethod
    def _line(row: Row, move: Row, codes: Mapping[int, Row]) -> Row:
        account = codes[row["account"]]
        analytic = json.loads(row["analytic"] or "null")
        return {
            "id": row["id"], "move_id": [move["id"], move["name"]], "account_id": [account["id"], account["code"]],
            "debit": float(row["debit"]), "credit": float(row["credit"]), "name": row["name"] or False,
            "analytic_distribution": analytic or False, "analytic_account_id": [analytic, "…"] if analytic else False,
            "company_id": move["company"], "parent_state": move["state"], "date": move["date"],
        }  # fmt: skip

    def move(self, number: int) -> Row:
        row = self.db.execute("SELECT * FROM move WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise OdooError("odoo.exceptions.MissingError", "Record does not exist or has been deleted.", 404)
        return dict(row)

    def one(self, query: str, *values: Any) -> Row:
        return dict(self.db.execute(query, values).fetchone())

    def insert(self, table: str, **values: Any) -> int:
        marks = ", ".join("?" * len(values))
        cursor = self.db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
        return int(cursor.lastrowid or 0)

    def stamp(self) -> str:
        return f"{self.now():%Y-%m-%d %H:%M:%S}"


def _version_fields(books: Books, *always: str, **since: tuple[int, int]) -> frozenset[str]:
    """Fields a version has: `since` gives the first version and the last."""
    return frozenset((*always, *(n for n, (first, last) in since.items() if first <= books.version <= last)))


MODELS: dict[str, Callable[[Books], frozenset[str]]] = {
    "account.move": lambda b: _version_fields(
        b, "id", "company_id", "name", "date", "ref", "state", "write_date", "line_ids.write_date"
    ),
    "account.move.line": lambda b: _version_fields(
        b, "id", "move_id", "account_id", "debit", "credit", "name", "company_id", "parent_state", "date",
        analytic_distribution=(16, 99), analytic_account_id=(0, 15),
    ),
    "account.account": lambda b: _version_fields(
        b, "id", "code", "name", company_id=(0, 17), company_ids=(18, 99), deprecated=(0, 18), active=(19, 99)
    ),
    "account.journal": lambda b: _version_fields(b, "id", "code", "type", "company_id"),
    "account.analytic.account": lambda b: _version_fields(
        b, "id", "code", "name", "company_id", **{"plan_id.name": (16, 99), "group_id.name": (0, 15)}
    ),
    "res.company": lambda b: _version_fields(
        b, "id", "name", "currency_id", "fiscalyear_lock_date", period_lock_date=(0, 17), hard_lock_date=(18, 99),
        user_fiscalyear_lock_date=(18, 99), user_hard_lock_date=(18, 99), parent_ids=(17, 99),
    ),
    "res.currency": lambda b: _version_fields(b, "id", "name", "decimal_places"),
    "ir.model.data": lambda b: _version_fields(b, "id", "module", "name", "model", "res_id"),
}  # fmt: skip
"""What each model's fields are; all other models and fields do not exist here."""


def _matcher(model: str, domain: list[Any], known: frozenset[str]) -> Callable[[Row], bool]:
    """A domain in prefix notation as a test of one record. Raises OdooError for an unknown field."""

    def leaf(term: list[Any]) -> Callable[[Row], bool]:
        name, operator, wants = term
        if name not in known:
            raise OdooError("builtins.ValueError", f"Invalid field {model}.{name} in leaf {tuple(term)}", 500)
        if operator == "=like":
            prefix = wants.rstrip("%")
            return lambda row: isinstance(row[name], str) and row[name].startswith(prefix)
        compare = OPERATORS[operator]

        def matches(row: Row) -> bool:
            has = row[name]
            if name == "company_ids":
                return any(one in wants for one in has)
            if isinstance(has, list):  # lines of an entry: any of them; a relation: its id
                return compare(has[0], wants) if name.endswith("_id") else any(compare(one, wants) for one in has)
            return compare(has, wants)

        return matches

    def expression(at: int) -> tuple[Callable[[Row], bool], int]:
        term = domain[at]
        if term not in ("&", "|"):
            return leaf(term), at + 1
        left, at = expression(at + 1)
        right, at = expression(at)
        return ((lambda r: left(r) and right(r)) if term == "&" else (lambda r: left(r) or right(r))), at

    tests, at = [], 0
    while at < len(domain):
        test, at = expression(at)
        tests.append(test)
    return lambda row: all(test(row) for test in tests)
