"""What a demo showed: each run's facts beside the answer key, as `demo-summary.json` and as tables at the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tieout.money import round_money
from tieout.reports.stake import count_once, totals
from tieout.settings import Settings
from tieout.store import Store
from tieout_sandbox.company.model import Company
from tieout_sandbox.run_cost import heaviest, split
from tieout_sandbox.scoring import Score, score

if TYPE_CHECKING:
    from rich.table import Table

LEDGER = "erp"  # the sandbox's source that reads the ledger back


@dataclass(frozen=True)
class Observed:
    """One finished run: the facts it left in the store, how long it took, how its breaks score."""

    run_id: str
    business_date: date | None
    seconds: float
    facts: Mapping[str, Any]
    score: Score | None = None
    open_break_value: Mapping[str, str] | None = None
    """At stake behind open breaks by currency as the report counts it, each cause once, for nights."""
    value_at_risk: Mapping[str, str] | None = None
    """What waits behind quarantined records and failed expectations by currency, for nights."""
    open_break_value_monthly: Mapping[str, str] | None = None
    """At stake behind open breaks every month again, by currency, for nights."""

    @property
    def hashes(self) -> dict[str, str]:
        """The result hash of each result table."""
        return dict(self.facts.get("result_hashes", {}))

    @property
    def records(self) -> list[dict[str, Any]]:
        """Where the records of each step, source and object went: in = out + merged + quarantined."""
        return [dict(row) for row in self.facts.get("records", ())]

    def part(self, prefix: str) -> dict[str, Any]:
        """Facts whose key is `prefix/<name>`, by name."""
        return {key.split("/", 1)[1]: value for key, value in self.facts.items() if key.startswith(f"{prefix}/")}

    @property
    def journals(self) -> dict[str, dict[str, int]]:
        """Per legal entity: journals the ERP took, and journals proved by reading them back."""
        return {entity: dict(counts) for entity, counts in sorted(self.part("posting").items())}

    @property
    def matches(self) -> int:
        """Matches of all reconciliations together."""
        return sum(counts["matches"] for counts in self.part("reconcile").values())


def observe_night(settings: Settings, run_id: str, day: date, seconds: float, company: Company) -> Observed:
    """A night's facts, its breaks compared with the answer key at once, before a later run replaces them."""
    store = Store(settings.store)
    breaks = _breaks(settings, store, run_id, day)
    found, facts = score(breaks, company.labels, day), store.facts(run_id)
    counted = count_once(breaks)
    owed, monthly = (_sums(totals(counted, measure).items()) for measure in ("balance", "monthly"))
    return Observed(run_id, day, seconds, facts, found, owed, value_at_risk(facts, store), monthly)


def observe_month_end(settings: Settings, run_id: str, seconds: float) -> Observed:
    """The month end's facts."""
    return Observed(run_id, None, seconds, Store(settings.store).facts(run_id))


def _breaks(settings: Settings, store: Store, run_id: str, day: date) -> list[dict[str, Any]]:
    from tieout.lake.engine import engine
    from tieout.lake.tables import Lake

    with engine(settings) as session:
        Lake(settings.lake).bind(session, store.published(run_id), ["breaks"])
        found = session.sql(
            "SELECT definition_id, legal_entity_id, break_key, ordinal, break_type, currency, value, measure, cause, "
            "difference, left_amount, right_amount FROM breaks WHERE business_date = $day",
            {"day": day},
        )
    return list(found.to_pylist())


def value_at_risk(facts: Mapping[str, Any], store: Store) -> dict[str, str]:
    """What waits by currency: behind records in quarantine now, and behind expectations that failed in this run."""
    waiting = [(one.currency, abs(one.amount)) for one in store.quarantined() if one.amount is not None]
    for row in facts.get("gate_rows", ()):
        for text in filter(None, row["value_at_risk"].split(", ")):
            amount, currency = text.rsplit(" ", 1)  # as people read it: "117,480 JPY"
            waiting.append((currency, Decimal(amount.replace(",", ""))))
    return _sums(waiting)


def _sums(amounts: Iterable[tuple[str | None, Decimal]]) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for currency, amount in amounts:
        if currency:
            sums[currency] = sums.get(currency, Decimal(0)) + amount
    return {currency: format(round_money(total, currency), "f") for currency, total in sorted(sums.items())}


