"""The service's own decisions on a real Triton and Envoy, under callers: what it publishes,
refuses, rolls back and heals. One platform goes through all of it, an endpoint for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_models
import psutil
import pytest
from gateway_world import wait_ready
from serving_platform import OWNER, Platform, X, platform_running, wait

from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.run_directory import triton_sockets
from aiaas_hub.domain import traffic
from aiaas_hub.home import Home
from aiaas_hub.reconcile import Pace
from aiaas_hub.schemas.errors import Conflict, Unavailable
from aiaas_hub.schemas.statistics import VersionStatistics

pytestmark = pytest.mark.engines

HEALTH_SECONDS = 2.0


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = Home(tmp_path_factory.mktemp("publishing") / "home")
    with platform_running(home, Pace(engines=0.3, converge=1.0, health=HEALTH_SECONDS)) as made:
        yield made


def factor(platform: Platform, key: str, name: str) -> tuple[int, float]:
    """The version that answers, and what it multiplies by."""
    answer = platform.call(key, name, rows=2)
    assert answer.status_code == 200, answer.text
    found = np.array(answer.json()["outputs"][0]["data"]) / X[:2].ravel()
    np.testing.assert_allclose(found, found[0], rtol=1e-5)
    return int(answer.headers["x-aiaas-model-version"]), round(float(found[0]), 3)


def serving_name(platform: Platform, name: str) -> str:
    (found,) = {
        deployment.serving_name
        for deployment in platform.services.endpoint_records.deployments(OWNER, name)
    }
    return found


def statistics(platform: Platform, name: str) -> VersionStatistics:
    """Of the newest version that is loaded."""
    return platform.services.watching.of(OWNER, name).versions[0]


def stubs(platform: Platform, model: str) -> list[psutil.Process]:
    """The processes of a model's instances."""
    triton = platform.supervisor.process("triton")
    assert triton is not None
    return [
        process
        for process in psutil.Process(triton.pid).children(recursive=True)
        if model in " ".join(process.cmdline())
    ]


@contextmanager
def called(platform: Platform, keys: dict[str, str]) -> Iterator[dict[str, set[tuple[int, float]]]]:
    """Callers of these endpoints, of whom none may be refused or given another version's answer
    than the one that is named; what they were answered."""
    seen: dict[str, set[tuple[int, float]]] = {name: set() for name in keys}
    wrong: list[object] = []
    over = threading.Event()

    def call(name: str) -> None:
        while not over.wait(0.02):
            try:
                seen[name].add(factor(platform, keys[name], name))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=call, args=(name,)) for name in keys]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_version_that_answers_wrongly_gets_no_request(platform: Platform) -> None:
    """It loads, its tensors are right, and what it says is not what its source model said."""
    assert platform.publish(2.0, name="judged").state == "serving"
    keys = {"judged": platform.key("judged")}
    with called(platform, keys) as seen:
        refused = platform.publish(3.0, name="judged", verified_as=2.0)
        time.sleep(0.2)
    assert refused.state == "failed"
    assert "Triton's answers differ from the source model's" in refused.error
    assert seen == {"judged": {(1, 2.0)}}
    model = serving_name(platform, "judged")
    wait(lambda: platform.triton.ready_versions(model) == {1})
    wait(lambda: platform.triton.installed_versions(model) == {1})
    # The next one is judged by itself.
    assert platform.publish(4.0, name="judged").state == "serving"
    assert factor(platform, keys["judged"], "judged") == (3, 4.0)


def test_publishes_at_once_under_callers(platform: Platform) -> None:
    """Of two endpoints, and two versions of one of them: the second waits for its turn, as a
    request that comes meanwhile is refused."""
    factors = {"one": {1: 2.0}, "two": {1: 3.0}}
    for name, versions in factors.items():
        platform.publish(versions[1], name=name)
    keys = {name: platform.key(name) for name in factors}

    def publish(name: str, by: float) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                made = platform.publish(by, name=name)
            except Conflict:
                assert time.monotonic() < deadline
                time.sleep(0.05)
                continue
            assert made.error == ""
            factors[name][made.version] = by
            return

    with called(platform, keys) as seen, ThreadPoolExecutor() as pool:
        wanted = [("one", 5.0), ("one", 7.0), ("two", 11.0)]
        for future in [pool.submit(publish, *each) for each in wanted]:
            future.result()
        time.sleep(0.2)
    assert {name: len(versions) for name, versions in factors.items()} == {"one": 3, "two": 2}
    for name, versions in factors.items():
        # Each answer was that of the version which it named.
        assert seen[name] <= set(versions.items())
        newest = max(versions)
        endpoint = platform.endpoint(name)
        assert endpoint.traffic == {newest: 100}
        assert factor(platform, keys[name], name) == (newest, versions[newest])
        model = serving_name(platform, name)
        kept = traffic.kept(endpoint)
        assert kept == {newest, newest - 1}
        wait(lambda model=model, kept=kept: platform.triton.ready_versions(model) == kept)  # type: ignore[misc]
        wait(lambda model=model, kept=kept: platform.triton.installed_versions(model) == kept)  # type: ignore[misc]


