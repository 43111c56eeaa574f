"""A whole platform whose runs go to a Ray cluster that somebody else started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from ray_heads import RayHead
from running_platform import RunningPlatform
from service_calls import ServiceCalls

import aiaas_hub
from aiaas_hub.app import PYTHON
from aiaas_hub.home import Home

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

LONG = 240
"""Seconds: Ray's own Jobs API takes half a minute to its first job on an idle machine."""

TRAINING = """
import torch
from torch import nn


def train(ctx):
    print(f"hello from {ctx.rank} of {ctx.world_size}", flush=True)
    model = ctx.prepare(nn.Linear(2, 1))
    state = ctx.restore(model=model)
    first = state["step"] + 1 if state else 1
    for step in range(first, first + 3):
        ctx.report(step=step, loss=1.0 / step)
    ctx.checkpoint(model=model, step=step)
    torch.distributed.barrier()
    ctx.save_model(model, torch.ones(2, 2))
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    home = Home(tmp_path_factory.mktemp("cluster") / "home")
    home.prepare()
    head = RayHead(home)
    try:
        deadline = time.monotonic() + LONG
        head.start()
        while not head.answers():
            assert time.monotonic() < deadline
            time.sleep(0.5)
            head.start()
        yield head
    finally:
        head.shutdown()


@pytest.fixture(scope="module")
def own(head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """With the two settings that an operator makes, one of them as a variable."""
    platform = RunningPlatform.on(tmp_path_factory.mktemp("platform") / "home")
    platform.home.prepare()
    platform.home.config.write_text(f"c.ServiceConfig.ray_token_file = {str(head.token_file)!r}\n")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIAAS_RAY_ADDRESS", head.address)
            platform.start()
        yield platform
        platform.stop()
    finally:
        platform.end()


def test_a_run_trains_on_a_cluster_of_others(own: RunningPlatform) -> None:
    ada = ServiceCalls.of(own, "ada")
    request = ada.run_request(TRAINING, name="elsewhere", resources={"workers": 2})
    request["snapshot"]["packages"] = {"torch": "0.0.1", "no-such-thing": "1"}
    assert ada.ok("POST", "/runs/plan", json=request)["environment"] is None
    run = ada.ok("POST", "/runs", json=request)["id"]
    found = ada.run_until(run, "succeeded", timeout=LONG)

    assert losses(ada, run) == {step: 1.0 / step for step in (1, 2, 3)}
    log = ada.ok("GET", f"/runs/{run}/logs")["text"]
    for rank in range(2):
        assert log.count(f"hello from {rank} of 2") == 1, log
    assert {one["worker"] for one in found["usage"]} == {0, 1}
    assert (found["model"]["name"], found["model"]["version"]) == ("elsewhere", 1)
    model = ada.ok("GET", "/models/ada/elsewhere")
    assert [one["shape"] for one in model["latest"]["signature"]["inputs"]] == [[2]]

    # From now on it is known what is installed there.
    there = ada.ok("POST", "/runs/plan", json=request)["environment"]
    assert there["packages"] == {"torch": version("torch"), "no-such-thing": None}
    assert (there["python"], there["client"]) == (PYTHON, aiaas_hub.__version__)

    # Its checkpoint is there for another to go on from.
    later = ada.ok("POST", f"/runs/{run}/resume", json={})["id"]
    ada.run_until(later, "succeeded", timeout=LONG)
    assert losses(ada, later) == {step: 1.0 / step for step in (4, 5, 6)}

    # No Ray of the platform's own has been started beside it.
    assert "ray" not in {record.stem for record in own.home.processes.glob("*.json")}


def losses(calls: ServiceCalls, run: str) -> dict[int, float]:
    points = calls.ok("GET", f"/runs/{run}/metrics")["points"]
    return {point["step"]: point["values"]["loss"] for point in points}
