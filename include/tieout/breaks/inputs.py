"""The sides of a configured reconciliation: its SQL files run over a snapshot of the lake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import load_entities
from tieout.errors import DefinitionError
from tieout.ids import content_hash
from tieout.lake.engine import Engine
from tieout.lake.tables import Lake
from tieout.reconcile import Definition, WorkCalendar, load_definition
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.batches import select_batches

FOLDER = "reconciliations"
_WORD = re.compile(r"[a-z_]+")
_READ = re.compile(r'\b(?:from|join)\s+"?([a-z_]+)')


def definition_ids(settings: Settings) -> list[str]:
    """The reconciliations that are configured, by name."""
    return [path.stem for path in settings.config_files(FOLDER, ".yaml")]


def definition_path(settings: Settings, definition_id: str) -> Path:
    """The file of a configured reconciliation. Raises ConfigError if there is none."""
    return settings.config_file(f"{FOLDER}/{definition_id}.yaml")


def configured_definition(settings: Settings, definition_id: str) -> Definition:
    """A configured reconciliation; its business days are those of the legal entities, unless it names its own.

    Raises ConfigError if there is none, DefinitionError if it cannot work.
    """
    definition = load_definition(definition_path(settings, definition_id))
    if not definition.counts_working_days:
        return definition
    entities = load_entities(settings.config_file("entities.yaml")).entities
    places = {e.id: WorkCalendar(country=e.country, region=e.region, closures=e.closures) for e in entities}
    return definition.model_copy(update={"calendars": {**places, **definition.calendars}})


def side_queries(settings: Settings, definition: Definition) -> dict[str, str]:
    """The SQL of both sides. Raises DefinitionError where the definition names no file."""
    queries = {}
    for side_name, side in (("left", definition.left), ("right", definition.right)):
        if side.sql is None:
            raise DefinitionError(
                "the side names no query",
                record=f"{definition.id}, {side_name} side",
                remedy=f"set `sql` to a file in {FOLDER}/",
            )
        queries[side_name] = settings.config_file(f"{FOLDER}/{side.sql}").read_text(encoding="utf-8").strip()
    return queries


def tables_of(queries: Mapping[str, str]) -> list[str]:
    """The tables of the data model that the queries of both sides read."""
    return sorted(set(_READ.findall(" ".join(queries.values()).lower())) & set(schema.TABLES))


def rules_hash(definition: Definition, queries: Mapping[str, str]) -> str:
    """The version of a configured reconciliation: its definition and the queries of its sides."""
    return content_hash({"definition": definition.content_hash, "queries": dict(queries)})


def bind_sides(
    engine: Engine,
    queries: Mapping[str, str],
    *,
    lake: Lake,
    snapshot: Mapping[str, int],
    store: Store,
    settings: Settings,
    business_date: date,
) -> dict[str, Path]:
    """Run both sides' queries into Parquet files of the session.

    They see every table of the data model as the snapshot has it, `legal_entity` (id, name, functional_currency, zone,
    go_live), `journal_state` (run_key, state), and the parameter `$business_date`.
    """
    named = set(_WORD.findall(" ".join(queries.values()).lower()))
    lake.bind(engine, snapshot, sorted(named & set(schema.TABLES)))
    if "legal_entity" in named:
        engine.bind("legal_entity", _legal_entities(settings))
    if "journal_state" in named:
        shape = pa.schema([("run_key", pa.string()), ("state", pa.string())])
        rows = [{"run_key": key, "state": state} for key, state in journal_states(store)]
        engine.bind("journal_state", pa.Table.from_pylist(rows, schema=shape))
    files = {}
    for side, query in queries.items():
        parameters = {"business_date": business_date} if "$business_date" in query else None
        # the rows are made once and read from a file, so that a side of millions of rows needs no memory of ours
        engine.execute(f"CREATE OR REPLACE TEMP TABLE {side}_side AS {query}", parameters)
        files[side] = engine.spool(f"SELECT * FROM {side}_side")
        engine.execute(f"DROP TABLE {side}_side")
    return files


def _legal_entities(settings: Settings) -> pa.Table:
    entities = load_entities(settings.config_file("entities.yaml")).entities
    columns = ("id", "name", "functional_currency", "zone", "go_live")
    return pa.table({c: [getattr(e, c) for e in entities] for c in columns})


def journal_states(store: Store) -> list[tuple[str, str]]:
    """Run key and state of every journal that a batch holds; `reversed` are all of a batch whose content is void.

    One that a reversal of ours took back stands in the ledger like the reversal: together they are nothing.
    """
    with store.reading() as session:
        return [
            (journal.run_key, "reversed" if batch.state == "reversed" and not batch.counts else journal.state)
            for batch in select_batches(session)
            for journal in batch.journals
        ]
