"""The audit chain: append-only rows, each holding the hash of the one before it.

One chain per name (the ledger uses `<entity>/<ledger>`). A row's hash is SHA-256 over the canonical JSON of its
own fields and the previous hash, so a changed, removed or inserted row breaks the chain after it. A cut tail and
a chain computed anew show only against an *anchor*, the length and head hash written down outside the store: in files,
and, the head cut to 16 digits, in the memo of every journal that an ERP holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Integer, String, Text, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from tieout.errors import DataError
from tieout.ids import canonical_json, sha256_hex
from tieout.store.base import Base, Instant

GENESIS = "0" * 64


class AuditRow(Base):
    """One audited act. `payload` is the canonical JSON text that was hashed."""

    __tablename__ = "audit_log"

    chain: Mapped[str] = mapped_column(String(120), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)
    action: Mapped[str] = mapped_column(String(80))
    actor: Mapped[str] = mapped_column(String(200))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    payload: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Base):
    """The end of a chain; its row is locked while one is appended."""

    __tablename__ = "audit_heads"

    chain: Mapped[str] = mapped_column(String(120), primary_key=True)
    length: Mapped[int] = mapped_column(Integer)
    head: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of a chain, its payload parsed."""

    chain: str
    sequence: int
    at: datetime
    action: str
    actor: str
    subject: str
    payload: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """Length and head of a chain at a moment, to be kept where nobody can rewrite it.

    `head` may be the first digits only; `at` is an instant, or the journal whose memo has it.
    """

    chain: str
    length: int
    head: str
    at: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What verification found: in which chain, at which row, what is wrong."""

    chain: str
    sequence: int
    fault: str

    def __str__(self) -> str:
        return f"audit chain {self.chain}, row {self.sequence}: {self.fault}"


def append(
    session: Session,
    chain: str,
    action: str,
    actor: str,
    payload: Mapping[str, Any],
    now: datetime,
    subject: str = "",
) -> int:
    """Append one act in the caller's transaction; gives its sequence. Floats in the payload raise TypeError."""
    return append_all(session, chain, action, actor, [(subject, payload)], now)


def append_all(
    session: Session,
    chain: str,
    action: str,
    actor: str,
    acts: Iterable[tuple[str, Mapping[str, Any]]],
    now: datetime,
) -> int:
    """Append one act per (subject, payload) in the caller's transaction; gives the last one's sequence."""
    head = session.get(AuditHeadRow, chain, with_for_update=True)
    if head is None:
        try:
            with session.begin_nested():
                session.add(AuditHeadRow(chain=chain, length=0, head=GENESIS))
        except IntegrityError:
            pass  # another process began the chain; its row is locked below
        head = session.get(AuditHeadRow, chain, with_for_update=True, populate_existing=True)
    assert head is not None  # noqa: S101  a row we have just made sure of
    sequence, previous = head.length, head.head
    rows = []
    for subject, payload in acts:
        text = canonical_json(payload)
        sequence += 1
        digest = _hash(chain, sequence, now, action, actor, subject, text, previous)
        rows.append(
            {
                "chain": chain,
                "sequence": sequence,
                "at": now,
                "action": action,
                "actor": actor,
                "subject": subject,
                "payload": text,
                "previous": previous,
                "hash": digest,
            }
        )
        previous = digest
    if rows:
        session.execute(insert(AuditRow), rows)
    head.length, head.head = sequence, previous
    session.flush()
    return sequence


def entries(session: Session, chain: str | None = None, subject: str | None = None) -> list[AuditEntry]:
    """Audited acts in order, of one chain or about one subject."""
    query = select(AuditRow).order_by(AuditRow.chain, AuditRow.sequence)
    if chain is not None:
        query = query.where(AuditRow.chain == chain)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    return [
        AuditEntry(r.chain, r.sequence, r.at, r.action, r.actor, r.subject, json.loads(r.payload), r.hash)
        for r in session.scalars(query)
    ]


def anchor(session: Session, chain: str, now: datetime) -> Anchor:
    """The chain's present end, to be kept outside the store."""
    head = session.get(AuditHeadRow, chain)
    return Anchor(chain, head.length if head else 0, head.head if head else GENESIS, now.isoformat())


_MEMO = re.compile(r"\baudit (?:(\S+) )?(\d+):([0-9a-f]{16})(?![0-9a-f])")


