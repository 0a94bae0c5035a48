"""One adapter on its server, a store, batches to post: what a case of the fault matrix needs and what it must show."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, Literal, cast

from sqlalchemy import event

from tieout.erp.port import ErpJournal, JournalRef, Ledger
from tieout.errors import ErpError, LeaseHeld, LeaseLost, UnknownOutcome
from tieout.ids import Slot, mirror_key, run_key, short_key
from tieout.ledger import Protocol, Step, post_batch
from tieout.ledger.post import as_erp_journal, differences, reverse
from tieout.store import Store, approvals, batches, write_offs
from tieout.store.batches import Batch
from tieout.store.breaks import BreakRow, Sighting, history, record, select_breaks
from tieout_sandbox.fault_matrix.line import FAULTS, KILLS, READ_FAULTS, Line, Passed, line_to
from tieout_sandbox.fault_matrix.subject import Running, Shared, Subject
from tieout_sandbox.testing import fresh_store

HELD, LOST, POSTED, FAILED, OTHER = 75, 76, 0, 1, 2
"""How a posting process of `Trial.process` ends; a killed one with minus the signal."""

Act = Literal["post", "reverse"]
"""What a process does with a batch, and a re-run does again."""

_DONE: Mapping[Act, str] = {"post": "posted", "reverse": "reversed"}
_PEOPLE = {"actor": "matrix", "second": "controller", "reason": "it is taken out"}

_RUNS = 6  # re-runs after a fault; each case needs one or two


@dataclass(frozen=True, slots=True)
class Kill:
    """When a posting process dies: at a point it passes, or (`killed before`, `killed after`) around a request.

    `lose`: its answer is lost before; `after_loss`: the answer of a process before it was.
    """

    at: str
    request: int = 0
    lose: bool = False
    after_loss: bool = False


@dataclass
class Trial:
    """A subject running, a line to it, a store with one stream of batches, each a version of the same slot."""

    subject: Subject
    running: Running
    line: Line | None
    store: Store
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _ledgers: dict[float, Ledger] = field(default_factory=dict)

    # --- what a case does -----------------------------------------------------------------------------

    def plan_write_off(self) -> str:
        """An approved batch that writes off a break of its own; gives its id."""
        books, name = self.subject.books, f"matrix_{next(self._numbers)}"
        amount, now = Decimal(next(self._numbers)) + Decimal("0.01"), self.store.now()
        seen = Sighting(name, books.entity, "INV-1", 1, "amount", "open", "team", books.currency, amount, books.on,
                        books.on, "It differs.")  # fmt: skip
        with self.store.transaction() as session:
            record(session, name, books.on, "matrix", [seen], [], now)
            (row,) = select_breaks(session, name)
            row.state = "write_off_pending"
            asked = write_offs.ToWriteOff(amount, books.currency, "receivable", "credit")
            write_offs.request(session, row.break_id, asked, amount, "anna", now)
            write_offs.approve(session, row.break_id, "ben", books.on)
            (accepted,) = write_offs.accepted(session)
        batch_id = self.plan(stream=f"write_off-{row.break_id[:8]}", origin=accepted.break_id)
        with self.store.transaction() as session:
            write_offs.carry(session, accepted, batch_id)
            batch = batches.get(session, batch_id)
            approvals.decide(session, batch_id, batch.content_hash, approver="carla", accept=True, comment="", now=now)
        return batch_id

    def check_written_off(self, batch_id: str) -> None:
        """The batch's break is written off, once, and its history and audit chain say so once."""
        with self.store.transaction() as session:
            write_offs.settle(session, self.store.now())
        with self.store.transaction() as session:
            assert write_offs.settle(session, self.store.now()) == 0
            row = session.get(BreakRow, batches.get(session, batch_id).origin)
            assert row is not None
            assert (row.state, row.written_off) == ("written_off", row.value)
            told = [change for change in history(session, row.break_id, people=True) if change.action == "written_off"]
            assert [change.details for change in told] == [{"batch": batch_id}]
        assert self.store.verify_audit(f"breaks/{row.definition_id}") == []

    def plan(
        self, *, journals: int = 1, stream: str = "billing", entity: str | None = None, on: int = 0,
        origin: str | None = None,
    ) -> str:  # fmt: skip
        """A validated batch with an amount of its own per journal, `on` days after the books' date; gives its id.

        With the break that is its `origin` it writes that off, and waits for approval.
        """
        books, number = self.subject.books, next(self._numbers)
        slot = Slot(entity or books.entity, "main", f"{books.on:%Y-%m}", stream, books.on + timedelta(days=on))
        with self.store.transaction() as session:
            version = batches.next_version(session, slot)
            planned = []
            for chunk in range(1, journals + 1):
                key = run_key(slot, version, (chunk, journals))
                amount = Decimal(number) + Decimal(chunk) / 100
                side = {"description": "Invoices", "dimensions": {}, "amount": str(amount)}
                kept = {"dimensions": dict([books.dimension])} if books.dimension else {}
                content = {
                    "entity": slot.legal_entity_id,
                    "date": books.on,
                    "currency": books.currency,
                    "narrative": f"{stream} {number}",
                    "lines": [
                        side | {"account": books.debit, "side": "debit"},
                        side | {"account": books.credit, "side": "credit"} | kept,
                    ],
                }
                planned.append(
                    batches.PlannedJournal(key, short_key(key), books.currency, books.on, amount, 2, content)
                )
            batch = batches.plan(
                session, slot, version, planned, digest=f"{number:064}", accounting_date=books.on,
                kind=batches.WRITE_OFF if origin else "original", origin=origin, needs_approval=False,
                run_id="matrix", actor="matrix", now=self.store.now(),
            )  # fmt: skip
            for state in ("validated", "awaiting_approval") if batch.needs_approval else ("validated",):
                batches.transition(session, batch.batch_id, state, actor="matrix", now=self.store.now())
        return batch.batch_id

    def plan_posted(self) -> str:
        """A batch that stands in the ERP, to be taken out; gives its id."""
        batch_id = self.plan(stream="taken_out")
        self.finish(batch_id)
        return batch_id

    def post(self, batch_id: str, *, timeout: float = 60.0, ledger: Ledger | None = None, act: Act = "post") -> str:
        """One run of the protocol through the line in this process: the state, or the error's name."""
        try:
            return self._acted(act, batch_id, ledger or self.ledger(timeout), self.store, self.protocol(self._step))
        except ErpError as error:
            return type(error).__name__

    def _acted(self, act: Act, batch_id: str, ledger: Ledger, store: Store, protocol: Protocol) -> str:
        if act == "post":
            return post_batch(batch_id, ledger, store, protocol=protocol)
        return reverse(batch_id, ledger, store, on=self.subject.books.on, protocol=protocol, **_PEOPLE)

    def process(
        self, batch_id: str, kill_at: str = "", *, lose: bool = False, act: Act = "post"
    ) -> tuple[int, list[str]]:
        """One run in a process of its own that kills itself at a point; gives how it ended and the points it passed.

        A point is a step of the protocol and its side, or a commit of the store, and how often the process came by.
        With `lose` nothing reaches the ERP, and its answer counts as lost.
        """
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os._exit(self._run(batch_id, kill_at, signal.SIGKILL, writer, lose, act))
        os.close(writer)
        if self.line is not None:
            self.line.client = pid
        with os.fdopen(reader) as pipe:
            passed = pipe.read().splitlines()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), passed

    def stopped(self, batch_id: str, at: str) -> int:
        """A process that stands still at a point while it posts; gives its pid."""
        pid = os.fork()
        if pid == 0:
            os._exit(self._run(batch_id, at, signal.SIGSTOP, os.open(os.devnull, os.O_WRONLY)))
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended with {os.waitstatus_to_exitcode(status)} before {at}"
        return pid

    def go_on(self, pid: int) -> int:
        """Let a stopped process go on; gives how it ends."""
        os.kill(pid, signal.SIGCONT)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def finish(self, batch_id: str, act: Act = "post") -> None:
        """Re-run until the batch is posted, or reversed, with a line that works; AssertionError if it is not."""
        if self.line is not None:
            self.line.begin()
        states = []
        for _ in range(_RUNS):
            states.append(self.post(batch_id, act=act))
            if states[-1] == _DONE[act]:
                return
        raise AssertionError(f"{batch_id} does not get {_DONE[act]}: {states}")

    def check(self, batch_id: str) -> None:
        """Exactly one journal per key in the ERP, equal to the cent; the batch posted, the audit chain whole."""
        with self.store.reading() as session:
            batch = batches.get(session, batch_id)
        assert batch.state == "posted"
        held = self.held(batch_id)
        meant = {journal.run_key: as_erp_journal(journal) for journal in batch.journals}
        assert sorted(held) == sorted(meant), f"{sorted(held)} in the ERP"
        for key, journals in held.items():
            assert len(journals) == 1, f"{key} is {len(journals)} times in the ERP"
            assert differences(meant[key], journals[0]) == []
        assert self.store.verify_audit(batch.chain) == []

    def check_taken_out(self, batch_id: str) -> None:
        """Each journal and its mirror stand in the ERP once, and are nothing together; the audit chain is whole."""
        with self.store.reading() as session:
            batch = batches.get(session, batch_id)
        assert (batch.state, {journal.state for journal in batch.journals}) == ("reversed", {"reversed"})
        held = self.held(batch_id)
        for journal in batch.journals:
            meant, key = as_erp_journal(journal), mirror_key(journal.run_key)
            mirror = meant.mirrored(self.subject.books.on, key, short_key(key))
            for one in (meant, mirror):
                assert [differences(one, shown) for shown in held.pop(one.run_key)] == [[]]
        assert held == {}
        assert self.store.verify_audit(batch.chain) == []

    def check_caught(self, batch_id: str) -> None:
        """The batch stands as mismatched, is sent no further, and can be taken back whole."""
        if self.line is not None:
            self.line.begin()
        count = sum(map(len, self.held(batch_id).values()))
        assert self.post(batch_id) == "mismatched"
        assert sum(map(len, self.held(batch_id).values())) == count
        assert reverse(batch_id, self.ledger(), self.store, on=self.subject.books.on, **_PEOPLE) == "reversed"

    def held(self, batch_id: str) -> dict[str, list[ErpJournal]]:
        """What the ERP holds of a batch, drafts included, by run key; asked without the line."""
        ledger = self._ledgers.setdefault(-1, self.running.ledger())
        found: dict[str, list[ErpJournal]] = {}
        for ref in ledger.find_by_run_key(batch_id):
            found.setdefault(ref.run_key, []).append(ledger.read_back(ref))
        return found

    def posted(self) -> list[Batch]:
        """Every posted batch of the trial."""
        with self.store.reading() as session:
            return batches.select_batches(session, states=["posted"])

    # --- what is possible -----------------------------------------------------------------------------

    def requests(self) -> list[Passed]:
        """The requests of an undisturbed posting by an adapter that has worked before."""
        assert self.line is not None
        for _ in range(2):
            self.line.begin()
            batch_id = self.plan()
            assert self.post(batch_id) == "posted"
        self.check(batch_id)
        return list(self.line.passed)

    def disturbed(self) -> Iterator[tuple[str, Passed]]:
        """Every fault of the line at every request it makes a difference at.

        Each write suffers every fault; of the reads only the first of a step, and only what reading can suffer.
        """
        seen: set[str] = set()
        for request in self.requests():
            first = request.step not in seen
            seen.add(request.step)
            for fault in FAULTS if request.write else READ_FAULTS if first else ():
                yield fault, request

    def kills(self, plan: Callable[[], str] | None = None, act: Act = "post") -> Iterator[Kill]:
        """Every moment at which a process can die over a batch so that it makes a difference.

        The points are those that processes really pass: an undisturbed one, one whose answer is lost, and one that
        comes after it. So a step that is added to the protocol is killed at unasked. `plan` makes other batches.
        """
        plan, done = plan or self.plan, self.check if act == "post" else self.check_taken_out
        batch_id = plan()
        if self.line is not None:
            self.line.begin()
        ended, points = self.process(batch_id, act=act)
        assert ended == POSTED
        done(batch_id)
        known = {point for point in points if self._tells(point)}
        yield from (Kill(point) for point in points if point in known)
        if self.line is not None:
            yield from (Kill(how, r.number) for r in self.line.passed if r.write for how in KILLS)
        batch_id = plan()
        ended, points = self.process(batch_id, lose=True, act=act)
        assert ended == OTHER
        yield from (Kill(p, lose=True) for p in points if self._tells(p) and p not in known)
        ended, points = self.process(batch_id, act=act)
        assert ended == POSTED
        yield from (Kill(p, after_loss=True) for p in points if self._tells(p) and p not in known)

    def killed(self, kill: Kill, batch_id: str = "", act: Act = "post") -> str:
        """A batch (a new one, if none is given) over which a process died as `kill` says; gives its id."""
        batch_id = batch_id or self.plan()
        if kill.after_loss:
            assert self.process(batch_id, lose=True, act=act)[0] == OTHER
        if self.line is not None:
            self.line.begin(kill.at if kill.request else None, kill.request)
        ended, passed = self.process(batch_id, "" if kill.request else kill.at, lose=kill.lose, act=act)
        assert ended == -signal.SIGKILL, f"{kill}: it ended with {ended} after {passed}"
        return batch_id

    def _tells(self, point: str) -> bool:
        """Whether a kill at the point differs from one at another: after a step is before the next one."""
        return point.startswith("before") or (self.line is None and point.startswith("commit"))

    # --- inside ---------------------------------------------------------------------------------------

    def protocol(self, watch: Callable[[Step, Literal["before", "after"]], None]) -> Protocol:
        """As patient as a matrix of hundreds of postings allows: waiting ends when nothing is on its way any more."""
        sleep = self.line.quiet if self.line is not None else _at_once
        return Protocol(
            settle=timedelta(milliseconds=10),
            checks=(),
            lags=(0.0,),
            status_checks=(timedelta(0),) * 20,
            sleep=sleep,
            watch=watch,
        )

    def ledger(self, timeout: float = 60.0) -> Ledger:
        """The adapter through the line, one per patience; it lives as long as the trial."""
        if timeout not in self._ledgers:
            self._ledgers[timeout] = self.running.ledger(self.line.url if self.line else None, timeout=timeout)
        return self._ledgers[timeout]

    def _step(self, step: Step, side: str) -> None:
        if self.line is not None:
            self.line.step = step if side == "before" else ""

    def _run(
        self, batch_id: str, at: str, end: signal.Signals, writer: int, lose: bool = False, act: Act = "post"
    ) -> int:
        passed: Counter[str] = Counter()

        def by(what: str) -> None:
            passed[what] += 1
            point = f"{what} ({passed[what]})"
            os.write(writer, f"{point}\n".encode())
            if point == at:
                os.kill(os.getpid(), end)

        try:
            store = Store(self.store.url)  # of its own: what a fork inherits of an engine may be locked for ever
            event.listen(store._database.engine, "commit", lambda connection: by("commit"))
            ledger: Ledger = self.running.ledger(self.line.url if self.line else None)
            if lose:
                ledger = cast(Ledger, _Losing(ledger))
            protocol = self.protocol(lambda step, side: by(f"{side} {step}"))
            posted = self._acted(act, batch_id, ledger, store, protocol) == _DONE[act]
            if "/write_off-" in batch_id:
                with store.transaction() as session:
                    write_offs.settle(session, store.now())
            return POSTED if posted else OTHER
        except UnknownOutcome:  # posting keeps it as a state, taking out tells it to the person who asked
            return OTHER
        except LeaseHeld:
            return HELD
        except LeaseLost:
            return LOST
        except BaseException:
            traceback.print_exc()
            return FAILED


class _Losing:
    """A ledger that says nothing about what it was sent, and did nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def post(self, journal: ErpJournal, **_: Any) -> JournalRef:
        raise UnknownOutcome("the answer is lost", record=journal.run_key)

    def reverse(self, ref: JournalRef, on: date, run_key: str, short_key: str, **_: Any) -> JournalRef:
        raise UnknownOutcome("the answer is lost", record=run_key)


def _at_once(seconds: float) -> None: ...


@contextmanager
def trial_of(subject: Subject, shared: Shared, store: Store | None = None) -> Iterator[Trial]:
    """A subject under trial, for the block; with a store of its own in a file unless another one is given."""
    store = store or fresh_store(shared.folder / "store.sqlite")
    with subject.start(shared) as running, _frozen():
        if not subject.network:
            yield Trial(subject, running, None, store)
            return
        with line_to(subject, running) as line:
            yield Trial(subject, running, line, store)


@contextmanager
def _frozen() -> Iterator[None]:
    """What is loaded by now is looked at by no garbage collection, so that forked processes share it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
