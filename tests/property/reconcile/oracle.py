"""A slow and obviously correct reconciliation: plain loops over dictionaries, written from the rules of the domain."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal


def keyed(left, right, *, tolerance=Decimal(0), many=None):
    """Outcome per key for a keyed pass on `key` with fields currency, amount, day, status (in that order).

    `left` and `right` are lists of rows (dicts); a row without a key is identified by its id. `many`
    names the side that may have several rows per key. Gives {key: (break type or "matched", left rows, right rows)}.
    """
    groups = defaultdict(lambda: ([], []))
    for position, rows in enumerate((left, right)):
        for row in rows:
            groups[row["key"] or row["id"]][position].append(row)
    return {key: (_judge(*sides, tolerance, many), len(sides[0]), len(sides[1])) for key, sides in groups.items()}


def _judge(left, right, tolerance, many):
    if not right:
        return "missing_right"
    if not left:
        return "missing_left"
    if any(row["key"] is None for row in left + right):
        raise AssertionError("ids of rows without a key never meet")
    if (len(left) > 1 and many != "left") or (len(right) > 1 and many != "right"):
        return "duplicate"
    if len({row["currency"] for row in left + right}) > 1:
        return "currency"
    one, several = (left, right) if many == "right" else (right, left)
    sums = [sum(row["amount"] for row in rows) for rows in (left, right)]
    if abs(sums[0] - sums[1]) > tolerance:
        if many and _is_repeated(several, sum(r["amount"] for r in several) - sum(r["amount"] for r in one)):
            return "duplicate"
        return "amount"
    if len({(row["day"].year, row["day"].month) for row in left + right}) > 1:
        return "cut_off"
    if len({row["status"] for row in left + right}) > 1:
        return "status"
    return "matched"


def _is_repeated(rows, surplus):
    """Whether the surplus is exactly some extra copies of an amount that occurs more than once."""
    amounts = [row["amount"] for row in rows]
    for copy in set(amounts):
        for extra in range(1, amounts.count(copy)):
            if copy * extra == surplus != 0:
                return True
    return False


def sums(rows):
    """Exact amount per currency."""
    total = defaultdict(Decimal)
    for row in rows:
        total[row["currency"]] += row["amount"]
    return {currency: amount for currency, amount in total.items() if amount}


def searched(left, right, days):
    """For a search on customer, currency and amount within ±days: left id to its candidates, and the reverse."""
    fits = [
        (a["id"], b["id"])
        for a in left
        for b in right
        if a["customer"] == b["customer"] is not None
        and a["currency"] == b["currency"]
        and a["amount"] == b["amount"]
        and abs((b["day"] - a["day"]).days) <= days
    ]
    of_left, of_right = defaultdict(set), defaultdict(set)
    for a, b in fits:
        of_left[a].add(b)
        of_right[b].add(a)
    return of_left, of_right
