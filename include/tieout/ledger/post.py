"""The posting protocol: exactly one journal in a foreign ledger, whatever dies when.

    look up by slot -> write ahead -> send -> look up again -> read back, line by line -> posted

Each step is callable on its own and safe to repeat. Before anything is sent the ERP is asked whether the journal is
there, and the attempt is written down; after a lost answer nothing is sent until the ERP has been asked again, and
an absence counts only once a request still under way would have ended. The writer's lease is renewed right before
every write to the ERP, which is refused to a process that lost it. HTTP success is not posted. The ERP is asked for all
journals of a batch at once. What stays unknown is asked for again on a schedule that ends with a person.

By hand: a mismatch that was corrected is read again, or reversed; a refused or lost batch is resolved.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from tieout.erp.port import ErpJournal, ErpLine, Fence, JournalRef, Ledger, read_back_many
from tieout.errors import ErpError, ErpUnavailable, LedgerError, PeriodClosed, Rejected, TieoutError, UnknownOutcome
from tieout.ids import Slot, mirror_key, short_key
from tieout.lake.tables import Lake
from tieout.ledger.halts import OWNER, Difference, close_breaks, open_breaks
from tieout.ledger.protocol import Protocol, Step
from tieout.ledger.reversal import events_of
from tieout.settings import Settings
from tieout.store import Lease, Store, approvals, audit, batches, golive, late_events, links, periods, status_checks
from tieout.store.batches import Batch, BatchJournal
from tieout.store.copies import Copy
from tieout.store.late_events import LateEvent
from tieout.store.leases import guard, renew
from tieout.store.people import need_two

log = logging.getLogger("tieout.ledger")

_UNSENT = ("validated", "approved")
ABSENT = "the ERP holds no journal of this run key"

Found = Mapping[str, list[JournalRef]]
"""What the ERP holds of a batch's slot, by run key."""


