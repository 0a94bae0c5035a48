"""Load a ledger's history straight into the ERP's tables, and prove that the ERP could have written it itself.

Through the ERP's own interface a line costs 3 ms; here a million lines take seconds. What the interface guarantees
is checked afterwards: balanced moves, dates in their period, own accounts, whole minor units, numbers without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import psycopg

from tieout_sandbox.company.model import ErpMove
from tieout_sandbox.processes import SandboxError

_JOURNALS = {"BillingSync": "BSY", "MANUAL": "MAN"}
_OTHER_JOURNAL = "MISC"

_CHECKS = {
    "moves that do not balance": """
        SELECT move FROM account_move_line GROUP BY move HAVING sum(debit) <> sum(credit)""",
    "moves without lines": """
        SELECT m.id FROM account_move m WHERE NOT EXISTS (SELECT 1 FROM account_move_line l WHERE l.move = m.id)""",
    "moves outside their period or company": """
        SELECT m.id FROM account_move m JOIN account_period p ON p.id = m.period
        JOIN account_fiscalyear f ON f.id = p.fiscalyear
        WHERE m.date NOT BETWEEN p.start_date AND p.end_date OR f.company <> m.company OR p.state <> 'open'""",
    "lines on another company's account": """
        SELECT l.id FROM account_move_line l JOIN account_move m ON m.id = l.move
        JOIN account_account a ON a.id = l.account WHERE a.company <> m.company OR a.type IS NULL""",
    "amounts finer than the currency": """
        SELECT l.id FROM account_move_line l JOIN account_move m ON m.id = l.move
        JOIN company_company c ON c.id = m.company JOIN currency_currency y ON y.id = c.currency
        WHERE l.debit <> round(l.debit, y.digits) OR l.credit <> round(l.credit, y.digits)""",
    "numbers that repeat": "SELECT company FROM account_move GROUP BY company, number HAVING count(*) > 1",
    "sequences that would repeat or skip a number": """
        SELECT s.id FROM ir_sequence_strict s JOIN account_fiscalyear f ON f.move_sequence = s.id
        WHERE s.number_next_internal <> 1 + (
            SELECT count(*) FROM account_move m JOIN account_period p ON p.id = m.period WHERE p.fiscalyear = f.id)""",
}


@dataclass(frozen=True, slots=True)
class _Year:
    """A fiscal year of a company and how its moves are numbered."""

    sequence: int
    prefix: str
    padding: int


def load(connection: psycopg.Connection, moves: Iterable[ErpMove]) -> int:
    """Write moves into a database that has none, posted on their own dates. Returns how many.

    Raises SandboxError naming what a check found, and then leaves nothing behind.
    """
    with connection.transaction():
        if connection.execute("SELECT 1 FROM account_move LIMIT 1").fetchone():
            raise SandboxError("a history can only be loaded into an empty ledger")
        count = _copy(connection, moves)
        connection.execute("ANALYZE account_move, account_move_line")
        for fault, query in _CHECKS.items():
            found = connection.execute(query).fetchmany(5)
            if found:
                raise SandboxError(f"the loaded ledger has {fault}", got=[row[0] for row in found])
    return count


def _copy(connection: psycopg.Connection, moves: Iterable[ErpMove]) -> int:
    ordered = sorted(moves, key=lambda move: (move.legal_entity_id, move.date, move.visible_at, move.key))
    companies = _mapping(connection, "SELECT p.code, c.id FROM company_company c JOIN party_party p ON p.id = c.party")
    accounts = {
        (company, code): number
        for company, code, number in connection.execute("SELECT company, code, id FROM account_account")
    }
    journals = _mapping(connection, "SELECT code, id FROM account_journal")
    users = _mapping(connection, "SELECT login, id FROM res_user")
    periods = _periods(connection)
    years = {
        number: _Year(sequence, prefix or "", padding)
        for number, sequence, prefix, padding in connection.execute(
            "SELECT f.id, s.id, s.prefix, s.padding FROM account_fiscalyear f "
            "JOIN ir_sequence_strict s ON s.id = f.move_sequence"
        )
    }
    numbers: dict[int, int] = {}
    journal_periods: set[tuple[int, int]] = set()
    rows: list[tuple[object, ...]] = []
    for move_id, move in enumerate(ordered, 1):
        company = companies[move.legal_entity_id]
        period, year = periods[company, move.date.year, move.date.month]
        numbers[year] = numbers.get(year, 0) + 1
        number = years[year].prefix + str(numbers[year]).zfill(years[year].padding)
        journal = journals[_JOURNALS.get(move.description.split(" ")[0], _OTHER_JOURNAL)]
        journal_periods.add((journal, period))
        author = users["accountant" if move.description.startswith("MANUAL") else "admin"]
        written = move.visible_at.replace(tzinfo=None)
        rows.append(
            (move_id, company, period, journal, move.date, move.date, move.description, number, author, written)
        )
    with connection.cursor() as cursor:
        with cursor.copy(
            "COPY account_move (id, company, period, journal, date, post_date, description, number, create_uid, "
            "create_date, state) FROM STDIN"
        ) as copy:
            for row in rows:
                copy.write_row((*row, "posted"))
        with cursor.copy(
            "COPY account_move_line (move, account, debit, credit, description, create_uid, create_date, state, "
            "analytic_state) FROM STDIN"
        ) as copy:
            for move, row in zip(ordered, rows, strict=True):
                move_id, company, author, written = row[0], row[1], row[8], row[9]
                for line in move.lines:
                    amounts = (accounts[company, line.account], line.debit, line.credit, line.text or None)
                    copy.write_row((move_id, *amounts, author, written, "valid", "valid"))
        cursor.executemany(
            "INSERT INTO account_journal_period (journal, period, state) VALUES (%s, %s, 'open')",
            sorted(journal_periods),
        )
        cursor.executemany(
            "UPDATE ir_sequence_strict SET number_next_internal = %s WHERE id = %s",
            [(last + 1, years[year].sequence) for year, last in numbers.items()],
        )
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('account_move', 'id'), greatest(max(id), 1)) FROM account_move"
        )
    return len(rows)


def _mapping(connection: psycopg.Connection, query: str) -> dict[str, int]:
    return {str(name): number for name, number in connection.execute(query) if name is not None}


def _periods(connection: psycopg.Connection) -> dict[tuple[int, int, int], tuple[int, int]]:
    """(company, year, month) → (period, fiscal year); the sandbox's periods are calendar months."""
    found: dict[tuple[int, int, int], tuple[int, int]] = {}
    query = (
        "SELECT f.company, p.start_date, p.id, f.id FROM account_period p "
        "JOIN account_fiscalyear f ON f.id = p.fiscalyear WHERE p.type = 'standard'"
    )
    for company, start, period, year in connection.execute(query):
        first: date = start
        found[company, first.year, first.month] = (period, year)
    return found
