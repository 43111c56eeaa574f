"""Runs: submitting, planning, resuming, looking at and cancelling them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from aiaas_hub.domain.access import Asker
from aiaas_hub.domain.admission import Admission
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.downsampling import downsample
from aiaas_hub.domain.environments import Environments
from aiaas_hub.domain.ports import Notifier, RunLogs
from aiaas_hub.domain.records import BlobGrants, RunFilter, RunRecords
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.runs import (
    MAX_PARAMS,
    EventFiles,
    LogChunk,
    Metrics,
    ParamValue,
    Run,
    RunCreate,
    RunKind,
    RunPlan,
    RunResume,
    RunState,
)

MAX_LOG_READ = 1 << 20
MAX_METRICS_READ = 10_000

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_run_id() -> str:
    # 31^10 ids: no two runs meet, and nobody guesses one.
    return "run-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


def topic(run_id: str) -> str:
    return f"runs/{run_id}"


class Runs:
    def __init__(
        self,
        records: RunRecords,
        admission: Admission,
        datasets: Datasets,
        grants: BlobGrants,
        logs: RunLogs,
        notifier: Notifier,
        python: str,
        environments: Environments,
    ) -> None:
        self._records = records
        self._admission = admission
        self._datasets = datasets
        self._grants = grants
        self._logs = logs
        self._notifier = notifier
        self._python = python
        self._environments = environments

    def submit(
        self, owner: str, request: RunCreate, asker: Asker, idempotency_key: str | None
    ) -> Run:
        """Write the intent; the reconciler does the rest."""
        self._require_same_python(request)
        if not self._grants.granted(owner, request.snapshot.digest):
            raise NotFound("There is no such snapshot.", remedy="Submit the cell again.")
        self._admission.require_possible(owner, request)
        self._admission.require_room(request)
        datasets = self._datasets.resolve(request.datasets, owner, asker)
        run = Run(
            id=new_run_id(),
            owner=owner,
            state=RunState.QUEUED,
            attempt=1,
            created_at=datetime.now(UTC),
            **{**dict(request), "datasets": datasets},
        )
        return self._placed(self._records.add(run, idempotency_key))

    def plan(self, owner: str, request: RunCreate, asker: Asker) -> RunPlan:
        """What would become of this run. Its snapshot need not have been sent; what submitting
        it would refuse is refused here too, save more than there is: `queue.never` says that."""
        self._require_same_python(request)
        self._admission.require_possible(owner, request)
        datasets = self._datasets.resolve(request.datasets, owner, asker)
        place, quota = self._admission.judge(owner, request)
        warm = self._admission.warm(request)
        return RunPlan(
            datasets=datasets,
            resources=request.resources,
            queue=place,
            quota=quota,
            hours=self._admission.hours(owner, request),
            expected_start_seconds=self._admission.seconds_to_start(place, warm),
            warm=warm,
            environment=self._environments.of(request.snapshot.packages),
        )

    def resume(self, run: Run, change: RunResume, asker: Asker, idempotency_key: str | None) -> Run:
        """A new run that goes on from the last checkpoint of one that is over: the same snapshot,
        dataset versions and resources. A trial goes on as a run of its own; a sweep, which has
        no checkpoint, does not.

        Raises `NotFound` for a dataset that may not be read any more.
        """
        if not run.state.is_terminal:
            raise Conflict(
                f"The run is {run.state}: only one that is over can be gone on with.",
                remedy=f"Wait for its end, or cancel it: %aiaas cancel {run.id}",
            )
        if run.kind is RunKind.SWEEP:
            raise Conflict(
                "A sweep has no checkpoint to go on from: its trials have, which are runs.",
                remedy="Go on with one of them, sweep.best.resume(), or submit the sweep's cell "
                "again.",
            )
        if run.kind is RunKind.TRANSFORM:
            raise Conflict(
                "A transform has no checkpoint to go on from: it makes all or nothing.",
                remedy="Submit its cell again.",
            )
        self._datasets.require_readable(run.datasets, run.owner, asker)
        request = RunCreate(
            name=run.name,
            snapshot=run.snapshot,
            params=merged_params(run.params, change.params),
            resources=run.resources,
            retries=run.retries,
            priority=run.priority,
            time_limit=change.time_limit or run.time_limit,
            early_stop=run.early_stop,
        )
        self._require_same_python(request)
        self._admission.require_possible(run.owner, request)
        self._admission.require_room(request)
        resumed = Run(
            id=new_run_id(),
            owner=run.owner,
            state=RunState.QUEUED,
            attempt=1,
            created_at=datetime.now(UTC),
            resumed_from=run.id,
            **{**dict(request), "datasets": run.datasets},
        )
        return self._placed(self._records.add(resumed, idempotency_key))

    def get(self, run_id: str) -> Run:
        """Without its place in the queue. Raises `NotFound`."""
        run = self._records.get(run_id)
        if run is None:
            raise NotFound("There is no such run.", remedy="See %aiaas runs.")
        return run

    def show(self, run_id: str) -> Run:
        """With its place in the queue. Raises `NotFound`."""
        return self._placed(self.get(run_id))

    def page(self, owner: str, which: RunFilter, cursor: str | None, limit: int) -> Page[Run]:
        page = self._records.page(owner, which, cursor, limit)
        return Page(items=self._admission.placed(page.items), next_cursor=page.next_cursor)

    def cancel(self, run_id: str) -> Run:
        """Ask a run to stop; one that is over stays as it is. A run that succeeds before it has
        stopped has succeeded: what is done is not thrown away."""
        run = self.get(run_id)
        if run.state.is_terminal:
            return run
        self._records.update(run.id, run.attempt, cancel_requested=True, reason="cancelling")
        self._notifier.notify(topic(run_id))
        return self.get(run_id)

    def event_files(self, run: Run, attempt: int, worker: int) -> EventFiles:
        for files in run.event_files:
            if (files.attempt, files.worker) == (attempt, worker):
                return files
        raise NotFound(
            "This worker of the run has written no files for TensorBoard.",
            remedy="The run lists those that have: event_files.",
        )

    def logs(self, run: Run, offset: int, limit: int, tail: int | None = None) -> LogChunk:
        """From byte `offset`, or whole lines from the last `tail` bytes.

        `run` as it was read before: a log that has grown since is then read again, never cut.
        """
        if tail is not None:
            offset = max(0, self._logs.size(run.id) - tail)
        text, next_offset = self._logs.read(run.id, offset, min(limit, MAX_LOG_READ))
        if tail is not None and offset:
            _, newline, rest = text.partition("\n")
            text = rest if newline else text
        complete = run.state.is_terminal and next_offset >= self._logs.size(run.id)
        return LogChunk(text=text, next_offset=next_offset, complete=complete)

    def metrics(self, run_id: str, since: int) -> Metrics:
        points, next_since = self._records.metrics(run_id, since, MAX_METRICS_READ)
        return Metrics(points=list(points), next_since=next_since)

    def curves(self, run_id: str, points: int) -> Metrics:
        """All of the run's metrics with at most `points` of each, which look the same."""
        curves, end = self._records.curves(run_id)
        total = max((len(curve.steps) for curve in curves.values()), default=0)
        return Metrics(points=downsample(curves, points), next_since=end, total=total)

    def _placed(self, run: Run) -> Run:
        return self._admission.placed([run])[0]

    def _require_same_python(self, request: RunCreate) -> None:
        told = self._environments.of(())
        there = told.python if told is not None and told.is_recent else self._python
        if request.snapshot.python != there:
            raise InvalidInput(
                f"The notebook runs Python {request.snapshot.python} and the platform's workers "
                f"{there}: code does not travel between the two.",
                remedy=f"Choose a kernel with Python {there}.",
            )


def merged_params(
    params: Mapping[str, ParamValue], changes: Mapping[str, ParamValue]
) -> dict[str, ParamValue]:
    """`changes` over `params`. Raises `InvalidInput` if they are too many together."""
    merged = {**params, **changes}
    if len(merged) > MAX_PARAMS:
        raise InvalidInput(
            f"Together these are {len(merged)} parameters, and a run has at most {MAX_PARAMS}.",
            remedy="Add fewer new ones.",
        )
    return merged


def require_live(run: Run, attempt: int) -> None:
    """Raise `Conflict` unless this attempt of the run is the current one and not over."""
    if run.state.is_terminal or run.attempt != attempt:
        raise Conflict("This attempt of the run is over.", remedy="Stop.")
