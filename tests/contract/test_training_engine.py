"""What every `TrainingEngine` keeps to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
from bed.control_plane import ControlPlane, missing
from bed.definitions import define
from job_service import JobService
from ray_heads import RayHead
from training_pods import Training, run_pods, training

from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.ray_cluster import RayCluster
from aiaas_hub.adapters.ray_jobs import RayJobs
from aiaas_hub.adapters.ray_kubernetes import RayKubernetes
from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.run_directory import path_of
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission, TrainingEngine
from aiaas_hub.home import Home
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


class Head:
    """A Ray cluster that exists already."""

    forgets = True

    def __init__(self, home: Home) -> None:
        self._home = home
        self._head = RayHead(home)
        self.mark = str(home.root)
        self._engines: list[RayCluster] = []

    def engine(self, api_url: str) -> RayCluster:
        address = self._head.address
        jobs = RayJobs(address, self._head.token)
        self._engines.append(RayCluster(jobs, self._home.runs, api_url, address))
        return self._engines[-1]

    def start(self) -> None:
        self._head.start()

    def lose(self) -> None:
        kill_head(self._home)

    def tokens(self) -> list[str]:
        return token_files(self._home)

    def shutdown(self) -> None:
        for engine in self._engines:
            engine.close()
        self._head.shutdown()


class Own:
    """The platform's own Ray on this machine."""

    forgets = True

    def __init__(self, home: Home) -> None:
        self._home = home
        self.mark = str(home.root)
        self._engine: RayLocal | None = None

    def engine(self, api_url: str) -> RayLocal:
        supervisor = Supervisor(self._home.processes, self._home.logs)
        self._engine = RayLocal(self._home, supervisor, api_url)
        return self._engine

    def start(self) -> None:
        assert self._engine is not None
        self._engine.start()

    def lose(self) -> None:
        kill_head(self._home)

    def tokens(self) -> list[str]:
        return token_files(self._home)

    def shutdown(self) -> None:
        assert self._engine is not None
        self._engine.shutdown()


class Kubernetes:
    """A control plane of its own, with an operator in KubeRay's place. Its API server comes up
    with `start`."""

    forgets = False

    def __init__(self, home: Home) -> None:
        self._home = home
        self._plane = ControlPlane(home.root / "plane")
        self._service = JobService()
        self._ends = ExitStack()
        self._training: Training | None = None

    @property
    def mark(self) -> str:
        return self._service.url

    def engine(self, api_url: str) -> RayKubernetes:
        """Pods ask for their code before they start, so the service is one that has some."""
        if self._training is None:
            self._ends.enter_context(self._service)
            for name in ("run-a", "run-b", "run-c"):
                run = self._service.add(name, "import time\ndef train(ctx): time.sleep(600)")
                run.token = "token"
            self._ends.callback(self._plane.down)
            self._plane.up()
            define(self._plane)
            pods = run_pods(self._plane.namespace("runs"), self._service.url)
            self._training = self._ends.enter_context(training(self._plane, pods))
            self._plane.stop("kube-apiserver")
            return self._training.engine
        later = RayKubernetes(
            Cluster("runs", self._plane.kubeconfig), run_pods("runs", self._service.url)
        )
        self._ends.callback(later.close)
        return later

    def start(self) -> None:
        self._plane.start("kube-apiserver")

    def lose(self) -> None:
        self._plane.stop("kube-apiserver")

    def tokens(self) -> list[str]:
        secrets = self._plane.api.items(
            "/api/v1/namespaces/runs/secrets",
            labelSelector="app.kubernetes.io/managed-by=aiaas-hub",
        )
        return [secret["metadata"]["name"] for secret in secrets]

    def shutdown(self) -> None:
        self._ends.close()


World = Own | Head | Kubernetes


@pytest.fixture(scope="module", params=[Own, Head, Kubernetes])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    if request.param is Kubernetes and (reason := missing()):
        pytest.skip(reason)
    home = Home(tmp_path_factory.mktemp("engine") / "home")
    home.prepare()
    made: World = request.param(home)
    return made


@pytest.fixture(scope="module")
def home(world: World) -> Home:
    return world._home


def kill_head(home: Home) -> None:
    process = Supervisor(home.processes, home.logs).process("ray")
    assert process is not None
    psutil.Process(process.pid).kill()


def token_files(home: Home) -> list[str]:
    """Submissions whose tokens lie about."""
    files = home.runs.glob("*/token-*")
    return [f"{file.parent.name}-{file.name.removeprefix('token-')}" for file in files]


def ready(engine: TrainingEngine, world: World) -> None:
    deadline = time.monotonic() + LONG
    while engine.health().state is not EngineState.READY:
        if engine.health().state is EngineState.UNAVAILABLE and isinstance(world, Own):
            # Ray gives up after 30 s on a machine too busy; the reconciler starts it again.
            engine.start()
        assert time.monotonic() < deadline, engine.health()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def engine(world: World, home: Home, silent_url: str) -> Iterator[TrainingEngine]:
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


def drivers(world: World) -> Iterator[psutil.Process]:
    for process in processes_with("aiaas_magics.runtime.driver"):
        told = process.environ()
        if world.mark in told.get("AIAAS_DRIVER", told.get("AIAAS_ASSIGNMENT", "")):
            yield process


def state(engine: TrainingEngine, job_id: str) -> JobState | None:
    status = engine.status(job_id)
    return None if status is None else status.state


def test_an_unknown_job_is_unknown_and_stopping_it_does_nothing(engine: TrainingEngine) -> None:
    assert engine.status("run-unknown-1") is None
    engine.stop("run-unknown-1")


def test_a_job_is_submitted_once_adopted_and_stopped(
    engine: TrainingEngine, world: World, silent_url: str
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
    while world.tokens() != [other.id]:
        assert time.monotonic() < deadline + LONG
        time.sleep(0.2)
    later.stop(other.id)


def test_a_job_whose_driver_was_killed_failed(engine: TrainingEngine, world: World) -> None:
    job = JobSubmission("run-c-1", "ada", Resources(), "token")
    engine.submit(job)
    deadline = time.monotonic() + LONG
    while not (found := list(drivers(world))):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # One that had not begun with the run yet is started again, some times.
    while state(engine, job.id) is not JobState.FAILED:
        assert time.monotonic() < deadline
        for process in found:
            process.kill()
        time.sleep(0.2)
        found = list(drivers(world))


def test_a_head_that_died_is_unavailable_until_it_is_there_again(
    engine: TrainingEngine, world: World
) -> None:
    world.lose()
    deadline = time.monotonic() + 20
    while engine.health().state is not EngineState.UNAVAILABLE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(Unavailable):
        engine.status("run-a-1")
    world.start()
    ready(engine, world)
    # A Ray head knows no jobs of the one before; Kubernetes keeps what it was told.
    assert state(engine, "run-a-1") is (None if world.forgets else JobState.STOPPED)
