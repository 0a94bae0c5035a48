"""Conforming: typed rows, versions merged, links to customers and products, counts that add up."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


def test_an_invoice_and_its_line_become_typed_rows(world: Any, make: Any) -> None:
    world.land(world.CRM, "Account", [make.account()])
    world.land(world.BILLING, "customers", [make.customer()])
    world.land(world.BILLING, "invoices", [make.invoice()])
    result = world.conform()
    assert (result.rows_in, result.rows_out, result.rows_merged, result.rows_quarantined) == (3, 3, 0, 0)
    found = world.one("invoice")
    assert found["id"] == "stripe_us:in_1"
    assert found["customer_id"] == "crm:001000000000001AAA"
    assert (found["subtotal"], found["tax"], found["total"]) == (Decimal("100"), Decimal("8.25"), Decimal("108.25"))
    assert found["occurred_at"] == datetime(2026, 3, 30, 8, 0, tzinfo=UTC)
    assert found["accounting_date"] == date(2026, 3, 30)
    assert found["mapping_gap"] is None
    line = world.one("invoice_line")
    assert (line["amount"], line["tax"], line["tax_code"]) == (Decimal("100"), Decimal("8.25"), "txr_1")
    assert (line["product_id"], line["product_family"]) == ("crm:01tSEAT", "seats")
    assert (line["period_start"], line["period_end"]) == (date(2026, 3, 30), date(2026, 4, 30))
    assert line["line_no"] == 1
    assert line["customer_id"] == "crm:001000000000001AAA"
    assert line["raw_ref"] == "stripe_us/invoices/00000003-x/1#0"


def test_yen_has_no_minor_unit(world: Any, make: Any) -> None:
    world.land(world.BILLING_JP, "invoices", [make.invoice(currency="jpy", lines={"data": [make.line(currency="jpy")]})])
    world.conform()
    assert world.one("invoice")["total"] == Decimal("10825")
    assert world.one("invoice")["accounting_date"] == date(2026, 3, 30)
