"""Every verb in a shell, against the real service."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from api_world import World
from notebook_shell import Notebook

import aiaas_magics as aiaas
from aiaas_hub.schemas.errors import InvalidInput, NotFound

CELL = "def train(ctx):\n    ctx.report(step=1, loss=0.5)\n"
TRAIN = "%%aiaas train --name cnn --detach\n" + CELL


def put(name: str = "digits") -> Any:
    return aiaas.datasets.put(name, pd.DataFrame({"x": [1, 2, 3], "label": ["a", "b", "c"]}))


def finish(world: World, run: Any, outcome: dict[str, Any]) -> None:
    """What the run's job reports at its end."""
    token = world.run_token({"id": run.id})
    world.ok("POST", f"/runs/{run.id}/job/events", token, json={"kind": "started"})
    points = [{"step": s, "time": 1000.0 + s, "values": {"loss": 1 / s}} for s in (1, 2, 3)]
    batch = {"sequence": 0, "points": points}
    world.ok("POST", f"/runs/{run.id}/job/metrics", token, json=batch)
    world.ok("POST", f"/runs/{run.id}/job/log", token, json={"offset": 0, "text": "a\nb\n"})
    world.ok("POST", f"/runs/{run.id}/job/events", token, json=outcome)


def test_status(world: World, notebook: Notebook) -> None:
    status = notebook.run("%aiaas")
    assert status.me.user == "alice"
    assert "alice" in repr(status)
    assert "ray ready" in repr(status)
    assert re.search(r"quota: runs 0 of \d+, workers 0", repr(status))
    assert "profile" not in repr(status)


def test_status_tells_the_servers_profile(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIAAS_PROFILE", "Small <CPU>")
    status = notebook.run("%aiaas")
    assert "profile: Small <CPU>" in repr(status)
    assert "Small &lt;CPU&gt;" in status._repr_mimebundle_()["text/html"]


def test_datasets(world: World, notebook: Notebook, tmp_path: Any) -> None:
    assert "aiaas.datasets.put" in repr(notebook.run("%aiaas datasets"))
    stored = put()
    assert str(stored) == "alice/digits@1"
    assert put().version == 1  # the same content
    assert [d.name for d in notebook.run("%aiaas datasets dig*")] == ["digits"]
    assert "No dataset" in repr(notebook.run("%aiaas datasets nothing*"))
    preview = notebook.run("%aiaas preview digits -n 2 --columns label")
    assert preview.rows == [["a"], ["b"]]
    assert preview.total_rows == 3
    assert notebook.run("%aiaas load digits --limit 2").x.tolist() == [1, 2]
    note = notebook.run("%aiaas load alice/digits@1 --into df --columns x")
    assert notebook.run("df").columns.tolist() == ["x"]
    assert repr(note) == "df: 3 rows, 1 columns of alice/digits@1"
    csv = tmp_path / "rows.csv"
    csv.write_text("a,b\n1,2\n")
    uploaded = aiaas.datasets.upload("rows", csv)
    assert uploaded.schema == {"a": "int64", "b": "int64"}
    assert uploaded._record.latest.format == "csv"
    short = tmp_path / "rows.pq"
    uploaded.to_pandas().to_parquet(short)
    assert aiaas.datasets.upload("short", short).rows == 1
    csv.write_text("")
    with pytest.raises(InvalidInput) as refusal:
        aiaas.datasets.upload("rows", csv)
    assert refusal.value.remedy
    assert "no column 'y'" in notebook.refuses("%aiaas preview digits --columns y")
    some = notebook.run("""%aiaas load digits --where "x > 1 and label <> 'c'" """)
    assert some.x.tolist() == [2]
    assert "no dataset" in notebook.refuses("%aiaas preview nothing").lower()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({"x": [object()]}), "Column 'x'"),
        (pd.DataFrame({"ok": [1, 2], "mixed": [1, "a"]}), "Column 'mixed'"),
        (pd.DataFrame({0: [1]}), "must be texts"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'"),
        ([1, 2], "not a table"),
        (pd.Series([1, 2]), r"A Series is not a table\. Give a DataFrame: series\.to_frame"),
        (
            pd.DataFrame({"image": [np.zeros((2, 2))]}),
            r"Column 'image'.*\.map\(lambda a: a\.tolist",
        ),
    ],
)
def test_a_frame_that_cannot_be_stored(world: World, frame: Any, says: str) -> None:
    with pytest.raises(Exception, match=says) as refusal:
        aiaas.datasets.put("bad", frame)
    assert refusal.value.remedy  # type: ignore[attr-defined]
    assert not aiaas.datasets.list()


def test_the_remedy_for_a_column_of_images_keeps_them(world: World) -> None:
    frame = pd.DataFrame({"image": list(np.arange(8.0).reshape(2, 2, 2))})
    frame["image"] = frame["image"].map(lambda a: a.tolist())
    back = aiaas.datasets.put("images", frame).to_arrow()
    assert back.column("image").to_pylist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb", "<b>x</b>", "x" * 300, "", "x@2"])
