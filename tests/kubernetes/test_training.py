"""Runs as RayJobs on a real API server and real Ray processes, with a test's operator in KubeRay's
place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bed.control_plane import ControlPlane
from job_service import TOKEN, JobService, RecordedRun
from training_pods import LONG, Training, run_pods, training

from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.schemas.runs import Resources

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

TRAINING = """
import time
import torch

def train(ctx):
    print("worker", ctx.rank, "of", ctx.world_size, flush=True)
    state = ctx.restore()
    step = state["step"] + 1 if state else 0
    while step < ctx.params["steps"]:
        x = torch.ones(1)
        torch.distributed.all_reduce(x)
        ctx.report(step=step, sum=x.item())
        ctx.checkpoint(step=step)
        time.sleep(ctx.params["pause"])
        step += 1
"""


@pytest.fixture
def service() -> Iterator[JobService]:
    with JobService() as service:
        yield service


@pytest.fixture
def world(crds: ControlPlane, namespace: str, service: JobService) -> Iterator[Training]:
    with training(crds, run_pods(namespace, service.url)) as world:
        yield world


def submitted(
    world: Training, service: JobService, name: str, steps: int, pause: float = 0, retries: int = 0
) -> tuple[RecordedRun, JobSubmission]:
    asked = Resources(workers=2)
    params = {"steps": steps, "pause": pause}
    run = service.add(name, TRAINING, params=params, resources=asked, retries=retries)
    job = JobSubmission(f"{name}-1", "ada", asked, TOKEN)
    world.engine.submit(job)
    return run, job


def until_it_reports(world: Training, run: RecordedRun, points: int) -> None:
    end = time.monotonic() + LONG
    while len(run.metrics) < points:
        assert time.monotonic() < end, f"{run.log}\n{world.words()}"
        assert run.kinds in ([], ["started"]), f"{run.events}\n{world.words()}"
        time.sleep(0.2)


def test_a_run_trains_on_pods_of_its_own(world: Training, service: JobService) -> None:
    began = time.monotonic()
    run, job = submitted(world, service, "run-pods", steps=3)
    world.until(job, JobState.RUNNING)
    print(f"RUNNING after {time.monotonic() - began:.1f} s")
    world.until(job, JobState.ENDED)
    print(f"over after {time.monotonic() - began:.1f} s")
    assert run.kinds == ["started", "succeeded"], f"{run.log}\n{world.words()}"
    assert {"worker 0 of 2", "worker 1 of 2"} <= {
        line.partition(") ")[2] or line for line in run.log.splitlines()
    }, run.log
    assert [values["sum"] for _, values in run.metrics.values()] == [2, 2, 2]
    # Its cluster goes with it; what it said outlives the pods.
    end = time.monotonic() + 60
    while world.pods("head") or world.pods("worker"):
        assert time.monotonic() < end, world.pods()
        time.sleep(0.3)
