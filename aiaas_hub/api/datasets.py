"""Datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, DataWriter, Reader, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit, Version
from aiaas_hub.api.waiting import parquet_answer, while_waited_for
from aiaas_hub.domain import querying
from aiaas_hub.schemas.datasets import Dataset, DatasetVersionCreate, Preview
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.profiles import ProfileStatus
from aiaas_hub.schemas.queries import MAX_QUERY

router = APIRouter(tags=["datasets"])

Columns = Annotated[str | None, Query(max_length=10_000, description="Names, comma-separated")]


Where = Annotated[str | None, Query(max_length=MAX_QUERY, description="An SQL condition")]
Sort = Annotated[
    str | None, Query(max_length=1000, description="`column[:asc|desc]`, comma-separated")
]


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
async def add_dataset_version(
    owner: str,
    name: str,
    body: DatasetVersionCreate,
    request: Request,
    caller: DataWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Dataset:
    """Add an immutable version; content that the newest version has already changes nothing."""

    def add(cancelled: querying.Cancelled) -> Dataset:
        if body.query is None:
            return api.datasets.create_version(
                owner, name, body, uploader=caller.user, idempotency_key=idempotency_key
            )
        if body.blob is not None or body.uri is not None or body.format is not None:
            raise InvalidInput(
                "A query is given with neither a blob nor a URI nor a format.",
                remedy="Give the query alone.",
            )
        return api.querying.save(
            owner, name, body.query, caller, body.description, idempotency_key, cancelled
        )

    return await while_waited_for(request, add)


@router.get("/datasets/{owner}/{name}/preview")
async def preview_dataset(
    owner: str,
    name: str,
    request: Request,
    caller: Reader,
    api: Api,
    version: Version = None,
    n: int = 10,
    columns: Columns = None,
    where: Where = None,
    sort: Sort = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Rows to leave out before")] = 0,
) -> Preview:
    page = querying.Page(_names(columns), n, offset, where, _names(sort) or ())

    def look(cancelled: querying.Cancelled) -> Preview:
        return api.querying.preview(api.datasets.get(owner, name, version), page, caller, cancelled)

    return await while_waited_for(request, look)


@router.get("/datasets/{owner}/{name}/profile")
def dataset_profile(
    owner: str, name: str, _caller: Reader, api: Api, version: Version = None
) -> ProfileStatus:
    """How far the profile is, and the profile once it is done."""
    return api.profiling.status(api.datasets.get(owner, name, version))


@router.post("/datasets/{owner}/{name}/profile", status_code=202)
def request_dataset_profile(
    owner: str, name: str, caller: Reader, api: Api, version: Version = None
) -> ProfileStatus:
    """Have it computed in the background, unless it is already; a repeat changes nothing."""
    dataset = api.datasets.get(owner, name, version)
    caller.require(Scope.DATA_WRITE, caller.user)
    status = api.profiling.request(dataset)
    api.wake()
    return status


@router.get("/datasets/{owner}/{name}/data", response_class=StreamingResponse)
async def dataset_data(
    owner: str,
    name: str,
    request: Request,
    caller: Reader,
    api: Api,
    version: Version = None,
    columns: Columns = None,
    where: Where = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> StreamingResponse:
    """The dataset as a Parquet file, whole, or some of its columns or rows."""

    def write(cancelled: querying.Cancelled) -> StreamingResponse:
        dataset = api.datasets.get(owner, name, version)
        names = _names(columns)
        if where is not None:
            return parquet_answer(
                lambda part: api.querying.select(
                    dataset, names, where, limit, caller, part, cancelled
                )
            )
        digest = dataset.latest.digest
        if names is None and limit is None:
            return parquet_answer(api.blobs.iterate(digest))
        return parquet_answer(lambda part: api.datasets.select(digest, names, limit, part))

    return await while_waited_for(request, write)