def due_batches(store: Store, *, protocol: Protocol | None = None, entity: str | None = None) -> list[str]:
    """Batches that the protocol can go on with now, in posting order.

    Not among them: a batch behind an unfinished earlier version of its slot, one of a stream that a mismatch halted,
    one whose ledger another process is writing to, one of a ledger whose go-live is not signed, an unknown one whose
    next status check is not due or that a person has to look at.
    """
    rules = protocol or Protocol()
    with store.reading() as session:
        found = batches.select_batches(session, entity=entity, states=batches.UNFINISHED)
        resting = {b.batch_id for b in found if b.state == "unknown" and not _check_is_due(session, b, store, rules)}
        resting |= {b.batch_id for b in found if b.state in _UNSENT and _is_unsigned(session, b)}
    halted = {(b.chain, b.slot.stream) for b in found if b.halts}
    waiting: set[Slot] = set()
    due = []
    for batch in found:
        if (
            batch.state in batches.RESUMABLE
            and batch.batch_id not in resting
            and batch.slot not in waiting
            and (batch.chain, batch.slot.stream) not in halted
            and store.lease_is_free(batch.chain)
        ):
            due.append(batch.batch_id)
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
        approved = approvals.is_approved(session, batch)
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

    `confirmed`: the ERP says it has them all. `unknown`: an answer was lost and nothing can be said yet; the next
    status check of the schedule asks again, before it is due nothing happens. `rejected`, `partially_posted`: the ERP
    refused. Raises ErpUnavailable while the ERP is down (the batch waits), LeaseHeld while another process writes to
    the same ledger, LedgerError if the batch may not be posted, if its stored content is not what was planned, or if
    its outcome stayed unknown and a person has to look.
    """
    rules = protocol or Protocol()
    state = check_approval(batch_id, store)
    if state not in batches.RESUMABLE or state == "confirmed":
        return state
    with _owned(store, batch_id, rules) as (batch, lease):
        if batch.state not in batches.RESUMABLE or batch.state == "confirmed":
            return batch.state
        check_approval(batch_id, store)
        _refuse_out_of_turn(store, batch)
        _refuse_altered(store, batch)
        if batch.state in _UNSENT:
            with store.reading() as session:
                golive.refuse_unsigned(session, batch.slot.legal_entity_id, batch.slot.ledger, batch.slot.stream)
        if batch.state == "unknown" and not _take_status_check(batch, store, lease, rules, actor):
            return batch.state
        try:
            _submit_missing(batch, ledger, store, lease, rules, actor)
        except ErpError:
            _note_lost(batch_id, store, lease, rules, actor)
            _hand_over_if_spent(batch_id, store, lease, rules, actor)
            raise
        state = _conclude(store, batch_id, rules, actor)
        _hand_over_if_spent(batch_id, store, lease, rules, actor)
        return state


def read_back(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str = "tieout"
) -> str:
    """Read the confirmed journals back and compare entity, currency, date and every line; gives the batch's state.

    `posted` if all are equal. `mismatched` if one differs, is there twice, or is still not there after the pauses
    `lags` of the protocol; `partially_posted` if some are equal and the others are not there at all. Each journal that
    differs is a break, and its stream halts.
    """
    rules = protocol or Protocol()
    with store.reading() as session:
        state = batches.state_of(session, batch_id)
    if state not in ("confirmed", "partially_posted"):
        return state
    with _owned(store, batch_id, rules) as (batch, lease):
        if batch.state not in ("confirmed", "partially_posted"):
            return batch.state
        confirmed = [j for j in batch.journals if j.state == "confirmed"]
        if confirmed:
            with rules.at(Step.FIND):
                found = _find_posted([j.run_key for j in confirmed], batch, ledger, store, lease, rules)
            with rules.at(Step.READ_BACK):
                differing = _compare(confirmed, found, ledger)
            with rules.at(Step.NOTE_READ):
                _note_read(batch, confirmed, found, differing, store, lease, actor)
        return _conclude(store, batch_id, rules, actor)


def recheck_mismatched(
    batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str
) -> str:
    """Read a mismatched batch back once more after somebody corrected it in the ERP; gives its state.

    `posted` if every journal is equal now; `partially_posted` if others of its journals were refused, or are still not
    there, and are to be sent again; `mismatched` as long as one differs.
    """
    rules = protocol or Protocol()
    with _owned(store, batch_id, rules) as (batch, lease):
        wrong = [j for j in batch.journals if j.state == "mismatched"]
        if not wrong:
            return batch.state
        found = _look_up(batch, ledger)
        differing = _compare(wrong, found, ledger)
        if batch.state == "partially_posted":
            absent = {key: found for key, found in differing.items() if _is_absent(found)}
            note = f"{actor} looked: it is not in the ERP, so it is sent again"
            with store.transaction() as session:
                guard(session, lease)
                for key in absent:
                    batches.mark_journal(session, key, "rejected", actor=actor, now=store.now(), note=note)
                close_breaks(session, batch, absent, note, _run_of(batch), store.now())
            wrong = [j for j in wrong if j.run_key not in absent]
        _note_read(
            batch,
            wrong,
            found,
            {k: v for k, v in differing.items() if k in {j.run_key for j in wrong}},
            store,
            lease,
            actor,
        )
        return _conclude(store, batch_id, rules, actor)


def ask_again(batch_id: str, ledger: Ledger, store: Store, *, protocol: Protocol | None = None, actor: str) -> str:
    """Start the status checks of an unknown batch again, the first of them now; gives the state it reached."""
    with store.transaction() as session:
        batch = batches.get(session, batch_id)
        if batch.state != "unknown":
            raise LedgerError("only an unknown batch is asked for again", record=batch_id, got=batch.state)
        status_checks.restart(session, batch, actor=actor, now=store.now())
    return post_batch(batch_id, ledger, store, protocol=protocol, actor=actor)


def reverse(
    batch_id: str,
    ledger: Ledger,
    store: Store,
    *,
    on: date,
    actor: str,
    second: str,
    reason: str,
    period: str | None = None,
    may_approve: Collection[str] = (),
    counting: Collection[str] = (),
    protocol: Protocol | None = None,
) -> str:
    """Take a posted or mismatched batch out of the ledger by mirrors of what the ERP holds; gives its state.

    Every journal the ERP holds of it is mirrored under a run key of its own, dated `on`, in the fiscal `period` of that
    day (its month, if not given), and read back; then the batch is `reversed` and the next plan carries its content
    again. From before the first mirror is sent it is `reversing`, with what stands in the way, until the same is asked
    again; refused with nothing sent, it is what it was. Safe to repeat: a mirror that is there is not posted twice, and
    none is sent again before the request of last time would have ended; one that the ERP does not show yet is asked for
    again. Where the ERP holds a mirror several times, `counting` names the ERP's id of the one that counts: the others
    are entries by others, for a person to take back there. The second person is one who could approve the batch: no
    preparer, and of those who `may_approve`, if any are named.

    Raises IllegalTransition without a second person or a reason; LedgerError if the batch is not in the ledger or not
    shown there, if a reversal of it was planned, if `on` is before its date or in a period that is not open in Tieout,
    if a mirror differs or does not stand there once; and the port's errors.
    """
    _need_two(store, batch_id, actor, second, reason, may_approve)
    rules, month = protocol or Protocol(), period or f"{on:%Y-%m}"
    with _owned(store, batch_id, rules) as (batch, lease):
        if batch.state == "reversed":
            return batch.state
        if batch.state not in ("posted", "mismatched", "reversing"):
            raise LedgerError("there is nothing to reverse", record=batch_id, got=batch.state)
        if on < batch.accounting_date:
            raise LedgerError("a mirror is not dated before what it reverses", record=batch_id, got=on)
        with rules.at(Step.FIND):
            read = [j.run_key for j in batch.journals if j.state == "posted"]
            found = _find_posted(read, batch, ledger, store, lease, rules)
        _refuse_unseen(batch, found, ledger)
        held = {
            mirror_key(journal.run_key, number): ref
            for journal in batch.journals
            for number, ref in enumerate((r for r in found.get(journal.run_key, ()) if r.state == "posted"), 1)
        }
        missing = [key for key in held if not _is_posted(found, key)]
        if missing:
            _refuse_closed_to_mirrors(store, batch, month)
        by = {"on": on, "second": second}
        anchor, is_repeated = _announce_mirrors(batch, store, lease, rules, by, actor, reason)
        if missing and is_repeated:  # what was sent last time may still be under way
            with rules.at(Step.WAIT_UNTIL_SETTLED):
                found = _look_until_settled(missing, store.now(), batch, ledger, store, lease, rules)
        stand = [key for key in held if _is_posted(found, key)]
        try:
            with rules.at(Step.READ_BACK):
                meant = {
                    key: replace(ledger.read_back(ref).mirrored(on, key, short_key(key)), state=None)
                    for key, ref in held.items()
                }
            for key in (key for key in held if key not in stand):
                _refuse_closed_to_mirrors(store, batch, month)
                _post_mirror(held[key], on, key, anchor, batch, ledger, store, lease, rules)
                stand.append(key)
            mirrors = _read_mirrors(held, meant, counting, batch, ledger, store, lease, rules)
        except (LedgerError, ErpError) as error:
            may_stand = bool(stand) or isinstance(error, UnknownOutcome)
            _note_stopped(batch, error, may_stand, store, lease, actor)
            raise
        return _take_out(batch_id, mirrors, store, lease, rules, by, actor, reason)


def _refuse_unseen(batch: Batch, found: Found, ledger: Ledger) -> None:
    """A journal that stands in the ERP, and that it does not show now, would be taken for nothing."""
    for journal in batch.journals:
        if _is_posted(found, journal.run_key):
            continue
        is_there = journal.state == "posted"
        if journal.state == "mismatched" and journal.note != ABSENT and journal.erp_id is not None:
            entity = batch.slot.legal_entity_id
            ref = JournalRef(entity, journal.erp_id, journal.run_key, journal.accounting_date, "posted")
            try:
                is_there = ledger.read_back(ref).state == "posted"
            except Rejected:  # somebody took it out since
                is_there = False
        if is_there:
            raise LedgerError(
                "the ERP does not show a journal that was read back there",
                record=journal.run_key,
                got=journal.erp_number or journal.erp_id,
                remedy="try again; if it is gone from the ERP, find out who took it out",
            )


def _refuse_closed_to_mirrors(store: Store, batch: Batch, period: str) -> None:
    slot = batch.slot
    with store.reading() as session:
        if periods.accepts(session, slot.legal_entity_id, slot.ledger, period, store.now()):
            return
        state = periods.period_state(session, slot.legal_entity_id, slot.ledger, period)
    raise LedgerError(
        "the period of the mirror is not open", record=batch.batch_id, got=f"{period} is {state.replace('_', '-')}",
        remedy="date it in an open one",
    )  # fmt: skip


def _post_mirror(
    ref: JournalRef, on: date, key: str, anchor: str, batch: Batch, ledger: Ledger, store: Store, lease: Lease,
    rules: Protocol,
) -> None:  # fmt: skip
    """Send one mirror. An error counts only where the ERP does not show the mirror after it."""
    try:
        with rules.at(Step.SEND_MIRROR):
            ledger.reverse(ref, on, key, short_key(key), anchor=anchor, fence=_fence(store, lease, rules))
    except UnknownOutcome:
        with rules.at(Step.LOOK_UP_AGAIN):
            found = _recheck(ledger, key, batch, rules)
        if found is None:
            raise
    except Rejected:
        if not _is_posted(_look_up(batch, ledger), key):
            raise


def _read_mirrors(
    held: Mapping[str, JournalRef], meant: Mapping[str, ErpJournal], counting: Collection[str], batch: Batch,
    ledger: Ledger, store: Store, lease: Lease, rules: Protocol,
) -> list[dict[str, str | None]]:  # fmt: skip
    """Where each mirror stands, and of what. Raises LedgerError where one does not stand there once, as meant."""
    with rules.at(Step.FIND):
        found = _find_posted(list(held), batch, ledger, store, lease, rules)
    mirrors = []
    with rules.at(Step.READ_BACK):
        for key, ref in held.items():
            mirror = _the_only(key, found, counting)
            wrong = differences(meant[key], _read_mirror(mirror, ledger, store, lease, rules))
            if wrong:
                raise LedgerError("the mirror in the ERP differs", record=key, got="; ".join(map(str, wrong)))
            place = {"run_key": key, "erp_id": mirror.erp_id, "erp_number": mirror.number}
            mirrors.append(place | {"of": ref.erp_id})
    return mirrors


def _announce_mirrors(
    batch: Batch, store: Store, lease: Lease, rules: Protocol, facts: Mapping[str, Any], actor: str, reason: str
) -> tuple[str, bool]:
    """Write down that a batch is being reversed; gives the anchor of its mirrors, and whether it was begun before."""
    with rules.at(Step.ANNOUNCE), store.transaction() as session:
        guard(session, lease)
        done = [act for act in audit.entries(session, batch.chain, batch.batch_id) if act.action == "batch.reversing"]
        if batch.state != "reversing":
            batches.transition(
                session, batch.batch_id, "reversing", actor=actor, now=store.now(), facts=facts, reason=reason,
                owner=OWNER,
            )  # fmt: skip
            _refuse_planned_reversal(session, batch)  # with the batch locked, so that none is planned any more
        if done:
            begun = audit.Anchor(batch.chain, done[0].sequence, done[0].hash, done[0].at.isoformat())
        else:
            begun = audit.anchor(session, batch.chain, store.now())
    return audit.memo(begun, batch.batch_id), bool(done)


def _refuse_planned_reversal(session: Session, batch: Batch) -> None:
    """What a reversal takes back, or will once it is approved, would be taken back twice."""
    for one in links.sources_of(session, links.REVERSES, batch.batch_id):
        planned = batches.get(session, one)
        if planned.counts:
            raise LedgerError(
                "a reversal of the batch was planned", record=batch.batch_id, got=f"{one}, {planned.state}",
                remedy="reject that one, or plan one of what is left: `tieout reversal plan`",
            )  # fmt: skip


def _note_stopped(batch: Batch, error: TieoutError, may_stand: bool, store: Store, lease: Lease, actor: str) -> None:
    """A reversal that did not get through: a person sees why; with nothing of it in the ERP the batch is as it was."""
    before = "mismatched" if any(journal.state == "mismatched" for journal in batch.journals) else "posted"
    to = "reversing" if may_stand else before
    owner = None if to == "posted" else OWNER
    with store.transaction() as session:
        guard(session, lease)
        batches.transition(
            session, batch.batch_id, to, actor=actor, now=store.now(), reason=str(error)[:2000], owner=owner
        )


def _take_out(
    batch_id: str, mirrors: Sequence[Mapping[str, Any]], store: Store, lease: Lease, rules: Protocol,
    facts: Mapping[str, Any], actor: str, reason: str,
) -> str:  # fmt: skip
    """Every mirror stands: batch and journals are reversed, their breaks over, all in one transaction."""
    with rules.at(Step.TAKE_OUT), store.transaction() as session:
        guard(session, lease)
        batch, now = batches.get(session, batch_id), store.now()
        for journal in batch.journals:
            if journal.state in ("posted", "mismatched"):
                batches.mark_journal(session, journal.run_key, "reversed", actor=actor, now=now, fence=lease.token)
        close_breaks(session, batch, [j.run_key for j in batch.journals], reason, _run_of(batch), now)
        for mirror in mirrors:
            links.link(session, mirror["run_key"], links.REVERSES, [batch_id])
        told = {**facts, "mirrors": list(mirrors)}
        return batches.transition(session, batch_id, "reversed", actor=actor, now=now, facts=told, reason=reason).state


def _the_only(key: str, found: Found, counting: Collection[str]) -> JournalRef:
    """The one mirror under a key that counts. Raises LedgerError where the ERP holds none, or several."""
    posted = [ref for ref in found.get(key, ()) if ref.state == "posted"]
    chosen = [ref for ref in posted if ref.erp_id in counting] if len(posted) > 1 else posted
    if len(chosen) == 1:
        return chosen[0]
    if not posted:
        raise LedgerError("the ERP does not show the mirror", record=key, expected="once", remedy="reverse again")
    raise LedgerError(
        f"the ERP holds the mirror {len(posted)} times",
        record=key,
        expected="once",
        got=", ".join(f"{ref.number or ref.erp_id} of {ref.date} (id {ref.erp_id})" for ref in posted),
        remedy="take all but one out of the ERP and reverse again; where it deletes nothing, reverse the others there "
        "by hand, then reverse again and name the one that counts: --mirror <id>",
    )


def _read_mirror(mirror: JournalRef, ledger: Ledger, store: Store, lease: Lease, rules: Protocol) -> ErpJournal:
    """A mirror as the ERP holds it, read again after the pauses `lags` of the protocol while it is not shown yet."""
    for pause in rules.lags:
        try:
            return ledger.read_back(mirror)
        except Rejected:
            rules.sleep(pause)
            store.renew(lease, rules.ttl)
    return ledger.read_back(mirror)


def resolve(
    batch_id: str,
    ledger: Ledger,
    store: Store,
    *,
    actor: str,
    reason: str,
    second: str | None = None,
    documents: Mapping[str, str] | None = None,
    lake: Lake,
    settings: Settings | None = None,
    may_approve: Collection[str] = (),
    protocol: Protocol | None = None,
) -> str:
    """End a refused or lost batch by hand; gives its state. Its content is not planned again.

    With `documents` (run key → the ERP's id) each missing journal is an equal document that somebody wrote into the
    ERP: it is read back and compared, and counts. Without, what is missing is not to be posted and stays a reconciling
    item; that takes a `second` person, as in `reverse`. It does not count, and the decision binds exactly the entries
    that `lake` has behind it: an event that goes back to what was posted needs nothing, one that changes otherwise is
    held. What was lost is waited for as long as its request may be under way; what the ERP took is read back.
    Raises LedgerError where a document is not equal, where the ERP holds a journal that is said not to be posted, or to
    stand there as another document, and where another version carries the content already.
    """
    rules = protocol or Protocol()
    if documents is None or second is not None:
        _need_two(store, batch_id, actor, second, reason, may_approve)
    with _owned(store, batch_id, rules) as (batch, lease):
        _refuse_carried(store, batch)
        _refuse_taken(store, batch, documents or {})
        lost = [journal for journal in batch.journals if journal.state in ("submitted", "unknown")]
        found = _look_up(batch, ledger)
        if any(not _is_posted(found, journal.run_key) for journal in lost):
            found = _wait_until_settled(lost, batch, ledger, store, lease, rules)
        missing = [journal for journal in batch.journals if journal.state not in ("confirmed", "posted")]
        unread = [journal for journal in batch.journals if journal.state == "confirmed"]
        for journal in unread:
            _refuse_unequal(journal, journal.erp_id, ledger)
        for journal in missing:
            named, held = (documents or {}).get(journal.run_key), _held(found.get(journal.run_key, []))
            if held is not None and held.state == "posted" and held.erp_id != named:
                raise LedgerError(
                    "the journal stands in the ERP", record=journal.run_key, got=held.number or held.erp_id,
                    remedy="resume posting: it is read back and compared; a rejected one: name it as the document",
                )  # fmt: skip
            if documents is not None:
                _refuse_unequal(journal, named, ledger)
        events = events_of(batch, missing, lake, settings) if documents is None else []
        with store.transaction() as session:
            guard(session, lease)
            for journal in unread:
                batches.mark_journal(session, journal.run_key, "posted", actor=actor, now=store.now())
            if documents is None:
                _drop(session, batch, missing, events, lease, actor, str(second), reason, store.now())
            for key, erp_id in (documents or {}).items():
                batches.mark_journal(
                    session, key, batches.BY_HAND, actor=actor, now=store.now(), erp_id=erp_id, note=reason
                )
            close_breaks(session, batch, [j.run_key for j in batch.journals], reason, _run_of(batch), store.now())
            facts = {"second": second, "documents": dict(documents or {})}
            return batches.transition(
                session, batch_id, "manually_resolved", actor=actor, now=store.now(), facts=facts, reason=reason
            ).state


def _drop(
    session: Session, batch: Batch, missing: Iterable[BatchJournal], events: Iterable[LateEvent], lease: Lease,
    actor: str, second: str, reason: str, now: datetime,
) -> None:  # fmt: skip
    """Journals that are not to be posted, and the decision about the events behind them, which binds their entries."""
    for journal in missing:
        batches.mark_journal(
            session, journal.run_key, batches.NOT_POSTED, actor=actor, now=now, fence=lease.token, note=reason
        )
    if batch.kind not in (batches.REVERSAL, batches.WRITE_OFF):  # neither is planned from events
        late_events.withhold(session, batch.batch_id, events, actor=actor, second=second, reason=reason, now=now)


def as_erp_journal(journal: BatchJournal | Copy) -> ErpJournal:
    """The stored content of a journal, or of its copy in another ledger, in the ERP port's form."""
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
        anchor=journal.anchor,
    )


