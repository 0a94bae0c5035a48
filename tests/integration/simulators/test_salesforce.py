"""Salesforce's documented behaviour, asked over HTTP."""

from __future__ import annotations

import csv
import io

import pytest

pytestmark = pytest.mark.server


@pytest.fixture
def ask(vendors):
    token = vendors.salesforce_token()

    def asked(path, method="GET", **more):
        return vendors.salesforce(path, method, token=token, **more)

    asked.query = lambda soql, way="query", **more: asked(way, params={"q": soql}, **more)
    return asked


class TestSession:
    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"client_secret": "no"}, "invalid_client"),
            ({"client_id": "no"}, "invalid_client_id"),
            ({"grant_type": "password"}, "unsupported_grant_type"),
        ],
    )
    def test_wrong_client_credentials(self, vendors, changed, error):
        sent = {"grant_type": "client_credentials", **vendors.secrets["salesforce"], **changed}
        url = f"{vendors.base}/salesforce/services/oauth2/token"
        answer = vendors.session.post(url, data=sent, timeout=5)
        assert (answer.status_code, answer.json()["error"]) == (400, error)

    def test_client_as_basic_user(self, vendors):
        known = vendors.secrets["salesforce"]
        answer = vendors.session.post(
            f"{vendors.base}/salesforce/services/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(known["client_id"], known["client_secret"]),
            timeout=5,
        )
        assert answer.json()["token_type"] == "Bearer"
        assert answer.json()["instance_url"] == f"{vendors.base}/salesforce"

    def test_a_session_ends(self, vendors, ask):
        assert ask("limits").status_code == 200
        vendors.at("2026-03-30T11:00:01Z")
        expired = ask("limits")
        assert expired.status_code == 401
        assert expired.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]

    def test_versions_need_no_session(self, vendors):
        found = vendors.session.get(f"{vendors.base}/salesforce/services/data/", timeout=5).json()
        assert {"label", "url", "version"} == set(found[0])

    def test_unknown_version(self, ask):
        answer = ask("/services/data/v20.0/limits")
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (404, "NOT_FOUND")


