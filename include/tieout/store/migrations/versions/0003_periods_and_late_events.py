"""Permissions for soft-closed periods, late events and what was decided of them, links between batches."""

from alembic import op

from tieout.store.models import Base

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())
