"""The rating benchmark: a million subscription-periods priced by list prices and by prices of their own."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tieout.lake.engine import Engine, engine
from tieout.usage import rate
from tieout_sandbox.bench.data import write

_PERIOD = (date(2026, 1, 1), date(2027, 1, 1))
_CURRENCIES = "['USD', 'EUR', 'JPY', 'GBP']"


def subscription_periods(session: Engine, folder: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """Usage of four months and two meters per subscription, and the price book.

    Eight list prices of five models with and without included units, packages and minimums; one subscription in twenty
    has a price of its own.
    """
    numbered = f"SELECT range AS i, 'sub_' || lpad((range // 8)::VARCHAR, 20, '0') AS subscription FROM range({rows})"
    usage = write(
        session,
        "SELECT subscription AS subscription_source_id, 'meter_' || ((i // 8) % 4 * 2 + i % 2) AS meter,\n"
        "  'period' AS grain, DATE '2026-01-01' + to_months(((i // 2) % 4)::INTEGER)::INTERVAL AS starts,\n"
        "  CAST(starts AS DATE) AS period_start, CAST(starts + INTERVAL 1 MONTH AS DATE) AS period_end,\n"
        "  'US' AS legal_entity_id, 'crm:' || subscription AS customer_id,\n"
        "  CAST(hash(i) % 3000000 / 2 AS DECIMAL(28, 9)) AS quantity, 'call' AS unit, 1::BIGINT AS event_count,\n"
        "  0::BIGINT AS corrected_count, 0::BIGINT AS late_count, left(md5(subscription), 16) AS correlation_id\n"
        f"FROM ({numbered})",
        folder / "left.parquet",
    )
    prices = write(
        session,
        "SELECT CASE WHEN n >= 8 THEN 'sub_' || lpad(((n - 8) * 20)::VARCHAR, 20, '0') END AS subscription_source_id,\n"
        "  'meter_' || CASE WHEN n < 8 THEN n ELSE (n - 8) * 20 % 4 * 2 END AS meter,\n"
        "  'price_' || n AS price_source_id,\n"
        "  ['unit', 'graduated', 'volume', 'package', 'graduated', 'unit', 'volume', 'graduated'][1 + (n % 8)::INTEGER]"
        " AS model,\n"
        "  t AS tier_no, CASE WHEN t < tiers THEN t * 500000 END::DECIMAL(28, 9) AS up_to,\n"
        "  (0.0021 / t)::DECIMAL(28, 12) AS unit_amount, CASE WHEN n % 8 = 2 THEN 5 * t END::DECIMAL(28, 12)"
        " AS flat_amount,\n"
        "  CASE WHEN n % 8 = 3 THEN 1000 END::DECIMAL(28, 9) AS package_size, NULL::VARCHAR AS package_round,\n"
        "  CASE WHEN n % 8 IN (0, 4) THEN 100000 END::DECIMAL(28, 9) AS included_quantity,\n"
        "  CASE WHEN n % 8 = 5 THEN 100 END::DECIMAL(18, 4) AS minimum_amount,\n"
        f"  {_CURRENCIES}[1 + (n % 4)::INTEGER] AS currency, NULL::DATE AS valid_from, NULL::DATE AS valid_to\n"
        f"FROM (SELECT range AS n, CASE WHEN range % 8 IN (0, 3, 5) THEN 1 ELSE 3 END AS tiers\n"
        f"  FROM range({8 + rows // 160})), range(1, 4) AS r(t) WHERE t <= tiers",
        folder / "right.parquet",
    )
    return [usage], [prices]


def floor(folder: Path) -> str:
    """One read of every column that rating needs."""
    return (
        f"SELECT 'usage', meter, period_end, count(*), sum(quantity), max(subscription_source_id), max(period_start)\n"
        f"FROM read_parquet('{folder / 'left.parquet'}') WHERE grain = 'period' GROUP BY ALL\n"
        "UNION ALL\n"
        f"SELECT 'price', meter, NULL, count(*), sum(unit_amount), max(subscription_source_id), NULL\n"
        f"FROM read_parquet('{folder / 'right.parquet'}') GROUP BY ALL"
    )


def run(folder: Path, memory: str) -> int:
    """Rate all of it; gives the lines."""
    with engine(memory_limit=memory) as session:
        files = folder / "left.parquet", folder / "right.parquet"
        rated = rate(*files, _PERIOD, worded=False, out=session.scratch / "rated", session=session)
        if rated.quarantined.num_rows:
            raise AssertionError(f"{rated.quarantined.num_rows} periods could not be rated")
        session.bind("lines", rated.lines)
        return int(session.scalar("SELECT count(*) FROM lines"))
