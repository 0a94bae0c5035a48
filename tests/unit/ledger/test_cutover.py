"""Two ERPs at once: postings go to the ledger in force, history is replayed under its keys, both are compared."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.ledger.conftest import RULES, entity

from tieout.erp.charts import ChartRow, Charts
from tieout.errors import ErpUnavailable, LedgerError
from tieout.ids import content_hash
from tieout.ledger import Protocol, compare_ledgers, golive, prove, replay, reverse
from tieout.ledger.post import post_batch
from tieout.store import periods
from tieout.store.batches import BatchJournalRow
from tieout.store.copies import CopyRow
from tieout.store.leases import LeaseRow
from tieout_sandbox.file_ledger import FileLedger

GO_LIVE, CUT, APRIL, MAY = date(2026, 3, 29), date(2026, 4, 1), date(2026, 4, 2), date(2026, 5, 2)
RECEIVABLE, SEATS, USAGE = "11000", "40100", "40300"
CHARTS = Charts(
    (
        ChartRow("*", "next", RECEIVABLE, "1200"),
        ChartRow("*", "next", SEATS, "4000"),
        ChartRow("US", "next", USAGE, "4000"),  # the new chart has one revenue account for both
    )
)
TWO = [{"ledger": "main", "from": GO_LIVE, "parallel_until": date(2026, 4, 30)},
       {"ledger": "next", "from": CUT, "history_from": GO_LIVE}]  # fmt: skip


@pytest.fixture
def two(make_books: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Books of an entity that changes its ERP on the first of April; `next` is the new ERP's file."""
    books = make_books(ledgers=TWO)
    books.next = FileLedger(tmp_path / "next.sqlite")
    for ledger, accounts in (
        (books.erp, (RECEIVABLE, SEATS, USAGE)),
        (books.next, ("1200", "4000")),
    ):
        day = GO_LIVE - timedelta(days=1)
        zero = [(account, "0", "0") for account in accounts]
        ledger.by_hand("US", day, "USD", "chart", *zero)
    return books


def take_over(books: Any) -> None:
    for name in ("main", "next"):
        golive.load(
            books.entity.of_ledger(name), books.erp if name == "main" else books.next, lake=books.lake,
            store=books.store, rules=RULES, snapshot=books.snapshot(), chart=CHARTS.of("US", name),
        )  # fmt: skip


def post(books: Any, day: date, **options: Any) -> tuple[str, ...]:
    """Plan a day and post each batch into its own ledger."""
    plan = books.plan(day, charts=CHARTS, **options)
    for batch in plan.batches:
        ledger = books.next if batch.split("/")[2] == "next" else books.erp
        quick = Protocol(settle=timedelta(0), checks=(), lags=(0.0,), sleep=lambda s: None)
        assert post_batch(batch, ledger, books.store, protocol=quick) == "posted"
    return tuple(plan.batches)


def bring(books: Any, ledger: str, *, dry_run: bool = False, **options: Any) -> Any:
    view = books.entity.of_ledger(ledger)
    since, until = view.copied_span
    erp = books.next if ledger == "next" else books.erp
    quick = Protocol(settle=timedelta(0), checks=(), lags=(0.0,), sleep=lambda s: None)
    return replay(
        view, erp, books.store, since=since, until=until, chart=CHARTS.of("US", ledger), dry_run=dry_run,
        protocol=quick, **options,
    )  # fmt: skip


def compared(books: Any, on: date) -> Any:
    view = books.entity.of_ledger
    proofs = prove(view("main"), on, books.erp, books.store), prove(view("next"), on, books.next, books.store)
    assert [proof.ties for proof in proofs] == [True, True]
    return compare_ledgers(*proofs, names=("main", "next"), charts=(CHARTS.of("US", "main"), CHARTS.of("US", "next")))


