"""The anchor of the audit chain that each journal carries in the ERP, kept with the attempt that sent it.

A store that was begun with this version has the columns already: the first migration makes every table of the models.
"""

from alembic import op
from sqlalchemy import inspect

from tieout.store.models import Base

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())  # earlier versions did not always make `ledger_copies`
    for table in ("batch_journals", "ledger_copies"):
        if "anchor" not in {column["name"] for column in inspect(op.get_bind()).get_columns(table)}:
            op.execute(f"ALTER TABLE {table} ADD COLUMN anchor VARCHAR(80)")
