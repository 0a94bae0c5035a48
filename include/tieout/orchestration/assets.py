"""What each workflow produces, as Airflow assets: for lineage in the UI and for anyone who wants to run after it."""

from __future__ import annotations

from airflow.sdk import Asset

CANONICAL = Asset(name="canonical_tables", uri="x-tieout://lake/canonical")
FRESHNESS = Asset(name="freshness", uri="x-tieout://store/freshness")
USAGE = Asset(name="usage_summary", uri="x-tieout://lake/usage_summary")
BREAKS = Asset(name="breaks", uri="x-tieout://lake/breaks")
JOURNALS = Asset(name="journals", uri="x-tieout://lake/journals")
POSTINGS = Asset(name="erp_journals", uri="x-tieout://erp/journals")
LEDGER = Asset(name="general_ledger", uri="x-tieout://lake/gl_entry")
REPORT = Asset(name="reconciliation_report", uri="x-tieout://reports/nightly")
BACKLOG = Asset(name="close_backlog", uri="x-tieout://lake/close_backlog")
