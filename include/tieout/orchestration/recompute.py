"""A past date computed again from the lake as known now, beside the date's own tables and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from tieout import schema
from tieout.breaks import look
from tieout.entities import Entities
from tieout.errors import StoreError
from tieout.ids import sha256_hex
from tieout.lake.engine import Engine
from tieout.lake.hashing import result_hash
from tieout.lake.tables import Lake
from tieout.orchestration import checking
from tieout.orchestration.completeness import SourceGaps, journal_gaps, sentences_of
from tieout.orchestration.facts import Facts
from tieout.orchestration.reporting import TITLE, write_report
from tieout.orchestration.work import Work

ERP_NOT_READ = "Computed again from the lake as known now; the ERP was not read."
_HASHED = ("matches", "breaks", "totals")


def recompute(work: Work, run_id: str, business_date: str) -> Facts:
    """Reconcile and report a past date again from what the lake holds; the paths of the report.

    The folder says as known when; the report says why and who asked, and shows the requested entities only. Nothing is
    published: the tables, the breaks' life and the report of the date stay what they were. The ERP is not read, so what
    compares with it does not run or is unproven.
    """
    day, asked = date.fromisoformat(business_date), work.store.run(run_id)
    if asked is None:
        raise StoreError("no such run", got=run_id)
    chosen = work.chosen(asked.params.get("entities", ()))
    found, unproven = _looked_at(work, run_id, day, [entity.id for entity in chosen])
    known_on = f"{asked.started_at:%Y-%m-%d %H.%M} UTC"
    reason, asked_by = asked.params.get("reason", "the date was run again"), asked.params.get("asked_by", "Airflow")
    note = f"Computed again as known on {known_on}, not as known that night. Why: {reason}. Asked for by {asked_by}."
    hashes = {name: result_hash(found[name], schema.table(name).key) for name in _HASHED}
    with work.kept(run_id, "report") as facts:
        facts |= write_report(
            work,
            run_id,
            day,
            work.store.facts(run_id) | {"unproven": unproven, "note": note, "result_hashes": hashes},
            title=f"{TITLE}, computed again",
            name=f"{day} as known on {known_on} {sha256_hex(run_id)[:8]}",  # two may be asked for in one minute
            lake=_Beside(work.lake.root, found, [entity.id for entity in chosen]),
            entities=Entities(entities=tuple(chosen), lag=work.entities.lag),
        )
    work.store.finish_run(run_id, "unproven", {"note": note, "unproven": unproven, "result_hashes": hashes})
    return facts


def _looked_at(work: Work, run_id: str, day: date, entities: Sequence[str]) -> tuple[dict[str, pa.Table], list[str]]:
    """The rows of these entities in each result table, over all reconciliations, and what is unproven of them."""
    unproven, parts, sources = [ERP_NOT_READ], dict[str, list[pa.Table]](), SourceGaps(work, day)
    for name in (d for d in work.definitions if d not in checking.NEEDS_FRESH_LEDGER):
        with work.kept(run_id, f"reconcile/{name}") as facts:
            tables = look(name, day, lake=work.lake, store=work.store, settings=work.settings, run_id=run_id)
            for table, rows in tables.items():
                of_entities = rows.filter(pc.is_in(rows["legal_entity_id"], pa.array(entities, pa.string())))
                parts.setdefault(table, []).append(of_entities)
            facts |= {"breaks": parts["breaks"][-1].num_rows}
        ours = journal_gaps(work, day, None) if name in checking.LEDGER_SIDE else []
        unproven += sentences_of(work, name, [*sources.of(name), *ours])
    return {table: pa.concat_tables(rows) for table, rows in parts.items()}, unproven


class _Beside(Lake):
    """The lake with some tables replaced, and of the others the rows of some legal entities only."""

    def __init__(self, root: str, replaced: Mapping[str, pa.Table], entities: Sequence[str]) -> None:
        super().__init__(root)
        self._replaced, self._entities = replaced, list(entities)

    def bind(self, engine: Engine, snapshot: Mapping[str, int | None], tables: Iterable[str]) -> None:
        """As the lake binds them, then the replaced tables in place of the published ones."""
        for table in tables:
            super().bind(engine, snapshot, [table])
            if table in self._replaced:
                engine.bind(table, self._replaced[table])
            elif "legal_entity_id" in schema.table(table).arrow.names:
                of_entities = f"SELECT * FROM {table} WHERE list_contains($entities, legal_entity_id)"
                engine.bind(table, engine.spool(of_entities, {"entities": self._entities}))
