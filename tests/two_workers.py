"""A training function in two processes that are joined by gloo, as two workers of a run."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import torch.distributed as dist
import torch.multiprocessing as processes
from contexts import LocalRun
from job_service import TOKEN

from aiaas_hub.schemas.runs import Job
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.context import Context
from aiaas_magics.runtime.metrics import MetricSender
from aiaas_magics.runtime.surroundings import LocalSurroundings


def in_two_workers(
    run: LocalRun, job: Job, train: Callable[..., Any], *arguments: Any
) -> tuple[Any, Any]:
    """`train(ctx, *arguments)` in each of two workers; what they return, by rank."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = cloudpickle.dumps((train, arguments))
    told = (port, run.service.url, job.model_dump_json(), str(run.directory), call)
    processes.spawn(_worker, told, nprocs=2)
    one, other = (
        cloudpickle.loads((run.directory / f"result-{rank}").read_bytes()) for rank in (0, 1)
    )
    return one, other


def _worker(rank: int, port: int, url: str, job: str, directory: str, call: bytes) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    here = Path(directory)
    token = here / f"token-{rank}"
    token.write_text(TOKEN)
    parsed = Job.model_validate_json(job)
    api = JobApi(url, parsed.run_id, token, patience=5)
    sender = MetricSender(api.send_metrics, attempt_began=0.0) if rank == 0 else None
    train, arguments = cloudpickle.loads(call)
    try:
        result = train(Context(parsed, api, sender, LocalSurroundings(here)), *arguments)
    finally:
        if sender is not None:
            sender.close()
        api.close()
    (here / f"result-{rank}").write_bytes(cloudpickle.dumps(result))
    dist.destroy_process_group()
