"""An ERP that lies: it says yes, and holds something else.

`LyingLedger` stands in front of a real ledger or a simulator and sends it another journal than it was given, so that
the wrong thing really stands there. Where a sound ERP would refuse the wrong thing (the same journal twice, an
unbalanced one), the wrapper stores what it takes and shows it as the lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tieout.erp.port import ErpJournal, JournalRef, Ledger
from tieout.ids import short_key

_COPY = "/copy"


@dataclass(frozen=True, slots=True)
class Lie:
    """What is stored for a journal that was sent, and what reading back has to make of it.

    `stored` gives the journals that are stored for the `number`-th one sent; `shown` what is shown of a stored one.
    """

    name: str
    break_type: str
    stored: Callable[[ErpJournal, int], list[ErpJournal]]
    shown: Callable[[ErpJournal], ErpJournal] = lambda journal: journal
    journals: int = 1
    state: str = "mismatched"


def _more(journal: ErpJournal) -> ErpJournal:
    """The journal with one more on each side that has something."""
    lines = tuple(
        replace(x, debit=x.debit + 1 if x.debit else x.debit, credit=x.credit + 1 if x.credit else x.credit)
        for x in journal.lines
    )
    return replace(journal, lines=lines)


def _copy(journal: ErpJournal) -> ErpJournal:
    key = journal.run_key + _COPY
    return replace(journal, run_key=key, short_key=short_key(key))


def _less_credit(journal: ErpJournal) -> ErpJournal:
    lines = tuple(replace(x, credit=x.credit - 1 if x.credit else Decimal(0)) for x in journal.lines)
    return replace(journal, lines=lines)


def _without_dimensions(journal: ErpJournal) -> ErpJournal:
    return replace(journal, lines=tuple(replace(line, dimensions={}) for line in journal.lines))


LIES = (
    Lie("stores nothing", "missing_right", lambda journal, number: []),
    Lie("stores twice", "duplicate", lambda journal, number: [journal, _copy(journal)]),
    Lie("stores another amount", "amount", lambda journal, number: [_more(journal)]),
    Lie("stores another period", "cut_off", lambda journal, n: [replace(journal, date=journal.date + timedelta(31))]),
    Lie("drops a dimension", "attribute", lambda journal, number: [_without_dimensions(journal)]),
    Lie("posts unbalanced", "amount", lambda journal, number: [_more(journal)], shown=_less_credit),
    Lie(
        "stores three of five chunks",
        "missing_right",
        lambda journal, number: [journal] if number <= 3 else [],
        journals=5,
        state="partially_posted",
    ),
)


class LyingLedger:
    """A `Ledger` that tells one lie about everything it is sent; the rest is the real one's."""

    def __init__(self, ledger: Ledger, lie: Lie) -> None:
        self._ledger, self._lie, self._sent = ledger, lie, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        found = self._ledger.find_by_run_key(key, entity=entity)
        return [replace(ref, run_key=ref.run_key.removesuffix(_COPY)) for ref in found]

    def post(self, journal: ErpJournal, **options: Any) -> JournalRef:
        self._sent += 1
        refs = [self._ledger.post(one, **options) for one in self._lie.stored(journal, self._sent)]
        yes = JournalRef(journal.entity, "0", journal.run_key, journal.date, "posted", "YES-1")
        return replace(refs[0], run_key=journal.run_key) if refs else yes

    def read_back(self, ref: JournalRef) -> ErpJournal:
        return self._lie.shown(self._ledger.read_back(ref))

    def read_back_many(self, refs: list[JournalRef]) -> list[ErpJournal]:
        return [self.read_back(ref) for ref in refs]