def test_a_name_that_cannot_be(world: World, name: str) -> None:
    with pytest.raises(Exception, match=r"valid|characters|version"):
        aiaas.datasets.put(name, pd.DataFrame({"x": [1]}))


def test_a_run_from_cell_to_lineage(world: World, notebook: Notebook) -> None:
    put()
    run = notebook.run(
        "%%aiaas train --name cnn --dataset digits --workers 2 --param lr=0.25 --param deep=true"
        " --param who=x --detach\n" + CELL
    )
    assert notebook.shell.user_ns["_"] is run
    assert run.state == "queued"
    assert run.params == {"lr": 0.25, "deep": True, "who": "x"}
    assert [r.id for r in notebook.run("%aiaas runs")] == [run.id]
    finish(world, run, {"kind": "succeeded"})
    notebook.shell.user_ns["run"] = run
    assert notebook.run("%aiaas run {run.id}").state == "succeeded"
    assert notebook.run(f"%aiaas logs {run.id}") == "a\nb\n"
    assert run.metrics()["loss"].tolist() == [1, 1 / 2, 1 / 3]
    metrics = notebook.run(f"%aiaas metrics {run.id}")
    assert ": 3 reports" in repr(metrics)
    assert "<img" in metrics._repr_mimebundle_()["text/html"]
    lineage = notebook.run(f"%aiaas lineage {run.id}")
    assert lineage.datasets == ["alice/digits@1"]
    # With the magic's own line, so that the code's lines have the notebook's numbers.
    first, rest = lineage.source.split("\n", 1)
    assert first.startswith("# %%aiaas train --name cnn --dataset digits --workers 2")
    assert rest == CELL
    assert run.wait(timeout=1).state == "succeeded"
    assert run.model is None


@pytest.mark.parametrize("run_id", ["", ".", "..", None])
def test_what_is_no_runs_id(world: World, run_id: Any) -> None:
    with pytest.raises(NotFound, match="no run's id"):
        aiaas.runs.get(run_id)


def test_cancel(world: World, notebook: Notebook) -> None:
    run = notebook.run(TRAIN)
    world.tick()
    assert notebook.run(f"%aiaas cancel {run.id}").id == run.id
    world.tick(3)
    assert run.wait(timeout=5).state == "cancelled"
    assert "was cancelled" in notebook.refuses(f"%aiaas attach {run.id}")


def test_wait_gives_up_and_leaves_the_run(world: World, notebook: Notebook) -> None:
    run = notebook.run(TRAIN)
    with pytest.raises(TimeoutError, match="goes on"):
        run.wait(timeout=0.2)
    assert run.state == "queued"


def test_nothing_is_sent_of_a_cell_that_cannot_run(world: World, notebook: Notebook) -> None:
    assert "line 2: 'def train(ctx:'" in notebook.refuses(
        "%%aiaas train --name x\ndef train(ctx:\n"
    )
    assert "train(ctx)" in notebook.refuses("%%aiaas train --name x\nx = 1\n")
    assert "no name" in notebook.refuses(f"%%aiaas train\n{CELL}")
    assert "valid name" in notebook.refuses(f"%%aiaas train --name a/b\n{CELL}")
    assert "--workers" in notebook.refuses(f"%%aiaas train --name x --workers 5000\n{CELL}")
    assert (
        "no dataset"
        in notebook.refuses(f"%%aiaas train --name x --dataset nothing\n{CELL}").lower()
    )
    for value in ("nan", "-inf", "1e999", "Infinity"):
        said = notebook.refuses(f"%%aiaas train --name x --param lr={value}\n{CELL}")
        assert "'lr' is" in said
        assert "not a finite number" in said
    assert "Write '--name mymodel'." in notebook.refuses(f"%%aiaas train mymodel\n{CELL}")
    assert "'y' is no option" in notebook.refuses(f"%%aiaas train y --name x\n{CELL}")
    assert "no file" in notebook.refuses("%aiaas train script.py --name x")
    assert "needs a cell" in notebook.refuses("%aiaas train --name x")
    assert "takes no cell" in notebook.refuses("%%aiaas runs\nx")
    assert not aiaas.runs.list()


def test_what_the_wire_does_not_take_is_a_sentence(world: World, notebook: Notebook) -> None:
    said = notebook.refuses(f"%%aiaas train --name x --detach --param n={'x' * 20_000}\n{CELL}")
    assert "'n' is longer than a parameter may be" in said
    said = notebook.refuses(f"%%aiaas train --name x --detach --param n={2**53 + 1}\n{CELL}")
    assert "'n' is larger than 9,007,199,254,740,992" in said
    with pytest.raises(InvalidInput, match="params is not valid") as refusal:
        aiaas.train(lambda _: None, name="x", params={f"p{n}": n for n in range(2000)}, detach=True)
    assert refusal.value.remedy
    long = "# long\n" * 200_000
    said = notebook.refuses(f"%%aiaas train --name x --detach\n{long}{CELL}")
    assert "source is not valid" in said
    assert not [path for path in (world.home.artifacts / "blobs").rglob("*") if path.is_file()]


