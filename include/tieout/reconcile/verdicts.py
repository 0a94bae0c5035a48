"""What people said of suggested matches: accepted ones settle before any pass, rejected ones do not come again."""

from __future__ import annotations

import pyarrow as pa

from tieout.errors import DataError
from tieout.reconcile.groups import add_groups, replace_groups
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES

ACCEPTED = "accepted"
"""The pass's name of matches that a person accepted."""

VERDICTS = pa.schema(
    [
        ("legal_entity_id", pa.string()),
        ("break_key", pa.string()),  # becomes the match's key
        ("verdict", pa.string()),  # accepted, rejected
        ("left_ids", pa.string()),  # as the break listed them, joined by '; '
        ("right_ids", pa.string()),
        ("left_amount", pa.decimal128(38, 6)),  # as they were then: other amounts need another verdict
        ("right_amount", pa.decimal128(38, 6)),
        ("actor", pa.string()),
    ]
)


def bind_verdicts(session: Session, verdicts: pa.Table | None) -> None:
    """Make `verdicts`, and `rejected_pairs` (left_no, right_no) of single rows. Needs the rows of both sides."""
    given = VERDICTS.empty_table() if verdicts is None else verdicts
    if given.schema.names != VERDICTS.names:
        raise DataError("verdicts lack columns", expected=VERDICTS.names, got=given.schema.names)
    session.bind("given_verdicts", given.cast(VERDICTS))
    session.make(
        "verdicts",
        "SELECT row_number() OVER (ORDER BY legal_entity_id, break_key, left_ids, right_ids) AS verdict_no, *\n"
        "FROM given_verdicts",
    )
    if not given.num_rows:
        session.make("rejected_pairs", "SELECT NULL::BIGINT AS left_no, NULL::BIGINT AS right_no WHERE false")
        return
    session.make(
        "rejected_pairs",
        "SELECT DISTINCT l.row_no AS left_no, r.row_no AS right_no FROM verdicts v\n"
        "JOIN left_rows l ON l.id = v.left_ids AND l.entity = v.legal_entity_id\n"
        "JOIN right_rows r ON r.id = v.right_ids AND r.entity = v.legal_entity_id\nWHERE v.verdict = 'rejected'",
    )


def settle_accepted(session: Session) -> None:
    """Match the rows of accepted suggestions.

    Only where every row is there once, takes part, has the amount it had when it was accepted, and no other acceptance
    claims it; otherwise nothing is settled, and what the passes find waits for a person again.
    """
    if not session.rows("SELECT count(*) FROM verdicts WHERE verdict = 'accepted'")[0][0]:
        return
    for side in SIDES:
        session.make(
            f"{side}_accepted",
            f"SELECT v.verdict_no, r.row_no, r.currency, r.amount, r.day, r.period, r.label, v.ids\n"
            f"FROM (\n  SELECT verdict_no, legal_entity_id, len(string_split({side}_ids, '; ')) AS ids,\n"
            f"    unnest(string_split({side}_ids, '; ')) AS id FROM verdicts WHERE verdict = 'accepted'\n) v\n"
            f"JOIN {side}_rows r ON r.id = v.id AND r.entity = v.legal_entity_id\n"
            "WHERE r.excluded IS NULL AND r.proof_type IS NULL",
        )
        session.make(
            f"{side}_stands",
            f"SELECT verdict_no, count(*) AS rows, min(currency) AS currency, sum(amount) AS amount, min(day) AS day,\n"
            f"  min(period) AS period, min(label) AS label\nFROM {side}_accepted a JOIN verdicts v USING (verdict_no)\n"
            f"GROUP BY verdict_no, v.{side}_amount\n"
            f"HAVING count(*) = min(ids) AND sum(amount) IS NOT DISTINCT FROM v.{side}_amount\n"
            f"  AND count(DISTINCT coalesce(currency, '')) = 1\n"
            f"  AND bool_and(row_no NOT IN (SELECT row_no FROM {side}_accepted GROUP BY row_no HAVING count(*) > 1))",
        )
    columns = {
        "group_id": "group_id",
        "pass_name": f"'{ACCEPTED}'",
        "entity": "entity",
        "group_key": "break_key",
        "difference": "left_amount - right_amount",
        "tolerated": "'accepted by ' || actor",
        "label": "label",
    }
    for side in SIDES:
        columns |= {f"{side}_{c}": f"{side}_{c}" for c in ("currency", "rows", "amount", "date", "period")}
    listed = ", ".join(
        f"{s[0]}.{c} AS {s}_{d}"
        for s in SIDES
        for c, d in (("currency", "currency"), ("rows", "rows"), ("amount", "amount"), ("day", "date"),
                     ("period", "period"))
    )  # fmt: skip
    session.make(
        "accepted_groups",
        "SELECT (SELECT count(*) FROM groups) + row_number() OVER (ORDER BY verdict_no) AS group_id, verdict_no,\n"
        f"  v.legal_entity_id AS entity, v.break_key, v.actor, coalesce(l.label, r.label) AS label,\n  {listed}\n"
        "FROM verdicts v JOIN left_stands l USING (verdict_no) JOIN right_stands r USING (verdict_no)\n"
        "WHERE l.currency IS NOT DISTINCT FROM r.currency",
    )
    for side in SIDES:
        session.run(
            f"{side}_links",
            f"INSERT INTO {side}_links SELECT row_no, group_id FROM {side}_accepted JOIN accepted_groups"
            " USING (verdict_no)",
        )
    add_groups(session, columns, "accepted_groups")


