"""Go-live and the proof: opening + our posted journals + foreign entries = the ERP's trial balance."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tieout.errors import IllegalTransition, LedgerError
from tieout.ledger import due_batches, golive, load_rules, prove
from tieout.settings import Settings
from tieout.store import golive as store_golive
from tieout.store.golive import OpeningTie

D28, D29, D30, D31 = date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)


@pytest.fixture
def taken_over(books: Any) -> Any:
    """Books with a history in the ERP that our documents explain but for 1.00 of receivable."""
    books.invoice("OLD", date(2026, 3, 19), {"amount": "30", "start": date(2026, 3, 19), "end": date(2026, 4, 18)})
    books.invoice("PAID", date(2026, 3, 1), {"amount": "9", "family": "usage"})
    books.pay("ch", D28, "9", PAID="9")
    books.put(
        "balance_transaction", "t", type="charge", reporting_category="charge", amount="9", fee="0.50", net="8.50",
        accounting_date=D28,
    )  # fmt: skip
    books.erp.by_hand(
        "US", D28, "USD", "BillingSync", ("11000", "31", "0"), ("21000", "0", "20"), ("40100", "0", "10"),
        ("10100", "8.50", "0"), ("60100", "0.50", "0"), ("40300", "0", "10"),
    )  # fmt: skip
    load(books)
    return books


def load(books: Any) -> golive.Opening:
    rules = load_rules(Settings.from_env({}))
    return golive.load(
        books.entity, books.erp, lake=books.lake, store=books.store, rules=rules, snapshot=books.snapshot()
    )


def test_open_documents_are_tied_to_their_accounts_and_the_difference_is_stated(taken_over: Any) -> None:
    opening = golive.opening(taken_over.store, taken_over.entity)
    assert opening.ties == (
        OpeningTie("cash_in_transit", "10150", "USD", Decimal(0), Decimal(0)),
        OpeningTie("customer_credit", "23000", "USD", Decimal(0), Decimal(0)),
        OpeningTie("deferred_revenue", "21000", "USD", Decimal("-20"), Decimal("-20")),
        OpeningTie("disputes_receivable", "11200", "USD", Decimal(0), Decimal(0)),
        OpeningTie("processor_clearing", "10100", "USD", Decimal("8.50"), Decimal("8.50")),
        OpeningTie("receivable", "11000", "USD", Decimal("30"), Decimal("31")),
        OpeningTie("unbilled_receivable", "11100", "USD", Decimal(0), Decimal(0)),
    )
    assert [t.difference for t in opening.ties] == [0, 0, 0, 0, 0, 1, 0]


def test_the_opening_is_stored_once_and_audited(taken_over: Any) -> None:
    taken_over.erp.by_hand("US", D28, "USD", "later", ("11000", "5", "0"), ("40100", "0", "5"))
    again = load(taken_over)
    assert not again.loaded
    assert {b.account: b.balance for b in again.balances}["11000"] == Decimal("31")
    assert [e.action for e in taken_over.store.audit_entries("US/main")] == [
        "golive.loaded",
        "golive.waived",
    ]


def test_opening_ours_and_foreign_make_the_trial_balance(taken_over: Any) -> None:
    books = taken_over
    books.invoice("NEW", D29, {"amount": "100", "tax": "8.25"})
    books.pay("ch2", D30, "30", OLD="30")
    books.post(books.plan(D31))
    books.erp.by_hand("US", D30, "USD", "MANUAL correction", ("11000", "0", "1"), ("60200", "1", "0"))
    proof = prove(books.entity, D31, books.erp, books.store)
    assert proof.ties
    line = {p.account: p for p in proof.lines}["11000"]
    assert (line.opening, line.ours, line.foreign, line.ledger) == (
        Decimal("31"), Decimal("78.25"), Decimal("-1"), Decimal("108.25"),
    )  # fmt: skip
    assert [(e.narrative, e.account) for e in proof.foreign] == [
        ("MANUAL correction", "11000"), ("MANUAL correction", "60200"),
    ]  # fmt: skip
    assert (proof.journals_posted, proof.journals_open) == (2, 0)


def test_the_proof_of_an_earlier_day_leaves_later_journals_out(taken_over: Any) -> None:
    taken_over.invoice("NEW", D29, {"amount": "100"})
    taken_over.invoice("NEXT", D31, {"amount": "50"})
    taken_over.post(taken_over.plan(D31))
    proof = prove(taken_over.entity, D30, taken_over.erp, taken_over.store)
    assert proof.ties
    assert proof.journals_posted == 1


def test_a_second_copy_of_our_journal_is_foreign_and_an_entry_back_dated_before_go_live_does_not_tie(
    taken_over: Any,
) -> None:
    from dataclasses import replace

    taken_over.invoice("NEW", D29, {"amount": "100"})
    taken_over.post(taken_over.plan(D29))
    journal = taken_over.erp.journals()[0]
    taken_over.erp.post(replace(journal, run_key=journal.run_key + "x"))
    assert len(prove(taken_over.entity, D31, taken_over.erp, taken_over.store).foreign) == 2
    taken_over.erp.by_hand("US", D28, "USD", "late", ("11000", "5", "0"), ("40100", "0", "5"))
    proof = prove(taken_over.entity, D31, taken_over.erp, taken_over.store)
    assert {p.account: p.difference for p in proof.lines if p.difference} == {"11000": 5, "40100": -5}


def test_nothing_is_proven_before_the_opening_is_loaded(books: Any) -> None:
    with pytest.raises(LedgerError, match="no opening"):
        prove(books.entity, D31, books.erp, books.store)


def test_nothing_is_posted_before_a_person_signed_exactly_what_was_loaded(make_books: Any) -> None:
    books = make_books(go_live_waiver="")
    books.invoice("A", D29, {"amount": "100"})
    books.pay("ch", D30, "100", A="100")
    load(books)
    plan = books.plan(D30)
    billing, cash = plan.batches
    assert due_batches(books.store) == []
    with pytest.raises(LedgerError, match="the go-live is not signed"):
        books.post(plan)
    assert books.balances() == {}
    by = {"reason": "the bank's letter", "now": books.store.now()}
    with books.store.transaction() as session:
        with pytest.raises(IllegalTransition, match="second person"):
            store_golive.waive(session, "US", "main", "cash", actor="al", second="AL", **by)
        store_golive.waive(session, "US", "main", "cash", actor="al", second="bea", **by)
    assert due_batches(books.store) == [cash]
    (whole, waived) = golive.signed(books.store, books.entity)
    assert (whole.state, waived.stream, waived.state, waived.second) == ("unsigned", "cash", "waived", "bea")
    with books.store.transaction() as session:
        with pytest.raises(LedgerError, match="not the opening position"):
            store_golive.sign(session, "US", "main", "0" * 64, actor="al", second=None, **by)
        store_golive.sign(session, "US", "main", whole.digest, actor="al", second=None, **by)
        with pytest.raises(LedgerError, match="signed already"):
            store_golive.sign(session, "US", "main", whole.digest, actor="al", second=None, **by)
    assert due_batches(books.store) == [billing, cash]
    assert books.post(plan) == ["posted", "posted"]
    actions = [e.action for e in books.store.audit_entries(subject="golive:US/main")]
    assert actions == ["golive.loaded", "golive.waived", "golive.signed"]


@pytest.mark.parametrize(("signatures", "held"), [(2, "0"), (1, "1")], ids=["it is configured", "something differs"])
def test_a_second_person_signs_where(make_books: Any, signatures: int, held: str) -> None:
    books = make_books(go_live_waiver="", go_live_signatures=signatures)
    books.erp.by_hand("US", D28, "USD", "BillingSync", ("11000", held, "0"), ("40300", "0", held))
    load(books)
    (whole,) = golive.signed(books.store, books.entity)
    by = {"reason": "rounding of the old system", "now": books.store.now()}
    with books.store.transaction() as session:
        for nobody in (None, "al"):
            with pytest.raises(IllegalTransition, match="second person"):
                store_golive.sign(session, "US", "main", whole.digest, actor="al", second=nobody, **by)
        store_golive.sign(session, "US", "main", whole.digest, actor="al", second="bea", **by)
    assert golive.signed(books.store, books.entity)[0].second == "bea"
