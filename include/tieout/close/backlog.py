"""The close backlog: everything unfinished between a period and its close, with owner, age, value and next action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from sqlalchemy import select

from tieout import schema
from tieout.calendar import Period
from tieout.entities import LegalEntity
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.ledger import TrialBalanceProof
from tieout.ledger.golive import accrual_of_others
from tieout.money import format_money
from tieout.store import Store, batches, golive, late_events, periods, runs
from tieout.store.breaks import CLOSED, BreakRow
from tieout.store.quarantine import QuarantineRow
from tieout.store.runs import RunRow

_INTEGRATION, _LEDGER, _CONTROLLER = "integration engineering", "general ledger", "controller"
_BILLING = "billing operations"
"""Owners, named as the reconciliations name theirs."""

_JOURNAL_ACTIONS = {
    "planned": "validate it: the planning run did not finish",
    "validated": "nothing: it is posted by the next attempt",
    "awaiting_approval": "approve or reject it",
    "approved": "nothing: it is posted by the next attempt",
    "submitted": "nothing: the next attempt looks it up in the ERP",
    "unknown": "nothing yet: the next status check looks it up, the last one hands it to a person",
    "confirmed": "nothing: it is read back by the next attempt",
    "partially_posted": "remove the reason for the refused part; the next attempt sends only that",
    "mismatched": "compare the ERP's journal with ours, then correct or reverse it",
    "reversing": "`tieout posting reverse` it again, on the same date; what stands in the way is its reason",
    "rejected": "remove the ERP's reason; the next run plans a new version",
}


@dataclass(frozen=True, slots=True)
class StaleSource:
    """A source that has not been read past the period's end; `until` is how far it was."""

    source: str
    until: date | None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Something read of a source that the vendor's own total contradicts; `told` says both figures."""

    source: str
    told: str


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
    contradicted: Iterable[Contradiction] = (),
    erp_periods: Mapping[str, str] = MappingProxyType({}),
    shared: bool = True,
) -> pa.Table:
    """The entity's backlog of a period as the result table `close_backlog`, the largest items of a kind first.

    `snapshot` says which versions of `journal_held` and `breaks` to read; `proof` adds the accounts that do not tie
    out, and its absence is an item of its own: an unproven ledger is not a proven one. `stale` and
    `contradicted` say what was not read, or not whole. `erp_periods` is the ERP's
    state of the period by ledger, as last read; one that differs from ours is an item. Only with `shared` it lists what
    belongs to no entity; who asks for several entities sets it for one of them.
    """
    own = (entity.id, "", None) if shared else (entity.id,)
    items = [
        *_journals(entity, period, store),
        *_held(entity, period, lake, snapshot),
        *_late(entity, period, store),
        *_periods(entity, period, store, erp_periods),
        *_golive(entity, period, store),
        *_accrual_of_others(entity, period, store, proof),
        *_breaks(own, period, store, _next_actions(lake, snapshot, today)),
        *_watched(own, lake, snapshot, today),
        *_quarantine(own, period, store, today),
        *_usage(own, period, lake, snapshot),
        *_proof(entity, period, proof),
        *(
            _item(
                "source",
                s.source,
                "stale",
                _INTEGRATION,
                s.until or period.start,
                "it was never read" if s.until is None else f"it is read up to {s.until}",
                "find out why it is behind",
            )
            for s in stale
        ),
        *(
            _item("source", c.source, "contradicted", _INTEGRATION, period.end, c.told, "read it again, or explain it")
            for c in contradicted
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
    what: str | None,
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
        "what": what,
        "next_action": action,
        "amount": amount,
        "currency": currency,
    }


def _journals(entity: LegalEntity, period: Period, store: Store) -> list[dict[str, Any]]:
    with store.reading() as session:
        found = batches.concerning_period(session, entity.id, period.name)
    newest: dict[object, int] = {}
    for batch in found:
        newest[batch.slot] = max(batch.version, newest.get(batch.slot, 0))
    items = []
    for batch in found:
        superseded = batch.state == "rejected" and batch.version < newest[batch.slot]
        if batch.state in batches.FINISHED or superseded:
            continue
        for currency, gross in sorted(batch.gross.items()):
            action = _journal_action(batch)
            owner = batch.owner or (_CONTROLLER if batch.state == "awaiting_approval" else _LEDGER)
            name = batch.batch_id if len(batch.gross) == 1 else f"{batch.batch_id} {currency}"
            since, reason = batch.accounting_date, batch.reason or None
            items.append(_item("journal", name, batch.state, owner, since, reason, action, gross, currency))
    return items


def _journal_action(batch: batches.Batch) -> str:
    if batch.state == "unknown" and batch.owner is not None:
        return "look it up in the ERP; `tieout posting recheck` asks again, `tieout posting resolve` ends it"
    if batch.halts and batch.state != "reversing":
        return _JOURNAL_ACTIONS["mismatched"]
    return _JOURNAL_ACTIONS[batch.state]


def _held(entity: LegalEntity, period: Period, lake: Lake, snapshot: Mapping[str, int]) -> list[dict[str, Any]]:
    if snapshot.get("journal_held") is None:
        return []
    grouped: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in lake.read("journal_held", snapshot["journal_held"]).to_pylist():
        if row["legal_entity_id"] != entity.id or row["event_date"] > period.end:
            continue
        if row["state"] in ("late", "not_to_be_posted"):
            continue  # a late event is an item of its own, what two people decided is none
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
            _INTEGRATION,
            row["event_date"],
            row["reason"],
            "complete the mapping or correct the source; the next run posts it",
            abs(row["amount"]),
            row["currency"],
        )
    return list(grouped.values())


