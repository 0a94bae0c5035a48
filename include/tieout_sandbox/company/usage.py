"""Usage events of a metered item: on time, late, repeated, corrected, voided; always whole before it is billed."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from tieout_sandbox.company.catalogue import PRODUCTS
from tieout_sandbox.company.days import DAY, END, batch_time, midnight
from tieout_sandbox.company.model import Entity, UsageEvent
from tieout_sandbox.company.plans import Plan
from tieout_sandbox.company.world import World


class UsageMeter:
    """One meter of one subscription. What a period's events add up to is what the invoice bills."""

    def __init__(self, world: World, plan: Plan, entity: Entity, subscription_id: str, product_key: str) -> None:
        self.product_key = product_key
        self._product = PRODUCTS[product_key]
        self._plan, self._entity, self._subscription_id = plan, entity, subscription_id
        self._customer_id = world.id("cus", plan.key)
        self._rng = Random(f"{world.company.seed}/usage/{plan.key}/{product_key}")
        self._level = self._rng.lognormvariate(6.5 if product_key in ("usage_api", "usage_events") else 7.5, 0.7)
        self._out = world.company.usage_events
        self._count = 0
        self._through = plan.anchor

    def run_period(self, start: date, end: date) -> int:
        """Record the events of [start, end) and return what they add up to, corrections applied."""
        suppressed = self._plan.case == "usage_missing" and self._plan.case_on == end
        kept = len(self._out)
        total = sum(self._day(day, start, end) for day in _days(start, end))
        self._through = end
        if suppressed:
            del self._out[kept:]
        return total

    def deliver(self) -> None:
        """Record what was used since the last billed period, while the subscription runs."""
        for day in _days(self._through, END):
            self._day(day, self._through, END)

    def _day(self, day: date, start: date, end: date) -> int:
        """The events of one day; their effect on the period's sum."""
        rng = self._rng
        if day != start and rng.random() < 0.4:
            return 0
        quantity = max(1, int(self._level * rng.uniform(0.4, 1.7)))
        occurred = midnight(self._entity.zone, day) + timedelta(seconds=rng.randrange(82_000))
        last = min(end, END)
        arrives = min(day + DAY * rng.randrange(1, 4), last) if rng.random() < 0.03 else day
        event = self._event(occurred, day, quantity, "usage", None, arrives)
        roll = rng.random()
        if roll < 0.01:
            self._out.append(
                UsageEvent(
                    event.event_id, event.legal_entity_id, event.subscription_id, event.customer_id, event.meter,
                    event.unit, event.quantity, event.occurred_at, event.usage_date, event.kind, None,
                    batch_time(self._entity.zone, min(arrives + DAY * rng.randrange(2), last)), 1,
                )
            )  # fmt: skip
        elif roll < 0.02:
            corrected = max(1, int(quantity * rng.uniform(0.5, 1.2)))
            later = min(arrives + DAY * rng.randrange(1, 3), last)
            self._event(occurred, day, corrected, "correction", event.event_id, later)
            return corrected
        elif roll < 0.024 and day != start:
            self._event(occurred, day, 0, "void", event.event_id, min(arrives + DAY, last))
            return 0
        return quantity

    def _event(
        self, occurred_at, day: date, quantity: int, kind: str, corrects: str | None, arrives: date
    ) -> UsageEvent:
        self._count += 1
        event = UsageEvent(
            f"ue_{self._subscription_id[4:16]}_{self._product.meter}_{self._count:05d}", self._entity.id,
            self._subscription_id, self._customer_id, self._product.meter or "", self._product.unit or "", quantity,
            occurred_at, day, kind, corrects, batch_time(self._entity.zone, arrives),  # type: ignore[arg-type]
        )  # fmt: skip
        self._out.append(event)
        return event


def _days(start: date, end: date):
    day = start
    while day < end:
        yield day
        day += DAY
