"""Both states of a period side by side; a period moves only where the ERP agrees and nothing of it is unfinished."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.close import StaleSource
from tieout.erp import Balance, PeriodStatus
from tieout.errors import ConfigError, IllegalTransition
from tieout.ids import Slot
from tieout.orchestration import closing, periods
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import batches, golive, late_events
from tieout.store.breaks import Sighting, record
from tieout.store.late_events import LateEvent

DAY = date(2026, 3, 30)


class Erp:
    """The periods of an ERP: those named are closed."""

    closed: set[str] = set()
    off = Decimal(0)
    told = True

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        return PeriodStatus(entity, on, "closed" if f"{on:%Y-%m}" in self.closed else "open", told=self.told)

    def gl_entries(self, entity: str, since: date, until: date) -> Any:
        return []

    def trial_balance(self, entity: str, on: date) -> list[Balance]:
        return [Balance(entity, "11000", "USD", Decimal(0), self.off, Decimal(0))]


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


def take_over(work: Work) -> None:
    with work.store.transaction() as session:
        golive.load_opening(
            session, "US", "main", date(2025, 12, 31), [],
            [golive.OpeningTie("receivable", "11000", "USD", Decimal(0), Decimal(0))], actor="t", now=work.store.now(),
            waiver="a test",
        )  # fmt: skip


@pytest.fixture
def read(work: Work, monkeypatch: Any) -> set[str]:
    """Every source read to the end, but those named here."""
    behind: set[str] = set()
    monkeypatch.setattr(
        closing,
        "stale_sources",
        lambda w, day: [(source, StaleSource(name, None)) for name, source in w.sources.items() if name in behind],
    )
    return behind


def test_a_period_is_closed_after_the_erps_with_nothing_in_the_way_and_reopened_by_two(
    work: Work, read: set[str]
) -> None:
    erp, by = work.__dict__["erp_of_test"], {"actor": "al", "reason": "month end"}
    take_over(work)
    erp.closed = {"2026-03"}
    with pytest.raises(IllegalTransition, match="open to closed"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    with pytest.raises(ConfigError, match="does not agree"):
        periods.move(work, "US", None, "2026-03", "soft_closed", **by)
    erp.closed = set()
    assert periods.move(work, "US", None, "2026-03", "soft_closed", **by) == []
    with pytest.raises(ConfigError, match="does not agree"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    erp.closed = {"2026-03"}
    assert periods.move(work, "US", None, "2026-03", "closed", **by) == []
    erp.closed = set()
    (march,) = [line for line in periods.status(work, ["US"]) if line.period == "2026-03"]
    assert (march.ours.state, march.erp, march.agrees) == ("closed", "open", False)
    for nobody in (None, "al", " AL "):
        with pytest.raises(IllegalTransition, match="second person"):
            periods.move(work, "US", None, "2026-03", "open", second=nobody, **by)
    periods.move(work, "US", None, "2026-03", "open", second="bea", **by)
    assert all(line.agrees for line in periods.status(work, ["US"]))
    assert work.store.verify_audit("US/main") == []


def test_a_close_is_refused_with_all_that_is_in_the_way_unless_a_second_person_closes_over_it(
    work: Work, read: set[str]
) -> None:
    erp, by = work.__dict__["erp_of_test"], {"actor": "al", "reason": "the auditors know"}
    take_over(work)
    slot, sent = Slot("US", "main", "2026-03", "billing", DAY), Decimal("700")
    key = f"TIEOUT/{slot}/v1"
    journal = batches.PlannedJournal(key, "1" * 16, "USD", DAY, sent, 2, {"lines": []})
    sighting = Sighting(
        "payment_to_invoice", "US", "INV-7", 1, "amount", "open", "treasury", "USD", Decimal("19.50"), DAY, DAY,
        "It differs.",
    )  # fmt: skip
    with work.store.transaction() as session:
        batches.plan(
            session, slot, 1, [journal], digest="d" * 64, accounting_date=DAY, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="t", now=work.store.now(),
        )  # fmt: skip
        record(session, "payment_to_invoice", DAY, "r", [sighting], [], work.store.now())
    hold(work, "invoice:1")
    erp.off = Decimal("3.01")
    read.add(next(name for name, source in work.sources.items() if not source.legal_entity and source.kind != "erp"))
    warned = periods.move(work, "US", None, "2026-03", "soft_closed", **by)
    told = {(o.kind, o.state, o.owner, o.amount, o.currency) for o in warned}
    assert told == {
        ("journal", "planned", "general ledger", sent, "USD"),
        ("late event", "held", "controller", Decimal("1250.5"), "USD"),
        ("break", "open", "treasury", Decimal("19.5"), "USD"),
        ("proof", "does not tie out", "general ledger", Decimal("3.01"), "USD"),
        ("source", "stale", "integration engineering", None, None),
    }
    erp.closed = {"2026-03"}
    with pytest.raises(IllegalTransition, match="5 items stand in the way") as refused:
        periods.move(work, "US", None, "2026-03", "closed", **by)
    assert "19.5 USD; treasury: look at both records" in str(refused.value)
    with pytest.raises(IllegalTransition, match="second person"):
        periods.move(work, "US", None, "2026-03", "closed", second="Al", **by)
    runner = CliRunner()
    assert runner.invoke(app, ["period", "check", "US", "2026-03"]).exit_code == 1
    command = ["period", "close", "US", "2026-03", "--reason", "the auditors know", "--second", "bea"]
    assert "closed, over 5 items in the way" in runner.invoke(app, command).output
    kept = work.store.audit_entries(subject="period:US/main/2026-03")[-1]
    assert (kept.action, kept.payload["second"], len(kept.payload["in_the_way"])) == ("period.closed", "bea", 5)
    assert {one["amount"] for one in kept.payload["in_the_way"]} >= {"19.5000", "3.0100"}


def test_where_the_erp_does_not_tell_its_periods_a_second_person_says_that_it_is_closed(
    work: Work, read: set[str]
) -> None:
    erp, by = work.__dict__["erp_of_test"], {"actor": "al", "reason": "seen in the ERP"}
    take_over(work)
    erp.told = False
    (untold,) = periods.move(work, "US", None, "2026-03", "soft_closed", **by)
    assert (untold.kind, untold.state) == ("period", "not told")
    with pytest.raises(IllegalTransition, match="look in the ERP whether it is closed"):
        periods.move(work, "US", None, "2026-03", "closed", **by)
    periods.move(work, "US", None, "2026-03", "closed", second="bea", **by)
    (march,) = [line for line in periods.status(work, ["US"]) if line.period == "2026-03"]
    assert (march.ours.state, march.erp, march.agrees) == ("closed", "not told", True)


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
