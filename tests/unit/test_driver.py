"""What a driver makes of a failure, with a service that records and no Ray."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from job_service import TOKEN, JobService
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    WorkerGroupError,
)
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport

from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.jobs import JobRetrying
from aiaas_magics.runtime import driver
from aiaas_magics.runtime.driver import FAILED, Driver
from aiaas_magics.runtime.failures import TrainingFailed
from aiaas_magics.runtime.retries import Retries
from aiaas_magics.runtime.trainer import RunTrainer, _Retries
from aiaas_magics.runtime.worker_logs import WorkerLogs

FULL = ControllerError(OSError(28, "[errno 28] No space left on device"))
OWN = WorkerGroupError("", {0: TrainingFailed.of(ValueError("mine"), 0, ())})
DEAD = WorkerGroupError("", {0: RuntimeError("The actor is dead.")})


@pytest.fixture
def service() -> Iterator[JobService]:
    with JobService() as running:
        yield running


@pytest.mark.parametrize(
    ("problem", "head", "retries", "attempt", "told"),
    [
        (FULL, True, 0, 1, "disk is full"),
        (FULL, True, 1, 1, None),
        # The attempt before has used it up.
        (FULL, True, 1, 2, "disk is full"),
        (OWN, True, 1, 1, "ValueError: mine"),
        (OWN, False, 1, 1, "ValueError: mine"),
        # Ray Train has begun again as often as it may, in this attempt.
        (DEAD, True, 1, 1, "Worker 0 died"),
        (DEAD, False, 0, 1, None),
        (FULL, False, 0, 1, None),
    ],
)
def test_what_the_code_did_not_end_is_left_to_the_service(
    service: JobService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception,
    head: bool,
    retries: int,
    attempt: int,
    told: str | None,
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(driver, "head_lives", lambda: head)
    run = service.add("run-1", "def train(ctx): ...", retries=retries)
    run.job = run.job.model_copy(update={"attempt": attempt})
    assert driven(service, tmp_path, monkeypatch, fail) == FAILED
    if told is None:
        assert run.kinds == []
    else:
        assert run.kinds == ["failed"]
        assert told in run.error.message


def driven(
    service: JobService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: Callable[..., None],
) -> int:
    """The exit status of run-1's driver with this in place of Ray Train."""
    monkeypatch.setattr(Driver, "_train", training)
    monkeypatch.setattr(Driver, "_take_signals", lambda _: None)
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    end = Driver().run(
        Assignment(
            submission_id="run-1-1",
            run_id="run-1",
            api=service.url,
            token_file=token,
            storage=tmp_path / "storage",
        )
    )
    return end.status


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_installed_is_told_where_it_is_asked_for(
    service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    run = service.add("run-1", "def train(ctx): ...")
    run.job = run.job.model_copy(update={"tell_environment": asked})
    assert driven(service, tmp_path, monkeypatch, lambda *_: None) == 0
    told = run.environment
    assert (told is not None) == asked
    if told is not None:
        assert told.python == f"{sys.version_info.major}.{sys.version_info.minor}"
        assert told.packages["torch"] == version("torch")


def test_a_notebook_of_another_python_is_refused_and_has_the_service_know_why(
    service: JobService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = service.add("run-1", "def train(ctx): ...", python="3.1")
    run.job = run.job.model_copy(update={"tell_environment": True})
    assert driven(service, tmp_path, monkeypatch, lambda *_: None) == FAILED
    assert "Python 3.1" in run.error.message
    assert run.environment is not None


class _Logs:
    """In place of what sends a log: it takes the test's own output."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def last_words(self) -> str:
        return self.text

    def forget_words(self) -> None:
        pass

    def write(self, lines: bytes) -> None:
        self.text += lines.decode()


@pytest.mark.parametrize("own_checkpoint", [True, False])
def test_workers_that_begin_again_are_told_of(service: JobService, own_checkpoint: bool) -> None:
    run = service.add("run-1", "def train(ctx): ...", retries=3)
    # An attempt before this one has used up the first.
    job = run.job.model_copy(update={"attempt": 2})
    logs: Any = _Logs()
    events: queue.Queue[JobRetrying] = queue.Queue()
    retries = Retries(job, logs, events.put)
    output = WorkerLogs(logs.write)
    trainer = RunTrainer(
        lambda: None,
        reserve=None,
        logs=output,
        flush_log=lambda: None,
        retried=retries.tell,
        first_checkpoint=Checkpoint("/somewhere") if own_checkpoint else None,
    )
    policy = _Retries(FailureConfig(max_failures=2), trainer._tell)
    assert policy.make_decision(DEAD) is FailureDecision.RETRY
    how = "Going on from its checkpoint" if own_checkpoint else "Beginning again"
    assert events.get(timeout=10).reason == (
        f"Worker 0 died: The actor is dead. {how} (retry 2 of 3)."
    )
    assert logs.text.startswith(f"[aiaas] Worker 0 died: The actor is dead. {how} (retry 2 of 3).")
    assert logs.text.endswith(".\n")
    assert "If that fails, too: " in logs.text
    # One that waits for its workers' place, with no limit of its own, is none.
    assert policy.make_decision(ControllerError(WorkerGroupStartupFailedError("none free"))) is (
        FailureDecision.RETRY
    )
    assert policy.make_decision(DEAD) is FailureDecision.RETRY
    assert events.get(timeout=10).reason.endswith("(retry 3 of 3).")
    # The end is told as an end.
    assert policy.make_decision(DEAD) is FailureDecision.RAISE
    assert logs.text.count("[aiaas]") == 2
    output.close()


# Ray's own, of its record of checkpoints.
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
def test_a_checkpoint_counts_once_the_log_before_it_has_arrived(tmp_path: Path) -> None:
    def flush() -> None:
        counted.append((Path(storage.checkpoint_manager_snapshot_path).exists(), b"".join(said)))

    counted: list[tuple[bool, bytes]] = []
    said: list[bytes] = []
    heard = threading.Event()

    def hear(lines: bytes) -> None:
        said.append(lines)
        heard.set()

    storage = StorageContext(str(tmp_path), "run-1")
    output = WorkerLogs(hear)
    worker = os.open(output.open(b"[0] "), os.O_WRONLY)
    trainer = RunTrainer(lambda: None, reserve=None, logs=output, flush_log=flush)

    async def register() -> None:
        manager = trainer._checkpoints(CheckpointConfig(num_to_keep=1), storage)
        saved = tmp_path / "run-1" / "checkpoint_1"
        saved.mkdir()
        report = _TrainingReport(Checkpoint(str(saved)), {"step": 1}, validation=False)
        manager.register_checkpoint(report)

    # After one reading there is a pause before the next; what is said in it counts as well.
    os.write(worker, b"begun\n")
    assert heard.wait(10)
    os.write(worker, b"step 1\n")
    asyncio.run(register())
    # Before it was written down that there is one, and only then.
    assert counted == [(False, b"[0] begun\n[0] step 1\n")]
    assert Path(storage.checkpoint_manager_snapshot_path).exists()
    os.close(worker)
    output.close()
