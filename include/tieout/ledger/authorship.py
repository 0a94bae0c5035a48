"""Who posts what: an event is posted by exactly one, Tieout or somebody else."""

from __future__ import annotations

from datetime import date, timedelta
from typing import get_args

from tieout.calendar import period_of
from tieout.entities import LegalEntity, StreamName
from tieout.ledger.events import MONTH_END


def problems(entity: LegalEntity) -> list[str]:
    """What is wrong with an entity's authorship, in sentences: days that two would post, turns within a period."""
    return [*_overlaps(entity), *_schedules(entity), *_turns(entity)]


def _overlaps(entity: LegalEntity) -> list[str]:
    found = []
    for author in entity.authors:
        for start, end in entity.posting_spans(author.stream):
            first = max(start, author.since, entity.go_live)
            last = min(end - timedelta(days=1) if end else date.max, author.until or date.max)
            if first <= last:
                until = "" if last == date.max else f" to {last}"
                found.append(
                    f"{entity.id}: stream {author.stream} is posted by Tieout and by {author.by} from {first}{until};"
                    " let one of them end before the other begins"
                )
    return found


def _schedules(entity: LegalEntity) -> list[str]:
    if entity.schedule_source == "erp" and entity.posting_spans("release"):
        return [
            f"{entity.id}: revenue schedules come from the ERP (schedule_source), so it posts the releases;"
            " set stream release to verify"
        ]
    return []


def _turns(entity: LegalEntity) -> list[str]:
    found = []
    for stream in (name for name in get_args(StreamName) if name in MONTH_END):
        given = entity.streams.get(stream)
        for turn in given if isinstance(given, tuple) else ():
            period = period_of(entity, turn.since)
            if turn.since not in (period.start, entity.go_live):
                found.append(
                    f"{entity.id}: stream {stream} changes hands on {turn.since}, within period {period.name};"
                    f" month-end journals are of whole periods, so name {period.start}"
                )
    return found
