"""What a run's user is told when workers of it failed and others take their place."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.jobs import Job, JobRetrying
from aiaas_hub.schemas.runs import RunError
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime.failures import explain
from aiaas_magics.runtime.logs import LogShipper


class Retries:
    """Tells in the run's log and, by `send`, as the run's reason. The run does not wait for it."""

    def __init__(self, job: Job, logs: LogShipper, send: Callable[[JobRetrying], None]) -> None:
        self._job = job
        self._logs = logs
        self._send = send

    def tell(self, problem: BaseException, count: int | None, from_checkpoint: bool) -> None:
        """Workers begin again after `problem`, for the `count`th time in this attempt; None where
        it takes nothing from the run's retries."""
        error = explain(problem, self._job, self._logs.last_words)
        # The words of those that are gone say nothing of the next ones.
        self._logs.forget_words()
        reason = said(error, self._job, count, from_checkpoint)
        remedy = f" If that fails, too: {error.remedy}" if error.remedy else ""
        self._logs.write(f"[aiaas] {reason}{remedy}\n".encode(errors="backslashreplace"))
        event = JobRetrying(reason=reason)
        threading.Thread(
            target=self._report, args=(event,), name="aiaas-retry", daemon=True
        ).start()

    def _report(self, event: JobRetrying) -> None:
        # Of a run that is over the workers learn it themselves.
        with contextlib.suppress(AiaasError, RunOver):
            self._send(event)


def said(error: RunError, job: Job, count: int | None, from_checkpoint: bool) -> str:
    """What went wrong, and how the run goes on."""
    how = "Going on from its checkpoint" if from_checkpoint else "Beginning again"
    # Attempts before this one have used up theirs.
    number = "" if count is None else f" (retry {job.attempt - 1 + count} of {job.retries})"
    return f"{error.message.rstrip('.')}. {how}{number}."
