"""`%%aiaas transform` from a notebook, before the real service."""

from __future__ import annotations

import pandas as pd
import pytest
from api_world import World
from notebook_shell import Notebook

from aiaas_magics.receipt import Receipt
from aiaas_magics.run import Run
from aiaas_magics.smoke_report import Smoke

HEAD = "%%aiaas transform --from digits --to clean"
CELL = "def transform(batch):\n    return batch.assign(y=batch.x * 2)\n"


def test_a_plan_says_what_it_makes_and_sends_nothing(world: World, notebook: Notebook) -> None:
    world.dataset(rows=7)
    receipt = notebook.run(f"{HEAD} --split train=0.8,test=0.2 --workers 2 --plan\n{CELL}")
    assert isinstance(receipt, Receipt)
    assert receipt.ok, receipt
    text = repr(receipt)
    for part in ("clean-train, clean-test", "alice/digits@1", "2 workers", "cell.py"):
        assert part in text
    assert world.ok("GET", "/runs")["items"] == []


def test_a_smoke_runs_the_first_batch_here(
    world: World, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    world.dataset(rows=7)
    smoke = notebook.run(f"{HEAD} --split train=0.5,test=0.5 --smoke\n{CELL}")
    assert isinstance(smoke, Smoke)
    text = repr(smoke)
    assert "7 rows → " in text
    assert "y int64" in text
    assert "save_model" not in text
    said = notebook.refuses(f"{HEAD} --smoke\ndef transform(batch):\n    return batch['nothing']\n")
    assert "The transform failed at cell.py, line 3: there is no column 'nothing'" in said
    assert "transform returned nothing" in notebook.refuses(
        f"{HEAD} --smoke\ndef transform(batch):\n    batch.head()\n"
    )
    assert world.ok("GET", "/runs")["items"] == []
    assert [one["name"] for one in world.ok("GET", "/datasets")["items"]] == ["digits"]


def test_it_is_submitted_as_a_run_that_names_what_it_made(world: World, notebook: Notebook) -> None:
    world.dataset(rows=3)
    run = notebook.run(f"{HEAD} --batch-format numpy --batch-size 10 --detach\n{CELL}")
    assert isinstance(run, Run)
    record = world.ok("GET", f"/runs/{run.id}")
    assert (record["kind"], record["name"]) == ("transform", "clean")
    assert record["transform"]["batch_format"] == "numpy"
    assert [one["name"] for one in record["datasets"]] == ["digits"]
    assert run.datasets == []
    assert "clean" in repr(run)

    # What a driver does at its end.
    token = world.run_token(record)
    frame = pd.DataFrame({"y": [1, 2]})
    blob = world.upload(frame.to_parquet(), token)
    job = f"/runs/{run.id}/job"
    world.ok("POST", f"{job}/events", token, json={"kind": "started"})
    world.ok("PUT", f"{job}/datasets", token, json={"contents": {"clean": blob}})
    world.ok("POST", f"{job}/events", token, json={"kind": "succeeded"})
    run.wait(10)
    (made,) = run.datasets
    assert made.to_pandas().equals(frame)
    assert made.origin is not None
    assert made.origin.run == run.id
    assert "alice/clean@1" in repr(run)
    assert f"run {run.id} of alice/digits@1" in repr(notebook.run("%aiaas dataset clean"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%%aiaas transform --to clean", "Add '--from NAME'"),
        ("%%aiaas transform --from digits", "Add '--to NAME'"),
        (f"{HEAD} --split train=0.8", "the shares of a split are 1 together, not 0.8"),
        (f"{HEAD} --split train", "is not PART=SHARE"),
        (f"{HEAD} --stratify label", "goes with a split"),
        (f"{HEAD} --batch-format csv", "invalid choice"),
        ("%%aiaas transform --from digits --to bob/clean", "is not a name"),
        ("%%aiaas transform --from digits --to clean@2", "versions are counted"),
        ("%%aiaas transform --from nothing --to clean", "There is no dataset nothing"),
        ("%%aiaas transform --from bob/digits --to clean", "There is no dataset digits"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(
    world: World, notebook: Notebook, line: str, said: str
) -> None:
    world.dataset(rows=3)
    world.dataset("digits", "user:bob")
    assert said in notebook.refuses(f"{line}\n{CELL}")
    assert world.ok("GET", "/runs")["items"] == []


def test_a_cell_brings_all_that_it_uses(world: World, notebook: Notebook) -> None:
    world.dataset(rows=3)
    notebook.run("factor = 3")
    cell = "def transform(batch):\n    return batch * factor\n"
    assert "factor is a variable of the notebook" in notebook.refuses(f"{HEAD}\n{cell}")