def differences(meant: ErpJournal, held: ErpJournal) -> list[Difference]:
    """What the ERP holds otherwise than meant; empty if equal. The narrative takes no part."""
    month = (meant.date.year, meant.date.month), (held.date.year, held.date.month)
    kinds: Mapping[str, Any] = {
        "entity": "attribute",
        "currency": "currency",
        "date": "attribute" if month[0] == month[1] else "cut_off",
        "run_key": "attribute",
    }
    found = [
        Difference(kind, f"{name}: {getattr(held, name)} instead of {getattr(meant, name)}")
        for name, kind in kinds.items()
        if getattr(held, name) != getattr(meant, name)
    ]
    if held.state != "posted":
        found.append(Difference("status", f"state: {held.state} instead of posted"))
    if held.debit - held.credit != meant.debit - meant.credit:
        off = abs(held.debit - held.credit)
        found.append(Difference("amount", f"it is unbalanced: debit {held.debit}, credit {held.credit}", off))
    if len(held.lines) != len(meant.lines):
        text = f"{len(held.lines)} lines instead of {len(meant.lines)}"
        found.append(Difference("amount", text, abs(meant.debit - held.debit)))
    for number, (ours, theirs) in enumerate(zip(_ordered(meant.lines), _ordered(held.lines), strict=False), 1):
        if _comparable(ours) != _comparable(theirs):
            text = f"line {number}: {_text(theirs)} instead of {_text(ours)}"
            off = abs((ours.debit - ours.credit) - (theirs.debit - theirs.credit))
            kind: Any = "amount" if off else "mapping" if ours.account != theirs.account else "attribute"
            found.append(Difference(kind, text, off or None))
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
    chain = batches.chain_of_batch(batch_id)
    with rules.at(Step.LEASE):
        lease = store.acquire(chain, ttl=rules.ttl)
    try:
        yield _load(store, batch_id), lease
    finally:
        store.release(lease)


