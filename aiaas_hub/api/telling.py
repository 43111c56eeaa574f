"""Where a hub that shares no disk with the service tells what happened in it, event by event.

Whoever shows the service's own token is the hub: the two share it, and nobody else has it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from aiaas_hub.api.bearer import bearer
from aiaas_hub.schemas.errors import TooLarge, Unauthenticated

LONGEST_EVENT = 1 << 16
"""Bytes."""


def routes(keep: Callable[[bytes], None], prefix: str, token: str) -> APIRouter:
    """`{prefix}hub-events`. `keep` has the event on disk when it returns, and raises `InvalidInput`
    for what is none; a repeat is harmless."""
    router = APIRouter(include_in_schema=False)

    @router.post(f"{prefix}hub-events", status_code=204)
    async def told(request: Request) -> Response:
        if not token or not hmac.compare_digest(bearer(request.scope).encode(), token.encode()):
            raise Unauthenticated("The token is not the hub's.")
        event = b""
        async for piece in request.stream():
            event += piece
            if len(event) > LONGEST_EVENT:
                raise TooLarge("That is no event.")
        await anyio.to_thread.run_sync(keep, event)
        return Response(status_code=204)

    return router
