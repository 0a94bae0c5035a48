"""Reversals by hand: planned here, approved and posted as every batch is; and what a batch is linked with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from tieout.ids import Slot
from tieout.orchestration.work import Work
from tieout.store import batches, links

if TYPE_CHECKING:
    from tieout.ledger import Part
    from tieout.store.batches import Batch


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a batch or slot: from which batch, of which kind, to what, and the batch's state where it is one."""

    batch_id: str
    kind: str
    target: str
    state: str | None


def plan(work: Work, batch_id: str, *, on: date, part: Part, actor: str, reason: str, keep_out_by: str | None) -> Batch:
    """Plan a reversal; it waits for approval. Raises LedgerError as `plan_reversal` does."""
    from tieout.ledger import plan_reversal

    slot = Slot.of(batch_id)
    run_id = f"reversal.{batch_id}.{on}.{actor}"  # whoever asks again does not take the place of who asked first
    work.store.start_run(run_id, "reversal", on, {"batch_id": batch_id, "asked_by": actor})
    made = plan_reversal(
        batch_id, work.entities[slot.legal_entity_id].of_ledger(slot.ledger), on=on, lake=work.lake, store=work.store,
        run_id=run_id, actor=actor, reason=reason, part=part, keep_out_by=keep_out_by, settings=work.settings,
    )  # fmt: skip
    work.store.finish_run(run_id, "success")
    return made


def links_of(work: Work, name: str) -> list[Link]:
    """Every link of a batch or slot, from whichever end."""
    found = []
    with work.store.reading() as session:
        for batch_id, kind, target in links.links_of(session, name):
            row = session.get(batches.BatchRow, batch_id)
            found.append(Link(batch_id, kind, target, row.state if row else None))
    return found
