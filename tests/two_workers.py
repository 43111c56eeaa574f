"""A training function in two processes that are joined by gloo, as two workers of a run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import torch.distributed as dist
import torch.multiprocessing as processes
from contexts import LocalRun
from job_service import TOKEN
from pydantic import TypeAdapter

from aiaas_hub.schemas.jobs import Job
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.context import Context
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.surroundings import LocalSurroundings

_JOBS = TypeAdapter(list[Job])


def in_two_workers(
    run: LocalRun, jobs: Sequence[Job], train: Callable[[Context], Any]
) -> list[list[Any]]:
    """`train(ctx)` for one job after another, each with a storage of its own; what it returned,
    by worker and job."""
    told = (run.service.url, _JOBS.dump_json(list(jobs)), str(run.directory))
    processes.spawn(_worker, (*told, cloudpickle.dumps(train)), nprocs=2)
    return [cloudpickle.loads((run.directory / f"results-{rank}").read_bytes()) for rank in (0, 1)]


def _worker(rank: int, url: str, jobs: bytes, directory: str, train: bytes) -> None:
    warnings.simplefilter("ignore")
    # As in a run; else it depends on what the machine's own name leads to.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    # By a file: a port that was free a moment ago may be somebody's by now.
    meeting = f"file://{directory}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    results = []
    for index, job in enumerate(_JOBS.validate_json(jobs)):
        storage = Path(directory) / f"storage-{index}"
        storage.mkdir(exist_ok=True)
        api = JobApi(url, job.run_id, TOKEN, patience=5)
        sender = MetricSender(api.send_metrics, attempt_began=0.0) if rank == 0 else None
        try:
            context = Context(job, api, sender, LocalSurroundings(storage))
            results.append(cloudpickle.loads(train)(context))
        finally:
            if sender is not None:
                sender.close()
            api.close()
    (Path(directory) / f"results-{rank}").write_bytes(cloudpickle.dumps(results))
    dist.destroy_process_group()
