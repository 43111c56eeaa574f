"""Snapshots, failures and datasets inside a run."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cloudpickle
import httpx
import numpy as np
import pandas as pd
import pytest
import torch

from aiaas_hub.schemas.errors import InvalidInput, NotFound, Unavailable
from aiaas_hub.schemas.jobs import JobMetrics, JobSucceeded
from aiaas_hub.schemas.runs import Resources, Snapshot
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime import cache, driver, failures, snapshot
from aiaas_magics.runtime.api import JobApi
from aiaas_magics.runtime.datasets import RunDataset
from aiaas_magics.runtime.metrics import MetricSender, number
from aiaas_magics.runtime.params import Params

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def described(digest: str = "0" * 64, python: str = HERE, source: str = "") -> Snapshot:
    return Snapshot(digest=digest, python=python, client="0", source=source)


def zipped(files: dict[str, str | bytes], **modes: int) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = modes.get(name, 0o100644) << 16
            archive.writestr(info, content)
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


def test_importing_the_runtime_imports_no_engine() -> None:
    code = (
        "import sys, aiaas_magics.runtime, aiaas_magics.runtime.worker;"
        "print([m for m in ('torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.stdout.strip() == "[]"


def test_another_python_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Python 3\.1, the run's workers"):
        snapshot.check(described(python="3.1"))


@pytest.mark.parametrize(
    ("files", "modes"),
    [
        ({"../evil.py": "x"}, {}),
        ({"/evil.py": "x"}, {}),
        ({"a/../../evil.py": "x"}, {}),
        ({"..\\evil.py": "x"}, {}),
        ({"link": "/etc/passwd"}, {"link": 0o120777}),
    ],
)
def test_a_snapshot_stays_in_its_directory(
    tmp_path: Path, files: dict[str, str | bytes], modes: dict[str, int]
) -> None:
    data, digest = zipped(files, **modes)
    with pytest.raises(InvalidInput, match="would leave its directory"):
        snapshot.unpack(data, digest, tmp_path / "code" / digest)
    assert list((tmp_path / "code").iterdir()) == []
    assert not (tmp_path / "evil.py").exists()


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    data, digest = zipped({"cell.py": "x = 1"})
    with pytest.raises(InvalidInput, match="damaged"):
        snapshot.unpack(data + b"x", digest, tmp_path / digest)


def test_a_failing_cell_shows_the_users_line_first(tmp_path: Path) -> None:
    cell = "def deeper(x):\n    return x / 0\n\ndef train(ctx):\n    deeper(ctx)\n"
    data, digest = zipped({"cell.py": cell, "manifest.json": '{"kind": "cell"}'})
    snapshot.unpack(data, digest, tmp_path / digest)
    code = snapshot.load(tmp_path / digest, described(digest))
    with pytest.raises(ZeroDivisionError) as caught:
        code.call(1)
    error = failures.describe(caught.value, code.files)
    assert error.message == (
        "Training failed at cell.py, line 2: ZeroDivisionError: division by zero"
    )
    assert error.traceback.splitlines() == [
        "cell.py, line 2, in deeper",
        "    return x / 0",
        "cell.py, line 5, in train",
        "    deeper(ctx)",
        "ZeroDivisionError: division by zero",
    ]
    assert error.remedy


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    data, digest = zipped({"cell.py": "def train(ctx):\n    return (\n"})
    snapshot.unpack(data, digest, tmp_path / digest)
    with pytest.raises(SyntaxError) as caught:
        snapshot.load(tmp_path / digest, described(digest))
    error = failures.describe(caught.value, ("cell.py",))
    assert "cell.py, line 2" in error.message
    assert "'(' was never closed" in error.message


def test_a_cell_without_train_is_refused(tmp_path: Path) -> None:
    data, digest = zipped({"cell.py": "x = 1\n"})
    snapshot.unpack(data, digest, tmp_path / digest)
    with pytest.raises(InvalidInput, match=r"does not define train\(ctx\)"):
        snapshot.load(tmp_path / digest, described(digest))


def test_a_function_travels_by_value(tmp_path: Path) -> None:
    factor = 3
    files: dict[str, str | bytes] = {
        "function.pkl": cloudpickle.dumps(lambda ctx: ctx * factor),
        "manifest.json": '{"kind": "function"}',
    }
    data, digest = zipped(files)
    snapshot.unpack(data, digest, tmp_path / digest)
    assert snapshot.load(tmp_path / digest, described(digest)).call(2) == 6


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pixels": [np.full(4, n, "float32") for n in range(10)],
            "label": np.arange(10, dtype="int64"),
            "name": [f"n{n}" for n in range(10)],
        }
    )


def shard(frame: pd.DataFrame, path: Path, rank: int, world: int) -> RunDataset:
    frame.to_parquet(path / "data.parquet")
    return RunDataset("ada/digits@1", path / "data.parquet", rank, world)


def test_shards_cover_the_dataset_and_are_equally_long(frame: pd.DataFrame, tmp_path: Path) -> None:
    seen: list[int] = []
    lengths = set()
    for rank in range(3):
        loader = shard(frame, tmp_path, rank, 3).to_torch(
            batch_size=3, shuffle=True, columns=["pixels", "label"]
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        lengths.add(len(batches))
        for batch in batches:
            assert batch["pixels"].shape == (len(batch["label"]), 4)
            assert torch.equal(batch["pixels"][:, 0].long(), batch["label"])
            seen += batch["label"].tolist()
    assert lengths == {2}
    assert set(seen) == set(range(10))


def test_each_epoch_has_an_order_of_its_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    loader = shard(frame, tmp_path, 0, 1).to_torch(10, shuffle=True, columns=["label"])
    first, second = (next(iter(loader))["label"].tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_column_that_is_no_tensor_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Column 'name' cannot become a tensor"):
        shard(frame, tmp_path, 0, 1).to_torch(2)
    frame["label"] = [None, *range(9)]
    with pytest.raises(InvalidInput, match="1 missing values"):
        shard(frame, tmp_path, 0, 1).to_torch(2, columns=["label"])


def test_params_read_like_a_mapping_and_like_attributes() -> None:
    params = Params({"lr": 0.1})
    assert params["lr"] == params.lr == params.get("lr") == 0.1
    assert params.get("depth", 3) == 3
    assert "depth" not in params
    with pytest.raises(InvalidInput, match="no parameter 'depth'; it has: lr"):
        params["depth"]
    with pytest.raises(AttributeError, match="--param depth="):
        _ = params.depth


def test_a_node_fetches_a_content_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))
    calls: list[Path] = []

    def fill(target: Path) -> None:
        calls.append(target)
        target.write_bytes(b"x" * 1000)

    first, second = cache.fetch("abc", fill), cache.fetch("abc", fill)
    assert first == second
    assert len(calls) == 1
    cache.prune(limit=10)
    assert first.exists()  # used today
    os.utime(first, (0, 0))
    cache.prune(limit=10)
    assert not first.exists()


def test_what_another_run_removes_meanwhile_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIAAS_NODE_CACHE", str(tmp_path / "cache"))

    def fill(target: Path) -> None:
        target.write_bytes(b"x")

    kept, gone = cache.fetch("a", fill), cache.fetch("b", fill)
    os.utime(kept, (0, 0))
    look = Path.lstat

    def vanish(path: Path) -> os.stat_result:
        if path == gone:
            gone.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    cache.prune(limit=0)
    assert not gone.exists()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Resources(workers=5), r"asks for 5 CPUs, and this platform has 4\."),
        (Resources(cpus_per_worker=4.5), r"asks for 4\.5 CPUs, and this platform has 4\."),
        (Resources(gpus_per_worker=1), r"asks for 1 GPU, and this platform has none\."),
        (Resources(workers=4, gpus_per_worker=0.5), "asks for 2 GPUs"),
    ],
)
def test_a_run_that_asks_for_more_than_there_is(asked: Resources, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refusal:
        driver.check_room(asked, {"CPU": 4.0, "memory": 1e9})
    assert refusal.value.remedy
    driver.check_room(Resources(workers=4), {"CPU": 4.0})
    driver.check_room(Resources(workers=2, gpus_per_worker=0.5), {"CPU": 4.0, "GPU": 1.0})


def api(handler: httpx.MockTransport, tmp_path: Path, patience: float = 5) -> JobApi:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return JobApi("http://hub/api", "run-1", token, patience=patience, transport=handler)


def test_calls_survive_a_service_that_is_away_for_a_moment(tmp_path: Path) -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.headers["authorization"])
        if len(calls) == 1:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(503 if len(calls) == 2 else 204)

    api(httpx.MockTransport(answer), tmp_path).event(JobSucceeded())
    assert calls == ["Bearer secret"] * 3


def test_a_loss_that_is_no_number_arrives(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(204)

    service = api(httpx.MockTransport(answer), tmp_path)
    sender = MetricSender(service.send_metrics, attempt_began=time.time())
    for step, loss in enumerate([1.0, math.inf, -math.inf, math.nan]):
        sender.put(step, {"loss": number("loss", torch.tensor(loss))})
    sender.close()
    points = [p for body in bodies for p in JobMetrics.model_validate_json(body).points]
    assert [p.values["loss"] for p in points[:3]] == [1, math.inf, -math.inf]
    assert math.isnan(points[3].values["loss"])
    assert all(json.loads(body, parse_constant=lambda _: pytest.fail("no JSON")) for body in bodies)


@pytest.mark.parametrize(
    ("status", "error"), [(409, RunOver), (410, RunOver), (404, NotFound), (500, Unavailable)]
)
def test_answers_that_end_a_call(tmp_path: Path, status: int, error: type[Exception]) -> None:
    body = {"error": {"code": "not_found", "message": "No."}}
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body))
    with pytest.raises(error):
        api(transport, tmp_path, patience=0.3).event(JobSucceeded())
