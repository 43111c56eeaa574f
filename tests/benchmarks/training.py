"""From submit to the first step, and steps a second: the platform, Ray's own way and torchrun.

    python tests/benchmarks/training.py [REPEATS] [--without-ray-jobs]

The same data-parallel loop with two workers, three ways in turn, several times, in one run:

- `platform`: submitted over HTTP to a warm local platform, a metric reported at every step
  and watched all the while, as a cell does;
- `flooded`: the same, and worker 0 prints ten thousand lines a second meanwhile;
- `ray_jobs`: a script given to Ray's Jobs API that calls `TorchTrainer.fit`, defaults throughout;
- `torchrun`: `python -m torch.distributed.run --nproc-per-node 2`;
- `torchrun_flooded`: the same with those lines, which a pipe takes.

`busy_beside` is how many processors were busy while it trained, all but the two training processes
taken together, and `flood_takes` how many more when it was flooded.

Times are seconds, medians of the repeats; `first_step` is from the submission to the end of the
first step on worker 0's clock. Ratios are medians of those of each repeat, whose ways follow each
other: a machine that is slower for minutes is that for both. Fails where a limit is not kept.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from running_platform import RunningPlatform
from service_calls import PYTHON, ServiceCalls

from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.runs import Metrics, Run, RunState
from aiaas_magics.client import Client
from aiaas_magics.client.transport import Connection, Transport

STEPS = 800
"""The first tenth is not counted in the steps a second."""

LINES_PER_SECOND = 10_000

BESIDE_SECONDS = 5.0

LIMITS = {"first_step": 5.0, "steps_to_torchrun": 0.97, "flood_takes": 0.06}
"""Seconds at most; steps a second as a part of torchrun's at least; processors at most. Three
hundredths of two: the steps of a flooded run beside its own without differ by less than a machine
that others share does from minute to minute, so they are told and have no limit."""

LOOP = f"""
import json, time, torch

