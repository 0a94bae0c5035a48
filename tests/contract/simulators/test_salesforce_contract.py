"""Shapes of the Salesforce simulator's answers against recorded answers of real orgs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.server

DESCRIBES = {
    "Account": "salesforce/recorded/cumulusci/tests__shared_cassettes__GET_sobjects_Account_describe.yaml",
    "Opportunity": "salesforce/recorded/cumulusci/tests__shared_cassettes__GET_sobjects_Opportunity_describe.yaml",
}
# in releases newer than some of the recordings
NEWER = {"associateEntityType", "associateParentEntity", "sobjectDescribeOption"}
GLOBAL = "salesforce/recorded/cumulusci/tests__shared_cassettes__GET_sobjects_Global_describe.yaml"


def recorded(path: Path) -> Any:
    """The body of a recording, from a cassette or as plain JSON."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    cassette = yaml.safe_load(path.read_text())
    body = cassette.get("interactions", [cassette])[0]["response"]["body"]
    return json.loads(body["string"] if isinstance(body, dict) else body)


def kinds(record: dict[str, Any]) -> dict[str, str]:
    """The JSON type of each value that is not null; whole and broken numbers are one."""
    same = {"float": "number", "int": "number"}
    return {k: same.get(type(v).__name__, type(v).__name__) for k, v in record.items() if v is not None}


def differing(shown: dict[str, Any], known: dict[str, Any]) -> set[str]:
    """Keys whose values have different JSON types."""
    ours, theirs = kinds(shown), kinds(known)
    return {k for k in ours.keys() & theirs.keys() if ours[k] != theirs[k]}


@pytest.fixture
def restforce(spec):
    return lambda name: recorded(spec(f"salesforce/recorded/restforce/{name}.json"))


@pytest.mark.parametrize("name", DESCRIBES)
def test_describe(spec, vendors, name):
    known = recorded(spec(DESCRIBES[name]))
    shown = vendors.salesforce(f"sobjects/{name}/describe")
    assert set(known) - set(shown) == set()
    assert set(shown) - set(known) <= NEWER
    assert differing(shown, known) - {"searchLayoutable"} == set()
    theirs = {f["name"]: f for f in known["fields"]}
    for field in shown["fields"]:
        assert set(field) == set(theirs["Id"])
        if field["name"] in theirs and not field["name"].endswith("__c"):
            other = theirs[field["name"]]
            assert (field["type"], field["soapType"], field["referenceTo"]) == (
                other["type"],
                other["soapType"],
                other["referenceTo"],
            )


def test_every_field_of_a_standard_object_is_one_salesforce_has(spec, vendors):
    for name, path in DESCRIBES.items():
        theirs = {f["name"] for f in recorded(spec(path))["fields"]} | {"CurrencyIsoCode"}  # multi-currency orgs
        shown = {f["name"] for f in vendors.salesforce(f"sobjects/{name}/describe")["fields"]}
        assert {f for f in shown if not f.endswith("__c")} - theirs == set()


def test_global_describe(spec, vendors):
    known = recorded(spec(GLOBAL))
    shown = vendors.salesforce("sobjects")
    assert set(shown) == set(known)
    account = next(o for o in known["sobjects"] if o["name"] == "Account")
    ours = next(o for o in shown["sobjects"] if o["name"] == "Account")
    assert set(account) - set(ours) == set()
    assert set(ours) - set(account) <= NEWER
    assert differing(ours, account) == set()


def test_query_pages(restforce, vendors):
    first = restforce("sobject__query_paginated_first_page_response")
    shown = vendors.session.get(
        f"{vendors.base}/salesforce/services/data/v60.0/query",
        params={"q": "SELECT Id, Name, SystemModstamp FROM SBQQ__Subscription__c"},
        headers={
            "Authorization": f"Bearer {vendors._salesforce_token()['access_token']}",
            "Sforce-Query-Options": "batchSize=200",
        },
        timeout=20,
    ).json()
    assert set(shown) == set(first)
    assert differing(shown, first) == set()
    assert set(shown["records"][0]["attributes"]) == set(first["records"][0]["attributes"])
    last = restforce("sobject__query_paginated_last_page_response")
    whole = vendors.salesforce("query", q="SELECT Id FROM Account LIMIT 1")
    assert set(whole) == set(last)
    empty = vendors.salesforce("query", q="SELECT Id FROM Account WHERE Name = 'nobody'")
    assert empty == restforce("sobject__query_empty_response")


def test_aggregates(restforce, vendors):
    known = restforce("sobject__query_aggregate_success_response")
    shown = vendors.salesforce("query", q="SELECT StageName, SUM(Amount) FROM Opportunity GROUP BY StageName")
    assert shown["records"][0]["attributes"] == known["records"][0]["attributes"]
    assert set(shown["records"][0]) == {"attributes", "StageName", "expr0"}


def test_deleted_ids(restforce, vendors):
    known = restforce("sobject__get_deleted_success_response")
    window = {"start": "2026-03-05T00:00:00+00:00", "end": "2026-03-30T09:00:00+00:00"}
    shown = vendors.salesforce("sobjects/Opportunity/deleted", **window)
    assert set(shown) == set(known)
    for record in shown["deletedRecords"]:
        assert set(record) == set(known["deletedRecords"][0])


def test_errors(restforce, vendors):
    known = restforce("sobject__query_error_response")
    shown = vendors.salesforce("query", q="SELECT Nope FROM Account")
    assert isinstance(shown, list)
    assert set(shown[0]) == set(known[0])
    assert shown[0]["errorCode"] == known[0]["errorCode"]
    expired = vendors.session.get(f"{vendors.base}/salesforce/services/data/v60.0/limits", timeout=20).json()
    assert expired == restforce("expired_session_response")
    assert vendors.salesforce("sobjects/Nope/describe") == restforce("sobject__sobject_describe_error_response")


def test_sign_in(restforce, vendors):
    known = restforce("auth_success_response")
    shown = vendors._salesforce_token()
    assert set(known) - set(shown) == set()
    assert differing(shown, known) == set()
    refused = vendors.session.post(
        f"{vendors.base}/salesforce/services/oauth2/token",
        data={"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"},
        timeout=20,
    ).json()
    assert set(refused) == set(restforce("auth_error_response"))


def test_versions(restforce, vendors):
    known = restforce("services_data_success_response")
    shown = vendors.session.get(f"{vendors.base}/salesforce/services/data", timeout=20).json()
    assert set(shown[0]) == set(known[0])
