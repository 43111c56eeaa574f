"""What each Ray Train worker runs: load the snapshot's code and call its `train(ctx)` once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aiaas_hub.schemas.jobs import Job, JobStarted
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.context import Context, entered
from aiaas_magics.runtime.failures import TrainingFailed, log
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.usage import UsageSampler


def train_loop(config: dict[str, Any]) -> None:
    """Entry point of a worker. `config` has the job as JSON and when the attempt began."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    job = Job.model_validate_json(config["job"])
    use_processors(job.resources.cpus_per_worker)
    # From the driver, not from the environment: that one is the same for every run, so that
    # Ray may take any idle process.
    api = JobApi(config["api"], job.run_id, Path(config["token_file"]))
    sender = MetricSender(api.send_metrics, attempt_began=config["began"]) if rank == 0 else None
    usage = UsageSampler(api.send_usage, rank)
    usage.start()
    files: tuple[str, ...] = (job.snapshot.entry,)
    try:
        directory = snapshot.fetch(api, job.snapshot)
        files = snapshot.own_files(directory, job.snapshot)
        code = snapshot.load(directory, job.snapshot)
        files = code.files
        if rank == 0:
            api.event(JobStarted())
            if job.time_limit is not None:
                # A worker that takes another's place has what is left of the attempt's time.
                job = api.job()
        context = Context(job, api, sender)
        with entered(context):
            code.call(context)
    except RunOver:
        raise
    except BaseException as error:
        # Whole here, for the log; the driver gets the text, as user exceptions may not pickle.
        failed = TrainingFailed.of(error, rank, files, job)
        log(failed.error, f"worker {rank}: ")
        raise failed from None
    finally:
        usage.close()
        if sender is not None:
            sender.close()
        api.close()


def use_processors(count: float) -> None:
    """Compute in as many threads as the worker has processors: one that was started before its
    run was known has been told of none."""
    import torch

    threads = max(1, int(count))
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
