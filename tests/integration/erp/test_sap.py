"""SAP's own traps, each shown in the simulator and shown not to catch the adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from tieout.erp import ErpJournal, ErpLine
from tieout.errors import ConfigError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.ledger.post import differences as every_difference
from tieout_sandbox.simulators.ledger_server import LedgerServer
from tieout_sandbox.simulators.sap import Sap
from tieout_sandbox.simulators.sap.contract import PATH, wsdl

pytestmark = pytest.mark.server

Make = Callable[..., ErpJournal]
Serve = Callable[[Any], LedgerServer]


def differences(meant: ErpJournal, held: ErpJournal) -> list[str]:
    """What the ERP holds otherwise than meant, in words."""
    return [difference.text for difference in every_difference(meant, held)]


@pytest.fixture
def erp() -> Sap:
    return Sap()


@pytest.fixture
def server(served: Serve, erp: Sap) -> LedgerServer:
    return served(erp)


@pytest.mark.parametrize("number", [" ", "0000000000"], ids=["blank", "zeros"])
def test_a_confirmation_with_http_200_and_no_document_is_a_refusal(
    server: LedgerServer, erp: Sap, journal: Make, number: str
) -> None:
    erp.refusal_number = number
    erp.shut("2026-03-29")
    with pytest.raises(PeriodClosed, match=r"201\(F5\)"):
        server.ledger().post(journal())
    assert [a.status for a in server.asked if a.method == "POST"] == [200]
    assert erp.documents() == []


@pytest.mark.parametrize(
    ("made", "log"),
    [
        ("0100000009", [("507(F5)", "an account is not defined")]),
        (" ", [("605(RW)", "posted")]),
    ],
    ids=["a number in a refusal", "no number in a success"],
)
def test_a_confirmation_that_contradicts_itself_says_nothing(
    server: LedgerServer, erp: Sap, journal: Make, made: str, log: list[tuple[str, str]]
) -> None:
    erp._one = lambda request: (made, "1710", "2026", log)  # type: ignore[method-assign]
    with pytest.raises(UnknownOutcome, match="cannot be read"):
        server.ledger().post(journal())


def test_a_confirmation_of_two_journals_is_none_of_ours(server: LedgerServer, erp: Sap, journal: Make) -> None:
    confirmations = erp._confirmations
    erp._confirmations = lambda made: confirmations([*made, *made])  # type: ignore[method-assign]
    with pytest.raises(UnknownOutcome):
        server.ledger().post(journal())
    assert server.ledger().post(journal()).state == "posted"
    assert len(erp.documents()) == 1


def test_sap_posts_the_same_journal_twice_and_the_adapter_tells_of_both(
    server: LedgerServer, erp: Sap, journal: Make
) -> None:
    ledger = server.ledger()
    ledger.post(journal())
    for item in [i.copy() for i in erp.items]:
        erp.items.append({**item, "AccountingDocument": "0100000099"})
    assert [ref.number for ref in ledger.find_by_run_key(journal().run_key)] == ["0100000001", "0100000099"]
    with pytest.raises(Rejected, match="more than once"):
        ledger.post(journal())


@pytest.mark.parametrize(("idempotent", "documents"), [(True, 1), (False, 2)], ids=["idempotent", "not"])
def test_a_message_delivered_twice_is_told_by_its_uuid_where_the_service_is_idempotent(
    served: Serve, journal: Make, idempotent: bool, documents: int
) -> None:
    erp = Sap(idempotent=idempotent)
    server = served(erp)
    ledger = server.ledger()
    sent: list[bytes] = []
    message = ledger._service().message  # type: ignore[attr-defined]

    def seen(*given: Any) -> bytes:
        sent.append(message(*given))
        return sent[-1]

    ledger._service().message = seen  # type: ignore[attr-defined]
    ref = ledger.post(journal())
    again = requests.post(f"{server.url}{PATH}", sent[0], auth=(erp.user, erp.password), timeout=10)
    assert again.status_code == 200
    assert len(erp.documents()) == documents
    assert ledger.find_by_run_key(journal().run_key)[0] == ref


def test_a_document_that_is_not_shown_yet_is_sent_again_by_nobody_but_a_look_up_too_early(
    served: Serve, journal: Make
) -> None:
    erp = Sap(lag=2)
    ledger = served(erp).ledger()
    ref = ledger.post(journal())
    assert ledger.find_by_run_key(journal().run_key) == []
    while not ledger.find_by_run_key(journal().run_key):
        pass
    assert ledger.post(journal()) == ref
    assert len(erp.documents()) == 1


def test_a_dimension_in_the_wrong_place_is_ignored_and_the_read_back_shows_it(
    server: LedgerServer, erp: Sap, journal: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = server.ledger()
    monkeypatch.setattr("tieout.erp.sap._ON_THE_ITEM", frozenset({"ProfitCenter"}))
    with pytest.raises(Rejected, match="no place for this"):  # zeep knows where it belongs
        ledger.post(journal())
    monkeypatch.undo()
    message = ledger._service().message  # type: ignore[attr-defined]

    def misplaced(*given: Any) -> bytes:
        return bytes(message(*given).replace(b"<AccountAssignment>", b"").replace(b"</AccountAssignment>", b""))

    ledger._service().message = misplaced  # type: ignore[attr-defined]
    ref = ledger.post(journal())
    assert "{'product_family': 'seats'}" in " ".join(differences(journal(), ledger.read_back(ref)))


def test_a_dimension_value_that_sap_cannot_hold_as_it_stands_is_refused(server: LedgerServer, journal: Make) -> None:
    for value in ("a_lower_one", "TWELVE_LONGER"):
        line = ErpLine("40100", Decimal(0), Decimal("110.00"), "", {"product_family": value})
        with pytest.raises(Rejected, match="no such dimension value"):
            server.ledger().post(journal(lines=(journal().lines[0], line)))


def test_the_ledgers_own_balances_are_one_ledgers_and_without_what_a_year_brings_forward(
    server: LedgerServer, erp: Sap, journal: Make
) -> None:
    erp.by_hand("US", "2025-06-30", ("11000", "40.00", ""), ("10000", "", "40.00"))
    server.ledger().post(journal())
    balances = {b.account: b.closing for b in server.ledger().trial_balance("US", date(2026, 3, 31))}
    assert balances == {"10000": Decimal("-40.00"), "11000": Decimal("150.00"), "40100": Decimal("-110.00")}


def test_what_only_the_ledger_has_is_in_the_balance_once_its_month_is_over(
    server: LedgerServer, erp: Sap, journal: Make
) -> None:
    server.ledger().post(journal())
    erp.ledger_only += [
        ("1710", "2026-03-15", "11000", Decimal("7.00")),
        ("1710", "2026-03-15", "30000", Decimal("-7.00")),
    ]

    def closing(on: date) -> dict[str, Decimal]:
        return {b.account: b.closing for b in server.ledger().trial_balance("US", on)}

    assert closing(date(2026, 3, 30)) == {"11000": Decimal("110.00"), "40100": Decimal("-110.00")}
    assert closing(date(2026, 3, 31)) == {
        "11000": Decimal("117.00"), "30000": Decimal("-7.00"), "40100": Decimal("-110.00"),
    }  # fmt: skip
    entries = [e for page in server.ledger().gl_entries("US", date(2026, 3, 1), date(2026, 3, 31)) for e in page]
    assert sum(e.debit for e in entries) == Decimal("110.00")


def test_a_document_in_another_period_than_its_date_is_read_back_where_its_amounts_are(
    server: LedgerServer, erp: Sap, journal: Make
) -> None:
    ref = server.ledger().post(journal())
    for item in erp.items:
        item["FiscalPeriod"] = "004"
    assert differences(journal(), server.ledger().read_back(ref)) == ["date: 2026-04-01 instead of 2026-03-29"]


def test_a_special_period_is_december(server: LedgerServer, erp: Sap, journal: Make) -> None:
    meant = journal(date=date(2026, 12, 31))
    ref = server.ledger().post(meant)
    for item in erp.items:
        item["FiscalPeriod"] = "013"
    assert differences(meant, server.ledger().read_back(ref)) == []


def test_a_header_that_somebody_changed_does_not_let_a_second_journal_in(
    server: LedgerServer, erp: Sap, journal: Make
) -> None:
    ref = server.ledger().post(journal())
    for item in erp.items:
        item["AccountingDocumentHeaderText"] = "tidied up"
    assert server.ledger().post(journal()) == ref
    assert server.ledger().find_by_run_key(journal().run_key) == []
    assert server.ledger().read_back(ref).run_key == ""


def test_a_changed_document_is_among_the_changes_of_its_day(server: LedgerServer, erp: Sap, journal: Make) -> None:
    server.ledger().post(journal())
    for item in erp.items:
        item["LastChangeDate"] = "2026-04-02T00:00:00"
    day = datetime(2026, 4, 2, tzinfo=UTC)
    [page] = server.ledger().gl_changes("US", day, day + timedelta(days=1))
    assert [e.changed_at for e in page] == [day, day]
    assert list(server.ledger().gl_changes("US", day + timedelta(days=2), day + timedelta(days=3))) == []


def test_a_negative_posting_takes_back_from_its_own_side(server: LedgerServer, erp: Sap, journal: Make) -> None:
    server.ledger().post(journal())
    for item in erp.items:
        item["IsNegativePosting"] = True
    entries = [e for page in server.ledger().gl_entries("US", date(2026, 3, 1), date(2026, 3, 31)) for e in page]
    assert [(e.debit, e.credit) for e in entries] == [
        (Decimal("-110.00"), Decimal(0)),
        (Decimal(0), Decimal("-110.00")),
    ]


def test_pages_are_cut_between_documents_and_the_services_own_links_are_followed(served: Serve, journal: Make) -> None:
    erp = Sap(most_rows=3)
    server = served(erp)
    for version in range(1, 4):
        server.ledger().post(journal(version, "1.00", "2.00", "3.00"))
    for size in (1, 4, 6, 7, 100):
        pages = list(server.ledger(page=size).gl_entries("US", date(2026, 3, 1), date(2026, 3, 31)))
        assert sum(map(len, pages)) == 18
        assert len({e.erp_id for page in pages for e in page}) == 18


def test_the_wsdl_comes_from_a_file_or_from_the_system_itself(
    server: LedgerServer, erp: Sap, journal: Make, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.wsdl"
    saved.write_text(wsdl("https://elsewhere.example.com/"))
    whole = erp.connection

    def ledger(place: str | None) -> Any:
        erp.connection = lambda url: replace(whole(url), extra={"wsdl": place} if place else {})  # type: ignore[method-assign]
        return server.ledger()

    assert ledger(str(saved)).post(journal(1)).state == "posted"
    assert not [a for a in server.asked if a.method == "GET" and a.path == PATH]
    for place, says in (
        (None, "names no WSDL"),
        (str(tmp_path / "none"), "cannot be read"),
        ("https://elsewhere.example.com/x?wsdl", "not the connection's host"),
    ):
        with pytest.raises(ConfigError, match=says):
            ledger(place).post(journal(2))
    saved.write_text("<html/>")
    with pytest.raises(ConfigError, match="cannot be used"):
        ledger(str(saved)).post(journal(2))
    elsewhere = (
        '<xsd:schema><xsd:import namespace="urn:x" schemaLocation="http://evil.example.com/x.xsd"/></xsd:schema>'
    )
    saved.write_text(wsdl("x").replace("<wsdl:types>", f"<wsdl:types>{elsewhere}"))
    with pytest.raises(ConfigError, match="imports another file"):
        ledger(str(saved)).post(journal(2))


def test_a_run_key_too_long_for_the_headers_fields_is_refused(server: LedgerServer, journal: Make) -> None:
    key = "TIEOUT/US/main/2026-03/a_stream_of_more_than_twenty_signs/2026-03-29/v1"
    with pytest.raises(Rejected, match="too long"):
        server.ledger().post(journal(run_key=key, short_key=short_key(key)))


def test_a_company_code_that_is_not_there_is_told(server: LedgerServer) -> None:
    with pytest.raises(ConfigError, match="company code"):
        server.ledger(companies={"US": "9999"}).gl_accounts("US")


def test_a_next_page_at_another_address_is_not_followed(server: LedgerServer, erp: Sap) -> None:
    rows = erp._rows

    def elsewhere(*given: Any) -> Any:
        answer = rows(*given)
        answer.body = answer.body.replace(b'{"results"', b'{"__next":"http://127.0.0.1:9/steal","results"')
        answer.headers["content-length"] = str(len(answer.body))
        return answer

    erp._rows = elsewhere  # type: ignore[method-assign]
    with pytest.raises(ErpUnavailable, match="another address"):
        server.ledger().gl_accounts("US")
