"""Stripe's documented behaviour, asked over HTTP."""

from __future__ import annotations

import concurrent.futures

import pytest

pytestmark = pytest.mark.server


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [r["id"] for r in answer.json()["data"]]


def walk(vendors, path, **params):
    """Every id of a list, page by page, with the pages' sizes."""
    found, sizes = [], []
    while True:
        page = vendors.stripe(path, params=params)
        body = page.json()
        found += ids(page)
        sizes.append(len(body["data"]))
        if not body["has_more"]:
            return found, sizes
        params["starting_after"] = found[-1]


class TestAccess:
    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ({}, "You did not provide an API key"),
            ({"Authorization": "Bearer sk_test_0123456789abcdef"}, "Invalid API Key provided: sk_test_"),
        ],
        ids=["no key", "a wrong key"],
    )
    def test_refused_without_a_known_key(self, vendors, headers, message):
        answer = vendors.session.get(f"{vendors.base}/stripe/v1/customers", headers=headers, timeout=5)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.json()["error"]["message"].startswith(message)
        assert "0123456789abcdef" not in answer.text

    def test_key_as_basic_user(self, vendors):
        key = vendors.secrets["stripe"]["acct_US"]["restricted"]
        answer = vendors.session.get(f"{vendors.base}/stripe/v1/customers", auth=(key, ""), timeout=5)
        assert answer.status_code == 200

    def test_each_account_sees_its_own(self, vendors):
        assert ids(vendors.stripe("customers", key=vendors.secrets["stripe"]["acct_DE"]["secret"])) == ["cus_999"]
        assert vendors.stripe("customers/cus_999").status_code == 404

    def test_restricted_key_may_not_write(self, vendors):
        key = vendors.secrets["stripe"]["acct_US"]["restricted"]
        answer = vendors.stripe("customers/cus_001", "POST", key=key, data={"metadata[a]": "b"})
        assert answer.status_code == 403
        assert "rak_customer_write" in answer.json()["error"]["message"]
        assert "'acct_US'" in answer.json()["error"]["message"]

    def test_only_the_pinned_version_is_spoken(self, vendors):
        good = vendors.stripe("balance", headers={"Stripe-Version": "2024-06-20"})
        assert good.headers["Stripe-Version"] == "2024-06-20"
        assert good.headers["Request-Id"].startswith("req_")
        bad = vendors.stripe("balance", headers={"Stripe-Version": "2026-01-28"})
        assert (bad.status_code, bad.json()["error"]["message"]) == (400, "Invalid Stripe API version: 2026-01-28")


class TestLists:
    def test_pages_run_newest_first_to_the_end_marker(self, vendors):
        found, sizes = walk(vendors, "customers", limit=10)
        assert found == [f"cus_{i:03d}" for i in reversed(range(25))]
        assert sizes == [10, 10, 5]

    def test_ending_before_walks_back(self, vendors):
        answer = vendors.stripe("customers", params={"ending_before": "cus_010", "limit": 3})
        assert ids(answer) == ["cus_013", "cus_012", "cus_011"]
        assert answer.json()["has_more"] is True

    def test_created_window_is_half_open(self, vendors):
        all_of_them = {c["id"]: c["created"] for c in vendors.stripe("customers?limit=100").json()["data"]}
        window = {"created[gte]": all_of_them["cus_003"], "created[lt]": all_of_them["cus_006"]}
        assert ids(vendors.stripe("customers", params=window)) == ["cus_005", "cus_004", "cus_003"]

    @pytest.mark.parametrize(
        ("query", "status", "code", "param"),
        [
            ("limit=101", 400, None, "limit"),
            ("limit=0", 400, None, "limit"),
            ("limit=ten", 400, "parameter_invalid_integer", "limit"),
            ("updated[gte]=1", 400, "parameter_unknown", "updated"),
            ("created[after]=1", 400, "parameter_unknown", "created[after]"),
            ("starting_after=cus_nope", 400, "resource_missing", "starting_after"),
            ("starting_after=cus_001&ending_before=cus_002", 400, None, None),
            ("expand[]=nothing", 400, None, "expand"),
            ("expand[]=data.name", 400, None, "expand"),
        ],
    )
    def test_wrong_parameters_are_named(self, vendors, query, status, code, param):
        answer = vendors.stripe(f"customers?{query}")
        error = answer.json()["error"]
        assert (answer.status_code, error.get("code"), error.get("param")) == (status, code, param)
        assert error["type"] == "invalid_request_error"

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", ["sub_2", "sub_1", "sub_0"]),
            ("status=all", ["sub_3", "sub_2", "sub_1", "sub_0"]),
            ("status=canceled", ["sub_3"]),
            ("status=past_due", ["sub_1"]),
            ("customer=cus_000", ["sub_0"]),
        ],
    )
    def test_canceled_subscriptions_must_be_asked_for(self, vendors, query, expected):
        assert ids(vendors.stripe(f"subscriptions?{query}")) == expected

    def test_only_ten_members_of_a_sub_list_are_inlined(self, vendors):
        lines = vendors.stripe("invoices/in_1").json()["lines"]
        assert (len(lines["data"]), lines["has_more"], lines["url"]) == (10, True, "/v1/invoices/in_1/lines")
        found, sizes = walk(vendors, "invoices/in_1/lines", limit=10)
        assert found == [f"il_{22 - n:02d}" for n in range(23)]
        assert found[:10] == [line["id"] for line in lines["data"]]
        assert sizes == [10, 10, 3]

    def test_subscription_items_have_their_own_list(self, vendors):
        inlined = vendors.stripe("subscriptions/sub_0").json()["items"]
        assert (len(inlined["data"]), inlined["has_more"]) == (10, True)
        found, sizes = walk(vendors, "subscription_items", subscription="sub_0", limit=5)
        assert found == [f"si_0{n:02d}" for n in range(12)]
        assert sizes == [5, 5, 2]
        assert vendors.stripe("subscription_items").json()["error"]["code"] == "parameter_missing"

    def test_balance_transactions_of_a_payout(self, vendors):
        assert ids(vendors.stripe("balance_transactions?payout=po_1")) == ["txn_2", "txn_1", "txn_0"]
        assert vendors.stripe("balance_transactions?payout=po_none").status_code == 400
        by_hand = vendors.stripe("balance_transactions?payout=po_2")
        assert by_hand.status_code == 400
        assert "automatic" in by_hand.json()["error"]["message"]
        assert len(ids(vendors.stripe("balance_transactions?type=charge&currency=usd&source=ch_1"))) == 6

    def test_unknown_urls_and_objects(self, vendors):
        assert vendors.stripe("nonsense").json()["error"]["message"].startswith("Unrecognized request URL")
        missing = vendors.stripe("customers/cus_nope")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "No such customer: 'cus_nope'"
        assert missing.json()["error"]["code"] == "resource_missing"


