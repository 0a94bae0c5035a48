"""A slow and obviously correct reconciliation: plain loops over lists of dictionaries, written from the domain's rules.

A row has id, key, customer, currency, amount, day, status. Every function takes the rows that are still open, gives the
outcomes it finds, and the caller takes their rows off the lists. An outcome is (kind, left ids, right ids), where the
kind is "matched" or a break type.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from itertools import combinations

CENT = Decimal("0.01")


def reconcile(passes, left, right, minor_units=0, given=frozenset()):
    """Outcomes of all rows: `passes` are dicts as in a definition, tried in order on what earlier ones left.

    Where several pairings are as good, those of the outcomes `given` are taken if they are one of them.
    """
    found = []
    for one in passes:
        a, b = open_rows(left, 1, found), open_rows(right, 2, found)
        if one.get("method") == "search" and one["accept"] != "only_if_unambiguous":
            found += paired(one, a, b, given)
            continue
        how = {"keyed": keyed, "search": searched, "subset": added_up}[one.get("method", "keyed")]
        found += how(one, a, b, minor_units)
    first = next((one for one in passes if one.get("method", "keyed") == "keyed"), None)
    key = "id" if first is None else "references" if first["cardinality"] == "N:N" else "key"
    return set(found) | missing(open_rows(left, 1, found), open_rows(right, 2, found), key)


def open_rows(rows, position, found):
    """The rows of a side (1 left, 2 right) that are in no outcome yet."""
    settled = {row_id for outcome in found for row_id in outcome[position]}
    return [row for row in rows if row["id"] not in settled]


def outcome(kind, left, right):
    return kind, frozenset(row["id"] for row in left), frozenset(row["id"] for row in right)


def missing(left, right, key):
    """What has no counterpart: rows of one `key` (without one: each row) and one currency are one break."""
    found = set()
    for kind, rows in (("missing_right", left), ("missing_left", right)):
        groups = defaultdict(list)
        for row in rows:
            groups[row[key] or row["id"], row["currency"]].append(row)
        for group in groups.values():
            found.add(outcome(kind, *((group, []) if rows is left else ([], group))))
    return found


def keyed(rules, left, right, minor_units):
    if rules.get("cardinality") == "N:N":
        return connected(left, right, minor_units)
    found = []
    for key in {row["key"] for row in left} & {row["key"] for row in right} - {None}:
        sides = [[row for row in rows if row["key"] == key] for rows in (left, right)]
        found.append(outcome(judged(rules.get("cardinality", "1:1"), *sides, minor_units * CENT), *sides))
    return found


def connected(left, right, minor_units):
    """Rows that share a reference, or are connected through others, are judged together."""
    rows = [(1, row) for row in left if row["references"]] + [(2, row) for row in right if row["references"]]
    found = []
    while rows:
        group, names = [rows.pop(0)], set()
        while True:
            names |= {name for _, row in group for name in row["references"].split(",")}
            near = [member for member in rows if names & set(member[1]["references"].split(","))]
            if not near:
                break
            group += near
            rows = [member for member in rows if member not in near]
        sides = [[row for position, row in group if position == wanted] for wanted in (1, 2)]
        if all(sides):
            found.append(outcome(judged("N:N", *sides, minor_units * CENT), *sides))
    return found


def judged(cardinality, left, right, tolerance):
    """What rows that belong together are: matched, or the break that names what differs first."""
    of_left, of_right = cardinality.split(":")
    if (len(left) > 1 and of_left == "1") or (len(right) > 1 and of_right == "1"):
        return "duplicate"
    if len({row["currency"] for row in left + right}) > 1:
        return "currency"
    surplus = total(left) - total(right)
    if abs(surplus) > tolerance:
        booked_again = (of_left == "N" and is_copies(left, surplus)) or (of_right == "N" and is_copies(right, -surplus))
        return "duplicate" if booked_again else "amount"
    if len({(row["day"].year, row["day"].month) for row in left + right}) > 1:
        return "cut_off"
    if len({row["status"] for row in left + right}) > 1:
        return "status"
    return "matched"


def total(rows):
    return sum((row["amount"] for row in rows), Decimal(0))


def is_copies(rows, surplus):
    """Whether a surplus is exactly some extra copies of an amount that occurs more than once."""
    amounts = [row["amount"] for row in rows]
    return any(copy * extra == surplus != 0 for copy in set(amounts) for extra in range(1, amounts.count(copy)))


def sums(rows):
    """Exact amount per currency."""
    found = defaultdict(Decimal)
    for row in rows:
        found[row["currency"]] += row["amount"]
    return {currency: amount for currency, amount in found.items() if amount}


def fits(rules, a, b):
    """Whether a left and a right row may be one event: same customer and currency, amount and day near enough."""
    window = rules["window"]
    return (
        a["customer"] == b["customer"] is not None
        and a["currency"] == b["currency"]
        and abs(a["amount"] - b["amount"]) <= units(rules)
        and window["earliest"] <= (b["day"] - a["day"]).days <= window["latest"]
    )


def candidates(rules, left, right):
    """Each row's possible counterparts: left id to right ids, and right id to left ids."""
    of_left, of_right = defaultdict(set), defaultdict(set)
    for a in left:
        for b in right:
            if fits(rules, a, b):
                of_left[a["id"]].add(b["id"])
                of_right[b["id"]].add(a["id"])
    return of_left, of_right


