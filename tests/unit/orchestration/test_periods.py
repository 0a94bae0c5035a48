"""Both states of a period side by side; a period moves only where the ERP agrees and nothing of it is unfinished."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.erp import PeriodStatus
from tieout.errors import ConfigError, IllegalTransition, LedgerError
from tieout.ids import Slot
from tieout.orchestration import periods
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import batches, late_events
from tieout.store.late_events import LateEvent

DAY = date(2026, 3, 30)


class Erp:
    """The periods of an ERP: those named are closed."""

    closed: set[str] = set()

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        return PeriodStatus(entity, on, "closed" if f"{on:%Y-%m}" in self.closed else "open")


@pytest.fixture
def work(tmp_path: Any, monkeypatch: Any) -> Work:
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    monkeypatch.delenv("TIEOUT_STORE", raising=False)
    made = Work(Settings.from_env())
    made.store.upgrade()
    erp = Erp()
    erp.closed = set()

    @contextmanager
    def ledger(self: Work, name: str | None = None) -> Any:
        yield erp

    monkeypatch.setattr(Work, "ledger", ledger)
    monkeypatch.setattr(Work, "from_env", lambda: made)
    made.store.now = lambda: datetime(2026, 4, 3, tzinfo=UTC)
    made.__dict__["erp_of_test"] = erp
    return made


def hold(work: Work, unit: str) -> None:
    event = LateEvent(
        unit, "main", "invoice", DAY, f"US/main/2026-03/billing/{DAY}", "2026-03", "US-7", "USD", Decimal("1250.50"),
        "2026-03-30 1 11000 1250.50", "late for 2026-03",
    )  # fmt: skip
    with work.store.transaction() as session:
        late_events.hold(session, "US", [event], ["invoice"], DAY, DAY, actor="t", now=work.store.now())


def test_a_period_is_closed_after_the_erps_with_nothing_unfinished_and_reopened_by_two(work: Work) -> None:
    erp, by = work.__dict__["erp_of_test"], {"actor": "al", "reason": "month end"}
    erp.closed = {"2026-03"}
    with pytest.raises(IllegalTransition, match="open to closed"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    with pytest.raises(ConfigError, match="does not agree"):
        periods.move(work, "US", None, "2026-03", "soft_closed", **by)
    erp.closed = set()
    periods.move(work, "US", None, "2026-03", "soft_closed", **by)
    with pytest.raises(ConfigError, match="does not agree"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    erp.closed = {"2026-03"}
    slot = Slot("US", "main", "2026-03", "billing", DAY)
    with work.store.transaction() as session:
        batch = batches.plan(
            session, slot, 1, [], digest="d" * 64, accounting_date=DAY, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="t", now=work.store.now(),
        )  # fmt: skip
    with pytest.raises(LedgerError, match="not finished"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    with work.store.transaction() as session:
        session.get(batches.BatchRow, batch.batch_id).state = "posted"
    hold(work, "invoice:1")
    with pytest.raises(LedgerError, match="wait for a decision"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    assert periods.decide(work, "US", [], "released", actor="al", second="bea", reason="seen", period="2026-03") == 1
    periods.move(work, "US", None, "2026-03", "closed", **by)
    erp.closed = set()
    (march,) = [line for line in periods.status(work, ["US"]) if line.period == "2026-03"]
    assert (march.ours.state, march.erp, march.agrees) == ("closed", "open", False)
    with pytest.raises(IllegalTransition, match="second person"):
        periods.move(work, "US", None, "2026-03", "open", **by)
    periods.move(work, "US", None, "2026-03", "open", second="bea", **by)
    assert all(line.agrees for line in periods.status(work, ["US"]))
    assert work.store.verify_audit("US/main") == []


def test_the_commands_show_both_states_and_what_is_held(work: Work) -> None:
    runner, erp = CliRunner(), work.__dict__["erp_of_test"]
    hold(work, "invoice:1")
    for command in (
        ["period", "soft-close", "US", "2026-03", "--reason", "BD2"],
        ["period", "permit", "US", "2026-03", "--until", "2026-04-05", "--second", "bea", "--reason", "audit"],
        ["late", "list"],
    ):
        result = runner.invoke(app, command)
        assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "US  invoice:1  US-7  1,250.50 USD  held  late for 2026-03",
        "1 events: 1,250.50 USD",
    ]
    result = runner.invoke(app, ["period", "status", "--entity", "US"])
    march = next(line for line in result.output.splitlines() if "2026-03" in line)
    assert "soft-closed (permission to 2026-04-06 00:00 UTC)  open  agree" in march
    assert "1,250.50 USD" in march
    erp.closed = {"2026-03"}
    result = runner.invoke(app, ["late", "reopen", "US", "invoice:1", "--second", "bea", "--reason", "it matters"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ConfigError)
    erp.closed = set()
    result = runner.invoke(app, ["late", "reopen", "US", "invoice:1", "--second", "bea", "--reason", "it matters"])
    assert result.output == "US 2026-03 open again\n"
    assert "late.period_reopened" in [e.action for e in work.store.audit_entries("US/main")]