class TestSoql:
    def test_records_come_with_attributes_and_asked_fields(self, ask):
        body = ask.query("SELECT Id, Name, SystemModstamp FROM Account WHERE Id = '001000000000003AAA'").json()
        assert body == {
            "totalSize": 1,
            "done": True,
            "records": [
                {
                    "attributes": {
                        "type": "Account",
                        "url": "/services/data/v60.0/sobjects/Account/001000000000003AAA",
                    },
                    "Id": "001000000000003AAA",
                    "Name": "Account 3",
                    "SystemModstamp": "2026-03-25T09:00:00.000+0000",
                }
            ],
        }

    def test_pages_follow_next_records_url(self, ask):
        page = ask.query("SELECT Id FROM Account", headers={"Sforce-Query-Options": "batchSize=200"}).json()
        found, sizes = [r["Id"] for r in page["records"]], [len(page["records"])]
        while not page["done"]:
            page = ask(page["nextRecordsUrl"]).json()
            found += [r["Id"] for r in page["records"]]
            sizes.append(len(page["records"]))
        assert sizes == [200, 200, 51]
        assert page["totalSize"] == len(set(found)) == 451

    @pytest.mark.parametrize(
        ("where", "count"),
        [
            ("SystemModstamp >= 2026-03-25T09:00:04Z", 51),
            ("SystemModstamp >= 2026-03-25T10:00:01+01:00 AND SystemModstamp < 2026-03-25T09:00:02.000Z", 100),
            ("(SystemModstamp = 2026-03-25T09:00:00Z AND Id > '001000000000097AAA') OR Name = 'late'", 3),
            ("Status__c = 'Customer' AND CurrencyIsoCode IN ('EUR', 'JPY')", 1),
            ("CurrencyIsoCode NOT IN ('USD')", 1),
            ("Name LIKE 'Account 44_'", 10),
            ("ParentId = null", 451),
            ("ParentId != null", 0),
            ("NOT (Status__c = 'Customer')", 225),
            ("IsDeleted = false", 451),
        ],
    )
    def test_conditions(self, ask, where, count):
        body = ask.query(f"SELECT COUNT() FROM Account WHERE {where}").json()
        assert body == {"totalSize": count, "done": True, "records": []}

    def test_order_limit_and_offset(self, ask):
        body = ask.query("SELECT Amount FROM Opportunity ORDER BY Amount DESC LIMIT 2 OFFSET 1").json()
        assert [r["Amount"] for r in body["records"]] == [201.0, 100.5]
        assert body["totalSize"] == 2

    def test_aggregates(self, ask):
        body = ask.query("SELECT COUNT(Id) n, SUM(Amount) FROM Opportunity").json()
        assert body["records"] == [{"attributes": {"type": "AggregateResult"}, "n": 3, "expr1": 603.0}]
        grouped = ask.query("SELECT CurrencyIsoCode, COUNT(Id) n FROM Account GROUP BY CurrencyIsoCode").json()
        assert [(r["CurrencyIsoCode"], r["n"]) for r in grouped["records"]] == [("EUR", 1), ("USD", 450)]

    def test_deleted_records_only_in_query_all(self, ask):
        soql = "SELECT Id, IsDeleted FROM Opportunity WHERE IsDeleted = true"
        assert ask.query(soql).json()["totalSize"] == 0
        assert [r["Id"] for r in ask.query(soql, "queryAll").json()["records"]] == ["006000000000003AAA"]
        window = {"start": "2026-03-28T00:00:00+00:00", "end": "2026-03-30T00:00:00+00:00"}
        answer = ask("sobjects/Opportunity/deleted", params=window).json()
        assert answer["deletedRecords"] == [{"deletedDate": "2026-03-29T09:00:00.000+0000", "id": "006000000000003AAA"}]
        gone = ask("sobjects/Opportunity/006000000000003AAA")
        assert (gone.status_code, gone.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")

    def test_rows_become_visible_after_their_stamp(self, vendors, ask):
        soql = "SELECT SystemModstamp FROM Account WHERE Name = 'Late'"
        assert ask.query(soql).json()["records"][0]["SystemModstamp"] == "2026-03-30T08:00:00.000+0000"
        vendors.at("2026-03-30T08:58:00Z")
        assert ask.query(soql).json()["totalSize"] == 0

    @pytest.mark.parametrize(
        ("soql", "code"),
        [
            ("SELECT Id FRM Account", "MALFORMED_QUERY"),
            ("SELECT Id FROM Account WHERE", "MALFORMED_QUERY"),
            ("SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'", "MALFORMED_QUERY"),
            ("SELECT Id FROM Account LIMIT many", "MALFORMED_QUERY"),
            ("SELECT Nope FROM Account", "INVALID_FIELD"),
            ("SELECT Id FROM Account WHERE Nope = 1", "INVALID_FIELD"),
            ("SELECT Id FROM Account WHERE SystemModstamp > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
            ("SELECT Id FROM Nope", "INVALID_TYPE"),
            ("SELECT Name, COUNT(Id) FROM Account", "MALFORMED_QUERY"),
        ],
    )
    def test_wrong_queries(self, ask, soql, code):
        answer = ask.query(soql)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)

    def test_a_query_too_long_for_a_url(self, ask):
        assert ask.query("SELECT Id FROM Account WHERE Name = '" + "x" * 17_000 + "'").status_code == 414

    def test_unknown_locator(self, ask):
        assert ask("query/01gNOPE-2000").json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


class TestOrg:
    def test_describe_lists_every_field_that_can_be_selected(self, ask):
        for name in [o["name"] for o in ask("sobjects").json()["sobjects"]]:
            fields = [f["name"] for f in ask(f"sobjects/{name}/describe").json()["fields"]]
            assert ask.query(f"SELECT {', '.join(fields)} FROM {name} LIMIT 1").status_code == 200

    def test_unknown_object(self, ask):
        answer = ask("sobjects/Nope/describe")
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (404, "NOT_FOUND")

    def test_daily_limit_is_shown_and_enforced(self, vendors, ask):
        header = ask("limits").headers["Sforce-Limit-Info"]
        used, limit = header.removeprefix("api-usage=").split("/")
        vendors.control("POST", "limits", json={"salesforce_daily": int(used) + 1})
        assert ask("limits").json()["DailyApiRequests"]["Remaining"] == 0
        over = ask("limits")
        vendors.control("POST", "limits", json={"salesforce_daily": int(limit)})
        assert (over.status_code, over.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")


class TestBulk:
    def job(self, ask, soql="SELECT Id, Name, CreatedDate, ParentId FROM Account", operation="queryAll"):
        asked = {"operation": operation, "query": soql, "contentType": "CSV"}
        answer = ask("jobs/query", "POST", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def done(self, ask, job):
        return [ask(f"jobs/query/{job['id']}").json()["state"] for _ in range(2)][-1]

    def test_states_move_on_as_the_job_is_polled(self, ask):
        job = self.job(ask)
        assert job["state"] == "UploadComplete"
        early = ask(f"jobs/query/{job['id']}/results")
        assert early.status_code == 400
        states = [ask(f"jobs/query/{job['id']}").json() for _ in range(3)]
        assert [s["state"] for s in states] == ["InProgress", "JobComplete", "JobComplete"]
        assert states[-1]["numberRecordsProcessed"] == 451
        assert ask(f"jobs/query/{job['id']}", "DELETE").status_code == 204
        assert ask(f"jobs/query/{job['id']}").status_code == 404

    def test_results_come_in_pages_until_the_locator_says_null(self, ask):
        job = self.job(ask)
        self.done(ask, job)
        rows, locators, params = [], [], {"maxRecords": 200}
        while True:
            page = ask(f"jobs/query/{job['id']}/results", params=params)
            read = list(csv.DictReader(io.StringIO(page.text)))
            assert page.headers["Sforce-NumberOfRecords"] == str(len(read))
            rows += read
            locators.append(page.headers["Sforce-Locator"])
            if locators[-1] == "null":
                break
            params["locator"] = locators[-1]
        assert len(locators) == 3
        assert len({r["Id"] for r in rows}) == len(rows) == 451
        assert rows[7]["Name"] == 'Account 7, "quoted"\nsecond line'
        assert rows[0]["CreatedDate"] == "2026-01-05T10:00:00.000Z"
        assert rows[0]["ParentId"] == ""

    def test_no_rows_still_have_a_header(self, ask):
        job = self.job(ask, "SELECT Id, Name FROM Account WHERE Name = 'nobody'")
        self.done(ask, job)
        page = ask(f"jobs/query/{job['id']}/results")
        assert (page.text, page.headers["Sforce-Locator"]) == ('"Id","Name"\n', "null")

    def test_a_job_can_fail(self, vendors, ask):
        vendors.control("POST", "limits", json={"bulk_failures": 1})
        job = self.job(ask)
        assert self.done(ask, job) == "Failed"
        assert "errorMessage" in ask(f"jobs/query/{job['id']}").json()
        assert self.done(ask, self.job(ask)) == "JobComplete"

    def test_refused_jobs(self, ask):
        for query in ("SELECT COUNT() FROM Account", "SELECT Nope FROM Account"):
            answer = ask("jobs/query", "POST", json={"operation": "query", "query": query})
            assert answer.status_code == 400
