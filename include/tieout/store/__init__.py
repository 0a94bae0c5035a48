"""What Tieout remembers: runs, published versions, watermarks, leases, batches, quarantine index, audit chains.

`Store` is the face for other packages. Where a change must be one transaction with others, open
`store.transaction()` and call the functions of `tieout.store.runs`, `.batches`, `.audit` … with its session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from tieout.store import audit as _audit
from tieout.store import leases as _leases
from tieout.store import models as _models
from tieout.store import quarantine as _quarantine
from tieout.store import runs as _runs
from tieout.store.audit import Anchor, AuditEntry, Problem
from tieout.store.database import Database
from tieout.store.leases import Lease
from tieout.store.owner import this_process
from tieout.store.quarantine import QuarantineItem
from tieout.store.runs import Run, Watermark

__all__ = ["Anchor", "AuditEntry", "Lease", "Problem", "QuarantineItem", "Run", "Store", "Watermark", "utc_now"]

_ = _models  # every table is known to SQLAlchemy as soon as a store is used


def utc_now() -> datetime:
    """The clock of a store unless it is given another one."""
    return datetime.now(UTC)


class Store:
    """The store at a SQLAlchemy URL (`sqlite:///file` or `postgresql://…`); safe for many processes at once.

    `clock` gives the present instant; tests and the sandbox hand in their own.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.url = url
        self.now = clock
        self._database = Database(url)

    def upgrade(self) -> None:
        """Create or migrate the tables. Only `tieout store upgrade` and tests call it."""
        self._database.upgrade()

    def ready(self) -> bool:
        """Whether `upgrade` has been run on this store."""
        return self._database.ready()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A write transaction: committed at the end of the block, rolled back if it raises."""
        with self._database.writing() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read-only view of one moment."""
        with self._database.reading() as session:
            yield session

    # --- runs and what they published ---------------------------------------------------------------

    def start_run(
        self,
        run_id: str,
        kind: str,
        business_date: date | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a run starts; from here on `published(run_id)` is a fixed view plus its own publications."""
        with self.transaction() as session:
            _runs.start_run(session, run_id, kind, business_date, params or {}, self.now())

    def finish_run(self, run_id: str, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record how a run ended, with facts to keep. Raises StoreError for an unknown run."""
        with self.transaction() as session:
            _runs.finish_run(session, run_id, state, facts or {}, self.now())

    def add_facts(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Merge facts (decimals and dates become text, floats raise TypeError) into a run."""
        with self.transaction() as session:
            _runs.add_facts(session, run_id, facts)

    def facts(self, run_id: str) -> dict[str, Any]:
        """The facts of a run; empty for one that is not known."""
        found = self.run(run_id)
        return dict(found.facts) if found else {}

    def run(self, run_id: str) -> Run | None:
        """A run by id."""
        with self.reading() as session:
            return _runs.run(session, run_id)

    def runs(self, kind: str | None = None, business_date: date | None = None) -> list[Run]:
        """Runs in the order they started."""
        with self.reading() as session:
            return _runs.runs(session, kind, business_date)

    def publish(self, run_id: str, versions: Mapping[str, int], meta: Mapping[str, Any] | None = None) -> int:
        """Make table versions visible together; gives the publication's number."""
        with self.transaction() as session:
            return _runs.publish(session, run_id, versions, meta or {}, self.now())

    def published(self, run_id: str | None = None) -> dict[str, int]:
        """Newest version of each table; with `run_id`, as that run saw it."""
        with self.reading() as session:
            return _runs.published(session, run_id)

    def published_since(self, run_id: str, meta: Mapping[str, Any]) -> list[str]:
        """Other runs that published something with these facts after a run began."""
        with self.reading() as session:
            return _runs.published_since(session, run_id, meta)

    # --- watermarks and leases ----------------------------------------------------------------------

    def watermark(self, name: str) -> Watermark | None:
        """A watermark, or None before its first value (then its expected token is 0)."""
        with self.reading() as session:
            return _runs.watermark(session, name)

    def set_watermark(self, name: str, value: Mapping[str, Any], expected: int) -> int:
        """Compare-and-set on the token; gives the new token. Raises StaleWatermark."""
        with self.transaction() as session:
            return _runs.set_watermark(session, name, value, expected, self.now())

    @contextmanager
    def lease(self, name: str, owner: str | None = None, ttl: timedelta = timedelta(minutes=5)) -> Iterator[Lease]:
        """Hold a lease for the block. Raises LeaseHeld while a living owner has it.

        Without `owner` it is this process, whose death other processes on the machine notice at once.
        """
        held = self.acquire(name, owner, ttl)
        try:
            yield held
        finally:
            self.release(held)

    def acquire(self, name: str, owner: str | None = None, ttl: timedelta = timedelta(minutes=5)) -> Lease:
        """Take a lease without a block; give it back with `release`."""
        with self.transaction() as session:
            return _leases.acquire(session, name, owner or this_process(), ttl, self.now())

    def renew(self, lease: Lease, ttl: timedelta = timedelta(minutes=5)) -> Lease:
        """Hold a lease longer. Raises LeaseLost."""
        with self.transaction() as session:
            return _leases.renew(session, lease, ttl, self.now())

    def hold(self, lease: Lease, ttl: timedelta) -> None:
        """Make sure that a lease holds for at least half of `ttl`; writes only where it does not. Raises LeaseLost.

        What is asked before every single write to an ERP must not cost a write of the store.
        """
        with self.reading() as session:
            left = _leases.time_left(session, lease, self.now())
        if left < ttl / 2:
            self.renew(lease, ttl)

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        with self.transaction() as session:
            _leases.release(session, lease, self.now())

    def lease_is_free(self, name: str) -> bool:
        """Whether a lease could be taken now."""
        with self.reading() as session:
            return _leases.is_free(session, name, self.now())

    # --- audit --------------------------------------------------------------------------------------

    def audit(self, chain: str, action: str, actor: str, payload: Mapping[str, Any], subject: str = "") -> int:
        """Append one act to a chain; gives its sequence. Amounts as Decimal (kept as text), never float."""
        with self.transaction() as session:
            return _audit.append(session, chain, action, actor, payload, self.now(), subject)

    def audit_entries(self, chain: str | None = None, subject: str | None = None) -> list[AuditEntry]:
        """Audited acts of a chain or about a subject, in order."""
        with self.reading() as session:
            return _audit.entries(session, chain, subject)

    def audit_chains(self) -> list[str]:
        """The names of every chain."""
        with self.reading() as session:
            return _audit.chains(session)

    def anchor(self, chain: str) -> Anchor:
        """The chain's end now, to be kept outside the store (`tieout.store.audit.write_anchors`)."""
        with self.reading() as session:
            return _audit.anchor(session, chain, self.now())

    def verify_audit(self, chain: str, anchors: Iterable[Anchor] = ()) -> list[Problem]:
        """Everything wrong with a chain; empty if it verifies."""
        with self.reading() as session:
            return _audit.verify(session, chain, anchors)

    # --- quarantine index ---------------------------------------------------------------------------

    def quarantine(self, run_id: str, items: Iterable[QuarantineItem]) -> int:
        """Record rejected rows by their raw reference; gives how many were not known before."""
        with self.transaction() as session:
            return _quarantine.add(session, run_id, items, self.now())

    def settle_quarantine(self, run_id: str, raw_refs: Iterable[str], state: str = "replayed") -> int:
        """Mark open rows as replayed or dismissed; gives how many."""
        with self.transaction() as session:
            return _quarantine.settle(session, run_id, raw_refs, state)

    def quarantined(self, source: str | None = None, state: str = "open") -> list[QuarantineItem]:
        """Rows in quarantine."""
        with self.reading() as session:
            return _quarantine.items(session, source, state)
