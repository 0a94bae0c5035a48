"""The posting protocol against an ERP that loses answers and lies."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from tieout.calendar import period_of
from tieout.close.backlog import backlog
from tieout.erp import ErpJournal, JournalRef
from tieout.errors import (
    ErpError,
    ErpUnavailable,
    IllegalTransition,
    LeaseHeld,
    LeaseLost,
    LedgerError,
    Rejected,
    UnknownOutcome,
)
from tieout.ids import Slot, content_hash
from tieout.ledger import (
    Protocol,
    ask_again,
    check_approval,
    due_batches,
    post_batch,
    prove,
    read_back,
    recheck_mismatched,
    resolve,
    reverse,
    submit,
)
from tieout.ledger.halts import DEFINITION
from tieout.ledger.post import as_erp_journal
from tieout.store import approvals, batches, links
from tieout.store.batches import BatchJournalRow, BatchRow
from tieout.store.breaks import select_breaks
from tieout.store.golive import OpeningBalance, load_opening
from tieout.store.leases import LeaseRow

D28, D29, D30 = (date(2026, 3, day) for day in (28, 29, 30))
SLOT = "billing/2026-03-29"


def planned(books: Any) -> str:
    books.invoice("A", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)})
    (found,) = books.plan(D29).batches
    return str(found)


@pytest.fixture
def batch_id(begin: Any) -> str:
    return str(begin(planned))


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


@pytest.mark.parametrize("column", ["content", "accounting_date", "both hashes"])
def test_what_was_changed_in_the_store_after_planning_is_not_sent(
    books: Any, batch_id: str, instant: Protocol, column: str
) -> None:
    with books.store.transaction() as session:
        row = session.scalars(select(BatchJournalRow)).one()
        if column == "accounting_date":
            row.accounting_date = D30
        else:
            row.content = row.content | {"lines": [line | {"amount": "999.00"} for line in row.content["lines"]]}
        if column == "both hashes":
            row.content_hash = content_hash(row.content)
    with pytest.raises(LedgerError, match="not what was planned"):
        post_batch(batch_id, books.erp, books.store, protocol=instant)
    assert books.erp.journals() == []


def test_the_journal_carries_long_and_short_key(books: Any, batch_id: str, instant: Protocol) -> None:
    post_batch(batch_id, books.erp, books.store, protocol=instant)
    journal = books.erp.journals()[0]
    assert journal.run_key == "TIEOUT/US/main/2026-03/billing/2026-03-29/v1"
    assert len(journal.short_key) == 16


def test_its_memo_anchors_the_audit_chain_and_every_attempt_sends_the_same(
    books: Any, batch_id: str, instant: Protocol
) -> None:
    sent: list[ErpJournal] = []
    post = books.erp.post
    books.erp.post = lambda journal, **options: (sent.append(journal), post(journal, **options))[1]
    books.erp.lies = ["lose_request", "down"]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "unknown"
    with pytest.raises(ErpUnavailable):
        post_batch(batch_id, books.erp, books.store, protocol=instant)
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    written = next(e for e in books.store.audit_entries(subject=batch_id) if e.action == "journal.submitted")
    assert [journal.anchor for journal in sent] == [f"audit {written.sequence}:{written.hash[:16]}"] * 3
    (held,) = books.erp.journals()
    assert held.narrative == f"billing 2026-03-29 v1 · {sent[0].anchor}"


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

    def slow(journal: ErpJournal, **options: Any) -> JournalRef:
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

    def die(journal: ErpJournal, **options: Any) -> JournalRef:
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

    def lie(journal: ErpJournal, **options: Any) -> JournalRef:
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

    def lie(journal: ErpJournal, **options: Any) -> JournalRef:
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
    assert sorted(j.state for j in books.batch(SLOT).journals) == ["posted", "rejected"]  # what was taken is read back
    assert due_batches(books.store) == [batch_id]
    assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 2


def test_the_lease_is_whole_at_every_write_however_long_the_look_up_took(
    books: Any, batch_id: str, instant: Protocol
) -> None:
    clock = [datetime(2026, 3, 30, tzinfo=UTC)]
    books.store.now = lambda: clock[0]
    left: list[timedelta] = []

    def on_step(step: str) -> None:
        if step == "find":
            clock[0] += instant.ttl - timedelta(seconds=5)  # an ERP that answers, but hardly
        if step in ("post", "stored"):
            with books.store.reading() as session:
                left.append(session.get(LeaseRow, "US/main").expires_at - clock[0])

    books.erp.on_step = on_step
    assert submit(batch_id, books.erp, books.store, protocol=instant) == "confirmed"
    assert left == [instant.ttl, instant.ttl]


def test_a_writer_whose_ledger_was_taken_over_writes_nothing(books: Any, batch_id: str, instant: Protocol) -> None:
    clock = [datetime(2026, 3, 30, tzinfo=UTC)]
    books.store.now = lambda: clock[0]

    def on_step(step: str) -> None:
        if step == "post":  # the adapter is about to write, and was stopped for an hour
            clock[0] += timedelta(hours=1)
            books.store.acquire("US/main", "another writer")

    books.erp.on_step = on_step
    with pytest.raises(LeaseLost):
        submit(batch_id, books.erp, books.store, protocol=instant)
    assert books.erp.journals() == []


def test_a_journal_the_erp_shows_late_is_no_mismatch(books: Any, batch_id: str, instant: Protocol) -> None:
    slept: list[float] = []
    find = books.erp.find_by_run_key
    patient = replace(instant, lags=(1.0, 2.0, 4.0), sleep=slept.append)
    submit(batch_id, books.erp, books.store, protocol=patient)
    books.erp.find_by_run_key = lambda *args, **options: find(*args, **options) if len(slept) > 1 else []
    assert read_back(batch_id, books.erp, books.store, protocol=patient) == "posted"
    assert slept == [1.0, 2.0]


def test_a_journal_the_erp_never_shows_is_a_mismatch_after_a_bounded_wait(
    books: Any, batch_id: str, instant: Protocol
) -> None:
    slept: list[float] = []
    books.erp.lies = ["store_nothing"]
    patient = replace(instant, lags=(1.0, 2.0, 4.0), sleep=slept.append)
    assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "mismatched"
    assert slept == [1.0, 2.0, 4.0]


def planned_in_two(books: Any) -> str:
    books.invoice("A", D29, {"amount": "100"})
    books.invoice("B", D29, {"amount": "30", "start": D29, "end": date(2026, 4, 30)})
    (found,) = books.plan(D29, line_limit=2).batches
    return str(found)


@pytest.fixture
def half_wrong(books: Any, begin: Any, instant: Protocol) -> str:
    """A batch of two journals: one the ERP holds with another amount, one it refused."""
    found = str(begin(planned_in_two))
    books.erp.lies = ["other_amount", "reject"]
    assert post_batch(found, books.erp, books.store, protocol=instant) == "mismatched"
    return found


def test_a_mismatch_beside_a_refused_journal_ends_once_corrected(
    books: Any, half_wrong: str, instant: Protocol
) -> None:
    (wrong,) = [j for j in books.batch(SLOT).journals if j.state == "mismatched"]
    with sqlite3.connect(books.erp.path) as db:
        db.execute("UPDATE line SET debit = ? WHERE debit <> '0'", (str(wrong.debit),))
    assert recheck_mismatched(half_wrong, books.erp, books.store, actor="controller") == "partially_posted"
    assert due_batches(books.store) == [half_wrong]
    assert post_batch(half_wrong, books.erp, books.store, protocol=instant) == "posted"
    assert len(books.erp.journals()) == 2


def test_a_mismatch_that_is_reversed_is_planned_again(books: Any, half_wrong: str, instant: Protocol) -> None:
    by = {"actor": "al", "second": "bea", "reason": "the amount is wrong"}
    for _ in range(2):
        assert reverse(half_wrong, books.erp, books.store, on=D30, **by) == "reversed"
    assert books.balances() == {}
    (begun,) = (e for e in books.store.audit_entries(subject=half_wrong) if e.action == "batch.reversing")
    assert books.erp.journals()[-1].narrative.endswith(f" · audit {begun.sequence}:{begun.hash[:16]}")
    with books.store.reading() as session:
        (mirror,) = links.links_of(session, half_wrong)
    assert (mirror[0].rpartition("/")[2], mirror[1:]) == ("reversed", (links.REVERSES, half_wrong))
    with books.store.transaction() as session:
        opened = [OpeningBalance("11000", "USD", Decimal(0))]
        load_opening(session, "US", "main", D28, opened, (), actor="t", now=books.store.now(), waiver="a test")
    assert prove(books.entity, D29, books.erp, books.store).foreign == ()  # the day before it was reversed
    assert prove(books.entity, D30, books.erp, books.store).ties
    assert books.post(books.plan(D29)) == ["posted"]
    assert books.balances() == {"11000": Decimal("130"), "40100": Decimal("-100"), "21000": Decimal("-30")}
    assert books.store.verify_audit("US/main") == []


def test_a_mirror_that_the_erp_does_not_show_yet_is_asked_for_again(
    books: Any, half_wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    read_back = books.erp.read_back

    def late(ref: Any) -> Any:
        if "/reversed" in ref.run_key and len(slept) < 2:
            raise Rejected("no such journal", record=ref.erp_id)
        return read_back(ref)

    monkeypatch.setattr(books.erp, "read_back", late)
    by = {"on": D30, "actor": "al", "second": "bea", "reason": "the amount is wrong"}
    lagging = Protocol(lags=(1.0, 2.0), sleep=slept.append)
    assert reverse(half_wrong, books.erp, books.store, protocol=lagging, **by) == "reversed"
    assert (slept, books.balances()) == ([1.0, 2.0], {})


def test_a_reversal_needs_two_people_and_something_in_the_ledger(books: Any, batch_id: str, instant: Protocol) -> None:
    with pytest.raises(IllegalTransition, match="second person"):
        reverse(batch_id, books.erp, books.store, on=D30, actor="al", second="al", reason="no")
    with pytest.raises(LedgerError, match="nothing to reverse"):
        reverse(batch_id, books.erp, books.store, on=D30, actor="al", second="bea", reason="no")


class TestApproval:
    @pytest.fixture
    def waiting(self, make_books: Any) -> tuple[Any, str]:
        books = make_books(approval={"thresholds": {"*": "100"}})
        books.invoice("A", D29, {"amount": "100"})
        (found,) = books.plan(D29).batches
        return books, found

    def decide(self, books: Any, batch_id: str, **changes: Any) -> None:
        options = {"approver": "bea", "also_prepared": ["al"], "accept": True, "comment": "seen"} | changes
        with books.store.transaction() as session:
            digest = options.pop("digest", None) or batches.get(session, batch_id).content_hash
            approvals.decide(session, batch_id, digest, now=books.store.now(), **options)

    def test_a_batch_over_the_threshold_is_posted_only_once_approved(self, waiting: Any, instant: Protocol) -> None:
        books, batch_id = waiting
        assert due_batches(books.store) == []
        with pytest.raises(LedgerError, match="approval"):
            post_batch(batch_id, books.erp, books.store, protocol=instant)
        self.decide(books, batch_id)
        assert check_approval(batch_id, books.store) == "approved"
        assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "posted"

    def test_a_batch_that_was_moved_past_its_approval_in_the_store_is_not_sent(self, waiting: Any) -> None:
        books, batch_id = waiting
        with books.store.transaction() as session:
            row = session.get(BatchRow, batch_id)
            row.state, row.needs_approval = "validated", False
        with pytest.raises(LedgerError, match="not what was audited"):
            post_batch(batch_id, books.erp, books.store)
        assert books.erp.journals() == []

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


class TestResolution:
    @pytest.fixture
    def refused(self, books: Any, batch_id: str, instant: Protocol) -> str:
        books.erp.lies = ["reject"]
        assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "rejected"
        return batch_id

    def by_hand(self, books: Any, amount: str = "110") -> str:
        books.erp.by_hand(
            "US", D29, "USD", "written by hand", ("11000", amount, "0"), ("21000", "0", "100"), ("22000", "0", "10")
        )
        with closing(sqlite3.connect(books.erp.path)) as db:
            return str(db.execute("SELECT max(id) FROM move").fetchone()[0])

    def test_not_to_be_posted_takes_two_people_and_is_not_planned_again(self, books: Any, refused: str) -> None:
        with pytest.raises(IllegalTransition, match="second person"):
            resolve(refused, books.erp, books.store, lake=books.lake, actor="al", second="al", reason="no")
        state = resolve(
            refused, books.erp, books.store, lake=books.lake, actor="al", second="bea", reason="the customer is gone"
        )
        assert state == "manually_resolved"
        assert books.plan(D30).batches == ()

    def test_what_is_not_to_be_posted_does_not_count_and_is_decided_again_when_it_changes(
        self, books: Any, instant: Protocol
    ) -> None:
        books.invoice("A", D29, {"amount": "100"})
        books.post(books.plan(D30))
        books.invoice("A", D29, {"amount": "110"})
        (refused,) = books.plan(D30).batches
        books.erp.lies = ["reject"]
        assert post_batch(refused, books.erp, books.store, protocol=instant) == "rejected"
        resolve(refused, books.erp, books.store, lake=books.lake, actor="al", second="bea", reason="a typo in billing")
        batch = books.batch(SLOT, 2)
        assert (batch.counts, [journal.state for journal in batch.journals]) == (False, ["not_posted"])
        plan = books.plan(D30)
        assert (plan.batches, len(plan.held)) == ((), 1)
        books.invoice("A", D29, {"amount": "120"})  # other entries than those that were decided about
        assert books.plan(D30).batches == ()
        books.invoice("A", D29, {"amount": "100"})  # back to what stands in the ledger
        assert books.plan(D30).batches == ()
        assert books.balances() == {"11000": Decimal(100), "40100": Decimal(-100)}
        assert books.store.verify_audit("US/main") == []

    def test_an_equal_document_in_the_erp_is_read_back(self, books: Any, refused: str) -> None:
        documents = {f"{refused}": self.by_hand(books)}
        resolve(
            refused, books.erp, books.store, lake=books.lake, actor="al", reason="written by hand", documents=documents
        )
        (journal,) = books.batch(SLOT).journals
        assert (journal.state, journal.erp_id) == ("by_hand", documents[refused])
        assert books.plan(D30).batches == ()
        with books.store.transaction() as session:
            opened = [OpeningBalance("11000", "USD", Decimal(0))]
            load_opening(session, "US", "main", D28, opened, (), actor="t", now=books.store.now(), waiver="a test")
        proof = prove(books.entity, D29, books.erp, books.store)
        assert (proof.foreign, proof.ties, proof.journals_posted, proof.journals_open) == ((), True, 1, 0)
        assert books.store.verify_audit("US/main") == []

    @pytest.mark.parametrize("lie", ["", "other_amount"])
    def test_what_the_erp_took_of_the_batch_is_read_back_before_it_is_resolved(
        self, books: Any, begin: Any, instant: Protocol, lie: str
    ) -> None:
        found = str(begin(planned_in_two))
        books.erp.lies = [lie, "reject"]
        assert submit(found, books.erp, books.store, protocol=instant) == "partially_posted"
        (taken,) = [j for j in books.batch(SLOT).journals if j.state == "confirmed"]
        (refused,) = [j for j in books.batch(SLOT).journals if j.state == "rejected"]
        lines = [
            (line["account"], *((line["amount"], "0") if line["side"] == "debit" else ("0", line["amount"])))
            for line in refused.content["lines"]
        ]
        books.erp.by_hand("US", D29, "USD", "written by hand", *lines)
        with closing(sqlite3.connect(books.erp.path)) as db:
            documents = {refused.run_key: str(db.execute("SELECT max(id) FROM move").fetchone()[0])}
        by: dict[str, Any] = {"lake": books.lake, "actor": "al", "reason": "by hand", "documents": documents}
        if lie:
            with pytest.raises(LedgerError, match="not equal"):
                resolve(found, books.erp, books.store, **by)
            assert {j.state for j in books.batch(SLOT).journals} == {"confirmed", "rejected"}
            return
        assert resolve(found, books.erp, books.store, **by) == "manually_resolved"
        states = {j.run_key: j.state for j in books.batch(SLOT).journals}
        assert states == {taken.run_key: "posted", refused.run_key: "by_hand"}

    def test_another_document_is_refused(self, books: Any, refused: str) -> None:
        documents = {f"{refused}": self.by_hand(books, "111")}
        with pytest.raises(LedgerError, match="not equal"):
            resolve(
                refused,
                books.erp,
                books.store,
                lake=books.lake,
                actor="al",
                reason="written by hand",
                documents=documents,
            )
        assert books.batch(SLOT).state == "rejected"

    def test_a_document_stands_for_one_journal_only(self, books: Any, batch_id: str, instant: Protocol) -> None:
        """Else what was refused would vanish behind a journal that is in the ledger for something else."""
        post_batch(batch_id, books.erp, books.store, protocol=instant)
        taken = str(books.batch(SLOT).journals[0].erp_id)
        books.invoice("Z", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)})
        (refused,) = books.plan(D29).batches
        books.erp.lies = ["reject"]
        assert post_batch(refused, books.erp, books.store, protocol=instant) == "rejected"

        def resolving(**documents: str) -> str:
            return resolve(
                refused, books.erp, books.store, lake=books.lake, actor="al", reason="by hand", documents=documents
            )

        with pytest.raises(LedgerError, match="stands for another journal"):
            resolving(**{refused: taken})
        with pytest.raises(LedgerError, match="no journal of the batch"):
            resolving(**{batch_id: taken})
        with books.store.transaction() as session:
            session.get(batches.BatchJournalRow, batch_id).erp_id = "9999"
        with pytest.raises(LedgerError, match="another journal of ours"):
            resolving(**{refused: taken})

    def test_a_lost_batch_is_resolved_only_once_its_request_would_have_ended(self, books: Any, batch_id: str) -> None:
        post, sent = books.erp.post, []

        def lose(journal: Any, **_: Any) -> Any:
            sent.append(journal)
            raise UnknownOutcome("the request timed out", record=journal.run_key)

        def sleep(seconds: float) -> None:  # the request arrives while somebody waits for it
            if len(sent) == 1:
                sent.append(post(sent[0]))

        books.erp.post = lose
        patient = Protocol(settle=timedelta(minutes=1), checks=(), lags=(0.0,), sleep=sleep)
        assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
        by = {"actor": "al", "second": "bea", "reason": "it is lost", "protocol": patient}
        for documents in (None, {batch_id: self.by_hand(books)}):
            with pytest.raises(LedgerError, match="stands in the ERP"):
                resolve(batch_id, books.erp, books.store, lake=books.lake, documents=documents, **by)
        assert books.batch(SLOT).state == "unknown"
        own = {batch_id: books.erp.find_by_run_key(batch_id)[0].erp_id}
        assert resolve(batch_id, books.erp, books.store, lake=books.lake, documents=own, **by) == "manually_resolved"

    def test_a_batch_that_cannot_be_resolved_keeps_its_breaks(
        self, books: Any, batch_id: str, instant: Protocol
    ) -> None:
        books.erp.lies = ["store_nothing"]
        assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "mismatched"
        documents = {batch_id: self.by_hand(books)}
        with pytest.raises(IllegalTransition):
            resolve(
                batch_id, books.erp, books.store, lake=books.lake, actor="al", reason="by hand", documents=documents
            )
        with books.store.reading() as session:
            (row,) = select_breaks(session, DEFINITION)
        assert row.state == "open"
        assert books.batch(SLOT).journals[0].erp_id != documents[batch_id]

    def test_what_a_later_version_carries_cannot_be_resolved_too(self, books: Any, refused: str) -> None:
        books.post(books.plan(D29))
        with pytest.raises(LedgerError, match="carried by"):
            resolve(
                refused,
                books.erp,
                books.store,
                lake=books.lake,
                actor="al",
                second="bea",
                reason="the customer is gone",
            )
        assert books.plan(D29).batches == ()
        assert books.balances()["11000"] == Decimal("110")

    def test_a_version_planned_before_an_earlier_one_was_resolved_cannot_be_resolved_too(
        self, books: Any, refused: str
    ) -> None:
        books.erp.lies = ["reject"]
        (second,) = (plan := books.plan(D29)).batches
        assert books.post(plan) == ["rejected"]
        resolve(
            refused, books.erp, books.store, lake=books.lake, actor="al", second="bea", reason="the customer is gone"
        )
        with pytest.raises(LedgerError, match="carried by"):
            resolve(
                second, books.erp, books.store, lake=books.lake, actor="al", second="bea", reason="the customer is gone"
            )

    def test_what_stands_in_the_ledger_cannot_be_called_not_to_be_posted(
        self, books: Any, batch_id: str, instant: Protocol
    ) -> None:
        books.erp.lies = ["lose_answer"]
        find, books.erp.find_by_run_key = books.erp.find_by_run_key, lambda *args, **options: []
        assert post_batch(batch_id, books.erp, books.store, protocol=instant) == "unknown"
        books.erp.find_by_run_key = find
        with pytest.raises(LedgerError, match="stands in the ERP"):
            resolve(batch_id, books.erp, books.store, lake=books.lake, actor="al", second="bea", reason="lost")


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


class TestStatusChecks:
    """What becomes of a batch whose outcome stays unknown."""

    SCHEDULE = tuple(timedelta(minutes=m) for m in (1, 5, 15))

    @pytest.fixture
    def clock(self, books: Any) -> list[datetime]:
        at = [datetime(2026, 3, 30, tzinfo=UTC)]
        books.store.now = lambda: at[0]
        return at

    @pytest.fixture
    def patient(self, instant: Protocol) -> Protocol:
        return replace(instant, status_checks=self.SCHEDULE)

    def test_it_is_asked_for_on_the_schedule_and_not_between(
        self, books: Any, batch_id: str, clock: list[datetime], patient: Protocol
    ) -> None:
        books.erp.lies = ["lose_request"] * 9
        asked: list[str] = []
        assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
        books.erp.on_step = asked.append
        for pause in self.SCHEDULE[:2]:
            assert due_batches(books.store, protocol=patient) == []
            assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
            assert asked == []
            clock[0] += pause
            assert due_batches(books.store, protocol=patient) == [batch_id]
            assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
            assert asked
            asked.clear()
        books.erp.lies = []
        clock[0] += self.SCHEDULE[2]
        assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "posted"
        assert len(books.erp.journals()) == 1

    @pytest.mark.parametrize("silent", [True, False], ids=["the ERP is down", "its answers are lost"])
    def test_after_the_last_check_it_goes_to_a_person(
        self, books: Any, batch_id: str, clock: list[datetime], patient: Protocol, silent: bool, caplog: Any
    ) -> None:
        self.spend(books, batch_id, clock, patient, silent)
        batch = books.batch(SLOT)
        assert (batch.state, batch.owner) == ("unknown", "general ledger")
        assert "after 3 status checks" in (batch.reason or "")
        assert any("stayed unknown" in record.message for record in caplog.records if record.levelname == "ERROR")
        clock[0] += timedelta(days=30)
        assert due_batches(books.store, protocol=patient) == []
        with pytest.raises(LedgerError, match="stayed unknown"):
            post_batch(batch_id, books.erp, books.store, protocol=patient)
        assert acts(books, batch_id).count("batch.status_check") == 3
        assert acts(books, batch_id)[-1] == "batch.handed_over"

    def test_a_person_asks_again_or_ends_it(
        self, books: Any, batch_id: str, clock: list[datetime], patient: Protocol
    ) -> None:
        self.spend(books, batch_id, clock, patient, silent=False)
        books.erp.lies = []
        assert ask_again(batch_id, books.erp, books.store, protocol=patient, actor="al") == "posted"
        assert len(books.erp.journals()) == 1
        assert "batch.status_checks_restarted" in acts(books, batch_id)
        with pytest.raises(LedgerError, match="only an unknown batch"):
            ask_again(batch_id, books.erp, books.store, protocol=patient, actor="al")

    def test_what_a_dead_process_sent_is_unknown_once_the_erp_cannot_be_asked(
        self, books: Any, batch_id: str, clock: list[datetime], patient: Protocol
    ) -> None:
        post = books.erp.post

        def die(journal: ErpJournal, **options: Any) -> JournalRef:
            raise KeyboardInterrupt

        books.erp.post = die
        with pytest.raises(KeyboardInterrupt):
            post_batch(batch_id, books.erp, books.store, protocol=patient)
        books.erp.post = post
        books.erp.on_step = down
        with pytest.raises(ErpUnavailable):
            post_batch(batch_id, books.erp, books.store, protocol=patient)
        assert books.batch(SLOT).state == "unknown"

    def spend(self, books: Any, batch_id: str, clock: list[datetime], patient: Protocol, silent: bool) -> None:
        books.erp.lies = ["lose_request"] * 9
        assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
        if silent:
            books.erp.on_step = down
        for number, pause in enumerate(self.SCHEDULE, 1):
            clock[0] += pause
            if number == len(self.SCHEDULE):
                with pytest.raises(LedgerError, match="stayed unknown"):
                    post_batch(batch_id, books.erp, books.store, protocol=patient)
            elif silent:
                with pytest.raises(ErpUnavailable):
                    post_batch(batch_id, books.erp, books.store, protocol=patient)
            else:
                assert post_batch(batch_id, books.erp, books.store, protocol=patient) == "unknown"
        books.erp.on_step = lambda step: None


def down(step: str) -> None:
    raise ErpUnavailable("the ERP does not answer")


def test_a_mismatch_is_a_break_and_stands_in_the_close_backlog_until_it_is_corrected(
    books: Any, batch_id: str, instant: Protocol
) -> None:
    books.erp.lies = ["other_amount"]
    post_batch(batch_id, books.erp, books.store, protocol=instant)
    period = period_of(books.entity, D29)

    def items() -> dict[str, dict[str, Any]]:
        table = backlog(books.entity, period, today=D30, lake=books.lake, store=books.store, snapshot={})
        return {row["kind"]: row for row in table.to_pylist()}

    found = items()
    assert found["journal"]["state"] == "mismatched"
    assert (found["break"]["state"], found["break"]["owner"]) == ("open", "general ledger")
    assert found["break"]["amount"] == 1
    assert f"The ERP does not hold journal {batch_id} as it was sent" in found["break"]["what"]
    with sqlite3.connect(books.erp.path) as db:
        db.execute("UPDATE line SET debit = '110' WHERE line_no = 1")
    assert recheck_mismatched(batch_id, books.erp, books.store, actor="controller") == "posted"
    assert {"journal", "break"} & set(items()) == set()
    assert books.store.verify_audit("breaks/journal_read_back") == []
