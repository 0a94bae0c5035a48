"""Versions of the configuration: who proposed which files, who let them go live; kept with their content.

A proposal is the whole set of files by content hash. It is in force once somebody else than who proposed it approved
it, and nothing but the version in force is used by runs. The audit chain `configuration` has every step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, LargeBinary, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import ConfigError, StoreError
from tieout.ids import content_hash, sha256_hex
from tieout.store import audit
from tieout.store.base import Base, Instant, Json

CHAIN = "configuration"
BOOTSTRAP = "tieout"
"""Who brought the very first version into force: nobody's change, there was nothing before it."""


class ConfigFileRow(Base):
    """A file's content, once however many versions have it."""

    __tablename__ = "config_files"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ConfigVersionRow(Base):
    """A set of files that was proposed, and what became of it."""

    __tablename__ = "config_versions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(64))
    files: Mapped[Any] = mapped_column(Json)
    base: Mapped[int | None] = mapped_column(Integer)
    """The version in force that it changes; null for the first."""
    changes: Mapped[Any] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(20), index=True)
    """proposed, in_force (the newest one of these is), rejected, replaced by a later proposal."""
    proposed_by: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    proposed_at: Mapped[datetime] = mapped_column(Instant)
    decided_by: Mapped[str | None] = mapped_column(String(200))
    comment: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(Instant)


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """A set of files by name and content hash, what it changes, and what became of it."""

    number: int
    digest: str
    files: Mapping[str, str]
    base: int | None
    changes: Mapping[str, str]
    """By file: added, changed or removed."""
    state: str
    proposed_by: str
    reason: str
    proposed_at: datetime
    decided_by: str | None
    comment: str | None
    decided_at: datetime | None


def digest_of(files: Mapping[str, str]) -> str:
    """The hash of a set of files, from their names and content hashes."""
    return content_hash(dict(files))


def in_force(session: Session) -> ConfigVersion | None:
    """The version that runs use; None before the first."""
    row = session.scalar(
        select(ConfigVersionRow)
        .where(ConfigVersionRow.state == "in_force")
        .order_by(ConfigVersionRow.decided_at.desc(), ConfigVersionRow.number.desc())
        .limit(1)
    )
    return None if row is None else _version(row)


def version(session: Session, number: int) -> ConfigVersion:
    """A version by its number. Raises StoreError if there is none."""
    row = session.get(ConfigVersionRow, number)
    if row is None:
        raise StoreError("no such version of the configuration", got=number)
    return _version(row)


def pending(session: Session) -> ConfigVersion | None:
    """The proposal that waits for a second person."""
    row = session.scalar(
        select(ConfigVersionRow)
        .where(ConfigVersionRow.state == "proposed")
        .order_by(ConfigVersionRow.number.desc())
        .limit(1)
    )
    return None if row is None else _version(row)


def content(session: Session, hashes: Collection[str]) -> dict[str, bytes]:
    """The content of files by hash."""
    found = session.execute(
        select(ConfigFileRow.sha256, ConfigFileRow.content).where(ConfigFileRow.sha256.in_(list(hashes)))
    )
    return {row.sha256: row.content for row in found}


def changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """By file, how a set differs from another: added, changed or removed."""
    found = {name: "changed" for name in before.keys() & after.keys() if before[name] != after[name]}
    found |= dict.fromkeys(after.keys() - before.keys(), "added")
    found |= dict.fromkeys(before.keys() - after.keys(), "removed")
    return dict(sorted(found.items()))


def bootstrap(session: Session, files: Mapping[str, bytes], now: datetime) -> ConfigVersion:
    """Bring the first version into force; where there is one already, it stays."""
    existing = in_force(session)
    if existing is not None:
        return existing
    row = _add(session, files, None, BOOTSTRAP, "the first start", now)
    row.state, row.decided_by, row.comment, row.decided_at = "in_force", BOOTSTRAP, "nothing was in force", now
    _audit(session, row, "configuration.bootstrapped", BOOTSTRAP, now)
    return _version(row)


