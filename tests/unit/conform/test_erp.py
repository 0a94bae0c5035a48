"""The ERP's ledger is landed through the port, proven against its trial balance, and conformed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tieout.conform.erp import catch_up_ledger
from tieout.entities import load_entities
from tieout.erp import Balance, GlAccount, GlEntry, PeriodStatus
from tieout.errors import IncompleteExtract
from tieout.sources.config import SourceConfig

SOURCE = SourceConfig(name="tryton", kind="erp", connection="tryton")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entry(id: str, account: str, debit: str, credit: str, **changes: Any) -> GlEntry:
    return GlEntry(
        **{
            "entity": "US", "erp_id": id, "journal_id": "7", "journal_number": "J7", "date": date(2026, 3, 28),
            "posted_on": date(2026, 3, 28), "period": "2026-03", "account": account, "debit": Decimal(debit),
            "credit": Decimal(credit), "currency": "USD", "narrative": "BillingSync US-2026-000001", "description": "",
            "run_key": None, "line_no": None, "changed_at": NOW - timedelta(days=1),
        } | changes
    )  # fmt: skip


class Books:
    """A ledger in memory, as far as reading goes."""

    def __init__(self, *entries: GlEntry) -> None:
        self.entries = list(entries)

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        return [GlAccount("US", "11000", "Receivables", "USD")] if entity == "US" else []

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        return PeriodStatus(entity, on, "open", f"{on:%Y-%m}", on, on + timedelta(days=27))

    def gl_entries(self, entity: str, since: date, until: date) -> Any:
        yield [e for e in self.entries if e.entity == entity]

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Any:
        yield [e for e in self.entries if e.entity == entity and since <= e.changed_at < until]

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        mine = [e for e in self.entries if e.entity == entity]
        return [
            Balance(entity, a, "USD", Decimal(0), sum((e.debit for e in mine if e.account == a), Decimal(0)),
                    sum((e.credit for e in mine if e.account == a), Decimal(0)))
            for a in sorted({e.account for e in mine})
        ]  # fmt: skip


def land(world: Any, books: Books, on: date | None = date(2026, 3, 29), now: datetime = NOW) -> list[Any]:
    entities = load_entities(world.settings.config_file("entities.yaml"))
    return catch_up_ledger(
        SOURCE, books, entities, landing=world.landing, store=world.store, business_date=on, now=lambda: now
    )


def test_the_ledger_becomes_accounts_periods_entries_and_balances(world: Any) -> None:
    euros = {"foreign_currency": "EUR", "foreign_amount": Decimal("100.00")}
    books = Books(entry("1", "11000", "108.25", "0", **euros), entry("2", "40100", "0", "108.25"))
    extracts = land(world, books)
    assert [e.control.proven for e in extracts if e.object == "gl_entries"] == [True]
    world.conform(world.ERP)
    left, right = world.rows("gl_entry")
    assert (left["debit"], right["credit"]) == (Decimal("108.25"), Decimal("108.25"))
    assert (left["transaction_currency"], left["transaction_amount"]) == ("EUR", Decimal(100))
    assert (right["transaction_currency"], right["transaction_amount"]) == (None, None)
    assert left["document_number"] == "US-2026-000001"
    assert (left["legal_entity_id"], left["accounting_date"]) == ("US", date(2026, 3, 28))
    account = world.one("gl_account")
    assert (account["role"], account["is_controlled"]) == ("receivable", True)
    assert [r["balance"] for r in world.rows("gl_balance")] == [Decimal("108.25"), Decimal("-108.25")]
    assert {r["name"] for r in world.rows("period")} >= {"2026-02", "2026-03", "2026-04"}
    assert world.rows("quarantine") == []


def test_only_changed_entries_are_read_again(world: Any) -> None:
    books = Books(entry("1", "11000", "10", "0"), entry("2", "40100", "0", "10"))
    land(world, books)
    posted = {"journal_id": "8", "changed_at": NOW + timedelta(hours=2), "run_key": "TIEOUT/x/v1"}
    books.entries += [
        entry("3", "11000", "5", "0", line_no=1, **posted),
        entry("4", "40100", "0", "5", line_no=2, **posted),
    ]
    extracts = land(world, books, on=None, now=NOW + timedelta(hours=3))
    assert {e.object: e.records for e in extracts}["gl_entries"] == 2
    assert "trial_balance" not in {e.object for e in extracts}
    world.conform(world.ERP)
    assert [(r["run_key"], r["line_no"]) for r in world.rows("gl_entry")][2:] == [
        ("TIEOUT/x/v1", 1),
        ("TIEOUT/x/v1", 2),
    ]


def test_entries_that_do_not_add_up_to_the_trial_balance_are_not_kept(world: Any) -> None:
    books = Books(entry("1", "11000", "10", "0"), entry("2", "40100", "0", "10"))
    books.gl_entries = lambda *_: iter([books.entries[1:]])  # type: ignore[method-assign]
    with pytest.raises(IncompleteExtract, match="trial balance"):
        land(world, books)
    assert world.landing.extracts("tryton", "gl_entries") == []
