"""`%%aiaas sweep` in a shell, against the real service; its trials report as a driver lets them."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.screen import LineScreen
from aiaas_magics.watching import watch

CELL = "\ndef train(ctx):\n    ctx.report(step=1, accuracy=ctx.params.lr)\n"
SWEEP = (
    "%%aiaas sweep --name cnn --param lr=log:1e-4:1e-1 --param width=choice:32,64 --param epochs=2 "
    "--trials 4 --metric accuracy --scheduler asha --detach"
)


def begin(world: World, sweep: Any, number: int, **params: Any) -> Any:
    token = world.run_token({"id": sweep.id})
    body = {"number": number, "params": params}
    return world.ok("POST", f"/runs/{sweep.id}/job/trials", token, json=body)


def report(world: World, trial: Any, accuracy: float, **outcome: Any) -> None:
    job = f"/runs/{trial['run_id']}/job"
    points = [{"step": 1, "time": 1000.0, "values": {"accuracy": accuracy}}]
    world.ok("POST", f"{job}/metrics", trial["token"], json={"sequence": 0, "points": points})
    if outcome:
        world.ok("POST", f"{job}/events", trial["token"], json=outcome)


def started(world: World, sweep: Any) -> str:
    token = world.run_token({"id": sweep.id})
    world.ok("POST", f"/runs/{sweep.id}/job/events", token, json={"kind": "started"})
    return token


def test_a_sweep_and_its_trials(
    world: World, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = notebook.run(SWEEP + CELL)
    assert isinstance(sweep, aiaas.Sweep)
    assert sweep.params == {"epochs": 2}
    assert sweep.best is None
    assert "has begun no trial yet" in repr(sweep.trials())
    token = started(world, sweep)
    first = begin(world, sweep, 0, lr=0.01, width=32)
    assert begin(world, sweep, 0, lr=0.01, width=32)["run_id"] == first["run_id"]
    report(world, first, 0.7, kind="succeeded")
    report(world, begin(world, sweep, 1, lr=0.05, width=64), 0.9, kind="succeeded")
    stopped = {"kind": "stopped", "reason": "stopped early by the sweep"}
    report(world, begin(world, sweep, 2, lr=0.0001, width=32), 0.2, **stopped)
    failure = {"message": "It fell over."}
    report(world, begin(world, sweep, 3, lr=0.1, width=64), 0.99, kind="failed", error=failure)

    sweep = notebook.run(f"%aiaas run {sweep.id}")
    assert sweep.best.params == {"epochs": 2, "lr": 0.05, "width": 64}
    shown = repr(sweep)
    assert "progress: 4 of 4 trials" in shown
    assert "best: trial 1: accuracy 0.9 with lr=0.05, width=64" in shown
    assert "space: lr=log:0.0001:0.1, width=choice:32,64" in shown
    assert "search: random, asha, maximum of accuracy" in shown
    rows = [line.split() for line in shown.splitlines()]
    ranked = [row[0] for row in rows if sweep.id not in row and len(row) > 6 and row[0].isdecimal()]
    assert ranked == ["1", "0", "2", "3"]
    html = sweep._repr_mimebundle_()["text/html"]
    assert "data:image/svg+xml" in html
    assert "stopped early by the sweep" in html
    assert "<b>0.05</b>" in html
    assert [run.id for run in sweep.trials()][:1] == [sweep.best.id]
    frame = sweep.to_pandas()
    assert frame.trial.tolist() == [0, 1, 2, 3]
    assert frame.state.tolist() == ["succeeded", "succeeded", "cancelled", "failed"]
    assert frame.lr.tolist() == [0.01, 0.05, 0.0001, 0.1]

    listed = notebook.run("%aiaas runs")
    assert [run.id for run in listed] == [sweep.id]
    assert isinstance(listed[0], aiaas.Sweep)
    assert "sweep of 4 trials by accuracy (max)" in repr(listed)
    world.ok("POST", f"/runs/{sweep.id}/job/events", token, json={"kind": "succeeded"})
    watch(sweep, LineScreen())
    assert "4 of 4 trials · trial 1: accuracy 0.9" in capsys.readouterr().out
    assert sweep.view().text().count("\n") == 5


def test_the_best_trials_model_is_the_sweeps(world: World, notebook: Notebook) -> None:
    sweep = notebook.run(SWEEP + CELL)
    started(world, sweep)
    assert sweep.model is None
    for number, accuracy in enumerate((0.5, 0.8, 0.6)):
        trial = begin(world, sweep, number, lr=0.01, width=32)
        body = world.hand_over(onnx=f"onnx {number}".encode())
        world.ok("PUT", f"/runs/{trial['run_id']}/job/model", trial["token"], json=body)
        report(world, trial, accuracy, kind="succeeded")
    assert str(aiaas.runs.get(sweep.id).model) == "alice/cnn@2"


def test_a_function_is_swept(world: World, notebook: Notebook) -> None:
    notebook.run("import aiaas_magics as aiaas\n" + CELL)
    sweep = notebook.run(
        "aiaas.sweep(train, params={'lr': [0.1, 0.2], 'n': 'int:1:2', 'epochs': 3}, "
        "metric='loss', search='grid', detach=True)"
    )
    assert sweep.name == "train"
    assert sweep._record.sweep.trials == 4
    assert sweep._record.sweep.mode == "min"
    with pytest.raises(InvalidInput, match="varies nothing"):
        aiaas.sweep(print, params={"lr": 1}, metric="loss", trials=2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--param lr=log:1:2 --trials 2 --metric loss", "has no name. Add '--name NAME'."),
        ("--name a --param lr=log:1:2 --trials 2", "has no metric. Add '--metric accuracy'."),
        ("--name a --trials 2 --metric loss", "varies nothing"),
        ("--name a --param lr=log:1:2 --metric loss", "Add --trials 10."),
        ("--name a --param lr=log:2:1 --trials 2 --metric loss", "Write lr=log:1:2."),
        (
            "--name a --param lr=log:1:2 --param lr=log:1:3 --trials 2 --metric loss",
            "--param lr is given twice",
        ),
        (
            "--name a --param lr=log:1:2 --trials 2 --metric loss --workers 2",
            "give --concurrency for trials side by side",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    world: World, notebook: Notebook, line: str, message: str
) -> None:
    assert message in notebook.refuses(f"%%aiaas sweep {line}{CELL}")
    assert world.ok("GET", "/runs")["items"] == []


def test_a_sweep_is_planned(world: World, notebook: Notebook) -> None:
    receipt = notebook.run(SWEEP.replace("--detach", "--plan") + CELL)
    assert receipt.ok
    assert "sweep: 4 trials, 2 at the same time" in repr(receipt)
    assert world.ok("GET", "/runs")["items"] == []


def test_a_line_without_a_cell_says_how(world: World, notebook: Notebook) -> None:
    assert "sweep needs a cell" in notebook.refuses("%aiaas sweep --name a")
    assert "lr=log:1e-4:1e-1" in repr(notebook.run("%aiaas help sweep"))
