"""Write-offs: the journal of a break that two people agreed to write off, planned as a batch of its own.

It goes through the posting rules like every event, waits for the approval of somebody who took no part in it, and is
posted and read back by the protocol; `tieout.store.write_offs` moves the break when it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pyarrow as pa

from tieout import schema
from tieout.entities import LegalEntity
from tieout.erp.charts import Charts
from tieout.errors import LedgerError
from tieout.ids import Slot
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.ledger.events import rated
from tieout.ledger.placement import PeriodOpen, Placement, placement
from tieout.ledger.plan import journal_to_send, planning, shapes_of, write_journals
from tieout.ledger.rules import Rules
from tieout.ledger.summarise import Journals, summarise
from tieout.settings import Settings
from tieout.store import Store, batches, leases, links, runs, write_offs
from tieout.store.batches import Batch
from tieout.store.write_offs import Accepted


def plan_write_off(
    what: Accepted,
    entity: LegalEntity,
    *,
    lake: Lake,
    store: Store,
    rules: Rules,
    run_id: str,
    settings: Settings | None = None,
    period_open: PeriodOpen | Mapping[str, PeriodOpen] | None = None,
    dimensions: Iterable[str] | Mapping[str, Iterable[str]] = (),
    charts: Charts | None = None,
    actor: str = "tieout",
) -> Batch:
    """Plan the journal of an accepted write-off: a batch that waits for approval.

    It is dated on the day the second person agreed, or the first open day after it where that period is closed.
    `period_open`, `dimensions` and `charts` are as in `plan_batches`. Raises LedgerError where an account or an
    exchange rate is missing, or the write-off was taken back or planned meanwhile; then nothing is stored.
    """
    with planning(store, entity) as lease:
        placed = placement(entity, store, period_open)(max(what.approved_on, entity.go_live))
        on = placed.on
        slot_stream = f"{batches.WRITE_OFF}-{what.break_id[:8]}"
        journals = _journals(what, entity, placed, on, slot_stream, lake, store, rules, settings)
        header = journals.headers.to_pylist()[0]
        slot = Slot.parse(header["slot"])
        versions = write_journals(
            lake,
            {
                "journals": journals.headers,
                "journal_lines": journals.lines,
                "journal_drilldown": journals.drilldown,
            },
        )
        shape = shapes_of(entity, dimensions, charts or Charts())[slot.ledger]
        now = store.now()
        with store.transaction() as session:
            leases.guard(session, lease)
            batch = batches.plan(
                session,
                slot,
                header["version"],
                [journal_to_send(header, journals.lines.to_pylist(), shape)],
                digest=journals.batch_hashes()[header["slot"], header["version"]],
                accounting_date=on,
                kind=batches.WRITE_OFF,
                origin=what.break_id,
                needs_approval=True,
                run_id=run_id,
                actor=actor,
                now=now,
                facts={"rules": rules.digest, "break": what.break_id},
            )
            write_offs.carry(session, what, batch.batch_id)
            links.link(session, batch.batch_id, links.WRITES_OFF, [what.break_id])
            for state in ("validated", "awaiting_approval"):
                batch = batches.transition(session, batch.batch_id, state, actor=actor, now=now)
            runs.publish(session, run_id, versions, {"step": "write_off", "entity": entity.id}, now)
    return batch


def _journals(
    what: Accepted, entity: LegalEntity, placed: Placement, on: date, stream: str, lake: Lake, store: Store,
    rules: Rules, settings: Settings | None,
) -> Journals:  # fmt: skip
    """The one journal of a write-off, through the posting rules."""

    def place(day: date) -> Placement:
        return Placement(placed.ledger, placed.period, day, placed.ledger, placed.period)

    def version(slot: str) -> int:
        with store.reading() as session:
            return batches.next_version(session, Slot.parse(slot))

    with engine(settings) as session:
        lake.bind(session, store.published(), ["fx_rate"])
        made = summarise(
            rated(session, entity, _event(what, entity, on)),
            rules.of_write_off(what.role, stream),
            placement=place,
            version=version,
            session=session,
        )
    if made.headers.num_rows != 1:
        raise LedgerError(
            "the write-off cannot be posted yet",
            record=what.break_id,
            got=", ".join(sorted(set(made.held["reason"].to_pylist()))),
            remedy="the next night plans it once that is mended",
        )
    return Journals(_marked(made.headers, what.break_id, rules), made.lines, made.drilldown, made.held)


def _event(what: Accepted, entity: LegalEntity, on: date) -> dict[str, Any]:
    """The accounting event: a loss where the named account is credited, a gain where it is debited."""
    name = f"write_off:{what.break_id}:{what.number}"
    return {
        "event_id": name,
        "event_type": "write_off" if what.side == "credit" else "write_off_gain",
        "legal_entity_id": entity.id,
        "document_id": name,
        "document_number": what.break_key,
        "event_date": on,
        "currency": what.currency,
        "gross": what.amount,
        "source": what.definition_id,
        "source_id": what.break_id,
        "correlation_id": what.break_id,
        "raw_ref": f"breaks/{what.definition_id}#{what.break_id}",
    }


def _marked(headers: pa.Table, break_id: str, rules: Rules) -> pa.Table:
    shape = schema.table("journals").arrow
    return pa.Table.from_pylist(
        [row | {"kind": batches.WRITE_OFF, "origin": break_id, "rules": rules.digest} for row in headers.to_pylist()],
        schema=shape,
    )
