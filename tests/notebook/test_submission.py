"""Planning, smoking and submitting from a notebook, before the real service."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from api_world import PREFIX, World, serving
from notebook_shell import Notebook

import aiaas_magics
from aiaas_hub.app import PYTHON
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.platform import WorkerProfile
from aiaas_hub.schemas.runs import RunPlan
from aiaas_magics import __version__, environment
from aiaas_magics.receipt import Receipt
from aiaas_magics.request import Request

CELL = "def train(ctx):\n    ctx.report(step=1, rows=len(ctx.dataset().to_pandas()))\n"
BARE = "def train(ctx):\n    ctx.report(step=1, loss=0.5)\n"


def uploads(world: World) -> int:
    blobs = world.home.artifacts / "blobs"
    return sum(path.is_file() for path in blobs.rglob("*"))


def test_a_plan_sends_nothing_and_tells_all(world: World, notebook: Notebook) -> None:
    world.dataset(rows=7)
    before = uploads(world)
    receipt = notebook.run(
        f"%%aiaas train --name cnn --dataset digits --workers 2 --plan\nimport numpy\n{CELL}"
    )
    assert isinstance(receipt, Receipt)
    assert receipt.ok, receipt
    assert uploads(world) == before
    assert world.ok("GET", "/runs")["items"] == []
    text = repr(receipt)
    assert text.startswith("Plan of cnn [ready]")
    for part in ("alice/digits@1", "2 workers, each 1 CPU\n", "cell.py", "quota left", "as here"):
        assert part in text
    assert receipt.bytes == len(receipt.code.content)  # type: ignore[union-attr]
    assert "<script" not in receipt._repr_mimebundle_()["text/html"]


def test_workers_are_as_large_as_a_profile(world: World, notebook: Notebook) -> None:
    def open_to(groups: frozenset[str]) -> list[WorkerProfile]:
        return [WorkerProfile(name="large", description="", cpus=2, gpus=0, price_per_hour=0)]

    said = notebook.refuses(f"%%aiaas train --name cnn --profile large --plan\n{BARE}")
    assert "This platform has none" in said
    # Frozen: only a test has two minds.
    object.__setattr__(world.services, "profiles", open_to)
    for options, asked in (
        ("--profile large", (2, 0)),
        ("--profile large --cpus-per-worker 1.5", (1.5, 0)),
        ("--cpus-per-worker 3", (3, 0)),
    ):
        run = notebook.run(f"%%aiaas train --name cnn {options} --detach\n{BARE}")
        resources = world.ok("GET", f"/runs/{run.id}")["resources"]
        assert (resources["cpus_per_worker"], resources["gpus_per_worker"]) == asked
    said = notebook.refuses(f"%%aiaas train --name cnn --profile larg --detach\n{BARE}")
    assert "no profile 'larg'" in said
    assert "There are large." in said
    assert len(world.ok("GET", "/runs")["items"]) == 3


@pytest.mark.parametrize(
    ("wait", "start", "warm", "says"),
    [
        (0, None, False, None),
        (0, 1.4, True, "start: in about 1 s, on workers that wait"),
        (0, 21, False, "start: in about 21 s"),
        (None, None, False, "start: when its turn comes; nobody knows when yet"),
        (
            240,
            261,
            False,
            "start: in about 4 min, if the runs before it take as long as runs usually do",
        ),
        (3600, 3904, True, "start: in about 1 h 05 min, if the runs before it take"),
    ],
)
def test_a_plan_says_when_it_would_start(
    wait: float | None, start: float | None, warm: bool, says: str | None
) -> None:
    place = {"position": 1, "blocked_by": "waits for 1 CPU", "expected_seconds": wait}
    text = planned(queue=None if wait == 0 else place, expected_start_seconds=start, warm=warm)
    if says is None:
        assert "start:" not in text
    else:
        assert says in text


def test_a_plan_names_the_hours_that_are_left() -> None:
    own = {"name": "worker-hours", "used": 7.5, "limit": 10}
    text = planned(hours=[own, {"name": "GPU-hours", "used": 3, "limit": 2, "group": "students"}])
    assert "worker-hours 2.5 of 10, GPU-hours with the group students 0 of 2" in text


def planned(**changes: object) -> str:
    """The receipt of a plan that says this, on one line."""
    nothing = {"used": 0, "limit": None}
    plan = RunPlan.model_validate(
        {
            "datasets": [],
            "resources": {},
            "quota": {"runs": nothing, "workers": nothing, "gpus": nothing},
            **changes,
        }
    )
    return " ".join(repr(Receipt(Request(name="x"), None, (), plan, ())).split())


def test_a_plan_tells_what_would_be_refused(world: World, notebook: Notebook) -> None:
    notebook.run("import pandas as pd\ndf = pd.DataFrame({'x': [1, 2]})")
    receipt = notebook.run(
        "%%aiaas train --name cnn --dataset nothing --plan\ndef train(ctx):\n    return df\n"
    )
    assert not receipt.ok
    said = " ".join(receipt.problems)
    assert "no dataset nothing" in said
    assert "df is a variable of the notebook (DataFrame" in said
    assert "[failed]" in repr(receipt)
    notebook.run("import threading\nlock = threading.Lock()\ndef fit(ctx):\n    return lock, df\n")
    receipt = aiaas_magics.plan(notebook.shell.user_ns["fit"])
    assert receipt.name == "fit"
    assert {one.name: one.severity for one in receipt.captured} == {"lock": "error", "df": "fine"}
    assert receipt.problems[0].startswith("lock (lock) is a lock")
    assert repr(receipt).count("lock (lock) is a lock") == 1


LOOPS = "def train(ctx):\n    while True:\n        ctx.report(loss=1)\n"
LOOKS = f"{LOOPS}        if ctx.should_stop:\n            break\n"


def test_an_early_stop_that_the_code_never_asks_about_is_told(
    world: World, notebook: Notebook, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    look = "Write 'if ctx.should_stop: break' in the training loop."
    for option, says in (
        ("--stop-when loss --patience 2", "Early stop needs the loop to look"),
        ("--time-limit 1h", "At its time limit a run that looks can save and return"),
    ):
        line = f"%%aiaas train --name cnn {option}"
        notebook.run(f"{line} --detach\n{LOOPS}")
        told = capsys.readouterr().out
        assert f"Note: {says}" in told
        assert look in told
        receipt = notebook.run(f"{line} --plan\n{LOOPS}")
        assert receipt.ok
        assert " ".join(repr(receipt).split()).count(look) == 1
        capsys.readouterr()
        notebook.run(f"{line} --detach\n{LOOKS}")
        assert look not in capsys.readouterr().out
        assert look not in " ".join(repr(notebook.run(f"{line} --plan\n{LOOKS}")).split())
    # Also where the loop is in a module beside the script.
    (tmp_path / "loop.py").write_text(LOOKS)
    script = tmp_path / "main.py"
    script.write_text("from loop import train as run\ndef train(ctx):\n    run(ctx)\n")
    capsys.readouterr()
    notebook.run(f"%aiaas train {script} --stop-when loss --detach")
    assert look not in capsys.readouterr().out


def test_a_recipe_without_a_dataset_is_refused_before_it_is_sent(
    world: World, notebook: Notebook
) -> None:
    line = "%aiaas train --recipe tabular --param target=y"
    assert "trains on one dataset, and was given none" in notebook.refuses(line)
    assert "--dataset NAME" in notebook.refuses(f"{line} --smoke")
    assert "given 2" in notebook.refuses(f"{line} --dataset a --dataset b")
    receipt = notebook.run(f"{line} --plan")
    assert not receipt.ok
    assert "Add '--dataset NAME'." in receipt.problems[0]
    assert world.ok("GET", "/runs")["items"] == []


def test_a_cell_that_uses_the_notebook_is_refused_before_it_is_sent(
    world: World, notebook: Notebook
) -> None:
    notebook.run("import numpy as np\nrate = 0.1")
    before = uploads(world)
    for option in ("", "--smoke "):
        said = notebook.refuses(
            f"%%aiaas train --name x {option}\ndef train(ctx):\n    return np.zeros(3) * rate\n"
        )
        assert said.startswith("np is imported in another cell")
        assert "Likewise: rate." in said
        assert "Add 'import numpy as np' to the cell." in said
    assert uploads(world) == before


def test_a_smoke_gets_the_first_rows(
    world: World, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    world.dataset(rows=3000)
    before = uploads(world)
    seen = notebook.run(f"%%aiaas train --name cnn --dataset digits --smoke\n{CELL}")
    assert seen.metrics == {"rows": 1000}
    assert "the first 1,000 of 3,000 rows of alice/digits@1" in repr(seen)
    assert uploads(world) == before
    failing = "def train(ctx):\n    ctx.dataset().to_pandas()['nothing']\n"
    said = notebook.refuses(f"%%aiaas train --name cnn --dataset digits --smoke\n{failing}")
    # The magic's own line counts, as in the notebook.
    assert "at cell.py, line 3: there is no column 'nothing'" in said
    assert "cell.py, line 3, in train" in capsys.readouterr().out


def test_scripts_notebooks_and_recipes_are_submitted(
    world: World, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Fit_It.py").write_text("if __name__ == '__main__':\n    print('hi')\n")
    Path("n.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": ["!ls\n", BARE], "metadata": {}}]})
    )
    run = notebook.run("%aiaas train Fit_It.py --detach -- --lr 0.1")
    assert (run.name, run._record.snapshot.entry) == ("fit-it", "Fit_It.py")
    assert notebook.run("%aiaas train n.ipynb --name other --detach").name == "other"
    world.dataset("table")
    line = "%aiaas train --recipe tabular --dataset table --param target=label"
    run = notebook.run(f"{line} --detach")
    assert run.name == "tabular"
    assert run.params == {"target": "label"}
    assert "did you mean" in notebook.refuses(f"{line} --param epoch=3")
    assert "did you mean 'tabular'" in notebook.refuses("%aiaas train --recipe tabula --name x")
    assert "brings its own code" in notebook.refuses(f"%%aiaas train --recipe tabular\n{BARE}")
    assert "Only a script" in notebook.refuses("%aiaas train n.ipynb --name x -- --lr 1")
    assert "target" in notebook.run("%aiaas help recipe tabular")
    assert "causal-lm" in notebook.run("%aiaas help recipe")


def test_what_a_run_is_asked_to_be_arrives(world: World, notebook: Notebook) -> None:
    run = notebook.run(
        "%%aiaas train --name x --priority high --time-limit 30m --stop-when accuracy:max "
        f"--patience 4 --detach\n{BARE}"
    )
    asked = run._record
    assert (asked.priority, asked.time_limit) == ("high", 1800)
    stop = asked.early_stop
    assert (stop.metric, stop.mode, stop.patience, stop.threshold) == ("accuracy", "max", 4, None)
    run = notebook.run(f"%%aiaas train --name x --stop-when loss<0.1 --detach\n{BARE}")
    stop = run._record.early_stop
    assert (stop.metric, stop.mode, stop.threshold) == ("loss", "min", 0.1)
    assert stop.patience == 1_000_000
    for wrong in ("--time-limit soon", "--stop-when <3", "--stop-when loss<x", "--patience 3"):
        assert notebook.refuses(f"%%aiaas train --name x {wrong} --detach\n{BARE}")


def test_pain_version_skew_is_told_before_the_upload(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = uploads(world)
    monkeypatch.setattr(environment, "PYTHON", "3.10")
    said = notebook.refuses(f"%%aiaas train --name x --detach\n{BARE}")
    assert "runs Python 3.10" in said
    monkeypatch.undo()
    monkeypatch.setenv("AIAAS_URL", str(world.client.base_url.join("/services/aiaas/")))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "user:alice")
    monkeypatch.setattr(environment, "__version__", "7.3.1")
    said = notebook.refuses(f"%%aiaas train --name x --detach\n{BARE}")
    assert "pip install aiaas-hub==" in said
    assert uploads(world) == before


def test_versions_of_a_cluster_of_others_are_told_once_a_run_there_told_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: Notebook
) -> None:
    home, url = Home(tmp_path / "there"), f"sqlite:///{tmp_path / 'there.sqlite'}"
    with serving(home, url, settings={"ray_address": "http://ray:8265"}) as there:
        monkeypatch.setenv("AIAAS_URL", str(there.client.base_url.join(PREFIX)))
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "user:alice")
        cell = f"import numpy\n{BARE}"
        receipt = notebook.run(f"%%aiaas train --name x --plan\n{cell}")
        assert receipt.ok
        assert "environment: not known" in repr(receipt)
        run = there.submit()
        told = {"python": PYTHON, "client": __version__, "packages": {"NumPy": "0.1"}}
        path = f"/runs/{run['id']}/job/environment"
        there.ok("PUT", path, there.run_token(run), json=told)
        text = " ".join(repr(notebook.run(f"%%aiaas train --name x --plan\n{cell}")).split())
        assert "the workers have 0.1 (as a run there told just now)" in text
        # Another release of ours is refused before anything is sent.
        later = there.submit()
        path = f"/runs/{later['id']}/job/environment"
        there.ok("PUT", path, there.run_token(later), json={**told, "client": "99.1"})
        before = uploads(there)
        said = notebook.refuses(f"%%aiaas train --name x --detach\n{cell}")
        assert "pip install aiaas-hub==99.1" in said
        assert uploads(there) == before


def test_another_version_of_a_library_is_named(
    world: World,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from importlib.metadata import version

    from aiaas_magics.snapshot import imports

    monkeypatch.setattr(
        imports, "_distribution", lambda name: {name: "0.0.1", "nothing-of-it": "1"}
    )
    cell = f"import numpy\n{BARE}"
    receipt = notebook.run(f"%%aiaas train --name x --plan\n{cell}")
    found = {difference.package: difference.there for difference in receipt.differences}
    assert found == {"numpy": version("numpy"), "nothing-of-it": None}
    assert "numpy is 0.0.1 here, the workers have" in repr(receipt)
    capsys.readouterr()
    notebook.run(f"%%aiaas train --name x --detach\n{cell}")
    out = capsys.readouterr().out
    assert "Note: nothing-of-it is 1 here, the workers have none." in out


def test_a_large_capture_is_told_and_sent(
    world: World, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("import numpy as np\nweights = np.zeros(300_000)\ndef fit(ctx):\n    weights\n")
    run = aiaas_magics.train(notebook.shell.user_ns["fit"], detach=True)
    assert run.state == "queued"
    said = capsys.readouterr().out
    assert "Note: weights (ndarray, 2.3 MiB) travels with the function each time." in said
    assert "aiaas.datasets.put('weights'" in said


def test_what_cannot_travel_is_refused_in_a_sentence(world: World) -> None:
    lock = threading.Lock()
    before = uploads(world)
    with pytest.raises(InvalidInput, match="lock"):
        aiaas_magics.train(lambda ctx: lock, name="x", detach=True)
    assert uploads(world) == before


def fit(ctx: object) -> None:
    """Trains nothing."""


def test_what_a_notebook_holds_is_taken_as_it_is(world: World, notebook: Notebook) -> None:
    world.dataset()
    held = aiaas_magics.datasets.get("digits")
    params = {"batch": np.int64(8), "lr": np.float32(0.5), "amp": np.bool_(True)}
    run = aiaas_magics.train(fit, dataset=held, params=params, detach=True)
    record = world.ok("GET", f"/runs/{run.id}")
    assert record["datasets"] == [{"owner": "alice", "name": "digits", "version": 1}]
    assert record["params"] == {"batch": 8, "lr": 0.5, "amp": True}
    assert [type(value) for value in run.params.values()] == [int, float, bool]
    run.cancel()
    world.tick()
    assert run.resume(batch=np.int64(4)).params["batch"] == 4
    swept = aiaas_magics.sweep(
        fit, params={"lr": np.logspace(-2, -1, 2)}, metric="loss", search="grid", detach=True
    )
    assert swept._spec.space["lr"].values == pytest.approx([0.01, 0.1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dataset": pd.DataFrame({"x": [1]})}, "dataset is a DataFrame, which is no stored"),
        ({"params": ["lr"]}, "params is a list"),
        ({"params": {"lr": [1]}}, "Parameter 'lr' is a list"),
        ({"retries": None}, "retries is None"),
        ({"name": 3}, "name is a int"),
        ({"stop_when": 3, "patience": 0}, "is no condition to stop at"),
    ],
)
def test_options_of_another_type_are_refused_in_a_sentence(
    world: World, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        aiaas_magics.train(fit, **options)
    assert world.ok("GET", "/runs")["items"] == []
