"""Runs on the wire: what users submit and watch, and what the job itself reports."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

from aiaas_hub.schemas.blobs import Digest
from aiaas_hub.schemas.models import PinnedModel
from aiaas_hub.schemas.names import Name


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

MAX_INTEGER = 2**53
"""Larger ones are not exact in every JSON reader, and not storable in every database."""


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


class Resources(BaseModel):
    workers: int = Field(default=1, ge=1, le=1024)
    cpus_per_worker: float = Field(default=1, gt=0, le=1024)
    gpus_per_worker: float = Field(default=0, ge=0, le=64)


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


class RunCreate(BaseModel):
    name: Name
    snapshot: Snapshot
    datasets: list[str] = Field(default_factory=list, max_length=64)
    """References `[owner/]name[@version]`; resolved to exact versions when submitted."""
    params: dict[ParamName, ParamValue] = Field(default_factory=dict, max_length=100)
    resources: Resources = Resources()
    retries: int = Field(default=0, ge=0, le=100)


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


class Run(BaseModel):
    id: str
    owner: str
    name: Name
    state: RunState
    reason: str = ""
    """While queued or starting: what it waits for."""
    attempt: int
    snapshot: Snapshot
    datasets: list[PinnedDataset]
    params: dict[str, ParamValue]
    resources: Resources
    retries: int
    created_at: datetime
    started_at: datetime | None = None
    """When the first worker called `train`."""
    finished_at: datetime | None = None
    model: PinnedModel | None = None
    error: RunError | None = None
    last_metrics: dict[str, MetricValue] = Field(default_factory=dict)


class MetricPoint(BaseModel):
    step: Integer
    time: Finite
    """Seconds since the epoch, on the worker's clock."""
    values: dict[MetricName, MetricValue] = Field(max_length=200)


class Metrics(BaseModel):
    """Points after `since`, in order; pass `next_since` to go on."""

    points: list[MetricPoint]
    next_since: int


class LogChunk(BaseModel):
    """A run's log from byte `offset`; `complete` is said only of a terminal run."""

    text: str
    next_offset: int
    complete: bool


class Lineage(BaseModel):
    """What a thing came from, oldest last: endpoint ← model ← run ← code and data."""

    endpoint: str | None = None
    endpoint_version: int | None = None
    model: PinnedModel | None = None
    run: Run | None = None
    datasets: list[PinnedDataset] = Field(default_factory=list)


# What the job reports about itself, with its run token.


class Job(BaseModel):
    """What a job needs to know to run; `GET …/job`."""

    run_id: str
    attempt: int
    name: Name
    owner: str
    snapshot: Snapshot
    datasets: list[PinnedDataset]
    dataset_digests: list[Digest] = Field(default_factory=list)
    """Content hashes of `datasets`, in their order: a node fetches a content once."""
    params: dict[str, ParamValue]
    resources: Resources
    retries: int


class JobMetrics(BaseModel):
    """A batch; `sequence` of the first point makes a repeat harmless."""

    sequence: int = Field(ge=0, le=MAX_INTEGER)
    points: list[MetricPoint] = Field(max_length=10_000)


class JobLog(BaseModel):
    """A piece of this attempt's log; a repeat of the same `offset` is dropped."""

    offset: int = Field(ge=0, le=MAX_INTEGER)
    """Bytes of this attempt's log before `text`, in UTF-8."""
    text: str = Field(max_length=1_000_000)


class JobStarted(BaseModel):
    kind: Literal["started"] = "started"


class JobSucceeded(BaseModel):
    kind: Literal["succeeded"] = "succeeded"


class JobFailed(BaseModel):
    kind: Literal["failed"] = "failed"
    error: RunError


JobEvent = Annotated[JobStarted | JobSucceeded | JobFailed, Field(discriminator="kind")]
