"""Every fault of the dial does what it says, as often as it says, where it says."""

from __future__ import annotations

import json
import time

import pytest
import requests

pytestmark = [pytest.mark.server, pytest.mark.fault]


def names(answer):
    return [c["name"] for c in answer.json()["data"]]


class TestControl:
    def test_needs_the_token(self, vendors):
        for path in ("clock", "faults", "requests", "limits", "contents"):
            assert vendors.session.get(f"{vendors.base}/_control/{path}", timeout=5).status_code == 401
        assert vendors.session.get(f"{vendors.base}/_control/ready", timeout=5).text == "ready\n"

    def test_wrong_settings_are_explained(self, vendors):
        headers = {"Authorization": f"Bearer {vendors.secrets['control_token']}"}
        for setting in ({"kind": "meteor"}, {"kind": "bad_row"}, {"kind": "slow", "secs": 1}, {"kind": "drop_field"}):
            answer = vendors.session.post(f"{vendors.base}/_control/faults", json=setting, headers=headers, timeout=5)
            assert answer.status_code == 422
        assert vendors.control("GET", "faults")["faults"] == []

    def test_requests_are_counted_without_ids_or_keys(self, vendors):
        vendors.control("DELETE", "requests")
        vendors.stripe("customers/cus_001")
        vendors.stripe("customers/cus_002")
        counted = vendors.control("GET", "requests")["by_path"]
        assert counted["GET /stripe/v1/customers/{id} 200"] == 2

    def test_faults_show_how_often_they_fired(self, vendors):
        fault = vendors.fault(kind="server_error", path="/stripe/v1/charges*", count=2, skip=1)
        statuses = [vendors.stripe("charges").status_code for _ in range(5)]
        assert statuses == [200, 500, 500, 200, 200]
        assert vendors.stripe("customers").status_code == 200
        shown = vendors.control("GET", "faults")["faults"]
        assert [(f["id"], f["fired"]) for f in shown] == [(fault, 2)]

    def test_until_cleared(self, vendors):
        fault = vendors.fault(kind="server_error", status=503, path="/stripe/*", count=None)
        assert {vendors.stripe("charges").status_code for _ in range(4)} == {503}
        vendors.control("DELETE", f"faults/{fault}")
        assert vendors.stripe("charges").status_code == 200


class TestTransport:
    def test_stripe_rate_limit(self, vendors):
        vendors.fault(kind="rate_limit", path="/stripe/*", retry_after=7)
        answer = vendors.stripe("customers")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit")
        assert answer.headers["Retry-After"] == "7"
        assert answer.headers["Stripe-Rate-Limited-Reason"] == "global-rate"

    def test_salesforce_says_403(self, vendors):
        token = vendors.salesforce_token()
        vendors.fault(kind="rate_limit", path="/salesforce/*", query="FROM Account")
        assert vendors.salesforce("limits", token=token).status_code == 200
        answer = vendors.salesforce("query", token=token, params={"q": "SELECT Id FROM Account"})
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")

    def test_zendesk_rate_limit(self, vendors):
        vendors.fault(kind="rate_limit", path="/zendesk/*incremental*")
        answer = vendors.zendesk("incremental/tickets/cursor?start_time=0")
        assert (answer.status_code, answer.json()["error"]) == (429, "APIRateLimitExceeded")
        assert answer.headers["Retry-After"] == "1"

    def test_timeout(self, vendors):
        vendors.fault(kind="timeout", path="/stripe/v1/customers", seconds=5)
        with pytest.raises(requests.Timeout):
            vendors.stripe("customers", timeout=0.3)
        assert vendors.stripe("customers").status_code == 200

    def test_dropped_without_an_answer(self, vendors):
        vendors.fault(kind="timeout", path="/stripe/v1/customers", seconds=0)
        with pytest.raises(requests.ConnectionError):
            vendors.stripe("customers")

    def test_cut_in_the_middle_of_the_body(self, vendors):
        vendors.fault(kind="cut", path="/zendesk/*")
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            vendors.zendesk("tickets")
        assert vendors.zendesk("tickets").status_code == 200

    def test_slow(self, vendors):
        vendors.fault(kind="slow", path="/stripe/*", seconds=0.4)
        began = time.monotonic()
        assert vendors.stripe("customers").status_code == 200
        assert time.monotonic() - began >= 0.4