def dissolve_rejected(session: Session, index: int) -> None:
    """Take apart what a pass suggests although a person rejected it: its rows go on, with that as their reason."""
    if not session.rows("SELECT count(*) FROM verdicts WHERE verdict = 'rejected'")[0][0]:
        return
    for side in SIDES:
        session.make(
            f"{side}_suggested_{index}",
            f"SELECT group_id, array_to_string(list_sort(list(r.id)), '; ') AS ids\n"
            f"FROM {side}_links JOIN {side}_rows r USING (row_no) JOIN groups g USING (group_id)\n"
            "WHERE g.break_type = 'suggested_match' GROUP BY group_id",
        )
    session.make(
        f"dissolved_{index}",
        "SELECT g.group_id, min(v.actor) AS actor FROM groups g\n"
        f"JOIN left_suggested_{index} l USING (group_id) JOIN right_suggested_{index} r USING (group_id)\n"
        "JOIN verdicts v ON v.verdict = 'rejected' AND v.legal_entity_id = g.entity\n"
        "  AND v.left_ids = l.ids AND v.right_ids = r.ids\nGROUP BY g.group_id",
    )
    if not session.rows(f"SELECT count(*) FROM dissolved_{index}")[0][0]:
        return
    for side, other in (("left", "right"), ("right", "left")):
        session.run(
            f"{side}_refusals",
            f"INSERT INTO {side}_refusals SELECT row_no, 'the match with ' || o.ids || ' was rejected by ' || d.actor\n"
            f"FROM {side}_links JOIN dissolved_{index} d USING (group_id) JOIN {other}_suggested_{index} o"
            " USING (group_id)",
        )
    # passes number their groups after those that are there, so the numbers close up
    earlier = f"group_id - (SELECT count(*) FROM dissolved_{index} d WHERE d.group_id < {{}}.group_id)"
    for table in (f"{side}_links" for side in SIDES):
        session.run(table, f"DELETE FROM {table} WHERE group_id IN (SELECT group_id FROM dissolved_{index})")
        session.run(table, f"UPDATE {table} SET group_id = {earlier.format(table)}")
    kept = f"SELECT * REPLACE ({earlier.format('groups')} AS group_id) FROM groups"
    replace_groups(session, f"{kept} ANTI JOIN dissolved_{index} USING (group_id)")
