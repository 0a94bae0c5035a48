"""What every extract shares: its watermark, its window, its pages, its control total, and that it is whole or nothing.

An extract counts once `_COMMITTED.json` is there; the watermark moves after it. A process killed between the two
leaves a committed extract the watermark does not know: the next one adopts it, so nothing is read or kept twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tieout.lake.landing import ControlTotal, ExtractRef, ExtractWriter, Landing, Record, extract_id
from tieout.sources.config import SourceConfig, mapped_as
from tieout.sources.drift import Drift, SourceContract, load_contract
from tieout.sources.pagers import Page
from tieout.store import Lease, Store

log = logging.getLogger("tieout.sources")

LEASE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one object has been read: number of extracts, end of the last window, and what its feed needs."""

    token: int = 0
    sequence: int = 0
    hi: datetime | None = None
    feed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Filled:
    """What filling an extract found out beside its records: control total, where the feed stands, facts to keep."""

    control: ControlTotal | None = None
    feed: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Pages:
    """Where the pages of one extract go: into landing and past the contract."""

    writer: ExtractWriter
    drift: Drift
    beat: Callable[[], None]

    def land(
        self,
        records: list[Record],
        *,
        request: str,
        request_id: str | None,
        status: int | None,
        fetched_at: datetime,
        sha256: str | None,
        look: bool = True,
        parts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Land one page; `look` holds its records against the contract, `parts` tells the bodies it is made of."""
        self.beat()
        if look:
            self.drift.see(records, request)
        self.writer.page(
            records,
            request_id=request_id or request,
            http_status=status,
            fetched_at=fetched_at,
            body_sha256=sha256,
            parts=parts,
        )

    def land_page(self, page: Page) -> None:
        """Land the records of one answer as a page."""
        answer = page.answer
        self.land(
            page.records,
            request=answer.request,
            request_id=answer.request_id,
            status=answer.status,
            fetched_at=answer.served_at,
            sha256=answer.sha256,
        )

    def land_file(
        self, file: Path, *, rows: int, columns: Mapping[str, str], request: str, fetched_at: datetime, sha256: str
    ) -> None:
        """Land a file of columns byte for byte; it has been looked at and counted before."""
        self.beat()
        self.writer.file(file, rows=rows, columns=columns, request_id=request, fetched_at=fetched_at, sha256=sha256)


class Extraction:
    """One catching-up of one source, under its lease."""

    def __init__(self, source: SourceConfig, landing: Landing, store: Store, lease: Lease) -> None:
        self.source, self.landing, self.store = source, landing, store
        self.contract: SourceContract = load_contract(source.contract or mapped_as(source.kind))
        self._lease, self._beaten = lease, time.monotonic()

    def mark(self, object: str) -> Mark:
        """Where the object stands."""
        found = self.store.watermark(self._name(object))
        if found is None:
            return Mark()
        hi = found.value.get("hi")
        return Mark(
            found.token, found.value["sequence"], datetime.fromisoformat(hi) if hi else None, found.value["feed"]
        )

    def adopt(self, object: str) -> list[ExtractRef]:
        """Move the watermark over extracts that were committed by a process that did not live to move it."""
        mark, adopted = self.mark(object), []
        for ref in self.landing.extracts(self.source.name, object, after=mark.sequence):
            if ref.sequence != mark.sequence + 1:
                continue  # a second commit of a sequence already taken: its records are in the other one too
            log.info("source=%s object=%s adopted=%s", self.source.name, object, ref.extract_id)
            self._move(object, mark, ref.sequence, ref.window_hi, ref.facts["feed"])
            mark = self.mark(object)
            adopted.append(ref)
        return adopted

    def extract(
        self,
        object: str,
        lo: datetime | None,
        hi: datetime | None,
        fill: Callable[[Pages], Filled],
        *,
        identity: Iterable[str] = (),
    ) -> ExtractRef:
        """Land one extract and move the watermark. Whatever `fill` raises leaves no extract behind."""
        mark = self.mark(object)
        sequence = mark.sequence + 1
        self.landing.sweep(self.source.name, object, after=mark.sequence)
        writer = self.landing.open(
            self.source.name,
            object,
            window_lo=lo,
            window_hi=hi,
            extract_id=extract_id(sequence, hi, *identity),
            sequence=sequence,
        )
        drift = Drift(self.contract.object(object))
        filled = fill(Pages(writer, drift, self.beat))
        noted = drift.verdict(f"{self.source.name}/{object}", window_text(lo, hi))
        ref = writer.commit(filled.control, feed=dict(filled.feed), drift=noted, **filled.facts)
        self._move(object, mark, sequence, hi, filled.feed)
        log.info(
            "source=%s object=%s extract=%s records=%d faults=%d proven=%s",
            self.source.name, object, ref.extract_id, ref.records, ref.faults, ref.control.proven,
        )  # fmt: skip
        return ref

    def pass_over(self, object: str, hi: datetime, feed: Mapping[str, Any]) -> None:
        """Move the watermark where the feed proves that nothing changed."""
        mark = self.mark(object)
        self._move(object, mark, mark.sequence, hi, feed)

    def beat(self) -> None:
        """Keep the lease alive. Raises LeaseLost if another process has taken the source over."""
        if time.monotonic() - self._beaten > LEASE.total_seconds() / 5:
            self._lease, self._beaten = self.store.renew(self._lease, LEASE), time.monotonic()

    def _move(self, object: str, mark: Mark, sequence: int, hi: datetime | None, feed: Mapping[str, Any]) -> None:
        value = {"sequence": sequence, "hi": hi.isoformat() if hi else None, "feed": dict(feed)}
        self.store.set_watermark(self._name(object), value, mark.token)

    def _name(self, object: str) -> str:
        return _watermark_name(self.source.name, object)


def read_end(source: str, object: str, store: Store) -> datetime | None:
    """Up to when an object has been read, extracts without changes included; None if it never was."""
    mark = store.watermark(_watermark_name(source, object))
    return datetime.fromisoformat(mark.value["hi"]) if mark and mark.value.get("hi") else None


def last_extract(source: str, object: str, store: Store, landing: Landing) -> ExtractRef | None:
    """The newest extract of an object; None before the first."""
    mark = store.watermark(_watermark_name(source, object))
    if mark is None:
        return None
    found = landing.extracts(source, object, after=int(mark.value["sequence"]) - 1)
    return found[0] if found else None


def _watermark_name(source: str, object: str) -> str:
    return f"source/{source}/{object}"


def window_end(now: datetime, lag: timedelta, until: datetime | None) -> datetime:
    """The end of a window by the vendor's clock: behind it by the safety lag, at most `until`, whole seconds."""
    hi = (now - lag).astimezone(UTC).replace(microsecond=0)
    return min(hi, until.astimezone(UTC).replace(microsecond=0)) if until else hi


def window_text(lo: datetime | None, hi: datetime | None) -> str:
    """A window as errors and logs name it."""
    return f"{lo.isoformat() if lo else 'the beginning'} to {hi.isoformat() if hi else 'now'}"
