"""The proof of the ledger: opening at go-live + our posted journals + foreign entries = the ERP's trial balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from sqlalchemy.orm import Session

from tieout.entities import LegalEntity
from tieout.erp.port import Balance, GlEntry, Ledger
from tieout.errors import LedgerError
from tieout.ids import mirror_key, mirror_of
from tieout.store import Store, batches
from tieout.store.batches import Batch, BatchJournal, Mirror
from tieout.store.copies import Copy, copies_of
from tieout.store.golive import OpeningBalance, is_taken_over, opening

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class ProofLine:
    """One account, debit positive: what it should hold, from what, and what the ERP says."""

    account: str
    currency: str
    opening: Decimal
    ours: Decimal
    foreign: Decimal
    ledger: Decimal

    @property
    def expected(self) -> Decimal:
        """Opening, our journals and foreign entries together."""
        return self.opening + self.ours + self.foreign

    @property
    def difference(self) -> Decimal:
        """What the ERP holds beyond that; zero where the account ties out."""
        return self.ledger - self.expected


@dataclass(frozen=True, slots=True)
class TrialBalanceProof:
    """The proof of one entity at the end of a day, with every entry that is not ours."""

    legal_entity_id: str
    on: date
    lines: tuple[ProofLine, ...]
    foreign: tuple[GlEntry, ...]
    journals_posted: int
    journals_open: int

    @property
    def ties(self) -> bool:
        """Whether every account agrees to the cent."""
        return all(not line.difference for line in self.lines)


def prove(entity: LegalEntity, on: date, ledger: Ledger, store: Store) -> TrialBalanceProof:
    """Prove an entity's ledger at the end of `on`, by itself where the entity has several (`entity.of_ledger`).

    Journals copied into it count as ours; one that was reversed where it came from is open until its mirror was copied
    too. Raises LedgerError before the opening balances are loaded.
    """
    with store.reading() as session:
        opened = opening(session, entity.id, entity.ledger)
        taken_over = is_taken_over(session, entity.id, entity.ledger)
        every = batches.select_batches(session, entity=entity.id)
        planned = [b for b in every if b.slot.ledger == entity.ledger]
        taken_out = _taken_out(session, planned, on)
        copies = copies_of(session, entity.id, entity.ledger)
        undone_there = mirrored_copies(session, every, copies, entity.ledger)
    copied = [c for c in copies if c.accounting_date <= on]
    if not taken_over:
        raise LedgerError("no opening balances", record=entity.id, remedy="load the go-live position first")
    stands = ("posted", batches.BY_HAND)
    posted = [j for b in planned for j in b.journals if j.accounting_date <= on and j.state in stands]
    ours: list[BatchJournal | Copy] = [*posted, *(copy for copy in copied if copy.state == "posted")]
    entries = [e for page in ledger.gl_entries(entity.id, entity.taken_over_on, on) for e in page]
    lines, foreign = compare(opened, ours, entries, ledger.trial_balance(entity.id, on), taken_out)
    waiting = [
        j
        for b in planned
        for j in b.journals
        if j.accounting_date <= on and j.state not in stands and b.state not in batches.FINISHED and b.counts
    ]
    known = {copy.run_key for copy in copied}
    missing = sum(copy.state != "posted" for copy in copied)
    missing += sum(mirror.on <= on and mirror.run_key not in known for _, mirror in undone_there)
    return TrialBalanceProof(entity.id, on, lines, foreign, len(ours), len(waiting) + missing)


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What an entry of a journal that was taken out, or of a mirror, belongs to: together it is nothing.

    `run_key` is the journal's. `is_whole`: the mirror is dated within the proof too.
    """

    run_key: str
    is_whole: bool


