"""Models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, ModelWriter, Reader, Scope
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit, Version
from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.models import AliasTarget, Card, Model, ModelVersion, ModelVersionCreate
from aiaas_hub.schemas.paging import Page

Alias = Annotated[str | None, Query(max_length=32, description="Instead of a version's number")]

router = APIRouter(tags=["models"])


@router.get("/models")
def list_models(
    caller: Caller,
    api: Api,
    owner: str | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Model]:
    of = owner or caller.user
    caller.require(Scope.READ, of)
    return api.models.page(of, cursor, limit)


@router.get("/models/{owner}/{name}")
def get_model(
    owner: str,
    name: str,
    _caller: Reader,
    api: Api,
    version: Version = None,
    alias: Alias = None,
) -> Model:
    """With the version asked for, by number or alias, else the newest."""
    return api.models.get(owner, name, version, alias)


@router.put("/models/{owner}/{name}/aliases/{alias}")
def set_alias(
    owner: str, name: str, alias: str, body: AliasTarget, _caller: ModelWriter, api: Api
) -> Model:
    """Call a version by a name as well: `name@champion`."""
    return api.models.set_alias(owner, name, alias, body.version)


@router.delete("/models/{owner}/{name}/aliases/{alias}")
def remove_alias(owner: str, name: str, alias: str, _caller: ModelWriter, api: Api) -> Model:
    return api.models.remove_alias(owner, name, alias)


@router.put("/models/{owner}/{name}/card")
def describe_model(
    owner: str, name: str, body: Card, _caller: ModelWriter, api: Api, version: Version = None
) -> Model:
    """What the owner says of a version: description, licence and metrics."""
    return api.models.describe(owner, name, version, body)


@router.get("/models/{owner}/{name}/onnx", response_class=StreamingResponse)
def model_onnx(
    owner: str, name: str, _caller: Reader, api: Api, version: Version = None
) -> StreamingResponse:
    """The version's `model.onnx`; the latest one's unless it is said which."""
    content = api.blobs.iterate(api.models.get(owner, name, version).latest.onnx)
    return StreamingResponse(content, media_type="application/octet-stream")


@router.post("/models/{owner}/{name}/versions", status_code=201)
def add_model_version(
    owner: str,
    name: str,
    body: ModelVersionCreate,
    caller: ModelWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> ModelVersion:
    """Register an exported model from two uploads."""
    return api.models.add_version(
        owner, name, body, uploader=caller.user, idempotency_key=idempotency_key
    )


@router.get("/models/{owner}/{name}/lineage")
def model_lineage(
    owner: str, name: str, caller: Reader, api: Api, version: Version = None
) -> Lineage:
    return api.lineages.of_model(owner, name, version, caller)
