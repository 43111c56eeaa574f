"""Datasets are found by their words, shared, tagged, profiled and retired"""

import json
import re

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("licence", sa.String(100), nullable=False, server_default=""))
        batch.add_column(sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
        batch.add_column(
            sa.Column("visibility", sa.String(16), nullable=False, server_default="private")
        )
        batch.add_column(sa.Column("shared_group", sa.String(255), nullable=True))
        batch.create_index("datasets_by_owner", ["owner", "id"])
        batch.create_index("datasets_by_visibility", ["visibility", "id"])
        batch.create_index("datasets_by_group", ["shared_group", "id"])
    with op.batch_alter_table("dataset_versions") as batch:
        batch.add_column(sa.Column("origin", sa.JSON(none_as_null=True), nullable=True))
        batch.add_column(sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("collected_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
        batch.create_index("dataset_versions_by_digest", ["digest"])
        batch.create_index("dataset_versions_by_retirement", ["retired_at"])
    op.create_table(
        "dataset_version_tags",
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"]),
        sa.PrimaryKeyConstraint("dataset_id", "tag"),
    )
    terms = op.create_table(
        "dataset_terms",
        sa.Column(
            "term",
            sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"]),
        sa.PrimaryKeyConstraint("term", "dataset_id", "kind"),
    )
    op.create_index("dataset_terms_by_dataset", "dataset_terms", ["dataset_id", "term"])
    op.create_table(
        "dataset_profiles",
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"]),
        sa.PrimaryKeyConstraint("dataset_id", "version"),
    )
    op.create_index("dataset_profiles_by_state", "dataset_profiles", ["state"])
    _index_what_is_there(terms)


def _index_what_is_there(terms: sa.Table) -> None:
    """The words of datasets that an earlier release stored, as that release's users wrote them."""
    connection = op.get_bind()
    found = connection.execute(
        sa.text(
            "SELECT d.id, d.owner, d.name, d.description, v.columns FROM datasets d "
            "JOIN dataset_versions v ON v.dataset_id = d.id AND v.version = d.latest_version"
        )
    ).all()
    for dataset, owner, name, description, columns in found:
        listed = json.loads(columns) if isinstance(columns, str) else columns
        texts = [("owner", owner), ("name", name), ("text", description)]
        texts += [("column", column["name"]) for column in listed]
        rows = {
            (word[:64], dataset, kind)
            for kind, text in texts
            for word in [text.lower(), *re.split(r"[\W_]+", text.lower())][kind == "text" :]
            if word
        }
        if rows:
            connection.execute(
                terms.insert(),
                [{"term": word, "dataset_id": at, "kind": kind} for word, at, kind in rows],
            )


def downgrade() -> None:
    for table in ("dataset_profiles", "dataset_terms", "dataset_version_tags"):
        op.drop_table(table)
    with op.batch_alter_table("dataset_versions") as batch:
        batch.drop_index("dataset_versions_by_retirement")
        batch.drop_index("dataset_versions_by_digest")
        for column in ("removed_at", "collected_at", "retired_at", "origin"):
            batch.drop_column(column)
    with op.batch_alter_table("datasets") as batch:
        for index in ("datasets_by_group", "datasets_by_visibility", "datasets_by_owner"):
            batch.drop_index(index)
        for column in ("shared_group", "visibility", "tags", "licence"):
            batch.drop_column(column)
