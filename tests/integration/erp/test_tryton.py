"""The ledger port against a real Tryton on PostgreSQL: what is posted is there, once, to the cent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import pytest
import requests

from tieout import ids
from tieout.erp import ErpJournal, ErpLine, Ledger, connect
from tieout.errors import ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.store.audit import anchors_in_memos
from tieout_sandbox.testing import ERP_CONFIG, Erp

pytestmark = pytest.mark.server

_versions = count(1)
CURRENCIES = {"US": "USD", "DE": "EUR", "JP": "JPY"}


def journal(
    entity: str = "US",
    amount: str = "1234.56",
    on: date = date(2026, 3, 29),
    *,
    account: str = "40100",
    credit: str | None = None,
) -> ErpJournal:
    """A journal of its own run key; balanced unless `credit` says otherwise."""
    slot = ids.Slot(entity, "main", f"{on:%Y-%m}", "billing", on)
    key = ids.run_key(slot, next(_versions))
    lines = (
        ErpLine("11000", Decimal(amount), Decimal(0), "Trade receivables"),
        ErpLine(account, Decimal(0), Decimal(credit or amount), "Seats", {"product_family": "seats"}),
    )
    anchor = f"audit 12:{'0f' * 8}"
    return ErpJournal(entity, key, ids.short_key(key), on, CURRENCIES[entity], "Invoices", lines, anchor=anchor)


@pytest.fixture
def ledger(erp: Erp) -> Iterator[Ledger]:
    made = erp.ledger()
    yield made
    made.close()


@dataclass
class Line:
    """A line to the ERP that can be cut: before a call is passed on, or after it was carried out."""

    upstream: str
    cut_before: set[str] = field(default_factory=set)
    cut_after: set[str] = field(default_factory=set)


@contextmanager
def cuttable(upstream: str) -> Iterator[tuple[str, Line]]:
    """A proxy in front of the ERP whose answers a test can lose."""
    line = Line(upstream)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            method = json.loads(body)["method"]
            if method in line.cut_before:
                line.cut_before.discard(method)
                self.close_connection = True
                return
            answer = requests.post(upstream + self.path, data=body, headers=dict(self.headers), timeout=30)
            if method in line.cut_after:
                line.cut_after.discard(method)
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", line
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("entity", "amount"), [("US", "1234567.89"), ("DE", "0.01"), ("JP", "98765432")])
def test_what_is_posted_reads_back_to_the_cent(ledger: Ledger, entity: str, amount: str) -> None:
    meant = journal(entity, amount)
    ref = ledger.post(meant)
    held = ledger.read_back(ref)
    assert held == meant
    assert (held.state, held.number) == ("posted", ref.number)
    assert ref.number
    assert ref.number.startswith(f"{entity}-2026-")


def test_a_foreign_amount_is_kept_beside_the_functional_one_on_lines_that_have_one(ledger: Ledger) -> None:
    lines = (
        ErpLine("10100", Decimal("110.00"), Decimal(0), "Clearing", {}, "EUR", Decimal("100.00")),
        ErpLine("11000", Decimal(0), Decimal("108.00"), "Receivable", {}, "EUR", Decimal("-100.00")),
        ErpLine("66000", Decimal(0), Decimal("2.00"), "Realised gain"),
        ErpLine("11000", Decimal("0.01"), Decimal(0), "Yen", {}, "JPY", Decimal("1")),
        ErpLine("40100", Decimal(0), Decimal("0.01"), "Yen", {"product_family": "seats"}, "JPY", Decimal("-1")),
    )
    meant = replace(journal(), lines=lines)
    ref = ledger.post(meant)
    assert ledger.read_back(ref) == meant
    other = ids.run_key(ids.Slot("US", "main", "2026-03", "cash", meant.date), next(_versions))
    mirror = ledger.reverse(ref, meant.date, other, ids.short_key(other))
    assert ledger.read_back(mirror).lines == tuple(line.mirrored() for line in lines)
    entries = [e for page in ledger.gl_entries("US", meant.date, meant.date) for e in page if e.run_key == other]
    assert [(e.foreign_currency, e.foreign_amount) for e in entries][:3] == [
        ("EUR", Decimal("-100.00")), ("EUR", Decimal("100.00")), (None, None),
    ]  # fmt: skip


def test_a_foreign_amount_in_a_currency_the_erp_does_not_know_is_refused_before_anything_is_sent(
    ledger: Ledger,
) -> None:
    line = ErpLine("11000", Decimal("1.00"), Decimal(0), "Odd", {}, "XTS", Decimal("1.00"))
    meant = replace(journal(amount="1.00"), lines=(line, *journal(amount="1.00").lines[1:]))
    with pytest.raises(Rejected, match="no such currency"):
        ledger.post(meant)
    assert ledger.find_by_run_key(meant.run_key) == []


def test_dimensions_are_kept_on_every_kind_of_account(ledger: Ledger) -> None:
    plain = journal(amount="119.00")
    tax = {"tax_code": "txr_1NwCloudUSsalestax0001"}
    lines = (
        ErpLine("11000", Decimal("119.00"), Decimal(0), "Trade receivables"),
        ErpLine("21000", Decimal(0), Decimal("60.00"), "Billed ahead", {"product_family": "platform"}),
        ErpLine("40200", Decimal(0), Decimal("40.00"), "Delivered", {"product_family": "platform"}),
        ErpLine("22000", Decimal(0), Decimal("19.00"), "Tax", tax),
    )
    meant = replace(plain, lines=lines)
    assert ledger.read_back(ledger.post(meant)) == meant


def test_posting_again_finds_the_journal_instead(ledger: Ledger) -> None:
    meant = journal()
    first = ledger.post(meant)
    assert ledger.post(meant) == first
    assert ledger.find_by_run_key(meant.run_key) == [first]


def test_a_draft_left_over_by_a_killed_run_is_finished(erp: Erp, ledger: Ledger) -> None:
    meant = journal()
    with cuttable(erp.server.url) as (url, line):
        line.cut_before.add("model.account.move.post")
        with pytest.raises(UnknownOutcome):
            _through(erp, url).post(meant)
    (left,) = ledger.find_by_run_key(meant.run_key)
    assert left.state == "draft"
    assert ledger.post(meant).erp_id == left.erp_id


@pytest.mark.parametrize("method", ["model.account.move.create", "model.account.move.post"])
def test_a_lost_answer_is_unknown_and_the_journal_is_there_once_afterwards(
    erp: Erp, ledger: Ledger, method: str
) -> None:
    meant = journal()
    with cuttable(erp.server.url) as (url, line):
        line.cut_after.add(method)
        with pytest.raises(UnknownOutcome):
            _through(erp, url).post(meant)
    ref = ledger.post(meant)
    assert ledger.find_by_run_key(meant.run_key) == [ref]
    assert ref.state == "posted"


def _through(erp: Erp, url: str) -> Ledger:
    return connect("tryton", replace(erp.connection(), host=url), ERP_CONFIG)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (journal(credit="1234.55"), "must balance"),
        (journal("JP", "10.5"), "number of digits"),
        (journal(amount="0.001"), "number of digits"),
        (journal(account="99999"), "no such account"),
        (journal(on=date(2031, 1, 1)), "no period"),
    ],
    ids=["unbalanced", "half a yen", "a tenth of a cent", "unknown account", "no fiscal year"],
)
def test_a_journal_that_cannot_be_is_rejected_and_leaves_nothing(
    ledger: Ledger, wrong: ErpJournal, message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        ledger.post(wrong)
    assert ledger.find_by_run_key(wrong.run_key) == []


def test_a_closed_period_refuses_and_says_so(erp: Erp, ledger: Ledger) -> None:
    on = date(2025, 1, 15)
    admin = erp.rpc("admin")
    (period,) = admin.read(
        "model.account.period.search",
        [("start_date", "=", date(2025, 1, 1)), ("fiscalyear.company.party.code", "=", "US")],
        context={"company": 1},
    )
    assert ledger.period_status("US", on).is_open
    admin.write("model.account.period.close", [period], context={"company": 1})
    assert ledger.period_status("US", on).state == "closed"
    with pytest.raises(PeriodClosed):
        ledger.post(journal(on=on))
    assert ledger.period_status("DE", on).is_open


def test_a_period_in_which_only_our_journal_is_closed_is_closed_for_us(erp: Erp, ledger: Ledger) -> None:
    on = date(2025, 2, 15)
    ledger.post(journal(on=on))
    admin = erp.rpc("admin")
    (mine,) = admin.read(
        "model.account.journal.period.search",
        [("journal.code", "=", "TIE"), ("period.start_date", "=", date(2025, 2, 1))],
        context={"company": 1},
    )
    admin.write("model.account.journal.period.close", [mine], context={"company": 1})
    status = ledger.period_status("US", on)
    assert (status.state, status.name) == ("closed", "2025-02")
    with pytest.raises(PeriodClosed):
        ledger.post(journal(on=on))


@pytest.mark.parametrize(
    ("model", "method", "values"),
    [
        ("account.period", "close", None),
        ("account.journal.period", "close", None),
        ("account.account", "create", {"name": "own", "code": "66666"}),
        ("account.fiscalyear", "write", {"name": "mine"}),
        ("res.user", "write", {"name": "mine"}),
        ("company.company", "write", {"timezone": "UTC"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_poster_may_not_do_more_than_post(
    erp: Erp, ledger: Ledger, model: str, method: str, values: dict[str, Any] | None
) -> None:
    ledger.post(journal(on=date(2026, 6, 1)))
    (record,) = erp.rpc("admin").read(f"model.{model}.search", [], 0, 1, [("id", "DESC")], context={"company": 1})
    arguments = [[values]] if method == "create" else [[record], values] if values else [[record]]
    with pytest.raises(Rejected, match="not allowed"):
        erp.rpc("tieout_poster").write(f"model.{model}.{method}", *arguments, context={"company": 1})


def test_a_reversal_is_our_own_mirror_on_the_date_asked_for(ledger: Ledger) -> None:
    ref = ledger.post(journal("DE", "77.70"))
    slot = ids.Slot("DE", "main", "2026-04", "billing", date(2026, 4, 1))
    key = ids.run_key(slot, next(_versions))
    mirror = ledger.read_back(ledger.reverse(ref, date(2026, 4, 1), key, ids.short_key(key)))
    assert mirror.date == date(2026, 4, 1)
    assert [(x.account, x.debit, x.credit) for x in mirror.lines] == [
        ("11000", Decimal(0), Decimal("77.70")),
        ("40100", Decimal("77.70"), Decimal(0)),
    ]


def test_the_trial_balance_moves_by_exactly_what_was_posted(ledger: Ledger) -> None:
    on = date(2026, 2, 10)
    before = {b.account: b for b in ledger.trial_balance("DE", on, since=on)}
    ledger.post(journal("DE", "10.01", on))
    ledger.post(journal("DE", "20.02", on - timedelta(days=1)))
    ledger.post(journal("DE", "40.04", on + timedelta(days=1)))
    after = {b.account: b for b in ledger.trial_balance("DE", on, since=on)}
    assert before == {}
    assert {code: (b.opening, b.debit, b.credit, b.closing) for code, b in after.items()} == {
        "11000": (Decimal("20.02"), Decimal("10.01"), Decimal(0), Decimal("30.03")),
        "40100": (Decimal("-20.02"), Decimal(0), Decimal("10.01"), Decimal("-30.03")),
    }
    assert sum(b.closing for b in ledger.trial_balance("DE", on)) == 0


def test_the_general_ledger_is_read_whole_in_pages_of_whole_journals(erp: Erp) -> None:
    ledger = erp.ledger(page=2)
    days = [date(2025, 6, day) for day in (1, 15, 15, 30, 30)]
    posted = {ledger.post(journal("JP", str(100 + n), day)).erp_id for n, day in enumerate(days)}
    pages = list(ledger.gl_entries("JP", date(2025, 6, 1), date(2025, 6, 30)))
    entries = [entry for page in pages for entry in page]
    assert [len({e.journal_id for e in page}) for page in pages] == [2, 2, 1]
    assert {e.journal_id for e in entries} == posted
    assert sum(e.debit for e in entries) == sum(e.credit for e in entries) == Decimal(100 + 101 + 102 + 103 + 104)
    assert {e.line_no for e in entries} == {1, 2}
    assert all(e.run_key and e.run_key.startswith("TIEOUT/JP/") for e in entries)
    anchors = anchors_in_memos((e.run_key, e.narrative) for e in entries if e.run_key)
    assert [(a.chain, a.length, a.head) for a in anchors] == [("JP/main", 12, "0f" * 8)] * 5
    narrow = [e for page in ledger.gl_entries("JP", date(2025, 6, 2), date(2025, 6, 29)) for e in page]
    assert len(narrow) == 4


def test_changes_are_found_by_when_they_were_written_and_foreign_ones_carry_no_key(erp: Erp, ledger: Ledger) -> None:
    start = datetime.now(UTC) - timedelta(seconds=1)
    accountant = erp.rpc("accountant")
    context = {"company": 1}
    (period,) = accountant.read(
        "model.account.period.search",
        [("start_date", "=", date(2026, 1, 1)), ("fiscalyear.company", "=", 1)],
        context=context,
    )
    (by_hand,) = accountant.read("model.account.journal.search", [("code", "=", "MAN")], context=context)
    accounts = accountant.read(
        "model.account.account.search_read",
        [("company", "=", 1), ("code", "in", ["11000", "61000"])],
        0,
        None,
        [("code", "ASC")],
        ["id"],
        context=context,
    )
    lines = [
        {"account": accounts[0]["id"], "debit": Decimal(0), "credit": Decimal("5.00")},
        {"account": accounts[1]["id"], "debit": Decimal("5.00"), "credit": Decimal(0)},
    ]
    move = {"company": 1, "journal": by_hand, "period": period, "date": date(2026, 1, 9), "description": "MANUAL x"}
    made = accountant.write("model.account.move.create", [move | {"lines": [["create", lines]]}], context=context)
    accountant.write("model.account.move.post", made, context=context)
    ours = ledger.post(journal())
    entries = [
        entry
        for page in ledger.gl_changes("US", start, datetime.now(UTC) + timedelta(seconds=1))
        for entry in page
        if entry.journal_id in {ours.erp_id, str(made[0])}
    ]
    assert {(e.narrative.split(" ")[0], e.run_key is None) for e in entries} == {
        ("MANUAL", True),
        (ours.run_key, False),
    }
    assert list(ledger.gl_changes("US", start - timedelta(days=2), start - timedelta(days=1))) == []


def test_several_writers_at_once_post_each_journal_once_without_a_gap(erp: Erp) -> None:
    meant = [journal("JP", str(1000 + n), date(2026, 5, 1)) for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        refs = list(pool.map(lambda one: erp.ledger(tries=20).post(one), meant))
    numbers = sorted(int(ref.number.rsplit("-", 1)[1]) for ref in refs if ref.number)
    assert numbers == list(range(numbers[0], numbers[0] + 8))


def test_a_stopped_erp_is_unavailable_and_works_again_once_it_is_back(erp: Erp) -> None:
    meant = journal()
    ledger = erp.ledger()
    ledger.period_status("US", meant.date)
    erp.stop()
    with pytest.raises(ErpUnavailable):
        ledger.post(meant)
    erp.restart()
    assert erp.ledger().post(meant).state == "posted"


def test_a_wrong_password_is_refused_without_showing_it(erp: Erp) -> None:
    wrong = replace(erp.connection(), password="not-the-password")
    with pytest.raises(ErpUnavailable) as caught:
        connect("tryton", wrong, ERP_CONFIG).period_status("US", date(2026, 3, 29))
    assert "not-the-password" not in str(caught.value)
