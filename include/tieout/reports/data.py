"""What one business date's report shows, as plain tables: gathered once, rendered many ways."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tieout import schema
from tieout.ledger.blocked import blocked
from tieout.money import minor_digits, round_money
from tieout.reports.stake import count_once, totals

Row = Mapping[str, Any]

AGE_BUCKETS: tuple[tuple[str, int], ...] = (("0–1 day", 1), ("2–7 days", 7), ("8–30 days", 30), ("over 30 days", 10**6))


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows. Rows are mappings whose money is Decimal; the schema's names are their keys.

    `sources`: source, object, complete_until (instant or None), records (= kept + merged + quarantined), control
    (proven, unproven or failed), control_how (against which figure, or why there is none). `gate`: entity,
    expectations, failed, blocking, rows_failing, value_at_risk, reasons (texts). `breaks`, `totals`, `journals`,
    `journal_lines`, `drilldown`, `quarantine`, `backlog` follow their tables, `held` follows journal_held; journals
    carry `state` and `erp_number` as well.
    `proof`: legal_entity_id, account, name, currency, opening, posted, foreign, expected, trial_balance, difference.
    `foreign`: legal_entity_id, number (the ERP's of the entry), account, accounting_date, narrative, debit, credit,
    currency.
    """

    business_date: date
    title: str
    entities: Mapping[str, str]
    """Legal entity id to functional currency, in the order of the configuration."""
    sources: tuple[Row, ...] = ()
    gate: tuple[Row, ...] = ()
    breaks: tuple[Row, ...] = ()
    totals: tuple[Row, ...] = ()
    journals: tuple[Row, ...] = ()
    journal_lines: tuple[Row, ...] = ()
    drilldown: tuple[Row, ...] = ()
    proof: tuple[Row, ...] = ()
    foreign: tuple[Row, ...] = ()
    quarantine: tuple[Row, ...] = ()
    backlog: tuple[Row, ...] = ()
    held: tuple[Row, ...] = ()
    """Accounting events up to the business date that wait instead of being posted."""
    gone: tuple[Row, ...] = ()
    """Breaks of the business date before that are no longer there, with how they ended (`state`)."""
    forward: tuple[Row, ...] = ()
    """How the breaks follow from the run before, per reconciliation, entity and currency (`breaks_forward`)."""
    unproven: tuple[str, ...] = ()
    """Sentences on what this report cannot vouch for: a source missing, a reconciliation that could not run."""
    unproved: tuple[str, ...] = ()
    """Sentences on ledgers that the proof could not be made of."""
    note: str = ""
    """What a reader must know about how this report came to be; empty for a night's own."""
    usage: tuple[Row, ...] = ()
    """Per meter, month and currency: unit, units counted and billed, due (by the price book) and charged; for billing
    periods that have ended, by the month of their last day."""
    unrated: tuple[Row, ...] = ()
    """Billing periods that no price holds for (`unrated_usage`)."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Result table to the hash of what this run left in it: equal hashes are equal results."""
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Definition id to the title finance knows it by."""
    sides: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Definition id to the names of the systems on its left and right: `billing`, `the ledger`."""
    close_report: str = ""
    """Where the report of the month end is or will be that lists the close backlog; empty where this one lists it."""


def open_breaks(data: ReportData) -> tuple[Row, ...]:
    """Breaks that still need somebody, the largest first within owner and type, with what each puts at stake."""
    waiting = (b for b in data.breaks if b.get("state", "open") not in ("resolved", "written_off"))
    return count_once(sorted(waiting, key=_by_owner_and_size))


def _by_owner_and_size(row: Row) -> tuple[Any, ...]:
    return (
        row.get("owner") or "",
        row["break_type"],
        row.get("currency") or "",
        -(row.get("value") or Decimal(0)),
        row["definition_id"],
        row["break_key"],
        row.get("ordinal") or 0,
    )


def age_bucket(days: int | None) -> str:
    """The ageing bucket of a number of days; breaks without an economic date count as new."""
    return next(name for name, limit in AGE_BUCKETS if (days or 0) <= limit)


def totals_by_outcome(data: ReportData) -> dict[str, list[Row]]:
    """Totals by definition, summed over periods: rows of entity, currency, outcome, detail; `all` last in its group."""
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in data.totals:
        key = tuple(str(row[c] or "") for c in ("definition_id", "legal_entity_id", "currency", "outcome", "detail"))
        total = sums.setdefault(key, dict.fromkeys(_SIDES))
        for column in _SIDES:
            if row[column] is not None:
                total[column] = (total[column] or 0) + row[column]
    by_definition: dict[str, list[Row]] = defaultdict(list)
    order = {"matched": 0, "break": 1, "excluded": 2, "all": 3}
    for key in sorted(sums, key=lambda k: (*k[:3], order[k[3]], k[4])):
        names = ("definition_id", "legal_entity_id", "currency", "outcome", "detail")
        by_definition[key[0]].append({**dict(zip(names, key, strict=True)), **sums[key]})
    return dict(by_definition)


_SIDES = ("left_rows", "left_amount", "right_rows", "right_amount")


def count_by(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], int]:
    """How many rows share each combination of columns, in sorted order."""
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        counts[tuple(row.get(c) for c in columns)] += 1
    return dict(sorted(counts.items(), key=lambda item: tuple(str(part) for part in item[0])))


