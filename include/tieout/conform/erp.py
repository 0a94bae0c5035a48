"""Land what the ERP holds: chart, periods, general ledger entries and trial balance, so that they are conformed like
everything else.

Entries are read whole once, proven against the ERP's own trial balance, and from then on by when the ERP changed
them. Posted entries are never deleted in a ledger, so there is no story of deletes; a reversal is an entry of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tieout.entities import Entities, LegalEntity
from tieout.erp import GlEntry, Ledger
from tieout.lake.landing import ControlTotal, ExtractRef, Landing
from tieout.sources.config import SourceConfig
from tieout.sources.extract import LEASE, Extraction, Filled, Pages
from tieout.store import Store

FIRST, LAST = date(1970, 1, 1), date(2199, 12, 31)
_OVERLAP = timedelta(hours=1)
"""Entries become visible when their transaction ends, with the stamp of its beginning: each window reaches back."""
_MONTHS_BACK, _MOST_MONTHS_BACK, _MONTHS_AHEAD = 3, 24, 2


def catch_up_ledger(
    source: SourceConfig,
    ledger: Ledger,
    entities: Entities,
    *,
    landing: Landing,
    store: Store,
    business_date: date | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[ExtractRef]:
    """Read the ledger up to now; with a business date also its trial balance at the end of that day.

    The extracts read before a kill stay; reading on from there gives the same rows. Raises LeaseHeld while another
    process reads this source, IncompleteExtract if entries and trial balance differ, and the port's errors.
    """
    with store.lease(f"extract/{source.name}", ttl=LEASE) as lease:
        run = Extraction(source, landing, store, lease)
        listed = [e for e in entities.entities if source.legal_entity in (None, e.id)]
        hi = now().astimezone(UTC).replace(microsecond=0)
        read: dict[str, Callable[[], ExtractRef]] = {
            "gl_accounts": lambda: run.extract("gl_accounts", None, hi, lambda p: _accounts(p, ledger, listed, now)),
            "periods": lambda: run.extract(
                "periods", None, hi, lambda p: _periods(p, ledger, listed, business_date or hi.date(), now)
            ),
            "gl_entries": lambda: _entries(run, ledger, listed, hi, now),
        }
        if business_date is not None:
            read["trial_balance"] = lambda: run.extract(
                "trial_balance", None, hi, lambda p: _balances(p, ledger, listed, business_date, now)
            )
        extracts = []
        for name in (n for n in read if n in source.objects):
            extracts += run.adopt(name)
            extracts.append(read[name]())
        return extracts


def _accounts(pages: Pages, ledger: Ledger, entities: Iterable[LegalEntity], now: Callable[[], datetime]) -> Filled:
    for entity in entities:
        rows = [{**asdict(a), "id": f"{entity.id}:{a.code}"} for a in ledger.gl_accounts(entity.id)]
        _land(pages, rows, f"accounts of {entity.id}", now)
    return Filled(control=ControlTotal("no second figure in the ERP; an account that lacks would not tie in the proof"))


def _periods(
    pages: Pages, ledger: Ledger, entities: Iterable[LegalEntity], around: date, now: Callable[[], datetime]
) -> Filled:
    for entity in entities:
        since = (around.year - entity.taken_over_on.year) * 12 + around.month - entity.taken_over_on.month
        months = range(-min(max(since, _MONTHS_BACK), _MOST_MONTHS_BACK), _MONTHS_AHEAD + 1)
        found = {}
        for day in (_first_of_month(around, n) for n in months):
            status = ledger.period_status(entity.id, day)
            if status.state != "absent" and status.start is not None and status.end is not None:
                found[status.start] = {
                    "id": f"{entity.id}:{status.name}", "entity": entity.id, "name": status.name, "state": status.state,
                    "start_date": status.start.isoformat(), "end_date": status.end.isoformat(),
                }  # fmt: skip
        _land(pages, [found[start] for start in sorted(found)], f"periods of {entity.id}", now)
    return Filled(control=ControlTotal("no second figure in the ERP; a period is asked for again before posting"))


def _entries(
    run: Extraction, ledger: Ledger, entities: list[LegalEntity], hi: datetime, now: Callable[[], datetime]
) -> ExtractRef:
    last = run.mark("gl_entries").hi
    if last is None:
        return run.extract("gl_entries", None, hi, lambda p: _all_entries(p, ledger, entities, now))
    lo = last - _OVERLAP

    def changed(pages: Pages) -> Filled:
        for entity in entities:
            for page in ledger.gl_changes(entity.id, lo, hi + _OVERLAP):
                _land(pages, [_entry(e) for e in page], f"entries of {entity.id}", now)
        how = "no second figure for changes; the proof of the ledger holds all entries against the trial balance"
        return Filled(control=ControlTotal(how))

    return run.extract("gl_entries", lo, hi, changed)


def _all_entries(pages: Pages, ledger: Ledger, entities: Iterable[LegalEntity], now: Callable[[], datetime]) -> Filled:
    claimed, counted = {}, {}
    for entity in entities:
        total = Decimal(0)
        for page in ledger.gl_entries(entity.id, FIRST, LAST):
            _land(pages, [_entry(e) for e in page], f"entries of {entity.id}", now)
            total += sum((e.debit for e in page), Decimal(0))
        balances = ledger.trial_balance(entity.id, LAST)
        claimed[f"debit {entity.id}"] = _plain(sum((b.debit for b in balances), Decimal(0)))
        counted[f"debit {entity.id}"] = _plain(total)
    return Filled(control=ControlTotal("debits of the ERP's trial balance", claimed, counted))


def _balances(
    pages: Pages, ledger: Ledger, entities: Iterable[LegalEntity], on: date, now: Callable[[], datetime]
) -> Filled:
    for entity in entities:
        rows = [
            {
                "id": f"{entity.id}:{b.account}:{on}", "entity": entity.id, "account": b.account,
                "on_date": on.isoformat(), "currency": b.currency, "debit": _plain(b.debit),
                "credit": _plain(b.credit), "balance": _plain(b.closing),
            }
            for b in ledger.trial_balance(entity.id, on)
        ]  # fmt: skip
        _land(pages, rows, f"trial balance of {entity.id} on {on}", now)
    return Filled(control=ControlTotal("it is itself the figure that the proof of the ledger is held against"))


def _entry(entry: GlEntry) -> dict[str, Any]:
    return {
        "id": f"{entry.entity}:{entry.erp_id}",
        "entity": entry.entity,
        "journal_id": entry.journal_id,
        "journal_number": entry.journal_number,
        "date": entry.date.isoformat(),
        "posted_on": entry.posted_on.isoformat() if entry.posted_on else None,
        "period": entry.period,
        "account": entry.account,
        "debit": _plain(entry.debit),
        "credit": _plain(entry.credit),
        "currency": entry.currency,
        "foreign_currency": entry.foreign_currency,
        "foreign_amount": None if entry.foreign_amount is None else _plain(entry.foreign_amount),
        "narrative": entry.narrative,
        "description": entry.description,
        "run_key": entry.run_key,
        "line_no": entry.line_no,
        "changed_at": entry.changed_at.isoformat(),
        "dimensions": dict(entry.dimensions),
    }


def _land(pages: Pages, rows: list[dict[str, Any]], request: str, now: Callable[[], datetime]) -> None:
    if rows:
        pages.land(rows, request=request, request_id=None, status=None, fetched_at=now(), sha256=None)  # type: ignore[arg-type]


def _plain(amount: Decimal) -> str:
    """An amount as text: the same for 10, 10.0 and 1E+1."""
    return format(amount.normalize() + 0, "f") if amount else "0"


def _first_of_month(day: date, months: int) -> date:
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
