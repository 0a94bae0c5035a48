"""Planning: which journals the ledger still needs, as batches in the store and tables in the lake.

A plan compares what the accounting events of a span should have posted with what the batches of that span carry.
A new slot gets version 1, a slot that late or restated data changed its next version with the difference, and a run
that finds nothing new plans nothing. Events of a closed period go to the first open day, stream `prior_period`, or are
held for a decision where they matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tieout.calendar import ended_periods, period_of
from tieout.entities import LegalEntity
from tieout.erp.charts import Charts
from tieout.errors import LeaseHeld, LedgerError
from tieout.ids import Slot, short_key
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.ledger.events import DAILY, MONTH_END, POSITION, bind, events
from tieout.ledger.late import PRIOR_PERIOD, link_origins, test_of, waiting
from tieout.ledger.placement import PeriodOpen, placement
from tieout.ledger.restate import reverse_and_repost
from tieout.ledger.rules import Rules
from tieout.ledger.summarise import CARRIED, Journals, summarise
from tieout.money import minor_digits
from tieout.settings import Settings
from tieout.store import Lease, Store, approvals, batches, late_events, runs
from tieout.store.leases import guard

JOURNAL_TABLES = ("journals", "journal_lines", "journal_drilldown")
_PLAN_TTL = timedelta(minutes=30)
_PERIODS_AT_ONCE = 12
_PERIODS_CORRECTED = 3


@dataclass(frozen=True, slots=True)
class Held:
    """What waits in one currency: how many events, and their gross value."""

    currency: str
    events: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """What planning made: batch ids in posting order, what waits, the lake versions it published."""

    batches: tuple[str, ...]
    held: tuple[Held, ...]
    versions: Mapping[str, int]
    journals: Journals


def preview(
    entity: LegalEntity,
    streams: Iterable[str],
    since: date,
    until: date,
    *,
    lake: Lake,
    store: Store,
    rules: Rules,
    snapshot: Mapping[str, int],
    settings: Settings | None = None,
    period_open: PeriodOpen | Mapping[str, PeriodOpen] | None = None,
    line_limit: int = 500,
) -> Journals:
    """The journals a plan of the span would make, without making them: the dry run of a backfill.

    `period_open` says whether the ERP takes postings on a date, by ledger where the entity has several; the store's
    own period states are asked as well.
    """
    wanted = tuple(s for s in streams if entity.posting_spans(s))  # type: ignore[arg-type]
    since = max(since, entity.go_live)
    place = placement(entity, store, period_open)
    with engine(settings) as session:
        bind(session, lake, snapshot)
        position = _position(session, lake, store, entity, until) if "revaluation" in wanted else None
        found = _ours(events(session, entity, wanted, since, until, position), entity, wanted, rules, session)
        carried = _carried(session, lake, store, entity, wanted, rules, since, until)
        carried = _ours(carried, entity, wanted, rules, session)

        test = test_of(entity, session, lake, store)

        def make(events: pa.Table, carried: pa.Table, version: Callable[[str], int]) -> Journals:
            return summarise(
                events,
                rules,
                carried=carried,
                placement=place,
                late=test,
                version=version,
                line_limit=line_limit,
                session=session,
            )

        def version(slot: str) -> int:
            return _next_version(store, slot)

        journals = make(found, carried, version)
        if entity.restatement == "reverse_and_repost" and not set(wanted) & set(MONTH_END):
            journals = reverse_and_repost(journals, found, carried, make, version, rules.streams())
        return journals


def plan_batches(
    entity: LegalEntity,
    business_date: date,
    *,
    lake: Lake,
    store: Store,
    rules: Rules,
    run_id: str,
    snapshot: Mapping[str, int] | None = None,
    streams: Iterable[str] = DAILY,
    since: date | None = None,
    settings: Settings | None = None,
    period_open: PeriodOpen | Mapping[str, PeriodOpen] | None = None,
    line_limit: int = 500,
    dimensions: Iterable[str] | Mapping[str, Iterable[str]] = (),
    charts: Charts | None = None,
    actor: str = "tieout",
) -> Plan:
    """Plan every journal of the entity due by `business_date` and store it, validated or awaiting approval.

    The span begins at `since` (go-live, if not given), so late events of any earlier date are found each time.
    Month-end streams are planned for the fiscal period of `business_date`; `release` alone, since it is no balance
    of one date, also for every period from the one of `since` on.
    Streams that the entity only verifies are left out. One process plans for an entity at a time; the others wait.
    `dimensions` are those the ERP keeps, by ledger where there are several; `charts` rename accounts by ledger.
    Month-end streams and daily streams are planned by separate calls. The tables journals, journal_lines,
    journal_drilldown and journal_held are written and published in the transaction that stores the batches.
    """
    wanted = tuple(s for s in streams if entity.posting_spans(s))  # type: ignore[arg-type]
    if set(wanted) & set(DAILY) and set(wanted) & set(MONTH_END):
        raise LedgerError("daily and month-end streams are planned apart", got=wanted)
    first, until = since or entity.go_live, business_date
    if set(wanted) & set(MONTH_END):
        if since is not None and set(wanted) != {"release"}:
            raise LedgerError("accruals and revaluations are planned period by period", got=wanted)
        first, until = period_of(entity, since or business_date).start, period_of(entity, business_date).end
    first = max(first, entity.go_live)
    with planning(store, entity) as lease:
        journals = preview(
            entity,
            wanted,
            first,
            until,
            lake=lake,
            store=store,
            rules=rules,
            snapshot=known_tables(store, entity, run_id) if snapshot is None else snapshot,
            settings=settings,
            period_open=period_open,
            line_limit=line_limit,
        )
        store.renew(lease, _PLAN_TTL)  # a planner that was stopped for long and taken over writes nothing
        versions = _write(lake, entity, wanted, first, until, journals, rules)
        scope = [name for name, stream in rules.streams().items() if stream in wanted], first, _last(wanted, until)
        shapes = shapes_of(entity, dimensions, charts or Charts())
        ids = _store(store, lease, entity, journals, rules, run_id, versions, shapes, actor, scope)
    return Plan(tuple(ids), _held(journals.held), versions, journals)


def plan_month_ends(
    entity: LegalEntity,
    business_date: date,
    *,
    store: Store,
    period_open: PeriodOpen | Mapping[str, PeriodOpen] | None = None,
    **options: Any,
) -> tuple[Plan, ...]:
    """Plan what every fiscal period that is over by `business_date` still needs, as `plan_batches` with its options.

    Earlier periods are looked at again each time: a release counts on from those of the periods before, so what came
    after their month end would else never be released. While one of the last three is open its accrual and revaluation
    are corrected too; else they stay as they are, for an accrual is taken back by now, and the next revaluation goes
    on from what the books carry.
    """
    ended = ended_periods(entity, business_date)
    if not ended:
        return ()
    *earlier, last = ended
    plans = []

    def plan(day: date, streams: Iterable[str], since: date | None = None) -> None:
        if any(entity.posting_spans(stream) for stream in streams):  # type: ignore[arg-type]
            options["streams"], options["since"] = streams, since
            plans.append(plan_batches(entity, day, store=store, period_open=period_open, **options))

    for some in (earlier[n : n + _PERIODS_AT_ONCE] for n in range(0, len(earlier), _PERIODS_AT_ONCE)):
        plan(some[-1].end, ["release"], some[0].start)
    place = placement(entity, store, period_open)
    for period in earlier[-_PERIODS_CORRECTED:]:
        if place(period.end).on == period.end:
            plan(period.end, [stream for stream in MONTH_END if stream != "release"])
    plan(last.end, MONTH_END)
    return tuple(plans)


def known_tables(store: Store, entity: LegalEntity, run_id: str) -> dict[str, int]:
    """The tables as the run sees them, but never older than what a plan made meanwhile has seen.

    Planned from older tables, a newer plan's events would look as if they had gone, and be taken back.
    """
    seen = store.published(run_id)
    for other in store.published_since(run_id, _published_as(entity)):
        for table, version in store.published(other).items():
            seen[table] = max(version, seen.get(table, version))
    return seen


def _published_as(entity: LegalEntity) -> dict[str, str]:
    return {"step": "plan", "entity": entity.id}


@contextmanager
def planning(store: Store, entity: LegalEntity, patience: float = 300.0) -> Iterator[Lease]:
    """The lease of whoever plans for an entity; the others wait. Raises LeaseHeld after so many seconds."""
    name = f"plan/{batches.chain_of(entity.id, entity.ledger)}"
    deadline = time.monotonic() + patience
    while True:
        try:
            lease = store.acquire(name, ttl=_PLAN_TTL)
            break
        except LeaseHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    try:
        yield lease
    finally:
        store.release(lease)


def _next_version(store: Store, slot: str) -> int:
    with store.reading() as session:
        return batches.next_version(session, Slot.parse(slot))


def _carried(
    session: Engine,
    lake: Lake,
    store: Store,
    entity: LegalEntity,
    streams: tuple[str, ...],
    rules: Rules,
    since: date,
    until: date,
) -> pa.Table:
    """Legs of events of these streams and dates that batches which count already carry."""
    with store.reading() as view:
        counting = [
            j.run_key
            for b in batches.select_batches(view, entity=entity.id)
            if b.slot.stream in (*streams, PRIOR_PERIOD) or b.kind == batches.REVERSAL
            for j in b.counting
        ]
    if not counting:
        return CARRIED.empty_table()
    lake.bind(session, {t: lake.version(t) for t in JOURNAL_TABLES}, JOURNAL_TABLES)
    session.bind("counting", pa.table({"run_key": pa.array(counting, pa.string())}))
    of_streams = [name for name, stream in rules.streams().items() if stream in streams]
    session.bind("in_scope", pa.table({"event_type": pa.array(of_streams, pa.string())}))
    columns = ", ".join(CARRIED.names)
    found = session.sql(
        f"""
        SELECT {columns} FROM (
          SELECT j.legal_entity_id, d.event_id, d.event_date, d.leg, l.account, l.account_role AS role, l.event_type,
            l.product_family, l.tax_code, l.currency,
            CAST(sum(CASE l.side WHEN 'debit' THEN d.amount ELSE -d.amount END) AS DECIMAL(18, 4)) AS signed,
            max(d.document_number) AS document_number, max(d.source) AS source, max(d.source_id) AS source_id,
            max(d.correlation_id) AS correlation_id, max(d.raw_ref) AS raw_ref,
            l.transaction_currency,
            CAST(sum(CASE l.side WHEN 'debit' THEN d.transaction_amount ELSE -d.transaction_amount END)
              AS DECIMAL(18, 4)) AS transaction_signed,
            max(d.rate) AS rate, max(d.rate_source) AS rate_source
          FROM journal_drilldown AS d
          JOIN counting USING (run_key)
          JOIN journals AS j USING (run_key)
          JOIN journal_lines AS l USING (run_key, line_no)
          JOIN in_scope USING (event_type)
          WHERE d.event_date BETWEEN $since AND $last
            AND NOT (l.event_type = 'accrual_reversal' AND d.event_date = $since)  -- the period before's
          GROUP BY ALL
        ) WHERE signed <> 0 OR transaction_signed <> 0
        """,
        {"since": since, "last": _last(streams, until)},
    )
    return found.cast(CARRIED)


def _ours(rows: pa.Table, entity: LegalEntity, streams: tuple[str, ...], rules: Rules, session: Engine) -> pa.Table:
    """Events, or legs of them, of the days on which Tieout posts their stream; all of them where it always does."""
    spans = {s: entity.posting_spans(s) for s in streams}  # type: ignore[arg-type]
    if all(given == ((date.min, None),) for given in spans.values()):
        return rows
    session.bind("every_row", rows)
    turns = [
        {"event_type": name, "first": first, "before": before or date.max}
        for name, stream in rules.streams().items()
        for first, before in spans.get(stream, ())
    ]
    shape = pa.schema([("event_type", pa.string()), ("first", pa.date32()), ("before", pa.date32())])
    session.bind("turn", pa.Table.from_pylist(turns, schema=shape))
    # an accrual is taken back by whoever made it: its reversal belongs to the day before
    return session.sql("""
        SELECT r.* FROM every_row AS r
        WHERE EXISTS (
          SELECT 1 FROM turn AS t WHERE t.event_type = r.event_type
            AND CASE r.event_type WHEN 'accrual_reversal' THEN r.event_date - 1 ELSE r.event_date END >= t.first
            AND CASE r.event_type WHEN 'accrual_reversal' THEN r.event_date - 1 ELSE r.event_date END < t.before
        )
    """).cast(rows.schema)


def _position(session: Engine, lake: Lake, store: Store, entity: LegalEntity, until: date) -> pa.Table:
    """What batches that count hold in other currencies by the end of `until`, but for that day's own revaluation."""
    with store.reading() as view:
        counting = [
            j.run_key
            for b in batches.select_batches(view, entity=entity.id)
            if b.accounting_date <= until
            for j in b.counting
        ]
    if not counting:
        return POSITION.empty_table()
    lake.bind(session, {t: lake.version(t) for t in JOURNAL_TABLES}, JOURNAL_TABLES)
    session.bind("counting", pa.table({"run_key": pa.array(counting, pa.string())}))
    return session.sql(
        """
        SELECT l.account_role AS role, l.transaction_currency AS currency,
          CAST(sum(CASE l.side WHEN 'debit' THEN l.transaction_amount ELSE -l.transaction_amount END) AS DECIMAL(18, 4))
            AS open_amount,
          CAST(sum(CASE l.side WHEN 'debit' THEN l.amount ELSE -l.amount END) AS DECIMAL(18, 4)) AS carried_at
        FROM journal_lines AS l
        JOIN counting USING (run_key)
        JOIN journals AS j USING (run_key)
        WHERE l.transaction_currency <> l.currency
          AND NOT (l.event_type LIKE 'revaluation%' AND j.period = $period AND j.stream = 'revaluation')
        GROUP BY ALL
        """,
        {"period": period_of(entity, until).name},
    ).cast(POSITION)


