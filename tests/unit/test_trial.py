"""A trial without Ray: what it reports where, how it is stopped and tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_hub.adapters import assigned
from aiaas_hub.domain.ports import JobSubmission
from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.runs import Distribution, Resources, RunState, SweepSpec
from aiaas_magics.runtime import checkpoints
from aiaas_magics.runtime.driver import first_checkpoint
from aiaas_magics.runtime.failures import TrainingFailed
from aiaas_magics.runtime.ledger import Journal
from aiaas_magics.runtime.trial import Result, Shared, Trial

SPEC = SweepSpec(
    space={"x": Distribution(kind="int", low=1, high=9)}, trials=9, metric="loss", concurrency=1
)
# Written past sys.stdout, which is pytest's own here.
CELL = """
import os


def train(ctx):
    os.write(1, f"trying {ctx.params.x}\\n".encode())
    for step in range(1, 4):
        ctx.report(step=step, loss=ctx.params.x / step, other=1.0)
"""
RESTORING = """
import os


def train(ctx):
    state = ctx.restore()
    if state is None:
        os.write(1, b"the first try\\n")
        ctx.report(step=1, loss=1.0)
        ctx.checkpoint(step=1)
        raise RuntimeError("fell over")
    os.write(1, b"the second try\\n")
    ctx.report(step=state["step"] + 1, loss=0.5)
"""
ENDLESS = """
import time


def train(ctx):
    step = 0
    while True:
        step += 1
        time.sleep(0.01)
        try:
            ctx.report(step=step, loss=1.0)
        except Exception:
            pass
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    with JobService() as made:
        yield made


@pytest.fixture
def shared(service: JobService, tmp_path: Path) -> Shared:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    return Shared(service.url, "sweep", str(token), str(tmp_path / "storage"), "loss", waits=True)


def results(trial: Trial) -> list[Result]:
    found: list[Result] = []
    deadline = time.monotonic() + 60
    while not found or not found[-1].done:
        assert time.monotonic() < deadline
        result = trial.next(0.2)
        if result is not None:
            found.append(result)
    return found


def add(service: JobService, cell: str) -> RecordedRun:
    return service.add("sweep", cell, sweep=SPEC)


def test_a_trial_reports_to_its_own_run_and_to_the_sweep(
    service: JobService, shared: Shared
) -> None:
    sweep = add(service, CELL)
    trial = Trial(shared, 4, {"x": 6})
    assert results(trial) == [Result(6, 1), Result(3, 2), Result(2, 3), Result(2, 3, done=True)]
    assert trial.stop()
    run = sweep.trials[4]
    assert run.kinds == ["started", "succeeded"]
    assert [values for _, values in run.metrics.values()] == [
        {"loss": 6, "other": 1},
        {"loss": 3, "other": 1},
        {"loss": 2, "other": 1},
    ]
    assert run.log == "trying 6\n"
    assert (sweep.metrics, sweep.log) == ({}, "")
    # What was over before is not run again, and what it came to is not lost.
    assert results(Trial(shared, 4, {"x": 6})) == [Result(2, 0, done=True)]
    assert len(run.metrics) == 3


def test_a_trial_that_is_tried_again_goes_on_from_its_checkpoint(
    service: JobService, shared: Shared
) -> None:
    sweep = add(service, RESTORING)
    trial = Trial(shared, 0, {"x": 1})
    with pytest.raises(TrainingFailed) as failure:
        results(trial)
    assert failure.value.error.message.startswith("Training failed at cell.py, line 11")
    assert sweep.trials[0].kinds == ["started"]  # whether that is its end is not its own business
    results(Trial(shared, 0, {"x": 1}))
    run = sweep.trials[0]
    assert run.kinds == ["started", "started", "succeeded"]
    assert [step for step, _ in run.metrics.values()] == [1, 2]
    assert run.log == "the first try\nthe second try\n"


def test_a_trial_is_stopped_at_its_next_report(service: JobService, shared: Shared) -> None:
    sweep = add(service, ENDLESS)
    trial = Trial(shared, 0, {"x": 1})
    while trial.next(0.2) is None:
        pass
    assert trial.stop()
    assert sweep.trials[0].kinds == ["started", "stopped"]
    assert sweep.trials[0].state is RunState.CANCELLED
    assert sweep.trials[0].metrics


def test_a_trial_that_somebody_cancels_ends_and_the_sweep_goes_on(
    service: JobService, shared: Shared
) -> None:
    sweep = add(service, ENDLESS)
    trial = Trial(shared, 0, {"x": 1})
    while trial.next(0.2) is None:
        pass
    sweep.trials[0].cancelled = True
    # The sweep asks on: at its next report after the service's answer the trial ends.
    deadline = time.monotonic() + 30
    while trial._thread.is_alive():
        assert time.monotonic() < deadline
        trial.next(0.05)
    assert sweep.trials[0].kinds == ["started"]


def test_a_cell_that_fails_before_train_tells_its_line(service: JobService, shared: Shared) -> None:
    add(service, "import os\nimport nowhere_at_all\n")
    with pytest.raises(TrainingFailed) as failure:
        results(Trial(shared, 0, {"x": 1}))
    assert "cell.py, line 2" in failure.value.error.message + failure.value.error.traceback


def test_a_run_goes_on_from_a_trials_checkpoint(
    service: JobService, shared: Shared, tmp_path: Path
) -> None:
    add(service, "def train(ctx):\n    ctx.report(loss=1)\n    ctx.checkpoint(value=41)\n")
    results(Trial(shared, 3, {"x": 1}))
    runs = tmp_path / "runs"
    (runs / "sweep").mkdir(parents=True)
    (runs / "sweep" / "storage").symlink_to(shared.storage)

    def resumed(name: str, parent: str, trial: int | None) -> Assignment:
        job = JobSubmission(f"{name}-1", "ada", Resources(), TOKEN, parent, trial)
        return assigned.make(runs, job, "")

    found = first_checkpoint(resumed("first", "sweep", 3))
    assert found is not None
    assert checkpoints.read(Path(found.path)) == {"value": 41}
    # What has no checkpoint of its own hands on what it began with; another trial has none.
    again = first_checkpoint(resumed("second", "first", None))
    assert again is not None
    assert again.path == found.path
    assert first_checkpoint(resumed("third", "sweep", 4)) is None


def test_a_journal_goes_on_after_a_line_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    Journal(file).begin(0, {"x": 1})
    with file.open("a") as cut:
        cut.write('{"number": 0, "va')
    journal = Journal(file)
    assert (journal.begun, journal.ended) == ({0: {"x": 1}}, {})
    journal.end(0, 0.5)
    journal.begin(1, {"x": 2})
    again = Journal(file)
    assert (again.begun, again.ended) == ({0: {"x": 1}, 1: {"x": 2}}, {0: 0.5})
    assert len(file.read_text().splitlines()) == 4


def test_a_trial_without_the_sweeps_metric_says_so(service: JobService, shared: Shared) -> None:
    add(service, "def train(ctx):\n    ctx.report(step=1, accuracy=0.5)\n")
    with pytest.raises(TrainingFailed) as failure:
        results(Trial(shared, 0, {"x": 1}))
    assert failure.value.error.message == (
        "The trial did not report 'loss', the sweep's metric; it reported: accuracy."
    )
    assert "ctx.report(loss=…)" in failure.value.error.remedy
