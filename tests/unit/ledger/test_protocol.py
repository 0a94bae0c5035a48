"""The posting protocol against an ERP that loses answers and lies."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tieout.erp import ErpJournal, JournalRef
from tieout.errors import (
    ErpError,
    ErpUnavailable,
    IllegalTransition,
    LeaseHeld,
    LedgerError,
    Rejected,
    UnknownOutcome,
)
from tieout.ids import Slot
from tieout.ledger import (
    Protocol,
    check_approval,
    due_batches,
    post_batch,
    read_back,
    recheck_mismatched,
    resolve,
    submit,
)
from tieout.ledger.post import as_erp_journal
from tieout.store import batches

D29, D30 = date(2026, 3, 29), date(2026, 3, 30)
SLOT = "billing/2026-03-29"


@pytest.fixture
def batch_id(books: Any) -> str:
    books.invoice("A", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)})
    (found,) = books.plan(D29).batches
    return str(found)


def acts(books: Any, batch_id: str) -> list[str]:
    return [e.action for e in books.store.audit_entries("US/main", batch_id)]


def test_a_batch_is_posted_once_and_every_step_is_audited(books: Any, batch_id: str, instant: Protocol) -> None:
    assert due_batches(books.store) == [batch_id]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 1
    assert due_batches(books.store) == []
    assert acts(books, batch_id) == [
        "batch.planned", "batch.validated", "batch.submitted", "journal.submitted", "journal.confirmed",
        "batch.confirmed", "journal.posted", "batch.posted",
    ]  # fmt: skip
    assert books.store.verify_audit("US/main") == []


def test_the_journal_carries_long_and_short_key(books: Any, batch_id: str, instant: Protocol) -> None:
    post_batch(batch_id, books.erp, books.store, protocol=instant)
    journal = books.erp.journals()[0]
    assert journal.run_key == "TIEOUT/US/main/2026-03/billing/2026-03-29/v1"
    assert len(journal.short_key) == 16


@pytest.mark.parametrize("lost", ["lose_request", "lose_answer"])
def test_after_a_lost_answer_the_erp_is_asked_before_anything_is_sent(
    books: Any, batch_id: str, lost: Any, instant: Protocol
) -> None:
    books.erp.lies = [lost]
    state = post_batch(batch_id, books.erp, books.store, protocol=instant)
    assert state == ("posted" if lost == "lose_answer" else "unknown")
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 1


def test_an_absent_journal_is_sent_again_only_when_a_request_would_have_ended(books: Any, batch_id: str) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:  # the request that seemed lost ends now
            books.erp.lies = []
            with books.store.reading() as session:
                books.erp.post(as_erp_journal(batches.get(session, batch_id).journals[0]))

    patient = Protocol(settle=timedelta(seconds=20), checks=(), sleep=sleep)
    books.erp.lies = ["lose_request"]
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "posted"
    assert len(books.erp.journals()) == 1
    assert len(slept) == 3


def test_the_wait_is_measured_from_when_the_outcome_became_unknown(books: Any, batch_id: str) -> None:
    clock = [datetime(2026, 3, 30, tzinfo=UTC)]
    books.store.now = lambda: clock[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += timedelta(seconds=seconds)

    def slow(journal: ErpJournal) -> JournalRef:
        clock[0] += timedelta(seconds=120)  # the read timeout
        raise UnknownOutcome("no answer", record=journal.run_key)

    patient = Protocol(settle=timedelta(seconds=60), checks=(), sleep=sleep)
    slept: list[float] = []
    post, books.erp.post = books.erp.post, slow
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
    books.erp.post = post
    clock[0] += timedelta(seconds=20)
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "posted"
    assert sum(slept) == 40


def test_after_a_process_died_the_whole_wait_is_kept(books: Any, batch_id: str) -> None:
    class Died(BaseException):
        pass

    def die(journal: ErpJournal) -> JournalRef:
        raise Died

    slept: list[float] = []
    patient = Protocol(settle=timedelta(seconds=60), checks=(), sleep=slept.append)
    post, books.erp.post = books.erp.post, die
    with pytest.raises(Died):
        post_batch(batch_id, books.erp, books.store, protocol=patient)
    books.erp.post = post
    later = books.store.now() + timedelta(minutes=5)
    books.store.now = lambda: later
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "posted"
    assert sum(slept) == 60


def test_a_refusal_of_a_journal_that_is_there_all_the_same_is_no_refusal(
    books: Any, batch_id: str, instant: Protocol
) -> None:
    post = books.erp.post

    def lie(journal: ErpJournal) -> JournalRef:
        post(journal)
        raise Rejected("HTTP 403", record=journal.run_key)

    books.erp.post = lie
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 1


@pytest.mark.parametrize("error", [ErpUnavailable("down"), Rejected("HTTP 403")], ids=["down", "refused"])
def test_a_refusal_that_cannot_be_looked_up_is_unknown(
    books: Any, batch_id: str, instant: Protocol, error: ErpError
) -> None:
    find, post = books.erp.find_by_run_key, books.erp.post

    def fail(*args: Any, **options: Any) -> list[JournalRef]:
        raise error

    def lie(journal: ErpJournal) -> JournalRef:
        post(journal)
        books.erp.find_by_run_key = fail
        raise Rejected("HTTP 403", record=journal.run_key)

    books.erp.post = lie
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "unknown"
    assert "HTTP 403" in (books.batch(SLOT).reason or "")
    books.erp.find_by_run_key, books.erp.post = find, post
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 1


def test_a_draft_beside_the_posted_journal_is_no_second_journal(books: Any, batch_id: str, instant: Protocol) -> None:
    with books.store.reading() as session:
        journal = as_erp_journal(batches.get(session, batch_id).journals[0])
    books.erp.lies = ["leave_draft"]
    draft = books.erp.post(journal)
    with closing(sqlite3.connect(books.erp.path)) as db:
        db.execute("UPDATE move SET run_key = 'aside' WHERE id = ?", (draft.erp_id,))
        db.commit()
    assert submit(batch_id, books.erp, books.store, protocol=instant) == "confirmed"
    with closing(sqlite3.connect(books.erp.path)) as db:
        db.execute("UPDATE move SET run_key = ? WHERE id = ?", (journal.run_key, draft.erp_id))
        db.commit()
    assert [r.state for r in books.erp.find_by_run_key(journal.run_key)] == ["draft", "posted"]
    assert read_back(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert books.batch(SLOT).journals[0].erp_id != draft.erp_id


def test_while_the_erp_is_down_the_batch_waits(books: Any, batch_id: str, instant: Protocol) -> None:
    books.erp.lies = ["down"]
    with pytest.raises(ErpUnavailable):
        submit(batch_id, books.erp, books.store, protocol=instant)
    assert due_batches(books.store) == [batch_id]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"


def test_a_refusal_names_its_reason_and_an_owner(books: Any, batch_id: str, instant: Protocol) -> None:
    books.erp.lies = ["reject"]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "rejected"
    batch = books.batch(SLOT)
    assert "says no" in (batch.reason or "")
    assert (batch.owner, batch.counts) == ("general ledger", False)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("store_nothing", "no journal of this run key"),
        ("store_twice", "2 times"),
        ("other_amount", "line 1: 11000 debit 111"),
        ("other_account", "99999"),
        ("other_date", "date: 2026-04-29 instead of 2026-03-29"),
        ("drop_line", "2 lines instead of 3"),
        ("drop_dimension", "instead of 21000 credit 100.00 {'product_family': 'seats'}"),
        ("leave_draft", "state: draft"),
    ],
)
def test_reading_back_catches_a_lying_erp_and_halts_the_stream(
    books: Any, lie: Any, words: str, instant: Protocol
) -> None:
    books.invoice("A", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)})
    books.invoice("B", D30, {"amount": "1"})
    books.pay("ch", D29, "1")
    first, cash, second = books.plan(D30, dimensions=("product_family",)).batches
    books.erp.lies = [lie]
    assert post_batch(first, books.erp, books.store, protocol=instant) == "mismatched"
    assert words in (books.batch(SLOT).reason or "")
    assert due_batches(books.store) == [cash]  # the other stream goes on
    with pytest.raises(LedgerError, match="halted"):
        submit(second, books.erp, books.store, protocol=instant)


def test_a_mismatch_that_somebody_corrected_is_read_back_again(books: Any, batch_id: str, instant: Protocol) -> None:
    books.erp.lies = ["other_amount"]
    post_batch(batch_id, books.erp, books.store, protocol=instant)
    assert recheck_mismatched(batch_id, books.erp, books.store, actor="controller") == "mismatched"
    with sqlite3.connect(books.erp.path) as db:
        db.execute("UPDATE line SET debit = '110' WHERE line_no = 1")
    assert recheck_mismatched(batch_id, books.erp, books.store, actor="controller") == "posted"


def test_steps_out_of_turn_change_nothing(books: Any, batch_id: str, instant: Protocol) -> None:
    assert read_back(batch_id, books.erp, books.store, protocol=instant) == "validated"
    assert submit(batch_id, books.erp, books.store, protocol=instant) == "confirmed"
    assert submit(batch_id, books.erp, books.store, protocol=instant) == "confirmed"
    assert read_back(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert read_back(batch_id, books.erp, books.store, protocol=instant) == "posted"


def test_version_ten_is_not_taken_for_version_one(books: Any, batch_id: str, instant: Protocol) -> None:
    with books.store.reading() as session:
        journal = as_erp_journal(batches.get(session, batch_id).journals[0])
    books.erp.post(replace(journal, run_key=journal.run_key + "0"))
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 2


def test_versions_of_a_slot_are_posted_in_order(books: Any, batch_id: str, instant: Protocol) -> None:
    books.invoice("B", D29, {"amount": "5"})
    (second,) = books.plan(D29).batches
    assert due_batches(books.store) == [batch_id]
    with pytest.raises(LedgerError, match="earlier version"):
        submit(second, books.erp, books.store, protocol=instant)


def test_only_one_process_writes_to_a_ledger(books: Any, batch_id: str, instant: Protocol) -> None:
    with books.store.lease("US/main", "somebody else"):
        assert due_batches(books.store) == []
        with pytest.raises(LeaseHeld):
            submit(batch_id, books.erp, books.store, protocol=instant)


def test_a_refused_part_is_sent_again_and_the_rest_is_not(books: Any, instant: Protocol) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D29, {"amount": "30", "start": D29, "end": date(2026, 4, 30)})
    (batch_id,) = books.plan(D29, line_limit=2).batches
    books.erp.lies = ["lose_answer", "reject"]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "partially_posted"
    assert due_batches(books.store) == [batch_id]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 2


class TestApproval:
    @pytest.fixture
    def waiting(self, make_books: Any) -> tuple[Any, str]:
        books = make_books(approval_threshold="100")
        books.invoice("A", D29, {"amount": "100"})
        (found,) = books.plan(D29).batches
        return books, found

    def decide(self, books: Any, batch_id: str, **changes: Any) -> None:
        options = {"approver": "bea", "preparers": ["al"], "accept": True, "comment": "seen"} | changes
        with books.store.transaction() as session:
            digest = options.pop("digest", None) or batches.get(session, batch_id).content_hash
            batches.approve(session, batch_id, digest, now=books.store.now(), **options)

    def test_a_batch_over_the_threshold_is_posted_only_once_approved(self, waiting: Any, instant: Protocol) -> None:
        books, batch_id = waiting
        assert due_batches(books.store) == []
        with pytest.raises(LedgerError, match="approval"):
            post_batch(batch_id, books.erp, books.store, protocol=instant)
        self.decide(books, batch_id)
        assert check_approval(batch_id, books.store) == "approved"
        assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"

    def test_a_preparer_may_not_approve(self, waiting: Any) -> None:
        books, batch_id = waiting
        with pytest.raises(LedgerError, match="preparer"):
            self.decide(books, batch_id, approver="al")

    def test_a_decision_binds_the_content(self, waiting: Any) -> None:
        books, batch_id = waiting
        with pytest.raises(LedgerError, match="other content"):
            self.decide(books, batch_id, digest="0" * 64)

    def test_a_rejected_batch_is_final_and_its_content_is_planned_again(self, waiting: Any) -> None:
        books, batch_id = waiting
        self.decide(books, batch_id, accept=False, comment="wrong account")
        assert books.batch(SLOT).state == "rejected_by_approver"
        assert books.plan(D29).batches == (batch_id.replace("v1", "v2"),)


def test_a_manual_resolution_needs_two_people_and_stays_planned(books: Any, batch_id: str, instant: Protocol) -> None:
    books.erp.lies = ["reject"]
    post_batch(batch_id, books.erp, books.store, protocol=instant)
    with pytest.raises(LedgerError, match="two people"):
        resolve(batch_id, books.store, actor="al", second="al", reason="no", in_ledger=False)
    resolve(batch_id, books.store, actor="al", second="bea", reason="written by hand", in_ledger=True)
    assert books.plan(D30).batches == ()


@pytest.mark.parametrize("state", batches.STATES)
def test_every_transition_outside_the_table_is_refused(books: Any, state: str) -> None:
    slot = Slot("US", "main", "2026-03", "billing", D29)
    now = datetime(2026, 3, 30, tzinfo=UTC)
    with books.store.transaction() as session:
        batch = batches.plan(
            session, slot, 1, [], digest="a" * 64, accounting_date=D29, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="t", now=now,
        )  # fmt: skip
        row = session.get(batches.BatchRow, batch.batch_id)
        row.state = state
    for to in set(batches.STATES) - batches.TRANSITIONS[state]:
        with pytest.raises(IllegalTransition), books.store.transaction() as session:
            batches.transition(session, batch.batch_id, to, actor="t", now=now)
    assert books.batch(SLOT).state == state
