"""The keyed pass: rows whose keys are equal belong together, and either agree or say what differs."""

from __future__ import annotations

from collections.abc import Mapping

from tieout.reconcile.causes import explaining, grouped_causes
from tieout.reconcile.connected import connect
from tieout.reconcile.definition import Comparison, Definition, KeyedPass
from tieout.reconcile.groups import add_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName, open_rows, told
from tieout.reconcile.sql import digits_of, joined, mixes_currencies, one_currency, one_currency_sum, text, within
from tieout.reconcile.working_days import counts_business


def run_keyed_pass(session: Session, definition: Definition, match_pass: KeyedPass, index: int) -> None:
    """Settle every key that both sides have; rows of keys on one side only stay open."""
    keys = [f"key_{index}_{i}" for i in range(1, len(match_pass.by) + 1)]
    if match_pass.cardinality == "N:N":
        connect(session, definition, match_pass, index)
        rows = {side: f"SELECT * FROM {side}_connected_{index}" for side in SIDES}
    else:
        rows = {side: open_rows(side, index, len(keys)) for side in SIDES}
    hashed = f"hash({', '.join(f'r.{k}' for k in ('entity', *keys))})"
    groups = {}
    for side in SIDES:
        repeated = f"{side}_repeated_{index}"
        session.make(repeated, f"SELECT {hashed} AS hashed FROM ({rows[side]}) r GROUP BY 1 HAVING count(*) > 1")
        sources = [f"({rows[side]}) r {join} JOIN {repeated} h ON h.hashed = {hashed}" for join in ("ANTI", "SEMI")]
        groups[side] = _side_groups(definition, match_pass, side, keys, *sources)
    session.make(f"joined_{index}", _joined_groups(definition, match_pass, groups, keys))
    on = " AND ".join(f"r.{k} = g.{k}" for k in ("entity", *keys))
    for side in SIDES:
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links\n"
            f"SELECT {side}_row_no, group_id FROM joined_{index} WHERE {side}_row_no IS NOT NULL\nUNION ALL\n"
            f"SELECT r.row_no, g.group_id FROM (SELECT row_no, entity, {', '.join(keys)}\n"
            f"  FROM ({rows[side]}) r SEMI JOIN {side}_repeated_{index} h ON h.hashed = {hashed}) r\n"
            f"JOIN joined_{index} g ON {on}\nWHERE g.{side}_row_no IS NULL",
        )
    source = f"(SELECT *, {_shown_amounts(definition)} AS shown FROM joined_{index}) g"
    booked_again = _repeated_sides(definition, match_pass)
    if booked_again:
        query = "\nUNION\n".join(_repeats(definition, index, side) for side in booked_again)
        session.make(f"repeats_{index}", query)
        source += f" LEFT JOIN repeats_{index} d USING (group_id)"
    add_groups(session, _group_columns(definition, match_pass, keys, bool(booked_again)), source)


def _many_sides(match_pass: KeyedPass) -> tuple[SideName, ...]:
    """The sides that may have several rows of a key."""
    many: dict[str, tuple[SideName, ...]] = {"1:1": (), "1:N": ("right",), "N:1": ("left",), "N:N": SIDES}
    return many[match_pass.cardinality]


def _side_groups(
    definition: Definition, match_pass: KeyedPass, side: SideName, keys: list[str], single: str, repeated: str
) -> str:
    """One row per key of a side: how many rows, their sums, and the least and greatest of every other value.

    Nearly every key is there once, and its row is read as it is (`single`, a source); only those of `repeated`, the
    others, are grouped. Where the side may have several rows of a key, rows of which some lack an amount have no sum,
    and `shown_…` is how values that are not one read.
    """
    several = side in _many_sides(match_pass)
    columns = {k: (k, k) for k in ("entity", *keys)}  # of a single row, of several
    columns |= {
        "row_no": ("row_no", "NULL::BIGINT"),
        "rows": ("1::BIGINT", "count(*)"),
        "currency": ("currency", one_currency()),
        "amount": ("amount", one_currency_sum()),
        "mixed_currency": (
            "NULL::VARCHAR",
            f"CASE WHEN {mixes_currencies()} THEN {_said('currency', 'currency')} END",
        ),
    }
    columns |= {c: (c, f"min({c})") for c in ("day", "period", "label", "proof_type", "proof_reason")}
    columns["last_period"] = ("period", "max(period)")
    if several:
        both = "concat_ws(', ', min(period), nullif(max(period), min(period)))"
        columns["shown_period"] = ("coalesce(period, '')", both)
    # of several rows none speaks for all
    columns |= {a: (a, f"CASE WHEN count(*) = 1 THEN min({a}) END") for a in told(getattr(definition, side))}
    columns |= grouped_causes(definition, side)
    for c in definition.compare:
        value, gap = f"is_{c.name}", f"count(is_{c.name}) NOT IN (0, count(*))"
        if c.kind in ("amount", "number"):
            total = f"sum({value})"
            columns[value] = (value, f"CASE WHEN NOT {gap} THEN {total} END" if several else total)
            columns |= {f"gap_{c.name}": ("false", gap)} if several else {}
        else:
            columns |= {value: (value, f"min({value})"), f"last_{c.name}": (value, f"max({value})")}
            columns[f"gap_{c.name}"] = ("false", gap)
            shown = (f"nullif({value}::VARCHAR, '')", _said(value, c.kind))
            columns |= {f"shown_{c.name}": shown} if several else {}
        if counts_business(c):
            at = f"at_{c.name}"
            columns |= {at: (at, f"min({at})"), f"last_{at}": (at, f"max({at})")}
    one, many = (",\n  ".join(f"{v[n]} AS {alias}" for alias, v in columns.items()) for n in (0, 1))
    grouped = ", ".join(("entity", *keys))
    return f"SELECT\n  {one}\nFROM {single}\nUNION ALL\nSELECT\n  {many}\nFROM {repeated}\nGROUP BY {grouped}"


