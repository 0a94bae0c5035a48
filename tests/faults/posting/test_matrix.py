"""The crash matrix: each adapter, at each step, under each fault, then a re-run: exactly one journal, to the cent.

Adapters come from `tieout_sandbox.fault_matrix.subjects`, steps from the protocol as processes pass them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import cast

import pytest

from tieout.erp import Ledger
from tieout.errors import LedgerError
from tieout.ledger import Step, due_batches, recheck_mismatched, reverse
from tieout.ledger.halts import DEFINITION
from tieout.ledger.protocol import OF_MIRRORS
from tieout.store.breaks import select_breaks
from tieout_sandbox.fault_matrix.lying import LIES, Lie, LyingLedger
from tieout_sandbox.fault_matrix.subject import Shared, subjects
from tieout_sandbox.fault_matrix.trial import HELD, POSTED, Kill, Trial, trial_of

SUBJECTS = subjects()
pytestmark = [pytest.mark.server, pytest.mark.fault]


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    shared = Shared(tmp_path_factory.mktemp(request.param), lambda: request.getfixturevalue("erp_template"))
    with trial_of(SUBJECTS[request.param], shared) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once for each adapter; disturbing a network takes one that has it."""
    name = metafunc.function.__name__
    names = [
        n
        for n, s in SUBJECTS.items()
        if (s.network or "network" not in name) and (s.write_offs or "write_off" not in name)
    ]
    metafunc.parametrize("trial", names, indirect=True, scope="module")


def test_killed_at_any_moment_the_next_run_leaves_exactly_one_journal(trial: Trial) -> None:
    kills = list(trial.kills())
    assert steps_of(kills) == set(Step) - OF_MIRRORS, "a step of the protocol that no posting passes"
    for kill in kills:
        batch_id = trial.killed(kill)
        trial.finish(batch_id)
        trial.check(batch_id)


def steps_of(kills: Iterable[Kill]) -> set[Step]:
    """The steps of the protocol at which a process is killed."""
    return {step for step in Step for kill in kills if kill.at.startswith(f"before {step} (")}


def test_a_batch_that_is_taken_out_by_a_process_killed_at_any_moment_has_one_mirror(trial: Trial) -> None:
    kills = list(trial.kills(trial.plan_posted, "reverse"))
    assert steps_of(kills) >= OF_MIRRORS, "a step of the protocol that no reversal passes"
    for kill in kills:
        batch_id = trial.killed(kill, trial.plan_posted(), "reverse")
        trial.finish(batch_id, "reverse")
        trial.check_taken_out(batch_id)


def test_a_write_off_killed_at_any_moment_is_posted_once_and_its_break_is_written_off_once(trial: Trial) -> None:
    for kill in list(trial.kills(trial.plan_write_off)):
        batch_id = trial.killed(kill, trial.plan_write_off())
        trial.finish(batch_id)
        trial.check(batch_id)
        trial.check_written_off(batch_id)


def test_whatever_the_network_does_at_any_step_the_next_run_leaves_exactly_one_journal(trial: Trial) -> None:
    for fault, request in list(trial.disturbed()):
        # a busy machine may be too slow for the short patience before it gets as far as the request
        for patience in (1.0, 5.0, 20.0) if fault.endswith("late") else (60.0,):
            batch_id = trial.plan(journals=2 if fault == "restarted" else 1, stream="network")
            trial.line.begin(fault, request.number)
            trial.post(batch_id, timeout=patience)
            fired = trial.line.fired
            if fault in trial.subject.caught:
                trial.check_caught(batch_id)
            else:
                trial.finish(batch_id)
                trial.check(batch_id)
            if fired:
                break
        assert fired, f"{fault} at {request}"


def test_what_only_this_adapter_can_suffer_leaves_exactly_one_journal(trial: Trial) -> None:
    for fault in trial.subject.own_faults.values():
        batch_id = trial.plan(stream="own")
        fault(trial.running)
        trial.post(batch_id)
        trial.finish(batch_id)
        trial.check(batch_id)


def test_writers_at_once_leave_exactly_one_journal(trial: Trial) -> None:
    batch_id = trial.plan(stream="race")
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda _: trial.process(batch_id)[0], range(3)))
    assert set(ends) <= {POSTED, HELD}
    trial.finish(batch_id)
    trial.check(batch_id)


def test_in_the_end_the_ledger_holds_what_was_posted_and_nothing_else(trial: Trial) -> None:
    books = trial.subject.books
    trial.finish(trial.plan(stream="last"))
    posted = sum((b.gross[books.currency] for b in trial.posted()), Decimal(0))
    assert posted > 0
    closing = {b.account: b.closing for b in trial.running.ledger().trial_balance(books.entity, books.on)}
    assert (closing[books.debit], closing[books.credit]) == (posted, -posted)
    assert trial.store.verify_audit(f"{books.entity}/main", [trial.store.anchor(f"{books.entity}/main")]) == []


def breaks_of(trial: Trial, batch_id: str) -> dict[str, tuple[str, str]]:
    """Type and state of the breaks over a batch's journals, by run key."""
    with trial.store.reading() as session:
        rows = select_breaks(session, DEFINITION)
    return {row.break_key: (row.break_type, row.state) for row in rows if row.break_key.startswith(batch_id)}


def test_a_lying_erp_is_caught_and_stops_that_stream_with_a_break_and_no_other(trial: Trial) -> None:
    for number, lie in enumerate(LIES):
        if lie.break_type == "attribute" and trial.subject.books.dimension is None:
            continue  # an ERP that keeps no dimension cannot drop one
        stream = f"lie_{number}"  # short: some ERPs have little room for it
        lied = trial.plan(stream=stream, journals=lie.journals)
        behind, beside = trial.plan(stream=stream, on=1), trial.plan(stream=f"{stream}_beside")
        elsewhere = trial.plan(stream=stream, entity="DE")
        lying = cast(Ledger, LyingLedger(trial.ledger(), lie))
        assert trial.post(lied, ledger=lying) == lie.state, lie.name
        breaks = breaks_of(trial, lied)
        assert set(breaks.values()) == {(lie.break_type, "open")}, lie.name
        assert len(breaks) == (2 if lie.journals == 5 else 1)
        due = due_batches(trial.store)
        assert (lied in due, behind in due, beside in due, elsewhere in due) == (False, False, True, True), lie.name
        with pytest.raises(LedgerError, match="halted"):
            trial.post(behind)
        assert trial.post(beside) == "posted"
        mend(trial, lied, lying, lie)
        assert {state for _, state in breaks_of(trial, lied).values()} == {"resolved"}, lie.name
        assert behind in due_batches(trial.store), lie.name
        assert trial.post(behind) == "posted"


def mend(trial: Trial, batch_id: str, lying: Ledger, lie: Lie) -> None:
    """What a person does: send again what is not there at all, take out what is wrong."""
    if lie.state == "partially_posted":
        assert recheck_mismatched(batch_id, trial.ledger(), trial.store, actor="al") == "partially_posted"
        trial.finish(batch_id)
        trial.check(batch_id)
        return
    on = trial.subject.books.on
    who = {"actor": "al", "second": "bea", "reason": lie.name}
    # the mirrors undo what stands there, so a ledger that shows it as it is makes them
    ledger = lying if lie.name == "stores twice" else trial.ledger()
    assert reverse(batch_id, ledger, trial.store, on=on, **who) == "reversed"
