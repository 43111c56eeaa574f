"""What a driver makes of a failure, with a service that records and no Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_service import TOKEN, JobService
from ray.train import ControllerError, WorkerGroupError

from aiaas_hub.schemas.assignments import Assignment
from aiaas_magics.runtime import driver
from aiaas_magics.runtime.driver import FAILED, Driver
from aiaas_magics.runtime.failures import TrainingFailed

FULL = ControllerError(OSError(28, "[errno 28] No space left on device"))
OWN = WorkerGroupError("", {0: TrainingFailed.of(ValueError("mine"), 0, ())})


@pytest.fixture
def service() -> Iterator[JobService]:
    with JobService() as running:
        yield running


@pytest.mark.parametrize(
    ("problem", "head", "retries", "told"),
    [
        (FULL, True, 0, "disk is full"),
        (FULL, True, 1, None),
        (OWN, True, 1, "ValueError: mine"),
        (OWN, False, 1, "ValueError: mine"),
        (FULL, False, 0, None),
    ],
)
def test_what_the_code_did_not_end_is_left_to_the_service(
    service: JobService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception,
    head: bool,
    retries: int,
    told: str | None,
) -> None:
    def fail(*_: object) -> None:
        raise problem

    monkeypatch.setattr(Driver, "_train", fail)
    monkeypatch.setattr(Driver, "_take_signals", lambda _: None)
    monkeypatch.setattr(driver, "head_lives", lambda: head)
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    run = service.add("run-1", "def train(ctx): ...", retries=retries)
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
    assert end.status == FAILED
    if told is None:
        assert run.kinds == []
    else:
        assert run.kinds == ["failed"]
        assert told in run.error.message
