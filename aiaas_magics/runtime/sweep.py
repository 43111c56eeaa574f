"""A sweep: Ray Tune decides which trials run and which stop; each is a run of its own.

What has been begun and what it came to is written down in the sweep's directory, so that a driver
that takes the sweep up again after the former one died goes on where that one was.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.jobs import Job, JobFailed, JobStarted, JobStopped
from aiaas_hub.schemas.runs import ParamValue, RunError, SweepSpec
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.diagnosis import Failure, diagnose
from aiaas_magics.runtime.failures import TrainingFailed
from aiaas_magics.runtime.ledger import Journal, Ledger, say, shown
from aiaas_magics.runtime.recognisers import CERTAIN_DEATHS, DEATHS
from aiaas_magics.runtime.search import search_of
from aiaas_magics.runtime.trial import Result, Shared, Trial

_VALUE = "value"
_REPORTS = "reports"
_OVER = "over"
"""Of a trial that came to its end by itself; Tune's own `done` is said of stopped ones, too."""
_LOOK_SECONDS = 1.0
"""How long a worker waits for a trial's next result before it listens to Tune again."""
_MOST_REPORTS = 1_000_000
"""ASHA ends trials at its last rung; no trial is to end for that."""
_ENVIRONMENT = {
    # Trials report to the service; Tune's own files of results have no reader.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A worker answers without the metric while a trial is busy.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Failures are told in a sentence, and once.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A worker may have to wait for a trial to come to its next report.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",
    # Files that a cell names are relative to where the run's workers start, as everywhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class Sweep:
    """Runs the sweep that `job` is. Ray is connected when it is made."""

    def __init__(self, job: Job, assignment: Assignment, api: JobApi) -> None:
        if job.sweep is None:
            raise InvalidInput("The run does not say what it sweeps.", remedy="Submit it again.")
        if job.resources.workers > 1:
            raise InvalidInput(
                f"A trial of this sweep would take {job.resources.workers} workers, and a trial "
                "has one.",
                remedy="Leave --workers out, and give --concurrency for trials side by side.",
            )
        self._job = job
        self._spec: SweepSpec = job.sweep
        self._shared = Shared(
            api=assignment.api,
            run_id=job.run_id,
            token_file=str(assignment.token_file),
            storage=str(assignment.storage),
            metric=job.sweep.metric,
            waits=job.sweep.scheduler != "none",
        )
        self._api = api
        self._asked = threading.Event()

    def ask_to_stop(self) -> None:
        """End the running trials at their next report, and begin no other."""
        self._asked.set()

    def run(self) -> None:
        """Raises `InvalidInput` if the sweep cannot run, `TrialsFailed` if no trial succeeded."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        job, spec = self._job, self._spec
        journal = Journal(Path(self._shared.storage) / "sweep.jsonl")
        search = search_of(spec, job.run_id)
        ledger = Ledger(journal, search, spec)
        for number, params in journal.begun.items():
            search.known(number, params)
            if number in journal.ended:
                search.finished(number, journal.ended[number])
        self._api.event(JobStarted())
        if not ledger.left:
            ledger.conclude()
            return
        reporting = Reporting(ledger, self._api)
        per_trial = {"cpu": job.resources.cpus_per_worker, "gpu": job.resources.gpus_per_worker}
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(SweepWorker, shared=self._shared),
                {name: amount for name, amount in per_trial.items() if amount},
            ),
            tune_config=tune.TuneConfig(
                metric=_VALUE,
                mode=spec.mode,
                search_alg=NumberedSearch(ledger),
                scheduler=_scheduler(spec),
                num_samples=len(ledger.left),
                max_concurrent_trials=self._concurrency(),
                time_budget_s=job.time_limit,
                # A worker's start costs seconds; all trials are of one user's one sweep.
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=self._shared.storage,
                failure_config=tune.FailureConfig(max_failures=job.retries),
                callbacks=[reporting],
                stop=_Stopper(self._asked, ledger),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            # A worker that was ended before its trial came to its next report has told nothing.
            for number, params in reporting.stopped:
                reporting.tell(number, params, JobStopped())
        if self._asked.is_set():
            raise RunOver("the sweep was asked to stop.")
        ledger.conclude()

    def _concurrency(self) -> int:
        """As many trials as were asked for, or as many as fit on the only node there is."""
        asked = self._spec.concurrency
        if len([node for node in ray.nodes() if node["Alive"]]) > 1:
            return asked
        there = ray.cluster_resources()
        resources = self._job.resources
        fits = asked
        for unit, each in (("CPU", resources.cpus_per_worker), ("GPU", resources.gpus_per_worker)):
            if each:
                fits = min(fits, int(there.get(unit, 0) / each))
        # What does not fit at all was refused before.
        return max(fits, 1)


class SweepWorker(tune.Trainable):  # type: ignore[misc]  # Ray's types are not followed
    """An actor of Tune that runs one trial after another."""

    def setup(self, config: dict[str, Any], shared: Shared) -> None:
        self._shared = shared
        self._take(config)

    def _take(self, config: Mapping[str, Any]) -> None:
        self._last: Result | None = None
        self._current = Trial(self._shared, config["number"], config["params"])

    def step(self) -> dict[str, Any]:
        result = self._current.next(_LOOK_SECONDS)
        if result is None:
            return {}
        answer: dict[str, Any] = {_REPORTS: result.reports, "done": result.done, _OVER: result.done}
        # Of a trial's end Tune wants to know the value once more.
        if result.value is not None:
            answer[_VALUE] = result.value
        return answer

    def reset_config(self, config: dict[str, Any]) -> bool:
        if not self._current.stop():
            return False
        self._take(config)
        return True

    def cleanup(self) -> None:
        self._current.stop()

    def save_checkpoint(self, directory: str) -> None:
        """`ctx.checkpoint()` keeps a trial's state by itself."""

    def load_checkpoint(self, checkpoint: object) -> None:
        """Likewise."""


class _OfThisProcess:
    """Tune writes its settings down before it begins, for a restore that no sweep asks for."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class NumberedSearch(_OfThisProcess, Searcher):  # type: ignore[misc]  # likewise
    """Gives Tune the ledger's next trial."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        begun = self._ledger.begin()
        if begun is None:
            return str(Searcher.FINISHED)
        number, params = begun
        return {"number": number, "params": params}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """`Reporting` learns it, too, and of failures more."""

    def save(self, checkpoint_path: str) -> None:
        # Tune wants a file; what there is to know is in the journal.
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a sweep goes on by its journal."""


class Reporting(_OfThisProcess, tune.Callback):  # type: ignore[misc]  # likewise
    """Keeps the ledger, and tells the service of trials that failed."""

    def __init__(self, ledger: Ledger, api: JobApi) -> None:
        self._ledger = ledger
        self._api = api
        self.stopped: list[tuple[int, dict[str, ParamValue]]] = []
        """Trials that did not come to their end by themselves."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, params = _of(trial)
        say(f"trial {number} begins: {shown(params)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        if _VALUE in result:
            self._ledger.report(_of(trial)[0], result[_VALUE])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, params = _of(trial)
        value = self._ledger.end(number)
        over = bool((trial.last_result or {}).get(_OVER))
        if not over:
            self.stopped.append((number, params))
        said = f"trial {number} {'is over' if over else 'was stopped early'}"
        say(said if value is None else f"{said}: {value:.4g}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number, params = _of(trial)
        failure = failure_of(trial)
        self._ledger.end(number, failure)
        say(f"trial {number} failed: {failure.message}")
        self.tell(number, params, JobFailed(error=failure))

    def tell(
        self, number: int, params: dict[str, ParamValue], event: JobFailed | JobStopped
    ) -> None:
        """A repeat, or telling it of a trial that is over, does nothing."""
        with contextlib.suppress(RunOver):  # the sweep itself is over
            begun = self._api.begin_trial(number, params)
            if begun.state.is_terminal:
                return
            with contextlib.closing(self._api.of_trial(begun)) as trial:
                trial.event(event)


class _Stopper(_OfThisProcess, tune.Stopper):  # type: ignore[misc]  # likewise
    def __init__(self, asked: threading.Event, ledger: Ledger) -> None:
        self._asked = asked
        self._ledger = ledger

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._asked.is_set() or self._ledger.hopeless


def _scheduler(spec: SweepSpec) -> ASHAScheduler | None:
    if spec.scheduler == "none":
        return None
    return ASHAScheduler(time_attr=_REPORTS, max_t=_MOST_REPORTS, grace_period=1)


def _of(trial: Any) -> tuple[int, dict[str, ParamValue]]:
    return trial.config["number"], trial.config["params"]


def _name(trial: Any) -> str:
    return f"trial-{_of(trial)[0]}"


def failure_of(trial: Any) -> RunError:
    """Why one of Ray Tune's trials failed."""
    # Tune has just written it, here; it comes to the sweep's directory later.
    file = trial.pickled_error_file
    error = ray.cloudpickle.loads(Path(file).read_bytes()) if file else None
    # A RayTaskError around its cause, or what Ray says of a dead worker.
    told = getattr(error, "cause", error)
    if isinstance(told, TrainingFailed):
        return told.error
    known = None if told is None else diagnose(Failure(told), (*CERTAIN_DEATHS, *DEATHS))
    return RunError(
        message=f"The trial's worker died{f': {known.sentence}' if known else ''}.",
        remedy="If it ran out of memory, use a smaller batch or a lower --concurrency; add "
        "--retries 1 to go on from the trial's last ctx.checkpoint().",
    )
