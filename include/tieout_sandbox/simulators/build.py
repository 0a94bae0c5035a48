"""Render a company into a document store, once; the simulators then serve it by index."""

from __future__ import annotations

from pathlib import Path

from tieout_sandbox.company.model import Company
from tieout_sandbox.simulators.documents import DocumentStore
from tieout_sandbox.simulators.instants import utc_midnight
from tieout_sandbox.simulators.salesforce.render import render as salesforce
from tieout_sandbox.simulators.stripe.render import render as stripe
from tieout_sandbox.simulators.zendesk.render import render as zendesk


def build(company: Company, path: Path) -> dict[str, int]:
    """Write `path`, complete or not at all; returns documents per vendor. The clock starts at go-live."""
    partial = path.with_name(f"{path.name}.building")
    path.parent.mkdir(parents=True, exist_ok=True)
    store = DocumentStore.create(partial)
    written = {
        "stripe": store.add(stripe(company)),
        "salesforce": store.add(salesforce(company)),
        "zendesk": store.add(zendesk(company)),
    }
    store.seal()
    store.set_meta("accounts", [e.stripe_account for e in company.entities])
    store.set_meta("company", {"seed": company.seed, "scale": company.scale, "clean": company.clean})
    store.set_meta("now", utc_midnight(company.go_live))
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    for leftover in (Path(f"{partial}-wal"), Path(f"{partial}-shm")):
        leftover.unlink(missing_ok=True)
    partial.replace(path)
    return written