def summarise(
    nights: Sequence[Observed],
    month: Observed,
    again: Sequence[Observed],
    *,
    moves: tuple[Mapping[str, int], Mapping[str, int]],
) -> dict[str, Any]:
    """The content of `demo-summary.json`: nights, month end, and the second pass over all nights.

    `moves` are the ERP's moves per company before and after the second pass, counted in the ERP itself.
    """
    before, after = moves
    first = {one.business_date: one for one in nights}
    return {
        "runs": [_night(one) for one in nights],
        "month_end": {
            "period": month.facts.get("period"),
            "journals": month.journals,
            "records": month.records,
            "result_hashes": month.hashes,
            "trial_balance_ties": _ties(month),
            "close_backlog": month.facts.get("close_backlog", {}).get("items", 0),
            "seconds": month.seconds,
            "cost": split(month.facts, month.seconds),
        },
        "second_runs": [_again(one, first[one.business_date]) for one in again],
        "moves_in_erp": {e: {"before": before.get(e, 0), "after": n} for e, n in sorted(after.items())},
        "posted_on_second_run": sum(after.values()) - sum(before.values()),
    }


def _night(one: Observed) -> dict[str, Any]:
    # the ledger is read back at the end of the night, apart from what the night works on
    vendors = {source: facts for source, facts in sorted(one.part("extract").items()) if source != LEDGER}
    extracted = {source: facts["records"] for source, facts in vendors.items()}
    read = [row for row in one.records if row["step"] == "conform" and row["source"] != LEDGER]
    kept, merged, quarantined = (sum(row[name] for row in read) for name in ("out", "merged", "quarantined"))
    return {
        "business_date": str(one.business_date),
        "extracted": sum(extracted.values()),
        "extracted_by_source": extracted,
        "kept_raw": sum(facts["kept_raw"] for facts in vendors.values()),
        "conformed": kept + merged,
        "kept": kept,
        "merged": merged,
        "quarantined": quarantined,
        "records": one.records,
        "matches": one.matches,
        **_scored(one),
        "result_hashes": one.hashes,
        "open_break_value": dict(one.open_break_value or {}),
        "open_break_value_monthly": dict(one.open_break_value_monthly or {}),
        "value_at_risk": dict(one.value_at_risk or {}),
        "journals": one.journals,
        "trial_balance_ties": _ties(one),
        "seconds": one.seconds,
        "cost": split(one.facts, one.seconds),
    }


def _again(one: Observed, first: Observed) -> dict[str, Any]:
    """A night run again after later ones: it must find what that night found, so that evening's key is its key."""
    return {
        "business_date": str(one.business_date),
        "matches": one.matches,
        **_scored(one),
        "result_hashes": one.hashes,
        "same_results": one.hashes == first.hashes,
        "journals": one.journals,
        "trial_balance_ties": _ties(one),
        "seconds": one.seconds,
        "cost": split(one.facts, one.seconds),
    }


def _scored(one: Observed) -> dict[str, Any]:
    assert one.score is not None  # noqa: S101  a night is always scored
    return {"breaks": one.score.by_type(), "precision": one.score.precision, "recall": one.score.recall}


def _ties(one: Observed) -> bool:
    return bool(one.facts.get("proof", {}).get("ties", False))


def show(summary: Mapping[str, Any], nights: Sequence[Observed], month: Observed) -> None:
    """The same as tables, with what was missed or invented by name, and where the reports are."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 120)
    for table in (
        _records_table(summary, nights),
        _breaks_table(summary),
        _journals_table(summary),
        _again_table(summary),
        _cost_table(summary),
    ):
        console.print(table)
        console.print()
    for one in nights:
        if one.score is not None:
            for name in ("missed", "invented"):
                for b in sorted(getattr(one.score, name)):
                    console.print(f"{one.business_date} {name}: {' '.join(b)}", markup=False, highlight=False)
    posted = summary["posted_on_second_run"]
    console.print(f"second pass over all nights: {'nothing posted' if not posted else f'{posted} JOURNALS POSTED'}")
    for one in (*nights, month):
        for name, path in sorted(one.facts.get("report", {}).items()):
            if name in ("html", "tables", "workbook"):
                label = one.business_date or one.facts.get("period")
                console.print(f"{label} {name}: {path}", markup=False, highlight=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    """A table that starts at the left, its figures at the right of their columns."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold")
    for n, column in enumerate(columns):
        made.add_column(column, justify="right" if n else "left")
    return made


