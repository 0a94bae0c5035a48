"""Write-offs of breaks: each accepted one gets its batch, each break follows its batch. Run again, nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tieout.errors import ConfigError, LedgerError
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.store.batches import Batch
    from tieout.store.write_offs import Accepted

UNPLANNED = "The write-off of break"


def settle(work: Work) -> int:
    """Move every break whose write-off was posted, refused or reversed; how many."""
    from tieout.store import write_offs

    with work.store.transaction() as session:
        return write_offs.settle(session, work.store.now())


def plan_accepted(work: Work, run_id: str) -> list[Batch]:
    """Plan the batch of every accepted write-off that has none; what one still lacks is kept as unproven."""
    from tieout.store import write_offs

    settle(work)
    with work.store.reading() as session:
        waiting = write_offs.accepted(session)
    work.made_good(run_id, UNPLANNED)
    made = []
    for what in waiting:
        try:
            made.append(_plan(work, what, run_id))
        except (ConfigError, LedgerError) as problem:  # the others go on
            work.unproven(run_id, f"{UNPLANNED} {what.break_id[:12]} waits: {problem}")
    return made


def plan_by_hand(work: Work) -> list[Batch]:
    """As `plan_accepted`, right after a person agreed; what still lacks something is left to the next night."""
    run_id = f"write_offs.{work.store.now():%Y-%m-%dT%H:%M:%S}"
    work.store.start_run(run_id, "write_off", work.store.now().date(), {})
    made = plan_accepted(work, run_id)
    work.store.finish_run(run_id, "success")
    return made


def _plan(work: Work, what: Accepted, run_id: str) -> Batch:
    from tieout.erp.charts import load_charts
    from tieout.ledger.rules import load_rules
    from tieout.ledger.write_off import plan_write_off
    from tieout.orchestration.planning import period_open

    entity = work.entities[what.legal_entity_id]
    erps = {one.ledger: work.erp(entity.id, one.ledger).config for one in entity.in_force}
    return plan_write_off(
        what,
        entity,
        lake=work.lake,
        store=work.store,
        rules=load_rules(work.settings),
        run_id=run_id,
        settings=work.settings,
        period_open=period_open(work, entity.id),
        dimensions={ledger: tuple(erp.dimensions) for ledger, erp in erps.items()},
        charts=load_charts(work.settings),
    )
