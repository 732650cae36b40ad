"""The id of the database's history, which a restore changes."""

import sqlalchemy as sa
from alembic import op

revision = "headstock_0005"
down_revision = "headstock_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Filled when the database is opened: its generation is 0 until then, as that of a backup.
    op.create_table(
        "history",
        sa.Column("id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )


def downgrade() -> None:
    op.drop_table("history")
    op.execute("PRAGMA user_version = 0")
    op.execute("PRAGMA application_id = 0")
