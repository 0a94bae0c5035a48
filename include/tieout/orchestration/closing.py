"""What people read at the end of a run: the report, the close backlog, the anchors of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from tieout.orchestration.completeness import stale_sources
from tieout.orchestration.facts import Facts, kept_proof
from tieout.orchestration.planning import erp_periods
from tieout.orchestration.work import Work


def report(work: Work, run_id: str, business_date: str) -> Facts:
    """Write HTML, workbook and result tables of a business date, and close the run's record."""
    return _report(work, run_id, date.fromisoformat(business_date), {})


def _report(work: Work, run_id: str, day: date, naming: Mapping[str, Any]) -> Facts:
    from tieout.orchestration.reporting import write_report
    from tieout.orchestration.results import record_counts, result_hashes

    known = work.store.facts(run_id)
    with work.kept(run_id, "report") as facts:
        found = {"result_hashes": result_hashes(work, run_id, day), "records": record_counts(work, run_id, known)}
        work.store.add_facts(run_id, found)
        facts |= write_report(work, run_id, day, known | found, **naming)
    work.store.finish_run(run_id, "success" if "proof" in known else "unproven")
    _anchor(work, day.isoformat())
    return facts


def _anchor(work: Work, business_date: str) -> None:
    """Write the audit chains' ends outside the store, where a rewritten store cannot reach them."""
    from tieout.store.audit import write_anchors

    anchors = [work.store.anchor(chain) for chain in work.store.audit_chains()]
    write_anchors(work.settings.anchors, business_date, anchors)


def close_backlog(work: Work, run_id: str, business_date: str) -> Facts:
    """List what stands between the month a business date ends and its close, and close the run's record."""
    from tieout.calendar import period_of
    from tieout.close.backlog import backlog, write

    day, known = date.fromisoformat(business_date), work.store.facts(run_id)
    snapshot, rows, stale = work.store.published(run_id), [], stale_sources(work, day)
    with work.kept(run_id, "close_backlog") as facts:
        for entity in work.entities.entities:
            period = period_of(entity, day)
            shared = entity is work.entities.entities[0]  # what belongs to no entity is listed once, with the first
            table = backlog(
                entity,
                period,
                today=day,
                lake=work.lake,
                store=work.store,
                snapshot=snapshot,
                proof=kept_proof(entity.id, day, known.get("proof_rows", ())),
                stale=[
                    s for source, s in stale if source.legal_entity == entity.id or (shared and not source.legal_entity)
                ],
                erp_periods=erp_periods(work, entity, period.end),
                shared=shared,
            )
            write(table, entity, period, lake=work.lake, store=work.store, run_id=run_id)
            rows += table.to_pylist()
        facts["items"] = len(rows)
    work.store.add_facts(run_id, {"backlog_rows": rows})
    month = f"{day:%Y-%m}"
    return facts | _report(work, run_id, day, {"title": f"Month end {month}", "name": month})
