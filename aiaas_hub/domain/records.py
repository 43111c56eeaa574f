"""What the domain asks of the records, as Protocols.

Each method is one transaction. A call that cannot get the database in bounded time raises
`Unavailable` and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from aiaas_hub.domain.downsampling import Curve
from aiaas_hub.domain.forecasting import Past
from aiaas_hub.domain.holdings import Contender
from aiaas_hub.domain.traffic import Shift
from aiaas_hub.schemas.endpoints import (
    Change,
    Endpoint,
    EndpointState,
    EndpointVersion,
    Key,
    Sleep,
)
from aiaas_hub.schemas.models import Card, Model, ModelVersion
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import (
    EventFiles,
    MetricPoint,
    PinnedDataset,
    Progress,
    Run,
    RunError,
    RunKind,
    RunState,
    WorkerUsage,
)


class BlobGrants(Protocol):
    """Who uploaded what: knowing a hash is not enough to use its content."""

    def grant(self, owner: str, digest: str) -> None: ...

    def granted(self, owner: str, digest: str) -> bool: ...


class RequestRecords(Protocol):
    """What was asked with which idempotency key, for a day."""

    def claim(self, user: str, address: str, key: str, body: str, now: datetime) -> bool:
        """Whether the user sent nothing else with this key to this address (both hashed)."""


@dataclass(frozen=True)
class LiveRun:
    """A run that is not over, with what only the reconciler needs."""

    run: Run
    submitted_at: datetime | None
    cancel_requested: bool
    ended_at: datetime | None
    """When the engine was first seen to have ended this attempt without a report."""

    pending_at: datetime | None
    """When the engine last said that the job waits for its turn there."""
    unseen_since: datetime | None
    """Since when the engine could not be asked about this attempt."""
    used_at: datetime | None
    """When a worker last told what it uses."""
    stop_error: RunError | None
    """Set once the service has decided to end this attempt: the error that it will have."""

    @property
    def submission_id(self) -> str:
        return f"{self.run.id}-{self.run.attempt}"


@dataclass(frozen=True)
class RunFilter:
    """Which runs to list; trials only where kind or parent ask for them."""

    states: Sequence[RunState] = ()
    """Empty: any."""
    kind: RunKind | None = None
    name: str | None = None
    parent: str | None = None


class RunRecords(Protocol):
    def add(self, run: Run, idempotency_key: str | None, trial: int | None = None) -> Run:
        """The run, or the one that the same owner added with this key before, or the same sweep
        with this number of a trial."""

    def get(self, run_id: str) -> Run | None: ...

    def page(self, owner: str, which: RunFilter, cursor: str | None, limit: int) -> Page[Run]: ...

    def started(self) -> Sequence[LiveRun]:
        """Every run that is started and not over, and those to be cancelled in the queue, oldest
        first; no trials."""

    def live(self, run_id: str) -> LiveRun | None:
        """None for a run that is over."""

    def contenders(self) -> Sequence[Contender]:
        """The runs that hold resources or wait for them, oldest first."""

    def last_starts(self, since: datetime) -> dict[str, datetime]:
        """When a run of each owner was last started; owners without one since then are left
        out."""

    def start_times(self, limit: int, warm: bool | None = None) -> Sequence[timedelta]:
        """Of the newest runs that started: from submission to the engine to the first worker. With
        `warm`, only of those for which workers waited, or did not."""

    def past(self, limit: int) -> Sequence[Past]:
        """How long the newest runs took that are over; no trials."""

    def unparented(self) -> Sequence[tuple[LiveRun, Run | None]]:
        """Trials to be ended: those of sweeps that are over, with the sweep, and those that
        someone cancelled."""

    def count_live(self, owner: str) -> int:
        """Without trials."""

    def count_queued(self, owner: str) -> int: ...

    def transition(
        self,
        run_id: str,
        attempt: int,
        expected: Sequence[RunState],
        new: RunState,
        *,
        next_attempt: int | None = None,
        **values: Any,
    ) -> Run | None:
        """Set state and columns if state and attempt are as expected; None if they are not."""

    def update(self, run_id: str, attempt: int, **values: Any) -> None:
        """Set columns of a run that is not over; nothing happens to one that is."""

    def append_metrics(
        self,
        run_id: str,
        attempt: int,
        sequence: int,
        points: Sequence[MetricPoint],
        progress: Progress | None = None,
    ) -> bool:
        """False if this attempt is not the current one of a live run. Raises `TooLarge` beyond
        what is kept of a run."""

    def metrics(self, run_id: str, since: int, limit: int) -> tuple[Sequence[MetricPoint], int]:
        """Points from index `since` on and the index to go on with."""

    def curves(self, run_id: str) -> tuple[dict[str, Curve], int]:
        """All points by metric, and the index to go on with."""

    def add_usage(
        self, run_id: str, attempt: int, samples: Sequence[WorkerUsage], at: datetime
    ) -> bool:
        """Keep the latest of each worker; False if this attempt is not a live run's current."""

    def set_made(self, run_id: str, attempt: int, datasets: Sequence[PinnedDataset]) -> None:
        """Keep which versions a live run's current attempt has made."""

    def add_event_files(self, run_id: str, files: EventFiles) -> bool:
        """Keep them, in the place of the same worker's of the same attempt; False if this attempt
        is not a live run's current one."""

    def log_base(self, run_id: str, attempt: int) -> int | None:
        """Byte at which this attempt's log begins; None unless it is a live run's current one."""


