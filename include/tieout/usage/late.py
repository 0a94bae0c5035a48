"""Usage that came after its billing period was billed: what it would have cost on that invoice."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from tieout import schema
from tieout.errors import DataError
from tieout.lake.engine import Engine, engine
from tieout.usage.inputs import Rows, bind
from tieout.usage.rating import rate

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
    sums = {}
    for name, quantity in (("with", "quantity"), ("without", "quantity - late_quantity")):
        given = session.sql(
            f"SELECT * REPLACE (CAST({quantity} AS DECIMAL(28, 9)) AS quantity), 'period' AS grain FROM late_usage"
        )
        rated = rate(given, prices, period, subscriptions=subscriptions, worded=False, session=session)
        sums[name] = rated
        session.bind(f"lines_{name}", rated.lines)
    session.bind("not_rated", sums["with"].quarantined)
    return session.sql(
        """
        WITH w AS (
          SELECT subscription_source_id, meter, period_start, sum(amount) AS amount, any_value(currency) AS currency
          FROM lines_with GROUP BY ALL
        ), o AS (
          SELECT subscription_source_id, meter, period_start, sum(amount) AS amount FROM lines_without GROUP BY ALL
        )
        SELECT u.subscription_source_id, u.meter, u.period_start, u.period_end, u.late_quantity,
          CASE WHEN n.reason_code IS NULL THEN coalesce(w.amount, 0) - coalesce(o.amount, 0) END AS amount, w.currency
        FROM late_usage AS u
        LEFT JOIN w USING (subscription_source_id, meter, period_start)
        LEFT JOIN o USING (subscription_source_id, meter, period_start)
        LEFT JOIN not_rated AS n USING (subscription_source_id, meter, period_start)
        ORDER BY ALL
        """
    ).cast(schema.table("late_usage_worth").arrow)
