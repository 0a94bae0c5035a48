"""Usage events by the million: one Parquet file per event day, the same rows for the same size.

Ids are random UUIDs as text. Of a hundred rows one is a further delivery of another: most are its copies, one in fifty
has another quantity, one in ten says that it happened on the day after and lies there. One in a hundred is received up
to eleven days late.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tieout.lake.engine import Engine

FIRST_DAY = date(2026, 10, 1)
DAYS = 31
_MIDDLE = str(FIRST_DAY + timedelta(days=DAYS // 2))
METERS = ("api_calls", "storage_gb", "seats_used", "messages", "builds", "minutes", "exports", "lookups")
_CHUNK = 250_000
_ROWS_PER_SUBSCRIPTION = 2500
_MICRO = 1_000_000
_HEX = np.array([f"{n:02x}" for n in range(256)], dtype="S2")
_PAIRS = (0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34)  # where the bytes of a UUID stand in its text

Arrays = dict[str, Any]


def generate(engine: Engine, folder: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """Write `folder/events/<day>.parquet` and the subscriptions, items, products and entities they belong to."""
    subscriptions = max(40, rows // _ROWS_PER_SUBSCRIPTION)
    (folder / "events").mkdir(parents=True, exist_ok=True)
    _references(engine, folder, subscriptions)
    sizes = [rows * (day + 1) // DAYS - rows * day // DAYS for day in range(DAYS)]
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda day: _write_day(folder, day, sizes, subscriptions), range(DAYS)))
    return files, []


def micro_batch(engine: Engine, folder: Path, rows: int, count: int = 1000) -> Path:
    """Write `folder/replaced.parquet`: a day in the middle of the month with events that were not there before."""
    subscriptions = max(40, rows // _ROWS_PER_SUBSCRIPTION)
    engine.bind("batch", _table(_fresh(DAYS // 2, 1_000_000, count, subscriptions)))
    query = f"SELECT * FROM '{folder}/events/{_MIDDLE}.parquet' UNION ALL BY NAME SELECT * FROM batch"
    return engine.copy(query, folder / "replaced.parquet")


def _references(engine: Engine, folder: Path, subscriptions: int) -> None:
    engine.execute(
        f"COPY (SELECT printf('sub_%08d', range) AS source_id, 'stripe' AS source, ['US', 'DE', 'JP'][1 + range % 3]"
        " AS legal_entity_id, 'crm:' || range // 3 AS customer_id, DATE '2025-01-01' + (range % 365)::INTEGER"
        " AS billing_anchor, CASE WHEN range % 10 = 0 THEN 'Australia/Sydney' END AS zone"
        f" FROM range({subscriptions})) TO '{folder}/subscription.parquet'"
    )
    engine.execute(
        f"COPY (SELECT printf('sub_%08d', range) AS subscription_source_id, 'stripe' AS source, 1 AS interval_months,"
        f" 'metered' AS usage_type FROM range({subscriptions})) TO '{folder}/subscription_item.parquet'"
    )
    listed = ", ".join(f"('{meter}', 'unit')" for meter in METERS)
    engine.execute(f"COPY (SELECT * FROM (VALUES {listed}) t(meter, unit)) TO '{folder}/product.parquet'")


def _write_day(folder: Path, day: int, sizes: list[int], subscriptions: int) -> Path:
    path = folder / "events" / f"{FIRST_DAY + timedelta(days=day)}.parquet"
    writer = None
    for number, size in _chunks(sizes[day]):
        rows = _fresh(day, number, size, subscriptions)
        rng = np.random.default_rng([7, day, number])
        again = np.flatnonzero(rng.random(size) < 0.01)
        again = again[again > 0]
        # what is repeated is a first delivery: one of the rows that are no copies themselves
        own = np.setdiff1d(np.arange(size), again)
        chosen = own[rng.integers(0, len(own), len(again))]
        for values in rows.values():
            values[again] = values[chosen]
        rows["delay"][again] += rng.integers(0, 3600, len(again)) * _MICRO
        changed = again[rng.random(len(again)) < 0.02]
        rows["quantity"][changed] += 1000
        if day:
            _from_the_day_before(rows, again[rng.random(len(again)) < 0.1], rng, day, sizes, subscriptions)
        table = _table(rows)
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=_DICTIONARIES)
        writer.write_table(table, row_group_size=122_880)
    if writer is not None:
        writer.close()
    return path


_DICTIONARIES = ["source", "subscription_source_id", "meter", "unit", "kind"]


def _chunks(size: int) -> Iterator[tuple[int, int]]:
    for number, start in enumerate(range(0, size, _CHUNK)):
        yield number, min(_CHUNK, size - start)


def _from_the_day_before(rows: Arrays, places: Any, rng: Any, day: int, sizes: list[int], subscriptions: int) -> None:
    """Put further deliveries of the day before's events here: they say that it happened a day later."""
    size = min(_CHUNK, sizes[day - 1])
    before = _fresh(day - 1, 0, size, subscriptions)
    own = np.flatnonzero(np.random.default_rng([7, day - 1, 0]).random(size) >= 0.01)
    chosen = own[rng.integers(0, len(own), len(places))]
    for name, values in rows.items():
        values[places] = before[name][chosen]
    rows["at"][places] += 86_400 * _MICRO
    rows["delay"][places] = 60 * _MICRO


