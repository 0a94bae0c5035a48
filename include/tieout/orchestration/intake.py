"""From the outside to canonical rows: read the sources and the ledger, conform, read again, say how fresh."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from tieout.entities import Entities
from tieout.errors import TieoutError
from tieout.orchestration.calendars import business_date_complete_at
from tieout.orchestration.facts import Facts, conform_facts, extract_facts
from tieout.orchestration.ledgers import copy_parallel
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.erp import Ledger
    from tieout.sources.config import SourceConfig


def extract(work: Work, run_id: str, source: str, business_date: str) -> Facts:
    """Read a source up to the end of a business date (to now, if empty) and land it; a no-op where that is done."""
    from tieout.conform.mapping import load_mappings
    from tieout.sources import catch_up

    config = work.sources[source]
    until = business_date_complete_at(date.fromisoformat(business_date), work.entities) if business_date else None
    with work.kept(run_id, f"extract/{source}") as facts:
        landed = catch_up(config, work.connect(config.connection), landing=work.landing, store=work.store, until=until)
        facts |= extract_facts(landed, load_mappings(work.settings, config.kind))
    return facts


def conform(work: Work, run_id: str) -> Facts:
    """Make canonical rows of everything landed and not read yet."""
    from tieout.conform.steps import conform

    with work.kept(run_id, "conform") as facts:
        facts |= conform_facts(
            conform(
                list(work.sources.values()),
                landing=work.landing,
                lake=work.lake,
                store=work.store,
                config=work.settings,
                run_id=run_id,
            )
        )
    return facts


def freshness(work: Work, run_id: str) -> Facts:
    """Until when each source is complete: the earliest end among its objects' last windows, as text."""
    from tieout.sources import read_until

    with work.kept(run_id, "freshness") as facts:
        for name, source in work.sources.items():
            end = read_until(source, work.store)
            facts[name] = end.isoformat() if end else ""
    work.store.finish_run(run_id, "success")
    return facts


def read_ledger(work: Work, run_id: str, business_date: str) -> Facts:
    """Read what the ERPs' ledgers hold now into the lake, with their trial balances at the end of a business date.

    Before that, a ledger that gets what another one holds gets it.

    An ERP that cannot be read does not keep the others from being read; its error is raised after that.
    """
    from tieout.conform.steps import conform

    copy_parallel(work, run_id, business_date)
    failed: list[TieoutError] = []
    for source in work.ledger_sources:
        try:
            with work.ledger(source.ledger) as ledger:
                _extract_ledger(work, run_id, source, ledger, date.fromisoformat(business_date))
        except TieoutError as error:
            failed.append(error)
    if len(failed) == len(work.ledger_sources):
        raise failed[0]
    with work.kept(run_id, "conform_ledger") as facts:
        facts |= conform_facts(
            conform(
                work.ledger_sources,
                landing=work.landing,
                lake=work.lake,
                store=work.store,
                config=work.settings,
                run_id=run_id,
                every_source={name: one.kind for name, one in work.sources.items()},
            )
        )
    if failed:
        raise failed[0]
    return facts


def _extract_ledger(work: Work, run_id: str, source: SourceConfig, ledger: Ledger, business_date: date) -> None:
    from tieout.conform.erp import catch_up_ledger
    from tieout.conform.mapping import load_mappings

    served = Entities(entities=tuple(work.served_by(source)))
    with work.kept(run_id, f"extract/{source.name}") as facts:
        landed = catch_up_ledger(
            source, ledger, served, landing=work.landing, store=work.store, business_date=business_date
        )
        facts |= extract_facts(landed, load_mappings(work.settings, source.kind))


def replay(work: Work, source: str, object: str | None = None) -> Facts:
    """Conform a source's landed records again, after a mapping or a rule was mended."""
    from tieout.conform.steps import replay

    run_id = f"replay.{source}.{work.store.now():%Y%m%dT%H%M%S}"
    work.store.start_run(run_id, "replay", None, {"source": source, "object": object})
    with work.kept(run_id, "conform") as facts:
        result = replay(
            work.sources[source],
            landing=work.landing,
            lake=work.lake,
            store=work.store,
            config=work.settings,
            run_id=run_id,
            objects=[object] if object else None,
            every_source={name: one.kind for name, one in work.sources.items()},
        )
        facts |= conform_facts(result)
    work.store.finish_run(run_id, "success")
    return facts
