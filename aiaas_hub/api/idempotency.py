"""`Idempotency-Key`: a request that is sent twice is done once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Header, Request

from aiaas_hub.api.identity import Caller
from aiaas_hub.api.services import Api
from aiaas_hub.schemas.errors import Conflict


async def _key(
    request: Request,
    caller: Caller,
    api: Api,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=8,
            max_length=255,
            description="A repeat with the same key gives the first answer's object again; the "
            "same key with another body is refused",
        ),
    ] = None,
) -> str | None:
    if idempotency_key is None:
        return None
    address = _digest(f"{request.method} {request.url.path}?{request.url.query}".encode())
    body = _digest(await request.body())
    same = await anyio.to_thread.run_sync(
        api.requests.claim, caller.user, address, idempotency_key, body, datetime.now(UTC)
    )
    if not same:
        raise Conflict(
            "This Idempotency-Key came with another request before.",
            remedy="Take a new key for each thing that you want done.",
        )
    # What is made keeps this for ever, a claim only for a day: it names the whole request, so that
    # no other one, whenever it comes, is ever answered with what this one made.
    return _digest("\n".join((caller.user, address, body, idempotency_key)).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


IdempotencyKey = Annotated[str | None, Depends(_key)]
