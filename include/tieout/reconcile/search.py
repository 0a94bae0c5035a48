"""The search pass: single counterparts of rows without a common key, refused where more than one would do."""

from __future__ import annotations

from tieout.errors import DefinitionError
from tieout.reconcile.definition import Definition, SearchPass
from tieout.reconcile.groups import insert_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, open_rows
from tieout.reconcile.sql import text, within

_RIVALS_SHOWN = 20


def run_search_pass(session: Session, definition: Definition, match_pass: SearchPass, index: int) -> None:
    """Settle rows that have candidates: as matches, suggestions or ambiguous breaks, by the pass's acceptance."""
    for side in SIDES:
        session.make(f"{side}_open_{index}", open_rows(side, index, len(match_pass.by)))
    _refuse_blow_up(session, definition, match_pass, index)
    session.make(f"candidates_{index}", _candidates(definition, match_pass, index))
    if match_pass.accept == "automatic":
        session.make(f"pairs_{index}", f"SELECT left_no, right_no FROM candidates_{index} WHERE false")
        _nearest_first(session, index)
    else:
        session.make(f"pairs_{index}", _only_choices(index))
        session.make(f"contested_{index}", _contested(match_pass, index))
    accepted = "'suggested_match'" if match_pass.accept == "suggested" else "NULL"
    session.make(f"found_{index}", _found(match_pass, index, accepted))
    for side in SIDES:
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links SELECT DISTINCT {side}_no, group_id FROM found_{index} WHERE {side}_no IS "
            "NOT NULL",
        )
    session.run("groups", insert_groups(_group_columns(match_pass), f"({_described(match_pass, index)}) g"))


def _join(definition: Definition, match_pass: SearchPass, index: int) -> tuple[list[str], list[str]]:
    """Equalities that bound the search, and the conditions that only narrow it."""
    equal = ["l.entity = r.entity"] + [
        f"l.key_{index}_{i} = r.key_{index}_{i}" for i in range(1, len(match_pass.by) + 1)
    ]
    if definition.left.currency and definition.right.currency:
        equal.append("l.currency = r.currency")
    narrow = [f"r.day - l.day BETWEEN {match_pass.window.earliest} AND {match_pass.window.latest}"]
    left, right = f"l.sought_{index}", f"r.sought_{index}"
    if match_pass.amount.tolerance.is_zero:
        equal.append(f"{left} = {right}")
    else:
        narrow.append(
            within(left, right, match_pass.amount.tolerance, "l.currency" if definition.left.currency else None)
        )
    return equal, narrow


def _refuse_blow_up(session: Session, definition: Definition, match_pass: SearchPass, index: int) -> None:
    equal, _ = _join(definition, match_pass, index)
    columns = ", ".join(e.split(" = ")[0].removeprefix("l.") for e in equal)
    counts = {s: f"(SELECT {columns}, count(*) AS n FROM {s}_open_{index} GROUP BY ALL)" for s in SIDES}
    pairs = session.rows(
        f"SELECT coalesce(sum(l.n::HUGEINT * r.n), 0)::VARCHAR FROM {counts['left']} l JOIN {counts['right']} r "
        f"USING ({columns})"
    )
    if int(pairs[0][0]) > definition.max_candidates:
        raise DefinitionError(
            f"pass {match_pass.name} would have to look at too many pairs",
            record=definition.id,
            expected=f"at most {definition.max_candidates:,} (max_candidates)",
            got=f"{int(pairs[0][0]):,}",
            remedy="add a field to `by`, tighten `where`, or raise max_candidates",
        )


def _candidates(definition: Definition, match_pass: SearchPass, index: int) -> str:
    equal, narrow = _join(definition, match_pass, index)
    return (
        "SELECT l.row_no AS left_no, r.row_no AS right_no, l.id AS left_id, r.id AS right_id, abs(r.day - l.day) "
        "AS days\n"
        f"FROM left_open_{index} l JOIN right_open_{index} r\n  ON {' AND '.join(equal + narrow)}"
    )


def _nearest_first(session: Session, index: int) -> None:
    """Pair rows that are each other's nearest candidate, again and again until none is left."""
    session.make(f"left_over_{index}_0", f"SELECT * FROM candidates_{index}")
    turn = 0
    while session.rows(f"SELECT count(*) FROM left_over_{index}_{turn}")[0][0]:
        session.run(
            f"pairs_{index}",
            f"INSERT INTO pairs_{index} SELECT left_no, right_no FROM left_over_{index}_{turn}\n"
            "QUALIFY row_number() OVER (PARTITION BY left_no ORDER BY days, right_no) = 1\n"
            "  AND row_number() OVER (PARTITION BY right_no ORDER BY days, left_no) = 1",
        )
        session.make(
            f"left_over_{index}_{turn + 1}",
            f"SELECT * FROM left_over_{index}_{turn}\nWHERE left_no NOT IN (SELECT left_no FROM pairs_{index})"
            f"\n  AND right_no NOT IN (SELECT right_no FROM pairs_{index})",
        )
        turn += 1


