"""Pytest fixtures that start real servers of the sandbox: `pytest_plugins = ["tieout_sandbox.testing"]`.

`erp` is an ERP with companies, charts and an empty ledger of its own per test module (a copy of a template, one
second); `sandbox` the whole company with its history, once per session.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tieout import erp as erp_port
from tieout.erp.jsonrpc import JsonRpc
from tieout.settings import Connection
from tieout.store import Store
from tieout_sandbox import postgres, spark
from tieout_sandbox.tryton import chart, server, template

if TYPE_CHECKING:
    from tieout_sandbox.control import State

ERP_CONFIG: dict[str, Any] = {
    "companies": {company["id"]: company["id"] for company in chart.COMPANIES},
    "journal": "TIE",
    "dimensions": list(chart.DIMENSIONS),
    "tries": 2,
    "pause_ms": 20,
}


@dataclass
class ErpTemplate:
    """A PostgreSQL of the session with one database that holds companies and charts and is only ever copied."""

    pg: postgres.Server
    folder: Path
    name: str
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def copy(self) -> Iterator[Erp]:
        """A running ERP on a copy of the template."""
        database = f"erp_{next(self.numbers)}"
        folder = self.folder / database
        folder.mkdir(mode=0o700)
        self.pg.create(database, template=self.name)
        running = Erp(self.pg, folder, database, server.start(folder, self.pg, [database]))
        try:
            yield running
        finally:
            running.stop()
            self.pg.drop(database)


@dataclass
class Erp:
    """A running ERP with an empty ledger."""

    pg: postgres.Server
    folder: Path
    database: str
    server: server.ErpServer

    def connection(self, login: str = chart.POSTER) -> Connection:
        """How a user (`tieout_poster`, `accountant`, `admin`) logs in."""
        return Connection("tryton", self.server.url, login, self.server.passwords[login], self.database)

    def ledger(self, **config: Any) -> erp_port.Ledger:
        """The adapter as Tieout's poster; keywords override the configuration."""
        return erp_port.connect("tryton", self.connection(), ERP_CONFIG | config)

    def rpc(self, login: str = "admin") -> JsonRpc:
        """A bare client, for what Tieout itself never does: closing periods, breaking things."""
        return JsonRpc(self.connection(login), timeout=(5, 60), tries=1, pause=0.1)

    def stop(self) -> None:
        """Take the ERP down; its database stays."""
        server.stop(self.server.process)

    def restart(self) -> None:
        """Bring it back at another port with other passwords."""
        self.stop()
        self.server = server.start(self.folder, self.pg, [self.database])


def fresh_store(path: Path) -> Store:
    """A store with its tables in an SQLite file at `path`: a copy of one that this process migrated before."""
    path.write_bytes(_migrated())
    return Store(f"sqlite:///{path}")


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        Store(f"sqlite:///{path}").upgrade()
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


def dial(company: State, method: str, faults: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Add to (`POST`), clear (`DELETE`) or read (`GET`) the vendors' faults, each with how often it fired."""
    answer = requests.request(
        method,
        f"{company.urls['vendors']}/_control/faults",
        json=faults,
        headers={"Authorization": f"Bearer {company.secrets['control_token']}"},
        timeout=30,
    )
    answer.raise_for_status()
    return list(answer.json().get("faults", []))


@pytest.fixture(scope="session")
def erp_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ErpTemplate]:
    """PostgreSQL with the template; the first time ever this takes half a minute, then a second or two."""
    folder = tmp_path_factory.mktemp("erp")
    with postgres.temporary(folder / "postgres") as pg:
        template.companies(pg, "erp_template")
        yield ErpTemplate(pg, folder, "erp_template")


@pytest.fixture(scope="module")
def erp(erp_template: ErpTemplate) -> Iterator[Erp]:
    """An ERP with an empty ledger for this module."""
    with erp_template.copy() as running:
        yield running


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[spark.Cluster]:
    """A Spark master and two workers of one core each, in processes of their own."""
    with spark.cluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The whole company at scale 1, the clock at the first demo night. Tests that post use an own `erp`."""
    from tieout_sandbox import control  # the whole company with its simulators: only where it is asked for

    home = tmp_path_factory.mktemp("sandbox")
    state = control.up(home)
    try:
        yield state
    finally:
        control.down(home)
