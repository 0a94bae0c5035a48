"""How invoices end: paid in one way or another, credited, voided, given up, disputed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from tieout_sandbox.company.catalogue import BY_ID, cents
from tieout_sandbox.company.days import DAY, END, moment
from tieout_sandbox.company.drafts import BalanceDraft, ChargeDraft, CreditDraft, Fact, InvoiceDraft
from tieout_sandbox.company.lifecycle import Life
from tieout_sandbox.company.model import InvoiceLine
from tieout_sandbox.company.schedule import is_ahead, released
from tieout_sandbox.company.world import World

PAID_BY_CASE = ("short_paid", "paid_without_payment", "paid_twice")
"""Planted cases that say themselves how the invoice of their day is paid."""
_METHODS = {"US": "ach_debit", "DE": "sepa_debit", "JP": "customer_balance"}


def settle(world: World, life: Life) -> None:
    """Decide what happens to each of a customer's invoices and record it."""
    _Settlement(world, life).run()


class _Settlement:
    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life, self.plan = world, life, life.plan
        self.rng = Random(f"{world.company.seed}/settle/{life.plan.key}")
        self.entity = BY_ID[life.plan.entity]
        self.zone, self.currency = self.entity.zone, self.entity.currency
        self.bulk: list[InvoiceDraft] = []
        self.charges: list[ChargeDraft] = []
        self.balance_changes: list[BalanceDraft] = []

    def run(self) -> None:
        plan = self.plan
        reissued = []
        for invoice in self.life.invoices:
            if plan.void_on == invoice.on and invoice.reason == "subscription_cycle":
                reissued.append(self._void(invoice))
            elif plan.case in PAID_BY_CASE and plan.case_on == invoice.on:
                continue
            else:
                self._use_credit(invoice)
                self._settle(invoice)
        for invoice in reissued:
            self._settle(invoice)
        self.life.invoices.extend(reissued)
        if self.life.credited_from is not None:
            self._credit_rest(self.life.credited_from)
        if plan.goodwill_on is not None and plan.goodwill_on < END:
            self._credit_goodwill(plan.goodwill_on)
        if plan.uncollectible_on is not None and plan.uncollectible_on < END:
            self._give_up(plan.uncollectible_on)
        if plan.dispute_from is not None:
            self._dispute(plan.dispute_from)
        if plan.draft_on is not None:
            self._leave_draft(plan.draft_on)
        self.world.charges.extend(self.charges)
        self.world.balance_changes.extend(self.balance_changes)

    # -- the customer's credit

    def _use_credit(self, invoice: InvoiceDraft) -> None:
        """Finalising takes the credit the customer has by then, or adds to it where the total is negative."""
        at = invoice.finalized_at
        invoice.starting_balance = sum((c.amount for c in self.balance_changes if c.at < at), Decimal(0))
        if invoice.credit_applied:
            self._change_balance(f"{invoice.key}/credit", at, invoice.credit_applied, invoice.key)

    def _change_balance(self, key: str, at: datetime, amount: Decimal, invoice_key: str | None) -> None:
        self.balance_changes.append(
            BalanceDraft(self.plan.entity, self.life.customer.id, amount, invoice_key, at, key)
        )  # fmt: skip

    def _leave_draft(self, on: date) -> None:
        """An invoice somebody began and has not finalised."""
        last, key = self.life.invoices[-1], f"{self.plan.key}/draft"
        at = moment(self.zone, on, self.rng.uniform(0.2, 0.4))
        lines = [replace(line, id=self.world.id("il", f"{key}/{line.line_no}")) for line in last.lines]
        draft = replace_invoice(last, key, self.world.id("in", key), on, at, at, lines)
        draft.stays_draft = True
        self.life.invoices.append(draft)

    # -- payments

    def _settle(self, invoice: InvoiceDraft) -> None:
        rng, payer, due = self.rng, self.plan.payer, invoice.open_amount
        if due <= 0:
            return
        if payer == "card":
            at = invoice.finalized_at + timedelta(minutes=rng.randrange(2, 30))
            self.pay(invoice, due, at, invoice.on, "card")
        elif payer == "slow_card" and rng.random() < 0.4:
            self._pay_after_reminders(invoice)
        elif payer == "slow_card":
            self.pay(invoice, due, invoice.finalized_at + timedelta(minutes=9), invoice.on, "card")
        elif payer == "transfer":
            on = invoice.on + DAY * rng.randrange(3, 28)
            if on < END:
                self.pay(invoice, due, moment(self.zone, on, rng.uniform(0.45, 0.7)), on, self._method())
        elif payer == "partial":
            self._pay_in_parts(invoice)
        elif payer == "over":
            on = invoice.on + DAY * rng.randrange(2, 20)
            if on < END:
                extra = cents(due * Decimal(rng.randrange(1, 8)) / 100, self.currency)
                charge = self.pay_directly([(invoice, due)], due + extra, on)
                self._change_balance(f"{charge.key}/over", charge.at, -extra, None)
        elif payer == "bulk":
            self.bulk.append(invoice)
            if len(self.bulk) == 2 + len(self.plan.key) % 2:
                on = invoice.on + DAY * rng.randrange(4, 12)
                if on < END:
                    self.pay_directly(
                        [(i, i.open_amount) for i in self.bulk], sum(i.open_amount for i in self.bulk), on
                    )
                self.bulk = []
        elif payer == "never" and self.plan.case is None and rng.random() < 0.8:
            # mostly late rather than never
            on = invoice.on + DAY * rng.randrange(35, 60)
            if on < END and self.plan.uncollectible_on is None:
                self.pay(invoice, due, moment(self.zone, on, rng.uniform(0.45, 0.7)), on, self._method())

    def _method(self) -> str:
        return _METHODS[self.plan.entity]

    def pay(self, invoice: InvoiceDraft, amount: Decimal, at: datetime, on: date, method: str) -> None:
        """A payment made through the processor for one invoice."""
        charge = self._charge(f"{invoice.key}/pay", amount, at, on, method)
        charge.invoice_key = invoice.key
        charge.pays = [(invoice.key, amount)]
        invoice.facts.append(Fact(at, "paid", amount, charge.id))

    def pay_directly(
        self, parts: list[tuple[InvoiceDraft, Decimal]], amount: Decimal, on: date, note: str = "direct"
    ) -> ChargeDraft:
        """A bank transfer that somebody assigned to invoices by hand."""
        at = moment(self.zone, on, self.rng.uniform(0.45, 0.7))
        charge = self._charge(f"{parts[-1][0].key}/{note}/{on}", amount, at, on, self._method())
        charge.pays = [(invoice.key, part) for invoice, part in parts]
        for invoice, part in parts:
            invoice.facts.append(Fact(at, "paid", part, None, out_of_band=True))
        return charge

    def _charge(self, key: str, amount: Decimal, at: datetime, on: date, method: str) -> ChargeDraft:
        charge = ChargeDraft(
            key, self.world.id("ch", key), self.plan.entity, self.life.customer.id, amount, method, None, [], at, on,
            case=self.plan.case,
        )  # type: ignore[arg-type]  # fmt: skip
        self.charges.append(charge)
        return charge

    def _pay_after_reminders(self, invoice: InvoiceDraft) -> None:
        """The card fails at first; the subscription is past due until it works."""
        failed_at = invoice.finalized_at + timedelta(minutes=5)
        due = invoice.open_amount
        failed = self._charge(f"{invoice.key}/failed", due, failed_at, invoice.on, "card")
        failed.failed, failed.invoice_key = True, invoice.key
        invoice.facts.append(Fact(failed_at, "attempt"))
        on = invoice.on + DAY * self.rng.randrange(3, 12)
        paid_at = moment(self.zone, on, self.rng.uniform(0.5, 0.8)) if on < END else None
        if paid_at is not None:
            self.pay(invoice, due, paid_at, on, "card")
        self._past_due(failed_at, paid_at)

    def _past_due(self, since: datetime, until: datetime | None) -> None:
        versions = list(self.life.subscription.versions)
        before = [v for v in versions if v.at <= since][-1]
        if before.status != "active":
            return
        changed = [replace(before, at=since, visible_at=since, status="past_due")]
        for version in versions:
            if version.at > since and (until is None or version.at < until) and version.status == "active":
                changed.append(replace(version, status="past_due"))
            elif version.at > since:
                changed.append(version)
        if until is not None:
            last = [v for v in changed if v.at < until][-1]
            if last.status == "past_due":
                changed.append(replace(last, at=until, visible_at=until, status="active"))
        changed += [v for v in versions if v.at <= since]
        self.life.subscription = replace(self.life.subscription, versions=tuple(sorted(changed, key=lambda v: v.at)))

    def _pay_in_parts(self, invoice: InvoiceDraft) -> None:
        due = invoice.open_amount
        first = cents(due * Decimal(self.rng.randrange(20, 70)) / 100, self.currency)
        on = invoice.on + DAY * self.rng.randrange(2, 12)
        if on < END and first > 0:
            self.pay_directly([(invoice, first)], first, on, "part 1")
            later = on + DAY * self.rng.randrange(5, 20)
            if later < END and self.rng.random() < 0.8:
                self.pay_directly([(invoice, due - first)], due - first, later, "part 2")

    # -- corrections

    def _void(self, invoice: InvoiceDraft) -> InvoiceDraft:
        """Void an open invoice and issue the same again."""
        after = self.rng.randrange(3) if self.plan.void_after is None else self.plan.void_after
        on = min(invoice.on + DAY * after, END - DAY)
        at = moment(self.zone, on, self.rng.uniform(0.5, 0.6))
        invoice.facts.append(Fact(at, "void"))
        key = f"{invoice.key}/again"
        lines = [
            replace(
                line, id=self.world.id("il", f"{key}/{line.line_no}"), kind="invoiceitem",
                invoice_item_id=self.world.id("ii", f"{key}/{line.line_no}"),
            )
            for line in invoice.lines
        ]  # fmt: skip
        return replace_invoice(
            invoice, key, self.world.id("in", key), on, at + timedelta(minutes=5), at + timedelta(minutes=25), lines
        )

    def _credit(
        self,
        invoice: InvoiceDraft,
        parts: list[tuple[InvoiceLine, Decimal]],
        at: datetime,
        on: date,
        reason: str,
        memo: str,
    ) -> None:
        """Credit net amounts of lines, with their share of tax; paid back if the invoice was paid."""
        lines = [(line, net, cents(line.tax * net / line.amount, self.currency)) for line, net in parts if net > 0]
        if not lines:
            return
        key = f"{invoice.key}/credit"
        paid = any(f.kind == "paid" and f.at < at for f in invoice.facts)
        charge_key = f"{invoice.key}/pay" if paid else None
        credit = CreditDraft(
            key, self.world.id("cn", key), invoice.key, lines, paid, charge_key, reason, memo, at, on,
            self.plan.refund_fails_after,
        )  # type: ignore[arg-type]  # fmt: skip
        self.world.credits.append(credit)
        invoice.facts.append(Fact(at, "credited_after" if paid else "credited_before", credit.total))
        if not paid:
            self._pay_less(invoice, credit.total)

    def _pay_less(self, invoice: InvoiceDraft, credited: Decimal) -> None:
        """A payment still to come pays what the credit note left."""
        for i, fact in enumerate(invoice.facts):
            if fact.kind == "paid":
                amount = fact.amount - credited
                charge = next(c for c in self.charges if c.id == fact.charge_id)
                if amount > 0:
                    invoice.facts[i] = replace(fact, amount=amount)
                    charge.amount, charge.pays = amount, [(invoice.key, amount)]
                else:
                    del invoice.facts[i]
                    self.charges.remove(charge)
                return

    def _credit_rest(self, on: date) -> None:
        """Cancelled at once: the unreleased rest of the running period's lines."""
        invoice = self.life.invoices[-1]
        at = self.life.subscription.versions[-1].at + timedelta(minutes=15)
        parts = [
            (line, line.amount - released(line, on - DAY, self.currency))
            for line in invoice.lines
            if is_ahead(line, on)
        ]
        self._credit(invoice, parts, at, on, "order_change", "Cancelled during the period")

    def _credit_goodwill(self, on: date) -> None:
        """Part of the usage billed last before the day."""
        billed = [
            (i, line)
            for i in self.life.invoices
            for line in i.lines
            if line.meter and i.on < on and line.period_end <= on and i.paid == i.total
        ]
        if not billed:
            return
        invoice, line = billed[-1]
        net = cents(line.amount * Decimal(self.rng.randrange(10, 60)) / 100, self.currency)
        at = moment(self.zone, on, self.rng.uniform(0.3, 0.6))
        self._credit(invoice, [(line, net)], at, on, "product_unsatisfactory", "Goodwill for an outage")

    def _give_up(self, on: date) -> None:
        """The oldest unpaid invoice, once its service is over."""
        for invoice in self.life.invoices:
            if invoice.open_amount > 0 and all(line.period_end <= on for line in invoice.lines):
                invoice.facts.append(Fact(moment(self.zone, on, self.rng.uniform(0.3, 0.6)), "uncollectible"))
                return

    def _dispute(self, day: date) -> None:
        for invoice in self.life.invoices:
            if invoice.on >= day and invoice.facts and not any(f.kind.startswith("credited") for f in invoice.facts):
                after = self.plan.dispute_after or self.rng.randrange(5, 20)
                if invoice.on + DAY * after < END:
                    self.world.disputes.append((f"{invoice.key}/pay", invoice.on + DAY * after, self.rng))
                return


def replace_invoice(
    invoice: InvoiceDraft,
    key: str,
    invoice_id: str,
    on: date,
    created: datetime,
    finalized_at: datetime,
    lines: list[InvoiceLine],
) -> InvoiceDraft:
    """Another invoice of the same customer and subscription, outside the billing cycle."""
    return replace(
        invoice, key=key, id=invoice_id, on=on, created=created, finalized_at=finalized_at, lines=lines,
        reason="manual", facts=[], starting_balance=Decimal(0),
    )  # fmt: skip