def _last(streams: tuple[str, ...], until: date) -> date:
    """The last event date of a plan: an accrual's reversal lies on the day after the period."""
    return until + timedelta(days=1) if "accrual" in streams else until


def write_journals(lake: Lake, tables: Mapping[str, pa.Table]) -> dict[str, int]:
    """Write journals' rows in each of the journal tables, over those of the same run keys; gives the versions."""
    keys = sorted(set(tables["journals"]["run_key"].to_pylist()))
    where = "run_key IN (" + ", ".join(f"'{k}'" for k in keys) + ")"
    return {name: lake.write(name, rows, where=where) for name, rows in tables.items()} if keys else {}


def _write(
    lake: Lake,
    entity: LegalEntity,
    streams: tuple[str, ...],
    since: date,
    until: date,
    journals: Journals,
    rules: Rules,
) -> dict[str, int]:
    """Write the journal tables; a slot's version that a dead process left behind unstored is written over.

    Held events are replaced inside the span that was planned only: a run of an earlier date keeps later ones.
    """
    versions = write_journals(
        lake, dict(zip(JOURNAL_TABLES, (journals.headers, journals.lines, journals.drilldown), strict=True))
    )
    types = ", ".join(f"'{name}'" for name, stream in rules.streams().items() if stream in streams)
    where = (
        f"legal_entity_id = '{entity.id}' AND event_type IN ({types})"
        f" AND event_date >= '{since}' AND event_date <= '{_last(streams, until)}'"
    )
    if journals.held.num_rows or lake.version("journal_held") is not None:
        versions["journal_held"] = lake.write("journal_held", journals.held, where=where)
    return versions


