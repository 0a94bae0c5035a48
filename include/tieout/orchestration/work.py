"""What every step works with, built from the settings: store, lake, landing, entities, sources, the ERP's ledger."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from tieout.entities import Entities, load_entities
from tieout.errors import ConfigError
from tieout.observe import step
from tieout.orchestration.catalog import LEDGER_KIND
from tieout.orchestration.facts import Facts
from tieout.settings import Connection, Settings
from tieout.store import Store

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.erp import Erp, Ledger
    from tieout.lake.landing import Landing
    from tieout.lake.tables import Lake
    from tieout.sources.config import SourceConfig

Connect = Callable[[str], Connection]


@dataclass(frozen=True)
class Work:
    """A process's settings and what they lead to; `connect` gives a connection by its id."""

    settings: Settings
    connect: Connect = Connection.from_env

    @classmethod
    def from_env(cls, connect: Connect = Connection.from_env) -> Work:
        """Over this process's settings and the configuration in force; what it writes only its own user may read.

        Raises ConfigError if the store was never upgraded.
        """
        os.umask(0o077)
        made = cls(Settings.from_env(), connect)
        if not made.store.ready():
            raise ConfigError("the store has no tables yet", remedy="run `tieout store upgrade`")
        if made.settings.config_approval == "off":
            return made
        from tieout.orchestration.configuration import in_force

        return cls(in_force(made.settings, made.store), connect)

    @cached_property
    def store(self) -> Store:
        """What is remembered."""
        return Store(self.settings.store)

    @cached_property
    def lake(self) -> Lake:
        """Table snapshots."""
        from tieout.lake import tables

        return tables.Lake(self.settings.lake)

    @cached_property
    def landing(self) -> Landing:
        """Raw pages."""
        from tieout.lake import landing

        return landing.Landing(self.settings.raw)

    @cached_property
    def entities(self) -> Entities:
        """The configured legal entities."""
        return load_entities(self.settings.config_file("entities.yaml"))

    @cached_property
    def sources(self) -> Mapping[str, SourceConfig]:
        """The configured sources by name."""
        from tieout.sources.config import load_sources

        return {source.name: source for source in load_sources(self.settings.config_file("sources.yaml"))}

    @cached_property
    def definitions(self) -> Sequence[str]:
        """Ids of the configured reconciliations."""
        from tieout.breaks.inputs import definition_ids

        return definition_ids(self.settings)

    @cached_property
    def ledger_sources(self) -> Sequence[SourceConfig]:
        """The sources that read an ERP's ledger back; a source's connection is the one that posts."""
        return [source for source in self.sources.values() if source.kind == LEDGER_KIND]

    def ledger_source(self, entity_id: str, ledger: str | None = None) -> SourceConfig:
        """The ERP that keeps an entity's ledger, the first if none is named. Raises ConfigError unless just one."""
        ledger = ledger or self.entities[entity_id].ledger
        found = [s for s in self.ledger_sources if s.ledger == ledger and s.legal_entity in (None, entity_id)]
        if len(found) != 1:
            raise ConfigError(
                "an entity's ledger needs exactly one source of kind erp",
                record=f"{entity_id}, ledger {ledger}",
                got=[source.name for source in found],
                expected=f"one source with `kind: erp` and `ledger: {ledger}` in sources.yaml",
            )
        return found[0]

    def served_by(self, source: SourceConfig) -> list[LegalEntity]:
        """The entities whose ledger an ERP keeps, each seen as that ledger."""
        return [
            entity.of_ledger(source.ledger)
            for entity in self.entities.entities
            if source.legal_entity in (None, entity.id) and source.ledger in {one.ledger for one in entity.in_force}
        ]

    def erp(self, entity_id: str, ledger: str | None = None) -> Erp:
        """The configuration of the ERP that keeps an entity's ledger, its first one if none is named."""
        return self.erp_behind(self.ledger_source(entity_id, ledger))

    def erp_behind(self, source: SourceConfig) -> Erp:
        """The configuration of the ERP that a source reads."""
        from tieout.erp import load_erp

        return load_erp(self.settings, source.erp)

    @contextmanager
    def ledger(self, name: str | None = None) -> Iterator[Ledger]:
        """The general ledgers of all entities, each in its own ERP, for as long as the block lasts.

        Those of that name; if none is named, each entity's first one.
        """
        from tieout.erp import LedgersByEntity

        opened: dict[str, Ledger] = {}

        def open_of(entity_id: str) -> Ledger:
            source = self.ledger_source(entity_id, name)
            if source.name not in opened:
                opened[source.name] = self.erp_behind(source).ledger(self.connect(source.connection))
            return opened[source.name]

        with closing(LedgersByEntity(open_of, [e.id for e in self.entities.entities])) as ledgers:
            yield ledgers

    @contextmanager
    def kept(self, run_id: str, name: str) -> Iterator[Facts]:
        """A step whose facts, with its times and its process's peak memory, are kept once it has ended well."""
        facts: Facts = {}
        started = datetime.now(UTC)  # of this machine: the store's clock may be a fixed one
        with step(name) as current:
            yield facts
            current.count(**{k: v for k, v in facts.items() if isinstance(v, int | str)})
        cost = {
            "started_at": started.isoformat(),
            "milliseconds": int(current.seconds * 1000),
            "cpu_milliseconds": int(current.cpu_seconds * 1000),
            "peak_mb": current.peak_mb,
        }
        self.store.add_facts(run_id, {name: {**facts, **cost}})

    def unproven(self, run_id: str, sentence: str) -> None:
        """Keep a sentence on what the report of a run cannot vouch for."""
        kept = self.store.facts(run_id).get("unproven", [])
        if sentence not in kept:
            self.store.add_facts(run_id, {"unproven": [*kept, sentence]})

    def made_good(self, run_id: str, opening: str) -> None:
        """Drop the kept sentences that begin so: a later try of the step did what an earlier one could not."""
        kept = self.store.facts(run_id).get("unproven", [])
        left = [sentence for sentence in kept if not sentence.startswith(opening)]
        if left != kept:
            self.store.add_facts(run_id, {"unproven": left})

    def chosen(self, ids: Sequence[str]) -> list[LegalEntity]:
        """These entities, or all where none is named. Raises ConfigError for an unknown one."""
        return [self.entities[one] for one in ids] if ids else list(self.entities.entities)
