"""Plans: what each customer is going to do, drawn from the seed or written down for planted and scripted cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Literal

from tieout_sandbox.company.days import DAY, GO_LIVE, START, add_months
from tieout_sandbox.company.model import Interval

CUSTOMERS_PER_ENTITY = 92
PROSPECTS_PER_ENTITY = 10
NIGHTS = tuple(date(2026, 3, 28) + DAY * n for n in range(6))

Payer = Literal["card", "slow_card", "transfer", "partial", "bulk", "over", "never"]


@dataclass(slots=True)
class Change:
    """A change of a running subscription.

    `prorate`: quantity from this day on, billed at once; `carry`: the same, billed with the next invoice; `boundary`:
    quantity from the billing period that begins this day; `add`, `drop`: a product from that period on.
    """

    on: date
    kind: Literal["prorate", "carry", "boundary", "add", "drop"]
    product: str
    delta: int


@dataclass(slots=True)
class Plan:
    """One customer's contract and everything that will happen to it."""

    key: str
    entity: str
    start: date
    term: int
    interval: Interval
    lines: list[tuple[str, int]]
    """Product and quantity."""
    meters: list[str] = field(default_factory=list)
    trial_days: int = 0
    changes: list[Change] = field(default_factory=list)
    renews: bool = True
    ends_on: date | None = None
    """Cancelled by the customer; a period boundary, unless `credit_rest`."""
    credit_rest: bool = False
    """Cancelled at once: the rest of the period is credited."""
    payer: Payer = "card"
    taxed: bool = True
    moves_to: tuple[str, date] | None = None
    """Entity that bills from that period on."""
    void_on: date | None = None
    """The invoice finalised that day is voided and issued anew."""
    void_after: int | None = None
    """Days until it is; drawn where not given."""
    dispute_from: date | None = None
    """The first card payment from that day on is disputed."""
    dispute_after: int | None = None
    """Days until it is; drawn where not given."""
    goodwill_on: date | None = None
    """Part of an already billed usage line is credited that day."""
    refund_fails_after: int | None = None
    """Days until its refunds come back; drawn where not given."""
    uncollectible_on: date | None = None
    """The oldest open invoice is given up that day."""
    draft_on: date | None = None
    """An invoice is begun that day and never finalised."""
    tickets: bool = True
    deleted_on: date | None = None
    """The billing customer is deleted that day."""
    ticket_deleted_on: date | None = None
    """A ticket it had opened is deleted that day."""
    parent: str | None = None
    case: str | None = None
    """Planted case (see `planted`); None on records that are otherwise clean."""
    case_on: date | None = None
    """The day the case is about."""

    @property
    def anchor(self) -> date:
        """First paid day."""
        return self.start + timedelta(days=self.trial_days)

    def boundary_from(self, day: date) -> date:
        """The first start of a billing period on or after a day."""
        n = 0
        while add_months(self.anchor, n * self.interval) < day:
            n += 1
        return add_months(self.anchor, n * self.interval)


def random_plans(seed: int, entity: str, scale: int) -> Iterator[Plan]:
    """The ordinary customers of an entity."""
    for index in range(CUSTOMERS_PER_ENTITY * scale):
        yield _random_plan(Random(f"{seed}/plan/{entity}/{index}"), entity, index)


