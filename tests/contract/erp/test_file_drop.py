"""A ledger behind a drop folder: nothing half, nothing twice, and nothing believed that no ledger extract shows."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tieout import ids
from tieout.entities import LegalEntity
from tieout.erp import Erp, ErpJournal, ErpLine, connect
from tieout.erp.file_drop import FileDropConfig, FileDropLedger
from tieout.errors import ErpUnavailable, LeaseLost, PeriodClosed, Rejected, UnknownOutcome
from tieout.settings import Connection
from tieout_sandbox.simulators.legacy_erp import LegacyErp

D = Decimal
DAY = date(2026, 3, 30)
SLOT = ids.Slot("US", "main", "2026-03", "billing", DAY)
CONFIG = {
    "companies": {"US": "0100"},
    "currencies": {"US": "USD"},
    "dimensions": ["product_family"],
    "acknowledged_within": 0,
    "look_every": 0.01,
}


@pytest.fixture
def erp(tmp_path: Path) -> LegacyErp:
    accounts = {"11000": "Receivable", "40100": "Revenue", "22000": "Tax"}
    return LegacyErp(tmp_path, {"0100": "USD", "0200": "EUR"}, accounts)


@pytest.fixture
def ledger(erp: LegacyErp) -> FileDropLedger:
    return connected(erp)


@pytest.fixture
def attended(erp: LegacyErp) -> Iterator[FileDropLedger]:
    """With the ERP's import running beside."""
    with erp.running():
        yield connected(erp, acknowledged_within=20)


def connected(erp: LegacyErp, **config: object) -> FileDropLedger:
    made = connect("file_drop", Connection("legacy", f"file://{erp.root}"), CONFIG | config)
    assert isinstance(made, FileDropLedger)
    return made


def journal(version: int = 1, amount: str = "100.10", on: date = DAY) -> ErpJournal:
    key = ids.run_key(SLOT, version)
    lines = (
        ErpLine("11000", D(amount), D(0), 'receivable, "quoted"'),
        ErpLine("40100", D(0), D(amount) - D("0.10"), "seats\nof March", {"product_family": "seats"}),
        ErpLine("22000", D(0), D("0.10"), "tax"),
    )
    return ErpJournal("US", key, ids.short_key(key), on, "USD", "Billing", lines, anchor="audit 7:0123456789abcdef")


def dropped(erp: LegacyErp) -> list[str]:
    return sorted(p.name for p in (erp.root / "out").rglob("*") if p.is_file())


def test_a_journal_is_dropped_once_acknowledged_and_proved_by_the_extract(erp, attended):
    ref = attended.post(journal())
    assert (ref.state, ref.run_key) == ("posted", journal().run_key)
    erp.run()
    held = attended.read_back(attended.find_by_run_key(journal().run_key)[0])
    assert held == journal()
    assert attended.post(journal()).number == "JV-000001"
    assert dropped(erp) == [f"{journal().short_key}.1.csv", f"{journal().short_key}.1.csv.ok"]
    assert len(erp.journals) == 1


def test_the_file_says_what_it_holds_and_its_manifest_proves_it(erp, ledger):
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    path = erp.root / "out" / "US" / "2026-03" / f"{journal().short_key}.1.csv"
    content, manifest = path.read_bytes(), json.loads(path.with_name(f"{path.name}.ok").read_text())
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest()
    assert (manifest["debit"], manifest["credit"], manifest["lines"]) == ("100.10", "100.10", 3)
    rows = list(csv.reader(content.decode().splitlines(keepends=True)))
    assert [row[0] for row in rows] == ["H", "#", "L", "L", "L", "T"]
    assert rows[-1] == ["T", "3", "100.10", "100.10"]
    assert rows[3] == ["L", "2", "40100", "0", "100.00", "seats\nof March", "seats"]


def test_without_a_word_nothing_is_dropped_again(erp, ledger):
    for _ in range(3):
        with pytest.raises(UnknownOutcome, match="not acknowledged"):
            ledger.post(journal())
    assert len(dropped(erp)) == 2
    (draft,) = ledger.find_by_run_key(str(SLOT))
    assert draft.state == "draft"
    with pytest.raises(ErpUnavailable, match="not acknowledged yet"):
        ledger.read_back(draft)
    erp.run()
    assert ledger.post(journal()).state == "posted"
    assert len(erp.journals) == 1


def test_an_acknowledgement_alone_proves_nothing(erp, ledger):
    erp.extracts = False
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    ref = ledger.post(journal())
    with pytest.raises(ErpUnavailable, match="no ledger extract can show the journal yet"):
        ledger.read_back(ref)
    erp.publish()
    assert ledger.read_back(ref) == journal()


