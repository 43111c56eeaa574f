"""Runs on the wire: what users submit and watch."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    model_validator,
)

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.names import Name
from aiaas_hub.schemas.transforms import TransformSpec
from aiaas_hub.schemas.usage import Allowance


class RunState(StrEnum):
    """queued → starting → running → (succeeded | failed | cancelled | lost)."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.LOST})


class RunKind(StrEnum):
    TRAIN = "train"
    SWEEP = "sweep"
    TRIAL = "trial"
    """One trial of a sweep: made by the sweep itself, never queued."""
    TRANSFORM = "transform"
    """Makes dataset versions, not a model."""


class Priority(StrEnum):
    """Orders the runs of one user; between users, those with fewer running workers go first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


MAX_INTEGER = 2**53
"""Larger ones are not exact in every JSON reader, and not storable in every database."""

MAX_PARAMS = 100
"""Of one run."""


def _exact(value: object) -> object:
    # The union would take a large integer for a float, and round it in silence.
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError(f"{value} is too large to be exact; write it as a text")
    return value


Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ParamName = Annotated[str, Field(min_length=1, max_length=256)]
ParamValue = Annotated[
    Annotated[str, Field(max_length=10_000)] | bool | Integer | Finite | None,
    BeforeValidator(_exact),
]
# Cut rather than refused: a failure that cannot be reported is worse than one told in part.
Sentence = Annotated[str, AfterValidator(lambda text: text[:2000])]
Traceback = Annotated[str, AfterValidator(lambda text: text[-20_000:])]
MetricName = Annotated[str, Field(min_length=1, max_length=256)]


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


MetricValue = Annotated[float, PlainSerializer(_json_number, when_used="json")]
"""A loss may well become NaN or infinite. JSON has no such number, so it is written by name
(`"nan"`, `"inf"`, `"-inf"`), which reads back as the number."""


TimeLimit = Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)]
"""Seconds of running, from when the first worker calls `train`; each attempt's begin anew."""


class Resources(BaseModel):
    workers: int = Field(default=1, ge=1, le=1024)
    cpus_per_worker: float = Field(default=1, gt=0, le=1024)
    gpus_per_worker: float = Field(default=0, ge=0, le=64)


PackageName = Annotated[str, Field(min_length=1, max_length=200)]
PackageVersion = Annotated[str, Field(max_length=100)]


class Snapshot(BaseModel):
    """What code runs: a zip blob with `cell.py` (or the script) and `manifest.json`."""

    digest: Digest
    entry: str = "cell.py"
    """Path inside the zip of the file that defines `train(ctx)`."""
    source: str = Field(default="", max_length=100_000)
    """The cell as typed: shown in lineage, never executed by the control plane."""
    python: str
    """`major.minor` of the kernel."""
    client: str
    """Version of `aiaas_magics` that made it."""
    packages: dict[PackageName, PackageVersion] = Field(default_factory=dict, max_length=200)
    """Distributions that the code imports, in the kernel's versions."""


class EarlyStop(BaseModel):
    """Stop once `metric` has not become better for `patience` reports, or is good enough."""

    metric: MetricName
    mode: Literal["min", "max"] = "min"
    """Which way is better."""
    patience: int = Field(default=10, ge=1, le=1_000_000)
    """Reports that hold the metric, without one better than the best so far by `min_delta`."""
    min_delta: float = Field(default=0, ge=0, allow_inf_nan=False)
    threshold: Finite | None = None
    """Stop as soon as the metric is at least as good as this."""


class Distribution(BaseModel):
    """Where a sweep draws a parameter from: `low` and `high` for numbers, else `values`."""

    kind: Literal["uniform", "log", "int", "choice"]
    """`uniform`: low ≤ x < high. `log`: the same, uniform in its logarithm. `int`: whole numbers,
    low ≤ x ≤ high. `choice`: one of `values`."""
    low: Finite | None = None
    high: Finite | None = None
    values: list[ParamValue] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "choice":
            if not self.values or self.low is not None or self.high is not None:
                raise ValueError("a choice takes values, and neither low nor high")
            return self
        if self.values or self.low is None or self.high is None or self.low >= self.high:
            raise ValueError(f"{self.kind} takes low and high, low below high, and no values")
        if self.kind == "log" and self.low <= 0:
            raise ValueError("log takes a low above 0")
        if self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("int takes whole numbers")
        return self


