"""Which sides of a reconciliation cannot be vouched for on a business date, and why, in sentences.

A side is made of tables; a table is complete when every object it comes from was read to the end of the date and no
figure of the vendor's contradicts what was read. The ledger's side from go-live on is our own drill-down: it counts
only while those journals are known to stand in the ledger as they were posted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from tieout.calendar import complete_at
from tieout.orchestration.catalog import LEDGER_KIND
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    import pyarrow as pa

    from tieout.close import Contradiction, StaleSource
    from tieout.sources.config import SourceConfig

UNPROVEN = "unproven/"
"""Facts of a run under this name and a reconciliation's id: why it proves less than it seems, a list of sentences."""

_SUMMED_FROM = {
    "usage_summary": ("usage_event", "subscription", "subscription_item", "product", "former_price"),
    "rated_lines": ("subscription_item", "price", "price_tier", "former_price"),
    "commitment_true_up": ("usage_event", "subscription_item", "price", "price_tier", "former_price"),
}
_RECEIVABLE_STREAMS = ("billing", "prior_period")
_UNDER_WAY = ("submitted", "unknown", "partially_posted", "confirmed", "mismatched", "reversing")
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """Why a side cannot be vouched for; `entities` are those it concerns, all of them where none is named."""

    reason: str
    entities: tuple[str, ...] = ()


class SourceGaps:
    """Why the vendors' tables may lack something of a business date; each object is looked up once."""

    def __init__(self, work: Work, business_date: date) -> None:
        self._work, self._day = work, business_date
        self._known: dict[tuple[str, str], Gap | None] = {}

    def of(self, definition_id: str) -> list[Gap]:
        """What the tables of a reconciliation may lack; empty if they do not."""
        from tieout.breaks.inputs import definition_path, side_queries, tables_of
        from tieout.conform.mapping import load_mappings
        from tieout.reconcile import load_definition

        settings = self._work.settings
        definition = load_definition(definition_path(settings, definition_id))
        named = set(tables_of(side_queries(settings, definition)))
        for summed in named & set(_SUMMED_FROM):
            named |= set(_SUMMED_FROM[summed])
        found = []
        for source in self._work.sources.values():
            if source.kind == LEDGER_KIND:
                continue
            mappings = load_mappings(settings, source.kind)
            objects = [
                name for name, mapping in mappings.items() if name in source.objects and named & set(mapping.entities)
            ]
            found += [gap for name in sorted(objects) if (gap := self._of_object(source, name))]
        return found

    def _of_object(self, source: SourceConfig, name: str) -> Gap | None:
        key = source.name, name
        if key not in self._known:
            self._known[key] = _object_gap(self._work, source, name, self._day)
        return self._known[key]


def _object_gap(work: Work, source: SourceConfig, name: str, business_date: date) -> Gap | None:
    from tieout.sources.extract import read_end

    entities = (source.legal_entity,) if source.legal_entity else ()
    end = read_end(source.name, name, work.store)
    if end is None:
        return Gap(f"{name} of {source.name} have never been read", entities)
    needed = _end_of(work, source, business_date)
    if end < needed:
        return Gap(
            f"{name} of {source.name} are read up to {_words(end)} only, the date ended {_words(needed)}", entities
        )
    told = _contradiction(work, source, name)
    return Gap(f"{name} of {source.name}: {told}", entities) if told else None


def _contradiction(work: Work, source: SourceConfig, name: str) -> str | None:
    """Both figures, where the vendor's total of an object is another one than what was read of it last."""
    from tieout.sources.extract import last_extract

    last = last_extract(source.name, name, work.store, work.landing)
    if last is None or not last.control.claimed or last.control.proven:
        return None
    figures = (_figures(last.control.claimed), _figures(last.control.counted))
    return f"{last.control.how} says {figures[0]}, read were {figures[1]}"


def contradicted_sources(work: Work) -> list[tuple[SourceConfig, Contradiction]]:
    """What was last read of each source that the vendor's own total contradicts."""
    from tieout.close import Contradiction

    return [
        (source, Contradiction(f"{source.name} {name}", told))
        for source in work.sources.values()
        if source.kind != LEDGER_KIND
        for name in sorted(source.objects)
        if (told := _contradiction(work, source, name))
    ]


