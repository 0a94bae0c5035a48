"""Every model of the store in one place: importing this fills `Base.metadata`, which migrations are made from."""

from __future__ import annotations

from tieout.store import (
    approvals,
    audit,
    batches,
    breaks,
    configuration,
    copies,
    golive,
    late_events,
    leases,
    links,
    periods,
    quarantine,
    runs,
    write_offs,
)
from tieout.store.base import Base

__all__ = [
    "Base",
    "approvals",
    "audit",
    "batches",
    "breaks",
    "configuration",
    "copies",
    "golive",
    "late_events",
    "leases",
    "links",
    "periods",
    "quarantine",
    "runs",
    "write_offs",
]
