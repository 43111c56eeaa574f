"""Ray's own monitor of memory, at work: its head is told that little of the machine may be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
from job_service import TOKEN, JobService

from aiaas_hub.adapters import ray_head
from aiaas_hub.adapters.ray_drivers import Reserve
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.schemas.platform import EngineState

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

ROOM = 6 << 30
"""Bytes beyond what the machine uses already: Ray, a driver and a worker take a third of it."""

HUNGRY = """
import time
import torch

def train(ctx):
    state = ctx.restore()
    print("begins at", state["step"] + 1 if state else 0, flush=True)
    ctx.checkpoint(step=1)
    held = []
    # Until it is stopped; a test that does not stop it is not to fill the machine.
    while len(held) < 160:
        held.append(torch.ones(16 << 20))
        time.sleep(0.02)
"""


@pytest.fixture
def tight(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    job_service: JobService,
) -> Iterator[RayLocal]:
    """A Ray whose monitor ends workers once the machine uses `ROOM` more than now."""
    home = Home(tmp_path_factory.mktemp("tight") / "home")
    home.prepare()
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + ROOM) / memory.total
    if limit > 0.95:
        pytest.skip("this machine has no 6 GiB to spare")
    original = ray_head.head_process

    def with_limit(home: Home, ports: ray_head.RayPorts) -> ProcessSpec:
        spec = original(home, ports)
        return replace(spec, env={**spec.env, "RAY_memory_usage_threshold": f"{limit:.4f}"})

    monkeypatch.setattr(ray_head, "head_process", with_limit)
    supervisor = Supervisor(home.processes, home.logs)
    engine = RayLocal(home, supervisor, job_service.url, Reserve(drivers=0))
    engine.start()
    try:
        deadline = time.monotonic() + 240
        while engine.health().state is not EngineState.READY:
            assert time.monotonic() < deadline, engine.health()
            if engine.health().state is EngineState.UNAVAILABLE:
                engine.start()
            time.sleep(0.2)
        yield engine
    finally:
        engine.shutdown()


def test_a_worker_that_takes_too_much_memory_is_told_so_and_how_to_go_on(
    tight: RayLocal, job_service: JobService
) -> None:
    run = job_service.add("run-hungry", HUNGRY, params={"batch_size": 64}, retries=1)
    job = JobSubmission("run-hungry-1", run.job.owner, run.job.resources, TOKEN)
    tight.submit(job)
    deadline = time.monotonic() + 600
    while (status := tight.status(job.id)) is None or status.state is JobState.RUNNING:
        assert time.monotonic() < deadline, run.log
        time.sleep(0.2)
    print(run.log, run.events)
    assert status.state is JobState.FAILED
    what = "it used more memory than its machine has left"
    cause = f"Worker 0 died: {what}"
    hint = "Go on with half the batch: '%aiaas resume run-hungry --param batch_size=32'."
    assert run.kinds == ["started", "retrying", "started", "failed"]
    assert what in run.error.message
    assert run.error.remedy == hint
    begun = [line for line in run.log.splitlines() if line.startswith("begins at")]
    assert begun == ["begins at 0", "begins at 2"]
    # Before the last one, which is how it failed.
    told = next(line for line in run.log.splitlines() if line.startswith("[aiaas] Worker 0"))
    assert told.startswith(f"[aiaas] {cause}")
    assert told.endswith(f"Going on from its checkpoint (retry 1 of 1). If that fails, too: {hint}")
    (retrying,) = [event for event in run.events if event["kind"] == "retrying"]
    assert f"[aiaas] {retrying['reason']}" in told
