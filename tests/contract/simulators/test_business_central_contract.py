"""Business Central's simulator and adapter against its published OpenAPI description and the reference of API v2.0."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tieout.erp import ErpJournal, ErpLine
from tieout.ids import short_key
from tieout_sandbox.simulators.businesscentral import BusinessCentral, api
from tieout_sandbox.simulators.ledger_server import serve

KEY = "TIEOUT/US/main/2026-03/invoices/2026-03-29/v1"


@pytest.fixture(scope="module")
def page(spec: Callable[[str], Path]) -> Callable[[str], str]:
    return lambda name: spec(f"businesscentral/v2-docs/{name}.md").read_text()


@pytest.fixture(scope="module")
def openapi(spec: Callable[[str], Path]) -> dict[str, Any]:
    published: dict[str, Any] = json.loads(spec("businesscentral/BCOpenApiSpecification.json").read_text())
    return published


@pytest.fixture(scope="module")
def talk() -> tuple[list[tuple[str, str, dict[str, Any]]], BusinessCentral]:
    """One posting, as the simulator heard it: method, path below the company, body."""
    heard: list[tuple[str, str, dict[str, Any]]] = []
    erp = BusinessCentral()
    carry_out = erp._carry_out

    def listening(method: str, path: str, query: Any, body: dict[str, Any], headers: Any, base: str) -> Any:
        heard.append((method, re.sub(r"^companies\([^)]*\)/", "", path), dict(body)))
        return carry_out(method, path, query, body, headers, base)

    erp._carry_out = listening  # type: ignore[method-assign]
    lines = (
        ErpLine("11000", Decimal("0.10"), Decimal(0), "a"),
        ErpLine("40100", Decimal(0), Decimal("0.10"), "b", {"product_family": "seats"}),
    )
    with serve(erp) as server:
        ledger = server.ledger()
        ledger.read_back(ledger.post(ErpJournal("US", KEY, short_key(KEY), date(2026, 3, 29), "USD", "n", lines)))
        ledger.trial_balance("US", date(2026, 3, 31))
    return heard, erp


def properties(markdown: str) -> set[str]:
    """The names in the table of properties of a reference page."""
    table = markdown.partition("## Properties")[2].partition("## JSON")[0]
    return set(re.findall(r"^\|(\w+)\s*\|", table, re.MULTILINE)) - {"Property"}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dynamics_journalline", api.LINE_FIELDS),
        ("dynamics_generalLedgerEntry", api.ENTRY_FIELDS),
        ("dynamics_journal", api.JOURNAL_FIELDS | {"id", "lastModifiedDateTime"}),
    ],
)
def test_the_simulator_has_the_properties_of_the_reference(
    page: Callable[[str], str], name: str, fields: frozenset[str]
) -> None:
    assert set(fields) == properties(page(name))


def test_a_line_has_no_currency_which_is_why_only_the_local_one_can_be_posted(page: Callable[[str], str]) -> None:
    assert not [name for name in properties(page("dynamics_journalline")) if "currency" in name.lower()]
    assert "localCurrencyCode" in properties(page("dynamics_generalledgersetup"))


def test_what_the_adapter_sends_are_properties_of_the_reference(
    page: Callable[[str], str], talk: tuple[list[tuple[str, str, dict[str, Any]]], BusinessCentral]
) -> None:
    sent = {re.sub(r"\([^)]*\)", "", path): body for method, path, body in talk[0] if method == "POST"}
    assert set(sent) == {
        "journals",
        "journals/journalLines",
        "journalLines/dimensionSetLines",
        "journals/Microsoft.NAV.post",
    }
    assert set(sent["journals"]) <= properties(page("dynamics_journal"))
    assert set(sent["journals/journalLines"]) <= properties(page("dynamics_journalline"))
    assert set(sent["journalLines/dimensionSetLines"]) <= properties(page("dynamics_dimensionSetLine"))
    assert sent["journals/Microsoft.NAV.post"] == {}


def test_the_calls_are_operations_of_the_published_description(
    openapi: dict[str, Any], talk: tuple[list[tuple[str, str, dict[str, Any]]], BusinessCentral]
) -> None:
    published = {
        (method.upper(), re.sub(r"\([^)]*\)", "", path.partition(")/")[2]))
        for path, operations in openapi["paths"].items()
        for method in operations
    }
    newer = {"journalLines/dimensionSetLines", "accountingPeriods", "generalLedgerSetup", "trialBalances", "dimensions"}
    called = {(method, re.sub(r"\([^)]*\)", "", path)) for method, path, _ in talk[0] if path != "companies"}
    assert {one for one in called if one[1] not in newer} <= published


@pytest.mark.parametrize(("kind", "rows"), [("generalLedgerEntry", "entries"), ("trialBalance", None)])
def test_answers_keep_to_the_published_schema(
    openapi: dict[str, Any],
    talk: tuple[list[tuple[str, str, dict[str, Any]]], BusinessCentral],
    kind: str,
    rows: str | None,
) -> None:
    schema = json.loads(json.dumps(openapi["components"]["schemas"][kind]))
    if kind == "generalLedgerEntry":
        schema["properties"]["id"] = {"type": "string"}  # a number in v1.0, a GUID in v2.0
    erp = talk[1]
    books = erp.by_name["US"]
    found = books.entries if rows else erp._trial_balance(books, {})
    assert found
    for row in found:
        plain = {k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()}
        jsonschema.validate(plain, schema)


def test_the_entry_of_the_reference_page_is_read_as_it_stands(page: Callable[[str], str]) -> None:
    from tieout.erp.business_central import BusinessCentralConfig, BusinessCentralLedger, _Company
    from tieout.settings import Connection

    sample = json.loads(
        page("dynamics_generalledgerentry_get").rpartition("```json")[2].partition("```")[0], parse_float=Decimal
    )
    config = BusinessCentralConfig.load({"companies": {"US": "x"}})
    ledger = BusinessCentralLedger(Connection("bc", "https://example.com/api/v2.0"), config)
    [entry] = ledger._gl_entries(_Company("US", "companies(x)", "USD", {}, {}, {}, {}), [sample])
    assert (entry.account, entry.credit, entry.date) == ("10700", Decimal("128.4"), date(2019, 1, 15))
    assert (entry.run_key, entry.journal_id, entry.changed_at.year) == (None, "PS-INV103001", 2020)


def test_the_limits_in_the_configuration_are_those_of_the_reference(page: Callable[[str], str]) -> None:
    from tieout.settings import SHIPPED_CONFIG, load_yaml

    limits = page("operational-limits-online")
    assert re.search(r"Max batch size\|[^|]*\|100\|", limits)
    assert re.search(r"Max page size\|[^|]*\|20,000\|", limits)
    per_user = limits.partition('name="ODataServicesUser"')[2]
    allowed = int(re.search(r"Speed \(rate\)\|[^|]*5-minute[^|]*\|(\d+)", per_user)[1])  # type: ignore[index]
    example = load_yaml(SHIPPED_CONFIG / "erp/businesscentral.yaml")
    assert example["calls_per_second"] * 300 <= allowed
    assert example["settle_seconds"] > 8 * 60
