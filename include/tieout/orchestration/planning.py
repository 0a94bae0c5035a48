"""Which journals the ledger still needs: of a night, of a month end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from tieout.orchestration.facts import Facts
from tieout.orchestration.work import Work


def plan_journals(work: Work, run_id: str, business_date: str) -> Facts:
    """Plan what the ledger still needs up to a business date, and check it."""
    from tieout.ledger.events import DAILY

    return plan(work, run_id, date.fromisoformat(business_date), DAILY)


def plan_month_end(work: Work, run_id: str, business_date: str) -> Facts:
    """Plan the revenue releases of the month a business date ends, and its accruals with their reversals."""
    from tieout.ledger.events import MONTH_END

    return plan(work, run_id, date.fromisoformat(business_date), MONTH_END)


def plan(
    work: Work, run_id: str, day: date, streams: Sequence[str], entities: Sequence[str] = (), since: date | None = None
) -> Facts:
    from tieout.ledger.plan import plan_batches
    from tieout.ledger.rules import load_rules

    rules = load_rules(work.settings)
    with work.kept(run_id, "plan") as facts:
        facts |= {"batches": 0, "journals": 0, "held": 0}
        for entity in work.chosen(entities):
            if day < entity.go_live:
                continue
            erp = work.erp(entity.id).config
            plan = plan_batches(
                entity,
                day,
                lake=work.lake,
                store=work.store,
                rules=rules,
                run_id=run_id,
                streams=streams,
                since=since,
                settings=work.settings,
                period_open=period_open(work, entity.id),
                line_limit=erp.max_lines,
                dimensions=tuple(erp.dimensions),
            )
            facts["batches"] += len(plan.batches)
            facts["journals"] += plan.journals.headers.num_rows
            facts["held"] += sum(held.events for held in plan.held)
    return facts


def period_open(work: Work, entity_id: str) -> Callable[[date], bool]:
    """Whether the ERP's period around a date was open when it was last read; planning never waits for the ERP."""
    from tieout.lake.engine import engine

    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(), ["period"])
        closed = session.rows(
            "SELECT start_date, end_date FROM period WHERE legal_entity_id = $entity AND state <> 'open'",
            {"entity": entity_id},
        )
    return lambda day: not any(start <= day <= end for start, end in closed)
