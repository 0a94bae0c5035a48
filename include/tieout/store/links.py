"""Links between batches and slots: a late entry and its origin, a reversal and what it reverses; readable both ways."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import String, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.store.base import Base

LATE_FOR, REVERSES, WRITES_OFF = "late_for", "reverses", "writes_off"
KINDS = (LATE_FOR, REVERSES, WRITES_OFF)
"""`late_for`: a batch of the stream `prior_period` → an origin slot. `reverses`: a reversal → the batch it mirrors.
`writes_off`: a batch → the break it writes off."""


class LinkRow(Base):
    """One link; from the other end it is found by `target`."""

    __tablename__ = "batch_links"

    batch_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    target: Mapped[str] = mapped_column(String(200), primary_key=True, index=True)


def link(session: Session, batch_id: str, kind: str, targets: Iterable[str]) -> None:
    """Link a batch (or the run key of a mirror) with slots or batches; a link that is there stays."""
    for target in sorted(set(targets)):
        session.merge(LinkRow(batch_id=batch_id, kind=kind, target=target))
    session.flush()


def links_of(session: Session, name: str) -> list[tuple[str, str, str]]:
    """Every link of a batch or slot, from whichever end: (batch, kind, target)."""
    query = select(LinkRow).where(or_(LinkRow.batch_id == name, LinkRow.target == name))
    rows = session.scalars(query.order_by(LinkRow.batch_id, LinkRow.kind, LinkRow.target))
    return [(row.batch_id, row.kind, row.target) for row in rows]


def sources_of(session: Session, kind: str, target: str) -> list[str]:
    """The batches that link to a target, by id."""
    query = select(LinkRow.batch_id).where(LinkRow.kind == kind, LinkRow.target == target)
    return sorted(session.scalars(query))