def _only_choices(index: int) -> str:
    """Pairs where each row is the other's only candidate."""
    return (
        f"SELECT left_no, right_no FROM candidates_{index}\n"
        "QUALIFY count(*) OVER (PARTITION BY left_no) = 1 AND count(*) OVER (PARTITION BY right_no) = 1"
    )


def _contested(match_pass: SearchPass, index: int) -> str:
    """Every candidate that is not an only choice; each row of the other side is put to its first claimant."""
    own = match_pass.identity
    other = "right" if own == "left" else "left"
    return (
        f"SELECT {own}_no AS claimant, {other}_no AS rival, {other}_id AS rival_id,\n"
        f"  row_number() OVER (PARTITION BY {other}_no ORDER BY {own}_no) = 1 AS is_first\n"
        f"FROM candidates_{index} WHERE {own}_no NOT IN (SELECT {own}_no FROM pairs_{index})"
    )


def _found(match_pass: SearchPass, index: int, accepted: str) -> str:
    """Rows with the group they land in: (group_id, break_type, left_no, right_no)."""
    own = match_pass.identity
    other = "right" if own == "left" else "left"
    union = f"SELECT {own}_no AS claimant, {accepted}::VARCHAR AS break_type, left_no, right_no FROM pairs_{index}"
    if match_pass.accept != "automatic":
        union += (
            f"\n    UNION ALL SELECT DISTINCT claimant, 'ambiguous', {_sided(own, 'claimant', 'NULL')} FROM "
            f"contested_{index}"
            f"\n    UNION ALL SELECT claimant, 'ambiguous', {_sided(other, 'rival', 'NULL')} FROM "
            f"contested_{index} WHERE is_first"
        )
    number = "(SELECT count(*) FROM groups) + dense_rank() OVER (ORDER BY claimant)"
    return f"SELECT {number} AS group_id, *\nFROM (\n    {union}\n  )"


def _sided(side: str, value: str, nothing: str) -> str:
    return f"{value}, {nothing}" if side == "left" else f"{nothing}, {value}"


def _described(match_pass: SearchPass, index: int) -> str:
    """One row per group with what the groups table wants."""
    own = match_pass.identity
    sides = ",\n  ".join(
        f"count(DISTINCT {s[0]}.row_no) AS {s}_rows, min({s[0]}.currency) AS {s}_currency, sum({s[0]}.amount) AS "
        f"{s}_amount,"
        f" min({s[0]}.day) AS {s}_date, min({s[0]}.period) AS {s}_period,"
        f" sum({s[0]}.sought_{index}) AS {s}_sought"
        for s in SIDES
    )
    named = own[0]
    rivals = "NULL"
    if match_pass.accept != "automatic":
        shown = f"list_sort(list(DISTINCT rival_id))[:{_RIVALS_SHOWN}]"
        more = f"CASE WHEN count(DISTINCT rival_id) > {_RIVALS_SHOWN} THEN '; …' ELSE '' END"
        rivals = (
            f"(SELECT array_to_string({shown}, '; ') || {more} FROM contested_{index} c WHERE c.claimant = f.claimant)"
        )
    return (
        f"SELECT f.group_id, f.claimant, f.break_type, min({named}.entity) AS entity, min({named}.identity) AS "
        "group_key,\n"
        f"  coalesce(min({named}.label), min(coalesce(l.label, r.label))) AS label,\n  {rivals} AS rivals,\n  {sides}\n"
        f"FROM found_{index} f LEFT JOIN left_rows l ON l.row_no = f.left_no LEFT JOIN right_rows r ON r.row_no = "
        "f.right_no\n"
        "GROUP BY f.group_id, f.claimant, f.break_type"
    )


def _group_columns(match_pass: SearchPass) -> dict[str, str]:
    columns = {
        "group_id": "group_id",
        "pass_name": text(match_pass.name),
        "break_type": "break_type",
        "entity": "entity",
        "group_key": "group_key",
        "named": text(match_pass.identity),
        "difference": "CASE WHEN break_type = 'ambiguous' THEN NULL ELSE left_sought - right_sought END",
        "label": "label",
        "rivals": "rivals",
    }
    for side in SIDES:
        columns |= {f"{side}_{c}": f"{side}_{c}" for c in ("currency", "rows", "amount", "date", "period")}
    return columns
