"""Several ledgers of one entity: what is copied between them, each night and by hand, and both side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

from tieout.errors import ConfigError, TieoutError
from tieout.orchestration.facts import Facts
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.ledger import Comparison, Replay


def copy_parallel(work: Work, run_id: str, business_date: str) -> Facts:
    """What both ledgers get, up to a business date: the night's part of a parallel run; nothing where none is one.

    A ledger that cannot take its copies leaves a sentence with the run and does not keep the others from being read.
    """
    day, facts = date.fromisoformat(business_date), Facts()
    for view in _copied(work):
        span = view.copied_span
        if span is None or span[0] > day:
            continue
        name = f"copied/{view.id}/{view.ledger}"
        try:
            with work.kept(run_id, name) as counted:
                done = replay(work, view.id, view.ledger, until=min(day, span[1]))
                counted |= {**done.states}
        except TieoutError as error:
            work.unproven(run_id, f"{view.id}, ledger {view.ledger}, lacks journals of the parallel run: {error}.")
            continue
        facts[name] = dict(done.states)
        for note in done.notes:
            work.unproven(run_id, f"{view.id}, ledger {view.ledger}: {note}.")
    return facts


def replay(
    work: Work, entity_id: str, ledger: str, *, since: date | None = None, until: date | None = None,
    dry_run: bool = False, actor: str = "tieout",
) -> Replay:  # fmt: skip
    """Copy into a ledger what the ones in force hold of its configured span, or of a part of it.

    Raises ConfigError where nothing is to be copied there, and the errors of `tieout.ledger.replay`.
    """
    from tieout.erp.charts import load_charts
    from tieout.ledger import replay
    from tieout.ledger.protocol import Protocol

    view = _view(work, entity_id, ledger)
    span = view.copied_span
    if span is None:
        raise ConfigError(
            "nothing is copied into this ledger",
            record=f"{entity_id}/{ledger}",
            remedy="set history_from or parallel_until of the ledger in entities.yaml",
        )
    first, last = max(since or span[0], span[0]), min(until or span[1], span[1])
    erp = work.erp(view.id, view.ledger).config
    with work.ledger(view.ledger) as opened:
        return replay(
            view,
            opened,
            work.store,
            since=first,
            until=last,
            chart=load_charts(work.settings).of(view.id, view.ledger),
            dimensions=tuple(erp.dimensions),
            dry_run=dry_run,
            protocol=Protocol(settle=erp.settle),
            actor=actor,
        )


def compare(work: Work, entity_id: str, on: date, ledgers: tuple[str, str] | None = None) -> Comparison:
    """Both trial balances of an entity at the end of a day, each proven by itself; its last two ledgers by default."""
    from tieout.erp.charts import load_charts
    from tieout.ledger import compare_ledgers, prove

    names = ledgers or tuple(one.ledger for one in work.entities[entity_id].in_force)[-2:]
    if len(names) != 2:
        raise ConfigError("the entity has one ledger only", record=entity_id)
    charts, proofs = load_charts(work.settings), []
    for name in names:
        view = _view(work, entity_id, name)
        with work.ledger(name) as opened:
            proofs.append(prove(view, on, opened, work.store))
    left, right = (charts.of(entity_id, name) for name in names)
    return compare_ledgers(proofs[0], proofs[1], names=(names[0], names[1]), charts=(left, right))


def _copied(work: Work) -> Iterator[LegalEntity]:
    for entity in work.entities.entities:
        for one in entity.in_force:
            view = entity.of_ledger(one.ledger)
            if view.copied_span:
                yield view


def _view(work: Work, entity_id: str, ledger: str) -> LegalEntity:
    entity = work.entities[entity_id]
    names = [one.ledger for one in entity.in_force]
    if ledger not in names:
        raise ConfigError("the entity has no such ledger", record=entity_id, got=ledger, expected=names)
    return entity.of_ledger(ledger)