def _late(entity: LegalEntity, period: Period, store: Store) -> list[dict[str, Any]]:
    """Late events that wait for a decision, of this period and of earlier ones."""
    with store.reading() as session:
        found = late_events.late_events(session, entity.id)
    return [
        _item(
            "late event",
            event.unit,
            event.state,
            _CONTROLLER,
            event.event_date,
            f"{event.document_number or event.event_type.replace('_', ' ')}: {event.reason}",
            "decide: tieout late release, reopen or drop",
            event.gross,
            event.currency,
        )
        for event in found
        if event.event_date <= period.end
    ]


def _periods(
    entity: LegalEntity, period: Period, store: Store, erp_periods: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Ledgers in which our state of the period and the ERP's do not agree."""
    for ledger, there in sorted(erp_periods.items()):
        with store.reading() as session:
            ours = periods.period_state(session, entity.id, ledger, period.name)
        if (ours == "closed") != (there != "open"):
            what = f"Tieout says {ours.replace('_', '-')}, the ERP {there}"
            action = "move the one that is behind, see tieout period status"
            yield _item("period", f"{ledger} {period.name}", "differs", _LEDGER, period.end, what, action)


def _golive(entity: LegalEntity, period: Period, store: Store) -> Iterator[dict[str, Any]]:
    """Ledgers taken over by the period's end whose opening position nobody signed."""
    for ledger in dict.fromkeys((entity.ledger, *(one.ledger for one in entity.in_force))):
        with store.reading() as session:
            unsigned = golive.is_unsigned(session, entity.id, ledger, golive.WHOLE)
        since = entity.of_ledger(ledger).taken_over_on
        if unsigned and since <= period.end:
            what, action = "the opening position is not signed", "look at it and sign it: tieout golive show"
            yield _item("go-live", ledger, "unsigned", _CONTROLLER, since, what, action)


def _accrual_of_others(
    entity: LegalEntity, period: Period, store: Store, proof: TrialBalanceProof | None
) -> Iterator[dict[str, Any]]:
    """The accrual a ledger was taken over with, until entries by others have taken it back."""
    tie = accrual_of_others(store, entity)
    since = entity.taken_over_on
    if tie is None or proof is None or since > period.end:
        return
    names = (tie.account, f"{entity.ledger} {tie.account}")  # a proof of several ledgers names the ledger too
    left = sum((x.opening + x.foreign for x in proof.lines if x.account in names), Decimal(0))
    if left:
        what = (
            f"account {tie.account} was taken over with an accrual that nobody took back: Tieout reverses its own only"
        )
        action = f"have whoever accrued it reverse it in the ERP, dated {since}; it counts as an entry by others"
        yield _item("go-live", tie.account, "not reversed", _LEDGER, since, what, action, abs(left), tie.currency)


def _next_actions(lake: Lake, snapshot: Mapping[str, int], today: date) -> dict[tuple[Any, ...], str]:
    """The next action of every break as it was last found, by definition, entity, key and ordinal."""
    with engine() as session:
        lake.bind(session, snapshot, ["breaks"])
        found = session.rows(
            "SELECT definition_id, legal_entity_id, break_key, ordinal, arg_max(next_action, business_date) "
            "FROM breaks WHERE business_date <= $today GROUP BY ALL",
            {"today": today},
        )
    return {(definition, entity, key, ordinal): action for definition, entity, key, ordinal, action in found}


def _breaks(
    own: tuple[str | None, ...], period: Period, store: Store, actions: Mapping[tuple[Any, ...], str]
) -> list[dict[str, Any]]:
    entities = [e for e in own if e is not None]
    query = select(BreakRow).where(
        BreakRow.legal_entity_id.in_(entities), BreakRow.state.not_in((*CLOSED, "known_difference", "written_off"))
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
            actions.get((b.definition_id, b.legal_entity_id, b.break_key, b.ordinal), "look at both records"),
            b.value,
            b.currency,
        )
        for b in found
        if (b.economic_date or b.first_seen) <= period.end
    ]


