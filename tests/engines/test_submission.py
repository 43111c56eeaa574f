"""Code of every kind on real workers: what the notebook sends is what they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from job_service import TOKEN, JobService, RecordedRun
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from safetensors.numpy import load
from sklearn.datasets import load_digits

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.schemas.models import ModelHandOver
from aiaas_hub.schemas.runs import Resources
from aiaas_magics import snapshot
from aiaas_magics.snapshot import Code

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

OVER = (JobState.ENDED, JobState.FAILED, JobState.STOPPED)


def executed(
    engine: RayLocal,
    service: JobService,
    run_id: str,
    code: Code,
    frame: pd.DataFrame | None = None,
    params: dict[str, Any] | None = None,
) -> RecordedRun:
    """The run of `code` with two workers, over; `frame` is its dataset."""
    frames = {} if frame is None else {"rows": frame}
    run = service.add(run_id, "", frames=frames, params=params, resources=Resources(workers=2))
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


def test_a_whole_notebook_on_real_workers(
    ray_local: RayLocal, job_service: JobService, tmp_path: Path
) -> None:
    cells = [
        new_markdown_cell("# What it is about"),
        new_code_cell("%load_ext aiaas_magics\nfrom words import greeting\nfactor = 3"),
        new_code_cell("raise SystemExit('only here')", metadata={"tags": ["skip-run"]}),
        new_code_cell("%%bash\nexit 1"),
        new_code_cell(
            "%%aiaas train --name notebook --workers 2\n"
            "def train(ctx):\n"
            "    print(greeting(ctx.rank))\n"
            "    ctx.report(step=1, x=ctx.params.x * factor)\n"
            "    if not ctx.params.good:\n"
            "        check(ctx.rank)"
        ),
        new_code_cell(
            "def check(rank):\n    import torch\n\n    return torch.ones(2) @ torch.ones(3)"
        ),
    ]
    (tmp_path / "words.py").write_text("def greeting(rank):\n    return f'greetings from {rank}'\n")
    write(new_notebook(cells=cells), tmp_path / "whole.ipynb")
    code = snapshot.of_notebook(tmp_path / "whole.ipynb")

    params = {"x": 2, "good": True}
    run = executed(ray_local, job_service, "run-notebook", code, params=params)
    assert run.kinds == ["started", "succeeded"], run.log
    assert {"[0] greetings from 0", "[1] greetings from 1"} <= {*run.log.splitlines()}
    assert [values for _, values in run.metrics.values()] == [{"x": 6}]
    # A reader finds the line in the notebook.
    run = executed(
        ray_local, job_service, "run-notebook-fails", code, params=params | {"good": False}
    )
    assert run.kinds == ["started", "failed"], run.log
    assert "whole.ipynb cell 6, line 4" in run.error.message


def table() -> pd.DataFrame:
    number = np.linspace(-1, 1, 200, dtype=np.float32)
    return pd.DataFrame({"number": number, "side": np.where(number < 0, "left", "right")})


def images() -> pd.DataFrame:
    digits = load_digits()
    return pd.DataFrame({"pixels": digits.data.tolist(), "label": digits.target})[:300]


@pytest.mark.parametrize(
    ("recipe", "frame", "params"),
    [
        ("tabular", table, {"target": "side", "epochs": 8, "lr": 0.02}),
        ("image-classifier", images, {"epochs": 4, "lr": 0.01, "width": 8}),
    ],
)
def test_a_recipe_on_real_workers(
    ray_local: RayLocal,
    job_service: JobService,
    recipe: str,
    frame: Any,
    params: dict[str, Any],
) -> None:
    code = snapshot.of_recipe(recipe)
    run = executed(ray_local, job_service, f"run-{recipe}", code, frame(), params)
    assert run.kinds == ["started", "succeeded"], run.log
    accuracy = [values["accuracy"] for _, values in run.metrics.values() if "accuracy" in values]
    assert len(accuracy) == params["epochs"]
    assert accuracy[-1] > 0.7
    assert run.model is not None
    model = ModelHandOver.model_validate(run.model)
    rows = load(job_service.blobs[model.evaluation])
    asked = {name[6:]: array for name, array in rows.items() if name.startswith("input.")}
    said = {name[7:]: array for name, array in rows.items() if name.startswith("output.")}
    answers = onnxruntime.InferenceSession(job_service.blobs[model.onnx]).run(list(said), asked)
    for answer, expected in zip(answers, said.values(), strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-4)
