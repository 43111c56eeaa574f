"""One trial of a sweep: the user's `train(ctx)` on a thread of its own, in a worker of the sweep.

A worker serves one trial after another. Nothing here knows Ray: the sweep asks a trial for its
next result and tells it to stop.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas.assignments import trial_storage
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.jobs import Job, JobLog, JobMetrics, JobStarted, JobStopped, JobSucceeded
from aiaas_hub.schemas.runs import ParamValue, Progress, RunError
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.failures import TrainingFailed, log
from aiaas_magics.runtime.logs import LogShipper
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.usage import UsageSampler

if TYPE_CHECKING:
    from aiaas_magics.runtime.snapshot import Code

_POLL_SECONDS = 0.05
_VALUE = "value"
STOP_SECONDS = 20.0
"""How long a trial that is told to stop may take to come to its next report."""


@dataclass(frozen=True)
class Shared:
    """What the trials of one sweep have in common. It travels, so it holds no secret."""

    api: str
    run_id: str
    """The sweep's."""
    token_file: str
    storage: str
    """The sweep's directory."""
    metric: str
    waits: bool
    """Whether a report waits until the sweep has seen the one before, to stop a trial in time."""


@dataclass(frozen=True)
class Result:
    """A report of the sweep's metric, or the end of the trial, which repeats the last value."""

    value: float | None
    reports: int
    done: bool = False


class TrialStopped(SystemExit):
    """Ends `train` at a report: an exit, so that no `except Exception` of the user takes it."""


class TrialsFailed(AiaasError):
    """No trial of a sweep succeeded; `.error` is what the first one said."""

    code = "trials_failed"
    status = 409

    def __init__(self, error: RunError, failed: int) -> None:
        message = f"All {failed} trials failed" if failed > 1 else "The trial failed"
        super().__init__(f"{message}, the first with: {error.message}", remedy=error.remedy)
        self.error = RunError(message=self.message, remedy=error.remedy, traceback=error.traceback)


class Trial:
    """Begins at the first `next`. Its end is told to the service, save that of a failure: whether
    a failed trial is tried again is the sweep's business."""

    def __init__(self, shared: Shared, number: int, params: Mapping[str, ParamValue]) -> None:
        self._shared = shared
        self._number = number
        self._params = dict(params)
        self._results: queue.Queue[Result | TrainingFailed] = queue.Queue(maxsize=1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"aiaas-trial-{number}", daemon=True)

    def next(self, timeout: float) -> Result | None:
        """The next result, None if there is none yet. Raises `TrainingFailed`."""
        if not self._thread.ident:
            self._thread.start()
        try:
            result = self._results.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(result, TrainingFailed):
            raise result
        return result

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """End the trial at its next report; whether it has ended within `timeout` seconds."""
        self._stopping.set()
        if self._thread.ident:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Ray lets every library's INFO through to the log; Python's own default is better there.
        logging.getLogger().setLevel(logging.WARNING)
        reporter = _Reporter(self._shared, self._results, self._stopping)
        last: Result | TrainingFailed
        try:
            self._train(reporter)
            last = Result(reporter.value, reporter.reports, done=True)
        except RunOver:
            # It was cancelled by itself; the sweep goes on without it.
            last = Result(reporter.value, reporter.reports, done=True)
        except TrainingFailed as failed:
            last = failed
        except BaseException as error:
            last = TrainingFailed.of(error, 0, ())
        # A result may be in the way that nobody has taken, or ever will of a trial told to stop.
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(last, timeout=_POLL_SECONDS)
                return

    def _train(self, reporter: _Reporter) -> None:
        shared = self._shared
        directory = trial_storage(Path(shared.storage), self._number)
        sweep = JobApi(shared.api, shared.run_id, Path(shared.token_file))
        try:
            begun = sweep.begin_trial(self._number, self._params)
            if begun.state.is_terminal:
                # A driver that died had not written down that it was over, nor what it came to.
                reporter.value = _value(directory)
                return
            api = sweep.of_trial(begun)
        finally:
            sweep.close()
        began = _began(directory)
        logs = LogShipper(_appending(api, directory))
        sender = MetricSender(self._sending(api), attempt_began=began)
        usage = UsageSampler(api.send_usage, 0)
        usage.start()
        reporter.sender = sender
        job: Job | None = None
        files: tuple[str, ...] = ()
        end: JobSucceeded | JobStopped | None = None
        try:
            job = api.job()
            files = (job.snapshot.entry,)
            unpacked = snapshot.fetch(api, job.snapshot)
            files = snapshot.own_files(unpacked, job.snapshot)
            code = snapshot.load(unpacked, job.snapshot)
            files = code.files
            self._call(code, job, api, reporter, directory)
            _keep(directory / _VALUE, repr(reporter.value))
            end = JobSucceeded()
        except TrialStopped:
            end = JobStopped()
        except RunOver:
            raise
        except BaseException as error:
            # Whole here, for the log; the sweep gets the text, as user exceptions may not pickle.
            failed = TrainingFailed.of(error, 0, files, job)
            log(failed.error)
            raise failed from None
        finally:
            usage.close()
            sender.close()
            # The log is complete before the trial is: nobody reads on after the end.
            logs.close()
            with contextlib.closing(api):
                if end is not None:
                    api.event(end)

    def _sending(self, api: JobApi) -> Callable[[JobMetrics], None]:
        def send(batch: JobMetrics) -> None:
            try:
                api.send_metrics(batch)
            except RunOver:
                # Somebody cancelled this trial alone.
                self._stopping.set()
                raise

        return send

    def _call(
        self, code: Code, job: Job, api: JobApi, reporter: _Reporter, directory: Path
    ) -> None:
        from aiaas_magics.runtime.context import Context, entered
        from aiaas_magics.runtime.surroundings import LocalSurroundings

        context = Context(job, api, reporter, LocalSurroundings(directory))
        api.event(JobStarted())
        with entered(context):
            code.call(context)
        if reporter.value is None:
            metric = self._shared.metric
            known = ", ".join(sorted(reporter.names)) or "nothing"
            raise InvalidInput(
                f"The trial did not report {metric!r}, the sweep's metric; it reported: {known}.",
                remedy=f"Write ctx.report({metric}=…) in train(ctx), or choose another --metric.",
            )


