"""Answers of the Zendesk simulator against Zendesk's published OpenAPI description."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

pytestmark = pytest.mark.server

LONG_AGO = 1_577_836_800


class PlainLoader(yaml.SafeLoader):
    """YAML without the types JSON lacks: the description's examples hold dates and a bare `=`."""


PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def without_nulls(value: Any) -> Any:
    """The description's own examples are null where its schemas do not say so; null is not judged."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


@pytest.fixture(scope="module")
def description(spec) -> dict[str, Any]:
    text = spec("zendesk/zendesk-support-openapi.yaml").read_text()
    loader = type("Loader", (PlainLoader,), {})
    return yaml.load(text, Loader=loader)


@pytest.fixture(scope="module")
def faults(description):
    resource = Resource.from_contents(description, default_specification=DRAFT4)
    registry = Registry().with_resource("urn:zendesk", resource)

    def found(path: str, answer: Any) -> list[str]:
        place = ["paths", f"/api/v2/{path}", "get", "responses", "200", "content", "application/json", "schema"]
        pointer = "/".join(part.replace("/", "~1") for part in place)
        validator = OAS30Validator({"$ref": f"urn:zendesk#/{pointer}"}, registry=registry)
        errors = validator.iter_errors(without_nulls(answer))
        return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in errors]

    return found


@pytest.mark.parametrize(
    ("path", "asked", "records"),
    [
        ("incremental/tickets/cursor", {"start_time": LONG_AGO}, "tickets"),
        ("incremental/users/cursor", {"start_time": LONG_AGO}, "users"),
        ("incremental/tickets", {"start_time": LONG_AGO}, "tickets"),
        ("incremental/users", {"start_time": LONG_AGO}, "users"),
        ("incremental/organizations", {"start_time": LONG_AGO}, "organizations"),
        ("tickets", {}, "tickets"),
        ("users", {}, "users"),
        ("organizations", {}, "organizations"),
    ],
)
def test_exports_and_lists(faults, vendors, path, asked, records):
    answer = vendors.zendesk(path, **asked)
    assert answer[records]
    found = faults(path, answer)
    if path.startswith("incremental/tickets"):
        # the description's states are those of living tickets; the exports' documentation adds deleted ones
        found = [f for f in found if "status: 'deleted' is not one of" not in f]
        assert any(ticket["status"] == "deleted" for ticket in answer[records])
    assert found == []


@pytest.mark.parametrize("path", ["tickets/count", "users/count", "organizations/count"])
def test_counts(faults, vendors, path):
    answer = vendors.zendesk(path)
    assert answer["count"]["value"] > 0
    assert faults(path, answer) == []


def test_search_count(faults, vendors):
    assert faults("search/count", vendors.zendesk("search/count", query="type:ticket status<solved")) == []


def test_sample(faults, vendors):
    answer = vendors.zendesk("incremental/tickets/sample", start_time=LONG_AGO)
    assert faults("incremental/{incremental_resource}/sample", answer) == []


@pytest.mark.parametrize("name", ["ticket", "user", "organization"])
def test_single_objects(faults, vendors, name):
    first = vendors.zendesk(f"{name}s")[f"{name}s"][0]
    assert faults(f"{name}s/{{{name}_id}}", vendors.zendesk(f"{name}s/{first['id']}")) == []


@pytest.mark.parametrize(("name", "schema"), [("tickets", "TicketObject"), ("organizations", "OrganizationObject")])
def test_objects_have_no_field_the_description_does_not_have(description, vendors, name, schema):
    known = set(description["components"]["schemas"][schema]["properties"])
    for record in vendors.zendesk(name)[name]:
        assert set(record) - known == set()
