"""Runs, what they published and the watermarks of extraction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Date, ForeignKey, Integer, String, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import StaleWatermark, StoreError
from tieout.store.base import Base, Instant, Json


class RunRow(Base):
    """One run of a workflow: what it was asked, how it ended, the facts it left."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40), index=True)
    business_date: Mapped[date | None] = mapped_column(Date, index=True)
    state: Mapped[str] = mapped_column(String(20))
    params: Mapped[Any] = mapped_column(Json)
    facts: Mapped[Any] = mapped_column(Json)
    base: Mapped[int] = mapped_column(Integer)  # the last publication there was when the run started
    started_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)


class PublicationRow(Base):
    """One publication: table versions that became visible together."""

    __tablename__ = "publications"

    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(String(250), index=True)
    meta: Mapped[Any] = mapped_column(Json)
    published_at: Mapped[datetime] = mapped_column(Instant)


class PublishedVersionRow(Base):
    """One table's version in a publication."""

    __tablename__ = "published_versions"

    sequence: Mapped[int] = mapped_column(ForeignKey("publications.sequence"), primary_key=True)
    table_name: Mapped[str] = mapped_column(String(100), primary_key=True, index=True)
    version: Mapped[int] = mapped_column(Integer)


class WatermarkRow(Base):
    """How far a source has been read; `token` counts its changes."""

    __tablename__ = "watermarks"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    value: Mapped[Any] = mapped_column(Json)
    token: Mapped[int] = mapped_column(Integer)
    changed_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the store knows it."""

    run_id: str
    kind: str
    business_date: date | None
    state: str
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Watermark:
    """A watermark's value (as JSON gives it back) and the token that a change must present."""

    name: str
    value: Mapping[str, Any]
    token: int
    changed_at: datetime


def start_run(
    session: Session, run_id: str, kind: str, business_date: date | None, params: Mapping[str, Any], now: datetime
) -> None:
    """Record a run's start; a run started again sees what is published now and keeps its facts."""
    base = session.scalar(select(func.coalesce(func.max(PublicationRow.sequence), 0))) or 0
    row = session.get(RunRow, run_id)
    if row is None:
        row = RunRow(run_id=run_id, kind=kind, business_date=business_date, facts={})
        session.add(row)
    row.state, row.params, row.base, row.started_at, row.finished_at = "running", dict(params), base, now, None


def finish_run(session: Session, run_id: str, state: str, facts: Mapping[str, Any], now: datetime) -> None:
    """Record how a run ended; facts are merged into those already there."""
    row = _run_row(session, run_id)
    row.state, row.finished_at, row.facts = state, now, {**row.facts, **facts}


def add_facts(session: Session, run_id: str, facts: Mapping[str, Any]) -> None:
    """Merge facts into a run, one key at a time."""
    row = _run_row(session, run_id)
    row.facts = {**row.facts, **facts}


def run(session: Session, run_id: str) -> Run | None:
    """A run by id."""
    row = session.get(RunRow, run_id)
    return None if row is None else _run(row)


def runs(session: Session, kind: str | None = None, business_date: date | None = None) -> list[Run]:
    """Runs in the order they started."""
    query = select(RunRow).order_by(RunRow.started_at, RunRow.run_id)
    if kind is not None:
        query = query.where(RunRow.kind == kind)
    if business_date is not None:
        query = query.where(RunRow.business_date == business_date)
    return [_run(row) for row in session.scalars(query)]


def publish(session: Session, run_id: str, versions: Mapping[str, int], meta: Mapping[str, Any], now: datetime) -> int:
    """Make table versions visible together; gives the publication's sequence number."""
    publication = PublicationRow(run_id=run_id, meta=dict(meta), published_at=now)
    session.add(publication)
    session.flush()
    for table, version in sorted(versions.items()):
        session.add(PublishedVersionRow(sequence=publication.sequence, table_name=table, version=version))
    session.flush()
    return publication.sequence


def published(session: Session, run_id: str | None = None) -> dict[str, int]:
    """The newest version of each table; with a run, what it saw: all published before it started, then its own.

    Raises StoreError for a run that neither started nor published anything.
    """
    newest = (
        select(PublishedVersionRow.table_name, func.max(PublishedVersionRow.version))
        .group_by(PublishedVersionRow.table_name)
        .order_by(PublishedVersionRow.table_name)
    )
    if run_id is None:
        return {table: int(version) for table, version in session.execute(newest)}
    own = newest.join(PublicationRow, PublicationRow.sequence == PublishedVersionRow.sequence).where(
        PublicationRow.run_id == run_id
    )
    row = session.get(RunRow, run_id)
    if row is None:
        base = session.scalar(select(func.min(PublicationRow.sequence)).where(PublicationRow.run_id == run_id))
        if base is None:
            raise StoreError("no such run", got=run_id, remedy="start the run before reading what it sees")
    else:
        base = row.base
        own = own.where(PublishedVersionRow.sequence > base)
    seen = {t: int(v) for t, v in session.execute(newest.where(PublishedVersionRow.sequence <= base))}
    return dict(sorted((seen | {t: int(v) for t, v in session.execute(own)}).items()))


def published_since(session: Session, run_id: str, meta: Mapping[str, Any]) -> list[str]:
    """Other runs that published something with these facts after a run began, in the order of their names."""
    row = session.get(RunRow, run_id)
    if row is None:
        return []
    later = select(PublicationRow).where(PublicationRow.sequence > row.base, PublicationRow.run_id != run_id)
    return sorted({p.run_id for p in session.scalars(later) if meta.items() <= p.meta.items()})


def watermark(session: Session, name: str) -> Watermark | None:
    """A watermark by name; None before its first value."""
    row = session.get(WatermarkRow, name)
    return None if row is None else Watermark(row.name, row.value, row.token, row.changed_at)


def set_watermark(session: Session, name: str, value: Mapping[str, Any], expected: int, now: datetime) -> int:
    """Move a watermark if its token is still `expected` (0: it does not exist yet); gives the new token.

    Raises StaleWatermark if another process moved it first.
    """
    if expected == 0:
        try:
            with session.begin_nested():
                session.add(WatermarkRow(name=name, value=dict(value), token=1, changed_at=now))
            return 1
        except IntegrityError:
            raise _stale(session, name, expected) from None
    changed = session.execute(
        update(WatermarkRow)
        .where(WatermarkRow.name == name, WatermarkRow.token == expected)
        .values(value=dict(value), token=expected + 1, changed_at=now)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        raise _stale(session, name, expected)
    return expected + 1


def _stale(session: Session, name: str, expected: int) -> StaleWatermark:
    token = session.scalar(select(WatermarkRow.token).where(WatermarkRow.name == name))
    return StaleWatermark(
        "the watermark has moved",
        record=name,
        expected=f"token {expected}",
        got=f"token {token}",
        remedy="read it again and extract from there",
    )


def _run_row(session: Session, run_id: str) -> RunRow:
    row = session.get(RunRow, run_id, with_for_update=True)
    if row is None:
        raise StoreError("no such run", got=run_id)
    return row


def _run(row: RunRow) -> Run:
    return Run(
        row.run_id, row.kind, row.business_date, row.state, row.params, row.facts, row.started_at, row.finished_at
    )
