"""The crash matrix: each adapter, at each step, under each fault, then a re-run: exactly one journal, to the cent.

Adapters come from `tieout_sandbox.fault_matrix.subjects`, steps from the protocol as processes pass them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tieout.ledger import Step
from tieout_sandbox.fault_matrix.subject import Shared, subjects
from tieout_sandbox.fault_matrix.trial import HELD, POSTED, Trial, trial_of

SUBJECTS = subjects()
pytestmark = [pytest.mark.server, pytest.mark.fault]


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    shared = Shared(tmp_path_factory.mktemp(request.param), lambda: request.getfixturevalue("erp_template"))
    with trial_of(SUBJECTS[request.param], shared) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once for each adapter; disturbing a network takes one that has it."""
    names = [n for n, s in SUBJECTS.items() if s.network or "network" not in metafunc.function.__name__]
    metafunc.parametrize("trial", names, indirect=True, scope="module")


def test_killed_at_any_moment_the_next_run_leaves_exactly_one_journal(trial: Trial) -> None:
    kills = list(trial.kills())
    missed = {step for step in Step if not any(str(step) in kill.at for kill in kills)}
    assert not missed, "a step of the protocol that no posting passes"
    for kill in kills:
        batch_id = trial.killed(kill)
        trial.finish(batch_id)
        trial.check(batch_id)


def test_whatever_the_network_does_at_any_step_the_next_run_leaves_exactly_one_journal(trial: Trial) -> None:
    for fault, request in list(trial.disturbed()):
        batch_id = trial.plan(journals=2 if fault == "restarted" else 1)
        trial.line.begin(fault, request.number)
        trial.post(batch_id, timeout=1.0 if fault.endswith("late") else 60.0)
        assert trial.line.fired, f"{fault} at {request}"
        trial.finish(batch_id)
        trial.check(batch_id)


def test_what_only_this_adapter_can_suffer_leaves_exactly_one_journal(trial: Trial) -> None:
    for fault in trial.subject.own_faults.values():
        batch_id = trial.plan()
        fault(trial.running)
        trial.post(batch_id)
        trial.finish(batch_id)
        trial.check(batch_id)


def test_writers_at_once_leave_exactly_one_journal(trial: Trial) -> None:
    batch_id = trial.plan()
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: trial.process(batch_id)[0], range(3)))
    assert set(ends) <= {POSTED, HELD}
    trial.finish(batch_id)
    trial.check(batch_id)


def test_in_the_end_the_ledger_holds_what_was_posted_and_nothing_else(trial: Trial) -> None:
    books = trial.subject.books
    posted = sum((b.gross[books.currency] for b in trial.posted()), Decimal(0))
    assert posted > 0
    closing = {b.account: b.closing for b in trial.running.ledger().trial_balance(books.entity, books.on)}
    assert (closing[books.debit], closing[books.credit]) == (posted, -posted)
    assert trial.store.verify_audit(f"{books.entity}/main", [trial.store.anchor(f"{books.entity}/main")]) == []
