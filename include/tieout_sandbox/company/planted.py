"""Planted breaks: what is wrong with each planted customer, ledger entry and usage row, and the label that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from tieout_sandbox.company.catalogue import BY_ID, ENTITIES, cents, list_price
from tieout_sandbox.company.days import DAY, GO_LIVE, add_months, batch_time, moment
from tieout_sandbox.company.drafts import ChargeDraft, Fact, InvoiceDraft
from tieout_sandbox.company.erp_history import (
    BAD_DEBT,
    CLEARING,
    CREDIT,
    DEFERRED,
    EQUITY,
    FEES,
    RECEIVABLE,
    REVENUE,
    TAX,
)
from tieout_sandbox.company.lifecycle import Life
from tieout_sandbox.company.model import (
    Company,
    EntitlementVersion,
    ErpMove,
    Invoice,
    InvoiceLine,
    MoveLine,
    QuarantineExpectation,
    UnreadableUsageRow,
)
from tieout_sandbox.company.plans import planted_count
from tieout_sandbox.company.settle import replace_invoice
from tieout_sandbox.company.support import add_ticket, open_organization, working_moment
from tieout_sandbox.company.world import World

C2S, USAGE, I2R, P2I = "contract_to_subscription", "usage_to_billing", "invoice_to_receivable", "payment_to_invoice"
CASE, ENT, J2L = "case_to_contract", "entitlement_to_contract", "journal_to_ledger"
_ZERO = Decimal(0)


def plant(world: World, life: Life) -> None:
    """Do what the planted customer's case says and label it; call after its invoices are settled."""
    if life.plan.case is not None:
        _Case(world, life).plant()


