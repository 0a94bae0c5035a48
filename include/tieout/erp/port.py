"""What Tieout asks of an ERP: a small Protocol, the values that cross it, and the errors it may raise.

Every adapter raises only the errors of `tieout.errors`:

* `Rejected` (with `PeriodClosed` as its special case): the ERP understood, refused, and stored nothing posted;
* `UnknownOutcome`: a write was sent and no answer came; look it up by run key before anything else;
* `ErpUnavailable` / `ErpRateLimited`: certainly not carried out, come back later.

Amounts are `Decimal` in the entity's functional currency; accounts are the ERP's account codes. A line that came of
another currency carries its amount there beside; an adapter that cannot keep it raises `Rejected` before anything is
sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

from tieout.errors import Rejected

ZERO = Decimal(0)

Fence = Callable[[], None]
"""Called before each write of an act; raises where the writer no longer holds its ledger, and nothing is written."""


def unfenced() -> None:
    """The fence of a writer that nobody else competes with."""


@dataclass(frozen=True, slots=True)
class ErpLine:
    """One line of a journal; at most one of `debit` and `credit` is not zero.

    `foreign_currency` and `foreign_amount` (debit positive, as `debit - credit`) are set together, on lines whose
    transaction currency is not the functional one. Gains, losses and residues of a conversion have neither: they are
    functional only. The foreign amounts of a journal add up to zero per currency, as debits and credits do.
    """

    account: str
    debit: Decimal
    credit: Decimal
    description: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    foreign_currency: str | None = None
    foreign_amount: Decimal | None = None

    def mirrored(self) -> ErpLine:
        """The line that undoes this one."""
        foreign = None if self.foreign_amount is None else -self.foreign_amount
        return replace(self, debit=self.credit, credit=self.debit, foreign_amount=foreign)


@dataclass(frozen=True, slots=True)
class ErpJournal:
    """A journal as Tieout means it, or as the ERP holds it (`read_back`: then `state` and `number` are set).

    `currency` is the entity's functional currency, whatever currencies its lines came from.

    `run_key` is the long key, `short_key` its 16-character form. `narrative` is for people and takes no part
    in equality, because not every ERP has a place for it; nor does `anchor`, where the audit log stood when the
    journal was sent (`audit 1234:ab12…`), which an adapter writes beside a text for people (`anchored`).
    """

    entity: str
    run_key: str
    short_key: str
    date: dt.date
    currency: str
    narrative: str = field(compare=False)
    lines: tuple[ErpLine, ...]
    state: Literal["draft", "posted"] | None = field(default=None, compare=False)
    number: str | None = field(default=None, compare=False)
    anchor: str = field(default="", compare=False)

    @property
    def debit(self) -> Decimal:
        """Sum of debits."""
        return sum((line.debit for line in self.lines), ZERO)

    @property
    def credit(self) -> Decimal:
        """Sum of credits."""
        return sum((line.credit for line in self.lines), ZERO)

    def mirrored(self, on: dt.date, run_key: str, short_key: str, anchor: str = "") -> ErpJournal:
        """The journal that undoes this one: debits and credits swapped, its own anchor, everything else kept."""
        lines = tuple(line.mirrored() for line in self.lines)
        narrative = f"Reversal of {self.run_key}"
        return ErpJournal(self.entity, run_key, short_key, on, self.currency, narrative, lines, anchor=anchor)


def anchored(text: str, anchor: str, room: int | None = None) -> str:
    """A text for people with a journal's anchor after it; in a field with `room` for so many signs the text gives way.

    An anchor that does not fit is left out: a part of one proves nothing.
    """
    tail = f" · {anchor}" if anchor else ""
    if room is None:
        return text + tail
    tail = tail if len(tail) <= room else ""
    return text[: room - len(tail)] + tail


@dataclass(frozen=True, slots=True)
class JournalRef:
    """Where a journal stands in the ERP. Only `state == "posted"` has a `number`, and only a read-back proves it."""

    entity: str
    erp_id: str
    run_key: str
    date: dt.date
    state: Literal["draft", "posted"]
    number: str | None = None


@dataclass(frozen=True, slots=True)
class PeriodStatus:
    """The ERP's period around a date, as far as our journals are concerned.

    `state`: `open` (we can post), `closed` (can be reopened), `locked` (never again), `absent` (no such period).
    `reason` says in words why it is not open. Where an ERP keeps its periods to itself, `told` is False: it counts as
    open, a closed one refuses the journal, and who closes a period says that they have seen it.
    """

    entity: str
    on: dt.date
    state: Literal["open", "closed", "locked", "absent"]
    name: str | None = None
    start: dt.date | None = None
    end: dt.date | None = None
    reason: str | None = None
    told: bool = True

    @property
    def is_open(self) -> bool:
        """Whether a journal of that date can be posted."""
        return self.state == "open"


@dataclass(frozen=True, slots=True)
class Balance:
    """One account of a trial balance: `opening + debit - credit = closing`, posted entries only, debit positive."""

    entity: str
    account: str
    currency: str
    opening: Decimal
    debit: Decimal
    credit: Decimal

    @property
    def closing(self) -> Decimal:
        """Balance at the end of the day asked for."""
        return self.opening + self.debit - self.credit


@dataclass(frozen=True, slots=True)
class GlEntry:
    """A posted line of the general ledger. `run_key` and `line_no` (from 1) are set on our own journals only."""

    entity: str
    erp_id: str
    journal_id: str
    journal_number: str | None
    date: dt.date
    posted_on: dt.date | None
    period: str
    account: str
    debit: Decimal
    credit: Decimal
    currency: str
    narrative: str
    description: str
    run_key: str | None
    line_no: int | None
    changed_at: dt.datetime
    dimensions: Mapping[str, str] = field(default_factory=dict)
    foreign_currency: str | None = None
    foreign_amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class GlAccount:
    """An account of the chart that takes postings."""

    entity: str
    code: str
    name: str
    currency: str


@runtime_checkable
class Ledger(Protocol):
    """An ERP's general ledger. One writer per (entity, ledger) at a time; the caller holds the lease."""

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Journals of ours, drafts included, oldest first, whose run key is `key` or starts with it.

        `key` is a run key, or a slot (with or without the `TIEOUT/` in front): then every version and chunk.
        """
        ...

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Post a journal once: an existing draft of the same run key is used, a posted one is returned as it is."""
        ...

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The journal as the ERP holds it, lines in the order they were posted. Raises Rejected if it is gone."""
        ...

    def reverse(
        self, ref: JournalRef, on: dt.date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Post the mirror of a posted journal under its own run key and anchor, dated `on`."""
        ...

    def period_status(self, entity: str, on: dt.date) -> PeriodStatus:
        """Whether a journal of that date can be posted now."""
        ...

    def trial_balance(self, entity: str, on: dt.date, since: dt.date | None = None) -> list[Balance]:
        """Every account with entries up to and including `on`, by code.

        `opening` is the balance before `since` (zero without it); debit and credit are the movement from
        `since` to `on`, both days included.
        """
        ...

    def gl_entries(self, entity: str, since: dt.date, until: dt.date) -> Iterator[list[GlEntry]]:
        """Posted lines with an accounting date from `since` to `until`, both included, in pages of whole journals."""
        ...

    def gl_changes(self, entity: str, since: dt.datetime, until: dt.datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of journals created or changed in `[since, until)` (instants), in pages of whole journals."""
        ...

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts that take postings, by code."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


@runtime_checkable
class ReadsMany(Protocol):
    """A ledger that reads many journals back in a few calls."""

    def read_back_many(self, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
        """`read_back` of each, in the order of `refs`; for one that is gone, the refusal instead of the journal."""
        ...


def read_back_many(ledger: Ledger, refs: Sequence[JournalRef]) -> list[ErpJournal | Rejected]:
    """Each journal as the ERP holds it, or why it cannot be shown; in bulk where the adapter can."""
    if isinstance(ledger, ReadsMany):
        return ledger.read_back_many(refs)

    def one(ref: JournalRef) -> ErpJournal | Rejected:
        try:
            return ledger.read_back(ref)
        except Rejected as refusal:
            return refusal

    return [one(ref) for ref in refs]
