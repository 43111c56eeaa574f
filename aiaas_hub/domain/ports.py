"""What the domain needs from the world, as Protocols.

Each port has an adapter per world (local, Kubernetes) and one contract suite in
`tests/contract` that runs on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aiaas_hub.schemas.drift import InputReference
from aiaas_hub.schemas.endpoints import ModelFigures, Precision, ServingOptions
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.models import Signature
from aiaas_hub.schemas.platform import EngineHealth
from aiaas_hub.schemas.runs import Resources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.generic]]

DEFAULT_OPTIONS = ServingOptions()


class JobState(StrEnum):
    """What an engine says of a job. An engine's word alone never makes a run a success."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    """The process is over with exit status 0."""
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    """What ran it is gone: it did not end, and reports no more."""


@dataclass(frozen=True)
class JobStatus:
    state: JobState
    message: str = ""
    """Pending: what it waits for. Failed: the last words. Lost: a sentence that says how."""


@dataclass(frozen=True)
class JobSubmission:
    """One attempt of a run, as handed to a training engine."""

    id: str
    """Deterministic (`<run id>-<attempt>`): submitting it twice starts one job."""
    owner: str
    resources: Resources
    token: str = field(repr=False)
    """The run token. It goes to the job as a file, never in a command line or environment."""
    resumed_from: str | None = None
    """Id of the run whose last checkpoint this one begins with: of a trial its sweep's."""
    resumed_trial: int | None = None
    """The trial's number in that sweep."""
    concurrency: int = 1
    """A sweep's trials at a time, each of which takes `resources`."""


@dataclass(frozen=True)
class Capacity:
    """What a training engine's nodes have in all, in use or not."""

    cpus: float
    gpus: float


class Engine(Protocol):
    """A long-lived program that the service keeps alive."""

    def start(self) -> None:
        """Start it, or adopt the one that runs already; returns before it is ready. A repeat
        does nothing while it lives."""

    def health(self) -> EngineHealth: ...


class TrainingEngine(Engine, Protocol):
    """Runs jobs. Raises `Unavailable` from any call while the engine is not up."""

    def submit(self, job: JobSubmission) -> None:
        """Start the job unless one with this id exists already."""

    def status(self, submission_id: str) -> JobStatus | None:
        """None: this engine knows no such job (never submitted, or lost with the head)."""

    def stop(self, submission_id: str) -> None:
        """Ask the job to stop, then make it; nothing happens if it is over or unknown."""

    def capacity(self) -> Capacity:
        """Infinite where the engine is not ours alone: it then says itself what a job waits
        for."""

    def tend(self, live: Callable[[], Collection[str]]) -> None:
        """Have workers ready for the runs to come, where this engine keeps any in reserve, and
        end old jobs that are none of `live`, the submissions of runs that are not over, where
        jobs outlive the engine's service; called every few seconds."""

    def warm(self, resources: Resources) -> bool:
        """Whether workers wait that suit such a run, and enough of them for it."""


@dataclass(frozen=True)
class StagedVersion:
    """A version directory, complete and hashed, outside the repository's root."""

    model: str
    version: int
    path: Path
    memory: int = 0
    """Bytes that all its instances take, as measured by loading it; 0: not known."""


class DoesNotAnswer(Unavailable):
    """A model that is READY and cannot answer, its process having died: `heal` it. The engine
    itself is up."""


@dataclass(frozen=True)
class ModelCounts:
    """What the model server counted of a version since it was loaded."""

    rows: int
    requests: int
    queue_ns: int
    """Over all requests."""
    runs: int
    compute_ns: int
    """Over all runs."""
    batch_sizes: Mapping[int, int]
    """Rows → runs."""


@dataclass(frozen=True)
class ConvertedModel:
    path: Path
    before: ModelFigures
    after: ModelFigures


class ModelConverter(Protocol):
    def converted(
        self, onnx: Path, precision: Precision, rows: Path, batch: int
    ) -> AbstractContextManager[ConvertedModel]:
        """The model in this precision, with the same inputs and outputs, for as long as the
        context lasts; a repeat makes the same file. Its speed and the source's are measured on
        the held-out `rows`, one by one and in batches of `batch`. Raises `InvalidInput` where it
        cannot be converted."""


