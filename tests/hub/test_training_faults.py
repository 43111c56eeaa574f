"""Runs that train while things break: processes killed at random moments, a full disk, a locked
database, a full queue. Nothing is lost or doubled, and every ending gives back what it held.

One platform goes through all of it, in the order of this file. Its *survivor* may be retried and
is there from the first fault to the last; next to it runs that may not be retried are broken.
FAULT_SEED repeats the moments of a former execution.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from running_platform import RunningPlatform
from service_calls import ServiceCalls, until

from aiaas_hub.adapters.records.database import BUSY_TIMEOUT_SECONDS
from aiaas_hub.local.remote_kernel import RemoteKernel
from aiaas_hub.schemas.errors import Unavailable

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

SEED = int(os.environ.get("FAULT_SEED", secrets.randbits(32)))
DISK_BYTES = 256 << 20
QUEUE_LENGTH = 4
LONG = 120
"""Seconds within which everything heals, on a busy machine too."""

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

    def wait(self, name: str, *states: str) -> Any:
        """The run in one of these states, however often its service is restarted meanwhile."""
        return until(
            lambda: self.calls.call("GET", f"/runs/{self.runs[name]}"),
            lambda found: found["state"] in states,
            LONG,
            over=lambda found: (
                found["state"] in {"succeeded", "failed", "lost", "cancelled"} - {*states}
            ),
        )

    def told(self, name: str, what: str) -> Any:
        path = f"/runs/{self.runs[name]}/{what}"
        return until(lambda: self.calls.call("GET", path), lambda _: True, LONG)

    def points(self, name: str) -> list[Any]:
        """All metrics of the run."""
        answer = self.told(name, "metrics")
        found = list(answer["points"])
        while answer["points"]:
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

    def until_it_steps(self, *names: str, beyond: int = 0) -> None:
        """Each has reported `beyond` points more than it has now."""
        for name in names:
            self.wait(name, "running")
            before = len(self.points(name))
            deadline = time.monotonic() + LONG
            while len(self.points(name)) <= before + beyond:
                assert time.monotonic() < deadline, f"{name} does not go on"
                time.sleep(0.1)

    def held(self) -> int:
        """Runs that count against their owner's quota."""
        held: int = self.calls.ok("GET", "/me")["quota"]["runs"]["used"]
        return held


def kill(*processes: psutil.Process) -> float:
    """SIGKILL; when."""
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    return time.monotonic()


def healed(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.1f} s")


def assert_whole(trainings: Trainings, name: str) -> None:
    """Of every life of the run all steps are there, in order and once.

    A life goes on from a checkpoint. The steps that its predecessor did after that one are done
    again, and told again: with a checkpoint in every step, two at most.
    """
    firsts = [first for _, first in trainings.beginnings(name)]
    points = trainings.points(name)
    assert len({(point["step"], point["time"]) for point in points}) == len(points)
    said = [int(line.split()[1]) for line in trainings.log(name) if line.startswith("step ")]
    for steps in ([point["step"] for point in points], said):
        assert steps[0] == 0
        assert set(steps) == set(range(max(steps) + 1)), "nothing is lost"
        jumps = [new for old, new in pairwise(steps) if new != old + 1]
        assert not Counter(jumps) - Counter(firsts[1:]), "goes back to a checkpoint only"
        again = len(steps) - len(set(steps))
        assert again <= 2 * (len(firsts) - 1), f"{again} steps told again"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with a short queue, on a small disk where this user may mount one."""
    print(f"FAULT_SEED={SEED}")
    root = tmp_path_factory.mktemp("faults") / "home"
    root.mkdir(mode=0o700)
    small = os.geteuid() == 0 and mount(root)
    (root / "aiaas_config.py").write_text(
        f"c.ServiceConfig.max_queued_per_user = {QUEUE_LENGTH}\n"
        "c.ServiceConfig.max_runs_per_user = 4\n"
    )
    running = RunningPlatform.on(root)
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.end()
        if small:
            subprocess.run(["umount", str(root)], check=True)  # noqa: S607


def mount(directory: Path) -> bool:
    """Whether it is a small file system of its own now: containers' root may not mount any."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def trainings(own: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    ends = tmp_path_factory.mktemp("ends")
    return Trainings(own, ServiceCalls.of(own, "ada"), ends, random.Random(SEED))  # noqa: S311


