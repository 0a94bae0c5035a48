"""What open breaks put at stake: each cause counted once, per currency, what comes every month apart from the rest.

A break's `value` is what it alone puts in question. Adding values up would count one cause more than once: both lines
of an entry that others posted, or the invoice and the contract line of one unmapped product. So breaks of one cause
count once. Within a reconciliation that is the larger side of it, debits or credits; among reconciliations money owed,
paid or booked counts before a price that comes again every month. Nothing is netted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]

MEANING = (
    "At stake is what the open breaks put in question: each cause counted once, nothing netted, currencies and what "
    "comes again every month kept apart. A break without an amount is not priced and counts nothing."
)
MEASURES = {"balance": "owed, paid or booked", "monthly": "again every month"}


def count_once(breaks: Iterable[Row]) -> tuple[dict[str, Any], ...]:
    """The breaks in their order, each with what it adds to the total of its measure.

    Adds `balance_at_stake` or `monthly_at_stake` (Decimal, None where it adds nothing) and `counted_with`: the key of
    the break of the same cause that counts instead.
    """
    rows = [dict(row) for row in breaks]
    causes: dict[tuple[str, ...], dict[tuple[int, str], list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        row |= {"balance_at_stake": None, "monthly_at_stake": None, "counted_with": None}
        if row.get("value") is None or not row.get("currency"):
            continue
        cause = row.get("cause") or "|".join(str(row.get(c)) for c in ("definition_id", "break_key", "ordinal"))
        about = (str(row.get("legal_entity_id")), str(row["currency"]), str(cause))
        causes[about][list(MEASURES).index(measure(row)), row["definition_id"]].append(row)
    for candidates in causes.values():
        # balances first, then the reconciliation with the most, then by name: the same whatever the order of the rows
        best = min(candidates, key=lambda c: (c[0], -_total(_larger_side(candidates[c])), c[1]))
        counted = _larger_side(candidates[best])
        for row in counted:
            row[f"{measure(row)}_at_stake"] = row["value"]
        for row in (r for of_one in candidates.values() for r in of_one):
            if row[f"{measure(row)}_at_stake"] is None:
                row["counted_with"] = counted[0]["break_key"]
    return tuple(rows)


def measure(row: Row) -> str:
    """What the value of a break is: `balance` or `monthly`."""
    return str(row.get("measure") or "balance")


def totals(counted: Iterable[Row], name: str) -> dict[str, Decimal]:
    """What breaks that `count_once` has counted add up to in a measure, by currency in order."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in counted:
        if row[f"{name}_at_stake"] is not None:
            sums[row["currency"]] += row[f"{name}_at_stake"]
    return dict(sorted(sums.items()))


def not_priced(breaks: Iterable[Row]) -> int:
    """How many breaks have no amount that could be at stake."""
    return sum(1 for row in breaks if row.get("value") is None)


def _larger_side(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of one cause's breaks in one reconciliation those of the larger side; of two equal sides the positive one."""
    sides: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in sorted(rows, key=lambda r: (str(r["break_key"]), r.get("ordinal") or 0)):
        sides[_sign(row) >= 0].append(row)
    return max(sides[True], sides[False], key=_total)


def _total(rows: Iterable[Row]) -> Decimal:
    return sum((row["value"] for row in rows), Decimal(0))


def _sign(row: Row) -> Decimal:
    found = (row.get(c) for c in ("difference", "left_amount", "right_amount"))
    return next((amount for amount in found if amount is not None), Decimal(0))
