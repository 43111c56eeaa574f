"""Endpoints and their keys."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, EndpointWriter, Reader, Scope, identify
from aiaas_hub.api.live import Next, stream
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit, Version
from aiaas_hub.domain.endpoints import topic
from aiaas_hub.schemas.drift import EndpointDrift
from aiaas_hub.schemas.endpoints import (
    Change,
    Endpoint,
    EndpointToken,
    Key,
    KeyCreate,
    PublishRequest,
    TrafficRequest,
    Why,
)
from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.statistics import EndpointStatistics

router = APIRouter(tags=["endpoints"])


@router.get("/endpoints")
def list_endpoints(
    caller: Caller,
    api: Api,
    owner: str | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Endpoint]:
    of = owner or caller.user
    caller.require(Scope.READ, of)
    return api.endpoints.page(of, cursor, limit)


@router.get("/endpoints/{owner}/{name}")
def get_endpoint(owner: str, name: str, _caller: Reader, api: Api) -> Endpoint:
    return api.endpoints.get(owner, name)


@router.post("/endpoints/{owner}/{name}/publish", status_code=202)
def publish(
    owner: str,
    name: str,
    body: PublishRequest,
    caller: EndpointWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Endpoint:
    """Start publishing; the answer's newest version goes from staging to serving or failed."""
    if api.endpoint_records.get(owner, name) is None:
        api.budgets.require_endpoint(owner, is_new=True)
    endpoint = api.endpoints.publish(
        owner,
        name,
        body,
        by=caller.user,
        may_read=caller.may_read,
        idempotency_key=idempotency_key,
    )
    api.wake()
    return endpoint


@router.get("/endpoints/{owner}/{name}/events", response_class=EventSourceResponse)
async def endpoint_events(
    owner: str, name: str, _caller: Reader, request: Request, api: Api
) -> EventSourceResponse:
    """Event `endpoint` at each change; `end` when the newest version is settled, or a canary that
    waits for somebody to judge it."""
    shown: Endpoint | None = None

    def look() -> tuple[list[tuple[str, BaseModel]], Next]:
        nonlocal shown
        current = api.endpoints.get(owner, name)
        events: list[tuple[str, BaseModel]] = []
        if current != shown:
            events.append(("endpoint", current))
            shown = current
        newest = current.versions[0]
        ends = newest.state.is_settled or (newest.is_judged and not newest.is_baking)
        if ends:
            events.append(("end", current))
        return events, Next.NEVER if ends else Next.CHANGE

    return stream(api.live, _caller.user, topic(owner, name), look, partial(identify, request))


@router.delete("/endpoints/{owner}/{name}")
def retire(
    owner: str,
    name: str,
    caller: EndpointWriter,
    api: Api,
    why: Annotated[str, Query(max_length=1000, description="For the history")] = "",
) -> Endpoint:
    retired = api.endpoints.retire(owner, name, why, by=caller.user)
    api.wake()
    return retired


@router.post("/endpoints/{owner}/{name}/traffic")
def set_traffic(
    owner: str,
    name: str,
    body: TrafficRequest,
    caller: EndpointWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Endpoint:
    """Split the requests among loaded versions, from now on."""
    return api.endpoints.share_out(
        owner, name, body, by=caller.user, idempotency_key=idempotency_key
    )


@router.post("/endpoints/{owner}/{name}/promote")
def promote(
    owner: str,
    name: str,
    body: Why,
    caller: EndpointWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Endpoint:
    """All requests to the canary, from now on."""
    promoted = api.endpoints.promote(
        owner, name, body.why, by=caller.user, idempotency_key=idempotency_key
    )
    api.wake()
    return promoted


@router.post("/endpoints/{owner}/{name}/rollback")
def roll_back(
    owner: str,
    name: str,
    body: Why,
    caller: EndpointWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Endpoint:
    """The former traffic again, from now on."""
    back = api.endpoints.roll_back(
        owner, name, body.why, by=caller.user, idempotency_key=idempotency_key
    )
    api.wake()
    return back


@router.get("/endpoints/{owner}/{name}/history")
def endpoint_history(
    owner: str,
    name: str,
    _caller: Reader,
    api: Api,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Change]:
    """Every change of what serves, newest first: who, when, what and why."""
    return api.endpoints.history(owner, name, cursor, limit)


@router.get("/endpoints/{owner}/{name}/statistics")
def endpoint_statistics(owner: str, name: str, _caller: Reader, api: Api) -> EndpointStatistics:
    """Per loaded version: requests, errors, latency, batch sizes, queue, canary health."""
    return api.watching.of(owner, name)


@router.get("/endpoints/{owner}/{name}/drift")
def endpoint_drift(owner: str, name: str, _caller: Reader, api: Api) -> EndpointDrift:
    """Per loaded version: how what callers send differs from the model's held-out rows."""
    return api.drifting.of(owner, name)


@router.get("/endpoints/{owner}/{name}/lineage")
def endpoint_lineage(
    owner: str, name: str, caller: Reader, api: Api, version: Version = None
) -> Lineage:
    return api.lineages.of_endpoint(owner, name, version, caller)


@router.post("/endpoints/{owner}/{name}/token")
def exchange_token(owner: str, name: str, caller: EndpointWriter, api: Api) -> EndpointToken:
    """A short-lived key for calling the endpoint from a notebook."""
    return api.endpoints.exchange(owner, name, caller.user)


@router.post("/endpoints/{owner}/{name}/keys", status_code=201)
def create_key(
    owner: str,
    name: str,
    body: KeyCreate,
    caller: EndpointWriter,
    api: Api,
    idempotency_key: IdempotencyKey,
) -> Key:
    """A key for callers outside; its token is in this answer and nowhere else."""
    return api.endpoints.create_key(owner, name, body, caller.user, idempotency_key)


@router.get("/endpoints/{owner}/{name}/keys")
def list_keys(
    owner: str,
    name: str,
    _caller: EndpointWriter,
    api: Api,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Key]:
    return api.endpoints.keys(owner, name, cursor, limit)


@router.delete("/endpoints/{owner}/{name}/keys/{key_id}")
def revoke_key(owner: str, name: str, key_id: str, _caller: EndpointWriter, api: Api) -> Key:
    """The gateway refuses the key when this answers."""
    return api.endpoints.revoke_key(owner, name, key_id)
