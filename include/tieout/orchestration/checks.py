"""Every configuration file read and checked as the steps read it: what `tieout config check` runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from tieout.errors import ConfigError
from tieout.orchestration.catalog import LEDGER_KIND
from tieout.orchestration.work import Work
from tieout.settings import Connection, Settings
from tieout.transport import checked_address

if TYPE_CHECKING:
    from tieout.sources.config import SourceConfig


def check_configuration(settings: Settings) -> list[ConfigError]:
    """Everything that keeps the configuration from being used, file by file; empty if it can be."""
    problems: dict[str, ConfigError] = {}
    for check in _checks(Work(settings)):
        try:
            check()
        except ConfigError as problem:
            problems.setdefault(str(problem), problem)  # several checks read entities and sources
    problems |= {str(mistake): mistake for mistake in _mistakes_in_definitions(settings)}
    problems |= {str(mistake): mistake for mistake in _mistakes_in_prices(settings)}
    return list(problems.values())


def _mistakes_in_definitions(settings: Settings) -> Iterator[ConfigError]:
    from tieout.breaks.check import definition_mistakes
    from tieout.breaks.inputs import definition_ids

    for name in definition_ids(settings):
        yield from definition_mistakes(settings, name)


def _mistakes_in_prices(settings: Settings) -> Iterator[ConfigError]:
    from tieout.usage.checks import mistakes

    yield from mistakes(settings)


def missing_connections(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """Connections the sources name that the environment does not define; they may still be defined in Airflow."""
    named = {source.connection for source in Work(settings).sources.values()}
    return sorted(name for name in named if f"AIRFLOW_CONN_{name.upper()}" not in env)


def _checks(work: Work) -> Iterator[Callable[[], object]]:
    from tieout.conform.links import load_rules as load_crosswalk_rules
    from tieout.conform.verify import verify_mappings
    from tieout.quality.rules import load_suites
    from tieout.sources.config import mapped_as
    from tieout.units import load_units
    from tieout.usage.meters import load_meters

    def conform() -> None:
        for kind in sorted({mapped_as(source.kind) for source in work.sources.values()}):
            verify_mappings(work.settings, kind)

    yield lambda: _folder_is_there(work)
    yield lambda: work.entities
    yield lambda: _sources_belong_to_entities(work)
    yield conform
    yield lambda: load_crosswalk_rules(work.settings)
    yield lambda: load_units(work.settings)
    yield from (partial(_mapping_names_our_sources, work, name) for name in ("products", "customers"))
    yield lambda: _every_role_has_an_account(work)
    yield from (partial(_connection_can_be_used, work, source) for source in _sources_of(work))
    yield lambda: load_suites(work.settings)
    yield lambda: load_meters(work.settings.config_file("meters.yaml"))
    yield lambda: _one_author_each(work)
    yield lambda: _one_account_each(work)
    yield lambda: _every_entity_has_a_ledger(work)
    yield lambda: _charts_name_our_ledgers(work)
    yield from (partial(_erp_fits, work, source) for source in _sources_of(work) if source.kind == LEDGER_KIND)


def _folder_is_there(work: Work) -> None:
    if not work.settings.config.is_dir():
        raise ConfigError(
            "the configuration folder is not there",
            record=str(work.settings.config),
            remedy="create it, or point TIEOUT_CONFIG at the folder you mean",
        )


def _mapping_names_our_sources(work: Work, name: str) -> None:
    from tieout.conform.references import mapped_ids

    sources = work.sources.values()
    known = {"*", *(source.name for source in sources), *(source.kind for source in sources)}
    unknown = sorted({row.source for row in mapped_ids(work.settings, name)} - known)
    if unknown:
        raise ConfigError(
            "a mapping names sources that are not configured",
            record=str(work.settings.config_file(f"mappings/{name}.csv")),
            expected=sorted(known),
            got=unknown,
            remedy="name your own sources in a file of that name in your folder; its header alone maps nothing",
        )


def _every_role_has_an_account(work: Work) -> None:
    from tieout.ledger import load_rules

    rules = load_rules(work.settings)
    used = rules.roles | set(_written_off_roles(work.settings))
    lacking = {
        entity.id: sorted(used - {a.role for a in rules.accounts if a.legal_entity_id in ("*", entity.id)})
        for entity in work.entities.entities
    }
    found = [f"{entity}: {', '.join(roles)}" for entity, roles in lacking.items() if roles]
    if found:
        raise ConfigError(
            "posting rules and write-offs use roles that have no account",
            record=str(work.settings.config_file("mappings/accounts.csv")),
            got=found,
            remedy="add a row for each role, with the entity or `*`",
        )


def _written_off_roles(settings: Settings) -> Iterator[str]:
    """The account roles that reconciliations name for write-offs; one with a mistake is told by another check."""
    from tieout.breaks.inputs import configured_definition, definition_ids

    for name in definition_ids(settings):
        with suppress(ConfigError):
            for of_type in configured_definition(settings, name).write_off.values():
                for account in (of_type.left_higher, of_type.right_higher):
                    yield from (account or {}).values()


def _one_author_each(work: Work) -> None:
    from tieout.ledger.authorship import problems

    found = [text for entity in work.entities.entities for text in problems(entity)]
    if found:
        record = str(work.settings.config_file("entities.yaml"))
        raise ConfigError("it is not clear who posts what", record=record, got=found)


def _one_account_each(work: Work) -> None:
    from tieout.ledger import load_rules

    found = load_rules(work.settings).overlaps()
    if found:
        raise ConfigError(
            "two accounts are mapped to the same on the same days",
            record=str(work.settings.config_file("mappings/accounts.csv")),
            got=found,
            remedy="end one row (valid_to) before the other begins, or make one more precise",
        )


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


def _sources_of(work: Work) -> list[SourceConfig]:
    """The sources, none where their file has a mistake: another check tells that one."""
    try:
        return list(work.sources.values())
    except ConfigError:
        return []


def _connection_can_be_used(work: Work, source: SourceConfig) -> None:
    """Where the environment defines the connection: whether its address is one that credentials may go to."""
    if f"AIRFLOW_CONN_{source.connection.upper()}" in os.environ:
        connection = Connection.from_env(source.connection)
        if not (source.kind == "files" or (source.kind == LEDGER_KIND and work.erp_behind(source).by_files)):
            checked_address(connection.host, source.connection)
        elif "://" not in connection.host and not connection.host.startswith("/"):
            raise ConfigError(
                "a drop folder needs an address", record=source.connection, expected="file:///path or s3://bucket/path"
            )
        elif source.kind == "files" and connection.host.startswith("sftp://"):
            from tieout.sources.places import known_host_key

            known_host_key(connection)


def _erp_fits(work: Work, source: SourceConfig) -> None:
    erp = work.erp_behind(source)
    if problems := erp.problems(work.served_by(source)):
        raise ConfigError(
            "the ERP's configuration does not fit the entities", record=f"erp/{erp.name}.yaml", got=problems
        )


def _every_entity_has_a_ledger(work: Work) -> None:
    for entity in work.entities.entities:
        for one in entity.in_force:
            work.ledger_source(entity.id, one.ledger)


def _charts_name_our_ledgers(work: Work) -> None:
    from tieout.erp.charts import load_charts

    known = {one.ledger for entity in work.entities.entities for one in entity.in_force}
    entities = {"*", *(entity.id for entity in work.entities.entities)}
    unknown = sorted(
        f"{row.legal_entity_id}/{row.ledger}"
        for row in load_charts(work.settings).rows
        if row.ledger not in known or row.legal_entity_id not in entities
    )
    if unknown:
        raise ConfigError(
            "a chart mapping names entities or ledgers that are not configured",
            record=str(work.settings.config_file("mappings/charts.csv")),
            expected=sorted(known),
            got=unknown,
        )
