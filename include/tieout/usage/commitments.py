"""What rated usage owes to a commitment over its term, and what prepaid credit pays of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.usage.inputs import Rows, bind

_LINE_NEEDED = ("subscription_source_id", "meter", "period_start", "period_end", "amount", "currency")
_DAY_AFTER_ALL = date(9999, 12, 31)


@dataclass(frozen=True, slots=True)
class CreditUse:
    """Prepaid credit drawn down. For every credit: granted = drawn + expired + balance."""

    draws: pa.Table
    """Columns of `credit_draws`: one row per credit and billing period it paid for."""
    balances: pa.Table
    """Columns of `credit_balances`: one row per credit, as of the day asked for."""


def true_up(lines: Rows, commitments: Rows, period: tuple[date, date], *, session: Engine | None = None) -> pa.Table:
    """What is still owed for every commitment whose term ends within `period` (half-open, by the term's last day).

    `lines` has the columns of `rated_lines` and must reach back to the first term's start, `commitments` those of
    `commitment`. The charges of billing periods that end within the term count, those of one meter where the commitment
    names it; what they fall short of the committed amount is owed once, at the term's end (a committed spend with
    true-up at the end of the term). Gives the columns of `commitment_true_up`, a row per commitment, at 0 where it was
    reached. Raises DataError for missing columns, for a commitment given twice, and where charges within a term are in
    another currency than the commitment: they cannot be added up.
    """
    if session is None:
        with engine() as own:
            return true_up(lines, commitments, period, session=own)
    bind(session, "rated_lines", lines, _LINE_NEEDED)
    needed = ("commitment_id", "subscription_source_id", "term_start", "term_end", "amount", "currency")
    bind(session, "commitment", commitments, needed)
    _once(session, "commitment", "commitment_id")
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE commitment_charge AS
        SELECT c.commitment_id, l.amount, l.currency, c.currency AS committed_in
        FROM given_commitment AS c
        JOIN given_rated_lines AS l
          ON l.subscription_source_id = c.subscription_source_id AND (c.meter IS NULL OR c.meter = l.meter)
          AND l.period_end > c.term_start AND l.period_end <= c.term_end
        WHERE c.term_end > $start AND c.term_end <= $end
        """,
        {"start": period[0], "end": period[1]},
    )
    mixed = session.rows(
        "SELECT commitment_id, currency, committed_in FROM commitment_charge WHERE currency <> committed_in"
        " ORDER BY ALL LIMIT 1"
    )
    if mixed:
        raise DataError("charges are in another currency", record=mixed[0][0], expected=mixed[0][2], got=mixed[0][1])
    return session.sql(
        """
        SELECT c.commitment_id, c.subscription_source_id, c.meter, c.term_start, c.term_end, c.amount AS committed,
          coalesce(s.charged, 0) AS charged, greatest(c.amount - coalesce(s.charged, 0), 0) AS amount, c.currency,
          c.price_source_id
        FROM given_commitment AS c
        LEFT JOIN (
          SELECT commitment_id, sum(amount) AS charged FROM commitment_charge GROUP BY commitment_id
        ) AS s USING (commitment_id)
        WHERE c.term_end > $start AND c.term_end <= $end
        ORDER BY c.commitment_id
        """,
        {"start": period[0], "end": period[1]},
    ).cast(schema.table("commitment_true_up").arrow)


