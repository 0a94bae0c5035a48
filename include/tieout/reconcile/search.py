"""The search pass: single counterparts of rows without a common key: as many pairs as possible, or only sure ones."""

from __future__ import annotations

from tieout.reconcile.candidates import (
    equalities,
    in_window,
    open_for,
    refuse_blow_up,
    set_copies_aside,
    settle,
    sided,
)
from tieout.reconcile.definition import Definition, SearchPass
from tieout.reconcile.maximum import complete
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName
from tieout.reconcile.sql import within


def run_search_pass(session: Session, definition: Definition, match_pass: SearchPass, index: int) -> None:
    """Settle rows that have candidates: as matches, suggestions or ambiguous breaks, by the pass's acceptance."""
    open_for(session, match_pass, index)
    columns = equalities(definition, match_pass, index)
    if match_pass.amount.tolerance.is_zero:
        columns.append(f"sought_{index}")
    refuse_blow_up(session, definition, match_pass, index, columns)
    session.make(f"possible_{index}", _possible(definition, match_pass, index, columns))
    set_copies_aside(session, match_pass, index)
    own: SideName = match_pass.identity
    other: SideName = "right" if own == "left" else "left"
    kind = "'suggested_match'" if match_pass.accept == "suggested" else "NULL"
    found = f"SELECT {own}_no AS claimant, {kind}::VARCHAR AS break_type, left_no, right_no FROM pairs_{index}"
    if match_pass.pairs_rivals:
        _nearest_first(session, definition, match_pass, index)
        complete(session, own, columns, index)
        if match_pass.accept == "suggested":
            session.make(f"contested_{index}", _passed_over(own, other, index))
        settle(session, match_pass, index, found, contested=match_pass.accept == "suggested")
        return
    session.make(f"pairs_{index}", _only_choices(index))
    session.make(f"contested_{index}", _contested(match_pass, index))
    found += (
        f"\n    UNION ALL SELECT DISTINCT claimant, 'ambiguous', {sided(own, 'claimant')} FROM "
        f"contested_{index}"
        f"\n    UNION ALL SELECT claimant, 'ambiguous', {sided(other, 'rival')} FROM "
        f"contested_{index} WHERE is_first"
    )
    settle(session, match_pass, index, found, contested=True)


def _possible(definition: Definition, match_pass: SearchPass, index: int, columns: list[str]) -> str:
    """Every pair that may be one event, and how far apart its rows are."""
    left, right = f"l.sought_{index}", f"r.sought_{index}"
    conditions = [f"l.{c} = r.{c}" for c in columns] + [in_window(match_pass)]
    currency = "l.currency" if definition.left.currency else None
    conditions.append(within(left, right, match_pass.amount.tolerance, currency))
    return (
        "SELECT l.row_no AS left_no, r.row_no AS right_no, l.id AS left_id, r.id AS right_id, abs(r.day - l.day) "
        f"AS days,\n  abs({left} - {right}) AS gap\n"
        f"FROM left_open_{index} l JOIN right_open_{index} r\n  ON {' AND '.join(conditions)}"
    )


def _nearest_first(session: Session, definition: Definition, match_pass: SearchPass, index: int) -> None:
    """Make `pairs_<index>`: rows that are each other's nearest candidate, again and again until none is left.

    Nearest is first by amount, then by days. Rows of a side that are alike count off, so that the first of them meets
    the first of the other side's, and a thousand equal rows need one round, not a thousand.
    """
    alike = ", ".join([*equalities(definition, match_pass, index), f"sought_{index}", "day"])
    classes = {
        s: f"(SELECT row_no, min(row_no) OVER (PARTITION BY {alike}) AS alike FROM {s}_open_{index})" for s in SIDES
    }
    session.make(f"pairs_{index}", f"SELECT left_no, right_no, gap FROM candidates_{index} WHERE false")
    session.make(
        f"left_over_{index}_0",
        "SELECT left_no, right_no, gap, days, l.alike AS left_alike, r.alike AS right_alike\n"
        f"FROM candidates_{index} JOIN {classes['left']} l ON l.row_no = left_no"
        f" JOIN {classes['right']} r ON r.row_no = right_no",
    )
    place = "dense_rank() OVER (PARTITION BY {0}_alike ORDER BY {0}_no)"
    turn = 0
    while session.rows(f"SELECT count(*) FROM left_over_{index}_{turn}")[0][0]:
        apart = f"abs({place.format('left')} - {place.format('right')})"
        session.run(
            f"pairs_{index}",
            f"INSERT INTO pairs_{index} SELECT left_no, right_no, gap FROM (\n"
            f"  SELECT left_no, right_no, gap, days, {apart} AS apart FROM left_over_{index}_{turn}\n)\n"
            "QUALIFY row_number() OVER (PARTITION BY left_no ORDER BY gap, days, apart, right_no) = 1\n"
            "  AND row_number() OVER (PARTITION BY right_no ORDER BY gap, days, apart, left_no) = 1",
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


def _passed_over(own: SideName, other: SideName, index: int) -> str:
    """Whom the rows of each pair could have taken instead: rows of either side."""
    return (
        f"SELECT p.{own}_no AS claimant, c.{other}_id AS rival_id\n"
        f"FROM pairs_{index} p JOIN candidates_{index} c ON c.{own}_no = p.{own}_no AND c.{other}_no <> p.{other}_no\n"
        f"UNION ALL\nSELECT p.{own}_no, c.{own}_id\n"
        f"FROM pairs_{index} p JOIN candidates_{index} c ON c.{other}_no = p.{other}_no AND c.{own}_no <> p.{own}_no"
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
