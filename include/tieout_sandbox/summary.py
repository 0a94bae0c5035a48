"""What a demo showed: each run's facts beside the answer key, as `demo-summary.json` and as tables at the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from tieout.money import round_money
from tieout.settings import Settings
from tieout.store import Store
from tieout_sandbox.company.model import Company
from tieout_sandbox.scoring import Score, score


@dataclass(frozen=True)
class Observed:
    """One finished run: the facts it left in the store, how long it took, how its breaks score."""

    run_id: str
    business_date: date | None
    seconds: float
    facts: Mapping[str, Any]
    score: Score | None = None
    open_break_value: Mapping[str, str] | None = None
    """Value behind open breaks by currency, for nights."""
    value_at_risk: Mapping[str, str] | None = None
    """What waits behind quarantined records and failed expectations by currency, for nights."""

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

    @property
    def posted(self) -> int:
        """Journals the ERP took in this run."""
        return sum(counts["posted"] for counts in self.journals.values())


def observe_night(settings: Settings, run_id: str, day: date, seconds: float, company: Company) -> Observed:
    """A night's facts, its breaks compared with the answer key at once, before a later run replaces them."""
    store = Store(settings.store)
    breaks = _breaks(settings, store, run_id, day)
    found, facts = score(breaks, company.labels, day), store.facts(run_id)
    behind = _sums((one["currency"], abs(one["value"])) for one in breaks if one["value"] is not None)
    return Observed(run_id, day, seconds, facts, found, behind, value_at_risk(facts, store))


def observe_month_end(settings: Settings, run_id: str, seconds: float) -> Observed:
    """The month end's facts."""
    return Observed(run_id, None, seconds, Store(settings.store).facts(run_id))


