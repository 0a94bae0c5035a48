"""Price books: prices as billing keeps them become rows of `price_book`; what cannot is set aside with a reason.

Each system's reading is one query beside this module: `stripe_prices.sql`, `zuora_prices.sql`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine, sql_type
from tieout.usage.inputs import FORMER_NEEDED, Rows, bind
from tieout.usage.statements import run

_SQL = Path(__file__).parent
REASONS = {
    "no_mode": "a tiered price must say whether it is graduated or volume",
    "no_tiers": "the tiers of the price are not there",
    "no_usage": "the charge is not for usage",
    "no_included": "an overage charge must say how many units are included",
    "no_number": "a column that holds numbers holds something else, or more decimals than it keeps",
    "no_date": "a column that holds dates holds something else than YYYY-MM-DD",
    "no_id": "the price has no id",
    "no_meter": "nothing says what the price counts",
    "no_model": "how quantity becomes money is not one of flat, unit, package, graduated, volume",
    "no_currency": "the price has no currency",
    "no_amount": "the price has no amount",
}
# a cast rounds what is too fine, and reads days in any writing; more decimals than the wider type has are looked for in
# the text
_EXACT = r"""
CREATE OR REPLACE TEMP MACRO is_number(text, typed) AS coalesce(
  typed = TRY_CAST(text AS DECIMAL(38, 18)) AND NOT regexp_matches(text, '\.\d{18}\d*[1-9]')
    AND (typed <> 0 OR NOT regexp_matches(regexp_replace(text, '[eE].*', ''), '[1-9]')), false);
CREATE OR REPLACE TEMP MACRO is_day(text, typed) AS typed IS NOT NULL AND regexp_full_match(text, '\d{4}-\d{2}-\d{2}');
CREATE OR REPLACE TEMP MACRO is_instant(text, typed) AS
  typed IS NOT NULL AND regexp_matches(text, '^\d{4}-\d{2}-\d{2}');
"""
_IS = {"date": "is_day", "instant": "is_instant"}
_ZUORA_CHARGE = ("Id", "SubscriptionId", "ChargeModel", "ChargeType", "UOM", "IncludedUnits", "EffectiveStartDate",
                 "EffectiveEndDate")  # fmt: skip
_ZUORA_TIER = ("RatePlanChargeId", "Tier", "StartingUnit", "EndingUnit", "Price", "PriceFormat", "IsOveragePrice",
               "Currency")  # fmt: skip


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices to rate with. Every tier read is in `rows` or in `quarantined`; a price with a bad tier waits whole."""

    rows: pa.Table
    """Columns of `price_book`."""
    quarantined: pa.Table
    """Columns of `price_quarantine`."""


def stripe_price_book(
    items: Rows, prices: Rows, tiers: Rows, *, former: Rows | None = None, session: Engine | None = None
) -> PriceBook:
    """The prices of metered subscription items, from the canonical `subscription_item`, `price` and `price_tier`.

    `former` (columns of `former_price`) tells what prices the items had before their subscriptions were changed: each
    price is in force on the days it was held on. Raises DataError for a column that is needed and missing, and for
    amounts in a float column.
    """
    if session is None:
        with engine() as own:
            return stripe_price_book(items, prices, tiers, former=former, session=own)
    bind(session, "subscription_item", items, ("subscription_source_id", "meter"))
    bind(session, "price", prices, ())
    bind(session, "price_tier", tiers, ())
    bind(session, "former_price", [] if former is None else former, FORMER_NEEDED)
    run(session, "held_prices")
    return _book(session, (_SQL / "stripe_prices.sql").read_text(encoding="utf-8"))


def zuora_price_book(charges: pa.Table, tiers: pa.Table, *, session: Engine | None = None) -> PriceBook:
    """The prices of usage charges, from texts as Zuora's exports of RatePlanCharge and RatePlanChargeTier name them.

    Charge models: flat fee, per unit, overage, tiered, tiered with overage, volume. What a charge counts is its unit of
    measure. Raises DataError for a column that is missing.
    """
    if session is None:
        with engine() as own:
            return zuora_price_book(charges, tiers, session=own)
    for name, table, needed in (("zuora_charge", charges, _ZUORA_CHARGE), ("zuora_tier", tiers, _ZUORA_TIER)):
        bind_texts(session, name, table, needed, needed)
    teach_exact(session)
    return _book(session, (_SQL / "zuora_prices.sql").read_text(encoding="utf-8"))


def csv_price_book(path: str | Path, *, session: Engine | None = None) -> PriceBook:
    """The prices of a CSV file whose heading has columns of `price_book`; an empty cell says nothing.

    Raises DataError for a column that is needed and missing, or that a price book does not have.
    """
    if session is None:
        with engine() as own:
            return csv_price_book(path, session=own)
    shape = schema.table("price_book")
    bind_csv(session, "csv_price", path, shape)
    return _book(session, f"SELECT 'csv' AS source, * FROM ({typed_texts(shape, 'given_csv_price')})")


