"""What a step of the night could not cost less than: reading its own input once in the engine.

Absolute times differ by machine and by who else uses it; how many scans of its input a step costs does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.orchestration.work import Work


@dataclass(frozen=True, slots=True)
class Floor:
    """One scan of a step's input: rows, and seconds of processor time to read and hash each of their values."""

    rows: int
    cpu_seconds: float


def floors(work: Work, run_id: str, day: date) -> Iterator[tuple[str, Floor]]:
    """The floor of each step of a night that reads files, by the step's name, after that night has run."""
    from tieout.lake.engine import engine
    from tieout.ledger.events import SOURCES
    from tieout.reports.gather import TABLES

    snapshot = work.store.published(run_id)
    canonical = _canonical()
    with engine(work.settings) as session:
        work.lake.bind(session, snapshot, {*canonical, *SOURCES, *TABLES, "conformed_extracts"})
        pages = _pages(work, session, run_id)
        for source, files in pages.items():
            yield f"extract/{source}", _scan_files(session, files)
        ledger = work.ledger_sources[0].name
        vendors = [file for source, files in pages.items() if source != ledger for file in files]
        yield "conform", _sum(_scan_files(session, vendors), _scan(session, canonical))
        yield "conform_ledger", _sum(_scan_files(session, pages.get(ledger, [])), _scan(session, _of_ledger(canonical)))
        yield "quality_gate", _scan(session, canonical)
        yield "usage", _scan(session, ["usage_event"])
        yield "plan", _scan(session, SOURCES)
        yield "report", _scan(session, TABLES)
        for name in work.definitions:
            yield f"reconcile/{name}", _scan_sides(work, session, run_id, name, day)


def _canonical() -> list[str]:
    from tieout.conform.links import LINKS

    return list(LINKS)


def _of_ledger(tables: Iterable[str]) -> list[str]:
    return [table for table in tables if table.startswith("gl_")]


def _pages(work: Work, session: Engine, run_id: str) -> dict[str, list[str]]:
    """The landed pages that this run made canonical rows of, by source."""
    read = set(
        session.rows(
            "SELECT DISTINCT source, object, extract_id FROM conformed_extracts WHERE run_id = $run", {"run": run_id}
        )
    )
    found: dict[str, list[str]] = {}
    for source, object_name, extract_id in sorted(read):
        extract = work.landing.extract(source, object_name, extract_id)
        if extract is not None:
            found.setdefault(source, []).extend(extract.files())
    return found


def _scan_sides(work: Work, session: Engine, run_id: str, name: str, day: date) -> Floor:
    """Both sides of a reconciliation as its queries make them, read once."""
    from tieout.breaks.inputs import bind_sides, definition_path, side_queries
    from tieout.reconcile import load_definition

    sides = bind_sides(
        session,
        side_queries(work.settings, load_definition(definition_path(work.settings, name))),
        lake=work.lake,
        snapshot=work.store.published(run_id),
        store=work.store,
        settings=work.settings,
        business_date=day,
    )
    return _scan_files(session, [str(file) for file in sides.values()], apart=True)


def _scan_files(session: Engine, files: Sequence[str], *, apart: bool = False) -> Floor:
    if not files:
        return Floor(0, 0.0)
    groups = [[file] for file in files] if apart else [list(files)]
    for number, group in enumerate(groups):
        session.bind(f"scanned_{number}", group)
    return _scan(session, [f"scanned_{number}" for number in range(len(groups))])


def _scan(session: Engine, tables: Iterable[str]) -> Floor:
    rows, start = 0, time.process_time()
    for table in tables:
        rows += session.rows(f'SELECT count(*), bit_xor(hash(t)) FROM "{table}" AS t')[0][0]
    return Floor(rows, time.process_time() - start)


def _sum(*floors: Floor) -> Floor:
    return Floor(sum(f.rows for f in floors), sum(f.cpu_seconds for f in floors))
