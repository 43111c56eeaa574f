"""Queries over datasets: SQL, filtered and sorted pages, selected rows."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.data_ports import BlobStore, QueryEngine, TableName, Written
from aiaas_hub.domain.datasets import Datasets, require_page
from aiaas_hub.domain.turns import Turns
from aiaas_hub.schemas.datasets import Column, Dataset, Preview
from aiaas_hub.schemas.errors import InvalidInput, TooLarge
from aiaas_hub.schemas.queries import Engine
from aiaas_hub.schemas.runs import PinnedDataset

_BRACED = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class ResultLimits:
    rows: int
    """Of a result that is answered; one that is saved has no limit of rows."""
    size: int
    """Bytes of a result's file."""
    memory: int
    """Bytes that a result takes in memory."""


@dataclass(frozen=True)
class Outcome:
    rows: int
    cut: str
    """Which limit ended the result: `rows`, `size`, or empty where it is whole."""
    datasets: Sequence[PinnedDataset]
    """What was read."""


@dataclass(frozen=True)
class Page:
    """Which part of a dataset to show."""

    columns: Sequence[str] | None
    rows: int
    offset: int = 0
    where: str | None = None
    """An SQL condition."""
    sort: Sequence[str] = ()
    """`column`, `column:asc` or `column:desc`."""

    @property
    def is_plain(self) -> bool:
        return not (self.where or self.sort)


class Querying:
    def __init__(
        self,
        datasets: Datasets,
        blobs: BlobStore,
        engine: QueryEngine,
        spark: QueryEngine,
        turns: Turns,
        limits: ResultLimits,
    ) -> None:
        self._datasets = datasets
        self._blobs = blobs
        self._engine = engine
        self._engines: dict[Engine, QueryEngine] = {"duckdb": engine, "spark": spark}
        self._turns = turns
        self._limits = limits

    def query(
        self,
        sql: str,
        engine: Engine,
        asker: Asker,
        target: Path,
        limit: int | None,
        cancelled: Cancelled,
    ) -> Outcome:
        """Write the result to `target` as Parquet, at most `limit` rows of it and never more
        than the platform answers. Raises `NotFound` for a dataset that the asker cannot read."""
        rows = min(limit or self._limits.rows, self._limits.rows)
        size = self._limits.size
        written, pinned = self._run(sql, engine, asker, target, rows, size, cancelled)
        # What was asked for is not a cut.
        cut = "" if written.cut == "rows" and rows == limit else written.cut
        return Outcome(written.rows, cut, pinned)

    def save(
        self,
        owner: str,
        name: str,
        sql: str,
        engine: Engine,
        asker: Asker,
        description: str,
        idempotency_key: str | None,
        cancelled: Cancelled,
    ) -> Dataset:
        """The whole result as a new version; nothing is kept of one that is too large."""
        with tempfile.TemporaryDirectory(prefix="aiaas-query-") as directory:
            result = Path(directory) / "result.parquet"
            size = self._datasets.max_bytes
            written, pinned = self._run(sql, engine, asker, result, None, size, cancelled)
            if written.cut:
                raise TooLarge(
                    "The result is larger than a dataset may be here.",
                    remedy="Save a smaller part of it: fewer rows or columns.",
                )
            with result.open("rb") as stream:
                digest, _ = self._blobs.put(stream, limit=size)
        return self._datasets.add_query_result(
            owner, name, digest, sql, engine, pinned, asker.user, description, idempotency_key
        )

    def preview(self, dataset: Dataset, page: Page, asker: Asker, cancelled: Cancelled) -> Preview:
        """The rows of a page. One with neither condition nor order starts no process."""
        require_page(page.rows, page.offset)
        if page.is_plain:
            return self._datasets.preview(dataset, page.columns, page.rows, page.offset)
        # One more than is shown tells whether there are more.
        sql = _select(dataset, page, page.rows + 1)
        session = self._engine.session(cancelled)
        with self._turns.turn(asker.user, cancelled), session as running:
            _require_only(running.tables(sql), dataset)
            running.attach({(None, dataset.name): self._file(dataset)})
            found = running.rows(sql, page.rows + 1)
        known = {column.name: column for column in dataset.latest.columns}
        return Preview(
            columns=[known.get(column.name, column) for column in found.columns],
            rows=found.rows[: page.rows],
            total_rows=dataset.latest.rows,
            offset=page.offset,
            filtered=page.where is not None,
            truncated=len(found.rows) > page.rows,
        )

    def select(
        self,
        dataset: Dataset,
        columns: Sequence[str] | None,
        where: str,
        limit: int | None,
        asker: Asker,
        target: Path,
        cancelled: Cancelled,
    ) -> None:
        """Write the rows that fulfil an SQL condition, all of them or the first `limit`."""
        sql = _select(dataset, Page(columns, 0, where=where), limit)
        file = self._file(dataset)
        session = self._engine.session(cancelled)
        with self._turns.turn(asker.user, cancelled), session as running:
            _require_only(running.tables(sql), dataset)
            running.attach({(None, dataset.name): file})
            written = running.write(
                sql,
                target,
                rows=None,
                size=self._limits.size,
                memory=self._limits.memory,
                like=file,
            )
        if written.cut:
            raise TooLarge(
                "What fulfils the condition is larger than the platform answers at once "
                f"({self._limits.memory >> 20} MiB in memory).",
                remedy="Load fewer columns, or keep all of it as a dataset: "
                "%%aiaas sql --save NAME.",
            )

    def _run(
        self,
        sql: str,
        engine: Engine,
        asker: Asker,
        target: Path,
        rows: int | None,
        size: int,
        cancelled: Cancelled,
    ) -> tuple[Written, list[PinnedDataset]]:
        expanded = expand(sql)
        turn: AbstractContextManager[None] = self._turns.turn(asker.user, cancelled)
        with turn, self._engines[engine].session(cancelled) as running:
            tables = list(running.tables(expanded))
            _require_distinct(tables)
            references = [name if owner is None else f"{owner}/{name}" for owner, name in tables]
            pinned = self._datasets.resolve(references, asker.user, asker)
            files = [self._blobs.local_path(self._datasets.content(one)) for one in pinned]
            running.attach(dict(zip(tables, files, strict=True)))
            memory = self._limits.memory if rows is not None else 16 * size
            written = running.write(expanded, target, rows=rows, size=size, memory=memory)
        return written, pinned

    def _file(self, dataset: Dataset) -> Path:
        return self._blobs.local_path(dataset.latest.digest)