def test_the_service_killed_from_submission_to_first_step(trainings: Trainings) -> None:
    request = trainings.request("survivor", retries=20)

    def submit() -> httpx.Response:
        key = {"Idempotency-Key": "the-survivor"}
        return trainings.calls.call("POST", "/runs", json=request, headers=key)

    def break_off() -> None:
        trainings.moment(0.05)
        kill(trainings.service())

    killer = threading.Thread(target=break_off)
    killer.start()
    begun = time.monotonic()
    trainings.runs["survivor"] = until(submit, lambda _: True, LONG)["id"]
    healed("service killed at a submission: submitted", begun)
    killer.join()
    trainings.wait("survivor", "queued", "starting", "running")
    for name in ("by-its-worker", "by-its-driver"):
        trainings.submit(name)
    # A full disk comes before the head's death, and ends what saves checkpoints.
    trainings.submit("by-the-head", checkpoints=False)
    trainings.wait("survivor", "starting", "running")
    trainings.moment(3)
    killed = kill(trainings.service())
    trainings.wait("survivor", "running")
    trainings.moment(2)
    kill(trainings.service())
    trainings.until_it_steps(*trainings.runs, beyond=5)
    healed("service killed at the start of runs: all train", killed)
    listed = trainings.calls.ok("GET", "/runs")["items"]
    assert sorted(run["name"] for run in listed) == sorted(trainings.runs)
    for name in trainings.runs:
        assert trainings.state(name)["attempt"] == 1
        assert len(trainings.beginnings(name)) == 1
        assert_whole(trainings, name)


def test_a_full_queue(trainings: Trainings) -> None:
    trainings.submit("next")
    never = [f"never-{number}" for number in range(1, QUEUE_LENGTH)]
    for place, name in enumerate(never, start=2):
        queued = trainings.calls.ok("GET", f"/runs/{trainings.submit(name)}")
        assert queued["state"] == "queued"
        assert queued["queue"]["position"] == place
        assert "waits for" in queued["queue"]["blocked_by"]
    refused = trainings.calls.call("POST", "/runs", json=trainings.request("refused"))
    assert refused.status_code == 429
    assert "%aiaas runs" in refused.json()["error"]["remedy"]
    for name in never:
        trainings.calls.ok("POST", f"/runs/{trainings.runs[name]}/cancel")
        trainings.wait(name, "cancelled")
    assert trainings.held() == 4


def test_a_killed_worker(trainings: Trainings) -> None:
    trainings.moment(1)
    killed = kill(trainings.worker("survivor"), trainings.worker("by-its-worker"))
    broken = trainings.wait("by-its-worker", "failed")
    healed("worker killed: a run without retries has failed", killed)
    assert "Worker 0 died" in broken["error"]["message"]
    assert "--retries" in broken["error"]["remedy"]
    assert_whole(trainings, "by-its-worker")
    trainings.wait("next", "running")
    healed("worker killed: the next in the queue runs", killed)
    while len(trainings.beginnings("survivor")) < 2:
        assert time.monotonic() < killed + LONG
        time.sleep(0.2)
    healed("worker killed: goes on from its checkpoint", killed)
    trainings.until_it_steps("survivor", beyond=3)
    assert trainings.state("survivor")["attempt"] == 1
    assert_whole(trainings, "survivor")
    trainings.end("next")
    trainings.wait("next", "succeeded")
    assert trainings.held() == 3


