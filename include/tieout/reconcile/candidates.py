"""What searching passes share: which rows may meet, how many pairs that is, and where rows land that claim others."""

from __future__ import annotations

from tieout.errors import DefinitionError
from tieout.reconcile.definition import Definition, FuzzyPass, KeyedPass, SearchPass, SubsetPass
from tieout.reconcile.groups import insert_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName, open_rows
from tieout.reconcile.sql import digits_of, one_currency, one_currency_sum, text

_RIVALS_SHOWN = 20

Searching = SearchPass | FuzzyPass | SubsetPass


def open_for(session: Session, match_pass: Searching, index: int) -> None:
    """Make `<side>_open_<index>`: the open rows that take part in a pass, have its keys, and no proof against them."""
    for side in SIDES:
        session.make(f"{side}_open_{index}", f"{open_rows(side, index, len(match_pass.by))} AND proof_type IS NULL")


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
    listed = ", ".join(columns)
    counts = {s: f"(SELECT {listed}, count(*) AS n FROM {s}_open_{index} GROUP BY ALL)" for s in SIDES}
    pairs = session.rows(
        f"SELECT coalesce(sum(l.n::HUGEINT * r.n), 0)::VARCHAR FROM {counts['left']} l JOIN {counts['right']} r "
        f"USING ({listed})"
    )
    refuse_beyond(definition, match_pass, int(pairs[0][0]), "pairs")


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
    for side in SIDES:
        other = "right" if side == "left" else "left"
        session.make(
            f"{side}_copied_{index}",
            "SELECT (SELECT count(*) FROM groups) + dense_rank() OVER (ORDER BY entity, id) AS group_id,\n"
            f"  row_no, entity, id\nFROM {side}_open_{index} SEMI JOIN (\n"
            f"  SELECT entity, id FROM {side}_open_{index} GROUP BY entity, id\n"
            f"  HAVING count(*) > 1 AND bool_or(row_no IN (SELECT {side}_no FROM possible_{index}))\n"
            ") USING (entity, id)",
        )
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
        session.run("groups", insert_groups(columns, f"({described})"))
    session.make(
        f"candidates_{index}",
        f"SELECT * FROM possible_{index}\nWHERE left_no NOT IN (SELECT row_no FROM left_copied_{index})\n"
        f"  AND right_no NOT IN (SELECT row_no FROM right_copied_{index})\n"
        "  AND NOT EXISTS (SELECT 1 FROM rejected_pairs x WHERE x.left_no = possible_"
        f"{index}.left_no AND x.right_no = possible_{index}.right_no)",
    )


def settle(
    session: Session, match_pass: Searching, index: int, found: str, *, contested: bool, scored: bool = False
) -> None:
    """Put rows into groups: `found` gives (claimant, break_type, left_no, right_no); one claimant makes one group.

    With `contested`, the table `contested_<index>` (claimant, rival_id) lists rivals; with `scored` the most probable
    first, and `pairs_<index>` says how probable a pair is, and why.
    """
    number = "(SELECT count(*) FROM groups) + dense_rank() OVER (ORDER BY claimant)"
    session.make(f"found_{index}", f"SELECT {number} AS group_id, *\nFROM (\n    {found}\n  )")
    for side in SIDES:
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links SELECT DISTINCT {side}_no, group_id FROM found_{index} WHERE {side}_no IS "
            "NOT NULL",
        )
    described = _described(match_pass.identity, index, contested, scored)
    apart = f"abs(left_sought - right_sought) AS apart, {digits_of('left_currency')} AS digits"
    session.run("groups", insert_groups(_group_columns(match_pass), f"(SELECT *, {apart} FROM ({described})) g"))


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


def _described(own: SideName, index: int, contested: bool, scored: bool) -> str:
    """One row per group with what the groups table wants."""
    sides = ",\n  ".join(
        f"count({s[0]}.row_no) AS {s}_rows, min({s[0]}.currency) AS {s}_currency, sum({s[0]}.amount) AS "
        f"{s}_amount,"
        f" min({s[0]}.day) AS {s}_date, min({s[0]}.period) AS {s}_period,"
        f" sum({s[0]}.sought_{index}) AS {s}_sought"
        for s in SIDES
    )
    named = own[0]
    rivals = probability = said = "NULL"
    if contested:
        listed = _ranked("rival_id") if scored else _rivals_listed("rival_id")
        rivals = f"(SELECT {listed} FROM contested_{index} c WHERE c.claimant = f.claimant)"
    if scored:
        probability = f"(SELECT min(p.probability) FROM pairs_{index} p WHERE p.{own}_no = f.claimant)"
        said = f"(SELECT min(p.said) FROM pairs_{index} p WHERE p.{own}_no = f.claimant)"
    return (
        f"SELECT f.group_id, {probability} AS probability, {said} AS said,\n"
        f"  f.claimant, f.break_type, min({named}.entity) AS entity, min({named}.identity) AS "
        "group_key,\n"
        f"  coalesce(min({named}.label), min(coalesce(l.label, r.label))) AS label,\n  {rivals} AS rivals,\n  {sides}\n"
        f"FROM found_{index} f LEFT JOIN left_rows l ON l.row_no = f.left_no LEFT JOIN right_rows r ON r.row_no = "
        "f.right_no\n"
        "GROUP BY f.group_id, f.claimant, f.break_type"
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
        "tolerated": "CASE WHEN break_type IS NULL THEN nullif(concat_ws('; ', CASE WHEN apart <> 0 "
        "THEN 'amount differs by ' || money(apart, left_currency, digits) END, said), '') END",
        "label": "label",
        "reason": "CASE WHEN break_type IS NOT NULL THEN said END",
        "rivals": "rivals",
        "probability": "probability",
    }
    for side in SIDES:
        columns |= {f"{side}_{c}": f"{side}_{c}" for c in ("currency", "rows", "amount", "date", "period")}
    return columns
