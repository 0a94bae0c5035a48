"""Into the ERP and back: taking over, what is due, the steps of the posting protocol, the proof of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from tieout.errors import ErpUnavailable, Rejected, TieoutError, UnknownOutcome
from tieout.ids import Slot
from tieout.orchestration.facts import Facts, foreign_row, proof_row
from tieout.orchestration.work import Work

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.ledger.protocol import Protocol
    from tieout.store.batches import Batch


UNREACHED = "The ERP could not be reached"
UNSIGNED = "The go-live of"


def take_over(work: Work, run_id: str) -> dict[str, ErpUnavailable]:
    """Load each ledger's position the day before it was taken over, once.

    Gives the sources whose ERP could not be reached for that, which does not keep the others from being taken over.
    """
    from tieout.erp.charts import load_charts
    from tieout.ledger import golive
    from tieout.ledger.rules import load_rules

    run = work.store.run(run_id)
    today = run.business_date if run and run.business_date else work.store.now().date()
    waiting = [view for view in _views(work, today) if not golive.opening(work.store, view).is_there]
    down: dict[str, ErpUnavailable] = {}
    if not waiting:
        return down
    rules, charts, snapshot = load_rules(work.settings), load_charts(work.settings), work.store.published(run_id)
    with work.kept(run_id, "take_over"):
        for view in waiting:
            source = work.ledger_source(view.id, view.ledger).name
            if source in down:
                continue
            try:
                with work.ledger(view.ledger) as ledger:
                    golive.load(
                        view,
                        ledger,
                        lake=work.lake,
                        store=work.store,
                        rules=rules,
                        snapshot=snapshot,
                        settings=work.settings,
                        chart=charts.of(view.id, view.ledger),
                    )
            except ErpUnavailable as error:
                down[source] = error
    return down


def _views(work: Work, day: date) -> list[LegalEntity]:
    """Each entity as each of its ledgers; a later ledger only once its first day has come."""
    return [
        view
        for entity in work.entities.entities
        for view in (entity.of_ledger(one.ledger) for one in entity.in_force)
        if view.ledger == entity.ledger or view.taken_over_on <= day
    ]


def resume_posting(work: Work, run_id: str) -> list[dict[str, Any]]:
    """The posting runs to start: one per batch the protocol can go on with, each under a name of its own.

    Accepted write-offs get their batches before. The first time, the ledger is taken over: opening balances are loaded
    from the ERP. While an ERP cannot be reached for that, nothing is due there.
    """
    from tieout.ledger.post import due_batches
    from tieout.ledger.protocol import Protocol
    from tieout.orchestration.write_offs import plan_accepted

    plan_accepted(work, run_id)
    work.made_good(run_id, UNREACHED)
    down = take_over(work, run_id)
    for source, error in sorted(down.items()):
        work.unproven(run_id, f"{UNREACHED} to take its ledger over ({source}): {error.message}.")
    _tell_unsigned(work, run_id)
    due = due_batches(work.store, protocol=Protocol(status_checks=_status_checks(work)))
    return [_attempt(work, batch_id) for batch_id in due if _source_of(work, batch_id) not in down]


def _source_of(work: Work, batch_id: str) -> str:
    slot = Slot.of(batch_id)
    return work.ledger_source(slot.legal_entity_id, slot.ledger).name


def _tell_unsigned(work: Work, run_id: str) -> None:
    """Keep for the report whose journals wait because nobody signed the opening position."""
    from tieout.store import golive

    work.made_good(run_id, UNSIGNED)
    for entity in work.entities.entities:
        for one in entity.in_force:
            with work.store.reading() as session:
                unsigned = golive.is_unsigned(session, entity.id, one.ledger, golive.WHOLE)
            if unsigned:
                work.unproven(
                    run_id,
                    f"{UNSIGNED} {entity.id}, ledger {one.ledger}, is not signed: nothing is posted there until it is.",
                )


def ask_for_approval(work: Work) -> list[dict[str, Any]]:
    """The posting runs to start only to ask: one per batch that waits for a decision nobody is asked for."""
    from tieout.orchestration.approval import waiting

    return [_attempt(work, batch_id) for batch_id in waiting(work)]


def _attempt(work: Work, batch_id: str) -> dict[str, Any]:
    from tieout.ledger.post import next_attempt

    name = batch_id.removeprefix("TIEOUT/").replace("/v", "__v").replace("/", ".")
    run = f"post__{name}__a{next_attempt(work.store, batch_id)}"
    return {"trigger_run_id": run, "conf": {"batch_id": batch_id}}


def not_waiting(work: Work, due: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of these posting runs, those that do not wait for a person; a night does not wait with them."""
    found = _batches(work, [one["conf"]["batch_id"] for one in due])
    waits = {batch.batch_id for batch in found if batch.state == "awaiting_approval"}
    return [one["trigger_run_id"] for one in due if one["conf"]["batch_id"] not in waits]