def test_a_killed_driver(trainings: Trainings) -> None:
    orphans = [trainings.worker("survivor"), trainings.worker("by-its-driver")]
    trainings.moment(1)
    killed = kill(trainings.driver("survivor"), trainings.driver("by-its-driver"))
    _, alive = psutil.wait_procs(orphans, timeout=LONG)
    assert not alive
    healed("driver killed: its workers are gone", killed)
    broken = trainings.wait("by-its-driver", "failed", "lost")
    healed("driver killed: a run without retries is over", killed)
    assert broken["error"]["message"]
    assert broken["error"]["remedy"]
    assert_whole(trainings, "by-its-driver")
    assert trainings.held() == 2
    until_attempt(trainings, 2)
    healed("driver killed: goes on from its checkpoint", killed)
    assert_whole(trainings, "survivor")


def until_attempt(trainings: Trainings, attempt: int) -> None:
    """The survivor trains in this attempt."""
    until(
        lambda: trainings.calls.call("GET", f"/runs/{trainings.runs['survivor']}"),
        lambda found: (found["state"], found["attempt"]) == ("running", attempt),
        LONG,
    )
    trainings.until_it_steps("survivor", beyond=3)


def test_a_locked_database(trainings: Trainings) -> None:
    request = trainings.request("refused")
    records = sqlite3.connect(trainings.platform.home.records_url.removeprefix("sqlite:///"))
    with contextlib.closing(records) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        refused = trainings.calls.call("POST", "/runs", json=request)
        assert time.monotonic() - begun < 2 * BUSY_TIMEOUT_SECONDS + 5
        assert refused.status_code == 503
        assert "try again" in refused.json()["error"]["remedy"]
        # Who only reads does not wait.
        assert trainings.state("survivor")["state"] == "running"
        other.execute("ROLLBACK")
    released = time.monotonic()
    trainings.until_it_steps("survivor", beyond=3)
    healed("database locked: metrics arrive again", released)
    assert "refused" not in [one["name"] for one in trainings.calls.ok("GET", "/runs")["items"]]
    assert trainings.state("survivor")["attempt"] == 2
    assert_whole(trainings, "survivor")


def test_a_killed_kernel_and_notebook_server(own: RunningPlatform, trainings: Trainings) -> None:
    cell = (
        f"%%aiaas train --name watched --param until={trainings.ends / 'watched'} "
        f"--param checkpoints=0\n{TRAINING}"
    )
    with own.session("ada") as session:
        session.spawn("small")
        with (
            contextlib.suppress(Unavailable),
            RemoteKernel(session, directory="examples") as kernel,
        ):
            watching = threading.Thread(target=lambda: execute(kernel, cell))
            watching.start()
            trainings.runs["watched"] = until(
                lambda: trainings.calls.call("GET", "/runs?name=watched"),
                lambda found: found["items"],
                LONG,
            )["items"][0]["id"]
            trainings.wait("watched", "running")
            trainings.moment(1)
            kill(trainings.found("ipykernel_launcher"))
            watching.join(LONG)
        killed = kill(trainings.found("jupyterhub.singleuser"))
        trainings.until_it_steps("watched", beyond=3)
        session.spawn("small")
        healed("notebook server killed: there again", killed)
        trainings.end("watched")
        with RemoteKernel(session, directory="examples") as kernel:
            outputs = execute(kernel, f"%aiaas attach {trainings.runs['watched']}")
        assert "succeeded" in str(outputs)
        assert "step 0" in str(outputs)
        healed("kernel and server killed: attached, to the end of the run", killed)
    assert_whole(trainings, "watched")
    assert len(trainings.beginnings("watched")) == 1


def execute(kernel: RemoteKernel, source: str) -> list[Any]:
    """The outputs of a cell; none if the kernel dies in it."""
    cells = [new_code_cell("%load_ext aiaas_magics"), new_code_cell(source)]
    with contextlib.suppress(Unavailable):
        kernel.run(
            new_notebook(cells=cells),
            cell_timeout=LONG,
            stop_requested=lambda: False,
            progress=lambda _: None,
        )
    return list(cells[1].get("outputs", []))


