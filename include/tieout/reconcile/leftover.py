"""Rows for which no pass found a counterpart: excluded with a reason, or a break that says what is missing and why."""

from __future__ import annotations

from datetime import date

from tieout.reconcile.definition import Definition
from tieout.reconcile.groups import add_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, SideName, told
from tieout.reconcile.sql import text

NOT_REQUIRED = "no counterpart required"


def settle_leftovers(session: Session, definition: Definition, as_of: date | None) -> None:
    """Exclude or break every row that is still open; rows of one identity make one break."""
    for side in SIDES:
        refused = bool(session.rows(f"SELECT 1 FROM {side}_refusals LIMIT 1"))
        session.make(f"{side}_leftover", _leftover(definition, side, as_of, refused))
        session.make(f"{side}_lone", _lone(definition, side))
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links SELECT row_no, group_id FROM {side}_leftover o JOIN {side}_lone g\n"
            "  ON o.entity = g.entity AND o.identity = g.identity AND o.break_type = g.break_type"
            " AND o.currency IS NOT DISTINCT FROM g.currency\nWHERE o.excused IS NULL",
        )
        other = "right" if side == "left" else "left"
        amount = f"CASE WHEN currency IS NULL THEN NULL ELSE {'' if side == 'left' else '-'}amount END"
        columns = {
            "group_id": "group_id",
            "break_type": "break_type",
            "entity": "entity",
            "group_key": "identity",
            "named": text(side),
            f"{side}_currency": "currency",
            f"{side}_rows": "rows",
            f"{other}_rows": "0",
            f"{side}_amount": "amount",
            "difference": amount,
            f"{side}_date": "day",
            f"{side}_period": "period",
            f"{side}_ids": "ids",
            "label": "label",
            "reason": "reason",
        }
        if "working" in _told(definition, side):
            columns["working"] = "working"
        add_groups(session, columns, f"{side}_lone")


def _leftover(definition: Definition, side: SideName, as_of: date | None, refused: bool) -> str:
    """Open rows of a side with the reason that excludes them, or else the type of break they are."""
    missing = "missing_right" if side == "left" else "missing_left"
    cases = ["WHEN lone_type IS NOT NULL THEN lone_type"]
    lag = next((lag for lag in definition.lags if lag.type == missing), None)
    if lag and as_of:
        today = f"DATE '{as_of.isoformat()}'"
        if lag.count == "business":
            reached = (
                f"(SELECT w.work_number FROM working_days w WHERE w.work_calendar = calendar AND w.work_date = {today})"
            )
            cases.append(f"WHEN {reached} - workday < {lag.days} THEN 'timing'")
        else:
            cases.append(f"WHEN day > {today} - {lag.days} THEN 'timing'")
    excused = "spare"
    if definition.completeness not in ("both", side):
        excused = f"coalesce(spare, {text(NOT_REQUIRED)})"
    own = _told(definition, side)
    said, carried = ", told" if "told" in own else "", "".join(f" {alias}," for alias in own)
    reason, refusals = f"coalesce(lone_reason{said})", ""
    if refused:
        listed = f"SELECT row_no, min(reason) AS refused FROM {side}_refusals GROUP BY row_no"
        reason, refusals = f"coalesce(lone_reason, refused{said})", f"\nLEFT JOIN ({listed}) USING (row_no)"
    return (
        f"SELECT row_no, id, entity, identity, currency, amount, day, period, label,{carried}\n"
        f"  {reason} AS lone_reason,\n"
        f"  {excused} AS excused, CASE {' '.join(cases)} ELSE {text(missing)} END AS break_type\n"
        f"FROM {side}_rows ANTI JOIN {side}_links USING (row_no){refusals}\nWHERE excluded IS NULL"
    )


def _told(definition: Definition, side: SideName) -> dict[str, str]:
    return told(definition.left if side == "left" else definition.right)


def _lone(definition: Definition, side: SideName) -> str:
    # of several rows none speaks for all
    working = "".join(f"  CASE WHEN count(*) = 1 THEN min({a}) END AS {a},\n" for a in _told(definition, side))
    return (
        "SELECT (SELECT count(*) FROM groups) + row_number() OVER () AS group_id,\n"
        "  entity, identity, currency, break_type, count(*) AS rows, sum(amount) AS amount, min(day) AS day,\n"
        "  min(period) AS period, min(label) AS label, min(lone_reason) AS reason,\n"
        + working
        + "  CASE WHEN count(*) = 1 THEN min(id) END AS ids\n"
        f"FROM {side}_leftover WHERE excused IS NULL GROUP BY entity, identity, currency, break_type"
    )
