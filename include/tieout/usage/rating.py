"""Rate usage: what it should have cost by the price book, line by line, without asking the billing system.

The statements stand beside this module: `book.sql` reads the price book, `plain.sql` prices the billing periods that
one price holds for all through; of the others `choice.sql` chooses prices, `proration.sql` cuts them at changes of
price, and `charges.sql` prices what each part of a period reaches.
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

_SQL = Path(__file__).parent
_USAGE_NEEDED = ("subscription_source_id", "meter", "grain", "period_start", "period_end", "quantity")
_REASONS = {
    "no_price": "no price for ' || meter || ' is in force on ' || (period_end - 1) || coalesce(' in ' || currency, '')",
    "two_prices": "several prices for ' || meter || ' are in force at once in the period to ' || (period_end - 1)",
    "broken_price": "price ' || price_source_id || ' does not say what ' || charged || ' units cost: tiers must follow"
    " on each other without a gap and reach far enough, amounts and package size be given'",
    "unknown_currency": "price ' || price_source_id || ' is in ''' || price_currency || ''', no ISO 4217 currency'",
    "too_large": "quantity ' || quantity || ' at price ' || price_source_id || ' is beyond any amount'",
    "no_days": "the price changes within the period, and its days do not add up to ' || quantity",
}


@dataclass(frozen=True, slots=True)
class Rated:
    """Usage priced. Every row of usage in the period is either in `lines` or in `quarantined`."""

    lines: pa.Table | list[str]
    """Columns of `rated_lines`: one row per billing period, price and tier that charges something.

    An Arrow table, or Parquet files where `rate` was given a folder.
    """
    quarantined: pa.Table
    """Columns of `unrated_usage`: billing periods that no price, or no single price, holds for, with the reason."""


def rate(
    usage: Rows,
    prices: Rows,
    period: tuple[date, date],
    *,
    subscriptions: Rows | None = None,
    worded: bool = True,
    out: Path | None = None,
    session: Engine | None = None,
) -> Rated:
    """Price the usage of every billing period that ends within `period`.

    `usage` has the columns of `usage_summary` (rows of grain `period` are rated), `prices` those of `price_book`: Arrow
    tables or Parquet files. `period` is half-open in the days on which billing periods may end: `(first, after)` takes
    those whose last day lies in it. A price agreed with the subscription goes before the general one of its meter; with
    `subscriptions` (columns of `subscription`: source_id, currency) only a general price in the subscription's currency
    holds. Lines tell their arithmetic where `worded`; wording a million of them costs more than pricing them. With
    `out` they are written into Parquet files in that folder, in no order; without they come sorted by their key.

    Which price: the one in force on the billing period's last day, for the whole of it. Prices that say `proration`
    hold for their days only: each prices the usage of its days (rows of grain `day`), and its flat and minimum amounts
    are cut to its share of the period, by days or by seconds (docs.stripe.com/billing/subscriptions/prorations: "down
    to the second"; the clock's hours count, so a day on which it is changed is shorter or longer). Included units and
    the limits of tiers are not cut (docs.zuora.com, overage pricing: "the included units cannot be prorated").

    Models: `flat` charges its amount once; `unit` quantity × unit amount; `package` whole packages; `graduated` each
    tier's quantity at that tier's amount; `volume` the whole quantity at the amount of the tier it reaches; tiers may
    be counted in packages too. The first tier's flat amount is charged without usage too. `included_quantity` is free
    before the first tier counts; a `minimum_amount` not reached is filled up by a line of its own. Amounts are exact to
    21 places and rounded half away from zero to the currency's minor unit where the price's `rounding` says: each line,
    as Stripe does, or once the total of the billing period, the lines then taking what they add to the rounded total.

    Raises DataError for missing columns, for amounts or quantities in a float column, if two usage rows are of the same
    subscription, meter and period, and if rows in are not rows out.
    """
    if session is None:
        with engine() as own:
            return rate(usage, prices, period, subscriptions=subscriptions, worded=worded, out=out, session=own)
    bind(session, "usage_summary", usage, _USAGE_NEEDED)
    bind(session, "price_book", prices, ("meter", "price_source_id", "model", "tier_no", "currency"))
    bind_currencies(session, subscriptions)
    _run(session, "macros.sql")
    _run(session, "book.sql")
    _run(session, "plain.sql", {"start": period[0], "end": period[1]})
    _refuse_repeated(session)
    _run(session, "choice.sql")
    # most books need neither, and a window over a million lines costs as much as pricing them
    prorates, on_total = session.rows(
        "SELECT coalesce(bool_or(proration <> 'none'), false), coalesce(bool_or(rounding = 'total'), false) FROM price"
    )[0]
    if prorates:
        _run(session, "proration.sql")
    _run(session, "charges.sql")
    if on_total:
        session.execute(_ON_TOTAL)
    queries = [_plain_lines(worded, session.scalar("SELECT count(*) > 0 FROM plain_tier WHERE minimum_amount <> 0"))]
    if session.scalar("SELECT count(*) FROM wanted"):
        queries.append(_lines(prorates, worded))
    lines: pa.Table | list[str]
    if out is None:
        columns = ", ".join(f"CAST({c} AS VARCHAR) AS {c}" for c in ("charge", "price_source_id", "meter", "currency"))
        every = " UNION ALL ".join(f"SELECT * REPLACE ({columns}) FROM ({query})" for query in queries)
        lines = session.sql(f"{every} ORDER BY subscription_source_id, meter, period_start, line_no").cast(
            schema.table("rated_lines").arrow
        )
    else:
        lines = [str(session.copy(q, out / f"rated_lines-{n}.parquet", quick=True)) for n, q in enumerate(queries, 1)]
    cases = " ".join(f"WHEN '{code}' THEN '{words}" for code, words in _REASONS.items())
    quarantined = session.sql(
        f"""
        SELECT subscription_source_id, meter, period_start, period_end, quantity, reason_code,
          CASE reason_code {cases} END AS reason
        FROM (
          SELECT w.*, any_value(a.reason_code) AS reason_code, any_value(a.charged) AS charged,
            min(p.price_source_id) AS price_source_id, min(p.currency) AS price_currency
          FROM priced AS a JOIN wanted AS w USING (usage_no) LEFT JOIN price AS p USING (price_no)
          WHERE a.reason_code IS NOT NULL
          GROUP BY ALL
        )
        ORDER BY ALL
        """
    ).cast(schema.table("unrated_usage").arrow)
    # every part that is priced has one first tier, or the one tier it reached
    first = "count(DISTINCT usage_no)" if prorates else "count(*)"
    rated = session.scalar(f"SELECT {first} FROM charge WHERE tier_no = 1 OR model <> 'graduated'")
    rated += session.scalar("SELECT count(*) FROM plain_charge WHERE tier_no = 1 OR model <> 'graduated'")
    wanted = session.scalar("SELECT count(*) FROM used")
    if rated + quarantined.num_rows != wanted:
        raise DataError("usage rows in are not rows out", expected=wanted, got=rated + quarantined.num_rows)
    return Rated(lines, quarantined)


def bind_currencies(session: Engine, subscriptions: Rows | None) -> None:
    digits = [{"currency": code, "digits": iso} for code, iso, _ in currencies()]
    session.bind(
        "currency_digits", pa.Table.from_pylist(digits, pa.schema({"currency": pa.string(), "digits": pa.int64()}))
    )
    bind(session, "subscription", [] if subscriptions is None else subscriptions, ("source_id", "currency"))
    # an id that two accounts use would make the currency a guess
    session.execute(
        "CREATE OR REPLACE TEMP VIEW subscription_currency AS SELECT source_id, any_value(currency) AS currency"
        " FROM given_subscription GROUP BY source_id HAVING count(*) = 1"
    )


def _refuse_repeated(session: Engine) -> None:
    """By the hash first: a million texts cost more to group than to hash."""
    key = "subscription_source_id, meter, period_start"
    session.execute(f"CREATE OR REPLACE TEMP TABLE hashed AS SELECT hash({key}) AS h FROM used")
    if session.scalar("SELECT count(DISTINCT h) = count(*) FROM hashed"):
        return
    repeated = session.rows(
        f"SELECT {key} FROM used SEMI JOIN (SELECT h FROM hashed GROUP BY h HAVING count(*) > 1) AS s"
        f" ON s.h = hash({key})"
        " GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
    )
    if repeated:
        raise DataError("usage of one billing period comes in two rows", record=" ".join(map(str, repeated[0])))


def _run(session: Engine, name: str, parameters: dict[str, date] | None = None) -> None:
    for statement in (_SQL / name).read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            session.execute(statement, parameters if "$start" in statement else None)


# lines of a price that rounds totals take what they add to the rounded total
_ON_TOTAL = """
CREATE OR REPLACE TEMP TABLE charge AS
SELECT * EXCLUDE (so_far) REPLACE (CASE rounding
  WHEN 'total' THEN at_minor_unit(so_far, digits) - at_minor_unit(so_far - exact_amount, digits)
  ELSE amount END AS amount)
FROM (
  SELECT *, CAST(sum(exact_amount) OVER (
    PARTITION BY usage_no, price_no ORDER BY tier_no ROWS UNBOUNDED PRECEDING
  ) AS DECIMAL(38, 21)) AS so_far
  FROM charge
)
"""
_ARITHMETIC = """CASE WHEN included_quantity > 0 AND model <> 'flat'
  THEN shown(used) || ' used − ' || shown(included_quantity) || ' included = ' ELSE '' END
|| CASE WHEN model = 'flat' THEN shown(flat_amount) || ' flat'
  ELSE shown(quantity)
    || CASE WHEN package_size IS NOT NULL THEN ' packages of ' || shown(package_size) ELSE '' END
    || CASE model WHEN 'graduated' THEN ' in tier ' || tier_no WHEN 'volume' THEN ' at tier ' || tier_no
      ELSE '' END
    || ' × ' || shown(coalesce(unit_amount, 0))
    || CASE WHEN flat_amount <> 0 THEN ' + ' || shown(flat_amount) ELSE '' END
  END
{share}|| ' = ' || shown(exact_amount) || ' ' || currency"""
_SHARE = """|| CASE WHEN whole > 1 AND flat_amount <> 0 THEN ' for ' || shown(share) || ' of ' || shown(whole)
  || CASE WHEN whole < 10000 THEN ' days' ELSE ' seconds' END ELSE '' END
"""
_SHORTFALL = """'minimum ' || shown(minimum_amount) || ' − ' || shown(charged) || ' charged = '
  || shown(minimum_amount - charged) || ' ' || currency"""


def _lines(prorates: bool, worded: bool) -> str:
    """The charges as `rated_lines`: numbered by tier, or by price and tier where several prices share a period."""
    number = "CASE WHEN model = 'graduated' THEN tier_no ELSE 1 END"
    if prorates:
        number = "row_number() OVER (PARTITION BY usage_no ORDER BY price_no, tier_no)"
    last = "row_number() OVER (PARTITION BY usage_no ORDER BY price_no)" if prorates else "1"
    return f"""
    WITH usage_line AS (
      SELECT *, {number} AS line_no FROM charge WHERE exact_amount <> 0 OR quantity <> 0
    ), short AS (
      SELECT usage_no, price_no, currency, minimum_amount, charged, lines
      FROM (
        SELECT usage_no, price_no, any_value(currency) AS currency, CAST(sum(amount) AS DECIMAL(18, 4)) AS charged,
          CASE WHEN any_value(whole) = 1 THEN any_value(minimum_amount) ELSE at_minor_unit(
            prorated(any_value(minimum_amount), any_value(share), any_value(whole)), any_value(digits)
          ) END AS minimum_amount,
          -- after the last of its lines: a tier of which no package is full has none
          coalesce(max(CASE WHEN model = 'graduated' THEN tier_no ELSE 1 END)
            FILTER (exact_amount <> 0 OR quantity <> 0), 0) AS lines
        FROM charge WHERE minimum_amount <> 0 GROUP BY usage_no, price_no
      )
      WHERE charged < minimum_amount
    ), listed AS (
      SELECT usage_no, line_no, 'usage' AS charge, price_no, tier_no, quantity, unit_amount, flat_amount, exact_amount,
        amount, currency,
        {_ARITHMETIC.format(share=_SHARE) if worded else "NULL"} AS arithmetic
      FROM usage_line
      UNION ALL
      SELECT usage_no, {"1000000 + " + last if prorates else "lines + 1"}, 'minimum', price_no, NULL, 1, NULL, NULL,
        minimum_amount - charged, minimum_amount - charged, currency,
        {_SHORTFALL if worded else "NULL"}
      FROM short
    )
    SELECT w.subscription_source_id, w.meter, w.period_start, w.period_end,
      {"row_number() OVER (PARTITION BY usage_no ORDER BY line_no)" if prorates else "line_no"} AS line_no,
      l.charge, p.price_source_id, l.tier_no, l.quantity, l.unit_amount, l.flat_amount, l.exact_amount, l.amount,
      l.currency, l.arithmetic
    FROM listed AS l JOIN wanted AS w USING (usage_no) JOIN price AS p USING (price_no)
    """


def _plain_lines(worded: bool, minimums: bool) -> str:
    """The charges of plain billing periods as `rated_lines`; what is short of a minimum is known at the last tier."""
    number = "CASE WHEN model = 'graduated' THEN tier_no ELSE 1 END"
    lines = f"""
    SELECT subscription_source_id, meter, period_start, period_end, {number} AS line_no,
      CAST('usage' AS ENUM ('usage', 'minimum')) AS charge, price_source_id, tier_no,
      CAST(quantity AS DECIMAL(28, 9)) AS quantity, unit_amount, flat_amount,
      CAST(exact_amount AS DECIMAL(38, 21)) AS exact_amount, amount, currency,
      {_ARITHMETIC.format(share="") if worded else "CAST(NULL AS VARCHAR)"} AS arithmetic
    FROM plain_charge
    WHERE listed
    """
    if not minimums:
        return lines
    return f"""{lines}
    UNION ALL
    SELECT subscription_source_id, meter, period_start, period_end,
      CASE WHEN listed THEN {number} ELSE listed_below END + 1, CAST('minimum' AS ENUM ('usage', 'minimum')),
      price_source_id, NULL, 1, NULL, NULL, minimum_amount - charged, minimum_amount - charged, currency,
      {_SHORTFALL if worded else "NULL"}
    FROM (
      SELECT * REPLACE (CAST(amount_below + amount AS DECIMAL(18, 4)) AS charged)
      FROM plain_charge
      WHERE minimum_amount <> 0 AND (model <> 'graduated' OR up_to IS NULL OR up_to >= charged)
    )
    WHERE charged < minimum_amount
    """
