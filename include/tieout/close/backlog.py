"""The close backlog: everything unfinished between a period and its close, with owner, age, value and next action."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
from sqlalchemy import select

from tieout import schema
from tieout.calendar import Period
from tieout.entities import LegalEntity
from tieout.lake.tables import Lake
from tieout.ledger import TrialBalanceProof
from tieout.store import Store, batches, runs
from tieout.store.breaks import CLOSED, BreakRow

_JOURNAL_ACTIONS = {
    "planned": "validate it: the planning run did not finish",
    "validated": "nothing: it is posted by the next attempt",
    "awaiting_approval": "approve or reject it",
    "approved": "nothing: it is posted by the next attempt",
    "submitted": "nothing: the next attempt looks it up in the ERP",
    "unknown": "nothing yet: the next attempt looks it up; resolve it by hand if the ERP stays silent",
    "confirmed": "nothing: it is read back by the next attempt",
    "partially_posted": "remove the reason for the refused part; the next attempt sends only that",
    "mismatched": "compare the ERP's journal with ours, then correct or reverse it",
    "rejected": "remove the ERP's reason; the next run plans a new version",
}


@dataclass(frozen=True, slots=True)
class StaleSource:
    """A source that has not been read past the period's end; `until` is how far it was."""

    source: str
    until: date | None


def backlog(
    entity: LegalEntity,
    period: Period,
    *,
    today: date,
    lake: Lake,
    store: Store,
    snapshot: Mapping[str, int],
    proof: TrialBalanceProof | None = None,
    stale: Iterable[StaleSource] = (),
) -> pa.Table:
    """The entity's backlog of a period as the result table `close_backlog`, the largest items of a kind first.

    `snapshot` says which version of `journal_held` to read; `proof` adds the accounts that do not tie out, and its
    absence is an item of its own: an unproven ledger is not a proven one.
    """
    items = [
        *_journals(entity, period, store),
        *_held(entity, period, lake, snapshot),
        *_breaks(entity, period, store),
        *_quarantine(entity, store, period),
        *_proof(entity, period, proof),
        *(
            _item("source", s.source, "stale", "integration", s.until or period.start, "find out why it is behind")
            for s in stale
        ),
    ]
    rows = [
        item | {"legal_entity_id": entity.id, "period": period.name, "age_days": max(0, (today - item["since"]).days)}
        for item in items
    ]
    rows.sort(key=lambda r: (r["kind"], -(r["amount"] or Decimal(0)), r["item"]))
    return pa.Table.from_pylist(rows, schema=schema.table("close_backlog").arrow)


def write(table: pa.Table, entity: LegalEntity, period: Period, *, lake: Lake, store: Store, run_id: str) -> int:
    """Replace the entity's backlog of the period in the lake and publish it; gives the table's version."""
    where = f"legal_entity_id = '{entity.id}' AND period = '{period.name}'"
    version = lake.write("close_backlog", table, where=where)
    with store.transaction() as session:
        runs.publish(session, run_id, {"close_backlog": version}, {"step": "close_backlog"}, store.now())
    return version


def _item(
    kind: str,
    name: str,
    state: str,
    owner: str,
    since: date,
    action: str,
    amount: Decimal | None = None,
    currency: str | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "item": name,
        "state": state,
        "owner": owner,
        "since": since,
        "next_action": action,
        "amount": amount,
        "currency": currency,
    }


def _journals(entity: LegalEntity, period: Period, store: Store) -> list[dict[str, Any]]:
    with store.reading() as session:
        found = batches.select_batches(session, entity=entity.id, period=period.name)
    newest: dict[object, int] = {}
    for batch in found:
        newest[batch.slot] = max(batch.version, newest.get(batch.slot, 0))
    items = []
    for batch in found:
        superseded = batch.state == "rejected" and batch.version < newest[batch.slot]
        if batch.state in batches.FINISHED or superseded:
            continue
        for currency, gross in sorted(batch.gross.items()):
            action = _JOURNAL_ACTIONS[batch.state] + (f" ({batch.reason})" if batch.reason else "")
            owner = batch.owner or ("controller" if batch.state == "awaiting_approval" else "finance")
            name = batch.batch_id if len(batch.gross) == 1 else f"{batch.batch_id} {currency}"
            items.append(_item("journal", name, batch.state, owner, batch.accounting_date, action, gross, currency))
    return items


def _held(entity: LegalEntity, period: Period, lake: Lake, snapshot: Mapping[str, int]) -> list[dict[str, Any]]:
    if snapshot.get("journal_held") is None:
        return []
    grouped: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in lake.read("journal_held", snapshot["journal_held"]).to_pylist():
        if row["legal_entity_id"] != entity.id or row["event_date"] > period.end:
            continue
        name = row["document_number"] or row["event_id"]
        key = (name, row["event_type"], row["currency"])
        if key in grouped:
            grouped[key]["amount"] += abs(row["amount"])
            grouped[key]["since"] = min(grouped[key]["since"], row["event_date"])
            continue
        grouped[key] = _item(
            "held event",
            f"{name} {row['event_type'].replace('_', ' ')}",
            "held",
            "integration",
            row["event_date"],
            f"{row['reason']}: complete the mapping or correct the source",
            abs(row["amount"]),
            row["currency"],
        )
    return list(grouped.values())


def _breaks(entity: LegalEntity, period: Period, store: Store) -> list[dict[str, Any]]:
    query = select(BreakRow).where(
        BreakRow.legal_entity_id.in_((entity.id, "")), BreakRow.state.not_in((*CLOSED, "known_difference"))
    )
    with store.reading() as session:
        found = list(session.scalars(query.order_by(BreakRow.break_id)))
    return [
        _item(
            "break",
            f"{b.definition_id}|{b.break_key}|{b.ordinal}",
            b.state,
            b.owner,
            b.economic_date or b.first_seen,
            b.sentence,
            b.value,
            b.currency,
        )
        for b in found
        if (b.economic_date or b.first_seen) <= period.end
    ]


def _quarantine(entity: LegalEntity, store: Store, period: Period) -> list[dict[str, Any]]:
    return [
        _item(
            "quarantine",
            q.raw_ref,
            "open",
            "integration",
            period.start,
            f"{q.reason}: correct it at the source, or map it, then replay",
            None if q.amount is None else abs(q.amount),
            q.currency,
        )
        for q in store.quarantined()
        if q.legal_entity_id in (entity.id, None)
    ]


def _proof(entity: LegalEntity, period: Period, proof: TrialBalanceProof | None) -> list[dict[str, Any]]:
    if proof is None:
        action = "read the ERP's trial balance and prove the ledger"
        return [_item("proof", "trial balance", "unproven", "finance", period.end, action)]
    return [
        _item(
            "proof",
            f"account {line.account}",
            "does not tie out",
            "finance",
            proof.on,
            f"the ERP holds {line.ledger}, opening + ours + foreign entries make {line.expected}",
            abs(line.difference),
            line.currency,
        )
        for line in proof.lines
        if line.difference
    ]