class TestExpand:
    def test_an_id_becomes_its_object(self, vendors):
        charge = vendors.stripe("charges/ch_1?expand[]=customer&expand[]=balance_transaction&expand[]=refunds").json()
        assert charge["customer"]["email"] == "c1@example.com"
        assert charge["balance_transaction"]["net"] == 1950
        assert [r["id"] for r in charge["refunds"]["data"]] == ["re_1"]

    def test_through_lists_and_levels(self, vendors):
        page = vendors.stripe("invoices?expand[]=data.subscription.customer&expand[]=data.lines.data.price.product")
        invoice = page.json()["data"][0]
        assert invoice["subscription"]["customer"]["id"] == "cus_001"
        assert invoice["lines"]["data"][0]["price"]["product"]["name"] == "Seat"

    def test_null_stays_null(self, vendors):
        assert vendors.stripe("invoices/in_1?expand[]=charge").json()["charge"] is None


class TestTime:
    def test_the_clock_dates_answers_and_decides_what_exists(self, vendors):
        answer = vendors.stripe("invoices/in_1")
        assert answer.headers["Date"] == "Mon, 30 Mar 2026 09:00:00 GMT"
        assert answer.json()["status"] == "paid"
        vendors.at("2026-03-30T07:10:00Z")  # paid at 07:00, shown from 07:30
        assert vendors.stripe("invoices/in_1").json()["status"] == "open"
        vendors.at("2026-03-27T09:30:00Z")
        draft = vendors.stripe("invoices/in_1").json()
        assert (draft["status"], draft["number"]) == ("draft", None)
        vendors.at("2026-03-27T08:59:00Z")
        assert vendors.stripe("invoices/in_1").status_code == 404

    def test_pending_money_becomes_available(self, vendors):
        assert vendors.stripe("balance_transactions/txn_5").json()["status"] == "pending"
        before = vendors.stripe("balance").json()
        assert (before["available"][0]["amount"], before["pending"][0]["amount"]) == (4 * 1950, 2 * 1950)
        vendors.at("2026-03-31T09:00:00Z")
        assert vendors.stripe("balance_transactions/txn_5").json()["status"] == "available"
        assert vendors.stripe("balance").json()["available"][0]["amount"] == 6 * 1950

    def test_events_show_the_object_as_it_was(self, vendors):
        events = vendors.stripe("events?types[]=invoice.created&types[]=invoice.finalized&types[]=invoice.paid")
        kinds = [(e["type"], e["data"]["object"]["status"]) for e in events.json()["data"]]
        assert kinds == [("invoice.paid", "paid"), ("invoice.finalized", "open"), ("invoice.created", "draft")]
        assert events.json()["data"][1]["data"]["previous_attributes"] == {"number": None, "status": "draft"}
        assert events.json()["data"][0]["api_version"] == "2024-06-20"

    def test_events_can_appear_late(self, vendors):
        vendors.at("2026-03-30T07:35:00Z")
        assert vendors.stripe("invoices/in_1").json()["status"] == "paid"
        assert "evt_in_3" not in ids(vendors.stripe("events"))
        vendors.at("2026-03-30T07:40:00Z")
        assert ids(vendors.stripe("events"))[0] == "evt_in_3"

    def test_events_are_kept_for_thirty_days(self, vendors):
        assert "evt_old" not in ids(vendors.stripe("events"))
        assert vendors.stripe("events/evt_old").status_code == 404
        vendors.at("2026-03-24T00:00:00Z")
        assert vendors.stripe("events/evt_old").json()["type"] == "customer.created"


