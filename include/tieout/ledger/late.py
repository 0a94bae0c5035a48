"""Late events: entries that come to a closed period's dates afterwards, held where they matter or somebody said so.

The rules are those of "Periods and late events": posted on the first open day of the stream `prior_period`, linked to
the origin slot; above the entity's materiality, or of a prior fiscal year, held until two people decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tieout.calendar import period_of
from tieout.entities import LegalEntity
from tieout.lake.engine import Engine
from tieout.lake.tables import Lake
from tieout.ledger.events import statement
from tieout.store import Store, batches, late_events, links
from tieout.store.late_events import Decision, LateEvent

PRIOR_PERIOD = "prior_period"

POSTED = pa.schema(
    [
        pa.field("legal_entity_id", pa.string()),
        pa.field("account", pa.string()),
        pa.field("origin_period", pa.string()),
        pa.field("currency", pa.string()),
        pa.field("net", pa.decimal128(38, 4)),
        pa.field("gross", pa.decimal128(38, 4)),
    ]
)
"""What batches of the stream `prior_period` already carry, debit positive."""

UNITS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("legal_entity_id", "unit", "content", "reason", "state", "ledger")),
        pa.field("event_type", pa.string()),
        pa.field("event_date", pa.date32()),
        *(pa.field(name, pa.string()) for name in ("origin_slot", "origin_period", "document_number", "currency")),
        pa.field("gross", pa.decimal128(18, 4)),
    ]
)
"""Units that are not posted: `state` is `late` (it waits for a decision) or `not_to_be_posted`."""


@dataclass(frozen=True, slots=True)
class LateTest:
    """What late entries are tested against: the limits, what was posted late before, what was decided."""

    net: Decimal | None = None
    gross: Decimal | None = None
    posted: pa.Table = field(default_factory=POSTED.empty_table)
    decisions: Sequence[Decision] = ()


def hold(session: Engine, test: LateTest) -> pa.Table:
    """Take the units that must wait out of `placed` into `held`; gives them as `UNITS`. Nothing is lost between."""
    late = session.scalar("SELECT count(*) FROM place WHERE target_date <> event_date")
    if not late and not test.decisions:
        return UNITS.empty_table()
    money = pa.decimal128(38, 4)
    session.bind("limits", pa.table({"net": pa.array([test.net], money), "gross": pa.array([test.gross], money)}))
    session.bind("late_posted", test.posted.cast(POSTED))
    session.bind(
        "decision",
        pa.table(
            {name: pa.array([getattr(d, name) for d in test.decisions], pa.string()) for name in _DECISION_COLUMNS}
        ),
    )
    session.execute(statement("late"))
    return session.sql(f"SELECT {', '.join(UNITS.names)} FROM late_unit ORDER BY unit").cast(UNITS)


_DECISION_COLUMNS = ("unit", "content", "state")


def test_of(entity: LegalEntity, session: Engine, lake: Lake, store: Store) -> LateTest:
    """The test that an entity's late entries must pass now."""
    limit = entity.late_materiality
    with store.reading() as view:
        decided = late_events.decisions(view, entity.id)
    return LateTest(
        Decimal(limit.net) if limit else None,
        Decimal(limit.gross) if limit else None,
        _posted(entity, session, lake, store),
        decided,
    )


def _posted(entity: LegalEntity, session: Engine, lake: Lake, store: Store) -> pa.Table:
    """Late entries that count already, by account and the period their event belongs to."""
    with store.reading() as view:
        counting = [
            j.run_key for b in batches.select_batches(view, entity=entity.id, stream=PRIOR_PERIOD) for j in b.counting
        ]
    if not counting:
        return POSTED.empty_table()
    tables = ("journal_lines", "journal_drilldown")
    lake.bind(session, {t: lake.version(t) for t in tables}, tables)
    session.bind("posted_late", pa.table({"run_key": pa.array(counting, pa.string())}))
    rows = session.rows("""
        SELECT l.account, d.event_date, l.currency,
          sum(CASE l.side WHEN 'debit' THEN d.amount ELSE -d.amount END), sum(d.amount)
        FROM journal_drilldown AS d JOIN posted_late USING (run_key) JOIN journal_lines AS l USING (run_key, line_no)
        GROUP BY ALL
    """)
    totals: dict[tuple[str, str, str], list[Decimal]] = {}
    for account, day, currency, net, gross in rows:
        total = totals.setdefault((account, period_of(entity, day).name, currency), [Decimal(0), Decimal(0)])
        total[0] += net
        total[1] += gross
    found = [
        {
            "legal_entity_id": entity.id, "account": account, "origin_period": period, "currency": currency,
            "net": net, "gross": gross,
        }
        for (account, period, currency), (net, gross) in sorted(totals.items())
    ]  # fmt: skip
    return pa.Table.from_pylist(found, schema=POSTED)


def waiting(units: pa.Table) -> list[LateEvent]:
    """The units that wait for a decision, as the store keeps them."""
    names = [name for name in UNITS.names if name not in ("legal_entity_id", "state")]
    rows: Iterable[Mapping[str, Any]] = units.to_pylist()
    return [LateEvent(**{name: row[name] for name in names}) for row in rows if row["state"] == "late"]


def link_origins(session: Any, batch_id: str, drilldown: pa.Table, run_keys: Iterable[str]) -> list[str]:
    """Link a batch of late entries with the slots they belonged to; gives those slots, for the audit log."""
    import pyarrow.compute as pc

    mine = drilldown.filter(pc.is_in(drilldown["run_key"], pa.array(list(run_keys), pa.string())))
    slots = sorted(slot for slot in mine["origin_slot"].unique().to_pylist() if slot)
    links.link(session, batch_id, links.LATE_FOR, slots)
    return slots
