"""Who signed the opening position of each ledger; one that was taken over before has nothing to sign."""

from alembic import op

from tieout.store.models import Base

revision = "0008_golive_sign_offs"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    Base.metadata.create_all(op.get_bind())
