"""The close backlog names everything unfinished, its owner, its value and what to do."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.calendar import period_of
from tieout.close import StaleSource, backlog
from tieout.close.backlog import write
from tieout.entities import LegalEntity
from tieout.ids import Slot
from tieout.lake.tables import Lake
from tieout.store import QuarantineItem, Store, batches

END, TODAY = date(2026, 3, 31), date(2026, 4, 2)


@pytest.fixture
def entity() -> LegalEntity:
    return LegalEntity(
        id="US",
        name="Example",
        functional_currency="USD",
        zone="America/Los_Angeles",
        country="US",
        go_live=date(2026, 3, 29),
    )


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Store, Lake]:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.upgrade()
    return store, Lake(tmp_path / "lake")


def planned(store: Store, day: date, version: int = 1, *states: str) -> None:
    slot = Slot("US", "main", f"{day:%Y-%m}", "billing", day)
    key = f"{slot}/{version}"
    journal = batches.PlannedJournal(key, key[-16:], "USD", day, Decimal("100"), 2, {"lines": []})
    with store.transaction() as session:
        batch = batches.plan(
            session, slot, version, [journal], digest="d" * 64, accounting_date=day, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="t", now=store.now(),
        )  # fmt: skip
        for state in states:
            batches.transition(session, batch.batch_id, state, actor="t", now=store.now(), reason="because")


def rows(entity: LegalEntity, parts: tuple[Store, Lake], **options: Any) -> list[dict[str, Any]]:
    store, lake = parts
    table = backlog(
        entity, period_of(entity, END), today=TODAY, lake=lake, store=store, snapshot=store.published(), **options
    )
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_an_unfinished_journal_is_listed_and_a_posted_or_replaced_one_is_not(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, _ = parts
    planned(store, date(2026, 3, 29), 1, "validated", "submitted", "confirmed", "posted")
    planned(store, date(2026, 3, 30), 1, "validated", "submitted", "rejected")
    planned(store, date(2026, 3, 30), 2, "validated", "submitted", "rejected")
    planned(store, date(2026, 4, 1), 1)
    (item,) = [r for r in rows(entity, parts) if r["kind"] == "journal"]
    assert item["item"] == "TIEOUT/US/main/2026-03/billing/2026-03-30/v2"
    assert (item["state"], item["amount"], item["currency"], item["age_days"]) == ("rejected", 100, "USD", 3)
    assert "because" in item["next_action"]


def test_held_events_quarantine_stale_sources_and_a_missing_proof_are_listed(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, lake = parts
    held = {
        "event_id": "invoice:1", "event_type": "invoice_ahead", "legal_entity_id": "US", "event_date": END,
        "document_number": "US-1", "reason": "product is not mapped", "amount": Decimal("12"), "currency": "USD",
    }  # fmt: skip
    shape = schema.table("journal_held").arrow
    store.publish("r", {"journal_held": lake.write("journal_held", pa.Table.from_pylist([held], schema=shape))})
    store.quarantine("r", [QuarantineItem("raw#1", "usage", "events", "not_a_number", "text", legal_entity_id="US")])
    found = rows(entity, parts, stale=[StaleSource("stripe_us", date(2026, 3, 30))])
    assert [(r["kind"], r["item"], r["state"]) for r in found] == [
        ("held event", "US-1 invoice ahead", "held"),
        ("proof", "trial balance", "unproven"),
        ("quarantine", "raw#1", "open"),
        ("source", "stripe_us", "stale"),
    ]
    assert found[0]["amount"] == Decimal("12")


def test_the_backlog_of_a_period_replaces_the_one_before(entity: LegalEntity, parts: tuple[Store, Lake]) -> None:
    store, lake = parts
    period = period_of(entity, END)
    for _ in range(2):
        table = backlog(entity, period, today=TODAY, lake=lake, store=store, snapshot={})
        write(table, entity, period, lake=lake, store=store, run_id="r")
    assert lake.read("close_backlog", store.published()["close_backlog"]).num_rows == 1
