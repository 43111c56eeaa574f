"""Runs, as their owners see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from aiaas_hub.api.identity import Caller, Scope, identify
from aiaas_hub.api.live import stream
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, IdempotencyKey, Limit
from aiaas_hub.domain.runs import MAX_LOG_READ, topic
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import MAX_INTEGER, Lineage, LogChunk, Metrics, Run, RunCreate

router = APIRouter(tags=["runs"])

Offset = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="In bytes")]
Since = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="`next_since` of the last answer")]


def _run_for(scope: Scope) -> Callable[..., Awaitable[Run]]:
    """A dependency: the run of the path, if the caller may do this with it."""

    async def permitted(run_id: str, caller: Caller, api: Api) -> Run:
        run = api.runs.get(run_id)
        try:
            caller.require(scope, run.owner)
        except NotFound:
            # Word for word what an id that does not exist gets.
            raise NotFound("There is no such run.", remedy="See %aiaas runs.") from None
        return run

    return permitted


ReadableRun = Annotated[Run, Depends(_run_for(Scope.READ))]
WritableRun = Annotated[Run, Depends(_run_for(Scope.RUNS_WRITE))]


@router.post("/runs", status_code=201)
def submit_run(
    body: RunCreate, caller: Caller, api: Api, idempotency_key: IdempotencyKey = None
) -> Run:
    caller.require(Scope.RUNS_WRITE, caller.user)
    run = api.runs.submit(caller.user, body, caller.may_read, idempotency_key)
    api.wake()
    return run


@router.get("/runs")
def list_runs(
    caller: Caller,
    api: Api,
    owner: str | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Run]:
    """Newest first."""
    of = owner or caller.user
    caller.require(Scope.READ, of)
    return api.runs.page(of, cursor, limit)


@router.get("/runs/{run_id}")
def get_run(run: ReadableRun) -> Run:
    return run


@router.post("/runs/{run_id}/cancel")
def cancel_run(run: WritableRun, api: Api) -> Run:
    cancelled = api.runs.cancel(run.id)
    api.wake()
    return cancelled


@router.get("/runs/{run_id}/logs")
def run_logs(
    run: ReadableRun,
    api: Api,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_READ)] = MAX_LOG_READ,
) -> LogChunk:
    return api.runs.logs(run.id, offset, limit)


@router.get("/runs/{run_id}/metrics")
def run_metrics(run: ReadableRun, api: Api, since: Since = 0) -> Metrics:
    return api.runs.metrics(run.id, since)


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def run_events(
    run: ReadableRun,
    request: Request,
    api: Api,
    metrics_since: Since = 0,
    log_offset: Offset = 0,
) -> EventSourceResponse:
    """Events `run`, `metrics` and `log` as they come; `end` with the run when it is over."""
    shown = ""

    def look() -> tuple[list[tuple[str, BaseModel]], bool]:
        nonlocal shown, metrics_since, log_offset
        events: list[tuple[str, BaseModel]] = []
        # The run first: what it reported before it ended is then read below.
        current = api.runs.get(run.id)
        metrics = api.runs.metrics(run.id, metrics_since)
        log = api.runs.logs(run.id, log_offset, MAX_LOG_READ)
        # As text: a NaN among the metrics is unequal to itself.
        text = current.model_dump_json()
        if text != shown:
            events.append(("run", current))
            shown = text
        if metrics.points:
            events.append(("metrics", metrics))
            metrics_since = metrics.next_since
        if log.text:
            events.append(("log", log))
            log_offset = log.next_offset
        over = current.state.is_terminal and not metrics.points and log.complete
        if over:
            events.append(("end", current))
        return events, over

    return stream(api.live, topic(run.id), look, partial(identify, request))


@router.get("/runs/{run_id}/lineage")
def run_lineage(run: ReadableRun, api: Api) -> Lineage:
    return api.lineages.of_run(run.id)