class SweepSpec(BaseModel):
    """What a sweep tries. Its run's `resources` are those of one trial."""

    space: dict[ParamName, Distribution] = Field(min_length=1, max_length=50)
    trials: int = Field(ge=1, le=1000)
    metric: MetricName
    mode: Literal["min", "max"] = "min"
    search: Literal["random", "grid", "bayesian"] = "random"
    scheduler: Literal["none", "asha"] = "none"
    concurrency: int = Field(default=1, ge=1, le=64)
    """Trials that run at the same time."""


class Progress(BaseModel):
    step: int = Field(ge=0, le=MAX_INTEGER)
    total: int | None = Field(default=None, ge=0, le=MAX_INTEGER)
    """None: the run has not said how many steps it takes."""


class WorkerUsage(BaseModel):
    """What one worker's process used when it last looked."""

    worker: int = Field(ge=0, lt=1024)
    """Its rank."""
    host: str = Field(max_length=255)
    cpu_percent: float = Field(ge=0, allow_inf_nan=False)
    """Of one core: two busy cores are 200."""
    memory_bytes: int = Field(ge=0, le=MAX_INTEGER)
    """Resident memory of the process and its children."""
    memory_total_bytes: int = Field(ge=0, le=MAX_INTEGER)
    """Of the host, or of the container where that has a limit."""
    gpu_percent: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    gpu_memory_bytes: int | None = Field(default=None, ge=0, le=MAX_INTEGER)
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class QueuePlace(BaseModel):
    position: int = Field(ge=1)
    """1: next to be started."""
    blocked_by: str
    """What it waits for, in a sentence: the resource, and who holds it."""
    remedy: str = ""
    """How it would start now (`with --workers 1 it would start now`); empty: no way is known."""
    never: bool = False
    """It asks for more than there is in all: no wait starts it."""
    expected_seconds: float | None = None
    """Until its turn, if the runs before it take as long as runs usually do, and no longer than
    their time limits; None: nobody knows."""


class Used(BaseModel):
    used: float
    """Held by the user's runs that are started and not over."""
    limit: float | None = None
    """None: as much as there is."""


class Quota(BaseModel):
    """What one user may hold at the same time."""

    runs: Used
    workers: Used
    gpus: Used


class RunCreate(BaseModel):
    name: Name
    kind: Literal[RunKind.TRAIN, RunKind.SWEEP, RunKind.TRANSFORM] = RunKind.TRAIN
    snapshot: Snapshot
    datasets: list[str] = Field(default_factory=list, max_length=64)
    """References `[owner/]name[@version]`; resolved to exact versions when submitted."""
    params: dict[ParamName, ParamValue] = Field(default_factory=dict, max_length=MAX_PARAMS)
    resources: Resources = Resources()
    retries: int = Field(default=0, ge=0, le=100)
    priority: Priority = Priority.NORMAL
    time_limit: TimeLimit | None = None
    early_stop: EarlyStop | None = None
    sweep: SweepSpec | None = None
    transform: TransformSpec | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.kind is RunKind.SWEEP) != (self.sweep is not None):
            raise ValueError("a run of kind sweep, and no other, says what it sweeps")
        if (self.kind is RunKind.TRANSFORM) != (self.transform is not None):
            raise ValueError("a run of kind transform, and no other, says what it makes")
        if self.transform is not None and len(self.datasets) != 1:
            raise ValueError("a transform is of one dataset")
        return self


class RunResume(BaseModel):
    """What a run that goes on from another's last checkpoint does otherwise."""

    params: dict[ParamName, ParamValue] = Field(default_factory=dict, max_length=MAX_PARAMS)
    """Changed or added ones; the others stay."""
    time_limit: TimeLimit | None = None
    """None: as before."""