def _random_plan(rng: Random, entity: str, index: int) -> Plan:
    roll = rng.random()
    if roll < 0.55:
        start = START + timedelta(days=rng.randrange(31))
    elif roll < 0.90:
        start = date(2025, 11, 1) + timedelta(days=rng.randrange(138))
    else:
        start = date(2026, 3, 18) + timedelta(days=rng.randrange(25))
    interval: Interval = rng.choices((1, 3, 12), (76, 14, 10))[0]  # type: ignore[assignment]
    term = 12 if interval == 12 else rng.choices((3, 6, 12), (20, 30, 50))[0]
    size = min(int(rng.lognormvariate(2.4, 0.8)) + 1, 400)
    lines = [(rng.choices(("seat_standard", "seat_pro"), (7, 3))[0], size)]
    if rng.random() < 0.6:
        lines.append(("platform_enterprise" if size > 60 else "platform_business" if size > 15 else "platform_team", 1))
    if rng.random() < 0.38:
        lines.append(("support_gold" if size > 40 else "support_premium", 1))
    meters = []
    if interval == 1 and rng.random() < 0.5:
        meters = rng.choice((["usage_api"], ["usage_api"], ["usage_storage"], ["usage_api", "usage_storage"]))
    if meters and index % 9 == 4:
        meters = ["usage_events"] if index % 2 else ["usage_compute"]
    plan = Plan(
        key=f"{entity}-{index:06d}",
        entity=entity,
        start=start,
        term=term,
        interval=interval,
        lines=lines,
        meters=meters,
        taxed=entity != "US" or rng.random() < 0.4,
        payer=rng.choices(
            ("card", "slow_card", "transfer", "partial", "bulk", "over", "never"), (58, 5, 22, 4, 6, 2, 3)
        )[0],
        renews=rng.random() < 0.85,
        parent=f"{entity}-{rng.randrange(index):06d}" if index % 8 == 7 else None,
    )
    _draw_events(rng, plan)
    return plan


