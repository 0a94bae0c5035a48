"""The order in which breaks are listed, the largest amounts first, as an index: a million open breaks need no sort."""

from alembic import op

from tieout.store.break_list import POSTGRESQL_VALUE, SQLITE_VALUE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    values = SQLITE_VALUE if op.get_bind().dialect.name == "sqlite" else (POSTGRESQL_VALUE,)
    # NULLS LAST is not the order of an index on PostgreSQL unless it says so; on SQLite no value is the least one
    last = "" if len(values) == 2 else " NULLS LAST"
    columns = ", ".join([*(f"({value.replace('breaks.', '')}) DESC{last}" for value in values), "break_id", "state"])
    op.execute(f"CREATE INDEX IF NOT EXISTS breaks_by_value ON breaks ({columns})")
