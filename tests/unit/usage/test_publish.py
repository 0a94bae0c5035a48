"""The usage step publishes what was counted, what came too late for its invoice, and ids with different content."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.calendar import period_of
from tieout.close import backlog
from tieout.entities import load_entities
from tieout.errors import ConfigError
from tieout.lake.hashing import result_hash
from tieout.lake.tables import Lake
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import Store
from tieout.usage import publish, publish_rating, publish_summary
from tieout_sandbox.testing import fresh_store

DAY = date(2026, 4, 11)
NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
PERIOD = {"period_start": date(2026, 3, 10), "period_end": date(2026, 4, 10)}
COMMON = {"source": "stripe", "legal_entity_id": "US", "correlation_id": "c", "raw_ref": "r", "is_deleted": False,
          "source_version": "1", "meter": "api", "subscription_source_id": "sub_1", "currency": "USD"}  # fmt: skip


def at_home(folder: Path, config: Path = SHIPPED_CONFIG) -> tuple[Settings, Lake, Store]:
    settings = Settings(folder, config, str(folder / "lake"), f"sqlite:///{folder / 'store.sqlite'}")
    lake, store = Lake(settings.lake), fresh_store(folder / "store.sqlite")
    return settings, lake, store


def rows(name: str, *given: dict[str, Any]) -> pa.Table:
    shape = schema.table(name).arrow
    numbered = [COMMON | {"id": f"{name}{n}", "source_id": f"{name}{n}"} | row for n, row in enumerate(given)]
    zero = {f.name: Decimal(0) for f in shape if not f.nullable and pa.types.is_decimal(f.type)}
    return pa.Table.from_pylist(
        [zero | {f.name: row[f.name] for f in shape if f.name in row} for row in numbered], shape
    )


def event(id: str, quantity: int, received: datetime = NOON) -> dict[str, Any]:
    return {"event_id": id, "source": "drop", "quantity": Decimal(quantity), "occurred_at": NOON, "unit": "call",
            "received_at": received, "kind": "usage", "usage_date": NOON.date()}  # fmt: skip


def test_late_usage_and_conflicting_ids_are_published_with_their_money_and_stand_in_the_backlog(tmp_path: Path) -> None:
    settings, lake, store = at_home(tmp_path)
    soon, late = NOON + timedelta(hours=1), datetime(2026, 4, 11, 12, tzinfo=UTC)
    given = {
        "usage_event": [event("e1", 10), event("e2", 4, late), event("e3", 5), event("e3", 8, soon)],
        "subscription": [{"source_id": "sub_1", "billing_anchor": date(2026, 1, 10)}],
        "subscription_item": [{"usage_type": "metered", "interval_months": 1, "unit_amount": Decimal("0.25")}],
        "product": [{"unit": "call"}],
        "invoice": [{"source_id": "in_1", "status": "open", "accounting_date": date(2026, 4, 10)}],
        "invoice_line": [{"invoice_source_id": "in_1", "line_no": 1, "is_proration": False, "quantity": Decimal(15),
                          **PERIOD}],
    }  # fmt: skip
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    store.start_run("night", "nightly", DAY)
    counts = publish_summary(lake=lake, store=store, settings=settings, run_id="night")
    assert (counts["events"], counts["counted"], counts["repeated"], counts["conflicts"], counts["late"]) == (
        4,
        3,
        1,
        1,
        1,
    )
    snapshot = store.published()
    (missed,) = lake.read("usage_late", snapshot["usage_late"]).to_pylist()
    assert (missed["late_class"], missed["billed_on"]) == ("after_billing", date(2026, 4, 10))
    assert (missed["quantity_in_time"], missed["quantity"], missed["amount"]) == (15, 19, Decimal("1.0000"))
    told = lake.read("usage_conflict", snapshot["usage_conflict"]).to_pylist()
    assert [(r["quantity"], r["counts"], r["amount"]) for r in told] == [(5, True, 0), (8, False, Decimal("0.7500"))]
    (mark,) = lake.read("usage_watermark", snapshot["usage_watermark"]).to_pylist()
    assert (mark["last_received_at"], mark["late_deliveries"]) == (late, 1)
    assert mark["complete_until"] == late - timedelta(hours=24)

    line = given["invoice_line"][0] | {"quantity": Decimal(19)}
    store.publish("corrected", {"invoice_line": lake.write("invoice_line", rows("invoice_line", line))})
    publish_summary(lake=lake, store=store, settings=settings, run_id="night")
    (carried,) = lake.read("usage_late", store.published()["usage_late"]).to_pylist()
    assert (carried["late_class"], carried["late_quantity"]) == ("billed", 4)

    us = load_entities(settings.config_file("entities.yaml"))["US"]
    listed = backlog(us, period_of(us, date(2026, 3, 31)), today=DAY, lake=lake, store=store, snapshot=snapshot)
    usage = [(r["state"], r["item"], r["amount"]) for r in listed.to_pylist() if r["kind"] == "usage"]
    assert usage == [
        ("after billing", "sub_1/api/2026-03-10", Decimal(1)),
        ("conflict", "sub_1/api/conflict", Decimal("0.75")),
    ]


def test_late_usage_and_conflicting_ids_cost_what_they_move_in_the_tiers_of_their_period(tmp_path: Path) -> None:
    """At 2, beyond a hundred at 1.5, and in packages of four: not what a unit costs times the quantity."""
    settings, lake, store = at_home(tmp_path)
    late = datetime(2026, 4, 11, 12, tzinfo=UTC)
    other = {"subscription_source_id": "sub_2"}
    tiers = [{"price_source_id": "p", "tier_no": n, "up_to": up_to, "unit_amount": Decimal(each)}
             for n, up_to, each in ((1, Decimal(100), "2"), (2, None, "1.5"))]  # fmt: skip
    given = {
        "usage_event": [
            event("e1", 90), event("late", 20, late), event("back", 8), event("void", 0, late) | {
                "kind": "void", "corrects_event_id": "back"},
            # the same id with more, and for another subscription, which used nothing else
            event("more", 5), event("more", 25, NOON + timedelta(hours=1)),
            event("moved", 10), event("moved", 10, NOON + timedelta(hours=1)) | other,
            event("peak", 3) | {"meter": "peak"}, event("peak", 9, NOON + timedelta(hours=1)) | {"meter": "peak"},
        ],
        "subscription": [{"source_id": s, "billing_anchor": date(2026, 1, 10)} for s in ("sub_1", "sub_2")],
        "subscription_item": [
            {"usage_type": "metered", "interval_months": 1, "price_source_id": p, "meter": m, "aggregation": a,
             "subscription_source_id": s}
            for s, p, m, a in (("sub_1", "p", "api", "sum"), ("sub_2", "q", "api", "sum"),
                               ("sub_1", "q", "peak", "max"))
        ],
        "price": [{"source_id": "p", "billing_scheme": "tiered", "tiers_mode": "graduated"},
                  {"source_id": "q", "unit_amount": Decimal(30), "package_size": Decimal(4), "package_round": "up"}],
        "price_tier": tiers,
        "product": [{"unit": "call"}, {"unit": "call", "meter": "peak"}],
        "invoice": [], "invoice_line": [],
    }  # fmt: skip
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    store.start_run("night", "nightly", DAY)
    publish_summary(lake=lake, store=store, settings=settings, run_id="night")
    snapshot = store.published()
    (missed,) = lake.read("usage_late", snapshot["usage_late"]).to_pylist()
    # 90 + 20 + 5 + 10 are known now, of which 20 came late and 8 were taken back since
    assert (missed["quantity_in_time"], missed["quantity"]) == (113, 125)
    assert (missed["amount"], missed["currency"]) == (18, "USD")
    told = lake.read("usage_conflict", snapshot["usage_conflict"]).to_pylist()
    assert {(r["event_id"], r["version_no"], r["amount"]) for r in told} == {
        ("more", 1, 0), ("more", 2, 30),
        # ten at 1.5 for the one, three packages of four for the other
        ("moved", 1, 0), ("moved", 2, 90),
        # what else is below a peak nobody can tell from its period's quantity
        ("peak", 1, None), ("peak", 2, None),
    }  # fmt: skip


def test_many_events_are_summed_up_day_by_day_whichever_snapshot_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is published is what reading all events gives, for an earlier snapshot too."""
    settings, lake, store = at_home(tmp_path)
    given = {
        "subscription": [{"source_id": "sub_1", "billing_anchor": date(2026, 1, 10)}],
        "subscription_item": [{"usage_type": "metered", "interval_months": 1, "unit_amount": Decimal("0.25")}],
        "product": [{"unit": "call"}],
    }  # fmt: skip
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    store.start_run("night", "nightly", DAY)

    def on(day: int, *events: dict[str, Any]) -> int:
        at = NOON.replace(day=day)
        told = [e | {"occurred_at": at, "event_day": at.date()} for e in events]
        return lake.write("usage_event", rows("usage_event", *told), where=f"event_day IN ('{at.date()}')")

    on(14, event("e0", 1), event("e9", 2))
    late = datetime(2026, 4, 11, 12, tzinfo=UTC)
    versions = [on(15, event("e1", 10)), on(15, event("e1", 10), event("e2", 4, late)), on(16, event("e1", 8, late))]
    for version in (*versions, *reversed(versions)):
        store.publish("events", {"usage_event": version})
        told = []
        for together in (0, 100):
            monkeypatch.setattr(publish, "TOGETHER", together)
            counts = publish_summary(lake=lake, store=store, settings=settings, run_id="night")
            snapshot = store.published()
            hashes = [
                result_hash(lake.read(name, snapshot[name]), schema.table(name).key)
                for name in ("usage_summary", "usage_quarantine", "usage_conflict", "usage_late", "usage_watermark")
            ]
            told.append((counts, hashes))
        assert told[0] == told[1]
    assert (settings.usage_state / "state.json").exists()


