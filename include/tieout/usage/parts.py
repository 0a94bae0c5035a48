"""From events to parts, slice by slice: exact over all of them, in the memory of one slice.

An event that came once, and that nothing corrects, counts for itself: it is summed up where it is read. The others are
found by a 64-bit hash of their ids: equal hashes are candidates, and the statements of `dedup` decide by the ids
themselves. So events are deduplicated over all files and days, though only the few that came more than once are ever
held together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from tieout.errors import DataError
from tieout.lake.engine import Engine
from tieout.lake.session import Session
from tieout.usage.inputs import Rows, bind
from tieout.usage.statements import run, run_changes, statements
from tieout.usage.zones import known_zones

TOGETHER = 100_000
"""So few events need no slices."""
SLICE_ROWS = 4_000_000
BUCKET_ROWS = 6_000_000
"""Hashes, or events that came more than once, that are grouped at a time."""

NEEDED = ("event_id", "subscription_source_id", "meter", "quantity", "occurred_at")
ID_HASH = "hash(source, event_id)"


PARTS = pa.schema(
    {
        "subscription_source_id": pa.string(),
        "meter": pa.string(),
        "usage_day": pa.date32(),
        "received_day": pa.date32(),
        "replaced_day": pa.date32(),
        "value_key": pa.string(),
        "point_at": pa.timestamp("us", "UTC"),
        "point_id": pa.string(),
        "quantity": pa.decimal128(28, 9),
        "unit": pa.string(),
        "event_count": pa.int64(),
        "corrected_count": pa.int64(),
    }
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Events that are read at a time: some of the files, or all of a table."""

    data: Rows
    rows: int
    span: tuple[datetime, datetime] | None


Special = tuple[Path, int]
"""A file of deliveries, and how many they are."""
Hashes: TypeAlias = "np.ndarray[Any, Any]"  # of 64 bits


@dataclass(slots=True)
class Parts:
    """What became of the events: files of parts, of faulty events and of conflicts, and how many events there were."""

    files: list[str | Path] = field(default_factory=list)
    faulty: list[str | Path] = field(default_factory=list)
    conflicts: list[str | Path] = field(default_factory=list)
    events: int = 0
    counted: int = 0
    changed: int = 0
    quarantined: int = 0

    @property
    def repeated(self) -> int:
        """Further deliveries of events."""
        return self.events - self.counted - self.changed - self.quarantined


def collect(session: Session, events: Rows) -> Parts:
    """Make parts of all events. The session has the references: `subscription_list` and `meters`.

    An engine of many machines holds all events together: the statements of the few that came more than once are run
    over all of them.
    """
    if not isinstance(session, Engine):
        bind(session, "usage_event", events, NEEDED)
        found = Parts(events=int(session.scalar("SELECT count(*) FROM deliveries")))
        _special_events(session, [events], None, found)
        return found
    cut = slices(session, events)
    found = Parts(events=sum(one.rows for one in cut))
    if found.events <= TOGETHER:
        _special_events(session, [events], _whole_span(cut), found)
        return found
    _find_special(session, cut, found.events)
    special, each = _keep_special(session, cut)
    _special_events(session, special, _whole_span(cut), found)
    for one, others in zip(cut, each, strict=True):
        plain_events(session, one, others, found)
    return found


def slices(session: Engine, events: Rows, *, rows: int | None = None) -> list[Slice]:
    """The events in slices of about `rows` (`SLICE_ROWS`), in the order in which they happened where files tell it."""
    rows = SLICE_ROWS if rows is None else rows
    if isinstance(events, pa.Table):
        bind(session, "usage_event", events, NEEDED)
        low, high = session.rows("SELECT min(occurred_at), max(occurred_at) FROM given_usage_event")[0]
        return [Slice(events, events.num_rows, None if low is None else (low, high))]
    files = [str(events)] if isinstance(events, str | Path) else [str(f) for f in events]
    if not files:
        return []
    cut: list[Slice] = []
    batch: list[_File] = []
    for one in session.rows(_FILES, {"files": files}):
        if batch and sum(size for _, size, *_ in batch) + one[1] > rows:
            cut.append(_slice(batch))
            batch = []
        batch.append(one)
    return [*cut, _slice(batch)] if batch else cut


