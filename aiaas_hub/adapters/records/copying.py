"""All records from one database into another one that is empty, whatever kind each is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select, text

from aiaas_hub.adapters.records.database import READING, Database
from aiaas_hub.adapters.records.tables import Base
from aiaas_hub.schemas.errors import Conflict

_BLOCK = 1000


def copy_records(source: Database, target: Database) -> int:
    """Copy every row as it was at one moment; how many. Both have this release's schema.

    Raises `Conflict` if the target holds any: two platforms are never mixed.
    """
    tables = Base.metadata.sorted_tables
    copied = 0
    options: dict[str, Any] = {READING: True}
    if source.engine.dialect.name != "sqlite":
        # SQLite's reading transactions see one moment as they are.
        options["isolation_level"] = "REPEATABLE READ"
    with (
        source.engine.connect().execution_options(**options) as reading,
        target.engine.begin() as writing,
    ):
        for table in tables:
            if writing.execute(select(table).limit(1)).first() is not None:
                raise Conflict(
                    "The database to restore into holds records already.",
                    remedy="Name an empty one in records_url.",
                )
        for table in tables:
            rows = reading.execute(select(table).execution_options(yield_per=_BLOCK))
            for block in rows.mappings().partitions(_BLOCK):
                writing.execute(table.insert(), [dict(row) for row in block])
                copied += len(block)
        _advance_sequences(writing)
    return copied


def _advance_sequences(connection: Connection) -> None:
    """PostgreSQL counts on from where the copied keys end."""
    if connection.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        sequence = connection.execute(
            text("SELECT pg_get_serial_sequence(:table, :column)"),
            {"table": table.name, "column": column.name},
        ).scalar()
        highest = connection.execute(select(func.max(column))).scalar()
        if sequence is not None and highest is not None:
            connection.execute(
                text("SELECT setval(:sequence, :highest)"),
                {"sequence": sequence, "highest": highest},
            )
