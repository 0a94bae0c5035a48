"""Two ERPs at once: journals of the ledger in force copied into another one under their original keys, both compared.

History at a cut-over and the parallel run are the same act over different dates. It may die at any line and run again:
each journal is looked up by its key before anything is sent, the attempt is written down, and only what was read back
equal is `posted`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from tieout.calendar import period_of
from tieout.entities import LegalEntity
from tieout.erp.port import GlEntry, JournalRef, Ledger
from tieout.errors import ErpUnavailable, LedgerError, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import mirror_of, short_key
from tieout.ledger.post import as_erp_journal, differences
from tieout.ledger.proof import ProofLine, TrialBalanceProof, mirrored_copies
from tieout.ledger.protocol import Protocol
from tieout.store import Lease, Store, batches, copies, golive, periods
from tieout.store.batches import BatchJournal, Mirror
from tieout.store.copies import Copy
from tieout.store.leases import guard, renew

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay did, or (`dry_run`) would do: journals by state, what it adds per account of the ledger."""

    ledger: str
    since: date
    until: date
    states: Mapping[str, int]
    to_post: tuple[Copy, ...]
    net: Mapping[str, Decimal]
    unknown_accounts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every journal of the span stands in the ledger, read back."""
        return set(self.states) <= {"posted"}


def replay(
    entity: LegalEntity,
    ledger: Ledger,
    store: Store,
    *,
    since: date,
    until: date,
    chart: Mapping[str, str] | None = None,
    dimensions: Iterable[str] | None = None,
    dry_run: bool = False,
    protocol: Protocol | None = None,
    actor: str = "tieout",
) -> Replay:
    """Copy every journal that other ledgers of the entity hold, dated in `[since, until]`, into its own ledger.

    A copy whose journal was taken out of its ledger by a mirror gets that mirror too, whatever its date: once the copy
    itself is read back, under the mirror's key.
    `entity` is seen as that ledger (`entity.of_ledger`), `ledger` its ERP. `chart` renames accounts; `dimensions` are
    those the ERP keeps (all, if None). A refused or lost journal does not stop the others. Raises ErpUnavailable while
    the ERP is down, LeaseHeld while another process writes to the ledger, LedgerError for accounts the ERP lacks, or
    where the stored content of a journal or a copy is not what was planned: then nothing is sent.
    """
    rules = protocol or Protocol()
    wanted = _wanted(entity, store, since, until, chart or {}, None if dimensions is None else tuple(dimensions))
    _refuse_altered(entity, store, wanted)
    lacking = _lacking(entity, ledger, wanted)
    if dry_run:
        return _shown(entity, ledger, store, since, until, wanted, lacking)
    if lacking:
        raise LedgerError(
            "the ERP lacks accounts of the journals",
            record=f"{entity.id}/{entity.ledger}",
            got=lacking,
            remedy="create them there, or map them in mappings/charts.csv",
        )
    with store.reading() as session:
        golive.refuse_unsigned(session, entity.id, entity.ledger, golive.WHOLE)
    with store.lease(batches.chain_of(entity.id, entity.ledger), ttl=rules.ttl) as lease:
        with store.transaction() as session:
            guard(session, lease)
            copies.plan(session, entity.id, entity.ledger, wanted, actor=actor, now=store.now())
        writer = _Writer(entity, ledger, store, lease, rules, actor)
        there = _by_key(ledger, entity, {copy.batch_id.split("/")[2] for copy in wanted})
        for of_mirrors in (False, True):  # a mirror follows what it undoes
            found = _in_span(store, entity, since, until)
            undoable = {copy.run_key for copy in found if copy.state == "posted"}
            for copy in found:
                of = mirror_of(copy.run_key)
                is_mirror = of != copy.run_key
                if copy.state != "posted" and is_mirror == of_mirrors and (not is_mirror or of in undoable):
                    writer.bring(copy, there.get(copy.run_key, []))
    return _done(store, entity, since, until)


def _wanted(
    entity: LegalEntity, store: Store, since: date, until: date, chart: Mapping[str, str], kept: tuple[str, ...] | None
) -> list[Copy]:
    """What the ledger shall hold: every journal that stands in another ledger of the entity, in posting order.

    Then the mirrors of those that it holds a copy of and that stand there no more.
    """
    with store.reading() as session:
        found = batches.select_batches(session, entity=entity.id)
        copied = copies.copies_of(session, entity.id, entity.ledger)
        undone = mirrored_copies(session, found, copied, entity.ledger)
    mirrors = [_mirrored(copy, mirror) for copy, mirror in undone if since <= copy.accounting_date <= until]
    standing = [
        Copy(
            journal.run_key, journal.short_key, batch.batch_id, journal.currency, journal.accounting_date,
            journal.debit, _translated(journal.content, chart, kept),
        )
        for batch in found
        for journal in batch.journals
        if batch.slot.ledger != entity.ledger and since <= journal.accounting_date <= until and _stands(journal)
    ]  # fmt: skip
    return standing + mirrors


def _refuse_altered(entity: LegalEntity, store: Store, wanted: Iterable[Copy]) -> None:
    """What goes into a second ledger is what was planned for the first, whoever can write to the store's tables."""
    with store.reading() as session:
        copied = {copy.run_key: copy for copy in copies.copies_of(session, entity.id, entity.ledger)}
        sources, origins = {key: copy for key, copy in copied.items() if copy.state != "posted"}, set[str]()
        for copy in wanted:
            before, of = copied.get(copy.run_key), mirror_of(copy.run_key)
            if before is not None and before.state not in copies.UNSENT:
                continue
            if of == copy.run_key:
                origins.add(copy.batch_id)
            else:
                sources[of] = copied[of]
        altered = copies.altered(session, entity.id, entity.ledger, sources.values())
        for batch_id in sorted(origins):
            altered += batches.altered(session, batches.get(session, batch_id))
    if altered:
        raise LedgerError(
            "the stored content of a journal is not what was planned", record=f"{entity.id}/{entity.ledger}",
            got=sorted(altered),
            remedy="nothing is sent: find out who changed the store, `tieout audit verify` tells what else was",
        )  # fmt: skip


