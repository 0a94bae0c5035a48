"""The ledger before go-live: what the company's former integration posted, document by document, without a mistake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal

from tieout_sandbox.company.catalogue import BY_ID, ENTITIES
from tieout_sandbox.company.days import DAY, GO_LIVE, START, add_months, batch_time, local_date
from tieout_sandbox.company.model import Company, CreditNote, ErpMove, Invoice, InvoiceLine, MoveLine
from tieout_sandbox.company.schedule import is_ahead, released

BANK, CLEARING, IN_TRANSIT, RECEIVABLE = "10000", "10100", "10150", "11000"
DISPUTES, DEFERRED, TAX, CREDIT, EQUITY = "11200", "21000", "22000", "23000", "30000"
REVENUE = {"seats": "40100", "platform": "40200", "usage": "40300", "support": "40400"}
FEES, BAD_DEBT, CHARGEBACK = "60100", "60200", "60300"
_ZERO = Decimal(0)
_OPENING = {"US": Decimal("2500000.00"), "DE": Decimal("1800000.00"), "JP": Decimal(240_000_000)}


class _Entry:
    """Amounts by account, debits positive, made into a move's lines."""

    def __init__(self) -> None:
        self._by_account: dict[str, Decimal] = {}

    def debit(self, account: str, amount: Decimal) -> None:
        self._by_account[account] = self._by_account.get(account, _ZERO) + amount

    def credit(self, account: str, amount: Decimal) -> None:
        self.debit(account, -amount)

    def lines(self) -> tuple[MoveLine, ...]:
        return tuple(
            MoveLine(account, max(net, _ZERO), max(-net, _ZERO)) for account, net in self._by_account.items() if net
        )


def history(company: Company) -> list[ErpMove]:
    """Every move dated before go-live, in order of date and key."""
    moves: list[ErpMove] = []
    for entity in ENTITIES:
        moves.append(
            _move(entity.id, START - DAY, f"OPENING {entity.id}",
                  [(BANK, _OPENING[entity.id], _ZERO), (EQUITY, _ZERO, _OPENING[entity.id])])
        )  # fmt: skip
    stops = service_stops(company)
    moves.extend(_invoices(company, stops))
    moves.extend(_credit_notes(company))
    moves.extend(_cash(company))
    moves.extend(_releases(company, stops))
    return sorted((m for m in moves if m.lines), key=lambda m: (m.date, m.key))


def service_stops(company: Company) -> dict[str, date]:
    """Invoice line id → first service day that was taken back by a void or by crediting all of the rest."""
    stops: dict[str, date] = {}
    lines = {line.id: line for note_lines in _credited_lines(company) for line in note_lines}
    for invoice in company.invoices:
        if invoice.voided_at is not None:
            on = _local(invoice.legal_entity_id, invoice.voided_at)
            stops.update((line.id, on) for line in invoice.lines)
    for note in company.credit_notes:
        for credit in note.lines:
            line = lines[credit.invoice_line_id]
            if line.period_end > note.accounting_date:
                stops[line.id] = note.accounting_date
    return stops


def _credited_lines(company: Company) -> Iterator[tuple[InvoiceLine, ...]]:
    wanted = {note.invoice_id for note in company.credit_notes}
    return (invoice.lines for invoice in company.invoices if invoice.id in wanted)


def deferred_at(company: Company, entity_id: str, through: date) -> Decimal:
    """Unreleased service of all lines billed ahead by the end of a day: what account 21000 must hold."""
    stops, total = service_stops(company), _ZERO
    currency = BY_ID[entity_id].currency
    for invoice in company.invoices:
        if invoice.legal_entity_id != entity_id or invoice.accounting_date is None:
            continue
        if invoice.accounting_date > through:
            continue
        for line in invoice.lines:
            if not is_ahead(line, invoice.accounting_date):
                continue
            stop = stops.get(line.id)
            if stop is not None and stop <= through:
                continue
            total += line.amount - released(line, through, currency)
    return total