class PinnedDataset(BaseModel):
    owner: str
    name: Name
    version: int

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.version}"


class RunError(BaseModel):
    """Why a run failed: a sentence, the next thing to type, and the user's own line."""

    message: Sentence
    remedy: Sentence = ""
    traceback: Traceback = ""


class Environment(BaseModel):
    """What runs find where they are executed."""

    python: str
    """`major.minor`."""
    client: str
    """Version of `aiaas_magics` there."""
    packages: dict[PackageName, PackageVersion | None] = Field(default_factory=dict)
    """The distributions that a snapshot names, in the workers' versions; None: not installed."""
    told_at: datetime | None = None
    """When a run told it that began there; None: the platform knows it by itself."""

    @property
    def is_recent(self) -> bool:
        """Whether code that does not suit it can be refused: somebody may have brought a cluster
        up to date since, and no run would come to tell it."""
        return self.told_at is None or datetime.now(UTC) - self.told_at < timedelta(days=1)


class RunPlan(BaseModel):
    """What would happen to a run if it were submitted now. Nothing has been changed."""

    datasets: list[PinnedDataset]
    """The exact versions that it would get."""
    resources: Resources
    queue: QueuePlace | None = None
    """None: it would start now."""
    quota: Quota
    hours: list[Allowance] = []
    """Those of the owner and of the owner's groups that such a run uses, and that refuse it once
    they are used up."""
    expected_start_seconds: float | None = None
    """From submission to the first worker's call of `train`: until its turn, where it would wait
    (`queue.expected_seconds`), and then the median of the platform's recent starts; None: nobody
    knows."""
    warm: bool = False
    """Whether as many workers as it takes wait already, and suit it."""
    environment: Environment | None = None
    """None: the platform cannot tell."""


class EventFiles(BaseModel):
    """What one worker wrote to `ctx.tensorboard_dir`."""

    attempt: int
    worker: int
    digest: Digest
    """Of a zip archive."""


class Run(BaseModel):
    id: str
    owner: str
    name: Name
    kind: RunKind = RunKind.TRAIN
    parent: str | None = None
    """A trial's sweep."""
    trial: int | None = None
    """A trial's number in its sweep, from 0."""
    resumed_from: str | None = None
    """The run whose last checkpoint this one began with."""
    state: RunState
    reason: str = ""
    """While queued or starting: what it waits for. Of a cancelled trial: why it was stopped."""
    attempt: int
    snapshot: Snapshot
    datasets: list[PinnedDataset]
    params: dict[str, ParamValue]
    resources: Resources
    retries: int
    priority: Priority = Priority.NORMAL
    time_limit: TimeLimit | None = None
    early_stop: EarlyStop | None = None
    sweep: SweepSpec | None = None
    transform: TransformSpec | None = None
    made: list[PinnedDataset] = Field(default_factory=list)
    """The versions that a transform made."""
    event_files: list[EventFiles] = Field(default_factory=list)
    """For TensorBoard, by attempt and worker."""
    created_at: datetime
    started_at: datetime | None = None
    """When the first worker called `train`."""
    finished_at: datetime | None = None
    model: PinnedModel | None = None
    error: RunError | None = None
    last_metrics: dict[str, MetricValue] = Field(default_factory=dict)
    progress: Progress | None = None
    usage: list[WorkerUsage] = Field(default_factory=list)
    """The latest of each worker, by rank."""
    queue: QueuePlace | None = None
    """While queued."""


class MetricPoint(BaseModel):
    step: Integer
    time: Finite
    """Seconds since the epoch, on the worker's clock."""
    values: dict[MetricName, MetricValue] = Field(max_length=200)


class Metrics(BaseModel):
    """Points after `since`, in order; pass `next_since` to go on."""

    points: list[MetricPoint]
    next_since: int
    total: int | None = None
    """Said of downsampled points: how many there are in truth."""


class LogChunk(BaseModel):
    """A run's log from byte `offset`; `complete` is said only of a terminal run."""

    text: str
    next_offset: int
    complete: bool
