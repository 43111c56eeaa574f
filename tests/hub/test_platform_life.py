"""Starting, stopping and crashing: each test has a platform of its own."""

from __future__ import annotations

import ipaddress
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx_models
import psutil
import pytest
from running_platform import RunningPlatform, is_alive
from safetensors.numpy import save
from service_calls import SLOW_TRAINING, ServiceCalls, until

pytestmark = pytest.mark.platform


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningPlatform]:
    # A long home: sockets below it must not meet the limit of unix socket paths.
    running = RunningPlatform.on(tmp_path / ("long-" * 20) / "home")
    running.home.root.parent.mkdir()
    try:
        yield running
    finally:
        running.end()


def test_a_killed_platform_is_cleared_away_by_the_next_start(own: RunningPlatform) -> None:
    own.start()
    password = own.facts["user_password"]
    with own.session("ada") as session:
        session.spawn("small")
    [server] = [
        process for process in own.processes() if "jupyterhub.singleuser" in process.cmdline()
    ]
    old = own.processes()
    [service] = [process for process in own.processes() if "aiaas_hub.app" in process.cmdline()]
    [hub] = [process for process in own.processes() if "jupyterhub" in process.cmdline()]
    assert own.up is not None
    own.up.kill()
    own.up.wait()
    hub.kill()
    assert service.is_running()
    assert server.is_running()

    seconds = own.start()
    print(f"killed, and usable again after {seconds:.1f} s")
    assert not [process for process in old if is_alive(process)]
    # 20 s to a usable platform, and up to ten to end what was left.
    assert seconds < 30
    assert own.facts["user_password"] == password, "secrets survive"
    with own.session("ada") as session:
        session.spawn("small")
    own.stop()
    assert not own.shared_memory


def test_stopping_while_starting_leaves_nothing(own: RunningPlatform) -> None:
    own.up = own.command()
    deadline = time.monotonic() + 60
    while not own.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    own.up.send_signal(signal.SIGTERM)
    assert own.up.wait(60) == 0
    own.assert_nothing_left()


def test_stopping_during_a_run_leaves_nothing(own: RunningPlatform) -> None:
    own.start()
    assert own.up is not None
    ada = ServiceCalls.of(own, "ada")
    for name in ("triton", "envoy", "ray"):
        until(lambda: ada.call("GET", "/me"), ready(name), 120)
    run = ada.submit(SLOW_TRAINING, params={"steps": 400}, resources={"workers": 2})
    until(lambda: ada.call("GET", f"/runs/{run}/metrics"), lambda found: found["points"], 120)
    marked = {process.pid for process in own.processes()}
    family = psutil.Process(own.up.pid).children(recursive=True)
    lines = {process.pid: command_line(process) for process in family}
    for part in ("tritonserver", "/envoy", "raylet", "runtime.driver", "RunWorker"):
        assert [pid for pid, line in lines.items() if part in line], part
    # (`sleep` comes and goes in a shell that watches Ray's jobs.)
    unmarked = [line for pid, line in lines.items() if pid not in marked and "sleep" not in line]
    assert not unmarked, "every process is found by its marker"
    beyond = {
        lines[process.pid]
        for process in family
        for connection in listening(process)
        if not ipaddress.ip_address(connection.laddr.ip.removeprefix("::ffff:")).is_loopback
    }
    # Where the workers of one run meet is PyTorch's, which binds it to every interface.
    assert all(line.startswith("ray::RunWorker") for line in beyond), beyond
    own.stop()


def ready(name: str) -> Callable[[Any], bool]:
    return lambda found: any(
        engine["name"] == name and engine["state"] == "ready" for engine in found["engines"]
    )


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return "sleep"


def listening(process: psutil.Process) -> list[Any]:
    try:
        found = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return []
    return [connection for connection in found if connection.status == psutil.CONN_LISTEN]


def test_a_hub_that_dies_ends_the_platform_with_its_last_words(own: RunningPlatform) -> None:
    own.start()
    [hub] = [process for process in own.processes() if "jupyterhub" in process.cmdline()]
    hub.kill()
    assert own.up is not None
    assert own.up.wait(60) == 1
    assert "The hub has ended by itself" in own.output.read_text()
    own.assert_nothing_left()


def test_a_taken_port_is_said(own: RunningPlatform) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        own.up = own.command(port=port)
        assert own.up.wait(60) == 1
    said = own.output.read_text()
    assert f"Port {port} of 127.0.0.1 cannot be used" in said
    assert "PORT=" in said
    own.assert_nothing_left()


def test_the_service_does_not_come_back_after_a_stop(own: RunningPlatform) -> None:
    """The hub restarts its service; that must not race with the end."""
    own.start()
    url = own.url
    own.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_next_start_brings_everything_back(own: RunningPlatform, tmp_path: Path) -> None:
    own.start()
    ada = ServiceCalls.of(own, "ada")
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
    before = ada.endpoint_until("doubles", "serving")
    key = ada.ok("POST", "/endpoints/ada/doubles/keys", json={})["token"]
    assert ada.predict("doubles", key).is_success
    assert own.shared_memory
    own.stop()
    assert not own.shared_memory

    ready = own.start()
    begun = time.monotonic()
    # The key, the address and the token of before: nobody has to be told anything.
    answer = until(lambda: ada.predict("doubles", key), lambda found: True, 60)
    print(
        f"started again: usable after {ready:.1f} s, answers {time.monotonic() - begun:.1f} s later"
    )
    assert answer["outputs"][0]["data"] == [2, 4, 6]
    after = ada.ok("GET", "/endpoints/ada/doubles")
    assert (after["url"], after["versions"]) == (before["url"], before["versions"])
    assert [found["name"] for found in ada.ok("GET", "/models")["items"]] == ["doubles"]
    own.stop()