class ServingEngine(Engine, Protocol):
    """Triton, as the publish protocol uses it. Raises `Unavailable` while it is not up.

    `model` is a Triton model name made by `domain.endpoints.serving_name`; versions are small
    integers that are never used again.
    """

    def stage(
        self,
        model: str,
        version: int,
        signature: Signature,
        onnx: Path,
        options: ServingOptions = DEFAULT_OPTIONS,
        reference: InputReference | None = None,
    ) -> StagedVersion:
        """Copy `model.onnx` aside, check that it loads and has these inputs and outputs, write a
        hash manifest and fsync. Raises `InvalidInput` when it does not load or does not match.
        A repeat replaces what an interrupted call left. By the bins of `reference` the version's
        inputs are counted, where this engine counts them."""

    def discard(self, staged: StagedVersion) -> None:
        """Delete what `stage` made and nobody installs."""

    def install(self, staged: StagedVersion) -> None:
        """Rename the staged directory into the repository; a repeat does nothing."""

    def memory(self) -> Mapping[tuple[str, int], int]:
        """Bytes that each installed version of a model takes with all its instances, as measured
        when it was staged."""

    def set_versions(
        self,
        model: str,
        signature: Signature,
        versions: Sequence[int],
        options: ServingOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Serve exactly these versions: write the configuration, load, and confirm that the
        READY set is this set. Raises `InvalidInput` with the reason if one does not load; the
        versions that were served before are then served still. Empty: unload the model."""

    def ready_versions(self, model: str) -> set[int]: ...

    def models(self) -> set[str]:
        """Names of all models in the repository."""

    def infer(self, model: str, version: int, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        """Answer of exactly this version. Arrays carry the batch dimension first.

        Raises `InvalidInput` for inputs that do not fit, `NotFound` if the version is not
        served, `DoesNotAnswer` if it is and its process has died."""

    def counts(self, model: str) -> Mapping[int, ModelCounts]:
        """By version, of those that are served."""

    def input_reference(self, model: str, version: int) -> InputReference | None:
        """As the version was staged with it; None where its inputs are not counted."""

    def input_counts(self) -> Mapping[tuple[str, int], NDArray[np.int64]]:
        """By model and version: rows of callers since the engine started, `[features, places]` as
        `InputBins` has them. What is not there was not seen."""

    def heal(self, model: str) -> None:
        """Restart the instances of a model that is READY and does not answer."""

    def require(self) -> None:
        """Raise `Unavailable` with a remedy if this engine can never be up on this machine."""

    def installed_versions(self, model: str) -> set[int]:
        """Versions whose files are in the repository."""

    def remove(self, model: str, version: int | None = None) -> None:
        """Delete a version's files; raises `Conflict` while it is served. None: unload the whole
        model and delete it."""


@dataclass(frozen=True)
class RouteTarget:
    """One version's share of an endpoint's traffic."""

    model: str
    """Triton model name."""
    version: int
    percent: int
    """0: by its exact version only."""
    timeout_seconds: float | None = None
    """None: the gateway's own limit."""


@dataclass(frozen=True)
class VersionTraffic:
    """What the gateway counted of one version's inference since it started, or since the version
    last came onto a route; of a shadow, of the copies that it got. Calls of an exact version are
    not in it."""

    requests: int
    errors: int
    """HTTP 5xx."""
    refused: int
    """HTTP 4xx from the model server."""
    latencies: Mapping[float, int]
    """Milliseconds → requests that took at most so long."""


@dataclass(frozen=True)
class Route:
    """What the gateway does with `/{owner}/{endpoint}/v2/…`."""

    owner: str
    endpoint: str
    targets: Sequence[RouteTarget]
    """Their percents sum to 100."""
    audience: str
    """`aud` that a key must carry: `owner/endpoint`."""
    revoked: Sequence[str] = ()
    """`jti`s of keys that are refused although their signature still holds."""
    rates: Mapping[str, int] = field(default_factory=dict)
    """`jti` → most requests per second."""
    sticky: bool = False
    """Whether what a caller sends always comes to the same version."""
    shadow: RouteTarget | None = None
    """Gets a copy of `percent` of the requests that the targets share; nobody gets its answers."""
    asleep: bool = False
    """Whether none of the targets is loaded: who calls wakes them, and waits."""


class Gateway(Engine, Protocol):
    """The data path. Applying the same routes again changes nothing."""

    wakes: bool
    """Whether an endpoint may sleep here: callers of one wake it and wait."""

    @property
    def url(self) -> str: ...

    def apply(self, routes: Sequence[Route]) -> None:
        """Make these the routes, all at once."""

    def traffic(self) -> Mapping[tuple[str, int], VersionTraffic]:
        """Per Triton model and version that has a share or is a shadow. Raises `Unavailable`
        while it is not up."""

    def metrics(self) -> bytes:
        """The same and more, in Prometheus' text form. Raises `Unavailable`."""


class RunLogs(Protocol):
    """Logs of runs, in bytes of UTF-8; bounded per run."""

    def append(self, run_id: str, position: int, text: str) -> None:
        """Write `text` at byte `position`; what is there already is dropped, and a gap is
        marked. Raises `InvalidInput` for a gap too large to be one."""

    def size(self, run_id: str) -> int: ...

    def read(self, run_id: str, offset: int, limit: int) -> tuple[str, int]:
        """Text from byte `offset`, at most `limit` bytes, and the offset after it."""


class Signer(Protocol):
    """Signs endpoint keys that the gateway verifies by itself."""

    def sign(
        self, audience: str, jti: str, subject: str, expires_at: datetime, scope: str = "infer"
    ) -> str: ...


class Notifier(Protocol):
    """Tells whoever watches an object that it changed."""

    def notify(self, topic: str) -> None: ...