def test_an_extract_made_after_the_acknowledgement_that_lacks_the_journal_refutes_it(erp, ledger):
    erp.twist = lambda meant: []
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    with pytest.raises(Rejected, match="no such journal"):
        ledger.read_back(ledger.post(journal()))


def test_a_journal_that_was_imported_without_a_word_is_found_by_the_extract(erp, ledger):
    erp.unspoken = 1
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    assert ledger.post(journal()).number == "JV-000001"
    assert ledger.read_back(ledger.post(journal())) == journal()


def test_a_journal_imported_twice_stops_everything(erp, ledger):
    erp.twist = lambda meant: [meant, {**meant, "id": "GL999999", "number": "JV-999999"}]
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    assert len(ledger.find_by_run_key(journal().run_key)) == 2
    with pytest.raises(Rejected, match="more than once"):
        ledger.post(journal())


def test_what_the_erp_refused_may_be_dropped_again_as_the_next_attempt(erp, ledger):
    erp.closed.add("2026-03")
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())  # its period file did not say so yet
    erp.run()
    assert ledger.find_by_run_key(journal().run_key) == []
    with pytest.raises(PeriodClosed):
        ledger.post(journal())
    assert len(dropped(erp)) == 2
    erp.closed.clear()
    erp.publish()
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    ref = ledger.post(journal())
    assert ref.state == "posted"
    assert dropped(erp)[2] == f"{journal().short_key}.2.csv"


def test_a_refusal_comes_with_the_erps_reason(erp, attended):
    erp.accounts = {"11000": "Receivable", "40100": "Revenue"}
    with pytest.raises(Rejected, match="no account 22000"):
        attended.post(journal())


def test_an_acknowledgement_of_other_bytes_is_none(erp, ledger):
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    (ack,) = (erp.root / "in" / "ack").iterdir()
    told = ack.read_text()
    ack.write_text(told.replace(told.splitlines()[1].split(",")[1], "0" * 64))
    erp.journals.clear()
    (erp.root / "books.json").write_text("[]")
    erp.publish()
    with pytest.raises(UnknownOutcome, match="speaks of another file"):
        ledger.post(journal())
    ack.write_text(told.rstrip("\n"))  # half written: as if it were not there
    with pytest.raises(UnknownOutcome, match="not acknowledged"):
        ledger.post(journal())


def test_what_an_attempt_that_died_left_behind_is_completed(erp, ledger):
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    marker = next((erp.root / "out").rglob("*.ok"))
    marker.unlink()
    assert erp.run() == 0
    assert ledger.find_by_run_key(journal().run_key) == []
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    assert marker.exists()
    assert erp.run() == 1


def test_a_file_of_that_name_with_another_content_is_never_overwritten(erp, ledger):
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    next((erp.root / "out").rglob("*.ok")).unlink()
    with pytest.raises(Rejected, match="another content"):
        ledger.post(journal(amount="7.00"))


def test_a_killed_write_leaves_no_file_of_that_name(erp, ledger, monkeypatch):
    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.post(journal())
    assert dropped(erp) == []


def test_a_writer_that_lost_its_lease_drops_nothing(erp, ledger):
    def fence() -> None:
        raise LeaseLost("somebody else posts now")

    with pytest.raises(LeaseLost):
        ledger.post(journal(), fence=fence)
    assert not (erp.root / "out").exists()