def _said(column: str, kind: str) -> str:
    """How the values of several rows read: the least and the greatest, and whether some have none."""
    between = "' to '" if kind == "date" else "', '"
    some_lack = f"CASE WHEN count({column}) NOT IN (0, count(*)) THEN 'empty' END"
    ends = f"nullif(concat_ws({between}, min({column}), nullif(max({column}), min({column}))), '')"
    return f"nullif(concat_ws(', ', {ends}, {some_lack}), '')"


def _joined_groups(
    definition: Definition, match_pass: KeyedPass, groups: Mapping[SideName, str], keys: list[str]
) -> str:
    """Both sides of every common key, with the type and field of what differs first (null: they agree)."""
    shared = ", ".join(("entity", *keys))
    columns = ["(SELECT count(*) FROM groups) + row_number() OVER () AS group_id", shared]
    sides = [
        "row_no",
        "rows",
        "currency",
        "mixed_currency",
        "amount",
        "day",
        "period",
        "label",
        "proof_reason",
        *(f"is_{c.name}" for c in definition.compare),
    ]
    read = [f"shown_{c.name}" for c in definition.compare if c.kind not in ("amount", "number")]
    for side in SIDES:
        shown = ("shown_period", *read) if side in _many_sides(match_pass) else ()
        own = (*sides, *told(getattr(definition, side)), *grouped_causes(definition, side), *shown)
        columns += [f"{side[0]}.{c} AS {side}_{c}" for c in own]
    columns += [f"{digits_of(f'{side[0]}.currency')} AS {side}_digits" for side in SIDES]
    tests = _tests(definition, match_pass)
    columns.append(f"CASE {' '.join(f'WHEN {when} THEN {kind}' for when, kind, _ in tests)} END AS break_type")
    columns.append(f"CASE {' '.join(f'WHEN {when} THEN {field}' for when, _, field in tests)} END AS field")
    listed = ",\n  ".join(columns)
    return f"SELECT\n  {listed}\nFROM (\n{groups['left']}\n) l JOIN (\n{groups['right']}\n) r USING ({shared})"


def _tests(definition: Definition, match_pass: KeyedPass) -> list[tuple[str, str, str]]:
    """What makes a joined key a break, strongest evidence first: (condition, break type, field)."""
    single = {"1:1": ("l", "r"), "1:N": ("l",), "N:1": ("r",), "N:N": ()}[match_pass.cardinality]
    tests = [(" OR ".join(f"{s}.rows > 1" for s in single), "'duplicate'", "NULL")] if single else []
    tests.append(
        (
            "l.proof_type IS NOT NULL OR r.proof_type IS NOT NULL",
            "coalesce(least(l.proof_type, r.proof_type), l.proof_type, r.proof_type)",
            "NULL",
        )
    )
    if definition.left.currency and definition.right.currency:
        mixed = "l.mixed_currency IS NOT NULL OR r.mixed_currency IS NOT NULL OR l.currency IS DISTINCT FROM r.currency"
        tests.append((mixed, "'currency'", "'currency'"))
    if match_pass.cardinality == "N:N":
        tests.append((f"l.rows + r.rows > {match_pass.max_rows}", "'ambiguous'", "NULL"))
    for c in definition.compare:
        kind = text(c.break_type)
        if c.kind == "date" and c.periods:
            kind = f"CASE WHEN {_other_period(c)} THEN 'cut_off' ELSE {kind} END"
        tests.append((_differs(c, match_pass), kind, text(c.name)))
    return [(f"({when})", kind, field) for when, kind, field in tests]


