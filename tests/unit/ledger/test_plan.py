"""Planning: versions post differences, a second run plans nothing, closed periods send late events forward."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from tieout.errors import LeaseLost, LedgerError
from tieout.ids import Slot
from tieout.ledger import EVENTS, check_approval, load_rules, plan_batches, preview, summarise
from tieout.settings import Settings
from tieout.store import approvals, batches, periods

D29, D30, D31 = date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)
RECEIVABLE, SEATS = "11000", "40100"


def test_a_second_plan_of_the_same_data_plans_nothing(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    assert len(books.plan(D29).batches) == 1
    assert books.plan(D29).batches == ()
    assert books.plan(D30).batches == ()


def test_each_accounting_date_has_its_own_slot_and_nothing_after_the_business_date_is_planned(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D30, {"amount": "50"})
    books.invoice("C", D31, {"amount": "25"})
    books.pay("ch", D30, "100", A="100")
    plan = books.plan(D30)
    assert plan.batches == (
        "TIEOUT/US/main/2026-03/billing/2026-03-29/v1",
        "TIEOUT/US/main/2026-03/billing/2026-03-30/v1",
        "TIEOUT/US/main/2026-03/cash/2026-03-30/v1",
    )


def test_late_data_post_the_difference_as_the_next_version_of_the_original_slot(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.post(books.plan(D29))
    books.invoice("LATE", D29, {"amount": "7"})
    plan = books.plan(D30)
    assert plan.batches == ("TIEOUT/US/main/2026-03/billing/2026-03-29/v2",)
    assert books.lines(plan) == [(RECEIVABLE, "debit", Decimal("7")), (SEATS, "credit", Decimal("7"))]
    batch = books.batch("billing/2026-03-29", 2)
    assert (batch.kind, batch.origin) == ("difference", "TIEOUT/US/main/2026-03/billing/2026-03-29/v1")
    books.post(plan)
    assert books.balances() == {RECEIVABLE: Decimal("107"), SEATS: Decimal("-107")}


def test_a_to_b_to_a_nets_to_a(books: Any) -> None:
    for amount in ("100", "80", "100"):
        books.invoice("A", D29, {"amount": amount})
        books.post(books.plan(D29))
    assert books.batch("billing/2026-03-29", 3).state == "posted"
    assert books.balances() == {RECEIVABLE: Decimal("100"), SEATS: Decimal("-100")}


def test_a_row_that_vanished_is_taken_back_on_the_other_side(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D29, {"amount": "5"})
    books.post(books.plan(D29))
    books.invoice("B", D29, {"amount": "5"}, is_deleted=True)
    plan = books.plan(D29)
    assert books.lines(plan) == [(RECEIVABLE, "credit", Decimal("5")), (SEATS, "debit", Decimal("5"))]


def test_a_changed_account_mapping_moves_what_was_posted(books: Any) -> None:
    rules = load_rules(Settings.from_env({}))
    books.invoice("A", D29, {"amount": "100"})
    books.post(books.plan(D29, rules=rules))
    moved = tuple(replace(a, account="40199") if a.account == SEATS else a for a in rules.accounts)
    books.post(books.plan(D29, rules=replace(rules, accounts=moved)))
    assert books.balances() == {RECEIVABLE: Decimal("100"), "40199": Decimal("-100")}


def test_late_data_of_a_closed_period_go_to_the_first_open_day(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.post(books.plan(D31))
    with books.store.transaction() as session:
        for state in ("soft_closed", "closed"):
            periods.move(
                session, "US", "main", "2026-03", state, actor="controller", reason="signed", now=books.store.now()
            )
    books.invoice("LATE", D30, {"amount": "7"})
    plan = books.plan(date(2026, 4, 2))
    assert plan.batches == ("TIEOUT/US/main/2026-04/prior_period/2026-04-01/v1",)
    assert plan.journals.drilldown["event_date"].to_pylist() == [D30, D30]
    books.post(plan)
    assert books.plan(date(2026, 4, 3)).batches == ()
    books.invoice("LATER", D30, {"amount": "1"})
    later = books.plan(date(2026, 4, 3))
    assert later.batches == ("TIEOUT/US/main/2026-04/prior_period/2026-04-01/v2",)
    assert books.lines(later) == [(RECEIVABLE, "debit", Decimal("1")), (SEATS, "credit", Decimal("1"))]


def test_a_period_the_erp_has_closed_counts_as_closed(books: Any) -> None:
    books.invoice("A", D31, {"amount": "1"})
    plan = books.plan(D31, period_open=lambda day: day.month != 3)
    assert plan.batches == ("TIEOUT/US/main/2026-04/prior_period/2026-04-01/v1",)


def test_a_rejected_version_is_carried_by_the_next_one(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.erp.lies = ["reject"]
    assert books.post(books.plan(D29)) == ["rejected"]
    books.invoice("B", D29, {"amount": "5"})
    assert books.post(books.plan(D29)) == ["posted"]
    assert books.balances()[RECEIVABLE] == Decimal("105")


def test_a_planner_that_was_taken_over_stores_nothing(books: Any) -> None:
    clock = [datetime(2026, 3, 30, tzinfo=UTC)]
    books.store.now = lambda: clock[0]
    books.invoice("A", D29, {"amount": "100"})

    def stopped(day: date) -> bool:
        clock[0] += timedelta(hours=2)
        books.store.acquire("plan/US/main", "another planner")
        return True

    with pytest.raises(LeaseLost):
        books.plan(D29, period_open=stopped)
    assert books.lake.version("journals") is None
    with books.store.reading() as session:
        assert batches.select_batches(session) == []


def test_a_preview_plans_nothing(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    rules = load_rules(Settings.from_env({}))
    shown = preview(
        books.entity, ("billing",), D29, D29, lake=books.lake, store=books.store, rules=rules, snapshot=books.snapshot()
    )
    assert shown.headers["debit"].to_pylist() == [Decimal("100")]
    with books.store.reading() as session:
        assert batches.select_batches(session) == []


def test_planning_an_earlier_date_again_keeps_what_is_held_of_later_ones(books: Any) -> None:
    books.invoice("A", D29, {"amount": "1", "family": None})
    books.invoice("B", D31, {"amount": "2", "family": None})
    for day in (D31, D29):
        books.plan(day)
        assert sorted(books.lake.read("journal_held")["document_number"].to_pylist()) == ["A", "B"]
    books.rows["invoice_line"]["A.1"]["product_family"] = "seats"
    books.plan(D30)
    assert books.lake.read("journal_held")["document_number"].to_pylist() == ["B"]


def test_a_stream_that_is_only_verified_posts_nothing(make_books: Any) -> None:
    books = make_books(streams={"billing": "verify"})
    books.invoice("A", D29, {"amount": "100"})
    assert books.plan(D29).batches == ()


def test_daily_and_month_end_streams_are_planned_apart(books: Any) -> None:
    with pytest.raises(LedgerError, match="apart"):
        books.plan(D29, streams=("billing", "release"))


def test_thresholds_are_gross_and_cumulative_over_a_slots_versions(make_books: Any) -> None:
    books = make_books(approval={"thresholds": {"*": "100"}})
    books.invoice("A", D29, {"amount": "60"})
    assert books.post(books.plan(D29)) == ["posted"]
    books.invoice("B", D29, {"amount": "60"})
    (batch_id,) = books.plan(D29).batches
    assert books.batch("billing/2026-03-29", 2).state == "awaiting_approval"
    with pytest.raises(LedgerError, match="waits for approval"):
        check_approval(batch_id, books.store)


def test_the_same_version_with_other_content_is_refused(books: Any) -> None:
    slot = Slot("US", "main", "2026-03", "billing", D29)
    options: dict[str, Any] = {
        "accounting_date": D29, "kind": "original", "origin": None, "needs_approval": False, "run_id": "r",
        "actor": "t",
    }  # fmt: skip
    with books.store.transaction() as session:
        batches.plan(session, slot, 1, [], digest="a" * 64, now=books.store.now(), **options)
    with pytest.raises(LedgerError, match="other content"), books.store.transaction() as session:
        batches.plan(session, slot, 1, [], digest="b" * 64, now=books.store.now(), **options)


def test_a_plan_killed_before_it_was_stored_is_made_again_over_its_remains(books: Any, monkeypatch: Any) -> None:
    from tieout.ledger import plan as module

    books.invoice("A", D29, {"amount": "100"})
    with monkeypatch.context() as patch:
        patch.setattr(module, "_store", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            books.plan(D29)
    books.invoice("B", D29, {"amount": "1"})
    books.post(books.plan(D29))
    assert books.balances()[RECEIVABLE] == Decimal("101")
    assert books.lake.read("journals").num_rows == 1


def test_a_journal_over_the_erps_line_limit_is_split_into_balanced_parts(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D29, {"amount": "30", "start": D29, "end": D31})
    plan = books.plan(D29, line_limit=2)
    keys = plan.journals.headers["run_key"].to_pylist()
    assert [k.rpartition("/")[2] for k in keys] == ["1of2", "2of2"]
    assert plan.journals.headers["debit"].to_pylist() == plan.journals.headers["credit"].to_pylist()
    assert books.post(plan) == ["posted"]
    books.invoice("C", D30, {"amount": "1"})
    with pytest.raises(LedgerError, match="more lines"):
        books.plan(D30, line_limit=1)


def test_summarise_alone_takes_events_and_rules_only() -> None:
    empty = summarise(EVENTS.empty_table(), load_rules(Settings.from_env({})))
    assert (empty.headers.num_rows, empty.lines.num_rows, empty.drilldown.num_rows, empty.held.num_rows) == (0, 0, 0, 0)


def test_a_run_that_began_before_a_newer_one_planned_takes_nothing_back(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.store.publish("earlier", books.snapshot())
    books.store.start_run("slow backfill", "backfill", D30)
    books.store.start_run("night", "nightly", D30)
    books.invoice("B", D30, {"amount": "50"})
    books.store.publish("night", books.snapshot())
    rules, planned = load_rules(Settings.from_env({})), []
    for run_id in ("night", "slow backfill"):
        plan = plan_batches(books.entity, D30, lake=books.lake, store=books.store, rules=rules, run_id=run_id)
        planned.append(plan.batches)
    assert planned == [
        ("TIEOUT/US/main/2026-03/billing/2026-03-29/v1", "TIEOUT/US/main/2026-03/billing/2026-03-30/v1"),
        (),
    ]


def post_approved(books: Any, plan: Any) -> list[str]:
    """Post what was planned once a second person approved it."""
    for batch_id in plan.batches:
        with books.store.transaction() as session:
            batch = batches.get(session, batch_id)
            if batch.state == "awaiting_approval":
                approvals.decide(
                    session,
                    batch_id,
                    batch.content_hash,
                    approver="bea",
                    accept=True,
                    comment="",
                    now=books.store.now(),
                )
    return cast(list[str], books.post(plan))


class TestReverseAndRepost:
    @pytest.fixture
    def restated(self, make_books: Any) -> Any:
        books = make_books(restatement="reverse_and_repost")
        books.invoice("A", D29, {"amount": "100"})
        books.invoice("B", D29, {"amount": "5", "family": "usage"})
        books.invoice("C", D30, {"amount": "7"})
        books.post(books.plan(D30))
        return books

    def test_what_was_posted_is_taken_back_whole_and_the_new_content_posted_whole(self, restated: Any) -> None:
        restated.invoice("A", D29, {"amount": "90"})
        plan = restated.plan(D30)
        slot = "TIEOUT/US/main/2026-03/billing/2026-03-29"
        assert plan.batches == (f"{slot}/v2", f"{slot}/v3")
        back, again = (restated.batch("billing/2026-03-29", version) for version in (2, 3))
        assert [(b.kind, b.origin, b.gross["USD"]) for b in (back, again)] == [
            ("taken_back", f"{slot}/v1", Decimal("105")),
            ("reposted", f"{slot}/v1", Decimal("95")),
        ]
        assert post_approved(restated, plan) == ["posted", "posted"]
        assert restated.balances()[RECEIVABLE] == Decimal("102")
        assert restated.plan(D30).batches == ()

    def test_neither_half_goes_without_a_second_person_nor_without_the_other(self, restated: Any) -> None:
        restated.invoice("A", D29, {"amount": "90"})
        first = restated.plan(D30)
        back, again = (restated.batch("billing/2026-03-29", version) for version in (2, 3))
        assert (back.state, again.state) == ("awaiting_approval", "awaiting_approval")
        with pytest.raises(LedgerError, match="waits for approval"):
            restated.post(first)
        with restated.store.transaction() as session:
            now = restated.store.now()
            for batch, accept in ((again, True), (back, False)):
                approvals.decide(
                    session, batch.batch_id, batch.content_hash, approver="bea", accept=accept, comment="no", now=now
                )
            assert batches.get(session, again.batch_id).state == "rejected_by_approver"
        assert restated.balances()[RECEIVABLE] == Decimal("112")
        assert post_approved(restated, restated.plan(D30)) == ["posted", "posted"]
        assert restated.balances()[RECEIVABLE] == Decimal("102")

    def test_back_to_the_first_content_nets_to_it(self, restated: Any) -> None:
        before = restated.balances()
        for amount in ("90", "100"):
            restated.invoice("A", D29, {"amount": amount})
            post_approved(restated, restated.plan(D30))
        assert restated.balances() == before
        assert restated.batch("billing/2026-03-29", 5).kind == "reposted"

    def test_a_version_that_was_refused_is_followed_by_the_whole_content(self, restated: Any) -> None:
        restated.invoice("A", D29, {"amount": "90"})
        plan = restated.plan(D30)
        post_approved(restated, replace(plan, batches=plan.batches[:1]))
        restated.erp.lies = ["reject"]
        assert post_approved(restated, replace(plan, batches=plan.batches[1:])) == ["rejected"]
        assert restated.balances()[RECEIVABLE] == Decimal("7")
        assert post_approved(restated, restated.plan(D30)) == ["posted"]
        assert restated.balances()[RECEIVABLE] == Decimal("102")

    def test_a_closed_period_gets_the_difference(self, restated: Any) -> None:
        with restated.store.transaction() as session:
            now = restated.store.now()
            periods.move(session, "US", "main", "2026-03", "soft_closed", actor="c", reason="signed", now=now)
        restated.invoice("A", D29, {"amount": "90"})
        (batch,) = (plan := restated.plan(date(2026, 4, 1))).batches
        assert "prior_period" in batch
        assert post_approved(restated, plan) == ["posted"]
        assert restated.balances()[RECEIVABLE] == Decimal("102")
