"""Every answer of the Stripe simulator against Stripe's published OpenAPI description of version 2024-06-20."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

pytestmark = pytest.mark.server

LISTS = [
    "customers",
    "products",
    "prices",
    "tax_rates",
    "subscriptions",
    "invoices",
    "invoiceitems",
    "credit_notes",
    "charges",
    "payment_intents",
    "refunds",
    "disputes",
    "balance_transactions",
    "payouts",
    "events",
]


def allow_null(schema: Any) -> Any:
    """Stripe writes `nullable` beside `anyOf` and `enum` too, where OpenAPI 3.0 gives it no meaning."""
    if isinstance(schema, list):
        return [allow_null(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {k: allow_null(v) for k, v in schema.items()}
    if schema.get("nullable") is True:
        if "anyOf" in schema:
            schema["anyOf"].append({"enum": [None], "nullable": True})
        if isinstance(schema.get("enum"), list):
            schema["enum"].append(None)
    return schema


class Contract:
    """The description, with validators for whole answers of a path."""

    def __init__(self, path: Path) -> None:
        self.description = allow_null(json.loads(path.read_text()))
        resource = Resource.from_contents(self.description, default_specification=DRAFT4)
        self.registry = Registry().with_resource("urn:stripe", resource)

    @cache  # noqa: B019 - one contract lives as long as the tests
    def validator(self, path: str, status: str = "200") -> OAS30Validator:
        place = ["paths", f"/v1/{path}", "get", "responses", status, "content", "application/json", "schema"]
        pointer = "/".join(part.replace("/", "~1") for part in place)
        return OAS30Validator({"$ref": f"urn:stripe#/{pointer}"}, registry=self.registry)

    def faults(self, path: str, answer: Any, status: str = "200") -> list[str]:
        """What is wrong with an answer, deepest reason first."""
        found = []
        for error in self.validator(path, status).iter_errors(answer):
            while error.context:
                error = max(error.context, key=lambda e: len(e.absolute_path))
            found.append(f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}")
        return found

    def unknown(self, name: str, shown: dict[str, Any]) -> set[str]:
        """Fields of an object that the contract does not have at this version."""
        return set(shown) - set(self.description["components"]["schemas"][name]["properties"])


@pytest.fixture(scope="module")
def contract(spec) -> Contract:
    return Contract(spec("stripe/spec3.2024-06-20.json"))


@pytest.fixture(scope="module", params=["US", "DE", "JP"])
def account(request, company) -> str:
    return company.entity(request.param).stripe_account


def page(vendors, account, path, limit=25, **params):
    if path == "subscriptions":
        params["status"] = "all"
    return vendors.stripe(account, path, limit=limit, **params)


@pytest.mark.parametrize("name", LISTS)
def test_lists(contract, vendors, account, name):
    answer = page(vendors, account, name)
    assert answer["data"], name
    assert contract.faults(name, answer) == []


@pytest.mark.parametrize("name", LISTS)
def test_objects_have_no_field_the_version_does_not_have(contract, vendors, account, name):
    for shown in page(vendors, account, name, limit=100)["data"]:
        assert contract.unknown(shown["object"], shown) == set()


@pytest.mark.parametrize(
    ("path", "of"),
    [("invoices/{invoice}/lines", "invoices"), ("credit_notes/{credit_note}/lines", "credit_notes")],
)
def test_lines(contract, vendors, account, path, of):
    for parent in page(vendors, account, of, limit=8)["data"]:
        answer = vendors.stripe(account, f"{of}/{parent['id']}/lines")
        assert contract.faults(path, answer) == []
        kind = "line_item" if of == "invoices" else "credit_note_line_item"
        assert [contract.unknown(kind, line) for line in answer["data"] if contract.unknown(kind, line)] == []


@pytest.mark.parametrize(
    ("path", "of", "name"),
    [
        ("customers/{customer}", "customers", ""),
        ("invoices/{invoice}", "invoices", "customer charge subscription lines.data.price.product"),
        (
            "subscriptions/{subscription_exposed_id}",
            "subscriptions",
            "customer latest_invoice items.data.price.product",
        ),
        ("prices/{price}", "prices", "product tiers"),
        ("charges/{charge}", "charges", "customer invoice balance_transaction refunds payment_intent"),
        ("balance_transactions/{id}", "balance_transactions", "source"),
        ("payouts/{payout}", "payouts", "balance_transaction"),
        ("disputes/{dispute}", "disputes", "charge"),
        ("refunds/{refund}", "refunds", "charge balance_transaction"),
        ("credit_notes/{id}", "credit_notes", "invoice refund customer"),
        ("events/{id}", "events", ""),
    ],
)
def test_single_objects_with_what_can_be_expanded(contract, vendors, account, path, of, name):
    for listed in page(vendors, account, of, limit=3)["data"]:
        answer = vendors.stripe(account, f"{of}/{listed['id']}", **{"expand[]": name.split()})
        assert "error" not in answer, answer
        assert contract.faults(path, answer) == []


def test_subscription_items(contract, vendors, account):
    for subscription in page(vendors, account, "subscriptions", limit=5)["data"]:
        answer = vendors.stripe(account, "subscription_items", subscription=subscription["id"])
        assert contract.faults("subscription_items", answer) == []


def test_balance(contract, vendors, account):
    assert contract.faults("balance", vendors.stripe(account, "balance")) == []


def test_report_run(contract, vendors, account):
    key = vendors.secrets["stripe"][account]["restricted"]
    sent = {
        "report_type": "balance_change_from_activity.itemized.3",
        "parameters[interval_start]": 1772323200,
        "parameters[interval_end]": 1774828800,
    }
    url = f"{vendors.base}/stripe/v1/reporting/report_runs"
    pending = vendors.session.post(url, data=sent, auth=(key, ""), timeout=20).json()
    done = vendors.stripe(account, f"reporting/report_runs/{pending['id']}")
    for answer in (pending, done):
        assert contract.faults("reporting/report_runs/{report_run}", answer) == []
    file = vendors.stripe(account, f"files/{done['result']['id']}")
    assert contract.faults("files/{file}", file) == []
    assert contract.faults("reporting/report_runs", vendors.stripe(account, "reporting/report_runs")) == []


@pytest.mark.parametrize("path", ["customers/cus_nope", "customers?limit=1000", "nonsense", "customers?nope=1"])
def test_errors(contract, vendors, account, path):
    answer = vendors.stripe(account, path)
    assert contract.faults("customers", answer, "default") == []
    assert answer["error"]["type"] == "invalid_request_error"


def test_every_event_type_is_one_stripe_sends(spec, vendors, company):
    """The enumeration of `enabled_events` in webhook endpoints is the published list of event types."""
    text = json.loads(spec("stripe/spec3.2024-06-20.json").read_text())
    schema = text["paths"]["/v1/webhook_endpoints"]["post"]["requestBody"]["content"]
    form = schema["application/x-www-form-urlencoded"]["schema"]["properties"]["enabled_events"]
    published = set(form["items"]["enum"])
    for entity in company.entities:
        sent, after = set(), {}
        for _ in range(20):
            answer = vendors.stripe(entity.stripe_account, "events", limit=100, **after)
            sent |= {e["type"] for e in answer["data"]}
            if not answer["has_more"]:
                break
            after = {"starting_after": answer["data"][-1]["id"]}
        assert sent - published == set()
        assert len(sent) > 8
