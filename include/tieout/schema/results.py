"""Result tables: what reconciliation, posting and close leave for reports, data teams and auditors."""

from __future__ import annotations

from tieout.schema.canonical import _c, _r
from tieout.schema.tables import Table

BREAK_TYPES = (
    "missing_left", "missing_right", "duplicate", "amount", "currency", "timing", "cut_off", "status", "attribute",
    "mapping", "orphan", "ambiguous", "suggested_match",
)  # fmt: skip


RESULTS: tuple[Table, ...] = (
    Table(
        "journals",
        "Headers of the journals planned from accounting events, one per slot, version and chunk.",
        ("run_key",),
        (
            _r("run_key", "text", "slot, version and chunk"),
            _r("slot", "text", "entity/ledger/period/stream/business date"),
            _r("version", "int", "1, then one more for every difference posted"),
            _r("legal_entity_id", "text", "legal entity"),
            _r("ledger", "text", "ledger"),
            _r("period", "text", "fiscal period"),
            _r("stream", "text", "billing, cash, release, accrual, prior_period"),
            _r("business_date", "date", "business date of the slot"),
            _r("accounting_date", "date", "posting date in the ledger"),
            _r("currency", "text", "functional currency"),
            _r("debit", "money", "sum of debits"),
            _r("credit", "money", "sum of credits"),
            _r("line_count", "int", "lines"),
            _r("row_count", "int", "source rows behind it"),
            _r("content_hash", "text", "SHA-256 of its lines"),
        ),
        "result",
    ),
    Table(
        "journal_lines",
        "Lines of planned journals.",
        ("run_key", "line_no"),
        (
            _r("run_key", "text", "journal"),
            _r("line_no", "int", "position, from 1"),
            _r("account", "text", "GL account"),
            _r("account_role", "text", "account role of the posting rule"),
            _r("event_type", "text", "accounting event"),
            _r("product_family", "text", "dimension; empty where none"),
            _r("tax_code", "text", "dimension; empty where none"),
            _r("side", "text", "side", "debit", "credit"),
            _r("amount", "money", "amount, positive"),
            _r("currency", "text", "currency"),
            _r("row_count", "int", "source rows behind it"),
            _r("description", "text", "text on the line"),
        ),
        "result",
    ),
    Table(
        "journal_drilldown",
        "The source rows behind each journal line; they sum to it exactly.",
        ("run_key", "line_no", "event_id"),
        (
            _r("run_key", "text", "journal"),
            _r("line_no", "int", "line"),
            _r("event_id", "text", "accounting event: type and source row"),
            _r("amount", "money", "part of the line, positive on the line's side"),
            _c("document_number", "text", "invoice or credit note number"),
            _c("source", "text", "source of the row"),
            _c("source_id", "text", "its id there"),
            _c("correlation_id", "text", "correlation id"),
            _c("raw_ref", "text", "landed page and position"),
        ),
        "result",
    ),
)
