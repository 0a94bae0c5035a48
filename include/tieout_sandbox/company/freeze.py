"""From drafts to facts: invoice numbers, payments with their balance transactions, payouts, bank lines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from tieout_sandbox.company.catalogue import BY_ID, ENTITIES, cents
from tieout_sandbox.company.days import DAY, END, START, moment
from tieout_sandbox.company.drafts import ChargeDraft, CreditDraft, InvoiceDraft
from tieout_sandbox.company.model import (
    BalanceTransaction,
    BankLine,
    Charge,
    CreditNote,
    CreditNoteLine,
    CustomerBalanceTransaction,
    Dispute,
    DisputeVersion,
    Entity,
    Invoice,
    PaymentAllocation,
    Payout,
    PayoutVersion,
    Refund,
)
from tieout_sandbox.company.world import World

_ZERO = Decimal(0)
# entity -> days until the processor's money is available; days from payout to bank
_AVAILABLE_AFTER = {"US": 2, "DE": 3, "JP": 4}
_ARRIVES_AFTER = {"US": 1, "DE": 1, "JP": 2}
_CARD_FEE = {"US": ("2.9", "0.30"), "DE": ("1.5", "0.25"), "JP": ("3.6", "0")}
_TRANSFER_FEE = {"US": ("0.8", "0"), "DE": ("0", "0.35"), "JP": ("1.5", "0")}
_REFUNDS_FAIL = 0.04
_DISPUTE_FEE = {"US": Decimal("15.00"), "DE": Decimal("20.00"), "JP": Decimal(1500)}


def number_invoices(world: World) -> dict[str, str]:
    """Draft key → number, in order of finalisation per entity and year."""
    numbers: dict[str, str] = {}
    last: dict[tuple[str, int], int] = {}
    for draft in sorted(world.invoices, key=lambda i: (i.finalized_at, i.key)):
        if draft.stays_draft:
            continue
        year = (draft.entity, draft.on.year)
        last[year] = last.get(year, 0) + 1
        numbers[draft.key] = f"{draft.entity}-{draft.on.year}-{last[year]:06d}"
    return numbers


def freeze_documents(world: World, numbers: dict[str, str]) -> None:
    """Add invoices, charges, credit notes, refunds, disputes and balance transactions to the company."""
    charge_ids: dict[str, ChargeDraft] = {}
    by_key = {draft.key: draft for draft in world.invoices}
    for charge in sorted(world.charges, key=lambda c: (c.at, c.key)):
        charge_ids[charge.key] = charge
        _charge(world, charge, numbers, by_key)
    for credit in sorted(world.credits, key=lambda c: (c.at, c.key)):
        _credit_note(world, credit, by_key[credit.invoice_key], numbers, charge_ids)
    _balance_changes(world, {key: draft.id for key, draft in by_key.items()})
    for charge_key, on, rng in world.disputes:
        if charge_key in charge_ids:
            _dispute(world, charge_ids[charge_key], on, rng)
    for draft in sorted(world.invoices, key=lambda i: (i.finalized_at, i.key)):
        world.company.invoices.append(_invoice(draft, numbers.get(draft.key)))
    world.company.balance_transactions.sort(key=lambda b: (b.created, b.id))


def _invoice(draft: InvoiceDraft, number: str | None) -> Invoice:
    versions = draft.versions()

    def first(status: str) -> datetime | None:
        return next((v.at for v in versions if v.status == status), None)

    final = not draft.stays_draft
    due = draft.finalized_at + timedelta(days=30) if draft.collection == "send_invoice" and final else None
    return Invoice(
        id=draft.id,
        number=number,
        legal_entity_id=draft.entity,
        customer_id=draft.customer_id,
        subscription_id=draft.subscription_id,
        currency=BY_ID[draft.entity].currency,
        collection_method=draft.collection,
        billing_reason=draft.reason,
        lines=tuple(draft.lines),
        subtotal=draft.subtotal,
        tax=draft.tax,
        total=draft.total,
        created=draft.created,
        finalized_at=draft.finalized_at if final else None,
        accounting_date=draft.on if final else None,
        due_at=due,
        period_start=draft.period_start,
        period_end=draft.period_end,
        versions=versions,
        voided_at=first("void"),
        uncollectible_at=first("uncollectible"),
        paid_at=first("paid"),
        starting_balance=draft.starting_balance,
        ending_balance=draft.starting_balance + draft.credit_applied,
    )


def _fee(entity: Entity, amount: Decimal, method: str) -> Decimal:
    percent, fixed = (_CARD_FEE if method == "card" else _TRANSFER_FEE)[entity.id]
    fee = cents(amount * Decimal(percent) / 100 + Decimal(fixed), entity.currency)
    return min(fee, Decimal("5.00")) if method == "ach_debit" else fee


def _charge(world: World, draft: ChargeDraft, numbers: dict[str, str], by_key: dict[str, InvoiceDraft]) -> None:
    entity = BY_ID[draft.entity]
    allocations = tuple(PaymentAllocation(numbers.get(key, key), amount) for key, amount in draft.pays)
    transaction = None if draft.failed else world.id("txn", draft.key)
    fee = _ZERO if draft.failed else _fee(entity, draft.amount, draft.method)
    text = f"Payment for invoice {numbers[draft.invoice_key]}" if draft.invoice_key is not None else "Bank transfer"
    world.company.charges.append(
        Charge(
            id=draft.id,
            legal_entity_id=draft.entity,
            customer_id=draft.customer_id,
            currency=entity.currency,
            amount=draft.amount,
            method=draft.method,
            invoice_id=by_key[draft.invoice_key].id if draft.invoice_key else None,
            allocations=allocations,
            status="failed" if draft.failed else "succeeded",
            balance_transaction_id=transaction,
            fee=fee,
            description=text,
            created=draft.at,
            accounting_date=draft.on,
            visible_at=draft.at,
        )
    )
    if transaction is not None:
        kind: Literal["charge", "payment"] = "charge" if draft.method == "card" else "payment"
        _transaction(
            world, transaction, entity, kind, "charge", draft.amount, fee, draft.id, text, draft.at, draft.on
        )  # fmt: skip


def _transaction(
    world: World,
    transaction_id: str,
    entity: Entity,
    kind: str,
    category: str,
    amount: Decimal,
    fee: Decimal,
    source_id: str,
    text: str,
    at: datetime,
    on: date,
    available_at: datetime | None = None,
) -> None:
    if available_at is None:
        available_at = datetime.combine(on + DAY * _AVAILABLE_AFTER[entity.id], time(), UTC)
    world.company.balance_transactions.append(
        BalanceTransaction(
            transaction_id, entity.id, kind, category, amount, fee, amount - fee, entity.currency, source_id, text,
            at, on, available_at, None, None, at,
        )  # type: ignore[arg-type]
    )  # fmt: skip


def _credit_note(
    world: World,
    draft: CreditDraft,
    invoice: InvoiceDraft,
    numbers: dict[str, str],
    charges: dict[str, ChargeDraft],
) -> None:
    entity = BY_ID[invoice.entity]
    number = numbers[invoice.key]
    refund_id = world.id("re", draft.key) if draft.paid_back else None
    world.company.credit_notes.append(
        CreditNote(
            id=draft.id,
            number=f"{number}-CN-01",
            legal_entity_id=invoice.entity,
            invoice_id=invoice.id,
            invoice_number=number,
            customer_id=invoice.customer_id,
            currency=entity.currency,
            kind="post_payment" if draft.paid_back else "pre_payment",
            reason=draft.reason,
            memo=draft.memo,
            lines=tuple(
                CreditNoteLine(
                    world.id("cnli", f"{draft.key}/{line.id}"), line.id, line.product_key, line.family,
                    f"Credit: {line.description}", net, tax,
                )
                for line, net, tax in draft.lines
            ),
            subtotal=sum((net for _, net, _ in draft.lines), _ZERO),
            tax=sum((tax for _, _, tax in draft.lines), _ZERO),
            total=draft.total,
            to_receivable=_ZERO if draft.paid_back else draft.total,
            to_customer_credit=draft.total if draft.paid_back else _ZERO,
            refund_id=refund_id,
            created=draft.at,
            accounting_date=draft.on,
            visible_at=draft.at,
        )
    )  # fmt: skip
    if refund_id is not None:
        charge = charges[draft.charge_key or ""]
        transaction = world.id("txn", f"{draft.key}/refund")
        refund = Refund(
            refund_id, invoice.entity, charge.id, draft.id, invoice.customer_id, entity.currency, draft.total,
            transaction, "requested_by_customer", draft.at, draft.on, draft.at,
        )  # fmt: skip
        world.company.refunds.append(_come_back(world, refund, draft, number))
        kind = "refund" if charge.method == "card" else "payment_refund"
        _transaction(
            world, transaction, entity, kind, "refund", -draft.total, _ZERO, refund_id, f"Refund of {number}",
            draft.at, draft.on,
        )  # fmt: skip


def _come_back(world: World, refund: Refund, draft: CreditDraft, number: str) -> Refund:
    """The refund as it ends: some are sent back by the customer's bank days later."""
    entity = BY_ID[refund.legal_entity_id]
    rng = Random(f"{world.company.seed}/refund/{draft.key}")
    after = draft.refund_fails_after
    if after is None and rng.random() < _REFUNDS_FAIL:
        after = rng.randrange(3, 9)
    on = draft.on + DAY * after if after is not None else END
    if on >= END:
        return refund
    at = moment(entity.zone, on, rng.uniform(0.3, 0.6))
    transaction = world.id("txn", f"{draft.key}/refund failed")
    _transaction(
        world, transaction, entity, "refund_failure", "refund_failure", refund.amount, _ZERO, refund.id,
        f"Refund of {number} failed", at, on,
    )  # fmt: skip
    return replace(
        refund, failed_at=at, failed_date=on, failure_balance_transaction_id=transaction,
        failure_reason=rng.choice(("expired_or_canceled_card", "lost_or_stolen_card", "declined")),
    )  # fmt: skip


