"""A night whose every step is killed at every kind of place where it writes ends as one that nobody disturbed: the
same tables, the same life of breaks, one journal per slot in the ERP."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import inspect

from tieout import schema
from tieout.lake.hashing import result_hash
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.batches import select_batches
from tieout.store.breaks import history, select_breaks
from tieout_sandbox import control, demo

pytestmark = [pytest.mark.server, pytest.mark.fault, pytest.mark.timeout(1800)]

NIGHT = Path(__file__).with_name("dying_night.py")
RESULTS = ("matches", "breaks", "breaks_gone", "totals", "usage_summary", "quarantine", "journals", "journal_lines",
           "journal_drilldown")  # fmt: skip
COMPARED = [*(t.name for t in schema.CANONICAL), *RESULTS]

# The gate takes seconds and writes nothing but facts and its own pages: of its commits one is enough to die at.
ENOUGH = {"gate": ["before commit tieout.orchestration.work.kept", "at the end the step"]}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The sandbox's configuration, for an ERP in which no write is under way for longer than a second."""
    folder = tmp_path_factory.mktemp("config") / "config"
    shutil.copytree(demo.CONFIG, folder)
    path = folder / "erp" / "tryton.yaml"
    path.write_text(re.sub("settle_seconds: [0-9]+", "settle_seconds: 1", path.read_text()))
    return folder


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A company of this module's own: its ERP is posted to."""
    home = tmp_path_factory.mktemp("company")
    state = control.up(home, now=demo.night_clock(demo.NIGHTS[0]))
    try:
        yield state
    finally:
        control.down(home)


def environment(company, config: Path, home: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    return {**ours, **company.connections, "TIEOUT_HOME": str(home), "TIEOUT_CONFIG": str(config)}


def work_of(company, config: Path, home: Path) -> Work:
    return Work(Settings.from_env(environment(company, config, home)), company.connection)


class Night:
    """Runs steps over one data root, each until it ends, and remembers where they were killed."""

    def __init__(self, server: subprocess.Popen, home: Path, *, kill: bool) -> None:
        self.server, self.home, self.kill = server, home, kill
        self.survived: dict[str, list[str]] = defaultdict(list, {step: list(points) for step, points in ENOUGH.items()})

    def step(self, name: str, argument: str = ""):
        """The step's result, after as many deaths as it has kinds of places to die at."""
        while True:
            survived = self.survived[name] if self.kill else None
            order = {"home": str(self.home), "step": name, "argument": argument, "survived": survived}
            self.server.stdin.write(json.dumps(order) + "\n")
            self.server.stdin.flush()
            answer = json.loads(self.server.stdout.readline())
            if answer["code"] == 0:
                return answer["result"]
            assert answer["code"] == -9, (name, answer)
            self.survived[name].append(answer["point"])

    def run(self, work: Work) -> None:
        """All steps of a night in their order."""
        self.step("open")
        for source in work.sources.values():
            if source.kind != "erp":
                self.step("extract", source.name)
        for name in ("conform", "gate", "usage", "reconcile_sources", "plan"):
            self.step(name)
        due = self.step("resume")
        assert len(due) > 5
        for batch_id in due:
            self.step("submit", batch_id)
            self.step("read_back", batch_id)
        self.step("result", " ".join(due))
        for name in ("read_ledger", "reconcile_ledger", "prove", "report"):
            self.step(name)


@contextmanager
def stepping(company, config: Path, folder: Path):
    """The process that steps are forked from."""
    with (folder / "steps.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, str(NIGHT)],
            env=environment(company, config, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield server
        finally:
            server.stdin.close()
            server.wait(60)
            server.stdout.close()


def hashes(work: Work) -> dict[str, str]:
    published = work.store.published()
    return {
        name: result_hash(work.lake.read(name, published[name]), schema.table(name).key)
        for name in COMPARED
        if name in published
    }


def break_life(work: Work) -> dict:
    """Every break the store knows, with its whole history."""
    with work.store.reading() as session:
        rows = [row for definition in work.definitions for row in select_breaks(session, definition)]
        columns = inspect(type(rows[0])).column_attrs.keys()
        return {
            row.break_id: ({name: getattr(row, name) for name in columns}, history(session, row.break_id))
            for row in rows
        }


def test_a_night_killed_wherever_it_writes_ends_like_one_that_was_not(company, config, tmp_path):
    disturbed, calm = (work_of(company, config, tmp_path / name) for name in ("disturbed", "calm"))
    for work in (disturbed, calm):
        Store(work.settings.store).upgrade()
    with stepping(company, config, tmp_path) as server:
        night = Night(server, disturbed.settings.home, kill=True)
        night.run(disturbed)
        # the ERP has the journals already: this night finds them, reads them back and goes on as if it had sent them
        Night(server, calm.settings.home, kill=False).run(calm)

    deaths = Counter({name: len(points) for name, points in night.survived.items()})
    everything = {"open", "extract", "conform", "gate", "usage", "reconcile_sources", "plan", "resume", "submit",
                  "read_back", "result", "read_ledger", "reconcile_ledger", "prove", "report"}  # fmt: skip
    assert set(deaths) == everything
    assert min(deaths.values()) >= 2, deaths
    sent = {point.split()[0] for point in night.survived["submit"] if "account.move" in point}
    assert sent == {"before", "after"}

    expected = hashes(calm)
    assert set(RESULTS) <= set(expected)
    assert len(expected) > 30
    found = hashes(disturbed)
    assert [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)] == []
    assert break_life(disturbed) == break_life(calm)

    for work in (disturbed, calm):
        with work.store.reading() as session:
            batches = select_batches(session)
        assert {batch.state for batch in batches} == {"posted"}
        with work.ledger() as ledger:
            for batch in batches:
                held = ledger.find_by_run_key(str(batch.slot), entity=batch.slot.legal_entity_id)
                assert sorted(ref.run_key for ref in held) == sorted(j.run_key for j in batch.journals)
        assert work.store.facts("night")["proof"]["ties"] is True
        assert [p for chain in work.store.audit_chains() for p in work.store.verify_audit(chain)] == []
