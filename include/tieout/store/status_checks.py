"""How often an unknown batch was asked for, read from the audit log itself: what is counted is what an auditor sees.

A check is counted before the ERP is asked, so a process that dies over it has used it up. A person may start the count
again; the batch is due at once then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from tieout.store import audit
from tieout.store.audit import AuditRow
from tieout.store.batches import Batch, BatchRow

CHECK, RESTART, HAND_OVER = "batch.status_check", "batch.status_checks_restarted", "batch.handed_over"


@dataclass(frozen=True, slots=True)
class StatusChecks:
    """Checks used up since the batch became unknown, or since a person started again (`by_hand`), and the last time."""

    used: int
    last: datetime
    by_hand: bool

    def next_at(self, schedule: Sequence[timedelta]) -> datetime | None:
        """When the next one is due; None when all are used up."""
        if self.by_hand and not self.used:
            return self.last
        return self.last + schedule[self.used] if self.used < len(schedule) else None


def status_checks(session: Session, batch: Batch) -> StatusChecks:
    """What was asked about a batch so far."""
    rows = session.execute(
        select(AuditRow.action, AuditRow.at)
        .where(AuditRow.subject == batch.batch_id, AuditRow.action.in_((CHECK, RESTART)))
        .order_by(AuditRow.sequence)
    )
    used, last, by_hand = 0, batch.changed_at, False
    for action, at in rows:
        used, by_hand = (used + 1, by_hand) if action == CHECK else (0, True)
        last = max(last, at)
    return StatusChecks(used, last, by_hand)


def count(session: Session, batch: Batch, *, actor: str, now: datetime) -> None:
    """Use up one check."""
    number = status_checks(session, batch).used + 1
    audit.append(session, batch.chain, CHECK, actor, {"number": number}, now, batch.batch_id)


def hand_over(session: Session, batch: Batch, owner: str, reason: str, *, actor: str, now: datetime) -> None:
    """Give an unknown batch to a person: from now on it is in their part of the backlog and nothing asks by itself."""
    row = session.get_one(BatchRow, batch.batch_id, with_for_update=True, populate_existing=True)
    row.owner, row.reason = owner, reason
    audit.append(session, batch.chain, HAND_OVER, actor, {"owner": owner, "reason": reason}, now, batch.batch_id)


def restart(session: Session, batch: Batch, *, actor: str, now: datetime) -> None:
    """Take an unknown batch back from its owner and count its checks from none."""
    row = session.get_one(BatchRow, batch.batch_id, with_for_update=True, populate_existing=True)
    row.owner = None
    audit.append(session, batch.chain, RESTART, actor, {}, now, batch.batch_id)