def _move(
    entity: str, on: date, description: str, lines: list[tuple[str, Decimal, Decimal]] | tuple[MoveLine, ...]
) -> ErpMove:
    made = tuple(line if isinstance(line, MoveLine) else MoveLine(*line) for line in lines)
    return ErpMove(f"{entity}/{description}", entity, on, description, made, batch_time(BY_ID[entity].zone, on))


def _local(entity: str, instant: datetime) -> date:
    return local_date(BY_ID[entity].zone, instant)


def _invoices(company: Company, stops: dict[str, date]) -> Iterator[ErpMove]:
    for invoice in company.invoices:
        on, entity, number = invoice.accounting_date, invoice.legal_entity_id, invoice.number
        if on is None or on >= GO_LIVE:
            continue
        entry = _Entry()
        # an invoice that comes out negative is owed to the customer
        entry.debit(RECEIVABLE if invoice.total >= 0 else CREDIT, invoice.total)
        for line in invoice.lines:
            entry.credit(DEFERRED if is_ahead(line, on) else REVENUE[line.family], line.amount)
        entry.credit(TAX, invoice.tax)
        yield _move(entity, on, f"BillingSync {number}", entry.lines())
        if invoice.total > 0 and invoice.credit_applied:
            taken = invoice.credit_applied
            yield _move(entity, on, f"BillingSync CRA {number}", [(CREDIT, taken, _ZERO), (RECEIVABLE, _ZERO, taken)])
        if invoice.voided_at is not None:
            yield from _void(invoice, on, _local(entity, invoice.voided_at))
        if invoice.uncollectible_at is not None:
            given_up = _local(entity, invoice.uncollectible_at)
            if given_up < GO_LIVE:
                entry = _Entry()
                remaining = invoice.versions[-1].amount_remaining
                # service is over by then and tax relief is not configured: all of it is bad debt
                entry.debit(BAD_DEBT, remaining)
                entry.credit(RECEIVABLE, remaining)
                yield _move(entity, given_up, f"BillingSync UNC {number}", entry.lines())


def _void(invoice: Invoice, finalized: date, on: date) -> Iterator[ErpMove]:
    if on >= GO_LIVE:
        return
    entry = _Entry()
    currency = invoice.currency
    for line in invoice.lines:
        done = released(line, on - DAY, currency) if is_ahead(line, finalized) else line.amount
        entry.debit(DEFERRED, line.amount - done)
        entry.debit(REVENUE[line.family], done)
    entry.debit(TAX, invoice.tax)
    entry.credit(RECEIVABLE, invoice.total)
    yield _move(invoice.legal_entity_id, on, f"BillingSync VOID {invoice.number}", entry.lines())


def _credit_notes(company: Company) -> Iterator[ErpMove]:
    lines = {line.id: line for note_lines in _credited_lines(company) for line in note_lines}
    for note in company.credit_notes:
        if note.accounting_date >= GO_LIVE:
            continue
        entry = _Entry()
        for credit in note.lines:
            entry.debit(_credited_account(note, lines[credit.invoice_line_id]), credit.amount)
        entry.debit(TAX, note.tax)
        entry.credit(RECEIVABLE, note.to_receivable)
        entry.credit(CREDIT, note.to_customer_credit)
        yield _move(note.legal_entity_id, note.accounting_date, f"BillingSync CN {note.number}", entry.lines())


def _credited_account(note: CreditNote, line: InvoiceLine) -> str:
    """Credits are of whole unreleased rests or of delivered service, never of both in one line."""
    return DEFERRED if line.period_end > note.accounting_date else REVENUE[line.family]


