"""Code of every kind on real workers: what the notebook sends is what they run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from job_service import TOKEN, JobService, RecordedRun

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.schemas.runs import Resources
from aiaas_magics import snapshot
from aiaas_magics.snapshot import Code

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OVER = (JobState.ENDED, JobState.FAILED, JobState.STOPPED)


def executed(engine: RayLocal, service: JobService, run_id: str, code: Code) -> RecordedRun:
    """The run of `code` with two workers, over."""
    run = service.add(run_id, "", resources=Resources(workers=2))
    run.job.snapshot = code.described()
    run.snapshot = code.content
    job = JobSubmission(f"{run_id}-1", run.job.owner, run.job.resources, TOKEN)
    engine.submit(job)
    deadline = time.monotonic() + 280
    while (status := engine.status(job.id)) is None or status.state not in OVER:
        assert time.monotonic() < deadline, run.log
        time.sleep(0.2)
    return run


def test_pain_local_modules_missing_in_the_job_on_real_workers(
    ray_local: RayLocal,
    job_service: JobService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "parts"
    package.mkdir()
    (package / "__init__.py").write_text("from .words import greeting\n")
    (package / "words.py").write_text(
        "def greeting(rank):\n    return f'greetings from {rank}'\ndef fail():\n    return 1 / 0\n"
    )
    code = snapshot.of_cell(
        "import torch\nfrom parts import greeting\nfrom parts.words import fail\n"
        "def train(ctx):\n    print(greeting(ctx.rank))\n    ctx.report(step=1, x=1)\n"
        # Who fails first has the others ended: both must have spoken by then.
        "    torch.distributed.barrier()\n    fail()\n"
    )
    run = executed(ray_local, job_service, "run-modules", code)
    assert {"greetings from 0", "greetings from 1"} <= {
        line.partition("] ")[2] for line in run.log.splitlines()
    }
    assert run.error.message == (
        "Training failed at parts/words.py, line 4: ZeroDivisionError: division by zero"
    )


def test_a_plain_script_with_its_folder_on_real_workers(
    ray_local: RayLocal, job_service: JobService, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(
        "import argparse\nimport ray.train\n"
        "from aiaas_magics.runtime.context import current\n"
        "if __name__ == '__main__':\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--word')\n"
        "    word = parser.parse_args().word + open('more.txt').read()\n"
        "    rank = ray.train.get_context().get_world_rank()\n"
        "    print(f'{word} {rank} of {current().world_size}')\n"
        "    current().report(step=1, rank=rank)\n"
    )
    (tmp_path / "more.txt").write_text("!")
    code = snapshot.of_script(tmp_path / "main.py", ["--word", "hello"])
    run = executed(ray_local, job_service, "run-script", code)
    assert run.kinds == ["started", "succeeded"], run.log
    assert "hello! 0 of 2" in run.log
    assert "hello! 1 of 2" in run.log
    assert [values for _, values in run.metrics.values()] == [{"rank": 0}]
