"""Nights in real Airflow that go wrong: vendors that fail, tasks killed with SIGKILL, an ERP that is down.

They end as the nights of the demo did, where nothing went wrong: the same tables, one journal per slot. Last, a batch
that a second person has to approve.
"""

import re
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pytest
import requests

from tieout import schema
from tieout.ids import Slot, content_hash, run_key, short_key
from tieout.lake.hashing import result_hash
from tieout.lake.tables import Lake
from tieout.orchestration import posting
from tieout.orchestration.checking import UNREAD
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.batches import PlannedJournal, get, plan, select_batches, transition
from tieout.store.break_acts import Act, carry_out
from tieout.store.break_list import Filter, listed
from tieout.store.write_offs import ToWriteOff
from tieout_sandbox import control
from tieout_sandbox import demo as demo_module
from tieout_sandbox.airflow import FINISHED, Airflow, Client
from tieout_sandbox.testing import dial

pytestmark = [pytest.mark.server, pytest.mark.fault, pytest.mark.timeout(1600)]

NIGHT, POST = "nightly_reconciliation", "post_journal"
FIRST, SECOND = demo_module.NIGHTS[:2]
RESULTS = ("matches", "breaks", "breaks_gone", "totals", "usage_summary", "quarantine",
           "journals", "journal_lines", "journal_drilldown")  # fmt: skip
# The ledger's own rows are not compared: they hold the ERP's stamps.
COMPARED = [*(t.name for t in schema.CANONICAL if not t.name.startswith(("gl_", "period"))), *RESULTS]

FAULTS = [
    {"kind": "rate_limit", "path": "/stripe/v1/charges", "count": 3, "retry_after": 1},
    {"kind": "server_error", "path": "/salesforce/services/data/*", "status": 503, "skip": 2, "count": 2},
    {"kind": "cut", "path": "/zendesk/api/v2/incremental/tickets/*", "count": 2},
    {"kind": "timeout", "path": "/stripe/v1/customers", "seconds": 0.1, "count": 2},
    {"kind": "duplicate_page", "path": "/stripe/v1/invoices", "count": 1},
]


@dataclass(frozen=True)
class Storm:
    """A company and an Airflow of their own, and what the nights left in their data root."""

    options: demo_module.Options
    airflow: Airflow
    client: Client
    settings: Settings

    @property
    def home(self) -> Path:
        return self.options.run / "sandbox"

    @property
    def store(self) -> Store:
        return Store(self.settings.store)

    def dial(self, method: str, faults: list | None = None) -> list[dict]:
        """Turn the vendors' fault dial; gives the faults with how often each has fired."""
        return dial(control.State.load(self.home), method, faults)

    def start(self, day: date) -> str:
        return self.client.trigger(NIGHT, f"night__{day}__1", {"business_date": str(day)})

    def wait(self, run_id: str, meanwhile=None, dag_id: str = NIGHT) -> str:
        """The state a run ends in."""
        while (state := self.client.state(dag_id, run_id)) not in FINISHED:
            if meanwhile:
                meanwhile()
            time.sleep(0.5 if meanwhile else 1)
        return state

    def states(self, dag_id: str, run_id: str = "~") -> dict[str, str]:
        return {f"{t.run_id} {t.name}" if run_id == "~" else t.name: t.state for t in self.client.tasks(dag_id, run_id)}


@pytest.fixture(scope="module")
def storm(demo, tmp_path_factory):
    base = tmp_path_factory.mktemp("storm")
    options = demo_module.Options(base / "run", base / "var")
    with demo_module.running(options, demo_module.Narrator()) as airflow:
        yield Storm(options, airflow, Client(airflow), Settings.from_env(airflow.env))


