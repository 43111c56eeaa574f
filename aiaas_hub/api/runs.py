"""Runs, as their owners see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse

from aiaas_hub.api.idempotency import IdempotencyKey
from aiaas_hub.api.identity import Caller, Scope, identify
from aiaas_hub.api.live import Next, stream
from aiaas_hub.api.services import DEFAULT_LIMIT, Api, Cursor, Limit
from aiaas_hub.domain.records import RunFilter
from aiaas_hub.domain.runs import MAX_LOG_READ, MAX_METRICS_READ, topic
from aiaas_hub.schemas.errors import NotFound
from aiaas_hub.schemas.lineage import Lineage
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import (
    MAX_INTEGER,
    LogChunk,
    Metrics,
    Run,
    RunCreate,
    RunKind,
    RunPlan,
    RunResume,
    RunState,
)

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
def submit_run(body: RunCreate, caller: Caller, api: Api, idempotency_key: IdempotencyKey) -> Run:
    caller.require(Scope.RUNS_WRITE, caller.user)
    run = api.runs.submit(caller.user, body, caller, idempotency_key)
    api.wake()
    return run


@router.post("/runs/plan")
def plan_run(body: RunCreate, caller: Caller, api: Api) -> RunPlan:
    """What would become of this run; changes nothing. Its snapshot need not have been sent."""
    caller.require(Scope.RUNS_WRITE, caller.user)
    return api.runs.plan(caller.user, body, caller)


@router.get("/runs")
def list_runs(
    caller: Caller,
    api: Api,
    owner: str | None = None,
    state: Annotated[list[RunState] | None, Query(max_length=len(RunState))] = None,
    kind: Annotated[RunKind | None, Query(description="Default: all but trials")] = None,
    name: Annotated[str | None, Query(max_length=64)] = None,
    parent: Annotated[str | None, Query(max_length=32, description="Trials of this sweep")] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Run]:
    """Newest first."""
    of = owner or caller.user
    caller.require(Scope.READ, of)
    which = RunFilter(states=state or (), kind=kind, name=name, parent=parent)
    return api.runs.page(of, which, cursor, limit)


@router.get("/runs/{run_id}")
def get_run(run: ReadableRun, api: Api) -> Run:
    return api.runs.show(run.id)


@router.post("/runs/{run_id}/cancel")
def cancel_run(run: WritableRun, api: Api) -> Run:
    cancelled = api.runs.cancel(run.id)
    api.wake()
    return cancelled


@router.post("/runs/{run_id}/resume", status_code=201)
def resume_run(
    run: WritableRun, body: RunResume, caller: Caller, api: Api, idempotency_key: IdempotencyKey
) -> Run:
    """A new run that goes on from the last checkpoint of one that is over, with the same code and
    dataset versions."""
    resumed = api.runs.resume(run, body, caller, idempotency_key)
    api.wake()
    return resumed


@router.get("/runs/{run_id}/logs")
def run_logs(
    run: ReadableRun,
    api: Api,
    offset: Offset = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LOG_READ)] = MAX_LOG_READ,
    tail: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_LOG_READ,
            description="The last so many bytes in whole lines; `offset` is then not looked at",
        ),
    ] = None,
) -> LogChunk:
    return api.runs.logs(run, offset, limit, tail)


@router.get("/runs/{run_id}/event-files/{attempt}/{worker}", response_class=StreamingResponse)
def run_event_files(run: ReadableRun, attempt: int, worker: int, api: Api) -> StreamingResponse:
    """What a worker wrote for TensorBoard, as a zip archive; the run lists what there is."""
    files = api.runs.event_files(run, attempt, worker)
    return StreamingResponse(api.blobs.iterate(files.digest), media_type="application/zip")


@router.get("/runs/{run_id}/metrics")
def run_metrics(
    run: ReadableRun,
    api: Api,
    since: Since = 0,
    points: Annotated[
        int | None,
        Query(
            ge=4,
            le=10_000,
            description="All metrics from the beginning with at most so many points of each, "
            "chosen so that their curves look the same; `since` is then not looked at",
        ),
    ] = None,
) -> Metrics:
    """Points in order from `since` on, or the whole curves downsampled."""
    if points is not None:
        return api.runs.curves(run.id, points)
    return api.runs.metrics(run.id, since)


@router.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def run_events(
    run: ReadableRun,
    request: Request,
    caller: Caller,
    api: Api,
    metrics_since: Since = 0,
    log_offset: Offset = 0,
) -> EventSourceResponse:
    """Events `run`, `metrics` and `log` as they come; `end` with the run when it is over."""
    shown = ""

    def look() -> tuple[list[tuple[str, BaseModel]], Next]:
        nonlocal shown, metrics_since, log_offset
        events: list[tuple[str, BaseModel]] = []
        # The run first: what it reported before it ended is then read below.
        current = api.runs.show(run.id)
        metrics = api.runs.metrics(run.id, metrics_since)
        log = api.runs.logs(current, log_offset, MAX_LOG_READ)
        # As text: a NaN among the metrics is unequal to itself.
        text = current.model_dump_json()
        if text != shown:
            events.append(("run", current))
            shown = text
        if metrics.points:
            events.append(("metrics", metrics))
            metrics_since = metrics.next_since
        # A page of the log ends with a whole character, and so may be a little less than full.
        more = len(metrics.points) == MAX_METRICS_READ
        more = more or log.next_offset - log_offset > MAX_LOG_READ // 2
        if log.text:
            events.append(("log", log))
            log_offset = log.next_offset
        if current.state.is_terminal:
            more = bool(metrics.points or log.text)
            if log.complete and not more:
                return [*events, ("end", current)], Next.NEVER
        return events, Next.AT_ONCE if more else Next.CHANGE

    return stream(api.live, caller.user, topic(run.id), look, partial(identify, request))


@router.get("/runs/{run_id}/lineage")
def run_lineage(run: ReadableRun, caller: Caller, api: Api) -> Lineage:
    return api.lineages.of_run(run.id, caller)
