"""What every cloud ERP's adapter does alike, against its simulator: once, whole, and only typed errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tieout.erp import ErpJournal, ErpLine, Ledger
from tieout.errors import ErpUnavailable, LeaseLost, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.ledger.post import differences
from tieout.settings import Connection
from tieout.store.audit import anchors_in_memos
from tieout_sandbox.simulators.businesscentral import BusinessCentral
from tieout_sandbox.simulators.ledger_server import LedgerServer
from tieout_sandbox.simulators.netsuite import NetSuite
from tieout_sandbox.simulators.sap import Sap

pytestmark = pytest.mark.server

SIMULATORS: dict[str, Callable[[], Any]] = {"businesscentral": BusinessCentral, "netsuite": NetSuite, "sap": Sap}
SENDS = {
    "businesscentral": ("POST", "*/Microsoft.NAV.post"),
    "netsuite": ("POST", "*/record/v1/journalEntry"),
    "sap": ("POST", "*/journalentrycreaterequestconfi"),
}
"""The request that puts a journal into the ledger."""
MARCH = date(2026, 3, 29)
Make = Callable[..., ErpJournal]


@pytest.fixture(params=list(SIMULATORS))
def server(request: pytest.FixtureRequest, served: Callable[[Any], LedgerServer]) -> LedgerServer:
    return served(SIMULATORS[request.param]())


@pytest.fixture
def ledger(server: LedgerServer) -> Ledger:
    return server.ledger()


def posted(server: LedgerServer, ledger: Ledger | None = None) -> list[str]:
    """Run keys of what stands in the ledger, one for each journal."""
    found = (ledger or server.ledger()).find_by_run_key("US/main/2026-03/invoices/2026-03-29")
    return [ref.run_key for ref in found if ref.state == "posted"]


def sends(server: LedgerServer) -> dict[str, Any]:
    """The part of a fault that makes it fire on the request that posts."""
    method, path = SENDS[server.erp.kind]
    return {"method": method, "path": path}


def test_a_journal_is_posted_once_found_by_key_and_slot_and_read_back_as_it_was(
    ledger: Ledger, server: LedgerServer, journal: Make
) -> None:
    meant = journal(1, "110.00", "0.07")
    ref = ledger.post(meant)
    asked = len(server.asked)
    again = ledger.post(meant)
    assert (ref.state, ref.date, ref.run_key) == ("posted", MARCH, meant.run_key)
    assert again == ref
    assert "POST" not in {a.method for a in server.asked[asked:] if "suiteql" not in a.path}
    other = ledger.post(journal(10))
    assert [r.run_key for r in ledger.find_by_run_key(meant.run_key)] == [meant.run_key]
    assert posted(server, ledger) == [meant.run_key, other.run_key]
    assert ledger.find_by_run_key("DE/main/2026-03/invoices/2026-03-29") == []
    held = ledger.read_back(ref)
    assert differences(meant, held) == []
    assert [line.account for line in held.lines] == [line.account for line in meant.lines]
    assert held.number
    assert held.short_key == meant.short_key


def test_every_chunk_and_the_prior_period_stream_have_journals_of_their_own(ledger: Ledger, journal: Make) -> None:
    chunks = [journal(1, suffix=f"/{n}of2") for n in (1, 2)]
    key = "TIEOUT/US/main/2026-03/prior_period/2026-03-31/v2"
    late = journal(run_key=key, short_key=short_key(key))
    for one in (*chunks, late):
        ledger.post(one)
    assert [r.run_key for r in ledger.find_by_run_key(f"{chunks[0].run_key.rpartition('/')[0]}")] == [
        c.run_key for c in chunks
    ]
    assert [r.run_key for r in ledger.find_by_run_key(key)] == [key]


def _debit(amount: str, account: str = "11000", **dimensions: str) -> ErpLine:
    return ErpLine(account, Decimal(amount), Decimal(0), "", dimensions)


_CREDIT = ErpLine("40100", Decimal(0), Decimal(1))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"currency": "EUR"}, "functional currency"),
        ({"lines": (_debit("1", account="99999"), _CREDIT)}, "no such account"),
        ({"lines": (_debit("2"), _CREDIT)}, "(?i)balance"),
        ({"run_key": "someone's own"}, "not a run key"),
        ({"lines": (_debit("1", colour="red"), _CREDIT)}, "no such dimension"),
    ],
    ids=["foreign currency", "unknown account", "unbalanced", "no run key", "unknown dimension"],
)  # fmt: skip
def test_what_the_erp_cannot_take_is_refused_and_nothing_stays_behind(
    ledger: Ledger, server: LedgerServer, journal: Make, changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(Rejected, match=says):
        ledger.post(journal(**changed))
    assert posted(server, ledger) == []


def test_a_journal_of_too_many_lines_is_refused(server: LedgerServer, journal: Make) -> None:
    with pytest.raises(Rejected, match="too many lines"):
        server.ledger(max_lines=2).post(journal(1, "1.00", "2.00"))


def test_a_closed_period_is_told_and_takes_nothing_even_if_it_closes_on_the_way(
    ledger: Ledger, server: LedgerServer, journal: Make
) -> None:
    assert ledger.period_status("US", MARCH).is_open
    server.erp.shut("2026-03-29")
    status = ledger.period_status("US", MARCH)
    assert (status.state, status.start) == ("open" if server.erp.kind == "sap" else "closed", date(2026, 3, 1))
    assert status.reason
    with pytest.raises(PeriodClosed):
        ledger.post(journal())
    server.erp.shut("2026-03-29", shut=False)
    with pytest.raises(PeriodClosed):
        ledger.post(journal(), fence=lambda: server.erp.shut("2026-03-29"))
    server.erp.shut("2026-03-29", shut=False)
    assert posted(server, ledger) == []
    if server.erp.kind != "sap":  # which tells of no period
        assert ledger.period_status("US", date(1990, 1, 1)).state == "absent"


def test_a_lost_answer_is_an_unknown_outcome_and_the_next_attempt_finds_the_journal(
    server: LedgerServer, journal: Make
) -> None:
    server.dial.set({"kind": "timeout", "after": True, **sends(server)})
    with pytest.raises(UnknownOutcome):
        server.ledger().post(journal())
    assert server.ledger().post(journal()).state == "posted"
    assert posted(server) == [journal().run_key]


@pytest.mark.parametrize("after", [False, True], ids=["before the work", "after the work"])
def test_a_failing_gateway_leaves_the_outcome_unknown_and_one_journal_after_the_next_attempt(
    server: LedgerServer, journal: Make, after: bool
) -> None:
    server.dial.set({"kind": "server_error", "status": 502, "after": after, **sends(server)})
    with pytest.raises(UnknownOutcome):
        server.ledger().post(journal())
    server.ledger().post(journal())
    assert posted(server) == [journal().run_key]


def test_what_fails_after_the_journal_was_sent_leaves_its_outcome_unknown(server: LedgerServer, journal: Make) -> None:
    ledger = server.ledger()
    ledger.period_status("US", MARCH)

    def from_now_on() -> None:
        if not server.dial.faults:
            server.dial.set({"kind": "server_error", "status": 503, "count": None, "method": "GET"})

    # SAP's confirmation says it all: nothing is asked after it
    with nullcontext() if server.erp.kind == "sap" else pytest.raises(UnknownOutcome):
        ledger.post(journal(), fence=from_now_on)
    server.dial.clear()
    server.ledger().post(journal())
    assert posted(server) == [journal().run_key]


def test_a_write_that_was_turned_away_for_the_load_is_sent_again_behind_its_fence(
    server: LedgerServer, journal: Make
) -> None:
    fences: list[int] = []
    server.ledger().post(journal(1), fence=lambda: fences.append(1))
    needed = len(fences)
    server.dial.set({"kind": "rate_limit", "retry_after": 0, **sends(server)})
    server.ledger().post(journal(2), fence=lambda: fences.append(1))
    assert len(fences) == 2 * needed + 1
    assert len(posted(server)) == 2


def test_an_erp_that_stays_overloaded_or_away_is_unavailable_and_nothing_was_done(
    server: LedgerServer, journal: Make
) -> None:
    ledger = server.ledger()
    ledger.post(journal(1))
    server.dial.set({"kind": "rate_limit", "retry_after": 0, "count": None, **sends(server)})
    with pytest.raises(ErpUnavailable):
        ledger.post(journal(2))
    server.dial.clear()
    assert posted(server) == [journal(1).run_key]
    server.stop()
    with pytest.raises(ErpUnavailable):
        ledger.post(journal(2))


def test_reads_are_asked_again_and_a_garbled_answer_is_no_answer(server: LedgerServer, journal: Make) -> None:
    ref = server.ledger().post(journal())
    ledger = server.ledger(tries=3)
    for kind in ("cut", "server_error", "rate_limit"):
        server.dial.set({"kind": kind, "status": 503, "retry_after": 0})
        assert ledger.find_by_run_key(ref.run_key) == [ref]
    assert not [f for f in server.dial.listing() if not f["fired"]]


def test_wrong_credentials_are_told_as_such(server: LedgerServer, journal: Make) -> None:
    right = server.erp.connection

    def wrong(url: str) -> Connection:
        return replace(right(url), password="guess")

    server.erp.connection = wrong  # type: ignore[method-assign]
    with pytest.raises(ErpUnavailable, match="credentials"):
        server.ledger().post(journal())


def test_credentials_that_ended_are_renewed_where_the_erp_gives_new_ones(server: LedgerServer, journal: Make) -> None:
    ledger = server.ledger()
    ledger.post(journal(1))
    server.erp.expire()
    if server.erp.kind == "businesscentral":
        ledger.post(journal(2))
    assert server.ledger().post(journal(2)).state == "posted"


def test_the_fence_stops_a_writer_that_lost_its_lease(server: LedgerServer, journal: Make) -> None:
    def lost() -> None:
        raise LeaseLost("taken over")

    with pytest.raises(LeaseLost):
        server.ledger().post(journal(), fence=lost)
    assert posted(server) == []


def test_a_reversal_is_our_own_mirror_on_the_day_asked_for(ledger: Ledger, journal: Make) -> None:
    meant = journal()
    ref, key = ledger.post(meant), f"{meant.run_key}/reversed"
    mirror = ledger.reverse(ref, date(2026, 4, 1), key, short_key(key))
    assert ledger.reverse(ref, date(2026, 4, 1), key, short_key(key)) == mirror
    assert mirror.date == date(2026, 4, 1)
    assert differences(meant.mirrored(date(2026, 4, 1), key, short_key(key)), ledger.read_back(mirror)) == []
    assert {b.account: b.closing for b in ledger.trial_balance("US", date(2026, 4, 30))} == {
        "11000": Decimal(0),
        "40100": Decimal(0),
    }


def test_what_is_not_there_cannot_be_read_back(ledger: Ledger, journal: Make) -> None:
    ref = ledger.post(journal())
    with pytest.raises(Rejected, match="no such journal"):
        ledger.read_back(replace(ref, erp_id="999999"))
    many = ledger.read_back_many([ref, replace(ref, erp_id="999999")])  # type: ignore[attr-defined]
    assert differences(journal(), many[0]) == []
    assert isinstance(many[1], Rejected)


def test_balances_entries_and_changes_agree_and_show_other_peoples_entries(server: LedgerServer, journal: Make) -> None:
    ledger = server.ledger(page=1)
    for version, amount in ((1, "110.00"), (2, "0.07"), (3, "5.00")):
        ledger.post(journal(version, amount, amount))
    server.erp.by_hand("US", "2026-02-27", ("11000", "40.00", ""), ("10000", "", "40.00"))
    server.erp.by_hand("DE", "2026-03-29", ("11000", "77.00", ""), ("10000", "", "77.00"))
    pages = list(ledger.gl_entries("US", date(2026, 1, 1), date(2026, 12, 31)))
    entries = [entry for page in pages for entry in page]
    assert len(entries) == 14
    assert all(len({e.journal_id for e in page}) for page in pages)
    whole = {
        journal_id: [e for e in entries if e.journal_id == journal_id] for journal_id in {e.journal_id for e in entries}
    }
    assert all(sum(e.debit - e.credit for e in lines) == 0 for lines in whole.values())
    assert {e.run_key for e in entries} == {journal(v).run_key for v in (1, 2, 3)} | {None}
    ours = [e for e in entries if e.run_key == journal(1).run_key]
    assert [e.line_no for e in ours] == [1, 2, 3, 4]
    assert ours[1].dimensions == {"product_family": "seats"}
    anchors = anchors_in_memos((e.run_key, text) for e in ours if e.run_key for text in (e.narrative, e.description))
    assert [(a.chain, a.length, a.head) for a in anchors] == [("US/main", 1234567, "0123456789abcdef")]
    totals: dict[str, Decimal] = {}
    for e in entries:
        totals[e.account] = totals.get(e.account, Decimal(0)) + e.debit - e.credit
    balances = ledger.trial_balance("US", date(2026, 12, 31))
    assert {b.account: b.closing for b in balances} == totals
    assert sum(b.debit for b in balances) == sum(e.debit for e in entries)
    march = {b.account: b for b in ledger.trial_balance("US", date(2026, 3, 31), date(2026, 3, 1))}
    assert (march["11000"].opening, march["11000"].debit) == (Decimal("40.00"), Decimal("230.14"))
    assert march["10000"].closing == Decimal("-40.00")
    february = [e for page in ledger.gl_entries("US", date(2026, 2, 1), date(2026, 2, 28)) for e in page]
    assert {e.account for e in february} == {"11000", "10000"}


def test_changes_are_those_of_the_window_half_open(server: LedgerServer, journal: Make) -> None:
    ledger = server.ledger()
    now = datetime(2026, 3, 30, 9, 0, tzinfo=UTC)
    ledger.post(journal())
    for since, until, found in (
        (now, now + timedelta(minutes=1), 2),
        (now - timedelta(days=1), now, 0),
        (now + timedelta(seconds=1), now + timedelta(days=1), 0),
    ):
        assert sum(len(page) for page in ledger.gl_changes("US", since, until)) == found


def test_the_chart_lists_the_accounts_that_take_postings(ledger: Ledger) -> None:
    accounts = ledger.gl_accounts("US")
    assert [a.code for a in accounts] == sorted(a.code for a in accounts)
    assert ("11000", "USD") in {(a.code, a.currency) for a in accounts}
    assert {a.currency for a in ledger.gl_accounts("JP")} == {"JPY"}


def test_never_more_calls_in_a_second_or_open_at_once_than_configured(server: LedgerServer, journal: Make) -> None:
    ledger, version = server.ledger(calls_per_second=10), 0
    while len(server.asked) <= 22:
        version += 1
        ledger.post(journal(version))
    lasted = server.asked[-1].at - server.asked[0].at
    # by when the server saw them, which the line may have delayed: over the whole, not second by second
    assert len(server.asked) <= 10 * (lasted + 1)
    assert server.most_open == 1
