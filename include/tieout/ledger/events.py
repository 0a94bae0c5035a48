"""Accounting events of a legal entity, built by the engine from canonical tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import pyarrow as pa

from tieout.calendar import period_of
from tieout.entities import LegalEntity
from tieout.lake.engine import Engine, sql_type
from tieout.lake.tables import Lake
from tieout.money import currencies, minor_digits

SOURCES = (
    "invoice", "invoice_line", "credit_note", "credit_note_line", "payment", "payment_allocation", "refund", "dispute",
    "payout", "balance_transaction", "bank_line", "subscription_item", "former_price", "price",
    "price_tier", "usage_summary", "fx_rate",
    "revenue_schedule", "entity_transfer",
)  # fmt: skip
"""Canonical tables that events are made from."""

DAILY = ("billing", "cash")
MONTH_END = ("release", "accrual", "revaluation")

_MONEY, _RATE = pa.decimal128(18, 4), pa.decimal128(28, 12)
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
        pa.field("functional_currency", pa.string()),
        pa.field("functional", _MONEY),
        pa.field("rate", _RATE),
        pa.field("rate_source", pa.string()),
        pa.field("origin_rate", _RATE),
        pa.field("origin_rate_source", pa.string()),
        pa.field("settled_currency", pa.string()),
        pa.field("settled", _MONEY),
        pa.field("settled_rate", _RATE),
        pa.field("settled_rate_source", pa.string()),
    ]
)
"""An accounting event: what happened, to which document, when, and its named amounts in the event's currency.

The columns from `functional_currency` on may be missing or null where the event's currency is the entity's own.
`rate` turns an amount into functional currency at the event's own date, `origin_rate` at that of the document it
settles or unwinds; `functional` is the gross amount there where it is not simply gross × rate. `settled` is what
arrived in `settled_currency`, where money came in another currency than the event's.

Rows of one document wait together when one of them cannot be posted (`held_reason` says why it cannot).
"""

POSITION = pa.schema(
    [("role", pa.string()), ("currency", pa.string()), ("open_amount", _MONEY), ("carried_at", _MONEY)]
)
"""What the books hold in a currency other than the functional one: the amount in it, and in functional currency."""

_QUERIES = {
    "billing": "billing_event",
    "cash": "cash_event",
    "release": "release_of_span",
    "accrual": "accrual_event",
    "revaluation": "revaluation_event",
}
_FILES = {"billing": "events_billing", "cash": "events_cash"}


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
    position: pa.Table | None = None,
) -> pa.Table:
    """Events of an entity with an accounting date in `[since, until]`, as `EVENTS`.

    The engine has the canonical tables bound. `billing` and `cash` give every day of the span, `release` every fiscal
    period of it, `accrual` the one that holds `until` (its reversal lies on the day after it). Documents
    accounted before go-live give no event of their own; what happens to them afterwards does. `revaluation` needs the
    `position` (`POSITION`) at the end of that period.
    """
    prepare(engine, entity, since, until)
    parts = []
    for stream in streams:
        if stream == "revaluation":
            engine.execute(statement("opening"))
            engine.bind("fx_position", POSITION.empty_table() if position is None else position, POSITION)
        if stream == "release":
            _release_every_period(engine, entity, since, until)
        else:
            engine.execute(statement(_FILES.get(stream, stream)))
        parts.append(f"SELECT * FROM {_QUERIES[stream]}" + ("" if stream in MONTH_END else _WITHIN))
    engine.execute(f"CREATE OR REPLACE TEMP VIEW found AS {' UNION ALL BY NAME '.join([*parts, _NOTHING])}")
    return _rated(engine)


def _release_every_period(engine: Engine, entity: LegalEntity, since: date, until: date) -> None:
    """The releases of each fiscal period of the span in turn: the query gives those of the period of `run.until`."""
    day, into = max(since, entity.go_live), "CREATE OR REPLACE TEMP TABLE release_of_span AS"
    while True:
        end = min(period_of(entity, day).end, until)
        engine.bind("run", _run(entity, since, end))
        engine.execute(statement("release"))
        engine.execute(f"{into} SELECT * FROM release_event")
        if end == until:
            return
        day, into = end + timedelta(days=1), "INSERT INTO release_of_span"


def rated(engine: Engine, entity: LegalEntity, event: Mapping[str, Any]) -> pa.Table:
    """One event that no query makes, as `EVENTS`, at the rates of its day. The engine has `fx_rate` bound."""
    engine.execute(statement("macros"))
    engine.bind("run", _run(entity, event["event_date"], event["event_date"]))
    engine.execute(statement("rates"))
    engine.bind("made_event", pa.Table.from_pylist([dict(event)], schema=pa.schema([EVENTS.field(n) for n in event])))
    engine.execute(f"CREATE OR REPLACE TEMP VIEW found AS SELECT * FROM made_event UNION ALL BY NAME {_NOTHING}")
    return _rated(engine)


def _rated(engine: Engine) -> pa.Table:
    columns = ", ".join(_typed(f) for f in EVENTS)
    return engine.sql(f"SELECT {columns} FROM ({statement('rated')}) ORDER BY event_id, event_date").cast(EVENTS)


def prepare(engine: Engine, entity: LegalEntity, since: date, until: date) -> None:
    """Make the tables every event query reads: ledger_invoice, ledger_line, unwinding, run, fiscal_period."""
    engine.execute(statement("macros"))
    engine.bind("fiscal_period", _fiscal_periods(entity, since, until))
    engine.bind("run", _run(entity, since, until))
    engine.bind("minor_unit", minor_units())
    engine.execute(statement("rates"))
    engine.execute(statement("deferral"))


_NOTHING = f"""SELECT {", ".join(f"CAST(NULL AS {sql_type(f.type)}) AS {f.name}" for f in EVENTS)},
  CAST(NULL AS DATE) AS origin_date WHERE false"""
"""No event, with every column: a query names those it has, and `origin_date`, of what it settles or unwinds."""

_WITHIN = " WHERE event_date BETWEEN (SELECT since FROM run) AND (SELECT until FROM run)"


def _typed(field: pa.Field) -> str:
    value = f"coalesce({field.name}, 0)" if field.name in _AMOUNTS else field.name
    return f"CAST({value} AS {sql_type(field.type)}) AS {field.name}"


def _run(entity: LegalEntity, since: date, until: date) -> pa.Table:
    quantum = 10 ** (4 - minor_digits(entity.functional_currency))
    return pa.table(
        {
            "entity": pa.array([entity.id]),
            "go_live": pa.array([entity.go_live], pa.date32()),
            "since": pa.array([since], pa.date32()),
            "until": pa.array([until], pa.date32()),
            "functional": pa.array([entity.functional_currency]),
            "functional_quantum": pa.array([quantum], pa.int64()),
            "rate_days": pa.array([entity.rate_days], pa.int64()),
            "tax_relief": pa.array([entity.tax_relief]),
            "schedule_source": pa.array([entity.schedule_source]),
            "write_off": pa.array([entity.write_off]),
        }
    )


def minor_units() -> pa.Table:
    """The minor unit of every currency in units of 0.0001: currency, quantum."""
    known = currencies()
    return pa.table(
        {
            "currency": pa.array([code for code, _, _ in known], pa.string()),
            "quantum": pa.array([10 ** (4 - digits) for _, digits, _ in known], pa.int64()),
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
