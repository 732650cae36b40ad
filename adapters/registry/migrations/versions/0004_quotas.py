"""What each tenant may have, and ask, at most."""

import sqlalchemy as sa
from alembic import op

revision = "headstock_0004"
down_revision = "headstock_0003"
branch_labels = None
depends_on = None

LIMITS = ("adapters", "versions", "bytes", "requests_per_minute", "tokens_per_minute")


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in LIMITS),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_quotas"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_quotas_tenant_id"),
    )


def downgrade() -> None:
    op.drop_table("quotas")
