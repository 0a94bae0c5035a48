"""A night that is killed again and again, at every kind of step, ends as one that nobody disturbed: same tables, one
journal per slot in the ERP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tieout import schema
from tieout.lake.hashing import result_hash
from tieout.orchestration import checking, intake, planning, steps
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.batches import select_batches
from tieout_sandbox import control, demo

pytestmark = [pytest.mark.server, pytest.mark.fault, pytest.mark.timeout(1200)]

DAY = "2026-03-29"
NIGHT = Path(__file__).with_name("dying_night.py")

# In the order a night meets them, so that each attempt gets further than the one before.
DEATHS = [
    ("tieout.lake.landing:ExtractWriter.page", 2, "after"),
    ("tieout.lake.landing:ExtractWriter.commit", 5, "after"),
    ("tieout.store:Store.set_watermark", 20, "before"),
    ("tieout.lake.tables:Lake.write", 4, "after"),
    ("tieout.store:Store.publish", 1, "before"),
    ("tieout.store:Store.publish", 1, "after"),
    ("tieout.lake.tables:Lake.write", 5, "before"),
    ("tieout.erp.tryton:TrytonLedger.post", 1, "before"),
    ("tieout.erp.tryton:TrytonLedger.post", 1, "after"),
    ("tieout.erp.tryton:TrytonLedger.read_back", 1, "after"),
    ("tieout.erp.tryton:TrytonLedger.post", 2, "after"),
]

# Not among them: what depends on when a person or the ERP did something (the ledger's own stamps).
COMPARED = [
    *(t.name for t in schema.CANONICAL if not t.name.startswith(("gl_", "period"))),
    "usage_summary", "journals", "journal_lines", "journal_drilldown",
]  # fmt: skip


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A company of this module's own: its ERP is posted to."""
    home = tmp_path_factory.mktemp("company")
    state = control.up(home, now=demo.night_clock(demo.NIGHTS[0]))
    try:
        yield state
    finally:
        control.down(home)


def environment(company, home: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    return {**ours, **company.connections, "TIEOUT_HOME": str(home), "TIEOUT_CONFIG": str(demo.CONFIG)}


def work_of(company, home: Path) -> Work:
    return Work(Settings.from_env(environment(company, home)), company.connection)


def hashes(work: Work) -> dict[str, str]:
    published = work.store.published()
    return {
        name: result_hash(work.lake.read(name, published[name]), schema.table(name).key)
        for name in COMPARED
        if name in published
    }


def test_a_night_killed_between_its_steps_ends_like_one_that_was_not(company, tmp_path):
    disturbed, calm = work_of(company, tmp_path / "disturbed"), work_of(company, tmp_path / "calm")
    for work in (disturbed, calm):
        Store(work.settings.store).upgrade()

    command = [sys.executable, str(NIGHT), "night", DAY]
    env = environment(company, tmp_path / "disturbed")
    for point, number, when in DEATHS:
        died = subprocess.run(
            [*command, point, str(number), when], env=env, capture_output=True, text=True, check=False
        )
        assert died.returncode == -9, (point, died.stderr[-3000:])
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]

    steps.open_run(calm, "night", "nightly", DAY)
    for source in calm.sources.values():
        if source.kind != "erp":
            intake.extract(calm, "night", source.name, DAY)
    intake.conform(calm, "night")
    checking.aggregate_usage(calm, "night", DAY)
    planning.plan_journals(calm, "night", DAY)
    expected = hashes(calm)
    assert len(expected) > 20
    assert {name: text for name, text in hashes(disturbed).items() if name in expected} == expected

    with disturbed.store.reading() as session:
        batches = select_batches(session)
    assert {batch.state for batch in batches} == {"posted"}
    with disturbed.ledger() as ledger:
        for batch in batches:
            held = ledger.find_by_run_key(str(batch.slot), entity=batch.slot.legal_entity_id)
            assert sorted(ref.run_key for ref in held) == sorted(j.run_key for j in batch.journals)
    assert disturbed.store.facts("night")["proof"]["ties"] is True
    assert [p for chain in disturbed.store.audit_chains() for p in disturbed.store.verify_audit(chain)] == []