def state_of(work: Work, batch_id: str) -> str:
    """The batch's state."""
    return _batches(work, [batch_id])[0].state


def check_approval(work: Work, batch_id: str) -> str:
    """The batch's id, provided that it may be posted as far as approval goes."""
    from tieout.ledger import post

    post.check_approval(batch_id, work.store)
    return batch_id


def submit(work: Work, batch_id: str) -> str:
    """Bring a batch into the ERP; its state. Raises where a person must act, or where the next try may succeed."""
    from tieout.ledger import post

    with _kept_of(work, batch_id, "submit"), work.ledger(Slot.of(batch_id).ledger) as ledger:
        state = post.submit(batch_id, ledger, work.store, protocol=protocol(work, batch_id))
        if state == "partially_posted":  # the refusal ends this run: what the ERP took is read back before it does
            state = post.read_back(batch_id, ledger, work.store, protocol=protocol(work, batch_id))
    if state == "unknown":
        raise UnknownOutcome("the ERP's answer was lost", record=batch_id, remedy="the next status check looks it up")
    return _not_refused(work, batch_id, state)


def protocol(work: Work, batch_id: str) -> Protocol:
    """How patient posting is with the ERP of a batch's entity."""
    from tieout.ledger.protocol import Protocol

    slot = Slot.of(batch_id)
    return Protocol(
        settle=work.erp(slot.legal_entity_id, slot.ledger).config.settle, status_checks=_status_checks(work)
    )


def _status_checks(work: Work) -> tuple[timedelta, ...]:
    return tuple(timedelta(minutes=minutes) for minutes in work.entities.status_checks)


def read_back(work: Work, batch_id: str) -> str:
    """Read a batch back and compare every line; its state. A break that it writes off is written off then."""
    from tieout.ledger import post
    from tieout.orchestration.write_offs import settle
    from tieout.store.batches import REVERSAL, WRITE_OFF

    with _kept_of(work, batch_id, "read_back"), work.ledger(Slot.of(batch_id).ledger) as ledger:
        state = post.read_back(batch_id, ledger, work.store, protocol=protocol(work, batch_id))
    if _batches(work, [batch_id])[0].kind in (WRITE_OFF, REVERSAL):
        settle(work)
    work.store.finish_run(_run_of(batch_id), state)
    return _not_refused(work, batch_id, state)


def _run_of(batch_id: str) -> str:
    """The record of a batch's posting: one for all its attempts, with the cost of the last."""
    return f"post_journal.{batch_id}"


@contextmanager
def _kept_of(work: Work, batch_id: str, name: str) -> Iterator[None]:
    """A step of a batch's posting, its cost kept with the batch's own run: the night only waits meanwhile."""
    work.store.start_run(_run_of(batch_id), "posting", None, {"batch_id": batch_id})
    with work.kept(_run_of(batch_id), name):
        yield


