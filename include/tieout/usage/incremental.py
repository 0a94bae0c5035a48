"""Usage kept up to date day by day: the event days whose files are others than before are read, the rest is not.

The state is a folder of Parquet files and a list of them, `state.json`, which is replaced in one step: killed anywhere,
it is what it was before or what it became. Per event day (UTC) it holds which files the day was made of, the hashes of
their ids, the deliveries of events that came more than once or were changed, and the parts of all others; and besides
what those few count for, what all was judged by, and the rows it came to. A state that is not whole, or that other code
or another engine made, is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from tieout import schema
from tieout.entities import Entities
from tieout.lake.engine import Engine, engine
from tieout.settings import private_folder
from tieout.usage import parts
from tieout.usage.inputs import Rows, bind
from tieout.usage.meters import Meters
from tieout.usage.parts import ID_HASH, NEEDED, PARTS, Parts, Slice
from tieout.usage.statements import run, run_marks
from tieout.usage.summary import CONFLICTS, Usage, bind_references, list_rows, listed, sum_up
from tieout.usage.zones import zone_days

LAYERS = 8
"""So many times what was judged of special events is kept apart, before it is put together."""
_DAY = timedelta(days=1)
_PAIR = "subscription_source_id, meter"
_ROWS_FILE = (
    "CASE grain WHEN 'day' THEN strftime(period_start, 'day%Y%m%d') ELSE strftime(period_start, 'period%Y%m') END"
)


@dataclass(frozen=True, slots=True)
class References:
    """What events are judged and placed by, as `tieout.usage.aggregate` takes it."""

    subscriptions: Rows
    subscription_items: Rows
    products: Rows
    entities: Entities
    meters: Meters = field(default_factory=Meters)
    billed: Rows | None = None
    former_prices: Rows | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What all events come to now."""

    usage: Usage
    """What `aggregate` of all events would give."""
    marks: pa.Table
    """How far each source has come: one row per source and event day, columns of `marks.sql`."""
    read: tuple[str, ...]
    """The event days that were read."""


class UsageState:
    """Aggregated usage in a folder, which may be removed at any time. Processes wait for each other."""

    def __init__(self, folder: Path, *, keep_old: bool = False) -> None:
        """`keep_old` leaves files that the state no longer names, for who goes back to an older `state.json`."""
        self.folder, self.keep_old = folder, keep_old

    def update(
        self, days: Mapping[str, Sequence[str]], references: References, *, until: datetime | date | None = None,
        out: Path | None = None, session: Engine | None = None,
    ) -> Update:  # fmt: skip
        """Sum up the events of these files, by event day (UTC, such as `2026-03-31`), whatever was summed up before.

        A file is known by its name: it is never written again under it. Only days with other files than before are
        read, those on which an event of them came too, and those of subscriptions that are placed otherwise; all, where
        a meter, the code or the zones' clocks changed, or most files are new. `until` and `out` are as for `aggregate`.
        Raises what `aggregate` raises.
        """
        private_folder(self.folder)
        with _alone(self.folder), _session(session) as own:
            work = _Work(self, own, references)
            work.advance({day: sorted(files) for day, files in days.items() if files})
            result = work.result(until, out)
            work.commit()
            return result