class _Case:
    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life, self.plan = world, life, life.plan
        self.entity = BY_ID[life.plan.entity]
        self.day: date = life.plan.case_on or GO_LIVE
        self.rng = Random(f"{world.company.seed}/case/{life.plan.key}")

    def plant(self) -> None:
        getattr(self, f"_{self.plan.case}")()

    # -- contract_to_subscription

    def _line_amount(self, product: str) -> tuple[str, Decimal]:
        line = self.life.contracts[0].roots[product]
        quantity = Decimal(str(line.facts["quantity"]))
        return line.id, quantity * list_price(product, self.entity.currency)

    def _label(
        self, definition: str, break_type: str, key: str, since: date, until: date | None = None,
        amount: Decimal | None = None, note: str = "",
    ) -> None:  # fmt: skip
        self.world.label(definition, break_type, self.plan.entity, key, since, until, amount, note)

    def _item_id(self, position: int = 0) -> str:
        return self.life.subscription.versions[0].items[position].id

    def _no_item(self) -> None:
        line, amount = self._line_amount("platform_team")
        self._label(C2S, "missing_right", line, self.plan.start, amount=amount, note="sold, but no item bills it")

    def _extra_item(self) -> None:
        self._label(
            C2S, "missing_left", self._item_id(2), self.plan.start,
            amount=list_price("support_gold", self.entity.currency), note="billed, but on no contract",
        )  # fmt: skip

    def _line_ended(self) -> None:
        line = self.life.contracts[0].lines[1]
        self._label(
            C2S, "missing_left", line.id, self.day, amount=list_price("platform_team", self.entity.currency),
            note="line terminated in the CRM, still billed",
        )  # fmt: skip

    def _canceled_in_billing(self) -> None:
        line, amount = self._line_amount("seat_pro")
        self._label(C2S, "status", line, self.day, amount=amount, note="active in the CRM, cancelled in billing")

    def _price_differs(self) -> None:
        line, amount = self._line_amount("seat_pro")
        billed = self._billed_per_month()
        self._label(C2S, "amount", line, self.plan.start, amount=amount - billed, note="billed 10 % below contract")

    def _billed_per_month(self) -> Decimal:
        item = self.life.subscription.versions[0].items[0]
        return self.world.prices.prices[item.price_id].unit_amount * (item.quantity or 0)

    def _quantity_differs(self) -> None:
        line, _ = self._line_amount("seat_pro")
        self._label(C2S, "attribute", line, self.plan.start, note="half the quantity at twice the price")

    def _crm_currency(self) -> None:
        line, amount = self._line_amount("seat_pro")
        self._label(C2S, "currency", line, self.plan.start, amount=amount, note="contract in another currency")

    def _unmapped_product(self) -> None:
        line, amount = self._line_amount("analytics_addon")
        self._label(C2S, "mapping", line, self.plan.start, amount=amount, note="product is in no mapping")
        invoice = self._invoice_of(self.plan.start)
        self._label(
            I2R, "mapping", f"{{invoice:{invoice.key}}}", invoice.on, amount=invoice.total,
            note="not posted: product is in no mapping",
        )  # fmt: skip

    def _item_twice(self) -> None:
        line, amount = self._line_amount("seat_pro")
        self._label(C2S, "duplicate", line, self.plan.start, amount=amount, note="two items bill one line")

    def _unknown_customer(self) -> None:
        self._label(
            C2S, "orphan", self._item_id(), self.plan.start, amount=self._billed_per_month(),
            note="billing customer that the CRM does not know",
        )  # fmt: skip

    # -- usage_to_billing

    def _usage_key(self, line: InvoiceLine) -> str:
        return f"{self.life.subscription.id}|{line.meter}|{line.period_start}"

    def _usage_line(self) -> InvoiceLine:
        return next(
            line for i in self.life.invoices for line in i.lines if line.meter and line.period_end == self.day
        )  # fmt: skip

    def _usage_difference(self, note: str) -> None:
        """Billed on the right subscription and period, for another amount than the price book's."""
        billed = sum((x.amount for i in self.life.invoices for x in i.lines if self._is_due(x)), _ZERO)
        due = sum((line.amount for line in self.life.due), _ZERO)
        self._label(USAGE, "amount", self._usage_key(self.life.due[0]), self.day, amount=abs(due - billed), note=note)

    def _is_due(self, line: InvoiceLine) -> bool:
        return line.meter is not None and line.period_end == self.day

    def _usage_underbilled(self) -> None:
        self._usage_difference("billed 90 % of what was used")

    def _usage_wrong_tier(self) -> None:
        self._usage_difference("all units billed at the amount of a tier that was not reached")

    def _usage_wrong_price(self) -> None:
        self._usage_difference("billed at a price that no longer holds")

    def _usage_wrong_period(self) -> None:
        line = self.life.due[0]
        self._label(
            USAGE, "cut_off", self._usage_key(line), self.day, amount=line.amount,
            note="billed once more as the period before",
        )  # fmt: skip

    def _usage_free(self) -> None:
        contract = self.life.contracts[0]
        root = contract.roots[self.plan.meters[0]].id
        at = contract.created + timedelta(minutes=4)
        contract.entitlements[root] = (
            {
                "id": self.world.numbers.salesforce("550"),
                "name": f"API calls - {contract.account.name}",
                "account_id": contract.account.id,
                "legal_entity_id": contract.entity,
                "contract_line_id": root,
                "start_date": contract.start,
                "created": at,
            },
            [EntitlementVersion(at, at, "Active", contract.end, "Usage")],
        )
        self._usage_not_billed()

    def _usage_wrong_customer(self) -> None:
        """The usage stands on the invoice of a customer of the same entity who does not have the meter."""
        line = self.life.withheld[0]
        model = [i for i in self.world.invoices if i.key.startswith(f"{self.plan.entity}-d0-monthly/")][-1]
        key, at = f"{self.plan.key}/astray", moment(self.entity.zone, self.day, 0.2)
        astray = replace(
            line, line_no=1, kind="invoiceitem", invoice_item_id=self.world.id("ii", key), subscription_item_id=None
        )
        invoice = replace_invoice(
            model, key, self.world.id("in", key), self.day, at, at + timedelta(minutes=30), [astray]
        )
        self.world.invoices.append(invoice)
        charge = self._pay(invoice, invoice.total, self.day, f"{key}/pay", 0.4, through_processor=True)
        charge.customer_id = model.customer_id
        self._label(
            USAGE, "attribute", self._usage_key(line), self.day, amount=line.amount, note="billed to another customer"
        )

    def _usage_missing(self) -> None:
        line = self._usage_line()
        self._label(USAGE, "missing_left", self._usage_key(line), self.day, amount=line.amount, note="no usage events")

    def _usage_not_billed(self, billed_on: date | None = None) -> None:
        line = self.life.withheld[0]
        overdue = self.day + DAY * 2
        timing_ends = overdue if billed_on is None else min(overdue, billed_on)
        key = self._usage_key(line)
        self._label(USAGE, "timing", key, self.day, timing_ends, line.amount, "used, invoice not there yet")
        if billed_on is None or billed_on > overdue:
            self._label(USAGE, "missing_right", key, overdue, billed_on, line.amount, "used, never billed")

    def _usage_billed_late(self) -> None:
        on = self.day + DAY * (3 if self.day > GO_LIVE else 2)
        line, model = self.life.withheld[0], self.life.invoices[-1]
        key = f"{self.plan.key}/late"
        at = moment(self.entity.zone, on, 0.2)
        invoice = replace_invoice(
            model, key, self.world.id("in", key), on, at, at + timedelta(minutes=30), [replace(line, line_no=1)]
        )
        self.life.invoices.append(invoice)
        self._pay(invoice, invoice.total, on, f"{key}/pay", 0.4, through_processor=True)
        self._usage_not_billed(on)

    # -- payment_to_invoice

    def _invoice_of(self, day: date) -> InvoiceDraft:
        return next(i for i in self.life.invoices if i.on == day)

    def _pay(
        self,
        invoice: InvoiceDraft | None,
        amount: Decimal,
        on: date,
        key: str,
        fraction: float = 0.5,
        through_processor: bool = False,
        recorded: Decimal | None = None,
    ) -> ChargeDraft:
        """A payment; `recorded` is what billing takes it for, where that differs."""
        at = moment(self.entity.zone, on, fraction)
        method = (
            "card"
            if through_processor
            else {"US": "ach_debit", "DE": "sepa_debit"}.get(self.plan.entity, "customer_balance")
        )
        charge = ChargeDraft(
            key, self.world.id("ch", key), self.plan.entity, self.life.customer.id, amount, method, None, [], at, on,
            case=self.plan.case,
        )  # type: ignore[arg-type]  # fmt: skip
        self.world.charges.append(charge)
        if invoice is not None:
            charge.invoice_key = invoice.key if through_processor else None
            charge.pays = [(invoice.key, amount)]
            paid = amount if recorded is None else recorded
            if paid:
                invoice.facts.append(
                    Fact(at, "paid", paid, charge.id if through_processor else None, not through_processor)
                )
        return charge

    def _short_paid(self) -> None:
        invoice, on = self._invoice_of(self.day), GO_LIVE + DAY
        short = cents(invoice.total * Decimal("0.07"), self.entity.currency)
        self._pay(invoice, invoice.total - short, on, f"{self.plan.key}/short", recorded=invoice.total)
        self._label(P2I, "amount", f"{{invoice:{invoice.key}}}", on, amount=short, note="marked paid, paid 7 % short")

    def _paid_without_payment(self) -> None:
        invoice = self._invoice_of(self.day)
        on = GO_LIVE + DAY * 2 if self.day > date(2026, 3, 15) else self.day + DAY * 10
        invoice.facts.append(Fact(moment(self.entity.zone, on, 0.5), "paid", invoice.total, None, True))
        self._label(
            P2I, "missing_right", f"{{invoice:{invoice.key}}}", on, amount=invoice.total,
            note="marked paid, no payment came",
        )  # fmt: skip

    def _paid_twice(self) -> None:
        invoice, again = self._invoice_of(self.day), GO_LIVE
        self._pay(invoice, invoice.total, self.day + DAY * 8, f"{self.plan.key}/once")
        self._pay(invoice, invoice.total, again, f"{self.plan.key}/twice", recorded=_ZERO)
        self._label(P2I, "duplicate", f"{{invoice:{invoice.key}}}", again, amount=invoice.total, note="paid twice")

    def _unknown_reference(self) -> None:
        number = f"{self.plan.entity}-2026-9{self.rng.randrange(10_000, 99_999)}"
        amount = cents(list_price("seat_pro", self.entity.currency) * 7, self.entity.currency)
        charge = self._pay(None, amount, self.day, f"{self.plan.key}/unknown")
        charge.pays = [(number, amount)]
        self._label(P2I, "orphan", number, self.day, amount=amount, note="refers to an invoice that does not exist")

    def _payment_one_candidate(self) -> None:
        invoice, on = self._invoice_of(self.day), self.day + DAY * 4
        charge = self._pay(None, invoice.total, on, f"{self.plan.key}/bare")
        self._label(P2I, "suggested_match", charge.id, on, amount=invoice.total, note="no reference, one candidate")

    def _payment_two_candidates(self) -> None:
        """Two onboarding invoices of one amount, and a payment that could be for either."""
        model, on = self.life.invoices[-1], self.day + DAY * 3
        total = _ZERO
        for n in range(2):
            issued = self.day - DAY * 2 * n
            key = f"{self.plan.key}/onboarding-{n}"
            at = moment(self.entity.zone, issued, 0.2)
            price = self.world.prices.price(self.entity, "onboarding", 1)
            line = replace(
                model.lines[0], id=self.world.id("il", key), line_no=1, kind="invoiceitem",
                invoice_item_id=self.world.id("ii", key), subscription_item_id=None, price_id=price.id,
                product_key="onboarding", product_id=price.product_id, family="platform", meter=None,
                description="Onboarding package", quantity=1, unit_amount=price.unit_amount, amount=price.unit_amount,
                tax=cents(price.unit_amount * self.entity.tax_percent / 100, self.entity.currency),
                period_start=issued, period_end=issued + DAY, proration=False,
            )  # fmt: skip
            invoice = replace_invoice(
                model, key, self.world.id("in", key), issued, at, at + timedelta(minutes=30), [line]
            )
            self.life.invoices.append(invoice)
            total = invoice.total
        charge = self._pay(None, total, on, f"{self.plan.key}/bare")
        self._label(P2I, "ambiguous", charge.id, on, amount=total, note="no reference, two candidates")

    def _payment_no_candidate(self) -> None:
        amount = cents(list_price("seat_standard", self.entity.currency) * Decimal("3.7"), self.entity.currency)
        charge = self._pay(None, amount, self.day, f"{self.plan.key}/bare")
        self._label(P2I, "missing_left", charge.id, self.day, amount=amount, note="no reference, no candidate")

    # -- case_to_contract

    def _case_without_contract(self) -> None:
        organization = open_organization(
            self.world, self.life.account.name, self.life.account.id, self.life.account.created,
            self.life.account.domain,
        )  # fmt: skip
        solved = GO_LIVE + DAY * 2 if self.day == date(2026, 3, 28) else None
        add_ticket(self.world, self.plan.key, self.plan.entity, organization, self.day, self.rng, solved)
        self._label(
            CASE, "missing_right", f"{{ticket:{self.plan.key}}}", self.day, solved,
            note="the customer's contract ended before",
        )  # fmt: skip

    def _case_deleted(self) -> None:
        """A ticket without a contract that the support team deletes: from then on there is nothing to report."""
        account = self.life.account
        organization = open_organization(self.world, account.name, account.id, account.created, account.domain)
        deleted = GO_LIVE + DAY * 2
        add_ticket(self.world, self.plan.key, self.plan.entity, organization, self.day, self.rng, None, deleted)
        self._label(
            CASE, "missing_right", f"{{ticket:{self.plan.key}}}", self.day, deleted,
            note="the customer's contract ended before; the ticket is deleted later",
        )  # fmt: skip

    # -- entitlement_to_contract

    def _support_line(self) -> str:
        return next(line.id for line in self.life.contracts[0].lines if line.facts["product_key"] == "support_premium")

    def _change_entitlement(self, **changes: object) -> None:
        _, versions = self.life.contracts[0].entitlements[self._support_line()]
        versions[:] = [replace(v, **changes) for v in versions]  # type: ignore[arg-type]

    def _entitlement_missing(self) -> None:
        line = self._support_line()
        del self.life.contracts[0].entitlements[line]
        self._label(ENT, "missing_left", line, self.plan.start + DAY * 4, note="support sold, nothing granted")

    def _entitlement_late(self) -> None:
        line, on = self._support_line(), self.day + DAY * 2
        facts, versions = self.life.contracts[0].entitlements[line]
        at = moment(self.entity.zone, on, 0.3)
        facts["start_date"], facts["created"] = on, at
        versions[:] = [replace(v, at=at, visible_at=at) for v in versions]
        self._label(ENT, "timing", line, self.plan.start, on, note="support granted two days after it began")

    def _entitlement_after_end(self) -> None:
        end = self.life.contracts[0].end
        self._change_entitlement(end_date=add_months(end, 6))
        self._label(ENT, "missing_right", self._support_line(), end, note="still granted after the contract ended")

    def _entitlement_level(self) -> None:
        self._change_entitlement(level="Gold")
        self._label(ENT, "attribute", self._support_line(), self.plan.start, note="Gold granted, Premium sold")

    def _entitlement_status(self) -> None:
        self._change_entitlement(status="Inactive")
        self._label(ENT, "status", self._support_line(), self.plan.start, note="not active although its term runs")

    def _entitlement_without_line(self) -> None:
        contract = self.life.contracts[0]
        at = contract.created + timedelta(minutes=4)
        entitlement_id = self.world.numbers.salesforce("550")
        contract.entitlements[entitlement_id] = (
            {
                "id": entitlement_id,
                "name": f"Premium support - {contract.account.name}",
                "account_id": contract.account.id,
                "legal_entity_id": contract.entity,
                "contract_line_id": None,
                "start_date": contract.start,
                "created": at,
            },
            [EntitlementVersion(at, at, "Active", contract.end, "Premium")],
        )
        self._label(ENT, "missing_right", entitlement_id, contract.start, note="granted, never sold")


