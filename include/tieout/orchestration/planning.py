"""Which journals the ledger still needs: of a night, of a month end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from tieout.orchestration.facts import Facts
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.ledger.plan import Plan


def plan_journals(work: Work, run_id: str, business_date: str) -> Facts:
    """Plan what the ledger still needs up to a business date, and check it."""
    return plan(work, run_id, date.fromisoformat(business_date))


def plan_month_end(work: Work, run_id: str, business_date: str) -> Facts:
    """Plan what the fiscal periods that are over still need, for the entities of which one ends on a business date."""
    from tieout.ledger.plan import plan_month_ends
    from tieout.orchestration.calendars import closing_on

    day = date.fromisoformat(business_date)
    closing = [entity.id for entity in closing_on(day, work.entities)]
    return _plan(work, run_id, day, closing, lambda entity, **options: plan_month_ends(entity, day, **options))


def plan(work: Work, run_id: str, day: date, entities: Sequence[str] = (), since: date | None = None) -> Facts:
    """Plan the daily journals of a span of dates that ends with a business date."""
    from tieout.ledger.plan import plan_batches

    def of(entity: LegalEntity, **options: Any) -> tuple[Plan, ...]:
        return (plan_batches(entity, day, since=since, **options),)

    return _plan(work, run_id, day, entities, of)


def _plan(
    work: Work, run_id: str, day: date, entities: Sequence[str], plans_of: Callable[..., tuple[Plan, ...]]
) -> Facts:
    from tieout.erp.charts import load_charts
    from tieout.ledger.rules import load_rules

    rules, charts = load_rules(work.settings), load_charts(work.settings)
    with work.kept(run_id, "plan") as facts:
        facts |= {"batches": 0, "journals": 0, "held": 0}
        for entity in work.chosen(entities):
            if day < entity.go_live:
                continue
            erps = {one.ledger: work.erp(entity.id, one.ledger).config for one in entity.in_force}
            plans = plans_of(
                entity,
                lake=work.lake,
                store=work.store,
                rules=rules,
                run_id=run_id,
                settings=work.settings,
                period_open=period_open(work, entity.id),
                line_limit=min(erp.max_lines for erp in erps.values()),  # a journal may be copied into any of them
                dimensions={ledger: tuple(erp.dimensions) for ledger, erp in erps.items()},
                charts=charts,
            )
            facts["batches"] += sum(len(plan.batches) for plan in plans)
            facts["journals"] += sum(plan.journals.headers.num_rows for plan in plans)
            facts["held"] += sum(held.events for plan in plans for held in plan.held)
    return facts


def period_open(work: Work, entity_id: str) -> Mapping[str, Callable[[date], bool]]:
    """By ledger: whether its ERP's period around a date was open when last read; planning never waits for an ERP."""
    closed = {
        ledger: [(start, end) for start, end, state in read if state != "open"]
        for ledger, read in _periods_read(work, work.entities[entity_id]).items()
    }

    def open_in(spans: Sequence[tuple[date, date]]) -> Callable[[date], bool]:
        return lambda day: not any(start <= day <= end for start, end in spans)

    return {ledger: open_in(spans) for ledger, spans in closed.items()}


def erp_periods(work: Work, entity: LegalEntity, day: date) -> dict[str, str]:
    """By ledger: the state of its ERP's period around a day, as last read; nothing for one that was not read."""
    return {
        ledger: state
        for ledger, read in _periods_read(work, entity).items()
        for start, end, state in read
        if start <= day <= end
    }


def _periods_read(work: Work, entity: LegalEntity) -> dict[str, list[tuple[date, date, str]]]:
    """By ledger of an entity: first day, last day and state of its ERP's periods."""
    from tieout.lake.engine import engine

    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(), ["period"])
        rows = session.rows(
            "SELECT source, start_date, end_date, state FROM period WHERE legal_entity_id = $entity AND NOT is_deleted",
            {"entity": entity.id},
        )
    found = {}
    for one in entity.in_force:
        source = work.ledger_source(entity.id, one.ledger).name
        found[one.ledger] = [(start, end, state) for name, start, end, state in rows if name == source]
    return found