class ModelRecords(Protocol):
    def get(self, owner: str, name: str, version: int | None = None) -> Model | None: ...

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Model]: ...

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The last one that the run handed over."""

    def evaluation(self, version: ModelVersion) -> str:
        """Digest of the version's held-out rows."""

    def add_version(
        self, version: ModelVersion, evaluation: str, idempotency_key: str | None
    ) -> ModelVersion:
        """Append a version (its number is assigned here). Content that the newest version has
        already gives that version again, and so does a key that was given before."""

    def set_alias(self, owner: str, name: str, alias: str, version: int | None) -> bool:
        """Give the alias to a version, or with None to nobody; False where there is no such model,
        version or alias."""

    def set_card(self, owner: str, name: str, version: int, card: Card) -> None: ...


@dataclass(frozen=True)
class Deployment:
    """An endpoint's version with what serving it takes."""

    owner: str
    endpoint: str
    info: EndpointVersion
    serving_name: str
    """Triton model name."""

    @property
    def version(self) -> int:
        return self.info.version


class EndpointRecords(Protocol):
    def get(self, owner: str, name: str) -> Endpoint | None:
        """`url` and `signature` are left for the domain to fill in."""

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Endpoint]: ...

    def add_version(
        self,
        owner: str,
        name: str,
        info: EndpointVersion,
        serving_name: str,
        idempotency_key: str | None,
    ) -> Deployment:
        """Append a version (its number is assigned here) of an endpoint that is made if new, or
        give the one that was added with this key before. Raises `Conflict` while another version
        is on its way."""

    def deployments(self, owner: str, name: str) -> Sequence[Deployment]:
        """All versions, newest first."""

    def unsettled(self) -> Sequence[Deployment]:
        """Versions that are on their way, oldest first."""

    def transition(
        self,
        deployment: Deployment,
        expected: EndpointState,
        new: EndpointState,
        **values: Any,
    ) -> Deployment | None:
        """Set state and columns if the state is as expected; None if it is not."""

    def explain(self, deployment: Deployment, reason: str) -> bool:
        """Say what a version on its way waits for; False if that changes nothing."""

    def change(
        self,
        owner: str,
        name: str,
        decide: Callable[[Endpoint], Shift | None],
        *,
        by: str,
        idempotency_key: str | None = None,
    ) -> bool:
        """Make the change that `decide` says of the endpoint as it is, and write it into its
        history; what it raises changes nothing. False where it says None, or this key has changed
        the endpoint before."""

    def changes(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Change]:
        """The history, newest first."""

    def bake(self, deployment: Deployment) -> dict[str, Any] | None:
        """What was kept by `keep_bake`."""

    def keep_bake(self, deployment: Deployment, bake: dict[str, Any]) -> None:
        """Keep what was seen of a canary, while it is one."""

    def retire(self, owner: str, name: str, by: str, why: str = "") -> None:
        """Desired traffic none, every version retired that may be, all keys revoked."""

    def routed(self) -> Sequence[tuple[Endpoint, Sequence[Deployment]]]:
        """Endpoints that have traffic, with all their versions."""

    def set_sleep(self, owner: str, name: str, expected: Sleep | None, new: Sleep | None) -> bool:
        """False, and nothing is changed, where it is not as expected, has no traffic or, to be put
        to sleep, has a version that is on its way or to be judged."""

    def count_serving(self, owner: str) -> int: ...


class KeyRecords(Protocol):
    """Keys of endpoints. Raises `NotFound` where there is no such endpoint."""

    def add(self, owner: str, name: str, key: Key, idempotency_key: str | None) -> Key:
        """Raises `Conflict` beyond the number of keys that an endpoint may have."""

    def page(self, owner: str, name: str, cursor: str | None, limit: int) -> Page[Key]: ...

    def revoke(self, owner: str, name: str, key_id: str, at: datetime) -> Key | None: ...

    def revoked(self, owner: str, name: str, now: datetime) -> Sequence[str]:
        """Ids of keys that are revoked and have not expired yet."""

    def limited(self, owner: str, name: str, now: datetime) -> Sequence[Key]:
        """Valid keys that have a rate of their own."""
