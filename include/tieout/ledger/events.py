"""Accounting events of a legal entity, built by the engine from canonical tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from importlib.resources import files

import pyarrow as pa

from tieout.calendar import period_of
from tieout.entities import LegalEntity
from tieout.lake.engine import Engine
from tieout.lake.tables import Lake
from tieout.money import minor_digits

SOURCES = (
    "invoice", "invoice_line", "credit_note", "credit_note_line", "payment", "payment_allocation", "refund", "dispute",
    "payout", "balance_transaction", "bank_line", "subscription_item", "price",
    "price_tier", "usage_summary",
)  # fmt: skip
"""Canonical tables that events are made from."""

DAILY = ("billing", "cash")
MONTH_END = ("release", "accrual")

_MONEY = pa.decimal128(18, 4)
_AMOUNTS = ("net", "tax", "gross", "deferred", "recognised", "to_receivable", "to_credit", "rounding")
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("legal_entity_id", pa.string(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("document_number", pa.string()),
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("product_family", pa.string()),
        pa.field("tax_code", pa.string()),
        *(pa.field(name, _MONEY) for name in _AMOUNTS),
        pa.field("held_reason", pa.string()),
        pa.field("source", pa.string()),
        pa.field("source_id", pa.string()),
        pa.field("correlation_id", pa.string()),
        pa.field("raw_ref", pa.string()),
    ]
)
"""An accounting event: what happened, to which document, when, and its named amounts in the event's currency.

Rows of one document wait together when one of them cannot be posted (`held_reason` says why it cannot).
"""

_QUERIES = {"billing": "billing_event", "cash": "cash_event", "release": "release_event", "accrual": "accrual_event"}
_FILES = {"billing": "events_billing", "cash": "events_cash", "release": "release", "accrual": "accrual"}


def statement(name: str) -> str:
    """The SQL of a step, as it stands in `ledger/sql`."""
    return (files("tieout.ledger") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def bind(engine: Engine, lake: Lake, snapshot: Mapping[str, int]) -> None:
    """Make the canonical tables of a snapshot readable to the event queries."""
    lake.bind(engine, snapshot, SOURCES)


def events(
    engine: Engine,
    entity: LegalEntity,
    streams: Iterable[str],
    since: date,
    until: date,
) -> pa.Table:
    """Events of an entity with an accounting date in `[since, until]`, as `EVENTS`.

    The engine has the canonical tables bound. `billing` and `cash` give every day of the span; `release` and
    `accrual` give the fiscal period that holds `until` (the accrual's reversal lies on the day after it). Documents
    accounted before go-live give no event of their own; what happens to them afterwards does.
    """
    prepare(engine, entity, since, until)
    parts = []
    for stream in streams:
        engine.execute(statement(_FILES[stream]))
        parts.append(f"SELECT * FROM {_QUERIES[stream]}" + ("" if stream in MONTH_END else _WITHIN))
    columns = ", ".join(
        f"'{entity.id}' AS legal_entity_id" if f.name == "legal_entity_id" else _typed(f) for f in EVENTS
    )
    found = engine.sql(f"SELECT {columns} FROM ({' UNION ALL BY NAME '.join(parts)}) ORDER BY event_id, event_date")
    return found.cast(EVENTS)


def prepare(engine: Engine, entity: LegalEntity, since: date, until: date) -> None:
    """Make the tables every event query reads: ledger_invoice, ledger_line, unwinding, run, fiscal_period."""
    engine.execute(statement("macros"))
    engine.bind("fiscal_period", _fiscal_periods(entity, since, until))
    engine.bind("run", _run(entity, since, until))
    engine.execute(statement("deferral"))


_WITHIN = " WHERE event_date BETWEEN (SELECT since FROM run) AND (SELECT until FROM run)"


def _typed(field: pa.Field) -> str:
    kind = {"decimal128(18, 4)": "DECIMAL(18, 4)", "date32[day]": "DATE", "string": "VARCHAR"}[str(field.type)]
    return f"CAST({field.name} AS {kind}) AS {field.name}"


def _run(entity: LegalEntity, since: date, until: date) -> pa.Table:
    quantum = 10 ** (4 - minor_digits(entity.functional_currency))
    return pa.table(
        {
            "entity": pa.array([entity.id]),
            "go_live": pa.array([entity.go_live], pa.date32()),
            "since": pa.array([since], pa.date32()),
            "until": pa.array([until], pa.date32()),
            "quantum": pa.array([quantum], pa.int64()),
        }
    )


def _fiscal_periods(entity: LegalEntity, since: date, until: date) -> pa.Table:
    """The entity's fiscal periods from three years before the earlier of go-live and `since` to after `until`."""
    day = min(entity.go_live, since).replace(day=1) - timedelta(days=3 * 366)
    found = []
    while day <= until + timedelta(days=31):
        period = period_of(entity, day)
        found.append(period)
        day = period.end + timedelta(days=1)
    return pa.table(
        {
            "name": pa.array([p.name for p in found]),
            "start_date": pa.array([p.start for p in found], pa.date32()),
            "end_date": pa.array([p.end for p in found], pa.date32()),
        }
    )