_File = tuple[Any, ...]  # name, rows, first and last instant
_FILES = """
SELECT f.file_name, f.num_rows, s.low, s.high
FROM parquet_file_metadata($files) AS f
LEFT JOIN (
  SELECT file_name, min(CAST(stats_min_value AS TIMESTAMPTZ)) AS low,
    max(CAST(stats_max_value AS TIMESTAMPTZ)) AS high, count(*) = count(stats_min_value) AS whole
  FROM parquet_metadata($files) WHERE path_in_schema = 'occurred_at' GROUP BY file_name
) AS s ON s.file_name = f.file_name AND s.whole
WHERE f.num_rows > 0
ORDER BY s.low NULLS FIRST, f.file_name
"""


def _slice(batch: Sequence[_File]) -> Slice:
    lows, highs = [low for _, _, low, _ in batch if low], [high for _, _, _, high in batch if high]
    span = (min(lows), max(highs)) if len(lows) == len(batch) else None
    return Slice([name for name, *_ in batch], sum(rows for _, rows, *_ in batch), span)


def _whole_span(cut: Sequence[Slice]) -> tuple[datetime, datetime] | None:
    spans = [one.span for one in cut if one.span]
    return (min(low for low, _ in spans), max(high for _, high in spans)) if cut and len(spans) == len(cut) else None


def _find_special(session: Engine, cut: Sequence[Slice], rows: int) -> None:
    """The table `special`: hashes of ids that come more than once, that are changes, or that a change refers to."""
    session.execute("CREATE OR REPLACE TEMP TABLE special (h UBIGINT)")
    add_repeated(session, (hash_ids(session, one) for one in cut), rows)


def hash_ids(session: Engine, one: Slice) -> Hashes:
    """The hashes of a slice's ids, in no order; those of changes and what they refer to join the table `special`."""
    bind(session, "usage_event", one.data, NEEDED)
    session.execute(
        f"INSERT INTO special SELECT {ID_HASH} FROM deliveries WHERE kind <> 'usage' "
        "UNION ALL SELECT hash(source, corrects_event_id) FROM deliveries WHERE kind <> 'usage'"
    )
    return hashes_of(session, f"SELECT {ID_HASH} AS h FROM deliveries")


def hashes_of(session: Engine, query: str) -> Hashes:
    """What a query gives in its column `h`."""
    return np.asarray(session.connection.execute(query).fetchnumpy()["h"])


def among(some: Hashes, others: Hashes) -> Hashes:
    """Whether each of `some` is among the others, which are sorted."""
    if not len(others):
        return np.zeros(len(some), dtype=bool)
    places = np.searchsorted(others, some)
    places[places == len(others)] = 0
    found: Hashes = others[places] == some
    return found


