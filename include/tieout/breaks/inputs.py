"""The sides of a configured reconciliation: its SQL files run over a snapshot of the lake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import load_entities
from tieout.erp.charts import load_charts
from tieout.errors import DefinitionError
from tieout.ids import content_hash
from tieout.lake.engine import Engine
from tieout.lake.tables import Lake
from tieout.money import currencies
from tieout.reconcile import Definition, WorkCalendar, load_definition
from tieout.reconcile.sides import SIDES, SideName
from tieout.reconcile.sql import macros
from tieout.settings import Settings, line_of
from tieout.sources.config import load_sources
from tieout.store import Store
from tieout.store.batches import BY_HAND, select_batches
from tieout.store.copies import states as copy_states

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

    Raises ConfigError if there is none, DefinitionError if it cannot work or its `id` is not what its file is called.
    """
    path = definition_path(settings, definition_id)
    definition = load_definition(path)
    check_id(definition, path)
    if not definition.counts_working_days:
        return definition
    entities = load_entities(settings.config_file("entities.yaml")).entities
    places = {e.id: WorkCalendar(country=e.country, region=e.region, closures=e.closures) for e in entities}
    return definition.model_copy(update={"calendars": {**places, **definition.calendars}})


def check_id(definition: Definition, path: Path) -> None:
    """Raise DefinitionError where a definition says another id than its file's name, by which it is run and kept."""
    if definition.id != path.stem:
        raise DefinitionError(
            "the definition's id is not the name of its file",
            record=f"{path}:{line_of(path, ('id',))}",
            expected=path.stem,
            got=definition.id,
            remedy="give both the same name; breaks are known by it",
        )


def side_queries(settings: Settings, definition: Definition) -> dict[str, str]:
    """The SQL of both sides. Raises DefinitionError where the definition names no file."""
    return {side: side_query(settings, definition, side) for side in SIDES}


def side_query(settings: Settings, definition: Definition, side_name: SideName) -> str:
    """The SQL of a side. Raises DefinitionError where the definition names no file, ConfigError where there is none."""
    side = getattr(definition, side_name)
    if side.sql is None:
        raise DefinitionError(
            f"the {side_name} side names no query",
            record=f"{definition.id}, {side_name} side",
            remedy=f"set `sql` to a file in {FOLDER}/",
        )
    return settings.config_file(f"{FOLDER}/{side.sql}").read_text(encoding="utf-8").strip()


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
    go_live), `entity_ledger` (legal_entity_id, ledger, source, taken_over_on), `chart` (legal_entity_id, ledger,
    account, ledger_account), `journal_state` (run_key, state), `journal_document` (run_key, document: the ERP's id of
    one that somebody wrote in the journal's place), `journal_copy` (ledger, run_key, state), `currency_digits`
    (currency, digits), the macros `money(amount, currency, digits)` and `plain(number)`, and the
    parameter `$business_date`.
    """
    named = set(_WORD.findall(" ".join(queries.values()).lower()))
    lake.bind(engine, snapshot, sorted(named & set(schema.TABLES)))
    if "legal_entity" in named:
        engine.bind("legal_entity", _legal_entities(settings))
    if "journal_state" in named:
        shape = pa.schema([("run_key", pa.string()), ("state", pa.string())])
        rows = [{"run_key": key, "state": state} for key, state in journal_states(store)]
        engine.bind("journal_state", pa.Table.from_pylist(rows, schema=shape))
    if "currency_digits" in named:
        shape = pa.schema([("currency", pa.string()), ("digits", pa.int64())])
        known = [{"currency": code, "digits": digits} for code, digits, _ in currencies()]
        engine.bind("currency_digits", pa.Table.from_pylist(known, schema=shape))
    for macro in macros():
        engine.execute(macro)
    for name, made in _LEDGER_TABLES.items():
        if name in named:
            engine.bind(name, made(settings, store))
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


def _entity_ledgers(settings: Settings, store: Store) -> pa.Table:
    entities = load_entities(settings.config_file("entities.yaml")).entities
    sources = [s for s in load_sources(settings.config_file("sources.yaml")) if s.kind == "erp"]
    rows = [
        {
            "legal_entity_id": entity.id,
            "ledger": source.ledger,
            "source": source.name,
            "taken_over_on": entity.of_ledger(source.ledger).taken_over_on,
        }
        for entity in entities
        for source in sources
        if source.legal_entity in (None, entity.id) and source.ledger in {one.ledger for one in entity.in_force}
    ]
    shape = pa.schema([(name, pa.string()) for name in ("legal_entity_id", "ledger", "source")])
    return pa.Table.from_pylist(rows, schema=shape.append(pa.field("taken_over_on", pa.date32())))


def _chart(settings: Settings, store: Store) -> pa.Table:
    charts = load_charts(settings)
    rows = [
        {"legal_entity_id": entity.id, "ledger": one.ledger, "account": ours, "ledger_account": theirs}
        for entity in load_entities(settings.config_file("entities.yaml")).entities
        for one in entity.in_force
        for ours, theirs in charts.of(entity.id, one.ledger).items()
    ]
    names = ("legal_entity_id", "ledger", "account", "ledger_account")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


def _journal_copies(settings: Settings, store: Store) -> pa.Table:
    with store.reading() as session:
        rows = [{"ledger": ledger, "run_key": key, "state": state} for ledger, key, state in copy_states(session)]
    return pa.Table.from_pylist(rows, schema=pa.schema([(n, pa.string()) for n in ("ledger", "run_key", "state")]))


def _journal_documents(settings: Settings, store: Store) -> pa.Table:
    with store.reading() as session:
        journals = [journal for batch in select_batches(session) for journal in batch.journals]
    rows = [{"run_key": j.run_key, "document": j.erp_id} for j in journals if j.state == BY_HAND]
    return pa.Table.from_pylist(rows, schema=pa.schema([("run_key", pa.string()), ("document", pa.string())]))


_LEDGER_TABLES: Mapping[str, Callable[[Settings, Store], pa.Table]] = {
    "entity_ledger": _entity_ledgers,
    "chart": _chart,
    "journal_document": _journal_documents,
    "journal_copy": _journal_copies,
}


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
