"""Runs on their way: started, watched and ended. Each step may be repeated after a crash at any
line, since what is to happen is written down before it is done.

What ends an attempt that does not end itself:
  cancelled by its user      the job is stopped, then `cancelled`; a success or failure of its own
                             that the job reports before it has stopped
                             is kept: success stays success, a failure becomes `cancelled`
  over its time limit        it stops itself; after `LIMIT_GRACE` it is stopped, then `failed`
  never started              after `START_LIMIT` it is stopped, then a new attempt or `failed`
  unknown to the engine      a new attempt or `lost`; before its first call of `train` one
  or lost by it              without retries gets one as well, up to `FREE_STARTS` times
  engine out of reach        after `REACH_LIMIT` without a sign of life, a new attempt or `lost`
  ended without a report     after `REPORT_GRACE` a new attempt or `failed`
A trial ends with its sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiaas_hub.domain.admission import Admission
from aiaas_hub.domain.ports import (
    JobState,
    JobStatus,
    JobSubmission,
    Notifier,
    RunLogs,
    TrainingEngine,
)
from aiaas_hub.domain.records import LiveRun, RunRecords
from aiaas_hub.domain.runs import topic
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.schemas.errors import AiaasError, Unavailable
from aiaas_hub.schemas.runs import Run, RunError, RunState

log = logging.getLogger(__name__)

REPORT_GRACE = timedelta(seconds=10)
"""How long after its process ended a job's last report may still be on its way."""
LIMIT_GRACE = timedelta(seconds=60)
"""How long a run may take to stop itself once its time limit is over."""
START_LIMIT = timedelta(minutes=30)
"""How long workers may take to their first call of `train`: from submission, or from when the
engine last said that the job waits for its turn there."""
FREE_STARTS = 2
"""New attempts of a run whose workers have not called `train` yet: a Ray that falls over while it
starts, as on a machine too busy, costs nobody a run."""
PENDING_NOTED = timedelta(seconds=30)
"""How often it is written down that the engine says so."""
REACH_LIMIT = timedelta(minutes=10)
"""How long the engine may be out of reach before what ran there counts as lost."""
_MAX_CAUSE = 500


