"""A run's driver: `python -m aiaas_magics.runtime.driver`.

Where AIAAS_DRIVER names a directory, the driver belongs to a machine's own Ray. It connects,
starts workers, says that it is ready and waits there for its one assignment; a driver that finds
the assignment there already starts what the run asks for. Elsewhere Ray's Jobs start it with the
assignment as AIAAS_ASSIGNMENT. It runs the job with Ray Train, or a sweep with Ray Tune, and tells
the service how that ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.schemas import assignments
from aiaas_hub.schemas.assignments import Assignment, DriverEnd
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.jobs import Job, JobFailed, JobSucceeded
from aiaas_hub.schemas.runs import Resources, RunError, RunKind
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.cache import prune
from aiaas_magics.runtime.failures import TrainingFailed, explain, log, worker_failures
from aiaas_magics.runtime.installed import installed
from aiaas_magics.runtime.logs import LogShipper
from aiaas_magics.runtime.retries import Retries
from aiaas_magics.runtime.surroundings import kept_checkpoint
from aiaas_magics.runtime.trial import TrialsFailed

if TYPE_CHECKING:
    from ray.train import Checkpoint

    from aiaas_magics.runtime.sweep import Sweep
    from aiaas_magics.runtime.trainer import Reserve, RunTrainer

FAILED = 1
OVER = 3
_HEAD_SECONDS = 2.0
STOP_SECONDS = 5.0
"""How long a run that is asked to stop may take to do so by itself."""
_RESUMED = "resumed"
"""Link in a run's storage to that of the run it goes on from."""
_ENVIRONMENT = {
    # Each ray.train.report waits for the controller's poll, 2 s apart unless set. Each poll takes a
    # millisecond or two from every worker.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # It would print every line twice.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # One process less to wait for; a drained node is a failure like others here.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Every line of every worker, without colours: it is a file that is read later.
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Ray Train's own remarks are for its developers.
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # The controller waits for workers inside its own loop; nothing else is to be served there.
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
}


def main() -> int:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    told = os.environ.get("AIAAS_DRIVER")
    if told is None:
        return Driver().run(Assignment.model_validate_json(os.environ["AIAAS_ASSIGNMENT"])).status
    directory = Path(told)
    driver = Driver()
    if not (directory / assignments.ASSIGNMENT).exists():
        driver.prepare(int(os.environ["AIAAS_DRIVER_WORKERS"]))
    end = driver.run(wait_for_assignment(directory))
    # Whole or not at all: half of it would be no end.
    aside = directory / f".{assignments.END}"
    aside.write_text(end.model_dump_json())
    aside.rename(directory / assignments.END)
    return end.status


def wait_for_assignment(directory: Path) -> Assignment:
    """Say that this driver is ready, and sleep until its directory has an assignment."""
    file = directory / assignments.ASSIGNMENT
    # Open for writing as well, so that it never reads as ended.
    wake = os.open(directory / assignments.WAKE, os.O_RDWR | os.O_NONBLOCK)
    (directory / assignments.READY).touch()
    try:
        while not file.exists():
            # Now and then without being woken: who wrote the file may have died right after.
            select.select([wake], [], [], 2.0)
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 1024)
    finally:
        os.close(wake)
    return Assignment.model_validate_json(file.read_text())


