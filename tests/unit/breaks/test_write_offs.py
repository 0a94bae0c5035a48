"""A written-off break is posted once, by three people, and stays written off as long as no more differs."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import event
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.errors import LedgerError
from tieout.ledger import Part, Protocol, plan_reversal, post_batch
from tieout.orchestration import write_offs
from tieout.orchestration.approval import decide
from tieout.orchestration.work import Work
from tieout.store import batches, links
from tieout.store.breaks import BreakRow, break_id, history
from tieout.store.write_offs import settle
from tieout_sandbox.file_ledger import FileLedger

DAY = date(2026, 3, 29)
NAME = "payment_to_invoice"
ONE = break_id(NAME, "US", "P-2", 1)
INSTANT = Protocol(settle=timedelta(0), checks=(0.0,), lags=(0.0,), sleep=lambda seconds: None)
UNEXPLAINED, LOSS = "23000", "60200"


class Scene:
    """One payment that nobody knows, a ledger in a file, and the days of a reconciliation."""

    def __init__(self, house, tmp_path):
        self.house, self.day = house, DAY
        self.erp = FileLedger(tmp_path / "erp.sqlite")
        self.work = Work(house.settings)
        self.work.__dict__["store"] = house.store
        house.put("customer", {"source_id": "A", "name": "Acme"})
        house.put("invoice")
        house.put("payment_allocation")
        self.night(7)

    def night(self, amount: int | None) -> str:
        """Reconcile, then what `resume_posting` does about write-offs; the break's state."""
        paid = {"status": "succeeded", "customer_id": "crm:A", "customer_source_id": "A", "allocated": 0}
        self.house.put("payment", *([{"source_id": "P-2", "amount": amount} | paid] if amount else []))
        self.house.run(NAME, self.day)
        self.day += timedelta(days=1)
        write_offs.plan_accepted(self.work, f"run-{self.house.runs}")
        return self.state

    @property
    def kept(self) -> BreakRow:
        with self.house.store.reading() as session:
            return session.get(BreakRow, ONE)

    @property
    def state(self) -> str:
        return self.kept.state

    @property
    def all(self) -> list[batches.Batch]:
        with self.house.store.reading() as session:
            return batches.select_batches(session)

    def told(self) -> str:
        with self.house.store.reading() as session:
            return str(history(session, ONE, people=True)[-1].note)

    def ask(self) -> batches.Batch:
        tieout("write-off", ONE, "--as", "anna", "--reason", "too small")
        tieout("approve-write-off", ONE, "--as", "ben")
        return self.all[-1]

    def decide(self, batch: batches.Batch, *, accept: bool = True, who: str = "carla") -> None:
        decide(self.work, batch.batch_id, batch.content_hash, who=who, accept=accept, comment="no", via="test")

    def post(self, batch: batches.Batch) -> None:
        self.decide(batch)
        assert post_batch(batch.batch_id, self.erp, self.house.store, protocol=INSTANT) == "posted"
        write_offs.settle(self.work)

    def balances(self) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for journal in self.erp.journals():
            for line in journal.lines:
                found[line.account] = found.get(line.account, Decimal(0)) + line.debit - line.credit
        return {account: amount for account, amount in found.items() if amount}