def _taken_out(session: Session, planned: Iterable[Batch], on: date) -> dict[tuple[str, str | None], TakenOut]:
    """By run key and the ERP's id of a journal: those that mirrors took out of the ledger, and the mirrors."""
    found: dict[tuple[str, str | None], TakenOut] = {}
    for batch in planned:
        for mirror in batches.mirrors_of(session, batch):
            key = mirror_of(mirror.run_key)
            found[key, mirror.of] = found[mirror.run_key, mirror.erp_id] = TakenOut(key, mirror.on <= on)
    return found


def mirrored_copies(
    session: Session, every: Iterable[Batch], copied: Iterable[Copy], ledger: str
) -> list[tuple[Copy, Mirror]]:
    """The copies in a ledger whose journals were taken out of the ledger they came from, with the mirrors there."""
    by_key = {copy.run_key: copy for copy in copied}
    found = []
    for batch in every:
        if batch.slot.ledger == ledger:
            continue
        for mirror in batches.mirrors_of(session, batch):
            copy = by_key.get(mirror_of(mirror.run_key))
            if copy is not None and mirror.run_key == mirror_key(copy.run_key):  # it was copied once
                found.append((copy, mirror))
    return found


def compare(
    opened: Iterable[OpeningBalance],
    posted: Iterable[BatchJournal | Copy],
    entries: Iterable[GlEntry],
    balances: Iterable[Balance],
    taken_out: Mapping[tuple[str, str | None], TakenOut] = MappingProxyType({}),
) -> tuple[tuple[ProofLine, ...], tuple[GlEntry, ...]]:
    """The equation per account and currency.

    An entry is ours if its journal is the one we read back, or a document that somebody wrote in its place, or one that
    was taken out, or the mirror that did so (by run key and the ERP's id; None for one whose id was not noted). The
    last two count as the ERP holds them, where they undo each other on every account; where they do not, somebody
    changed one of them, and they are foreign.

    Where the entries of our journals hold another amount in the currency of the documents than was sent, that is a line
    of its own: the ERP's trial balance tells the functional currency only.
    """
    # opening; ours, others', all of it in functional currency; ours in other currencies, as sent and as shown
    start: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    ours, others, held = start.copy(), start.copy(), start.copy()
    for b in opened:
        start[b.account, b.currency] += b.balance
    sent, shown = start.copy(), start.copy()
    known: set[tuple[str | None, str | None]] = set()
    for journal in posted:
        known.add((journal.run_key, journal.erp_id))
        if journal.state == batches.BY_HAND:
            known.add((None, journal.erp_id))
        for line in journal.content["lines"]:
            amount = Decimal(line["amount"])
            ours[line["account"], journal.currency] += amount if line["side"] == "debit" else -amount
            if "foreign_amount" in line:
                sent[line["account"], line["foreign_currency"]] += Decimal(line["foreign_amount"])
    undone: defaultdict[TakenOut, list[GlEntry]] = defaultdict(list)
    foreign = []
    for entry in entries:
        if (entry.run_key, entry.journal_id) in known:
            if entry.foreign_currency is not None and entry.foreign_amount is not None:
                shown[entry.account, entry.foreign_currency] += entry.foreign_amount
            continue
        of = entry.run_key and (
            taken_out.get((entry.run_key, entry.journal_id)) or taken_out.get((entry.run_key, None))
        )
        if of:
            undone[of].append(entry)
        else:
            foreign.append(entry)
    for of, pair in undone.items():
        left: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
        for entry in pair:
            left[entry.account, entry.currency] += entry.debit - entry.credit
        if of.is_whole and any(left.values()):
            foreign += pair
        else:
            for key, amount in left.items():
                ours[key] += amount
    for entry in foreign:
        others[entry.account, entry.currency] += entry.debit - entry.credit
    for balance in balances:
        held[balance.account, balance.currency] += balance.closing
    keys = sorted({*start, *ours, *others, *held})
    lines = [ProofLine(*k, start[k], ours[k], others[k], held[k]) for k in keys]
    lines += [ProofLine(*k, ZERO, sent[k], ZERO, shown[k]) for k in sorted({*sent, *shown}) if sent[k] != shown[k]]
    return tuple(lines), tuple(foreign)
