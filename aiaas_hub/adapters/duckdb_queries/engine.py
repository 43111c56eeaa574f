"""Starts a query's process, talks to it, and ends it: in time, or when nobody waits any more."""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from aiaas_hub.domain.data_ports import Converted, QueryRows, Reading, TableName, Written
from aiaas_hub.schemas.datasets import Column
from aiaas_hub.schemas.errors import InvalidInput, TooLarge, Unavailable

log = logging.getLogger(__name__)

_WORKER = "aiaas_hub.adapters.duckdb_queries.worker"
_LOOK_SECONDS = 0.1
_SLACK_BYTES = 768 << 20
"""What Python, Arrow and a result's batches take beside DuckDB's own limit."""


@dataclass(frozen=True)
class QueryLimits:
    seconds: int = 300
    memory_bytes: int = 1 << 30
    threads: int = 2
    spill_bytes: int = 8 << 30


class DuckDbQueries:
    """`directory` holds what queries write while they run; each has its own below it."""

    def __init__(self, directory: Path, limits: QueryLimits) -> None:
        self._directory = directory
        self._limits = limits
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for abandoned in directory.glob("query-*"):
            # Of a service that was killed: its processes ended with it.
            shutil.rmtree(abandoned, ignore_errors=True)

    @contextmanager
    def session(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[DuckDbSession]:
        with tempfile.TemporaryDirectory(prefix="query-", dir=self._directory) as directory:
            session = DuckDbSession(Path(directory).resolve(), self._limits, cancelled)
            try:
                yield session
            finally:
                session.end()


class Misfit(InvalidInput):
    """What was asked cannot be done with what there is."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The query does not work: {_sentence(reason)}", remedy="Correct it and ask again."
        )
        self.reason = reason


class DuckDbSession:
    """`settings` are what a worker of another kind has to know besides the limits."""

    slack_bytes = _SLACK_BYTES

    def __init__(
        self,
        directory: Path,
        limits: QueryLimits,
        cancelled: Callable[[], bool],
        worker: str = _WORKER,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._cancelled = cancelled
        self._until = time.monotonic() + limits.seconds
        self._said = (directory / "stderr").open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            # Isolated, and with an environment that holds no secret.
            [sys.executable, "-I", "-m", worker, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=directory,
            env={"LANG": "C.UTF-8", "HOME": str(directory), "TMPDIR": str(directory)},
            start_new_session=True,
        )
        self._seen = psutil.Process(self._process.pid)
        self._send(
            {
                "directory": str(directory),
                "memory_bytes": limits.memory_bytes,
                "threads": limits.threads,
                "spill_bytes": limits.spill_bytes,
                "cpu_seconds": limits.seconds * limits.threads + 10,
                "file_bytes": max(limits.spill_bytes, 1 << 30) + (1 << 20),
                **(settings or {}),
            }
        )

    def tables(self, sql: str) -> Sequence[TableName]:
        return [(schema, name) for schema, name in self._ask("tables", sql=sql)]

    def attach(self, tables: Mapping[TableName, Path]) -> None:
        self._ask(
            "attach",
            tables=[
                # Resolved: the kernel's rules and DuckDB's are about the file itself.
                {"schema": schema, "name": name, "path": str(path.resolve())}
                for (schema, name), path in tables.items()
            ],
        )

    def rows(self, sql: str, limit: int) -> QueryRows:
        answer = self._ask("rows", sql=sql, limit=limit)
        columns = [Column(name=n, type=t, nullable=z) for n, t, z in answer["columns"]]
        return QueryRows(columns=columns, rows=answer["rows"])

    def write(
        self,
        sql: str,
        target: Path,
        *,
        rows: int | None,
        size: int,
        memory: int,
        like: Path | None = None,
    ) -> Written:
        aside = self._directory / "result.parquet"
        answer = self._ask(
            "write",
            sql=sql,
            target=str(aside),
            rows=rows,
            size=size,
            memory=memory,
            like=None if like is None else str(like.resolve()),
        )
        shutil.move(aside, target)
        return Written(rows=answer["rows"], cut=answer["cut"])

    def convert(self, source: Path, reading: Reading, target: Path, size: int) -> Converted:
        aside = self._directory / "converted.parquet"
        try:
            answer = self._ask(
                "convert",
                source=str(source.resolve()),
                format_=reading.format,
                target=str(aside),
                size=size,
                types=dict(reading.types),
                snapshot=reading.snapshot,
            )
        except Misfit as error:
            raise InvalidInput(
                f"The file is not readable as {reading.format}: {_sentence(error.reason)}",
                remedy="Say its format with --format, or read it yourself and hand it over with "
                "aiaas.datasets.put(name, frame).",
            ) from error
        if answer["whole"]:
            shutil.move(aside, target)
        return Converted(whole=answer["whole"], snapshot=answer["snapshot"])

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    # What was still to be written has nobody to read it.
                    continue
        self._said.close()

    def _ask(self, verb: str, **arguments: Any) -> Any:
        self._send({"verb": verb, **arguments})
        answer = json.loads(self._line())
        if "refused" in answer:
            raise Misfit(answer["refused"])
        if "exceeded" in answer:
            raise self._too_much_memory()
        return answer["answer"]

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # Reading its answer says why.
            return

    def _line(self) -> bytes:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - it is a pipe
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not (parts and parts[-1].endswith(b"\n")):
                if selector.select(_LOOK_SECONDS):
                    part = os.read(stream.fileno(), 1 << 20)
                    if not part:
                        raise self._died()
                    parts.append(part)
                else:
                    self._look()
        return b"".join(parts)

    def _look(self) -> None:
        if self._cancelled():
            raise Unavailable("Nobody waits for this query any more.", remedy="Ask it again.")
        if time.monotonic() > self._until:
            raise TooLarge(
                f"The query took longer than the {self._limits.seconds} s that one may take here.",
                remedy="Ask for less: fewer rows or columns, or a condition that skips most rows.",
            )
        try:
            if self._memory() > self._limits.memory_bytes + self.slack_bytes:
                raise self._too_much_memory()
        except psutil.NoSuchProcess:
            # Its answer, or the end of it, is about to be read.
            return

    def _memory(self) -> int:
        return int(self._seen.memory_info().rss)

    def _too_much_memory(self) -> TooLarge:
        return TooLarge(
            "The query needs more memory than one may take here "
            f"({self._limits.memory_bytes >> 20} MiB).",
            remedy="Ask for less: fewer columns, fewer groups, or a condition that skips most "
            "rows.",
        )

    def _died(self) -> Exception:
        code = self._process.wait()
        said = (self._directory / "stderr").read_text(errors="replace")[-2000:]
        log.warning("A query's process ended with %s: %s", code, said)
        if time.monotonic() > self._until or code == -24:  # SIGXCPU
            self._until = 0.0
            self._look()
        return TooLarge(
            "The query ended before it had an answer: it asked for more than it may take here.",
            remedy="Ask for less: fewer rows, columns or levels of nesting.",
        )


def _sentence(text: str) -> str:
    """DuckDB's message without its kind and without the picture of the line."""
    first = text.split("\n\nLINE ")[0].split("\nLINE ")[0].strip()
    kind, colon, rest = first.partition(" Error: ")
    first = " ".join((rest if colon and len(kind) < 30 else first).split())[:600]
    return first if first.endswith((".", "!", "?")) else f"{first}."