def _store(
    store: Store,
    lease: Lease,
    entity: LegalEntity,
    journals: Journals,
    rules: Rules,
    run_id: str,
    versions: Mapping[str, int],
    shapes: Mapping[str, Shape],
    actor: str,
    scope: tuple[list[str], date, date],
) -> list[str]:
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in journals.lines.to_pylist():
        lines.setdefault(line["run_key"], []).append(line)
    of_slot: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for header in journals.headers.to_pylist():
        of_slot.setdefault((header["slot"], header["version"]), []).append(header)
    hashes = journals.batch_hashes()
    ids = []
    with store.transaction() as session:
        guard(session, lease)
        for (text, version), headers in sorted(of_slot.items(), key=lambda i: (i[1][0]["business_date"], i[0])):
            slot = Slot.parse(text)
            batch = batches.plan(
                session,
                slot,
                version,
                [journal_to_send(h, lines[h["run_key"]], shapes[slot.ledger]) for h in headers],
                digest=hashes[text, version],
                accounting_date=headers[0]["accounting_date"],
                kind=headers[0]["kind"],
                origin=headers[0]["origin"],
                needs_approval=_needs_approval(session, entity, slot, headers),
                run_id=run_id,
                actor=actor,
                now=store.now(),
                facts={"rules": rules.digest},
            )
            if batch.state == "planned":
                if slot.stream == PRIOR_PERIOD:
                    link_origins(session, batch.batch_id, journals.drilldown, [h["run_key"] for h in headers])
                batches.transition(session, batch.batch_id, "validated", actor=actor, now=store.now())
                if batch.needs_approval:
                    batches.transition(session, batch.batch_id, "awaiting_approval", actor=actor, now=store.now())
            ids.append(batch.batch_id)
        late_events.hold(session, entity.id, waiting(journals.late), *scope, actor=actor, now=store.now())
        if versions:
            runs.publish(session, run_id, versions, _published_as(entity), store.now())
    return ids


