"""Uploads in pieces: one that was interrupted goes on where it was."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request

from aiaas_hub.api.identity import DataWriter
from aiaas_hub.api.services import Api
from aiaas_hub.schemas.blobs import Blob, Digest, PartialUpload

router = APIRouter(prefix="/uploads/{owner}/{digest}", tags=["blobs"])

ContentDigest = Annotated[Digest, Path(description="SHA-256 of all of the content, hexadecimal")]


@router.get("")
def upload_received(owner: str, digest: ContentDigest, _: DataWriter, api: Api) -> PartialUpload:
    """How much of it is here: where to go on."""
    return PartialUpload(received=api.uploads.received(owner, digest))


@router.put(
    "",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def upload_piece(
    owner: str,
    digest: ContentDigest,
    request: Request,
    _: DataWriter,
    api: Api,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> PartialUpload:
    """Add a piece where the last one ended. One for another place is left out, and the answer
    says where to go on."""
    await anyio.to_thread.run_sync(api.budgets.require_storage, owner)
    piece = await request.body()
    received = await anyio.to_thread.run_sync(api.uploads.append, owner, digest, offset, piece)
    return PartialUpload(received=received)


@router.post("")
def complete_upload(owner: str, digest: ContentDigest, caller: DataWriter, api: Api) -> Blob:
    """Store what was sent; its hash may then be used by the caller. A repeat changes nothing."""
    if api.grants.granted(caller.user, digest) and api.blobs.keep(digest):
        api.uploads.forget(owner, digest)
        return Blob(digest=digest, size=api.blobs.size(digest))
    with api.uploads.whole(owner, digest) as content:
        _, size = api.blobs.put(content, limit=api.max_upload_bytes)
    api.uploads.forget(owner, digest)
    api.grants.grant(caller.user, digest)
    return Blob(digest=digest, size=size)