# ---------------------------------------------------------------------------------------------- records of nobody


def plant_strangers(world: World, scale: int) -> None:
    """Tickets whose organisation leads to no customer."""
    rng = Random(f"{world.company.seed}/strangers")
    for n in range(planted_count(3, scale)):
        opened = (date(2026, 3, 24), date(2026, 3, 30), date(2026, 3, 29))[n % 3]
        key = f"stranger-{n}"
        organization = None
        if n % 3 != 2:
            known = None if n % 3 == 0 else "001000000000000AAA"
            organization = open_organization(
                world, f"Unlisted Holdings {n}", known, working_moment(opened - DAY * 20, 0.2), f"unlisted{n}.example"
            )
        add_ticket(world, key, None, organization, opened, rng, None)
        world.label(CASE, "orphan", "", f"{{ticket:{key}}}", opened, note="organisation leads to no customer")


# ---------------------------------------------------------------------------------------------- the ledger

_LEDGER_CASES = (
    ("missed", 3),
    ("doubled", 2),
    ("wrong_amount", 2),
    ("wrong_tax", 2),
    ("wrong_period", 2),
    ("invented", 2),
)


def plant_ledger(company: Company, world: World, clean_invoices: list[Invoice]) -> None:
    """Mistakes of the former integration in moves of otherwise clean invoices, and accountants' entries.

    `clean_invoices` may carry a mistake: finalised before go-live, neither voided nor credited nor planted.
    """
    rng = Random(f"{company.seed}/ledger")
    moves = {m.description: m for m in company.erp_history}
    changed: dict[str, list[ErpMove]] = {}
    free = sorted(clean_invoices, key=lambda i: i.number or "")
    rng.shuffle(free)
    february = [i for i in free if i.accounting_date and date(2026, 2, 18) <= i.accounting_date <= date(2026, 2, 27)]
    taken: set[str] = set()
    for case, at_scale_1 in _LEDGER_CASES:
        for _ in range(planted_count(at_scale_1, company.scale)):
            queue, kept = february if case == "wrong_period" else free, []
            while (invoice := queue.pop()).id in taken or (case == "wrong_tax" and invoice.tax <= 0):
                if invoice.id not in taken:
                    kept.append(invoice)
            queue.extend(reversed(kept))
            taken.add(invoice.id)
            move = moves[f"BillingSync {invoice.number}"]
            changed[move.key] = _mistake(world, rng, case, invoice, move)
    company.erp_history = [m for old in company.erp_history for m in changed.get(old.key, [old])]
    company.erp_history.sort(key=lambda m: (m.date, m.key))


