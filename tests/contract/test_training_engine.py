"""What every `TrainingEngine` keeps to."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from aiaas_hub.adapters import ray_head
from aiaas_hub.adapters.ray_cluster import RayCluster
from aiaas_hub.adapters.ray_jobs import RayJobs
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.run_directory import path_of, remove
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission, TrainingEngine
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState
from aiaas_hub.schemas.runs import Resources

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

LONG = 240
"""Seconds: Ray's own Jobs API takes half a minute to its first job on an idle machine."""


class Silent(BaseHTTPRequestHandler):
    """A service that never answers a job, so that the job is there until it is stopped."""

    def do_GET(self) -> None:
        time.sleep(600)


@pytest.fixture(scope="module")
def silent_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Cluster:
    """A Ray cluster that exists already: a head with its dashboard, started by nobody's service."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._supervisor = Supervisor(home.processes, home.logs)
        ports = ray_head.choose_ports(home)
        (port,) = free_ports(1)
        spec = ray_head.head_process(home, ports)
        argv = [one for one in spec.argv if one != "--include-dashboard=false"]
        argv += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
        # Jobs are started as `python`, which is this one's where its environment is activated.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self._spec = replace(
            spec, argv=[*argv, f"--dashboard-port={port}"], env={**spec.env, "PATH": path}
        )
        self.address = f"http://127.0.0.1:{port}"
        self._engines: list[RayCluster] = []

    def engine(self, api_url: str) -> RayCluster:
        jobs = RayJobs(self.address, self._home.secret("ray_token"))
        self._engines.append(RayCluster(jobs, self._home.runs, api_url, self.address))
        return self._engines[-1]

    def start(self) -> None:
        self._supervisor.start(self._spec)

    def shutdown(self) -> None:
        for engine in self._engines:
            engine.close()
        self._supervisor.stop(ray_head.NAME)
        remove(self._home)


class Own:
    """The platform's own Ray on this machine."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._engine: RayLocal | None = None

    def engine(self, api_url: str) -> RayLocal:
        supervisor = Supervisor(self._home.processes, self._home.logs)
        self._engine = RayLocal(self._home, supervisor, api_url)
        return self._engine

    def start(self) -> None:
        assert self._engine is not None
        self._engine.start()

    def shutdown(self) -> None:
        assert self._engine is not None
        self._engine.shutdown()


@pytest.fixture(scope="module", params=[Own, Cluster])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Own | Cluster:
    home = Home(tmp_path_factory.mktemp("engine") / "home")
    home.prepare()
    made: Own | Cluster = request.param(home)
    return made


@pytest.fixture(scope="module")
def home(world: Own | Cluster) -> Home:
    return world._home


def ready(engine: TrainingEngine, world: Own | Cluster) -> None:
    deadline = time.monotonic() + LONG
    while engine.health().state is not EngineState.READY:
        if engine.health().state is EngineState.UNAVAILABLE and isinstance(world, Own):
            # Ray gives up after 30 s on a machine too busy; the reconciler starts it again.
            engine.start()
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def engine(world: Own | Cluster, home: Home, silent_url: str) -> Iterator[TrainingEngine]:
    engine: TrainingEngine = world.engine(silent_url)
    job = JobSubmission("run-a-1", "ada", Resources(), "token")
    with pytest.raises(Unavailable):
        engine.submit(job)
    assert list(home.runs.iterdir()) == []
    world.start()
    try:
        ready(engine, world)
        yield engine
    finally:
        world.shutdown()
        assert list(processes_with(str(home.root))) == []
        assert not path_of(home).exists()


def processes_with(text: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def drivers(home: Home) -> Iterator[psutil.Process]:
    for process in processes_with("aiaas_magics.runtime.driver"):
        told = process.environ()
        if str(home.root) in told.get("AIAAS_DRIVER", told.get("AIAAS_ASSIGNMENT", "")):
            yield process


def state(engine: TrainingEngine, job_id: str) -> JobState | None:
    status = engine.status(job_id)
    return None if status is None else status.state


def test_an_unknown_job_is_unknown_and_stopping_it_does_nothing(engine: TrainingEngine) -> None:
    assert engine.status("run-unknown-1") is None
    engine.stop("run-unknown-1")


def test_a_job_is_submitted_once_adopted_and_stopped(
    engine: TrainingEngine, world: Own | Cluster, home: Home, silent_url: str
) -> None:
    job = JobSubmission("run-a-1", "ada", Resources(), "token")
    engine.submit(job)
    engine.submit(job)
    deadline = time.monotonic() + LONG
    while state(engine, job.id) is not JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    # Another service process, as after a kill -9: it finds the head and the job.
    later: TrainingEngine = world.engine(silent_url)
    later.start()
    ready(later, world)
    assert state(later, job.id) is JobState.RUNNING

    later.stop(job.id)
    while state(engine, job.id) is not JobState.STOPPED:
        assert time.monotonic() < deadline + LONG
        time.sleep(0.2)
    later.stop(job.id)
    assert state(engine, job.id) is JobState.STOPPED
    # Terminal is for ever: the same id does not start again.
    later.submit(job)
    assert state(later, job.id) is JobState.STOPPED

    # The token of a job that is over does not lie about.
    other = JobSubmission("run-b-1", "ada", Resources(), "token")
    later.submit(other)
    assert [str(path.relative_to(home.runs)) for path in home.runs.glob("*/token-*")] == [
        "run-b/token-1"
    ]
    later.stop(other.id)


def test_a_job_whose_driver_was_killed_failed(engine: TrainingEngine, home: Home) -> None:
    job = JobSubmission("run-c-1", "ada", Resources(), "token")
    engine.submit(job)
    deadline = time.monotonic() + LONG
    while not (found := list(drivers(home))):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # One that had not begun with the run yet is started again, some times.
    while state(engine, job.id) is not JobState.FAILED:
        assert time.monotonic() < deadline
        for process in found:
            process.kill()
        time.sleep(0.2)
        found = list(drivers(home))


def test_a_head_that_died_is_started_again_and_knows_no_jobs(
    engine: TrainingEngine, world: Own | Cluster, home: Home
) -> None:
    process = Supervisor(home.processes, home.logs).process("ray")
    assert process is not None
    psutil.Process(process.pid).kill()
    deadline = time.monotonic() + 20
    while engine.health().state is not EngineState.UNAVAILABLE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(Unavailable):
        engine.status("run-a-1")
    world.start()
    ready(engine, world)
    assert engine.status("run-a-1") is None