def _balance_changes(world: World, invoice_ids: dict[str, str]) -> None:
    """Number the changes of customers' credit and add up each customer's balance."""
    balances: dict[str, Decimal] = {}
    for draft in sorted(world.balance_changes, key=lambda c: (c.at, c.key)):
        balance = balances[draft.customer_id] = balances.get(draft.customer_id, _ZERO) + draft.amount
        world.company.customer_balance_transactions.append(
            CustomerBalanceTransaction(
                world.id("cbtxn", draft.key), draft.entity, draft.customer_id, BY_ID[draft.entity].currency,
                "adjustment" if draft.invoice_key is None else "applied_to_invoice", draft.amount, balance,
                None if draft.invoice_key is None else invoice_ids[draft.invoice_key], draft.at,
            )
        )  # fmt: skip


def _dispute(world: World, charge: ChargeDraft, on: date, rng: Random) -> None:
    entity = BY_ID[charge.entity]
    at = moment(entity.zone, on, rng.uniform(0.3, 0.6))
    dispute_id, fee = world.id("dp", charge.key), _DISPUTE_FEE[entity.id]
    withdrawn = world.id("txn", f"{charge.key}/withdrawn")
    _transaction(
        world, withdrawn, entity, "adjustment", "dispute", -charge.amount, fee, dispute_id,
        f"Chargeback withdrawal for {charge.id}", at, on,
    )  # fmt: skip
    reviewed = moment(entity.zone, on + DAY * 2, 0.4)
    versions = [
        DisputeVersion(at, at, "needs_response", (withdrawn,)),
        DisputeVersion(reviewed, reviewed, "under_review", (withdrawn,)),
    ]
    closed_on, won = on + DAY * rng.randrange(12, 35), rng.random() < 0.5
    closed_at = moment(entity.zone, closed_on, 0.5) if closed_on < END else None
    if closed_at is not None:
        ids: tuple[str, ...] = (withdrawn,)
        if won:
            returned = world.id("txn", f"{charge.key}/returned")
            _transaction(
                world, returned, entity, "adjustment", "dispute_reversal", charge.amount, _ZERO, dispute_id,
                f"Chargeback reversal for {charge.id}", closed_at, closed_on,
            )  # fmt: skip
            ids = (withdrawn, returned)
        versions.append(DisputeVersion(closed_at, closed_at, "won" if won else "lost", ids))
    world.company.disputes.append(
        Dispute(
            dispute_id, charge.entity, charge.id, charge.customer_id, entity.currency, charge.amount, fee,
            rng.choice(("fraudulent", "product_not_received", "subscription_canceled")), at, on, closed_at,
            closed_on if closed_at else None, tuple(v for v in versions if v.at.date() < END),
        )
    )  # fmt: skip