REFUSED = {
    "unbalanced": (lambda j: replace(j, lines=j.lines[:2]), "not balanced"),
    "unknown account": (
        lambda j: replace(j, lines=(replace(j.lines[0], account="9"), *j.lines[1:])),
        "no such account",
    ),
    "another currency": (lambda j: replace(j, currency="EUR"), "functional currency"),
    "no period file around it": (lambda j: replace(j, date=date(2031, 1, 1)), "no period file"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_posted_is_refused_before_it_is_dropped(erp, ledger, change, says):
    with pytest.raises(Rejected, match=says):
        ledger.post(change(journal()))
    assert not (erp.root / "out").exists()


SPOILT = {
    "a changed byte": (lambda text: text.replace("100.10", "100.11", 1), {}, "differs from its manifest"),
    "rows missing": (lambda text: "".join(text.splitlines(keepends=True)[:-1]), {"rows": 3}, "other rows|other totals"),
    "other totals": (lambda text: text, {"debit": "7.00"}, "other totals"),
    "a comma for a point": (lambda text: text.replace("100.10", '"100,10"', 1), {}, "no amount"),
    "a date outside": (lambda text: text, {"until": "2026-01-01"}, "outside its dates"),
}


@pytest.mark.parametrize(("spoil", "says", "told"), SPOILT.values(), ids=SPOILT)
def test_an_extract_that_is_not_whole_is_not_believed(erp, ledger, spoil, says, told):
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    erp.run()
    path = sorted((erp.root / "in" / "gl").glob("0100*.csv"))[-1]
    marker = path.with_name(f"{path.name}.ok")
    path.write_text(spoil(path.read_text()))
    manifest = json.loads(marker.read_text()) | says
    if "differs" not in told:
        content = path.read_bytes()
        manifest |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    marker.write_text(json.dumps(manifest))
    with pytest.raises(ErpUnavailable, match=told):
        ledger.find_by_run_key(journal().run_key)


def test_the_trial_balance_is_the_erps_own_and_moved_on_by_the_extract_between(erp, ledger):
    erp.by_hand("0100", date(2026, 2, 28), "opening", ("11000", "0.10", "0"), ("40100", "0", "0.10"))
    erp.by_hand("0200", DAY, "of another company", ("11000", "9", "0"), ("40100", "0", "9"))
    with pytest.raises(UnknownOutcome):
        ledger.post(journal(amount="1000000.20"))
    erp.run()
    march = {b.account: b for b in ledger.trial_balance("US", date(2026, 3, 31), date(2026, 3, 1))}
    receivable = march["11000"]
    assert (receivable.opening, receivable.debit, receivable.closing) == (D("0.10"), D("1000000.20"), D("1000000.30"))
    assert sum(b.closing for b in march.values()) == 0
    assert {b.account: b.closing for b in ledger.trial_balance("US", date(2026, 1, 1))}["11000"] == 0


def test_a_trial_balance_older_than_the_extract_is_no_proof(erp, ledger):
    erp.by_hand("0100", DAY, "first", ("11000", "1", "0"), ("40100", "0", "1"))
    kept = {p: p.read_bytes() for p in (erp.root / "in" / "tb").iterdir()}
    erp.by_hand("0100", DAY, "second", ("11000", "2", "0"), ("40100", "0", "2"))
    for path in (erp.root / "in" / "tb").iterdir():
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    with pytest.raises(ErpUnavailable, match="older than its ledger extract"):
        ledger.trial_balance("US", DAY)


def test_entries_come_in_pages_of_whole_journals_and_the_newest_extract_wins(erp):
    ledger = connected(erp, page=2)
    for version in (1, 2):
        with pytest.raises(UnknownOutcome):
            ledger.post(journal(version))
    erp.run()
    erp.by_hand("0100", DAY, "by hand", ("11000", "1", "0"), ("40100", "0", "1"))
    pages = list(ledger.gl_entries("US", DAY, DAY))
    assert [len({entry.journal_id for entry in page}) for page in pages] == [2, 1]
    entries = [entry for page in pages for entry in page]
    assert [e.run_key is None for e in entries] == [False] * 6 + [True] * 2
    assert entries[1].dimensions == {"product_family": "seats"}
    assert entries[1].line_no == 2
    assert {e.narrative for e in entries if e.run_key} == {"Billing · audit 7:0123456789abcdef"}
    assert list(ledger.gl_entries("US", date(2026, 3, 1), date(2026, 3, 29))) == []


def test_changes_are_what_the_extracts_of_a_time_brought(erp, ledger):
    erp.by_hand("0100", DAY, "by hand", ("11000", "1", "0"), ("40100", "0", "1"))
    now = datetime.now(UTC)
    assert (
        len(
            [
                e
                for page in ledger.gl_changes("US", now - timedelta(minutes=5), now + timedelta(seconds=1))
                for e in page
            ]
        )
        == 2
    )
    assert list(ledger.gl_changes("US", now - timedelta(days=2), now - timedelta(days=1))) == []


def test_a_reversal_is_a_drop_of_its_own_dated_as_asked(erp, attended):
    ref = attended.post(journal())
    erp.run()
    key = ids.mirror_key(ref.run_key)
    mirror = attended.reverse(attended.find_by_run_key(ref.run_key)[0], date(2026, 4, 1), key, ids.short_key(key))
    erp.run()
    assert mirror.date == date(2026, 4, 1)
    assert all(b.closing == 0 for b in attended.trial_balance("US", date(2026, 4, 1)))


def test_the_check_tells_a_currency_that_is_not_the_entitys():
    common = {"name": "x", "functional_currency": "EUR", "zone": "UTC", "country": "US", "go_live": DAY}
    erp = Erp("file_drop", "file_drop", FileDropConfig.load(CONFIG))
    (problem,) = erp.problems([LegalEntity(id="US", **common)])
    assert "functional currency is EUR" in problem


def test_accounts_and_periods_are_those_of_the_newest_files(erp, ledger):
    assert [account.code for account in ledger.gl_accounts("US")] == ["11000", "22000", "40100"]
    assert ledger.period_status("US", DAY).state == "open"
    erp.closed.add("2026-03")
    erp.publish()
    status = ledger.period_status("US", DAY)
    assert (status.state, status.start, status.end) == ("closed", date(2026, 3, 1), date(2026, 3, 31))
