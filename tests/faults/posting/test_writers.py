"""One writer per ledger, on SQLite and on PostgreSQL: processes that race, and one that stood still too long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL

from tieout.ledger import Step
from tieout.store import Store, utc_now
from tieout_sandbox.fault_matrix.subject import Shared, subjects
from tieout_sandbox.fault_matrix.trial import HELD, LOST, POSTED, Kill, Trial, trial_of
from tieout_sandbox.testing import fresh_store

pytestmark = [pytest.mark.server, pytest.mark.fault]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp(request.param)
    with trial_of(subjects()["file_ledger"], Shared(folder, lambda: None), store_of(request, folder)) as made:
        yield made


def store_of(request: pytest.FixtureRequest, folder: Path) -> Store:
    if request.param == "sqlite":
        return fresh_store(folder / "store.sqlite")
    pg = request.getfixturevalue("erp_template").pg
    pg.create("store_writers")
    url = URL.create("postgresql", pg.role, pg.password, pg.host, pg.port, "store_writers")
    store = Store(url.render_as_string(hide_password=False))
    store.upgrade()
    return store


def test_processes_that_race_over_a_batch_leave_exactly_one_journal(trial: Trial) -> None:
    for _ in range(2):
        batch_id = trial.plan()
        with ThreadPoolExecutor(3) as pool:
            ends = list(pool.map(lambda _, b=batch_id: trial.process(b)[0], range(3)))
        assert set(ends) <= {POSTED, HELD}, ends
        trial.finish(batch_id)
        trial.check(batch_id)


def test_a_write_off_whose_process_died_is_posted_once_and_its_break_is_written_off_once(trial: Trial) -> None:
    for step in (Step.SEND, Step.NOTE_ANSWER, Step.CONCLUDE):
        batch_id = trial.killed(Kill(f"after {step} (1)"), trial.plan_write_off())
        trial.finish(batch_id)
        trial.check(batch_id)
        trial.check_written_off(batch_id)


@pytest.mark.parametrize("at", ["before send (1)", "before note the answer (1)", "before write ahead (1)"])
def test_a_writer_whose_lease_ran_out_while_it_stood_still_writes_nothing_more(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    batch_id = trial.plan()
    standing = trial.stopped(batch_id, at)
    try:
        assert not trial.store.lease_is_free("US/main")
        monkeypatch.setattr(trial.store, "now", lambda: utc_now() + timedelta(hours=1))
        trial.finish(batch_id)  # another process, an hour later, takes the lease over and posts
    finally:
        ended = trial.go_on(standing)
    assert ended == LOST
    trial.check(batch_id)
