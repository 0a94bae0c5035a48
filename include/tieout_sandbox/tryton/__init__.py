"""The sandbox's ERP: a real Tryton on PostgreSQL with one company per legal entity and a ledger with history."""
