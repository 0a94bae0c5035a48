"""The search pass: single counterparts of rows without a common key: as many pairs as possible, or only sure ones."""

from __future__ import annotations

from tieout.reconcile.candidates import (
    SUGGESTED,
    clear,
    equalities,
    in_window,
    open_for,
    refuse_blow_up,
    rivals_of,
    set_copies_aside,
    settle,
    settle_pairs,
    sided,
)
from tieout.reconcile.definition import Definition, SearchPass
from tieout.reconcile.maximum import complete
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName
from tieout.reconcile.sql import within


def run_search_pass(session: Session, definition: Definition, match_pass: SearchPass, index: int) -> None:
    """Settle rows that have candidates: as matches, suggestions or ambiguous breaks, by the pass's acceptance.

    Most rows are each other's only candidate. The others, the crowd, are few, and only they are ranked and searched.
    """
    open_for(session, match_pass, index)
    columns = equalities(definition, match_pass, index)
    if match_pass.amount.tolerance.is_zero:
        columns.append(f"sought_{index}")
    refuse_blow_up(session, definition, match_pass, index, columns)
    session.make(f"possible_{index}", _possible(definition, match_pass, index, columns))
    set_copies_aside(session, match_pass, index)
    session.make(f"crowd_{index}", _crowd(index))
    session.make(f"pairs_{index}", _only_choices(index))
    crowded = bool(session.rows(f"SELECT 1 FROM crowd_{index} LIMIT 1"))
    kind = SUGGESTED if match_pass.accept == "suggested" else "NULL"
    rivals = None
    if crowded and match_pass.pairs_rivals:
        _pair_crowd(session, match_pass, index, columns)
        if match_pass.accept == "suggested":
            session.make(f"contested_{index}", _passed_over(match_pass.identity, index))
            rivals = rivals_of(f"contested_{index}")
    settle_pairs(session, match_pass, index, kind, rivals=rivals)
    if crowded and not match_pass.pairs_rivals:
        session.make(f"contested_{index}", _contested(match_pass.identity, index))
        claims = f"SELECT DISTINCT claimant, 'ambiguous' AS break_type, {sided(match_pass.identity, 'claimant')}"
        found = (
            f"{claims} FROM contested_{index}\n    UNION ALL SELECT claimant, 'ambiguous',"
            f" {sided(_other(match_pass.identity), 'rival')} FROM contested_{index} WHERE is_first"
        )
        settle(session, match_pass, index, found)
    clear(session, index)


def _other(side: SideName) -> SideName:
    return "right" if side == "left" else "left"


def _possible(definition: Definition, match_pass: SearchPass, index: int, columns: list[str]) -> str:
    """Every pair that may be one event, and how far apart its rows are."""
    left, right = f"l.sought_{index}", f"r.sought_{index}"
    conditions = [f"l.{c} = r.{c}" for c in columns] + [in_window(match_pass)]
    gap = "0"
    if not match_pass.amount.tolerance.is_zero:
        currency = "l.currency" if definition.left.currency else None
        conditions.append(within(left, right, match_pass.amount.tolerance, currency))
        gap = f"abs({left} - {right})"
    return (
        f"SELECT l.row_no AS left_no, r.row_no AS right_no, abs(r.day - l.day) AS days, {gap} AS gap\n"
        f"FROM left_open_{index} l JOIN right_open_{index} r\n  ON {' AND '.join(conditions)}"
    )


def _crowd(index: int) -> str:
    """Candidates of which a row has others too."""
    several = [f"{s}_no IN (SELECT {s}_no FROM candidates_{index} GROUP BY {s}_no HAVING count(*) > 1)" for s in SIDES]
    return f"SELECT * FROM candidates_{index} WHERE {' OR '.join(several)}"


def _only_choices(index: int) -> str:
    """Pairs where each row is the other's only candidate."""
    return f"SELECT left_no, right_no FROM candidates_{index} ANTI JOIN crowd_{index} USING (left_no, right_no)"