class Advancing:
    def __init__(
        self,
        records: RunRecords,
        admission: Admission,
        engine: TrainingEngine,
        logs: RunLogs,
        tokens: RunTokens,
        notifier: Notifier,
    ) -> None:
        self._records = records
        self._admission = admission
        self._engine = engine
        self._logs = logs
        self._tokens = tokens
        self._notifier = notifier

    def advance_all(self) -> int:
        """Bring every run a step nearer to where it is going; how many are not over.

        One that cannot be advanced does not hold up the others.
        """
        # First those that may end: what they held is then given away.
        started = self._records.started()
        for live in started:
            self._carefully(self.advance, live)
        for trial, sweep in self._records.unparented():
            self._end_trial(trial, sweep)
        return len(started) + self._admit()

    def advance(self, live: LiveRun) -> None:
        """Bring one run, started or to be cancelled, a step nearer to where it is going."""
        if live.run.state is RunState.QUEUED:
            self._end(live, RunState.CANCELLED)
        elif live.submitted_at is None and not live.cancel_requested:
            self._submit(live)
        else:
            self._observe(live)

    def _admit(self) -> int:
        """Start those whose turn it is; how many were in the queue."""
        queue = self._admission.look()
        reasons = {contender.id: contender.reason for contender in queue.contenders}
        for run_id, verdict in queue.verdicts.items():
            if verdict.place is None:
                live = self._records.live(run_id)
                if live is not None:
                    gap = ", ahead of a bigger run that does not fit yet" * verdict.in_gap
                    # Without a reason of its own a later attempt says why there is one.
                    reason = f"starting workers{gap}" if gap or live.run.attempt == 1 else ""
                    self._carefully(self._start, live, reason)
            elif verdict.place.blocked_by != reasons[run_id]:
                live = self._records.live(run_id)
                if live is not None:
                    self._say(live, verdict.place.blocked_by)
        return len(queue.verdicts)

    def _carefully(self, step: Callable[..., None], live: LiveRun, *arguments: str) -> None:
        try:
            step(live, *arguments)
        except Unavailable as error:
            log.info("Run %s waits: %s", live.run.id, error.message)
        except Exception:
            log.exception("Run %s cannot be advanced", live.run.id)

    def _start(self, live: LiveRun, reason: str) -> None:
        run = live.run
        if self._records.transition(
            run.id, run.attempt, [RunState.QUEUED], RunState.STARTING, reason=reason
        ):
            self._notifier.notify(topic(run.id))
            self._submit(live)

    def _submit(self, live: LiveRun) -> None:
        run = live.run
        resumed = self._records.get(run.resumed_from) if run.resumed_from else None
        warm = self._admission.warm(run)
        try:
            self._engine.submit(
                JobSubmission(
                    id=live.submission_id,
                    owner=run.owner,
                    resources=run.resources,
                    token=self._tokens.make(run.id, run.attempt),
                    resumed_from=(resumed.parent or resumed.id) if resumed else None,
                    resumed_trial=resumed.trial if resumed else None,
                    concurrency=run.sweep.concurrency if run.sweep else 1,
                )
            )
        except Unavailable as error:
            self._say(live, error.message)
            return
        except AiaasError as error:
            self._end(live, RunState.FAILED, RunError(message=error.message, remedy=error.remedy))
            return
        self._records.update(run.id, run.attempt, submitted_at=datetime.now(UTC), warm=warm)

    def _observe(self, live: LiveRun) -> None:
        try:
            status = self._engine.status(live.submission_id)
            pending = status is not None and status.state is JobState.PENDING
            live = self._with_limits(self._noted(live) if pending else live)
            if live.cancel_requested or live.stop_error is not None:
                self._engine.stop(live.submission_id)
                status = self._engine.status(live.submission_id)
        except Unavailable as error:
            self._unseen(self._with_limits(live), error)
            return
        if live.unseen_since is not None:
            self._records.update(live.run.id, live.run.attempt, unseen_since=None, reason="")
        if status is None or status.state is JobState.LOST:
            free = FREE_STARTS if live.run.state is RunState.STARTING else 0
            lost = status.message if status else "The Ray head that ran this was lost."
            self._stopped_or(live, lambda: self._lost(live, lost, free))
        elif status.state is JobState.PENDING:
            self._say(live, status.message)
        elif status.state is JobState.STOPPED:
            self._stopped_or(live, lambda: self._ended(live, status))
        elif status.state is not JobState.RUNNING:
            self._ended(live, status)

    def _noted(self, live: LiveRun) -> LiveRun:
        """Write down that the engine lets the job wait; that time is not the workers'."""
        now = datetime.now(UTC)
        if live.pending_at is None or now - live.pending_at >= PENDING_NOTED:
            self._records.update(live.run.id, live.run.attempt, pending_at=now)
        return replace(live, pending_at=now)

    def _with_limits(self, live: LiveRun) -> LiveRun:
        """Decide whether the attempt has gone on for too long."""
        if live.cancel_requested or live.stop_error is not None:
            return live
        run, now = live.run, datetime.now(UTC)
        error = None
        if run.state is RunState.STARTING:
            since = live.pending_at or live.submitted_at
            if since is not None and now - since >= START_LIMIT:
                error = RunError(
                    message=f"The workers did not start within {duration(START_LIMIT)}.",
                    remedy="See %aiaas and 'aiaas doctor' for the state of Ray, then submit again.",
                )
        elif run.time_limit is not None and run.started_at is not None:
            limit = timedelta(seconds=run.time_limit)
            if now - run.started_at >= limit + LIMIT_GRACE:
                error = over_limit(run)
        if error is None:
            return live
        self._records.update(run.id, run.attempt, stop_error=error.model_dump())
        return replace(live, stop_error=error)

    def _unseen(self, live: LiveRun, error: Unavailable) -> None:
        """The engine cannot be asked. The job may well be alive: its workers' reports say so."""
        run, now = live.run, datetime.now(UTC)
        if live.unseen_since is None:
            self._records.update(run.id, run.attempt, unseen_since=now)
        elif now - max(live.unseen_since, live.used_at or live.unseen_since) >= REACH_LIMIT:
            self._stopped_or(
                live,
                lambda: self._lost(live, f"Ray was out of reach for {duration(REACH_LIMIT)}."),
            )
            return
        self._say(live, error.message)

    def _stopped_or(self, live: LiveRun, otherwise: Callable[[], None]) -> None:
        """The attempt is over. It ends as was intended, where that was what ended it."""
        if live.cancel_requested:
            self._end(live, RunState.CANCELLED)
        elif live.stop_error is None:
            otherwise()
        elif live.run.state is RunState.STARTING:
            self._retry_or(live, RunState.FAILED, live.stop_error)
        else:
            self._end(live, RunState.FAILED, live.stop_error)

    def _lost(self, live: LiveRun, message: str, free: int = 0) -> None:
        remedy = f"%aiaas resume {live.run.id} goes on from its last checkpoint."
        self._retry_or(live, RunState.LOST, RunError(message=message, remedy=remedy), free)

    def _ended(self, live: LiveRun, status: JobStatus) -> None:
        """The process is over, and its report has not come: success is never inferred."""
        now = datetime.now(UTC)
        if live.ended_at is None:
            self._records.update(live.run.id, live.run.attempt, ended_at=now)
        elif now - live.ended_at >= REPORT_GRACE:
            error = RunError(
                message="The job ended without reporting a result.",
                remedy=f"Read its log: %aiaas logs {live.run.id}",
                traceback=status.message or "its log may say why",
            )
            cause = status.message.strip().partition("\n")[0][:_MAX_CAUSE]
            self._stopped_or(
                live, lambda: self._retry_or(live, RunState.FAILED, error, cause=cause)
            )
        elif live.cancel_requested:
            self._end(live, RunState.CANCELLED)

    def _retry_or(
        self, live: LiveRun, state: RunState, error: RunError, free: int = 0, cause: str = ""
    ) -> None:
        """A new attempt if the run's retries, and `free` ones more, are not used up. It says why
        there is one: by `cause`, or else by the error that the run would have had."""
        run = live.run
        if run.attempt > run.retries + free:
            self._end(live, state, error)
            return
        again = going_on(run, cause or error.message)
        self._note(run.id, f"[aiaas] {again}\n")
        self._records.transition(
            run.id,
            run.attempt,
            [run.state],
            RunState.QUEUED,
            next_attempt=run.attempt + 1,
            reason="",
            retry_reason=again,
            submitted_at=None,
            ended_at=None,
            unseen_since=None,
            pending_at=None,
            stop_error=None,
            usage=[],
            log_base=self._logs.size(run.id),
        )
        self._notifier.notify(topic(run.id))

    def _note(self, run_id: str, line: str) -> None:
        """Add a line to the run's log, once if the step is repeated."""
        size, length = self._logs.size(run_id), len(line.encode())
        if self._logs.read(run_id, max(0, size - length), length)[0] != line:
            self._logs.append(run_id, size, line)

    def _end_trial(self, trial: LiveRun, sweep: Run | None) -> None:
        """End a trial as its sweep ended, or because someone cancelled it."""
        if sweep is None or sweep.state is RunState.CANCELLED:
            self._end(trial, RunState.CANCELLED)
        elif sweep.state is RunState.SUCCEEDED:
            self._end(trial, RunState.CANCELLED, reason="the sweep ended before it")
        else:
            error = RunError(
                message=f"Its sweep {sweep.id} ended as {sweep.state}.",
                remedy=f"See %aiaas run {sweep.id}.",
            )
            self._end(trial, sweep.state, error)

    def _end(
        self, live: LiveRun, state: RunState, error: RunError | None = None, reason: str = ""
    ) -> None:
        self._records.transition(
            live.run.id,
            live.run.attempt,
            [live.run.state],
            state,
            reason=reason,
            finished_at=datetime.now(UTC),
            error=None if error is None else error.model_dump(),
        )
        self._notifier.notify(topic(live.run.id))
        if live.run.parent is not None:
            self._notifier.notify(topic(live.run.parent))

    def _say(self, live: LiveRun, reason: str) -> None:
        if reason and reason != live.run.reason:
            self._records.update(live.run.id, live.run.attempt, reason=reason)
            self._notifier.notify(topic(live.run.id))


def going_on(run: Run, cause: str) -> str:
    """Why there is another attempt after this one, and what it begins with."""
    what = "Starting again" if run.state is RunState.STARTING else "Going on from its checkpoint"
    # A free start is none of the run's own retries.
    counted = f" (retry {run.attempt} of {run.retries})" if run.attempt <= run.retries else ""
    return f"Attempt {run.attempt} was lost: {cause.rstrip('.:')}. {what}{counted}."


def over_limit(run: Run) -> RunError:
    """Why a run was ended at its time limit, and how to go on."""
    limit = timedelta(seconds=run.time_limit or 0)
    return RunError(
        message=f"The run was stopped after its time limit of {duration(limit)}.",
        remedy=f"Go on with more time: %aiaas resume {run.id} --time-limit SECONDS",
    )


def duration(time: timedelta) -> str:
    """`90 s`, `30 min`, `2 h 30 min`."""
    seconds = time.total_seconds()
    if seconds < 120 or seconds % 60:
        return f"{seconds:g} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
