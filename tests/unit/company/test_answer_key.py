"""The answer key says what a plain reading of the seven definitions finds in the generated facts, no more and no less.

The checks below are a second, naive implementation of the definitions over the model. They see what a vendor would
show at 09:00 UTC after a business date.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tieout_sandbox.company import Company, generate
from tieout_sandbox.company.answer_key import SCHEMA, answer_key, quarantine_key, write_answer_key
from tieout_sandbox.company.catalogue import cents, charged
from tieout_sandbox.company.days import GO_LIVE, add_months

NIGHTS = [GO_LIVE + timedelta(days=n) for n in range(4)]
CONTROLLED = {"11000", "10100", "10150", "21000", "22000", "23000", "11100"}
Found = tuple[str, str, str, str]  # definition, entity, key, type


class AsOf:
    """What the systems show once a business date is over everywhere."""

    def __init__(self, company: Company, night: date) -> None:
        self.company, self.night = company, night
        self.clock = datetime(night.year, night.month, night.day, 9, tzinfo=UTC) + timedelta(days=1)

    def now(self, row):
        visible = [v for v in row.versions if v.visible_at <= self.clock]
        return visible[-1] if visible else None

    def local(self, entity: str, instant: datetime) -> date:
        return instant.astimezone(ZoneInfo(self.company.entity(entity).zone)).date()

    # -- contracts

    def lines_in_force(self) -> Iterator:
        contracts = {c.id: c for c in self.company.contracts}
        for line in self.company.contract_lines:
            version, contract = self.now(line), self.now(contracts[line.contract_id])
            if version is None or contract is None or contract.status != "Activated":
                continue
            if line.start_date <= self.night < min(line.end_date, version.terminated_date or line.end_date):
                yield line, version

    def contract_to_subscription(self) -> Iterator[Found]:
        unmapped = {p.key for p in self.company.products if not p.mapped}
        prices = {p.id: p for p in self.company.prices}
        known = {a.id for a in self.company.accounts}
        customers = {c.id: c for c in self.company.customers}
        left: dict[str, list] = defaultdict(list)
        for line, version in self.lines_in_force():
            if not version.is_trial:
                left[line.root_id].append(line)
        trials = {line.root_id for line, version in self.lines_in_force() if version.is_trial}
        live: dict[str, list] = defaultdict(list)
        ended: dict[str, list] = defaultdict(list)
        for sub in self.company.subscriptions:
            version = self.now(sub)
            if version is None:
                continue
            for item in version.items:
                root = item.crm_line_id or item.id
                if customers[sub.customer_id].account_id not in known:
                    yield ("contract_to_subscription", sub.legal_entity_id, root, "orphan")
                elif version.status in ("active", "past_due"):
                    live[root].append((sub, item))
                elif version.status == "canceled":
                    ended[root].append((sub, item))
                else:
                    assert root in trials
        for root, lines in left.items():
            entity, found = lines[0].legal_entity_id, live.get(root, [])

            def brk(kind: str, entity: str = entity, root: str = root) -> Found:
                return ("contract_to_subscription", entity, root, kind)

            if lines[0].product_key in unmapped:
                yield brk("mapping")
            elif not found:
                yield brk("status" if root in ended else "missing_right")
            elif len(found) > 1:
                yield brk("duplicate")
            else:
                sub, item = found[0]
                price = prices[item.price_id]
                assert sub.legal_entity_id == entity
                assert price.product_key == lines[0].product_key
                if sub.currency != lines[0].currency:
                    yield brk("currency")
                    continue
                if lines[0].quantity is None:
                    assert item.quantity is None
                    continue
                if price.unit_amount * item.quantity / price.interval_months != sum(x.monthly_amount for x in lines):
                    yield brk("amount")
                elif item.quantity != sum(x.quantity for x in lines):
                    yield brk("attribute")
        for root, found in live.items():
            if root not in left:
                yield ("contract_to_subscription", found[0][0].legal_entity_id, root, "missing_left")

    # -- usage

    def usage_to_billing(self) -> Iterator[Found]:
        subs = {s.id: s for s in self.company.subscriptions}
        events, latest = {}, {}
        for e in self.company.usage_events:
            if e.visible_at <= self.clock:
                events.setdefault(e.event_id, e)
        for e in events.values():
            if e.kind != "usage":
                latest[e.corrects_event_id] = e
        used: dict[tuple, int] = defaultdict(int)
        for e in events.values():
            if e.kind == "void" or e.event_id in latest:
                continue
            sub, n = subs[e.subscription_id], 0
            while add_months(sub.anchor_date, n + 1) <= e.usage_date:
                n += 1
            start, end = add_months(sub.anchor_date, n), add_months(sub.anchor_date, n + 1)
            assert sub.interval_months == 1
            if end <= self.night:
                used[e.legal_entity_id, f"{sub.id}|{e.meter}|{start}", end] += e.quantity
        billed: dict[tuple, list] = defaultdict(list)
        for invoice in self.company.invoices:
            version = self.now(invoice)
            if version is None or version.status in ("draft", "void") or invoice.accounting_date > self.night:
                continue
            one: dict[tuple, list] = defaultdict(lambda: [0, Decimal(0)])
            for line in invoice.lines:
                if line.meter:
                    key = f"{invoice.subscription_id}|{line.meter}|{line.period_start}"
                    one[invoice.legal_entity_id, key, line.period_end][0] += line.quantity
                    one[invoice.legal_entity_id, key, line.period_end][1] += line.amount
            for at, sums in one.items():
                billed[at].append(tuple(sums))
        for entity, key, end in used.keys() - billed.keys():
            sub_id, meter, start = key.split("|")
            strays = {
                kind: [at for at, lines in billed.items() for quantity, _ in lines
                       if quantity == used[entity, key, end] != used.get(at) and at[0] == entity
                       and fits(at[1].split("|"), at[2])]
                for kind, fits in {
                    "cut_off": lambda other, _, own=(sub_id, meter): tuple(other[:2]) == own,
                    "attribute": lambda other, to, own=(meter, start, end): (*other[1:], to) == own,
                }.items()
            }  # fmt: skip
            kind, at = next(((k, found[0]) for k, found in strays.items() if found), (None, None))
            if kind is None:
                kind = "timing" if end > self.night - timedelta(days=2) else "missing_right"
            else:
                billed[at] = [(q, a) for q, a in billed[at] if q != used[entity, key, end]]
            yield ("usage_to_billing", entity, key, kind)
        for at, lines in billed.items():
            if lines and at not in used:
                yield ("usage_to_billing", *at[:2], "missing_left")
            elif lines and lines != [(used[at], self.due(subs, at[1], used[at]))]:
                yield ("usage_to_billing", *at[:2], "amount")

    def due(self, subs: dict, key: str, quantity: int) -> Decimal:
        """What a quantity costs at the price of the subscription's item, each line rounded as billing rounds it."""
        sub_id, meter, _ = key.split("|")
        meters = {p.key: p.meter for p in self.company.products}
        version = self.now(subs[sub_id]) or subs[sub_id].versions[-1]
        item = next(i for i in version.items if meters[i.product_key] == meter)
        price = next(p for p in self.company.prices if p.id == item.price_id)
        return sum((cents(each * units, price.currency) for _, units, each in charged(price, quantity)), Decimal(0))

    # -- invoices and payments

    def invoices(self) -> Iterator:
        for invoice in self.company.invoices:
            version = self.now(invoice)
            if version is not None and version.status != "draft" and invoice.accounting_date <= self.night:
                yield invoice, version

    def invoice_to_receivable(self) -> Iterator[Found]:
        unmapped = {p.key for p in self.company.products if not p.mapped}
        moves: dict[tuple[str, str], list] = defaultdict(list)
        for move in self.company.erp_history:
            words = move.description.split()
            if words[0] == "BillingSync" and len(words) == 2:
                moves[move.legal_entity_id, words[1]].append(move)
        seen = set()
        for invoice, version in self.invoices():
            at = (invoice.legal_entity_id, invoice.number)
            seen.add(at)
            if any(line.product_key in unmapped for line in invoice.lines):
                yield ("invoice_to_receivable", *at, "mapping")
            if version.status == "void" or invoice.accounting_date >= GO_LIVE:
                continue
            found = moves[at]
            if len(found) != 1:
                yield ("invoice_to_receivable", *at, "duplicate" if found else "missing_right")
                continue
            net = {x.account: x.debit - x.credit for x in found[0].lines}
            if (
                net.get("11000", 0) + net.get("23000", 0) != invoice.total
                or -net.get("22000", Decimal(0)) != invoice.tax
            ):
                yield ("invoice_to_receivable", *at, "amount")
            elif f"{found[0].date:%Y-%m}" != f"{invoice.accounting_date:%Y-%m}":
                yield ("invoice_to_receivable", *at, "cut_off")
            else:
                assert found[0].date == invoice.accounting_date
        for at in set(moves) - seen:
            if moves[at]:
                yield ("invoice_to_receivable", *at, "missing_left")

    def payment_to_invoice(self) -> Iterator[Found]:
        by_number = {i.number: (i, v) for i, v in self.invoices()}
        everything = {i.number for i in self.company.invoices}
        parts: dict[str, list[Decimal]] = defaultdict(list)
        for charge in self.company.charges:
            if charge.status == "failed" or charge.accounting_date > self.night or charge.visible_at > self.clock:
                continue
            for part in charge.allocations:
                if part.invoice_number not in everything:
                    yield ("payment_to_invoice", charge.legal_entity_id, part.invoice_number, "orphan")
                parts[part.invoice_number].append(part.amount)
            if not charge.allocations:
                fitting = [
                    i.number
                    for i, v in by_number.values()
                    if v.status == "open" and v.amount_paid == 0 and i.customer_id == charge.customer_id
                    and v.amount_remaining == charge.amount
                    and abs((charge.accounting_date - i.accounting_date).days) <= 10
                ]  # fmt: skip
                kind = {0: "missing_left", 1: "suggested_match"}.get(len(fitting), "ambiguous")
                yield ("payment_to_invoice", charge.legal_entity_id, charge.id, kind)
        for number, (invoice, version) in by_number.items():
            paid = parts[number]
            if version.status == "void":
                assert not paid
            elif sum(paid) != version.amount_paid:
                full = [p for p in paid if p == version.amount_paid]
                kind = "missing_right" if not paid else "duplicate" if len(full) > 1 else "amount"
                yield ("payment_to_invoice", invoice.legal_entity_id, number, kind)

    # -- service

    def case_to_contract(self) -> Iterator[Found]:
        accounts = {a.id: a for a in self.company.accounts}
        organizations = {o.id: o.external_id for o in self.company.organizations}
        active: dict[str, list] = defaultdict(list)
        for contract in self.company.contracts:
            version = self.now(contract)
            if version is not None and version.status == "Activated":
                active[contract.account_id].append((contract.start_date, version.end_date))
        for ticket in self.company.tickets:
            version, opened = self.now(ticket), ticket.created.date()
            if version is None or version.status in ("solved", "closed", "deleted") or opened > self.night:
                continue
            account = organizations.get(ticket.organization_id)
            if account not in accounts:
                yield ("case_to_contract", "", str(ticket.id), "orphan")
                continue
            entity = self.now(accounts[account]).legal_entity_id
            for day in (opened, self.night):
                if not any(start <= day < end for start, end in active[account]):
                    yield ("case_to_contract", entity, str(ticket.id), "missing_right")

    def entitlement_to_contract(self) -> Iterator[Found]:
        lines = {line.root_id: line for line, _ in self.lines_in_force() if line.support_level}
        meters = {p.key for p in self.company.products if p.meter}
        metered = {line.id for line in self.company.contract_lines if line.product_key in meters}
        granted = {}
        for entitlement in self.company.entitlements:
            version = self.now(entitlement)
            if entitlement.contract_line_id in metered:
                continue
            if version is not None and entitlement.start_date <= self.night < version.end_date:
                granted[entitlement.contract_line_id or entitlement.id] = (entitlement, version)
        for root, (entitlement, version) in granted.items():
            at = ("entitlement_to_contract", entitlement.legal_entity_id, root)
            if root not in lines:
                yield (*at, "missing_right")
            elif version.status != "Active":
                yield (*at, "status")
            elif version.level != lines[root].support_level:
                yield (*at, "attribute")
        for root, line in lines.items():
            if root not in granted:
                timing = self.night - line.start_date <= timedelta(days=3)
                yield ("entitlement_to_contract", line.legal_entity_id, root, "timing" if timing else "missing_left")

    def journal_to_ledger(self) -> Iterator[Found]:
        for move in self.company.manual_moves:
            if move.date <= self.night and move.visible_at <= self.clock:
                for line in move.lines:
                    if line.account in CONTROLLED:
                        key = f"{move.description}|{line.account}"
                        yield ("journal_to_ledger", move.legal_entity_id, key, "missing_left")

    def breaks(self) -> set[Found]:
        checks = (
            self.contract_to_subscription, self.usage_to_billing, self.invoice_to_receivable, self.payment_to_invoice,
            self.case_to_contract, self.entitlement_to_contract, self.journal_to_ledger,
        )  # fmt: skip
        return {found for check in checks for found in check()}


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_clean_company_has_no_breaks(clean: Company, night: date) -> None:
    assert AsOf(clean, night).breaks() == set()


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_the_labels_are_exactly_the_breaks(planted: Company, night: date) -> None:
    expected = {
        (x.definition_id, x.legal_entity_id, x.break_key, x.break_type) for x in planted.labels if x.is_visible(night)
    }
    found = AsOf(planted, night).breaks()
    assert (sorted(found - expected), sorted(expected - found)) == ([], [])


