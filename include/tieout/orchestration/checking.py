"""What is true of the published tables: the quality gate, usage, the reconciliations and their breaks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from tieout.errors import DataError
from tieout.orchestration.completeness import Gap, SourceGaps, journal_gaps, keep_gaps
from tieout.orchestration.facts import Facts
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.reconcile import Reconciliation

LEDGER_SIDE = ("invoice_to_receivable", "journal_to_ledger")
"""Reconciliations whose right side is the general ledger; the others run before anything is posted."""

UNREAD = "The general ledger could not be read after posting: nothing here proves what the ERP holds now."

NEEDS_FRESH_LEDGER = ("journal_to_ledger",)


def quality_gate(work: Work, run_id: str, business_date: str) -> Facts:
    """Check every canonical table against its suite; what fails is priced and kept with the run.

    Raises DataError where a blocking rule fails: nothing is matched or posted from tables that cannot be trusted.
    """
    from tieout.quality import gate

    with work.kept(run_id, "quality_gate") as facts:
        snapshot = work.store.published(run_id)
        result = gate(snapshot, lake=work.lake, settings=work.settings, run_id=run_id, business_date=business_date)
        facts |= {"expectations": result.expectations, "failed": result.failed, "rows": result.rows_failing}
    rows = result.report_rows()
    work.store.add_facts(run_id, {"gate_rows": rows})
    if not result.success:
        blocked = "; ".join(f"{row['entity']}: {row['reasons']}" for row in rows if row["blocking"])
        raise DataError("the quality gate blocks", got=blocked, remedy="correct the source or its mapping, clear")
    return facts


def aggregate_usage(work: Work, run_id: str, business_date: str) -> Facts:
    """Sum usage per subscription, meter and period into `usage_summary`, and rate it by the price book."""
    from tieout.usage import publish_summary

    with work.kept(run_id, "usage") as facts:
        facts |= publish_summary(lake=work.lake, store=work.store, settings=work.settings, run_id=run_id)
    return facts | _rate(work, run_id)


def _rate(work: Work, run_id: str) -> Facts:
    from tieout.usage import publish_rating

    with work.kept(run_id, "rating") as facts:
        facts |= publish_rating(lake=work.lake, store=work.store, settings=work.settings, run_id=run_id)
    return facts


def hand_over_usage(work: Work, run_id: str, business_date: str) -> str | None:
    """Ask the cluster to sum usage up; the request's URI, or None where it was few enough to be done here."""
    from tieout.usage.publish import hand_over

    uri = hand_over(lake=work.lake, store=work.store, settings=work.settings, run_id=run_id)
    if uri is None:
        aggregate_usage(work, run_id, business_date)
    return uri


def publish_usage(work: Work, run_id: str, uri: str) -> Facts:
    """Publish what the cluster summed up, and rate it by the price book."""
    from tieout.usage.publish import publish_answer

    with work.kept(run_id, "usage") as facts:
        facts |= publish_answer(uri, lake=work.lake, store=work.store, settings=work.settings, run_id=run_id)
    return facts | _rate(work, run_id)


def reconcile_sources(work: Work, run_id: str, business_date: str) -> Facts:
    """Run every reconciliation that reads no ledger."""
    day, counts = date.fromisoformat(business_date), {}
    gaps = SourceGaps(work, day)
    for name in (d for d in work.definitions if d not in LEDGER_SIDE):
        found = _reconcile(work, run_id, day, name, gaps.of(name))
        counts[name] = found.summary.breaks
    return counts


def reconcile_ledger(work: Work, run_id: str, business_date: str, *, ledger_read: bool) -> Facts:
    """Run the reconciliations against the ledger; some only where it was read after posting.

    First the one that holds our journals against the ledger: where they differ, those that take our journals for the
    ledger prove nothing.
    """
    day, counts = date.fromisoformat(business_date), {}
    journals = None
    if ledger_read:
        work.made_good(run_id, UNREAD)
    else:
        work.unproven(run_id, UNREAD)
    for name in (d for d in work.definitions if d in NEEDS_FRESH_LEDGER and ledger_read):
        found = _reconcile(work, run_id, day, name, [])
        counts[name], journals = found.summary.breaks, found.breaks
    ours, sources = journal_gaps(work, day, journals), SourceGaps(work, day)
    for name in (d for d in work.definitions if d in LEDGER_SIDE and d not in NEEDS_FRESH_LEDGER):
        found = _reconcile(work, run_id, day, name, [*sources.of(name), *ours])
        counts[name] = found.summary.breaks
    return counts


def _reconcile(work: Work, run_id: str, day: date, name: str, gaps: Sequence[Gap]) -> Reconciliation:
    """One reconciliation; what vanished on a side with a gap is not taken for resolved."""
    from tieout.breaks.run import run

    with work.kept(run_id, f"reconcile/{name}") as facts:
        result = run(
            name,
            day,
            lake=work.lake,
            store=work.store,
            settings=work.settings,
            run_id=run_id,
            sides_complete=all(gap.entities for gap in gaps),
            unproven_entities={entity for gap in gaps for entity in gap.entities},
            as_was=work.store.facts(run_id).get("as_was"),
        )
        facts |= {"matches": result.summary.matched, "breaks": result.summary.breaks}
    keep_gaps(work, run_id, name, gaps)
    return result


def breaks(work: Work, business_date: date, definition: str | None = None) -> list[Facts]:
    """The published breaks of a business date, of one reconciliation or of all.

    Raises DataError where no row was reconciled on that date: then no break says nothing.
    """
    from tieout.lake.engine import engine

    named = {"day": business_date, "definition": definition}
    which = "business_date = $day AND definition_id = coalesce($definition, definition_id)"
    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(), ["breaks", "totals"])
        found = session.sql(
            f"SELECT * FROM breaks WHERE {which} "
            "ORDER BY definition_id, break_type, legal_entity_id, break_key, ordinal",
            named,
        )
        if not found.num_rows and not session.sql(f"SELECT 1 FROM totals WHERE {which} LIMIT 1", named).num_rows:
            raise DataError(
                f"no row was reconciled on {business_date}",
                record=definition,
                remedy="name a date that a night was run for; `tieout breaks list` shows the breaks as they stand now",
            )
    return list(found.to_pylist())


def preview_reconciliation(work: Work, definition: str, business_date: date) -> Facts:
    """Run one configured reconciliation over the published tables and give its summary; nothing is written."""
    from dataclasses import asdict

    from tieout.breaks.inputs import bind_sides, configured_definition, side_queries
    from tieout.breaks.verdicts import verdicts
    from tieout.lake.engine import engine
    from tieout.reconcile import reconcile

    said = verdicts(work.store, definition, business_date)
    loaded = configured_definition(work.settings, definition)
    with engine(work.settings) as session:
        sides = bind_sides(
            session,
            side_queries(work.settings, loaded),
            lake=work.lake,
            snapshot=work.store.published(),
            store=work.store,
            settings=work.settings,
            business_date=business_date,
        )
        found = reconcile(loaded, sides["left"], sides["right"], engine=session, as_of=business_date, verdicts=said)
    return asdict(found.summary)
