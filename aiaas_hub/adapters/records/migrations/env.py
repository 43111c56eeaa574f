"""Alembic's entry: runs the migrations on the connection that it is given."""

from alembic import context

from aiaas_hub.adapters.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes a column by making the table anew.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
