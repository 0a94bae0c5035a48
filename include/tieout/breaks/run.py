"""`run`: one configured reconciliation of one business date, its result tables published, its breaks aged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

import pyarrow as pa

from tieout import schema
from tieout.breaks.inputs import bind_sides, configured_definition, rules_hash, side_queries
from tieout.breaks.life import departures, kept_lives, make_life, sightings
from tieout.breaks.verdicts import verdicts
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.observe.steps import step
from tieout.reconcile import Reconciliation, Summary, reconcile
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.breaks import record

TABLES = ("matches", "totals", "breaks", "breaks_gone", "breaks_forward")
"""The result tables of a reconciliation in the lake."""


def run(
    definition_id: str,
    business_date: date,
    *,
    lake: Lake,
    store: Store,
    settings: Settings,
    run_id: str,
    sides_complete: bool = True,
    unproven_entities: Collection[str] = (),
    as_was: str | None = None,
) -> Reconciliation:
    """Reconcile a business date on the tables that are published for the run, and publish what was found.

    With `as_was` both sides are read as that earlier run saw them.

    Writes the date's part of `matches`, `breaks`, `breaks_gone`, `breaks_forward` and `totals`. What is new,
    continuing, reopened or gone follows from the dates before and what people decided, so running a date again gives
    the same tables. A break that is gone is `resolved` only if `sides_complete`, its entity is none of
    `unproven_entities`, and each of its rows is matched now; otherwise it `disappeared` and needs a look. A match that
    a person accepted settles first; one that was rejected is not suggested again. The returned tables have the life of
    each break; `summary.definition_hash` covers the queries of the sides too.

    Raises ConfigError for an unknown definition, DefinitionError and DataError as `reconcile` does.
    """
    with _worked_out(
        definition_id,
        business_date,
        lake=lake,
        store=store,
        settings=settings,
        run_id=run_id,
        sides_complete=sides_complete,
        unproven_entities=unproven_entities,
        as_was=as_was,
    ) as (session, found):
        tables = _tables(session, business_date)
        where = f"business_date = '{business_date.isoformat()}' AND definition_id = '{definition_id}'"
        versions = {name: lake.write(name, table, where=where) for name, table in sorted(tables.items())}
        store.publish(run_id, versions, {"definition_id": definition_id, "business_date": business_date.isoformat()})
        with store.transaction() as transaction:
            record(
                transaction,
                definition_id,
                business_date,
                run_id,
                sightings(session),
                departures(session),
                store.now(),
            )
    return Reconciliation(tables["matches"], tables["breaks"], tables["totals"], found)


def look(
    definition_id: str, business_date: date, *, lake: Lake, store: Store, settings: Settings, run_id: str
) -> dict[str, pa.Table]:
    """What `run` would write of a business date, by result table; nothing is published and no break's life moves.

    Both sides are what the tables published for the run say, so of a past date this is what is known now.
    """
    with _worked_out(
        definition_id, business_date, lake=lake, store=store, settings=settings, run_id=run_id, sides_complete=False
    ) as (session, _):
        return _tables(session, business_date)


@contextmanager
def _worked_out(
    definition_id: str,
    business_date: date,
    *,
    lake: Lake,
    store: Store,
    settings: Settings,
    run_id: str,
    sides_complete: bool,
    unproven_entities: Collection[str] = (),
    as_was: str | None = None,
) -> Iterator[tuple[Engine, Summary]]:
    """The session that holds what a reconciliation found, each break with its life, and the summary."""
    definition = configured_definition(settings, definition_id)
    queries = side_queries(settings, definition)
    snapshot = store.published(run_id)
    kept, newest = kept_lives(store, definition_id)
    with step(f"reconcile {definition_id}") as current, engine(settings) as session:
        sides = bind_sides(
            session,
            queries,
            lake=lake,
            snapshot=snapshot if as_was is None else store.published(as_was),
            store=store,
            settings=settings,
            business_date=business_date,
        )
        found = reconcile(
            definition,
            sides["left"],
            sides["right"],
            engine=session,
            as_of=business_date,
            verdicts=verdicts(store, definition_id, business_date),
        )
        lake.bind(session, snapshot, ["breaks", "totals"])
        for name in ("matches", "breaks", "totals"):
            session.bind(f"found_{name}", getattr(found, name))
        make_life(
            session,
            definition,
            business_date,
            kept=kept,
            looks_back=newest is not None and business_date < newest,
            sides=sides,
            complete=sides_complete,
            unproven=unproven_entities,
        )
        gone = session.rows("SELECT count(*) FROM gone_breaks")[0][0]
        current.count(matches=found.summary.matched, breaks=found.summary.breaks, gone=gone)
        yield session, replace(found.summary, definition_hash=rules_hash(definition, queries))


def _tables(session: Engine, business_date: date) -> dict[str, pa.Table]:
    """The result tables in the lake's schema."""
    queries = {
        "matches": "SELECT $day AS business_date, * FROM found_matches",
        "totals": "SELECT $day AS business_date, * FROM found_totals",
        "breaks": "SELECT $day AS business_date, * FROM current_breaks",
        "breaks_gone": "SELECT $day AS business_date, * FROM gone_breaks",
        "breaks_forward": "SELECT $day AS business_date, * FROM forward",
    }
    tables = {}
    for name in TABLES:
        shape = schema.table(name).arrow
        tables[name] = session.sql(queries[name], {"day": business_date}).select(shape.names).cast(shape)
    return tables
