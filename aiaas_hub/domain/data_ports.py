"""What the domain needs from the world to keep and read data, as Protocols: see `ports`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from aiaas_hub.schemas.datasets import Column, Format


class BlobStore(Protocol):
    """Content-addressed files: written aside, fsynced, hashed, renamed."""

    def put(self, source: BinaryIO, *, limit: int) -> tuple[str, int]:
        """Store a stream; its SHA-256 and size in bytes. Raises `TooLarge` beyond `limit`
        bytes, and then nothing is kept."""

    def open(self, digest: str) -> BinaryIO: ...

    def local_path(self, digest: str) -> Path:
        """A file on this machine with the content, fetched first where it lies elsewhere."""

    def iterate(self, digest: str, chunk: int = 1 << 20) -> Iterator[bytes]: ...

    def size(self, digest: str) -> int: ...

    def keep(self, digest: str) -> bool:
        """Whether the content is there; it then counts as used now, as after a `put`."""

    def remove(self, digest: str, unused_since: datetime) -> bool:
        """Delete the content unless it was used since then; whether it is gone."""


class PartialUploads(Protocol):
    """Uploads that come in pieces; each is of one user and announced by its hash."""

    def received(self, owner: str, digest: str) -> int:
        """Bytes that are here, from the beginning."""

    def append(self, owner: str, digest: str, offset: int, piece: bytes) -> int:
        """Add a piece if it goes on where the last one ended; the bytes that are here then.
        Raises `TooLarge` beyond the platform's limit, and then nothing is kept, and `TooMany`
        for more uploads under way than a user may have."""

    def whole(self, owner: str, digest: str) -> AbstractContextManager[BinaryIO]:
        """What is here. Raises `Conflict` where that is nothing, and `InvalidInput` where it is
        not what its hash says, and then nothing is kept."""

    def forget(self, owner: str, digest: str) -> None: ...


@dataclass(frozen=True)
class TableDescription:
    columns: Sequence[Column]
    rows: int


class Tables(Protocol):
    """Reads tabular files without running anything that is in them."""

    def describe(self, parquet: Path) -> TableDescription:
        """Raises `InvalidInput` if the file is not Parquet or has unsupported columns."""

    def concatenate(self, parts: Sequence[Path], target: Path) -> None:
        """Write the rows of several Parquet files to one. Raises `InvalidInput` where their
        columns differ."""

    def rows(
        self, parquet: Path, columns: Sequence[str] | None, limit: int, offset: int = 0
    ) -> list[list[Any]]:
        """Rows from `offset` on as JSON values, reading no more than they need. Raises
        `InvalidInput` for an unknown column."""

    def select(
        self, parquet: Path, columns: Sequence[str] | None, limit: int | None, target: Path
    ) -> None:
        """Write some columns or the first rows to another Parquet file."""


TableName = tuple[str | None, str]
"""Schema, which is an owner, and name of a table as a query writes them."""


@dataclass(frozen=True)
class QueryRows:
    columns: Sequence[Column]
    rows: list[list[Any]]
    """JSON values."""


@dataclass(frozen=True)
class Written:
    rows: int
    cut: str
    """Which limit ended it: `rows`, `size`, or empty where all of the result was written."""


@dataclass(frozen=True)
class Reading:
    """As what a file, or the folder of a table, is read."""

    format: Format
    types: Mapping[str, str] = field(default_factory=dict)
    """Column → type, in Arrow's spelling, where it is not to be told from the values."""
    snapshot: str | None = None
    """A table's version; None: its newest."""


@dataclass(frozen=True)
class Converted:
    whole: bool
    """Whether it was written; else it takes more bytes than it may."""
    snapshot: str = ""
    """Which version of a table was read."""


class Conversion(Protocol):
    def convert(self, source: Path, reading: Reading, target: Path, size: int) -> Converted:
        """Write a file of another format as Parquet, unless that takes more than `size` bytes.
        Of a table only what lies in its own folder is read. Raises `InvalidInput` if it is not of
        this format, or cannot have these types."""


class QuerySession(Conversion, Protocol):
    """One query's process. Every call raises `InvalidInput` for SQL that cannot be meant and
    `TooLarge` for what takes more time or memory than a query may."""

    def tables(self, sql: str) -> Sequence[TableName]:
        """The tables that this SELECT reads. Raises `InvalidInput` for anything but one SELECT
        of tables: nothing of it is run."""

    def attach(self, tables: Mapping[TableName, Path]) -> None:
        """Give these Parquet files to the query, and nothing else; once, before what follows."""

    def rows(self, sql: str, limit: int) -> QueryRows:
        """The first rows of the result."""

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
        """Write the result as Parquet, with the types of the file `like` where it has a column
        of that name. Ends after `rows` rows, `size` bytes of file or `memory` bytes in memory."""


class QueryEngine(Protocol):
    """Runs SQL that a user wrote where it can do no harm."""

    def session(
        self, cancelled: Callable[[], bool] = lambda: False
    ) -> AbstractContextManager[QuerySession]:
        """A process for one query, which is gone when the context ends. `cancelled` is asked
        often; once it is true, the call under way raises `Unavailable`."""


Credentials = Mapping[str, str]
"""The values of a user's secret, in the fields of its kind."""


class RemoteFiles(Protocol):
    """Files that lie elsewhere, as far as the operator lets users have them."""

    def fetch(
        self, uri: str, directory: Path, limit: int, credentials: Credentials | None = None
    ) -> list[Path]:
        """Copy what is at the URI into the directory: a file, or the files of a folder in the
        order of their names, at most `limit` bytes in all. With a user's own credentials nothing
        is read by the operator's. Raises `InvalidInput` for a URI that may not be asked,
        `NotFound`, `TooLarge`, `Unavailable`."""

    def fetch_tree(
        self, uri: str, directory: Path, limit: int, credentials: Credentials | None = None
    ) -> None:
        """The same for a folder, with each file at its place in it."""

    def table_format(self, uri: str, credentials: Credentials | None = None) -> Format | None:
        """Of which kind of table the URI is the folder; None if of none. Raises as `fetch`."""
