"""Sweeps on a real Ray head: Tune, trials in its workers, and a driver that died in between."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import psutil
import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.schemas.runs import Distribution, RunState, SweepSpec

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

SQUARE = """
import os


def train(ctx):
    print(f"trying {ctx.params.x} with {ctx.params.bonus}")
    if ctx.params.x == 3:
        raise ValueError("three is not tried")
    for step in range(1, 4):
        ctx.report(step=step, score=ctx.params.bonus - ctx.params.x ** 2 / step, pid=os.getpid())
    ctx.checkpoint(x=ctx.params.x)
"""

SLOPES = """
import time
from itertools import count


def train(ctx):
    for step in range(1, 41):
        time.sleep(0.05)
        ctx.report(step=step, loss=ctx.params.slope * step)
"""


def run(engine: RayLocal, sweep: RecordedRun) -> JobState:
    job = JobSubmission(f"{sweep.job.run_id}-1", "ada", sweep.job.resources, TOKEN)
    engine.submit(job)
    return over(engine, job.id, sweep)


def over(engine: RayLocal, job_id: str, sweep: RecordedRun) -> JobState:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        status = engine.status(job_id)
        assert status is not None
        if status.state in (JobState.ENDED, JobState.FAILED, JobState.STOPPED):
            return status.state
        time.sleep(0.2)
    raise AssertionError(f"{job_id} goes on: {sweep.log}")


def test_a_grid_is_tried_by_workers_that_serve_several_trials(
    ray_local: RayLocal, job_service: JobService, ray_home: Home
) -> None:
    spec = SweepSpec(
        space={"x": Distribution(kind="choice", values=[1, 2, 3, 4])},
        trials=4,
        metric="score",
        mode="max",
        search="grid",
        concurrency=2,
    )
    sweep = job_service.add("sweep-grid", SQUARE, params={"bonus": 100}, sweep=spec)
    # A driver before this one has finished the first trial and begun the second.
    journal = ray_home.runs / "sweep-grid" / "storage" / "sweep.jsonl"
    journal.parent.mkdir(parents=True)
    lines = [
        {"number": 0, "params": {"x": 1}},
        {"number": 0, "value": 99.5},
        {"number": 1, "params": {"x": 2}},
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert run(ray_local, sweep) is JobState.ENDED, (sweep.events, sweep.log)
    assert sweep.kinds == ["started", "succeeded"]
    assert sorted(sweep.trials) == [1, 2, 3]
    assert [sweep.trials[number].job.params["x"] for number in (1, 2, 3)] == [2, 3, 4]
    assert [sweep.trials[number].kinds for number in (1, 2, 3)] == [
        ["started", "succeeded"],
        ["started", "failed"],
        ["started", "succeeded"],
    ]
    second = sweep.trials[1]
    assert [step for step, _ in second.metrics.values()] == [1, 2, 3]
    assert [values["score"] for _, values in second.metrics.values()] == [
        96,
        98,
        pytest.approx(100 - 4 / 3),
    ]
    assert "trying 2 with 100" in second.log
    assert "trying" not in sweep.log
    assert sweep.trials[2].error.message.startswith(
        "Training failed at cell.py, line 8: ValueError: three is not tried"
    )
    assert "best: trial 0 (x=1), score 99.5" in sweep.log
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    assert {line["number"] for line in written if "value" in line} == {0, 1, 2, 3}
    assert TOKEN not in journal.read_text() + sweep.log


HELD = """
import os
import time
from pathlib import Path


def train(ctx):
    print("process", os.getpid(), flush=True)
    for step in (1, 2):
        ctx.report(step=step, score=ctx.params.x * step)
    while ctx.params.x > 2 and not (Path(ctx.params.go) / str(ctx.params.x)).exists():
        time.sleep(0.05)