def test_a_rollback_needs_no_control_of_triton(platform: Platform) -> None:
    """Its gRPC is away, by which everything but inference goes."""
    for by in (2.0, 3.0):
        platform.publish(by, name="back")
    key = platform.key("back")
    assert factor(platform, key, "back") == (2, 3.0)
    model = serving_name(platform, "back")
    # gRPC takes a port from a socket's path: see `server`.
    socket = triton_sockets(platform.home) / "grpc:1"
    away = socket.with_name("away")
    socket.rename(away)
    try:
        platform.triton._triton().close()
        platform.triton._client = None
        with pytest.raises(Unavailable):
            platform.triton.ready_versions(model)
        began = time.monotonic()
        platform.services.endpoints.roll_back(OWNER, "back", "", by=OWNER, idempotency_key=None)
        took = time.monotonic() - began
        assert factor(platform, key, "back") == (1, 2.0)
    finally:
        away.rename(socket)
    print(f"a rollback without Triton's control: {1000 * took:.0f} ms")
    wait_ready(platform.triton)
    assert platform.triton.ready_versions(model) == {1, 2}


def test_the_service_finds_and_heals_an_instance_that_died(platform: Platform) -> None:
    """By its own look at each version, with nobody telling it."""
    platform.publish(2.0, name="mortal")
    key = platform.key("mortal")
    model = serving_name(platform, "mortal")
    wait(lambda: statistics(platform, "mortal").healthy is True)
    dying = stubs(platform, model)
    assert len(dying) == 1, [process.cmdline() for process in dying]
    dying[0].kill()
    killed = time.monotonic()
    assert platform.call(key, "mortal").status_code == 500
    # Triton itself is none the wiser.
    assert platform.triton.ready_versions(model) == {1}
    wait(lambda: platform.call(key, "mortal").status_code == 200)
    took = time.monotonic() - killed
    print(f"instance killed: answers again after {took:.1f} s, looked at every {HEALTH_SECONDS} s")
    assert factor(platform, key, "mortal") == (1, 2.0)
    wait(lambda: statistics(platform, "mortal").healthy is True)


def test_the_service_says_of_a_version_that_it_begins_to_answer_wrongly(
    platform: Platform,
) -> None:
    platform.publish(2.0, name="turned")
    model = serving_name(platform, "turned")
    wait(lambda: statistics(platform, "turned").healthy is True)
    file = platform.home.triton / "models" / model / "1" / "model.onnx"
    right = file.read_bytes()
    onnx_models.scale(file, 9.0)
    platform.triton.heal(model)
    wait(lambda: statistics(platform, "turned").healthy is False)
    assert "off the source model's" in statistics(platform, "turned").fault
    file.write_bytes(right)
    platform.triton.heal(model)
    wait(lambda: statistics(platform, "turned").healthy is True)
    assert statistics(platform, "turned").fault == ""


_NOBODY = 65534
_AS_NOBODY = """
import http.client, json, os, socket, sys

os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
told = {}
for path in json.loads(sys.stdin.read()):
    try:
        if os.path.basename(path).startswith("port "):
            connection = http.client.HTTPConnection("127.0.0.1", int(path.split()[1]), timeout=10)
            connection.request("GET", "/")
            told[path] = connection.getresponse().status
        elif path.endswith("?"):
            told[path] = open(path[:-1], "rb").read(1).hex()
        else:
            found = socket.socket(socket.AF_UNIX)
            found.connect(path)
            told[path] = "connected"
    except OSError as error:
        told[path] = type(error).__name__
print(json.dumps(told))
"""


def test_another_user_of_the_machine_reaches_nothing(platform: Platform) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    platform.publish(2.0, name="private")
    root = run_directory.path_of(platform.home)
    sockets = [str(path) for path in root.rglob("*") if path.is_socket()]
    assert {"http", "grpc:1", "admin"} <= {Path(path).name for path in sockets}
    regions = [f"{path}?" for path in Path("/dev/shm").glob(f"{platform.triton._region()}*")]  # noqa: S108 - looked at only
    assert regions
    # Its directory is in one of root's here, and where it is not it is closed itself.
    assert platform.home.root.stat().st_mode & 0o077 == 0
    files = [f"{path}?" for path in platform.home.triton.rglob("model.onnx")]
    files += [f"{path}?" for path in platform.home.secrets.iterdir()]
    ports = set()
    for name in ("triton", "envoy"):
        process = platform.supervisor.process(name)
        assert process is not None
        for connection in psutil.Process(process.pid).net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                ports.add(f"port {connection.laddr.port}")
    assert ports == {f"port {platform.envoy.url.rpartition(':')[2]}"}
    tried = [*sockets, *regions, *files, *ports]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _AS_NOBODY, str(_NOBODY)],
        input=json.dumps(tried),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    # Envoy is for everybody who has a key.
    assert {told.pop(port) for port in ports} == {401}
    assert {path: said for path, said in told.items() if said != "PermissionError"} == {}
