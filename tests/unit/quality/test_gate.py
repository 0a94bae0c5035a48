"""The gate: rules from schema and files, failures priced in money, engine and Great Expectations agree."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.errors import ConfigError
from tieout.lake.tables import Lake
from tieout.quality import GateResult, gate
from tieout.quality.rules import load_suites
from tieout.settings import Settings

COMMON = {
    "source_version": "1",
    "correlation_id": "c",
    "is_deleted": False,
    "source": "stripe_us",
    "legal_entity_id": "US",
}


def table(name: str, *rows: dict[str, Any]) -> pa.Table:
    shape = pa.schema([f.with_nullable(True) for f in schema.table(name).arrow])
    filled = [COMMON | {"id": r["source_id"], "raw_ref": f"raw#{n}"} | r for n, r in enumerate(rows)]
    return pa.Table.from_pylist([{f.name: r.get(f.name) for f in shape} for r in filled], schema=shape)


def invoice(id: str, total: str, currency: str = "USD", **changes: Any) -> dict[str, Any]:
    amount = Decimal(total)
    return {
        "source_id": id, "number": f"N-{id}", "status": "open", "currency": currency, "subtotal": amount,
        "tax": Decimal(0), "total": amount, "amount_paid": Decimal(0), "amount_remaining": amount,
        "customer_id": "crm:1",
    } | changes  # fmt: skip


def line(id: str, invoice_id: str, amount: str, currency: str = "USD") -> dict[str, Any]:
    return {
        "source_id": id, "invoice_source_id": invoice_id, "line_no": 1, "amount": Decimal(amount), "tax": Decimal(0),
        "currency": currency, "is_proration": False,
    }  # fmt: skip


def run(tmp_path: Path, invoices: pa.Table, lines: pa.Table, **options: Any) -> GateResult:
    lake = Lake(tmp_path / "lake")
    snapshot = {"invoice": lake.write("invoice", invoices), "invoice_line": lake.write("invoice_line", lines)}
    settings = Settings(tmp_path, tmp_path / "config", lake.root, "")
    return gate(snapshot, lake=lake, settings=settings, run_id="r", business_date="2026-03-29", **options)


BAD = (
    invoice("in_1", "100"),
    invoice("in_2", "50.25", tax=Decimal(5)),
    invoice("in_3", "0.75", currency="EUR", number=None),
    invoice("in_4", "30000", currency="JPY", mapping_gap="no product family is mapped for prod_9"),
)
LINES = (line("l1", "in_1", "100"), line("l2", "in_2", "50"), line("l3", "in_3", "0.75"), line("l4", "in_4", "30000"),
         line("l5", "in_9", "7"))  # fmt: skip


def test_failing_rows_are_counted_and_priced_per_currency(tmp_path: Path) -> None:
    result = run(tmp_path, table("invoice", *BAD), table("invoice_line", *LINES), expectations=False)
    suite = next(s for s in result.suites if s.entity == "invoice")
    failed = {r.id: (r.severity, r.rows_failing, dict(r.value_at_risk)) for r in suite.failed}
    assert failed == {
        "total_is_subtotal_plus_tax": ("blocking", 1, {"USD": Decimal("50.25")}),
        "lines_add_up": ("blocking", 1, {"USD": Decimal("50.25")}),
        "final_has_number": ("blocking", 1, {"EUR": Decimal("0.75")}),
        "products_are_mapped": ("warning", 1, {"JPY": Decimal("30000")}),
    }
    assert suite.rows_failing == 3
    assert result.value_at_risk == {"USD": Decimal("57.25"), "EUR": Decimal("0.75"), "JPY": Decimal("30000")}
    assert not result.success
    assert next(r for r in suite.failed if r.id == "final_has_number").examples == ("raw#2",)
    (row,) = (r for r in result.report_rows() if r["entity"] == "invoice")
    assert row["value_at_risk"] == "0.75 EUR, 30,000 JPY, 50.25 USD"
    assert "has a number. (1 rows, blocking)" in row["reasons"]
    assert json.loads((tmp_path / "reports/2026-03-29/quality/gate.json").read_text())["success"] is False


def test_a_warning_alone_does_not_close_the_gate(tmp_path: Path) -> None:
    invoices, lines = (
        table("invoice", invoice("in_1", "1", customer_id=None)),
        table("invoice_line", line("l", "in_1", "1")),
    )
    result = run(tmp_path, invoices, lines, expectations=False)
    assert result.failed == 1
    assert result.success


def test_great_expectations_judges_rows_and_counts_alike_and_keeps_its_data_docs(tmp_path: Path) -> None:
    invoices, lines = table("invoice", *BAD), table("invoice_line", *LINES)
    by_rows = run(tmp_path / "rows", invoices, lines)
    by_counts = run(tmp_path / "counts", invoices, lines, rows_for_expectations=2)
    for result in (by_rows, by_counts):
        assert [len(s.failed) for s in result.suites] == [4, 1]
        assert result.docs is not None
        assert "invoice_line" in result.docs.read_text(encoding="utf-8")
        assert result.docs.is_relative_to(tmp_path)
    assert {s.measured for s in by_rows.suites} == {"rows"}
    assert {s.measured for s in by_counts.suites} == {"metrics"}
    pages = list((by_rows.docs.parent / "validations").rglob("*.html"))  # type: ignore[union-attr]
    assert len(pages) == 2


def test_every_entity_has_the_rules_its_schema_implies() -> None:
    suites = {s.entity: s for s in load_suites(Settings.from_env({}))}
    assert set(suites) == {t.name for t in schema.CANONICAL}
    ids = {r.id for r in suites["invoice"].rules}
    assert {"key_is_unique", "currency_is_filled", "status_is_known", "lines_add_up"} <= ids


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("entity: invoic\n", "not a canonical entity"),
        ("entity: invoice\nrules: [{id: a, says: b}]\n", "exactly one kind"),
        ("entity: invoice\nrules: [{id: a, says: b, not_null: colour}]\n", "no columns"),
        ("entity: invoice\nvalue: price\n", "to price a failure by"),
        ("entity: refund\nrules: [{id: key_is_unique, says: b, not_null: id}]\n", "taken by the schema"),
    ],
)
def test_a_mistake_in_a_rules_file_is_told(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "refund.yaml").write_text(content)
    if "invoice" in content:
        (tmp_path / "quality" / "invoice.yaml").write_text(content)
        (tmp_path / "quality" / "refund.yaml").unlink()
    with pytest.raises(ConfigError, match=words):
        load_suites(Settings(tmp_path, tmp_path, "", ""))


def test_naming_the_package_imports_nothing_heavy() -> None:
    code = """
import sys, tieout.conform, tieout.lake, tieout.quality, tieout.usage
print(sorted({"duckdb", "pandas", "pyarrow", "deltalake", "great_expectations"} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
