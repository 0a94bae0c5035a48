"""Taking a batch out of the ledger: its mirrors stand there once, in an open period, or nothing is said of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tieout.errors import LedgerError, Rejected, UnknownOutcome
from tieout.ledger import Protocol, post_batch, prove, reverse
from tieout.store import periods
from tieout.store.golive import OpeningBalance, load_opening

D28, D29, D30, APRIL = date(2026, 3, 28), date(2026, 3, 29), date(2026, 3, 30), date(2026, 4, 2)
BY = {"actor": "al", "second": "bea", "reason": "the amount is wrong"}


@pytest.fixture
def posted(books: Any, instant: Protocol) -> str:
    books.invoice("A", D29, {"amount": "100"})
    (batch_id,) = books.plan(D29).batches
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    with books.store.transaction() as session:
        opened = [OpeningBalance("11000", "USD", Decimal(0))]
        load_opening(session, "US", "main", D28, opened, (), actor="t", now=books.store.now(), waiver="a test")
    return str(batch_id)


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
        assert "2026-000002 of 2026-03-30, 2026-000003 of 2026-03-30" in str(told.value)
    assert state() == ("posted", ["v1", "reversed", "reversed"])
    assert {entry.run_key for entry in prove(books.entity, D30, books.erp, books.store).foreign} == {
        f"{posted}/reversed"
    }
    assert books.plan(D30).batches == ()
    remove_last(books)
    assert reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    proof = prove(books.entity, D30, books.erp, books.store)
    assert (proof.ties, proof.foreign, books.balances()) == (True, (), {})


def test_a_second_mirror_that_comes_later_is_not_ours(books: Any, posted: str, instant: Protocol) -> None:
    reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    mirror = books.erp.journals()[-1]
    with closing(books.erp._connect()) as db:
        books.erp._store(db, mirror, None)
        db.commit()
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
    assert (slept, state()) == ([1.0], ("posted", ["v1"]))
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
    assert books.batch("billing/2026-03-29").state == "posted"
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
    with books.store.transaction() as session:
        periods.move(session, "US", "main", "2026-03", "open", actor="cfo", reason="again", now=books.store.now())
    assert reverse(batch_id, books.erp, books.store, on=D30, protocol=instant, **BY) == "reversed"
    assert (len(books.erp.journals()), books.balances()) == (4, {})


def test_a_mirror_is_not_dated_before_what_it_reverses(books: Any, posted: str, instant: Protocol, state: Any) -> None:
    with pytest.raises(LedgerError, match="not dated before"):
        reverse(posted, books.erp, books.store, on=D28, protocol=instant, **BY)
    assert state() == ("posted", ["v1"])


def test_a_mirror_that_the_erp_refuses_reverses_nothing(books: Any, posted: str, instant: Protocol, state: Any) -> None:
    books.erp.lies = ["reject"]
    with pytest.raises(Rejected):
        reverse(posted, books.erp, books.store, on=D30, protocol=instant, **BY)
    assert state() == ("posted", ["v1"])
