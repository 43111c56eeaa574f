"""Runs written to a real MLflow store and to TensorBoard's event files."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow's and SQLAlchemy's own, among them

CELL = "\ndef train(ctx):\n    ctx.report(step=1, loss=0.5)\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of MLflow's; its artifacts come to lie in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIAAS_MLFLOW_URI", raising=False)
    yield f"sqlite:///{tmp_path / 'mlflow.db'}"
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()


def report(world: World, run: Any, sequence: int, *values: dict[str, Any]) -> None:
    points = [
        {"step": sequence + n, "time": 1000.0 + sequence + n, "values": found}
        for n, found in enumerate(values, start=1)
    ]
    batch = {"sequence": sequence, "points": points}
    world.ok("POST", f"/runs/{run.id}/job/metrics", world.run_token({"id": run.id}), json=batch)


def tell(world: World, run: Any, **event: Any) -> None:
    world.ok("POST", f"/runs/{run.id}/job/events", world.run_token({"id": run.id}), json=event)


def submitted(world: World, notebook: Notebook) -> Any:
    world.dataset("digits")
    run = notebook.run(
        f"%%aiaas train --name cnn --dataset digits --param lr=0.1 --param opt=adam --detach{CELL}"
    )
    tell(world, run, kind="started")
    return run


def test_a_run_in_mlflow_is_there_once_and_goes_on(
    world: World, notebook: Notebook, store: str
) -> None:
    from mlflow import MlflowClient

    run = submitted(world, notebook)
    report(world, run, 0, {"loss": 0.5}, {"loss": "nan", "val loss%": 0.25})
    first = run.to_mlflow(store, experiment="mine")
    mlflow = MlflowClient(store)
    assert mlflow.get_run(first).info.status == "RUNNING"

    report(world, run, 2, {"loss": 0.125})
    token = world.run_token({"id": run.id})
    model = world.hand_over(onnx=b"the model")
    world.ok("PUT", f"/runs/{run.id}/job/model", token, json=model)
    tell(world, run, kind="succeeded")
    said = notebook.run(f"%aiaas run {run.id} --mlflow {store}")
    assert "In MLflow it is run " in repr(said)
    again = aiaas.runs.get(run.id).to_mlflow(store, experiment="mine")
    assert again == first

    found = mlflow.get_run(first)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "cnn"
    assert found.data.params == {"lr": "0.1", "opt": "adam"}
    tags = found.data.tags
    assert tags["mlflow.user"] == "alice"
    assert tags["aiaas.run_id"] == run.id
    assert tags["aiaas.datasets"] == "alice/digits@1"
    assert len(tags["aiaas.code"]) == 64
    losses = mlflow.get_metric_history(first, "loss")
    assert [(m.step, m.timestamp) for m in losses] == [(1, 1001000), (2, 1002000), (3, 1003000)]
    assert losses[0].value == 0.5
    assert math.isnan(losses[1].value)
    assert [m.value for m in mlflow.get_metric_history(first, "val loss_")] == [0.25]
    stored = mlflow.download_artifacts(first, "model/model.onnx")
    assert Path(stored).read_bytes() == b"the model"
    experiment = mlflow.get_experiment_by_name("mine")
    assert len(mlflow.search_runs([experiment.experiment_id])) == 1
    assert mlflow.get_experiment_by_name("aiaas") is not None  # the magic's, by default


def test_a_sweeps_trials_lie_below_it(world: World, notebook: Notebook, store: str) -> None:
    from mlflow import MlflowClient

    sweep = notebook.run(
        f"%%aiaas sweep --name cnn --param lr=choice:1,2 --search grid --metric loss --detach{CELL}"
    )
    token = world.run_token({"id": sweep.id})
    tell(world, sweep, kind="started")
    for number in (0, 1):
        body = {"number": number, "params": {"lr": number + 1}}
        trial = world.ok("POST", f"/runs/{sweep.id}/job/trials", token, json=body)
        points = [{"step": 1, "time": 1.0, "values": {"loss": number}}]
        job = f"/runs/{trial['run_id']}/job"
        world.ok("POST", f"{job}/metrics", trial["token"], json={"sequence": 0, "points": points})
    parent = sweep.to_mlflow(store)
    mlflow = MlflowClient(store)
    below = mlflow.search_runs(
        [mlflow.get_run(parent).info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    assert {(r.info.run_name, r.data.params["lr"], r.data.metrics["loss"]) for r in below} == {
        ("cnn trial 0", "1", 0.0),
        ("cnn trial 1", "2", 1.0),
    }


def test_a_watched_run_goes_there_by_itself(
    working: World,
    notebook: Notebook,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlflow import MlflowClient

    run = submitted(working, notebook)
    tell(working, run, kind="succeeded")
    monkeypatch.setenv("AIAAS_MLFLOW_URI", store)
    notebook.run(f"%aiaas attach {run.id}")
    assert f"In MLflow ({store}) it is run " in capsys.readouterr().out
    assert MlflowClient(store).get_experiment_by_name("aiaas") is not None
    # The run is over whatever becomes of its export.
    monkeypatch.setenv("AIAAS_MLFLOW_URI", "http://me:secret@127.0.0.1:9/mlflow")
    notebook.run(f"%aiaas attach {run.id}")
    said = capsys.readouterr().out
    assert "It is not in MLflow: MLflow at http://127.0.0.1:9/mlflow did not take the run" in said
    assert "me:secret" not in said


def test_what_mlflow_cannot_do_is_said(world: World, notebook: Notebook, store: str) -> None:
    run = submitted(world, notebook)
    with pytest.raises(InvalidInput, match="not said which MLflow"):
        run.to_mlflow()
    with pytest.raises(Unavailable) as refusal:
        run.to_mlflow(f"file:{Path.cwd()}/mlruns")
    assert refusal.value.remedy == "Use a database: sqlite:///mlflow.db."
    assert refusal.value.message.endswith(".")
    assert "htt" not in refusal.value.message


def records(file: Path) -> Iterator[Any]:
    """The events of a file: each behind its length and a checksum, and before another one."""
    from tensorboardX.proto.event_pb2 import Event

    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def test_tensorboard_reads_a_run(world: World, notebook: Notebook, tmp_path: Path) -> None:
    run = submitted(world, notebook)
    report(world, run, 0, {"loss": 0.5}, {"loss": 0.25, "accuracy": 0.75})
    said = notebook.run(f"%aiaas run {run.id} --tensorboard {tmp_path / 'boards'}")
    where = tmp_path / "boards" / run.id
    assert f"Its metrics are in {where}" in repr(said)
    (where / "events.out.tfevents.1.host").write_bytes(b"")  # somebody else's
    assert run.to_tensorboard(tmp_path / "boards") == where
    (file,) = where.glob("*.aiaas")
    scalars = [
        (value.tag, event.step, event.wall_time, value.simple_value)
        for event in records(file)
        for value in event.summary.value
    ]
    assert scalars == [
        ("loss", 1, 1001.0, 0.5),
        ("loss", 2, 1002.0, 0.25),
        ("accuracy", 2, 1002.0, 0.75),
    ]
    assert sorted(path.name for path in where.iterdir()) == sorted(
        [file.name, "events.out.tfevents.1.host"]
    )


def test_what_workers_wrote_for_tensorboard_lies_beside_it(
    world: World, notebook: Notebook, tmp_path: Path
) -> None:
    run = submitted(world, notebook)
    token = world.run_token({"id": run.id})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("images/events.out.tfevents.1.node", "a picture")
        archive.writestr("../../outside", "no further up")
    digest = world.ok("POST", "/blobs", token, content=content.getvalue())["digest"]
    body = {"worker": 0, "digest": digest}
    assert world.call("PUT", f"/runs/{run.id}/job/event-files", token, json=body).status_code == 204
    for _ in range(2):
        where = run.to_tensorboard(tmp_path / "boards")
        written = where / "worker-0" / "images" / "events.out.tfevents.1.node"
        assert written.read_text() == "a picture"
    assert not list(tmp_path.glob("outside"))


def test_a_model_is_downloaded_whole(world: World, notebook: Notebook, tmp_path: Path) -> None:
    world.model("cnn", onnx=b"first")
    world.model("cnn", onnx=b"second")
    assert aiaas.models.get("cnn@1").download(tmp_path).name == "cnn-1.onnx"
    assert (tmp_path / "cnn-1.onnx").read_bytes() == b"first"
    assert aiaas.models.get("cnn").download(tmp_path / "m.onnx").read_bytes() == b"second"