class TestWriting:
    def test_same_key_and_body_is_done_once(self, vendors):
        headers = {"Idempotency-Key": "one"}
        sent = {"metadata[tier]": "gold"}
        first = vendors.stripe("customers/cus_002", "POST", data=sent, headers=headers)
        again = vendors.stripe("customers/cus_002", "POST", data=sent, headers=headers)
        assert first.json() == again.json()
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Original-Request"] == first.headers["Request-Id"]
        kinds = [e["type"] for e in vendors.stripe("events?type=customer.updated").json()["data"]]
        assert kinds == ["customer.updated"]
        assert first.json()["metadata"] == {"crm_account_id": "001000000000000002", "tier": "gold"}

    def test_same_key_with_another_body_is_refused(self, vendors):
        headers = {"Idempotency-Key": "two"}
        vendors.stripe("customers/cus_003", "POST", data={"name": "A"}, headers=headers)
        other = vendors.stripe("customers/cus_003", "POST", data={"name": "B"}, headers=headers)
        assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")
        vendors.at("2026-03-31T10:00:00Z")  # keys are forgotten after a day
        assert vendors.stripe("customers/cus_003", "POST", data={"name": "B"}, headers=headers).json()["name"] == "B"

    def test_a_lost_answer_can_be_asked_for_again(self, vendors):
        vendors.fault(kind="server_error", path="*/customers/cus_004", method="POST", after=True)
        headers = {"Idempotency-Key": "three"}
        assert vendors.stripe("customers/cus_004", "POST", data={"name": "C"}, headers=headers).status_code == 500
        again = vendors.stripe("customers/cus_004", "POST", data={"name": "C"}, headers=headers)
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_unknown_parameters_are_refused(self, vendors):
        answer = vendors.stripe("customers/cus_001", "POST", data={"colour": "red"})
        assert answer.json()["error"]["code"] == "parameter_unknown"


class TestReports:
    def run(self, vendors, report_type, start, end, key=None):
        data = {"report_type": report_type, "parameters[interval_start]": start, "parameters[interval_end]": end}
        return vendors.stripe("reporting/report_runs", "POST", key=key, data=data)

    def test_itemised_balance_change_is_read_from_its_file(self, vendors):
        asked = self.run(vendors, "balance_change_from_activity.itemized.3", 1774569600, 1774828800).json()
        assert (asked["status"], asked["result"]) == ("pending", None)
        done = vendors.stripe(f"reporting/report_runs/{asked['id']}").json()
        assert done["status"] == "succeeded"
        key = vendors.secrets["stripe"]["acct_US"]["secret"]
        text = vendors.session.get(done["result"]["url"], auth=(key, ""), timeout=5).text
        lines = text.splitlines()
        assert lines[0].startswith('"balance_transaction_id","created_utc"')
        assert len(lines) == 7
        assert '"20.00","0.50","19.50","charge","ch_1"' in lines[1]

    def test_summary(self, vendors):
        restricted = vendors.secrets["stripe"]["acct_US"]["restricted"]  # may ask for reports
        window = (1774569600, 1774828800)
        asked = self.run(vendors, "balance_change_from_activity.summary.1", *window, key=restricted).json()
        answer = vendors.stripe(f"files/{asked['id'].replace('frr_', 'file_')}/contents")
        assert answer.text.splitlines()[1] == '"charge","usd","6","120.00","3.00","117.00"'

    def test_a_day_that_is_not_over_cannot_be_reported(self, vendors):
        answer = self.run(vendors, "balance_change_from_activity.itemized.3", 1774828800, 1774860000)
        assert "data_available_end" in answer.json()["error"]["message"]


def test_simultaneous_readers_get_their_own_answers(vendors):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: vendors.stripe(f"customers/cus_{i % 25:03d}").json()["id"], range(100)))
    assert answers == [f"cus_{i % 25:03d}" for i in range(100)]
