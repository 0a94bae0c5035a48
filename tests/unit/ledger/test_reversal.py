"""Reversals: our own mirror, in whole, a share or by document; balanced, linked both ways, the drill-down adding up."""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from operator import itemgetter
from typing import Any

import pytest

from tieout.errors import IllegalTransition, LedgerError
from tieout.ledger import check_approval, due_batches, post_batch, prove, resolve
from tieout.ledger.reversal import Part, plan_reversal
from tieout.store import approvals, batches, late_events, links
from tieout.store.golive import OpeningBalance, load_opening

D28, D29, D30, APRIL = (date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 4, 2))
RECEIVABLE, SEATS, DEFERRED, TAX = "11000", "40100", "21000", "22000"
ORIGIN = "TIEOUT/US/main/2026-03/billing/2026-03-29/v1"


def post_three(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100", "tax": "10"}, {"amount": "0.05"})
    books.invoice("B", D29, {"amount": "33.33", "tax": "3.33"})
    books.invoice("C", D29, {"amount": "60", "start": D29, "end": date(2026, 4, 29)})
    assert books.post(books.plan(D29)) == ["posted"]


@pytest.fixture
def posted(books: Any, begin: Any) -> Any:
    """Books with a posted batch of three invoices."""
    begin(post_three)
    return books


def reverse(books: Any, *, approve: bool = True, keep_out_by: str | None = None, **part: Any) -> batches.Batch:
    made = plan_reversal(
        ORIGIN, books.entity, on=APRIL, lake=books.lake, store=books.store, run_id="r", actor="al", reason="wrong",
        part=Part(**part), keep_out_by=keep_out_by,
    )  # fmt: skip
    if approve:
        with books.store.transaction() as session:
            approvals.decide(
                session, made.batch_id, made.content_hash, approver="bea", also_prepared=["al"], accept=True,
                comment="", now=books.store.now(),
            )  # fmt: skip
    return made


def rows_of(books: Any, table: str, batch: batches.Batch) -> list[dict[str, Any]]:
    keys = {j.run_key for j in batch.journals}
    return [row for row in books.lake.read(table).to_pylist() if row["run_key"] in keys]


def adds_up(books: Any, batch: batches.Batch) -> None:
    """Drill-down = line, debits = credits of each journal and event, in functional currency and in each line's own."""
    lines, parts = rows_of(books, "journal_lines", batch), rows_of(books, "journal_drilldown", batch)
    key_of, line_of = itemgetter("run_key", "line_no"), {(line["run_key"], line["line_no"]): line for line in lines}
    for amount in ("amount", "transaction_amount"):
        sums: Counter[tuple[str, int]] = Counter()
        events: Counter[tuple[str, str]] = Counter()
        for part in parts:
            line = line_of[key_of(part)]
            sums[key_of(part)] += part[amount]
            currency = line["currency"] if amount == "amount" else line["transaction_currency"]
            events[part["event_id"], currency] += (1 if line["side"] == "debit" else -1) * part[amount]
        assert sums == {key: line[amount] for key, line in line_of.items()}
        assert set(events.values()) == {0}


def test_a_whole_reversal_waits_for_a_second_person_and_takes_everything_back(posted: Any, instant: Any) -> None:
    made = reverse(posted, approve=False)
    assert made.state == "awaiting_approval"
    with pytest.raises(LedgerError, match="waits for approval"):
        check_approval(made.batch_id, posted.store)
    assert reverse(posted).batch_id == made.batch_id  # asked for again: the same one
    adds_up(posted, made)
    assert due_batches(posted.store) == [made.batch_id]
    assert post_batch(made.batch_id, posted.erp, posted.store, protocol=instant) == "posted"
    assert posted.balances() == {}
    assert {j.date for j in posted.erp.journals() if "reversal" in j.run_key} == {APRIL}
    with posted.store.reading() as session:
        origin = batches.get(session, ORIGIN)
        assert (origin.state, origin.counts) == ("reversed", True)
        for end in (ORIGIN, made.batch_id):
            assert links.links_of(session, end) == [(made.batch_id, links.REVERSES, ORIGIN)]
    actions = {e.action for e in posted.store.audit_entries("US/main", ORIGIN)}
    assert {"batch.reversal_planned", "batch.reversed"} <= actions
    with posted.store.transaction() as session:
        load_opening(
            session, "US", "main", D28, [OpeningBalance(RECEIVABLE, "USD", Decimal(0))], (), actor="t",
            now=posted.store.now(), waiver="a test",
        )  # fmt: skip
    for day in (D30, APRIL):
        proof = prove(posted.entity, day, posted.erp, posted.store)
        assert (proof.ties, proof.foreign) == (True, ())
    with pytest.raises(LedgerError, match="only a posted batch"):
        reverse(posted)
    # what the sources say now is planned again, as a next version of the slot
    assert posted.post(posted.plan(APRIL)) == ["posted"]
    assert posted.balances()[RECEIVABLE] == Decimal("206.71")
    assert posted.store.verify_audit("US/main") == []


def test_a_document_is_taken_back_and_stays_out(posted: Any, instant: Any) -> None:
    with pytest.raises(IllegalTransition, match="second person"):
        reverse(posted, documents=("B",), keep_out_by="Al")
    made = reverse(posted, documents=("B",), keep_out_by="bea")
    adds_up(posted, made)
    assert {row["document_number"] for row in rows_of(posted, "journal_drilldown", made)} == {"B"}
    assert post_batch(made.batch_id, posted.erp, posted.store, protocol=instant) == "posted"
    expected = {
        RECEIVABLE: Decimal("170.05"), SEATS: Decimal("-100.05"), TAX: Decimal("-10"), DEFERRED: Decimal("-60"),
    }  # fmt: skip
    assert posted.balances() == expected
    plan = posted.plan(APRIL)
    assert plan.batches == ()
    assert plan.journals.held["state"].to_pylist() == ["not_to_be_posted"]
    assert posted.batch("billing/2026-03-29").state == "posted"
    with pytest.raises(LedgerError, match="nothing of this is left"):
        reverse(posted, documents=("B",))
    # the source changes: it is asked for again, not posted by the way
    posted.invoice("B", D29, {"amount": "40", "tax": "4"})
    assert posted.plan(APRIL).batches == ()
    # the rest of the batch: the whole of what is left
    rest = reverse(posted)
    assert post_batch(rest.batch_id, posted.erp, posted.store, protocol=instant) == "posted"
    assert (posted.balances(), posted.batch("billing/2026-03-29").state) == ({}, "reversed")


def reject(books: Any, made: batches.Batch) -> None:
    with books.store.transaction() as session:
        approvals.decide(
            session, made.batch_id, made.content_hash, approver="bea", also_prepared=["al"], accept=False,
            comment="it is due", now=books.store.now(),
        )  # fmt: skip


def kept_out(books: Any) -> dict[str, str]:
    with books.store.reading() as session:
        return {d.unit: d.content for d in late_events.decisions(session, "US") if d.state == "not_to_be_posted"}


def test_a_rejected_reversal_keeps_nothing_out(posted: Any, instant: Any) -> None:
    made = reverse(posted, approve=False, documents=("B",), keep_out_by="bea")
    assert posted.plan(APRIL).batches == ()  # while it waits its content is not planned by the way
    assert len(kept_out(posted)) == 1
    reject(posted, made)
    assert kept_out(posted) == {}
    assert posted.plan(APRIL).batches == ()
    again = reverse(posted, documents=("B",))
    assert post_batch(again.batch_id, posted.erp, posted.store, protocol=instant) == "posted"
    assert posted.post(posted.plan(APRIL)) == ["posted"]
    assert posted.balances()[RECEIVABLE] == Decimal("206.71")
    assert posted.store.verify_audit("US/main") == []


def test_a_rejected_reversal_leaves_what_another_keeps_out(posted: Any, instant: Any) -> None:
    first = reverse(posted, documents=("B",), share=Decimal("0.4"), keep_out_by="bea")
    assert post_batch(first.batch_id, posted.erp, posted.store, protocol=instant) == "posted"
    before = kept_out(posted)
    second = reverse(posted, approve=False, documents=("B",), keep_out_by="bea")
    assert kept_out(posted).keys() == before.keys()
    assert kept_out(posted) != before
    reject(posted, second)
    assert kept_out(posted) == before
    assert posted.plan(APRIL).batches == ()


def test_a_reversal_that_the_erp_refuses_keeps_out_once_a_document_stands_for_it(posted: Any, instant: Any) -> None:
    made = reverse(posted, documents=("B",), keep_out_by="bea")
    posted.erp.lies = ["reject"]
    assert post_batch(made.batch_id, posted.erp, posted.store, protocol=instant) == "rejected"
    assert kept_out(posted) == {}
    posted.erp.by_hand(
        "US", APRIL, "USD", "by hand", (SEATS, "33.33", "0"), (TAX, "3.33", "0"), (RECEIVABLE, "0", "36.66")
    )
    by = {"actor": "al", "second": "cy", "reason": "written by hand", "protocol": instant}
    resolve(made.batch_id, posted.erp, posted.store, lake=posted.lake, documents={made.journals[0].run_key: "2"}, **by)
    assert len(kept_out(posted)) == 1
    assert posted.plan(APRIL).batches == ()


@pytest.mark.parametrize(("first", "then"), [(None, "bea"), ("bea", None), ("bea", "cy")])
def test_a_reversal_that_waits_is_not_asked_for_with_another_answer(
    posted: Any, first: str | None, then: str | None
) -> None:
    made = reverse(posted, approve=False, keep_out_by=first)
    with pytest.raises(LedgerError, match="waits for a decision, to be kept out"):
        reverse(posted, approve=False, keep_out_by=then)
    assert reverse(posted, approve=False, keep_out_by=first).batch_id == made.batch_id
    assert bool(kept_out(posted)) == bool(first)


def test_parts_by_amount_balance_to_the_cent_and_never_take_more_than_there_is(posted: Any) -> None:
    left = Decimal("206.71")
    for amount in (Decimal("0.01"), Decimal("99.99"), Decimal("50.37")):
        made = reverse(posted, amount=amount)
        adds_up(posted, made)
        assert sum(j.debit for j in made.journals) == amount
        left -= amount
    for amount in (left + Decimal("0.01"), Decimal("0.001"), Decimal(0)):
        with pytest.raises(LedgerError, match="at most what is left"):
            reverse(posted, amount=amount)
    rest = reverse(posted)
    adds_up(posted, rest)
    assert sum(j.debit for j in rest.journals) == left


def test_a_share_and_lines(posted: Any) -> None:
    made = reverse(posted, share=Decimal("0.4"), approve=False)
    assert sum(j.debit for j in made.journals) == Decimal("82.68")  # 40 percent of 206.71, rounded once
    adds_up(posted, made)
    with pytest.raises(LedgerError, match="waits for a decision"):
        reverse(posted, share=Decimal("0.5"))
    with posted.store.transaction() as session:
        approvals.decide(
            session, made.batch_id, made.content_hash, approver="bea", also_prepared=["al"], accept=False, comment="no",
            now=posted.store.now(),
        )  # fmt: skip
    with pytest.raises(LedgerError, match="do not balance"):
        reverse(posted, lines=(1,))
    lines = [
        r
        for r in rows_of(posted, "journal_lines", posted.batch("billing/2026-03-29"))
        if r["event_type"] == "invoice_ahead"
    ]
    whole = reverse(posted, lines=tuple(r["line_no"] for r in lines))
    assert sum(j.debit for j in whole.journals) == Decimal(60)
    with pytest.raises(LedgerError, match="share lies"):
        reverse(posted, share=Decimal(2))
    with posted.store.reading() as session:
        assert batches.get(session, ORIGIN).state == "posted"


@pytest.fixture
def abroad(books: Any) -> Any:
    """A posted batch of invoices in euros and dollars, at a rate that leaves residues."""
    books.put("fx_rate", "r", currency="EUR", to_currency="USD", rate_date=D29, rate="1.0837", source="ecb")
    books.invoice("A", D29, {"amount": "33.33", "tax": "6.67"}, {"amount": "0.05"}, currency="EUR")
    books.invoice("B", D29, {"amount": "100.01"})
    for line in ("A.1", "A.2"):
        books.rows["invoice_line"][line]["currency"] = "EUR"
    assert books.post(books.plan(D29)) == ["posted"]
    return books


def foreign_sums(books: Any) -> dict[str, Decimal]:
    """What each account of the ERP holds in euros, zeros left out."""
    sums: Counter[str] = Counter()
    for journal in books.erp.journals():
        for line in journal.lines:
            assert line.foreign_amount is None or line.foreign_currency == "EUR"
            assert not line.foreign_amount or (line.foreign_amount > 0) == (line.debit > 0)
            sums[line.account] += line.foreign_amount or Decimal(0)
    return {account: amount for account, amount in sums.items() if amount}


def test_a_journal_in_another_currency_is_taken_back_in_both(abroad: Any, instant: Any) -> None:
    before = foreign_sums(abroad)
    assert before == {RECEIVABLE: Decimal("40.05"), SEATS: Decimal("-33.38"), TAX: Decimal("-6.67")}
    for share, left in (("0.5", "20.02"), ("0.3", "14.01")):
        part = reverse(abroad, share=Decimal(share))
        adds_up(abroad, part)
        assert post_batch(part.batch_id, abroad.erp, abroad.store, protocol=instant) == "posted"
        assert foreign_sums(abroad)[RECEIVABLE] == pytest.approx(Decimal(left), abs=Decimal("0.01"))
        assert sum(foreign_sums(abroad).values()) == sum(abroad.balances().values()) == 0
    part = reverse(abroad, amount=Decimal("0.03"))
    adds_up(abroad, part)
    assert post_batch(part.batch_id, abroad.erp, abroad.store, protocol=instant) == "posted"
    rest = reverse(abroad)
    adds_up(abroad, rest)
    assert post_batch(rest.batch_id, abroad.erp, abroad.store, protocol=instant) == "posted"
    assert (foreign_sums(abroad), abroad.balances()) == ({}, {})
    assert abroad.batch("billing/2026-03-29").state == "reversed"
    # planned again from the sources: the same in both currencies
    assert abroad.post(abroad.plan(APRIL)) == ["posted"]
    assert foreign_sums(abroad) == before