def cost(work: Work, batch_ids: Sequence[str]) -> Facts:
    """What posting these batches took: since when, times in all, the largest process's memory."""
    steps = [
        step
        for batch_id in batch_ids
        for step in work.store.facts(_run_of(batch_id)).values()
        if isinstance(step, Mapping) and "milliseconds" in step
    ]
    return {
        "started_at": min((step["started_at"] for step in steps), default=""),
        "milliseconds": sum(step["milliseconds"] for step in steps),
        "cpu_milliseconds": sum(step["cpu_milliseconds"] for step in steps),
        "peak_mb": max((step["peak_mb"] for step in steps), default=0),
    }


def _not_refused(work: Work, batch_id: str, state: str) -> str:
    if state in ("rejected", "partially_posted", "mismatched"):
        reason = _batches(work, [batch_id])[0].reason
        raise Rejected(f"the batch is {state.replace('_', ' ')}", record=batch_id, got=reason)
    return state


def _batches(work: Work, batch_ids: Sequence[str]) -> list[Batch]:
    from tieout.store import batches

    with work.store.reading() as session:
        return [batches.get(session, one) for one in batch_ids]


def posting_result(work: Work, run_id: str, batch_ids: Sequence[str]) -> Facts:
    """How far the batches of this run got, per entity: journals the ERP took, and those proved by reading back."""
    result: dict[str, dict[str, int]] = {e.id: {"posted": 0, "read_back": 0} for e in work.entities.entities}
    for batch in _batches(work, batch_ids):
        counts = result[batch.slot.legal_entity_id]
        counts["posted"] += sum(j.state in ("confirmed", "posted", "mismatched") for j in batch.journals)
        counts["read_back"] += sum(j.state == "posted" for j in batch.journals)
    counted = {f"posting/{entity}": counts for entity, counts in result.items()}
    work.store.add_facts(run_id, {**counted, "posting": cost(work, batch_ids)})
    return result


def prove(work: Work, run_id: str, business_date: str) -> Facts:
    """Opening balance + our journals + foreign entries = trial balance, per entity, ledger and account.

    A ledger that cannot be proved, because its ERP is down or was never taken over, does not keep the others from being
    proved; the first such error is raised after that.
    """
    from tieout.ledger.proof import prove

    day, rows, foreign, ties = date.fromisoformat(business_date), [], [], True
    names = account_names(work)
    down: dict[str, ErpUnavailable] = {}
    failed: dict[str, TieoutError] = {}
    with work.kept(run_id, "proof") as facts:
        for view in _views(work, day):
            source = work.ledger_source(view.id, view.ledger).name
            try:
                if source in down:
                    raise down[source]
                with work.ledger(view.ledger) as ledger:
                    proof = prove(view, day, ledger, work.store)
            except TieoutError as error:
                failed[f"{view.id}, ledger {view.ledger}"] = error
                if isinstance(error, ErpUnavailable):
                    down[source] = error
                continue
            ties = ties and proof.ties
            several = len(view.in_force) > 1
            for line in proof.lines:
                account = f"{view.ledger} {line.account}" if several else line.account
                rows.append(proof_row(view.id, line, names.get((view.id, view.ledger, line.account), ""), account))
            foreign += [foreign_row(entry) for entry in proof.foreign]
        facts |= {"ties": ties, "accounts": len(rows), "foreign_entries": len(foreign)}
        why: dict[str, list[str]] = {}
        for name, reason in failed.items():
            why.setdefault(reason.message, []).append(name)
        told = [f"Not proved: {'; '.join(unproved)}: {message}." for message, unproved in why.items()]
        work.store.add_facts(run_id, {"proof_rows": rows, "foreign_rows": foreign, "unproved": told})
        if failed:
            raise next(iter(failed.values()))
    return facts


def account_names(work: Work) -> dict[tuple[str, str, str], str]:
    """Names of the ERPs' accounts by entity, ledger and code, as last read."""
    from tieout.lake.engine import engine

    ledgers = {source.name: source.ledger for source in work.ledger_sources}
    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(), ["gl_account"])
        rows = session.rows("SELECT legal_entity_id, source, code, name FROM gl_account")
    return {(entity, ledgers[source], code): name for entity, source, code, name in rows if source in ledgers}
