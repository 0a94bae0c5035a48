"""A journal that reads back otherwise than it was sent, as a break: finance sees, owns and follows it like any other.

The break opens in the transaction that marks the journal `mismatched`, which halts the journal's stream, and is
resolved in the one that takes the journal out of that state: corrected and read back equal, reversed, to be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy.orm import Session

from tieout.store.batches import Batch
from tieout.store.breaks import CLOSED, BreakRow, Sighting, break_id, last_recorded, record

DEFINITION = "journal_read_back"
OWNER = "general ledger"

DifferenceType = Literal[
    "missing_right", "duplicate", "currency", "cut_off", "amount", "mapping", "attribute", "status"
]
_WEIGHTIEST: tuple[DifferenceType, ...] = (
    "missing_right", "duplicate", "currency", "cut_off", "amount", "mapping", "attribute", "status",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the ERP holds a journal otherwise than meant. `value`: what it amounts to, where it has one."""

    type: DifferenceType
    text: str
    value: Decimal | None = None

    def __str__(self) -> str:
        return self.text


def open_breaks(
    session: Session, batch: Batch, differing: Mapping[str, Sequence[Difference]], run_id: str, now: datetime
) -> None:
    """Record the breaks of the journals that differ, by run key; one that is open already takes the new sentence."""
    if not differing:
        return
    sightings = []
    for journal in batch.journals:
        found = differing.get(journal.run_key)
        if not found:
            continue
        worst = min(found, key=lambda difference: _WEIGHTIEST.index(difference.type))
        before = _row(session, batch, journal.run_key)
        text = "; ".join(map(str, found))[:3000]
        sightings.append(
            Sighting(
                definition_id=DEFINITION,
                legal_entity_id=batch.slot.legal_entity_id,
                break_key=journal.run_key,
                ordinal=1,
                break_type=worst.type,
                state="open" if before is None or before.state in CLOSED else before.state,
                owner=OWNER,
                currency=journal.currency,
                value=journal.debit if worst.value is None else worst.value,
                economic_date=journal.accounting_date,
                first_seen=before.first_seen if before else now.date(),
                sentence=f"The ERP does not hold journal {journal.run_key} as it was sent: {text}.",
                was_state=before.state if before else None,
                was_type=before.break_type if before else None,
                note="its stream is halted until it is corrected or reversed",
            )
        )
    _record(session, sightings, (), run_id, now)


def close_breaks(
    session: Session, batch: Batch, run_keys: Iterable[str], note: str, run_id: str, now: datetime
) -> None:
    """Resolve the breaks of journals that differ no longer; nothing happens to one that a person closed."""
    rows = [row for key in run_keys if (row := _row(session, batch, key)) is not None and row.state not in CLOSED]
    gone = [
        Sighting(
            row.definition_id, row.legal_entity_id, row.break_key, row.ordinal, row.break_type, "resolved", row.owner,
            row.currency, row.value, row.economic_date, row.first_seen, row.sentence, row.state, row.break_type, note,
        )
        for row in rows
    ]  # fmt: skip
    if gone:
        _record(session, (), gone, run_id, now)


def _row(session: Session, batch: Batch, key: str) -> BreakRow | None:
    identity = break_id(DEFINITION, batch.slot.legal_entity_id, key, 1)
    return session.get(BreakRow, identity, populate_existing=True)


def _record(session: Session, found: Iterable[Sighting], gone: Iterable[Sighting], run_id: str, now: datetime) -> None:
    # breaks are recorded in the order of dates; a clock set back must not lose one
    newest = last_recorded(session, DEFINITION) or now.date()
    record(session, DEFINITION, max(now.date(), newest), run_id, found, gone, now)
