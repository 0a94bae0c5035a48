"""Posting once into an ERP that keeps drafts: look up, make a draft or take a whole one, post it, look up again.

The same order of steps for every such ERP, whatever its calls are; `DraftBook` is what an adapter brings to it. Once
something was written, a question the ERP does not answer leaves the outcome unknown.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, Protocol, TypeVar

from tieout.erp.config import ErpConfig
from tieout.erp.http import LOOK_IT_UP, LockNotObtained
from tieout.erp.port import ErpJournal, Fence, JournalRef, PeriodStatus, anchored
from tieout.errors import ErpError, PeriodClosed, Rejected, UnknownOutcome

log = logging.getLogger("tieout.erp")

T = TypeVar("T")

_OURS = re.compile(r"(TIEOUT/\S+) (T[0-9A-F]{15})(?: · audit [^·]+)?\Z")


class DraftBook(Protocol):
    """What an adapter does step by step. Writes call `fence` first and raise the port's errors."""

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """See the port."""
        ...

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """See the port."""
        ...

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """See the port."""
        ...

    def create_draft(self, journal: ErpJournal, fence: Fence) -> JournalRef | None:
        """Bring the whole journal into the ERP as a draft under its run key; None where the ERP does not say where."""
        ...

    def post_draft(self, draft: JournalRef, journal: ErpJournal, fence: Fence) -> None:
        """Post a draft. Raises Rejected where the ERP refuses, PeriodClosed where it is for the date."""
        ...

    def delete_draft(self, draft: JournalRef, fence: Fence) -> None:
        """Delete a draft of ours."""
        ...

    def read_ref(self, ref: JournalRef) -> JournalRef:
        """The state and number a journal has now. Raises UnknownOutcome if it is gone."""
        ...


def post_once(
    book: DraftBook, journal: ErpJournal, fence: Fence, *, period: Callable[[str, date], PeriodStatus] | None = None
) -> JournalRef:
    """Post by the run key: what is posted already is returned, a whole draft is used, anything else of ours deleted.

    Raises Rejected (nothing stays behind), PeriodClosed, ErpUnavailable (not carried out), UnknownOutcome (a draft or
    the posted journal may be there: the next call finds it). `period` tells whether a date is open, in place of the
    book's `period_status`.
    """
    present = _of(book, journal)
    posted = the_posted(present, journal)
    if posted:
        _delete(book, _drafts(present), fence)
        return posted
    draft = next((ref for ref in present if _is_whole(book, ref, journal)), None)
    left = _delete(book, [ref for ref in present if ref != draft], fence)
    if left:
        # it may be there because it was posted meanwhile; ours would be the second
        raise UnknownOutcome(
            "another draft of the journal cannot be deleted",
            record=journal.run_key,
            got=[f"move {ref.erp_id}" for ref in left],
            remedy="the next try looks it up again; if it stays, delete it by hand in the ERP",
        )
    _post(book, draft or _made(book, journal, fence, period or book.period_status), journal, fence)
    with written(journal):
        present = _of(book, journal)
        posted = the_posted(present, journal)
    if not posted:
        raise UnknownOutcome("the journal just posted is not to be found", record=journal.run_key, remedy=LOOK_IT_UP)
    _delete(book, _drafts(present), fence)  # of a request that arrived twice, or later than its sender lived
    return posted


def mirror(original: ErpJournal, on: date, run_key: str, short_key: str, anchor: str) -> ErpJournal:
    """The mirror of a posted journal, dated `on`, to be posted under its own key. Raises Rejected for a draft."""
    if original.state != "posted":
        raise Rejected("only a posted journal can be reversed", record=original.run_key, got=original.state)
    return original.mirrored(on, run_key, short_key, anchor)


def refuse_unfit(
    journal: ErpJournal,
    config: ErpConfig,
    *,
    currency: str,
    accounts: Container[str],
    has_value: Callable[[str, str], bool],
    currencies: Callable[[], Container[str]] = tuple,
) -> None:
    """Refuse, before anything is sent, what the ERP would misread or drop. Raises Rejected.

    `accounts` are the codes that take postings; `has_value` tells whether a dimension has a value in the ERP;
    `currencies` those it keeps a line's foreign amount in, asked only where a line has one: none, if not given.
    """
    if journal.currency != currency:
        raise Rejected(
            "a journal is in the entity's functional currency",
            record=journal.run_key,
            expected=currency,
            got=journal.currency,
        )
    if len(journal.lines) > config.max_lines:
        raise Rejected(
            "too many lines for one journal",
            record=journal.run_key,
            expected=f"at most {config.max_lines}",
            got=len(journal.lines),
            remedy="split the batch",
        )
    for number, line in enumerate(journal.lines, 1):
        where = f"{journal.run_key} line {number}"
        if line.account not in accounts:
            raise Rejected(
                "the ERP has no such account",
                record=where,
                got=line.account,
                remedy=f"create it in company {journal.entity}, or map the role to another account",
            )
        if line.foreign_currency is not None and line.foreign_currency not in currencies():
            raise Rejected(
                "the ERP has no such currency, or its adapter keeps no foreign amounts",
                record=where,
                got=line.foreign_currency,
                remedy="create the currency in the ERP, or bill this entity in its functional currency",
            )
        for dimension, value in line.dimensions.items():
            if not value:
                continue
            if dimension not in config.dimensions:
                raise Rejected(
                    "the ERP keeps no such dimension",
                    record=where,
                    got=dimension,
                    expected=tuple(config.dimensions),
                    remedy="add it to `dimensions` in the ERP's file and to the ERP, or leave it out",
                )
            if not has_value(dimension, value):
                raise Rejected("the ERP has no such dimension value", record=where, got=f"{dimension}:{value}")


