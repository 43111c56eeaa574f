"""Datasets on the wire."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import Name, parse_reference
from aiaas_hub.schemas.queries import MAX_QUERY, Engine
from aiaas_hub.schemas.runs import PinnedDataset

Format = Literal["parquet", "csv", "jsonl", "arrow", "orc", "text", "delta", "iceberg"]
"""`jsonl`: an object a line. `arrow`: Arrow's file or stream format, which Feather is. `text`: a
row for each line, in one column `text`. `delta`, `iceberg`: the folder of a table, as of one of its
versions."""
FORMATS: tuple[Format, ...] = get_args(Format)
TABLE_FORMATS: frozenset[Format] = frozenset({"delta", "iceberg"})

_SUFFIXES: dict[str, Format] = {
    "parquet": "parquet",
    "pq": "parquet",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "arrow": "arrow",
    "arrows": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "orc": "orc",
    "txt": "text",
}
_BEGINNINGS: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"ORC": "orc"}


def detect_format(name: str, beginning: bytes = b"") -> Format:
    """What a file is, by how it begins or else by its name. Raises `InvalidInput`."""
    for magic, format_ in _BEGINNINGS.items():
        if beginning.startswith(magic):
            return format_
    found = _SUFFIXES.get(name.rpartition(".")[2].lower())
    if found is None:
        raise InvalidInput(
            f"The format of {name} cannot be told from its name.",
            remedy=f"Say it: --format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    return found


MAX_DESCRIPTION = 10_000
MAX_TAGS = 50
LATEST = "latest"
"""`NAME@latest`: the newest version that is not retired. Nobody gives this tag."""

Visibility = Literal["private", "group", "everyone"]
"""Who may read a dataset besides its owner: nobody, one of the hub's groups, every user."""

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]|[A-Za-z]")


def check_tag(tag: str) -> str:
    """Return `tag` if it may name a version, else raise `InvalidInput`."""
    # `v3` is a version's number wherever NAME@V is written.
    if not _TAG.fullmatch(tag) or re.fullmatch(r"v[0-9]+", tag):
        raise InvalidInput(
            f"{tag!r} cannot be a tag.",
            remedy="Use letters, digits, '-', '_' and '.', beginning with a letter; not v and a "
            "number, which is a version.",
        )
    return tag


class DatasetReference(NamedTuple):
    """`[owner/]name[@version or tag]`, taken apart."""

    owner: str | None
    name: str
    version: int | str | None


def parse_dataset_reference(text: str) -> DatasetReference:
    """Raise `InvalidInput` if `text` is not one."""
    path, _, version = text.strip().partition("@")
    if version and not re.fullmatch(r"v?[0-9]+", version):
        reference = parse_reference(path)
        return DatasetReference(reference.owner, reference.name, check_tag(version))
    reference = parse_reference(text)
    return DatasetReference(reference.owner, reference.name, reference.version)


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
    engine: Engine = "duckdb"
    """What runs the query."""
    format: Format | None = None
    """None: taken from the file's name, or from what is in a folder."""
    types: dict[
        Annotated[str, Field(min_length=1, max_length=1000)], Annotated[str, Field(max_length=100)]
    ] = Field(default_factory=dict, max_length=1000)
    """Of CSV and JSON lines: column → type in Arrow's spelling (`int64`, `string`, `date32`,
    `timestamp[us]`, …), for columns whose type is not to be told from their values."""
    snapshot: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] | None = None
    """Of a Delta table a version, of an Iceberg table the id of a snapshot; None: the newest."""
    secret: Name | None = None
    """Of a URI: the caller's own secret with which it is read."""
    description: str = Field(default="", max_length=MAX_DESCRIPTION)


class Origin(BaseModel):
    """What made a version."""

    kind: Literal["upload", "register", "query", "run"]
    by: str
    """The user who asked for it."""
    uri: str | None = None
    snapshot: str | None = None
    """Which version of a Delta or Iceberg table was copied."""
    sql: str | None = None
    """The query as it was asked."""
    engine: Engine | None = None
    """What ran the query; of versions from before there was a choice nothing is said."""
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
    """`upload`, `query`, `run`, or the URI it was registered from."""
    origin: Origin | None = None
    """None: stored by a release that kept no origin."""
    tags: list[str] = []
    """Names that were given to this version, such as `golden`."""
    retired: bool = False


class Dataset(BaseModel):
    owner: str
    name: Name
    description: str = ""
    """Markdown."""
    licence: str = ""
    tags: list[str] = []
    """Words by which people find it; a version's tags are its own."""
    visibility: Visibility = "private"
    group: str | None = None
    """The hub's group that may read it, where the visibility is a group's."""
    created_at: datetime
    updated_at: datetime
    latest: DatasetVersion


Tag = Annotated[str, Field(min_length=1, max_length=64)]


class DatasetUpdate(BaseModel):
    """What to say of a dataset; what is left out stays as it is."""

    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION)
    licence: str | None = Field(default=None, max_length=100)
    tags: list[Tag] | None = Field(default=None, max_length=MAX_TAGS)
    visibility: Visibility | None = None
    group: str | None = Field(default=None, min_length=1, max_length=255)
    """One of the hub's groups that the caller is in; only with the visibility `group`."""


class VersionUpdate(BaseModel):
    retired: bool
    """A retired version is not used any more. Its content is deleted after a time, unless a run
    refers to it; until then it can be taken back."""


class TagVersion(BaseModel):
    version: int = Field(ge=1, le=2**31 - 1)


class ColumnChange(BaseModel):
    """A column that both versions have, compared by their profiles."""

    name: str
    shift: float
    """0: the same distribution, 1: nothing in common. Numbers and times: the largest difference
    of the two cumulative distributions (Kolmogorov-Smirnov), estimated from histograms. Few
    different values: half the sum of the differences of their shares (total variation)."""
    missing_before: float
    """Share of rows."""
    missing_after: float
    mean_before: float | None = None
    mean_after: float | None = None


class Diff(BaseModel):
    before: PinnedDataset
    after: PinnedDataset
    same_content: bool
    rows_before: int
    rows_after: int
    added: list[Column]
    removed: list[Column]
    retyped: list[tuple[Column, Column]]
    """Column before and after."""
    profiled: bool
    """Whether both versions have profiles, without which nothing is known of distributions."""
    changes: list[ColumnChange] = []
    """Columns whose distribution or share of missing values is different, the most first."""


class Preview(BaseModel):
    """Some rows, as JSON values; `truncated` says that there are more after them."""

    columns: list[Column]
    rows: list[list[Any]]
    total_rows: int
    """Of the whole version: how many fulfil a condition is not counted."""
    offset: int = 0
    filtered: bool = False
    truncated: bool
