"""Runs on a real Ray head: driver, workers, metrics, log and the model's hand-over."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import psutil
import pytest
import torch
from job_service import TOKEN, JobService, RecordedRun
from running_platform import is_alive
from safetensors.numpy import load
from sklearn.datasets import load_digits
from training_cells import DIGITS, FAILING, RESTORING, SLEEPING

from aiaas_hub.adapters.ray_head import read_ports
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.run_directory import path_of
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.schemas.models import ModelHandOver
from aiaas_hub.schemas.runs import EarlyStop, Resources

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OVER = (JobState.ENDED, JobState.FAILED, JobState.STOPPED)


def submit(engine: RayLocal, run: RecordedRun) -> str:
    job = JobSubmission(f"{run.job.run_id}-1", run.job.owner, run.job.resources, TOKEN)
    engine.submit(job)
    return job.id


def wait(engine: RayLocal, job_id: str, *states: JobState, timeout: float = 300) -> JobState:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = engine.status(job_id)
        assert status is not None
        if status.state in states:
            return status.state
        time.sleep(0.2)
    raise AssertionError(f"{job_id} is {status}")


def until(condition: object, timeout: float = 100) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def of_the_head(home: Home) -> Iterator[str]:
    """Command lines of what this Ray runs; other platforms of the machine have workers as well."""
    head = Supervisor(home.processes, home.logs).process("ray")
    assert head is not None
    return command_lines(psutil.Process(head.pid).children(recursive=True))


def command_lines(processes: Iterable[psutil.Process] | None = None) -> Iterator[str]:
    for process in psutil.process_iter() if processes is None else processes:
        try:
            yield " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    loaded = load_digits()
    pixels = (loaded.data / 16).astype("float32")
    return pd.DataFrame({"pixels": list(pixels), "label": loaded.target.astype("int64")})


def test_two_workers_train_report_log_and_hand_over(
    ray_local: RayLocal, job_service: JobService, ray_home: Home, digits: pd.DataFrame
) -> None:
    run = job_service.add(
        "run-digits",
        DIGITS,
        frames={"digits": digits},
        params={"lr": 0.005, "epochs": 12},
        resources=Resources(workers=2),
    )
    job_id = submit(ray_local, run)
    submit(ray_local, run)  # the same id: still one job
    until(lambda: "started" in run.kinds)
    # The service goes away while the run is on, as in a restart: nothing may be lost.
    job_service.unavailable = True
    time.sleep(5)
    job_service.unavailable = False
    assert wait(ray_local, job_id, *OVER) is JobState.ENDED, run.log
    assert run.kinds == ["started", "succeeded"]

    assert "hello from 0 of 2" in run.log
    assert "hello from 1 of 2" in run.log
    assert TOKEN not in run.log
    steps = [step for step, values in run.metrics.values() if "loss" in values]
    assert steps == list(range(1, len(steps) + 1))
    accuracies = [values["accuracy"] for _, values in run.metrics.values() if "accuracy" in values]
    assert len(accuracies) == 12
    assert accuracies[-1] > 0.9

    assert run.model is not None
    model = ModelHandOver.model_validate(run.model)
    assert model.export_max_abs < 1e-4
    rows = load(job_service.blobs[model.evaluation])
    assert rows["input.pixels"].shape == (256, 1, 8, 8)
    (answer,) = onnxruntime.InferenceSession(job_service.blobs[model.onnx]).run(
        None, {"pixels": rows["input.pixels"]}
    )
    np.testing.assert_allclose(answer, rows["output.output"], atol=1e-4)

    assert sorted(run.event_files) == [0, 1]
    written = zipfile.ZipFile(io.BytesIO(job_service.blobs[run.event_files[1]]))
    assert written.read("events.out.tfevents.1") == b"of worker 1"

    token_file = ray_home.runs / "run-digits" / "token-1"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    print({name: round(at - run.times["started"], 1) for name, at in run.times.items()})


def test_a_failing_cell_tells_its_own_line(ray_local: RayLocal, job_service: JobService) -> None:
    run = job_service.add("run-failing", FAILING)
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    assert run.kinds == ["started", "failed"]
    assert run.error.message == (
        "Training failed at cell.py, line 3: ZeroDivisionError: division by zero"
    )
    assert run.error.remedy
    assert run.error.traceback.splitlines()[:2] == [
        "cell.py, line 3, in prepare",
        "    return rows / 0",
    ]
    assert "before the failure" in run.log
    assert "return rows / 0" in run.log


def test_a_run_that_can_never_start_says_so(ray_local: RayLocal, job_service: JobService) -> None:
    run = job_service.add("run-large", SLEEPING, resources=Resources(workers=1000))
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    assert run.kinds == ["failed"]
    assert run.error.message.startswith("The run asks for 1000 CPUs, and this platform has ")
    assert run.error.remedy == "Ask for fewer workers, CPUs or GPUs."


def test_a_run_begins_on_workers_that_wait_and_these_are_used_once(
    ray_local: RayLocal, job_service: JobService
) -> None:
    def waits() -> bool:
        ray_local.tend(list)
        return ray_local.warm(Resources())

    told = (
        "import os, torch\n"
        "def train(ctx):\n"
        "    print('process', os.getpid(), torch.get_num_threads())\n"
    )
    processes = []
    for number in (1, 2):
        until(waits)
        resources = Resources(workers=2, cpus_per_worker=number)
        run = job_service.add(f"run-waited-{number}", told, resources=resources)
        before = {process.pid for process in psutil.process_iter()}
        assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.ENDED, run.log
        said = [line.split() for line in run.log.splitlines() if "process" in line]
        assert sorted(words[0] for words in said) == ["[0]", "[1]"]
        processes.append({int(words[2]) for words in said})
        assert {words[3] for words in said} == {str(number)}
        # They were there before their run was.
        assert processes[-1] <= before
    assert not processes[0] & processes[1]


def test_ray_trains_own_datasets_take_no_processor_from_a_run(
    ray_local: RayLocal, job_service: JobService
) -> None:
    asking = (
        "import psutil, ray.train, time\n"
        "def train(ctx):\n"
        "    time.sleep(2)\n"
        "    ours = psutil.Process().parent().children(recursive=True)\n"
        "    print('divides', [one.name() for one in ours if 'DatasetM' in one.name()])\n"
        "    ray.train.get_dataset_shard('digits')\n"
    )
    run = job_service.add("run-shard", asking)
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    assert "divides []" in run.log
    assert "ray.train.get_dataset_shard('digits') has nothing to give" in run.error.message
    assert "Use ctx.dataset('digits')" in f"{run.error.message} {run.error.remedy}"


def test_a_waiting_worker_that_died_costs_the_run_nothing(
    ray_local: RayLocal, ray_home: Home, job_service: JobService
) -> None:
    def waits() -> bool:
        ray_local.tend(list)
        return ray_local.warm(Resources())

    until(waits)
    head = Supervisor(ray_home.processes, ray_home.logs).process("ray")
    assert head is not None
    workers = [
        process
        for process in psutil.Process(head.pid).children(recursive=True)
        if "RunWorker" in " ".join(process.cmdline())
    ]
    workers[0].kill()
    run = job_service.add("run-after-death", "def train(ctx):\n    print('trained')\n")
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.ENDED, run.log
    assert "trained" in run.log


def test_a_driver_that_dies_before_it_begins_is_started_again(
    ray_local: RayLocal, ray_home: Home, job_service: JobService
) -> None:
    run = job_service.add("run-early-death", "def train(ctx):\n    print('trained')\n")
    # None waits right after the run before, so that this one starts its own.
    job_id = submit(ray_local, run)
    (directory,) = [
        path.parent
        for path in (ray_home.ray / "drivers").glob("*/assignment.json")
        if job_id in path.read_text()
    ]
    driver = Supervisor(ray_home.processes, ray_home.logs).process(directory.name)
    assert driver is not None
    psutil.Process(driver.pid).kill()
    assert wait(ray_local, job_id, *OVER) is JobState.ENDED, run.log
    assert run.kinds == ["started", "succeeded"]


def test_a_resumed_run_begins_with_the_last_checkpoint(
    ray_local: RayLocal, job_service: JobService
) -> None:
    first = job_service.add(
        "run-first", "def train(ctx):\n    ctx.checkpoint(value=41)\n    raise SystemExit('died')\n"
    )
    assert wait(ray_local, submit(ray_local, first), *OVER) is JobState.FAILED
    # One that fails before it has a checkpoint of its own hands on what it began with, and one
    # that has its own hands on that.
    parent = "run-first"
    for name, cell in (
        ("run-second", "def train(ctx):\n    raise SystemExit('died')\n"),
        (
            "run-third",
            "def train(ctx):\n    ctx.checkpoint(value=ctx.restore()['value'] + 1)\n"
            "    raise SystemExit('died')\n",
        ),
        ("run-fourth", "def train(ctx):\n    ctx.report(step=1, **ctx.restore())\n"),
    ):
        run = job_service.add(name, cell)
        job = JobSubmission(
            f"{name}-1", run.job.owner, run.job.resources, TOKEN, resumed_from=parent
        )
        ray_local.submit(job)
        assert wait(ray_local, job.id, *OVER) in OVER
        parent = name
    assert run.kinds == ["started", "succeeded"], run.log
    assert [point for _, point in run.metrics.values()] == [{"value": 42}]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            {"early_stop": EarlyStop(metric="loss", mode="min", patience=3)},
            "loss has not improved in 3 reports (best: 1)",
        ),
        ({"time_limit": 2}, "the time limit of 2 s is over"),
    ],
)
def test_all_workers_end_by_the_runs_own_rule_at_the_same_step(
    ray_local: RayLocal, job_service: JobService, rule: dict[str, Any], says: str
) -> None:
    cell = (
        "import time\n"
        "def train(ctx):\n"
        "    print('half \\udc80')\n"
        "    step = 0\n"
        "    while not ctx.should_stop:\n"
        "        step += 1\n"
        "        ctx.report(step=step, loss=1.0)\n"
        "        time.sleep(0.05)\n"
        "    print('ended at', step)\n"
    )
    run = job_service.add(f"run-{next(iter(rule))}", cell, resources=Resources(workers=2))
    run.job = run.job.model_copy(update=rule)
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.ENDED, run.log
    assert run.kinds == ["started", "succeeded"]
    assert f"[0] [aiaas] stopping: {says}" in run.log.splitlines()
    ends = {line[4:] for line in run.log.splitlines() if "ended at" in line}
    # On a busy machine the limit may be over before the first step.
    last = max((step for step, _ in run.metrics.values()), default=0)
    assert ends == {f"ended at {last}"}
    # Text that is none fails no run, and is told as `--smoke` tells it.
    assert run.log.count("half \\udc80") == 2


def test_no_line_of_a_log_is_torn_or_lost(ray_local: RayLocal, job_service: JobService) -> None:
    cell = (
        "import os, sys\n"
        "def train(ctx):\n"
        "    for number in range(2000):\n"
        "        os.write(1, b'line')\n"
        "        sys.stdout.flush()\n"
        "        os.write(1, b' %d\\n' % number)\n"
        "    os.write(1, b'last words')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    run = job_service.add("run-lines", cell, resources=Resources(workers=2))
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    for rank in (0, 1):
        prefix = f"[{rank}] "
        lines = [
            line.removeprefix(prefix) for line in run.log.splitlines() if line.startswith(prefix)
        ]
        # A worker may be ended by its peer's death before it has written all.
        numbers = [line for line in lines if line.startswith("line ")]
        assert numbers == [f"line {number}" for number in range(len(numbers))]
    assert any(line.endswith("] last words") for line in run.log.splitlines())


def test_a_retry_goes_on_from_its_checkpoint(ray_local: RayLocal, job_service: JobService) -> None:
    run = job_service.add("run-restoring", RESTORING, retries=1)
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.ENDED, run.log
    assert run.kinds[-1] == "succeeded"
    assert [point for _, point in sorted(run.metrics.items())] == [
        (1, {"attempt": 1}),
        (2, {"attempt": 2, "value": 42}),
    ]
    assert "the first try fails. Going on from its checkpoint (retry 1 of 1). If that" in run.log


def test_workers_wait_for_each_other_as_long_as_the_operator_says(
    ray_local: RayLocal, job_service: JobService
) -> None:
    cell = (
        "import time, torch\n"
        "def train(ctx):\n"
        "    if ctx.rank == 1:\n"
        "        time.sleep(500)\n"
        "    torch.distributed.all_reduce(torch.ones(1))\n"
    )
    run = job_service.add("run-waiting", cell, resources=Resources(workers=2))
    run.job = run.job.model_copy(update={"collective_seconds": 3})
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    assert "a worker waited for the others until the time was up" in run.error.message
    assert "the same number of batches" in run.error.remedy


def test_a_checkpoint_waits_for_the_log_before_it(
    ray_local: RayLocal, ray_home: Home, job_service: JobService, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    cell = (
        "import time\nfrom pathlib import Path\n"
        "def train(ctx):\n"
        "    print('waits')\n"
        f"    while not Path({str(go)!r}).exists():\n        time.sleep(0.05)\n"
        "    print('said before')\n"
        "    ctx.checkpoint(value=1)\n"
    )
    run = job_service.add("run-logged", cell)
    job_id = submit(ray_local, run)
    until(lambda: "waits" in run.log)
    storage = ray_home.runs / "run-logged"
    job_service.unavailable = True
    try:
        go.touch()
        until(lambda: list(storage.rglob("checkpoint_*/*")))
        # Written, and not counted yet: the driver looks for it five times a second.
        time.sleep(1)
        assert not list(storage.rglob("checkpoint_manager_snapshot.json"))
    finally:
        job_service.unavailable = False
    assert wait(ray_local, job_id, *OVER) is JobState.ENDED, run.log
    assert "said before" in run.log
    assert list(storage.rglob("checkpoint_manager_snapshot.json"))


def test_stopping_leaves_no_process_of_a_run_whose_use_was_told(
    ray_local: RayLocal, ray_home: Home, job_service: JobService
) -> None:
    cell = (
        "import time\n"
        "def train(ctx):\n"
        "    held = b'x' * (300_000_000 * ctx.rank)\n"
        "    while True:\n"
        "        time.sleep(1) if ctx.rank else sum(range(100_000))\n"
    )
    run = job_service.add("run-using", cell, resources=Resources(workers=2))
    job_id = submit(ray_local, run)
    until(lambda: {sample.worker for sample in run.usage} == {0, 1}, timeout=200)
    ray_local.stop(job_id)
    assert wait(ray_local, job_id, *OVER, timeout=30) is JobState.STOPPED
    until(lambda: not [line for line in of_the_head(ray_home) if "RunWorker" in line], timeout=20)
    assert "succeeded" not in run.kinds

    busy, holding = ({s.worker: s for s in run.usage}[rank] for rank in (0, 1))
    assert busy.cpu_percent > holding.cpu_percent
    assert busy.cpu_percent > 1
    assert holding.memory_bytes - busy.memory_bytes > 200_000_000
    for sample in run.usage:
        assert sample.host == socket.gethostname()
        assert 0 < sample.memory_bytes < sample.memory_total_bytes
        assert sample.memory_total_bytes <= psutil.virtual_memory().total
        assert 0 <= sample.cpu_percent < 110 * (os.cpu_count() or 1)
        if not torch.cuda.is_available():
            assert (sample.gpu_percent, sample.gpu_memory_bytes) == (None, None)


def test_a_run_that_the_service_has_ended_stops_by_itself(
    ray_local: RayLocal, job_service: JobService
) -> None:
    run = job_service.add("run-over", SLEEPING)
    run.cancelled = True
    assert wait(ray_local, submit(ray_local, run), *OVER) is JobState.FAILED
    assert run.events == []


def test_strangers_do_not_reach_ray(ray_local: RayLocal, ray_home: Home) -> None:
    ports = read_ports(ray_home)
    assert ports is not None
    program = f"import ray; ray.init(address='127.0.0.1:{ports.gcs}'); print('inside')"
    for environment in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            # Else Ray replaces the address by the host's own.
            env={"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **environment},
        )
        assert done.returncode != 0
        assert "inside" not in done.stdout
        assert "nauthenticated" in done.stderr or "token" in done.stderr.lower()
    token = ray_home.secret("ray_token")
    assert not [line for line in command_lines() if token in line]
    assert stat.S_IMODE(path_of(ray_home).stat().st_mode) == 0o700


def test_ray_listens_on_loopback_only(ray_local: RayLocal, ray_home: Home) -> None:
    head = Supervisor(ray_home.processes, ray_home.logs).process("ray")
    assert head is not None
    leader = psutil.Process(head.pid)
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in [leader, *leader.children(recursive=True)]
        if is_alive(process)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert "127.0.0.1" in addresses
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses
