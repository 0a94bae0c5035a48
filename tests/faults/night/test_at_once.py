"""A night and two backfills that post, at once over one store and one ERP, end like the night alone."""

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tieout import schema
from tieout.lake.hashing import result_hash
from tieout.orchestration import intake, planning, posting, steps
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.batches import select_batches
from tieout_sandbox import control, demo

pytestmark = [pytest.mark.server, pytest.mark.fault, pytest.mark.timeout(1200)]

FIRST, SECOND = demo.NIGHTS[:2]
ONE_OF_THEM = Path(__file__).with_name("at_once.py")
JOURNALS = ("journals", "journal_lines", "journal_drilldown")


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A company of this module's own: its ERP is posted to."""
    home = tmp_path_factory.mktemp("company")
    state = control.up(home, now=demo.night_clock(FIRST))
    try:
        yield state
    finally:
        control.down(home)


def environment(company, home: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    return {**ours, **company.connections, "TIEOUT_HOME": str(home), "TIEOUT_CONFIG": str(demo.CONFIG)}


def work_of(company, home: Path) -> Work:
    return Work(Settings.from_env(environment(company, home)), company.connection)


def known_and_planned(work: Work, run_id: str, day: date) -> None:
    """What a night does up to its journals, without posting them."""
    steps.open_run(work, run_id, "nightly", str(day))
    for source in work.sources.values():
        if source.kind != "erp":
            intake.extract(work, run_id, source.name, str(day))
    intake.conform(work, run_id)
    planning.plan_journals(work, run_id, str(day))


def hashes(work: Work) -> dict[str, str]:
    published = work.store.published()
    return {t: result_hash(work.lake.read(t, published[t]), schema.table(t).key) for t in JOURNALS}


def test_a_night_and_two_backfills_at_once_end_like_the_night_alone(company, tmp_path):
    alone = work_of(company, tmp_path / "alone")
    Store(alone.settings.store).upgrade()
    known_and_planned(alone, "first", FIRST)
    shutil.copytree(tmp_path / "alone", tmp_path / "together")
    control.set_clock(company.home, demo.night_clock(SECOND))

    env, span = environment(company, tmp_path / "together"), (str(FIRST), str(SECOND))
    runs = (("night", "night", str(SECOND)), ("backfill", "one", *span), ("backfill", "other", *span))
    logs = [tmp_path / f"{run[1]}.log" for run in runs]
    started = []
    for run, log in zip(runs, logs, strict=True):
        with log.open("w") as out:
            command = [sys.executable, str(ONE_OF_THEM), *run]
            started.append(subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT))
    try:
        known_and_planned(alone, "second", SECOND)
        codes = [process.wait(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()  # does nothing to one that has ended
    assert codes == [0, 0, 0], "\n".join(log.read_text()[-3000:] for log in logs)

    together = work_of(company, tmp_path / "together")
    steps.open_run(together, "after", "nightly", str(SECOND))
    planning.plan_journals(together, "after", str(SECOND))
    for run in posting.resume_posting(together, "after"):
        posting.submit(together, run["conf"]["batch_id"])
        posting.read_back(together, run["conf"]["batch_id"])

    with alone.store.reading() as session:
        expected = {(b.batch_id, b.content_hash) for b in select_batches(session)}
    with together.store.reading() as session:
        batches = select_batches(session)
    assert {(b.batch_id, b.content_hash) for b in batches} == expected
    assert hashes(together) == hashes(alone)
    assert {batch.state for batch in batches} == {"posted"}
    with together.ledger() as ledger:
        for batch in batches:
            held = ledger.find_by_run_key(str(batch.slot), entity=batch.slot.legal_entity_id)
            of_slot = [j.run_key for b in batches if b.slot == batch.slot for j in b.journals]
            assert sorted(ref.run_key for ref in held) == sorted(of_slot)
    assert posting.prove(together, "after", str(SECOND))["ties"] is True
    assert [p for chain in together.store.audit_chains() for p in together.store.verify_audit(chain)] == []
