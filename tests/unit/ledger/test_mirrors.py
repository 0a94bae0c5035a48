"""Taking a batch out of the ledger: its mirrors stand there once, in an open period, or nothing is said of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tieout.errors import ErpUnavailable, LedgerError, Rejected, UnknownOutcome
from tieout.ledger import Part, Protocol, plan_reversal, post_batch, prove, reverse
from tieout.store import batches, periods
from tieout.store.golive import OpeningBalance, load_opening

D28, D29, D30, APRIL = date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 4, 2)
BY = {"actor": "al", "second": "bea", "reason": "the amount is wrong"}


def post_one(books: Any) -> str:
    books.invoice("A", D29, {"amount": "100"})
    plan = books.plan(D29)
    assert books.post(plan) == ["posted"]
    with books.store.transaction() as session:
        opened = [OpeningBalance("11000", "USD", Decimal(0))]
        load_opening(session, "US", "main", D28, opened, (), actor="t", now=books.store.now(), waiver="a test")
    return str(*plan.batches)


@pytest.fixture
def posted(begin: Any) -> str:
    return str(begin(post_one))


@pytest.fixture
def state(books: Any, posted: str) -> Any:
    """The batch's state, and the end of every run key in the ERP."""

    def seen() -> tuple[str, list[str]]:
        ends = [journal.run_key.rpartition("/")[2] for journal in books.erp.journals()]
        return books.batch("billing/2026-03-29").state, ends

    return seen


def remove_last(books: Any) -> None:
    with closing(sqlite3.connect(books.erp.path)) as db:
        (last,) = db.execute("SELECT max(id) FROM move").fetchone()
        db.execute("DELETE FROM move WHERE id = ?", (last,))
        db.execute("DELETE FROM line WHERE move_id = ?", (last,))
        db.commit()


def test_a_mirror_stored_twice_reverses_nothing_until_one_is_gone(
    books: Any, posted: str, instant: Protocol, state: Any
) -> None:
    books.erp.lies = ["store_twice"]
    for _ in range(2):
        with pytest.raises(LedgerError, match="holds the mirror 2 times") as told:
            reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
        assert "2026-000002 of 2026-03-30 (id 2), 2026-000003 of 2026-03-30 (id 3)" in str(told.value)
    assert state() == ("reversing", ["v1", "reversed", "reversed"])
    batch = books.batch("billing/2026-03-29")
    assert (batch.owner, "holds the mirror 2 times" in batch.reason) == ("general ledger", True)
    assert {entry.run_key for entry in prove(books.entity, D30, books.erp, books.store).foreign} == {
        f"{posted}/reversed"
    }
    assert books.plan(D30).batches == ()
    remove_last(books)
    assert reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    proof = prove(books.entity, D30, books.erp, books.store)
    assert (proof.ties, proof.foreign, books.balances()) == (True, (), {})


def test_of_a_mirror_that_the_erp_cannot_delete_one_counts_and_the_other_is_a_persons_to_take_back(
    books: Any, posted: str, instant: Protocol, state: Any
) -> None:
    books.erp.lies = ["store_twice"]
    with pytest.raises(LedgerError, match="--mirror <id>"):
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    with pytest.raises(LedgerError, match="2 times"):  # no such mirror
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, counting=["1"], **BY)
    assert reverse(posted, books.erp, books.store, on=D30, protocol=instant, counting=["3"], **BY) == "reversed"
    assert {entry.journal_id for entry in prove(books.entity, D30, books.erp, books.store).foreign} == {"2"}
    books.erp.by_hand("US", D30, "USD", "takes the second one back", ("11000", "100", "0"), ("40100", "0", "100"))
    proof = prove(books.entity, D30, books.erp, books.store)
    assert (proof.ties, {line.foreign for line in proof.lines}) == (True, {Decimal(0)})


def store(books: Any, journal: Any) -> None:
    with closing(books.erp._connect()) as db:
        books.erp._store(db, journal, None)
        db.commit()


def test_a_copy_of_what_was_reversed_that_comes_later_is_not_ours(books: Any, posted: str, instant: Protocol) -> None:
    reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    store(books, books.erp.journals()[0])
    proof = prove(books.entity, D30, books.erp, books.store)
    assert {line.account: line.foreign for line in proof.lines} == {"11000": Decimal(100), "40100": Decimal(-100)}
    assert {line.ours for line in proof.lines} == {Decimal(0)}