def propose(session: Session, files: Mapping[str, bytes], *, who: str, reason: str, now: datetime) -> ConfigVersion:
    """Propose a set of files in place of the one in force; an earlier proposal is replaced.

    Raises ConfigError without a name or a reason, and where nothing would change.
    """
    if not who.strip() or not reason.strip():
        raise ConfigError("a proposal needs who makes it and why", got=f"{who!r}, {reason!r}")
    current = in_force(session)
    if current is None:
        raise ConfigError("no configuration is in force yet", remedy="the first start brings the folder into force")
    if digest_of({name: sha256_hex(text) for name, text in files.items()}) == current.digest:
        raise ConfigError("nothing to propose: the folder is what is in force", got=f"version {current.number}")
    for earlier in session.scalars(select(ConfigVersionRow).where(ConfigVersionRow.state == "proposed")):
        earlier.state = "replaced"
    row = _add(session, files, current, who.strip(), reason.strip(), now)
    _audit(session, row, "configuration.proposed", row.proposed_by, now)
    return _version(row)


def decide(session: Session, number: int, *, who: str, accept: bool, comment: str, now: datetime) -> ConfigVersion:
    """Let a proposal go live, or reject it.

    Raises ConfigError for whoever wrote what it contains: who proposed it, or a proposal it replaced since the version
    in force; for one that is decided or that was made against a version no longer in force; and for a rejection
    without a reason.
    """
    row = session.get(ConfigVersionRow, number, with_for_update=True, populate_existing=True)
    if row is None or row.state != "proposed":
        raise ConfigError("no such proposal waits", got=number, remedy="see `tieout config status`")
    authors = session.scalars(
        select(ConfigVersionRow.proposed_by).where(
            ConfigVersionRow.state.in_(["proposed", "replaced"]), ConfigVersionRow.base == row.base
        )
    )
    name = who.strip()
    if not name:
        raise ConfigError("a decision needs somebody who takes it", record=f"version {number}")
    if accept and name.casefold() in {author.strip().casefold() for author in authors}:
        raise ConfigError(
            "who changed the configuration may not let it go live", record=f"version {number}", got=name,
            remedy="ask a second person",
        )  # fmt: skip
    if not accept and not comment.strip():
        raise ConfigError("a rejection needs a reason", record=f"version {number}")
    current = in_force(session)
    if accept and (current is None or row.base != current.number):
        raise ConfigError(
            "another version has gone live since it was proposed", record=f"version {number}",
            remedy="propose it again, against what is in force now",
        )  # fmt: skip
    row.state = "in_force" if accept else "rejected"
    row.decided_by, row.comment, row.decided_at = name, comment, now
    _audit(session, row, "configuration.approved" if accept else "configuration.rejected", name, now)
    return _version(row)


def authors(session: Session, prefixes: Iterable[str], since: datetime | None) -> set[str]:
    """Who proposed changes, in force since an instant (ever, without one), to files whose names begin so."""
    wanted, found = tuple(prefixes), set()
    for row in session.scalars(select(ConfigVersionRow).where(ConfigVersionRow.base.is_not(None))):
        live = row.state == "in_force" and row.decided_at is not None and (since is None or row.decided_at > since)
        if live and any(name.startswith(wanted) for name in row.changes):
            found.add(row.proposed_by)
    return found


def _add(
    session: Session, files: Mapping[str, bytes], current: ConfigVersion | None, who: str, reason: str, now: datetime
) -> ConfigVersionRow:
    hashes = {name: sha256_hex(text) for name, text in sorted(files.items())}
    for name, text in files.items():
        if session.get(ConfigFileRow, hashes[name]) is None:
            session.add(ConfigFileRow(sha256=hashes[name], content=text))
            session.flush()
    row = ConfigVersionRow(
        digest=digest_of(hashes),
        files=hashes,
        base=current.number if current else None,
        changes=changes_between(current.files if current else {}, hashes),
        state="proposed",
        proposed_by=who,
        reason=reason,
        proposed_at=now,
    )
    session.add(row)
    session.flush()
    return row


def _audit(session: Session, row: ConfigVersionRow, action: str, who: str, now: datetime) -> None:
    facts = {
        "version": row.number, "digest": row.digest, "base": row.base, "changes": row.changes, "reason": row.reason,
        "files": {name: row.files.get(name) for name in row.changes}, "proposed_by": row.proposed_by,
        "decided_by": row.decided_by, "comment": row.comment,
    }  # fmt: skip
    audit.append(session, CHAIN, action, who, facts, now, subject=f"configuration/{row.number}")


def _version(r: ConfigVersionRow) -> ConfigVersion:
    return ConfigVersion(
        r.number, r.digest, r.files, r.base, r.changes, r.state, r.proposed_by, r.reason, r.proposed_at, r.decided_by,
        r.comment, r.decided_at,
    )  # fmt: skip
