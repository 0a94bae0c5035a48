"""The posting protocol's steps, in one list, and how patient it is.

    lease -> look up by slot -> (wait until settled) -> write ahead -> send -> (look up again) -> note the answer
    -> conclude -> find -> read back -> note what was read -> conclude

Taking a batch out of the ledger goes through the same list, with steps of its own for the mirrors:

    lease -> find -> announce the mirrors -> (wait until settled) -> read back -> send a mirror -> (look up again)
    -> find -> read back -> take the batch out

Every step runs inside `Protocol.at`, so whoever watches can stop the process at each of them: the fault matrix takes
its list of steps from here and kills at a new one without being told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal


class Step(StrEnum):
    """What the protocol does, in the order it does it."""

    LEASE = "take the lease"
    COUNT_CHECK = "count a status check"
    LOOK_UP = "look up by slot"
    WAIT_UNTIL_SETTLED = "wait until what was sent has ended"
    WRITE_AHEAD = "write ahead"
    SEND = "send"
    LOOK_UP_AGAIN = "look up after a lost answer"
    NOTE_ANSWER = "note the answer"
    FIND = "find what is to be read back"
    READ_BACK = "read back"
    NOTE_READ = "note what was read"
    CONCLUDE = "conclude the batch"
    ANNOUNCE = "announce the mirrors"
    SEND_MIRROR = "send a mirror"
    TAKE_OUT = "take the batch out"


OF_MIRRORS = frozenset({Step.ANNOUNCE, Step.SEND_MIRROR, Step.TAKE_OUT})
"""Steps that only taking a batch out of the ledger has."""


Side = Literal["before", "after"]
Watch = Callable[[Step, Side], None]


def _unwatched(step: Step, side: Side) -> None: ...


@dataclass(frozen=True, slots=True)
class Protocol:
    """How patient posting is.

    `settle`: after a lost answer, how long a request may still be under way in the ERP; only then is a journal that
    cannot be found really absent. `checks`: pauses in seconds between look-ups right after a lost answer. `lags`:
    pauses before a read-back that does not find the journal looks again, because some ERPs show it later than they say
    so. `ttl`: how long the writer's lease holds without renewal; longer than the ERP's slowest answer. `status_checks`:
    how long after it became `unknown`, and then after each check, a batch is asked for again; after the last one
    without an answer it goes to a person. `watch` is told of each step, before and after it.
    """

    settle: timedelta = timedelta(seconds=60)
    checks: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    lags: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
    ttl: timedelta = timedelta(minutes=10)
    status_checks: tuple[timedelta, ...] = tuple(timedelta(minutes=m) for m in (0, 1, 5, 15, 60, 240))
    sleep: Callable[[float], None] = time.sleep
    watch: Watch = _unwatched

    @contextmanager
    def at(self, step: Step) -> Iterator[None]:
        """Run the block as a step of the protocol."""
        self.watch(step, "before")
        yield
        self.watch(step, "after")