def _fence(store: Store, lease: Lease, rules: Protocol) -> Fence:
    """Called by the adapter before each write: the lease holds long enough for it, or the write does not happen."""

    def whole() -> None:
        store.hold(lease, rules.ttl)

    return whole


def _need_two(store: Store, batch_id: str, actor: str, second: str | None, reason: str, may: Collection[str]) -> None:
    """Two people, the second of whom prepared nothing of the batch and is among those who `may`, if any are named."""
    need_two(batch_id, actor, second, reason)
    with store.reading() as session:
        approvals.refuse_second(session, batches.get(session, batch_id), str(second), may)


def _refuse_carried(store: Store, batch: Batch) -> None:
    """What another version carries would count twice: one planned since, or one that was resolved after this one."""
    with store.reading() as session:
        others = batches.select_batches(session, entity=batch.slot.legal_entity_id)
    for other in others:
        same = other.slot == batch.slot
        later = other.version > batch.version if same else other.planned_at >= batch.changed_at
        carries = (same or other.slot.stream == "prior_period") and later
        resolved_since = same and other.state == "manually_resolved" and other.changed_at >= batch.planned_at
        has_it = other.counts or other.state == "manually_resolved"
        if other.chain == batch.chain and has_it and other != batch and (carries or resolved_since):
            raise LedgerError(
                "its content is carried by another batch",
                record=batch.batch_id,
                got=f"{other.batch_id}, {other.state}",
                remedy="resolve or reverse that one",
            )