def searched(rules, left, right, _):
    """Single counterparts; what has rivals is ambiguous."""
    of_left, of_right = candidates(rules, left, right)
    alone = {(a, b) for a, others in of_left.items() for b in others if len(others) == 1 == len(of_right[b])}
    found = [("matched", frozenset([a]), frozenset([b])) for a, b in alone]
    taken = set()
    for a in sorted(set(of_left) - {a for a, _ in alone}):
        found.append(("ambiguous", frozenset([a]), frozenset(of_left[a] - taken)))
        taken |= of_left[a]
    return found


def paired(rules, left, right, given):
    """The given pairs, if they pair as many rows as any pairing can; else as many pairs as possible."""
    of_left, _ = candidates(rules, left, right)
    kind = "suggested_match" if rules["accept"] == "suggested" else "matched"
    pairs = [(a, b) for a in of_left for b in of_left[a] if (kind, frozenset([a]), frozenset([b])) in given]
    best = most_pairs(of_left)
    if len(pairs) != len(best) or any(len({pair[n] for pair in pairs}) < len(pairs) for n in (0, 1)):
        pairs = best
    return [(kind, frozenset([a]), frozenset([b])) for a, b in pairs]


def most_pairs(of_left):
    """A pairing of greatest number: each row asks those it could take, who ask their partners to take another."""
    partner = {}

    def finds_one(a, asked):
        for b in sorted(of_left[a] - asked):
            asked.add(b)
            if b not in partner or finds_one(partner[b], asked):
                partner[b] = a
                return True
        return False

    for a in sorted(of_left):
        finds_one(a, set())
    return [(a, b) for b, a in partner.items()]


def added_up(rules, left, right, _):
    """Rows that some rows of the other side add up to: every combination is tried, and only a single answer counts."""
    single_first = rules["cardinality"] == "1:N"
    answers = {}
    for target in left if single_first else right:
        parts = [part for part in (right if single_first else left) if may_add(rules, target, part, single_first)]
        if all(part["amount"] * target["amount"] > 0 for part in parts):
            parts = [part for part in parts if abs(part["amount"]) <= abs(target["amount"]) + units(rules)]
        if len(parts) > rules["max_items"]:
            continue
        chosen = (some for count in range(1, len(parts) + 1) for some in combinations(parts, count))
        answers[target["id"]] = [
            {part["id"] for part in some} for some in chosen if abs(total(some) - target["amount"]) <= units(rules)
        ]
    wanted = Counter(part for ways in answers.values() for part in set().union(*ways))
    clear = {
        target for target, ways in answers.items() if len(ways) == 1 and all(wanted[part] == 1 for part in ways[0])
    }
    kind = "suggested_match" if rules["accept"] == "suggested" else "matched"
    found, taken = [], set()
    for target in sorted(target for target, ways in answers.items() if ways):
        parts = set().union(*answers[target])
        if target not in clear:
            parts -= taken
            taken |= parts
        sides = [frozenset([target]), frozenset(parts)]
        found.append((kind if target in clear else "ambiguous", *(sides if single_first else reversed(sides))))
    return found


def may_add(rules, target, part, single_first):
    a, b = (target, part) if single_first else (part, target)
    apart = (b["day"] - a["day"]).days
    return (
        a["customer"] == b["customer"] is not None
        and a["currency"] == b["currency"]
        and rules["window"]["earliest"] <= apart <= rules["window"]["latest"]
        and a["amount"] != 0 != b["amount"]
    )


def units(rules):
    return rules["amount"].get("tolerance", {}).get("minor_units", 0) * CENT