class Driver:
    """Runs one run in its life."""

    def __init__(self) -> None:
        self._reserve: Reserve | None = None
        self._trainer: RunTrainer | None = None
        self._sweep: Sweep | None = None
        self._logs: LogShipper | None = None

    def prepare(self, workers: int) -> None:
        """Connect and have `workers` workers ready for whatever run comes."""
        connect()
        # All that a run needs in this process, where its controller is.
        from aiaas_magics.runtime import worker, worker_logs  # noqa: F401  # to have them loaded
        from aiaas_magics.runtime.trainer import Reserve

        self._reserve = Reserve(workers)

    def run(self, assignment: Assignment) -> DriverEnd:
        began = time.time()
        if told := os.environ.get("AIAAS_DRIVER"):
            # From here on a death of this process is one of the run.
            (Path(told) / assignments.BEGUN).touch()
        self._take_signals()
        api = JobApi(assignment.api, assignment.run_id, assignment.token_file)
        self._logs = logs = LogShipper(api.send_log)
        job: Job | None = None
        error: RunError | None = None
        over = False
        try:
            job = api.job()
            if job.tell_environment:
                # Before it is refused for what this tells. What the service does not take of it
                # is no failure of the run.
                with contextlib.suppress(InvalidInput):
                    api.tell_environment(installed())
            snapshot.check(job.snapshot)
            # Once for all workers of this node.
            snapshot.fetch(api, job.snapshot)
            if job.kind is RunKind.SWEEP:
                self._run_sweep(job, assignment, api)
            elif job.kind is RunKind.TRANSFORM:
                self._transform(job, assignment, api, began)
            else:
                self._train(job, assignment, api, began)
        except RunOver as reason:
            print(f"[aiaas] stopping: {reason}", file=sys.stderr)  # noqa: T201 - the run's log
            over = True
        except TrialsFailed as failed:
            error = failed.error
        except AiaasError as problem:
            error = RunError(message=problem.message, remedy=problem.remedy)
        except Exception as problem:
            over = _is_over(problem)
            error = explain(problem, job, logs.last_words)
            if not over and (lost := _lost_by_engine(problem, error, job)):
                # Whether there is another attempt is not ours to say.
                log(error)
                logs.close()
                api.close()
                return DriverEnd(status=FAILED, message=lost)
        # The log is complete before the run is: nobody reads on after the end.
        logs.close()
        if over:
            return DriverEnd(status=OVER)
        try:
            api.event(JobFailed(error=error) if error else JobSucceeded())
        except RunOver:
            return DriverEnd(status=OVER)
        finally:
            api.close()
        with contextlib.suppress(OSError):  # a cache that is not tidied is no failure of a run
            prune()
        if error is not None:
            return DriverEnd(status=FAILED, message=f"{error.message} {error.remedy}")
        return DriverEnd(status=0)

    def _train(self, job: Job, assignment: Assignment, api: JobApi, began: float) -> None:
        import ray

        self._connect()
        alive = [node for node in ray.nodes() if node["Alive"]]
        # Several nodes may become more when they are asked for; one is all that there is.
        if len(alive) == 1:
            check_room(job.resources, ray.cluster_resources())
        assert self._logs is not None  # noqa: S101 - `run` made it
        import ray.train

        from aiaas_magics.runtime.trainer import GroupConfig, RunTrainer
        from aiaas_magics.runtime.worker import train_loop
        from aiaas_magics.runtime.worker_logs import WorkerLogs

        resources = job.resources
        per_worker = {"CPU": resources.cpus_per_worker}
        if resources.gpus_per_worker:
            per_worker["GPU"] = resources.gpus_per_worker
        output = WorkerLogs(self._logs.write)
        try:
            self._trainer = RunTrainer(
                train_loop,
                train_loop_config={
                    "job": job.model_dump_json(),
                    "began": began,
                    "api": assignment.api,
                    "token_file": str(assignment.token_file),
                },
                torch_config=GroupConfig(timeout_s=job.collective_seconds),
                scaling_config=ray.train.ScalingConfig(
                    num_workers=resources.workers,
                    use_gpu=resources.gpus_per_worker > 0,
                    resources_per_worker=per_worker,
                ),
                run_config=ray.train.RunConfig(
                    name=job.run_id,
                    storage_path=str(assignment.storage),
                    failure_config=ray.train.FailureConfig(max_failures=failures_left(job)),
                    # Only the last one is ever restored.
                    checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
                ),
                reserve=self._reserve,
                logs=output,
                flush_log=self._logs.flush,
                first_checkpoint=first_checkpoint(assignment),
                retried=Retries(job, self._logs, api.event).tell,
            )
            self._trainer.fit()
        finally:
            output.close()
            if len(alive) > 1:
                # Ray forwards the words of workers elsewhere, and takes a moment for the last.
                self._logs.settle()

    def _run_sweep(self, job: Job, assignment: Assignment, api: JobApi) -> None:
        self._make_room(job)
        from aiaas_magics.runtime.sweep import Sweep

        self._sweep = Sweep(job, assignment, api)
        self._sweep.run()

    def _transform(self, job: Job, assignment: Assignment, api: JobApi, began: float) -> None:
        self._make_room(job)
        assert self._logs is not None  # noqa: S101 - `run` made it
        from aiaas_magics.runtime.transform import Transform

        Transform(job, assignment, api, began).run(self._logs)

    def _make_room(self, job: Job) -> None:
        """For workers of another kind than those that wait."""
        import ray

        self._connect()
        if len([node for node in ray.nodes() if node["Alive"]]) == 1:
            check_room(job.resources, ray.cluster_resources())
        if self._reserve is not None:
            self._reserve.release()

    def _take_signals(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._stop())

    def _connect(self) -> None:
        connect()
        # Ray takes the signal for itself when it connects.
        self._take_signals()

    def _stop(self) -> None:
        """Ask the run to end by itself, and end it after `STOP_SECONDS` if it has not."""
        threading.Timer(STOP_SECONDS, self._end_now).start()
        if self._trainer is not None:
            self._trainer.ask_to_stop()
        if self._sweep is not None:
            self._sweep.ask_to_stop()

    def _end_now(self) -> None:
        if self._logs is not None:
            self._logs.close(timeout=2)
        # With this process Ray ends its workers.
        os._exit(128 + signal.SIGTERM)