def _refuse_taken(store: Store, batch: Batch, documents: Mapping[str, str]) -> None:
    """A document stands for one journal: not for two of these, and for none that stands in the ledger already."""
    if strange := sorted(set(documents) - {journal.run_key for journal in batch.journals}):
        raise LedgerError("no journal of the batch", record=batch.batch_id, got=strange)
    with store.reading() as session:
        for key, erp_id in sorted(documents.items()):
            others = [k for k in batches.standing_for(session, batch, erp_id) if k != key]
            others += [k for k, named in documents.items() if named == erp_id and k != key]
            if others:
                raise LedgerError("the document stands for another journal", record=f"{key}, {erp_id}", got=others[0])


def _refuse_unequal(journal: BatchJournal, erp_id: str | None, ledger: Ledger) -> None:
    if erp_id is None:
        raise LedgerError("no document is named for a journal of the batch", record=journal.run_key)
    meant = as_erp_journal(journal)
    held = ledger.read_back(JournalRef(meant.entity, erp_id, journal.run_key, meant.date, "posted"))
    if held.run_key not in ("", meant.run_key):
        raise LedgerError(
            "the document is another journal of ours", record=f"{journal.run_key}, {erp_id}", got=held.run_key
        )
    found = differences(meant, replace(held, run_key=meant.run_key))  # a document of somebody's own has no key of ours
    if found:
        text = "; ".join(map(str, found))
        raise LedgerError("the document is not equal", record=f"{journal.run_key}, {erp_id}", got=text)


