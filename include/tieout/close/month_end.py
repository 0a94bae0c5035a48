"""What a period needs beyond its nights: revenue releases, and accruals with their reversal on day 1 of the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from tieout.entities import LegalEntity
from tieout.lake.tables import Lake
from tieout.ledger import MONTH_END, Plan, Rules, plan_batches
from tieout.ledger.plan import PeriodOpen
from tieout.settings import Settings
from tieout.store import Store


def plan_month_end(
    entity: LegalEntity,
    day: date,
    *,
    lake: Lake,
    store: Store,
    rules: Rules,
    run_id: str,
    snapshot: Mapping[str, int] | None = None,
    settings: Settings | None = None,
    period_open: PeriodOpen | None = None,
    line_limit: int = 500,
    dimensions: Iterable[str] = (),
    actor: str = "tieout",
) -> Plan:
    """Plan the month-end journals of the fiscal period that holds `day`; run again, it plans only what changed.

    Three slots at most: `release` and `accrual` on the period's last day, and the accrual's mirror as a batch of its
    own on the first day of the next period.
    """
    return plan_batches(
        entity,
        day,
        lake=lake,
        store=store,
        rules=rules,
        run_id=run_id,
        snapshot=snapshot,
        streams=MONTH_END,
        settings=settings,
        period_open=period_open,
        line_limit=line_limit,
        dimensions=dimensions,
        actor=actor,
    )
