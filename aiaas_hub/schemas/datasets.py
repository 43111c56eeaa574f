"""Datasets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.names import Name
from aiaas_hub.schemas.queries import MAX_QUERY
from aiaas_hub.schemas.runs import PinnedDataset

Format = Literal["parquet", "csv"]


class Column(BaseModel):
    name: str
    type: str
    """Arrow's own spelling: `int64`, `string`, `list<item: float>`, …"""
    nullable: bool = True


class DatasetVersionCreate(BaseModel):
    """A new immutable version: from an uploaded blob, from a URI where it lies, or the result of
    a query.

    Exactly one of `blob`, `uri` and `query` is given.
    """

    blob: Digest | None = None
    uri: str | None = Field(default=None, max_length=4096)
    query: str | None = Field(default=None, min_length=1, max_length=MAX_QUERY)
    """One SELECT, as in `POST /queries`; all of its result is kept."""
    format: Format | None = None
    """None: taken from the file's name."""
    description: str = Field(default="", max_length=10_000)


class Origin(BaseModel):
    """What made a version."""

    kind: Literal["upload", "register", "query", "run"]
    by: str
    """The user who asked for it."""
    uri: str | None = None
    sql: str | None = None
    """The query as it was asked."""
    inputs: list[PinnedDataset] = []
    """The exact versions that it was made of."""
    run: str | None = None
    """Id of the run that made it."""


class DatasetVersion(BaseModel):
    version: int
    created_at: datetime
    format: Format
    digest: Digest
    """Hash of the content: equal content gives the same version again."""
    size: int
    """Bytes as stored."""
    rows: int
    columns: list[Column]
    source: str
    """`upload`, `query`, or the URI it was registered from."""
    origin: Origin | None = None
    """None: stored by a release that kept no origin."""


class Dataset(BaseModel):
    owner: str
    name: Name
    description: str = ""
    created_at: datetime
    updated_at: datetime
    latest: DatasetVersion


class Preview(BaseModel):
    """Some rows, as JSON values; `truncated` says that there are more after them."""

    columns: list[Column]
    rows: list[list[Any]]
    total_rows: int
    """Of the whole version: how many fulfil a condition is not counted."""
    offset: int = 0
    filtered: bool = False
    truncated: bool
