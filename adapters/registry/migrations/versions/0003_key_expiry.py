"""Keys that end by themselves."""

import sqlalchemy as sa
from alembic import op

revision = "headstock_0003"
down_revision = "headstock_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("expires_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("keys", "expires_at")