def add_repeated(session: Engine, hashes: Iterable[Hashes], rows: int) -> None:
    """Add to the table `special` what is more than once among all these hashes, `rows` in all."""
    threads = int(session.scalar("SELECT current_setting('threads')"))
    with ThreadPoolExecutor(threads) as pool:  # sorting, which is nearly all of it, holds no lock
        ranges = _ranges(session, hashes, -(-rows // BUCKET_ROWS), pool, threads)
        for found in _in_turn(pool, threads, _repeated, ranges):
            session.bind("again", pa.table({"h": found}))
            session.execute("INSERT INTO special SELECT DISTINCT h FROM again")


def _ranges(
    session: Engine, hashes: Iterable[Hashes], ranges: int, pool: ThreadPoolExecutor, threads: int
) -> list[Path]:
    """Files of all these hashes, one range of values each."""
    edges = np.array([2**64 * n // ranges for n in range(1, ranges)], dtype=np.uint64)
    paths = [session.scratch / f"hashes-{n}" for n in range(ranges)]
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("wb")) for path in paths]
        for parts in _in_turn(pool, threads, lambda found: _cut(found, edges), hashes):
            for into, part in zip(opened, parts, strict=True):
                part.tofile(into)
    return paths


def _cut(found: Hashes, edges: Hashes) -> list[Hashes]:
    found.sort()
    return np.split(found, np.searchsorted(found, edges))


def _repeated(path: Path) -> Hashes:
    """The hashes that a file holds more than once; the file is not needed after."""
    found = np.fromfile(path, dtype=np.uint64)
    path.unlink()
    found.sort()  # a third of the time that grouping them by the engine takes
    again: Hashes = found[1:][found[1:] == found[:-1]]
    return again


def _in_turn(
    pool: ThreadPoolExecutor, threads: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """What a function makes of each item, in their order; as many at a time as there are threads, and no more taken."""
    ahead = deque[Future[Any]]()
    for item in items:
        ahead.append(pool.submit(function, item))
        if len(ahead) >= threads:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def special_deliveries(session: Engine, one: Slice) -> Special:
    """A file of the slice's deliveries of special events, and how many they are."""
    bind(session, "usage_event", one.data, NEEDED)
    path = session.spool(f"SELECT * FROM deliveries SEMI JOIN special ON special.h = {ID_HASH}")
    session.bind("written", path)
    return path, int(session.scalar("SELECT count(*) FROM written"))


def _keep_special(session: Engine, cut: Sequence[Slice]) -> tuple[list[Rows], list[Special]]:
    """Files of the deliveries of special events, all of one event in one file; and those of each slice."""
    each = [special_deliveries(session, one) for one in cut]
    files, buckets = [str(path) for path, _ in each], -(-sum(count for _, count in each) // BUCKET_ROWS)
    if buckets <= 1:
        return [files], each
    bind(session, "usage_event", files, NEEDED)
    queries = (f"SELECT * FROM deliveries WHERE {ID_HASH} % {buckets} = {n}" for n in range(buckets))
    return [session.spool(query) for query in queries], each


def _special_events(
    session: Session, events: Sequence[Rows], span: tuple[datetime, datetime] | None, found: Parts
) -> None:
    """Deduplicate events, apply what changes them, and make parts of them."""
    make_effective(session, events, span, found)
    write_parts(session, found)
    count_judged(session, found)
    drop_effective(session)


def make_effective(
    session: Session, events: Sequence[Rows], span: tuple[datetime, datetime] | None, found: Parts
) -> None:
    """Make the tables `judged` and `effective` of deliveries; conflicts among them are kept."""
    bind_offsets(session, span)
    firsts = []
    for data in events:
        bind(session, "usage_event", data, NEEDED)
        run(session, "dedup")
        if session.scalar("SELECT count(*) FROM conflicts"):
            found.conflicts.append(session.spool("SELECT * FROM conflicts"))
        if len(events) > 1:
            firsts.append(session.spool("SELECT * FROM firsts"))
    if firsts:
        session.bind("firsts", firsts)
    run(session, "judged")
    run_changes(session)
    run(session, "effective_events")
    run(session, "dated")


def count_judged(session: Session, found: Parts) -> None:
    """Count the events of the view `judged`, and keep the faulty ones."""
    kinds: Mapping[str, int] = dict(session.rows(_KINDS))
    _keep_faulty(session, kinds.get("faulty", 0), found)
    found.counted += kinds.get("usage", 0)
    found.changed += kinds.get("change", 0)


def drop_effective(session: Session) -> None:
    """Drop the tables of few events: views of the same name serve the many."""
    for name in ("effective", "changes", "states", "spans", "ordered", "hopped", "roots", "told", "versions"):
        session.execute(f"DROP TABLE IF EXISTS {name}")


_KINDS = """
SELECT
  CASE WHEN reason_code IS NOT NULL THEN 'faulty' WHEN kind = 'usage' THEN 'usage' ELSE 'change' END AS fate, count(*)
FROM judged GROUP BY fate
"""


def plain_events(session: Engine, one: Slice, special: Special, found: Parts) -> None:
    """Make parts of the events of a slice that came once and that nothing changes; `special` are the others in it.

    Where quantities add up, all deliveries are summed and the special ones taken off again: that reads no ids.
    """
    bind_offsets(session, one.span)
    adding, pointwise = _wanted(session)
    path, others = special
    counted = 0
    if adding:
        _every_delivery(session, one.data)
        counted += _write(session, adding, found)
        if others:
            _every_delivery(session, str(path))
            counted += _write(session, _TAKEN_OFF.format(adding), found)
    if pointwise:
        _single_deliveries(session, one)
        counted += _write(session, pointwise, found)
    found.counted += counted
    faulty = one.rows - others - counted
    if faulty:
        _single_deliveries(session, one)
        _keep_faulty(session, faulty, found)
    session.execute("DROP VIEW IF EXISTS effective")


_TAKEN_OFF = """
SELECT * REPLACE (
  CAST(-quantity AS DECIMAL(28, 9)) AS quantity, -event_count AS event_count, -corrected_count AS corrected_count
)
FROM ({}) AS counted
"""


def _every_delivery(session: Engine, data: Rows) -> None:
    """Make the view `dated` of all these deliveries."""
    bind(session, "usage_event", data, NEEDED)
    session.execute("CREATE OR REPLACE TEMP VIEW firsts AS SELECT * FROM deliveries")
    _judge_plain(session)


def _single_deliveries(session: Engine, one: Slice) -> None:
    """Make the view `dated` of the deliveries of a slice that are not special."""
    bind(session, "usage_event", one.data, NEEDED)
    session.execute(
        f"CREATE OR REPLACE TEMP VIEW firsts AS SELECT * FROM deliveries ANTI JOIN special ON special.h = {ID_HASH}"
    )
    _judge_plain(session)


def _judge_plain(session: Engine) -> None:
    for name in ("judged", "plain_events", "dated"):
        run(session, name)


def write_parts(session: Session, found: Parts) -> int:
    """Write the parts of the view `dated`; how many events they stand for."""
    return sum(_write(session, statement, found) for statement in _wanted(session) if statement)


def _wanted(session: Session) -> tuple[str | None, str | None]:
    """The statement of the meters that add up and that of the others, where there are such meters."""
    kinds = {kind for (kind,) in session.rows("SELECT DISTINCT aggregation FROM meters")}
    adding, pointwise = statements("parts")
    return adding if kinds & {"sum", "count"} else None, pointwise if kinds - {"sum", "count", None} else None


def _write(session: Session, statement: str, found: Parts) -> int:
    path = session.spool(statement)
    found.files.append(path)
    session.bind("written", path)
    return int(session.scalar("SELECT coalesce(sum(event_count), 0) FROM written"))


def _keep_faulty(session: Session, expected: int, found: Parts) -> None:
    """Write the faulty events of the view `judged`, of which there are so many."""
    if not expected:
        return
    path = session.spool(_FAULTY)
    session.bind("written", path)
    got = session.scalar("SELECT count(*) FROM written")
    if got != expected:
        raise DataError("usage events in are not events out", expected=expected, got=got)
    found.faulty.append(path)
    found.quarantined += expected


def bind_offsets(session: Session, span: tuple[datetime, datetime] | None) -> None:
    """Make `subscriptions` those whose zones have the offsets of this span."""
    zones = known_zones((zone for (zone,) in session.rows("SELECT DISTINCT zone FROM subscription_list")), span)
    session.bind("zones", zones)
    run(session, "subscriptions")


_SENTENCES = {
    "unknown_subscription": "billing knows no subscription ' || subscription_source_id || '",
    "unknown_zone": "the zone of subscription ' || subscription_source_id || ' is none of the IANA database",
    "unknown_meter": "no product or price has a meter ' || meter || '",
    "unclear_aggregation": "how ' || meter || ' is summed up is not clear from its prices: say it in meters.yaml",
    "unknown_unit": "unit holds ''' || coalesce(unit, '') || ''', which is not what ' || meter || ' is counted in",
    "negative": "quantity holds ' || quantity || ' where at least 0 is expected",
    "future": "the event happened at ' || strftime(occurred_at, '%Y-%m-%d %H:%M:%S')"
    " || ' UTC, after it was received at ' || strftime(received_at, '%Y-%m-%d %H:%M:%S') || ' UTC",
    "missing": "a ' || kind || ' must name the event it refers to",
    "no_value": "an event of ' || meter || ' must carry the value that is counted once",
}
_FAULTY = f"""
SELECT source, source_id, event_id, raw_ref, subscription_source_id, meter, quantity, legal_entity_id, reason_code,
  CASE reason_code {" ".join(f"WHEN '{code}' THEN '{words}'" for code, words in _SENTENCES.items())} END AS reason
FROM judged WHERE reason_code IS NOT NULL
"""
