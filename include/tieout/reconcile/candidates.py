"""What searching passes share: which rows may meet, how many pairs that is, and where rows land that claim others."""

from __future__ import annotations

from tieout.errors import DefinitionError
from tieout.reconcile.definition import Definition, FuzzyPass, KeyedPass, SearchPass, SubsetPass
from tieout.reconcile.groups import add_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName
from tieout.reconcile.sql import digits_of, one_currency, one_currency_sum, text

_RIVALS_SHOWN = 20
_OPEN = ("row_no", "id", "entity", "identity", "currency", "amount", "day", "period", "label")

SUGGESTED = "'suggested_match'"

Searching = SearchPass | FuzzyPass | SubsetPass


def open_for(session: Session, match_pass: Searching, index: int) -> None:
    """Make `<side>_open_<index>`: the open rows that take part in a pass, have its keys and an amount, and no proof
    against them."""
    keys = [f"key_{index}_{i}" for i in range(1, len(match_pass.by) + 1)]
    texts = [f"text_{index}_{i}" for i in range(1, len(getattr(match_pass, "texts", ())) + 1)]
    workday = ["workday"] if match_pass.window.count == "business" else []
    columns = [*_OPEN, *keys, f"sought_{index}", *texts, *workday]
    given = " AND ".join(f"{column} IS NOT NULL" for column in (*keys, f"sought_{index}"))
    for side in SIDES:
        session.make(
            f"{side}_open_{index}",
            f"SELECT {', '.join(columns)} FROM {side}_rows ANTI JOIN {side}_links USING (row_no)\n"
            f"WHERE excluded IS NULL AND proof_type IS NULL AND takes_part_{index} AND {given}",
        )


def equalities(definition: Definition, match_pass: Searching, index: int) -> list[str]:
    """The columns that must be equal on both sides: they bound the search."""
    columns = ["entity", *(f"key_{index}_{i}" for i in range(1, len(match_pass.by) + 1))]
    if definition.left.currency and definition.right.currency:
        columns.append("currency")
    return columns


def in_window(match_pass: Searching) -> str:
    """Whether the dates of `l` and `r` are near enough."""
    window = match_pass.window
    day = "workday" if window.count == "business" else "day"
    return f"r.{day} - l.{day} BETWEEN {window.earliest} AND {window.latest}"


def refuse_blow_up(
    session: Session, definition: Definition, match_pass: Searching, index: int, columns: list[str]
) -> None:
    """Raise DefinitionError where joining on `columns` would give more pairs than the definition allows."""

    def pairs(listed: str) -> int:
        counts = {s: f"(SELECT {listed}, count(*) AS n FROM {s}_open_{index} GROUP BY ALL)" for s in SIDES}
        joined = f"{counts['left']} l JOIN {counts['right']} r USING ({listed.rpartition(' AS ')[2]})"
        return int(session.rows(f"SELECT coalesce(sum(l.n::HUGEINT * r.n), 0)::VARCHAR FROM {joined}")[0][0])

    listed = ", ".join(columns)
    # counting by a hash is cheap and never counts too few
    if pairs(f"hash({listed}) AS block") > definition.max_candidates:
        refuse_beyond(definition, match_pass, pairs(listed), "pairs")


def refuse_beyond(definition: Definition, match_pass: Searching | KeyedPass, count: int, what: str) -> None:
    """Raise DefinitionError where a pass would have to look at more than the definition allows."""
    if count > definition.max_candidates:
        raise DefinitionError(
            f"pass {match_pass.name} would have to look at too many {what}",
            record=definition.id,
            expected=f"at most {definition.max_candidates:,} (max_candidates)",
            got=f"{count:,}",
            remedy="add a field to `by`, tighten `where`, or raise max_candidates",
        )


def set_copies_aside(session: Session, match_pass: Searching, index: int) -> None:
    """Make `candidates_<index>` of `possible_<index>`: a row that is there more than once takes no partner.

    Its copies are one `duplicate` break that lists whom they could have taken. Pairs that a person rejected are none.
    """
    conditions = []
    for side in SIDES:
        if _copied(session, side, index):
            _break_copies(session, match_pass, side, index)
            conditions.append(f"{side}_no NOT IN (SELECT row_no FROM {side}_copied_{index})")
    if session.rows("SELECT 1 FROM rejected_pairs LIMIT 1"):
        rejected = f"x.left_no = possible_{index}.left_no AND x.right_no = possible_{index}.right_no"
        conditions.append(f"NOT EXISTS (SELECT 1 FROM rejected_pairs x WHERE {rejected})")
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    session.run(f"candidates_{index}", f"CREATE TEMP VIEW candidates_{index} AS SELECT * FROM possible_{index}{where}")