def _mistake(world: World, rng: Random, case: str, invoice: Invoice, move: ErpMove) -> list[ErpMove]:
    entity, number = invoice.legal_entity_id, invoice.number or ""
    on = move.date
    match case:
        case "missed":
            world.label(I2R, "missing_right", entity, number, on, None, invoice.total, "the integration missed it")
            return []
        case "doubled":
            world.label(I2R, "duplicate", entity, number, on, None, invoice.total, "the integration posted it twice")
            return [move, replace(move, key=f"{move.key}/again")]
        case "wrong_amount":
            error = cents(invoice.total * Decimal(rng.randrange(3, 20)) / 100, invoice.currency)
            world.label(I2R, "amount", entity, number, on, None, error, "posted too high")
            return [replace(move, lines=_shifted(move.lines, RECEIVABLE, error))]
        case "wrong_tax":
            error = cents(invoice.tax / 2, invoice.currency)
            world.label(I2R, "amount", entity, number, on, None, error, "half of the tax posted as income")
            return [replace(move, lines=_shifted(move.lines, TAX, error))]
        case "wrong_period":
            wrong = date(2026, 3, 2)
            world.label(I2R, "cut_off", entity, number, on, None, invoice.total, "February invoice posted in March")
            return [replace(move, date=wrong, visible_at=batch_time(BY_ID[entity].zone, wrong))]
        case _:
            strange = f"{number[:-6]}9{number[-5:]}"
            world.label(I2R, "missing_left", entity, strange, on, None, invoice.total, "billing knows no such invoice")
            invented = replace(move, key=f"{entity}/BillingSync {strange}", description=f"BillingSync {strange}")
            return [move, invented]


