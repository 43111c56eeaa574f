"""Transforms on a real Ray head: Ray Data, its actors, and one of them killed."""

from __future__ import annotations

import io
import os
import signal
import time

import pandas as pd
import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.schemas.runs import Resources
from aiaas_hub.schemas.transforms import TransformSpec

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OVER = (JobState.ENDED, JobState.FAILED, JobState.STOPPED)

CLEAN = """
import os
import time

def transform(batch):
    print("batch of", len(batch), "in process", os.getpid())
    time.sleep(0.05)
    kept = batch[batch.x % 2 == 0]
    # Whole numbers in the first batch, and others in the last.
    return kept.assign(y=kept.x if kept.x.max() < 900 else kept.x / 4)
"""

FAILING = """
def transform(batch):
    return batch.assign(y=1 / (batch.x.iloc[0] - 100))[["nothing"]]
"""


def submit(engine: RayLocal, run: RecordedRun) -> str:
    job = JobSubmission(f"{run.job.run_id}-1", run.job.owner, run.job.resources, TOKEN)
    engine.submit(job)
    return job.id


def over(engine: RayLocal, job_id: str, run: RecordedRun) -> JobState:
    deadline = time.monotonic() + 280
    while (status := engine.status(job_id)) is None or status.state not in OVER:
        assert time.monotonic() < deadline, run.log
        time.sleep(0.2)
    return status.state


def numbers() -> dict[str, pd.DataFrame]:
    return {"numbers": pd.DataFrame({"x": range(1000), "label": [n % 4 for n in range(1000)]})}


def test_two_workers_of_which_one_is_killed_make_all_of_it_once(
    ray_local: RayLocal, job_service: JobService, ray_home: Home
) -> None:
    run = job_service.add(
        "run-clean",
        CLEAN,
        frames=numbers(),
        transform=TransformSpec(
            target="clean",
            batch_size=10,
            split={"train": 0.8, "test": 0.2},
            stratify="label",
            seed=3,
        ),
        resources=Resources(workers=2),
    )
    job_id = submit(ray_local, run)
    deadline = time.monotonic() + 200
    while "in process" not in run.log:
        assert time.monotonic() < deadline, run.log
        time.sleep(0.05)
    victim = next(int(line.split()[-1]) for line in run.log.splitlines() if "in process" in line)
    os.kill(victim, signal.SIGKILL)
    assert not run.made, "nothing is committed before the end"

    assert over(ray_local, job_id, run) is JobState.ENDED, (run.events, run.log)
    assert run.kinds[0] == "started"
    assert run.kinds[-1] == "succeeded"
    (made,) = run.made
    tables = {name: pd.read_parquet(io.BytesIO(content)) for name, content in made.items()}
    assert list(tables) == ["clean-train", "clean-test"]
    assert [len(table) for table in tables.values()] == [400, 100]
    assert tables["clean-test"].label.value_counts().to_dict() == {0: 50, 2: 50}
    rows = pd.concat(tables.values()).sort_values("x")
    assert rows.x.tolist() == list(range(0, 1000, 2))
    assert rows.y.dtype == "float64"
    for table in tables.values():
        assert table.x.is_monotonic_increasing, "the source's order"
    assert len({line.split()[-1] for line in run.log.splitlines() if "in process" in line}) >= 2
    assert "made ada/clean-train@1: 400 rows" in run.log
    assert ":actor_name:" not in run.log
    assert run.progress is not None
    assert (run.progress.step, run.progress.total) == (1000, 1000)
    assert not (ray_home.runs / "run-clean" / "storage" / "transform").exists()
    assert TOKEN not in run.log


def test_a_failure_of_the_code_is_told_with_its_line_and_commits_nothing(
    ray_local: RayLocal, job_service: JobService
) -> None:
    run = job_service.add(
        "run-unclean", FAILING, frames=numbers(), transform=TransformSpec(target="clean")
    )
    assert over(ray_local, submit(ray_local, run), run) is JobState.FAILED
    assert run.kinds[-1] == "failed"
    assert run.error.message.startswith("The transform failed at cell.py, line 3: ")
    assert "nothing" in run.error.message
    assert run.made == []


def test_a_transform_that_is_stopped_commits_nothing(
    ray_local: RayLocal, job_service: JobService
) -> None:
    run = job_service.add(
        "run-endless",
        CLEAN.replace("0.05", "600"),
        frames=numbers(),
        transform=TransformSpec(target="clean"),
    )
    job_id = submit(ray_local, run)
    deadline = time.monotonic() + 200
    while "in process" not in run.log:
        assert time.monotonic() < deadline, run.log
        time.sleep(0.05)
    ray_local.stop(job_id)
    assert over(ray_local, job_id, run) is JobState.STOPPED
    assert run.made == []