def _breaks(settings: Settings, store: Store, run_id: str, day: date) -> list[dict[str, Any]]:
    from tieout.lake.engine import engine
    from tieout.lake.tables import Lake

    with engine(settings) as session:
        Lake(settings.lake).bind(session, store.published(run_id), ["breaks"])
        found = session.sql(
            "SELECT definition_id, legal_entity_id, break_key, break_type, currency, value FROM breaks "
            "WHERE business_date = $day",
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


def summarise(nights: Sequence[Observed], month: Observed, again: Sequence[Observed]) -> dict[str, Any]:
    """The content of `demo-summary.json`: nights, month end, and what the second pass posted."""
    return {
        "runs": [_night(one) for one in nights],
        "month_end": {
            "period": month.facts.get("period"),
            "journals": month.journals,
            "trial_balance_ties": _ties(month),
            "close_backlog": month.facts.get("close_backlog", {}).get("items", 0),
            "seconds": month.seconds,
        },
        "second_runs": [_again(one) for one in again],
        "posted_on_second_run": sum(one.posted for one in again),
    }


def _night(one: Observed) -> dict[str, Any]:
    assert one.score is not None  # noqa: S101  a night is always scored
    conform = one.facts.get("conform", {})
    # the ledger is read back at the end of the night, apart from what the night works on
    vendors = {source: facts for source, facts in sorted(one.part("extract").items()) if source != "erp"}
    extracted = {source: facts["records"] for source, facts in vendors.items()}
    return {
        "business_date": str(one.business_date),
        "extracted": sum(extracted.values()),
        "extracted_by_source": extracted,
        "kept_raw": sum(facts["kept_raw"] for facts in vendors.values()),
        "conformed": conform.get("rows", 0) + conform.get("merged", 0),
        "quarantined": conform.get("quarantined", 0),
        "matches": one.matches,
        "breaks": one.score.by_type(),
        "precision": one.score.precision,
        "recall": one.score.recall,
        "open_break_value": dict(one.open_break_value or {}),
        "value_at_risk": dict(one.value_at_risk or {}),
        "journals": one.journals,
        "trial_balance_ties": _ties(one),
        "seconds": one.seconds,
    }


def _again(one: Observed) -> dict[str, Any]:
    """A night run again after later ones: it sees what is known now, so its evening's key is no measure."""
    return {
        "business_date": str(one.business_date),
        "journals": one.journals,
        "trial_balance_ties": _ties(one),
        "seconds": one.seconds,
    }


def _ties(one: Observed) -> bool:
    return bool(one.facts.get("proof", {}).get("ties", False))


def show(summary: Mapping[str, Any], nights: Sequence[Observed], month: Observed, settings: Settings) -> None:
    """The same as tables, with what was missed or invented by name, and where the reports are."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    runs = summary["runs"]

    flow = Table("", *(r["business_date"] for r in runs), title="Rows", title_justify="left")
    for source in sorted({s for r in runs for s in r["extracted_by_source"]}):
        flow.add_row(f"extracted from {source}", *(f"{r['extracted_by_source'].get(source, 0):,}" for r in runs))
    flow.add_row("kept raw only", *(f"{r['kept_raw']:,}" for r in runs))
    flow.add_row("conformed", *(f"{r['conformed']:,}" for r in runs))
    flow.add_row("quarantined", *(f"{r['quarantined']:,}" for r in runs))
    flow.add_row("matches", *(f"{r['matches']:,}" for r in runs))
    flow.add_row("value behind open breaks", *(_amounts(r["open_break_value"]) for r in runs))
    flow.add_row("value at risk: quarantine and failed checks", *(_amounts(r["value_at_risk"]) for r in runs))
    flow.add_row("control totals proven", *(_proven(one) for one in nights))
    console.print(flow)

    breaks = Table(
        "break type", *(r["business_date"] for r in runs), title="Breaks against the answer key: found/planted"
    )
    for kind in sorted({t for r in runs for t in r["breaks"]}):
        breaks.add_row(kind, *(_cell(r["breaks"].get(kind)) for r in runs))
    breaks.add_row("precision", *(f"{r['precision']:.3f}" for r in runs))
    breaks.add_row("recall", *(f"{r['recall']:.3f}" for r in runs))
    console.print(breaks)

    journals = Table("journals posted / read back", *(r["business_date"] for r in runs), "month end")
    columns = [*(r["journals"] for r in runs), summary["month_end"]["journals"]]
    for entity in sorted({e for c in columns for e in c}):
        journals.add_row(entity, *(_posted(c.get(entity)) for c in columns))
    ties = [*(r["trial_balance_ties"] for r in runs), summary["month_end"]["trial_balance_ties"]]
    journals.add_row("trial balance ties", *("yes" if t else "NO" for t in ties))
    console.print(journals)

    for one in nights:
        if one.score is not None:
            for name in ("missed", "invented"):
                for b in sorted(getattr(one.score, name)):
                    console.print(f"{one.business_date} {name}: {' '.join(b)}", markup=False, highlight=False)
    posted = summary["posted_on_second_run"]
    console.print(f"second pass over all nights: {'nothing posted' if not posted else f'{posted} JOURNALS POSTED'}")
    for one in (*nights, month):
        for name, path in sorted(one.facts.get("report", {}).items()):
            if name != "milliseconds":
                label = one.business_date or one.facts.get("period")
                console.print(f"{label} {name}: {path}", markup=False, highlight=False, soft_wrap=True)


def _proven(one: Observed) -> str:
    parts = one.part("extract").values()
    return f"{sum(p.get('proven', 0) for p in parts)} of {sum(p.get('extracts', 0) for p in parts)}"


def _amounts(values: Mapping[str, str]) -> str:
    return "\n".join(f"{value} {currency}" for currency, value in values.items()) or "-"


def _cell(counts: Mapping[str, int] | None) -> str:
    if not counts:
        return "-"
    return f"{counts['found']}/{counts['planted']}" + (f" +{counts['invented']} invented" if counts["invented"] else "")


def _posted(counts: Mapping[str, int] | None) -> str:
    return f"{counts['posted']} / {counts['read_back']}" if counts else "0 / 0"
