"""What summarising accounting events into journals costs beside scanning and grouping their columns alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tieout.lake.engine import Engine

_AMOUNTS = ("net", "tax", "gross", "to_receivable", "to_credit")
_FILE = "events.parquet"


def floor(folder: Path) -> str:
    """One pass that groups the events by what tells their lines apart and sums the amounts that are there."""
    return (
        "SELECT legal_entity_id, event_type, event_date, currency, product_family, tax_code, count(*),\n  "
        + ", ".join(f"sum({name})" for name in _AMOUNTS)
        + f"\nFROM read_parquet('{folder / _FILE}') GROUP BY ALL"
    )


def events(session: Engine, folder: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """Invoice lines and payments of four entities on three days; each event balances, every product is mapped."""
    from tieout.lake.engine import sql_type
    from tieout.ledger import EVENTS

    known = {
        "event_id": "'e' || i",
        "event_type": "['invoice_ahead', 'invoice_delivered', 'payment_processor', 'fee'][1 + (i % 4)]",
        "legal_entity_id": "['US', 'DE', 'JP', 'UK'][1 + (h // 16) % 4]",
        "document_id": "'d' || i // 4 || '.' || i % 4",
        "document_number": "'INV-' || i // 4",
        "event_date": "DATE '2026-03-29' + CAST(h // 64 % 3 AS INTEGER)",
        "currency": "['USD', 'EUR', 'JPY', 'GBP'][1 + (h // 16) % 4]",
        "product_family": "CASE WHEN i % 4 < 2 THEN ['seats', 'platform', 'usage', 'support'][1 + (h // 256) % 4] END",
        "tax_code": "CASE WHEN i % 4 < 2 THEN ['standard', 'reduced', 'exempt'][1 + (h // 1024) % 3] END",
        "net": "CASE WHEN i % 4 < 2 THEN h % 100000 ELSE 0 END",
        "tax": "CASE WHEN i % 4 < 2 THEN h % 1000 ELSE 0 END",
        "gross": "CASE WHEN i % 4 < 2 THEN h % 100000 + h % 1000 ELSE h % 5000 END",
        "to_receivable": "CASE WHEN i % 4 = 2 THEN h % 5000 ELSE 0 END",
        "source": "'stripe'",
        "source_id": "'s' || i",
        "correlation_id": "'c' || i // 4",
        "raw_ref": "'raw/' || i // 500 || '#' || i % 500",
    }
    zero = {"deferred", "recognised", "to_credit", "rounding"}
    columns = ", ".join(
        f"CAST({known.get(f.name, '0' if f.name in zero else 'NULL')} AS {sql_type(f.type)}) AS {f.name}"
        for f in EVENTS
    )
    numbered = f"SELECT i, CAST(hash(i) % 1000000 AS BIGINT) AS h FROM range({rows}) AS r(i)"
    return [session.copy(f"SELECT {columns} FROM ({numbered})", folder / _FILE)], []


def lines(folder: Path, memory: str) -> int:
    """The journals without their source rows; gives the number of lines."""
    return _summarise(folder, memory, False)


def sourced(folder: Path, memory: str) -> int:
    """The journals, every line checked to be the sum of its source rows, which are left as a view."""
    return _summarise(folder, memory, "view")


def _summarise(folder: Path, memory: str, drilldown: Literal[False, "view"]) -> int:
    from tieout.lake.engine import engine
    from tieout.ledger import load_rules, summarise
    from tieout.settings import Settings

    rules = load_rules(Settings.from_env({}))
    with engine(memory_limit=memory) as session:
        made = summarise(folder / _FILE, rules, as_of=date(2026, 4, 1), drilldown=drilldown, session=session)
    return made.lines.num_rows
