"""A real Ray head and a stand-in for the service, once for all of these tests and ended with them;
a gateway per module."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import onnx_models
import pytest
from gateway_world import MODEL, SIGNATURE, Echo, UnixServer, World, route, wait_ready
from job_service import JobService

from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.envoy_local import EnvoyLocal
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.run_directory import triton_sockets
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.adapters.triton_local import TritonLocal
from aiaas_hub.home import Home
from aiaas_hub.schemas.platform import EngineState


@pytest.fixture(scope="package")
def job_service() -> Iterator[JobService]:
    with JobService() as service:
        yield service


@pytest.fixture(scope="package")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("ray") / "a-home-with-quite-a-long-name" / "home")
    home.prepare()
    return home


@pytest.fixture(scope="package")
def ray_local(ray_home: Home, job_service: JobService) -> Iterator[RayLocal]:
    engine = RayLocal(ray_home, Supervisor(ray_home.processes, ray_home.logs), job_service.url)
    engine.start()
    try:
        deadline = time.monotonic() + 240
        while (health := engine.health()).state is not EngineState.READY:
            assert time.monotonic() < deadline, health
            if health.state is EngineState.UNAVAILABLE:
                # Ray gives up after 30 s on a machine too busy; the reconciler starts it again.
                engine.start()
            time.sleep(0.2)
        yield engine
    finally:
        engine.shutdown()


@pytest.fixture(scope="module")
def gateway_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both engines, and three versions of a model loaded."""
    home = Home(tmp_path_factory.mktemp("gateway"))
    home.prepare()
    supervisor = Supervisor(home.processes, home.logs)
    world = World(home, supervisor, TritonLocal(home, supervisor), EnvoyLocal(home, supervisor))
    try:
        world.triton.start()
        world.envoy.start()
        world.translator.start()
        wait_ready(world.triton)
        for version in (1, 2, 3):
            onnx = onnx_models.scale(home.root / "m.onnx", float(version))
            world.triton.install(world.triton.stage(MODEL, version, SIGNATURE, onnx))
        world.triton.set_versions(MODEL, SIGNATURE, [1, 2, 3])
        wait_ready(world.envoy)
        wait_ready(world.translator)
        yield world
    finally:
        world.translator.shutdown()
        world.envoy.shutdown()
        world.triton.shutdown()
        assert supervisor.names() == []


@pytest.fixture
def world(gateway_started: World) -> World:
    """The same, version 1 having all requests."""
    gateway_started.envoy.apply([route((1, 100))])
    return gateway_started


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway before a stand-in, on a home of an ugly name."""
    home = Home(tmp_path_factory.mktemp("echo") / "a [home] with 'ä long name" / ("x" * 60))
    home.prepare()
    supervisor = Supervisor(home.processes, home.logs)
    world = World(
        home, supervisor, TritonLocal(home, supervisor), EnvoyLocal(home, supervisor, parallel=4)
    )
    server = UnixServer(str(triton_sockets(home) / "http"), Echo)
    server.reached = world.reached
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        world.envoy.start()
        wait_ready(world.envoy)
        world.envoy.apply([route((7, 100))])
        yield world
    finally:
        world.envoy.shutdown()
        server.shutdown()
        server.server_close()
        run_directory.remove(home)
        assert not run_directory.path_of(home).exists()
