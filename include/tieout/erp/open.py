"""From configuration to a ledger: which adapter an ERP's file asks for, and which ERP an entity's journals go to.

A new adapter registers in two places: its module defines `ADAPTER = Adapter(…)` (see `tieout.erp.config`), and
`ADAPTERS` below names that module under the adapter's kind. Nothing else knows the kinds.

Which entity uses which ERP: an entity names its `ledger` (entities.yaml, default `main`); a source of kind `erp`
(sources.yaml) serves one ledger, names the connection, and with `erp: <name>` the file `erp/<name>.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib import import_module
from typing import Any

from tieout.entities import LegalEntity
from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.port import (
    Balance,
    ErpJournal,
    Fence,
    GlAccount,
    GlEntry,
    JournalRef,
    Ledger,
    PeriodStatus,
    read_back_many,
    unfenced,
)
from tieout.errors import ConfigError, Rejected
from tieout.settings import Connection, Settings, load_config, load_yaml

ADAPTERS = {
    "businesscentral": "tieout.erp.business_central",
    "file_drop": "tieout.erp.file_drop",
    "netsuite": "tieout.erp.netsuite",
    "odoo": "tieout.erp.odoo",
    "sap": "tieout.erp.sap",
    "tryton": "tieout.erp.tryton",
}
"""Kind of ERP → the module that has its `ADAPTER`."""


@dataclass(frozen=True, slots=True)
class Erp:
    """A configured ERP: its file's name, the adapter it asks for, and what it says."""

    name: str
    kind: str
    config: ErpConfig

    def ledger(self, connection: Connection) -> Ledger:
        """The ledger behind a connection; nothing is sent yet."""
        return adapter(self.kind).ledger(connection, self.config)

    @property
    def by_files(self) -> bool:
        """Whether its connection is a folder, not a web address."""
        return adapter(self.kind).by_files

    def problems(self, entities: Iterable[LegalEntity]) -> list[str]:
        """What is wrong with this ERP for these entities, in sentences; nothing is sent."""
        modes = adapter(self.kind).receivable_modes
        found = []
        for entity in entities:
            if entity.id not in self.config.companies:
                found.append(f"{entity.id}: no company; add it to `companies` in erp/{self.name}.yaml")
            found += self.config.problems(entity)
            if entity.receivable_mode not in modes:
                can = ", ".join(modes)
                found.append(f"{entity.id}: receivable_mode {entity.receivable_mode} is not for {self.kind}; use {can}")
        return found


def adapter(kind: str) -> Adapter:
    """The adapter of a kind. Raises ConfigError where there is none."""
    if kind not in ADAPTERS:
        raise ConfigError("no adapter for this ERP", got=kind, expected=tuple(ADAPTERS))
    found: Adapter = import_module(ADAPTERS[kind]).ADAPTER
    return found


def load_erp(settings: Settings, name: str) -> Erp:
    """Read and check `erp/<name>.yaml`. Raises ConfigError naming file, line and field."""
    path = settings.config_file(f"erp/{name}.yaml")
    value = load_yaml(path)
    kind = str(value.get("kind") or name) if isinstance(value, dict) else name
    return Erp(name, kind, load_config(adapter(kind).config, path))


def connect(kind: str, connection: Connection, config: Mapping[str, Any]) -> Ledger:
    """The ledger behind a connection, from the content of a file; nothing is sent yet.

    Raises ConfigError for an unknown kind or an unusable configuration.
    """
    made = adapter(kind)
    return made.ledger(connection, made.config.load(config))


class LedgersByEntity:
    """The ledgers of several ERPs as one: everything goes to the ERP of its entity. Implements `Ledger`.

    `opened` gives an entity's ledger, the same object for entities of one ERP, and is asked on first use, so that an
    ERP that is down disturbs nobody else's entities.
    """

    def __init__(self, opened: Callable[[str], Ledger], entities: Iterable[str]) -> None:
        self._opened, self._entities = opened, tuple(entities)
        self._used: dict[int, Ledger] = {}

    def of(self, entity: str) -> Ledger:
        """The ledger of an entity. Raises ConfigError where no ERP serves it."""
        ledger = self._opened(entity)
        self._used[id(ledger)] = ledger
        return ledger

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """In the ERP of the entity, else of the one the key names, else in all of them."""
        named = entity or key.removeprefix("TIEOUT/").partition("/")[0]
        if named in self._entities:
            return self.of(named).find_by_run_key(key, entity=entity)
        ledgers = {id(ledger): ledger for ledger in map(self.of, self._entities)}
        return [ref for ledger in ledgers.values() for ref in ledger.find_by_run_key(key)]

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """See the port."""
        return self.of(journal.entity).post(journal, fence=fence)

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """See the port."""
        return self.of(ref.entity).read_back(ref)

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """See the port."""
        shown: dict[JournalRef, ErpJournal | Rejected] = {}
        for entity in dict.fromkeys(ref.entity for ref in refs):
            own = [ref for ref in refs if ref.entity == entity]
            shown |= zip(own, read_back_many(self.of(entity), own), strict=True)
        return [shown[ref] for ref in refs]

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """See the port."""
        return self.of(ref.entity).reverse(ref, on, run_key, short_key, anchor=anchor, fence=fence)

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """See the port."""
        return self.of(entity).period_status(entity, on)

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """See the port."""
        return self.of(entity).trial_balance(entity, on, since)

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """See the port."""
        return self.of(entity).gl_entries(entity, since, until)

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """See the port."""
        return self.of(entity).gl_changes(entity, since, until)

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """See the port."""
        return self.of(entity).gl_accounts(entity)

    def close(self) -> None:
        """Release the connections of those that were used."""
        for ledger in self._used.values():
            ledger.close()
        self._used.clear()