def tieout(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["breaks", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def scene(house, tmp_path, monkeypatch):
    for name in ("TIEOUT_STORE", "TIEOUT_LAKE", "AIRFLOW_CONN_TIEOUT_STORE", "TIEOUT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    return Scene(house, tmp_path)


def test_a_write_off_is_posted_once_and_only_what_grows_beyond_it_is_written_off_again(scene):
    batch = scene.ask()
    assert (batch.state, batch.kind, batch.origin, batch.needs_approval) == (
        "awaiting_approval", "write_off", ONE, True,
    )  # fmt: skip
    assert batch.gross == {"USD": Decimal("7")}
    with scene.house.store.reading() as session:
        assert links.links_of(session, ONE) == [(batch.batch_id, links.WRITES_OFF, ONE)]
    parts = scene.house.lake.read("journal_drilldown").to_pylist()
    assert {(p["document_number"], p["source"], p["source_id"], p["amount"]) for p in parts} == {
        ("P-2", NAME, ONE, Decimal("7"))
    }
    for preparer in ("anna", "ben"):
        with pytest.raises(LedgerError, match="preparer may not approve"):
            scene.decide(batch, who=preparer)
    scene.post(batch)
    assert (scene.state, scene.kept.written_off, scene.told()) == (
        "written_off", Decimal("-7"), f"written off by {batch.batch_id}",
    )  # fmt: skip
    assert scene.balances() == {UNEXPLAINED: Decimal("7"), LOSS: Decimal("-7")}
    assert scene.night(7) == "written_off"
    with scene.house.store.transaction() as session:
        asked = []
        event.listen(session.connection(), "before_cursor_execute", lambda *args: asked.append(args[2]))
        assert settle(session, scene.house.store.now()) == 0
    assert len(asked) == 1, "a write-off that has ended costs nothing any more"
    assert json.loads(tieout("list", "--json")) == []
    assert "reverse the journal" in CliRunner().invoke(app, ["breaks", "reopen", ONE, "--reason", "x"]).output
    # gone for a night, as by a short extract, and found again
    assert scene.night(None) == "disappeared"
    assert (scene.night(7), scene.told()) == ("written_off", "found again; it is written off")
    # it grows: the remainder alone
    assert scene.night(10) == "open"
    assert scene.told() == "it grew beyond what was written off: 3.00 USD is left"
    rest = scene.ask()
    assert rest.gross == {"USD": Decimal("3")}
    scene.post(rest)
    assert scene.balances() == {UNEXPLAINED: Decimal("10"), LOSS: Decimal("-10")}
    assert [b.state for b in scene.all] == ["posted", "posted"]
    # one of them is reversed: open again, and what is written off is what stands
    entity = scene.work.entities["US"]
    mirror = plan_reversal(
        rest.batch_id, entity, on=rest.accounting_date, lake=scene.house.lake, store=scene.house.store, run_id="r",
        actor="dora", reason="wrong", part=Part(), settings=scene.house.settings,
    )  # fmt: skip
    scene.post(mirror)
    assert (scene.state, scene.kept.written_off, scene.told()) == ("open", Decimal("-7"), "its journal was reversed")
    for chain in (f"breaks/{NAME}", "US/main"):
        assert scene.house.store.verify_audit(chain) == []


def test_what_is_refused_or_no_longer_the_same_is_open_again_and_never_posted(scene):
    tieout("assign", ONE, "--to", "emil")
    scene.decide(scene.ask(), accept=False)
    assert (scene.state, scene.kept.assignee, scene.told()) == ("assigned", "emil", "its write-off was refused: no")
    changed = scene.ask()
    scene.decide(changed)
    assert scene.night(9) == "assigned"
    assert scene.told() == "its write-off was decided about 7 USD, it is now 9 USD"
    gone = scene.ask()
    assert (gone.gross, scene.night(None)) == ({"USD": Decimal("9")}, "disappeared")
    assert {b.state for b in scene.all} == {"rejected_by_approver"}
    assert scene.erp.journals() == []


def test_a_planner_that_dies_leaves_one_batch_behind(scene, monkeypatch):
    class DeathError(RuntimeError):
        pass

    def die(*args: object, **kwargs: object) -> None:
        raise DeathError

    tieout("write-off", ONE, "--as", "anna", "--reason", "too small")
    for place in ("write_journals", "runs.publish"):
        with monkeypatch.context() as patch:
            patch.setattr(f"tieout.ledger.write_off.{place}", die)
            if scene.kept.approved_by is None:
                assert isinstance(
                    CliRunner().invoke(app, ["breaks", "approve-write-off", ONE, "--as", "ben"]).exception, DeathError
                )
            else:
                with pytest.raises(DeathError):
                    write_offs.plan_accepted(scene.work, "again")
        assert scene.all == []
    for _ in range(2):
        write_offs.plan_accepted(scene.work, "again")
        assert [b.state for b in scene.all] == ["awaiting_approval"]
    assert scene.house.lake.read("journal_lines").num_rows == 2