def _draw_events(rng: Random, plan: Plan) -> None:
    """At most one commercial event per customer, so that each stays readable."""
    late = plan.start > date(2026, 2, 25)
    if plan.term == 12 and rng.random() < 0.15:
        plan.trial_days = 14
    roll = rng.random()
    boundary = plan.boundary_from(plan.anchor + timedelta(days=rng.randrange(25, 150)))
    inside = boundary + timedelta(days=rng.randrange(2, 26))
    seats = plan.lines[0]
    in_term = inside < add_months(plan.start, plan.term) - timedelta(days=40)
    if late or (plan.interval != 1 and roll >= 0.22):
        pass
    elif roll < 0.22 and in_term:
        delta = rng.randrange(1, max(2, seats[1] // 3 + 2))
        plan.changes.append(Change(inside, "carry" if rng.random() < 0.3 else "prorate", seats[0], delta))
    elif roll < 0.34 and in_term and seats[1] > 2:
        plan.changes.append(Change(boundary, "boundary", seats[0], -rng.randrange(1, seats[1] // 2 + 1)))
    elif roll < 0.40 and in_term:
        _change_products(rng, plan, boundary)
    elif roll < 0.46:
        plan.ends_on = boundary
    elif roll < 0.50 and not plan.meters and in_term:
        plan.ends_on, plan.credit_rest, plan.payer = inside, True, rng.choice(("card", "card", "transfer"))
        plan.renews = True
    elif roll < 0.53 and plan.payer in ("card", "transfer"):
        others = [e for e in ("US", "DE", "JP") if e != plan.entity]
        plan.moves_to = (rng.choice(others), boundary)
    elif roll < 0.57 and not plan.meters:
        plan.payer, plan.void_on = "transfer", boundary
    elif roll < 0.61 and plan.payer == "card":
        plan.dispute_from = boundary
    elif roll < 0.68 and plan.meters and plan.payer == "card":
        plan.goodwill_on = boundary + timedelta(days=rng.randrange(3, 20))
    elif roll < 0.70 and plan.payer == "never":
        plan.uncollectible_on = boundary + timedelta(days=75)


def _change_products(rng: Random, plan: Plan, boundary: date) -> None:
    products = [p for p, _ in plan.lines]
    if "platform_team" in products and rng.random() < 0.6:
        plan.changes += [
            Change(boundary, "drop", "platform_team", -1), Change(boundary, "add", "platform_business", 1),
        ]  # fmt: skip
    elif not {"support_premium", "support_gold"} & set(products):
        plan.changes.append(Change(boundary, "add", "support_premium", 1))


def scripted_plans(entity: str) -> Iterator[Plan]:
    """Customers that make sure something of every kind happens on each of the first nights after go-live."""
    for n in range(10):
        day = NIGHTS[0] - DAY * 4 + DAY * n
        # enough card payments that every day ends with a payout
        yield Plan(
            key=f"{entity}-d{n}-monthly", entity=entity, term=12, interval=1, start=add_months(day, -5),
            lines=[("seat_standard", 41 + n)], meters=["usage_storage"], draft_on=day if n % 2 else None,
        )  # fmt: skip
    monthly = partial(Plan, entity=entity, term=12, interval=1)
    for n, night in enumerate(NIGHTS):
        yield monthly(
            key=f"{entity}-n{n}-credit", start=night - timedelta(days=40 + n), lines=[("seat_standard", 6 + n)],
            ends_on=night, credit_rest=True, payer="never" if n in (1, 4) else "card",
        )  # fmt: skip
        yield monthly(
            key=f"{entity}-n{n}-goodwill", start=add_months(night, -3) - timedelta(days=9), lines=[("seat_pro", 3 + n)],
            meters=["usage_api"], goodwill_on=night, refund_fails_after=1 + n if n < 3 else None,
        )  # fmt: skip
        yield monthly(
            key=f"{entity}-n{n}-void", start=add_months(night, -2), lines=[("platform_team", 1)], payer="transfer",
            void_on=night, void_after=0,
        )  # fmt: skip
        yield monthly(
            key=f"{entity}-n{n}-dispute", start=add_months(night - 8 * DAY, -1), lines=[("seat_pro", 4 + n)],
            dispute_from=night - 8 * DAY, dispute_after=8,
        )  # fmt: skip
    yield Plan(
        key=f"{entity}-given-up", entity=entity, start=date(2025, 11, 12), term=6, interval=1, renews=False,
        lines=[("seat_standard", 5)], payer="never", uncollectible_on=GO_LIVE + timedelta(days=2),
    )  # fmt: skip
    yield from _credit_plans(entity)
    yield from _tiered_plans(entity)
    other = {"US": "DE", "DE": "JP", "JP": "US"}[entity]
    yield Plan(
        key=f"{entity}-moves", entity=entity, start=date(2025, 11, 30), term=12, interval=1,
        lines=[("seat_pro", 9), ("support_premium", 1)], meters=["usage_api"], moves_to=(other, date(2026, 3, 30)),
    )  # fmt: skip
    yield Plan(
        key=f"{entity}-trial", entity=entity, start=date(2026, 3, 16), term=12, interval=1,
        lines=[("seat_standard", 12), ("support_premium", 1)], trial_days=14,
    )  # fmt: skip
    yield Plan(
        key=f"{entity}-renews", entity=entity, start=date(2025, 12, 30), term=3, interval=1,
        lines=[("seat_standard", 14), ("support_premium", 1)], meters=["usage_api"], renews=True,
    )  # fmt: skip


def _tiered_plans(entity: str) -> Iterator[Plan]:
    """Customers of tiered prices, billed on the first nights, and with usage not billed yet at month end."""
    for n, night in enumerate(NIGHTS[1:4]):
        yield Plan(
            key=f"{entity}-n{n}-tiers", entity=entity, start=add_months(night, -4), term=12, interval=1,
            lines=[("seat_standard", 3 + n)], meters=["usage_events", "usage_compute"],
        )  # fmt: skip


def _credit_plans(entity: str) -> Iterator[Plan]:
    """Customers whose credit changes, or who are deleted, around the first nights."""
    yield Plan(
        key=f"{entity}-overpays", entity=entity, start=add_months(NIGHTS[2], -4), term=12, interval=1,
        lines=[("seat_pro", 11)], payer="over",
        ticket_deleted_on={"US": NIGHTS[3], "DE": NIGHTS[2], "JP": NIGHTS[1]}[entity],
    )  # fmt: skip
    yield Plan(
        key=f"{entity}-sent-back", entity=entity, start=date(2025, 11, 23), term=12, interval=1,
        lines=[("seat_pro", 7)], meters=["usage_api"], goodwill_on=date(2026, 3, 10), refund_fails_after=8,
    )  # fmt: skip
    yield Plan(
        key=f"{entity}-shrinks", entity=entity, start=date(2025, 12, 12), term=12, interval=1,
        lines=[("seat_standard", 30)], payer="transfer",
        changes=[
            Change(date(2026, 2, 17), "prorate", "seat_standard", -9),
            Change({"US": NIGHTS[1], "DE": NIGHTS[2], "JP": NIGHTS[3]}[entity], "prorate", "seat_standard", -6),
        ],
    )  # fmt: skip
    yield Plan(
        key=f"{entity}-deleted", entity=entity, start=date(2025, 11, 6), term=3, interval=1, renews=False,
        lines=[("seat_standard", 4)], deleted_on={"US": NIGHTS[2], "DE": NIGHTS[1], "JP": NIGHTS[3]}[entity],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """How often a planted case occurs and the plan it needs."""

    name: str
    count: int
    """At scale 1."""
    plan: dict[str, object]
    days: tuple[date, ...] = ()
    """`case_on` of the first, second … occurrence."""


def _d(month: int, day: int, year: int = 2026) -> date:
    return date(year, month, day)


_STANDARD = {"term": 12, "interval": 1, "payer": "card"}
_TWO_LINES = _STANDARD | {"lines": [("seat_standard", 8), ("platform_team", 1)]}
_ONE_LINE = _STANDARD | {"lines": [("seat_pro", 5)]}
_METERED = _STANDARD | {"lines": [("seat_standard", 7)], "meters": ["usage_api"]}
_SUPPORT = _STANDARD | {"lines": [("seat_standard", 10), ("support_premium", 1)]}
_TRANSFER = _STANDARD | {"lines": [("seat_pro", 6)], "payer": "transfer"}

# The day decides the plan's start (see `planted_plans`): `start` itself, or a number of months before the day.
PLANNED_CASES: tuple[PlannedCase, ...] = (
    PlannedCase("no_item", 2, _TWO_LINES | {"start": 0}, (_d(1, 14), _d(3, 30))),
    PlannedCase("extra_item", 1, _TWO_LINES | {"start": 0}, (_d(2, 5),)),
    PlannedCase("line_ended", 2, _TWO_LINES | {"start": -2}, (_d(3, 9), _d(3, 30))),
    PlannedCase("canceled_in_billing", 2, _ONE_LINE | {"start": -3}, (_d(3, 11), _d(3, 30))),
    PlannedCase("price_differs", 2, _ONE_LINE | {"start": 0}, (_d(12, 3, 2025), _d(3, 31))),
    PlannedCase("quantity_differs", 1, _ONE_LINE | {"start": 0}, (_d(1, 8),)),
    PlannedCase("crm_currency", 1, _ONE_LINE | {"start": 0}, (_d(1, 21),)),
    PlannedCase("unmapped_product", 2, _STANDARD | {"lines": [("analytics_addon", 1)], "payer": "never", "start": 0},
                (_d(3, 29), _d(3, 30))),
    PlannedCase("item_twice", 1, _ONE_LINE | {"start": 0}, (_d(2, 11),)),
    PlannedCase("unknown_customer", 2, _ONE_LINE | {"start": 0}, (_d(2, 16), _d(3, 30))),
    PlannedCase("usage_underbilled", 2, _METERED | {"start": -3}, (_d(3, 12), _d(3, 30))),
    PlannedCase("usage_not_billed", 2, _METERED | {"start": -3}, (_d(3, 16), _d(3, 10))),
    PlannedCase("usage_billed_late", 2, _METERED | {"start": -3}, (_d(3, 30), _d(3, 29))),
    PlannedCase("usage_missing", 2, _METERED | {"start": -3}, (_d(3, 18), _d(3, 31))),
    PlannedCase("short_paid", 1, _TRANSFER | {"start": -2}, (_d(3, 8),)),
    PlannedCase("paid_without_payment", 2, _TRANSFER | {"start": -2}, (_d(3, 3), _d(3, 20))),
    PlannedCase("unknown_reference", 2, _ONE_LINE | {"start": -2}, (_d(3, 29), _d(3, 31))),
    PlannedCase("paid_twice", 1, _TRANSFER | {"start": -2}, (_d(3, 13),)),
    PlannedCase("payment_one_candidate", 2, _TRANSFER | {"start": -2, "payer": "never"}, (_d(3, 25), _d(3, 27))),
    PlannedCase("payment_two_candidates", 1, _TRANSFER | {"start": -2}, (_d(3, 26),)),
    PlannedCase("payment_no_candidate", 2, _ONE_LINE | {"start": -2}, (_d(3, 24), _d(3, 31))),
    PlannedCase("case_without_contract", 3, _ONE_LINE | {"start": -5, "term": 3, "renews": False, "tickets": False},
                (_d(3, 17), _d(3, 30), _d(3, 28))),
    PlannedCase("entitlement_missing", 1, _SUPPORT | {"start": 0}, (_d(1, 27),)),
    PlannedCase("entitlement_late", 2, _SUPPORT | {"start": 0}, (_d(3, 30), _d(3, 29))),
    PlannedCase("entitlement_after_end", 2, _SUPPORT | {"start": -3, "term": 3, "renews": False, "tickets": False},
                (_d(3, 6), _d(3, 30))),
    PlannedCase("entitlement_level", 1, _SUPPORT | {"start": 0}, (_d(12, 9, 2025),)),
    PlannedCase("entitlement_status", 1, _SUPPORT | {"start": 0}, (_d(1, 19),)),
    PlannedCase("entitlement_without_line", 1, _ONE_LINE | {"start": 0}, (_d(2, 2),)),
    PlannedCase("usage_wrong_tier", 1, _METERED | {"start": -3, "meters": ["usage_compute"]}, (_d(3, 14),)),
    PlannedCase("usage_wrong_price", 1, _METERED | {"start": -3}, (_d(3, 30),)),
    PlannedCase("usage_wrong_period", 1, _METERED | {"start": -3}, (_d(3, 11),)),
    PlannedCase("usage_wrong_customer", 1, _METERED | {"start": -3}, (_d(3, 30),)),
    PlannedCase("usage_free", 1, _METERED | {"start": -3}, (_d(3, 15),)),
    PlannedCase("case_deleted", 1, _ONE_LINE | {"start": -5, "term": 3, "renews": False, "tickets": False},
                (_d(3, 27),)),
)  # fmt: skip

GROWTH = Decimal("0.3")
"""Planted cases per scale step beyond what scale 1 needs to have each kind at least once: about 0.5 % of records."""


def planted_count(at_scale_1: int, scale: int) -> int:
    """How often a case is planted."""
    return max(at_scale_1, int(at_scale_1 * scale * GROWTH))


def planted_plans(scale: int) -> Iterator[Plan]:
    """The customers that carry planted cases, spread over the entities."""
    turn = 0
    for case in PLANNED_CASES:
        for n in range(planted_count(case.count, scale)):
            entity = ("US", "DE", "JP")[turn % 3]
            turn += 1
            settings = dict(case.plan)
            day = case.days[n % len(case.days)]
            settings["start"] = add_months(day, int(settings["start"]))  # type: ignore[call-overload]
            yield Plan(key=f"{entity}-{case.name}-{n}", entity=entity, case=case.name, case_on=day, **settings)  # type: ignore[arg-type]
