"""What a run's own job is told and reports, with its run token."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.names import Name
from aiaas_hub.schemas.runs import (
    MAX_INTEGER,
    MAX_PARAMS,
    EarlyStop,
    MetricPoint,
    PackageName,
    PackageVersion,
    ParamName,
    ParamValue,
    PinnedDataset,
    Progress,
    Resources,
    RunError,
    RunKind,
    RunState,
    Sentence,
    Snapshot,
    SweepSpec,
    TimeLimit,
    WorkerUsage,
)
from aiaas_hub.schemas.transforms import TransformSpec


class Job(BaseModel):
    """What a job needs to know to run; `GET …/job`."""

    run_id: str
    attempt: int
    name: Name
    owner: str
    kind: RunKind = RunKind.TRAIN
    resumed_from: str | None = None
    snapshot: Snapshot
    datasets: list[PinnedDataset]
    dataset_digests: list[Digest] = Field(default_factory=list)
    """Content hashes of `datasets`, in their order: a node fetches a content once."""
    params: dict[str, ParamValue]
    resources: Resources
    retries: int
    time_limit: TimeLimit | None = None
    time_left: float | None = None
    """Seconds of `time_limit` that this attempt has left, 0 or more, at the time of the answer."""
    collective_seconds: int = 600
    """How long a worker waits for the others in one step that all of them take."""
    early_stop: EarlyStop | None = None
    sweep: SweepSpec | None = None
    transform: TransformSpec | None = None
    tell_environment: bool = False
    """Whether the service would know what is installed where the job runs."""


class JobEnvironment(BaseModel):
    """What is installed where the job runs; counts from the first who tells it of an attempt,
    before a worker has begun."""

    python: str = Field(max_length=20)
    """`major.minor`."""
    client: str = Field(max_length=100)
    """Version of `aiaas_magics`."""
    packages: dict[PackageName, PackageVersion] = Field(max_length=5000)
    """All distributions."""


class JobMetrics(BaseModel):
    """A batch; `sequence` of the first point makes a repeat harmless. Batches come in order: a
    point whose number is not above those that came before is taken for a repeat."""

    sequence: int = Field(ge=0, le=MAX_INTEGER)
    points: list[MetricPoint] = Field(max_length=10_000)
    progress: Progress | None = None
    """The latest, where the run knows it."""


class JobUsage(BaseModel):
    """Samples of some workers; each replaces the same worker's one before it."""

    samples: list[WorkerUsage] = Field(min_length=1, max_length=1024)


class JobLog(BaseModel):
    """A piece of this attempt's log; a repeat of the same `offset` is dropped."""

    offset: int = Field(ge=0, le=MAX_INTEGER)
    """Bytes of this attempt's log before `text`, in UTF-8."""
    text: str = Field(max_length=1_000_000)


class JobEventFiles(BaseModel):
    """All that a worker has written for TensorBoard, as a zip archive that it uploaded before."""

    worker: int = Field(ge=0)
    digest: Digest


class JobStarted(BaseModel):
    kind: Literal["started"] = "started"


class JobRetrying(BaseModel):
    """Workers died, and new ones go on in the same attempt."""

    kind: Literal["retrying"] = "retrying"
    reason: Sentence


class JobSucceeded(BaseModel):
    kind: Literal["succeeded"] = "succeeded"


class JobFailed(BaseModel):
    kind: Literal["failed"] = "failed"
    error: RunError


class JobStopped(BaseModel):
    """The sweep stopped this trial early: it becomes `cancelled`, with this reason."""

    kind: Literal["stopped"] = "stopped"
    reason: Sentence = "stopped early by the sweep"


JobEvent = Annotated[
    JobStarted | JobRetrying | JobSucceeded | JobFailed | JobStopped,
    Field(discriminator="kind"),
]


class TrialCreate(BaseModel):
    """A trial that a sweep begins, by the sweep's own run token."""

    number: int = Field(ge=0, lt=1000)
    """Counts from 0; a repeat of a number gives the same trial."""
    params: dict[ParamName, ParamValue] = Field(max_length=MAX_PARAMS)
    """All that the trial gets, on top of the sweep's own."""


class Trial(BaseModel):
    """A trial's run, which reports under `/runs/{run_id}/job` with a token of its own."""

    run_id: str
    token: str = Field(repr=False)
    state: RunState
    """Not `running` where the number was begun before and is over."""
