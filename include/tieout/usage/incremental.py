"""Usage kept up to date batch by batch: what a batch does not touch is not read again.

The state is a folder of Parquet files and a list of them, `state.json`, which is replaced in one step: killed anywhere,
a batch was added or it was not. Per event day (UTC) it holds the events' files, the hashes of their ids and their
parts; and, of the few events that came more than once or were changed, every delivery and what they count for.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tieout.entities import Entities
from tieout.lake.engine import Engine, engine
from tieout.usage import parts
from tieout.usage.inputs import Rows, bind
from tieout.usage.meters import Meters
from tieout.usage.parts import ID_HASH, NEEDED, PARTS, Parts, Slice
from tieout.usage.statements import run
from tieout.usage.summary import CONFLICTS, Usage, bind_references, listed, sum_up

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class References:
    """What events are judged and placed by, as `tieout.usage.aggregate` takes it."""

    subscriptions: Rows
    subscription_items: Rows
    products: Rows
    entities: Entities
    meters: Meters = field(default_factory=Meters)
    billed: Rows | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What a batch changed: the rows of `subscriptions` (None: of all) are now those of `usage`, where it has any."""

    usage: Usage
    subscriptions: frozenset[str] | None


class UsageState:
    """Aggregated usage in a folder. One process at a time works on it."""

    def __init__(self, folder: Path, *, keep_old: bool = False) -> None:
        """`keep_old` leaves files that the state no longer names, for who goes back to an older `state.json`."""
        self.folder, self.keep_old = folder, keep_old

    def build(self, events: Rows, references: References, *, session: Engine | None = None) -> None:
        """Start anew with these events. Files that hold one event day each (UTC) are used where they are."""
        with _session(session) as own:
            _Work(self, own, references, {}).build(events)

    def add(
        self, events: Rows, references: References, *, until: datetime | None = None, session: Engine | None = None
    ) -> Update:
        """Add a batch: `usage.rows` are all rows of the subscriptions it touches, the rest is unchanged.

        Where a meter is weighted by time, they are all rows: levels go on with time.

        Counts, `quarantined` and `conflicts` are of everything. Where subscriptions, meters or the engine are no longer
        what the state was made with, it is made anew.
        """
        with _session(session) as own:
            work = _Work(self, own, references, self._read())
            if not work.fits():
                work.build([*work.event_files(), *work.split(events)])
                return Update(work.result(until, None), None)
            usage = work.result(until, work.add(events))
            return Update(usage, work.touched)

    def usage(
        self, references: References, *, until: datetime | None = None, out: Path | None = None,
        session: Engine | None = None,
    ) -> Usage:  # fmt: skip
        """All that was added, summed up without reading an event: what `aggregate` of all events would give."""
        with _session(session) as own:
            return _Work(self, own, references, self._read()).result(until, None, out)

    def _read(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        return state


def _session(given: Engine | None) -> AbstractContextManager[Engine]:
    return engine() if given is None else nullcontext(given)


class _Work:
    """One call under way."""

    def __init__(self, home: UsageState, session: Engine, references: References, state: dict[str, Any]) -> None:
        self.folder, self.keep_old, self.session, self.state = home.folder, home.keep_old, session, state
        r = references
        bind_references(session, r.subscriptions, r.subscription_items, r.products, r.billed, r.entities, r.meters)
        names = ("subscription_list", "meters")
        hashes = [str(session.scalar(f"SELECT bit_xor(hash(t)) FROM {name} AS t")) for name in names]
        self.made_with = {"engine": duckdb.__version__, "references": hashes}
        self._new_hashes: dict[str, list[str]] = {}
        self._written = 0
        self.touched: frozenset[str] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    def fits(self) -> bool:
        """Whether the state was made with the same references and hashes."""
        return bool(self.state["made_with"] == self.made_with)

    def event_files(self) -> list[str]:
        """The files of all events."""
        return [f for day in self.state["days"].values() for f in day["events"]]

    # --- making ------------------------------------------------------------------------------------

    def build(self, events: Rows) -> None:
        """Make the whole state."""
        self.state = {"made_with": self.made_with, "days": {}, "special": {}}
        self.session.execute("CREATE OR REPLACE TEMP TABLE special (h UBIGINT)")
        self._list(self.split(events))
        rows = sum(day["rows"] for day in self.state["days"].values())
        parts.add_repeated(self.session, [h for day in self.state["days"].values() for h in day["hashes"]], rows)
        kept, special = [], {}
        for day in sorted(self.state["days"]):
            special[day] = parts.special_deliveries(self.session, self._slice(day))
            kept.append(str(special[day][0]))
        self._judge(kept, "true")
        for day in self.state["days"]:
            self._plain(day, special[day])
        self._commit()

    def add(self, events: Rows) -> str:
        """Bring the state up to date with a batch; SQL of the subscriptions it touches."""
        session = self.session
        session.execute(
            f"CREATE OR REPLACE TEMP TABLE special AS SELECT h FROM read_parquet('{self._special('hashes')}')"
        )
        session.execute("CREATE OR REPLACE TEMP TABLE before AS SELECT DISTINCT h FROM special")
        files = self.split(events)
        touched_days = self._list(files)
        bind(session, "usage_event", files, NEEDED)
        session.execute(
            f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {ID_HASH} AS h, count(*) AS n FROM deliveries GROUP BY h "
            "UNION ALL SELECT hash(source, corrects_event_id), 1 FROM deliveries WHERE kind <> 'usage'"
        )
        touched_days |= self._seen_before()
        session.execute("INSERT INTO special SELECT h FROM batch WHERE n > 1")
        session.execute("CREATE OR REPLACE TEMP TABLE now AS SELECT DISTINCT h FROM special")
        # of what has become special every delivery, of what was it those of the batch
        session.execute("CREATE OR REPLACE TEMP TABLE special AS SELECT h FROM now ANTI JOIN before USING (h)")
        more = [str(parts.special_deliveries(session, self._slice(day))[0]) for day in sorted(touched_days)]
        session.execute("CREATE OR REPLACE TEMP TABLE special AS SELECT h FROM before SEMI JOIN batch USING (h)")
        bind(session, "usage_event", files, NEEDED)
        more.append(str(session.spool(f"SELECT * FROM deliveries SEMI JOIN special ON special.h = {ID_HASH}")))
        session.execute("CREATE OR REPLACE TEMP TABLE special AS SELECT h FROM now")
        session.bind("kept", [*self.state["special"]["deliveries"], *more])
        # an event is judged again with every change there is: chains of changes go anywhere
        session.execute(
            "CREATE OR REPLACE TEMP TABLE to_judge AS SELECT h FROM batch "
            f"UNION SELECT {ID_HASH} FROM kept WHERE kind <> 'usage' "
            "UNION SELECT hash(source, corrects_event_id) FROM kept WHERE kind <> 'usage' "
            "UNION SELECT h FROM now ANTI JOIN before USING (h)"
        )
        self._judge(more, f"{ID_HASH} IN (SELECT h FROM to_judge)")
        for day in sorted(touched_days):
            self._plain(day, parts.special_deliveries(session, self._slice(day)))
        self._commit()
        return (
            f"SELECT subscription_source_id FROM read_parquet({files}) UNION SELECT subscription_source_id "
            f"FROM read_parquet({self.state['special']['deliveries']}) WHERE {ID_HASH} IN (SELECT h FROM to_judge)"
        )

    def _seen_before(self) -> set[str]:
        """Make ids of the batch special that were there before; the days they were on, if they were not special yet."""
        found = set()
        for day, known in self.state["days"].items():
            old = [h for h in known["hashes"] if h not in self._new_hashes.get(day, [])]
            if not old:
                continue
            self.session.bind("hashes", old)
            self.session.execute(
                "CREATE OR REPLACE TEMP TABLE hit AS SELECT DISTINCT h FROM hashes SEMI JOIN batch USING (h)"
            )
            self.session.execute("INSERT INTO special SELECT h FROM hit")
            if self.session.scalar("SELECT count(*) FROM hit ANTI JOIN before USING (h)"):
                found.add(day)
        return found

    def split(self, events: Rows) -> list[str]:
        """The events as files of one event day each, written here where they are not."""
        whole: list[str] = []
        for one in parts.slices(self.session, events, rows=1):
            if isinstance(one.data, list) and one.span and one.span[0].date() == one.span[1].date():
                whole += [str(f) for f in one.data]
                continue
            bind(self.session, "usage_event", one.data, NEEDED)
            day_of = "CAST(occurred_at AS DATE)"
            for (day,) in self.session.rows(f"SELECT DISTINCT {day_of} FROM given_usage_event ORDER BY 1"):
                query = f"SELECT * FROM given_usage_event WHERE {day_of} = DATE '{day}'"
                whole.append(str(self.session.copy(query, self._path(f"events-{day}"))))
        return whole

    def _list(self, files: Iterable[str]) -> set[str]:
        """Put files under their days with the hashes of their ids; the days they touch."""
        touched: set[str] = set()
        self._new_hashes = {}
        for one in parts.slices(self.session, list(files), rows=1):
            if one.span is None:
                continue
            name = str(one.span[0].date())
            day = self.state["days"].setdefault(
                name, {"events": [], "hashes": [], "parts": [], "faulty": [], "rows": 0}
            )
            kept = self._keep(parts.hash_ids(self.session, one), f"hashes-{name}")
            self._new_hashes.setdefault(name, []).append(kept)
            day["events"] += [str(f) for f in one.data]  # type: ignore[union-attr]
            day["hashes"].append(kept)
            day["rows"] += one.rows
            touched.add(name)
        return touched

    def _judge(self, more: Sequence[str], which: str) -> None:
        """Judge the special events again that `which` holds for; `more` are deliveries that are special from now on."""
        session, found, special = self.session, Parts(), self.state["special"]
        session.bind("more", more)
        special.setdefault("deliveries", []).append(str(session.copy("SELECT * FROM more", self._path("deliveries"))))
        session.bind("kept", special["deliveries"])
        some = session.spool(f"SELECT * FROM kept WHERE {which}")
        session.bind("chosen", some)
        session.execute(f"CREATE OR REPLACE TEMP TABLE judged_ids AS SELECT DISTINCT {ID_HASH} AS h FROM chosen")
        low, high = session.rows("SELECT min(occurred_at), max(occurred_at) FROM chosen")[0]
        parts.make_effective(session, [[str(some)]], None if low is None else (low, high), found)
        for name in ("effective", "judged", "conflicts"):
            others = ""
            if name in special:
                others = (
                    f" UNION ALL BY NAME SELECT * FROM read_parquet('{special[name]}') "
                    f"WHERE {ID_HASH} NOT IN (SELECT h FROM judged_ids)"
                )
            special[name] = str(session.copy(f"SELECT * FROM {name}{others}", self._path(name)))
        parts.drop_effective(session)
        special["hashes"] = str(session.copy("SELECT DISTINCT h FROM special", self._path("special")))

    def _plain(self, day: str, special: parts.Special) -> None:
        """Make the parts of a day's events that came once and that nothing changes."""
        found, known = Parts(), self.state["days"][day]
        parts.plain_events(self.session, self._slice(day), special, found)
        known["parts"] = [self._keep(path, f"parts-{day}") for path in found.files]
        known["faulty"] = [self._keep(path, f"faulty-{day}") for path in found.faulty]
        known["counted"], known["quarantined"] = found.counted, found.quarantined

    # --- result ------------------------------------------------------------------------------------

    def result(self, until: datetime | None, touched: str | None, out: Path | None = None) -> Usage:
        """Sum up; with `touched` only those subscriptions, and those a level of which goes on with time."""
        session, found, days = self.session, Parts(), self.state["days"].values()
        effective = self._special("effective")
        parts.bind_offsets(session, None)
        if session.scalar("SELECT count(*) FROM meters WHERE aggregation = 'time_weighted'"):
            touched = None  # levels go on with time wherever they are
        query = f"SELECT * FROM read_parquet('{effective}')"
        if touched is not None:
            session.execute(f"CREATE OR REPLACE TEMP TABLE touched AS {touched}")
            self.touched = frozenset(id for (id,) in session.rows("SELECT subscription_source_id FROM touched"))
            query += (
                " SEMI JOIN (SELECT subscription_no FROM subscriptions AS s SEMI JOIN touched AS t "
                "ON t.subscription_source_id = s.source_id) AS n USING (subscription_no)"
            )
        session.execute(f"CREATE OR REPLACE TEMP VIEW effective AS {query}")
        run(session, "dated")
        parts.write_parts(session, found)
        session.execute("DROP VIEW effective")
        files = [f for d in days for f in d["parts"]] + [str(f) for f in found.files]
        session.bind("whole_parts", files, None if files else PARTS)
        if until is None:
            last = session.scalar("SELECT max(usage_day) FROM whole_parts") or date(1970, 1, 1)
            until = datetime.combine(last, time(), UTC) + _DAY
        some = "" if touched is None else " SEMI JOIN touched USING (subscription_source_id)"
        session.execute(f"CREATE OR REPLACE TEMP VIEW all_parts AS SELECT * FROM whole_parts{some}")
        rows = sum_up(session, until, out)
        session.execute(
            f"CREATE OR REPLACE TEMP VIEW judged AS SELECT * FROM read_parquet('{self._special('judged')}')"
        )
        special = Parts()
        parts.count_judged(session, special)
        session.execute("DROP VIEW judged")
        faulty = [Path(f) for d in days for f in d["faulty"]] + special.faulty
        events = sum(d["rows"] for d in days)
        counted = special.counted + sum(d["counted"] for d in days)
        quarantined = special.quarantined + sum(d["quarantined"] for d in days)
        return Usage(
            rows=rows,
            quarantined=listed(session, "usage_quarantine", faulty, "SELECT * FROM listed", out),
            conflicts=listed(session, "usage_conflict", [Path(self._special("conflicts"))], CONFLICTS, out),
            events=events,
            counted=counted,
            repeated=events - counted - special.changed - quarantined,
            changed=special.changed,
            faulty=quarantined,
        )

    # --- files -------------------------------------------------------------------------------------

    def _slice(self, day: str) -> Slice:
        known, start = self.state["days"][day], datetime.combine(date.fromisoformat(day), time(), UTC)
        return Slice(known["events"], known["rows"], (start, start + _DAY))

    def _special(self, name: str) -> str:
        return str(self.state["special"][name])

    def _path(self, name: str) -> Path:
        """A name for a new file that no file has."""
        self._written += 1
        return self.folder / f"{name}-{os.getpid()}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{self._written}.parquet"

    def _keep(self, path: str | Path, name: str) -> str:
        return str(shutil.move(path, self._path(name)))

    def _commit(self) -> None:
        """Make the state what it has become, and drop the files it no longer names."""
        text = json.dumps(self.state, indent=1)
        partial = self.folder / f".state.{os.getpid()}.json"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.folder / "state.json")
        for path in self.folder.glob("*.parquet"):
            if not self.keep_old and str(path) not in text:
                path.unlink()
