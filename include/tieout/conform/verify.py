"""Check mappings without data: every statement they make is one the engine accepts."""

from __future__ import annotations

import duckdb

from tieout.conform.mapping import load_mappings
from tieout.conform.references import currency_table, legal_entity_table
from tieout.conform.statements import MACROS, RAW, typed_rows
from tieout.entities import load_entities
from tieout.errors import ConfigError
from tieout.lake.engine import engine
from tieout.lake.landing import PAGE_SCHEMA
from tieout.settings import Settings


def verify_mappings(settings: Settings, kind: str) -> None:
    """Run the statements of a source kind over no records.

    Raises ConfigError naming object and entity, with the engine's words, where a file's SQL is wrong.
    """
    entities = load_entities(settings.config_file("entities.yaml"))
    mappings = load_mappings(settings, kind)
    with engine(settings) as session:
        session.execute(MACROS)
        session.bind("currencies", currency_table())
        session.bind("legal_entities", legal_entity_table(entities))
        session.bind("pages", PAGE_SCHEMA.empty_table())
        session.execute(f"CREATE TEMP VIEW raw AS {RAW}")
        for name, mapping in mappings.items():
            for entity in mapping.entities:
                try:
                    session.sql(typed_rows(mapping, entity, kind, None))
                except duckdb.Error as error:
                    raise ConfigError(
                        "a mapping's SQL is not accepted by the engine",
                        record=f"conform/{kind}/{name}.yaml, {entity}",
                        got=str(error).splitlines()[0],
                        remedy="mend the `sql`, `fault_if`, `where` or `each_sql` it names",
                    ) from None
