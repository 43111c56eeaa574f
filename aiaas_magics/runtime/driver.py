"""Entry point of a job: `python -m aiaas_magics.runtime.driver`.

Ray's Jobs start it with AIAAS_API, AIAAS_RUN_ID, AIAAS_RUN_TOKEN_FILE and
AIAAS_RUN_STORAGE in its environment. It runs the job with Ray Train and tells the service how
that ended. Exit status: 0 succeeded, 1 failed, 3 the service had ended the run meanwhile.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping

from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.runs import Job, JobFailed, JobSucceeded, Resources, RunError
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.cache import node_cache, prune
from aiaas_magics.runtime.failures import TrainingFailed
from aiaas_magics.runtime.logs import LogShipper

FAILED = 1
OVER = 3
_ENVIRONMENT = {
    # Each ray.train.report waits for the controller's poll, 2 s apart unless set.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # It would print every line twice.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # One process less to wait for; a drained node is a failure like others here.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Every line of every worker, without colours: it is a file that is read later.
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def main() -> int:
    began = time.time()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    api = JobApi.from_environment()
    logs = LogShipper(api.send_log)
    error: RunError | None = None
    over = False
    try:
        job = api.job()
        snapshot.check(job.snapshot)
        directory = node_cache() / "snapshots" / job.snapshot.digest
        if not directory.is_dir():
            snapshot.unpack(api.snapshot(), job.snapshot.digest, directory)
        prune()
        _train(job, began)
    except RunOver as reason:
        print(f"[aiaas] stopping: {reason}", file=sys.stderr)  # noqa: T201 - the run's log
        over = True
    except AiaasError as problem:
        error = RunError(message=problem.message, remedy=problem.remedy)
    except Exception as problem:
        over = _is_over(problem)
        error = explain(problem)
    logs.settle()
    # The log is complete before the run is: nobody reads on after the end.
    logs.close()
    if over:
        return OVER
    try:
        api.event(JobFailed(error=error) if error else JobSucceeded())
    except RunOver:
        return OVER
    finally:
        api.close()
    if error is not None:
        print(f"{error.message} {error.remedy}", file=sys.stderr)  # noqa: T201 - Ray's job message
        return FAILED
    return 0


def _train(job: Job, began: float) -> None:
    import ray

    address = os.environ["RAY_ADDRESS"]
    ray.init(
        address=address,
        log_to_driver=True,
        logging_level="WARNING",
        # Workers that look for "the" cluster find none where several run on one machine.
        runtime_env={"env_vars": {"RAY_ADDRESS": address}},
    )
    alive = [node for node in ray.nodes() if node["Alive"]]
    # Several nodes may become more when they are asked for; one is all that there is.
    if len(alive) == 1:
        check_room(job.resources, ray.cluster_resources())
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from aiaas_magics.runtime.worker import train_loop

    resources = job.resources
    per_worker = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={
            "job": job.model_dump_json(),
            "began": began,
            "api": os.environ["AIAAS_API"],
            "token_file": os.environ["AIAAS_RUN_TOKEN_FILE"],
        },
        torch_config=TorchConfig(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=job.run_id,
            storage_path=os.environ["AIAAS_RUN_STORAGE"],
            failure_config=ray.train.FailureConfig(max_failures=job.retries),
            # Only the last one is ever restored.
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )
    trainer.fit()


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


def explain(error: Exception) -> RunError:
    """The failure of a run, from whatever Ray wrapped it in."""
    failures = _worker_failures(error)
    told = [failure for failure in failures.values() if isinstance(failure, TrainingFailed)]
    if told:
        # A worker that lost its peer fails as well; what came first and of itself is the cause.
        return min(told, key=lambda failure: (failure.secondary, failure.at)).error
    if failures:
        rank, failure = min(failures.items())
        return RunError(
            message=f"Worker {rank} died: {_last_line(failure)}",
            remedy="If it ran out of memory, use a smaller batch or fewer workers; add --retries 2 "
            "to go on from the last ctx.checkpoint().",
        )
    text = "".join(traceback.format_exception_only(error)).strip()
    return RunError(
        message=f"The run failed in Ray: {_last_line(error)}",
        remedy="Submit the run again; the run's log has the details.",
        traceback=text[-20_000:],
    )


def _worker_failures(error: BaseException) -> Mapping[int, BaseException]:
    failures = getattr(error, "worker_failures", None) or {}
    # Ray Train v2 keeps a user's exception inside one that holds its traceback as text.
    return {rank: getattr(failure, "_base_exc", failure) for rank, failure in failures.items()}


def _is_over(error: BaseException) -> bool:
    return any(isinstance(failure, RunOver) for failure in _worker_failures(error).values())


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
