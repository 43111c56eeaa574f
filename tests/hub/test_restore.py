"""A platform that is destroyed comes back from its backup: data, endpoints, keys, people."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from running_platform import RunningPlatform
from safetensors.numpy import save
from service_calls import ServiceCalls, until

pytestmark = pytest.mark.platform


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningPlatform]:
    running = RunningPlatform.on(tmp_path / "home")
    try:
        yield running
    finally:
        running.end()


def aiaas(platform: RunningPlatform, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aiaas_hub.cli", *words],
        env={**os.environ, "AIAAS_HOME": str(platform.home.root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def published(ada: ServiceCalls, tmp_path: Path) -> Any:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows = {"input.x": x, "output.y": 2 * x, "output.total": (2 * x).sum(axis=1)}
    model = {
        "onnx": ada.upload(onnx_models.scale(tmp_path / "model.onnx", 2.0).read_bytes()),
        "evaluation": ada.upload(save(rows)),
        "signature": onnx_models.SCALE_SIGNATURE.model_dump(mode="json"),
        "export_max_abs": 0.0,
    }
    ada.ok("POST", "/models/ada/doubles/versions", json=model)
    ada.ok("POST", "/endpoints/ada/doubles/publish", json={"model": "doubles"})
    ada.endpoint_until("doubles", "serving")
    return ada.ok("POST", "/endpoints/ada/doubles/keys", json={})["token"]


def test_a_destroyed_platform_comes_back_from_its_backup(
    own: RunningPlatform, tmp_path: Path
) -> None:
    own.start()
    ada = ServiceCalls.of(own, "ada")
    key = published(ada, tmp_path)
    notebook = own.home.notebooks / "ada" / "mine.txt"
    notebook.parent.mkdir(exist_ok=True)
    notebook.write_text("mine")
    password = own.facts["user_password"]
    before = ada.ok("GET", "/endpoints/ada/doubles")
    head = aiaas(own, "audit", "verify").rpartition("Head: ")[2].strip()

    # While it runs; then nothing of it is left.
    aiaas(own, "backup", str(tmp_path / "backup.zip"))
    assert own.up is not None
    own.up.kill()
    own.up.wait()
    for process in own.processes():
        process.send_signal(signal.SIGKILL)
    shutil.rmtree(own.home.root)
    said = aiaas(own, "restore", str(tmp_path / "backup.zip"))
    assert "Restored" in said

    own.start()
    assert own.facts["user_password"] == password
    # The key, the address and the hub's token of before: nobody has to be told anything.
    answer = until(lambda: ada.predict("doubles", key), lambda found: True, 90)
    assert answer["outputs"][0]["data"] == [2, 4, 6]
    after = ada.ok("GET", "/endpoints/ada/doubles")
    assert (after["url"], after["versions"]) == (before["url"], before["versions"])
    assert notebook.read_text() == "mine"
    assert "whole" in aiaas(own, "audit", "verify", "--head", head)
    with own.session("ada") as session:
        session.spawn("small")
    own.stop()