def _cash(company: Company) -> Iterator[ErpMove]:
    known = {invoice.number for invoice in company.invoices}
    for charge in company.charges:
        if charge.status != "succeeded" or charge.accounting_date >= GO_LIVE:
            continue
        applied = sum((a.amount for a in charge.allocations if a.invoice_number in known), _ZERO)
        entry = _Entry()
        entry.debit(CLEARING, charge.amount - charge.fee)
        entry.debit(FEES, charge.fee)
        entry.credit(RECEIVABLE, applied)
        entry.credit(CREDIT, charge.amount - applied)
        yield _move(charge.legal_entity_id, charge.accounting_date, f"BillingSync PAY {charge.id}", entry.lines())
    for refund in company.refunds:
        if refund.accounting_date < GO_LIVE:
            yield _move(refund.legal_entity_id, refund.accounting_date, f"BillingSync REF {refund.id}",
                        [(CREDIT, refund.amount, _ZERO), (CLEARING, _ZERO, refund.amount)])  # fmt: skip
        if refund.failed_date is not None and refund.failed_date < GO_LIVE:
            yield _move(refund.legal_entity_id, refund.failed_date, f"BillingSync RFF {refund.id}",
                        [(CLEARING, refund.amount, _ZERO), (CREDIT, _ZERO, refund.amount)])  # fmt: skip
    for dispute in company.disputes:
        if dispute.accounting_date < GO_LIVE:
            taken = dispute.amount + dispute.fee
            yield _move(dispute.legal_entity_id, dispute.accounting_date, f"BillingSync DSP {dispute.id}",
                        [(DISPUTES, dispute.amount, _ZERO), (FEES, dispute.fee, _ZERO),
                         (CLEARING, _ZERO, taken)])  # fmt: skip
        if dispute.closed_date is not None and dispute.closed_date < GO_LIVE:
            account = CLEARING if dispute.versions[-1].status == "won" else CHARGEBACK
            yield _move(dispute.legal_entity_id, dispute.closed_date, f"BillingSync DSC {dispute.id}",
                        [(account, dispute.amount, _ZERO), (DISPUTES, _ZERO, dispute.amount)])  # fmt: skip
    for payout in company.payouts:
        if payout.accounting_date < GO_LIVE:
            yield _move(payout.legal_entity_id, payout.accounting_date, f"BillingSync PO {payout.id}",
                        [(IN_TRANSIT, payout.amount, _ZERO), (CLEARING, _ZERO, payout.amount)])  # fmt: skip
        if payout.arrival_date < GO_LIVE:
            yield _move(payout.legal_entity_id, payout.arrival_date, f"BillingSync POA {payout.id}",
                        [(BANK, payout.amount, _ZERO), (IN_TRANSIT, _ZERO, payout.amount)])  # fmt: skip


def _releases(company: Company, stops: dict[str, date]) -> Iterator[ErpMove]:
    """One move per entity and month: the service days of the month; the last month through the day before go-live."""
    ends = []
    month = START
    while month < GO_LIVE:
        ends.append(min(add_months(month, 1), GO_LIVE) - DAY)
        month = add_months(month, 1)
    sums: dict[tuple[str, date, str], Decimal] = defaultdict(lambda: _ZERO)
    for invoice in company.invoices:
        on, entity = invoice.accounting_date, invoice.legal_entity_id
        if on is None or on >= GO_LIVE:
            continue
        for line in invoice.lines:
            if not is_ahead(line, on):
                continue
            stop, before = stops.get(line.id), _ZERO
            for end in ends:
                if end < line.period_start:
                    continue
                after = released(line, end, invoice.currency, stop)
                if after != before:
                    sums[entity, end, line.family] += after - before
                before = after
                if end >= line.period_end:
                    break
    for entity_id in BY_ID:
        for end in ends:
            entry = _Entry()
            for family, account in REVENUE.items():
                amount = sums[entity_id, end, family]
                entry.debit(DEFERRED, amount)
                entry.credit(account, amount)
            yield _move(entity_id, end, f"BillingSync REL {end:%Y-%m}", entry.lines())


def manual_moves(company: Company) -> list[ErpMove]:
    """Accountants' entries after go-live that touch no controlled account: ordinary, and no break."""
    moves = []
    for n, entity in enumerate(ENTITIES):
        on = GO_LIVE + DAY * n
        amount = Decimal("35.00") if entity.currency != "JPY" else Decimal(3500)
        move = _move(entity.id, on, f"MANUAL bank charges {on:%B} {entity.id}",
                     [(FEES, amount, _ZERO), (BANK, _ZERO, amount)])  # fmt: skip
        moves.append(move)
    return moves