class _Reporter:
    """Where a trial's metrics go: all of them to the service, the sweep's own to the sweep."""

    def __init__(
        self,
        shared: Shared,
        results: queue.Queue[Result | TrainingFailed],
        stopping: threading.Event,
    ) -> None:
        self._shared = shared
        self._results = results
        self._stopping = stopping
        self.sender: MetricSender | None = None
        self.value: float | None = None
        """The last one of the sweep's metric."""
        self.reports = 0
        """Of the sweep's metric."""
        self.names: set[str] = set()

    def progress(self, progress: Progress) -> None:
        if self.sender is not None:
            self.sender.progress(progress)

    def flush(self) -> None:
        if self.sender is not None:
            self.sender.flush()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        if self.sender is not None:
            self.sender.put(step, values)
        if self._stopping.is_set():
            raise TrialStopped
        self.names.update(values)
        if self._shared.metric not in values:
            return
        self.value = values[self._shared.metric]
        self.reports += 1
        result = Result(self.value, self.reports)
        if not self._shared.waits:
            # Only the newest is of interest, and training does not wait for its being seen.
            with contextlib.suppress(queue.Full):
                self._results.put_nowait(result)
            return
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(result, timeout=_POLL_SECONDS)
                return
        raise TrialStopped


def _began(directory: Path) -> float:
    """When the trial was begun first: one that is tried again numbers its metrics from there."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "began"
    if not file.exists():
        _keep(file, repr(time.time()))
    return float(file.read_text())


def _value(directory: Path) -> float | None:
    """What a trial came to that ended by itself; None of one that was cancelled."""
    file = directory / _VALUE
    return float(file.read_text()) if file.exists() else None


def _keep(file: Path, text: str) -> None:
    """All of it, or none."""
    aside = file.with_name(f".{file.name}")
    aside.write_text(text)
    aside.rename(file)


def _appending(api: JobApi, directory: Path) -> Callable[[JobLog], None]:
    """Sends a log after what the same trial has written when it was tried before."""
    file = directory / "log-bytes"
    base = int(file.read_text()) if file.exists() else 0

    def send(piece: JobLog) -> None:
        offset = base + piece.offset
        api.send_log(JobLog(offset=offset, text=piece.text))
        _keep(file, str(offset + len(piece.text.encode())))

    return send