class Killer:
    """Ends processes of running tasks with SIGKILL, each at a moment that is known to be in its middle."""

    def __init__(self, storm: Storm, night: str) -> None:
        self.storm, self.night = storm, night
        self.killed: set[str] = set()

    def __call__(self) -> None:
        running = [t for t in self.storm.client.tasks(NIGHT, self.night) if t.state == "running" and t.pid]
        for task in running:
            # one of the three hangs in a request; the others are killed wherever they are
            if task.task_id.startswith("extract_stripe") and self._a_request_hangs():
                self._kill(task.task_id, task.pid)
            if task.task_id == "conform" and (self.storm.options.data / "lake" / "invoice").exists():
                self._kill("conform", task.pid)
        if "submit" not in self.killed and "resume_posting" not in {t.task_id for t in running}:
            self._kill_while_posting()

    def _a_request_hangs(self) -> bool:
        return any(f["kind"] == "slow" and f["fired"] for f in self.storm.dial("GET"))

    def _kill_while_posting(self) -> None:
        """Wherever it is: each moment by itself is killed in tests/faults/posting."""
        for task in self.storm.client.tasks(POST, "~"):
            if task.task_id == "submit" and task.state == "running" and task.pid:
                self._kill("submit", task.pid)

    def _kill(self, name: str, pid: int) -> None:
        ours = {p.pid for one in self.storm.airflow.processes for p in psutil.Process(one.pid).children(recursive=True)}
        if name not in self.killed and pid in ours:
            with suppress(psutil.NoSuchProcess):  # it has just ended: the next one
                psutil.Process(pid).kill()
                self.killed.add(name)


def hashes(settings: Settings, run_id: str) -> dict[str, str]:
    """The tables as a run left them."""
    lake, published = Lake(settings.lake), Store(settings.store).published(run_id)
    tables = {t: lake.read(t, published[t]) for t in COMPARED if t in published}
    # a journal whose draft was made twice moves the ERP's line ids; every other id is the same
    for name in ("matches", "breaks"):
        of_lines = pc.equal(tables[name]["definition_id"], "journal_to_ledger")
        ids = pc.if_else(of_lines, None, tables[name]["right_ids"])
        tables[name] = tables[name].set_column(tables[name].schema.get_field_index("right_ids"), "right_ids", ids)
    return {name: result_hash(table, schema.table(name).key) for name, table in tables.items()}


def assert_same_tables(storm: Storm, demo, day: date) -> None:
    calm = Settings.from_env({"TIEOUT_HOME": str(demo.data), "TIEOUT_CONFIG": str(demo_module.CONFIG)})
    run_id = f"{NIGHT}.night__{day}__1"
    expected = hashes(calm, run_id)
    assert set(RESULTS) <= set(expected)
    assert len(expected) > 25
    found = hashes(storm.settings, run_id)
    assert [t for t in sorted({*found, *expected}) if found.get(t) != expected.get(t)] == []


def assert_one_journal_per_slot(storm: Storm, day: date) -> None:
    with storm.store.reading() as session:
        batches = select_batches(session)
    assert any(batch.slot.business_date == day for batch in batches)
    assert {batch.state for batch in batches} == {"posted"}
    work = Work(storm.settings, control.State.load(storm.home).connection)
    with work.ledger() as ledger:
        for batch in batches:
            held = ledger.find_by_run_key(str(batch.slot), entity=batch.slot.legal_entity_id)
            assert sorted((ref.run_key, ref.state) for ref in held) == sorted(
                (journal.run_key, "posted") for journal in batch.journals
            )
    assert [p for chain in storm.store.audit_chains() for p in storm.store.verify_audit(chain)] == []


