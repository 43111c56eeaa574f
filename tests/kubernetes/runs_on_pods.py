"""The service's own application with runs on pods of the bed, and what a test does with them."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from api_world import PREFIX, World, serving
from bed.api import CORE, KubeApi
from bed.control_plane import ControlPlane
from training_pods import Training, run_pods, training

from aiaas_hub.app import PYTHON
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.errors import Unavailable

LONG = 300
"""Seconds, in which a head that did not start in time is made once more."""
ENDS = ("succeeded", "failed", "lost", "cancelled")
CELL = """
import time
from pathlib import Path

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
        # All of them end after the same step.
        votes = torch.tensor([1.0, float(Path(ctx.params["until"]).exists())])
        torch.distributed.all_reduce(votes)
        ctx.report(step=step, workers=votes[0].item())
        ctx.checkpoint(step=step)
        time.sleep(ctx.params["pause"])
        step += 1
        if votes[1] > 0:
            break
    example = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    ctx.save_model(Double(), example_input=example, eval_input=example)
"""


@dataclass
class RunsOnPods:
    service: World
    training: Training
    ends: Path

    @property
    def api(self) -> KubeApi:
        return self.training.plane.api

    def submit(
        self,
        name: str = "cnn",
        *,
        steps: int = 100_000,
        pause: float = 0.3,
        retries: int = 0,
        workers: int = 2,
    ) -> str:
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
            name=name,
            snapshot=snapshot,
            datasets=["digits"],
            params={"steps": steps, "pause": pause, "until": str(self.ends / name)},
            resources={"workers": workers},
            retries=retries,
        )["id"]
        return run

    def end(self, name: str) -> None:
        """Let it end by itself."""
        (self.ends / name).touch()

    def run(self, run: str) -> Any:
        return self.service.ok("GET", f"/runs/{run}")

    def points(self, run: str) -> list[Any]:
        """All metrics of the run."""
        found: list[Any] = []
        since = 0
        while page := (answer := self.service.ok("GET", f"/runs/{run}/metrics?since={since}"))[
            "points"
        ]:
            found += page
            since = answer["next_since"]
        return found

    def log(self, run: str) -> str:
        text: str = self.service.ok("GET", f"/runs/{run}/logs")["text"]
        return text

    def beginnings(self, run: str) -> list[int]:
        """The first step of each of its lives."""
        lines = [line for line in self.log(run).splitlines() if "worker 0 of" in line]
        return [int(line.partition("begins at ")[2].split()[0]) for line in lines]

    def held(self) -> int:
        """Runs that count against their owner's quota."""
        held: int = self.service.ok("GET", "/me")["quota"]["runs"]["used"]
        return held

    def until(self, run: str, holds: Callable[[Any], bool], seconds: float = LONG) -> Any:
        """The run once this holds, the reconciler at work meanwhile."""
        end = time.monotonic() + seconds
        while not holds(found := self.run(run)):
            self.service.tick()
            with contextlib.suppress(Unavailable):
                self.service.reconciler._tend()
            assert time.monotonic() < end, self.explain(run)
            time.sleep(0.3)
        return found

    def until_it_steps(self, run: str, beyond: int = 3) -> None:
        before = len(self.points(run))
        self.until(run, lambda _: len(self.points(run)) > before + beyond)

    def until_over(self, run: str, state: str) -> Any:
        found = self.until(run, lambda run: run["state"] in ENDS)
        assert found["state"] == state, self.explain(run)
        return found

    def until_no_pods(self) -> None:
        end = time.monotonic() + 60
        while pods := self.training.pods("head") + self.training.pods("worker"):
            assert time.monotonic() < end, pods
            self.service.tick()
            time.sleep(0.3)

    def explain(self, run: str) -> str:
        return f"{self.run(run)}\n{self.log(run)}\n{self.training.words()}"

    def delete_pod(self, name: str) -> float:
        """At once; when."""
        path = f"{CORE}/namespaces/{self.training.namespace}/pods/{name}"
        self.api.delete(path, gracePeriodSeconds=0)
        return time.monotonic()

    def assert_whole(self, run: str) -> None:
        """Of every life all steps are there, in order and once. A life goes on from a checkpoint:
        the steps after that one are done again, two at most."""
        points, firsts = self.points(run), self.beginnings(run)
        assert len({(point["step"], point["time"]) for point in points}) == len(points)
        steps = [point["step"] for point in points]
        assert steps[0] == 0
        lost = set(range(max(steps) + 1)) - set(steps)
        assert not lost, f"metrics of steps {sorted(lost)} are lost; lives begin at {firsts}"
        jumps = [new for old, new in pairwise(steps) if new != old + 1]
        assert not Counter(jumps) - Counter(firsts[1:]), "goes back to a checkpoint only"
        assert len(steps) - len(set(steps)) <= 2 * (len(firsts) - 1)


@contextmanager
def runs_on_pods(
    plane: ControlPlane, namespace: str, directory: Path, **changes: Any
) -> Iterator[RunsOnPods]:
    """`changes` of what pods are made of."""
    (port,) = free_ports(1)
    pods = replace(run_pods(namespace, f"http://127.0.0.1:{port}{PREFIX}api/v1"), **changes)
    with (
        training(plane, pods) as world,
        serving(
            Home(directory / "home"),
            f"sqlite:///{directory / 'records.sqlite'}",
            real=world.engine,
            port=port,
        ) as service,
    ):
        service.dataset("digits")
        (directory / "ends").mkdir()
        yield RunsOnPods(service, world, directory / "ends")
