"""Reversals: our own mirror of what a posted batch holds, dated by us, in whole or in part, linked both ways.

A reversal is a batch like any other: two people approve it, the protocol posts it and reads it back. Its drill-down
names the source rows it takes back, so what it took out is planned again by the next run unless it is to stay out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa

from tieout import schema
from tieout.calendar import period_of
from tieout.entities import LegalEntity
from tieout.errors import LedgerError
from tieout.ids import Slot, content_hash, run_key, sha256_hex, short_key
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.ledger.events import minor_units, statement
from tieout.ledger.plan import JOURNAL_TABLES, foreign_part, write_journals
from tieout.money import minor_digits
from tieout.settings import Settings
from tieout.store import Lease, Store, audit, batches, late_events, leases, links, periods, runs
from tieout.store.batches import Batch
from tieout.store.late_events import LateEvent
from tieout.store.people import need_two, same_person

_SCALE = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a batch: some of its lines, the events of some source documents, a share or an amount of these.

    `documents` are document numbers or source ids; `share` lies between 0 and 1, `amount` is debits. Empty: all of it.
    """

    lines: tuple[int, ...] = ()
    documents: tuple[str, ...] = ()
    share: Decimal | None = None
    amount: Decimal | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it leaves nothing out."""
        return self == Part()


def slot_of(origin: Batch, entity: LegalEntity, on: date) -> Slot:
    """The slot of reversals of a batch on a date."""
    stream = f"{batches.REVERSAL}-{short_key(origin.batch_id)[1:9].lower()}"
    return Slot(entity.id, origin.slot.ledger, period_of(entity, on).name, stream, on)


def plan_reversal(
    batch_id: str,
    entity: LegalEntity,
    *,
    on: date,
    lake: Lake,
    store: Store,
    run_id: str,
    actor: str,
    reason: str,
    part: Part | None = None,
    keep_out_by: str | None = None,
    settings: Settings | None = None,
) -> Batch:
    """Plan the mirror of a posted batch, dated `on`: a batch that waits for approval. Asked again, nothing changes.

    With `keep_out_by`, the second person who agrees, what is taken back is not to be posted again, unless the reversal
    is rejected; else the next plan of its dates carries whatever the sources say then. Raises LedgerError where the
    batch is not posted or is itself a reversal, where nothing of the part is left, where it would not balance, where
    the period is not open, or the same reversal waits with another answer to whether it is to be posted again.
    """
    wanted = part or Part()
    with store.lease(f"plan/{batches.chain_of(entity.id, entity.ledger)}") as lease:
        with store.reading() as session:
            origin = batches.get(session, batch_id)
        slot = slot_of(origin, entity, on)
        _refuse(origin, slot, on, wanted, actor, keep_out_by, reason, store)
        with store.reading() as session:
            earlier = [batches.get(session, one) for one in links.sources_of(session, links.REVERSES, batch_id)]
            version = batches.next_version(session, slot)
        waiting = next((b for b in earlier if b.slot == slot and b.state in _UNDECIDED), None)
        with engine(settings) as session:
            rows = _reversed_rows(session, lake, origin, [b for b in earlier if b != waiting and b.counts], wanted)
            made = _made(origin, slot, waiting.version if waiting else version, on, rows, session)
            events = _events(session, origin, "taken back, not to be posted again") if keep_out_by else []
        if waiting and waiting.content_hash != made.digest:
            raise LedgerError(
                "another reversal of the batch waits for a decision",
                record=batch_id,
                got=waiting.batch_id,
                remedy="decide about that one first",
            )
        if waiting:
            _refuse_other_answer(store, waiting, keep_out_by)
        versions = write_journals(lake, made.tables)
        return _stored(
            store, lease, entity, origin, slot, made, on, versions, events, run_id, actor, reason, keep_out_by
        )


_UNDECIDED = ("planned", "validated", "awaiting_approval")


@dataclass(frozen=True, slots=True)
class _Made:
    """A reversal as made: its result tables, its journals, its content hash, its version."""

    tables: Mapping[str, pa.Table]
    journals: Sequence[batches.PlannedJournal]
    digest: str
    version: int


def _stored(
    store: Store, lease: Lease, entity: LegalEntity, origin: Batch, slot: Slot, made: _Made, on: date,
    versions: Mapping[str, int], events: Sequence[LateEvent], run_id: str, actor: str, reason: str, second: str | None,
) -> Batch:  # fmt: skip
    """The reversal stored, linked and audited on both ends, in one transaction."""
    now, facts = store.now(), {"reverses": origin.batch_id, "reason": reason, "keep_out_by": second}
    with store.transaction() as session:
        leases.guard(session, lease)
        _refuse_unposted(origin, batches.state_of(session, origin.batch_id, lock=True))
        batch = batches.plan(
            session, slot, made.version, made.journals, digest=made.digest, accounting_date=on, kind=batches.REVERSAL,
            origin=origin.batch_id, needs_approval=False, run_id=run_id, actor=actor, now=now, facts=facts,
        )  # fmt: skip
        if batch.state == "planned":
            links.link(session, batch.batch_id, links.REVERSES, [origin.batch_id])
            told = {"reversal": batch.batch_id, "reason": reason}
            audit.append(session, origin.chain, "batch.reversal_planned", actor, told, now, subject=origin.batch_id)
            if second:
                late_events.withhold(
                    session, batch.batch_id, events, actor=actor, second=second, reason=reason, now=now
                )
            for state in ("validated", "awaiting_approval"):
                batch = batches.transition(session, batch.batch_id, state, actor=actor, now=now, reason=reason)
        runs.publish(session, run_id, versions, {"step": "reversal", "entity": entity.id}, now)
    return batch


def _refuse_other_answer(store: Store, waiting: Batch, keep_out_by: str | None) -> None:
    """What people are asked about is what was said when it was planned."""
    with store.reading() as session:
        acts = audit.entries(session, waiting.chain, waiting.batch_id)
    told = next((act.payload.get("keep_out_by") for act in acts if act.action == "batch.planned"), None)
    if (told is None) != (keep_out_by is None) or not same_person(told or "", keep_out_by or ""):
        raise LedgerError(
            "the reversal waits for a decision, to be kept out by somebody else or not at all", record=waiting.batch_id,
            expected=told or "not kept out", got=keep_out_by or "not kept out", remedy="decide about that one first",
        )  # fmt: skip


def _refuse(
    origin: Batch, slot: Slot, on: date, part: Part, actor: str, second: str | None, reason: str, store: Store
) -> None:
    record = origin.batch_id
    _refuse_unposted(origin, origin.state)
    if not reason.strip():
        raise LedgerError("a reversal needs a reason", record=record)
    if second is not None:
        need_two(record, actor, second, reason)
    if on < origin.accounting_date:
        raise LedgerError("a reversal is not dated before what it reverses", record=record, got=on)
    if part.share is not None and (part.amount is not None or not 0 < part.share <= 1):
        raise LedgerError("a share lies between 0 and 1, and goes without an amount", record=record, got=part.share)
    with store.reading() as session:
        if not periods.accepts(session, slot.legal_entity_id, slot.ledger, slot.period, store.now()):
            raise LedgerError("the period is not open", record=str(slot), remedy="date it in an open one")


def _refuse_unposted(origin: Batch, state: str) -> None:
    if state != "posted" or origin.kind == batches.REVERSAL:
        raise LedgerError(
            "only a posted batch is reversed",
            record=origin.batch_id,
            got=origin.kind if origin.kind == batches.REVERSAL else state,
            remedy="what a reversal took out is planned again; a mismatched batch, or one that is being reversed: "
            "tieout posting reverse",
        )


def _reversed_rows(
    session: Engine, lake: Lake, origin: Batch, earlier: Sequence[Batch], part: Part
) -> list[dict[str, Any]]:
    """The lines to mirror, with what is taken back of each; the source rows stay in the table `reversed_part`."""
    lake.bind(session, {t: lake.version(t) for t in JOURNAL_TABLES}, JOURNAL_TABLES)
    session.execute(statement("macros"))
    session.bind("minor_unit", minor_units())
    _bind_part(session, "origin_part", origin.journals, "l.side")
    taken = [journal for batch in earlier for journal in batch.counting]
    _bind_part(session, "taken_part", taken, "CASE l.side WHEN 'debit' THEN 'credit' ELSE 'debit' END")
    currencies = sorted(origin.gross)
    quantum = 10 ** (4 - minor_digits(currencies[0]))
    if part.amount is not None and len(currencies) > 1:
        raise LedgerError("an amount needs a batch of one currency", record=origin.batch_id, got=currencies)
    share = Fraction(part.share if part.share is not None else 1)
    session.bind(
        "asked",
        pa.table(
            {
                "by_line": [bool(part.lines)],
                "by_document": [bool(part.documents)],
                "numerator": pa.array([share.numerator], pa.int64()),
                "denominator": pa.array([share.denominator], pa.int64()),
                "amount": pa.array([part.amount], pa.decimal128(18, 4)),
                "quantum": pa.array([quantum], pa.int64()),
            }
        ),
    )
    session.bind("chosen_line", pa.table({"line_no": pa.array(part.lines, pa.int64())}))
    session.bind("chosen_document", pa.table({"document": pa.array(part.documents, pa.string())}))
    session.execute(_STEPS[0])
    session.execute(_STEPS[1])
    _refuse_part(session, origin, part, quantum)
    session.execute(_STEPS[2])
    found: list[dict[str, Any]] = session.sql("""
        SELECT l.* EXCLUDE (amount, transaction_amount, row_count), r.amount, r.transaction_amount, r.row_count, j.rules
        FROM journal_lines AS l
        JOIN journals AS j USING (run_key)
        JOIN (
          SELECT
            run_key, line_no, CAST(sum(amount) AS DECIMAL(18, 4)) AS amount,
            CAST(sum(transaction_amount) AS DECIMAL(18, 4)) AS transaction_amount, count(*) AS row_count
          FROM reversed_part GROUP BY ALL
        ) AS r USING (run_key, line_no)
        ORDER BY l.run_key, l.line_no
    """).to_pylist()
    return found


_SQL = statement("reversal")
_CHOSEN = _SQL.index("CREATE OR REPLACE TEMP TABLE chosen AS")
_SHARED = _SQL.index("-- what each event is to give")
_STEPS = (_SQL[:_CHOSEN], _SQL[_CHOSEN:_SHARED], _SQL[_SHARED:])


def _bind_part(session: Engine, name: str, journals: Iterable[batches.BatchJournal], side: str) -> None:
    session.bind(f"{name}_key", pa.table({"run_key": pa.array([j.run_key for j in journals], pa.string())}))
    session.execute(f"""
        CREATE OR REPLACE TEMP TABLE {name} AS
        SELECT d.*, l.account, l.product_family, l.tax_code, l.currency, l.event_type, {side} AS side,
          coalesce(l.transaction_currency, l.currency) AS own_currency,
          coalesce(d.transaction_amount, d.amount) AS own_amount
        FROM journal_drilldown AS d
        JOIN {name}_key USING (run_key)
        JOIN journal_lines AS l USING (run_key, line_no)
    """)


def _refuse_part(session: Engine, origin: Batch, part: Part, quantum: int) -> None:
    """Refuse a part of which nothing is left, that asks for more than there is, or that does not balance."""
    unbalanced = session.rows("""
        SELECT DISTINCT run_key, event_id FROM (
          SELECT run_key, event_id, event_date FROM chosen GROUP BY run_key, event_id, event_date, own_currency
          HAVING sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) <> 0
            OR sum(CASE side WHEN 'debit' THEN own_amount ELSE -own_amount END) <> 0
        ) ORDER BY ALL LIMIT 3
    """)
    if unbalanced:
        raise LedgerError(
            "these lines do not balance by themselves",
            record=origin.batch_id,
            got=[event for _, event in unbalanced],
            remedy="name the lines of whole events, or documents",
        )
    left = Decimal(session.scalar("SELECT coalesce(sum(amount), 0) FROM chosen WHERE side = 'debit'")) * _SCALE
    if not session.scalar("SELECT count(*) FROM chosen"):
        raise LedgerError("nothing of this is left to reverse", record=origin.batch_id)
    if part.amount is not None and (not 0 < part.amount <= left or part.amount % (quantum * _SCALE)):
        raise LedgerError(
            "an amount is positive, whole minor units, at most what is left", record=origin.batch_id, expected=left,
            got=part.amount,
        )  # fmt: skip


def events_of(
    batch: Batch, journals: Iterable[batches.BatchJournal], lake: Lake, settings: Settings | None = None
) -> list[LateEvent]:
    """What journals of a batch carry, by event, in the form in which a decision not to post it binds it."""
    with engine(settings) as session:
        lake.bind(session, {t: lake.version(t) for t in JOURNAL_TABLES}, JOURNAL_TABLES)
        _bind_part(session, "reversed_part", journals, "l.side")
        return _events(session, batch, "not to be posted")


def _events(session: Engine, origin: Batch, reason: str) -> list[LateEvent]:
    """What is taken back, by event: what a later plan would find due again, in the form in which decisions bind it."""
    rows = session.rows("""
        WITH entry AS (
          SELECT
            *,
            CAST(CASE side WHEN 'debit' THEN amount ELSE -amount END AS DECIMAL(18, 4)) AS signed,
            CAST(CASE side WHEN 'debit' THEN transaction_amount ELSE -transaction_amount END AS DECIMAL(18, 4))
              AS own_signed
          FROM reversed_part
        )
        SELECT
          replace(event_id, 'accrual_reversal:', 'accrual:') AS unit, min(event_type), min(event_date),
          max(document_number), min(currency),
          CAST(coalesce(sum(amount) FILTER (side = 'debit'), 0) AS DECIMAL(18, 4)),
          string_agg(
            event_date || ' ' || leg || ' ' || account || ' ' || CAST(signed AS VARCHAR)
              || CASE WHEN own_currency <> currency
                   THEN ' ' || CAST(own_signed AS VARCHAR) || ' ' || own_currency ELSE '' END
              || CASE WHEN event_type = 'accrual_reversal' THEN ' reversal' ELSE '' END,
            chr(10) ORDER BY event_date, event_type, leg, account, signed, own_currency
          )
        FROM entry GROUP BY unit ORDER BY unit
    """)
    slot = origin.slot
    return [
        LateEvent(
            unit, slot.ledger, event_type, day, str(slot), slot.period, document, currency, gross, content,
            reason,
        )
        for unit, event_type, day, document, currency, gross, content in rows
    ]  # fmt: skip


def _made(
    origin: Batch, slot: Slot, version: int, on: date, rows: Sequence[Mapping[str, Any]], session: Engine
) -> _Made:
    """The reversal: one journal for each of the origin's that gives something, lines in the origin's order."""
    by_journal: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_journal.setdefault(row["run_key"], []).append(row)
    headers, lines, planned = [], [], []
    for number, (origin_key, mine) in enumerate(sorted(by_journal.items()), 1):
        source = next(j for j in origin.journals if j.run_key == origin_key)
        key, digits = run_key(slot, version, (number, len(by_journal))), minor_digits(source.currency)
        mirrored, sent = [], []
        for line_no, row in enumerate(mine, 1):
            changed = {"side": _OTHER[row["side"]], "description": f"{row['description']}, reversed"}
            kept = {name: value for name, value in row.items() if name != "rules"}
            mirrored.append({**kept, **changed, "run_key": key, "line_no": line_no})
            amount = format(row["amount"].quantize(Decimal(1).scaleb(-digits)), "f")
            original = source.content["lines"][row["line_no"] - 1]
            own = {name: value for name, value in original.items() if not name.startswith("foreign_")}
            sent.append({**own, **changed, "amount": amount, **foreign_part(mirrored[-1])})
        debit, credit = (
            sum((line["amount"] for line in mirrored if line["side"] == side), Decimal(0)) for side in _OTHER
        )
        if debit != credit:
            raise LedgerError("a reversal does not balance", record=key, expected=debit, got=credit)
        content = {**source.content, "date": on, "narrative": f"reversal of {origin_key}", "lines": sent}
        planned.append(batches.PlannedJournal(key, short_key(key), source.currency, on, debit, len(mine), content))
        headers.append(
            {
                "run_key": key,
                "slot": str(slot),
                "version": version,
                "legal_entity_id": slot.legal_entity_id,
                "ledger": slot.ledger,
                "period": slot.period,
                "stream": slot.stream,
                "business_date": on,
                "accounting_date": on,
                "currency": source.currency,
                "debit": debit,
                "credit": credit,
                "line_count": len(mine),
                "row_count": sum(row["row_count"] for row in mine),
                "content_hash": content_hash([on, sent]),
                "kind": batches.REVERSAL,
                "origin": origin_key,
                "rules": mine[0]["rules"],
            }
        )
        lines += mirrored
    shape = schema.table("journal_lines").arrow
    places = pa.Table.from_pylist(
        [
            {
                "run_key": row["run_key"],
                "line_no": row["line_no"],
                "new_key": line["run_key"],
                "new_line": line["line_no"],
            }
            for row, line in zip((r for k in sorted(by_journal) for r in by_journal[k]), lines, strict=True)
        ]
    )
    tables = {
        "journals": pa.Table.from_pylist(headers, schema=schema.table("journals").arrow),
        "journal_lines": pa.Table.from_pylist(lines, schema=shape),
        "journal_drilldown": _drilldown(session, places),
    }
    return _Made(tables, planned, sha256_hex("\n".join(h["content_hash"] for h in headers)), version)


_OTHER = {"debit": "credit", "credit": "debit"}


def _drilldown(session: Engine, places: pa.Table) -> pa.Table:
    """The source rows of `reversed_part` under the reversal's own keys and lines."""
    session.bind("line_place", places)
    shape = schema.table("journal_drilldown").arrow
    kept = ", ".join(f"r.{name}" for name in shape.names if name not in ("run_key", "line_no"))
    found = session.sql(f"""
        SELECT p.new_key AS run_key, p.new_line AS line_no, {kept}
        FROM reversed_part AS r JOIN line_place AS p USING (run_key, line_no)
        ORDER BY p.new_key, p.new_line, r.event_id, r.leg, r.event_date
    """)
    return found.select(shape.names).cast(shape)
