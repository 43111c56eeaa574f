"""Runs: submitting, watching and ending them."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiaas_hub.domain.datasets import Datasets, MayRead
from aiaas_hub.domain.ports import (
    JobState,
    JobStatus,
    JobSubmission,
    Notifier,
    RunLogs,
    TrainingEngine,
)
from aiaas_hub.domain.records import BlobGrants, LiveRun, RunRecords
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.schemas.errors import AiaasError, Conflict, InvalidInput, NotFound, Unavailable
from aiaas_hub.schemas.paging import Page
from aiaas_hub.schemas.platform import EngineState
from aiaas_hub.schemas.runs import LogChunk, Metrics, Run, RunCreate, RunError, RunState

log = logging.getLogger(__name__)

MAX_LOG_READ = 1 << 20
MAX_METRICS_READ = 10_000
REPORT_GRACE = timedelta(seconds=10)
"""How long after its process ended a job's last report may still be on its way."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_run_id() -> str:
    # 31^10 ids: no two runs meet, and nobody guesses one.
    return "run-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


def topic(run_id: str) -> str:
    return f"runs/{run_id}"


@dataclass(frozen=True)
class RunLimits:
    """How many runs may be started and not over."""

    in_all: int
    per_user: int


class Runs:
    def __init__(
        self,
        records: RunRecords,
        datasets: Datasets,
        grants: BlobGrants,
        engine: TrainingEngine,
        logs: RunLogs,
        tokens: RunTokens,
        notifier: Notifier,
        python: str,
        limits: RunLimits,
    ) -> None:
        self._records = records
        self._datasets = datasets
        self._grants = grants
        self._engine = engine
        self._logs = logs
        self._tokens = tokens
        self._notifier = notifier
        self._python = python
        self._limits = limits

    def submit(
        self, owner: str, request: RunCreate, may_read: MayRead, idempotency_key: str | None
    ) -> Run:
        """Write the intent; the reconciler does the rest."""
        if request.snapshot.python != self._python:
            raise InvalidInput(
                f"The notebook runs Python {request.snapshot.python} and the platform's workers "
                f"{self._python}: code does not travel between the two.",
                remedy=f"Choose a kernel with Python {self._python}.",
            )
        if not self._grants.granted(owner, request.snapshot.digest):
            raise NotFound("There is no such snapshot.", remedy="Submit the cell again.")
        run = Run(
            id=new_run_id(),
            owner=owner,
            name=request.name,
            state=RunState.QUEUED,
            reason=self._engine_reason(),
            attempt=1,
            snapshot=request.snapshot,
            datasets=self._datasets.resolve(request.datasets, owner, may_read),
            params=request.params,
            resources=request.resources,
            retries=request.retries,
            created_at=datetime.now(UTC),
        )
        return self._records.add(run, idempotency_key)

    def get(self, run_id: str) -> Run:
        """Raises `NotFound`."""
        run = self._records.get(run_id)
        if run is None:
            raise NotFound("There is no such run.", remedy="See %aiaas runs.")
        return run

    def page(self, owner: str, cursor: str | None, limit: int) -> Page[Run]:
        return self._records.page(owner, cursor, limit)

    def cancel(self, run_id: str) -> Run:
        """Ask a run to stop; one that is over stays as it is."""
        run = self.get(run_id)
        if run.state.is_terminal:
            return run
        self._records.update(run.id, run.attempt, cancel_requested=True, reason="cancelling")
        self._notifier.notify(topic(run_id))
        return self.get(run_id)

    def logs(self, run_id: str, offset: int, limit: int) -> LogChunk:
        # The state is read first: a log that grows between the two is then read again, never cut.
        state = self.get(run_id).state
        text, next_offset = self._logs.read(run_id, offset, min(limit, MAX_LOG_READ))
        complete = state.is_terminal and next_offset >= self._logs.size(run_id)
        return LogChunk(text=text, next_offset=next_offset, complete=complete)

    def metrics(self, run_id: str, since: int) -> Metrics:
        points, next_since = self._records.metrics(run_id, since, MAX_METRICS_READ)
        return Metrics(points=list(points), next_since=next_since)

    # Reconciling: each step may be repeated after a crash at any line.

    def advance_all(self) -> int:
        """Bring every run a step nearer to where it is going; how many are not over.

        One that cannot be advanced does not hold up the others.
        """
        live = self._records.live()
        started = Counter(one.run.owner for one in live if one.run.state is not RunState.QUEUED)
        for one in live:
            try:
                waits_for = self._admission(one, started)
                if waits_for:
                    self._say(one, waits_for)
                    continue
                self.advance(one)
                if one.run.state is RunState.QUEUED:
                    started[one.run.owner] += 1
            except Unavailable as error:
                log.info("Run %s waits: %s", one.run.id, error.message)
            except Exception:
                log.exception("Run %s cannot be advanced", one.run.id)
        return len(live)

    def _admission(self, live: LiveRun, started: Counter[str]) -> str:
        """Why a queued run is not started yet. Each one started is a process on the head, so
        their number is bounded, and no user takes all the places."""
        if live.run.state is not RunState.QUEUED or live.cancel_requested:
            return ""
        if started[live.run.owner] >= self._limits.per_user:
            return f"waits for one of your {started[live.run.owner]} runs to end"
        if started.total() >= self._limits.in_all:
            return f"waits for one of {started.total()} runs to end"
        return ""

    def advance(self, live: LiveRun) -> None:
        """Bring one run a step nearer to where it is going."""
        run = live.run
        if live.cancel_requested and run.state is RunState.QUEUED:
            self._end(live, RunState.CANCELLED)
        elif run.state is RunState.QUEUED:
            self._start(live)
        elif live.submitted_at is None and not live.cancel_requested:
            self._submit(live)
        else:
            self._observe(live)

    def _engine_reason(self) -> str:
        health = self._engine.health()
        return "" if health.state is EngineState.READY else health.reason

    def _start(self, live: LiveRun) -> None:
        run = live.run
        reason = self._engine_reason()
        if reason:
            self._say(live, reason)
            return
        if self._records.transition(
            run.id, run.attempt, [RunState.QUEUED], RunState.STARTING, reason="starting workers"
        ):
            self._notifier.notify(topic(run.id))
            self._submit(live)

    def _submit(self, live: LiveRun) -> None:
        run = live.run
        try:
            self._engine.submit(
                JobSubmission(
                    id=live.submission_id,
                    owner=run.owner,
                    resources=run.resources,
                    token=self._tokens.make(run.id, run.attempt),
                )
            )
        except Unavailable as error:
            self._say(live, error.message)
            return
        except AiaasError as error:
            self._end(live, RunState.FAILED, RunError(message=error.message, remedy=error.remedy))
            return
        self._records.update(run.id, run.attempt, submitted_at=datetime.now(UTC))

    def _observe(self, live: LiveRun) -> None:
        try:
            if live.cancel_requested:
                self._engine.stop(live.submission_id)
            status = self._engine.status(live.submission_id)
        except Unavailable as error:
            self._say(live, error.message)
            return
        if status is None:
            if live.cancel_requested:
                self._end(live, RunState.CANCELLED)
            else:
                self._retry_or(
                    live,
                    RunState.LOST,
                    RunError(
                        message="The Ray head that ran this was lost.",
                        remedy="Submit it again; with --retries it goes on from its checkpoint.",
                    ),
                )
        elif status.state is JobState.PENDING:
            self._say(live, status.message)
        elif status.state is JobState.STOPPED and live.cancel_requested:
            self._end(live, RunState.CANCELLED)
        elif status.state is not JobState.RUNNING:
            self._ended(live, status)

    def _ended(self, live: LiveRun, status: JobStatus) -> None:
        """The process is over, and its report has not come: success is never inferred."""
        now = datetime.now(UTC)
        if live.ended_at is None:
            self._records.update(live.run.id, live.run.attempt, ended_at=now)
        elif live.cancel_requested:
            self._end(live, RunState.CANCELLED)
        elif now - live.ended_at >= REPORT_GRACE:
            last_words = status.message or "its log may say why"
            self._retry_or(
                live,
                RunState.FAILED,
                RunError(
                    message="The job ended without reporting a result.",
                    remedy=f"Read its log: %aiaas logs {live.run.id}",
                    traceback=last_words,
                ),
            )

    def _retry_or(self, live: LiveRun, state: RunState, error: RunError) -> None:
        run = live.run
        if run.attempt > run.retries:
            self._end(live, state, error)
            return
        self._records.transition(
            run.id,
            run.attempt,
            [run.state],
            RunState.QUEUED,
            next_attempt=run.attempt + 1,
            reason=f"attempt {run.attempt} was lost; going on from its checkpoint",
            submitted_at=None,
            ended_at=None,
            log_base=self._logs.size(run.id),
        )
        self._notifier.notify(topic(run.id))

    def _end(self, live: LiveRun, state: RunState, error: RunError | None = None) -> None:
        self._records.transition(
            live.run.id,
            live.run.attempt,
            [live.run.state],
            state,
            reason="",
            finished_at=datetime.now(UTC),
            error=None if error is None else error.model_dump(),
        )
        self._notifier.notify(topic(live.run.id))

    def _say(self, live: LiveRun, reason: str) -> None:
        if reason and reason != live.run.reason:
            self._records.update(live.run.id, live.run.attempt, reason=reason)
            self._notifier.notify(topic(live.run.id))


def require_live(run: Run, attempt: int) -> None:
    """Raise `Conflict` unless this attempt of the run is the current one and not over."""
    if run.state.is_terminal or run.attempt != attempt:
        raise Conflict("This attempt of the run is over.", remedy="Stop.")
