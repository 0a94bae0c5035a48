"""Late events: forward to the open period, held above materiality, decided by two people; nothing lost on the way."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tieout.errors import IllegalTransition, LedgerError, StoreError
from tieout.ledger import DAILY, MONTH_END
from tieout.store import batches, late_events, links, periods
from tieout.store.late_events import NOT_TO_BE_POSTED, RELEASED

D29, D30, D31, APRIL = date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31), date(2026, 4, 2)
RECEIVABLE, SEATS = "11000", "40100"
LIMITS = {"late_materiality": {"net": "100", "gross": "150"}}


def move(books: Any, *states: str, period: str = "2026-03", second: str | None = None) -> None:
    with books.store.transaction() as session:
        for state in states:
            periods.move(
                session, "US", "main", period, state, actor="controller", second=second, reason="signed",
                now=books.store.now(),
            )  # fmt: skip


def decide(books: Any, to: str, *units: str, second: str = "cfo") -> None:
    with books.store.transaction() as session:
        late_events.decide(
            session, "US", units, to, actor="controller", second=second, reason="seen", now=books.store.now()
        )


def held(books: Any, *states: str) -> list[str]:
    with books.store.reading() as session:
        return [e.unit for e in late_events.late_events(session, states=states or ("held",))]


def events_in_and_out(books: Any, plan: Any) -> None:
    """Rows in = posted + held + blocked: every event of the books is in a batch that counts or among the held ones."""
    with books.store.reading() as session:
        counting = {j.run_key for b in batches.select_batches(session) if b.counts for j in b.journals}
    amounts: Counter[str] = Counter()
    for row in books.lake.read("journal_drilldown").to_pylist():
        if row["run_key"] in counting:
            amounts[row["event_id"]] += row["amount"]
    there = {event for event, amount in amounts.items() if amount} | set(plan.journals.held["event_id"].to_pylist())
    lines = {key for key, row in books.rows["invoice_line"].items() if not row["is_deleted"]}
    assert {event.rpartition(":")[2] for event in there} == lines


def test_late_events_up_to_materiality_go_forward_and_what_is_above_it_waits_for_two_people(make_books: Any) -> None:
    books = make_books(**LIMITS)
    books.invoice("A", D29, {"amount": "1000"})
    books.post(books.plan(D31))
    move(books, "soft_closed", "closed")
    for name, amount in (("B", "60"), ("C", "41"), ("D", "-30")):
        books.invoice(name, D30, {"amount": amount})
    plan = books.plan(APRIL)
    # B alone passes; with C there would be 101 net: it waits; D takes from revenue, 71 net and 131 gross: it passes
    assert plan.batches == ("TIEOUT/US/main/2026-04/prior_period/2026-04-01/v1",)
    assert held(books) == ["invoice:stripe:C.1"]
    assert [(h.currency, h.events, h.amount) for h in plan.held] == [("USD", 1, Decimal(41))]
    (row,) = plan.journals.held.to_pylist()
    assert (row["state"], row["document_number"]) == ("late", "C")
    assert row["reason"] == "late for 2026-03: late entries on account 11000 come to 101.00 net, 101.00 gross"
    events_in_and_out(books, plan)
    assert set(plan.journals.drilldown["origin_slot"].to_pylist()) == {"US/main/2026-03/billing/2026-03-30"}
    with books.store.reading() as session:
        assert links.links_of(session, "US/main/2026-03/billing/2026-03-30") == [
            (plan.batches[0], links.LATE_FOR, "US/main/2026-03/billing/2026-03-30")
        ]
    assert books.post(plan) == ["posted"]
    assert books.plan(APRIL).batches == ()
    with pytest.raises(IllegalTransition, match="second person"):
        decide(books, RELEASED, *held(books), second="controller")
    decide(books, RELEASED, *held(books))
    plan = books.plan(APRIL)
    assert books.lines(plan) == [(RECEIVABLE, "debit", Decimal(41)), (SEATS, "credit", Decimal(41))]
    books.post(plan)
    assert (held(books), books.plan(APRIL).batches) == ([], ())
    assert books.balances(APRIL) == {RECEIVABLE: Decimal(1101), SEATS: Decimal(-1071), "23000": Decimal(-30)}
    # it is cumulative, so that splitting does not evade it: 101 went late to the receivable before
    books.invoice("E", D30, {"amount": "20"})
    plan = books.plan(APRIL)
    assert (plan.batches, held(books)) == ((), ["invoice:stripe:E.1"])
    actions = [e.action for e in books.store.audit_entries(subject="late:US/invoice:stripe:C.1")]
    assert actions == ["late.held", "late.released"]
    assert books.store.verify_audit("US/main") == []


def test_a_decision_binds_the_entries_it_was_about(make_books: Any) -> None:
    books = make_books(late_materiality={"net": "0", "gross": "0"})
    move(books, "soft_closed", "closed")
    books.invoice("A", D30, {"amount": "100"})
    books.plan(APRIL)
    (unit,) = held(books)
    decide(books, NOT_TO_BE_POSTED, unit)
    with pytest.raises(StoreError, match="no such event is held"):
        decide(books, RELEASED, unit)
    plan = books.plan(APRIL)
    assert (plan.batches, held(books)) == ((), [])
    assert plan.journals.held["state"].to_pylist() == ["not_to_be_posted"]
    events_in_and_out(books, plan)
    books.invoice("A", D30, {"amount": "120"})
    assert (books.plan(APRIL).batches, held(books)) == ((), [unit])
    decide(books, RELEASED, unit)
    assert books.post(books.plan(APRIL)) == ["posted"]
    assert books.balances() == {RECEIVABLE: Decimal(120), SEATS: Decimal(-120)}


def test_a_held_event_goes_to_its_own_date_once_its_period_is_open_again(make_books: Any) -> None:
    books = make_books(late_materiality={"net": "0", "gross": "0"})
    move(books, "soft_closed", "closed")
    books.invoice("A", D30, {"amount": "100"})
    books.plan(APRIL)
    with pytest.raises(IllegalTransition, match="second person"):
        move(books, "open")
    move(books, "open", second="cfo")
    assert books.plan(APRIL).batches == ("TIEOUT/US/main/2026-03/billing/2026-03-30/v1",)
    assert (held(books), held(books, "settled")) == ([], ["invoice:stripe:A.1"])
    assert [e.action for e in books.store.audit_entries(subject="period:US/main/2026-03")] == [
        "period.soft_closed", "period.closed", "period.reopened",
    ]  # fmt: skip


def test_an_event_of_a_prior_fiscal_year_is_always_held(make_books: Any) -> None:
    books = make_books(go_live=date(2025, 12, 1))
    books.invoice("A", date(2025, 12, 30), {"amount": "0.01"})
    plan = books.plan(date(2026, 1, 2), period_open=lambda day: day.year == 2026)
    assert plan.batches == ()
    assert plan.journals.held["reason"].to_pylist() == ["late for 2025-12, of a prior fiscal year"]


def test_a_late_accrual_waits_together_with_its_reversal(make_books: Any) -> None:
    books = make_books(late_materiality={"net": "0", "gross": "0"})
    books.put(
        "subscription_item", "si", subscription_source_id="sub", usage_type="licensed", monthly_amount="31",
        product_family="seats", status="active", start_date=date(2026, 3, 1),
    )  # fmt: skip
    move(books, "soft_closed", "closed")
    plan = books.plan(D31, streams=MONTH_END)
    assert (plan.batches, held(books)) == ((), ["accrual:2026-03:fixed:stripe:si"])
    decide(books, RELEASED, *held(books))
    plan = books.plan(D31, streams=MONTH_END)
    assert [b.split("/")[4] for b in plan.batches] == ["accrual", "prior_period"]
    books.post(plan)
    assert books.balances() == {}


def test_a_period_moves_along_its_states_only_and_a_soft_closed_one_is_corrected_with_permission(books: Any) -> None:
    clock = [datetime(2026, 4, 3, tzinfo=UTC)]
    books.store.now = lambda: clock[0]
    books.invoice("A", D29, {"amount": "100"})
    books.post(books.plan(D31))
    with pytest.raises(IllegalTransition, match="open to closed"):
        move(books, "closed")
    move(books, "soft_closed")
    books.invoice("B", D29, {"amount": "7"})

    def permit(second: str, ends: datetime) -> None:
        with books.store.transaction() as session:
            periods.permit(
                session, "US", "main", "2026-03", actor="controller", second=second, reason="audit adjustment",
                ends_at=ends, now=clock[0],
            )  # fmt: skip

    with pytest.raises(IllegalTransition, match="second person"):
        permit("controller", clock[0] + timedelta(days=1))
    permit("cfo", clock[0] + timedelta(days=1))
    (original,) = books.plan(APRIL).batches
    assert original == "TIEOUT/US/main/2026-03/billing/2026-03-29/v2"
    clock[0] += timedelta(days=2)
    # planned with permission, not sent before it ended: refused here, nothing reaches the ERP, and its content goes on
    from tieout.ledger import post_batch

    assert post_batch(original, books.erp, books.store) == "rejected"
    assert "soft-closed in Tieout" in (books.batch("billing/2026-03-29", 2).reason or "")
    assert len(books.erp.journals()) == 1
    assert books.post(books.plan(APRIL)) == ["posted"]
    assert [j.run_key for j in books.erp.journals()][1:] == ["TIEOUT/US/main/2026-04/prior_period/2026-04-01/v1"]
    assert books.balances()[RECEIVABLE] == Decimal(107)


def test_an_invoice_that_moves_out_of_a_closed_period_waits_on_both_dates(make_books: Any) -> None:
    books = make_books(late_materiality={"net": "50", "gross": "50"})
    books.invoice("A", D30, {"amount": "100"})
    books.post(books.plan(D31))
    move(books, "soft_closed", "closed")
    books.invoice("A", date(2026, 4, 1), {"amount": "100"})
    plan = books.plan(APRIL, streams=DAILY)
    assert plan.batches == ()
    assert sorted(plan.journals.held["event_date"].to_pylist()) == [D30, date(2026, 4, 1)]
    assert books.balances() == {RECEIVABLE: Decimal(100), SEATS: Decimal(-100)}


def test_old_closed_periods_are_planned_over_however_long_ago_they_closed(make_books: Any) -> None:
    books = make_books(go_live=date(2025, 1, 1))
    books.store.now = lambda: datetime(2026, 8, 2, tzinfo=UTC)
    books.invoice("A", date(2025, 1, 2), {"amount": "100"})
    books.post(books.plan(date(2025, 1, 31)))
    opened = date(2026, 7, 1)
    assert books.plan(date(2026, 7, 31), period_open=lambda day: day >= opened).batches == ()
    with pytest.raises(LedgerError, match="no open period"):
        books.plan(date(2026, 7, 31), period_open=lambda day: False)
