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
from tieout.close import Contradiction, StaleSource, backlog
from tieout.close.backlog import write
from tieout.entities import LegalEntity
from tieout.ids import Slot
from tieout.lake.tables import Lake
from tieout.ledger.proof import ProofLine, TrialBalanceProof
from tieout.store import QuarantineItem, Store, batches, golive, late_events
from tieout.store.breaks import Sighting, record
from tieout.store.late_events import LateEvent

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
    assert item["what"] == "because"
    assert item["next_action"].startswith("remove the ERP's reason")


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


def test_a_break_carries_what_is_different_and_its_own_next_action(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, lake = parts
    found = {
        "business_date": END, "definition_id": "d", "legal_entity_id": "US", "break_key": "k", "ordinal": 1,
        "break_type": "amount", "left_rows": 1, "right_rows": 1, "is_material": True, "left_ids": "", "right_ids": "",
        "owner": "treasury", "sentence": "It differs.", "next_action": "Correct it.",
    }  # fmt: skip
    shape = schema.table("breaks").arrow
    earlier = found | {"business_date": date(2026, 3, 30), "next_action": "Wait."}
    table = pa.Table.from_pylist([found, earlier], schema=shape)
    store.publish("r", {"breaks": lake.write("breaks", table)})
    sighting = Sighting("d", "US", "k", 1, "amount", "open", "treasury", None, None, None, END, "It differs.")
    with store.transaction() as session:
        record(session, "d", END, "r", [sighting], [], store.now())
    (item,) = [r for r in rows(entity, parts) if r["kind"] == "break"]
    assert (item["what"], item["next_action"], item["owner"]) == ("It differs.", "Correct it.", "treasury")


def test_small_breaks_that_add_up_to_a_large_sum_are_one_item_aged_from_the_day_they_first_did(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, lake = parts
    shape = schema.table("breaks_forward").arrow
    moves = {
        f.name: Decimal(0) if pa.types.is_decimal(f.type) else 0
        for f in shape
        if f.name.endswith(("_breaks", "_value"))
    }
    watched = {29: True, 30: False, 31: True}
    table = pa.Table.from_pylist(
        [
            moves | {"business_date": date(2026, 3, day), "definition_id": "d", "legal_entity_id": owner,
                     "currency": "USD", "immaterial_breaks": 7, "immaterial_value": Decimal("1234.5"),
                     "immaterial_limit": Decimal("1000"), "is_watched": is_watched}
            for day, is_watched in watched.items() for owner in ("US", "DE")
        ],
        schema=shape,
    )  # fmt: skip
    store.publish("r", {"breaks_forward": lake.write("breaks_forward", table)})
    (item,) = [r for r in rows(entity, parts) if r["kind"] == "watch"]
    assert (item["item"], item["since"], item["amount"]) == ("d USD", END, Decimal("1234.5"))
    assert item["what"] == "7 immaterial breaks add up to 1,234.50 USD, more than 1,000.00 USD"


def test_what_belongs_to_no_entity_is_listed_once(entity: LegalEntity, parts: tuple[Store, Lake]) -> None:
    store, _ = parts
    store.start_run("night", "nightly", date(2026, 3, 30))
    store.quarantine("night", [QuarantineItem("raw#1", "usage", "events", "not_a_number", "text")])
    sighting = Sighting("d", "", "k", 1, "orphan", "open", "treasury", None, None, None, END, "It has no entity.")
    with store.transaction() as session:
        record(session, "d", END, "r", [sighting], [], store.now())
    found = [r for r in rows(entity, parts) if r["kind"] != "proof"]
    assert [(r["kind"], r["since"], r["age_days"], r["owner"]) for r in found] == [
        ("break", END, 2, "treasury"),
        ("quarantine", date(2026, 3, 30), 3, "integration engineering"),
    ]
    assert [r["kind"] for r in rows(entity, parts, shared=False)] == ["proof"]


def test_records_set_aside_by_later_dates_are_not_listed(entity: LegalEntity, parts: tuple[Store, Lake]) -> None:
    store, _ = parts
    store.start_run("later", "nightly", date(2026, 4, 3))
    store.quarantine("later", [QuarantineItem("raw#1", "usage", "events", "not_a_number", "text")])
    assert [r["kind"] for r in rows(entity, parts)] == ["proof"]


def test_the_backlog_of_a_period_replaces_the_one_before(entity: LegalEntity, parts: tuple[Store, Lake]) -> None:
    store, lake = parts
    period = period_of(entity, END)
    for _ in range(2):
        table = backlog(entity, period, today=TODAY, lake=lake, store=store, snapshot={})
        write(table, entity, period, lake=lake, store=store, run_id="r")
    assert lake.read("close_backlog", store.published()["close_backlog"]).num_rows == 1


def test_a_late_event_waits_with_its_money_and_periods_that_differ_are_listed(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, _ = parts
    slot = f"US/main/2026-03/billing/{END}"
    event = LateEvent(
        "invoice:1", "main", "invoice", END, slot, "2026-03", "US-7", "USD", Decimal("1250.50"), "", "late for 2026-03"
    )
    with store.transaction() as session:
        late_events.hold(session, "US", [event], ["invoice"], END, END, actor="t", now=store.now())
    found = rows(entity, parts, erp_periods={"main": "closed", "next": "open"})
    late, period = (next(r for r in found if r["kind"] == kind) for kind in ("late event", "period"))
    assert (late["item"], late["what"], late["amount"]) == ("invoice:1", "US-7: late for 2026-03", Decimal("1250.50"))
    assert late["next_action"] == "decide: tieout late release, reopen or drop"
    assert (period["item"], period["what"]) == ("main 2026-03", "Tieout says open, the ERP closed")


def test_an_opening_position_that_nobody_signed_and_a_contradicted_source_are_items(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, _ = parts
    with store.transaction() as session:
        tie = golive.OpeningTie("receivable", "11000", "USD", Decimal(1), Decimal(1))
        golive.load_opening(session, "US", "main", date(2026, 3, 28), [], [tie], actor="t", now=store.now())
    told = "the vendor's count says 5, read were 4"
    found = rows(entity, parts, contradicted=[Contradiction("stripe_us charges", told)])
    assert [(r["kind"], r["item"], r["state"], r["what"]) for r in found if r["kind"] in ("go-live", "source")] == [
        ("go-live", "main", "unsigned", "the opening position is not signed"),
        ("source", "stripe_us charges", "contradicted", told),
    ]
    with store.transaction() as session:
        golive.waive(session, "US", "main", "*", actor="al", second="bea", reason="a trial", now=store.now())
    assert "go-live" not in {r["kind"] for r in rows(entity, parts)}


def test_an_accrual_of_before_go_live_is_an_item_until_others_took_it_back(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, _ = parts
    held = Decimal("70.25")
    with store.transaction() as session:
        tie = golive.OpeningTie("unbilled_receivable", "11100", "USD", held, held)
        golive.load_opening(session, "US", "main", date(2026, 2, 28), [], [tie], actor="t", now=store.now(), waiver="-")
    first = entity.model_copy(update={"go_live": date(2026, 3, 1)})

    def found(foreign: str, **changes: Any) -> list[tuple[Any, ...]]:
        line = ProofLine("11100", "USD", held, Decimal("40"), Decimal(foreign), held + 40 + Decimal(foreign))
        proof = TrialBalanceProof("US", END, (line,), (), 0, 0)
        seen = rows(first.model_copy(update=changes), parts, proof=proof)
        return [(r["item"], r["state"], r["amount"], r["since"]) for r in seen if r["kind"] == "go-live"]

    assert found("0") == [("11100", "not reversed", held, date(2026, 3, 1))]  # ours neither adds to it nor hides it
    assert found("-70.25") == []
    assert found("0", streams={"accrual": "verify"}) == []  # who accrues goes on to take back


def test_a_batch_that_is_being_taken_out_keeps_the_periods_of_its_mirrors_open_too(
    entity: LegalEntity, parts: tuple[Store, Lake]
) -> None:
    store, _ = parts
    planned(store, date(2026, 2, 27), 1, "validated", "submitted", "confirmed", "posted", "reversing")
    found = [(r["item"], r["state"]) for r in rows(entity, parts) if r["kind"] == "journal"]
    assert found == [("TIEOUT/US/main/2026-02/billing/2026-02-27/v1", "reversing")]
