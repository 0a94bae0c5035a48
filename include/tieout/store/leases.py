"""Leases: one holder of a name at a time, between processes and machines, with a token that only ever grows.

A holder that died on this machine is recognised at once, one that died elsewhere when its time is up. Whoever
takes a lease over gets a higher token; a write guarded by the old token is refused (fencing).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Integer, String, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import LeaseHeld, LeaseLost
from tieout.store.base import Base, Instant
from tieout.store.owner import is_dead


class LeaseRow(Base):
    """A name, who holds it until when, and how often it changed hands."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(300))
    token: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class Lease:
    """What its holder knows of a lease."""

    name: str
    owner: str
    token: int
    expires_at: datetime


def acquire(session: Session, name: str, owner: str, ttl: timedelta, now: datetime) -> Lease:
    """Take a free, expired or orphaned lease. Raises LeaseHeld while another holder has it."""
    row = session.get(LeaseRow, name)
    expires = now + ttl
    if row is None:
        try:
            with session.begin_nested():
                session.add(LeaseRow(name=name, owner=owner, token=1, expires_at=expires))
            return Lease(name, owner, 1, expires)
        except IntegrityError:
            raise LeaseHeld("another process has just taken the lease", record=name) from None
    if row.owner is not None and row.expires_at > now and not is_dead(row.owner):
        raise LeaseHeld(
            "another process holds the lease",
            record=name,
            got=f"{row.owner} until {row.expires_at.isoformat()}",
            remedy="try again after that",
        )
    taken = session.execute(
        update(LeaseRow)
        .where(LeaseRow.name == name, LeaseRow.token == row.token)
        .values(owner=owner, token=row.token + 1, expires_at=expires)
        .execution_options(synchronize_session=False)
    )
    if taken.rowcount != 1:  # type: ignore[attr-defined]
        raise LeaseHeld("another process has just taken the lease", record=name)
    return Lease(name, owner, row.token + 1, expires)


def renew(session: Session, lease: Lease, ttl: timedelta, now: datetime) -> Lease:
    """Hold a lease longer. Raises LeaseLost if it was taken over."""
    changed = session.execute(
        update(LeaseRow)
        .where(LeaseRow.name == lease.name, LeaseRow.token == lease.token, LeaseRow.owner.is_not(None))
        .values(expires_at=now + ttl)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        raise _lost(lease)
    return Lease(lease.name, lease.owner, lease.token, now + ttl)


def time_left(session: Session, lease: Lease, now: datetime) -> timedelta:
    """How long a lease still holds. Raises LeaseLost if it was taken over."""
    row = session.get(LeaseRow, lease.name, populate_existing=True)
    if row is None or row.owner is None or row.token != lease.token:
        raise _lost(lease)
    return row.expires_at - now


def guard(session: Session, lease: Lease) -> None:
    """Refuse the surrounding transaction if the lease was taken over: call it before the write it protects."""
    token = session.scalar(
        select(LeaseRow.token).where(LeaseRow.name == lease.name, LeaseRow.owner.is_not(None)).with_for_update()
    )
    if token != lease.token:
        raise _lost(lease)


def release(session: Session, lease: Lease, now: datetime) -> None:
    """Give a lease back; one already taken over stays with its new holder."""
    session.execute(
        update(LeaseRow)
        .where(LeaseRow.name == lease.name, LeaseRow.token == lease.token)
        .values(owner=None, expires_at=now)
    )


def is_free(session: Session, name: str, now: datetime) -> bool:
    """Whether `acquire` would succeed now."""
    row = session.get(LeaseRow, name)
    return row is None or row.owner is None or row.expires_at <= now or is_dead(row.owner)


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(
        "the lease was taken over; this process must stop writing",
        record=lease.name,
        expected=f"token {lease.token}",
        remedy="start the task again",
    )
