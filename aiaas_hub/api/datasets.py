"""Datasets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, DataWriter, Reader, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit, Version
from aiaas_hub.schemas.datasets import Dataset, DatasetVersionCreate, Preview
from aiaas_hub.schemas.errors import NotYet
from aiaas_hub.schemas.paging import Page

router = APIRouter(tags=["datasets"])

PARQUET = "application/vnd.apache.parquet"
Columns = Annotated[str | None, Query(max_length=10_000, description="Names, comma-separated")]


def _names(columns: str | None) -> list[str] | None:
    return None if columns is None else [name for name in columns.split(",") if name]


@router.get("/datasets")
def list_datasets(
    caller: Caller,
    api: Api,
    pattern: Annotated[str, Query(max_length=256)] = "",
    owner: str | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Dataset]:
    of = owner or caller.user
    caller.require(Scope.READ, of)
    return api.datasets.page(of, pattern, cursor, limit)


@router.get("/datasets/{owner}/{name}")
def get_dataset(
    owner: str, name: str, _caller: Reader, api: Api, version: Version = None
) -> Dataset:
    return api.datasets.get(owner, name, version)


@router.post("/datasets/{owner}/{name}/versions", status_code=201)
def add_dataset_version(
    owner: str,
    name: str,
    body: DatasetVersionCreate,
    caller: DataWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Dataset:
    """Add an immutable version; content that the newest version has already changes nothing."""
    api.budgets.require_storage(owner)
    return api.datasets.create_version(
        owner, name, body, uploader=caller.user, idempotency_key=idempotency_key
    )


@router.get("/datasets/{owner}/{name}/preview")
def preview_dataset(
    owner: str,
    name: str,
    _caller: Reader,
    api: Api,
    version: Version = None,
    n: int = 10,
    columns: Columns = None,
    where: str | None = None,
) -> Preview:
    if where is not None:
        raise NotYet(
            "Filtering a preview is not possible yet.",
            remedy="Load the dataset and filter the DataFrame.",
        )
    return api.datasets.preview(owner, name, version, _names(columns), n)


@router.get("/datasets/{owner}/{name}/data", response_class=StreamingResponse)
def dataset_data(
    owner: str,
    name: str,
    _caller: Reader,
    api: Api,
    version: Version = None,
    columns: Columns = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> StreamingResponse:
    """The dataset as a Parquet file, whole or some of its columns or its first rows."""
    digest = api.datasets.get(owner, name, version).latest.digest
    if columns is None and limit is None:
        return StreamingResponse(api.blobs.iterate(digest), media_type=PARQUET)
    with tempfile.NamedTemporaryFile(prefix="aiaas-select-") as aside:
        api.datasets.select(digest, _names(columns), limit, Path(aside.name))
        # The open file outlives its name: nothing stays behind, whatever the reader does.
        part = Path(aside.name).open("rb")  # noqa: SIM115  # closed by `_blocks`
    return StreamingResponse(_blocks(part), media_type=PARQUET)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(1 << 20):
            yield block