def _shifted(lines: tuple[MoveLine, ...], account: str, amount: Decimal) -> tuple[MoveLine, ...]:
    """Receivable up, or tax down, by an amount; the first income or deferred line takes the other side."""
    other = next(line.account for line in lines if line.account not in (RECEIVABLE, TAX) and line.credit > 0)
    result = []
    for line in lines:
        if line.account == account:
            line = replace(
                line,
                debit=line.debit + (amount if line.debit else 0),
                credit=line.credit - (amount if line.credit else 0),
            )
        elif line.account == other:
            line = replace(line, credit=line.credit + amount)
        result.append(line)
    return tuple(result)


_MANUAL: tuple[tuple[str, date, int, tuple[str, str]], ...] = (
    # text, date, days until it is entered, accounts debited and credited
    ("reclass customer balance", date(2026, 3, 29), 0, (RECEIVABLE, EQUITY)),
    ("write off old balance", date(2026, 3, 30), 0, (BAD_DEBT, RECEIVABLE)),
    ("release deferred by hand", date(2026, 3, 31), 0, (DEFERRED, REVENUE["seats"])),
    ("tax adjustment", date(2026, 3, 30), 1, (TAX, FEES)),
    ("clear processor difference", date(2026, 3, 29), 1, (CLEARING, CREDIT)),
)
_CONTROLLED = {RECEIVABLE, CLEARING, "10150", DEFERRED, TAX, CREDIT, "11100"}