def _session(given: Engine | None) -> AbstractContextManager[Engine]:
    return engine() if given is None else nullcontext(given)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; a process that dies lets go of it."""
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class _Work:
    """One call under way: the state as it was, as it becomes, and what differs."""

    def __init__(self, home: UsageState, session: Engine, references: References) -> None:
        self.folder, self.keep_old, self.session, self.given = home.folder, home.keep_old, session, references
        r = references
        bind_references(session, r.subscriptions, r.subscription_items, r.products, r.former_prices, r.billed,
                        r.entities, r.meters)  # fmt: skip
        self.made_with = {
            "code": _code(),
            "engine": duckdb.__version__,
            "meters": [repr(r.meters.late_after_hours), repr(session.rows("SELECT * FROM meters ORDER BY meter"))],
        }
        self._written = 0
        self.read: set[str] = set()
        self.state: dict[str, Any]
        self.state, self.checks = _whole_state(self.folder)
        if self.state.get("made_with") != self.made_with or self.state["clocks"] != _clocks(*self.state["clocks"][:3]):
            self._forget()
        self.fresh = not self.state["days"]

    def _forget(self) -> None:
        self.state = {"made_with": self.made_with, "days": {}, "layers": [], "rows": {}}
        self.fresh = True

    # --- events ------------------------------------------------------------------------------------

    def advance(self, target: Mapping[str, Sequence[str]]) -> None:
        """Bring the days to these files; leaves the table `touched`: subscriptions and meters whose rows are others."""
        kept = {day: known for day, known in self.state["days"].items() if list(known["files"]) == target.get(day)}
        changed = {day: target.get(day, []) for day in (self.state["days"].keys() | target.keys()) - kept.keys()}
        added = [f for day, files in changed.items() for f in files if f not in self._files_of(day)]
        if self.state["days"] and self._rows(added) > sum(known["rows"] for known in kept.values()):
            # most is new: reading all costs no more, and needs no comparing
            self._forget()
            changed, added = dict(target), [f for files in target.values() for f in files]
        self._compare_references()
        self.session.bind("known", [self.state["special"]] if "special" in self.state else _HASHES.empty_table())
        self.session.execute("CREATE OR REPLACE TEMP TABLE before AS SELECT h FROM known")
        self.session.execute("CREATE OR REPLACE TEMP TABLE special AS SELECT h FROM before")
        old = {day: dict(self.state["days"].get(day, _NO_DAY)) for day in changed}
        removed = [h for day, known in old.items() for f, h in known["files"].items() if f not in changed[day]]
        for day, files in changed.items():
            self._list(day, files)
        hashes = [self._files_of(day)[f] for day, files in changed.items() for f in files if f in added]
        parts.add_repeated(self.session, (np.fromfile(h, dtype=np.uint64) for h in hashes), self._rows(added))
        redo = set(changed)
        if not self.fresh:
            redo |= self._come_again(hashes, removed) | self._placed_otherwise()
        for day in redo - changed.keys():
            old[day] = dict(self.state["days"][day])
        self.session.execute("CREATE OR REPLACE TEMP TABLE special AS SELECT DISTINCT h FROM special")
        self.state["special"] = self._copy("SELECT h FROM special", "special")
        self.read = {day for day in redo if day in self.state["days"]}
        slices = {day: self._take_special(day) for day in sorted(self.read)}
        self._judge([f for known in old.values() for f in known["special"]])
        for day, cut in slices.items():
            self._plain(day, cut)
        if not self.fresh:
            self._touch([f for known in old.values() for f in known["parts"]])

    def _files_of(self, day: str) -> dict[str, str]:
        """The files of a day with the files of their ids' hashes."""
        found: dict[str, str] = self.state["days"].get(day, _NO_DAY)["files"]
        return found

    def _rows(self, files: Sequence[str]) -> int:
        query = "SELECT sum(num_rows) FROM parquet_file_metadata($files)"
        return int(self.session.scalar(query, {"files": list(files)}) or 0) if files else 0

    def _list(self, day: str, files: Sequence[str]) -> None:
        """Make a day's list these files; hashes of new files' ids are written, what changes events becomes special."""
        known = self.state["days"].pop(day, _NO_DAY)["files"]
        if not files:
            return
        found = {f: known[f] if f in known else self._keep_hashes(f) for f in files}
        bind(self.session, "usage_event", files, NEEDED)
        run_marks(self.session, self.given.meters.late_after_hours)
        marks = self._copy("SELECT * FROM marks", "marks")
        self.state["days"][day] = _NO_DAY | {"files": found, "rows": self._rows(files), "marks": marks}

    def _keep_hashes(self, file: str) -> str:
        """A file of the hashes of a file's ids, sorted: what they share with few others is found by halving."""
        hashes = parts.hash_ids(self.session, Slice([file], 0, None))
        hashes.sort()
        path = self._path("hashes", "u64")
        hashes.tofile(path)
        return str(path)

    def _come_again(self, added: Sequence[str], removed: Sequence[str]) -> set[str]:
        """Make ids special that the added files bring and others have; the days of those they were not special on."""
        brought, gone = _together(added), _together(removed)
        told = parts.hashes_of(self.session, "SELECT h FROM special ANTI JOIN before USING (h)")
        asked = np.union1d(brought[~parts.among(brought, gone)], told)
        before = parts.hashes_of(self.session, "SELECT h FROM before ORDER BY h")
        days: set[str] = set()
        for day, known in self.state["days"].items():
            for file in set(known["files"].values()) - set(added):
                again = asked[parts.among(asked, _mapped(file))]
                if len(again):
                    self.session.bind("again", pa.table({"h": again}))
                    self.session.execute("INSERT INTO special SELECT h FROM again")
                if not parts.among(again, before).all():
                    days.add(day)
        return days

    def _take_special(self, day: str) -> list[tuple[Slice, parts.Special]]:
        """Keep a day's deliveries of special events; the day's slices, each with those of it."""
        cut = [
            (one, parts.special_deliveries(self.session, one))
            for one in parts.slices(self.session, list(self._files_of(day)))
        ]
        self.state["days"][day]["special"] = [self._copy(f"SELECT * FROM '{path}'", "came") for _, (path, _) in cut]
        return cut

    def _judge(self, old: Sequence[str]) -> None:
        """Judge the special events again of whose deliveries some are others, on the days that are read, than in the
        `old` files, or are placed otherwise."""
        session, found = self.session, Parts()
        every = [f for known in self.state["days"].values() for f in known["special"]]
        now = [f for day in self.read for f in self.state["days"][day]["special"]]
        for name, files in (("kept", every), ("old_kept", old), ("read_now", now)):
            session.bind(name, files, _KEPT)
        session.execute(
            f"CREATE OR REPLACE TEMP TABLE to_judge AS SELECT DISTINCT {ID_HASH} AS h FROM kept "
            + ("" if self.fresh else "SEMI JOIN placed_otherwise USING (subscription_source_id)")
        )
        if not self.fresh:
            self._insert_differing("to_judge", ID_HASH, "SELECT * FROM old_kept", "SELECT * FROM read_now")
            session.execute("CREATE OR REPLACE TEMP TABLE to_judge AS SELECT DISTINCT h FROM to_judge")
            self._judge_chains()
        some = session.spool(
            "SELECT * FROM kept" + ("" if self.fresh else f" SEMI JOIN to_judge AS j ON j.h = {ID_HASH}")
        )
        session.bind("chosen", some)
        low, high = session.rows("SELECT min(occurred_at), max(occurred_at) FROM chosen")[0]
        parts.make_effective(session, [[str(some)]], None if low is None else (low, high), found)
        before = "" if self.fresh else self._judged("effective")
        # numbers are of this call only
        named = (
            "SELECT e.* EXCLUDE (subscription_no, meter_no), s.source_id AS subscription_source_id, m.meter "
            "FROM effective AS e JOIN subscription_list AS s USING (subscription_no) JOIN meters AS m USING (meter_no)"
        )
        made = {"ids": "SELECT h FROM to_judge", "effective": named, "judged": "SELECT * FROM judged",
                "conflicts": "SELECT * FROM conflicts"}  # fmt: skip
        self.state["layers"].append({name: self._copy(query, name) for name, query in made.items()})
        parts.drop_effective(session)
        if before:
            # offsets are told for the span that was judged: another span, and the same days all the same
            columns = "* EXCLUDE (first_offset, changes_at, then_offset)"
            one = f"SELECT {columns} FROM ({before}) WHERE {ID_HASH} IN (SELECT h FROM to_judge)"
            other = f"SELECT {columns} FROM '{self.state['layers'][-1]['effective']}'"
            self._insert_differing("touched", f"{_PAIR}, CAST(occurred_at AS DATE)", one, other)
        if len(self.state["layers"]) > LAYERS:
            whole = {name: self._copy(self._judged(name), name) for name in ("effective", "judged", "conflicts")}
            self.state["layers"] = [whole | {"ids": self.state["layers"][-1]["ids"]}]

    def _judge_chains(self) -> None:
        """Add to `to_judge` the changes of its events, what these change, and so on: a chain is judged as a whole."""
        self.session.execute(
            f"CREATE OR REPLACE TEMP TABLE links AS SELECT DISTINCT {ID_HASH} AS own, "
            "hash(source, corrects_event_id) AS other "
            "FROM (SELECT * FROM kept UNION ALL SELECT * FROM old_kept) AS c WHERE kind <> 'usage'"
        )
        linked = (
            "CREATE OR REPLACE TEMP TABLE linked AS SELECT h FROM ("
            "SELECT other AS h FROM links SEMI JOIN to_judge AS j ON j.h = own "
            "UNION SELECT own FROM links SEMI JOIN to_judge AS j ON j.h = other) AS near ANTI JOIN to_judge USING (h)"
        )
        self.session.execute(linked)
        while self.session.scalar("SELECT count(*) FROM linked"):
            self.session.execute("INSERT INTO to_judge SELECT h FROM linked")
            self.session.execute(linked)

    def _judged(self, name: str) -> str:
        """SQL of what was judged last of every special event; a later layer goes before an earlier one."""
        layers = self.state["layers"]
        queries = []
        for n, layer in enumerate(layers):
            later = [one["ids"] for one in layers[n + 1 :]]
            but = f" WHERE {ID_HASH} NOT IN (SELECT h FROM read_parquet({later}))" if later else ""
            queries.append(f"SELECT * FROM '{layer[name]}'{but}")
        return " UNION ALL BY NAME ".join(queries)

    def _plain(self, day: str, cut: Sequence[tuple[Slice, parts.Special]]) -> None:
        """Make the parts of a day's events that came once and that nothing changes."""
        found, known = Parts(), self.state["days"][day]
        for one, special in cut:
            parts.plain_events(self.session, one, special, found)
        known["parts"] = [self._keep(path, "parts") for path in found.files]
        known["faulty"] = [self._keep(path, "faulty") for path in found.faulty]
        known["counted"], known["quarantined"] = found.counted, found.quarantined

    # --- references --------------------------------------------------------------------------------

    def _compare_references(self) -> None:
        """What else the references make of it than before, by subscription and meter: `touched` what was billed when,
        and how often (no day's row, but periods), `shown_otherwise` the subscription's own columns, `placed_otherwise`
        those that its events are judged by."""
        session = self.session
        now = {"subscriptions": "SELECT * EXCLUDE (subscription_no) FROM subscription_list",
               "billed": "SELECT * FROM billed_periods", "intervals": "SELECT * FROM meter_intervals"}  # fmt: skip
        new = {name: self._copy(query, name) for name, query in now.items()}
        for name in ("placed_otherwise", "shown_otherwise"):
            session.execute(f"CREATE OR REPLACE TEMP TABLE {name} (subscription_source_id VARCHAR)")
        session.execute(
            "CREATE OR REPLACE TEMP TABLE touched (subscription_source_id VARCHAR, meter VARCHAR, around DATE)"
        )
        if not self.fresh:
            for table, key, columns, name in (
                ("placed_otherwise", "source_id", "source_id, zone, legal_entity_id", "subscriptions"),
                ("shown_otherwise", "source_id", "*", "subscriptions"),
                ("touched", f"{_PAIR}, NULL", "*", "billed"),
                ("touched", f"{_PAIR}, NULL", "*", "intervals"),
            ):
                self._insert_differing(table, key, f"SELECT {columns} FROM '{self.state[name]}'",
                                       f"SELECT {columns} FROM '{new[name]}'")  # fmt: skip
        self.state |= new

    def _insert_differing(self, table: str, key: str, one: str, other: str) -> None:
        """Add the key of the rows that one of two queries has more often than the other."""
        self.session.execute(
            f"INSERT INTO {table} SELECT DISTINCT {key} FROM (SELECT * EXCLUDE (more), sum(more) AS more FROM ("
            f"SELECT *, 1 AS more FROM ({one}) UNION ALL BY NAME SELECT *, -1 AS more FROM ({other})) GROUP BY ALL) "
            "WHERE more <> 0"
        )

    def _placed_otherwise(self) -> set[str]:
        """The days with events of subscriptions that are new or gone, or in another zone or entity."""
        if not self.session.scalar("SELECT count(*) FROM placed_otherwise"):
            return set()
        day_of = {
            f: day for day, known in self.state["days"].items() for name in ("parts", "faulty") for f in known[name]
        }
        if not day_of:
            return set()
        found = self.session.rows(
            f"SELECT DISTINCT filename FROM read_parquet({list(day_of)}, filename = true, union_by_name = true) "
            "SEMI JOIN placed_otherwise USING (subscription_source_id)"
        )
        return {day_of[name] for (name,) in found}

    def _touch(self, old_parts: Sequence[str]) -> None:
        """Add to `touched` the subscriptions and meters whose parts are others than before, or shown otherwise."""
        session = self.session
        session.bind("parts_before", old_parts, PARTS)
        session.bind("parts_now", [f for day in self.read for f in self.state["days"][day]["parts"]], PARTS)
        self._insert_differing(
            "touched", f"{_PAIR}, usage_day", "SELECT * FROM parts_before", "SELECT * FROM parts_now"
        )
        if session.scalar("SELECT count(*) FROM shown_otherwise"):
            self._bind_rows("rows_before", self.state["rows"])
            session.bind("parts_of_all", [f for known in self.state["days"].values() for f in known["parts"]], PARTS)
            session.execute(
                f"INSERT INTO touched SELECT DISTINCT {_PAIR}, NULL FROM (SELECT {_PAIR} FROM parts_of_all UNION ALL "
                f"SELECT {_PAIR} FROM ({self._judged('effective')}) UNION ALL "
                f"SELECT {_PAIR} FROM rows_before) "
                "SEMI JOIN shown_otherwise USING (subscription_source_id)"
            )

    # --- result ------------------------------------------------------------------------------------

    def result(self, until: datetime | date | None, out: Path | None) -> Update:
        """Sum up the subscriptions whose rows are others, and put them to the rows there are."""
        session, days = self.session, self.state["days"].values()
        self._sum_up(until)
        session.execute(f"CREATE OR REPLACE TEMP VIEW judged AS {self._judged('judged')}")
        special = Parts()
        parts.count_judged(session, special)
        session.execute("DROP VIEW judged")
        events = sum(known["rows"] for known in days)
        counted = special.counted + sum(known["counted"] for known in days)
        quarantined = special.quarantined + sum(known["quarantined"] for known in days)
        faulty = [Path(f) for known in days for f in known["faulty"]] + special.faulty
        session.bind("marks_kept", [known["marks"] for known in days], _MARKS)
        usage = Usage(
            rows=self._table() if out is None else self._copied(out),
            quarantined=listed(session, "usage_quarantine", faulty, "SELECT * FROM listed", out),
            conflicts=self._conflicts(out),
            events=events,
            counted=counted,
            repeated=events - counted - special.changed - quarantined,
            changed=special.changed,
            faulty=quarantined,
        )
        return Update(usage, session.sql("SELECT * FROM marks_kept"), tuple(sorted(self.read)))

    def _conflicts(self, out: Path | None) -> pa.Table | list[str]:
        self.session.execute(f"CREATE OR REPLACE TEMP VIEW listed AS {self._judged('conflicts')}")
        return list_rows(self.session, "usage_conflict", CONFLICTS, out)

    def _sum_up(self, until: datetime | date | None) -> None:
        """Bring the rows up to date, a file for each day and for each month in which billing periods begin."""
        session, found = self.session, Parts()
        some = not self.fresh
        if session.scalar("SELECT count(*) FROM meters WHERE aggregation = 'time_weighted'"):
            some = False  # levels go on with time wherever they are
        parts.bind_offsets(session, None)
        only = f"SEMI JOIN (SELECT DISTINCT {_PAIR} FROM touched) AS t USING ({_PAIR})"
        session.execute(
            "CREATE OR REPLACE TEMP VIEW effective AS SELECT e.*, s.subscription_no, m.meter_no "
            f"FROM (SELECT * FROM ({self._judged('effective')}) {only if some else ''}) AS e "
            "JOIN subscription_list AS s ON s.source_id = e.subscription_source_id JOIN meters AS m USING (meter)"
        )
        run(session, "dated")
        parts.write_parts(session, found)
        session.execute("DROP VIEW effective")
        files = [f for known in self.state["days"].values() for f in known["parts"]] + [str(f) for f in found.files]
        session.bind("all_parts", files, PARTS)
        if some:
            # a file of its own: the statements read it two dozen times
            session.bind("all_parts", session.spool(f"SELECT * FROM all_parts {only}"))
        new = sum_up(session, until, session.scratch / "summed")
        session.bind("rows_now", new if isinstance(new, list) else [])
        if not some:
            self.state["rows"] = self._apart("SELECT * FROM rows_now")
            return
        stays_so = self._days_that_stay()
        self._bind_rows("rows_before", {name: f for name, f in self.state["rows"].items() if name not in stays_so})
        session.bind("stays_so", pa.table({"name": pa.array(stays_so, pa.string())}))
        session.execute("CREATE OR REPLACE TEMP TABLE changed_files (name VARCHAR)")
        self._insert_differing(
            "changed_files", _ROWS_FILE, f"SELECT * FROM rows_before {only}",
            f"SELECT * FROM rows_now WHERE {_ROWS_FILE} NOT IN (SELECT name FROM stays_so)",
        )  # fmt: skip
        for (name,) in session.rows("SELECT DISTINCT name FROM changed_files ORDER BY name"):
            self._bind_rows("rows_before", {name: self.state["rows"].get(name, [])})
            now = (
                f"SELECT * FROM rows_before ANTI JOIN touched USING ({_PAIR}) "
                f"UNION ALL BY NAME SELECT * FROM rows_now WHERE {_ROWS_FILE} = '{name}'"
            )
            self.state["rows"][name] = [str(session.copy(now, self._path("rows"), quick=True))]

    def _days_that_stay(self) -> list[str]:
        """The files of days whose rows are what they were: no part of them is another, nor is a subscription shown
        otherwise."""
        if self.session.scalar("SELECT count(*) FROM shown_otherwise"):
            return []
        days = self.session.rows("SELECT DISTINCT around FROM touched WHERE around IS NOT NULL")
        # of effective events it is the day in UTC
        others = {f"day{day + n * _DAY:%Y%m%d}" for (day,) in days for n in (-1, 0, 1)}
        return sorted(name for name in self.state["rows"] if name.startswith("day") and name not in others)

    def _apart(self, query: str) -> dict[str, list[str]]:
        """Files of these rows by day, or by month in which billing periods begin: what stays is not written again."""
        folder = self.session.scratch / "apart"
        self.session.execute("SET partitioned_write_flush_threshold = 65536")  # rows each thread holds back
        self.session.execute(
            f"COPY (SELECT *, {_ROWS_FILE} AS name FROM ({query})) TO '{folder}' "
            "(FORMAT parquet, COMPRESSION snappy, PARTITION_BY (name), OVERWRITE)"
        )
        found: dict[str, list[str]] = {}
        for path in sorted(folder.glob("name=*/*.parquet")):
            found.setdefault(path.parent.name.partition("=")[2], []).append(self._keep(path, "rows"))
        return found

    def _bind_rows(self, name: str, files: Mapping[str, Sequence[str]]) -> None:
        every = [f for some in files.values() for f in some]
        self.session.bind(name, every, schema.table("usage_summary").arrow)

    def _table(self) -> pa.Table:
        shape = schema.table("usage_summary")
        self._bind_rows("rows_kept", self.state["rows"])
        return self.session.sql(f"SELECT * FROM rows_kept ORDER BY {', '.join(shape.key)}").cast(shape.arrow)

    def _copied(self, out: Path) -> list[str]:
        """Copies of the rows' files: the state's own are gone with the next call."""
        out.mkdir(parents=True, exist_ok=True)
        every = [f for files in self.state["rows"].values() for f in files]
        return [str(shutil.copyfile(f, out / f"usage_summary-{n:04}.parquet")) for n, f in enumerate(every)]

    # --- files -------------------------------------------------------------------------------------

    def _path(self, name: str, kind: str = "parquet") -> Path:
        """A name for a new file that no file has."""
        self._written += 1
        return self.folder / f"{name}-{os.getpid()}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{self._written}.{kind}"

    def _copy(self, query: str, name: str) -> str:
        return str(self.session.copy(query, self._path(name)))

    def _keep(self, path: str | Path, name: str) -> str:
        return str(shutil.move(path, self._path(name)))

    def commit(self) -> None:
        """Make the state what it has become, and drop the files it no longer names."""
        zones = sorted({zone for (zone,) in self.session.rows("SELECT DISTINCT zone FROM subscription_list")})
        days = sorted(self.state["days"]) or ["1970-01-01"]
        # what came late was received within a year or so
        end = date.fromisoformat(days[-1]) + 400 * _DAY
        self.state["clocks"] = _clocks(zones, days[0], str(end))
        text = json.dumps(self.state)
        named = {str(p): self.checks.get(str(p)) or _check(p)
                 for p in self.folder.glob("*-*") if json.dumps(str(p)) in text}  # fmt: skip
        partial = self.folder / f".state.{os.getpid()}.json"
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"check": zlib.crc32(text.encode()), "files": named, "state": text}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / "state.json")
        for path in self.folder.iterdir():
            if not self.keep_old and str(path) not in named and path.name not in ("state.json", "lock"):
                path.unlink()


