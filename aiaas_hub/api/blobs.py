"""Uploads, by content."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from aiaas_hub.api import auditing
from aiaas_hub.api.bearer import bearer
from aiaas_hub.api.identity import Scope, identify
from aiaas_hub.api.services import Api
from aiaas_hub.schemas.audit import Via
from aiaas_hub.schemas.blobs import Blob
from aiaas_hub.schemas.errors import Forbidden, InvalidInput

router = APIRouter(tags=["blobs"])

MAX_UPLOADS = 8
"""At once. An upload holds a thread while it waits for its sender, so these have their own."""
SILENCE_SECONDS = 30
"""How long a sender may pause."""

_WRITES = (Scope.DATA_WRITE, Scope.RUNS_WRITE, Scope.MODELS_WRITE)


class _Body(io.RawIOBase):
    """A request's body, for code that reads files: `read` waits on the event loop's thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = anyio.from_thread.run(self._next)
        part, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return part

    async def _next(self) -> bytes:
        with anyio.fail_after(SILENCE_SECONDS):
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        return b""


@router.post(
    "/blobs",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def upload(request: Request, api: Api) -> Blob:
    """Store the body; its hash may then be used by its uploader. A repeat changes nothing."""
    owner = await _uploader(request, api)
    await anyio.to_thread.run_sync(api.budgets.require_storage, owner)
    body = _Body(request.stream())

    def store() -> Blob:
        try:
            digest, size = api.blobs.put(body, limit=api.max_upload_bytes)  # type: ignore[arg-type]  # reads like one
        except (ClientDisconnect, TimeoutError) as error:
            raise InvalidInput("The upload was cut off.", remedy="Send it again.") from error
        api.grants.grant(owner, digest)
        return Blob(digest=digest, size=size)

    return await anyio.to_thread.run_sync(store, limiter=_limiter(request))


def _limiter(request: Request) -> anyio.CapacityLimiter:
    """Made with the first upload: it belongs to the running event loop."""
    state = request.app.state
    if not hasattr(state, "uploads"):
        state.uploads = anyio.CapacityLimiter(MAX_UPLOADS)
    limiter: anyio.CapacityLimiter = state.uploads
    return limiter


async def _uploader(request: Request, api: Api) -> str:
    """Whose upload it is: a user with a right to write something, or a live run's owner."""
    token = bearer(request.scope)
    if token.startswith("run-"):
        run, _ = await anyio.to_thread.run_sync(api.jobs.authenticate, token)
        await auditing.begin(request, run.owner, Via.RUN, run.owner)
        return run.owner
    caller = await identify(request)
    if not any(caller.may(scope, caller.user) for scope in _WRITES):
        raise Forbidden("Your token may not upload.", remedy="Ask an administrator.")
    return caller.user