def test_publish_keys_and_retire(working: World, notebook: Notebook) -> None:
    working.model()
    assert "no model" in notebook.refuses("%aiaas publish digits --model nothing").lower()
    endpoint = notebook.run("endpoint = %aiaas publish digits --model cnn\nendpoint")
    assert endpoint.state == "serving"
    assert endpoint.traffic == {1: 100}
    assert endpoint.parity.max_abs == 0
    assert "at most 0 apart on 4 held-out rows" in repr(endpoint)
    assert [e.name for e in notebook.run("%aiaas endpoints")] == ["digits"]
    assert notebook.run("%aiaas model cnn").version == 1
    assert [m.name for m in notebook.run("%aiaas models")] == ["cnn"]

    key = notebook.run("%aiaas keys digits create --days 1 --note me")
    assert key.token
    shown = json.dumps([key._repr_mimebundle_(), repr(key), str(key), str(vars(key)["_record"])])
    assert key.token not in shown
    (listed,) = notebook.run("%aiaas keys digits")
    assert listed.id == key.id
    with pytest.raises(Exception, match="not kept"):
        listed.token  # noqa: B018 - the access is the test
    with pytest.raises(InvalidInput, match="expires_in_days is not valid"):
        endpoint.create_key(expires_in_days=10_000)
    assert notebook.run(f"%aiaas keys digits revoke {key.id}").state == "revoked"
    assert "no such key" in notebook.refuses("%aiaas keys digits revoke nothing").lower()

    assert notebook.run("%aiaas lineage digits").model == "alice/cnn@1"
    assert "no run, endpoint, model or dataset" in notebook.refuses("%aiaas lineage nothing")
    assert notebook.run("%aiaas retire digits").state == "retired"


def test_an_endpoint_is_as_it_is_now(working: World, notebook: Notebook) -> None:
    working.model()
    endpoint = notebook.run("endpoint = %aiaas publish digits --model cnn\nendpoint")
    working.model(onnx=b"another")
    notebook.run("%aiaas publish digits --model cnn@2")
    time.sleep(0.6)
    assert endpoint.version == 2
    assert endpoint.traffic == {2: 100}
    notebook.run("%aiaas retire digits")
    time.sleep(0.6)
    assert endpoint.state == "retired"
    assert endpoint.version is None


def test_a_version_whose_parity_fails_is_an_error(working: World, notebook: Notebook) -> None:
    working.model(offset=1.0)
    said = notebook.refuses("%aiaas publish digits --model cnn")
    assert "was not published" in said
    assert "differ" in said
    assert notebook.run("%aiaas endpoint digits").traffic == {}
    notebook.shell.user_ns["X"] = np.zeros((1, 3), "float32")
    assert "answers nothing" in notebook.refuses("%aiaas predict digits X")


def test_another_users_objects_are_absent(
    world: World, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    run = notebook.run(TRAIN)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "user:bob")
    assert not notebook.run("%aiaas datasets")
    assert notebook.refuses(f"%aiaas run {run.id}") == notebook.refuses("%aiaas run run-none")
    notebook.refuses("%aiaas preview alice/digits")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "user:alice")


def test_without_a_platform_the_error_says_what_to_do(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIAAS_URL", raising=False)
    assert "AIAAS_URL is not set" in notebook.refuses("%aiaas runs")
    monkeypatch.setenv("AIAAS_URL", "http://127.0.0.1:9/services/aiaas")
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    assert "no hub token" in notebook.refuses("%aiaas runs")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "secret-canary")
    said = notebook.refuses("%aiaas runs")
    assert "cannot be reached" in said
    assert "secret-canary" not in said
    assert os.environ["JUPYTERHUB_API_TOKEN"] == "secret-canary"


def test_a_name_that_is_not_there_names_the_nearest(world: World, notebook: Notebook) -> None:
    put()
    world.model("network")
    assert notebook.refuses("%aiaas preview digts").endswith("Did you mean 'digits'?")
    assert "Did you mean 'digits@1'?" in notebook.refuses("%aiaas load digit@1")
    assert "'network'" in notebook.refuses("%aiaas publish e --model netwrk")
    assert "Did you mean" not in notebook.refuses("%aiaas preview something-else")
    assert "Did you mean" not in notebook.refuses("%aiaas preview digits@9")
    assert "Did you mean" not in notebook.refuses("%aiaas endpoint digits")


def test_the_magics_own_help(notebook: Notebook) -> None:
    assert "%%aiaas train" in notebook.run("%aiaas help")
    assert "--workers" in notebook.run("%aiaas help train")
    assert "did you mean 'runs'" in notebook.refuses("%aiaas help rums")
    assert "predict" in (notebook.shell.find_line_magic("aiaas").__doc__ or "")


def test_unload(notebook: Notebook) -> None:
    notebook.shell.run_line_magic("unload_ext", "aiaas_magics")
    assert notebook.shell.find_line_magic("aiaas") is None
    notebook.shell.run_line_magic("load_ext", "aiaas_magics")
