"""A journal that a document written by hand stands for has a state of its own."""

from alembic import op

revision = "0009_documents_by_hand"
down_revision = "0008_golive_sign_offs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE batch_journals SET state = 'by_hand' WHERE erp_id IS NOT NULL"
        " AND state IN ('pending', 'submitted', 'unknown', 'mismatched', 'rejected')"
        " AND batch_id IN (SELECT batch_id FROM batches WHERE state = 'manually_resolved')"
    )