def _load(store: Store, batch_id: str) -> Batch:
    with store.reading() as session:
        return batches.get(session, batch_id)


def _is_unsigned(session: Session, batch: Batch) -> bool:
    return golive.is_unsigned(session, batch.slot.legal_entity_id, batch.slot.ledger, batch.slot.stream)


def _refuse_out_of_turn(store: Store, batch: Batch) -> None:
    with store.reading() as session:
        others = batches.select_batches(
            session, entity=batch.slot.legal_entity_id, stream=batch.slot.stream, states=batches.UNFINISHED
        )
    halting = [b.batch_id for b in others if b.chain == batch.chain and b.halts]
    if halting:
        raise LedgerError(
            "the stream is halted: what the ERP holds differs from what was sent",
            record=batch.batch_id,
            got=halting[0],
            remedy="correct or reverse that journal first",
        )
    for other in others:
        if other.slot == batch.slot and other.version < batch.version:
            raise LedgerError(
                "an earlier version of the slot is not finished", record=batch.batch_id, got=other.batch_id
            )


def _refuse_altered(store: Store, batch: Batch) -> None:
    """What is sent is what was planned, and was approved if it had to be, whoever can write to the store's tables."""
    with store.reading() as session:
        altered, audited = batches.altered(session, batch), batches.audited_state(session, batch)
    if audited != batch.state:
        raise LedgerError(
            "the batch's state is not what was audited", record=batch.batch_id, expected=audited, got=batch.state,
            remedy="nothing is sent: find out who changed the store, `tieout audit verify` tells what else was",
        )  # fmt: skip
    if altered:
        raise LedgerError(
            "the stored content of a journal is not what was planned", record=batch.batch_id, got=altered,
            remedy="nothing is sent: find out who changed the store, `tieout audit verify` tells what else was",
        )  # fmt: skip


def _refuse_closed(store: Store, batch: Batch) -> None:
    """Our own state of the period, right before sending; the ERP's is its adapter's to ask. Raises PeriodClosed."""
    slot = batch.slot
    with store.reading() as session:
        if periods.accepts(session, slot.legal_entity_id, slot.ledger, slot.period, store.now()):
            return
        state = periods.period_state(session, slot.legal_entity_id, slot.ledger, slot.period)
    raise PeriodClosed(
        f"the period is {state.replace('_', '-')} in Tieout",
        record=batch.batch_id,
        remedy="nothing: the next plan posts its content late or holds it, unless the period takes it again by then",
    )


def _check_is_due(session: Session, batch: Batch, store: Store, rules: Protocol) -> bool:
    """Whether an unknown batch may be asked for now; one whose checks are used up is, until it was handed over."""
    if batch.owner is not None:
        return False
    due = status_checks.status_checks(session, batch).next_at(rules.status_checks)
    return due is None or due <= store.now()


def _take_status_check(batch: Batch, store: Store, lease: Lease, rules: Protocol, actor: str) -> bool:
    """Use up one of an unknown batch's checks; whether one was due. Raises LedgerError once a person has to look."""
    if batch.owner is not None:
        raise _stayed_unknown(batch.batch_id, batch.owner, batch.reason)
    with store.reading() as session:
        if not _check_is_due(session, batch, store, rules):
            return False
    _hand_over_if_spent(batch.batch_id, store, lease, rules, actor)  # a process died between its last check and this
    with rules.at(Step.COUNT_CHECK), store.transaction() as session:
        guard(session, lease)
        status_checks.count(session, batch, actor=actor, now=store.now())
    return True


def _hand_over_if_spent(batch_id: str, store: Store, lease: Lease, rules: Protocol, actor: str) -> None:
    """Give a batch whose status checks are used up to a person: owner, reason, alarm. Raises LedgerError then."""
    with store.transaction() as session:
        guard(session, lease)
        if batches.state_of(session, batch_id) != "unknown":
            return
        batch = batches.get(session, batch_id)
        checks = status_checks.status_checks(session, batch)
        if checks.used < len(rules.status_checks):
            return
        reason = f"no answer from the ERP after {checks.used} status checks; {batch.reason or 'the outcome is unknown'}"
        status_checks.hand_over(session, batch, OWNER, reason, actor=actor, now=store.now())
    error = _stayed_unknown(batch_id, OWNER, reason)
    log.error("%s", error)
    raise error


def _stayed_unknown(batch_id: str, owner: str, reason: str | None) -> LedgerError:
    return LedgerError(
        "the outcome stayed unknown: nothing is asked or sent by itself any more",
        record=batch_id,
        got=reason,
        remedy=f"{owner}: look it up in the ERP; `tieout posting recheck` asks again, `tieout posting resolve` ends it",
    )


