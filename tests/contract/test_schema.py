"""The migrations make the tables that the code declares, on each kind of database."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.tables import Base


def test_migrations_and_tables_agree(records_url: str) -> None:
    database = Database(records_url)
    database.migrate()
    database.migrate()  # a repeat changes nothing
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()