def draw_down(lines: Rows, credits: Rows, as_of: date = _DAY_AFTER_ALL, *, session: Engine | None = None) -> CreditUse:
    """Pay rated usage from prepaid credit, the oldest grant first, billing periods in the order they end.

    `lines` has the columns of `rated_lines`, `credits` those of `prepaid_credit`. A billing period is charged on its
    last day: a credit pays for it if it was granted by then, has not expired, is in the same currency and of the same
    subscription, and of the same meter where it names one. What a credit does not pay stays for later periods until it
    expires. Billing periods that end after `as_of` are left out; balances are those of that day, on which a credit that
    expires is gone. Works credit by credit of a subscription, for all subscriptions at once: the oldest credit goes
    before all others at any time, so it takes what it can of all periods first.

    Raises DataError for missing columns, for amounts in a float column, for a credit given twice, and if a credit's
    parts do not add up to it.
    """
    if session is None:
        with engine() as own:
            return draw_down(lines, credits, as_of, session=own)
    bind(session, "rated_lines", lines, _LINE_NEEDED)
    needed = ("credit_id", "subscription_source_id", "amount", "currency", "granted_on")
    bind(session, "prepaid_credit", credits, needed)
    _once(session, "prepaid_credit", "credit_id")
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE owed AS
        SELECT subscription_source_id, meter, period_start, any_value(period_end) AS period_end, currency,
          CAST(sum(amount) AS DECIMAL(18, 4)) AS amount
        FROM given_rated_lines
        WHERE period_end <= $as_of
        GROUP BY subscription_source_id, meter, period_start, currency HAVING sum(amount) > 0
        """,
        {"as_of": as_of},
    )
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE ranked_credit AS
        SELECT *, row_number() OVER (
          PARTITION BY subscription_source_id, currency ORDER BY granted_on, expires_on NULLS LAST, credit_id
        ) AS place
        FROM given_prepaid_credit
        """
    )
    session.execute(
        "CREATE OR REPLACE TEMP TABLE draw (credit_id VARCHAR, subscription_source_id VARCHAR, meter VARCHAR,"
        " period_start DATE, period_end DATE, amount DECIMAL(18, 4), currency VARCHAR)"
    )
    for place in range(1, session.scalar("SELECT coalesce(max(place), 0) FROM ranked_credit") + 1):
        session.execute(_DRAW, {"place": place})
    draws = session.sql("SELECT * FROM draw ORDER BY ALL").cast(schema.table("credit_draws").arrow)
    balances = session.sql(
        """
        SELECT c.credit_id, c.subscription_source_id, c.currency, c.amount AS granted, coalesce(d.drawn, 0) AS drawn,
          CASE WHEN c.expires_on <= $as_of THEN c.amount - coalesce(d.drawn, 0) ELSE 0 END AS expired,
          CASE WHEN c.expires_on <= $as_of THEN 0 ELSE c.amount - coalesce(d.drawn, 0) END AS balance
        FROM given_prepaid_credit AS c
        LEFT JOIN (SELECT credit_id, sum(amount) AS drawn FROM draw GROUP BY credit_id) AS d USING (credit_id)
        ORDER BY c.credit_id
        """,
        {"as_of": as_of},
    ).cast(schema.table("credit_balances").arrow)
    over = session.rows(
        "SELECT credit_id, any_value(c.amount), sum(d.amount)"
        " FROM draw AS d JOIN given_prepaid_credit AS c USING (credit_id)"
        " GROUP BY credit_id HAVING sum(d.amount) > any_value(c.amount) LIMIT 1"
    )
    if over:
        raise DataError("more was drawn than granted", record=over[0][0], expected=over[0][1], got=over[0][2])
    return CreditUse(draws, balances)


_DRAW = """
INSERT INTO draw
WITH unpaid AS (
  SELECT o.* EXCLUDE (amount), CAST(any_value(o.amount) - coalesce(sum(d.amount), 0) AS DECIMAL(18, 4)) AS amount
  FROM owed AS o
  LEFT JOIN draw AS d USING (subscription_source_id, meter, period_start, currency)
  GROUP BY ALL
), reached AS (
  SELECT c.credit_id, u.*, c.amount - coalesce(sum(u.amount) OVER (
      PARTITION BY c.credit_id ORDER BY u.period_end, u.meter, u.period_start
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS remaining
  FROM ranked_credit AS c
  JOIN unpaid AS u
    ON u.subscription_source_id = c.subscription_source_id AND u.currency = c.currency
    AND (c.meter IS NULL OR c.meter = u.meter)
    AND c.granted_on < u.period_end AND (c.expires_on IS NULL OR c.expires_on >= u.period_end)
  WHERE c.place = $place AND u.amount > 0
)
SELECT credit_id, subscription_source_id, meter, period_start, period_end, least(amount, remaining), currency
FROM reached WHERE remaining > 0
"""


def _once(session: Engine, name: str, key: str) -> None:
    repeated = session.rows(f"SELECT {key} FROM given_{name} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1")
    if repeated:
        raise DataError(f"a {name.replace('_', ' ')} comes in two rows", record=repeated[0][0])
