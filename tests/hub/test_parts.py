"""Proxy, hub and service as processes of their own: what one's restart does not touch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx_models
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from running_platform import RunningPlatform
from safetensors.numpy import save
from service_calls import SLOW_TRAINING, ServiceCalls, until

from aiaas_hub.home import Home, write_private
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.platform import hold
from aiaas_hub.local.processes import end_processes
from aiaas_hub.local.remote_kernel import RemoteKernel
from aiaas_hub.loopback import free_ports, is_free

pytestmark = pytest.mark.platform

PARTS = ("proxy", "service", "hub")
UP_SECONDS = 120


@dataclass
class Parts(RunningPlatform):
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin(self, part: str) -> None:
        environ = {**os.environ, "AIAAS_HOME": str(self.home.root), "PORT": str(self.port)}
        with self.output.open("ab") as output:
            self.running[part] = subprocess.Popen(
                [sys.executable, "-m", "aiaas_hub.cli", "part", part],
                env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def kill(self, part: str) -> None:
        process = self.running.pop(part)
        process.kill()
        process.wait()

    def answers(self) -> bool:
        try:
            hub = httpx.get(f"{self.address}/hub/api/", trust_env=False)
            path = "/services/aiaas/api/v1/health"
            service = httpx.get(f"{self.address}{path}", trust_env=False)
        except httpx.TransportError:
            return False
        return hub.is_success and service.is_success

    def await_answers(self) -> None:
        end = time.monotonic() + UP_SECONDS
        while not self.answers():
            assert time.monotonic() < end, self.logs()
            time.sleep(0.2)

    def end(self) -> None:
        for part in list(self.running):
            self.kill(part)
        end_processes(self.processes())


def four_ports() -> int:
    """The first of them."""
    for first in free_ports(20):
        if first < 65000 and all(is_free(first + more) for more in range(4)):
            return first
    raise AssertionError("no four ports in a row are free")


def server_of(session: HubSession) -> dict[str, Any]:
    own = {"X-XSRFToken": session.xsrf("/hub/")}
    found = session.http.get(f"/hub/api/users/{session.user}", headers=own).raise_for_status()
    server: dict[str, Any] = found.json()["servers"][""]
    return server


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Parts]:
    """Nothing of it runs yet."""
    made = Parts(Home(tmp_path / "home"), four_ports())
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    made = Parts(Home(tmp_path_factory.mktemp("parts") / "home"), four_ports())
    try:
        for part in PARTS:
            made.begin(part)
        made.await_answers()
        health = httpx.get(f"{made.address}/services/aiaas/api/v1/health", trust_env=False).json()
        password = made.home.secret("user_password", nbytes=8)
        facts = {"url": made.address, "user_password": password, "gateway": health["gateway"]}
        # What tests of a platform read; nothing of the parts does.
        write_private(made.home.platform_file, json.dumps(facts))
        yield made
    finally:
        made.end()


def run(kernel: RemoteKernel, source: str) -> str:
    notebook = new_notebook(cells=[new_code_cell(source)])
    kernel.run(notebook, cell_timeout=60, stop_requested=lambda: False, progress=lambda text: None)
    return str(notebook.cells[0].outputs[0].text)


def test_a_part_that_dies_touches_no_server_and_no_endpoint(parts: Parts, tmp_path: Path) -> None:
    ada = ServiceCalls.of(parts, "ada")
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
    key = ada.ok("POST", "/endpoints/ada/doubles/keys", json={})["token"]
    with parts.session("ada") as session:
        session.spawn("small")
        with RemoteKernel(session, directory="") as kernel:
            assert run(kernel, "x = 41; print(x)") == "41\n"
            server = server_of(session)

            parts.kill("hub")
            assert run(kernel, "x += 1; print(x)") == "42\n"
            assert ada.predict("doubles", key).is_success
            parts.begin("hub")
            parts.await_answers()
            after = server_of(session)
            assert (after["started"], after["ready"]) == (server["started"], True)
            assert run(kernel, "x += 1; print(x)") == "43\n"

            # The service: what it started goes on, and it finds it again.
            parts.kill("service")
            assert ada.predict("doubles", key).is_success
            parts.begin("service")
            parts.await_answers()
            assert ada.endpoint_until("doubles", "serving")
            assert run(kernel, "x += 1; print(x)") == "44\n"

            # The proxy: connections break, servers do not, and their pages are there again soon.
            parts.kill("proxy")
            parts.begin("proxy")
            parts.await_answers()
            [found] = until(lambda: session.server_request("GET", "api/kernels"), bool, 30)
            assert found["execution_state"] == "idle"


def test_a_hub_that_dies_touches_no_run(parts: Parts) -> None:
    ada = ServiceCalls.of(parts, "ada")
    run_id = ada.submit(SLOW_TRAINING, params={"steps": 4000}, resources={"workers": 1})

    def metrics() -> httpx.Response:
        return ada.call("GET", f"/runs/{run_id}/metrics")

    before = len(until(metrics, lambda found: found["points"], 240)["points"])
    parts.kill("hub")
    until(metrics, lambda found: len(found["points"]) > before, 60)
    parts.begin("hub")
    parts.await_answers()
    found = ada.ok("GET", f"/runs/{run_id}")
    assert (found["state"], found["attempt"]) == ("running", 1)
    ada.ok("POST", f"/runs/{run_id}/cancel")


def test_a_second_hub_is_refused(idle: Parts) -> None:
    idle.home.prepare()
    with hold(idle.home):
        idle.begin("hub")
        assert idle.running["hub"].wait(60) == 1
    assert "A platform runs on" in idle.output.read_text()
