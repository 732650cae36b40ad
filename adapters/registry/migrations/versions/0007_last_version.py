"""The highest number that a version of an adapter ever had: numbers are not given twice."""

import sqlalchemy as sa
from alembic import op

revision = "headstock_0007"
down_revision = "headstock_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "adapters", sa.Column("last_version", sa.Integer, nullable=False, server_default="0")
    )
    op.execute(
        "UPDATE adapters SET last_version = coalesce("
        "(SELECT max(number) FROM versions WHERE adapter_id = adapters.id), 0)"
    )


def downgrade() -> None:
    op.drop_column("adapters", "last_version")