def memo(kept: Anchor, run_key: str) -> str:
    """An anchor as the memo of a journal carries it: `audit 1234:ab12…`, 16 digits of the head.

    A copy of a journal goes to another ledger than its run key says; there the ledger is named: `audit new 12:ab12…`.
    """
    ledger = "" if kept.chain == _chain_in(run_key) else f"{kept.chain.partition('/')[2]} "
    return f"audit {ledger}{kept.length}:{kept.head[:16]}"


def anchors_in_memos(memos: Iterable[tuple[str, str]]) -> list[Anchor]:
    """The anchors in texts of journals, given as (run key, text); a text without one gives none."""
    found = {
        Anchor(
            f"{run_key.split('/')[1]}/{told[1]}" if told[1] else _chain_in(run_key), int(told[2]), told[3],
            f"the posting of {run_key}",
        )
        for run_key, text in memos
        if (told := _MEMO.search(text))
    }  # fmt: skip
    return sorted(found, key=lambda a: (a.chain, a.length, a.head, a.at))


def _chain_in(run_key: str) -> str:
    return "/".join(run_key.split("/")[1:3])


def chains(session: Session) -> list[str]:
    """The names of every chain."""
    return list(session.scalars(select(AuditHeadRow.chain).order_by(AuditHeadRow.chain)))


def verify(session: Session, chain: str, anchors: Iterable[Anchor] = ()) -> list[Problem]:
    """Everything wrong with a chain: rows changed, removed, inserted; and, against anchors, cut or recomputed."""
    problems: list[Problem] = []
    previous, expected, hashes = GENESIS, 1, {0: GENESIS}
    rows = session.scalars(
        select(AuditRow).where(AuditRow.chain == chain).order_by(AuditRow.sequence).execution_options(yield_per=1000)
    )
    for row in rows:
        if row.sequence != expected:
            problems.append(Problem(chain, expected, f"missing: the next row is {row.sequence}"))
        if row.previous != previous:
            problems.append(Problem(chain, row.sequence, "does not continue the row before it (removed or inserted)"))
        recomputed = _hash(chain, row.sequence, row.at, row.action, row.actor, row.subject, row.payload, row.previous)
        if recomputed != row.hash:
            problems.append(Problem(chain, row.sequence, "its content was changed after it was written"))
        previous, expected = row.hash, row.sequence + 1
        hashes[row.sequence] = row.hash
    length = expected - 1
    head = session.get(AuditHeadRow, chain)
    if head is not None and (head.length, head.head) != (length, previous):
        problems.append(Problem(chain, length, f"the chain's end was cut or extended: {head.length} rows were written"))
    if head is None and length:
        problems.append(Problem(chain, length, "the chain's head record is gone"))
    mine = [kept for kept in anchors if kept.chain == chain]
    beyond = [kept for kept in mine if kept.length > length]
    other = [kept for kept in mine if kept.length <= length and not hashes.get(kept.length, "").startswith(kept.head)]
    if beyond:
        last = max(beyond, key=lambda kept: kept.length)
        told = f"truncated: {last.length} rows were anchored at {last.at}"
        problems.append(Problem(chain, length, told + _and_more(beyond)))
    if other:
        first = min(other, key=lambda kept: kept.length)
        told = f"recomputed: its hash differs from the anchor of {first.at}"
        problems.append(Problem(chain, first.length, told + _and_more(other)))
    return problems


def _and_more(anchors: list[Anchor]) -> str:
    return f", and {len(anchors) - 1} more say so" if len(anchors) > 1 else ""


def write_anchors(folder: Path, day: str, anchors: Iterable[Anchor]) -> Path:
    """Write one day's anchors as JSON lines; a day already written is never overwritten, later ones get a number.

    `folder` should be write-once storage outside the store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(canonical_json(asdict(a)) + "\n" for a in anchors)
    for number in range(1, 10_000):
        path = folder / (f"{day}.jsonl" if number == 1 else f"{day}-{number}.jsonl")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            continue
        return path
    raise DataError("too many anchors for one day", got=str(folder / day))


def read_anchors(folder: Path) -> list[Anchor]:
    """Every anchor kept in a folder, oldest first."""
    kept = (json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines())
    return sorted((Anchor(**value) for value in kept), key=lambda a: (a.chain, a.length, a.at))


def _hash(
    chain: str, sequence: int, at: datetime, action: str, actor: str, subject: str, payload: str, previous: str
) -> str:
    return sha256_hex(
        canonical_json(
            {
                "chain": chain,
                "sequence": sequence,
                "at": at,
                "action": action,
                "actor": actor,
                "subject": subject,
                "payload": payload,
                "previous": previous,
            }
        )
    )
