"""The SQL files beside this module."""

from __future__ import annotations

from pathlib import Path

from tieout.lake.session import Session

_SQL = Path(__file__).parent


def statements(name: str) -> list[str]:
    """The statements of `<name>.sql`, in the order they stand."""
    return [s for s in (_SQL / f"{name}.sql").read_text(encoding="utf-8").split(";\n") if s.strip()]


def run(session: Session, name: str) -> None:
    """Run the statements of a file one after the other."""
    for statement in statements(name):
        session.execute(statement)


def run_changes(session: Session) -> None:
    """Make the table `changes`: follow corrections of corrections to the event they change in the end."""
    first, hop, *rest = statements("changes")
    session.execute(first)
    # each hop doubles the length of the chains followed, and none is longer than there are changes: what is still open
    # after so many goes round in a circle
    for _ in range(int(session.scalar("SELECT count(*) FROM roots")).bit_length() + 1):
        if not session.scalar("SELECT max(open) FROM roots"):
            break
        session.execute(hop)
        session.execute("CREATE OR REPLACE TEMP TABLE roots AS SELECT * FROM hopped")
    for statement in rest:
        session.execute(statement)


def run_marks(session: Session, late_after_hours: int) -> None:
    """Make the view `marks` of the events bound: what came so many hours after it happened or later was late."""
    (statement,) = statements("marks")
    session.execute(statement.replace("$hours", str(late_after_hours)))
