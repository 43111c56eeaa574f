"""Datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from pydantic import AfterValidator
from starlette.responses import StreamingResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, DataWriter, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit
from aiaas_hub.api.waiting import parquet_answer, while_waited_for
from aiaas_hub.domain import querying
from aiaas_hub.schemas.datasets import (
    Dataset,
    DatasetUpdate,
    DatasetVersion,
    DatasetVersionCreate,
    Diff,
    Preview,
    TagVersion,
    VersionUpdate,
    parse_dataset_reference,
)
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.lineage import DatasetLineage
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.profiles import ProfileStatus
from aiaas_hub.schemas.queries import MAX_QUERY

router = APIRouter(tags=["datasets"])


def _version_or_tag(text: str | None) -> int | str | None:
    """A version as it is written after the `@`, taken for a number where it is one."""
    if not text:
        return None
    try:
        version = parse_dataset_reference(f"x@{text}").version
    except InvalidInput as error:
        # What a validator raises is collected with the request's other faults.
        raise ValueError(f"{error.message} {error.remedy}") from error
    if isinstance(version, int) and version >= 2**31:
        raise ValueError("There is no version of such a number.")
    return version


VersionOrTag = Annotated[
    str | None,
    AfterValidator(_version_or_tag),
    Query(description="A number or a tag; default: the newest"),
]
VersionNumber = Annotated[int, PathParameter(ge=1, le=2**31 - 1)]
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
    pattern: Annotated[str, Query(max_length=256, description="On the name, with * and ?")] = "",
    search: Annotated[
        str,
        Query(
            max_length=256,
            description="Words that name, owner, column, tag or description begin with; "
            "`column:price`, `tag:gold`, `name:`, `owner:` and `text:` look in one place",
        ),
    ] = "",
    owner: str | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Dataset]:
    """Those that the caller may read: their own and what is shared with them, newest first."""
    caller.require(Scope.READ, caller.user)
    return api.datasets.page(caller, owner, pattern, search, cursor, limit)


@router.get("/datasets/{owner}/{name}")
def get_dataset(
    owner: str, name: str, caller: Caller, api: Api, version: VersionOrTag = None
) -> Dataset:
    return api.datasets.get(owner, name, caller, version)


@router.patch("/datasets/{owner}/{name}")
def update_dataset(
    owner: str, name: str, body: DatasetUpdate, caller: DataWriter, api: Api
) -> Dataset:
    """Say more of it, or share it: a description, a licence, tags, who may read it."""
    return api.datasets.update(owner, name, body, caller)


@router.get("/datasets/{owner}/{name}/versions")
def list_dataset_versions(
    owner: str,
    name: str,
    caller: Caller,
    api: Api,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[DatasetVersion]:
    """Newest first, with the retired ones."""
    return api.datasets.versions(owner, name, caller, cursor, limit)


@router.patch("/datasets/{owner}/{name}/versions/{version}")
def retire_dataset_version(
    owner: str, name: str, version: VersionNumber, body: VersionUpdate, _: DataWriter, api: Api
) -> DatasetVersion:
    """Take a version out of use, or back into it."""
    return api.datasets.retire(owner, name, version, body.retired)


@router.put("/datasets/{owner}/{name}/tags/{tag}")
def tag_dataset_version(
    owner: str, name: str, tag: str, body: TagVersion, caller: DataWriter, api: Api
) -> Dataset:
    """Give a version a name such as `golden`, which works wherever NAME@VERSION does."""
    return api.datasets.tag(owner, name, tag, body.version, caller)


@router.delete("/datasets/{owner}/{name}/tags/{tag}")
def untag_dataset_version(owner: str, name: str, tag: str, caller: DataWriter, api: Api) -> Dataset:
    return api.datasets.untag(owner, name, tag, caller)


@router.get("/datasets/{owner}/{name}/diff")
def diff_dataset_versions(
    owner: str,
    name: str,
    caller: Caller,
    api: Api,
    before: VersionOrTag = None,
    after: VersionOrTag = None,
) -> Diff:
    """What is different: schema, rows and, where both have profiles, distributions. By default
    the newest version beside the one before it."""
    return api.comparing.diff(owner, name, before, after, caller)


@router.get("/datasets/{owner}/{name}/lineage")
def dataset_lineage(
    owner: str, name: str, caller: Caller, api: Api, version: VersionOrTag = None
) -> DatasetLineage:
    """What made a version, the versions that it was made of, and what made those. Of a version
    that the caller may not read only the name is told."""
    return api.lineages.of_dataset(owner, name, version, caller)


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
    api.budgets.require_storage(owner)

    def add(cancelled: querying.Cancelled) -> Dataset:
        if body.query is None:
            return api.bringing.create_version(
                owner, name, body, uploader=caller.user, idempotency_key=idempotency_key
            )
        if body.blob is not None or body.uri is not None or body.format is not None:
            raise InvalidInput(
                "A query is given with neither a blob nor a URI nor a format.",
                remedy="Give the query alone.",
            )
        return api.querying.save(
            owner,
            name,
            body.query,
            body.engine,
            caller,
            body.description,
            idempotency_key,
            cancelled,
        )

    return await while_waited_for(request, add)


@router.get("/datasets/{owner}/{name}/preview")
async def preview_dataset(
    owner: str,
    name: str,
    request: Request,
    caller: Caller,
    api: Api,
    version: VersionOrTag = None,
    n: int = 10,
    columns: Columns = None,
    where: Where = None,
    sort: Sort = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Rows to leave out before")] = 0,
) -> Preview:
    page = querying.Page(_names(columns), n, offset, where, _names(sort) or ())

    def look(cancelled: querying.Cancelled) -> Preview:
        return api.querying.preview(
            api.datasets.get(owner, name, caller, version), page, caller, cancelled
        )

    return await while_waited_for(request, look)


@router.get("/datasets/{owner}/{name}/profile")
def dataset_profile(
    owner: str, name: str, caller: Caller, api: Api, version: VersionOrTag = None
) -> ProfileStatus:
    """How far the profile is, and the profile once it is done."""
    return api.profiling.status(api.datasets.get(owner, name, caller, version))


@router.post("/datasets/{owner}/{name}/profile", status_code=202)
def request_dataset_profile(
    owner: str, name: str, caller: Caller, api: Api, version: VersionOrTag = None
) -> ProfileStatus:
    """Have it computed in the background, unless it is already; a repeat changes nothing."""
    dataset = api.datasets.get(owner, name, caller, version)
    caller.require(Scope.DATA_WRITE, caller.user)
    status = api.profiling.request(dataset)
    api.wake()
    return status


@router.get("/datasets/{owner}/{name}/data", response_class=StreamingResponse)
async def dataset_data(
    owner: str,
    name: str,
    request: Request,
    caller: Caller,
    api: Api,
    version: VersionOrTag = None,
    columns: Columns = None,
    where: Where = None,
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> StreamingResponse:
    """The dataset as a Parquet file, whole, or some of its columns or rows."""

    def write(cancelled: querying.Cancelled) -> StreamingResponse:
        dataset = api.datasets.get(owner, name, caller, version)
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