def test_a_night_of_vendor_faults_and_killed_tasks_ends_like_the_calm_one(storm, demo):
    hang = {"kind": "slow", "path": "/stripe/v1/payouts", "seconds": 30, "count": 1}
    storm.dial("POST", [*FAULTS, hang])
    night = storm.start(FIRST)
    killer = Killer(storm, night)
    assert storm.wait(night, killer) == "success", storm.states(NIGHT, night)

    fired = {fault["kind"]: (fault["fired"], fault["count"]) for fault in storm.dial("DELETE")}
    assert all(times == wanted for times, wanted in fired.values()), fired
    assert {name.partition("_")[0] for name in killer.killed} == {"extract", "conform", "submit"}
    tries = {task.task_id: task.tries for task in storm.client.tasks(NIGHT, night)}
    assert {name for name, number in tries.items() if number == 2} == killer.killed - {"submit"}
    assert [task.tries for task in storm.client.tasks(POST, "~") if task.tries > 1] == [2]
    assert_same_tables(storm, demo, FIRST)
    assert_one_journal_per_slot(storm, FIRST)
    assert storm.store.facts(f"{NIGHT}.{night}")["proof"]["ties"] is True


def test_a_vendor_dead_all_night_fails_the_run_by_name_and_nothing_is_planned(storm):
    control.set_clock(storm.home, demo_module.night_clock(SECOND))
    dead = {"kind": "rate_limit", "path": "/zendesk/api/v2/incremental/tickets/*", "count": None, "retry_after": 1}
    storm.dial("POST", [dead])
    night = storm.start(SECOND)
    assert storm.wait(night) == "failed"
    storm.dial("DELETE")
    tasks = {task.name: task for task in storm.client.tasks(NIGHT, night)}
    assert (tasks["extract_zendesk"].state, tasks["extract_zendesk"].tries) == ("failed", 3)
    assert {name for name, task in tasks.items() if task.state == "success"} == {
        "open_night",
        *(name for name in tasks if name.startswith("extract_") and name != "extract_zendesk"),
    }
    told = storm.client.log(NIGHT, night, tasks["extract_zendesk"])
    assert re.search(r"RateLimited: no usable answer after 8 tries: HTTP 429", told)
    assert re.search(
        r"\(zendesk, window 2026-03-\S+ to 2026-03-31\S+, request GET /zendesk/api/v2/incremental/tickets/", told
    )
    with storm.store.reading() as session:
        assert {b.slot.business_date for b in select_batches(session)} == {FIRST}


def test_with_the_erp_down_the_night_completes_but_for_the_ledger_and_the_batches_wait(storm):
    control.stop_erp(storm.home)
    night = f"night__{SECOND}__1"
    storm.client.clear(NIGHT, night, "extract_zendesk")
    assert storm.wait(night) == "failed"
    states = storm.states(NIGHT, night)
    red = {name: state for name, state in states.items() if state != "success"}
    assert red == {"read_ledger": "failed", "prove": "failed", "complete": "upstream_failed"}
    facts = storm.store.facts(f"{NIGHT}.{night}")
    assert "reconcile/contract_to_subscription" in facts
    assert storm.store.run(f"{NIGHT}.{night}").state == "unproven"
    page = Path(facts["report"]["html"]).read_text(encoding="utf-8")
    assert UNREAD in page
    assert "Not proved: US, ledger main; DE, ledger main; JP, ledger main: " in page
    with storm.store.reading() as session:
        waiting = {b.state for b in select_batches(session) if b.slot.business_date == SECOND}
    assert waiting == {"validated"}


def test_once_the_erp_is_back_the_waiting_batches_are_posted_once(storm, demo):
    control.start_erp(storm.home)
    night = f"night__{SECOND}__1"
    storm.client.clear(NIGHT, night, "resume_posting")
    assert storm.wait(night) == "success", storm.states(NIGHT, night)
    assert_same_tables(storm, demo, SECOND)
    assert_one_journal_per_slot(storm, SECOND)
    facts = storm.store.facts(f"{NIGHT}.{night}")
    assert facts["proof"]["ties"] is True
    assert storm.store.run(f"{NIGHT}.{night}").state == "success"
    assert UNREAD not in Path(facts["report"]["html"]).read_text(encoding="utf-8")