def plant_manual_moves(company: Company, world: World) -> None:
    """Accountants' entries on controlled accounts after go-live, some entered a day late."""
    for n, (text, on, delay, (debited, credited)) in enumerate(_MANUAL):
        for round_ in range(planted_count(1, company.scale)):
            entity = ENTITIES[(n + round_) % len(ENTITIES)]
            suffix = "" if round_ == 0 else f" {round_ + 1}"
            description = f"MANUAL {text} {entity.id}{suffix}"
            amount = Decimal(120 + 13 * n) * (100 if entity.currency == "JPY" else Decimal("1.00"))
            company.manual_moves.append(
                ErpMove(
                    f"{entity.id}/{description}", entity.id, on, description,
                    (MoveLine(debited, amount, _ZERO), MoveLine(credited, _ZERO, amount)),
                    moment(entity.zone, on + DAY * delay, 0.4),
                )
            )  # fmt: skip
            for account in (debited, credited):
                if account in _CONTROLLED:
                    world.label(
                        J2L, "missing_left", entity.id, f"{description}|{account}", on + DAY * delay, None, amount,
                        "posted by hand on a controlled account",
                    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- unreadable usage

_UNREADABLE = (
    ("not_a_number", {"quantity": "twelve"}),
    ("unknown_unit", {"unit": "furlong"}),
    ("negative", {"quantity": "-40"}),
)


def plant_unreadable_usage(company: Company) -> None:
    """Usage rows that cannot be read; they repeat no readable event and nothing bills them."""
    rng = Random(f"{company.seed}/unreadable")
    metered = [e for e in company.usage_events if e.kind == "usage" and e.copy == 0]
    counts: dict[tuple[str, date], int] = {}
    days = [date(2026, 2, 10), date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)]
    for n in range(planted_count(12, company.scale)):
        reason, change = _UNREADABLE[n % 3]
        model, day = rng.choice(metered), days[n // 3 % len(days)]
        zone = BY_ID[model.legal_entity_id].zone
        at: datetime = moment(zone, day, rng.random())
        fields = {
            "event_id": f"ue_bad_{company.seed}_{n:05d}",
            "subscription_id": model.subscription_id,
            "customer_id": model.customer_id,
            "meter": model.meter,
            "unit": model.unit,
            "quantity": str(model.quantity),
            "occurred_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "kind": "usage",
            "corrects_event_id": "",
        } | change
        company.unreadable_usage.append(
            UnreadableUsageRow(model.legal_entity_id, fields, reason, batch_time(zone, day))  # type: ignore[arg-type]
        )
        counts[reason, day] = counts.get((reason, day), 0) + 1
    for night in days[1:]:
        for reason, _ in _UNREADABLE:
            known = sum(c for (r, day), c in counts.items() if r == reason and day <= night)
            company.quarantine.append(QuarantineExpectation("drop", "usage", reason, night, known))