@dataclass(frozen=True, slots=True)
class Shape:
    """How a ledger takes lines: the dimensions it keeps, the accounts it numbers otherwise."""

    dimensions: tuple[str, ...]
    chart: Mapping[str, str]

    def account(self, ours: str) -> dict[str, str]:
        """A line's account in this ledger; what stands for it in the mapping, where that is another code."""
        theirs = self.chart.get(ours, ours)
        return {"account": theirs} if theirs == ours else {"account": theirs, "mapped_from": ours}


def shapes_of(
    entity: LegalEntity, dimensions: Iterable[str] | Mapping[str, Iterable[str]], charts: Charts
) -> dict[str, Shape]:
    """How each ledger of an entity takes lines."""
    every = None if isinstance(dimensions, Mapping) else tuple(dimensions)
    return {
        one.ledger: Shape(
            tuple(dimensions.get(one.ledger, ())) if isinstance(dimensions, Mapping) else every or (),
            charts.of(entity.id, one.ledger),
        )
        for one in entity.in_force
    }


def journal_to_send(header: Mapping[str, Any], lines: list[dict[str, Any]], shape: Shape) -> batches.PlannedJournal:
    """The journal as it is sent: the ledger's accounts, amounts as text at the currency's minor unit."""
    currency = header["currency"]
    content = {
        "entity": header["legal_entity_id"],
        "date": header["accounting_date"],
        "currency": currency,
        "narrative": f"{header['stream'].replace('_', ' ')} {header['business_date']} v{header['version']}",
        "lines": [
            {
                **shape.account(line["account"]),
                "side": line["side"],
                "amount": _minor_text(line["amount"], currency),
                "description": line["description"],
                "dimensions": {d: line[d] for d in shape.dimensions if line[d]},
                **foreign_part(line),
            }
            for line in lines
        ],
    }
    return batches.PlannedJournal(
        header["run_key"],
        short_key(header["run_key"]),
        currency,
        header["accounting_date"],
        header["debit"],
        header["line_count"],
        content,
    )


