"""A definition judged before it is trusted: measured on labelled pairs, or a change of it simulated over past dates."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tieout.errors import ConfigError
from tieout.orchestration.steps import night_of
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.reconcile import Definition, Measurement, Simulation


def measure_definition(
    definition: str,
    truth: Path,
    *,
    business_date: date | None = None,
    left: Path | None = None,
    right: Path | None = None,
    work: Work | None = None,
) -> Measurement:
    """Reconcile and compare with labelled pairs: over two files, without any store, or over the published tables.

    Raises ConfigError unless there are both files, or a business date.
    """
    from tieout.lake.engine import engine
    from tieout.reconcile import load_definition, measure, reconcile
    from tieout.reconcile.measure import read_truth

    if not truth.is_file():
        raise ConfigError("the truth is not there", record=str(truth))
    if left is not None and right is not None:
        rules = load_definition(Path(definition))
        found = reconcile(rules, left, right, as_of=business_date)
        return measure(found, read_truth(truth), passes=[p.name for p in rules.passes])
    if business_date is None or left is not None or right is not None:
        raise ConfigError("say what is reconciled", expected="--left and --right, or --business-date")
    work = work or Work.from_env()
    rules = _rules(work, definition)
    with engine(work.settings) as session:
        sides = _sides(session, work, rules, work.store.published(), business_date)
        found = reconcile(rules, *sides, engine=session, as_of=business_date)
        return measure(found, read_truth(truth), passes=[p.name for p in rules.passes], engine=session)


def simulate_definition(
    work: Work, definition: str, changed: Path, first: date, last: date
) -> list[tuple[date, Simulation]]:
    """What a changed definition would have found on each past date that a night was run for, as its tables were then.

    Each definition's sides are those its own `sql` names. Verdicts on suggested matches count as they did. Nothing is
    stored.
    """
    from tieout.breaks.verdicts import verdicts
    from tieout.lake.engine import engine
    from tieout.reconcile import compare, load_definition, reconcile

    if last < first:
        raise ConfigError("the dates are no span", got=f"{first} to {last}")
    now, new = _rules(work, definition), load_definition(changed)
    if new.id != now.id:
        raise ConfigError("the changed definition is another reconciliation", expected=now.id, got=new.id)
    if not new.calendars and now.calendars:
        new = new.model_copy(update={"calendars": now.calendars})
    days = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        run_id = night_of(work, "", day)
        if run_id is None:
            continue
        snapshot, said = work.store.published(run_id), verdicts(work.store, definition, day)
        with engine(work.settings) as session:
            results = []
            for rules in (now, new):
                sides = _sides(session, work, rules, snapshot, day)
                results.append(reconcile(rules, *sides, engine=session, as_of=day, verdicts=said))
            days.append((day, compare(results[0], results[1], engine=session)))
    return days


def _rules(work: Work, definition: str) -> Definition:
    from tieout.breaks.inputs import configured_definition
    from tieout.reconcile import load_definition

    if definition.endswith((".yaml", ".yml")):
        return load_definition(Path(definition))
    return configured_definition(work.settings, definition)


def _sides(session: Engine, work: Work, rules: Definition, snapshot: dict[str, int], day: date) -> tuple[Path, Path]:
    from tieout.breaks.inputs import bind_sides, side_queries

    sides = bind_sides(
        session,
        side_queries(work.settings, rules),
        lake=work.lake,
        snapshot=snapshot,
        store=work.store,
        settings=work.settings,
        business_date=day,
    )
    return sides["left"], sides["right"]
