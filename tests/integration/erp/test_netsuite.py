"""NetSuite's own traps, each shown in the simulator and shown not to catch the adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from requests_oauthlib import OAuth1

from tieout.erp import ErpJournal
from tieout.erp.netsuite import RECORD, external_id
from tieout.errors import ConfigError, PeriodClosed, Rejected
from tieout.ids import short_key
from tieout.ledger.post import differences as every_difference
from tieout_sandbox.simulators.ledger_server import LedgerServer
from tieout_sandbox.simulators.netsuite import NetSuite
from tieout_sandbox.simulators.netsuite.signature import REALM

pytestmark = pytest.mark.server

Make = Callable[..., ErpJournal]
Serve = Callable[[Any], LedgerServer]


def differences(meant: ErpJournal, held: ErpJournal) -> list[str]:
    """What the ERP holds otherwise than meant, in words."""
    return [difference.text for difference in every_difference(meant, held)]


def call(server: LedgerServer, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
    """A signed request of somebody who is not the adapter."""
    token = server.erp.token  # type: ignore[attr-defined]
    auth = OAuth1(
        token.consumer_key, token.consumer_secret, token.token_id, token.token_secret,
        signature_method="HMAC-SHA256", realm=REALM,
    )  # fmt: skip
    headers = {"Content-Type": "application/json", **headers}
    return requests.request(
        method, f"{server.url}/{path}", data=json.dumps(body or {}), headers=headers, auth=auth, timeout=20
    )


def body(server: LedgerServer, **more: Any) -> dict[str, Any]:
    lines = [{"account": {"id": "104"}, "debit": 5, **more}, {"account": {"id": "113"}, "credit": 5}]
    return {"subsidiary": {"id": "2"}, "currency": {"id": "1"}, "tranDate": "2026-03-29", "line": {"items": lines}}


def test_an_unknown_field_is_dropped_in_silence_unless_the_header_forbids_it(served: Serve) -> None:
    server = served(NetSuite())
    misspelt = body(server, departmnet={"id": "5"})
    assert call(server, "POST", RECORD, misspelt).status_code == 204
    refused = call(server, "POST", RECORD, misspelt, **{"X-NetSuite-PropertyNameValidation": "Error"})
    assert refused.status_code == 400
    assert refused.json()["o:errorDetails"][0]["o:errorPath"] == "line.items[0].departmnet"


def test_a_dimension_whose_field_netsuite_does_not_know_is_refused_and_not_lost(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    ledger = server.ledger(dimensions={"product_family": "custcol_family"}, tables={"custcol_family": "classification"})
    with pytest.raises(Rejected, match="custcol_family"):
        ledger.post(journal())
    assert server.erp.journals() == []  # type: ignore[attr-defined]


def test_a_put_rewrites_a_posted_journal_and_the_adapter_never_sends_one(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    ref = server.ledger().post(journal())
    server.ledger().post(replace(journal(), lines=journal(1, "9.00").lines))
    assert differences(journal(), server.ledger().read_back(ref)) == []
    assert {a.method for a in server.asked} == {"GET", "POST"}
    eid = f"{RECORD}/eid:{external_id(journal().run_key)}"
    assert call(server, "PUT", f"{eid}?replace=line", body(server)).status_code == 204
    assert "110.00" in "".join(differences(journal(), server.ledger().read_back(ref)))
    assert call(server, "PUT", eid, body(server)).status_code == 204
    assert len(server.ledger().read_back(ref).lines) == 4


def test_netsuite_itself_refuses_a_second_journal_of_one_external_id(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    first, second = server.ledger(), server.ledger()
    second.post(journal(2))
    ref = None

    def overtaken() -> None:
        nonlocal ref
        ref = ref or first.post(journal())

    assert second.post(journal(), fence=overtaken) == ref
    assert len(server.erp.journals()) == 2  # type: ignore[attr-defined]


def test_a_journal_that_waits_for_approval_is_a_draft_and_in_no_balance(served: Serve, journal: Make) -> None:
    server = served(NetSuite(approval_routing=True))
    ledger = server.ledger()
    ref = ledger.post(journal())
    assert (ref.state, ledger.post(journal())) == ("draft", ref)
    assert differences(journal(), ledger.read_back(ref)) == ["state: draft instead of posted"]
    assert ledger.trial_balance("US", date(2026, 12, 31)) == []
    assert list(ledger.gl_entries("US", date(2026, 1, 1), date(2026, 12, 31))) == []
    server.erp.approve()  # type: ignore[attr-defined]
    assert differences(journal(), ledger.read_back(ref)) == []


def test_a_journal_that_queries_do_not_show_yet_is_not_posted_twice(served: Serve, journal: Make) -> None:
    server = served(NetSuite(lag=3))
    ledger = server.ledger()
    ref = ledger.post(journal())
    assert ledger.find_by_run_key(journal().run_key) == []
    assert server.ledger().post(journal()) == ref
    while not ledger.find_by_run_key(journal().run_key):
        pass
    assert differences(journal(), ledger.read_back(ref)) == []
    assert len(server.erp.journals()) == 1  # type: ignore[attr-defined]


def test_a_second_accounting_book_counts_nothing_twice(served: Serve, journal: Make) -> None:
    server = served(NetSuite(books=(1, 2, 3)))
    ref = server.ledger().post(journal())
    assert len(server.ledger().read_back(ref).lines) == 2
    assert server.ledger().trial_balance("US", date(2026, 3, 31))[0].debit == Decimal("110.00")


def test_a_journal_in_another_period_than_its_date_is_read_back_where_its_amounts_are(
    served: Serve, journal: Make
) -> None:
    server = served(NetSuite())
    ref = server.ledger().post(journal())
    period = "SELECT id FROM accountingperiod WHERE periodname = 'Apr 2026'"
    server.erp.db.execute(f"UPDATE every_transaction SET postingperiod = ({period})")  # type: ignore[attr-defined]
    assert differences(journal(), server.ledger().read_back(ref)) == ["date: 2026-04-01 instead of 2026-03-29"]


def test_amounts_finer_than_the_currency_are_rounded_by_netsuite_and_caught(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    ref = server.ledger().post(journal(1, "1.005"))
    assert len(differences(journal(1, "1.005"), server.ledger().read_back(ref))) == 2


def test_a_period_locked_for_all_transactions_is_closed_to_us(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    server.erp.shut("2026-03-29", column="alllocked")  # type: ignore[call-arg]
    with pytest.raises(PeriodClosed, match="locked"):
        server.ledger().post(journal())


def test_a_login_failure_that_is_only_load_is_tried_again(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    server.dial.set({"kind": "server_error", "status": 401, "method": "POST", "path": "*/journalEntry"})
    server.dial.set({"kind": "server_error", "status": 401, "path": "*/suiteql"})
    assert server.ledger().post(journal()).state == "posted"


def test_more_calls_at_once_than_the_account_allows_are_turned_away(served: Serve, journal: Make) -> None:
    server = served(NetSuite(open_limit=0))
    with pytest.raises(Exception, match="slow down"):
        server.ledger().post(journal())


def test_a_long_query_is_read_page_by_page(served: Serve, journal: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieout.erp.netsuite._ROWS", 7)
    ledger = served(NetSuite(page_limit=7)).ledger()
    ref = ledger.post(journal(1, *(f"{n}.00" for n in range(1, 20))))
    assert len(ledger.read_back(ref).lines) == 38


def test_changes_in_the_hour_that_autumn_repeats_are_found_by_either_reading(served: Serve, journal: Make) -> None:
    server = served(NetSuite(now=datetime(2026, 11, 1, 9, 30, tzinfo=UTC)))  # 1:30 in Los Angeles for the second time
    ledger = server.ledger()
    ledger.post(journal())
    for start in (datetime(2026, 11, 1, 8, 0, tzinfo=UTC), datetime(2026, 11, 1, 9, 0, tzinfo=UTC)):
        assert sum(map(len, ledger.gl_changes("US", start, start + timedelta(hours=1)))) == 2
    assert list(ledger.gl_changes("US", datetime(2026, 11, 1, 11, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))) == []


def test_a_subsidiary_that_is_not_there_and_a_token_in_part_are_told(served: Serve) -> None:
    server = served(NetSuite())
    nobody = server.ledger(companies={"US": "Nobody Ltd"})
    with pytest.raises(ConfigError, match="subsidiary"):
        nobody.gl_accounts("US")
    whole = server.erp.connection
    server.erp.connection = lambda url: replace(whole(url), extra={})  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="consumer_key"):
        server.ledger().gl_accounts("US")


def test_a_journal_of_another_subsidiary_is_not_read_as_ours(served: Serve, journal: Make) -> None:
    server = served(NetSuite())
    key = "TIEOUT/DE/main/2026-03/invoices/2026-03-29/v1"
    ref = server.ledger().post(journal(entity="DE", currency="EUR", run_key=key, short_key=short_key(key)))
    with pytest.raises(Rejected, match="another subsidiary"):
        server.ledger().read_back(replace(ref, entity="US"))
