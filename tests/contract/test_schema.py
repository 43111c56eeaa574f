"""The migrations make the tables that the code declares, on each kind of database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from aiaas_hub.adapters.records import database as database_module
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import SqlDatasetRecords
from aiaas_hub.adapters.records.tables import Base
from aiaas_hub.domain.dataset_records import DatasetFilter
from aiaas_hub.domain.search import words_of


def test_migrations_and_tables_agree(empty_url: str) -> None:
    database = Database(empty_url)
    database.migrate()
    database.migrate()  # a repeat changes nothing
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


def test_what_the_first_release_stored_is_found_by_its_words(empty_url: str) -> None:
    database = Database(empty_url)
    config = Config()
    migrations = Path(database_module.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        now = datetime.now(UTC)
        stored = {"owner": "ada", "name": "city-sales", "description": "Rain.", "now": now}
        connection.execute(
            text(
                "INSERT INTO datasets (id, owner, name, description, created_at, updated_at, "
                "latest_version) VALUES (1, :owner, :name, :description, :now, :now, 1)"
            ),
            stored,
        )
        columns = json.dumps([{"name": "Price_EUR", "type": "double", "nullable": True}])
        connection.execute(
            text(
                "INSERT INTO dataset_versions (dataset_id, version, created_at, format, digest, "
                "size, rows, columns, source) VALUES (1, 1, :now, 'parquet', :digest, 1, 1, "
                ":columns, 'upload')"
            ),
            {"now": now, "digest": "0" * 64, "columns": columns},
        )
    database.migrate()
    records = SqlDatasetRecords(database)
    for words in ("city", "sales", "rain", "column:eur", "price_eur", "owner:ada"):
        page = records.page(DatasetFilter(user="ada", words=words_of(words)), None, 5)
        assert [dataset.name for dataset in page.items] == ["city-sales"], words
    assert page.items[0].visibility == "private"
    assert records.page(DatasetFilter(user="bob"), None, 5).items == []
    database.close()
