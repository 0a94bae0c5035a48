"""Nights over many open breaks: a lake and a store in which every invoice is one, and the night that follows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tieout import breaks
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.break_list import Filter, count, listed

_DAY = date(2026, 3, 29)
_NAME = "bench_breaks"
_DEFINITION = f"""
id: {_NAME}
title: Invoices that nobody has paid yet
measure: balance
left: {{name: billing, record: invoice, sql: left.sql, currency: currency, amount: amount, date: day, id: [reference]}}
right: {{name: the bank, record: payment, sql: right.sql, currency: currency, amount: amount, date: day,
         id: [reference]}}
passes: [{{name: by_reference, by: [reference]}}]
compare: [{{name: amount, kind: amount, left: amount, right: amount}}]
"""
_SIDE = "SELECT legal_entity_id, reference, customer, currency, amount, day FROM read_parquet('{}') WHERE h % 1000 {}\n"


def first(folder: Path, invoices: Path) -> None:
    """Configure and run the night that finds every invoice unpaid."""
    home = folder / "config" / "reconciliations"
    home.mkdir(parents=True)
    (home / f"{_NAME}.yaml").write_text(_DEFINITION)
    # one in a thousand is not there on this night or on the next, and one is paid by then
    (home / "left.sql").write_text(_SIDE.format(invoices, "<> day($business_date)"))
    (home / "right.sql").write_text(_SIDE.format(invoices, "= 500 + day($business_date)"))
    _store(folder, "2GB").upgrade()
    _night(folder, "2GB", 0)


def second(folder: Path, memory: str) -> int:
    """The night after, or the next one where that was run already; gives how many breaks are open."""
    number = 1 + sum(1 for _ in folder.glob("night-*"))
    (folder / f"night-{number}").touch()
    return _night(folder, memory, number)


def listing(folder: Path, memory: str) -> int:
    """What `tieout breaks list` asks of the store."""
    with _store(folder, memory).reading() as session:
        shown = sum(1 for _ in listed(session, Filter(), 50))
        return shown + count(session, Filter())


def floor(folder: Path) -> str:
    """The query that reads every column of the breaks of the first night."""
    store = _store(folder, "2GB")
    lake = Lake(_settings(folder, "2GB").lake)
    files = [f for f in lake.files("breaks", store.published()["breaks"]) if f"business_date={_DAY}" in f]
    return f"SELECT max(hash(b)) FROM read_parquet([{', '.join(repr(f) for f in files)}]) b"


def _night(folder: Path, memory: str, number: int) -> int:
    settings, store, day = _settings(folder, memory), _store(folder, memory), _DAY + timedelta(days=number)
    run_id = f"night-{number}"
    store.start_run(run_id, "nightly", day)
    lake = Lake(settings.lake)
    return breaks.run(_NAME, day, lake=lake, store=store, settings=settings, run_id=run_id).summary.breaks


def _settings(folder: Path, memory: str) -> Settings:
    return Settings(
        folder, folder / "config", str(folder / "lake"), f"sqlite:///{folder / 'store.sqlite'}", memory_limit=memory
    )


def _store(folder: Path, memory: str) -> Store:
    return Store(_settings(folder, memory).store, clock=lambda: datetime(2026, 3, 30, 9, tzinfo=UTC))