def test_a_level_is_counted_up_to_the_end_of_the_business_date(tmp_path: Path) -> None:
    """Seats set once, the last event of all eleven days before the period's end; the nightly run sums whole days."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "meters.yaml").write_text("meters: {api: {aggregation: time_weighted}}\n")
    settings, lake, store = at_home(tmp_path, tmp_path / "config")
    at = datetime(2026, 3, 10, 7, tzinfo=UTC)  # midnight in Los Angeles
    given = {
        "usage_event": [event("e1", 5, at) | {"occurred_at": at}],
        "subscription": [{"source_id": "sub_1", "billing_anchor": date(2026, 1, 10)}],
        "subscription_item": [{"usage_type": "metered", "interval_months": 1}],
        "product": [{"unit": "call"}],
        "invoice": [], "invoice_line": [],
    }  # fmt: skip
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    for run_id, day in (("night", date(2026, 4, 9)), ("next", date(2026, 4, 10))):
        store.start_run(run_id, "nightly", day)
        publish_summary(lake=lake, store=store, settings=settings, run_id=run_id)
        summary = lake.read("usage_summary", store.published()["usage_summary"]).to_pylist()
        sums = {r["period_start"]: r["quantity"] for r in summary if r["grain"] == "period"}
        assert sums == {date(2026, 3, 10): 155} | ({date(2026, 4, 10): 5} if run_id == "next" else {})


def test_the_same_usage_and_prices_give_rated_lines_of_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    """Plain periods, which are priced apart, and others; many enough to be priced by several threads."""
    written = []
    for name, turn in (("one", 1), ("other", -1)):
        home = tmp_path / name
        home.mkdir()
        settings, lake, store = at_home(home)
        subs = [f"sub_{n:05}" for n in range(5000)][::turn]
        used = {"grain": "period", "event_count": 1, "corrected_count": 0, "late_count": 0, **PERIOD}
        given = {
            "usage_summary": [
                used | {"subscription_source_id": s, "quantity": Decimal(int(s[4:])) / (1 if int(s[4:]) % 3 else 10**9)}
                for s in subs
            ],
            "subscription": [{"source_id": s, "id": s} for s in subs],
            "subscription_item": [
                {"id": s, "source_id": s, "subscription_source_id": s, "unit_amount": Decimal(2)} for s in subs
            ],
        }  # fmt: skip
        store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
        store.start_run("night", "nightly", DAY)
        publish_rating(lake=lake, store=store, settings=settings, run_id="night")
        files = lake.files("rated_lines", store.published()["rated_lines"])
        written.append([Path(f).read_bytes() for f in files])
    assert written[0] == written[1]


def test_usage_is_rated_by_zuora_exports_in_the_configuration_too(tmp_path: Path) -> None:
    """Overage: the first ten are free; and an export of charges without that of their tiers is refused."""
    folder = tmp_path / "config" / "price_books" / "zuora"
    folder.mkdir(parents=True)
    (folder / "RatePlanCharge-us.csv").write_text(
        "Id,Name,SubscriptionId,ChargeModel,ChargeType,UOM,IncludedUnits,EffectiveStartDate,EffectiveEndDate\n"
        "c1,Calls,sub_1,Overage Pricing,Usage,api,10,2026-01-01,\n"
    )
    tiers = folder / "RatePlanChargeTier-us.csv"
    tiers.write_text(
        "RatePlanChargeId,Tier,StartingUnit,EndingUnit,Price,PriceFormat,IsOveragePrice,Currency\n"
        "c1,1,,,0.25,Per Unit,true,USD\n"
    )
    settings, lake, store = at_home(tmp_path, tmp_path / "config")
    used = {"grain": "period", "event_count": 1, "corrected_count": 0, "late_count": 0, **PERIOD}
    given = {"usage_summary": [used | {"quantity": Decimal(18)}], "subscription": [{"source_id": "sub_1"}]}
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    store.start_run("night", "nightly", DAY)
    publish_rating(lake=lake, store=store, settings=settings, run_id="night")
    (line,) = lake.read("rated_lines", store.published()["rated_lines"]).to_pylist()
    assert (line["price_source_id"], line["amount"]) == ("c1", 2)
    tiers.unlink()
    with pytest.raises(ConfigError, match="needs that of their tiers"):
        publish_rating(lake=lake, store=store, settings=settings, run_id="night")


def test_prepaid_credit_of_the_configuration_is_drawn_down_by_the_night(tmp_path: Path) -> None:
    """By the business date; a credit that cannot be used waits with its reason."""
    (tmp_path / "config" / "prepaid_credits").mkdir(parents=True)
    (tmp_path / "config" / "prepaid_credits" / "sales.csv").write_text(
        "credit_id,subscription_source_id,amount,currency,granted_on,expires_on,meter\n"
        "old,sub_1,3,USD,2026-01-01,2026-05-01,\nnew,sub_1,10.50,USD,2026-02-01,,api\n"
        "late,sub_1,9,USD,2026-09-01,,\ntwo,sub_1,1,USD,2026-01-01,,\ntwo,sub_1,2,USD,2026-01-01,,\n"
        "short,sub_1,1,USD,2026-02-01,2026-01-01,\nday,sub_1,1,USD,1 May,,\nless,sub_1,-1,USD,2026-02-01,,\n"
        "whose,,1,USD,2026-02-01,,\n"
    )
    settings, lake, store = at_home(tmp_path, tmp_path / "config")
    used = {"grain": "period", "event_count": 1, "corrected_count": 0, "late_count": 0, **PERIOD}
    later = {"period_start": PERIOD["period_end"], "period_end": date(2026, 5, 10)}
    given = {
        "usage_summary": [used | {"quantity": Decimal(20)}, used | {"quantity": Decimal(99)} | later],
        "subscription": [{"source_id": "sub_1"}], "subscription_item": [{"unit_amount": Decimal("0.25")}],
    }  # fmt: skip
    store.publish("setup", {name: lake.write(name, rows(name, *each)) for name, each in given.items()})
    store.start_run("night", "nightly", DAY)
    publish_rating(lake=lake, store=store, settings=settings, run_id="night")
    snapshot = store.published()
    draws = lake.read("credit_draws", snapshot["credit_draws"]).to_pylist()
    assert [(r["credit_id"], r["period_end"], r["amount"]) for r in draws] == [
        ("new", date(2026, 4, 10), 2), ("old", date(2026, 4, 10), 3),
    ]  # fmt: skip
    balances = lake.read("credit_balances", snapshot["credit_balances"]).to_pylist()
    assert [(r["credit_id"], r["balance"]) for r in balances] == [("late", 9), ("new", Decimal("8.5")), ("old", 0)]
    aside = lake.read("price_quarantine", snapshot["price_quarantine"]).to_pylist()
    assert sorted((r["price_source_id"], r["reason_code"]) for r in aside) == [
        ("day", "no_date"), ("less", "negative"), ("short", "no_term"), ("two", "repeated"), ("two", "repeated"),
        ("whose", "missing"),
    ]  # fmt: skip