"""


def test_a_sweep_outlives_its_driver_and_a_worker(
    ray_local: RayLocal, job_service: JobService, ray_home: Home, tmp_path: Path
) -> None:
    """Its driver is killed in the third of its trials, and the worker of the fourth one."""
    spec = SweepSpec(
        space={"x": Distribution(kind="choice", values=[1, 2, 3, 4])},
        trials=4,
        metric="score",
        mode="max",
        search="grid",
    )
    sweep = job_service.add(
        "sweep-killed", HELD, params={"go": str(tmp_path)}, retries=1, sweep=spec
    )

    def process_of(trial: int, number: int) -> psutil.Process:
        """The so manieth that has begun the trial."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            begun = [] if trial not in sweep.trials else processes(sweep.trials[trial])
            if len(begun) == number and sweep.trials[trial].metrics:
                return psutil.Process(begun[-1])
            time.sleep(0.1)
        raise AssertionError((sweep.events, sweep.log))

    first = JobSubmission("sweep-killed-1", "ada", sweep.job.resources, TOKEN)
    ray_local.submit(first)
    worker = process_of(2, 1)
    driver_of(ray_home, first.id).kill()
    assert over(ray_local, first.id, sweep) is JobState.FAILED
    worker.wait(60)
    (tmp_path / "3").touch()

    second = JobSubmission("sweep-killed-2", "ada", sweep.job.resources, TOKEN)
    ray_local.submit(second)
    process_of(3, 1).kill()
    (tmp_path / "4").touch()
    assert over(ray_local, second.id, sweep) is JobState.ENDED, (sweep.events, sweep.log)

    assert sweep.kinds == ["started", "started", "succeeded"]
    assert sorted(sweep.trials) == [0, 1, 2, 3]
    trials = [sweep.trials[number] for number in range(4)]
    assert [len(processes(trial)) for trial in trials] == [1, 1, 2, 2]
    once, twice = ["started", "succeeded"], ["started", "started", "succeeded"]
    assert [trial.kinds for trial in trials] == [once, once, twice, twice]
    journal = ray_home.runs / "sweep-killed" / "storage" / "sweep.jsonl"
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    ends = [(line["number"], line["value"]) for line in written if "value" in line]
    assert ends == [(0, 2), (1, 4), (2, 6), (3, 8)]
    assert [line["params"]["x"] for line in written if "params" in line] == [1, 2, 3, 4]


def processes(trial: RecordedRun) -> list[int]:
    """That have begun it, as it says itself."""
    return [int(pid) for pid in re.findall(r"\bprocess (\d+)$", trial.log, re.MULTILINE)]


def driver_of(home: Home, job_id: str) -> psutil.Process:
    (directory,) = [
        path.parent
        for path in (home.ray / "drivers").glob("*/assignment.json")
        if job_id in path.read_text()
    ]
    driver = Supervisor(home.processes, home.logs).process(directory.name)
    assert driver is not None
    return psutil.Process(driver.pid)


def test_asha_stops_what_lags_behind(ray_local: RayLocal, job_service: JobService) -> None:
    spec = SweepSpec(
        # One after the other, the best first: which one lags is no matter of who was quicker.
        space={"slope": Distribution(kind="choice", values=[1, 100])},
        trials=2,
        metric="loss",
        mode="min",
        search="grid",
        scheduler="asha",
    )
    sweep = job_service.add("sweep-asha", SLOPES, sweep=spec)
    assert run(ray_local, sweep) is JobState.ENDED, (sweep.events, sweep.log)
    leader, laggard = sweep.trials[0], sweep.trials[1]
    assert (leader.state, len(leader.metrics)) == (RunState.SUCCEEDED, 40)
    assert laggard.state is RunState.CANCELLED
    assert laggard.kinds == ["started", "stopped"]
    assert 1 <= len(laggard.metrics) < 10
    assert "trial 1 was stopped early: 100" in sweep.log


def test_a_cell_that_cannot_run_is_not_tried_to_the_end(
    ray_local: RayLocal, job_service: JobService
) -> None:
    spec = SweepSpec(
        space={"x": Distribution(kind="int", low=1, high=9)},
        trials=50,
        metric="score",
        search="bayesian",
    )
    sweep = job_service.add("sweep-broken", "import nowhere_at_all", sweep=spec)
    assert run(ray_local, sweep) is JobState.FAILED
    assert sweep.kinds == ["started", "failed"]
    assert len(sweep.trials) < 10
    assert sweep.error.message.startswith("All ")
    assert "nowhere_at_all" in sweep.error.message
    assert {trial.state for trial in sweep.trials.values()} <= {
        RunState.FAILED,
        RunState.CANCELLED,
    }


def test_a_sweep_that_is_stopped_takes_its_trials_along(
    ray_local: RayLocal, job_service: JobService
) -> None:
    spec = SweepSpec(
        space={"slope": Distribution(kind="choice", values=[1, 2, 3, 4])},
        trials=4,
        metric="loss",
        search="grid",
        concurrency=2,
    )
    sweep = job_service.add("sweep-stopped", SLOPES.replace("range(1, 41)", "count(1)"), sweep=spec)
    job = JobSubmission("sweep-stopped-1", "ada", sweep.job.resources, TOKEN)
    ray_local.submit(job)
    deadline = time.monotonic() + 120
    while not any(trial.metrics for trial in sweep.trials.values()):
        assert time.monotonic() < deadline, sweep.log
        time.sleep(0.1)
    ray_local.stop(job.id)
    assert over(ray_local, job.id, sweep) is JobState.STOPPED
    assert sweep.kinds == ["started"]
    assert len(sweep.trials) <= 2
    assert {trial.state for trial in sweep.trials.values()} <= {
        RunState.CANCELLED,
        RunState.RUNNING,  # its worker was ended before it could tell: the service ends it then
    }
