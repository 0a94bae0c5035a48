"""Tryton in the fault matrix: a real server over PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tieout import erp as erp_port
from tieout_sandbox.fault_matrix.subject import Answer, Request, Shared, Subject
from tieout_sandbox.testing import ERP_CONFIG, Erp
from tieout_sandbox.tryton import server

_READS = ("search", "search_read", "read", "login", "logout", "get_preferences")


@dataclass
class RunningTryton:
    """A Tryton with a database of its own."""

    erp: Erp

    @property
    def url(self) -> str:
        return self.erp.server.url

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> erp_port.Ledger:
        connection = replace(self.erp.connection(), host=url or self.url)
        return erp_port.connect("tryton", connection, ERP_CONFIG | {"read_timeout": timeout, "pause_ms": 5})

    def restart(self) -> None:
        server.kill(self.erp.server.process)
        process = server.start_again(self.erp.folder, self.url, [self.erp.database])
        self.erp.server = replace(self.erp.server, process=process)

    def expire_sessions(self) -> None:
        with self.erp.pg.connect(self.erp.database) as connection:
            connection.execute("DELETE FROM ir_session")


@contextmanager
def start(shared: Shared) -> Iterator[RunningTryton]:
    """A copy of the template database, served."""
    template = shared.erp_template()
    with template.copy() as erp:
        yield RunningTryton(erp)


def is_write(request: Request) -> bool:
    """Whether a call changes records; only those do that are no search, read or login."""
    return json.loads(request.body)["method"].rpartition(".")[2] not in _READS


SUBJECT = Subject(
    name="tryton",
    start=start,
    is_write=is_write,
    write_offs=True,
    rate_limited=Answer(429, b"<html>Too Many Requests</html>"),
    unavailable=Answer(503, b'could not obtain lock on row in relation "ir_sequence_strict"'),
    failed=Answer(500, b"<html>Internal Server Error</html>"),
)
