"""What a job tells about itself and asks for, with its run token."""

from __future__ import annotations

from datetime import UTC, datetime

from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.environments import Environments
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import Notifier, RunLogs
from aiaas_hub.domain.records import BlobGrants, RunRecords
from aiaas_hub.domain.runs import require_live, topic
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.schemas.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from aiaas_hub.schemas.jobs import (
    Job,
    JobEnvironment,
    JobEvent,
    JobEventFiles,
    JobFailed,
    JobLog,
    JobMetrics,
    JobRetrying,
    JobStarted,
    JobStopped,
    JobSucceeded,
    JobUsage,
)
from aiaas_hub.schemas.models import ModelHandOver, ModelVersion
from aiaas_hub.schemas.runs import EventFiles, Run, RunError, RunKind, RunState


class Jobs:
    def __init__(
        self,
        records: RunRecords,
        datasets: Datasets,
        models: Models,
        logs: RunLogs,
        tokens: RunTokens,
        grants: BlobGrants,
        notifier: Notifier,
        environments: Environments,
        collective_seconds: int,
    ) -> None:
        self._records = records
        self._datasets = datasets
        self._models = models
        self._logs = logs
        self._tokens = tokens
        self._grants = grants
        self._notifier = notifier
        self._environments = environments
        self._collective_seconds = collective_seconds

    def authenticate(self, token: str) -> tuple[Run, int]:
        """The live run and the attempt that this token stands for.

        Raises `Unauthenticated` for a token that is not ours and `Conflict` for one whose attempt
        is over, which tells a job that was cancelled to stop.
        """
        claimed = self._tokens.check(token)
        run = None if claimed is None else self._records.get(claimed[0])
        if claimed is None or run is None:
            raise Unauthenticated("The run token is not valid.")
        require_live(run, claimed[1])
        return run, claimed[1]

    def describe(self, run: Run) -> Job:
        return Job(
            run_id=run.id,
            attempt=run.attempt,
            name=run.name,
            owner=run.owner,
            kind=run.kind,
            resumed_from=run.resumed_from,
            snapshot=run.snapshot,
            datasets=run.datasets,
            dataset_digests=[self._datasets.content(pinned) for pinned in run.datasets],
            params=run.params,
            resources=run.resources,
            retries=run.retries,
            time_limit=run.time_limit,
            time_left=_time_left(run),
            collective_seconds=self._collective_seconds,
            early_stop=run.early_stop,
            sweep=run.sweep,
            transform=run.transform,
            tell_environment=self._environments.asks,
        )

    def tell_environment(self, run: Run, environment: JobEnvironment) -> None:
        self._environments.tell(run, environment)

    def dataset(self, run: Run, index: int) -> str:
        """Digest of the content of the run's dataset at this place in its list."""
        if not 0 <= index < len(run.datasets):
            raise NotFound("The run has no such dataset.")
        return self._datasets.content(run.datasets[index])

    def add_metrics(self, run: Run, attempt: int, batch: JobMetrics) -> None:
        if not self._records.append_metrics(
            run.id, attempt, batch.sequence, batch.points, batch.progress
        ):
            raise _over()
        self._notifier.notify(topic(run.id))

    def add_usage(self, run: Run, attempt: int, usage: JobUsage) -> None:
        workers = run.resources.workers
        if any(sample.worker >= workers for sample in usage.samples):
            raise InvalidInput(f"The run's workers are 0 to {workers - 1}.")
        if not self._records.add_usage(run.id, attempt, usage.samples, datetime.now(UTC)):
            raise _over()
        self._notifier.notify(topic(run.id))

    def add_log(self, run: Run, attempt: int, piece: JobLog) -> None:
        base = self._records.log_base(run.id, attempt)
        if base is None:
            raise _over()
        self._logs.append(run.id, base + piece.offset, piece.text)
        self._notifier.notify(topic(run.id))

    def add_event_files(self, run: Run, attempt: int, files: JobEventFiles) -> None:
        """In the place of what the same worker of this attempt told before."""
        if files.worker >= run.resources.workers:
            raise InvalidInput(f"The run's workers are 0 to {run.resources.workers - 1}.")
        if not self._grants.granted(run.owner, files.digest):
            raise NotFound("There is no such upload.", remedy="Upload the files again.")
        kept = EventFiles(attempt=attempt, worker=files.worker, digest=files.digest)
        if not self._records.add_event_files(run.id, kept):
            raise _over()

    def hand_over(self, run: Run, model: ModelHandOver) -> ModelVersion:
        return self._models.add_version(
            run.owner, run.name, model, uploader=run.owner, run_id=run.id
        )

    def report(self, run: Run, attempt: int, event: JobEvent) -> None:
        """Raises `Conflict` if the attempt is over: a terminal state is never left."""
        now = datetime.now(UTC)
        ongoing = [RunState.STARTING, RunState.RUNNING]
        if isinstance(event, JobStarted):
            if run.state is RunState.RUNNING:
                return
            changed = self._records.transition(
                run.id, attempt, [RunState.STARTING], RunState.RUNNING, started_at=now, reason=""
            )
        elif isinstance(event, JobRetrying):
            # Of the same attempt, which keeps its state, its place and its time limit.
            self._records.update(run.id, attempt, reason="", retry_reason=event.reason)
            changed = run
        else:
            state, reason, error = self._ending(run, event)
            changed = self._records.transition(
                run.id,
                attempt,
                ongoing,
                state,
                finished_at=now,
                reason=reason,
                error=None if error is None else error.model_dump(),
            )
        if changed is None:
            raise _over()
        self._notifier.notify(topic(run.id))
        if run.parent is not None:
            self._notifier.notify(topic(run.parent))

    def _ending(
        self, run: Run, event: JobSucceeded | JobFailed | JobStopped
    ) -> tuple[RunState, str, RunError | None]:
        """State, reason and error with which a job ends that reports its end."""
        if isinstance(event, JobSucceeded):
            # One that ended in good order when it was stopped keeps what it made, and says why.
            ended = self._records.live(run.id)
            stopped = ended.stop_error if ended is not None else None
            return RunState.SUCCEEDED, stopped.message if stopped else "", None
        if isinstance(event, JobStopped):
            if run.kind is not RunKind.TRIAL:
                raise InvalidInput("Only a trial can be stopped early by its sweep.")
            return RunState.CANCELLED, event.reason, None
        live = self._records.live(run.id)
        if live is not None and live.cancel_requested:
            # It fell over what stopped it, which is not a failure of the user's code.
            return RunState.CANCELLED, "", None
        if live is not None and live.stop_error is not None:
            return RunState.FAILED, "", live.stop_error
        return RunState.FAILED, "", event.error


def _time_left(run: Run) -> float | None:
    """Of the attempt's time limit: an attempt counts from its first worker's first start."""
    if run.time_limit is None or run.state is not RunState.RUNNING or run.started_at is None:
        return run.time_limit
    return max(0.0, run.time_limit - (datetime.now(UTC) - run.started_at).total_seconds())


def _over() -> Conflict:
    return Conflict("This attempt of the run is over.", remedy="Stop.")
