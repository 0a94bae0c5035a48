"""Rows connected by references: a payment names several invoices, and an invoice is named by several payments."""

from __future__ import annotations

from tieout.reconcile.candidates import refuse_beyond
from tieout.reconcile.definition import Definition, KeyedPass
from tieout.reconcile.session import Session
from tieout.reconcile.sides import SIDES, open_rows
from tieout.reconcile.sql import SEVERAL


def connect(session: Session, definition: Definition, match_pass: KeyedPass, index: int) -> None:
    """Make `<side>_connected_<index>`: open rows that have a key, with the least reference they are connected to.

    Two rows are connected if they share a reference, or both are connected to a third one, of either side. Raises
    DefinitionError where rows of which several keys have several values would name too many references.
    """
    keys = [f"key_{index}_{i}" for i in range(1, len(match_pass.by) + 1)]
    several = [k for key, k in zip(match_pass.by, keys, strict=True) if key.is_several]
    if len(several) > 1:
        named = " * ".join(f"len(string_split({k}, {SEVERAL}))::HUGEINT" for k in several)
        counts = " + ".join(
            f"(SELECT coalesce(sum({named}), 0) FROM ({open_rows(side, index, len(keys))}))" for side in SIDES
        )
        counted = session.rows(f"SELECT ({counts})::VARCHAR")
        refuse_beyond(definition, match_pass, int(counted[0][0]), "references")
    for side in SIDES:
        # a list in SELECT gives one row per element: the cross product of keys of which a row has several
        parts = [
            f"unnest(string_split({k}, {SEVERAL})) AS {k}" if key.is_several else k
            for key, k in zip(match_pass.by, keys, strict=True)
        ]
        source = open_rows(side, index, len(keys))
        for k, part in zip(keys, parts, strict=True):
            source = f"SELECT * REPLACE ({part}) FROM ({source})" if part != k else source
        session.make(f"{side}_named_{index}", f"SELECT row_no, entity, {', '.join(keys)} FROM ({source})")
    listed = ", ".join(("entity", *keys))
    session.make(
        f"references_{index}",
        f"SELECT row_number() OVER (ORDER BY {listed}) AS reference, {listed} FROM (\n"
        f"  SELECT {listed} FROM left_named_{index} UNION SELECT {listed} FROM right_named_{index}\n)",
    )
    for side in SIDES:
        session.make(
            f"{side}_references_{index}",
            f"SELECT row_no, reference FROM {side}_named_{index} JOIN references_{index} USING ({listed})",
        )
    _label(session, index)
    for side in SIDES:
        session.make(
            f"{side}_connected_{index}",
            f"SELECT r.* REPLACE ({', '.join(f'f.{k} AS {k}' for k in keys)})\n"
            f"FROM {side}_rows r\n"
            f"JOIN (SELECT row_no, min(reference) AS reference FROM {side}_references_{index} GROUP BY row_no) n"
            " USING (row_no)\n"
            f"JOIN labels_{index} b USING (reference)\nJOIN references_{index} f ON f.reference = b.label",
        )


def _label(session: Session, index: int) -> None:
    """Make `labels_<index>`: each reference with the least one it is connected to.

    Each round hooks the label of one end of an edge to the lesser label of the other end; whole groups are joined at a
    time, so that long chains need few rounds.
    """
    edges = "\nUNION\n".join(
        f"SELECT o.reference AS one, r.reference AS other FROM {side}_references_{index} r JOIN\n"
        f"  (SELECT row_no, min(reference) AS reference FROM {side}_references_{index} GROUP BY row_no) o\n"
        "  USING (row_no) WHERE o.reference <> r.reference"
        for side in SIDES
    )
    session.make(f"edges_{index}", edges)
    session.make(f"labels_{index}", f"SELECT reference, reference AS label FROM references_{index}")
    while session.rows(
        f"SELECT 1 FROM edges_{index} e JOIN labels_{index} a ON a.reference = e.one\n"
        f"JOIN labels_{index} b ON b.reference = e.other WHERE a.label <> b.label LIMIT 1"
    ):
        session.make(
            f"hooks_{index}",
            "SELECT greatest(a.label, b.label) AS label, min(least(a.label, b.label)) AS lesser\n"
            f"FROM edges_{index} e JOIN labels_{index} a ON a.reference = e.one\n"
            f"JOIN labels_{index} b ON b.reference = e.other WHERE a.label <> b.label GROUP BY ALL",
        )
        # a hook that leads to another hook is led on: half of the way that is left each time
        led_on = (
            f"UPDATE hooks_{index} AS h SET lesser = n.lesser FROM (SELECT label, lesser FROM hooks_{index}) AS n"
            " WHERE h.lesser = n.label"
        )
        while session.rows(f"SELECT 1 FROM hooks_{index} h JOIN hooks_{index} n ON h.lesser = n.label LIMIT 1"):
            session.run(f"hooks_{index}", led_on)
        session.run(
            f"labels_{index}",
            f"UPDATE labels_{index} AS l SET label = h.lesser FROM hooks_{index} AS h WHERE l.label = h.label",
        )
        session.run(f"labels_{index}", f"DROP TABLE hooks_{index}")
