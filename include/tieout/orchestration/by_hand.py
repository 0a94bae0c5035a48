"""What people decide about journals that do not go through by themselves: read again, reverse, resolve."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from tieout.ids import Slot
from tieout.orchestration.work import Work


def recheck(work: Work, batch_id: str, actor: str) -> str:
    """Read a mismatched batch again after it was corrected in the ERP, or ask again for an unknown one; its state."""
    from tieout.ledger import ask_again, recheck_mismatched
    from tieout.orchestration.posting import protocol
    from tieout.store import batches

    with work.store.reading() as session:
        unknown = batches.state_of(session, batch_id) == "unknown"
    with work.ledger(Slot.of(batch_id).ledger) as ledger:
        if unknown:
            return ask_again(batch_id, ledger, work.store, protocol=protocol(work, batch_id), actor=actor)
        return recheck_mismatched(batch_id, ledger, work.store, protocol=protocol(work, batch_id), actor=actor)


def reverse(
    work: Work, batch_id: str, *, on: date, actor: str, second: str, reason: str, counting: Collection[str] = ()
) -> str:
    """Take a posted or mismatched batch out of the ledger by mirrors dated `on`; its state.

    `counting`: the ERP's ids of the mirrors that count, where it holds one several times. Raises LedgerError for a
    second person who prepared the batch or is not among its entity's approvers.
    """
    from tieout.calendar import period_of
    from tieout.ledger import reverse
    from tieout.orchestration.approval import may_approve
    from tieout.orchestration.posting import protocol

    slot = Slot.of(batch_id)
    with work.ledger(slot.ledger) as ledger:
        return reverse(
            batch_id, ledger, work.store, on=on, actor=actor, second=second, reason=reason,
            period=period_of(work.entities[slot.legal_entity_id], on).name, may_approve=may_approve(work, batch_id),
            counting=counting, protocol=protocol(work, batch_id),
        )  # fmt: skip


def resolve(
    work: Work, batch_id: str, *, actor: str, reason: str, second: str | None, documents: Mapping[str, str] | None
) -> str:
    """End a refused or lost batch: by an equal document in the ERP, or by two people as not to be posted; its state."""
    from tieout.ledger import resolve
    from tieout.orchestration.approval import may_approve
    from tieout.orchestration.posting import protocol

    with work.ledger(Slot.of(batch_id).ledger) as ledger:
        return resolve(
            batch_id, ledger, work.store, actor=actor, reason=reason, second=second, documents=documents,
            lake=work.lake, settings=work.settings, may_approve=may_approve(work, batch_id),
            protocol=protocol(work, batch_id),
        )  # fmt: skip
