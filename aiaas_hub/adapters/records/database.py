"""The engine, its sessions and its migrations."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from aiaas_hub.schemas.errors import DiskFull, Unavailable

BUSY_TIMEOUT_SECONDS = 5
READING = "aiaas_reading"
_OF_DATASETS = "aiaas_of_datasets"
_CHANGES_DATASETS = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) dataset")
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""As JSON writes it; after an odd number of backslashes it is somebody's text about it."""


class Database:
    """SQLite (WAL) or PostgreSQL, by URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        is_sqlite = url.startswith("sqlite")
        arguments: dict[str, Any] = (
            {"timeout": BUSY_TIMEOUT_SECONDS} if is_sqlite else {"connect_timeout": 5}
        )
        self.engine: Engine = create_engine(
            url,
            connect_args=arguments,
            pool_pre_ping=True,
            json_serializer=_to_json,
            json_deserializer=_from_json,
        )
        if is_sqlite:
            event.listen(self.engine, "connect", _tune_sqlite)
            event.listen(self.engine, "begin", _begin)
        else:
            event.listen(self.engine, "begin", _begin_in_turn)
        event.listen(self.engine, "after_cursor_execute", _note)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._dataset_changes = itertools.count(1)
        self.dataset_changes = 0
        """How many transactions have changed anything of datasets, as far as they are committed.
        The service is the only process that does."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One writing transaction; raises `Unavailable` where the database cannot be had."""
        with _bounded():
            with self.sessions.begin() as session:
                noted = session.connection().info
                noted.pop(_OF_DATASETS, None)
                yield session
            # Once others see it, and not before: they would take what was for what is.
            if noted.pop(_OF_DATASETS, False):
                self.dataset_changes = next(self._dataset_changes)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One reading transaction: on SQLite it goes on beside a writer."""
        with _bounded(), self.sessions.begin() as session:
            session.connection(execution_options={READING: True})
            yield session

    def migrate(self) -> None:
        """Bring the schema to this release's; raises Alembic's error if that is not possible."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        self.engine.dispose()


def _note(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    """Seen where every statement passes, so that no writer has to remember to say so."""
    if _CHANGES_DATASETS.match(statement):
        connection.info[_OF_DATASETS] = True


def _to_json(value: Any) -> str:
    """JSON without the character NUL, which PostgreSQL's operators stumble over: one run that
    holds it anywhere would keep the whole queue from being read."""
    return _NUL.sub(r"\1\\ufffd", json.dumps(value))


def _from_json(text: str) -> Any:
    """A list reads three small texts for each of its rows, for which Python's own takes long."""
    try:
        return from_json(text)
    except ValueError:
        # Half a surrogate pair, which Python's reader lets pass as its writer did.
        return json.loads(text)


@contextmanager
def _bounded() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if _is_of_a_full_disk(error):
            raise DiskFull from error
        raise Unavailable(
            "The platform's records cannot be reached right now.",
            remedy="Nothing was changed; try again in a moment.",
        ) from error


def _is_of_a_full_disk(error: OperationalError) -> bool:
    """By SQLite's and PostgreSQL's own codes (https://sqlite.org/rescode.html#full,
    https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
    return (
        getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(error.orig, "sqlstate", None) == "53100"
    )


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own implicit transactions would begin before our BEGIN IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # WAL with NORMAL can lose the last commits at a power cut; intents must not be lost.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_in_turn(connection: Connection) -> None:
    """One writer at a time, as on SQLite: what a transaction reads is so until it commits."""
    if not connection.get_execution_options().get(READING):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_SECONDS}s'")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(READING):
        connection.exec_driver_sql("BEGIN")
        return
    # A transaction that reads first and writes later cannot be retried by SQLite itself and
    # fails at once with "database is locked"; taking the write lock first waits instead.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
