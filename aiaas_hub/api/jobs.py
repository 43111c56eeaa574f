"""What a job asks for and reports, with its run token and about its own run only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from aiaas_hub.api import auditing
from aiaas_hub.api.bearer import bearer
from aiaas_hub.api.services import Api
from aiaas_hub.schemas.audit import Via
from aiaas_hub.schemas.datasets import Dataset
from aiaas_hub.schemas.errors import Unauthenticated
from aiaas_hub.schemas.jobs import (
    Job,
    JobEnvironment,
    JobEvent,
    JobEventFiles,
    JobLog,
    JobMetrics,
    JobUsage,
    Trial,
    TrialCreate,
)
from aiaas_hub.schemas.models import ModelHandOver, ModelVersion
from aiaas_hub.schemas.runs import Run
from aiaas_hub.schemas.transforms import TransformResult

router = APIRouter(prefix="/runs/{run_id}/job", tags=["jobs"])


@dataclass(frozen=True)
class JobCaller:
    run: Run
    attempt: int


async def _job(run_id: str, request: Request, api: Api) -> JobCaller:
    run, attempt = await anyio.to_thread.run_sync(api.jobs.authenticate, bearer(request.scope))
    if run.id != run_id:
        # Another run's token is worth nothing here, whoever owns the two.
        raise Unauthenticated("The run token is not valid.")
    await auditing.begin(request, run.owner, Via.RUN, run.owner)
    return JobCaller(run, attempt)


Reporting = Annotated[JobCaller, Depends(_job)]


@router.get("")
def describe_job(job: Reporting, api: Api) -> Job:
    return api.jobs.describe(job.run)


@router.get("/snapshot", response_class=StreamingResponse)
def job_snapshot(job: Reporting, api: Api) -> StreamingResponse:
    content = api.blobs.iterate(job.run.snapshot.digest)
    return StreamingResponse(content, media_type="application/zip")


@router.get("/datasets/{index}/data", response_class=StreamingResponse)
def job_dataset(index: int, job: Reporting, api: Api) -> StreamingResponse:
    content = api.blobs.iterate(api.jobs.dataset(job.run, index))
    return StreamingResponse(content, media_type="application/vnd.apache.parquet")


@router.put("/environment", status_code=204)
def tell_job_environment(body: JobEnvironment, job: Reporting, api: Api) -> Response:
    """What is installed where the job runs; kept of an attempt's first word only, and where the
    job is asked for it (`tell_environment`)."""
    api.jobs.tell_environment(job.run, body)
    return Response(status_code=204)


@router.post("/metrics", status_code=204)
def add_job_metrics(body: JobMetrics, job: Reporting, api: Api) -> Response:
    api.jobs.add_metrics(job.run, job.attempt, body)
    return Response(status_code=204)


@router.post("/usage", status_code=204)
def add_job_usage(body: JobUsage, job: Reporting, api: Api) -> Response:
    """The latest sample of each worker is kept; there is no history."""
    api.jobs.add_usage(job.run, job.attempt, body)
    return Response(status_code=204)


@router.post("/trials")
def begin_trial(body: TrialCreate, job: Reporting, api: Api) -> Trial:
    """A sweep begins a trial; a repeat with the same number gives the same one."""
    return api.trials.begin(job.run, body)


@router.post("/log", status_code=204)
def add_job_log(body: JobLog, job: Reporting, api: Api) -> Response:
    api.jobs.add_log(job.run, job.attempt, body)
    return Response(status_code=204)


@router.post("/events", status_code=204)
def report_job_event(body: JobEvent, job: Reporting, api: Api) -> Response:
    """409 tells the job that its attempt is over and that it should stop."""
    api.jobs.report(job.run, job.attempt, body)
    api.wake()
    return Response(status_code=204)


@router.put("/datasets")
def commit_made_datasets(body: TransformResult, job: Reporting, api: Api) -> list[Dataset]:
    """Make the versions that a transform is for; a repeat gives the same ones."""
    return api.transforms.commit(job.run, job.attempt, body)


@router.put("/event-files", status_code=204)
def keep_event_files(body: JobEventFiles, job: Reporting, api: Api) -> Response:
    """What a worker wrote for TensorBoard; a later call of the same worker replaces it."""
    api.jobs.add_event_files(job.run, job.attempt, body)
    return Response(status_code=204)


@router.put("/model")
def hand_over_model(body: ModelHandOver, job: Reporting, api: Api) -> ModelVersion:
    return api.jobs.hand_over(job.run, body)