def _mirrored(copy: Copy, mirror: Mirror) -> Copy:
    """What undoes a copy as it was sent."""
    lines = []
    for line in copy.content["lines"]:
        foreign = {"foreign_amount": format(-Decimal(line["foreign_amount"]), "f")} if "foreign_amount" in line else {}
        lines.append({**line, "side": "credit" if line["side"] == "debit" else "debit", **foreign})
    content = {
        **copy.content, "date": mirror.on.isoformat(), "narrative": f"Reversal of {copy.run_key}", "lines": lines,
    }  # fmt: skip
    key = mirror.run_key
    return Copy(key, short_key(key), copy.batch_id, copy.currency, mirror.on, copy.debit, content)


def _stands(journal: BatchJournal) -> bool:
    """Read back there, or an equal document stands for it; what was reversed by its mirror is nothing, and left out.

    Unless it was copied before it was reversed: then its mirror follows it.
    """
    return journal.state in ("posted", batches.BY_HAND)


def _translated(content: Mapping[str, Any], chart: Mapping[str, str], kept: tuple[str, ...] | None) -> dict[str, Any]:
    lines = []
    for line in content["lines"]:
        ours = line.get("mapped_from", line["account"])
        kept_of = {n: v for n, v in line["dimensions"].items() if kept is None or n in kept}
        lines.append({**line, "account": chart.get(ours, ours), "mapped_from": ours, "dimensions": kept_of})
    return {**content, "lines": lines}


def _lacking(entity: LegalEntity, ledger: Ledger, wanted: Iterable[Copy]) -> list[str]:
    used = {line["account"] for copy in wanted for line in copy.content["lines"]}
    return sorted(used - {account.code for account in ledger.gl_accounts(entity.id)}) if used else []


def _by_key(ledger: Ledger, entity: LegalEntity, origins: Iterable[str]) -> dict[str, list[JournalRef]]:
    """Every journal of these ledgers that the ERP holds, by run key: asked once, not per journal."""
    found: dict[str, list[JournalRef]] = {}
    for origin in sorted(origins):
        for ref in ledger.find_by_run_key(f"TIEOUT/{entity.id}/{origin}", entity=entity.id):
            found.setdefault(ref.run_key, []).append(ref)
    return found


def _in_span(store: Store, entity: LegalEntity, since: date, until: date) -> list[Copy]:
    with store.reading() as session:
        found = copies.copies_of(session, entity.id, entity.ledger)
    own = {
        copy.run_key
        for copy in found
        if mirror_of(copy.run_key) == copy.run_key and since <= copy.accounting_date <= until
    }
    return [copy for copy in found if mirror_of(copy.run_key) in own]


