"""NetSuite's simulator and adapter against the published record contract of journal entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tieout.erp import ErpJournal, ErpLine
from tieout.erp import netsuite as adapter
from tieout.ids import short_key
from tieout_sandbox.simulators.ledger_server import serve
from tieout_sandbox.simulators.netsuite import NetSuite, api, tables
from tieout_sandbox.tryton import chart

CONTRACT = "netsuite/journalEntry.rest.2026_1.json"


@pytest.fixture(scope="module")
def contract(spec: Callable[[str], Path]) -> dict[str, Any]:
    published: dict[str, Any] = json.loads(spec(CONTRACT).read_text())
    return published


def test_the_simulator_knows_the_fields_of_the_record_and_of_its_lines(contract: dict[str, Any]) -> None:
    published = {name.partition(".")[0] for name in contract["header_fields"]}
    assert set(api.HEADER_FIELDS) == published
    assert api.LINE_FIELDS - {tables.SEGMENT} == {name.partition(".")[0] for name in contract["line_fields"]}


def test_the_adapter_sends_only_published_fields_headers_and_operations(contract: dict[str, Any]) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    erp = NetSuite()
    create = erp._create

    def noting(request: Any, body: dict[str, Any]) -> Any:
        sent.append((request.headers["X-NetSuite-PropertyNameValidation"], json.loads(json.dumps(body, default=str))))
        return create(request, body)

    erp._create = noting  # type: ignore[method-assign]
    key = "TIEOUT/US/main/2026-03/invoices/2026-03-29/v1"
    lines = (
        ErpLine("11000", Decimal("0.10"), Decimal(0)),
        ErpLine(
            "40100",
            Decimal(0),
            Decimal("0.10"),
            "x",
            {"product_family": "seats", "tax_code": chart.DIMENSIONS["tax_code"][0]},
        ),
    )
    with serve(erp) as server:
        server.ledger().post(ErpJournal("US", key, short_key(key), date(2026, 3, 29), "USD", "n", lines))
        methods = {(a.method, "{id}" if "eid:" in a.path else "") for a in server.asked if "journalEntry" in a.path}
    (validation, body), *more = sent
    assert not more
    assert validation in contract["headers"]["X-NetSuite-PropertyNameValidation"]["enum"]
    assert contract["headers"]["X-NetSuite-PropertyNameValidation"]["default"] == "Warning"
    assert set(body) <= {name.partition(".")[0] for name in contract["header_fields"]}
    assert body["approvalStatus"]["id"] in contract["header_fields"]["approvalStatus.id"]
    fields = set(contract["line_fields"]) | {tables.SEGMENT}
    assert all(set(item) <= fields for item in body["line"]["items"])
    published = {operation.replace("/journalEntry", "").replace(" /", " ") for operation in contract["operations"]}
    assert {f"{method} {rest}".strip() for method, rest in methods} <= {p.strip() for p in published} | {"GET {id}"}


def test_the_contract_says_that_a_put_updates_what_is_there_which_is_why_it_is_not_sent(
    contract: dict[str, Any],
) -> None:
    assert contract["operations"]["PUT /journalEntry/{id}"]["id"].startswith("eid:")
    assert "PUT" not in Path(adapter.__file__).read_text().replace("`PUT eid:`", "")
