"""Salesforce's turns: sessions that expire, limits that pass and limits that stay, fields an org does not have."""

import json
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import responses

from tieout.errors import DriftError, RateLimited, Refused
from tieout.lake.landing import Landing
from tieout.settings import Connection
from tieout.sources import catch_up
from tieout.sources.client import Clock
from tieout.sources.config import SourceConfig
from tieout.sources.drift import load_contract
from tieout.sources.salesforce import _is_ours
from tieout_sandbox.testing import fresh_store

BASE = "https://org.my.salesforce.example"
DATE = {"Date": "Mon, 30 Mar 2026 09:00:00 GMT"}
TYPES = {"bool": "boolean", "int": "int", "number": "double"}


class Org:
    """An org with one account in two pages; tests change what it answers."""

    def __init__(self, mock):
        fields = load_contract("salesforce").object("Account").fields
        self.fields = {name: TYPES.get(kind.split(" or ")[0], "string") for name, kind in fields.items()}
        self.faults = []
        self.asked = []
        self.signed_in = 0
        mock.add_callback(responses.GET, re.compile(BASE), lambda request: self.answer(request))
        mock.add_callback(responses.POST, re.compile(BASE), lambda request: self.sign_in(request))

    def sign_in(self, _):
        self.signed_in += 1
        body = {"access_token": f"token{self.signed_in}", "instance_url": f"{BASE}/"}
        return 200, DATE, json.dumps(body)

    def record(self, number):
        made = {name: {"boolean": False, "int": 1, "double": 1.5}.get(kind, "x") for name, kind in self.fields.items()}
        return {"attributes": {"type": "Account"}, **made, "Id": f"001{number}"}

    def answer(self, request):
        path, query = urlsplit(request.url).path, parse_qs(urlsplit(request.url).query)
        soql = unquote(query.get("q", [""])[0])
        self.asked.append(soql or path)
        if self.faults and self.faults[0][0] in (soql or path):
            _, status, error = self.faults.pop(0)
            return status, DATE, json.dumps([error])
        if path.endswith("/describe"):
            return 200, DATE, json.dumps({"fields": [{"name": n, "type": t} for n, t in self.fields.items()]})
        if "COUNT()" in soql:
            return 200, DATE, json.dumps({"totalSize": 2, "done": True, "records": []})
        if path.endswith("queryAll"):
            following = "/services/data/v62.0//query/01gX-1"
            body = {"totalSize": 2, "done": False, "nextRecordsUrl": following, "records": [self.record(1)]}
            return 200, DATE, json.dumps(body)
        assert path == "/services/data/v62.0/query/01gX-1"
        return 200, DATE, json.dumps({"totalSize": 2, "done": True, "records": [self.record(2)]})


@pytest.fixture
def org():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield Org(mock)


@pytest.fixture
def read(tmp_path):
    landing, store = Landing(tmp_path / "raw"), fresh_store(tmp_path / "s.sqlite")
    source = SourceConfig(name="crm", kind="salesforce", connection="c", objects=("Account",))
    connection = Connection("c", BASE, "id", "secret")

    def run():
        (ref,) = catch_up(source, connection, landing=landing, store=store, clock=Clock(sleep=lambda _: None))
        return ref

    return run


def test_pages_are_followed_by_their_locator_alone(org, read):
    ref = read()
    assert (ref.records, ref.control.proven) == (2, True)


def test_an_expired_session_is_renewed(org, read):
    org.faults.append(("describe", 401, {"errorCode": "INVALID_SESSION_ID", "message": "Session expired"}))
    assert read().records == 2
    assert org.signed_in == 2


def test_another_401_is_a_refusal(org, read):
    org.faults.append(("describe", 401, {"errorCode": "INVALID_AUTH_HEADER", "message": "no"}))
    with pytest.raises(Refused, match="check the connection's credentials"):
        read()


def test_too_many_requests_at_once_pass(org, read):
    error = {
        "errorCode": "REQUEST_LIMIT_EXCEEDED",
        "message": "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
    }
    org.faults.append(("describe", 403, error))
    assert read().records == 2


def test_a_used_up_day_does_not_pass(org, read):
    error = {"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}
    org.faults.append(("COUNT()", 403, error))
    with pytest.raises(RateLimited, match="quota is used up"):
        read()


def test_a_needed_field_the_org_does_not_have_stops_the_extract(org, read):
    del org.fields["ParentId"]
    with pytest.raises(DriftError, match="field ParentId has vanished"):
        read()


def test_a_field_that_may_be_absent_is_left_out_of_the_query(org, read):
    del org.fields["Industry"]
    org.fields["Score__c"] = "double"
    ref = read()
    assert not any("Industry" in asked for asked in org.asked)
    assert ref.facts["drift"]["new_fields"] == {"Score__c": "number"}


def test_rows_that_appear_during_the_reading_do_not_fail_it(org, read):
    real, counts = org.answer, iter([1, 2])

    def growing(request):
        status, headers, body = real(request)
        if "COUNT" in request.url:
            body = json.dumps({"totalSize": next(counts), "done": True, "records": []})
        return status, headers, body

    org.answer = growing
    assert read().control.proven


@pytest.mark.parametrize(
    "instance",
    [
        "http://elsewhere.example",
        "https://elsewhere.example",
        BASE.replace("https", "http"),
        f"{BASE}:444",
        f"{BASE}@elsewhere.example",
        "https://elsewhere.my.salesforce.com",
        "",
    ],
)
def test_an_instance_elsewhere_gets_no_token(org, read, instance):
    body = {"access_token": "t", "instance_url": instance}
    org.sign_in = lambda _: (200, DATE, json.dumps(body))
    with pytest.raises(Refused, match="elsewhere"):
        read()


@pytest.mark.parametrize(
    ("asked", "given", "ours"),
    [
        ("https://org.my.salesforce.com", "https://eu7.salesforce.com", True),
        ("https://org.my.salesforce.com", "http://eu7.salesforce.com", False),
        ("https://org.my.salesforce.com", "https://eu7.salesforce.com.example", False),
        ("https://org.my.salesforce.com", "https://org.my.salesforce.com@x.salesforce.com", False),
        ("http://127.0.0.1:7001/salesforce", "http://127.0.0.1:7001/salesforce", True),
        ("http://127.0.0.1:7001/salesforce", "http://127.0.0.1:7002", False),
    ],
)
def test_an_instance_is_the_server_asked_or_another_of_salesforces(asked, given, ours):
    assert _is_ours(asked, given) is ours


@pytest.mark.parametrize(
    "following", ["https://elsewhere.example/services/data/v62.0/query/01gX-1", "//elsewhere.example/query/01gX-1"]
)
def test_an_address_in_an_answer_is_never_called(org, read, following):
    real = org.answer
    org.answer = lambda request: _with(real(request), "nextRecordsUrl", following)
    assert read().records == 2  # a call of another host would not be answered


def _with(answer, name, value):
    status, headers, body = answer
    page = json.loads(body)
    return status, headers, json.dumps(page | {name: value} if name in page else page)
