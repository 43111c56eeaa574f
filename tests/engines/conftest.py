"""A real Ray head and a stand-in for the service, once per session."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from job_service import JobService

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.home import Home
from aiaas_hub.schemas.platform import EngineState


@pytest.fixture(scope="session")
def job_service() -> Iterator[JobService]:
    with JobService() as service:
        yield service


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("ray") / "a-home-with-quite-a-long-name" / "home")
    home.prepare()
    return home


@pytest.fixture(scope="session")
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
