"""Totals of both sides by entity, currency and period, and the proof that they add up."""

from __future__ import annotations

from tieout.errors import TieoutError
from tieout.reconcile.definition import Definition
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES
from tieout.reconcile.sql import text


def count_totals(session: Session, definition: Definition, *, aside: int) -> None:
    """Make `totals`; rows set aside as identical (`aside` pairs) are those that are not among the kept ones.

    Raises TieoutError if a row landed nowhere or twice, which would be a fault of this library.
    """
    for side in SIDES:
        session.make(f"{side}_outcomes", _outcomes(side))
    sums = " UNION ALL BY NAME\n".join(_sums(side, bool(aside)) for side in SIDES)
    session.make(
        "totals",
        f"SELECT {text(definition.id)} AS definition_id, legal_entity_id, currency, period, outcome, detail,\n"
        "  coalesce(sum(left_rows), 0)::BIGINT AS left_rows, coalesce(sum(right_rows), 0)::BIGINT AS right_rows,\n"
        "  CASE WHEN sum(left_priced) <> 0 THEN sum(left_amount) END AS left_amount,\n"
        "  CASE WHEN sum(right_priced) <> 0 THEN sum(right_amount) END AS right_amount\n"
        f"FROM (\n{sums}\n)\nGROUP BY legal_entity_id, currency, period, outcome, detail\n"
        "HAVING sum(coalesce(left_rows, 0)) <> 0 OR sum(coalesce(right_rows, 0)) <> 0",
    )
    _prove(session, definition, aside)


def _outcomes(side: str) -> str:
    """Where the rows of a side landed: how many, and their amount."""
    return (
        "SELECT r.entity, r.currency, r.period,\n"
        "  CASE WHEN r.excluded IS NOT NULL THEN 'excluded' WHEN g.group_id IS NULL THEN 'excluded'\n"
        "    WHEN g.break_type IS NULL THEN 'matched' ELSE 'break' END AS outcome,\n"
        "  coalesce(r.excluded, g.break_type, CASE WHEN g.group_id IS NULL THEN o.excused ELSE '' END) AS detail,\n"
        "  count(*) AS rows, count(r.amount) AS priced, sum(r.amount) AS amount\n"
        f"FROM {side}_rows r LEFT JOIN {side}_links k USING (row_no)\n"
        "  LEFT JOIN (SELECT group_id, break_type FROM groups) g USING (group_id)\n"
        f"  LEFT JOIN (SELECT row_no, excused FROM {side}_leftover WHERE excused IS NOT NULL) o USING (row_no)\n"
        "GROUP BY ALL"
    )


def _sums(side: str, aside: bool) -> str:
    grouped = "coalesce(currency, '') AS currency, coalesce(period, '') AS period"
    whole = f"sum(rows) AS {side}_rows, sum(priced) AS {side}_priced, sum(amount) AS {side}_amount"
    by = f"SELECT entity AS legal_entity_id, {grouped}"
    parts = [
        f"{by}, outcome, detail, {whole} FROM {side}_outcomes GROUP BY ALL",
        f"{by}, 'all' AS outcome, '' AS detail, {whole} FROM {side}_all GROUP BY ALL",
    ]
    if aside:
        parts.append(f"{by}, 'matched' AS outcome, '' AS detail, {whole} FROM {side}_all GROUP BY ALL")
        minus = f"-sum(rows) AS {side}_rows, -sum(priced) AS {side}_priced, -sum(amount) AS {side}_amount"
        parts.append(f"{by}, 'matched' AS outcome, '' AS detail, {minus} FROM {side}_outcomes GROUP BY ALL")
    return "\nUNION ALL BY NAME\n".join(parts)


def _prove(session: Session, definition: Definition, aside: int) -> None:
    columns = [
        f"sum(CASE WHEN outcome = 'all' THEN {c} ELSE -{c} END) <> 0"
        for s in SIDES
        for c in (f"{s}_rows", f"{s}_amount")
    ]
    wrong = session.rows(
        "SELECT legal_entity_id, currency, period FROM totals GROUP BY ALL "
        f"HAVING {' OR '.join(columns)} OR bool_or(detail IS NULL) LIMIT 5"
    )
    matched = session.rows("SELECT coalesce(sum(left_rows), 0)::BIGINT FROM totals WHERE outcome = 'matched'")[0][0]
    grouped = session.rows("SELECT coalesce(sum(left_rows), 0)::BIGINT FROM groups WHERE break_type IS NULL")[0][0]
    if matched != grouped + aside:
        wrong.append((matched, grouped, aside))
    if wrong:
        raise TieoutError(
            "totals do not add up",
            record=definition.id,
            got=wrong,
            remedy="this is a fault of Tieout: keep the inputs and report it",
        )