def test_another_seed_is_as_consistent() -> None:
    other = generate(seed=11)
    expected = {
        (x.definition_id, x.legal_entity_id, x.break_key, x.break_type) for x in other.labels if x.is_visible(NIGHTS[2])
    }
    assert AsOf(other, NIGHTS[2]).breaks() == expected


def test_every_type_of_break_is_planted_for_the_nights(planted: Company) -> None:
    seen = {x.break_type for x in planted.labels if any(x.is_visible(n) for n in NIGHTS[:3])}
    assert seen == {
        "missing_left", "missing_right", "duplicate", "amount", "currency", "timing", "cut_off", "status",
        "attribute", "mapping", "orphan", "ambiguous", "suggested_match",
    }  # fmt: skip
    assert {x.definition_id for x in planted.labels} == {
        "contract_to_subscription", "usage_to_billing", "invoice_to_receivable", "payment_to_invoice",
        "case_to_contract", "entitlement_to_contract", "journal_to_ledger",
    }  # fmt: skip
    assert {x.legal_entity_id for x in planted.labels} == {"US", "DE", "JP", ""}


def test_a_label_names_one_break_at_a_time(planted: Company) -> None:
    for night in NIGHTS:
        keys = Counter((x.definition_id, x.legal_entity_id, x.break_key) for x in planted.labels if x.is_visible(night))
        assert [k for k, n in keys.items() if n > 1] == []
    assert len({x.label_id for x in planted.labels}) == len(planted.labels)
    assert all(x.visible_to is None or x.visible_from < x.visible_to for x in planted.labels)


def test_breaks_are_rare(planted: Company) -> None:
    records = sum(
        len(rows)
        for rows in (planted.contract_lines, planted.invoices, planted.charges, planted.tickets, planted.entitlements)
    )
    assert 0.003 * records < len(planted.labels) < 0.02 * records


def test_a_clean_company_has_an_empty_key(clean: Company) -> None:
    assert (clean.labels, clean.quarantine, clean.unreadable_usage) == ([], [], [])


def test_unreadable_rows_are_counted_by_night(planted: Company) -> None:
    for expected in planted.quarantine:
        clock = datetime.combine(expected.business_date, datetime.min.time(), UTC) + timedelta(hours=33)
        due = [r for r in planted.unreadable_usage if r.visible_at <= clock and r.reason == expected.reason]
        assert len(due) == expected.count


def test_the_key_is_written_as_tables(planted: Company, tmp_path) -> None:
    assert answer_key(planted).schema == SCHEMA
    assert answer_key(planted).num_rows == len(planted.labels)
    assert quarantine_key(planted).num_rows == len(planted.quarantine) == 9
    assert [p.name for p in write_answer_key(planted, tmp_path / "key")] == ["labels.parquet", "quarantine.parquet"]