def expand(sql: str) -> str:
    """`{{owner/name@3}}` as a quoted identifier of exactly this text, which is then resolved."""
    return _BRACED.sub(lambda match: identifier(match[1]), sql)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _select(dataset: Dataset, page: Page, limit: int | None) -> str:
    known = dataset.latest.columns
    if page.columns is not None:
        require_columns(known, page.columns)
    chosen = "*" if page.columns is None else ", ".join(map(identifier, page.columns))
    # The user's own condition, in a process that can read this dataset only.
    parts = [f"SELECT {chosen} FROM {identifier(dataset.name)}"]  # noqa: S608
    if page.where is not None:
        if not page.where.strip():
            raise InvalidInput("The condition is empty.", remedy="Give one, such as x > 1.")
        # On lines of its own: a comment in it must not swallow the rest.
        parts.append(f"WHERE (\n{page.where}\n)")
    if page.sort:
        parts.append(f"ORDER BY {', '.join(_order(known, part) for part in page.sort)}")
    if limit is not None:
        parts.append(f"LIMIT {limit} OFFSET {page.offset}")
    return " ".join(parts)


def _order(known: Sequence[Column], part: str) -> str:
    column, colon, direction = part.rpartition(":")
    if not colon or direction.lower() not in ("asc", "desc"):
        column, direction = part, "asc"
    require_columns(known, [column])
    return f"{identifier(column)} {direction.upper()} NULLS LAST"


def require_columns(known: Sequence[Column], columns: Sequence[str]) -> None:
    """Raise `InvalidInput` for a column that is not there or is named twice."""
    names = [column.name for column in known]
    if len(set(columns)) != len(columns):
        raise InvalidInput("A column is named twice.", remedy="Name each column once.")
    for column in columns:
        if column not in names:
            raise InvalidInput(
                f"There is no column {column!r}.", remedy=f"Choose among: {', '.join(names[:20])}."
            )


def _require_only(tables: Sequence[TableName], dataset: Dataset) -> None:
    if any(table != (None, dataset.name) for table in tables):
        raise InvalidInput(
            "A condition is about the columns of its own dataset.",
            remedy="Join datasets with %%aiaas sql.",
        )


def _require_distinct(tables: Sequence[TableName]) -> None:
    """SQL does not tell names apart that differ in case only; datasets do."""
    seen: dict[tuple[str, str], TableName] = {}
    for owner, name in tables:
        former = seen.setdefault(((owner or "").lower(), name.lower()), (owner, name))
        if former != (owner, name):
            raise InvalidInput(
                f"The names {former[1]!r} and {name!r} are one name in SQL.",
                remedy="Write a dataset's name the same way everywhere, or tell two apart with "
                "their versions: {{name@1}}.",
            )
