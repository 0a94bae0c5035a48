"""A ledger in one SQLite file behind the ERP port: survives the death of its client, and lies on request.

The place for what no real ERP does on command: answers lost before or after the work, a journal stored twice or not
at all, another amount, another date. `FileLedger.lie` names the fault, `on_step` is called at each step by name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

from tieout.erp.port import (
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
from tieout.errors import ErpUnavailable, Rejected, UnknownOutcome
from tieout_sandbox.company.model import MoveLine

Lie = Literal[
    "down", "reject", "lose_request", "lose_answer", "store_nothing", "store_twice", "other_amount", "other_date",
    "other_account", "drop_line", "drop_dimension", "leave_draft",
]  # fmt: skip

_TABLES = """
CREATE TABLE IF NOT EXISTS move (id INTEGER PRIMARY KEY, entity TEXT, run_key TEXT, short_key TEXT, on_date TEXT,
  currency TEXT, narrative TEXT, state TEXT);
CREATE TABLE IF NOT EXISTS line (move_id INTEGER, line_no INTEGER, account TEXT, debit TEXT, credit TEXT, text TEXT,
  dimensions TEXT, foreign_currency TEXT, foreign_amount TEXT);
"""


class FileLedger:
    """Implements `tieout.erp.Ledger` over a file. `lies` are used up one per post, oldest first."""

    def __init__(self, path: Path, *, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.path, self.on_step, self.lies = path, on_step, list[Lie]()
        with closing(self._connect()) as db:
            db.executescript(_TABLES)

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        self._ask("find")
        key = key if key.startswith("TIEOUT/") else f"TIEOUT/{key}"
        with closing(self._connect()) as db:
            rows = db.execute(
                "SELECT * FROM move WHERE substr(run_key, 1, ?) = ? ORDER BY id", (len(key), key)
            ).fetchall()
        return [self._ref(r) for r in rows if entity is None or r["entity"] == entity]

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        self._ask("post")
        lie = self.lies.pop(0) if self.lies else None
        if lie == "down":
            raise ErpUnavailable("the ERP does not answer")
        if lie == "reject":
            raise Rejected("the ERP says no", record=journal.run_key)
        if lie == "lose_request":
            raise UnknownOutcome("the connection was cut", record=journal.run_key)
        fence()
        with closing(self._connect()) as db:
            known = db.execute("SELECT * FROM move WHERE run_key = ?", (journal.run_key,)).fetchone()
            if known is not None:
                db.execute("UPDATE move SET state = 'posted' WHERE id = ?", (known["id"],))
                db.commit()
                return self._ref(db.execute("SELECT * FROM move WHERE id = ?", (known["id"],)).fetchone())
            ids = [] if lie == "store_nothing" else [self._store(db, self._twisted(journal, lie), lie)]
            if lie == "store_twice":
                ids.append(self._store(db, journal, lie))
            db.commit()
            self.on_step("stored")
            if lie == "lose_answer":
                raise UnknownOutcome("the answer was lost", record=journal.run_key)
            if not ids:
                return JournalRef(journal.entity, "0", journal.run_key, journal.date, "posted", "2026-0")
            return self._ref(db.execute("SELECT * FROM move WHERE id = ?", (ids[0],)).fetchone())

    def read_back(self, ref: JournalRef) -> ErpJournal:
        self._ask("read")
        with closing(self._connect()) as db:
            move = db.execute("SELECT * FROM move WHERE id = ?", (int(ref.erp_id),)).fetchone()
            if move is None:
                raise Rejected("no such journal", record=ref.erp_id)
            lines = db.execute("SELECT * FROM line WHERE move_id = ? ORDER BY line_no", (move["id"],)).fetchall()
        return ErpJournal(
            entity=move["entity"],
            run_key=move["run_key"],
            short_key=move["short_key"],
            date=date.fromisoformat(move["on_date"]),
            currency=move["currency"],
            narrative=move["narrative"],
            lines=tuple(
                ErpLine(
                    r["account"],
                    Decimal(r["debit"]),
                    Decimal(r["credit"]),
                    r["text"],
                    _dimensions(r["dimensions"]),
                    r["foreign_currency"],
                    None if r["foreign_amount"] is None else Decimal(r["foreign_amount"]),
                )
                for r in lines
            ),
            state=move["state"],
            number=self._number(move),
        )

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        return self.post(self.read_back(ref).mirrored(on, run_key, short_key, anchor), fence=fence)

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        return PeriodStatus(entity, on, "open")

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        totals: dict[tuple[str, str], list[Decimal]] = {}
        for entry in self._entries(entity, date.min, on):
            total = totals.setdefault((entry.account, entry.currency), [Decimal(0)] * 3)
            if since is not None and entry.date < since:
                total[0] += entry.debit - entry.credit
            else:
                total[1] += entry.debit
                total[2] += entry.credit
        return [Balance(entity, account, currency, *amounts) for (account, currency), amounts in sorted(totals.items())]

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        yield self._entries(entity, since, until)

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        yield self._entries(entity, since.date(), until.date() + timedelta(days=1))

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        codes = {(e.account, e.currency) for e in self._entries(entity, date.min, date.max)}
        return [GlAccount(entity, code, code, currency) for code, currency in sorted(codes)]

    def close(self) -> None:
        """Nothing is held open."""

    # --- what a test arranges -----------------------------------------------------------------------

    def by_hand(self, entity: str, on: date, currency: str, text: str, *lines: tuple[str, str, str]) -> None:
        """An accountant's own entry: lines of (account, debit, credit)."""
        entry = tuple(ErpLine(a, Decimal(d), Decimal(c)) for a, d, c in lines)
        with closing(self._connect()) as db:
            self._store(db, ErpJournal(entity, "", "", on, currency, text, entry), None)
            db.commit()

    def history(self, moves: Iterable[tuple[str, date, str, str, Iterable[MoveLine]]]) -> None:
        """Entries that were there before us: (entity, date, currency, text, lines), stored in one go."""
        with closing(self._connect()) as db:
            for entity, on, currency, text, lines in moves:
                entry = tuple(ErpLine(line.account, line.debit, line.credit, line.text) for line in lines)
                self._store(db, ErpJournal(entity, "", "", on, currency, text, entry), None)
            db.commit()

    def journals(self) -> list[ErpJournal]:
        """Everything stored under a run key."""
        return [self.read_back(ref) for ref in self.find_by_run_key("TIEOUT/")]

    def _ask(self, step: str) -> None:
        self.on_step(step)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=20)
        db.row_factory = sqlite3.Row
        return db

    def _store(self, db: sqlite3.Connection, journal: ErpJournal, lie: Lie | None) -> int:
        state = "draft" if lie == "leave_draft" else "posted"
        cursor = db.execute(
            "INSERT INTO move (entity, run_key, short_key, on_date, currency, narrative, state) VALUES (?,?,?,?,?,?,?)",
            (
                journal.entity,
                journal.run_key,
                journal.short_key,
                journal.date.isoformat(),
                journal.currency,
                anchored(journal.narrative, journal.anchor),
                state,
            ),
        )
        move_id = int(cursor.lastrowid or 0)
        for number, line in enumerate(journal.lines, 1):
            dimensions = ";".join(f"{k}={v}" for k, v in sorted(line.dimensions.items()))
            db.execute(
                "INSERT INTO line VALUES (?,?,?,?,?,?,?,?,?)",
                (
                    move_id,
                    number,
                    line.account,
                    str(line.debit),
                    str(line.credit),
                    line.description,
                    dimensions,
                    line.foreign_currency,
                    None if line.foreign_amount is None else str(line.foreign_amount),
                ),
            )
        return move_id

    @staticmethod
    def _twisted(journal: ErpJournal, lie: Lie | None) -> ErpJournal:
        first, rest = journal.lines[0], journal.lines[1:]
        if lie == "other_amount":
            return replace(journal, lines=(replace(first, debit=first.debit + 1), *rest))
        if lie == "other_account":
            return replace(journal, lines=(replace(first, account="99999"), *rest))
        if lie == "drop_line":
            return replace(journal, lines=rest)
        if lie == "drop_dimension":
            return replace(journal, lines=tuple(replace(line, dimensions={}) for line in journal.lines))
        if lie == "other_date":
            return replace(journal, date=journal.date + timedelta(days=31))
        return journal

    def _entries(self, entity: str, since: date, until: date) -> list[GlEntry]:
        with closing(self._connect()) as db:
            rows = db.execute(
                "SELECT m.*, l.* FROM move AS m JOIN line AS l ON l.move_id = m.id"
                " WHERE m.entity = ? AND m.state = 'posted' AND m.on_date BETWEEN ? AND ? ORDER BY m.id, l.line_no",
                (entity, since.isoformat(), until.isoformat()),
            ).fetchall()
        return [
            GlEntry(
                entity=entity,
                erp_id=f"{r['move_id']}.{r['line_no']}",
                journal_id=str(r["move_id"]),
                journal_number=self._number(r),
                date=date.fromisoformat(r["on_date"]),
                posted_on=None,
                period=r["on_date"][:7],
                account=r["account"],
                debit=Decimal(r["debit"]),
                credit=Decimal(r["credit"]),
                currency=r["currency"],
                narrative=r["narrative"],
                description=r["text"],
                run_key=r["run_key"] or None,
                line_no=r["line_no"] if r["run_key"] else None,
                changed_at=datetime.combine(date.fromisoformat(r["on_date"]), datetime.min.time(), UTC),
                foreign_currency=r["foreign_currency"],
                foreign_amount=None if r["foreign_amount"] is None else Decimal(r["foreign_amount"]),
            )
            for r in rows
        ]

    def _ref(self, row: sqlite3.Row) -> JournalRef:
        return JournalRef(
            row["entity"],
            str(row["id"]),
            row["run_key"],
            date.fromisoformat(row["on_date"]),
            row["state"],
            self._number(row),
        )

    @staticmethod
    def _number(row: sqlite3.Row) -> str | None:
        return f"{row['on_date'][:4]}-{row['id']:06}" if row["state"] == "posted" else None


def _dimensions(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(";") if part)