class TestDuplicatePages:
    """A page is served twice in a row; a reader that follows the cursors sees rows twice and still all of them."""

    def test_stripe(self, vendors):
        vendors.fault(kind="duplicate_page", path="/stripe/v1/customers")
        seen, params = [], {"limit": 10}
        while True:
            page = vendors.stripe("customers", params=params).json()
            seen += [c["id"] for c in page["data"]]
            if not page["has_more"]:
                break
            params["starting_after"] = seen[-1]
        assert len(seen) == 35
        assert len(set(seen)) == 25

    def test_salesforce(self, vendors):
        token = vendors.salesforce_token()
        vendors.fault(kind="duplicate_page", path="/salesforce/*/query*")
        options = {"Sforce-Query-Options": "batchSize=200"}
        page = vendors.salesforce("query", token=token, params={"q": "SELECT Id FROM Account"}, headers=options).json()
        seen = [r["Id"] for r in page["records"]]
        while not page["done"]:
            page = vendors.salesforce(page["nextRecordsUrl"], token=token).json()
            seen += [r["Id"] for r in page["records"]]
        assert (len(seen), len(set(seen))) == (651, 451)

    def test_zendesk(self, vendors):
        vendors.fault(kind="duplicate_page", path="/zendesk/*/tickets/cursor")
        page = vendors.zendesk("incremental/tickets/cursor?start_time=0&per_page=20").json()
        seen = [t["id"] for t in page["tickets"]]
        while not page["end_of_stream"]:
            page = vendors.zendesk("incremental/tickets/cursor", params={"cursor": page["after_cursor"]}).json()
            seen += [t["id"] for t in page["tickets"]]
        assert (len(seen), len(set(seen))) == (50, 30)


class TestSchemaDrift:
    @pytest.mark.parametrize(
        ("setting", "check"),
        [
            ({"kind": "drop_field", "field": "email"}, lambda c: "email" not in c),
            (
                {"kind": "rename_field", "field": "email", "to": "mail"},
                lambda c: "email" not in c and "@" in c["mail"],
            ),
            ({"kind": "new_field", "field": "mood", "value": "good"}, lambda c: c.get("mood") == "good"),
            ({"kind": "change_type", "field": "created"}, lambda c: isinstance(c["created"], str)),
            ({"kind": "drop_field", "field": "metadata.crm_account_id"}, lambda c: c["metadata"] == {}),
        ],
        ids=["dropped", "renamed", "new", "changed type", "nested"],
    )
    def test_every_record_of_the_answer(self, vendors, setting, check):
        vendors.fault(object="customers", **setting)
        page = vendors.stripe("customers?limit=5&created[lt]=1771900000").json()["data"]
        assert page
        assert all(check(c) for c in page)
        assert not check(vendors.stripe("customers/cus_010").json())

    def test_csv_columns_drift_too(self, vendors):
        token = vendors.salesforce_token()
        vendors.fault(kind="rename_field", object="Account", field="Name", to="FullName")
        asked = {"operation": "query", "query": "SELECT Id, Name FROM Account LIMIT 2"}
        job = vendors.salesforce("jobs/query", "POST", token=token, json=asked).json()
        for _ in range(2):
            vendors.salesforce(f"jobs/query/{job['id']}", token=token)
        assert vendors.salesforce(f"jobs/query/{job['id']}/results", token=token).text.startswith('"Id","FullName"')


class TestBadRows:
    def test_text_in_an_amount(self, vendors):
        vendors.fault(kind="bad_row", variant="text_amount", object="invoices")
        assert vendors.stripe("invoices").json()["data"][0]["total"] == "twelve hundred"

    def test_by_id_wherever_the_record_is_served(self, vendors):
        vendors.fault(kind="bad_row", variant="unknown_currency", record_id="ch_1", count=None)
        assert vendors.stripe("charges").json()["data"][0]["currency"] == "xxq"
        assert vendors.stripe("charges/ch_1").json()["currency"] == "xxq"
        assert vendors.stripe("invoices").json()["data"][0]["currency"] == "usd"

    def test_missing_customer(self, vendors):
        vendors.fault(kind="bad_row", variant="missing_customer", object="subscriptions", row=1)
        page = vendors.stripe("subscriptions").json()["data"]
        assert [s["customer"] for s in page] == ["cus_002", None, "cus_000"]

    def test_negative_quantity_in_a_line(self, vendors):
        vendors.fault(kind="bad_row", variant="negative_quantity", object="invoices", field="lines.data.0.quantity")
        assert vendors.stripe("invoices").json()["data"][0]["lines"]["data"][0]["quantity"] == -1

    def test_nul(self, vendors):
        vendors.fault(kind="bad_row", variant="nul", object="tickets")
        assert "\x00" in vendors.zendesk("tickets").json()["tickets"][0]["subject"]

    def test_bytes_that_are_no_utf8(self, vendors):
        vendors.fault(kind="bad_row", variant="encoding", object="customers")
        body = vendors.stripe("customers").content
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        assert json.loads(body.decode(errors="replace"))["data"]

    def test_ten_megabytes_in_one_field(self, vendors):
        vendors.fault(kind="bad_row", variant="huge", object="Account")
        answer = vendors.salesforce("query", params={"q": "SELECT Id, Name FROM Account LIMIT 3"})
        assert [len(r["Name"]) > 10_000_000 for r in answer.json()["records"]] == [True, False, False]

    def test_any_value_in_any_field(self, vendors):
        vendors.fault(kind="bad_row", field="balance", value=[1], object="customers", row=2)
        assert vendors.stripe("customers").json()["data"][2]["balance"] == [1]