def typed_texts(shape: schema.Table, view: str) -> str:
    """A query for the columns of a table from what `bind_csv` made; `reason_code` where one would be changed, and
    `cell`, which it is."""
    typed, broken = [], {"no_number": [], "no_date": []}  # type: tuple[list[str], dict[str, list[str]]]
    cells = []
    for column, field in zip(shape.columns, shape.arrow, strict=True):
        if column.kind == "text":
            typed.append(column.name)
            continue
        cast = f"TRY_CAST({column.name} AS {sql_type(field.type)})"
        typed.append(f"{cast} AS {column.name}")
        kind = "no_date" if column.kind in _IS else "no_number"
        exact = f"{_IS.get(column.kind, 'is_number')}({column.name}, {cast})"
        other = f"({column.name} IS NOT NULL AND NOT {exact})"
        broken[kind].append(other)
        cells.append((kind, f"WHEN {other} THEN '{column.name}: ' || {column.name}"))
    cases = " ".join(f"WHEN {' OR '.join(tests)} THEN '{code}'" for code, tests in broken.items() if tests)
    # numbers first, as in the reason
    first = " ".join(text for _, text in sorted(cells, key=lambda c: c[0] != "no_number"))
    return (
        f"SELECT {', '.join(typed)}, CAST(line AS BIGINT) AS line, CASE {cases} END AS reason_code,"
        f" CASE {first} END AS cell FROM {view}"
    )


def teach_exact(session: Engine) -> None:
    """Make the macros that tell whether a text and what it was cast to are the same number, day or instant."""
    session.execute(_EXACT)


def zuora_files(charges: Path, tiers: Path, *, session: Engine) -> PriceBook:
    """The prices of two CSV exports, of RatePlanCharge and of RatePlanChargeTier; columns that are not needed may stay.

    Raises DataError for a column that is missing.
    """
    return zuora_price_book(_texts(charges, _ZUORA_CHARGE), _texts(tiers, _ZUORA_TIER), session=session)


def bind_csv(session: Engine, name: str, path: str | Path, shape: schema.Table) -> None:
    """Make the view `given_<name>` of a CSV file's texts, with the columns of a table and the `line` that each row
    begins on, and the macros that judge them.

    Raises DataError for a column that is needed and missing, or that the table does not have.
    """
    given = _texts(path, shape.names)
    strange = [c for c in given.column_names if c not in shape.names]
    if strange:
        what = shape.name.replace("_", " ")
        raise DataError(f"a {what} has no such column", record=str(path), got=strange[0], expected=list(shape.names))
    missing = [c.name for c in shape.columns if c.required and c.name not in given.column_names]
    if missing:
        raise DataError("columns are missing", record=str(path), got=given.column_names, expected=missing)
    numbered = given.append_column("line", pa.array(_lines(path), pa.int64()))
    bind_texts(session, name, numbered, [*shape.names, "line"], ())
    teach_exact(session)


def _texts(path: str | Path, columns: Sequence[str]) -> pa.Table:
    texts = arrow_csv.ConvertOptions(
        column_types={c: pa.string() for c in columns}, strings_can_be_null=True, quoted_strings_can_be_null=True
    )
    parsed = arrow_csv.ParseOptions(newlines_in_values=True)
    try:
        return arrow_csv.read_csv(path, parse_options=parsed, convert_options=texts)
    except pa.ArrowInvalid as problem:
        raise DataError(
            "the file cannot be read as CSV", record=str(path), got=str(problem),
            remedy="write a heading, and as many cells in each row, in UTF-8 and apart by commas",
        ) from problem  # fmt: skip


def _lines(path: str | Path) -> Iterator[int]:
    """The line that each row below the heading begins on; lines without anything are no rows."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        before = rows.line_num
        for row in rows:
            if row:
                yield before + 1
            before = rows.line_num


def bind_texts(session: Engine, name: str, table: pa.Table, columns: Sequence[str], needed: object) -> None:
    """Make the view `given_<name>` of texts; columns that are not there are null. Raises DataError if one is needed."""
    missing = [c for c in list(needed) if c not in table.column_names]  # type: ignore[call-overload]
    if missing:
        raise DataError("columns are missing", record=name, got=table.column_names, expected=missing)
    texts = [
        table[c].cast(pa.string()) if c in table.column_names else pa.nulls(table.num_rows, pa.string())
        for c in columns
    ]
    session.bind(f"given_{name}", pa.table(texts, names=list(columns)))


def _book(session: Engine, query: str) -> PriceBook:
    """The rows that a query gives, checked for what every price needs; `reason_code` is what it found itself."""
    session.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE read_price AS
        SELECT * REPLACE (CASE
          WHEN reason_code IS NOT NULL THEN reason_code
          WHEN price_source_id IS NULL THEN 'no_id'
          WHEN meter IS NULL THEN 'no_meter'
          WHEN model IS NULL OR model NOT IN ('flat', 'unit', 'package', 'graduated', 'volume') THEN 'no_model'
          WHEN currency IS NULL THEN 'no_currency'
          WHEN unit_amount IS NULL AND flat_amount IS NULL THEN 'no_amount'
        END AS reason_code)
        FROM ({query})
        """
    )
    session.execute(
        "CREATE OR REPLACE TEMP TABLE judged_price AS SELECT *, max(reason_code) OVER ("
        "  PARTITION BY price_source_id, subscription_source_id, meter, valid_from) AS fault FROM read_price"
    )
    shape = schema.table("price_book")
    rows = session.sql(f"SELECT {', '.join(shape.names)} FROM judged_price WHERE fault IS NULL ORDER BY ALL").cast(
        shape.arrow
    )
    cases = " ".join(f"WHEN '{code}' THEN '{words}'" for code, words in REASONS.items())
    quarantined = session.sql(
        "SELECT source, coalesce(price_source_id, '') AS price_source_id, subscription_source_id, meter, tier_no,"
        f" fault AS reason_code, CASE fault {cases} END AS reason FROM judged_price"
        " WHERE fault IS NOT NULL ORDER BY ALL"
    ).cast(schema.table("price_quarantine").arrow)
    read = session.scalar("SELECT count(*) FROM read_price")
    if rows.num_rows + quarantined.num_rows != read:
        raise DataError("prices in are not prices out", expected=read, got=rows.num_rows + quarantined.num_rows)
    return PriceBook(rows, quarantined)
