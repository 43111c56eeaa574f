"""Canaries, history, keys with scope and rate, models with aliases and cards"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("aliases", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("card", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("former", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("endpoint_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("plan", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("routed_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("bake", sa.JSON(), nullable=True))
    with op.batch_alter_table("endpoint_keys", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("scope", sa.String(length=16), nullable=False, server_default="infer")
        )
        batch_op.add_column(sa.Column("rate", sa.Integer(), nullable=True))
    op.create_table(
        "endpoint_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("endpoint_id", "idempotency_key"),
    )
    with op.batch_alter_table("endpoint_changes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_endpoint_changes_endpoint_id"), ["endpoint_id"], unique=False
        )


def downgrade() -> None:
    op.drop_table("endpoint_changes")
    with op.batch_alter_table("endpoint_keys", schema=None) as batch_op:
        batch_op.drop_column("rate")
        batch_op.drop_column("scope")
    with op.batch_alter_table("endpoint_versions", schema=None) as batch_op:
        batch_op.drop_column("bake")
        batch_op.drop_column("routed_at")
        batch_op.drop_column("plan")
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.drop_column("former")
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.drop_column("card")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_column("aliases")