def _differs(c: Comparison, match_pass: KeyedPass) -> str:
    """Whether a compared field differs between the groups `l` and `r`."""
    own, last = f"is_{c.name}", f"last_{c.name}"
    if c.kind in ("amount", "number"):
        agree = within(f"l.{own}", f"r.{own}", c.tolerance, "l.currency" if c.kind == "amount" else None)
        return " OR ".join([*(f"{side[0]}.gap_{c.name}" for side in _many_sides(match_pass)), f"NOT {agree}"])
    gaps = f"l.gap_{c.name} OR r.gap_{c.name} OR (l.{own} IS NULL) <> (r.{own} IS NULL)"
    if c.kind != "date":
        unequal = " OR ".join(f"l.{own} IS DISTINCT FROM {other}" for other in (f"r.{own}", f"l.{last}", f"r.{last}"))
        return f"({gaps} OR {unequal})"
    tests = [gaps]
    if c.window:
        first, final = (f"at_{c.name}", f"last_at_{c.name}") if counts_business(c) else (own, last)
        if counts_business(c):  # a date that no calendar reaches
            tests += [f"({s}.{first} IS NULL AND {s}.{own} IS NOT NULL)" for s in ("l", "r")]
        tests.append(f"r.{first} - l.{final} < {c.window.earliest} OR r.{final} - l.{first} > {c.window.latest}")
    if c.periods:
        tests.append(_other_period(c))
    return f"coalesce({' OR '.join(tests)}, false)"


def _other_period(c: Comparison) -> str:
    """Whether the two groups do not lie in one and the same period."""
    return "coalesce(l.period <> r.period OR l.period <> l.last_period OR r.period <> r.last_period, false)"


def _repeated_sides(definition: Definition, match_pass: KeyedPass) -> list[SideName]:
    """The many sides of a pass that sums amounts, where one row booked twice would make the sum too high."""
    first = definition.first_amount
    if first is None or first.break_type != "amount":
        return []
    return list(_many_sides(match_pass))


def _repeats(definition: Definition, index: int, many: SideName) -> str:
    """Groups whose surplus is exactly some extra copies of an amount that occurs more than once."""
    first = definition.first_amount
    assert first is not None  # noqa: S101  asked for by `_repeated_sides`
    one = "left" if many == "right" else "right"
    column = f"is_{first.name}"
    surplus = f"(g.{many}_{column} - g.{one}_{column})"
    return (
        f"SELECT DISTINCT group_id, 'duplicate' AS break_type FROM (\n  SELECT g.group_id, r.{column} AS copy, "
        "count(*) AS copies,"
        f" any_value({surplus}) AS surplus\n  FROM joined_{index} g JOIN {many}_links USING (group_id)"
        f" JOIN {many}_rows r USING (row_no)\n  WHERE g.break_type = 'amount' AND g.field = {text(first.name)}"
        f"\n  GROUP BY g.group_id, r.{column}\n)\n"
        "WHERE copies > 1 AND copy <> 0 AND surplus <> 0 AND sign(surplus) = sign(copy)\n"
        "  AND surplus % copy = 0 AND abs(surplus) <= abs(copy) * (copies - 1)"
    )


def _group_columns(definition: Definition, match_pass: KeyedPass, keys: list[str], repeated: bool) -> dict[str, str]:
    first = definition.first_amount
    matched = "'suggested_match'" if match_pass.accept == "suggested" else "NULL"
    break_type = f"coalesce({'d.break_type, ' if repeated else ''}g.break_type, {matched})"
    amounts = [c for c in definition.compare if c.kind == "amount"]
    by_field = " ".join(f"WHEN g.field = {text(c.name)} THEN g.left_is_{c.name} - g.right_is_{c.name}" for c in amounts)
    plain = f"coalesce(g.left_is_{first.name}, 0) - coalesce(g.right_is_{first.name}, 0)" if first else "NULL"
    # breaks about something else than the amount put the whole amount at stake, not a tolerated residue
    difference = (
        f"CASE {by_field} WHEN g.break_type IN ('status', 'attribute', 'mapping', 'orphan', 'currency', 'ambiguous')"
        " THEN NULL"
        f" ELSE {plain} END"
    )
    many_sum, one_sum = ("right", "left") if match_pass.paying_side == "right" else ("left", "right")
    partial = "false"
    if first and match_pass.shortfall == "partial_payment":
        column = f"is_{first.name}"
        partial = (
            f"g.{many_sum}_{column} <> 0 AND abs(g.{many_sum}_{column}) < abs(g.{one_sum}_{column}) "
            f"AND sign(g.{many_sum}_{column}) = sign(g.{one_sum}_{column})"
        )
    columns = {
        "group_id": "group_id",
        "pass_name": text(match_pass.name),
        "break_type": break_type,
        "entity": "g.entity",
        "group_key": joined([f"g.{k}" for k in keys]),
        "named": "'left'",
        "difference": difference,
        "is_partial": partial,
        "field": "g.field",
        "left_value": _value(definition, match_pass, "left"),
        "right_value": _value(definition, match_pass, "right"),
        "tolerated": _tolerated(definition),
        "label": "coalesce(g.left_label, g.right_label)",
    }
    if match_pass.cardinality == "N:N":
        said = text(f" rows are connected, more than the {match_pass.max_rows:,} that pass {match_pass.name} judges")
        columns["rivals"] = (
            f"CASE WHEN g.break_type = 'ambiguous' THEN format('{{:,}}', g.left_rows + g.right_rows) || {said} END"
        )
    columns |= explaining(definition)
    proofs = ["g.left_proof_reason", "g.right_proof_reason", *([columns["reason"]] if "reason" in columns else [])]
    # what the sides' queries say is about a difference: a match has none
    own_words = {
        a: [f"g.{s}_{a}" for s in ("right", "left") if a in told(getattr(definition, s))] for a in ("told", "working")
    }
    if own_words["told"]:
        proofs.append(f"CASE WHEN g.break_type IS NOT NULL THEN coalesce({', '.join(own_words['told'])}) END")
    if own_words["working"]:
        columns["working"] = f"CASE WHEN g.break_type IS NOT NULL THEN coalesce({', '.join(own_words['working'])}) END"
    columns["reason"] = f"coalesce({', '.join(proofs)})"
    for side in SIDES:
        columns |= {f"{side}_{c}": f"g.{side}_{c}" for c in ("currency", "rows", "amount")}
        period = "shown_period" if side in _many_sides(match_pass) else "period"
        columns |= {f"{side}_date": f"g.{side}_day", f"{side}_period": f"nullif(g.{side}_{period}, '')"}
    return columns


