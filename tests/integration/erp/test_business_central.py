"""Business Central's own traps, each shown in the simulator and shown not to catch the adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests

from tieout.erp import ErpJournal, ErpLine
from tieout.erp.business_central import batch_code, document_number
from tieout.errors import ConfigError, ErpUnavailable, Rejected, UnknownOutcome
from tieout.ledger.post import differences
from tieout_sandbox.simulators.businesscentral import BusinessCentral
from tieout_sandbox.simulators.businesscentral.api import ROOT
from tieout_sandbox.simulators.ledger_server import LedgerServer

pytestmark = pytest.mark.server

Make = Callable[..., ErpJournal]
Serve = Callable[[Any], LedgerServer]


@pytest.fixture
def erp() -> BusinessCentral:
    return BusinessCentral()


@pytest.fixture
def server(served: Serve, erp: BusinessCentral) -> LedgerServer:
    return served(erp)


def call(server: LedgerServer, erp: BusinessCentral, method: str, path: str, body: object = None) -> requests.Response:
    """A request of somebody who is not the adapter, below the company US."""
    erp.tokens.add("somebody")
    company = erp.by_name["US"].id
    return requests.request(
        method, f"{server.url}{ROOT}/companies({company})/{path}", json=body, timeout=20,
        headers={"Authorization": "Bearer somebody"},
    )  # fmt: skip


def somebodys_batch(server: LedgerServer, erp: BusinessCentral, code: str, amount: int = 1) -> str:
    batch = call(server, erp, "POST", "journals", {"code": code}).json()["id"]
    for account, value in (("11000", amount), ("10000", -amount)):
        line = {
            "lineNumber": 1,
            "accountNumber": account,
            "postingDate": "2026-03-29",
            "documentNumber": "X",
            "amount": value,
        }
        assert call(server, erp, "POST", f"journals({batch})/journalLines", line).status_code == 201
    return str(batch)


def test_post_posts_the_whole_batch_so_each_journal_has_one_of_its_own(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    theirs = somebodys_batch(server, erp, "DEFAULT")
    server.ledger().post(journal())
    assert {e["documentNumber"] for e in erp.by_name["US"].entries} == {document_number(journal().run_key)}
    assert call(server, erp, "POST", f"journals({theirs})/Microsoft.NAV.post", {}).status_code == 204
    assert len(erp.by_name["US"].entries) == 4
    again = call(server, erp, "POST", f"journals({theirs})/Microsoft.NAV.post", {})
    assert "nothing to post" in again.json()["error"]["message"]


def test_a_line_somebody_put_into_our_batch_is_not_posted_with_it(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    server.dial.set({"kind": "timeout", "path": "*/Microsoft.NAV.post"})
    ledger = server.ledger()
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    [left] = ledger.find_by_run_key(journal().run_key)
    assert left.state == "draft"
    line = {"lineNumber": 1, "accountNumber": "11000", "postingDate": "2026-03-29", "documentNumber": "X", "amount": 0}
    call(server, erp, "POST", f"journals({left.erp_id})/journalLines", line)
    ref = ledger.post(journal())
    assert differences(journal(), ledger.read_back(ref)) == []
    assert {e["documentNumber"] for e in erp.by_name["US"].entries} == {ref.erp_id}


def test_a_whole_batch_that_an_earlier_attempt_left_is_posted_and_then_removed(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    server.dial.set({"kind": "timeout", "path": "*/Microsoft.NAV.post"})
    ledger = server.ledger()
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    asked = len(server.asked)
    assert ledger.post(journal()).state == "posted"
    assert not [a for a in server.asked[asked:] if a.path.endswith("$batch")]
    assert erp.by_name["US"].journals == {}


def test_a_batch_left_half_filled_is_made_anew_so_that_a_late_request_to_it_finds_nothing(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    books = erp.by_name["US"]
    server.dial.set({"kind": "timeout", "after": True, "path": "*/$batch", "skip": 1})
    with pytest.raises(UnknownOutcome):
        server.ledger().post(journal())
    old = next(iter(books.journals))
    books.lines.popitem()
    server.ledger().post(journal())
    assert call(server, erp, "POST", f"journals({old})/Microsoft.NAV.post", {}).status_code == 404
    assert len(books.entries) == 2


def test_the_code_of_a_batch_ends_in_a_letter_because_posting_counts_up_a_number(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    theirs = somebodys_batch(server, erp, "RUN009")
    call(server, erp, "POST", f"journals({theirs})/Microsoft.NAV.post", {})
    assert erp.by_name["US"].journals[theirs]["code"] == "RUN010"
    assert batch_code(journal().run_key)[-1] == "X"


def test_a_currency_has_no_place_in_a_line(server: LedgerServer, erp: BusinessCentral, journal: Make) -> None:
    batch = call(server, erp, "POST", "journals", {"code": "FX"}).json()["id"]
    refused = call(
        server, erp, "POST", f"journals({batch})/journalLines", {"currencyCode": "EUR", "accountNumber": "11000"}
    )
    assert (refused.status_code, "currencyCode" in refused.text) == (400, True)
    with pytest.raises(Rejected, match="functional currency"):
        server.ledger().post(journal(currency="EUR"))


def test_a_refused_line_leaves_no_batch_behind(server: LedgerServer, erp: BusinessCentral, journal: Make) -> None:
    ledger = server.ledger()
    ledger.gl_accounts("US")
    erp_lines = erp._add_line

    def full(company: Any, batch: str, body: Any) -> Any:
        if body["lineNumber"] == 20_000:
            body = {**body, "description": "x" * 101}
        return erp_lines(company, batch, body)

    erp._add_line = full  # type: ignore[method-assign]
    with pytest.raises(Rejected, match="exceeds"):
        ledger.post(journal())
    assert (erp.by_name["US"].journals, erp.by_name["US"].lines) == ({}, {})


def test_more_lines_than_one_batch_request_takes_go_in_hundreds(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    meant = journal(1, *(f"{n}.01" for n in range(1, 76)))
    ref = server.ledger().post(meant)
    assert differences(meant, server.ledger(page=40).read_back(ref)) == []
    assert [a.path for a in server.asked].count(f"{ROOT}/$batch") == 3


def test_dates_that_posting_is_not_allowed_on_are_closed_though_the_period_is_open(
    server: LedgerServer, erp: BusinessCentral
) -> None:
    erp.by_name["US"].allowed = ("2026-03-01", "2026-03-28")
    ledger = server.ledger()
    assert ledger.period_status("US", date(2026, 3, 28)).is_open
    status = ledger.period_status("US", date(2026, 3, 29))
    assert (status.state, status.reason) == ("closed", "posting is allowed from 2026-03-01 to 2026-03-28 in the ERP")
    erp.by_name["US"].closed_years.add(2025)
    assert ledger.period_status("US", date(2025, 12, 31)).state == "locked"


def test_a_trial_balance_that_is_not_the_sum_of_the_entries_is_no_answer(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    server.ledger().post(journal(1, "12345.67"))
    assert server.ledger().trial_balance("US", date(2026, 3, 31))[0].closing == Decimal("12345.67")
    erp.stale_trial_balance = True
    with pytest.raises(ErpUnavailable, match="not the sum"):
        server.ledger().trial_balance("US", date(2026, 3, 31))


def test_a_changed_description_is_told_and_does_not_let_a_second_journal_in(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    ref = server.ledger().post(journal())
    erp.by_name["US"].entries[0]["description"] = "tidied up"
    assert server.ledger().post(journal()) == ref
    with pytest.raises(Rejected, match="lost its run key"):
        server.ledger().find_by_run_key("US/main/2026-03/invoices/2026-03-29")


def test_entries_older_than_their_stamp_have_their_day_for_it(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    server.ledger().post(journal())
    erp.by_name["US"].entries[0]["lastModifiedDateTime"] = None
    [page] = server.ledger().gl_entries("US", date(2026, 3, 1), date(2026, 3, 31))
    assert page[0].changed_at == datetime(2026, 3, 29, tzinfo=UTC)
    since, until = datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC)
    assert [len(page) for page in server.ledger().gl_changes("US", since, until)] == [2]


def test_a_next_page_at_another_address_is_not_followed(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    server.ledger().post(journal())
    collection = erp._collection

    def elsewhere(*given: Any) -> dict[str, Any]:
        return {**collection(*given), "@odata.nextLink": "http://127.0.0.1:9/steal"}

    erp._collection = elsewhere  # type: ignore[method-assign]
    with pytest.raises(ErpUnavailable, match="another address"):
        server.ledger().gl_accounts("US")


def test_on_premises_a_user_and_a_web_service_key_sign_in(server: LedgerServer, erp: BusinessCentral) -> None:
    whole = erp.connection
    erp.connection = lambda url: replace(whole(url), extra={})  # type: ignore[method-assign]
    with pytest.raises(ErpUnavailable, match="credentials"):
        server.ledger().gl_accounts("US")
    erp.on_premises = True
    assert server.ledger().gl_accounts("US")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"companies": {"US": "Nobody"}}, "exactly one such company"),
        ({"dimensions": {"product_family": "COLOUR"}}, "no such dimension"),
    ],
)
def test_what_the_environment_does_not_have_is_told(server: LedgerServer, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        server.ledger(**changed).gl_accounts("US")


def test_a_dimension_value_is_the_name_of_one_and_read_back_as_that(server: LedgerServer, journal: Make) -> None:
    lines = (
        ErpLine("11000", Decimal(1), Decimal(0)),
        ErpLine("40100", Decimal(0), Decimal(1), "", {"product_family": "V1"}),
    )
    with pytest.raises(Rejected, match="no such dimension value"):
        server.ledger().post(journal(lines=lines))


def test_lines_that_arrive_twice_are_seen_before_they_are_posted(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    ledger = server.ledger()
    ledger.gl_accounts("US")
    batch = erp._batch

    def twice(sent: Any, base: str, *, whole: bool) -> Any:
        if "journals(" in sent["requests"][0]["url"]:
            batch(sent, base, whole=whole)
        return batch(sent, base, whole=whole)

    erp._batch = twice  # type: ignore[method-assign]
    with pytest.raises(UnknownOutcome, match="did not become the journal"):
        ledger.post(journal())
    assert (erp.by_name["US"].journals, erp.by_name["US"].entries) == ({}, [])
    erp._batch = batch  # type: ignore[method-assign]
    assert ledger.post(journal()).state == "posted"


def test_an_empty_batch_that_an_earlier_attempt_left_is_made_anew(
    server: LedgerServer, erp: BusinessCentral, journal: Make
) -> None:
    code = batch_code(journal().run_key)
    left = call(server, erp, "POST", "journals", {"code": code, "displayName": journal().run_key}).json()["id"]
    assert server.ledger().find_by_run_key(journal().run_key) == []
    assert server.ledger().post(journal()).state == "posted"
    assert left not in erp.by_name["US"].journals
    call(server, erp, "POST", "journals", {"code": batch_code(journal(2).run_key), "displayName": "somebody's"})
    with pytest.raises(Rejected, match="has the code of ours"):
        server.ledger().post(journal(2))
