"""What people decide about breaks: columns of `breaks` and `break_changes`, and the verdicts on suggested matches.

A store that was begun with this version has them already: the first migration makes every table of the models.
"""

from alembic import op
from sqlalchemy import inspect

from tieout.store.models import Base

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ADDED = {
    "breaks": (
        "content", "assignee", "cap", "cap_currency", "expires", "decided_by", "decided_on", "approved_by",
    ),
    "break_changes": ("actor", "action", "note", "details"),
}  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    Base.metadata.create_all(connection)
    for table, names in ADDED.items():
        there = {column["name"] for column in inspect(connection).get_columns(table)}
        for name in names:
            if name not in there:
                column = Base.metadata.tables[table].c[name]
                kind = column.type.compile(connection.dialect)
                op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
