"""What other quantities would have cost: a billing period rated as it is, less the same period rated otherwise."""

from __future__ import annotations

from datetime import date

from tieout.lake.engine import Engine
from tieout.usage.inputs import Rows, bind
from tieout.usage.rating import rate


def rate_cases(
    session: Engine, cases: str, prices: Rows, period: tuple[date, date], *, subscriptions: Rows | None = None
) -> None:
    """Make the table `case_worth` (case_no, amount, currency): what each case's `quantity` costs more than its
    `other_quantity`.

    `cases` is a query that gives case_no, subscription_source_id, meter, period_start, period_end, quantity and
    other_quantity; many may be of one billing period. Each quantity is priced as the whole of its period's, with its
    tiers, packages, included units and minimums. The amount is null where one of the two cannot be rated, or they are
    not of one currency.
    """
    session.execute(f"CREATE OR REPLACE TEMP TABLE rated_case AS {cases}")
    if not session.scalar("SELECT count(*) FROM rated_case"):
        session.execute(
            "CREATE OR REPLACE TEMP TABLE case_worth (case_no BIGINT, amount DECIMAL(18, 4), currency VARCHAR)"
        )
        return
    bind(session, "price_book", prices, ())
    bind(session, "subscription", [] if subscriptions is None else subscriptions, ())
    # a period may be in many cases, and is rated once at a time: each quantity gets a subscription of its own
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE case_quantity AS
        SELECT case_no || ':' || side AS own, side, case_no, subscription_source_id, meter, period_start, period_end,
          CAST(CASE side WHEN 'is' THEN quantity ELSE other_quantity END AS DECIMAL(28, 9)) AS quantity
        FROM rated_case CROSS JOIN (VALUES ('is'), ('other')) AS s(side)
        """
    )
    usage = session.sql("SELECT * REPLACE (own AS subscription_source_id), 'period' AS grain FROM case_quantity")
    book = session.sql(
        """
        SELECT * FROM given_price_book WHERE subscription_source_id IS NULL
        UNION ALL
        SELECT b.* REPLACE (c.own AS subscription_source_id)
        FROM given_price_book AS b
        JOIN case_quantity AS c USING (subscription_source_id, meter)
        """
    )
    known = session.sql(
        """
        SELECT c.own AS source_id, s.currency
        FROM case_quantity AS c
        JOIN (
          SELECT source_id, any_value(currency) AS currency FROM given_subscription
          GROUP BY source_id HAVING count(*) = 1
        ) AS s ON s.source_id = c.subscription_source_id
        """
    )
    rated = rate(usage, book, period, subscriptions=known, worded=False, session=session)
    session.bind("case_line", rated.lines)
    session.bind("case_unrated", rated.quarantined)
    session.bind("case_currency", known)
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE case_worth AS
        WITH charged AS (
          SELECT c.case_no, c.side, coalesce(sum(l.amount), 0) AS amount,
            count(DISTINCT l.currency) AS currencies, min(l.currency) AS currency,
            bool_or(u.meter IS NOT NULL) AS unrated
          FROM case_quantity AS c
          LEFT JOIN case_line AS l ON l.subscription_source_id = c.own
          LEFT JOIN case_unrated AS u ON u.subscription_source_id = c.own
          GROUP BY c.case_no, c.side
        )
        SELECT i.case_no,
          CASE WHEN NOT i.unrated AND NOT o.unrated AND i.currencies <= 1 AND o.currencies <= 1
              AND coalesce(i.currency = o.currency, true)
            THEN CAST(i.amount - o.amount AS DECIMAL(18, 4)) END AS amount,
          coalesce(i.currency, o.currency, k.currency) AS currency
        FROM charged AS i
        JOIN charged AS o ON o.case_no = i.case_no AND o.side = 'other'
        LEFT JOIN case_currency AS k ON k.source_id = i.case_no || ':is'
        WHERE i.side = 'is'
        """
    )