_NO_DAY: dict[str, Any] = {"files": {}, "rows": 0, "special": [], "parts": [], "faulty": [], "counted": 0,
                           "quarantined": 0}  # fmt: skip
_HASHES = pa.schema({"h": pa.uint64()})
_KEPT = schema.table("usage_event").arrow
_INSTANT = pa.timestamp("us", "UTC")
_MARKS = pa.schema(
    {
        "source": pa.string(),
        "last_occurred_at": _INSTANT,
        "last_received_at": _INSTANT,
        "deliveries": pa.int64(),
        "late_deliveries": pa.int64(),
        "longest_delay_seconds": pa.int64(),
    }
)


def _whole_state(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The state in the folder and its files' checks; empty where it is missing, or any byte is not what was written."""
    try:
        found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if zlib.crc32(found["state"].encode()) != found["check"]:
            return {}, {}
        if any(_check(Path(path)) != check for path, check in found["files"].items()):
            return {}, {}
        return json.loads(found["state"]), found["files"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}


def _together(files: Sequence[str]) -> parts.Hashes:
    """The hashes of all these files, sorted."""
    every = np.concatenate([np.empty(0, dtype=np.uint64), *(np.fromfile(f, dtype=np.uint64) for f in files)])
    every.sort()
    return every


def _mapped(file: str) -> parts.Hashes:
    """The hashes of a file, of which few are looked at."""
    if not Path(file).stat().st_size:
        return np.empty(0, dtype=np.uint64)
    return np.memmap(file, dtype=np.uint64, mode="r")


def _check(path: Path) -> list[int]:
    """Length of a file, and the sum of what its bytes are as 64-bit numbers: a third of the cost of a CRC."""
    length = total = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            whole = len(block) // 8
            total += int(np.frombuffer(block, np.uint64, whole).sum()) + int.from_bytes(block[whole * 8 :], "little")
            length += len(block)
    return [length, total % 2**64]


def _code() -> str:
    """A hash of this package and of the tables it reads and makes: other code may count otherwise."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(__file__).parent.iterdir() if p.suffix in (".py", ".sql")):
        digest.update(path.name.encode() + path.read_bytes())
    for name in ("usage_event", "usage_summary", "usage_quarantine", "usage_conflict"):
        digest.update(str(schema.table(name).arrow).encode())
    return digest.hexdigest()


def _clocks(zones: Collection[str], first: str, last: str) -> list[Any]:
    """The days of zones from one day to another, told by a hash: new rules of a zone move events to other days."""
    days = zone_days(zones, date.fromisoformat(first) - 2 * _DAY, date.fromisoformat(last))
    return [list(zones), first, last, hashlib.sha256(repr(days.to_pydict()).encode()).hexdigest()]
