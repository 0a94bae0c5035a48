"""A customer's life: from its plan to CRM records, a subscription with its versions, invoices and usage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from tieout_sandbox.company import crm
from tieout_sandbox.company.catalogue import BY_ID, PRODUCTS, cents, charged
from tieout_sandbox.company.days import DAY, END, GO_LIVE, add_months, midnight, moment
from tieout_sandbox.company.drafts import InvoiceDraft
from tieout_sandbox.company.identifiers import salesforce_id
from tieout_sandbox.company.model import (
    AccountVersion,
    BillingCustomer,
    Entity,
    InvoiceLine,
    Price,
    Subscription,
    SubscriptionItem,
    SubscriptionVersion,
)
from tieout_sandbox.company.plans import Change, Plan
from tieout_sandbox.company.usage import UsageMeter
from tieout_sandbox.company.world import World


@dataclass(slots=True)
class Life:
    """What became of a plan: the planted cases and the settlement of invoices start from it."""

    plan: Plan
    account: crm.AccountDraft
    contracts: list[crm.ContractDraft]
    subscription: Subscription
    invoices: list[InvoiceDraft]
    customer: BillingCustomer
    ends_on: date | None
    """First day without service; None while it goes on."""
    credited_from: date | None = None
    withheld: list[InvoiceLine] = field(default_factory=list)
    """Usage lines that a planted case kept off the invoices."""
    due: list[InvoiceLine] = field(default_factory=list)
    """Usage lines as they should have been billed, on the day a planted case is about."""


def live(world: World, plan: Plan) -> list[Life]:
    """Everything a customer does before END; two lives where another entity takes over its billing."""
    if plan.start >= END:
        return []
    rng = Random(f"{world.company.seed}/life/{plan.key}")
    account = crm.open_account(world, rng, plan.entity, plan.start, world.account_ids.get(plan.parent or ""))
    world.account_ids[plan.key] = account.id
    first = _Run(world, plan, account, rng).run()
    lives = [first]
    if plan.case == "unknown_customer":
        first.contracts.clear()
        del world.company.opportunities[-1], world.company.quotes[-1]
    if plan.moves_to and plan.moves_to[1] < END and first.ends_on == plan.moves_to[1]:
        entity, day = plan.moves_to
        second = replace(
            plan, key=f"{plan.key}+{entity}", entity=entity, start=day, trial_days=0, changes=[], moves_to=None,
            ends_on=None, void_on=None, dispute_from=None, goodwill_on=None, taxed=True, renews=True,
        )  # fmt: skip
        lives.append(_Run(world, second, account, rng).run())
    return lives


class _Run:
    """One subscription from its first to its last billing period."""

    def __init__(self, world: World, plan: Plan, account: crm.AccountDraft, rng: Random) -> None:
        self.world, self.plan, self.account, self.rng = world, plan, account, rng
        self.entity: Entity = BY_ID[plan.entity]
        self.zone = self.entity.zone
        self.items: dict[str, SubscriptionItem] = {}
        self.quantities: dict[str, int] = dict(plan.lines)
        self.versions: list[SubscriptionVersion] = []
        self.invoices: list[InvoiceDraft] = []
        self.carried: list[InvoiceLine] = []
        self.withheld: list[InvoiceLine] = []
        self.due: list[InvoiceLine] = []
        self.contracts: list[crm.ContractDraft] = []
        self.sub_id = world.id("sub", plan.key)
        self.pending = sorted(plan.changes, key=lambda c: c.on)
        self.meters = [UsageMeter(world, plan, self.entity, self.sub_id, m) for m in plan.meters]
        self.customer = self._customer()

    # -- customer, contract, items

    def _customer(self) -> BillingCustomer:
        account, plan = self.account, self.plan
        known: str | None = account.id
        if plan.case == "unknown_customer":
            # no account at all, or one that the CRM never had
            known = None if (plan.case_on or GO_LIVE) < GO_LIVE else salesforce_id("001", 9_999_000_000)
        created = moment(self.zone, plan.start - DAY * self.rng.randrange(1, 4), self.rng.random())
        customer = BillingCustomer(
            self.world.id("cus", plan.key), plan.entity, known, account.name, f"billing@{account.domain}",
            self.entity.country, self.entity.currency, plan.taxed, created,
            moment(self.zone, plan.deleted_on, 0.35) if plan.deleted_on else None,
        )  # fmt: skip
        self.world.company.customers.append(customer)
        return customer

    def _sold(self) -> list[tuple[str, int | None]]:
        return [*self.quantities.items(), *((m, None) for m in self.plan.meters)]

    def _sign(self, kind: str, start: date) -> None:
        currency = None
        if self.plan.case == "crm_currency":
            currency = "EUR" if self.entity.currency != "EUR" else "USD"
        contract = crm.sign(
            self.world, self.rng, self.account, self.plan.entity, kind, start, self.plan.term, self.plan.interval,
            self._sold(), is_trial=self.plan.trial_days > 0 and kind == "New", currency=currency,
        )  # fmt: skip
        self.contracts.append(contract)
        if kind == "New":
            self.account.versions.append(
                AccountVersion(contract.created, contract.created, self.plan.entity, "Customer")
            )

    @property
    def contract(self) -> crm.ContractDraft:
        return self.contracts[-1]

    def _add_item(self, product_key: str, at: datetime, tag: str = "") -> None:
        case = self.plan.case
        if case == "no_item" and product_key == "platform_team":
            return
        root: str | None = self.contract.roots[product_key].id if product_key in self.contract.roots else None
        quantity = self.quantities.get(product_key)
        price = self.world.prices.price(self.entity, product_key, self.plan.interval)
        if case == "price_differs":
            monthly = cents(price.unit_amount * Decimal("0.9"), self.entity.currency)
            price = self.world.prices.price(self.entity, product_key, self.plan.interval, monthly)
        elif case == "quantity_differs" and quantity is not None:
            doubled = cents(price.unit_amount * 2, self.entity.currency)
            # twice the price for half the quantity: the amount agrees, the quantity does not
            self.quantities[product_key] = quantity = quantity // 2
            price = self.world.prices.price(self.entity, product_key, self.plan.interval, doubled)
        elif case == "unknown_customer":
            root = None
        self.items[product_key + tag] = SubscriptionItem(
            self.world.id("si", f"{self.plan.key}/{product_key}{tag}/{at.date()}"), price.id, product_key, quantity,
            root, at,
        )  # fmt: skip

    def _version(self, at: datetime, status: str, start: date, end: date, **facts: object) -> None:
        self.versions.append(
            SubscriptionVersion(
                at, at, status, midnight(self.zone, start), midnight(self.zone, end), tuple(self.items.values()),
                self.contract.id if self.plan.case != "unknown_customer" else None, **facts,
            )  # type: ignore[arg-type]
        )  # fmt: skip

    # -- the run

    def run(self) -> Life:
        plan, rng = self.plan, self.rng
        if plan.case == "quantity_differs":
            self.quantities = {p: q // 2 * 2 for p, q in self.quantities.items()}
        self._sign("New", plan.start)
        created = moment(self.zone, plan.start, rng.uniform(0.01, 0.05))
        for product_key, _ in self._sold():
            self._add_item(product_key, created)
        if plan.case == "item_twice":
            self._add_item(plan.lines[0][0], created, "+again")
        if plan.case == "extra_item":
            self.quantities["support_gold"] = 1
            self._add_item("support_gold", created)
        if plan.trial_days:
            self._version(created, "trialing", plan.start, plan.anchor)
        ended, credited_from = self._periods(created)
        subscription = Subscription(
            id=self.sub_id,
            legal_entity_id=plan.entity,
            customer_id=self.customer.id,
            currency=self.entity.currency,
            collection_method="charge_automatically" if plan.payer in ("card", "slow_card") else "send_invoice",
            start_date=midnight(self.zone, plan.start),
            anchor=midnight(self.zone, plan.anchor),
            anchor_date=plan.anchor,
            interval_months=plan.interval,
            trial_start=midnight(self.zone, plan.start) if plan.trial_days else None,
            trial_end=midnight(self.zone, plan.anchor) if plan.trial_days else None,
            created=created,
            versions=(),
        )
        life = Life(
            plan,
            self.account,
            self.contracts,
            subscription,
            self.invoices,
            self.customer,
            ended,
            credited_from,
            self.withheld,
            self.due,
        )
        life.subscription = replace(subscription, versions=tuple(self.versions))
        if ended is None:
            for meter in self.meters:
                meter.deliver()
        return life

    def _periods(self, created: datetime) -> tuple[date | None, date | None]:
        plan, rng = self.plan, self.rng
        n, previous = 0, plan.anchor
        stops = self._stops_on()
        while (start := add_months(plan.anchor, n * plan.interval)) < END:
            end = add_months(plan.anchor, (n + 1) * plan.interval)
            fraction = rng.uniform(0.03, 0.3)
            at = created if n == 0 and not plan.trial_days else moment(self.zone, start, fraction)
            usage = [line for m in self.meters for line in self._usage_lines(m, previous, start, n)]
            if stops is not None and start >= stops and not plan.credit_rest:
                self._end(start, at, previous)
                self._bill(start, at, [*self.carried, *usage], "subscription_cycle", previous, start)
                return start, None
            if n == 0 and plan.trial_days:
                crm.end_trial(self.contract, at + timedelta(seconds=30))
            if start >= self.contract.end:
                self._renew(start)
            self._boundary_changes(start, at)
            if plan.case == "canceled_in_billing" and start >= (plan.case_on or END):
                # no notice to the CRM: that is the planted break
                self._version(at, "canceled", previous, start, canceled_at=at, ended_at=at)
                return start, None
            self._version(at, "active", start, end)
            ahead = [self._ahead_line(key, item, start, end) for key, item in self.items.items() if item.quantity]
            reason = "subscription_create" if n == 0 else "subscription_cycle"
            self._bill(start, at, [*ahead, *self.carried, *usage], reason, start, end)  # type: ignore[arg-type]
            self.carried = []
            self._changes_within(start, end)
            if plan.credit_rest and stops is not None and start < stops < end:
                self._end(stops, moment(self.zone, stops, rng.uniform(0.05, 0.25)), start)
                return stops, stops
            n, previous = n + 1, start
        return None, None

    def _stops_on(self) -> date | None:
        """First day without service: cancelled, moved, or the end of a term that is not renewed."""
        plan = self.plan
        days = [plan.ends_on, plan.moves_to[1] if plan.moves_to else None]
        if not plan.renews and not plan.trial_days:
            days.append(add_months(plan.start, plan.term))
        return min((d for d in days if d is not None), default=None)

    def _end(self, on: date, at: datetime, period_start: date) -> None:
        plan = self.plan
        notice = moment(self.zone, max(plan.start, on - DAY * self.rng.randrange(2, 9)), self.rng.uniform(0.35, 0.5))
        if plan.credit_rest:
            notice = at - timedelta(minutes=2)
        lapsed = on >= self.contract.end
        if not lapsed:
            crm.cancel(self.contract, on, notice, at + timedelta(minutes=1))
        self._cancel_ahead(notice, period_start, on, at)
        if not plan.moves_to:
            self.account.versions.append(AccountVersion(at, at, plan.entity, "Former Customer"))

    def _cancel_ahead(self, notice: datetime, period_start: date, on: date, at: datetime) -> None:
        last = self.versions[-1]
        if last.at < notice < at:
            self.versions.append(
                replace(last, at=notice, visible_at=notice, cancel_at_period_end=True, canceled_at=notice)
            )
        else:
            notice = at
        self._version(at, "canceled", period_start, on, canceled_at=notice, ended_at=at)
        # the period that was running stays on the record
        self.versions[-1] = replace(
            self.versions[-1],
            current_period_start=last.current_period_start,
            current_period_end=last.current_period_end,
        )

    def _renew(self, start: date) -> None:
        old = self.contract
        self._sign("Renewal", start)
        for key, item in self.items.items():
            root = self.contract.roots.get(key)
            if root is not None and item.crm_line_id is not None:
                self.items[key] = replace(item, crm_line_id=root.id)
        for _, versions in old.entitlements.values():
            last = versions[-1]
            if last.end_date == start:
                at = moment(self.zone, start, 0.4)
                versions.append(replace(last, at=at, visible_at=at, status="Expired"))

    def _boundary_changes(self, start: date, at: datetime) -> None:
        plan = self.plan
        while self.pending and self.pending[0].on <= start and self.pending[0].kind in ("boundary", "add", "drop"):
            change = self.pending.pop(0)
            if change.kind == "boundary":
                crm.amend(self.world, self.rng, self.contract, change.product, change.delta, start)
                self._set_quantity(change.product, self.quantities[change.product] + change.delta)
            elif change.kind == "add":
                self.quantities[change.product] = change.delta
                crm.amend(self.world, self.rng, self.contract, change.product, change.delta, start)
                self._add_item(change.product, at)
            else:
                crm.amend(self.world, self.rng, self.contract, change.product, change.delta, start, drops=True)
                del self.quantities[change.product], self.items[change.product]
        if plan.case == "line_ended" and plan.case_on == start:
            notice = moment(self.zone, start - DAY, 0.3)
            crm.drop_product(self.contract, "platform_team", start, notice)

    def _set_quantity(self, product_key: str, quantity: int) -> None:
        self.quantities[product_key] = quantity
        self.items[product_key] = replace(self.items[product_key], quantity=quantity)

    def _changes_within(self, start: date, end: date) -> None:
        while self.pending and self.pending[0].on < end and self.pending[0].kind in ("prorate", "carry"):
            change = self.pending.pop(0)
            if change.on > start and change.on < END:
                self._prorate(change, start, end)

    def _prorate(self, change: Change, start: date, end: date) -> None:
        """Credit the old quantity's unused time and charge the new one's remaining time."""
        at = moment(self.zone, change.on, self.rng.uniform(0.03, 0.3))
        crm.amend(self.world, self.rng, self.contract, change.product, change.delta, change.on)
        item = self.items[change.product]
        old, new = self.quantities[change.product], self.quantities[change.product] + change.delta
        share = Decimal((end - change.on).days) / Decimal((end - start).days)
        price = self.world.prices.prices[item.price_id]
        name = PRODUCTS[change.product].name
        lines = [
            self._line(change.product, item, price, quantity, cents(sign * price.unit_amount * quantity * share,
                       self.entity.currency), change.on, end, f"{text} {quantity} × {name} after {change.on:%d %b %Y}",
                       f"{change.on}/{text}", proration=True)
            for sign, quantity, text in ((-1, old, "Unused time on"), (1, new, "Remaining time on"))
        ]  # fmt: skip
        self._set_quantity(change.product, new)
        self._version(at, "active", start, end)
        if change.kind == "carry":
            self.carried += lines
        else:
            self._bill(change.on, at, lines, "subscription_update", change.on, end)

    # -- invoices

    def _ahead_line(self, key: str, item: SubscriptionItem, start: date, end: date) -> InvoiceLine:
        price, quantity = self.world.prices.prices[item.price_id], item.quantity or 0
        text = f"{quantity} × {PRODUCTS[item.product_key].name}"
        amount = price.unit_amount * quantity
        return self._line(item.product_key, item, price, quantity, amount, start, end, text, f"{start}/{key}")

    def _usage_lines(self, meter: UsageMeter, start: date, end: date, n: int) -> list[InvoiceLine]:
        """The lines that bill a meter's usage of [start, end): one, or one per tier of a graduated price."""
        if n == 0:
            return []
        quantity = meter.run_period(start, end)
        price = self.world.prices.prices[self.items[meter.product_key].price_id]
        lines = self._charged(meter, price, charged(price, quantity), start, end)
        if self.plan.case_on != end:
            return lines
        self.due += lines
        match self.plan.case:
            case "usage_underbilled":
                return self._charged(meter, price, charged(price, quantity * 9 // 10), start, end)
            case "usage_wrong_tier":
                other = next(t for t in reversed(price.tiers) if t.unit_amount != lines[0].unit_amount)
                return self._charged(meter, price, [("", quantity, other.unit_amount)], start, end)
            case "usage_wrong_price":
                listed = price.unit_amount * Decimal("0.8")
                old = self.world.prices.price(self.entity, meter.product_key, self.plan.interval, listed)
                return self._charged(meter, old, charged(old, quantity), start, end)
            case "usage_wrong_period":
                return [replace(line, period_start=add_months(start, -1), period_end=start) for line in lines]
            case "usage_not_billed" | "usage_billed_late" | "usage_free" | "usage_wrong_customer":
                self.withheld += lines
                return []
        return lines

    def _charged(
        self, meter: UsageMeter, price: Price, parts: list[tuple[str, int, Decimal]], start: date, end: date
    ) -> list[InvoiceLine]:
        """A line per part: what its words are, how many units, and the amount of each."""
        product = PRODUCTS[meter.product_key]
        item = self.items[meter.product_key]
        text, key = f"{product.name} {start} to {end}", f"{start}/{meter.product_key}/used"
        return [
            self._line(
                meter.product_key, item, price, units, cents(each * units, self.entity.currency), start, end,
                f"{text}: {tier}" if tier else text, f"{key}/{tier}" if tier else key, meter=product.meter, each=each,
            )
            for tier, units, each in parts
        ]  # fmt: skip

    def _line(
        self,
        product_key: str,
        item: SubscriptionItem | None,
        price: Price,
        quantity: int,
        amount: Decimal,
        start: date,
        end: date,
        text: str,
        key: str,
        meter: str | None = None,
        proration: bool = False,
        each: Decimal | None = None,
    ) -> InvoiceLine:
        """A line; `each` is the amount per unit where the price has more than one."""
        rate = self.entity.tax_percent if self.plan.taxed else Decimal(0)
        key = f"{self.plan.key}/{key}"
        return InvoiceLine(
            id=self.world.id("il", key),
            line_no=0,
            kind="invoiceitem" if proration or item is None else "subscription",
            invoice_item_id=self.world.id("ii", key) if proration or item is None else None,
            subscription_item_id=item.id if item else None,
            price_id=price.id,
            product_key=product_key,
            product_id=price.product_id,
            family=PRODUCTS[product_key].family,
            meter=meter,
            description=text,
            quantity=quantity,
            unit_amount=price.unit_amount if each is None else each,
            amount=amount,
            tax=cents(amount * rate / 100, self.entity.currency),
            period_start=start,
            period_end=end,
            proration=proration,
        )

    def _bill(
        self,
        on: date,
        at: datetime,
        lines: list[InvoiceLine],
        reason: Literal["subscription_create", "subscription_cycle", "subscription_update", "manual"],
        period_start: date,
        period_end: date,
    ) -> InvoiceDraft | None:
        """An invoice drafted at `at`, final some minutes later."""
        if not lines:
            return None
        key = f"{self.plan.key}/{on}/{reason}"
        draft = InvoiceDraft(
            key=key,
            id=self.world.id("in", key),
            entity=self.plan.entity,
            customer_id=self.customer.id,
            subscription_id=self.sub_id,
            account_id=self.account.id,
            collection="charge_automatically" if self.plan.payer in ("card", "slow_card") else "send_invoice",
            reason=reason,
            on=on,
            created=at,
            finalized_at=at + timedelta(minutes=self.rng.randrange(20, 60)),
            period_start=period_start,
            period_end=period_end,
            lines=[replace(line, line_no=i) for i, line in enumerate(lines, 1)],
            case=self.plan.case,
        )
        self.invoices.append(draft)
        return draft