def _fresh(day: int, number: int, size: int, subscriptions: int) -> Arrays:
    """A chunk of first deliveries, few customers having most of them."""
    rng = np.random.default_rng([day, number])
    start = np.datetime64(FIRST_DAY + timedelta(days=day), "us").astype("int64")
    subscription = (subscriptions * rng.random(size, dtype=np.float32) ** 3).astype(np.int32) % subscriptions
    late = rng.random(size, dtype=np.float32) < 0.01
    return {
        "id": rng.integers(0, 256, (size, 16), dtype=np.uint8),
        "subscription": subscription,
        "meter": ((subscription + rng.integers(0, 3, size)) % len(METERS)).astype(np.int8),
        "at": start + rng.integers(0, 86_400 * _MICRO, size),
        "quantity": rng.integers(1, 10_001, size) * 1000,
        "delay": np.where(late, rng.integers(0, 1_000_000, size), rng.integers(0, 300, size)) * _MICRO,
    }


def _table(rows: Arrays) -> pa.Table:
    size = len(rows["at"])
    instant = pa.timestamp("us", "UTC")
    quantity = np.zeros((size, 2), dtype=np.int64)
    quantity[:, 0] = rows["quantity"] * 1_000_000  # 1,000 is one thousandth at nine places
    return pa.table(
        {
            "source": _constant("meters", size),
            "event_id": _ids(rows["id"]),
            "subscription_source_id": _numbered(rows["subscription"]),
            "meter": pa.DictionaryArray.from_arrays(pa.array(rows["meter"]), pa.array(METERS)).cast(pa.string()),
            "unit": _constant("unit", size),
            "quantity": pa.Array.from_buffers(pa.decimal128(28, 9), size, [None, pa.py_buffer(quantity)]),
            "kind": _constant("usage", size),
            "occurred_at": pa.array(rows["at"]).cast(instant),
            "received_at": pa.array(rows["at"] + rows["delay"]).cast(instant),
        }
    )


def _constant(value: str, size: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, dtype=np.int8)), pa.array([value])).cast(pa.string())


def _numbered(numbers: Any) -> pa.Array:
    names = pa.array([f"sub_{n:08d}" for n in range(int(numbers.max(initial=0)) + 1)])
    return pa.DictionaryArray.from_arrays(pa.array(numbers), names).cast(pa.string())


def _ids(raw: Any) -> pa.Array:
    """The text of UUIDs, 36 characters, from their bytes."""
    size = len(raw)
    texts = np.full((size, 36), ord("-"), dtype=np.uint8)
    pairs = _HEX[raw].view(np.uint8).reshape(size, 32)
    for byte, place in enumerate(_PAIRS):
        texts[:, place : place + 2] = pairs[:, 2 * byte : 2 * byte + 2]
    offsets = np.arange(0, 36 * (size + 1), 36, dtype=np.int32)
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(texts))


def run(folder: Path, memory: str) -> int:
    """Aggregate all events into files; how many counted."""
    from tieout.lake.engine import engine
    from tieout.usage import aggregate

    with engine(memory_limit=memory) as session:
        given = _references_of(folder)
        usage = aggregate(_files(folder), *given[:3], entities=given[3], session=session, out=folder / "out")
    return usage.counted


def build_state(engine: Engine, folder: Path, rows: int) -> tuple[list[Path], list[Path]]:
    """The same events as the state of an incremental aggregation, and a batch to add."""
    from tieout.usage.incremental import References, UsageState

    generate(engine, folder, rows)
    micro_batch(engine, folder, rows)
    given = _references_of(folder)
    UsageState(folder / "state").update(_by_day(folder), References(*given), out=folder / "out", session=engine)
    return [], []


def add_batch(folder: Path, memory: str) -> int:
    """Sum up again with one day's file replaced by one that has a thousand events more; how many events there are.

    The state is left as it was.
    """
    from tieout.lake.engine import engine
    from tieout.usage.incremental import References, UsageState

    listed = (folder / "state" / "state.json").read_bytes()
    known = set((folder / "state").iterdir())
    with engine(memory_limit=memory) as session:
        days = _by_day(folder) | {_MIDDLE: [str(folder / "replaced.parquet")]}
        update = UsageState(folder / "state", keep_old=True).update(
            days, References(*_references_of(folder)), out=folder / "out", session=session
        )
    for path in set((folder / "state").iterdir()) - known:
        path.unlink()
    (folder / "state" / "state.json").write_bytes(listed)
    return update.usage.events


def floor(folder: Path) -> str:
    """The query that reads every column of the events."""
    files = ", ".join(repr(f) for f in _files(folder))
    return (
        "SELECT max(source), max(length(event_id)), max(subscription_source_id), max(meter), max(unit),\n"
        f"  sum(quantity), max(kind), max(occurred_at), max(received_at) FROM read_parquet([{files}])"
    )


def _files(folder: Path) -> list[str]:
    return sorted(str(f) for f in (folder / "events").glob("*.parquet"))


def _by_day(folder: Path) -> dict[str, list[str]]:
    return {Path(f).stem: [f] for f in _files(folder)}


def _references_of(folder: Path) -> tuple[str, str, str, Any]:
    from tieout.entities import Entities, LegalEntity

    entities = tuple(
        LegalEntity(id=id, name=id, functional_currency=currency, zone=zone, country=id, go_live=date(2025, 1, 1))
        for id, currency, zone in (
            ("US", "USD", "America/Los_Angeles"), ("DE", "EUR", "Europe/Berlin"), ("JP", "JPY", "Asia/Tokyo"),
        )
    )  # fmt: skip
    subscriptions, items, products = (
        str(folder / f"{name}.parquet") for name in ("subscription", "subscription_item", "product")
    )
    return subscriptions, items, products, Entities(entities=entities)