def _copied(session: Session, side: SideName, index: int) -> bool:
    """Make `<side>_copied_<index>`, rows that are there more than once and have candidates; gives whether there are."""
    # few are, so the hash says first which rows can be
    session.make(
        f"{side}_copied_{index}",
        "SELECT (SELECT count(*) FROM groups) + dense_rank() OVER (ORDER BY entity, id) AS group_id, row_no\n"
        f"FROM {side}_open_{index} SEMI JOIN (\n  SELECT entity, id FROM {side}_open_{index} SEMI JOIN (\n"
        f"    SELECT hash(entity, id) AS h FROM {side}_open_{index} GROUP BY h HAVING count(*) > 1\n"
        f"  ) s ON s.h = hash(entity, id) GROUP BY entity, id\n"
        f"  HAVING count(*) > 1 AND bool_or(row_no IN (SELECT {side}_no FROM possible_{index}))\n"
        ") USING (entity, id)",
    )
    return bool(session.rows(f"SELECT 1 FROM {side}_copied_{index} LIMIT 1"))


def _break_copies(session: Session, match_pass: Searching, side: SideName, index: int) -> None:
    other = "right" if side == "left" else "left"
    session.run(f"{side}_links", f"INSERT INTO {side}_links SELECT row_no, group_id FROM {side}_copied_{index}")
    rivals = (
        f"(SELECT {_rivals_listed('o.id')} FROM {side}_copied_{index} k JOIN possible_{index} c"
        f" ON c.{side}_no = k.row_no JOIN {other}_open_{index} o ON o.row_no = c.{other}_no"
        " WHERE k.group_id = f.group_id)"
    )
    columns = {
        "group_id": "group_id",
        "pass_name": text(match_pass.name),
        "break_type": "'duplicate'",
        "entity": "entity",
        "group_key": "identity",
        "named": text(side),
        f"{side}_currency": "currency",
        f"{side}_rows": "rows",
        f"{other}_rows": "0",
        f"{side}_amount": "amount",
        f"{side}_date": "day",
        f"{side}_period": "period",
        "label": "label",
        "rivals": "rivals",
    }
    described = (
        f"SELECT f.group_id, o.entity, min(o.identity) AS identity, {one_currency('o.')} AS currency,\n"
        f"  count(*) AS rows, {one_currency_sum('o.')} AS amount, min(o.day) AS day, min(o.period) AS period,\n"
        f"  min(o.label) AS label, {rivals} AS rivals\n"
        f"FROM {side}_copied_{index} f JOIN {side}_open_{index} o USING (row_no)\nGROUP BY f.group_id, o.entity"
    )
    add_groups(session, columns, f"({described})")


def settle_pairs(
    session: Session, match_pass: Searching, index: int, break_type: str, *, rivals: str | None, scored: bool = False
) -> None:
    """Put each pair of `pairs_<index>` (left_no, right_no) into a group of its own.

    `break_type` is an expression over it. `rivals` is a query for (claimant, rivals): what a suggestion lists. With
    `scored` a pair says how probable it is, and why.
    """
    own = match_pass.identity
    first, second = ("l", "r") if own == "left" else ("r", "l")
    number = "(SELECT count(*) FROM groups) + row_number() OVER ()"
    session.make(f"found_{index}", f"SELECT {number} AS group_id, * FROM pairs_{index}")
    for side in SIDES:
        session.run(f"{side}_links", f"INSERT INTO {side}_links SELECT {side}_no, group_id FROM found_{index}")
    source = (
        f"found_{index} f JOIN left_open_{index} l ON l.row_no = f.left_no"
        f" JOIN right_open_{index} r ON r.row_no = f.right_no"
    )
    # a column that is the same for all pairs costs nothing, so as many as can be are
    columns = {
        "group_id": "f.group_id",
        "pass_name": text(match_pass.name),
        "break_type": break_type,
        "entity": "l.entity",
        "group_key": f"{first}.identity",
        "named": text(own),
        "difference": "0",
        "label": f"coalesce({first}.label, {second}.label)",
    }
    held = {"currency": "currency", "amount": "amount", "date": "day", "period": "period", "ids": "id"}
    for side in SIDES:
        columns[f"{side}_rows"] = "1"
        columns |= {f"{side}_{c}": f"{side[0]}.{column}" for c, column in held.items()}
    said = ["f.said"] if scored else []
    if not match_pass.amount.tolerance.is_zero:
        columns["difference"] = f"l.sought_{index} - r.sought_{index}"
        digits = digits_of("l.currency", session.currencies)
        shown = f"money(abs({columns['difference']}), l.currency, {digits})"
        said.insert(0, f"CASE WHEN l.sought_{index} <> r.sought_{index} THEN 'amount differs by ' || {shown} END")
    if said and break_type != SUGGESTED:
        columns["tolerated"] = f"CASE WHEN {break_type} IS NULL THEN nullif(concat_ws('; ', {', '.join(said)}), '') END"
    if scored:
        columns |= {"probability": "f.probability", "reason": f"CASE WHEN {break_type} IS NOT NULL THEN f.said END"}
    if rivals is not None:
        columns["rivals"] = "v.rivals"
        source += f" LEFT JOIN ({rivals}) v ON v.claimant = f.{own}_no"
    add_groups(session, columns, source)


