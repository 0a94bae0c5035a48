"""The chart of accounts, journals and companies the sandbox's ERP starts with; plain data that two Pythons read."""

from __future__ import annotations

ACCOUNT_TYPES: dict[str, dict[str, object]] = {
    "assets": {"name": "Assets", "statement": "balance", "assets": True},
    "liabilities": {"name": "Liabilities", "statement": "balance", "assets": False},
    "equity": {"name": "Equity", "statement": "balance", "assets": False},
    "revenue": {"name": "Revenue", "statement": "income", "revenue": True},
    "expense": {"name": "Expenses", "statement": "income", "expense": True},
}

# code, name, account type; the same in every company
ACCOUNTS: tuple[tuple[str, str, str], ...] = (
    ("10000", "Bank", "assets"),
    ("10100", "Payment processor clearing", "assets"),
    ("10150", "Cash in transit", "assets"),
    ("11000", "Trade receivables (control)", "assets"),
    ("11100", "Unbilled receivables", "assets"),
    ("11200", "Disputes receivable", "assets"),
    ("12000", "Allowance for bad debt", "assets"),
    ("19000", "Intercompany", "assets"),
    ("19500", "FX clearing", "assets"),
    ("21000", "Deferred revenue", "liabilities"),
    ("22000", "Sales tax and VAT payable", "liabilities"),
    ("23000", "Customer credit", "liabilities"),
    ("23500", "Refund suspense", "liabilities"),
    ("30000", "Opening equity", "equity"),
    ("40100", "Revenue: seats", "revenue"),
    ("40200", "Revenue: platform", "revenue"),
    ("40300", "Revenue: usage", "revenue"),
    ("40400", "Revenue: support", "revenue"),
    ("60100", "Payment processor fees", "expense"),
    ("60200", "Bad debt", "expense"),
    ("60300", "Chargeback losses", "expense"),
    ("60400", "Withholding tax", "expense"),
    ("61000", "Office and travel", "expense"),
    ("65000", "Rounding", "expense"),
    ("66000", "Foreign exchange gain and loss", "expense"),
    ("66100", "Unrealised foreign exchange gain and loss", "expense"),
)

# code, name; journals are shared by the companies
JOURNALS: tuple[tuple[str, str], ...] = (
    ("TIE", "Tieout"),
    ("BSY", "BillingSync"),
    ("MAN", "Manual entries"),
)

CURRENCIES: dict[str, tuple[str, str, int]] = {
    "USD": ("US Dollar", "$", 2),
    "EUR": ("Euro", "€", 2),
    "JPY": ("Yen", "¥", 0),
}

COMPANIES: tuple[dict[str, str], ...] = (
    {"id": "US", "name": "Northwind Cloud Inc.", "currency": "USD", "zone": "America/Los_Angeles"},
    {"id": "DE", "name": "Northwind Cloud GmbH", "currency": "EUR", "zone": "Europe/Berlin"},
    {"id": "JP", "name": "Northwind Cloud KK", "currency": "JPY", "zone": "Asia/Tokyo"},
)

FIRST_FISCAL_YEAR = 2025

# dimension -> values; a dimension is an analytic root of that code, a value an analytic account `<dimension>:<value>`
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "product_family": ("seats", "platform", "usage", "support"),
    "tax_code": ("txr_1NwCloudUSsalestax0001", "txr_1NwCloudDEvat000000001", "txr_1NwCloudJPconsumption1"),
}

POSTER = "tieout_poster"
ACCOUNTANT = "accountant"
