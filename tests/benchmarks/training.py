"""From submit to the first step, and steps a second: the platform, Ray's own way and torchrun.

    python tests/benchmarks/training.py [REPEATS] [--without-ray-jobs]

The same data-parallel loop with two workers, three ways in turn, several times, in one run:

- `platform`: submitted over HTTP to a warm local platform, a metric reported at every step
  and watched all the while, as a cell does;
- `ray_jobs`: a script given to Ray's Jobs API that calls `TorchTrainer.fit`, defaults throughout;
- `torchrun`: `python -m torch.distributed.run --nproc-per-node 2`.

Times are seconds, medians of the repeats; `first_step` is from the submission to the end of the
first step on worker 0's clock. Ratios are of the medians.
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

from running_platform import RunningPlatform
from service_calls import PYTHON, ServiceCalls

from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.runs import Run, RunState
from aiaas_magics.client import Client
from aiaas_magics.client.transport import Connection, Transport

STEPS = 400
"""The first tenth is not counted in the steps a second."""

LOOP = f"""
import json, time, torch

def loop(prepare, rank, report):
    torch.manual_seed(0)
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
        if step == 0:
            first = time.time()
        if step == {STEPS // 10}:
            counted = time.perf_counter()
    rate = {STEPS - STEPS // 10 - 1} / (time.perf_counter() - counted)
    if rank == 0:
        said = dict(first=first, rate=rate, threads=torch.get_num_threads())
        print("MEASURED" + json.dumps(said), flush=True)
"""

PLATFORM = (
    LOOP
    + """
def train(ctx):
    loop(ctx.prepare, ctx.rank, lambda step, loss: ctx.report(step=step, loss=loss))
"""
)

TORCHRUN = (
    LOOP
    + """
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
loop(DistributedDataParallel, dist.get_rank(), lambda step, loss: None)
dist.destroy_process_group()
"""
)

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
    """Measure, print and return `{way: {first_step, steps_per_second, …}, "ratios": …}`."""
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
    result["ratios"] = {
        f"{what}: platform to {other}": round(
            result["platform"][what] / max(result[other][what], 1e-9), 3
        )
        for other in samples
        if other != "platform"
        for what in ("first_step", "steps_per_second")
    }
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


def on_platform(calls: ServiceCalls) -> dict[str, float]:
    """One run on workers that wait."""
    submitted = time.time()
    run = calls.submit(PLATFORM, resources={"workers": 2})
    watch_until_over(calls, run)
    return measured(calls.ok("GET", f"/runs/{run}/logs")["text"], submitted)


def watch_until_over(calls: ServiceCalls, run: str) -> None:
    """As a cell does, by the stream. Asking again and again, with a connection each time, takes
    a sixth of the two cores that are measured."""
    connection = Connection(f"{calls.platform.url}/services/aiaas", calls.token)
    for update in Client(Transport(connection)).runs.watch(run):
        if isinstance(update, Run):
            state = update.state
    assert state is RunState.SUCCEEDED, state


def with_torchrun(root: Path) -> dict[str, float]:
    script = root / "torchrun.py"
    script.write_text(TORCHRUN)
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
    }


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--without-ray-jobs"]
    main(*map(int, arguments[:1]), with_ray_jobs="--without-ray-jobs" not in sys.argv)
