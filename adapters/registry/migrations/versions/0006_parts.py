"""Long files in parts, so that none of them holds the write lock for as long as it takes."""

import sqlalchemy as sa
from alembic import op

revision = "headstock_0006"
down_revision = "headstock_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_table(
        "parts",
        sa.Column("upload", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("upload", "number", name="pk_parts"),
    )
    op.add_column("versions", sa.Column("upload", sa.String(32)))


def downgrade() -> None:
    in_parts = op.get_bind().scalar(sa.text("SELECT 1 FROM versions WHERE upload IS NOT NULL"))
    if in_parts:
        raise RuntimeError("versions are stored in parts, which the schema before cannot read")
    op.drop_column("versions", "upload")
    op.drop_table("parts")
    op.drop_table("uploads")
