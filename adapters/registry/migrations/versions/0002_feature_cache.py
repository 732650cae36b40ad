"""Each tenant's consent to a cache of the backbone's features."""

from alembic import op

revision = "headstock_0002"
down_revision = "headstock_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # As one statement: alembic would add the check with a second one, which SQLite has not; and
    # in batch mode it would drop the table that keys and adapters refer to.
    op.execute(
        "ALTER TABLE tenants ADD COLUMN feature_cache VARCHAR(6) DEFAULT 'off' NOT NULL "
        "CONSTRAINT ck_tenants_feature_cache CHECK (feature_cache IN ('off', 'own', 'shared'))"
    )


def downgrade() -> None:
    op.drop_column("tenants", "feature_cache")
