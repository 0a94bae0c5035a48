"""Every configuration file read and checked as the steps read it: what `tieout config check` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tieout.errors import ConfigError
from tieout.orchestration.work import Work
from tieout.settings import Settings


def check_configuration(settings: Settings) -> list[ConfigError]:
    """Everything that keeps the configuration from being used, file by file; empty if it can be."""
    problems: dict[str, ConfigError] = {}
    for check in _checks(Work(settings)):
        try:
            check()
        except ConfigError as problem:
            problems.setdefault(str(problem), problem)  # several checks read entities and sources
    return list(problems.values())


def _checks(work: Work) -> Iterator[Callable[[], object]]:
    from tieout.breaks.inputs import definition_path, side_queries
    from tieout.conform.links import load_rules as load_crosswalk_rules
    from tieout.conform.references import mapped_ids
    from tieout.conform.verify import verify_mappings
    from tieout.ledger import load_rules
    from tieout.quality.rules import load_suites
    from tieout.reconcile import load_definition

    def definition(name: str) -> None:
        side_queries(work.settings, load_definition(definition_path(work.settings, name)))

    def conform() -> None:
        for kind in sorted({source.kind for source in work.sources.values()}):
            verify_mappings(work.settings, kind)

    yield lambda: work.entities
    yield lambda: _sources_belong_to_entities(work)
    yield conform
    yield lambda: load_crosswalk_rules(work.settings)
    yield from (partial(mapped_ids, work.settings, name) for name in ("products", "customers"))
    yield lambda: load_rules(work.settings)
    yield lambda: load_suites(work.settings)
    yield from (partial(definition, name) for name in work.definitions)
    yield lambda: _erp_fits(work)


def _sources_belong_to_entities(work: Work) -> None:
    known = [entity.id for entity in work.entities.entities]
    for source in work.sources.values():
        if source.legal_entity not in (None, *known):
            raise ConfigError(
                "a source belongs to a legal entity that is not configured",
                record=f"sources.yaml: {source.name}",
                got=source.legal_entity,
                expected=known,
            )


def _erp_fits(work: Work) -> None:
    from tieout.erp import check

    kind, config = work.erp_config
    problems = check(kind, config, work.entities.entities)
    if problems:
        raise ConfigError("the ERP's configuration does not fit the entities", record=f"erp/{kind}.yaml", got=problems)