def pay_out(world: World) -> None:
    """A payout per entity and day of what is available by then, and the bank line of its arrival."""
    company = world.company
    for entity in ENTITIES:
        own = [b for b in company.balance_transactions if b.legal_entity_id == entity.id]
        own.sort(key=lambda b: (b.available_at, b.created, b.id))
        rng = Random(f"{company.seed}/payouts/{entity.id}")
        carried: dict[str, tuple[str, datetime]] = {}
        waiting: list[BalanceTransaction] = []
        position, day = 0, START
        while day < END:
            at = moment(entity.zone, day, rng.uniform(0.75, 0.9))
            while position < len(own) and own[position].available_at <= at:
                waiting.append(own[position])
                position += 1
            net = sum((b.net for b in waiting), _ZERO)
            if net > 0:
                payout = _payout(world, entity, day, at, net)
                carried.update((b.id, (payout.id, at)) for b in waiting)
                waiting = []
            day += DAY
        company.balance_transactions = [_carried_by(b, carried) for b in company.balance_transactions]
    company.balance_transactions.sort(key=lambda b: (b.created, b.id))


def _carried_by(b: BalanceTransaction, carried: dict[str, tuple[str, datetime]]) -> BalanceTransaction:
    if b.id not in carried:
        return b
    payout_id, at = carried[b.id]
    return BalanceTransaction(
        b.id, b.legal_entity_id, b.type, b.reporting_category, b.amount, b.fee, b.net, b.currency, b.source_id,
        b.description, b.created, b.accounting_date, b.available_at, payout_id, at, b.visible_at,
    )  # fmt: skip