def _end_of(work: Work, source: SourceConfig, business_date: date) -> datetime:
    """When a source has told everything of a date: files come by UTC day, all others as the entities' clocks go."""
    if source.kind == "files":
        return datetime.combine(business_date + timedelta(days=1), time(), UTC)
    return complete_at(work.entities.entities, business_date)


def stale_sources(work: Work, business_date: date) -> list[tuple[SourceConfig, StaleSource]]:
    """The sources that were not read to the end of a business date, and how far each was."""
    from tieout.close import StaleSource
    from tieout.sources.extract import read_end

    found = []
    for source in work.sources.values():
        if source.kind == LEDGER_KIND:
            continue
        ends = [end for name in source.objects if (end := read_end(source.name, name, work.store))]
        # a feed of files without a file for the date may have had nothing to tell; a folder without any is behind
        until = max(ends, default=None) if source.kind == "files" else min(ends, default=None)
        if until is None or until < _end_of(work, source, business_date):
            found.append((source, StaleSource(source.name, until.date() if until else None)))
    return found


def journal_gaps(work: Work, business_date: date, breaks: pa.Table | None) -> list[Gap]:
    """Why our drill-down may not be what the ledger holds: by entity, the slots whose journals differ or are under way.

    `breaks` are those of journal_to_ledger; None where the ledger was not read, which leaves every slot open.
    """
    if breaks is None:
        return [Gap("the ledger was not read after posting, so our own journals stand in for it unchecked")]
    faults: dict[str, dict[str, str]] = {}
    for slot, state in _batches_under_way(work, business_date):
        faults.setdefault(slot.split("/")[0], {})[slot] = state
    for row in breaks.select(["legal_entity_id", "break_key"]).to_pylist():
        if row["break_key"].startswith("TIEOUT/"):
            slot = row["break_key"].removeprefix("TIEOUT/").partition("/v")[0]
            if slot.split("/")[3] in _RECEIVABLE_STREAMS:
                faults.setdefault(row["legal_entity_id"], {}).setdefault(slot, "differs from the ledger")
    return [Gap(_slots(found), (entity,)) for entity, found in sorted(faults.items())]


def _batches_under_way(work: Work, business_date: date) -> Iterator[tuple[str, str]]:
    from tieout.store.batches import select_batches

    with work.store.reading() as session:
        found = select_batches(session, states=_UNDER_WAY)
    for batch in found:
        if batch.slot.stream in _RECEIVABLE_STREAMS and batch.slot.business_date <= business_date:
            yield str(batch.slot), f"is {batch.state.replace('_', ' ')}"


def _slots(faults: Mapping[str, str]) -> str:
    told = [
        f"the journal {stream.replace('_', ' ')} of {day} {fault}"
        for (_, _, _, stream, day), fault in ((slot.split("/"), fault) for slot, fault in sorted(faults.items()))
    ]
    more = f", and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return "; ".join(told[:_NAMED]) + more


def keep_gaps(work: Work, run_id: str, definition_id: str, gaps: Sequence[Gap]) -> None:
    """Keep with the run, for its report, why a reconciliation is unproven; run again, it replaces what was kept."""
    work.store.add_facts(run_id, {f"{UNPROVEN}{definition_id}": sentences_of(work, definition_id, gaps)})


def sentences_of(work: Work, definition_id: str, gaps: Sequence[Gap]) -> list[str]:
    """Why a reconciliation is unproven, for people."""
    from tieout.breaks.inputs import definition_path
    from tieout.reconcile import load_definition

    title = load_definition(definition_path(work.settings, definition_id)).title
    return [
        f"{title}, unproven{f' for {_listed(gap.entities)}' if gap.entities else ''}: {gap.reason}." for gap in gaps
    ]


def unproven_sentences(known: Mapping[str, Any]) -> list[str]:
    """Everything the facts of a run say its report cannot vouch for."""
    sides = [sentence for name in sorted(known) if name.startswith(UNPROVEN) for sentence in known[name]]
    return [*known.get("unproven", ()), *sides]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _figures(figures: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(figures.items()))


def _words(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