def _done(store: Store, entity: LegalEntity, since: date, until: date) -> Replay:
    found = _in_span(store, entity, since, until)
    notes = tuple(f"{c.run_key} is {c.state}: {c.note or 'not sent'}" for c in found if c.state != "posted")
    states = dict(sorted(Counter(copy.state for copy in found).items()))
    return Replay(entity.ledger, since, until, states, (), {}, (), notes)


def _shown(
    entity: LegalEntity, ledger: Ledger, store: Store, since: date, until: date, wanted: list[Copy], lacking: list[str]
) -> Replay:
    """The dry run: nothing is stored, nothing sent."""
    known = {copy.run_key: copy.state for copy in _in_span(store, entity, since, until)}
    there = _by_key(ledger, entity, {copy.batch_id.split("/")[2] for copy in wanted})
    to_post, net, states = [], dict[str, Decimal](), Counter[str]()
    for copy in wanted:
        held = any(ref.state == "posted" for ref in there.get(copy.run_key, ()))
        states[known.get(copy.run_key, "found in the ERP" if held else "to post")] += 1
        if not held:
            to_post.append(copy)
            for line in copy.content["lines"]:
                amount = Decimal(line["amount"])
                net[line["account"]] = net.get(line["account"], ZERO) + (amount if line["side"] == "debit" else -amount)
    return Replay(
        entity.ledger, since, until, dict(sorted(states.items())), tuple(to_post), dict(sorted(net.items())),
        tuple(lacking), (),
    )  # fmt: skip


@dataclass
class _Writer:
    """The only writer of a ledger, while it brings copies there."""

    entity: LegalEntity
    ledger: Ledger
    store: Store
    lease: Lease
    rules: Protocol
    actor: str

    def bring(self, copy: Copy, refs: list[JournalRef]) -> None:
        """One journal: looked up, written down, sent, read back; every exit leaves a state to go on from."""
        self.lease = self.store.renew(self.lease, self.rules.ttl)
        if not _posted(refs) and copy.state in ("submitted", "unknown"):
            refs = self._settled(copy)
        if not _posted(refs):
            if copy.state == "mismatched":
                return  # it was there and differed, and is gone: a person looks
            if copy.state == "submitted":
                self._mark(copy, "unknown", note="no answer was recorded")
            if not self._send(copy):
                return
            refs = self._find(copy)
        self._compare(copy, refs)

    def _send(self, copy: Copy) -> bool:
        """Whether the ERP says that it has it."""
        with self.store.transaction() as session:
            renew(session, self.lease, self.rules.ttl, self.store.now())
            copy = self._note(session, copy, "submitted")
        try:
            self._refuse_closed(copy)
            self.ledger.post(as_erp_journal(copy), fence=self._renewed)
        except UnknownOutcome as error:
            self._mark(copy, "unknown", note=error.message)
            return False
        except Rejected as error:
            if not _posted(self._find(copy)):
                self._mark(copy, "rejected", note=str(error))
                return False
        except ErpUnavailable:
            self._mark(copy, "pending", note="the ERP could not be reached")
            raise
        return True

    def _compare(self, copy: Copy, refs: list[JournalRef]) -> None:
        posted = [ref for ref in refs if ref.state == "posted"]
        if len(posted) != 1:
            self._mark(copy, "mismatched", note=f"the ERP holds it {len(posted)} times")
            return
        found = differences(as_erp_journal(copy), self.ledger.read_back(posted[0]))
        note = "; ".join(map(str, found))[:2000] or None
        self._mark(copy, "mismatched" if found else "posted", ref=posted[0], note=note)

    def _settled(self, copy: Copy) -> list[JournalRef]:
        """Look again until what was sent last time would certainly have ended."""
        since = copy.changed_at if copy.state == "unknown" and copy.changed_at else self.store.now()
        left = min(self.rules.settle, since + self.rules.settle - self.store.now()).total_seconds()
        while left > 0 and not _posted(self._find(copy)):
            self.rules.sleep(min(left, 2.0))
            left -= 2.0
            self.lease = self.store.renew(self.lease, self.rules.ttl)
        return self._find(copy)

    def _find(self, copy: Copy) -> list[JournalRef]:
        slot = copy.batch_id.rsplit("/", 1)[0]
        found = self.ledger.find_by_run_key(slot, entity=self.entity.id)
        return [ref for ref in found if ref.run_key == copy.run_key]

    def _refuse_closed(self, copy: Copy) -> None:
        is_mirror = mirror_of(copy.run_key) != copy.run_key
        period = period_of(self.entity, copy.accounting_date).name if is_mirror else copy.batch_id.split("/")[3]
        with self.store.reading() as session:
            if not periods.accepts(session, self.entity.id, self.entity.ledger, period, self.store.now()):
                raise PeriodClosed(f"period {period} of ledger {self.entity.ledger} is closed in Tieout")

    def _renewed(self) -> None:
        self.store.renew(self.lease, self.rules.ttl)

    def _mark(self, copy: Copy, to: str, *, ref: JournalRef | None = None, note: str | None = None) -> None:
        with self.store.transaction() as session:
            guard(session, self.lease)
            self._note(session, copy, to, ref, note)

    def _note(self, session: Any, copy: Copy, to: str, ref: JournalRef | None = None, note: str | None = None) -> Copy:
        return copies.mark(
            session, self.entity.id, self.entity.ledger, copy.run_key, to, actor=self.actor, now=self.store.now(),
            fence=self.lease.token, erp_id=ref.erp_id if ref else None, erp_number=ref.number if ref else None,
            note=note,
        )  # fmt: skip


