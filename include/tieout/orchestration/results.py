"""What a run found, in a form that can be compared: a hash per result table, and where each step's records went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from tieout.orchestration.facts import Facts

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.orchestration.work import Work

_BY_DATE = ("matches", "breaks", "totals")
_BY_JOURNAL = ("journals", "journal_lines")


def result_hashes(work: Work, run_id: str, business_date: date) -> dict[str, str]:
    """The result hash of each result table of a run: equal content gives equal hashes, whichever run made it.

    Of `matches`, `breaks` and `totals` the rows of the business date as the run published them; of `journals` and
    `journal_lines` those that runs of this kind planned for the date, whichever slots they fill: a run again that
    plans nothing has the journals of the first, one that plans a difference has others.
    """
    from tieout import schema
    from tieout.lake.engine import engine
    from tieout.lake.hashing import result_hash

    hashes = {}
    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(run_id), (*_BY_DATE, *_BY_JOURNAL))
        planned = {"keys": _planned(work, run_id, business_date)}
        for name in (*_BY_DATE, *_BY_JOURNAL):
            by_date = name in _BY_DATE
            where = "business_date = $day" if by_date else "run_key IN (SELECT unnest($keys::VARCHAR[]))"
            rows = session.sql(f"SELECT * FROM {name} WHERE {where}", {"day": business_date} if by_date else planned)
            hashes[name] = result_hash(rows, schema.table(name).key)
    return hashes


def _planned(work: Work, run_id: str, business_date: date) -> list[str]:
    """Run keys of the journals that runs of the same kind planned for a business date."""
    from tieout.store.batches import select_batches

    run = work.store.run(run_id)
    runs = {one.run_id for one in work.store.runs(run.kind if run else None, business_date)}
    with work.store.reading() as session:
        return [j.run_key for batch in select_batches(session) if batch.run_id in runs for j in batch.journals]


def record_counts(work: Work, run_id: str, known: Mapping[str, Any]) -> list[Facts]:
    """Where the records of each step went, one row per step, source and object: in = out + merged + quarantined.

    `known` are the run's facts. `merged` are records that repeat another one or are older than it. Conforming is
    counted from its own log, so a task that was killed after its work and tried again still counts.
    """
    from tieout.lake.engine import engine

    with engine(work.settings) as session:
        rows = _conformed(work, session, run_id)
    usage = known.get("usage")
    if usage:
        merged = usage["repeated"] + usage["changed"]
        rows.append(_row("usage", "", "usage_event", usage["events"], usage["counted"], merged, usage["quarantined"]))
    return rows


def _conformed(work: Work, session: Engine, run_id: str) -> list[Facts]:
    work.lake.bind(session, work.store.published(run_id), ["conformed_extracts"])
    found = session.rows(
        "SELECT source, object, sum(records)::BIGINT, sum(rows)::BIGINT, sum(merged)::BIGINT, "
        "sum(quarantined)::BIGINT FROM conformed_extracts WHERE run_id = $run AND source <> '*' "
        "GROUP BY source, object ORDER BY source, object",
        {"run": run_id},
    )
    return [_row("conform", *counts) for counts in found]


def _row(step: str, source: str, object: str, taken: int, out: int, merged: int, quarantined: int) -> Facts:
    return {
        "step": step, "source": source, "object": object,
        "in": taken, "out": out, "merged": merged, "quarantined": quarantined,
    }  # fmt: skip