def _pair_crowd(session: Session, match_pass: SearchPass, index: int, columns: list[str]) -> None:
    """Add pairs of crowded rows to `pairs_<index>`: the nearest first, then as many as there can be.

    The rows are counted off by their ids, so that ties fall the same way in whatever order the rows came. Those of a
    side that are alike have one class, and candidates that share what must be equal one block.
    """
    alike = ", ".join([*columns, f"sought_{index}", "day"])
    for side in SIDES:
        session.make(
            f"{side}_crowd_{index}",
            f"SELECT row_no, id, place, min(place) OVER (PARTITION BY {alike}) AS alike,\n"
            f"  min(place) OVER (PARTITION BY {', '.join(columns)}) AS block\n"
            f"FROM (\n  SELECT *, row_number() OVER (ORDER BY entity, id) AS place FROM {side}_open_{index}\n"
            f"  SEMI JOIN crowd_{index} c ON c.{side}_no = row_no\n)",
        )
    session.make(
        f"rivalry_{index}",
        "SELECT l.place AS left_no, r.place AS right_no, gap, days, l.alike AS left_alike, r.alike AS right_alike,"
        f" l.block\nFROM crowd_{index} JOIN left_crowd_{index} l ON l.row_no = left_no"
        f" JOIN right_crowd_{index} r ON r.row_no = right_no",
    )
    _nearest_first(session, index)
    complete(session, match_pass.identity, index)
    session.run(
        f"pairs_{index}",
        f"INSERT INTO pairs_{index} SELECT l.row_no, r.row_no FROM paired_{index} p"
        f" JOIN left_crowd_{index} l ON l.place = left_no JOIN right_crowd_{index} r ON r.place = right_no",
    )


def _nearest_first(session: Session, index: int) -> None:
    """Make `paired_<index>`: rows that are each other's nearest candidate, again and again until none is left.

    Nearest is first by amount, then by days. Rows of a side that are alike count off, so that the first of them meets
    the first of the other side's, and a thousand equal rows need one round, not a thousand.
    """
    session.make(f"paired_{index}", f"SELECT left_no, right_no, gap FROM rivalry_{index} WHERE false")
    session.make(f"left_over_{index}_0", f"SELECT * FROM rivalry_{index}")
    place = "dense_rank() OVER (PARTITION BY {0}_alike ORDER BY {0}_no)"
    turn = 0
    while session.rows(f"SELECT 1 FROM left_over_{index}_{turn} LIMIT 1"):
        apart = f"abs({place.format('left')} - {place.format('right')})"
        session.run(
            f"paired_{index}",
            f"INSERT INTO paired_{index} SELECT left_no, right_no, gap FROM (\n"
            f"  SELECT left_no, right_no, gap, days, {apart} AS apart FROM left_over_{index}_{turn}\n)\n"
            "QUALIFY row_number() OVER (PARTITION BY left_no ORDER BY gap, days, apart, right_no) = 1\n"
            "  AND row_number() OVER (PARTITION BY right_no ORDER BY gap, days, apart, left_no) = 1",
        )
        session.make(
            f"left_over_{index}_{turn + 1}",
            f"SELECT * FROM left_over_{index}_{turn}\nWHERE left_no NOT IN (SELECT left_no FROM paired_{index})"
            f"\n  AND right_no NOT IN (SELECT right_no FROM paired_{index})",
        )
        turn += 1


def _passed_over(own: SideName, index: int) -> str:
    """Whom the rows of each pair could have taken instead: rows of either side."""
    other = _other(own)
    rows = {s: f"{s}_crowd_{index} {s[0]} ON {s[0]}.row_no" for s in SIDES}
    return (
        f"SELECT p.{own}_no AS claimant, {other[0]}.id AS rival_id FROM pairs_{index} p"
        f" JOIN crowd_{index} c ON c.{own}_no = p.{own}_no AND c.{other}_no <> p.{other}_no"
        f" JOIN {rows[other]} = c.{other}_no\n"
        f"UNION ALL\nSELECT p.{own}_no, {own[0]}.id FROM pairs_{index} p"
        f" JOIN crowd_{index} c ON c.{other}_no = p.{other}_no AND c.{own}_no <> p.{own}_no"
        f" JOIN {rows[own]} = c.{own}_no"
    )


def _contested(own: SideName, index: int) -> str:
    """Every candidate that is not an only choice; each row of the other side is put to its first claimant."""
    other = _other(own)
    return (
        f"SELECT {own}_no AS claimant, {other}_no AS rival, {other[0]}.id AS rival_id,\n"
        f"  row_number() OVER (PARTITION BY {other}_no ORDER BY {own[0]}.id) = 1 AS is_first\n"
        f"FROM crowd_{index} JOIN left_open_{index} l ON l.row_no = left_no"
        f" JOIN right_open_{index} r ON r.row_no = right_no"
    )
