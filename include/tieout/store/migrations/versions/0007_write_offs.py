"""Write-offs that were asked for, and how much of each break stands written off."""

from alembic import op
from sqlalchemy import inspect

from tieout.store.models import Base

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    Base.metadata.create_all(connection)
    there = {column["name"] for column in inspect(connection).get_columns("breaks")}
    for name in ("written_off", "written_off_currency"):
        if name not in there:  # a store begun with this version has them
            kind = Base.metadata.tables["breaks"].c[name].type.compile(connection.dialect)
            op.execute(f"ALTER TABLE breaks ADD COLUMN {name} {kind}")