def _note_lost(batch_id: str, store: Store, lease: Lease, rules: Protocol, actor: str) -> None:
    """What a dead process sent and nobody can be asked about is unknown: from here on the status checks count."""
    lost = [j for j in _load(store, batch_id).journals if j.state == "submitted"]
    for journal in lost:
        _mark(store, lease, journal, "unknown", actor, note="no answer was recorded, and the ERP does not say")
    if lost:
        _conclude(store, batch_id, rules, actor)


def _submit_missing(batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol, actor: str) -> None:
    """Send what the ERP does not hold. Every exit leaves a state from which this can be called again."""
    missing = [
        j
        for j in batch.journals
        if j.state in ("pending", "submitted", "unknown")
        or (j.state == "rejected" and batch.state == "partially_posted")
    ]
    if not missing:
        return
    with rules.at(Step.LOOK_UP):
        found = _look_up(batch, ledger)
    lost = [j for j in missing if j.state in ("submitted", "unknown") and not _is_posted(found, j.run_key)]
    if lost:
        with rules.at(Step.WAIT_UNTIL_SETTLED):
            found = _wait_until_settled(lost, batch, ledger, store, lease, rules)
    for journal in missing:
        if not _submit_journal(
            journal, batch, _held(found.get(journal.run_key, [])), ledger, store, lease, rules, actor
        ):
            return  # the ERP does not answer: what is left waits for the next attempt


def _submit_journal(
    journal: BatchJournal, batch: Batch, ref: JournalRef | None, ledger: Ledger, store: Store, lease: Lease,
    rules: Protocol, actor: str,
) -> bool:  # fmt: skip
    """One journal, looked up as `ref`: write ahead, send, note the answer. False if the answer is lost."""
    if ref is not None and ref.state == "posted":
        _note_answer(store, lease, journal, "confirmed", rules, actor, ref=ref)
        return True
    with rules.at(Step.WRITE_AHEAD):
        if journal.state == "submitted":
            # an attempt whose process died: it is over (it was waited for), the next one gets its own record
            _mark(store, lease, journal, "unknown", actor, note="no answer was recorded")
        with store.transaction() as session:
            renew(session, lease, rules.ttl, store.now())
            if batches.state_of(session, batch.batch_id) not in ("submitted", "partially_posted"):
                batches.transition(session, batch.batch_id, "submitted", actor=actor, now=store.now())
            journal = batches.mark_journal(
                session, journal.run_key, "submitted", actor=actor, now=store.now(), fence=lease.token
            )
    try:
        _refuse_closed(store, batch)
        with rules.at(Step.SEND):
            ref = ledger.post(as_erp_journal(journal), fence=_fence(store, lease, rules))
    except UnknownOutcome as error:
        with rules.at(Step.LOOK_UP_AGAIN):
            ref = _recheck(ledger, journal.run_key, batch, rules)
        if ref is None:
            _note_answer(store, lease, journal, "unknown", rules, actor, note=error.message)
            return False
    except Rejected as error:
        # rejected content is posted again under the next version: only what is not there may be called so
        try:
            with rules.at(Step.LOOK_UP_AGAIN):
                ref = _held(_look_up(batch, ledger).get(journal.run_key, []))
        except ErpError as silent:
            note = f"{error}; it could not be looked up afterwards: {silent.message}"
            _note_answer(store, lease, journal, "unknown", rules, actor, note=note)
            return False
        if ref is None or ref.state != "posted":
            _note_answer(store, lease, journal, "rejected", rules, actor, note=str(error))
            return True
    except ErpUnavailable:
        _note_answer(store, lease, journal, "pending", rules, actor, note="the ERP could not be reached")
        raise
    _note_answer(store, lease, journal, "confirmed", rules, actor, ref=ref)
    return True


def _note_answer(
    store: Store, lease: Lease, journal: BatchJournal, to: str, rules: Protocol, actor: str,
    *, ref: JournalRef | None = None, note: str | None = None,
) -> None:  # fmt: skip
    with rules.at(Step.NOTE_ANSWER):
        _mark(store, lease, journal, to, actor, ref=ref, note=note)


def _look_up(batch: Batch, ledger: Ledger) -> Found:
    """What the ERP holds of the batch's slot, drafts included, in one call. Raises ErpError if it cannot be asked."""
    # by slot: an ERP answers by prefix, and v1 is a prefix of v10
    found: dict[str, list[JournalRef]] = {}
    for ref in ledger.find_by_run_key(f"TIEOUT/{batch.slot}", entity=batch.slot.legal_entity_id):
        found.setdefault(ref.run_key, []).append(ref)
    return found


def _held(refs: Sequence[JournalRef]) -> JournalRef | None:
    """The one that counts: a posted one before a draft, the oldest first."""
    return next((r for r in refs if r.state == "posted"), refs[0] if refs else None)


def _is_posted(found: Found, run_key: str) -> bool:
    return any(ref.state == "posted" for ref in found.get(run_key, ()))


def _wait_until_settled(
    lost: Sequence[BatchJournal], batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol
) -> Found:
    """Look again until requests that were sent last time would certainly have ended.

    That takes its time from when the outcome became unknown; where a process died over it, from now.
    """
    known = batch.state == "unknown" and all(journal.state == "unknown" for journal in lost)
    since = batch.changed_at if known else store.now()
    return _look_until_settled([j.run_key for j in lost], since, batch, ledger, store, lease, rules)


