"""A whole company without planted breaks: our documents tie to the former integration's ledger to the cent, three
nights and a month end post once, and the trial balance is proven."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tieout.conform.steps import conform
from tieout.entities import load_entities
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.ledger import MONTH_END, Protocol, due_batches, golive, load_rules, plan_batches, post_batch, prove
from tieout.settings import Settings
from tieout.sources import catch_up
from tieout.sources.config import load_sources
from tieout.store import Store
from tieout.usage import publish_summary
from tieout_sandbox import company_store, control
from tieout_sandbox.file_ledger import FileLedger

pytestmark = pytest.mark.server
CONFIG = Path(control.__file__).parent / "config"
QUICK = Protocol(settle=timedelta(0), checks=())
END = date(2026, 3, 31)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[control.State]:
    control.up(tmp_path / "sandbox", clean=True, only={"vendors", "drop"})
    try:
        yield control.set_clock(tmp_path / "sandbox", datetime(2026, 4, 1, 9, tzinfo=UTC))
    finally:
        control.down(tmp_path / "sandbox")


def test_taken_over_posted_once_and_proven(tmp_path: Path, sandbox: control.State) -> None:
    settings = Settings(
        tmp_path / "home", CONFIG, str(tmp_path / "home" / "lake"), f"sqlite:///{tmp_path / 's.sqlite'}"
    )
    store, lake, landing = Store(settings.store), Lake(settings.lake), Landing(settings.raw)
    store.upgrade()
    sources = load_sources(settings.config_file("sources.yaml"))
    for source in sources:
        if source.kind in ("stripe", "salesforce", "files"):
            catch_up(source, sandbox.connection(source.connection), landing=landing, store=store)
    conform(sources, landing=landing, lake=lake, store=store, config=settings, run_id="night")
    publish_summary(lake=lake, store=store, settings=settings, run_id="night")

    erp = FileLedger(tmp_path / "erp.sqlite")
    company = company_store.stored_company(sandbox.seed, sandbox.scale, sandbox.clean)
    entities = load_entities(settings.config_file("entities.yaml")).entities
    currency = {e.id: e.functional_currency for e in entities}
    erp.history(
        (move.legal_entity_id, move.date, currency[move.legal_entity_id], move.description, move.lines)
        for move in (*company.erp_history, *company.manual_moves)
    )
    rules = load_rules(settings)
    for entity in entities:
        opening = golive.load(
            entity, erp, lake=lake, store=store, rules=rules, snapshot=store.published(), settings=settings
        )
        assert {t.role: t.difference for t in opening.ties if t.difference} == {}
        # it goes live within a month, when the ledger holds no accrual
        assert {t.role for t in opening.ties if not t.documents} <= {"unbilled_receivable", "disputes_receivable"}
        for day in (date(2026, 3, 29), date(2026, 3, 30), END, END):
            plan = plan_batches(
                entity,
                day,
                lake=lake,
                store=store,
                rules=rules,
                run_id="night",
                snapshot=store.published(),
                settings=settings,
            )
            assert plan.held == ()
            for batch_id in plan.batches:
                assert post_batch(batch_id, erp, store, protocol=QUICK) == "posted"
        assert plan.batches == ()
        month = [
            plan_batches(
                entity,
                END,
                lake=lake,
                store=store,
                rules=rules,
                run_id="month",
                streams=MONTH_END,
                snapshot=store.published(),
                settings=settings,
            ).batches
            for _ in range(2)
        ]
        assert [len(b) for b in month] == [3, 0]
        for batch_id in month[0]:
            assert post_batch(batch_id, erp, store, protocol=QUICK) == "posted"
        proof = prove(entity, END, erp, store)
        assert proof.ties
        assert proof.journals_posted == 8
        # what is released and accrued is revenue; the accrual is gone the next day
        balances = {b.account: b.closing for b in erp.trial_balance(entity.id, END + timedelta(days=1))}
        assert balances.get("11100", Decimal(0)) == 0
        assert store.verify_audit(f"{entity.id}/main", [store.anchor(f"{entity.id}/main")]) == []
    assert due_batches(store) == []