def test_what_was_taken_out_and_changed_in_the_erp_is_not_ours_any_more(
    books: Any, posted: str, instant: Protocol
) -> None:
    def move(id: int, was: str, now: str) -> Any:
        with closing(sqlite3.connect(books.erp.path)) as db:
            db.execute("UPDATE line SET account = ? WHERE account = ? AND move_id = ?", (now, was, id))
            db.commit()
        return prove(books.entity, D30, books.erp, books.store)

    reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    for one in (1, 2):  # the original, its mirror
        proof = move(one, "40100", "40300")
        assert {line.account for line in proof.lines if line.foreign} == {"40100", "40300"}
        assert len(proof.foreign) == 4
        assert prove(books.entity, D29, books.erp, books.store).foreign == ()  # before its mirror it stands
        assert move(one, "40300", "40100").foreign == ()


def test_a_batch_of_which_a_reversal_is_planned_is_not_taken_out_whole(
    books: Any, posted: str, instant: Protocol, state: Any
) -> None:
    options = {"lake": books.lake, "store": books.store, "run_id": "by_hand", "actor": "al", "reason": "typo"}
    part = plan_reversal(posted, books.entity, on=D30, part=Part(share=Decimal("0.4")), **options)
    with pytest.raises(LedgerError, match="a reversal of the batch was planned") as told:
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    assert f"{part.batch_id}, awaiting_approval" in str(told.value)
    assert state() == ("posted", ["v1"])
    with books.store.transaction() as session:
        batches.transition(session, part.batch_id, "rejected_by_approver", actor="bea", now=books.store.now())
    books.erp.lies = ["store_nothing"]
    with pytest.raises(LedgerError, match="does not show the mirror"):
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    with pytest.raises(LedgerError, match="only a posted batch") as told:
        plan_reversal(posted, books.entity, on=D30, **options)
    assert "got: reversing" in str(told.value)


def test_a_second_mirror_that_comes_later_is_not_ours(books: Any, posted: str, instant: Protocol) -> None:
    reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    mirror = books.erp.journals()[-1]
    store(books, mirror)
    proof = prove(books.entity, D30, books.erp, books.store)
    assert sorted(entry.account for entry in proof.foreign) == ["11000", "40100"]
    assert {line.account: line.foreign for line in proof.lines} == {"11000": Decimal(-100), "40100": Decimal(100)}


def test_a_mirror_is_not_sent_again_before_the_lost_request_would_have_ended(
    books: Any, posted: str, state: Any
) -> None:
    late: list[Any] = []
    slept: list[float] = []
    post = books.erp.post

    def lose(journal: Any, **options: Any) -> Any:
        if late:
            return post(journal, **options)
        late.append(journal)
        raise UnknownOutcome("the request timed out", record=journal.run_key)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) > 30 and len(late) == 1:  # the first request arrives at last
            late.append(post(late[0]))

    books.erp.post = lose
    patient = Protocol(settle=timedelta(seconds=60), checks=(1.0,), lags=(0.0,), sleep=sleep)
    with pytest.raises(UnknownOutcome):
        reverse(posted, books.erp, books.store, on=D30, protocol=patient, **BY)
    assert (slept, state()) == ([1.0], ("reversing", ["v1"]))
    assert reverse(posted, books.erp, books.store, on=D30, protocol=patient, **BY) == "reversed"
    assert state() == ("reversed", ["v1", "reversed"])


def test_a_mirror_whose_request_never_came_is_sent_after_the_whole_wait(books: Any, posted: str, state: Any) -> None:
    slept: list[float] = []
    books.erp.lies = ["lose_request"]
    patient = Protocol(settle=timedelta(seconds=60), checks=(), lags=(0.0,), sleep=slept.append)
    with pytest.raises(UnknownOutcome):
        reverse(posted, books.erp, books.store, on=D30, protocol=patient, **BY)
    assert reverse(posted, books.erp, books.store, on=D30, protocol=patient, **BY) == "reversed"
    assert sum(slept) == pytest.approx(60, abs=1)
    assert state() == ("reversed", ["v1", "reversed"])


def test_a_mirror_whose_answer_is_lost_is_looked_up(books: Any, posted: str, instant: Protocol, state: Any) -> None:
    books.erp.lies = ["lose_answer"]
    assert reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    assert state() == ("reversed", ["v1", "reversed"])


