"""The report of a business date as one self-contained HTML file: no script, no request, every text escaped."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tieout.money import minor_digits, round_money
from tieout.reports import charts
from tieout.reports.data import (
    AGE_BUCKETS,
    ReportData,
    Row,
    age_bucket,
    count_by,
    headline,
    money_by,
    open_breaks,
    totals_by_outcome,
)

# A page with tens of thousands of rows helps nobody: the workbook and the result tables hold them all.
SHOWN = 300
_TONES = ("#7fb3a8", "#e0b04f", "#d9822b", "#b0413e")


def render(data: ReportData) -> str:
    """The whole page. The same data gives the same bytes."""
    waiting = open_breaks(data)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in waiting:
        groups.setdefault((row.get("owner") or "nobody", row["definition_id"]), []).append(row)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            head=headline(data),
            waiting=waiting,
            groups=groups,
            shown=SHOWN,
            type_chart=_types(waiting),
            age_chart=_ages(waiting),
            totals=totals_by_outcome(data),
            value_waiting=_money_list(money_by(waiting, "value", "currency")),
            quarantine_reasons=count_by(data.quarantine, "source", "object", "reason_code"),
        )
    )


def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("tieout.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"money": money, "when": when, "words": words}
    return env


def money(amount: Decimal | None, currency: str | None) -> str:
    """An amount with separators at the currency's own digits; nothing for None, four places without a currency."""
    if amount is None:
        return ""
    if not currency:
        return f"{amount:,}"
    return f"{round_money(amount, currency):,.{minor_digits(currency)}f}"


def when(value: date | datetime | str | None) -> str:
    """A date, or an instant to the minute in UTC."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return "" if value is None else str(value)


def words(code: str | None) -> str:
    """A code as words: `missing_right` reads `missing right`."""
    return (code or "").replace("_", " ")


def _money_list(sums: dict[tuple[Any, ...], Decimal]) -> str:
    return " · ".join(f"{money(amount, currency)} {currency}" for (currency,), amount in sums.items() if currency)


def _types(waiting: tuple[Row, ...]) -> str:
    rows = []
    for (kind,), count in sorted(count_by(waiting, "break_type").items(), key=lambda item: (-item[1], item[0])):
        amounts = money_by([b for b in waiting if b["break_type"] == kind], "value", "currency")
        rows.append((words(str(kind)), count, " · ".join(filter(None, (str(count), _money_list(amounts))))))
    return charts.bars(rows, "Open breaks by type")


def _ages(waiting: tuple[Row, ...]) -> str:
    names = [name for name, _ in AGE_BUCKETS]
    rows = []
    for (owner,), _ in count_by(waiting, "owner").items():
        mine = [age_bucket(b.get("age_days")) for b in waiting if b.get("owner") == owner]
        rows.append((str(owner or "nobody"), [mine.count(name) for name in names]))
    return charts.stacked(rows, list(zip(names, _TONES, strict=True)), "Open breaks by owner and age")
