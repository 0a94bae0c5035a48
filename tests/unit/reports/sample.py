"""A small report with one of everything, and texts that try to be formulas or markup."""

from datetime import UTC, date, datetime
from decimal import Decimal

from tieout import schema
from tieout.reports import ReportData

DAY = date(2026, 3, 29)


def row(table: str, **values):
    names = schema.table(table).names
    unknown = set(values) - set(names) - {"state", "erp_number"}
    assert not unknown, unknown
    return dict.fromkeys(names) | values


def broken(key, kind, value, currency="EUR", **more):
    base = {
        "business_date": DAY,
        "definition_id": "invoice_to_receivable",
        "legal_entity_id": "DE",
        "break_key": key,
        "ordinal": 1,
        "break_type": kind,
        "currency": currency,
        "value": None if value is None else Decimal(value),
        "difference": None if value is None else Decimal(value),
        "owner": "receivables",
        "sentence": f"Invoice {key} was billed but the ledger has no receivable for it.",
        "next_action": "Ask the integration team to post it.",
        "state": "open",
        "change": "new",
        "first_seen": DAY,
        "age_days": 3,
    }
    return row("breaks", **base | more)


def total(outcome, detail, rows, amount, **more):
    return row(
        "totals",
        business_date=DAY,
        definition_id="invoice_to_receivable",
        legal_entity_id="DE",
        currency="EUR",
        period=more.pop("period", "2026-03"),
        outcome=outcome,
        detail=detail,
        left_rows=rows,
        right_rows=rows,
        left_amount=Decimal(amount),
        right_amount=Decimal(amount),
        **more,
    )


KEY = "TIEOUT/DE/main/2026-03/billing/2026-03-29/v1"


def sample(**more) -> ReportData:
    values = {
        "business_date": DAY,
        "title": "Northwind Cloud",
        "entities": {"US": "USD", "DE": "EUR", "JP": "JPY"},
        "definitions": {"invoice_to_receivable": "Invoices against receivables"},
        "sources": (
            {
                "source": "stripe_de",
                "object": "invoices",
                "complete_until": datetime(2026, 3, 30, 8, 59, tzinfo=UTC),
                "records": 120,
                "kept": 115,
                "merged": 3,
                "quarantined": 2,
                "control": "proven",
            },
        ),
        "hashes": {"breaks": "b7" * 32, "journals": "1f" * 32},
        "gate": (
            {
                "entity": "invoice",
                "expectations": 12,
                "failed": 1,
                "blocking": False,
                "rows_failing": 2,
                "value_at_risk": "119.00 EUR",
            },
        ),
        "breaks": (
            broken("DE-2026-000001", "missing_right", "1190.00"),
            broken("=HYPERLINK(1)", "duplicate", "99999999999999.99", owner="=cmd|' /C calc'!A0", age_days=45),
            broken("<script>alert(1)</script>", "attribute", None, None, change="continuing", age_days=None),
            broken("JP-2026-000009", "amount", "1000", "JPY", legal_entity_id="JP", age_days=12),
        ),
        "gone": (
            row(
                "breaks_gone",
                business_date=DAY,
                definition_id="invoice_to_receivable",
                legal_entity_id="DE",
                break_key="DE-2026-000007",
                ordinal=1,
                break_type="timing",
                state="resolved",
                owner="receivables",
                first_seen=DAY,
                sentence="x",
            ),
        ),
        "totals": (
            total("matched", "", 10, "1000.00"),
            total("matched", "", 5, "500.00", period="2026-02"),
            total("break", "missing_right", 1, "1190.00"),
            total("all", "", 16, "2690.00"),
        ),
        "journals": (
            row(
                "journals",
                run_key=KEY,
                slot="DE/main/2026-03/billing/2026-03-29",
                version=1,
                legal_entity_id="DE",
                ledger="main",
                period="2026-03",
                stream="billing",
                business_date=DAY,
                accounting_date=DAY,
                currency="EUR",
                debit=Decimal("1190.0000"),
                credit=Decimal("1190.0000"),
                line_count=2,
                row_count=3,
                content_hash="ab",
                state="posted",
                erp_number="2026-000002",
            ),
        ),
        "journal_lines": tuple(
            row(
                "journal_lines",
                run_key=KEY,
                line_no=n,
                account=account,
                account_role=role,
                event_type="invoice_finalised",
                product_family="",
                tax_code="",
                side=side,
                amount=Decimal("1190.0000"),
                currency="EUR",
                row_count=3,
                description="",
            )
            for n, account, role, side in (
                (1, "11000", "receivable", "debit"),
                (2, "21000", "deferred_revenue", "credit"),
            )
        ),
        "drilldown": (
            row(
                "journal_drilldown",
                run_key=KEY,
                line_no=1,
                event_id="invoice_finalised:in_1",
                amount=Decimal("1190.0000"),
                document_number="+DE-2026-000001",
                source="stripe_de",
                source_id="in_1",
                correlation_id="c",
                raw_ref="stripe_de/invoices/x/1#0",
            ),
        ),
        "proof": (
            {
                "legal_entity_id": "DE",
                "account": "11000",
                "name": "Receivable",
                "currency": "EUR",
                "opening": Decimal("100.00"),
                "posted": Decimal("1190.00"),
                "foreign": Decimal("-5.00"),
                "expected": Decimal("1285.00"),
                "trial_balance": Decimal("1285.00"),
                "difference": Decimal("0.00"),
            },
        ),
        "foreign": (
            {
                "legal_entity_id": "DE",
                "account": "11000",
                "accounting_date": DAY,
                "narrative": "MANUAL @SUM(1)",
                "debit": Decimal(0),
                "credit": Decimal("5.00"),
                "currency": "EUR",
            },
        ),
        "quarantine": (
            row(
                "quarantine",
                source="usage",
                object="usage",
                record_digest="d",
                raw_ref="usage/usage/x/1#4",
                reason_code="not_a_number",
                reason="quantity is not a number: 'twelve'",
                superseded=False,
                first_seen_run="r",
            ),
        ),
    }
    return ReportData(**values | more)