def _payout(world: World, entity: Entity, day: date, at: datetime, net: Decimal) -> Payout:
    key = f"{entity.id}/{day}"
    arrival = day + DAY * _ARRIVES_AFTER[entity.id]
    versions = [PayoutVersion(at, at, "pending")]
    sent = at + timedelta(minutes=10)
    versions.append(PayoutVersion(sent, sent, "in_transit"))
    if arrival < END:
        paid = moment(entity.zone, arrival, 0.2)
        versions.append(PayoutVersion(paid, paid, "paid"))
    payout = Payout(
        id=world.id("po", key),
        legal_entity_id=entity.id,
        currency=entity.currency,
        amount=net,
        balance_transaction_id=world.id("txn", f"payout/{key}"),
        bank_reference=f"NWC{entity.id}{day:%y%m%d}",
        created=at,
        accounting_date=day,
        arrival_date=arrival,
        versions=tuple(versions),
    )
    world.company.payouts.append(payout)
    _transaction(
        world, payout.balance_transaction_id, entity, "payout", "payout", -net, _ZERO, payout.id, "STRIPE PAYOUT", at,
        day, at,
    )  # fmt: skip
    if arrival < END:
        booked = moment(entity.zone, arrival, 0.1)
        world.company.bank_lines.append(
            BankLine(
                f"BL-{entity.id}-{arrival:%Y%m%d}-{payout.id[-6:]}", entity.id, entity.bank_account, arrival, arrival,
                net, entity.currency, f"STRIPE {payout.bank_reference} {payout.id}", booked,
            )
        )  # fmt: skip
    return payout