def rivals_of(contested: str, *, scored: bool = False) -> str:
    """The query for (claimant, rivals) of a table of (claimant, rival_id), with `scored` the most probable first."""
    listed = _ranked("rival_id") if scored else _rivals_listed("rival_id")
    return f"SELECT claimant, {listed} AS rivals FROM {contested} GROUP BY claimant"


def settle(session: Session, match_pass: Searching, index: int, found: str, *, scored: bool = False) -> None:
    """Put rows into groups: `found` gives (claimant, break_type, left_no, right_no); one claimant makes one group.

    The table `contested_<index>` (claimant, rival_id) lists rivals, with `scored` the most probable first.
    """
    number = "(SELECT count(*) FROM groups) + dense_rank() OVER (ORDER BY claimant)"
    session.make(f"settled_{index}", f"SELECT {number} AS group_id, *\nFROM (\n    {found}\n  )")
    for side in SIDES:
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links SELECT DISTINCT {side}_no, group_id FROM settled_{index} WHERE {side}_no IS "
            "NOT NULL",
        )
    add_groups(session, _group_columns(match_pass), f"({_described(match_pass, index, scored, session.currencies)})")


def clear(session: Session, index: int) -> None:
    """Drop what a pass looked at and no later step reads."""
    session.run(f"candidates_{index}", f"DROP VIEW candidates_{index}")
    session.drop(f"left_open_{index}", f"right_open_{index}", f"possible_{index}")


def sided(side: SideName, value: str) -> str:
    """The columns left_no and right_no, of which only one side's is filled."""
    left, right = (value, "NULL::BIGINT") if side == "left" else ("NULL::BIGINT", value)
    return f"{left} AS left_no, {right} AS right_no"


def _rivals_listed(ids: str) -> str:
    shown = f"list_sort(list(DISTINCT {ids}))[:{_RIVALS_SHOWN}]"
    more = f"CASE WHEN count(DISTINCT {ids}) > {_RIVALS_SHOWN} THEN '; …' ELSE '' END"
    return f"array_to_string({shown}, '; ') || {more}"


def _ranked(ids: str) -> str:
    shown = f"list({ids} ORDER BY probability DESC, {ids})[:{_RIVALS_SHOWN}]"
    return f"array_to_string({shown}, '; ') || CASE WHEN count(*) > {_RIVALS_SHOWN} THEN '; …' ELSE '' END"


def _described(match_pass: Searching, index: int, scored: bool, occurring: frozenset[str]) -> str:
    """One row per group with what the groups table wants."""
    sides = ",\n  ".join(
        f"count({s[0]}.row_no) AS {s}_rows, min({s[0]}.currency) AS {s}_currency, sum({s[0]}.amount) AS "
        f"{s}_amount,"
        f" min({s[0]}.day) AS {s}_date, min({s[0]}.period) AS {s}_period,"
        f" sum({s[0]}.sought_{index}) AS {s}_sought"
        for s in SIDES
    )
    named = match_pass.identity[0]
    tolerated = "NULL"
    if not match_pass.amount.tolerance.is_zero:
        shown = f"money(apart, left_currency, {digits_of('left_currency', occurring)})"
        tolerated = f"CASE WHEN break_type IS NULL AND apart <> 0 THEN 'amount differs by ' || {shown} END"
    described = (
        f"SELECT f.group_id, f.claimant, f.break_type, min({named}.entity) AS entity, min({named}.identity) AS "
        "group_key,\n"
        f"  coalesce(min({named}.label), min(coalesce(l.label, r.label))) AS label,\n  {sides}\n"
        f"FROM settled_{index} f LEFT JOIN left_open_{index} l ON l.row_no = f.left_no"
        f" LEFT JOIN right_open_{index} r ON r.row_no = f.right_no\n"
        "GROUP BY f.group_id, f.claimant, f.break_type"
    )
    rivals = rivals_of(f"contested_{index}", scored=scored)
    return (
        f"SELECT *, abs(left_sought - right_sought) AS apart, {tolerated} AS tolerated\n"
        f"FROM ({described}) LEFT JOIN ({rivals}) USING (claimant)"
    )


def _group_columns(match_pass: Searching) -> dict[str, str]:
    columns = {
        "group_id": "group_id",
        "pass_name": text(match_pass.name),
        "break_type": "break_type",
        "entity": "entity",
        "group_key": "group_key",
        "named": text(match_pass.identity),
        "difference": "CASE WHEN break_type = 'ambiguous' THEN NULL ELSE left_sought - right_sought END",
        "tolerated": "tolerated",
        "label": "label",
        "rivals": "rivals",
    }
    for side in SIDES:
        columns |= {f"{side}_{c}": f"{side}_{c}" for c in ("currency", "rows", "amount", "date", "period")}
    return columns
