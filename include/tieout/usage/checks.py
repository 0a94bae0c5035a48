"""What keeps prices and agreements that are given as CSV from being used: told by file and line before a night.

The files are read and judged by what the nightly step reads and judges them by.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from tieout import schema
from tieout.errors import ConfigError, DataError
from tieout.lake.engine import Engine, engine
from tieout.settings import Settings
from tieout.usage import agreements, price_books
from tieout.usage.agreements import FILES
from tieout.usage.rate_published import zuora_exports
from tieout.usage.rating import bind_currencies
from tieout.usage.statements import statements

_SHOWN = 5
"""So many lines are named of one mistake."""
_HEADING = "put the columns that are expected into the heading, and no others"
_REMEDIES = {
    "no_number": "write a plain number such as 1250.50, with no more decimals than the column keeps",
    "no_date": "write the day as YYYY-MM-DD",
    "no_id": "give the price an id",
    "no_meter": "name in `meter` what the price counts",
    "no_model": "write flat, unit, package, graduated or volume in `model`",
    "no_currency": "write an ISO 4217 code such as EUR",
    "no_amount": "give `unit_amount` or `flat_amount`",
    "unknown_currency": "write an ISO 4217 code such as EUR",
    "broken_price": "number the tiers 1, 2, 3 with growing `up_to`, only the last one without, all in one file; give"
    " the amounts and the package size that the model needs; let it end after it begins",
    "missing": "fill in what the table needs",
    "no_term": "let it end after it begins",
    "negative": "write what was agreed as a positive amount",
    "repeated": "give each row an id of its own",
}
_BROKEN = {
    "unknown_currency": "the price is in no ISO 4217 currency",
    "broken_price": "the tiers do not follow on each other, or something that the model needs is not given",
}


def mistakes(settings: Settings) -> Iterator[ConfigError]:
    """What is wrong in the CSV files of the folders `price_books`, `commitments` and `prepaid_credits`, one error for
    each kind of mistake in a file."""
    folders = ("price_books", "price_books/zuora", *(folder for folder, *_ in FILES.values()))
    if not any(settings.config_files(folder, ".csv") for folder in folders):
        return
    with engine(settings) as session:
        yield from _in_price_books(session, settings)
        yield from _in_exports(session, settings)
        for name in FILES:
            try:
                agreements.judge(session, name, settings)
            except DataError as problem:
                yield _of_file(problem)
            else:
                yield from _told(session, "judged_agreement", agreements.REASONS)


def _in_price_books(session: Engine, settings: Settings) -> Iterator[ConfigError]:
    """Mistakes of cells, file by file; then of the prices that all files together give."""
    shape = schema.table("price_book")
    told = pa.schema([f.with_nullable(True) for f in shape.arrow])
    told = told.append(pa.field("line", pa.int64())).append(pa.field("file", pa.string()))
    read = [told.empty_table()]
    for path in settings.config_files("price_books", ".csv"):
        try:
            price_books.csv_price_book(path, session=session)
        except DataError as problem:
            yield _of_file(problem)
            continue
        session.execute("CREATE OR REPLACE TEMP TABLE judged_file AS SELECT *, $file AS file FROM read_price",
                        {"file": str(path)})  # fmt: skip
        yield from _told(session, "judged_file", price_books.REASONS)
        fine = "SELECT * EXCLUDE (fault), $file AS file FROM judged_price WHERE fault IS NULL"
        read.append(session.sql(f"SELECT {', '.join(told.names)} FROM ({fine})", {"file": str(path)}).cast(told))
    session.bind("given_price_book", pa.concat_tables(read))
    bind_currencies(session, None)
    session.execute(statements("book")[0])
    session.execute(
        "CREATE OR REPLACE TEMP TABLE judged_book AS"
        " SELECT file, line, fault AS reason_code, CAST(NULL AS VARCHAR) AS cell FROM book"
    )
    yield from _told(session, "judged_book", _BROKEN)


def _in_exports(session: Engine, settings: Settings) -> Iterator[ConfigError]:
    """Exports that cannot be read; charges that are not for usage stand in them too."""
    try:
        for charges, tiers in zuora_exports(settings):
            price_books.zuora_files(charges, tiers, session=session)
    except DataError as problem:
        yield _of_file(problem)
    except ConfigError as problem:
        yield problem


def _of_file(problem: DataError) -> ConfigError:
    return ConfigError(
        problem.message, record=problem.record, expected=problem.expected, got=problem.got,
        remedy=problem.remedy or _HEADING,
    )  # fmt: skip


def _told(session: Engine, judged: str, reasons: dict[str, str]) -> Iterator[ConfigError]:
    """The rows of a table that have a `reason_code`, by file and reason."""
    for file, code, lines, cell in session.rows(
        f"SELECT file, reason_code, list(line ORDER BY line), min_by(cell, line) FROM {judged}"
        " WHERE reason_code IS NOT NULL GROUP BY file, reason_code ORDER BY file, min(line), reason_code"
    ):
        yield ConfigError(reasons[code], record=f"{file}, {_numbers(lines)}", got=cell, remedy=_REMEDIES[code])


def _numbers(lines: list[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"lines {', '.join(map(str, lines[:_SHOWN]))}{more}"