def connect() -> None:
    """Join the cluster at RAY_ADDRESS; a repeat does nothing."""
    import ray

    if ray.is_initialized():
        return
    address = os.environ["RAY_ADDRESS"]
    own = "AIAAS_DRIVER" in os.environ
    ray.init(
        address=address,
        # On a machine's own Ray the workers' output is read from them directly.
        log_to_driver=not own,
        logging_level="WARNING",
        # Workers that look for "the" cluster find none where several run on one machine.
        runtime_env={"env_vars": {"RAY_ADDRESS": address}},
    )


def head_lives() -> bool:
    """Whether the head goes on answering: its death may be seen in its workers' first."""
    import ray

    host, _, port = os.environ["RAY_ADDRESS"].removeprefix("http://").rpartition(":")
    sockets: list[tuple[socket.AddressFamily, str | tuple[str, int]]] = []
    if "AIAAS_DRIVER" in os.environ:
        sockets.append((socket.AF_INET, (host, int(port))))
        if ray.is_initialized():
            sockets.append((socket.AF_UNIX, ray._private.worker._global_node.raylet_socket_name))
    until = time.monotonic() + _HEAD_SECONDS
    while sockets and time.monotonic() < until:
        for family, address in sockets:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(_HEAD_SECONDS)
                if connection.connect_ex(address):
                    return False
        time.sleep(0.2)
    return True


def failures_left(job: Job) -> int:
    """How many failures of workers this attempt outlives: earlier attempts have used up theirs."""
    return max(0, job.retries - (job.attempt - 1))


def first_checkpoint(assignment: Assignment) -> Checkpoint | None:
    """The last checkpoint of the run or trial that this one goes on from, or of the one before."""
    if assignment.resumed_storage is None:
        return None
    from ray.train import Checkpoint, Result

    link = assignment.storage / _RESUMED
    if not link.is_symlink():
        link.symlink_to(assignment.resumed_storage)
    storage = link
    while storage.exists():
        experiment = storage / storage.resolve().parent.name
        if experiment.is_dir():
            with contextlib.suppress(RuntimeError):  # it has no checkpoint
                checkpoint = Result.from_path(str(experiment.resolve())).checkpoint
                if checkpoint is not None:
                    return checkpoint
        kept = kept_checkpoint(storage.resolve())
        if kept is not None:
            # A trial's, which Ray Train knows nothing of.
            return Checkpoint.from_directory(str(kept))
        storage = storage / _RESUMED
    return None


def check_room(asked: Resources, available: Mapping[str, float]) -> None:
    """Raise `InvalidInput` for a run that Ray would let wait for ever."""
    for unit, each in (("CPU", asked.cpus_per_worker), ("GPU", asked.gpus_per_worker)):
        total, there = each * asked.workers, available.get(unit, 0)
        if total > there:
            raise InvalidInput(
                f"The run asks for {total:g} {unit}{'s' if total != 1 else ''}, and this platform "
                f"has {f'{there:g}' if there else 'none'}.",
                remedy="Ask for fewer workers, CPUs or GPUs.",
            )


def _lost_by_engine(problem: BaseException, error: RunError, job: Job | None) -> str:
    """Why an attempt is over that the user's code did not end, and that may have a successor."""
    workers = worker_failures(problem)
    if any(isinstance(one, TrainingFailed) for one in workers.values()):
        return ""
    if not head_lives():
        # It took the workers along.
        return "The Ray head is gone."
    # Ray Train begins again after failures of workers, not after one of its own: a disk that
    # was full for a moment while it wrote, for example.
    if not workers and job is not None and failures_left(job):
        return error.message
    return ""


def _is_over(error: BaseException) -> bool:
    return any(isinstance(failure, RunOver) for failure in worker_failures(error).values())


if __name__ == "__main__":
    sys.exit(main())
