"""The report of a business date as one self-contained HTML file: no script, no request, every text escaped."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tieout.money import minor_digits, round_money
from tieout.reports import charts
from tieout.reports.compared import Amount, compared
from tieout.reports.data import (
    AGE_BUCKETS,
    ReportData,
    Row,
    age_bucket,
    count_by,
    headline,
    money_list,
    open_breaks,
    totals_by_outcome,
)
from tieout.reports.stake import MEANING, MEASURES, measure, not_priced, totals
from tieout.reports.usage import leaks_by_kind, meters, top_leaks

# A page with tens of thousands of rows helps nobody: the workbook and the result tables hold them all.
SHOWN = 300
_TONES = ("#7fb3a8", "#e0b04f", "#d9822b", "#b0413e")


def render(data: ReportData) -> str:
    """The whole page. The same data gives the same bytes."""
    waiting = open_breaks(data)
    leaks = leaks_by_kind(waiting)
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
            meaning=MEANING,
            measures=MEASURES,
            stake={name: money_list(totals(waiting, name)) for name in MEASURES},
            totals_at_stake={name: totals(waiting, name) for name in MEASURES},
            currencies=sorted({b["currency"] for b in waiting if b.get("currency")}),
            by_definition=_by_definition(waiting),
            groups=groups,
            shown=SHOWN,
            type_chart=_types(waiting),
            age_chart=_ages(waiting),
            meters=meters(data),
            leaks=leaks,
            leak_currencies=sorted({currency for leak in leaks for currency in leak["money"]}),
            top_leaks=top_leaks(waiting),
            unrated_reasons=count_by(data.unrated, "meter", "reason_code"),
            totals=totals_by_outcome(data),
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
    env.filters |= {
        "money": money,
        "when": when,
        "words": words,
        "units": units,
        "compared": compared,
        "side": side,
        "stake": stake,
    }
    return env


def money(amount: Decimal | None, currency: str | None) -> str:
    """An amount with separators at the currency's own digits; nothing for None, four places without a currency."""
    if amount is None:
        return ""
    if not currency:
        return f"{amount:,}"
    return f"{round_money(amount, currency):,.{minor_digits(currency)}f}"


def units(value: Decimal | None) -> str:
    """A quantity with separators, without zeros that say nothing."""
    text = f"{value or 0:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def when(value: date | datetime | str | None) -> str:
    """A date, or an instant to the minute in UTC."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return "" if value is None else str(value)


def words(code: str | None) -> str:
    """A code as words: `missing_right` reads `missing right`."""
    return (code or "").replace("_", " ")


def side(value: Amount | str) -> str:
    """One side of what a break compares."""
    return f"{money(value.value, value.currency)} {value.currency}" if isinstance(value, Amount) else value


def stake(row: Row) -> str:
    """What a break alone puts in question; in words where that is no amount."""
    if row.get("value") is None:
        return "two currencies" if row["break_type"] == "currency" else "not priced"
    per = " a month" if measure(row) == "monthly" else ""
    return f"{money(row['value'], row['currency'])} {row['currency'] or ''}{per}"


def _by_definition(waiting: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Per reconciliation: open breaks, new ones, those over a month old, without a price, and what is at stake."""
    found: dict[str, list[Row]] = {}
    for row in sorted(waiting, key=lambda b: str(b["definition_id"])):
        found.setdefault(row["definition_id"], []).append(row)
    return [
        {
            "definition": definition,
            "open": len(rows),
            "new": sum(1 for b in rows if b.get("change") in ("new", "reopened")),
            "old": sum(1 for b in rows if age_bucket(b.get("age_days")) == AGE_BUCKETS[-1][0]),
            "not_priced": not_priced(rows),
            "measure": next((name for name in MEASURES if totals(rows, name)), ""),
            "totals": next((totals(rows, name) for name in MEASURES if totals(rows, name)), {}),
        }
        for definition, rows in found.items()
    ]


def _types(waiting: tuple[Row, ...]) -> str:
    kinds = sorted(count_by(waiting, "break_type").items(), key=lambda item: (-item[1], item[0]))
    return charts.bars([(words(str(kind)), count, str(count)) for (kind,), count in kinds], "Open breaks by type")


def _ages(waiting: tuple[Row, ...]) -> str:
    names = [name for name, _ in AGE_BUCKETS]
    rows = []
    for (owner,), _ in count_by(waiting, "owner").items():
        mine = [age_bucket(b.get("age_days")) for b in waiting if b.get("owner") == owner]
        rows.append((str(owner or "nobody"), [mine.count(name) for name in names]))
    return charts.stacked(rows, list(zip(names, _TONES, strict=True)), "Open breaks by owner and age")