def test_a_journal_goes_to_the_ledger_in_force_on_its_date_and_history_follows_under_its_keys(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"}, {"amount": "7", "family": "usage"})
    two.invoice("B", APRIL, {"amount": "50"})
    old, new = post(two, APRIL)
    assert (old, new) == (
        "TIEOUT/US/main/2026-03/billing/2026-03-29/v1", "TIEOUT/US/next/2026-04/billing/2026-04-02/v1",
    )  # fmt: skip
    shown = bring(two, "next", dry_run=True)
    assert (shown.states, [c.run_key for c in shown.to_post]) == ({"to post": 1}, [old])
    assert shown.net == {"1200": Decimal(107), "4000": Decimal(-107)}
    assert [j.run_key for j in two.next.journals()] == [new]
    assert not compared(two, APRIL).agrees
    for _ in range(2):
        assert bring(two, "next").states == {"posted": 1}
        assert bring(two, "main").states == {"posted": 1}
    for ledger in (two.erp, two.next):  # each journal once in each, under its own key and date
        assert sorted((j.run_key, j.date) for j in ledger.journals()) == [(old, GO_LIVE), (new, APRIL)]
    sent = {
        e.action: f"{e.sequence}:{e.hash[:16]}" for e in two.store.audit_entries("US/next") if "submitted" in e.action
    }
    assert {journal.narrative.partition(" · ")[2] for journal in two.next.journals()} == {
        f"audit {sent['journal.submitted']}", f"audit next {sent['copy.submitted']}",
    }  # fmt: skip
    found = compared(two, APRIL)
    assert found.agrees
    assert {line.account: line.left for line in found.lines if line.left} == {
        RECEIVABLE: Decimal(157), SEATS: Decimal(-157),  # both revenue accounts, as the new chart has them
    }  # fmt: skip
    two.next.by_hand("US", APRIL, "USD", "typed twice", ("1200", "5", "0"), ("4000", "0", "5"))
    found = compared(two, APRIL)
    differing = [(x.account, x.difference, x.of_foreign, x.unexplained) for x in found.lines if x.difference]
    assert differing == [(RECEIVABLE, -5, -5, 0), (SEATS, 5, 5, 0)]
    assert [entry.narrative for entry in found.foreign_right] == ["typed twice"] * 2
    for chain in ("US/main", "US/next"):
        assert two.store.verify_audit(chain) == []
    assert bring(two, "next", dry_run=True).states == {"posted": 1}


def test_a_restated_document_of_before_the_cut_over_goes_where_its_period_is_open(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    post(two, APRIL)
    two.invoice("A", GO_LIVE, {"amount": "110"})
    assert post(two, APRIL) == ("TIEOUT/US/main/2026-03/billing/2026-03-29/v2",)
    assert bring(two, "next").states == {"posted": 2}
    in_both = {"main": lambda day: False, "next": lambda day: day >= CUT}
    two.invoice("A", GO_LIVE, {"amount": "111"})
    assert post(two, APRIL, period_open=in_both) == ("TIEOUT/US/next/2026-04/prior_period/2026-04-01/v1",)
    bring(two, "main")
    assert compared(two, APRIL).agrees


def take_back(books: Any, batch_id: str, on: date) -> None:
    by = {"actor": "al", "second": "bea", "reason": "typo"}
    assert reverse(batch_id, books.erp, books.store, on=on, **by) == "reversed"


def test_a_copy_whose_journal_is_taken_out_by_a_mirror_gets_the_mirror_too(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    (old,) = post(two, APRIL)
    bring(two, "next")
    take_back(two, old, MAY)  # after the dates that are copied
    two.invoice("A", GO_LIVE, {"amount": "110"})
    assert post(two, APRIL) == (old.replace("v1", "v2"),)
    view = two.entity.of_ledger("next")
    opened = {on: prove(view, on, two.next, two.store).journals_open for on in (APRIL, MAY)}
    assert opened == {APRIL: 0, MAY: 1}
    shown = bring(two, "next", dry_run=True)
    assert shown.states == {"to post": 2}
    assert shown.net == {"1200": Decimal(10), "4000": Decimal(-10)}
    two.next.lies = ["lose_request"]
    assert bring(two, "next").states == {"posted": 2, "unknown": 1}
    for _ in range(2):
        assert bring(two, "next").states == {"posted": 3}
    for ledger in (two.erp, two.next):
        assert sorted((j.run_key, j.date) for j in ledger.journals()) == [
            (old, GO_LIVE), (f"{old}/reversed", MAY), (old.replace("v1", "v2"), GO_LIVE),
        ]  # fmt: skip
    assert {b.account: b.closing for b in two.next.trial_balance("US", MAY) if b.closing} == {
        "1200": Decimal(110), "4000": Decimal(-110),
    }  # fmt: skip
    assert compared(two, APRIL).agrees
    assert compared(two, MAY).agrees
    proof = prove(view, MAY, two.next, two.store)
    assert (proof.foreign, proof.journals_open) == ((), 0)
    assert two.store.verify_audit("US/next") == []


def test_a_copy_in_another_currency_is_undone_in_both_currencies(two: Any) -> None:
    take_over(two)
    two.put("fx_rate", "r", currency="EUR", to_currency="USD", rate_date=GO_LIVE, rate="1.0837", source="ecb")
    two.invoice("A", GO_LIVE, {"amount": "33.33"}, currency="EUR")
    two.rows["invoice_line"]["A.1"]["currency"] = "EUR"
    (old,) = post(two, APRIL)
    bring(two, "next")
    change = "UPDATE line SET foreign_amount = ? WHERE foreign_amount = ?"
    with closing(sqlite3.connect(two.next.path)) as db:  # somebody changes what functional amounts do not show
        db.execute(change, ("33.3", "33.33"))
        db.commit()
        proof = prove(two.entity.of_ledger("next"), APRIL, two.next, two.store)
        differing = [(x.account, x.currency, x.ours, x.ledger) for x in proof.lines if x.difference]
        assert differing == [("1200", "EUR", Decimal("33.33"), Decimal("33.3"))]
        db.execute(change, ("33.33", "33.3"))
        db.commit()
    take_back(two, old, APRIL)
    assert bring(two, "next").states == {"posted": 2}
    held = [[(x.account, x.debit - x.credit, x.foreign_amount, x.foreign_currency) for x in journal.lines]
            for journal in two.next.journals()]  # fmt: skip
    usd, eur = Decimal("36.12"), Decimal("33.33")
    assert held == [
        [("1200", usd, eur, "EUR"), ("4000", -usd, -eur, "EUR")],
        [("1200", -usd, -eur, "EUR"), ("4000", usd, eur, "EUR")],
    ]
    assert compared(two, APRIL).agrees


def raised(content: Any) -> Any:
    """Stored content with another amount on every line."""
    return {**content, "lines": [{**line, "amount": "999.00"} for line in content["lines"]]}


def test_a_copy_that_somebody_changed_in_the_store_is_not_sent(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    (old,) = post(two, APRIL)
    two.next.lies = ["lose_request"]
    assert bring(two, "next").states == {"unknown": 1}

    def change(row_type: Any, key: Any, name: str, value: Any) -> Any:
        with two.store.transaction() as session:
            row = session.get(row_type, key)
            before = getattr(row, name)
            setattr(row, name, value(before))
        return lambda now: before

    copy = CopyRow, ("US", "next", old)
    for name, value in (("content", raised), ("accounting_date", lambda day: APRIL)):
        back = change(*copy, name, value)
        with pytest.raises(LedgerError, match="not what was planned") as told:
            bring(two, "next")
        assert old in str(told.value)
        change(*copy, name, back)
    assert bring(two, "next").states == {"posted": 1}
    assert [journal.debit for journal in two.next.journals()] == [Decimal(100)]
    change(*copy, "content", raised)  # its mirror would undo something else
    take_back(two, old, APRIL)
    with pytest.raises(LedgerError, match="not what was planned"):
        bring(two, "next")


def test_a_journal_that_somebody_changed_in_the_store_is_not_copied(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    (old,) = post(two, APRIL)
    with two.store.transaction() as session:
        row = session.get(BatchJournalRow, old)
        row.content = raised(row.content)
        row.content_hash = content_hash(row.content)
    for dry_run in (True, False):
        with pytest.raises(LedgerError, match="not what was planned"):
            bring(two, "next", dry_run=dry_run)
    assert two.next.journals() == []


def test_a_mirror_waits_for_the_copy_it_undoes_and_for_an_open_period(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    (old,) = post(two, APRIL)
    two.next.lies = ["reject"]
    assert bring(two, "next").states == {"rejected": 1}
    take_back(two, old, APRIL)
    two.next.lies = ["reject"]
    assert bring(two, "next").states == {"pending": 1, "rejected": 1}
    assert two.next.journals() == []
    with two.store.transaction() as session:
        periods.move(session, "US", "next", "2026-04", "soft_closed", actor="cfo", reason="x", now=two.store.now())
    done = bring(two, "next")
    assert (done.states, "2026-04 of ledger next is closed" in done.notes[0]) == ({"posted": 1, "rejected": 1}, True)
    with two.store.transaction() as session:
        periods.move(session, "US", "next", "2026-04", "open", actor="cfo", reason="x", now=two.store.now())
    assert bring(two, "next").states == {"posted": 2}
    assert [b for b in two.next.trial_balance("US", APRIL) if b.closing] == []


def test_what_is_taken_out_before_it_is_copied_is_left_out(two: Any) -> None:
    take_over(two)
    two.invoice("A", GO_LIVE, {"amount": "100"})
    (old,) = post(two, APRIL)
    take_back(two, old, APRIL)
    assert bring(two, "next").states == {}
    assert two.next.journals() == []


def test_a_replay_that_is_disturbed_goes_on_where_it_stood(two: Any) -> None:
    days = [GO_LIVE + timedelta(days=n) for n in range(3)]
    for number, day in enumerate(days, 1):
        two.invoice(f"N{number}", day, {"amount": str(number)})
        two.pay(f"P{number}", day, str(number), **{f"N{number}": str(number)})
    post(two, CUT)
    for account in ("10100", "23000"):
        two.next.by_hand("US", GO_LIVE, "USD", "chart", (account, "0", "0"))
    two.next.lies = ["down"]
    with pytest.raises(ErpUnavailable):
        bring(two, "next")
    two.next.lies = ["lose_request", "lose_answer", "reject", "other_amount"]
    first = bring(two, "next")  # what is refused, lost or wrong does not stop the others
    assert first.states == {"mismatched": 1, "posted": 2, "rejected": 1, "unknown": 2}
    assert bring(two, "next").states == {"mismatched": 1, "posted": 5}
    assert len(two.next.journals()) == 6


def test_a_replay_killed_at_any_step_leaves_each_journal_once(two: Any) -> None:
    class Died(BaseException):
        pass

    for number, day in enumerate((GO_LIVE, GO_LIVE + timedelta(days=1)), 1):
        two.invoice(f"N{number}", day, {"amount": str(number)})
    post(two, CUT)
    steps: list[str] = []
    killed = 0

    def dying(step: str) -> None:
        steps.append(step)
        if len(steps) == killed + 1:
            raise Died

    transaction = two.store.transaction

    @contextmanager
    def committing() -> Any:
        with transaction() as session:
            yield session
            dying("before a commit")
        dying("after a commit")

    two.store.transaction = committing
    while True:  # each run dies one step later than the one before, until one does not
        steps.clear()
        two.next.on_step = dying
        try:
            done = bring(two, "next")
        except Died:
            killed += 1
            two.next.on_step, two.store.transaction = lambda step: None, transaction
            with transaction() as session:
                lease = session.get(LeaseRow, "US/next")
                if lease is not None:
                    lease.owner = None  # as a dead process leaves it
            two.store.transaction = committing
            continue
        break
    assert killed > 12
    assert done.states == {"posted": 2}
    assert len(two.next.journals()) == 2
    assert two.store.verify_audit("US/next") == []


def test_accounts_the_new_erp_lacks_are_named_before_anything_is_sent(two: Any) -> None:
    two.invoice("A", GO_LIVE, {"amount": "100", "tax": "10"})
    post(two, CUT)
    assert bring(two, "next", dry_run=True).unknown_accounts == ("22000",)
    with pytest.raises(LedgerError, match="lacks accounts"):
        bring(two, "next")
    assert two.next.journals() == []


@pytest.mark.parametrize(
    ("ledgers", "words"),
    [
        ([{"ledger": "main", "from": "2026-03-30"}], "go-live"),
        ([{"ledger": "main", "from": GO_LIVE}, {"ledger": "main", "from": CUT}], "repeat"),
        ([{"ledger": "main", "from": GO_LIVE}, {"ledger": "next", "from": "2026-01-01"}], "order"),
        ([{"ledger": "main", "from": GO_LIVE, "history_from": GO_LIVE}], "history_from"),
        ([{"ledger": "main", "from": GO_LIVE, "parallel_until": CUT}], "parallel_until"),
    ],
)
def test_ledgers_that_contradict_each_other_are_refused(ledgers: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        entity(ledgers=ledgers)
