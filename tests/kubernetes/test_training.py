"""Runs submitted to the service, on pods: the service's own application and real Ray."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from api_world import PREFIX, World, serving
from bed.control_plane import ControlPlane
from training_pods import Training, run_pods, training

from aiaas_hub.app import PYTHON
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

LONG = 150
CELL = """
import time
import torch

class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x

def train(ctx):
    rows = len(ctx.dataset("digits").to_pandas())
    state = ctx.restore()
    step = state["step"] + 1 if state else 0
    print("worker", ctx.rank, "of", ctx.world_size, "begins at", step, "with", rows, flush=True)
    while step < ctx.params["steps"]:
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        ctx.report(step=step, workers=total.item())
        ctx.checkpoint(step=step)
        time.sleep(ctx.params["pause"])
        step += 1
    example = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    ctx.save_model(Double(), example_input=example, eval_input=example)
"""


@dataclass
class Platform:
    service: World
    training: Training

    def submit(self, steps: int, pause: float, retries: int = 0) -> str:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr("cell.py", CELL)
            archive.writestr("manifest.json", json.dumps({"kind": "cell"}))
        snapshot = {
            "digest": self.service.upload(sink.getvalue()),
            "source": CELL,
            "python": PYTHON,
            "client": "0.1.0",
        }
        run: str = self.service.submit(
            snapshot=snapshot,
            datasets=["digits"],
            params={"steps": steps, "pause": pause},
            resources={"workers": 2},
            retries=retries,
        )["id"]
        return run

    def run(self, run: str) -> Any:
        return self.service.ok("GET", f"/runs/{run}")

    def points(self, run: str) -> list[Any]:
        found: list[Any] = self.service.ok("GET", f"/runs/{run}/metrics")["points"]
        return found

    def log(self, run: str) -> str:
        text: str = self.service.ok("GET", f"/runs/{run}/logs")["text"]
        return text

    def until(self, run: str, holds: Callable[[Any], bool], seconds: float = LONG) -> Any:
        """The run once this holds, the reconciler at work meanwhile."""
        end = time.monotonic() + seconds
        while not holds(found := self.run(run)):
            self.service.tick()
            assert time.monotonic() < end, f"{found}\n{self.log(run)}\n{self.training.words()}"
            time.sleep(0.3)
        return found

    def until_over(self, run: str, state: str) -> Any:
        found = self.until(run, lambda run: run["state"] in ENDS)
        assert found["state"] == state, f"{found}\n{self.log(run)}\n{self.training.words()}"
        return found


ENDS = ("succeeded", "failed", "lost", "cancelled")


@pytest.fixture
def platform(crds: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Platform]:
    (port,) = free_ports(1)
    pods = run_pods(namespace, f"http://127.0.0.1:{port}{PREFIX}api/v1")
    with (
        training(crds, pods) as world,
        serving(
            Home(tmp_path / "home"),
            f"sqlite:///{tmp_path / 'records.sqlite'}",
            real=world.engine,
            port=port,
        ) as service,
    ):
        service.dataset("digits")
        yield Platform(service, world)


def test_a_run_of_two_workers_ends_with_a_model(platform: Platform) -> None:
    began = time.monotonic()
    run = platform.submit(steps=3, pause=0)
    platform.until(run, lambda run: run["state"] == "running")
    print(f"first call of train after {time.monotonic() - began:.1f} s")
    platform.until_over(run, "succeeded")
    print(f"over after {time.monotonic() - began:.1f} s")
    assert [point["values"]["workers"] for point in platform.points(run)] == [2, 2, 2]
    for rank in range(2):
        assert f"worker {rank} of 2 begins at 0 with 5" in platform.log(run)
    model = platform.service.ok("GET", "/models/alice/cnn")["latest"]
    assert (model["version"], model["run_id"]) == (1, run)
    # What it said outlives its pods, which go with it.
    end = time.monotonic() + 60
    while platform.training.pods("head") or platform.training.pods("worker"):
        assert time.monotonic() < end, platform.training.pods()
        time.sleep(0.3)
    assert "begins at 0" in platform.log(run)
