"""Gathers what a report shows from the published snapshot, the landed extracts and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import select

from tieout.entities import Entities
from tieout.lake.engine import Engine
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.reports.data import ReportData, Row
from tieout.reports.usage import TREND
from tieout.sources.extract import read_end
from tieout.store import Store
from tieout.store.batches import select_batches
from tieout.store.runs import RunRow

TABLES = (
    "breaks",
    "breaks_gone",
    "breaks_forward",
    "totals",
    "journals",
    "journal_lines",
    "journal_drilldown",
    "journal_held",
    "quarantine",
    "conformed_extracts",
    "usage_summary",
    "rated_lines",
    "unrated_usage",
    "invoice",
    "invoice_line",
)

# Drill-down rows beyond what a workbook holds stay in the result table.
_DRILLDOWN_ROWS = 100_000


def gather(
    business_date: date,
    *,
    engine: Engine,
    lake: Lake,
    snapshot: Mapping[str, int],
    landing: Landing,
    store: Store,
    entities: Entities,
    title: str,
    definitions: Mapping[str, str],
    sides: Mapping[str, tuple[str, str]] | None = None,
    sources: Sequence[str],
    gate: Sequence[Row] = (),
    proof: Sequence[Row] = (),
    foreign: Sequence[Row] = (),
    backlog: Sequence[Row] = (),
    unproven: Sequence[str] = (),
    unproved: Sequence[str] = (),
    note: str = "",
    hashes: Mapping[str, str] | None = None,
    close_report: str = "",
) -> ReportData:
    """The report's data for a business date.

    Journals are those of the date's own slots and every earlier one that is not yet done with; the quarantine is what
    runs up to the date have set aside. `sources` names the configured sources; `gate`, `proof`, `foreign`, `backlog`,
    `unproven`, `unproved`, `hashes`, `sides` and `close_report` are as in `ReportData`.
    """
    lake.bind(engine, snapshot, TABLES)
    later = _later_runs(store, business_date)
    on_date = {"day": business_date}
    states = _journal_states(store)
    journals = [
        {**journal, **states.get(journal["run_key"], {"state": "planned", "erp_number": None})}
        for journal in _rows(engine, "SELECT * FROM journals WHERE business_date <= $day ORDER BY run_key", on_date)
    ]
    done = ("posted", "reversed", "manually_resolved", "rejected_by_approver")
    journals = [j for j in journals if j["business_date"] == business_date or j["state"] not in done]
    keys = {"keys": [j["run_key"] for j in journals]}
    return ReportData(
        business_date=business_date,
        title=title,
        entities={e.id: e.functional_currency for e in entities.entities},
        sources=_inputs(engine, landing, sources, store, later),
        gate=tuple(gate),
        breaks=_rows(engine, "SELECT * FROM breaks WHERE business_date = $day ORDER BY ALL", on_date),
        gone=_rows(engine, "SELECT * FROM breaks_gone WHERE business_date = $day ORDER BY ALL", on_date),
        forward=_rows(engine, "SELECT * FROM breaks_forward WHERE business_date = $day ORDER BY ALL", on_date),
        totals=_rows(engine, "SELECT * FROM totals WHERE business_date = $day ORDER BY ALL", on_date),
        journals=tuple(journals),
        journal_lines=_rows(
            engine,
            "SELECT * FROM journal_lines WHERE run_key IN (SELECT unnest($keys)) ORDER BY run_key, line_no",
            keys,
        ),
        drilldown=_rows(
            engine,
            "SELECT * FROM journal_drilldown WHERE run_key IN (SELECT unnest($keys)) "
            f"ORDER BY run_key, line_no, event_id LIMIT {_DRILLDOWN_ROWS}",
            keys,
        ),
        proof=tuple(proof),
        foreign=tuple(foreign),
        quarantine=_rows(
            engine,
            "SELECT * FROM quarantine WHERE NOT superseded "
            "AND first_seen_run NOT IN (SELECT unnest($later::VARCHAR[])) ORDER BY source, object, raw_ref",
            {"later": later},
        ),
        held=_rows(
            engine, "SELECT * FROM journal_held WHERE event_date <= $day ORDER BY event_id, event_date", on_date
        ),
        backlog=tuple(backlog),
        usage=_rows(engine, TREND, on_date),
        unrated=_rows(engine, "SELECT * FROM unrated_usage WHERE period_end <= $day ORDER BY ALL", on_date),
        unproven=tuple(unproven),
        unproved=tuple(unproved),
        definitions=dict(definitions),
        sides=dict(sides or {}),
        close_report=close_report,
        note=note,
        hashes=dict(hashes or {}),
    )


def _rows(engine: Engine, query: str, params: Mapping[str, Any]) -> tuple[Row, ...]:
    return tuple(engine.sql(query, params).to_pylist())


def _later_runs(store: Store, business_date: date) -> list[str]:
    """Runs of later business dates: what only they set aside was not in quarantine yet."""
    with store.reading() as session:
        return list(session.scalars(select(RunRow.run_id).where(RunRow.business_date > business_date)))


def _inputs(
    engine: Engine, landing: Landing, sources: Sequence[str], store: Store, later: Sequence[str]
) -> tuple[Row, ...]:
    """One row per object read: how far, how many records, and whether an independent total confirmed them.

    Records that only runs of later business dates (`later`) have conformed are left out.
    """
    counts = {
        (source, obj): (records, rows, merged, quarantined)
        for source, obj, records, rows, merged, quarantined in engine.rows(
            "SELECT source, object, sum(records)::BIGINT, sum(rows)::BIGINT, sum(merged)::BIGINT, "
            "sum(quarantined)::BIGINT FROM conformed_extracts WHERE run_id NOT IN (SELECT unnest($later::VARCHAR[])) "
            "GROUP BY ALL ORDER BY ALL",
            {"later": list(later)},
        )
    }
    rows: list[Row] = []
    for source in sources:
        latest = {extract.object: extract for extract in landing.extracts(source)}
        for obj, extract in sorted(latest.items()):
            records, kept, merged, quarantined = counts.get((source, obj), (0, 0, 0, 0))
            rows.append(
                {
                    "source": source,
                    "object": obj,
                    "complete_until": read_end(source, obj, store) or extract.window_hi,
                    "records": records,
                    "kept": kept,
                    "merged": merged,
                    "quarantined": quarantined,
                    "control": "proven" if extract.control.proven else "unproven",
                    "control_how": extract.control.how,
                }
            )
    return tuple(rows)


def _journal_states(store: Store) -> dict[str, dict[str, Any]]:
    """State and ERP number of every journal: the batch's state once it is sent, so `posted` means read back."""
    with store.reading() as session:
        return {
            journal.run_key: {"state": batch.state, "erp_number": journal.erp_number}
            for batch in select_batches(session)
            for journal in batch.journals
        }
