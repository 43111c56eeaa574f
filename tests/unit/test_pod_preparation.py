"""A pod's first step against a real server that stands in for the service."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_hub.schemas.assignments import Assignment
from aiaas_magics.runtime import api, node


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assignment:
    """What the pod is told of the run `run-a`, with nothing prepared yet."""
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "volume" / "node"))
    return Assignment(
        submission_id="run-a-1",
        run_id="run-a",
        api="",
        token_file=tmp_path / "token",
        storage=tmp_path / "runs" / "run-a" / "storage",
    )


def prepared(told: Assignment, service: JobService, monkeypatch: pytest.MonkeyPatch) -> int:
    at = told.model_copy(update={"api": service.url})
    monkeypatch.setenv("AIAAS_ASSIGNMENT", at.model_dump_json())
    return node.main()


def unpacked(told: Assignment, run: RecordedRun) -> Path:
    cache = told.token_file.parent / "volume" / "node"
    return cache / "snapshots" / run.job.snapshot.digest / "cell.py"


def test_the_code_is_there_before_ray_starts(
    told: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService() as service:
        run = service.add("run-a", "def train(ctx): ...")
        assert prepared(told, service, monkeypatch) == 0
        assert prepared(told, service, monkeypatch) == 0
    assert unpacked(told, run).read_text() == "def train(ctx): ..."
    assert told.storage.is_dir()


def test_code_with_another_hash_is_not_kept_and_the_driver_says_so(
    told: Assignment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with JobService() as service:
        run = service.add("run-a", "def train(ctx): ...")
        run.snapshot += b"more"
        # A step that fails is repeated for ever.
        assert prepared(told, service, monkeypatch) == 0
    assert not unpacked(told, run).exists()
    assert "left to the driver: The run's code arrived damaged" in capsys.readouterr().err


def test_a_run_that_is_over_is_left_to_the_driver(
    told: Assignment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with JobService() as service:
        service.add("run-a", "def train(ctx): ...").cancelled = True
        assert prepared(told, service, monkeypatch) == 0
    assert "The run was cancelled" in capsys.readouterr().err


def test_a_service_out_of_reach_is_asked_again_by_another_pod(
    told: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*arguments: object) -> api.JobApi:
        return api.JobApi(*arguments, patience=0.5)  # type: ignore[arg-type]

    monkeypatch.setattr(node, "JobApi", impatient)
    with JobService() as service:
        service.add("run-a", "def train(ctx): ...")
        service.unavailable = True
        assert prepared(told, service, monkeypatch) == node.AGAIN
        assert service.refused
