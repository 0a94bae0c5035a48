"""Every configuration file read and checked as the steps read it: what `tieout config check` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tieout.entities import load_entities
from tieout.errors import ConfigError
from tieout.settings import Settings, load_yaml

if TYPE_CHECKING:
    from tieout.sources.config import SourceConfig


def check_configuration(settings: Settings) -> list[ConfigError]:
    """Everything that keeps the configuration from being used, file by file; empty if it can be."""
    problems = []
    for check in _checks(settings):
        try:
            check()
        except ConfigError as problem:
            problems.append(problem)
    return problems


def _checks(settings: Settings) -> Iterator[Callable[[], object]]:
    from tieout.conform.links import load_rules
    from tieout.conform.references import mapped_ids
    from tieout.conform.verify import verify_mappings
    from tieout.quality.rules import load_suites
    from tieout.sources.config import load_sources

    yield lambda: load_entities(settings.config_file("entities.yaml"))
    yield lambda: _sources_belong_to_entities(settings)
    yield lambda: load_sources(settings.config_file("sources.yaml"))
    yield lambda: load_suites(settings)
    yield lambda: load_rules(settings)
    for kind in sorted({source.kind for source in _sources(settings)}):
        yield partial(verify_mappings, settings, kind)
    for name in ("products", "customers"):
        yield partial(mapped_ids, settings, name)
    for path in _yaml_files(settings):
        yield partial(load_yaml, path)


def _yaml_files(settings: Settings) -> list[Path]:
    folders = ("", "quality", "reconciliations", "conform", "erp")
    return [path for folder in folders for path in settings.config_files(folder, ".yaml")]


def _sources(settings: Settings) -> tuple[SourceConfig, ...]:
    """The configured sources; none where their file is wrong, which a check of its own tells."""
    from tieout.sources.config import load_sources

    try:
        return load_sources(settings.config_file("sources.yaml"))
    except ConfigError:
        return ()


def _sources_belong_to_entities(settings: Settings) -> None:
    from tieout.sources.config import load_sources

    known = {entity.id for entity in load_entities(settings.config_file("entities.yaml")).entities}
    for source in load_sources(settings.config_file("sources.yaml")):
        if source.legal_entity is not None and source.legal_entity not in known:
            raise ConfigError(
                "a source belongs to a legal entity that is not configured",
                record=f"sources.yaml: {source.name}",
                got=source.legal_entity,
                expected=sorted(known),
            )