def _records_table(summary: Mapping[str, Any], nights: Sequence[Observed]) -> Table:
    runs = summary["runs"]
    table = _table(
        "Records read, and where each of them went", "number of records", *(r["business_date"] for r in runs)
    )
    for source in sorted({s for r in runs for s in r["extracted_by_source"]}):
        table.add_row(f"read from {source}", *(f"{r['extracted_by_source'].get(source, 0):,}" for r in runs))
    table.add_section()
    table.add_row("read from all", *(f"{r['extracted']:,}" for r in runs))
    table.add_row("= kept", *(f"{r['kept']:,}" for r in runs))
    table.add_row("+ merged (repeated, or older than another)", *(f"{r['merged']:,}" for r in runs))
    table.add_row("+ quarantined", *(f"{r['quarantined']:,}" for r in runs))
    table.add_section()
    table.add_row("read besides, kept as raw pages only", *(f"{r['kept_raw']:,}" for r in runs))
    table.add_row("extracts proven by a control total", *(_proven(one) for one in nights))
    table.add_row("value at risk: quarantine and failed checks", *(_amounts(r["value_at_risk"]) for r in runs))
    return table


def _breaks_table(summary: Mapping[str, Any]) -> Table:
    runs = summary["runs"]
    table = _table("Breaks found / planted (the answer key)", "number of breaks", *(r["business_date"] for r in runs))
    for kind in sorted({t for r in runs for t in r["breaks"]}):
        table.add_row(kind.replace("_", " "), *(_cell(r["breaks"].get(kind)) for r in runs))
    table.add_section()
    table.add_row("precision (share of the found that is planted)", *(f"{r['precision']:.3f}" for r in runs))
    table.add_row("recall (share of the planted that is found)", *(f"{r['recall']:.3f}" for r in runs))
    table.add_row("at stake behind open breaks", *(_amounts(r["open_break_value"]) for r in runs))
    table.add_row("at stake every month again", *(_amounts(r["open_break_value_monthly"]) for r in runs))
    table.add_row("matches of all reconciliations", *(f"{r['matches']:,}" for r in runs))
    return table


def _journals_table(summary: Mapping[str, Any]) -> Table:
    runs, month = summary["runs"], summary["month_end"]
    columns = [*(r["journals"] for r in runs), month["journals"]]
    title = "Journals posted / read back from the ERP line by line"
    table = _table(title, "number of journals", *(r["business_date"] for r in runs), f"month end {month['period']}")
    for entity in sorted({e for c in columns for e in c}):
        table.add_row(entity, *(_posted(c.get(entity)) for c in columns))
    table.add_section()
    ties = [*(r["trial_balance_ties"] for r in runs), month["trial_balance_ties"]]
    table.add_row("trial balance ties to the cent", *map(_yes, ties))
    return table


def _again_table(summary: Mapping[str, Any]) -> Table:
    again, moves = summary["second_runs"], summary["moves_in_erp"]
    table = _table(
        "All nights again, after the month end", "second run of the night", *(r["business_date"] for r in again)
    )
    table.add_row("same results (hashes of all result tables)", *(_yes(r["same_results"]) for r in again))
    table.add_row("journals posted (number)", *(f"{sum(c['posted'] for c in r['journals'].values())}" for r in again))
    table.add_row("precision", *(f"{r['precision']:.3f}" for r in again))
    table.add_row("recall", *(f"{r['recall']:.3f}" for r in again))
    table.add_row("trial balance ties to the cent", *(_yes(r["trial_balance_ties"]) for r in again))
    counted = ", ".join(f"{entity} {n['before']:,} → {n['after']:,}" for entity, n in moves.items())
    table.caption, table.caption_justify = f"moves in the ERP before → after: {counted}", "left"
    return table


def _cost_table(summary: Mapping[str, Any]) -> Table:
    columns = ("in all", "our steps", "posting", "Airflow", "largest process", "longest steps")
    table = _table("Where the seconds of each run went", "run", *columns)
    month = summary["month_end"]
    runs = [(r["business_date"], r["cost"]) for r in summary["runs"]]
    runs.append((f"month end {month['period']}", month["cost"]))
    runs += [(f"{r['business_date']} again", r["cost"]) for r in summary["second_runs"]]
    for label, cost in runs:
        spent = (f"{cost[name]:.0f}" for name in ("seconds", "own", "posting", "airflow"))
        table.add_row(label, *spent, f"{cost['peak_mb']:,} MB", heaviest(cost))
    return table


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def _proven(one: Observed) -> str:
    parts = one.part("extract").values()
    return f"{sum(p.get('proven', 0) for p in parts)} of {sum(p.get('extracts', 0) for p in parts)}"


def _amounts(values: Mapping[str, str]) -> str:
    return "\n".join(f"{Decimal(value):,f} {currency}" for currency, value in values.items()) or "-"


def _cell(counts: Mapping[str, int] | None) -> str:
    if not counts:
        return "-"
    return f"{counts['found']} / {counts['planted']}" + (
        f" +{counts['invented']} invented" if counts["invented"] else ""
    )


def _posted(counts: Mapping[str, int] | None) -> str:
    return f"{counts['posted']} / {counts['read_back']}" if counts else "0 / 0"