def test_a_full_disk(own: RunningPlatform, trainings: Trainings) -> None:
    if not own.home.root.is_mount():
        pytest.skip("only root may mount a small disk, and not in every container")
    trainings.submit("by-the-disk")
    trainings.submit("without-checkpoints", checkpoints=False)
    trainings.until_it_steps("by-the-disk", "without-checkpoints", beyond=3)
    request = trainings.request("refused")
    filler = own.home.root / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        refused = trainings.calls.call("POST", "/blobs", content=secrets.token_bytes(100_000))
        assert refused.status_code == 503
        assert "disk is full" in refused.json()["error"]["message"]
        refused = trainings.calls.call("POST", "/runs", json=request)
        print("a run submitted to a full disk:", refused.status_code, refused.text)
        assert trainings.state("without-checkpoints")["state"] == "running"
        trainings.moment(4)
    finally:
        filler.unlink()
    emptied = time.monotonic()
    broken = trainings.wait("by-the-disk", "failed")
    assert "disk is full" in broken["error"]["message"]
    trainings.until_it_steps("without-checkpoints", beyond=3)
    healed("disk full: metrics arrive again", emptied)
    trainings.until_it_steps("survivor", beyond=3)
    healed("disk full: a run with checkpoints goes on", emptied)
    trainings.runs["resumed"] = trainings.calls.ok(
        "POST",
        f"/runs/{broken['id']}/resume",
        json={"params": {"until": str(trainings.ends / "resumed")}},
    )["id"]
    trainings.until_it_steps("resumed")
    assert trainings.beginnings("resumed")[0][1] > 0
    for name in ("resumed", "without-checkpoints"):
        trainings.end(name)
        trainings.wait(name, "succeeded")
    for name in ("survivor", "by-the-disk", "without-checkpoints"):
        assert_whole(trainings, name)
    assert len(trainings.beginnings("without-checkpoints")) == 1
    assert trainings.held() == 2


def test_a_killed_head(trainings: Trainings) -> None:
    attempt = trainings.state("survivor")["attempt"]
    victim = trainings.moments.choice(["ray", "gcs_server", "raylet"])
    if victim == "ray":
        process = trainings.recorded("ray")
    else:
        (process,) = [one for one in trainings.platform.processes() if one.name() == victim]
    trainings.moment(1)
    killed = kill(process)
    broken = trainings.wait("by-the-head", "lost")
    healed(f"{victim} of the head killed: a run without retries is lost", killed)
    assert "head" in broken["error"]["message"]
    assert f"%aiaas resume {broken['id']}" in broken["error"]["remedy"]
    until_attempt(trainings, attempt + 1)
    healed(f"{victim} of the head killed: goes on from its checkpoint", killed)
    for name in ("survivor", "by-the-head"):
        assert_whole(trainings, name)
    assert trainings.held() == 1


def test_a_killed_hub(own: RunningPlatform, trainings: Trainings) -> None:
    trainings.submit("by-the-hub")
    trainings.until_it_steps("by-the-hub", beyond=3)
    attempt = trainings.state("survivor")["attempt"]
    killed = kill(trainings.found("jupyterhub"))
    assert own.up is not None
    assert own.up.wait(60) == 1
    own.start()
    trainings.wait("by-the-hub", "lost")
    healed("hub killed, and the platform started again: a run without retries is lost", killed)
    until_attempt(trainings, attempt + 1)
    healed("hub killed, and the platform started again: goes on from its checkpoint", killed)
    for name in ("survivor", "by-the-hub"):
        assert_whole(trainings, name)


def test_the_service_killed_at_the_end(trainings: Trainings) -> None:
    trainings.end("survivor")
    trainings.moment(0.5)
    killed = kill(trainings.service())
    trainings.wait("survivor", "succeeded")
    healed("service killed at the end of a run: succeeded", killed)
    assert_whole(trainings, "survivor")
    assert trainings.calls.ok("GET", f"/runs/{trainings.runs['survivor']}/logs")["complete"]
    assert trainings.held() == 0