def _look_until_settled(
    run_keys: Sequence[str], since: datetime, batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol
) -> Found:
    """Look again until all are there, or until requests that ended for us at `since` have ended in the ERP too."""
    left = min(rules.settle, since + rules.settle - store.now()).total_seconds()
    while left > 0:
        rules.sleep(min(left, 2.0))
        left -= 2.0
        store.renew(lease, rules.ttl)
        found = _look_up(batch, ledger)
        if all(_is_posted(found, key) for key in run_keys):
            return found
    return _look_up(batch, ledger)


def _recheck(ledger: Ledger, run_key: str, batch: Batch, rules: Protocol) -> JournalRef | None:
    """After a lost answer: a few look-ups. Only a posted journal is an answer; a draft may still be on its way."""
    for pause in rules.checks:
        rules.sleep(pause)
        try:
            ref = _held(_look_up(batch, ledger).get(run_key, []))
        except ErpError as silent:
            # no answer is none: the outcome stays unknown, and the next status check asks again
            log.warning("%s could not be looked up after a lost answer: %s", run_key, silent.message)
            continue
        if ref is not None and ref.state == "posted":
            return ref
    return None


def _find_posted(
    run_keys: Sequence[str], batch: Batch, ledger: Ledger, store: Store, lease: Lease, rules: Protocol
) -> Found:
    """Where journals stand, looked for again while one of them is not shown yet."""
    found = _look_up(batch, ledger)
    for pause in rules.lags:
        if all(_is_posted(found, key) for key in run_keys):
            break
        rules.sleep(pause)
        store.renew(lease, rules.ttl)
        found = _look_up(batch, ledger)
    return found


def _compare(journals: Sequence[BatchJournal], found: Found, ledger: Ledger) -> dict[str, list[Difference]]:
    """What is wrong with how the ERP holds journals, by run key; a draft beside a posted one is nothing."""
    differing: dict[str, list[Difference]] = {}
    once: dict[str, JournalRef] = {}
    for journal in journals:
        refs = found.get(journal.run_key, [])
        ref, posted = _held(refs), [r for r in refs if r.state == "posted"]
        if ref is None:
            differing[journal.run_key] = [Difference("missing_right", ABSENT)]
        elif len(posted) > 1:
            text = f"the ERP holds it {len(posted)} times: {', '.join(r.number or r.erp_id for r in posted)}"
            differing[journal.run_key] = [Difference("duplicate", text, journal.debit * (len(posted) - 1))]
        else:
            once[journal.run_key] = ref
    held = dict(zip(once, read_back_many(ledger, list(once.values())), strict=True))
    for journal in journals:
        if journal.run_key not in held:
            continue
        shown = held[journal.run_key]
        if isinstance(shown, Rejected):
            wrong = [Difference("missing_right", f"the ERP cannot show it: {shown.message}")]
        else:
            wrong = differences(as_erp_journal(journal), shown)
        if wrong:
            differing[journal.run_key] = wrong
    return differing


def _is_absent(found: Sequence[Difference]) -> bool:
    return [difference.text for difference in found] == [ABSENT]


def _note_read(
    batch: Batch, journals: Sequence[BatchJournal], found: Found, differing: Mapping[str, Sequence[Difference]],
    store: Store, lease: Lease, actor: str,
) -> None:  # fmt: skip
    """Mark what was read, all of it in one transaction: equal is `posted`, anything else `mismatched`, and a break."""
    with store.transaction() as session:
        guard(session, lease)
        now = store.now()
        for journal in journals:
            wrong = differing.get(journal.run_key)
            if wrong and journal.state == "mismatched":
                continue
            ref = _held(found.get(journal.run_key, []))
            batches.mark_journal(
                session,
                journal.run_key,
                "mismatched" if wrong else "posted",
                actor=actor,
                now=now,
                fence=lease.token,
                erp_id=ref.erp_id if ref else None,
                erp_number=ref.number if ref else None,
                note="; ".join(map(str, wrong))[:2000] if wrong else None,
            )
        open_breaks(session, batch, differing, _run_of(batch), now)
        equal = [j.run_key for j in journals if j.run_key not in differing and j.state == "mismatched"]
        close_breaks(session, batch, equal, f"{actor} had it read back again: it is equal", _run_of(batch), now)


def _run_of(batch: Batch) -> str:
    return f"post_journal.{batch.batch_id}"


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
        if to == "confirmed" and batches.state_of(session, journal.batch_id) in ("validated", "approved"):
            # found in the ERP before this store knew of an attempt (a restored backup): it was submitted all the same
            batches.transition(session, journal.batch_id, "submitted", actor=actor, now=store.now())
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


def _conclude(store: Store, batch_id: str, rules: Protocol, actor: str) -> str:
    """The batch's state from its journals' states."""
    batch = _load(store, batch_id)
    states = {j.state for j in batch.journals}
    notes = "; ".join(j.note for j in batch.journals if j.note and j.state in ("rejected", "unknown", "mismatched"))
    if states == {"posted"}:
        to = "posted"
    elif "mismatched" in states:
        absent = all(j.note == ABSENT for j in batch.journals if j.state == "mismatched")
        to = "partially_posted" if absent and "posted" in states else "mismatched"
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
    if batch.state == to:
        return to
    owner = OWNER if to in ("rejected", "mismatched", "partially_posted") else None
    with rules.at(Step.CONCLUDE), store.transaction() as session:
        batches.transition(session, batch_id, to, actor=actor, now=store.now(), reason=notes or None, owner=owner)
    return to