def money_by(rows: Iterable[Row], amount: str, *columns: str) -> dict[tuple[Any, ...], Decimal]:
    """The exact sum of absolute amounts by combination of columns; rows without an amount add nothing."""
    sums: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    for row in rows:
        if row.get(amount) is not None:
            sums[tuple(row.get(c) for c in columns)] += abs(row[amount])
    return dict(sorted(sums.items(), key=lambda item: tuple(str(part) for part in item[0])))


@dataclass(frozen=True, slots=True)
class Headline:
    """The four answers at the top of the report."""

    ties: bool | None
    """Whether opening + posted + entries by others equals the ERP's trial balance; None if any was not proved."""
    open_breaks: int
    new_breaks: int
    gone_breaks: int
    journals_posted: int
    journals_waiting: int
    rows_quarantined: int
    blockers: tuple[str, ...]


def headline(data: ReportData) -> Headline:
    """What a controller wants to know first, and what stands between today and a close."""
    waiting = open_breaks(data)
    posted = [j for j in data.journals if j.get("state") == "posted"]
    unposted = [j for j in data.journals if j.get("state") not in ("posted", "reversed", "manually_resolved")]
    off = [p for p in data.proof if p["difference"]]
    ties = False if off else True if data.proof and not data.unproved else None
    blockers = [*data.unproven, *data.unproved]
    if off:
        blockers.append(f"{len(off)} accounts do not tie to the ERP's trial balance.")
    for state, rows in _by_state(unposted).items():
        blockers.append(f"{_journals(len(rows))} {_STATES.get(state, state.replace('_', ' '))}.")
    if data.held:
        noun = "accounting event is" if len(data.held) == 1 else "accounting events are"
        blockers.append(f"{len(data.held)} {noun} held and not posted{_amounts(data.held, 'amount')}.")
        table = pa.Table.from_pylist(list(data.held), schema=schema.table("journal_held").arrow)
        blockers += [f"{cause}." for cause in blocked(table)]
    unaccepted = [b for b in waiting if b.get("state") != "known_difference"]
    cut_off = [b for b in unaccepted if b["break_type"] == "cut_off"]
    if cut_off:
        noun = "cut-off break stands" if len(cut_off) == 1 else "cut-off breaks stand"
        blockers.append(f"{len(cut_off)} {noun} in different periods on the two sides{_at_stake(cut_off)}.")
    others = count_once(b for b in unaccepted if (b["definition_id"], b["break_type"]) == _BY_OTHERS)
    if others:
        entries = len({b.get("cause") or b["break_key"] for b in others})
        noun = "entry by others is" if entries == 1 else "entries by others are"
        blockers.append(f"{entries} {noun} on controlled accounts{_at_stake(others)}.")
    blockers += [_watched(data, row) for row in data.forward if row["is_watched"]]
    failing = [g for g in data.gate if g.get("blocking") and g["failed"]]
    if failing:
        blockers.append("The quality gate fails for " + ", ".join(str(g["entity"]) for g in failing) + ".")
    if data.quarantine:
        noun = "record waits" if len(data.quarantine) == 1 else "records wait"
        blockers.append(f"{len(data.quarantine)} {noun} in quarantine.")
    return Headline(
        ties,
        len(waiting),
        sum(1 for b in waiting if b.get("change") in ("new", "reopened")),
        len(data.gone),
        len(posted),
        len(unposted),
        len(data.quarantine),
        tuple(blockers),
    )


def _watched(data: ReportData, row: Row) -> str:
    """Small differences that together are a large one."""
    title = data.definitions.get(row["definition_id"], row["definition_id"])
    where = f"{title}, {row['legal_entity_id']}" if row["legal_entity_id"] else title
    total, limit = (money_list({row["currency"]: row[name]}) for name in ("immaterial_value", "immaterial_limit"))
    return f"{where}: {row['immaterial_breaks']} immaterial breaks add up to {total}, more than {limit}."


_BY_OTHERS = ("journal_to_ledger", "missing_left")
"""The breaks that are entries on controlled accounts which Tieout did not post."""

_STATES = {
    "validated": "not yet posted",
    "awaiting_approval": "waiting for approval",
    "approved": "approved, not yet posted",
    "submitted": "submitted, answer outstanding",
    "unknown": "sent without an answer: the ERP must be searched",
    "confirmed": "accepted by the ERP, not yet read back",
    "rejected": "refused by the ERP",
    "mismatched": "stored by the ERP with other content",
    "reversing": "being taken out of the ERP: a mirror does not stand there yet, or not once",
    "planned": "planned, not yet validated",
}


def _at_stake(counted: Iterable[Row]) -> str:
    return _listed(totals(counted, "balance"))


def _amounts(rows: Iterable[Row], column: str) -> str:
    sums = money_by((r for r in rows if r.get("currency")), column, "currency")
    return _listed({currency: amount for (currency,), amount in sums.items()})


def _listed(sums: Mapping[str, Decimal]) -> str:
    """`: 1,190.00 EUR · 500 JPY`, or nothing where there is no amount."""
    return ": " + money_list(sums) if sums else ""


def money_list(sums: Mapping[str, Decimal]) -> str:
    """`1,190.00 EUR · 500 JPY`: amounts by currency, each at its own digits."""
    return " · ".join(f"{round_money(v, c):,.{minor_digits(c)}f} {c}" for c, v in sums.items())


def _journals(count: int) -> str:
    return "1 journal" if count == 1 else f"{count} journals"


def _by_state(journals: Iterable[Row]) -> dict[str, list[Row]]:
    states: dict[str, list[Row]] = defaultdict(list)
    for journal in journals:
        states[str(journal.get("state") or "planned")].append(journal)
    return dict(sorted(states.items()))
