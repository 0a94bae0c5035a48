"""The posting protocol: exactly one journal in a foreign ledger, whatever dies when.

    look up by run key -> write ahead -> send -> look up again -> read back, line by line -> posted

Each step is callable on its own and safe to repeat. Before anything is sent the ERP is asked whether the journal is
there, and the attempt is written down; after a lost answer nothing is sent until the ERP has been asked again, and
an absence counts only once a request still under way would have ended. The writer's lease is renewed right before
every write to the ERP, which is refused to a process that lost it. HTTP success is not posted.

By hand: a mismatch that was corrected is read again, or reversed; a refused or lost batch is resolved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from tieout.erp.port import ErpJournal, ErpLine, Fence, JournalRef, Ledger
from tieout.errors import ErpError, ErpUnavailable, LedgerError, Rejected, UnknownOutcome
from tieout.ids import Slot, mirror_key, run_key, short_key
from tieout.store import Lease, Store, batches
from tieout.store.batches import Batch, BatchJournal
from tieout.store.leases import guard, renew


@dataclass(frozen=True, slots=True)
class Protocol:
    """How patient posting is.

    `settle`: after a lost answer, how long a request may still be under way in the ERP; only then is a journal that
    cannot be found really absent. `checks`: pauses in seconds between look-ups after a lost answer. `lags`: pauses
    before a read-back that does not find the journal looks again, because some ERPs show it later than they say so.
    `ttl`: how long the writer's lease holds without renewal; longer than the ERP's slowest answer.
    """

    settle: timedelta = timedelta(seconds=60)
    checks: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    lags: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
    ttl: timedelta = timedelta(minutes=10)
    sleep: Callable[[float], None] = time.sleep


def due_batches(store: Store, *, entity: str | None = None) -> list[str]:
    """Batches that the protocol can go on with now, in posting order.

    Not among them: a batch behind an unfinished earlier version of its slot, one of a stream that a mismatch halted,
    one whose ledger another process is writing to.
    """
    with store.reading() as session:
        found = batches.select_batches(session, entity=entity)
    halted = {(b.chain, b.slot.stream) for b in found if b.state == "mismatched"}
    waiting: set[Slot] = set()
    due = []
    for batch in found:
        finished = batch.state in batches.FINISHED or batch.state == "rejected"
        if (
            batch.state in batches.RESUMABLE
            and batch.slot not in waiting
            and (batch.chain, batch.slot.stream) not in halted
            and store.lease_is_free(batch.chain)
        ):
            due.append(batch.batch_id)
        if not finished:
            waiting.add(batch.slot)
    return due


def next_attempt(store: Store, batch_id: str) -> int:
    """Count one more attempt at posting a batch; its number makes the name of the run that does it."""
    with store.transaction() as session:
        return batches.next_attempt(session, batch_id)


def post_batch(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str = "tieout"
) -> str:
    """Submit a batch and read back what the ERP took; gives the state it reached. A posted batch stays as it is."""
    state = submit(batch_id, ledger, store, protocol=protocol, actor=actor)
    if state in ("confirmed", "partially_posted"):
        return read_back(batch_id, ledger, store, protocol=protocol, actor=actor)
    return state


def check_approval(batch_id: str, store: Store) -> str:
    """The batch's state, provided it may be posted as far as approval goes.

    Raises LedgerError while it waits for a decision or the decision was about other content.
    """
    with store.reading() as session:
        batch = batches.get(session, batch_id)
        approved = batches.is_approved(session, batch)
    if batch.state in ("planned", "awaiting_approval"):
        raise LedgerError("the batch waits for approval", record=batch_id, remedy="a second person decides on it")
    if batch.needs_approval and batch.state in batches.RESUMABLE and not approved:
        raise LedgerError(
            "no approval of exactly this content", record=batch_id, expected=batch.content_hash, remedy="decide again"
        )
    return batch.state


def submit(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str = "tieout"
) -> str:
    """Bring every journal of a batch into the ERP, at most once; gives the batch's state.

    `confirmed`: the ERP says it has them all. `unknown`: an answer was lost and nothing can be said yet; try again
    later. `rejected`, `partially_posted`: the ERP refused. Raises ErpUnavailable while the ERP is down (the batch
    waits), LeaseHeld while another process writes to the same ledger, LedgerError if the batch may not be posted.
    """
    rules = protocol or Protocol()
    state = check_approval(batch_id, store)
    if state not in batches.RESUMABLE or state == "confirmed":
        return state
    chain = _load(store, batch_id).chain
    with store.lease(chain, ttl=rules.ttl) as lease:
        batch = _load(store, batch_id)
        if batch.state not in batches.RESUMABLE or batch.state == "confirmed":
            return batch.state
        check_approval(batch_id, store)
        _refuse_out_of_turn(store, batch)
        for journal in batch.journals:
            missing = journal.state in ("pending", "submitted", "unknown")
            if missing or (journal.state == "rejected" and batch.state == "partially_posted"):
                lease = store.renew(lease, rules.ttl)
                _submit_journal(journal, batch, ledger, store, lease, rules, actor)
        return _settle_batch(store, batch_id, actor)


def read_back(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str = "tieout"
) -> str:
    """Read each confirmed journal back and compare entity, currency, date and every line; gives the batch's state.

    `posted` if all are equal. `mismatched` if one differs, is there twice, or is still not there after the pauses
    `lags` of the protocol: its stream halts.
    """
    rules = protocol or Protocol()
    batch = _load(store, batch_id)
    if batch.state not in ("confirmed", "partially_posted"):
        return batch.state
    with store.lease(batch.chain, ttl=rules.ttl) as lease:
        batch = _load(store, batch_id)
        if batch.state not in ("confirmed", "partially_posted"):
            return batch.state
        for journal in batch.journals:
            if journal.state == "confirmed":
                lease = store.renew(lease, rules.ttl)
                _verify_journal(journal, batch, ledger, store, lease, rules, actor)
        return _settle_batch(store, batch_id, actor)


def recheck_mismatched(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str
) -> str:
    """Read a mismatched batch back once more after somebody corrected it in the ERP; gives its state.

    `posted` if every journal is equal now; `partially_posted` if others of its journals were refused and are to be
    sent again; `mismatched` as long as one differs.
    """
    rules = protocol or Protocol()
    with _owned(store, batch_id, rules) as (batch, lease):
        if batch.state != "mismatched":
            return batch.state
        for journal in batch.journals:
            if journal.state == "mismatched" and not _differences(journal, _all(ledger, journal, batch), ledger):
                _mark(store, lease, journal, "posted", actor)
        return _settle_batch(store, batch_id, actor)


def reverse(
    batch_id: str,
    ledger: Ledger,
    store: Store,
    *,
    on: date,
    actor: str,
    second: str,
    reason: str,
    protocol: Protocol | None = None,
) -> str:
    """Take a posted or mismatched batch out of the ledger by mirrors of what the ERP holds; gives its state.

    Every journal the ERP holds of it is mirrored under a run key of its own, dated `on`, and read back; then the batch
    is `reversed` and the next plan carries its content again. Safe to repeat: a mirror that is there is not posted
    twice. Raises LedgerError if the batch is not in the ledger or a mirror differs, and the port's errors.
    """
    _need_two(batch_id, actor, second, reason)
    rules = protocol or Protocol()
    with _owned(store, batch_id, rules) as (batch, lease):
        if batch.state == "reversed":
            return batch.state
        if batch.state not in ("posted", "mismatched"):
            raise LedgerError("there is nothing to reverse", record=batch_id, got=batch.state)
        fence = _fence(store, lease, rules)
        mirrors = []
        for journal in batch.journals:
            held = [ref for ref in _all(ledger, journal, batch) if ref.state == "posted"]
            for number, ref in enumerate(held, 1):
                key = mirror_key(journal.run_key, number)
                meant = replace(ledger.read_back(ref).mirrored(on, key, short_key(key)), state=None)
                mirror = ledger.reverse(ref, on, key, short_key(key), fence=fence)
                found = differences(meant, ledger.read_back(mirror))
                if found:
                    raise LedgerError("the mirror in the ERP differs", record=key, got="; ".join(found))
                mirrors.append({"run_key": key, "erp_id": mirror.erp_id, "erp_number": mirror.number})
            if journal.state in ("posted", "mismatched"):
                _mark(store, lease, journal, "reversed", actor)
        return _decide(
            store, lease, batch_id, "reversed", actor, reason, {"second": second, "on": on, "mirrors": mirrors}
        )


def resolve(
    batch_id: str,
    ledger: Ledger,
    store: Store,
    *,
    actor: str,
    reason: str,
    second: str | None = None,
    documents: Mapping[str, str] | None = None,
    protocol: Protocol | None = None,
) -> str:
    """End a refused or lost batch by hand; gives its state. Its content counts from then on, and is not planned again.

    With `documents` (run key → the ERP's id) each missing journal is an equal document that somebody wrote into the
    ERP: it is read back and compared. Without, the content is not to be posted and stays a reconciling item; that
    takes a `second` person. Raises LedgerError where a document is not equal, where the ERP holds a journal that is
    said not to be posted, and where another version carries the content already.
    """
    rules = protocol or Protocol()
    if documents is None:
        _need_two(batch_id, actor, second or actor, reason)
    with _owned(store, batch_id, rules) as (batch, lease):
        _refuse_carried(store, batch)
        for journal in batch.journals:
            if journal.state in ("confirmed", "posted"):
                continue
            if documents is None:
                held = _held(_all(ledger, journal, batch))
                if held is not None and held.state == "posted":
                    raise LedgerError(
                        "the journal stands in the ERP", record=journal.run_key, got=held.number,
                        remedy="resume posting: it is read back and compared",
                    )  # fmt: skip
                continue
            _refuse_unequal(journal, documents.get(journal.run_key), ledger)
        with store.transaction() as session:
            guard(session, lease)
            for key, erp_id in (documents or {}).items():
                batches.note_document(session, key, erp_id)
        facts = {"second": second, "documents": dict(documents or {})}
        return _decide(store, lease, batch_id, "manually_resolved", actor, reason, facts)


def as_erp_journal(journal: BatchJournal) -> ErpJournal:
    """The stored content of a journal in the ERP port's form."""
    content = journal.content
    lines = []
    for line in content["lines"]:
        amount, debit = Decimal(line["amount"]), line["side"] == "debit"
        lines.append(
            ErpLine(
                account=line["account"],
                debit=amount if debit else Decimal(0),
                credit=Decimal(0) if debit else amount,
                description=line["description"],
                dimensions=line["dimensions"],
                foreign_currency=line.get("foreign_currency"),
                foreign_amount=Decimal(line["foreign_amount"]) if "foreign_amount" in line else None,
            )
        )
    return ErpJournal(
        entity=content["entity"],
        run_key=journal.run_key,
        short_key=journal.short_key,
        date=journal.accounting_date,
        currency=content["currency"],
        narrative=content["narrative"],
        lines=tuple(lines),
    )


def differences(meant: ErpJournal, held: ErpJournal) -> list[str]:
    """What the ERP holds otherwise than meant, in words; empty if equal. The narrative takes no part."""
    found = [
        f"{name}: {getattr(held, name)} instead of {getattr(meant, name)}"
        for name in ("entity", "currency", "date", "run_key")
        if getattr(held, name) != getattr(meant, name)
    ]
    if held.state != "posted":
        found.append(f"state: {held.state} instead of posted")
    if len(held.lines) != len(meant.lines):
        found.append(f"{len(held.lines)} lines instead of {len(meant.lines)}")
    for number, (ours, theirs) in enumerate(zip(_ordered(meant.lines), _ordered(held.lines), strict=False), 1):
        if _comparable(ours) != _comparable(theirs):
            found.append(f"line {number}: {_text(theirs)} instead of {_text(ours)}")
    return found


def _ordered(lines: Iterable[ErpLine]) -> list[ErpLine]:
    """Lines in an order that does not depend on the ERP's own."""
    return sorted(lines, key=_comparable)


def _comparable(line: ErpLine) -> tuple[Any, ...]:
    foreign = line.foreign_currency or "", line.foreign_amount or Decimal(0)
    return line.account, line.debit, line.credit, tuple(sorted(line.dimensions.items())), foreign


def _text(line: ErpLine) -> str:
    foreign = f" ({line.foreign_amount} {line.foreign_currency})" if line.foreign_currency else ""
    side = "debit" if line.debit else "credit"
    return f"{line.account} {side} {line.debit or line.credit}{foreign} {dict(line.dimensions)}"


@contextmanager
def _owned(store: Store, batch_id: str, rules: Protocol) -> Iterator[tuple[Batch, Lease]]:
    """A batch while this process is its ledger's only writer."""
    with store.lease(_load(store, batch_id).chain, ttl=rules.ttl) as lease:
        yield _load(store, batch_id), lease


def _fence(store: Store, lease: Lease, rules: Protocol) -> Fence:
    """Called by the adapter before each write: the lease is whole again, or the write does not happen."""

    def whole() -> None:
        store.renew(lease, rules.ttl)

    return whole


def _need_two(batch_id: str, actor: str, second: str, reason: str) -> None:
    if actor == second or not reason.strip():
        raise LedgerError("this needs two people and a reason", record=batch_id, got=(actor, second))


def _refuse_carried(store: Store, batch: Batch) -> None:
    """What another version carries would count twice: one planned since, or one that was resolved after this one."""
    with store.reading() as session:
        others = batches.select_batches(session, entity=batch.slot.legal_entity_id)
    for other in others:
        same = other.slot == batch.slot
        later = other.version > batch.version if same else other.planned_at >= batch.changed_at
        carries = (same or other.slot.stream == "prior_period") and later
        resolved_since = same and other.state == "manually_resolved" and other.changed_at >= batch.planned_at
        if other.chain == batch.chain and other.counts and other != batch and (carries or resolved_since):
            raise LedgerError(
                "its content is carried by another batch",
                record=batch.batch_id,
                got=f"{other.batch_id}, {other.state}",
                remedy="resolve or reverse that one",
            )


def _refuse_unequal(journal: BatchJournal, erp_id: str | None, ledger: Ledger) -> None:
    if erp_id is None:
        raise LedgerError("no document is named for a journal of the batch", record=journal.run_key)
    meant = as_erp_journal(journal)
    held = ledger.read_back(JournalRef(meant.entity, erp_id, journal.run_key, meant.date, "posted"))
    found = differences(meant, replace(held, run_key=meant.run_key))  # a document of somebody's own has no key of ours
    if found:
        raise LedgerError("the document is not equal", record=f"{journal.run_key}, {erp_id}", got="; ".join(found))


def _decide(
    store: Store, lease: Lease, batch_id: str, to: str, actor: str, reason: str, facts: Mapping[str, Any]
) -> str:
    with store.transaction() as session:
        guard(session, lease)
        return batches.transition(session, batch_id, to, actor=actor, now=store.now(), facts=facts, reason=reason).state


def _load(store: Store, batch_id: str) -> Batch:
    with store.reading() as session:
        return batches.get(session, batch_id)


def _refuse_out_of_turn(store: Store, batch: Batch) -> None:
    with store.reading() as session:
        others = batches.select_batches(session, entity=batch.slot.legal_entity_id, stream=batch.slot.stream)
    halting = [b.batch_id for b in others if b.chain == batch.chain and b.state == "mismatched"]
    if halting:
        raise LedgerError(
            "the stream is halted: what the ERP holds differs from what was sent",
            record=batch.batch_id,
            got=halting[0],
            remedy="correct or reverse that journal first",
        )
    for other in others:
        unfinished = other.state not in (*batches.FINISHED, "rejected")
        if other.slot == batch.slot and other.version < batch.version and unfinished:
            raise LedgerError(
                "an earlier version of the slot is not finished", record=batch.batch_id, got=other.batch_id
            )


def _submit_journal(
    journal: BatchJournal, batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol, actor: str
) -> None:
    """One journal: look up, write ahead, send. Every exit leaves a state from which this can be called again."""
    ref = _find(ledger, journal, batch)
    if (ref is None or ref.state == "draft") and journal.state in ("submitted", "unknown"):
        ref = _wait_until_settled(journal, batch, ledger, store, lease, rules)
    if ref is not None and ref.state == "posted":
        _mark(store, lease, journal, "confirmed", actor, ref=ref)
        return
    if journal.state == "submitted":
        # an attempt whose process died: it is over (see above), the next one gets its own record
        _mark(store, lease, journal, "unknown", actor, note="no answer was recorded")
    with store.transaction() as session:
        renew(session, lease, rules.ttl, store.now())
        if batches.get(session, batch.batch_id).state not in ("submitted", "partially_posted"):
            batches.transition(session, batch.batch_id, "submitted", actor=actor, now=store.now())
        batches.mark_journal(session, journal.run_key, "submitted", actor=actor, now=store.now(), fence=lease.token)
    try:
        ref = ledger.post(as_erp_journal(journal), fence=_fence(store, lease, rules))
    except UnknownOutcome as error:
        ref = _recheck(ledger, journal, batch, rules)
        if ref is None:
            _mark(store, lease, journal, "unknown", actor, note=error.message)
            return
    except Rejected as error:
        # rejected content is posted again under the next version: only what is not there may be called so
        try:
            ref = _find(ledger, journal, batch)
        except ErpError as silent:
            note = f"{error}; it could not be looked up afterwards: {silent.message}"
            _mark(store, lease, journal, "unknown", actor, note=note)
            return
        if ref is None or ref.state != "posted":
            _mark(store, lease, journal, "rejected", actor, note=str(error))
            return
    except ErpUnavailable:
        _mark(store, lease, journal, "pending", actor, note="the ERP could not be reached")
        raise
    _mark(store, lease, journal, "confirmed", actor, ref=ref)


def _find(ledger: Ledger, journal: BatchJournal, batch: Batch) -> JournalRef | None:
    """The journal in the ERP, a posted one before a draft, the oldest first. Raises ErpError if it cannot be asked."""
    return _held(_all(ledger, journal, batch))


def _held(refs: list[JournalRef]) -> JournalRef | None:
    """The one that counts: a posted one before a draft, the oldest first."""
    return next((r for r in refs if r.state == "posted"), refs[0] if refs else None)


def _all(ledger: Ledger, journal: BatchJournal, batch: Batch) -> list[JournalRef]:
    # asked by slot: an ERP answers by prefix, and v1 is a prefix of v10
    prefix = run_key(batch.slot, batch.version).rsplit("/", 1)[0]
    found = ledger.find_by_run_key(prefix, entity=batch.slot.legal_entity_id)
    return [r for r in found if r.run_key == journal.run_key]


def _wait_until_settled(
    journal: BatchJournal, batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol
) -> JournalRef | None:
    """Look again until a request that was sent last time would certainly have ended.

    That takes its time from when the outcome became unknown; where a process died over it, from now.
    """
    now = store.now()
    since = batch.changed_at if batch.state == journal.state == "unknown" else now
    left = min(rules.settle, since + rules.settle - now).total_seconds()
    while left > 0:
        rules.sleep(min(left, 2.0))
        left -= 2.0
        lease = store.renew(lease, rules.ttl)
        ref = _find(ledger, journal, batch)
        if ref is not None and ref.state == "posted":
            return ref
    return _find(ledger, journal, batch)


def _recheck(ledger: Ledger, journal: BatchJournal, batch: Batch, rules: Protocol) -> JournalRef | None:
    """After a lost answer: a few look-ups. Only a posted journal is an answer; a draft may still be on its way."""
    for pause in rules.checks:
        rules.sleep(pause)
        try:
            ref = _find(ledger, journal, batch)
        except ErpError:
            continue
        if ref is not None and ref.state == "posted":
            return ref
    return None


def _verify_journal(
    journal: BatchJournal, batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol, actor: str
) -> None:
    refs = _all(ledger, journal, batch)
    for pause in rules.lags:
        if any(ref.state == "posted" for ref in refs):
            break
        rules.sleep(pause)
        lease = store.renew(lease, rules.ttl)
        refs = _all(ledger, journal, batch)
    found, ref = _differences(journal, refs, ledger), _held(refs)
    if found:
        _mark(store, lease, journal, "mismatched", actor, ref=ref, note="; ".join(found)[:2000])
    else:
        _mark(store, lease, journal, "posted", actor, ref=ref)


def _differences(journal: BatchJournal, refs: list[JournalRef], ledger: Ledger) -> list[str]:
    """What is wrong with how the ERP holds a journal, found there as `refs`; a draft beside a posted one is nothing."""
    ref = _held(refs)
    if ref is None:
        return ["the ERP holds no journal of this run key"]
    posted = [r for r in refs if r.state == "posted"]
    if len(posted) > 1:
        return [f"the ERP holds it {len(posted)} times: {', '.join(r.number or r.erp_id for r in posted)}"]
    try:
        held = ledger.read_back(ref)
    except Rejected as error:
        return [f"the ERP cannot show it: {error.message}"]
    return differences(as_erp_journal(journal), held)


def _mark(
    store: Store,
    lease: Lease,
    journal: BatchJournal,
    to: str,
    actor: str,
    *,
    ref: JournalRef | None = None,
    note: str | None = None,
) -> None:
    with store.transaction() as session:
        guard(session, lease)
        batch = batches.get(session, journal.batch_id)
        if to == "confirmed" and batch.state in ("validated", "approved"):
            # found in the ERP before this store knew of an attempt (a restored backup): it was submitted all the same
            batches.transition(session, batch.batch_id, "submitted", actor=actor, now=store.now())
        batches.mark_journal(
            session,
            journal.run_key,
            to,
            actor=actor,
            now=store.now(),
            fence=lease.token,
            erp_id=ref.erp_id if ref else None,
            erp_number=ref.number if ref else None,
            note=note,
        )


def _settle_batch(store: Store, batch_id: str, actor: str) -> str:
    """The batch's state from its journals' states."""
    batch = _load(store, batch_id)
    states = {j.state for j in batch.journals}
    notes = "; ".join(j.note for j in batch.journals if j.note and j.state in ("rejected", "unknown", "mismatched"))
    if states == {"posted"}:
        to = "posted"
    elif "mismatched" in states:
        to = "mismatched"
    elif states <= {"confirmed", "posted"}:
        to = "confirmed"
    elif "unknown" in states:
        to = "unknown"
    elif states == {"rejected"}:
        to = "rejected"
    elif states & {"confirmed", "posted"}:
        to = "partially_posted"
    else:
        to = "rejected"
    return batch.state if batch.state == to else _move(store, batch_id, to, actor, notes or None)


def _move(store: Store, batch_id: str, to: str, actor: str, reason: str | None = None) -> str:
    with store.transaction() as session:
        owner = "general ledger" if to in ("rejected", "mismatched", "partially_posted") else None
        return batches.transition(session, batch_id, to, actor=actor, now=store.now(), reason=reason, owner=owner).state
