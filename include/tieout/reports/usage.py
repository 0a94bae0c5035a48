"""Usage in the report: what each meter counted and billed over the months, and where its money leaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from tieout.reports import charts
from tieout.reports.data import ReportData, Row

LEAKS = "usage_to_billing"
"""The reconciliation whose breaks are usage leaks; their reason is the kind of leak."""
TOP = 5

# billing periods by the month of their last day; what is billed is dated by the period it bills
TREND = """
WITH ended AS (
  SELECT subscription_source_id, meter, period_start, unit, quantity, strftime(period_end - 1, '%Y-%m') AS month
  FROM usage_summary WHERE grain = 'period' AND period_end <= $day
), due AS (
  SELECT subscription_source_id, meter, period_start, strftime(period_end - 1, '%Y-%m') AS month, currency,
    sum(amount) AS amount
  FROM rated_lines WHERE period_end <= $day GROUP BY ALL
), billed AS (
  SELECT l.meter, strftime(l.period_end - 1, '%Y-%m') AS month, l.currency, sum(l.quantity) AS quantity,
    sum(l.amount) AS amount
  FROM invoice_line AS l
  JOIN invoice AS i ON i.source = l.source AND i.source_id = l.invoice_source_id
  WHERE l.meter IS NOT NULL AND NOT l.is_deleted AND NOT i.is_deleted AND i.status <> 'draft'
    AND NOT (i.status = 'void' AND i.voided_date <= $day) AND i.accounting_date <= $day AND l.period_end <= $day
  GROUP BY ALL
), counted AS (
  -- what is due without usage too
  SELECT meter, coalesce(e.month, d.month) AS month, d.currency, any_value(e.unit) AS unit,
    sum(coalesce(e.quantity, 0)) AS quantity, sum(d.amount) AS amount
  FROM ended AS e FULL JOIN due AS d USING (subscription_source_id, meter, period_start)
  GROUP BY ALL
)
SELECT meter, month, currency, c.unit,
  CAST(coalesce(c.quantity, 0) AS DECIMAL(38, 9)) AS counted, CAST(coalesce(b.quantity, 0) AS DECIMAL(38, 9)) AS billed,
  CAST(coalesce(c.amount, 0) AS DECIMAL(38, 4)) AS due, CAST(coalesce(b.amount, 0) AS DECIMAL(38, 4)) AS charged
FROM counted AS c FULL JOIN billed AS b USING (meter, month, currency)
WHERE month > strftime($day - INTERVAL 13 MONTH, '%Y-%m')
ORDER BY meter, month, currency
"""


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter of the usage section."""

    name: str
    unit: str
    chart: str
    """Units counted and billed by month, as inline SVG."""
    latest: tuple[Row, ...]
    """Per currency, what the newest month should have cost and what was billed for it."""


def meters(data: ReportData) -> tuple[Meter, ...]:
    """Every meter with its trend and its newest month."""
    of_meter: dict[str, list[Row]] = defaultdict(list)
    for row in data.usage:
        of_meter[row["meter"]].append(row)
    found = []
    for name, rows in sorted(of_meter.items()):
        months = sorted({r["month"] for r in rows})
        series = [
            (label, [sum((r[column] for r in rows if r["month"] == m), Decimal(0)) for m in months], tone)
            for label, column, tone in (("counted", "counted", "#2f6f8f"), ("billed", "billed", "#d9822b"))
        ]
        unit = next((r["unit"] for r in rows if r["unit"]), "unit")
        found.append(
            Meter(
                name.replace("_", " "),
                unit.replace("_", " "),
                charts.trend(months, series, f"{name.replace('_', ' ')} by month"),
                tuple(r for r in rows if r["month"] == months[-1] and r["currency"]),
            )
        )
    return tuple(found)


def leaks_by_kind(breaks: Iterable[Row]) -> list[Row]:
    """Open usage leaks by kind: how many, their money by currency, and how many are not priced; the most first."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in _leaks(breaks):
        kinds[_kind(row)].append(row)
    rows: list[Row] = []
    for kind, of in kinds.items():
        priced = [r for r in of if r.get("value") is not None and r.get("currency")]
        money: dict[str, Decimal] = defaultdict(Decimal)
        for row in priced:
            money[row["currency"]] += row["value"]
        rows.append({"kind": kind, "open": len(of), "money": dict(money), "not_priced": len(of) - len(priced)})
    return sorted(rows, key=lambda r: (-r["open"], r["kind"]))


def top_leaks(breaks: Iterable[Row], at_most: int | None = TOP) -> list[Row]:
    """The largest open usage leaks of each currency, with their kind."""
    ordered = sorted(_leaks(breaks), key=lambda r: (r.get("currency") or "~", -_value(r), r["break_key"]))
    seen: dict[str, int] = defaultdict(int)
    found: list[Row] = []
    for row in ordered:
        currency = row.get("currency") or ""
        seen[currency] += 1
        if at_most is None or (seen[currency] <= at_most and currency):
            found.append({**row, "kind": _kind(row)})
    return found


def _leaks(breaks: Iterable[Row]) -> list[Row]:
    return [b for b in breaks if b["definition_id"] == LEAKS and b["break_type"] != "timing"]


def _kind(row: Row) -> str:
    return str(row.get("reason") or row["break_type"].replace("_", " "))


def _value(row: Row) -> Decimal:
    return row.get("value") or Decimal(0)