def _posted(refs: Iterable[JournalRef]) -> bool:
    return any(ref.state == "posted" for ref in refs)


@dataclass(frozen=True, slots=True)
class Compared:
    """An account in two ledgers at the end of a day, debit positive, and what the difference is made of.

    `difference` = `of_opening` + `of_ours` + `of_foreign` + `unexplained`, each left − right.
    """

    account: str
    currency: str
    left: Decimal
    right: Decimal
    of_opening: Decimal
    of_ours: Decimal
    of_foreign: Decimal

    @property
    def difference(self) -> Decimal:
        """Left − right."""
        return self.left - self.right

    @property
    def unexplained(self) -> Decimal:
        """What neither the openings nor the journals nor entries by others tell."""
        return self.difference - self.of_opening - self.of_ours - self.of_foreign


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both trial balances of an entity account by account, and the entries by others on either side."""

    legal_entity_id: str
    on: date
    left: str
    right: str
    lines: tuple[Compared, ...]
    foreign_left: tuple[GlEntry, ...]
    foreign_right: tuple[GlEntry, ...]

    @property
    def agrees(self) -> bool:
        """Whether every account holds the same in both."""
        return not any(line.difference for line in self.lines)


def compare_ledgers(
    left: TrialBalanceProof,
    right: TrialBalanceProof,
    *,
    names: tuple[str, str],
    charts: tuple[Mapping[str, str], Mapping[str, str]],
) -> Comparison:
    """Two proofs of an entity as of one day, set side by side; `charts` lead each ledger's accounts back to ours.

    Accounts that a ledger puts into one are compared as one.
    """
    if (left.legal_entity_id, left.on) != (right.legal_entity_id, right.on):
        raise LedgerError("only proofs of one entity and day are compared", got=(left.on, right.on))
    # what either ledger merges is merged on both sides: an account is known by the first of ours that leads to it
    merged = _merged(charts)
    sums: dict[tuple[str, str], list[Decimal]] = {}
    for side, (proof, chart) in enumerate(zip((left, right), charts, strict=True)):
        back = {theirs: ours for ours, theirs in sorted(chart.items(), reverse=True)}
        for line in proof.lines:
            ours = back.get(line.account, line.account)
            total = sums.setdefault((merged.get(ours, ours), line.currency), [ZERO] * 8)
            for n, amount in enumerate(_amounts(line)):
                total[2 * n + side] += amount
    lines = tuple(
        Compared(account, currency, s[0], s[1], s[2] - s[3], s[4] - s[5], s[6] - s[7])
        for (account, currency), s in sorted(sums.items())
    )
    return Comparison(left.legal_entity_id, left.on, *names, lines, left.foreign, right.foreign)


def _amounts(line: ProofLine) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    return line.ledger, line.opening, line.ours, line.foreign


def _merged(charts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Our account → the first of ours that shares its account in a ledger."""
    found: dict[str, str] = {}
    for chart in charts:
        first: dict[str, str] = {}
        for ours, theirs in sorted(chart.items()):
            found.setdefault(ours, first.setdefault(theirs, ours))
    return found