def _shown_amounts(definition: Definition) -> str:
    """The amounts a group is described by, as text: those of the field that differs, then what each field tolerates.

    One formatting expression for all of them: each copy of it costs the engine planning time.
    """
    amounts = [c for c in definition.compare if c.kind == "amount"]
    sized = [f"left_is_{c.name} - right_is_{c.name}" for c in _tolerant(definition) if c.kind == "amount"]
    sizes = [(f"nullif(abs({size}), 0)", "left", size) for size in sized]
    if amounts:
        whens = " ".join(f"WHEN {text(c.name)} THEN {{0}}_is_{c.name}" for c in amounts)
        apart = " ".join(f"WHEN {text(c.name)} THEN left_is_{c.name} - right_is_{c.name}" for c in amounts)
        sizes = [(f"CASE field {whens.format(s)} END", s, f"CASE field {apart} END") for s in SIDES] + sizes
    fields = ", ".join(
        f"{{'a': {a}, 'c': {side}_currency, 'd': {side}_digits, 'fine': is_finer({size}, {side}_digits)}}"
        for a, side, size in sizes
    )
    # amounts that differ by less than a minor unit must not read the same
    money = "CASE WHEN m.fine THEN finely(m.a, m.c) WHEN m.a IS NOT NULL THEN money(m.a, m.c, m.d) END"
    return f"list_transform([{fields}], lambda m: {money})" if sizes else "NULL::VARCHAR[]"


def _value(definition: Definition, match_pass: KeyedPass, side: SideName) -> str:
    """The field's value on a side, as text."""
    several = side in _many_sides(match_pass)
    cases = [f"WHEN g.field = 'currency' THEN coalesce(g.{side}_currency, g.{side}_mixed_currency)"]
    for c in definition.compare:
        column = f"g.{side}_is_{c.name}"
        shown = {"amount": f"g.shown[{SIDES.index(side) + 1}]", "number": f"plain({column})"}
        plain = f"g.{side}_shown_{c.name}" if several else f"{column}::VARCHAR"
        cases.append(f"WHEN g.field = {text(c.name)} THEN {shown.get(c.kind, plain)}")
    return f"CASE {' '.join(cases)} END"


def _tolerant(definition: Definition) -> list[Comparison]:
    return [c for c in definition.compare if c.kind in ("amount", "number") and not c.tolerance.is_zero]


def _tolerated(definition: Definition) -> str:
    """What differs and was allowed, for matched groups."""
    parts = []
    place = len(SIDES)  # behind the values of the field that differs
    for c in _tolerant(definition):
        left, right = f"g.left_is_{c.name}", f"g.right_is_{c.name}"
        shown = f"plain(abs({left} - {right}))"
        if c.kind == "amount":
            place += 1
            shown = f"g.shown[{place}]"
        parts.append(
            f"CASE WHEN {left} <> {right} THEN {text(c.name.replace('_', ' ') + ' differs by ')} || {shown} END"
        )
    if not parts:
        return "NULL"
    return f"CASE WHEN g.break_type IS NULL THEN nullif(concat_ws('; ', {', '.join(parts)}), '') END"