@pytest.mark.parametrize("lie", ["store_nothing", "leave_draft"])
def test_a_mirror_that_does_not_stand_in_the_erp_reverses_nothing(
    books: Any, posted: str, instant: Protocol, lie: Any
) -> None:
    books.erp.lies = [lie]
    with pytest.raises(LedgerError, match="does not show the mirror"):
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    assert books.batch("billing/2026-03-29").state == "reversing"
    assert reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    assert books.balances() == {}


def test_what_the_erp_does_not_show_is_not_taken_for_nothing(
    books: Any, posted: str, instant: Protocol, state: Any
) -> None:
    slept: list[float] = []
    find, books.erp.find_by_run_key = books.erp.find_by_run_key, lambda *args, **options: []
    lagging = replace(instant, lags=(1.0, 2.0), sleep=slept.append)
    with pytest.raises(LedgerError, match="does not show a journal that was read back"):
        reverse(posted, books.erp, books.store, on=D30, protocol=lagging, **BY)
    books.erp.find_by_run_key = find
    assert (slept, state()) == ([1.0, 2.0], ("posted", ["v1"]))
    assert books.plan(D30).batches == ()


def test_a_mismatch_that_stands_there_unseen_is_not_taken_for_nothing(books: Any, instant: Protocol) -> None:
    books.invoice("A", D29, {"amount": "100"})
    (batch_id,) = books.plan(D29).batches
    books.erp.lies = ["other_date"]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "mismatched"
    find, books.erp.find_by_run_key = books.erp.find_by_run_key, lambda *args, **options: []
    with pytest.raises(LedgerError, match="does not show a journal"):
        reverse(batch_id, books.erp, books.store, on=D30, protocol=instant, **BY)
    books.erp.find_by_run_key = find
    remove_last(books)  # a person took it out: there is nothing to mirror
    assert reverse(batch_id, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    assert books.erp.journals() == []


def close(books: Any, period: str, *states: str) -> None:
    with books.store.transaction() as session:
        for to in states:
            periods.move(session, "US", "main", period, to, actor="cfo", reason="close", now=books.store.now())


@pytest.mark.parametrize("states", [("soft_closed",), ("soft_closed", "closed")])
def test_a_mirror_goes_into_an_open_period_only(
    books: Any, posted: str, instant: Protocol, state: Any, states: tuple[str, ...]
) -> None:
    close(books, "2026-03", *states)
    with pytest.raises(LedgerError, match="period of the mirror is not open") as told:
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    assert f"2026-03 is {states[-1].replace('_', '-')}" in str(told.value)
    with pytest.raises(LedgerError, match="not open"):  # the fiscal period counts, not the month
        reverse(posted, books.erp, books.store, on=APRIL, period="2026-03", protocol=instant, **BY)
    assert state() == ("posted", ["v1"])
    assert reverse(posted, books.erp, books.store, on=APRIL, protocol=instant, **BY) == "reversed"


def test_a_period_that_is_closed_between_two_mirrors_takes_no_more(books: Any, instant: Protocol) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D29, {"amount": "30", "start": D29, "end": date(2026, 4, 30)})
    (batch_id,) = books.plan(D29, line_limit=2).batches
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    books.erp.on_step = lambda step: close(books, "2026-03", "soft_closed") if step == "stored" else None
    with pytest.raises(LedgerError, match="not open"):
        reverse(batch_id, books.erp, books.store, on=D30, protocol=instant, **BY)
    books.erp.on_step = lambda step: None
    assert len(books.erp.journals()) == 3
    assert books.batch("billing/2026-03-29").state == "reversing"
    with books.store.transaction() as session:
        periods.move(session, "US", "main", "2026-03", "open", actor="cfo", reason="again", now=books.store.now())
    assert reverse(batch_id, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    assert (len(books.erp.journals()), books.balances()) == (4, {})


def test_a_mirror_is_not_dated_before_what_it_reverses(books: Any, posted: str, instant: Protocol, state: Any) -> None:
    with pytest.raises(LedgerError, match="not dated before"):
        reverse(posted, books.erp, books.store, on=D28, protocol=instant, **BY)
    assert state() == ("posted", ["v1"])


@pytest.mark.parametrize(("lie", "error"), [("reject", Rejected), ("down", ErpUnavailable)])
def test_a_mirror_that_the_erp_refuses_reverses_nothing(
    books: Any, posted: str, instant: Protocol, state: Any, lie: Any, error: Any
) -> None:
    books.erp.lies = [lie]
    with pytest.raises(error):
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    assert state() == ("posted", ["v1"])
    assert books.batch("billing/2026-03-29").owner is None
