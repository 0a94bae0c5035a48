"""How an ERP adapter registers for the fault matrix: a module that says how its server starts and words its errors.

To register, add `include/tieout_sandbox/fault_matrix/subjects/<name>.py` with a module-level `SUBJECT = Subject(...)`;
no list needs an entry. `tests/faults/posting` then runs the whole matrix for it: kill -9 at every step of the protocol
and around every write, each network fault at every step, two writers at once, the lying ERP; after each a re-run, and
exactly one journal, right to the cent, the audit chain whole. Keep a posting of two lines under 50 ms of processor time
at the server, or the matrix gets slow. `subjects/tryton.py` is the example.

A server that keeps its state in memory needs a `restart` that keeps it. What has no network (a drop folder) has no
`url` and gives its own faults in `own_faults`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from tieout.erp.port import Ledger


@dataclass(frozen=True, slots=True)
class Books:
    """What the server's books offer to the journals of the matrix; the period of `on` and the next one are open."""

    entity: str = "US"
    currency: str = "USD"
    on: date = date(2026, 3, 29)
    debit: str = "11000"
    credit: str = "40100"
    dimension: tuple[str, str] | None = ("product_family", "seats")
    """A dimension the ERP keeps on the credit line, with a value it has."""


class Running(Protocol):
    """A server with empty books of its own, as long as the subject's context lasts."""

    @property
    def url(self) -> str | None:
        """Base URL as the connection names it, without a path; None where there is no network between."""
        ...

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> Ledger:
        """A new adapter on the server, through `url` (a proxy in front of it) where given.

        `timeout`: seconds until an answer counts as lost. Pauses between its own tries are at most 20 ms.
        """
        ...

    def restart(self) -> None:
        """End the server as a crash would and start it again: same address, same credentials, same books."""
        ...

    def expire_sessions(self) -> None:
        """Make the server refuse every session or token it has given out so far."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that is given instead of the server's."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the line sees it; `path` with its query."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Shared:
    """What a subject may use: a folder of its own, and the session's PostgreSQL with Tryton's template."""

    folder: Path
    erp_template: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """An adapter in the matrix.

    `start` runs the server for the `with` block. `is_write` tells requests that change something (each of them is
    killed around and disturbed; of the others only the first of a step). `rate_limited` and `unavailable` are the
    vendor's answers where nothing was carried out, `failed` what it answers when it fails while carrying out.
    `network`: whether a line lies between adapter and server (else `url` is None).
    `own_faults`: name → what is done to the running server before a posting, for faults that only this adapter has.
    """

    name: str
    start: Callable[[Shared], AbstractContextManager[Running]]
    is_write: Callable[[Request], bool] = lambda request: request.method not in ("GET", "HEAD")
    books: Books = Books()
    rate_limited: Answer = Answer(429, b"", {"Retry-After": "0"})
    unavailable: Answer = Answer(503)
    failed: Answer = Answer(500)
    network: bool = True
    caught: frozenset[str] = frozenset()
    """Faults of the line that leave more than one journal, because the ERP knows no duplicates: they are caught."""
    write_offs: bool = False
    """Whether write-offs, which post like all else and then move a break, are killed at every step here too."""
    own_faults: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)


def subjects() -> dict[str, Subject]:
    """Every registered adapter by name."""
    from tieout_sandbox.fault_matrix import subjects as package

    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    found = [importlib.import_module(f"{package.__name__}.{name}").SUBJECT for name in modules]
    return {subject.name: subject for subject in found}
