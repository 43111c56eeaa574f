"""Statistics of a dataset's columns on the wire."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

Kind = Literal["number", "text", "boolean", "time", "list", "binary", "other"]


class Histogram(BaseModel):
    """`counts[i]` values lie in edges[i] ≤ x < edges[i + 1], the last ones ≤ as well."""

    edges: list[float]
    """Of a time: seconds since 1970 in UTC."""
    counts: list[int]


class ValueCount(BaseModel):
    value: Any
    """A JSON value; a long text is cut."""
    count: int


class Lengths(BaseModel):
    """Of texts in characters, of binaries in bytes, of lists in items."""

    least: int
    mean: float
    most: int


class ColumnProfile(BaseModel):
    name: str
    type: str
    kind: Kind
    nulls: int = 0
    not_finite: int = 0
    """NaN and infinite values, which the other figures leave out."""
    distinct: int | None = None
    """Different values that are not null: exact up to 50, else an estimate within some percent."""
    least: Any = None
    most: Any = None
    mean: float | None = None
    deviation: float | None = None
    """Standard deviation of a sample (n - 1)."""
    quantiles: dict[str, float] = {}
    """`0.05`, `0.25`, `0.5`, `0.75`, `0.95` → an estimate (t-digest)."""
    histogram: Histogram | None = None
    top: list[ValueCount] = []
    """The most frequent values, the first one most of all."""
    lengths: Lengths | None = None
    balance: float | None = None
    """Of at most 50 different values: their entropy as a share of the largest possible one. 1 is
    perfectly balanced, near 0 is nearly always the same value."""
    note: str = ""
    """Why there is nothing more."""


class Profile(BaseModel):
    rows: int
    """Of the version."""
    looked_at: int
    """Rows that the figures are of: fewer than all of them for a large version, chosen at
    random."""
    duplicates: int
    """Rows among these that are equal to one before them."""
    columns: list[ColumnProfile]

    @property
    def is_sampled(self) -> bool:
        return self.looked_at < self.rows


class ProfileState(StrEnum):
    NONE = "none"
    """Nobody asked for it yet."""
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ProfileStatus(BaseModel):
    """How far the profile of a version is."""

    owner: str
    name: str
    version: int
    state: ProfileState
    done: int = 0
    """Columns that are computed."""
    total: int = 0
    requested_at: datetime | None = None
    error: str = ""
    profile: Profile | None = None
