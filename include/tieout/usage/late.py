"""Usage that came after its billing period was billed: what it would have cost on that invoice."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.usage.inputs import Rows, bind
from tieout.usage.worth import rate_cases

_NEEDED = ("subscription_source_id", "meter", "grain", "period_start", "period_end", "quantity")


def late_worth(
    usage: Rows,
    late: Rows,
    prices: Rows,
    period: tuple[date, date],
    *,
    subscriptions: Rows | None = None,
    session: Engine | None = None,
) -> pa.Table:
    """The money of late usage: the billing period rated with it, less the period rated without it.

    `usage` is everything counted, the late events included, `late` the late quantity alone; both have the columns of
    `usage_summary`, of which rows of grain `period` count. `prices`, `period` and `subscriptions` are as for `rate`.
    Tiers, included units and minimums are those of the whole period, so late units cost what they really add: nothing
    within what is included, the next tier's amount beyond. Gives the columns of `late_usage_worth`, a row per late
    period that can be rated; one that cannot has a null amount. Raises DataError as `rate` does, and where more is late
    than was counted at all.
    """
    if session is None:
        with engine() as own:
            return late_worth(usage, late, prices, period, subscriptions=subscriptions, session=own)
    bind(session, "usage_summary", usage, _NEEDED)
    session.execute(
        "CREATE OR REPLACE TEMP TABLE all_usage AS SELECT * FROM given_usage_summary WHERE grain = 'period'"
    )
    bind(session, "usage_summary", late, _NEEDED)
    session.execute(
        """
        CREATE OR REPLACE TEMP TABLE late_usage AS
        SELECT l.subscription_source_id, l.meter, l.period_start, a.period_end, a.quantity, l.quantity AS late_quantity
        FROM given_usage_summary AS l
        LEFT JOIN all_usage AS a USING (subscription_source_id, meter, period_start)
        WHERE l.grain = 'period' AND l.quantity <> 0
          AND (a.quantity IS NULL OR (a.period_end > $start AND a.period_end <= $end))
        """,
        {"start": period[0], "end": period[1]},
    )
    if session.rows("SELECT 1 FROM late_usage WHERE quantity IS NULL OR late_quantity > quantity LIMIT 1"):
        raise DataError("more usage is late than was counted", remedy="give all usage, the late included")
    rate_cases(session, _CASES, prices, period, subscriptions=subscriptions)
    return session.sql(
        """
        SELECT c.subscription_source_id, c.meter, c.period_start, c.period_end,
          CAST(c.quantity - c.other_quantity AS DECIMAL(28, 9)) AS late_quantity, w.amount, w.currency
        FROM rated_case AS c JOIN case_worth AS w USING (case_no)
        ORDER BY ALL
        """
    ).cast(schema.table("late_usage_worth").arrow)


_CASES = """
SELECT row_number() OVER (ORDER BY subscription_source_id, meter, period_start) AS case_no,
  subscription_source_id, meter, period_start, period_end, quantity, quantity - late_quantity AS other_quantity
FROM late_usage
"""
