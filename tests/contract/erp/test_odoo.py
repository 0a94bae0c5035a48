"""Odoo over both of its wires, against the simulator: what is posted reads back, what surprises is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from tieout import ids
from tieout.entities import LegalEntity
from tieout.erp import ErpJournal, ErpLine, Ledger, connect
from tieout.erp.odoo import OdooConfig
from tieout.erp.open import Erp
from tieout.errors import ConfigError, ErpRateLimited, ErpUnavailable, LeaseLost, PeriodClosed, Rejected, UnknownOutcome
from tieout.settings import Connection
from tieout_sandbox.simulators.odoo.books import Books
from tieout_sandbox.simulators.odoo.wire import Fault, Wire, answering

D = Decimal
DAY = date(2026, 3, 30)
COMPANY = "Northwind Cloud Inc."
CONFIG = {"companies": {"US": COMPANY}, "dimensions": {"product_family": "Product family"}, "pause_ms": 0, "tries": 2}
SLOT = ids.Slot("US", "main", "2026-03", "billing", DAY)
VERSIONS = {14: "json-rpc", 17: "json-rpc", 18: "json-rpc", 19: "json-2"}


@dataclass
class Odoo:
    """A simulated Odoo that answers, and how Tieout reaches it."""

    books: Books
    wire: Wire
    connection: Connection

    def ledger(self, **config: object) -> Ledger:
        return connect("odoo", self.connection, CONFIG | config)

    @property
    def moves(self) -> list[dict[str, object]]:
        return [dict(row) for row in self.books.db.execute("SELECT * FROM move ORDER BY id")]

    @property
    def xmlids(self) -> list[str]:
        return [row["name"] for row in self.books.db.execute("SELECT name FROM xmlid")]


def opened(folder: Path, version: int) -> Iterator[Odoo]:
    books = Books(folder / "odoo.sqlite", version)
    books.found(COMPANY, "USD", 2, {"11000": "Receivable", "40100": "Revenue", "22000": "Tax"})
    books.found("Other", "JPY", 0, {"11000": "Receivable", "40100": "Revenue"})
    books.dimension("Product family", "seats", "usage")
    books.key("key-1")
    wire = Wire(books)
    with answering(wire) as url:
        yield Odoo(books, wire, Connection("odoo", url, "poster", "key-1", "erp"))
    books.close()


@pytest.fixture(params=VERSIONS, ids=lambda version: f"odoo {version}")
def odoo(request, tmp_path) -> Iterator[Odoo]:
    yield from opened(tmp_path, request.param)


@pytest.fixture(params=[18, 19], ids=["json-rpc", "json-2"])
def by_wire(request, tmp_path) -> Iterator[Odoo]:
    """One version of each wire, for what depends on nothing else."""
    yield from opened(tmp_path, request.param)


def journal(version: int = 1, amount: str = "100.10", on: date = DAY, slot: ids.Slot = SLOT) -> ErpJournal:
    key = ids.run_key(slot, version)
    seats = {"product_family": "seats"}
    lines = (
        ErpLine("11000", D(amount), D(0), "receivable"),
        ErpLine("40100", D(0), D(amount) - D("0.10"), "seats", seats),
        ErpLine("22000", D(0), D("0.10"), "tax"),
    )
    return ErpJournal("US", key, ids.short_key(key), on, "USD", "Billing", lines, anchor="audit 7:0123456789abcdef")


def test_what_is_posted_reads_back_to_the_cent_and_is_posted_once(odoo):
    ledger = odoo.ledger()
    ref = ledger.post(journal(amount="1234567890.13"))
    assert (ref.state, ref.number, ref.date) == ("posted", "TIE/2026/03/0001", DAY)
    held = ledger.read_back(ref)
    assert held == journal(amount="1234567890.13")
    assert held.state == "posted"
    assert ledger.post(journal(amount="1234567890.13")) == ref
    assert len(odoo.moves) == 1
    assert odoo.xmlids == ["US/main/2026-03/billing/2026-03-30/v1"]
    used = {call.split("/")[1] for _, call in odoo.wire.calls if call != "/jsonrpc" or odoo.books.version < 19}
    assert used == {"json" if odoo.books.version >= 19 else "jsonrpc"}


def test_the_wire_can_be_chosen_where_both_are_there(tmp_path):
    for odoo in opened(tmp_path, 19):
        assert odoo.ledger(api="json-rpc").post(journal()).state == "posted"
        assert {call for _, call in odoo.wire.calls} == {"/jsonrpc"}


def test_journals_are_found_by_slot_and_by_key_and_never_by_a_longer_one(by_wire):
    ledger = by_wire.ledger()
    for version in (1, 2, 11):
        ledger.post(journal(version))
    other = replace(SLOT, stream="billing_late")
    ledger.post(journal(slot=other))
    keys = [ref.run_key for ref in ledger.find_by_run_key(str(SLOT))]
    assert keys == [ids.run_key(SLOT, v) for v in (1, 2, 11)]
    assert [r.run_key for r in ledger.find_by_run_key(ids.run_key(SLOT, 1))] == [ids.run_key(SLOT, 1)]
    assert len(ledger.find_by_run_key("TIEOUT/")) == 4


def test_a_reference_edited_in_the_erp_does_not_lose_the_journal(by_wire):
    ledger = by_wire.ledger()
    ref = ledger.post(journal())
    by_wire.books.db.execute("UPDATE move SET ref = 'tidied up'")
    assert ledger.find_by_run_key(ref.run_key) == [ref]
    assert ledger.post(journal()) == ref
    assert ledger.read_back(ref).run_key == ref.run_key


def test_the_same_reference_posted_twice_by_somebody_else_stops_everything(by_wire):
    ledger = by_wire.ledger()
    ref = ledger.post(journal())
    text = by_wire.moves[0]["ref"]
    by_wire.books.by_hand(COMPANY, DAY, str(text), ("11000", "100.10", "0"), ("40100", "0", "100.10"))
    assert len(ledger.find_by_run_key(ref.run_key)) == 2
    with pytest.raises(Rejected, match="more than once"):
        ledger.post(journal())


LOST: dict[str, tuple[list[Fault | None], int]] = {
    "the request": (["lose_request"], 0),
    "the answer to the draft": (["lose_answer"], 1),
    "the answer to its lines": ([None, "lose_answer"], 1),
    "the answer to the posting": ([None, None, "lose_answer"], 1),
    "a failure after the lines": ([None, "fail_after"], 1),
    "a gateway's page after the draft": ([None, "gateway_page"], 1),
}


@pytest.mark.parametrize(("faults", "left"), LOST.values(), ids=LOST)
def test_after_any_lost_answer_the_next_try_leaves_exactly_one_journal(by_wire, faults, left):
    ledger = by_wire.ledger()
    by_wire.wire.faults[:] = faults
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    by_wire.wire.faults.clear()
    assert len(by_wire.moves) == left
    ref = ledger.post(journal())
    assert ledger.read_back(ref) == journal()
    assert [move["state"] for move in by_wire.moves] == ["posted"]


def test_a_transaction_that_was_rolled_back_for_another_is_made_again(by_wire):
    by_wire.wire.faults[:] = [None, "locked", "locked"]
    with pytest.raises(ErpUnavailable):
        by_wire.ledger().post(journal())
    by_wire.wire.faults[:] = ["locked", None, "locked"]
    assert by_wire.ledger().post(journal()).state == "posted"
    assert len(by_wire.moves) == 1


def test_asked_to_slow_down_nothing_was_carried_out(by_wire):
    by_wire.wire.faults[:] = ["rate_limit"]
    with pytest.raises(ErpRateLimited):
        by_wire.ledger().post(journal())
    assert by_wire.moves == []
    assert by_wire.ledger().post(journal()).state == "posted"


def test_a_key_that_has_ended_lets_journals_wait_and_shows_no_key(by_wire):
    ledger = by_wire.ledger()
    ref = ledger.post(journal())
    by_wire.books.end_keys()
    before = len(by_wire.wire.calls)
    with pytest.raises(ErpUnavailable, match="refuses our credentials") as caught:
        ledger.post(journal(2))
    assert "key-1" not in str(caught.value)
    assert len(by_wire.wire.calls) == before + 1
    by_wire.books.key("key-2")
    again = connect("odoo", replace(by_wire.connection, password="key-2"), CONFIG)
    assert again.find_by_run_key(ref.run_key) == [ref]


REFUSED = {
    "unbalanced": (lambda j: replace(j, lines=j.lines[:2]), "not balanced"),
    "unknown account": (
        lambda j: replace(j, lines=(replace(j.lines[0], account="99999"), *j.lines[1:])),
        "no such account",
    ),
    "unknown dimension value": (
        lambda j: replace(j, lines=(replace(j.lines[0], dimensions={"product_family": "toys"}), *j.lines[1:])),
        "no such dimension value",
    ),
    "unknown dimension": (
        lambda j: replace(j, lines=(replace(j.lines[0], dimensions={"region": "CA"}), *j.lines[1:])),
        "keeps no such dimension",
    ),
    "another currency": (lambda j: replace(j, currency="EUR"), "functional currency"),
    "more digits than the wire carries": (
        lambda j: replace(j, lines=(replace(j.lines[0], debit=D("12345678901234567.89")), *j.lines[1:])),
        "cannot carry the amount exactly",
    ),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_a_refused_journal_leaves_nothing_behind(by_wire, change, says):
    with pytest.raises(Rejected, match=says):
        by_wire.ledger().post(change(journal()))
    assert by_wire.moves == []
    assert by_wire.xmlids == []


def test_an_error_reported_inside_a_success_is_a_refusal(by_wire):
    ledger = by_wire.ledger()
    ledger.period_status("US", DAY)
    by_wire.books.db.execute("UPDATE journal SET id = 77 WHERE code = 'TIE' AND company = 1")
    with pytest.raises(Rejected, match="No matching record found"):
        ledger.post(journal())
    assert by_wire.moves == []


def test_a_posting_that_only_opens_a_dialogue_is_a_refusal(by_wire):
    by_wire.books.setting("confirm", True)
    with pytest.raises(Rejected, match="Confirm Entries"):
        by_wire.ledger().post(journal())
    assert by_wire.moves == []


def test_an_archived_account_is_refused_before_anything_is_sent(odoo):
    odoo.books.archive("22000")
    with pytest.raises(Rejected, match="no such account"):
        odoo.ledger().post(journal())
    assert [account.code for account in odoo.ledger().gl_accounts("US")] == ["11000", "40100"]


@pytest.mark.parametrize(
    ("odoo", "hard"),
    [(14, False), (17, False), (18, False), (18, True), (19, True)],
    indirect=["odoo"],
)
def test_a_locked_date_is_refused_and_never_moved(odoo, hard):
    odoo.books.lock(COMPANY, date(2026, 3, 15), hard=hard)
    ledger = odoo.ledger()
    early = ledger.period_status("US", date(2026, 3, 15))
    late = ledger.period_status("US", date(2026, 3, 16))
    assert (early.state, early.start, early.end) == (
        "locked" if hard else "closed",
        date(2026, 3, 1),
        date(2026, 3, 15),
    )
    assert (late.state, late.start, late.end) == ("open", date(2026, 3, 16), date(2026, 3, 31))
    assert "lock_date is 2026-03-15" in (early.reason or "")
    with pytest.raises(PeriodClosed):
        ledger.post(journal(on=date(2026, 3, 15)))
    assert odoo.moves == []
    assert ledger.post(journal()).date == DAY


def test_a_draft_left_over_is_not_posted_into_a_period_locked_since(by_wire):
    by_wire.wire.faults[:] = [None, "lose_answer"]
    with pytest.raises(UnknownOutcome):
        by_wire.ledger().post(journal())
    by_wire.books.lock(COMPANY, DAY)
    with pytest.raises(PeriodClosed):
        by_wire.ledger().post(journal())
    assert by_wire.moves == []


def test_a_date_that_odoo_moved_is_read_back_as_it_is(by_wire):
    ledger = by_wire.ledger()
    status = ledger.period_status

    def locked_right_after(entity, on):
        found = status(entity, on)
        by_wire.books.lock(COMPANY, DAY)
        return found

    by_wire.wire.faults[:] = [None, "lose_answer"]
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    ledger.period_status = locked_right_after
    ref = ledger.post(journal())
    assert ref.date == date(2026, 3, 31)
    assert ledger.read_back(ref) != journal()


def test_a_draft_of_other_content_gets_the_journals_own_lines(by_wire):
    ledger = by_wire.ledger()
    by_wire.wire.faults[:] = [None, "lose_answer"]
    with pytest.raises(UnknownOutcome):
        ledger.post(journal(amount="7.00"))
    ref = ledger.post(journal())
    assert ledger.read_back(ref) == journal()
    assert len(by_wire.moves) == 1


def test_a_writer_that_lost_its_lease_writes_nothing_more(by_wire):
    beats = iter([None, None])

    def fence() -> None:
        if next(beats, "lost") == "lost":
            raise LeaseLost("somebody else posts now")

    with pytest.raises(LeaseLost):
        by_wire.ledger().post(journal(), fence=fence)
    assert [move["state"] for move in by_wire.moves] == ["draft"]


def test_a_reversal_is_a_mirror_of_its_own_dated_as_asked(by_wire):
    ledger = by_wire.ledger()
    ref = ledger.post(journal())
    by_wire.books.lock(COMPANY, date(2026, 3, 31))
    key = ids.mirror_key(ref.run_key)
    mirror = ledger.reverse(ref, date(2026, 4, 1), key, ids.short_key(key))
    assert [(line.debit, line.credit) for line in ledger.read_back(mirror).lines] == [
        (line.credit, line.debit) for line in journal().lines
    ]
    assert mirror.date == date(2026, 4, 1)
    assert all(balance.closing == 0 for balance in ledger.trial_balance("US", date(2026, 4, 1)))


def test_the_trial_balance_adds_up_and_shows_posted_entries_only(odoo):
    ledger = odoo.ledger()
    odoo.books.by_hand(COMPANY, date(2026, 2, 28), "opening", ("11000", "0.10", "0"), ("40100", "0", "0.10"))
    odoo.books.by_hand("Other", DAY, "of another company", ("11000", "5", "0"), ("40100", "0", "5"))
    for version, amount in ((1, "0.20"), (2, "1000000.30")):
        ledger.post(journal(version, amount))
    odoo.wire.faults[:] = [None, "lose_answer"]
    with pytest.raises(UnknownOutcome):
        ledger.post(journal(3))  # stays a draft
    balances = {b.account: b for b in ledger.trial_balance("US", DAY, date(2026, 3, 1))}
    receivable = balances["11000"]
    assert (receivable.opening, receivable.debit, receivable.closing) == (D("0.10"), D("1000000.50"), D("1000000.60"))
    assert sum(b.closing for b in balances.values()) == 0
    assert {b.account for b in ledger.trial_balance("US", date(2026, 2, 28))} == {"11000", "40100"}


def test_entries_come_in_pages_of_whole_journals_and_foreign_ones_carry_no_key(odoo):
    ledger = odoo.ledger(page=2)
    for version in (1, 2, 3):
        ledger.post(journal(version))
    odoo.books.by_hand(COMPANY, DAY, "by hand", ("11000", "1", "0"), ("40100", "0", "1"))
    pages = list(ledger.gl_entries("US", DAY, DAY))
    told = {e.narrative for page in pages for e in page if e.run_key}
    assert all(text.endswith(" · audit 7:0123456789abcdef") for text in told)
    assert [len({entry.journal_id for entry in page}) for page in pages] == [2, 2]
    entries = [entry for page in pages for entry in page]
    assert [(e.run_key is None, e.line_no) for e in entries] == [(False, n) for _ in range(3) for n in (1, 2, 3)] + [
        (True, None)
    ] * 2
    assert [e.dimensions for e in entries[:3]] == [{}, {"product_family": "seats"}, {}]
    assert sum(e.debit - e.credit for e in entries) == 0
    assert entries[0].period == "2026-03"


def test_changes_are_found_by_when_an_entry_or_a_line_of_it_was_written(by_wire):
    clock = datetime(2026, 3, 30, 9, tzinfo=UTC)
    by_wire.books.now = lambda: clock
    ledger = by_wire.ledger()
    first = ledger.post(journal(1))
    clock += timedelta(hours=2)
    second = ledger.post(journal(2))

    def changed(since: datetime) -> list[str]:
        pages = ledger.gl_changes("US", since, since + timedelta(hours=1))
        return sorted({entry.journal_id for page in pages for entry in page})

    assert changed(datetime(2026, 3, 30, 9, tzinfo=UTC)) == [first.erp_id]
    assert changed(datetime(2026, 3, 30, 10, tzinfo=UTC)) == []
    assert changed(datetime(2026, 3, 30, 11, tzinfo=UTC)) == [second.erp_id]
    by_wire.books.db.execute("UPDATE line SET write_date = '2026-03-30 12:00:00' WHERE move = ?", (first.erp_id,))
    assert changed(datetime(2026, 3, 30, 12, tzinfo=UTC)) == [first.erp_id]


def test_an_entry_reset_to_draft_or_gone_is_no_longer_in_the_ledger(by_wire):
    ledger = by_wire.ledger()
    ref = ledger.post(journal())
    by_wire.books.call("account.move", "button_draft", [int(ref.erp_id)], {}, {})
    assert list(ledger.gl_entries("US", DAY, DAY)) == []
    assert ledger.trial_balance("US", DAY) == []
    by_wire.books.db.execute("DELETE FROM move")
    with pytest.raises(Rejected, match="no such journal"):
        ledger.read_back(ref)


def test_many_journals_are_read_back_in_a_few_calls(by_wire):
    ledger = by_wire.ledger()
    refs = [ledger.post(journal(version)) for version in range(1, 6)]
    before = len(by_wire.wire.calls)
    gone = replace(refs[0], erp_id="999")
    held = ledger.read_back_many([*refs, gone])
    assert len(by_wire.wire.calls) - before == 3
    assert held[:5] == [journal(version) for version in range(1, 6)]
    assert isinstance(held[5], Rejected)


def test_never_more_calls_a_second_than_configured_counted_at_the_server(tmp_path):
    for odoo in opened(tmp_path, 19):
        ledger = odoo.ledger(calls_per_second=25)
        for version in (1, 2, 3):
            ledger.post(journal(version))
        times = [moment for moment, _ in odoo.wire.calls]
        assert len(times) > 26
        assert all(times[i + 25] - times[i] > 0.95 for i in range(len(times) - 25))
        assert odoo.wire.most_open == 1
        assert all(a <= b for a, b in pairwise(times))


def test_before_16_one_dimension_is_kept_and_two_are_refused(tmp_path):
    for odoo in opened(tmp_path, 15):
        with pytest.raises(ConfigError, match="one analytic account per line"):
            odoo.ledger(dimensions={"product_family": "Product family", "tax_code": "Tax"}).post(journal())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"companies": {"US": "Nobody"}}, "not exactly one such company"),
        ({"journal": "NONE"}, "no such journal"),
        ({"companies": {"DE": COMPANY}}, "no company of the ERP"),
    ],
)
def test_what_the_configuration_names_and_the_erp_lacks_is_told(by_wire, change, says):
    with pytest.raises(ConfigError, match=says):
        by_wire.ledger(**change).period_status("US", DAY)


def test_an_odoo_that_is_too_old_or_another_server_is_told(tmp_path):
    for odoo in opened(tmp_path, 13):
        with pytest.raises(ConfigError, match="too old"):
            odoo.ledger().post(journal())
        other = connect("odoo", replace(odoo.connection, schema="nowhere"), CONFIG)
        odoo.books.version = 19
        with pytest.raises(Rejected, match="HTTP 404"):
            other.post(journal())


def test_receivable_modes_it_cannot_do_are_refused_by_the_check():
    common = {"name": "x", "functional_currency": "USD", "zone": "UTC", "country": "US", "go_live": DAY}
    erp = Erp("odoo", "odoo", OdooConfig.load(CONFIG))
    (problem,) = erp.problems([LegalEntity(id="US", receivable_mode="per_customer", **common)])
    assert "use gl_control" in problem