def _watched(
    own: tuple[str | None, ...], lake: Lake, snapshot: Mapping[str, int], today: date
) -> Iterator[dict[str, Any]]:
    """Reconciliations whose immaterial breaks add up to more than they may, aged from the day they first did."""
    query = """
      WITH seen AS (SELECT * FROM breaks_forward WHERE business_date <= $today AND legal_entity_id IN $own), calm AS (
        SELECT definition_id, legal_entity_id, currency, max(business_date) AS until
        FROM seen WHERE NOT is_watched GROUP BY ALL
      ), newest AS (SELECT definition_id, max(business_date) AS business_date FROM seen GROUP BY ALL)
      SELECT w.definition_id, w.currency, w.immaterial_breaks, w.immaterial_value, w.immaterial_limit,
        (SELECT min(s.business_date) FROM seen s LEFT JOIN calm c USING (definition_id, legal_entity_id, currency)
         WHERE s.definition_id = w.definition_id AND s.legal_entity_id = w.legal_entity_id AND s.currency = w.currency
           AND s.business_date > coalesce(c.until, DATE '0001-01-01'))
      FROM seen w JOIN newest USING (definition_id, business_date) WHERE w.is_watched ORDER BY ALL
    """
    with engine() as session:
        lake.bind(session, snapshot, ["breaks_forward"])
        found = session.rows(query, {"today": today, "own": [e for e in own if e is not None]})
    for definition, currency, number, total, limit, since in found:
        sums = f"{format_money(total, currency)}, more than {format_money(limit, currency)}"
        action = f"look for what they have in common: tieout breaks list --definition {definition}"
        what = f"{number} immaterial breaks add up to {sums}"
        yield _item("watch", f"{definition} {currency}", "watched", _CONTROLLER, since, what, action, total, currency)


def _quarantine(own: tuple[str | None, ...], period: Period, store: Store, today: date) -> list[dict[str, Any]]:
    """Records set aside up to today, aged from the business date of the run that set them aside."""
    query = (
        select(QuarantineRow, RunRow.business_date)
        .outerjoin(RunRow, RunRow.run_id == QuarantineRow.first_run)
        .where(QuarantineRow.state == "open")
        .order_by(QuarantineRow.raw_ref)
    )
    with store.reading() as session:
        found = [(row, day or period.end) for row, day in session.execute(query)]
    return [
        _item(
            "quarantine",
            row.raw_ref,
            "open",
            _INTEGRATION,
            day,
            row.reason,
            "correct it at the source, or map it, then replay",
            None if row.amount is None else abs(row.amount),
            row.currency,
        )
        for row, day in found
        if row.legal_entity_id in own and day <= today
    ]


def _usage(
    own: tuple[str | None, ...], period: Period, lake: Lake, snapshot: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Usage that came after its period was billed, and event ids that came with different content, by meter."""
    with engine() as session:
        lake.bind(session, snapshot, ("usage_late", "usage_conflict"))
        late = session.rows(_LATE_USAGE, {"end": period.end})
        conflicts = session.rows(_USAGE_CONFLICTS, {"end": period.end})
    for entity, name, since, quantity, unit, amount, currency in late:
        if entity in own:
            what = f"{quantity.normalize():f} {unit or 'units'} came after the period was billed"
            action = "bill or credit the difference, or accept it"
            yield _item("usage", name, "after billing", _BILLING, since, what, action, amount, currency)
    for entity, name, since, events, amount, currency in conflicts:
        if entity in own:
            what = f"{events} event ids came with different content; the content received first counts"
            action = "ask the sender which content is right, and have the other one corrected or voided"
            yield _item("usage", name, "conflict", _INTEGRATION, since, what, action, amount, currency)


_LATE_USAGE = """
SELECT legal_entity_id, subscription_source_id || '/' || meter || '/' || period_start, period_start, late_quantity,
  unit, abs(amount), currency
FROM usage_late WHERE late_class = 'after_billing' AND period_start <= $end ORDER BY ALL
"""
_USAGE_CONFLICTS = """
SELECT legal_entity_id, subscription_source_id || '/' || meter || '/conflict', min(CAST(occurred_at AS DATE)),
  count(DISTINCT (source, event_id)), CAST(sum(amount) AS DECIMAL(18,4)), max(currency)
FROM usage_conflict WHERE NOT counts AND CAST(occurred_at AS DATE) <= $end
GROUP BY legal_entity_id, subscription_source_id, meter ORDER BY ALL
"""


def _proof(entity: LegalEntity, period: Period, proof: TrialBalanceProof | None) -> list[dict[str, Any]]:
    if proof is None:
        what, action = "no proof of this period", "read the ERP's trial balance and prove the ledger"
        return [_item("proof", "trial balance", "unproven", _LEDGER, period.end, what, action)]
    return [
        _item(
            "proof",
            f"account {line.account}",
            "does not tie out",
            _LEDGER,
            proof.on,
            f"the ERP holds {line.ledger}, opening + ours + entries by others make {line.expected}",
            "find the entries of the account that neither side lists",
            abs(line.difference),
            line.currency,
        )
        for line in proof.lines
        if line.difference
    ]