def reference(journal: ErpJournal) -> str:
    """The text by which a journal is found again, for an ERP's field of free text. Raises Rejected for no run key."""
    text = f"{journal.run_key} {journal.short_key}"
    if not _OURS.match(text):
        raise Rejected("not a run key", record=text, expected="TIEOUT/<slot>/v<n> T<15 hex digits>")
    return text


def entry_text(journal: ErpJournal) -> str:
    """The reference with the journal's anchor after it, for a field that is long enough. Raises Rejected."""
    return anchored(reference(journal), journal.anchor)


def keys_in(text: str | None) -> tuple[str, str] | None:
    """Run key and short key of a text that `reference` or `entry_text` made; None for anybody else's."""
    ours = _OURS.match(text or "")
    return (ours[1], ours[2]) if ours else None


def is_under(run_key: str, key: str) -> bool:
    """Whether a run key is `key` (a run key or slot, with or without `TIEOUT/`) or goes on from it at a `/`."""
    return f"{run_key}/".startswith(f"TIEOUT/{key.removeprefix('TIEOUT/')}".rstrip("/") + "/")


def again_if_locked(call: Callable[[], T], fence: Fence, *, tries: int, pause: float) -> T:
    """Write; where another writer was in the way everything was rolled back, so the same call is made again."""
    for attempt in range(1, tries + 1):
        fence()
        try:
            return call()
        except LockNotObtained:
            if attempt == tries:
                raise
            time.sleep(pause * attempt)
    raise AssertionError("unreachable")


def same_content(left: ErpJournal, right: ErpJournal) -> bool:
    """Whether two journals say the same to the ledger: entity, key, currency, date; accounts, amounts, dimensions."""

    def content(journal: ErpJournal) -> tuple[Any, ...]:
        lines = sorted(
            (
                line.account,
                line.debit,
                line.credit,
                sorted((k, v) for k, v in line.dimensions.items() if v),
                line.foreign_currency or "",
                line.foreign_amount or 0,
            )
            for line in journal.lines
        )
        return journal.entity, journal.run_key, journal.currency, journal.date, lines

    return content(left) == content(right)


@contextmanager
def written(journal: ErpJournal) -> Iterator[None]:
    """Reads after something was written: their errors are no answer about the journal, so its outcome is unknown."""
    try:
        yield
    except UnknownOutcome:
        raise
    except ErpError as error:
        raise UnknownOutcome(
            "the ERP does not say what became of the journal",
            record=journal.run_key,
            got=str(error),
            remedy=LOOK_IT_UP,
        ) from error


def closed(journal: ErpJournal, status: PeriodStatus) -> Rejected:
    """The refusal of a journal whose date is not open."""
    kind = Rejected if status.state == "absent" else PeriodClosed
    remedy = (
        "create the fiscal year in the ERP" if status.state == "absent" else "reopen it, or post to the next period"
    )
    return kind("the date cannot be posted to", record=journal.run_key, got=status.reason, remedy=remedy)


def _made(
    book: DraftBook, journal: ErpJournal, fence: Fence, period: Callable[[str, date], PeriodStatus]
) -> JournalRef:
    """A new draft of the journal."""
    status = period(journal.entity, journal.date)
    if not status.is_open:
        raise closed(journal, status)
    made = book.create_draft(journal, fence)
    if made is not None:
        return made
    with written(journal):
        made = next((ref for ref in _of(book, journal) if _is_whole(book, ref, journal)), None)
    if made is None:
        raise UnknownOutcome("the draft just created is not to be found", record=journal.run_key, remedy=LOOK_IT_UP)
    return made


def _of(book: DraftBook, journal: ErpJournal) -> list[JournalRef]:
    found = book.find_by_run_key(journal.run_key, entity=journal.entity)
    return [ref for ref in found if ref.run_key == journal.run_key]


def _drafts(refs: Iterable[JournalRef]) -> list[JournalRef]:
    return [ref for ref in refs if ref.state == "draft"]


def _post(book: DraftBook, draft: JournalRef, journal: ErpJournal, fence: Fence) -> None:
    try:
        book.post_draft(draft, journal, fence)
    except Rejected:
        with written(journal):
            state = book.read_ref(draft).state
        if state == "posted":
            return  # somebody finished what an earlier attempt of ours began
        _delete(book, [draft], fence)
        raise


def _delete(book: DraftBook, drafts: Iterable[JournalRef], fence: Fence) -> list[JournalRef]:
    """Delete drafts of ours; gives those of which it is not certain that they are gone."""
    left = []
    for draft in drafts:
        try:
            book.delete_draft(draft, fence)
        except ErpError as error:
            log.warning("draft %s of %s was not deleted: %s", draft.erp_id, draft.run_key, error.message)
            left.append(draft)
    return left


def _is_whole(book: DraftBook, draft: JournalRef, journal: ErpJournal) -> bool:
    return draft.state == "draft" and same_content(book.read_back(draft), journal)


def the_posted(present: Iterable[JournalRef], journal: ErpJournal) -> JournalRef | None:
    """The posted one of what was found under a journal's key. Raises Rejected where there are two."""
    posted = [ref for ref in present if ref.state == "posted"]
    if len(posted) > 1:
        raise Rejected(
            "the ERP holds this journal more than once",
            record=journal.run_key,
            got=[ref.number for ref in posted],
            remedy="reverse all but one by hand in the ERP, then resume",
        )
    return posted[0] if posted else None
