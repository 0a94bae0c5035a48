"""What people read at the end of a run: the report, the close backlog, the anchors of the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from tieout.orchestration.completeness import contradicted_sources, stale_sources
from tieout.orchestration.facts import Facts, kept_proof
from tieout.orchestration.planning import erp_periods
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    import pyarrow as pa

    from tieout.calendar import Period
    from tieout.entities import LegalEntity
    from tieout.ledger.proof import TrialBalanceProof
    from tieout.sources.config import SourceConfig

T = TypeVar("T")


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
    """List what stands between the periods that end on a business date and their close, and close the run's record."""
    from tieout.calendar import period_of
    from tieout.close.backlog import write
    from tieout.orchestration.calendars import closing_on, name_of_period_end

    day, known = date.fromisoformat(business_date), work.store.facts(run_id)
    snapshot, rows = work.store.published(run_id), []
    with work.kept(run_id, "close_backlog") as facts:
        closing = closing_on(day, work.entities)
        for entity in closing:
            period = period_of(entity, day)
            table = unfinished(
                work,
                entity,
                period,
                today=day,
                snapshot=snapshot,
                proof=kept_proof(entity.id, day, known.get("proof_rows", ())),
                erp_periods=erp_periods(work, entity, period.end),
                until=day,
                shared=entity is closing[0],
            )
            write(table, entity, period, lake=work.lake, store=work.store, run_id=run_id)
            rows += table.to_pylist()
        facts["items"] = len(rows)
    work.store.add_facts(run_id, {"backlog_rows": rows})
    name = name_of_period_end(day, work.entities)
    return facts | _report(work, run_id, day, {"title": f"Month end {name.removeprefix('close-')}", "name": name})


def unfinished(
    work: Work, entity: LegalEntity, period: Period, *, today: date, snapshot: Mapping[str, int],
    proof: TrialBalanceProof | None, until: date, shared: bool, erp_periods: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:  # fmt: skip
    """The close backlog of an entity's period as of today; `until`: how far its sources must be read.

    With `shared` also what belongs to no entity; the list of all entities has it once, with the first.
    """
    from tieout.close.backlog import backlog

    def own(found: Iterable[tuple[SourceConfig, T]]) -> list[T]:
        return [
            what for source, what in found if source.legal_entity == entity.id or (shared and not source.legal_entity)
        ]

    return backlog(
        entity,
        period,
        today=today,
        lake=work.lake,
        store=work.store,
        snapshot=snapshot,
        proof=proof,
        stale=own(stale_sources(work, until)),
        contradicted=own(contradicted_sources(work)),
        erp_periods=erp_periods,
        shared=shared,
    )
