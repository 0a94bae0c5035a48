"""The generated company behind real loopback servers, and a Tieout home per test that reads from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from tieout.lake.landing import ExtractRef, Landing
from tieout.settings import Connection
from tieout.sources import catch_up
from tieout.sources.client import Clock
from tieout.sources.config import SourceConfig
from tieout_sandbox.company_store import copy_documents, stored_company
from tieout_sandbox.simulators.credentials import load_or_create
from tieout_sandbox.simulators.documents import DocumentStore
from tieout_sandbox.simulators.process import start, stop
from tieout_sandbox.testing import fresh_store

NIGHTS = ("2026-03-30T09:00:00Z", "2026-03-31T09:00:00Z", "2026-04-01T09:00:00Z", "2026-04-02T09:00:00Z")
OBJECTS = {"stripe": "invoices", "salesforce": "Account", "zendesk": "tickets"}
KEYS = {"salesforce": "Id"}


@dataclass
class Vendors:
    """The running simulators."""

    base: str
    secrets: dict[str, Any]
    accounts: list[str]
    db: str = ""
    nights: tuple[str, ...] = NIGHTS

    def control(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets['control_token']}"}
        answer = requests.request(method, f"{self.base}/_control/{path}", headers=headers, json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def at(self, now: str) -> None:
        self.control("POST", "clock", {"now": now})

    def fault(self, **setting: Any) -> None:
        self.control("POST", "faults", setting)

    def fired(self) -> int:
        return sum(f["fired"] for f in self.control("GET", "faults")["faults"])

    def connection(self, kind: str) -> Connection:
        host = f"{self.base}/{kind}"
        match kind:
            case "stripe":
                return Connection("c", host, None, self.secrets["stripe"][self.accounts[0]]["secret"])
            case "salesforce":
                known = self.secrets["salesforce"]
                return Connection("c", host, known["client_id"], known["client_secret"])
        known = self.secrets["zendesk"]
        return Connection("c", host, f"{known['email']}/token", known["token"])


@dataclass
class Home:
    """One landing area and store, reading one source."""

    path: Path
    vendors: Vendors

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.landing = Landing(self.path / "raw")
        self.store = fresh_store(self.path / "store.sqlite")
        self.naps: list[float] = []

    def source(self, kind: str, **more: Any) -> SourceConfig:
        return SourceConfig(name=kind, kind=kind, connection="c", **more)

    def catch_up(self, kind: str, **more: Any) -> list[ExtractRef]:
        return catch_up(
            self.source(kind, **more),
            self.vendors.connection(kind),
            landing=self.landing,
            store=self.store,
            clock=Clock(sleep=self.naps.append),
        )

    def content(self, kind: str) -> dict[str, dict[str, str]]:
        """The newest record of every object by id, as it would be conformed."""
        found: dict[str, dict[str, str]] = {}
        for ref in self.landing.extracts(kind):
            for record in self.records(ref):
                if "api_version" not in record:  # events are a feed, not a state
                    found.setdefault(ref.object, {})[str(record[KEYS.get(kind, "id")])] = json.dumps(
                        record, sort_keys=True
                    )
        return found

    def pages(self, kind: str) -> list[tuple[str, str, int, int]]:
        return [(e.object, e.extract_id, e.pages, e.records) for e in self.landing.extracts(kind)]

    @staticmethod
    def records(ref: ExtractRef) -> list[dict[str, Any]]:
        return [json.loads(text) for file in ref.files() for text in pq.read_table(file)["record"].to_pylist()]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    home = tmp_path_factory.mktemp("vendors")
    db, secrets_file = home / "documents.sqlite", home / "secrets.json"
    copy_documents(7, 1, False, db, lambda: stored_company(7, 1, False))
    store = DocumentStore.open(db)
    accounts = store.meta("accounts")
    store.close()
    secrets = load_or_create(secrets_file, accounts)
    process = start(db, secrets_file, now=NIGHTS[0])
    try:
        yield Vendors(process.base_url, secrets, accounts, str(db))
    finally:
        stop(process.pid)


@pytest.fixture
def vendors(running: Vendors) -> Iterator[Vendors]:
    running.at(NIGHTS[0])
    yield running
    running.control("DELETE", "faults")
    running.control("POST", "limits", {"salesforce_daily": 100_000, "bulk_failures": 0})


@pytest.fixture
def home(tmp_path: Path, vendors: Vendors) -> Home:
    return Home(tmp_path / "home", vendors)


@pytest.fixture
def another(tmp_path: Path, vendors: Vendors) -> Callable[[str], Home]:
    return lambda name: Home(tmp_path / name, vendors)


@pytest.fixture(scope="module")
def clean(running: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The first night without any fault."""
    running.at(NIGHTS[0])
    made = Home(tmp_path_factory.mktemp("clean"), running)
    for kind, name in OBJECTS.items():
        made.catch_up(kind, objects=(name,))
    return made
