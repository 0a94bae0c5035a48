"""The generated company agrees with itself: per document, per currency, between systems and in its ledger."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tieout_sandbox.company import Company
from tieout_sandbox.company.days import END, GO_LIVE
from tieout_sandbox.company.erp_history import deferred_at

ZERO = Decimal(0)


@pytest.fixture(params=["clean", "planted"])
def company(request: pytest.FixtureRequest) -> Company:
    return request.getfixturevalue(request.param)


def local(company: Company, entity: str, instant: datetime) -> date:
    return instant.astimezone(ZoneInfo(company.entity(entity).zone)).date()


def test_an_invoice_is_the_sum_of_its_lines_and_their_tax(company: Company) -> None:
    wrong = [
        i.id
        for i in company.invoices
        if i.subtotal != sum(line.amount for line in i.lines)
        or i.tax != sum(line.tax for line in i.lines)
        or i.total != i.subtotal + i.tax
        or (i.total <= 0 and not any(line.proration for line in i.lines))
        or [line.line_no for line in i.lines] != list(range(1, len(i.lines) + 1))
    ]
    assert wrong == []


def test_amounts_are_whole_minor_units(company: Company) -> None:
    for e in company.entities:
        unit = Decimal(1) if e.currency == "JPY" else Decimal("0.01")
        amounts = [line.amount for i in company.invoices if i.legal_entity_id == e.id for line in i.lines]
        amounts += [c.amount for c in company.charges if c.legal_entity_id == e.id]
        amounts += [b.net for b in company.balance_transactions if b.legal_entity_id == e.id]
        amounts += [x.debit + x.credit for m in company.erp_history if m.legal_entity_id == e.id for x in m.lines]
        assert [a for a in amounts if a != a.quantize(unit)] == []


def test_invoice_numbers_are_unique_and_follow_finalisation(company: Company) -> None:
    for entity in ("US", "DE", "JP"):
        final = [i for i in company.invoices if i.legal_entity_id == entity and i.number]
        by_time = [i.number for i in sorted(final, key=lambda i: (i.accounting_date.year, i.number))]
        assert len(set(by_time)) == len(by_time)
        assert all(local(company, entity, i.finalized_at) == i.accounting_date for i in final)
    assert all(i.number is None for i in company.invoices if i.finalized_at is None)
    assert any(i.finalized_at is None for i in company.invoices)


def test_ids_are_unique_within_their_system(company: Company) -> None:
    for name in ("accounts", "contract_lines", "subscriptions", "invoices", "charges", "balance_transactions",
                 "payouts", "credit_notes", "refunds", "disputes", "tickets", "entitlements", "prices",
                 "bank_lines", "provisioning", "organizations", "support_users", "quotes"):  # fmt: skip
        ids = [row.id for row in getattr(company, name)]
        assert len(set(ids)) == len(ids), name
    lines = [line.id for i in company.invoices for line in i.lines]
    assert len(set(lines)) == len(lines)
    moves = [m.key for m in company.erp_history + company.manual_moves]
    assert len(set(moves)) == len(moves)
    assert {len(a.id) for a in company.accounts} == {18}


def test_what_an_invoice_says_was_paid_is_what_its_payments_paid(clean: Company) -> None:
    paid: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for charge in clean.charges:
        if charge.status == "succeeded":
            assert charge.allocations, charge.id
            assert sum(a.amount for a in charge.allocations) <= charge.amount
            for part in charge.allocations:
                paid[part.invoice_number] += part.amount
    assert [i.number for i in clean.invoices if i.number and i.versions[-1].amount_paid != paid[i.number]] == []
    assert set(paid) <= {i.number for i in clean.invoices}


def test_an_invoice_s_state_follows_from_what_is_open(company: Company) -> None:
    for invoice in company.invoices:
        for v in invoice.versions:
            if v.status == "paid":
                assert v.amount_remaining == 0
            elif v.status == "open":
                due = invoice.total - invoice.credit_applied
                assert v.amount_remaining == due - v.amount_paid - v.credited_before_payment > 0
        instants = [v.at for v in invoice.versions]
        assert instants == sorted(instants)


def test_versions_are_in_order_everywhere(company: Company) -> None:
    for field in dataclasses.fields(company):
        rows = getattr(company, field.name)
        if isinstance(rows, list) and rows and hasattr(rows[0], "versions"):
            for row in rows:
                stamps = [v.at for v in row.versions]
                assert stamps == sorted(stamps), (field.name, row.id)
                assert stamps, (field.name, row.id)
                assert all(v.visible_at >= v.at for v in row.versions)


def test_a_payout_is_the_net_of_its_balance_transactions(company: Company) -> None:
    carried: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for b in company.balance_transactions:
        assert b.net == b.amount - b.fee
        if b.payout_id:
            assert b.available_at <= b.payout_at
            carried[b.payout_id] += b.net
    assert {p.id: p.amount for p in company.payouts} == dict(carried)
    arrived = {p.bank_reference: p.amount for p in company.payouts if p.arrival_date < END}
    assert {line.reference.split()[1]: line.amount for line in company.bank_lines} == arrived


def test_every_payment_refund_dispute_and_payout_has_its_balance_transaction(company: Company) -> None:
    returned = ("dispute_reversal", "refund_failure")
    sources = {b.source_id: b for b in company.balance_transactions if b.reporting_category not in returned}
    assert len(sources) == sum(b.reporting_category not in returned for b in company.balance_transactions)
    for charge in company.charges:
        assert (charge.id in sources) == (charge.status == "succeeded")
    assert all(sources[r.id].amount == -r.amount for r in company.refunds)
    assert all(sources[d.id].net == -d.amount - d.fee for d in company.disputes)
    assert all(sources[p.id].net == -p.amount for p in company.payouts)


def test_a_customers_credit_is_what_payments_and_invoices_left_of_it(company: Company) -> None:
    balance: dict[str, Decimal] = defaultdict(lambda: ZERO)
    taken: dict[str, Decimal] = {}
    for change in company.customer_balance_transactions:
        balance[change.customer_id] += change.amount
        assert change.ending_balance == balance[change.customer_id] <= 0
        if change.invoice_id is not None:
            taken[change.invoice_id] = change.amount
    assert taken == {i.id: i.credit_applied for i in company.invoices if i.credit_applied}
    for invoice in company.invoices:
        assert invoice.credit_applied <= max(invoice.total, ZERO)
        assert invoice.total >= 0 or invoice.credit_applied == invoice.total
    given = {(c.customer_id, c.created, -c.amount) for c in company.customer_balance_transactions if not c.invoice_id}
    overpaid = {
        (c.customer_id, c.created, c.amount - sum(a.amount for a in c.allocations))
        for c in company.charges
        if c.allocations and c.status == "succeeded"
    }
    assert given == {o for o in overpaid if o[2]}


def test_a_failed_refund_is_in_the_balance_again(company: Company) -> None:
    moved = {b.id: b for b in company.balance_transactions}
    failed = [r for r in company.refunds if r.failed_at is not None]
    assert failed
    for refund in failed:
        back = moved[refund.failure_balance_transaction_id or ""]
        assert (back.type, back.amount, back.fee, back.source_id) == ("refund_failure", refund.amount, 0, refund.id)
        assert back.accounting_date == refund.failed_date > refund.accounting_date


def test_a_credit_note_says_where_it_went(company: Company) -> None:
    refunds = {r.id: r for r in company.refunds}
    for note in company.credit_notes:
        assert note.total == note.subtotal + note.tax == note.to_receivable + note.to_customer_credit
        assert note.total == sum(line.amount + line.tax for line in note.lines)
        if note.refund_id:
            assert refunds[note.refund_id].amount == note.to_customer_credit


# ------------------------------------------------------------------------------------- ledger before go-live


def balances(company: Company) -> dict[tuple[str, str], Decimal]:
    total: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    for move in company.erp_history:
        for line in move.lines:
            total[move.legal_entity_id, line.account] += line.debit - line.credit
    return total


def test_every_ledger_entry_balances_and_is_dated_before_go_live(company: Company) -> None:
    for move in company.erp_history:
        assert sum(x.debit - x.credit for x in move.lines) == 0, move.description
        assert all(x.debit >= 0 and x.credit >= 0 and (x.debit == 0) != (x.credit == 0) for x in move.lines)
        assert move.date < GO_LIVE
    assert sum(balances(company).values()) == 0
    assert all(m.date >= GO_LIVE for m in company.manual_moves)


@pytest.mark.parametrize("entity", ["US", "DE", "JP"])
def test_the_ledger_at_go_live_holds_the_open_documents(clean: Company, entity: str) -> None:
    ledger, last = balances(clean), GO_LIVE - timedelta(days=1)
    own = [i for i in clean.invoices if i.legal_entity_id == entity and i.number and i.accounting_date <= last]
    receivable = ZERO
    for invoice in own:
        then = [v for v in invoice.versions if local(clean, entity, v.at) <= last][-1]
        if then.status in ("open", "paid"):
            receivable += then.amount_remaining
    assert ledger[entity, "11000"] == receivable
    assert ledger[entity, "21000"] == -deferred_at(clean, entity, last)
    transactions = [b for b in clean.balance_transactions if b.legal_entity_id == entity and b.accounting_date <= last]
    assert ledger[entity, "10100"] == sum(b.net for b in transactions)
    sent = [p for p in clean.payouts if p.legal_entity_id == entity and p.accounting_date <= last < p.arrival_date]
    assert ledger[entity, "10150"] == sum(p.amount for p in sent)
    overpaid = sum(
        c.amount - sum(a.amount for a in c.allocations)
        for c in clean.charges
        if c.legal_entity_id == entity and c.status == "succeeded" and c.accounting_date <= last
    )
    sent_back = sum(
        r.amount for r in clean.refunds if r.legal_entity_id == entity and r.failed_date and r.failed_date <= last
    )
    used = sum(i.credit_applied for i in own)
    assert ledger[entity, "23000"] == -(overpaid + sent_back - used)
    charged = sum(i.tax for i in own)
    voided = sum(i.tax for i in own if i.voided_at and local(clean, entity, i.voided_at) <= last)
    credited = sum(n.tax for n in clean.credit_notes if n.legal_entity_id == entity and n.accounting_date <= last)
    assert ledger[entity, "22000"] == -(charged - voided - credited)


# ------------------------------------------------------------------------------------- life-likeness


def test_something_of_every_kind_happens_on_each_of_the_first_nights(clean: Company) -> None:
    for entity in ("US", "DE", "JP"):
        for night in (GO_LIVE + timedelta(days=n) for n in range(-1, 4)):

            def on(rows: list, field: str = "accounting_date", entity=entity, night=night) -> bool:
                return any(r.legal_entity_id == entity and getattr(r, field) == night for r in rows)

            facts = (clean.invoices, clean.charges, clean.refunds, clean.credit_notes, clean.payouts, clean.disputes)
            assert [rows[0] for rows in facts if not on(rows)] == []
            assert on(clean.bank_lines, "booking_date")
            assert any(
                i.voided_at and local(clean, entity, i.voided_at) == night and i.legal_entity_id == entity
                for i in clean.invoices
            )


def test_the_state_at_nine_o_clock_is_that_of_the_business_date(company: Company) -> None:
    """No change of the next local day is visible when a business date is read, and none of its own is missing."""
    zones = {e.id: ZoneInfo(e.zone) for e in company.entities}
    stamps = [(i.legal_entity_id, v.visible_at) for i in company.invoices for v in i.versions]
    stamps += [(s.legal_entity_id, v.visible_at) for s in company.subscriptions for v in s.versions]
    stamps += [(r.legal_entity_id, r.visible_at) for r in company.charges + company.refunds + company.credit_notes]
    stamps += [(p.legal_entity_id, v.visible_at) for p in company.payouts for v in p.versions]
    for entity, at in stamps:
        day = at.astimezone(zones[entity]).date()
        read = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
        assert read + timedelta(minutes=5) <= at <= read + timedelta(days=1, minutes=-10), (entity, at)


def test_some_rows_are_shown_after_the_extraction_that_covers_their_stamp(clean: Company) -> None:
    late = [v for o in clean.opportunities for v in o.versions if v.visible_at > v.at]
    assert {(v.at.hour, v.visible_at.hour) for v in late} == {(8, 9)}
    assert {v.at.date() for v in late} == {GO_LIVE + timedelta(days=n) for n in (1, 2, 3)}