def a_batch_prepared_by_the_clerk(storm: Storm) -> str:
    """A small journal that waits for approval, where the clerk decided about a break since the last approved one."""
    slot, now = Slot("US", "main", "2026-03", "write_off", SECOND), storm.store.now()
    key = run_key(slot, 1)
    lines = [
        {"account": account, "side": side, "amount": "1.00", "description": "written off", "dimensions": {}}
        for account, side in (("60200", "debit"), ("11000", "credit"))
    ]
    content = {"entity": "US", "date": SECOND, "currency": "USD", "narrative": "write off", "lines": lines}
    journal = PlannedJournal(key, short_key(key), "USD", SECOND, Decimal("1.00"), 2, content)
    with storm.store.transaction() as session:
        found = listed(session, Filter(legal_entity_id="US", states=("open",)), None)
        (one, *_) = (b for b in found if b.value is not None)
        what = {one.break_id: ToWriteOff(Decimal("1.00"), "USD", "receivable", "credit")}
        act = Act("write_off", "clerk", "too small to pursue", write_offs=what)
        assert carry_out(session, act, [one.break_id], now).refused == ()
        batch = plan(
            session, slot, 1, [journal], digest=content_hash(content), accounting_date=SECOND, kind="original",
            origin=None, needs_approval=True, run_id="night", actor="tieout", now=now,
        )  # fmt: skip
        for state in ("validated", "awaiting_approval"):
            transition(session, batch.batch_id, state, actor="tieout", now=now)
    return batch.batch_id


def test_a_batch_waits_for_a_second_person_who_answers_in_airflow(storm):
    """Nobody else's answer counts, a time-out escalates, and marking the task successful posts nothing."""
    batch_id = a_batch_prepared_by_the_clerk(storm)
    work = Work(storm.settings, control.State.load(storm.home).connection)

    def ask() -> str:
        ((one,),) = (posting.ask_for_approval(work),)
        return storm.client.trigger(POST, one["trigger_run_id"], one["conf"])

    def until_asked(run: str) -> None:
        deadline = time.monotonic() + 90
        while storm.states(POST, run).get("approval") != "awaiting_input":
            assert time.monotonic() < deadline, storm.states(POST, run)
            time.sleep(0.3)
        time.sleep(2)  # an answer that overtakes the scheduler's note of the waiting would be a second try's

    def state() -> tuple[str, str | None]:
        with storm.store.reading() as session:
            batch = get(session, batch_id)
        return batch.state, batch.owner

    first = ask()
    until_asked(first)
    url = f"{storm.airflow.url}/api/v2/dags/{POST}/dagRuns/{first}/taskInstances/approval/-1/hitlDetails"
    asked = storm.client.get(url.partition("/api/v2/")[2])
    assert [user["name"] for user in asked["assigned_users"]] == ["controller"]
    assert "| clerk | decided about breaks |" in asked["body"]
    answer = {"chosen_options": ["Approve"], "params_input": {"comment": ""}}
    assert requests.patch(url, json=answer, timeout=30).status_code == 401
    assert Client(storm.airflow, "clerk").answer(POST, first, "approval", "Approve") == 403
    assert posting.ask_for_approval(work) == []  # somebody is being asked
    with closing(sqlite3.connect(storm.airflow.home / "airflow.db", timeout=30)) as metadata, metadata:
        metadata.execute("UPDATE task_instance SET trigger_timeout = '2026-01-01' WHERE state = 'awaiting_input'")
    assert storm.wait(first, dag_id=POST) == "failed"
    assert state() == ("awaiting_approval", "admin")

    second = ask()
    until_asked(second)
    Client(storm.airflow, "clerk").mark_success(POST, second, "approval")
    assert storm.wait(second, dag_id=POST) == "failed"
    assert state()[0] == "awaiting_approval"
    storm.client.clear(POST, second, "approval")
    until_asked(second)
    assert Client(storm.airflow, "controller").answer(POST, second, "approval", "Approve", "seen") == 200
    assert storm.wait(second, dag_id=POST) == "success"
    assert state()[0] == "posted"
    with work.ledger() as ledger:
        assert [ref.state for ref in ledger.find_by_run_key(batch_id, entity="US")] == ["posted"]
