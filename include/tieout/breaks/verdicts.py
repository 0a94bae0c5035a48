"""What people said of suggested matches, as `reconcile` takes it."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
from sqlalchemy import select

from tieout.reconcile import VERDICTS
from tieout.store import Store
from tieout.store.breaks import BreakRow, BreakVerdictRow


def verdicts(store: Store, definition_id: str, business_date: date) -> pa.Table:
    """The verdicts that stand for a business date: those that knew no later one when they were given."""
    columns = [
        BreakVerdictRow.legal_entity_id,
        BreakRow.break_key,
        BreakVerdictRow.verdict,
        BreakVerdictRow.left_ids,
        BreakVerdictRow.right_ids,
        BreakVerdictRow.left_amount,
        BreakVerdictRow.right_amount,
        BreakVerdictRow.actor,
    ]
    query = (
        select(*columns)
        .join(BreakRow, BreakRow.break_id == BreakVerdictRow.break_id)
        .where(BreakVerdictRow.definition_id == definition_id, BreakVerdictRow.decided_on <= business_date)
    )
    with store.reading() as session:
        rows = [dict(zip(VERDICTS.names, row, strict=True)) for row in session.execute(query)]
    return pa.Table.from_pylist(rows, schema=VERDICTS)
