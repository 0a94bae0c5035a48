"""Restated slots under the policy `reverse_and_repost`: what they carry is taken back whole, the new content posted.

By the other policy, `difference`, the next version holds only what changed. Here the next version (kind `taken_back`)
is the mirror of everything the slot's batches carry, line by line, and the one after it (kind `reposted`) the whole new
content; both are linked to the slot's first version. A second person approves both; one that is rejected takes the
other with it. The ledger ends the same by either. What belongs to a closed
period is always posted as a difference: nothing is taken back from a period that is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tieout.ledger.late import PRIOR_PERIOD
from tieout.ledger.summarise import Journals
from tieout.store import batches

Version = Callable[[str], int]
Make = Callable[[pa.Table, pa.Table, Version], Journals]
"""Journals of events, less what is carried, under versions by slot."""


def reverse_and_repost(
    difference: Journals,
    events: pa.Table,
    carried: pa.Table,
    make: Make,
    version: Version,
    streams: Mapping[str, str],
) -> Journals:
    """`difference`, its restated slots as two versions each. `streams` gives the stream of each event type.

    Events that wait keep what is carried of them, as they do in a difference.
    """
    restated = {
        (row["stream"], row["business_date"])
        for row in difference.headers.select(["stream", "business_date", "version"]).to_pylist()
        if row["version"] > 1 and row["stream"] != PRIOR_PERIOD
    }
    if not restated:
        return difference
    waiting = difference.held["event_id"]
    of_events, of_carried = (_within(table, restated, streams, waiting) for table in (events, carried))
    back = _named(make(events.slice(0, 0), carried.filter(of_carried), version), batches.TAKEN_BACK)
    twice = set(back.headers["slot"].to_pylist())
    again = make(events.filter(of_events), carried.slice(0, 0), lambda slot: version(slot) + (slot in twice))
    rest = make(events.filter(pc.invert(of_events)), carried.filter(pc.invert(of_carried)), version)
    return _together(rest, back, _named(again, batches.REPOSTED))


def _within(
    table: pa.Table, slots: set[tuple[str, date]], streams: Mapping[str, str], waiting: pa.ChunkedArray
) -> pa.ChunkedArray:
    """Which rows belong to one of the slots, those of events that wait left out."""
    stream = pc.index_in(table["event_type"], pa.array(list(streams), pa.string()))
    names = pa.array(list(streams.values()), pa.string())
    key = pc.binary_join_element_wise(names.take(stream.combine_chunks()), table["event_date"].cast(pa.string()), "/")
    wanted = pa.array([f"{name}/{day.isoformat()}" for name, day in slots], pa.string())
    return pc.and_not(pc.is_in(key, wanted), pc.is_in(table["event_id"], waiting.combine_chunks()))


def _named(journals: Journals, kind: str) -> Journals:
    headers = journals.headers
    place = headers.schema.get_field_index("kind")
    named: Any = [kind if version > 1 else "original" for version in headers["version"].to_pylist()]
    headers = headers.set_column(place, headers.schema.field(place), pa.array(named, pa.string()))
    return Journals(**{f.name: headers if f.name == "headers" else getattr(journals, f.name) for f in fields(Journals)})


def _together(*parts: Journals) -> Journals:
    return Journals(**{f.name: pa.concat_tables([getattr(part, f.name) for part in parts]) for f in fields(Journals)})
