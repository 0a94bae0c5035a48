"""A whole company read over two nights: nothing lost, the planted bad rows set aside, and a replay gives the same."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tieout import schema
from tieout.conform.steps import ConformResult, conform, replay
from tieout.lake.hashing import result_hash
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.quality import gate
from tieout.settings import Settings
from tieout.sources import catch_up
from tieout.sources.config import load_sources
from tieout.store import Store
from tieout.usage import publish_summary
from tieout_sandbox import company_store, control
from tieout_sandbox.company.model import Company

pytestmark = pytest.mark.server
CONFIG = Path(control.__file__).parent / "config"


def test_two_nights_conformed_are_what_a_replay_gives(tmp_path: Path) -> None:
    settings = Settings(
        tmp_path / "home", CONFIG, str(tmp_path / "home" / "lake"), f"sqlite:///{tmp_path / 's.sqlite'}"
    )
    store, lake, landing = Store(settings.store), Lake(settings.lake), Landing(settings.raw)
    store.upgrade()
    sources = load_sources(settings.config_file("sources.yaml"))

    def step(run: str) -> ConformResult:
        return conform(sources, landing=landing, lake=lake, store=store, config=settings, run_id=run)

    def hashes() -> dict[str, str]:
        published = store.published()
        tables = [*schema.CANONICAL, schema.table("quarantine"), schema.table("crosswalk")]
        return {
            t.name: result_hash(lake.read(t.name, published[t.name]), list(t.key))
            for t in tables
            if t.name in published
        }

    running = control.up(tmp_path / "sandbox", only={"vendors", "drop"})
    try:
        for day in (30, 31):
            running = control.set_clock(tmp_path / "sandbox", datetime(2026, 3, day, 9, tzinfo=UTC))
            for source in sources:
                if source.kind != "erp":
                    catch_up(source, running.connection(source.connection), landing=landing, store=store)
            result = step(f"night-{day}")
            assert result.rows_in == result.rows_out + result.rows_merged + result.rows_quarantined > 0
    finally:
        control.down(tmp_path / "sandbox")
    assert step("again").tables == {}

    company = company_store.stored_company(running.seed, running.scale, running.clean)
    expected = {
        q.reason: q.count for q in company.quarantine if q.business_date == datetime(2026, 3, 30, tzinfo=UTC).date()
    }
    waiting = lake.read("quarantine", store.published()["quarantine"])["reason_code"].to_pylist()
    assert {reason: waiting.count(reason) for reason in set(waiting)} == expected

    the_companys_facts_are_in_the_tables(company, datetime(2026, 3, 31, 8, 59, tzinfo=UTC), lake, store)

    first = hashes()
    assert len(first) >= 20
    replay(sources, landing=landing, lake=lake, store=store, config=settings, run_id="replay")
    assert hashes() == first

    counts = publish_summary(lake=lake, store=store, settings=settings, run_id="usage")
    assert counts["events"] == counts["counted"] + counts["repeated"] + counts["changed"] + counts["quarantined"]
    assert counts["quarantined"] == 0
    checked = gate(store.published(), lake=lake, settings=settings, run_id="gate", expectations=False)
    assert checked.success, [r for r in checked.report_rows() if r["failed"]]


def the_companys_facts_are_in_the_tables(company: Company, now: datetime, lake: Lake, store: Store) -> None:
    """What a record does not say of itself: that it is gone, its payout, when it came back, its tiers, its credit."""

    def rows(table: str) -> list[dict[str, Any]]:
        return lake.read(table, store.published()[table]).to_pylist()

    gone = {c.id for c in company.customers if c.deleted_at and c.deleted_at < now}
    assert {r["source_id"] for r in rows("customer") if r["is_deleted"]} == gone != set()
    gone = {str(t.id) for t in company.tickets if t.versions[-1].status == "deleted" and t.versions[-1].at < now}
    assert {r["source_id"] for r in rows("case") if r["is_deleted"]} == gone != set()
    known = {p.id for p in company.payouts if p.versions[1].visible_at < now}
    carried = {b.id: b.payout_id for b in company.balance_transactions if b.payout_id in known}
    linked = {r["source_id"]: r["payout_source_id"] for r in rows("balance_transaction") if r["payout_source_id"]}
    assert linked == carried != {}
    failed = {r.id: r.failed_date for r in company.refunds if r.failed_at and r.failed_at < now}
    assert {r["source_id"]: r["failed_date"] for r in rows("refund") if r["failed_date"]} == failed != {}
    tiers = {(p.id, t.up_to, t.unit_amount) for p in company.prices for t in p.tiers}
    assert {(r["price_source_id"], r["up_to"], r["unit_amount"]) for r in rows("price_tier")} == tiers != set()
    credit = {i.number: i.credit_applied for i in company.invoices if i.credit_applied}
    assert {(r["number"], r["credit_applied"]) for r in rows("invoice") if r["credit_applied"]} <= set(credit.items())
