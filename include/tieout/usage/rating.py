"""Rate usage: what it should have cost by the price book, line by line, without asking the billing system.

The statements stand beside this module in `rating.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.money import currencies
from tieout.usage.inputs import Rows, bind

_SQL = Path(__file__).parent / "rating.sql"
_USAGE_NEEDED = ("subscription_source_id", "meter", "grain", "period_start", "period_end", "quantity")
_REASONS = {
    "no_price": "no price for ' || meter || ' is in force on ' || (period_end - 1)",
    "two_prices": "' || candidates || ' prices for ' || meter || ' are in force on ' || (period_end - 1)",
    "broken_price": "price ' || price_source_id || ' does not say what ' || charged || ' units cost: tiers must follow"
    " on each other without a gap and reach far enough, amounts and package size be given'",
    "unknown_currency": "price ' || price_source_id || ' is in ''' || currency || ''', no ISO 4217 currency'",
    "too_large": "quantity ' || quantity || ' at price ' || price_source_id || ' is beyond any amount'",
}


@dataclass(frozen=True, slots=True)
class Rated:
    """Usage priced. Every row of usage in the period is either in `lines` or in `quarantined`."""

    lines: pa.Table
    """Columns of `rated_lines`: one row per billing period, price and tier that charges something."""
    quarantined: pa.Table
    """Columns of `unrated_usage`: billing periods that no price, or no single price, holds for, with the reason."""


def rate(usage: Rows, prices: Rows, period: tuple[date, date], *, session: Engine | None = None) -> Rated:
    """Price the usage of every billing period that ends within `period`.

    `usage` has the columns of `usage_summary` (rows of grain `period` count), `prices` those of `price_book`: Arrow
    tables or Parquet files. `period` is half-open in the days on which billing periods may end: `(first, after)` takes
    those whose last day lies in it. The price in force on a billing period's last day holds for the whole of it; a
    price agreed with the subscription goes before the general one of its meter.

    Models: `flat` charges its amount once; `unit` quantity × unit amount; `package` whole packages; `graduated` each
    tier's quantity at that tier's amount; `volume` the whole quantity at the amount of the tier it reaches. The first
    tier's flat amount is charged without usage too. `included_quantity` is free before the first tier counts; a
    `minimum_amount` not reached is filled up by a line of its own. Amounts are exact to 21 places and rounded per line,
    half away from zero, to the currency's minor unit, as Stripe rounds its invoice lines.

    Raises DataError for missing columns, for amounts or quantities in a float column, if two usage rows are of the same
    subscription, meter and period, and if rows in are not rows out.
    """
    if session is None:
        with engine() as own:
            return rate(usage, prices, period, session=own)
    bind(session, "usage_summary", usage, _USAGE_NEEDED)
    bind(session, "price_book", prices, ("meter", "price_source_id", "model", "tier_no", "currency"))
    digits = [{"currency": code, "digits": iso} for code, iso, _ in currencies()]
    session.bind(
        "currency_digits", pa.Table.from_pylist(digits, pa.schema({"currency": pa.string(), "digits": pa.int64()}))
    )
    for statement in _SQL.read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            named = {"start": period[0], "end": period[1]} if "$start" in statement else None
            session.execute(statement, named)
    repeated = session.rows(
        "SELECT subscription_source_id, meter, period_start FROM wanted"
        " GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
    )
    if repeated:
        raise DataError("usage of one billing period comes in two rows", record=" ".join(map(str, repeated[0])))
    lines = session.sql(_LINES).cast(schema.table("rated_lines").arrow)
    cases = " ".join(f"WHEN '{code}' THEN '{words}" for code, words in _REASONS.items())
    quarantined = session.sql(
        f"""
        SELECT subscription_source_id, meter, period_start, period_end, quantity, reason_code,
          CASE reason_code {cases} END AS reason
        FROM priced WHERE reason_code IS NOT NULL ORDER BY ALL
        """
    ).cast(schema.table("unrated_usage").arrow)
    rated, wanted = (session.scalar(q) for q in (
        "SELECT count(*) FROM (SELECT DISTINCT subscription_source_id, meter, period_start FROM tier_charge)",
        "SELECT count(*) FROM wanted",
    ))  # fmt: skip
    if rated + quarantined.num_rows != wanted:
        raise DataError("usage rows in are not rows out", expected=wanted, got=rated + quarantined.num_rows)
    return Rated(lines, quarantined)


# 12 places of a price or 9 of a quantity, without the zeros that say nothing
_SHORT = "rtrim(rtrim(CAST({} AS VARCHAR), '0'), '.')"
_LINES = f"""
WITH charge AS (
  SELECT subscription_source_id, meter, period_start, period_end, 'usage' AS charge, price_source_id, tier_no, quantity,
    unit_amount, flat_amount, exact_amount, amount, currency,
    CASE WHEN included_quantity > 0 AND model NOT IN ('flat')
      THEN {_SHORT.format("used")} || ' used − ' || {_SHORT.format("included_quantity")} || ' included: ' ELSE '' END
    || CASE model WHEN 'flat' THEN {_SHORT.format("flat_amount")} || ' flat'
      ELSE {_SHORT.format("quantity")}
        || CASE model WHEN 'package' THEN ' packages of ' || {_SHORT.format("package_size")}
          WHEN 'graduated' THEN ' in tier ' || tier_no WHEN 'volume' THEN ' at tier ' || tier_no ELSE '' END
        || ' × ' || {_SHORT.format("coalesce(unit_amount, 0)")}
        || CASE WHEN flat_amount <> 0 THEN ' + ' || {_SHORT.format("flat_amount")} ELSE '' END
      END || ' = ' || {_SHORT.format("exact_amount")} || ' ' || currency AS arithmetic
  FROM rounded
  WHERE exact_amount <> 0 OR quantity <> 0
  UNION ALL
  SELECT subscription_source_id, meter, period_start, period_end, 'minimum', price_source_id, NULL, 1, NULL, NULL,
    minimum_amount - charged_amount, minimum_amount - charged_amount, currency,
    'minimum ' || {_SHORT.format("minimum_amount")} || ' − ' || {_SHORT.format("charged_amount")} || ' charged = '
      || {_SHORT.format("minimum_amount - charged_amount")} || ' ' || currency
  FROM (
    SELECT subscription_source_id, meter, period_start, any_value(period_end) AS period_end, price_source_id,
      any_value(minimum_amount) AS minimum_amount, any_value(currency) AS currency,
      CAST(sum(amount) AS DECIMAL(18, 4)) AS charged_amount
    FROM rounded GROUP BY ALL
  )
  WHERE charged_amount < minimum_amount
)
SELECT subscription_source_id, meter, period_start, period_end,
  row_number() OVER (PARTITION BY subscription_source_id, meter, period_start ORDER BY tier_no NULLS LAST) AS line_no,
  * EXCLUDE (subscription_source_id, meter, period_start, period_end)
FROM charge
ORDER BY subscription_source_id, meter, period_start, line_no
"""
