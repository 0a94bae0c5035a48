"""NetSuite's books as the tables that SuiteQL shows, in SQLite, which runs the queries as they come."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tieout_sandbox.tryton import chart

ZONE = "America/Los_Angeles"
SEGMENT = "cseg_taxcode"
DIMENSION_FIELDS = {"product_family": "class", "tax_code": SEGMENT}
"""Tieout's dimension → the line field the simulated account keeps it in."""
_VALUE_TABLES = {"product_family": "classification", "tax_code": f"customrecord_{SEGMENT}"}

_TABLES = f"""
CREATE TABLE currency (id INTEGER PRIMARY KEY, symbol TEXT, name TEXT);
CREATE TABLE subsidiary (id INTEGER PRIMARY KEY, name TEXT, currency INTEGER);
CREATE TABLE account (id INTEGER PRIMARY KEY, acctnumber TEXT, accountsearchdisplayname TEXT, isinactive TEXT,
  issummary TEXT);
CREATE TABLE classification (id INTEGER PRIMARY KEY, name TEXT, isinactive TEXT);
CREATE TABLE customrecord_{SEGMENT} (id INTEGER PRIMARY KEY, name TEXT, isinactive TEXT);
CREATE TABLE accountingperiod (id INTEGER PRIMARY KEY, periodname TEXT, startdate TEXT, enddate TEXT, closed TEXT,
  alllocked TEXT, isyear TEXT, isquarter TEXT, isadjust TEXT);
CREATE TABLE every_transaction (id INTEGER PRIMARY KEY, type TEXT, externalid TEXT UNIQUE, tranid TEXT, memo TEXT,
  trandate TEXT, posting TEXT, approvalstatus TEXT, postingperiod INTEGER, createddate TEXT, lastmodifieddate TEXT,
  hidden INTEGER);
CREATE VIEW "transaction" AS SELECT * FROM every_transaction WHERE hidden <= 0;
CREATE TABLE transactionline ("transaction" INTEGER, id INTEGER, linesequencenumber INTEGER, subsidiary INTEGER,
  memo TEXT, class INTEGER, department INTEGER, location INTEGER, {SEGMENT} INTEGER);
CREATE TABLE transactionaccountingline ("transaction" INTEGER, transactionline INTEGER, accountingbook INTEGER,
  account INTEGER, debit TEXT, credit TEXT, posting TEXT);
PRAGMA case_sensitive_like = ON;
"""


class _ExactSum:
    """SUM over decimals kept as text, which SQLite itself would add as floats."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, value: Any) -> None:
        if value is not None:
            self.total += Decimal(str(value))

    def finalize(self) -> str:
        return format(self.total, "f")


def new_books() -> sqlite3.Connection:
    """The books of an account with the sandbox's companies and chart, months of three years, and no transaction."""
    db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.create_function("TO_DATE", 2, lambda text, _: text)
    db.create_function("TO_CHAR", 2, _to_char)
    db.create_aggregate("SUM", 1, _ExactSum)  # type: ignore[arg-type]
    db.executescript(_TABLES)
    currencies = {code: number for number, code in enumerate(chart.CURRENCIES, 1)}
    db.executemany(
        "INSERT INTO currency VALUES (?, ?, ?)", ((n, c, chart.CURRENCIES[c][0]) for c, n in currencies.items())
    )
    db.executemany(
        "INSERT INTO subsidiary VALUES (?, ?, ?)",
        ((n, c["name"], currencies[c["currency"]]) for n, c in enumerate(chart.COMPANIES, 2)),
    )
    db.executemany(
        "INSERT INTO account VALUES (?, ?, ?, 'F', 'F')",
        ((n, code, name) for n, (code, name, _) in enumerate(chart.ACCOUNTS, 101)),
    )
    for dimension, table in _VALUE_TABLES.items():
        values = enumerate(chart.DIMENSIONS[dimension], 11)
        db.executemany(f"INSERT INTO {table} VALUES (?, ?, 'F')", values)
    db.executemany("INSERT INTO accountingperiod VALUES (?, ?, ?, ?, 'F', 'F', ?, ?, 'F')", _periods())
    return db


def query(db: sqlite3.Connection, sql: str) -> list[dict[str, str]]:
    """The rows of a SuiteQL query: every value text, a column without a value absent. Raises sqlite3.Error."""
    if re.search(r"\b(LIMIT|INSERT|UPDATE|DELETE|DROP|CREATE|PRAGMA|ATTACH)\b", sql, re.IGNORECASE):
        raise sqlite3.OperationalError("SuiteQL only selects, and pages by the address")
    rows = db.execute(re.sub(r"\btransaction\b", '"transaction"', sql)).fetchall()
    return [{k.lower(): str(row[k]) for k in row.keys() if row[k] is not None} for row in rows]  # noqa: SIM118


def store_lines(
    db: sqlite3.Connection,
    transaction: int,
    subsidiary: int,
    lines: Iterable[Mapping[str, Any]],
    posting: str,
    *,
    books: Iterable[int] = (1,),
) -> None:
    """Write lines of a transaction (`account`, `debit`, `credit`, `memo` and dimension fields, all internal ids)."""
    for number, line in enumerate(lines):
        dimensions = [line.get(name) for name in ("class", "department", "location", SEGMENT)]
        db.execute(
            "INSERT INTO transactionline VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (transaction, number, number, subsidiary, line.get("memo"), *dimensions),
        )
        for book in books:
            db.execute(
                "INSERT INTO transactionaccountingline VALUES (?, ?, ?, ?, ?, ?, ?)",
                (transaction, number, book, line["account"], line.get("debit"), line.get("credit"), posting),
            )


def _to_char(text: str | None, form: str) -> str | None:
    return text if text is None or "HH24" in form else text[:10]


def _periods() -> Iterable[tuple[int, str, str, str, str, str]]:
    number = 200
    for year in (2025, 2026, 2027):
        yield number, f"FY {year}", f"{year}-01-01", f"{year}-12-31", "T", "F"
        for month in range(1, 13):
            if month % 3 == 1:
                number += 1
                last = date(year + (month + 2) // 12, (month + 2) % 12 + 1, 1) - timedelta(days=1)
                yield number, f"Q{month // 3 + 1} {year}", f"{year}-{month:02}-01", last.isoformat(), "F", "T"
            number += 1
            first = date(year, month, 1)
            last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
            yield number, f"{first:%b %Y}", first.isoformat(), last.isoformat(), "F", "F"
        number += 1
