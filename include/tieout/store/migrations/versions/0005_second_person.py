"""Who was asked about which batch and until when; versions of the configuration with their files."""

from alembic import op

from tieout.store.models import Base

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())
