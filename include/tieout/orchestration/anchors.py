"""The anchors of the audit chains that the ERPs' journals carry in their memos, as the lake or the ERPs have them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from tieout.orchestration.work import Work
from tieout.store.audit import Anchor, anchors_in_memos

if TYPE_CHECKING:
    from tieout.lake.tables import Lake


def anchors_in_lake(lake: Lake) -> list[Anchor]:
    """Those of the journals that were read from the ERPs into `gl_entry`, whatever the store says was published."""
    from tieout.lake.engine import engine

    with engine() as session:
        lake.bind(session, {"gl_entry": lake.version("gl_entry")}, ["gl_entry"])
        memos = session.rows("""
            SELECT DISTINCT run_key, text
            FROM (SELECT run_key, unnest([narrative, line_text]) AS text FROM gl_entry WHERE run_key IS NOT NULL)
            WHERE contains(text, 'audit ')
        """)
    return anchors_in_memos(memos)


def anchors_in_erps(work: Work) -> list[Anchor]:
    """Those of all journals of ours that the ERPs hold now, read from each. Raises the port's errors."""
    from tieout.conform.erp import FIRST, LAST

    memos: set[tuple[str, str]] = set()
    for source in work.ledger_sources:
        with closing(work.erp_behind(source).ledger(work.connect(source.connection))) as ledger:
            for entity in work.served_by(source):
                for page in ledger.gl_entries(entity.id, FIRST, LAST):
                    memos |= {(e.run_key, text) for e in page if e.run_key for text in (e.narrative, e.description)}
    return anchors_in_memos(memos)
