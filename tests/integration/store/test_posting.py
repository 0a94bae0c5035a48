"""The posting protocol over a store on PostgreSQL, with the application's rights: same states and audit, one entry."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.errors import IllegalTransition
from tieout.ids import Slot, run_key, short_key
from tieout.ledger import Protocol, due_batches, post_batch
from tieout.store import QuarantineItem, Store, approvals, batches, periods
from tieout_sandbox.postgres import APPLICATION

pytestmark = pytest.mark.server
DAY = date(2026, 3, 29)


@pytest.fixture(scope="module")
def store(erp_template: Any) -> Store:
    """A store whose owner made it and gave the application its rights; it is opened as the application."""
    pg = erp_template.pg
    pg.create("store_posting")
    owner = URL.create("postgresql", pg.role, pg.password, pg.host, pg.port, "store_posting")
    Store(owner.render_as_string(hide_password=False)).upgrade()
    printed = CliRunner().invoke(app, ["store", "roles", "--application", APPLICATION])
    with pg.connect("store_posting") as connection:
        connection.execute(printed.stdout)
    return Store(owner.set(username=APPLICATION).render_as_string(hide_password=False))


def test_a_batch_goes_its_way(store: Store, tmp_path: Path) -> None:
    from tieout_sandbox.file_ledger import FileLedger

    slot = Slot("US", "main", "2026-03", "billing", DAY)
    key = run_key(slot, 1)
    line = {"description": "invoice", "dimensions": {}, "amount": "110.00"}
    lines = [line | {"account": "11000", "side": "debit"}, line | {"account": "40100", "side": "credit"}]
    content = {"entity": "US", "date": DAY, "currency": "USD", "narrative": "billing", "lines": lines}
    journal = batches.PlannedJournal(key, short_key(key), "USD", DAY, Decimal(110), 2, content)
    with store.transaction() as session:
        batch = batches.plan(
            session, slot, 1, [journal], digest="d" * 64, accounting_date=DAY, kind="original", origin=None,
            needs_approval=True, run_id="r", actor="al", now=store.now(),
        )  # fmt: skip
        for state in ("validated", "awaiting_approval"):
            batches.transition(session, batch.batch_id, state, actor="al", now=store.now())
    with store.transaction() as session:
        approvals.decide(
            session,
            batch.batch_id,
            "d" * 64,
            approver="bea",
            also_prepared=["al"],
            accept=True,
            comment="",
            now=store.now(),
        )
    assert due_batches(store) == [batch.batch_id]
    erp = FileLedger(tmp_path / "erp.sqlite")
    erp.lies = ["lose_request"]
    quick = Protocol(settle=timedelta(0), checks=())
    assert [post_batch(batch.batch_id, erp, store, protocol=quick) for _ in range(3)] == ["unknown", "posted", "posted"]
    assert len(erp.journals()) == 1
    with pytest.raises(IllegalTransition), store.transaction() as session:
        batches.transition(session, batch.batch_id, "submitted", actor="al", now=store.now())
    assert store.verify_audit("US/main", [store.anchor("US/main")]) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "DROP TABLE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_log_append_only ON audit_log",
        "CREATE OR REPLACE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "SET session_replication_role = replica",
        "CREATE TABLE audit_log_2 (x int)",
    ],
)
def test_the_application_may_only_add_to_the_audit_log(store: Store, statement: str) -> None:
    store.audit("US/main", "act", "me", {})
    dsn = store.url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(dsn, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_amounts_instants_and_periods_come_back_as_they_were(store: Store) -> None:
    item = QuarantineItem("raw#1", "stripe", "invoices", "unknown_currency", "XXX", amount=Decimal("12.3000"))
    store.quarantine("r", [item])
    assert store.quarantined() == [item]
    store.start_run("r", "nightly", DAY, {"amount": Decimal("1.10")})
    run = store.run("r")
    assert run is not None
    assert (run.business_date, run.started_at.tzinfo is not None, run.params) == (DAY, True, {"amount": "1.10"})
    with store.transaction() as session:
        for state in ("soft_closed", "closed"):
            periods.move(session, "US", "main", "2026-03", state, actor="bea", reason="signed", now=store.now())
        assert periods.period_state(session, "US", "main", "2026-03") == "closed"
