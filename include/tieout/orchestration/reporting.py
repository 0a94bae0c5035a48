"""The report of a business date: gathered from the run's snapshot and facts, written as HTML, workbook and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tieout.orchestration.completeness import unproven_sentences
from tieout.orchestration.facts import Facts

if TYPE_CHECKING:
    from tieout.entities import Entities
    from tieout.lake.tables import Lake
    from tieout.orchestration.work import Work

_AMOUNTS = ("opening", "posted", "foreign", "expected", "trial_balance", "difference", "debit", "credit")
TITLE = "Nightly reconciliation"


def write_report(
    work: Work,
    run_id: str,
    business_date: date,
    known: Mapping[str, Any],
    *,
    title: str = TITLE,
    name: str = "",
    lake: Lake | None = None,
    entities: Entities | None = None,
) -> Facts:
    """Write the report below `reports/<name, or business date>/` and return its paths by kind.

    `known` are the facts of the run: proof and foreign entries (amounts as text), the gate, what is unproven, the
    result hashes. `lake` and `entities` are the run's own unless the report shows others.
    """
    from tieout.breaks.inputs import definition_path
    from tieout.lake.engine import engine
    from tieout.orchestration.calendars import name_of_period_end, span_of_period_end
    from tieout.reconcile import load_definition
    from tieout.reports.export import export
    from tieout.reports.gather import gather
    from tieout.reports.html import render
    from tieout.reports.workbook import write

    shown = entities or work.entities
    _, closes_on = span_of_period_end(business_date, shown)
    folder = work.settings.reports / (name or business_date.isoformat())
    folder.mkdir(parents=True, exist_ok=True)
    snapshot = work.store.published(run_id)
    loaded = [load_definition(definition_path(work.settings, definition)) for definition in work.definitions]
    with engine(work.settings) as session:
        data = gather(
            business_date,
            engine=session,
            lake=lake or work.lake,
            snapshot=snapshot,
            landing=work.landing,
            store=work.store,
            entities=shown,
            title=title,
            definitions={d.id: d.title for d in loaded},
            sides={d.id: (d.left.name, d.right.name) for d in loaded},
            close_report=""
            if "backlog_rows" in known
            else f"reports/{name_of_period_end(closes_on, shown)}/report.html",
            sources=list(work.sources),
            gate=known.get("gate_rows", ()),
            proof=_rows(known.get("proof_rows", ())),
            foreign=_rows(known.get("foreign_rows", ())),
            backlog=_rows(known.get("backlog_rows", ())),
            unproven=unproven_sentences(known),
            unproved=known.get("unproved", ()),
            note=known.get("note", ""),
            hashes=known.get("result_hashes", {}),
        )
        export(business_date, folder / "tables", engine=session, lake=lake or work.lake, snapshot=snapshot)
    page, book = folder / "report.html", folder / "report.xlsx"
    page.write_text(render(data), encoding="utf-8")
    write(data, book)
    return {"html": str(page), "workbook": str(book), "tables": str(folder / "tables")}


def _rows(kept: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as the store keeps them, their amounts exact again and their dates dates."""
    return [{name: _value(name, value) for name, value in row.items()} for row in kept]


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _AMOUNTS or name == "amount":
        return Decimal(value)
    return date.fromisoformat(value) if name in ("accounting_date", "since") else value