def loop(prepare, rank, report, lines_per_second=0):
    torch.manual_seed(0)
    lines, began = 0, time.perf_counter()
    model = prepare(torch.nn.Sequential(
        torch.nn.Linear(512, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows, labels = torch.randn(128, 512), torch.randint(10, (128,))
    for step in range({STEPS}):
        loss = torch.nn.functional.cross_entropy(model(rows), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report(step, loss.item())
        due = int((time.perf_counter() - began) * lines_per_second) if rank == 0 else 0
        if due > lines:
            print("\\n".join("line %d of what this run says" % n for n in range(lines, due)))
            lines = due
        if step == 0:
            first = time.time()
        if step == {STEPS // 10}:
            counted = time.perf_counter()
    rate = {STEPS - STEPS // 10 - 1} / (time.perf_counter() - counted)
    if rank == 0:
        said = dict(first=first, rate=rate, threads=torch.get_num_threads(), lines=lines)
        print("MEASURED" + json.dumps(said), flush=True)
"""

PLATFORM = """
def train(ctx):
    def report(step, loss):
        ctx.report(step=step, loss=loss)
    loop(ctx.prepare, ctx.rank, report, LINES_PER_SECOND)
"""

TORCHRUN = """
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
loop(DistributedDataParallel, dist.get_rank(), lambda step, loss: None, LINES_PER_SECOND)
dist.destroy_process_group()
"""

RAY_JOBS = (
    "import ray, ray.train, ray.train.torch\n\ndef train():\n"
    + textwrap.indent(LOOP, "    ")
    + """
    loop(ray.train.torch.prepare_model, ray.train.get_context().get_world_rank(),
         lambda step, loss: None)

trainer = ray.train.torch.TorchTrainer(
    train, scaling_config=ray.train.ScalingConfig(num_workers=2))
trainer.fit()
"""
)


def main(repeats: int = 5, *, with_ray_jobs: bool = True) -> dict[str, Any]:
    """Measure, print and return `{way: {first_step, steps_per_second, …}, …, "ok": …}`."""
    with tempfile.TemporaryDirectory(prefix="aiaas-benchmark-") as directory:
        root = Path(directory)
        platform = RunningPlatform.on(root / "home")
        head = RayHead(root) if with_ray_jobs else None
        try:
            platform.start()
            calls = ServiceCalls.of(platform, "ada")
            ways: dict[str, Callable[[], dict[str, float]]] = {
                "platform": lambda: on_platform(calls),
                "torchrun": lambda: with_torchrun(root),
                "flooded": lambda: on_platform(calls, LINES_PER_SECOND),
                "torchrun_flooded": lambda: with_torchrun(root, LINES_PER_SECOND),
            }
            if head is not None:
                head.start()
                ways["ray_jobs"] = head.job
            samples: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for number in range(repeats):
                for name, measure in ways.items():
                    until_quiet(calls)
                    sample = measure()
                    sys.stderr.write(f"{name} {number + 1}: {sample}\n")
                    samples[name].append(sample)
        finally:
            if platform.up is not None:
                platform.stop()
            platform.end()
            if head is not None:
                head.stop()
    result: dict[str, Any] = {
        name: {
            key: round(statistics.median(sample[key] for sample in found), 2) for key in found[0]
        }
        for name, found in samples.items()
    }
    result["repeats"] = repeats

    def ratio(key: str, way: str, other: str) -> float:
        pairs = zip(samples[way], samples[other], strict=True)
        return round(statistics.median(one[key] / two[key] for one, two in pairs), 3)

    result["first_step_to"] = {
        other: ratio("first_step", "platform", other)
        for other in ("torchrun", "ray_jobs")
        if other in samples
    }
    result["steps_to_torchrun"] = ratio("steps_per_second", "platform", "torchrun")
    result["flooded_steps_to_torchrun"] = ratio("steps_per_second", "flooded", "torchrun_flooded")
    result["flood_takes"] = round(
        statistics.median(
            one["busy_beside"] - two["busy_beside"]
            for one, two in zip(samples["flooded"], samples["platform"], strict=True)
        ),
        3,
    )
    result["limits"] = LIMITS
    result["ok"] = (
        result["platform"]["first_step"] <= LIMITS["first_step"]
        and result["steps_to_torchrun"] >= LIMITS["steps_to_torchrun"]
        and result["flood_takes"] <= LIMITS["flood_takes"]
    )
    sys.stdout.write(json.dumps(result) + "\n")
    return result


def until_quiet(calls: ServiceCalls) -> None:
    """Until the platform has workers that wait. It makes them again after each run, behind, and
    whatever is measured meanwhile has half of the machine."""
    snapshot = {"digest": "0" * 64, "python": PYTHON, "client": "0.1.0"}
    plan = {"name": "benchmark", "snapshot": snapshot, "resources": {"workers": 2}}
    deadline = time.monotonic() + 120
    while not calls.ok("POST", "/runs/plan", json=plan)["warm"]:
        assert time.monotonic() < deadline, "no workers wait"
        time.sleep(0.5)
    time.sleep(1)


def saying(program: str, lines_per_second: int) -> str:
    return f"LINES_PER_SECOND = {lines_per_second}\n{LOOP}{program}"


def on_platform(calls: ServiceCalls, lines_per_second: int = 0) -> dict[str, float]:
    """One run on workers that wait."""
    submitted = time.time()
    run = calls.submit(saying(PLATFORM, lines_per_second), resources={"workers": 2})
    beside = watch_until_over(calls, run)
    return {**measured(whole_log(calls, run), submitted), "busy_beside": beside}


def whole_log(calls: ServiceCalls, run: str) -> str:
    text, offset = "", 0
    while True:
        page = calls.ok("GET", f"/runs/{run}/logs?offset={offset}")
        text += page["text"]
        if page["complete"] or page["next_offset"] <= offset:
            return text
        offset = page["next_offset"]


def watch_until_over(calls: ServiceCalls, run: str) -> float:
    """As a cell does, by the stream. Asking again and again, with a connection each time, takes
    a sixth of the two cores that are measured. How many processors were busy beside the two that
    train, over `BESIDE_SECONDS` of it."""
    connection = Connection(f"{calls.platform.url}/services/aiaas", calls.token)
    marks: list[tuple[float, dict[int, float]]] = []
    for update in Client(Transport(connection)).runs.watch(run):
        if isinstance(update, Run):
            state = update.state
        elif isinstance(update, Metrics):
            now = time.monotonic()
            if not marks or (len(marks) == 1 and now - marks[0][0] > BESIDE_SECONDS):
                marks.append((now, processor_seconds()))
    assert state is RunState.SUCCEEDED, state
    assert len(marks) == 2, f"over within {BESIDE_SECONDS} s: this machine needs more STEPS"
    (began, before), (ended, after) = marks
    taken = sorted(seconds - before.get(process, 0) for process, seconds in after.items())
    return sum(taken[:-2]) / (ended - began)


def processor_seconds() -> dict[int, float]:
    """Of every process of this machine."""
    times = {one.pid: one.info["cpu_times"] for one in psutil.process_iter(["cpu_times"])}
    return {process: one.user + one.system for process, one in times.items() if one is not None}


def with_torchrun(root: Path, lines_per_second: int = 0) -> dict[str, float]:
    script = root / "torchrun.py"
    script.write_text(saying(TORCHRUN, lines_per_second))
    submitted = time.time()
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**environment(), "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return measured(done.stdout, submitted)


class RayHead:
    """A head as `ray start` makes it, on loopback, and Ray's own client of its Jobs API."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._gcs, self._dashboard = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._env = {
            **environment(),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "GLOO_SOCKET_IFNAME": "lo",
        }

    def start(self) -> None:
        options = (
            f"start --head --block --node-ip-address=127.0.0.1 --port={self._gcs} --num-cpus=4 "
            f"--dashboard-host=127.0.0.1 --dashboard-port={self._dashboard} "
            f"--temp-dir={self._root / 'ray'} --disable-usage-stats "
            "--object-store-memory=500000000"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *options.split()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._env,
            cwd=self._root,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while self._submit("true").returncode:
            assert time.monotonic() < deadline, "Ray's own head does not start"

    def job(self) -> dict[str, float]:
        script = self._root / "ray_jobs.py"
        script.write_text(RAY_JOBS)
        submitted = time.time()
        done = self._submit(f"{sys.executable} {script}")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return measured(done.stdout + done.stderr, submitted)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 15)
            self._process.wait(60)

    def _submit(self, command: str) -> subprocess.CompletedProcess[str]:
        address = f"http://127.0.0.1:{self._dashboard}"
        return subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit"),
                *("--address", address, "--", *command.split()),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=self._env,
        )


def environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}


def measured(output: str, submitted: float) -> dict[str, float]:
    found = re.search(r"MEASURED(\{.*?\})", output)
    assert found, output[-3000:]
    said = json.loads(found.group(1))
    return {
        "first_step": said["first"] - submitted,
        "steps_per_second": said["rate"],
        "threads": said["threads"],
        "lines": said["lines"],
    }


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--without-ray-jobs"]
    found = main(*map(int, arguments[:1]), with_ray_jobs="--without-ray-jobs" not in sys.argv)
    sys.exit(0 if found["ok"] else 1)
