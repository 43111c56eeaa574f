"""Runs that train until they are told to end, while a test breaks what they stand on."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from running_platform import RunningPlatform
from service_calls import ServiceCalls, until

from aiaas_hub.domain.runs import MAX_METRICS_READ

SEED = int(os.environ.get("FAULT_SEED", secrets.randbits(32)))
"""Repeats the moments of a former execution."""
LONG = 120
"""Seconds within which everything heals, on a busy machine too."""
STARTS = 300
"""Seconds within which Ray and four runs on it start, all at once, on a slow machine."""

TRAINING = """
import os
import time
from pathlib import Path

def train(ctx):
    state = ctx.restore()
    step = state["step"] + 1 if state else 0
    print("process", os.getpid(), "begins at", step, flush=True)
    while not Path(ctx.params["until"]).exists():
        ctx.report(step=step, loss=1 / (step + 1))
        print("step", step, flush=True)
        if ctx.params["checkpoints"]:
            ctx.checkpoint(step=step)
        time.sleep(0.1)
        step += 1
"""


@dataclass
class Trainings:
    """Runs of one user that train until they are told to end."""

    platform: RunningPlatform
    calls: ServiceCalls
    ends: Path
    moments: random.Random
    runs: dict[str, str] = field(default_factory=dict)
    """Their ids by name."""

    @classmethod
    def on(cls, platform: RunningPlatform, ends: Path) -> Trainings:
        print(f"FAULT_SEED={SEED}")
        moments = random.Random(SEED)  # noqa: S311  # moments are no secrets
        return cls(platform, ServiceCalls.of(platform, "ada"), ends, moments)

    def request(self, name: str, *, retries: int = 0, checkpoints: bool = True) -> dict[str, Any]:
        params = {"until": str(self.ends / name), "checkpoints": checkpoints}
        return self.calls.run_request(TRAINING, name=name, params=params, retries=retries)

    def submit(self, name: str, **options: Any) -> str:
        request = self.request(name, **options)
        self.runs[name] = self.calls.ok("POST", "/runs", json=request)["id"]
        return self.runs[name]

    def end(self, name: str) -> None:
        """Let it end by itself."""
        (self.ends / name).touch()

    def state(self, name: str) -> Any:
        return self.calls.ok("GET", f"/runs/{self.runs[name]}")

    def wait(self, name: str, *states: str, seconds: float = LONG) -> Any:
        """The run in one of these states, however often its service is restarted meanwhile."""
        return until(
            lambda: self.calls.call("GET", f"/runs/{self.runs[name]}"),
            lambda found: found["state"] in states,
            seconds,
            over=lambda found: (
                found["state"] in {"succeeded", "failed", "lost", "cancelled"} - {*states}
            ),
        )

    def told(self, name: str, what: str) -> Any:
        path = f"/runs/{self.runs[name]}/{what}"
        return until(lambda: self.calls.call("GET", path), lambda _: True, LONG)

    def points(self, name: str) -> list[Any]:
        """All metrics of the run by now."""
        answer = self.told(name, "metrics")
        found = list(answer["points"])
        # Not until nothing comes: on a busy machine the run reports faster than it is asked.
        while len(answer["points"]) == MAX_METRICS_READ:
            answer = self.told(name, f"metrics?since={answer['next_since']}")
            found += answer["points"]
        return found

    def log(self, name: str) -> list[str]:
        lines: list[str] = self.told(name, "logs")["text"].splitlines()
        return lines

    def beginnings(self, name: str) -> list[tuple[int, int]]:
        """(process, first step) of each of its beginnings."""
        words = [line.split() for line in self.log(name) if line.startswith("process ")]
        return [(int(word[1]), int(word[-1])) for word in words]

    def worker(self, name: str) -> psutil.Process:
        pid = self.beginnings(name)[-1][0]
        (found,) = [process for process in self.platform.processes() if process.pid == pid]
        return found

    def driver(self, name: str) -> psutil.Process:
        home, job = self.platform.home, f"{self.runs[name]}-{self.state(name)['attempt']}"
        for file in home.ray.glob("drivers/*/assignment.json"):
            if json.loads(file.read_text())["submission_id"] == job:
                return self.recorded(file.parent.name)
        raise AssertionError(f"{job} has no driver")

    def recorded(self, name: str) -> psutil.Process:
        record = json.loads((self.platform.home.processes / f"{name}.json").read_text())
        return psutil.Process(record["pid"])

    def service(self) -> psutil.Process:
        return self.found("aiaas_hub.app")

    def found(self, word: str) -> psutil.Process:
        (found,) = [one for one in self.platform.processes() if word in one.cmdline()]
        return found

    def moment(self, most: float) -> None:
        """Some time, `most` seconds at most."""
        time.sleep(self.moments.uniform(0, most))

    def until_it_steps(self, *names: str, beyond: int = 0, seconds: float = LONG) -> None:
        """Each has reported `beyond` points more than it has now."""
        for name in names:
            self.wait(name, "running", seconds=seconds)
            before = len(self.points(name))
            deadline = time.monotonic() + seconds
            while len(self.points(name)) <= before + beyond:
                assert time.monotonic() < deadline, f"{name} does not go on"
                time.sleep(0.1)

    def held(self) -> int:
        """Runs that count against their owner's quota."""
        held: int = self.calls.ok("GET", "/me")["quota"]["runs"]["used"]
        return held

    def assert_whole(self, name: str) -> None:
        """Of every life of the run all steps are there, in order and once.

        A life goes on from a checkpoint. The steps that its predecessor did after that one are done
        again, and told again: with a checkpoint in every step, two at most.
        """
        firsts = [first for _, first in self.beginnings(name)]
        points = self.points(name)
        assert len({(point["step"], point["time"]) for point in points}) == len(points)
        said = [int(line.split()[1]) for line in self.log(name) if line.startswith("step ")]
        for what, steps in (("metrics", [point["step"] for point in points]), ("log", said)):
            assert steps[0] == 0
            lost = set(range(max(steps) + 1)) - set(steps)
            assert not lost, f"{what} of steps {sorted(lost)} are lost; lives begin at {firsts}"
            jumps = [new for old, new in pairwise(steps) if new != old + 1]
            assert not Counter(jumps) - Counter(firsts[1:]), "goes back to a checkpoint only"
            again = len(steps) - len(set(steps))
            assert again <= 2 * (len(firsts) - 1), f"{again} steps told again"

    def until_attempt(self, name: str, attempt: int) -> None:
        """The run trains in this attempt."""
        until(
            lambda: self.calls.call("GET", f"/runs/{self.runs[name]}"),
            lambda found: (found["state"], found["attempt"]) == ("running", attempt),
            LONG,
        )
        self.until_it_steps(name, beyond=3)


def kill(*processes: psutil.Process) -> float:
    """SIGKILL; when."""
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    return time.monotonic()


def healed(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.1f} s")
