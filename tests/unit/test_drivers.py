"""How a run is given to a driver, and when Ray counts as up: a supervisor that starts nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from aiaas_hub.adapters import ray_head, ray_local, run_directory
from aiaas_hub.adapters.ray_drivers import RayDrivers, Reserve
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.supervisor import Process, ProcessSpec, Supervisor
from aiaas_hub.domain.ports import JobState
from aiaas_hub.home import Home
from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.platform import EngineState

ENVIRONMENT = {"RAY_ADDRESS": "127.0.0.1:1"}


class Killed(Exception):
    """The service ends here."""


class FakeSupervisor(Supervisor):
    """Remembers what was started; all of it lives."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "records", directory / "logs")
        self.started: list[str] = []
        self.dies = False

    def start(self, spec: ProcessSpec) -> Process:
        if self.dies:
            raise Killed
        self.started.append(spec.name)
        return Process(spec.name, 1)

    def alive(self, name: str) -> bool:
        return name in self.started

    def names(self) -> list[str]:
        return self.started


def test_a_run_given_to_a_driver_that_was_never_started_is_started(tmp_path: Path) -> None:
    supervisor = FakeSupervisor(tmp_path)
    assignment = Assignment(
        submission_id="run-a-1",
        run_id="run-a",
        api="http://127.0.0.1:1",
        token_file=tmp_path / "token",
        storage=tmp_path / "storage",
    )
    supervisor.dies = True
    try:
        RayDrivers(tmp_path / "drivers", supervisor, Reserve()).assign(assignment, ENVIRONMENT)
    except Killed:
        supervisor.dies = False
    drivers = RayDrivers(tmp_path / "drivers", supervisor, Reserve())
    for _ in range(2):
        drivers.assign(assignment, ENVIRONMENT)
    for _ in range(2):
        status = drivers.status("run-a-1", ENVIRONMENT)
        assert status is not None
        assert status.state is JobState.RUNNING
    assert len(supervisor.started) == len(list((tmp_path / "drivers").iterdir())) == 1


def test_a_head_that_listens_and_has_not_started_is_not_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_local, "_HEALTH_SECONDS", 0)
    home = Home(tmp_path / "home")
    home.prepare()
    engine = RayLocal(home, FakeSupervisor(tmp_path), "http://127.0.0.1:1")
    engine.start()
    ports = ray_head.read_ports(home)
    assert ports is not None
    raylet = ray_head.raylet_socket(home)
    raylet.parent.mkdir(parents=True)
    try:
        with socket.create_server(("127.0.0.1", ports.gcs)), socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(raylet))
            unix.listen()
            assert engine.health().state is EngineState.STARTING
            # The last act of `ray start`, once the node is known.
            (raylet.parents[2] / "ray_current_cluster").touch()
            assert engine.health().state is EngineState.READY
    finally:
        run_directory.remove(home)