def foreign_part(line: Mapping[str, Any]) -> dict[str, str]:
    """A line's amount in its own currency, debit positive; nothing where that is the functional one."""
    currency, amount = line["transaction_currency"], line["transaction_amount"]
    if currency is None or currency == line["currency"] or not amount:
        return {}
    signed = amount if line["side"] == "debit" else -amount
    return {"foreign_currency": currency, "foreign_amount": _minor_text(signed, currency)}


def _minor_text(amount: Decimal, currency: str) -> str:
    exact = amount.quantize(Decimal(1).scaleb(-minor_digits(currency)))
    if exact != amount:
        raise LedgerError("a line is finer than the currency's minor unit", got=f"{amount} {currency}")
    return format(exact, "f")


def _needs_approval(session: Any, entity: LegalEntity, slot: Slot, headers: list[dict[str, Any]]) -> bool:
    gross = approvals.gross_of_slot(session, slot)
    for header in headers:
        gross[header["currency"]] = gross.get(header["currency"], Decimal(0)) + header["debit"]
    return entity.needs_approval(slot.stream, gross)


def _held(table: pa.Table) -> tuple[Held, ...]:
    totals: dict[str, tuple[int, Decimal]] = {}
    for row in table.select(["currency", "amount"]).to_pylist():
        count, amount = totals.get(row["currency"], (0, Decimal(0)))
        totals[row["currency"]] = (count + 1, amount + abs(row["amount"]))
    return tuple(Held(c, n, a) for c, (n, a) in sorted(totals.items()))
