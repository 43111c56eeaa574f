"""Datasets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.names import Name

Format = Literal["parquet", "csv"]


class Column(BaseModel):
    name: str
    type: str
    """Arrow's own spelling: `int64`, `string`, `list<item: float>`, …"""
    nullable: bool = True


class DatasetVersionCreate(BaseModel):
    """A new immutable version, from an uploaded Parquet blob or from a URI where it lies.

    Exactly one of `blob` and `uri` is given.
    """

    blob: Digest | None = None
    uri: str | None = Field(default=None, max_length=4096)
    format: Format | None = None
    """None: taken from the file's name."""
    description: str = Field(default="", max_length=10_000)


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
    """`upload`, or the URI it was registered from."""


class Dataset(BaseModel):
    owner: str
    name: Name
    description: str = ""
    created_at: datetime
    updated_at: datetime
    latest: DatasetVersion


class Preview(BaseModel):
    """The first rows, as JSON values; `truncated` says that there are more."""

    columns: list[Column]
    rows: list[list[Any]]
    total_rows: int
    truncated: bool
