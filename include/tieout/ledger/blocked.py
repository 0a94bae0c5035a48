"""What waits instead of being posted, by what is missing: which mapping or rate, and how much money waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pyarrow as pa

from tieout import schema
from tieout.lake.engine import engine
from tieout.money import format_money


@dataclass(frozen=True, slots=True)
class Blocked:
    """One cause of an entity in one currency: the events that wait for it, gross, and the dates they lie between."""

    legal_entity_id: str
    cause: str
    currency: str
    amount: Decimal
    events: int
    documents: int
    since: date
    until: date

    def __str__(self) -> str:
        span = str(self.since) if self.since == self.until else f"{self.since} to {self.until}"
        noun = "document waits" if self.documents == 1 else "documents wait"
        money = format_money(self.amount, self.currency)
        return f"{self.legal_entity_id}: {self.cause}, {span}: {self.documents} {noun} with {money}"


def blocked(held: pa.Table) -> list[Blocked]:
    """Rows of `journal_held` that wait for a mapping, a rate or their source, priced by cause, most money first.

    A line that waits only because another line of its document does is priced under that line's cause. Currencies are
    not added up. Late events and what is not to be posted are not among them.
    """
    with engine() as session:
        session.bind("held", held, schema.table("journal_held").arrow)
        rows = session.rows("""
            SELECT
              legal_entity_id, coalesce(cause, reason) AS cause, currency,
              CAST(sum(abs(amount)) AS DECIMAL(38, 4)) AS gross,
              count(*), count(DISTINCT coalesce(document_number, event_id)), min(event_date), max(event_date)
            FROM held
            WHERE coalesce(state, 'waiting') = 'waiting'
            GROUP BY ALL ORDER BY gross DESC, legal_entity_id, cause, currency
        """)
    return [Blocked(*row) for row in rows]
