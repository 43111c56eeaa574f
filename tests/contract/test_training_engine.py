"""What every `TrainingEngine` keeps to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from aiaas_hub.adapters.ray_local import RayLocal
from aiaas_hub.adapters.run_directory import path_of
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobSubmission, TrainingEngine
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState
from aiaas_hub.schemas.runs import Resources

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]


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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("engine") / "home")
    home.prepare()
    return home


def ready(engine: TrainingEngine, home: Home) -> None:
    deadline = time.monotonic() + 240
    while engine.health().state is not EngineState.READY:
        health = engine.health()
        if health.state is EngineState.UNAVAILABLE and isinstance(engine, RayLocal):
            # Ray gives up after 30 s on a machine too busy; the reconciler starts it again.
            engine.start()
        elif health.state is EngineState.UNAVAILABLE:
            raise AssertionError(f"{health.reason}\n{(home.logs / 'ray.log').read_text()[-3000:]}")
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def engine(home: Home, silent_url: str) -> Iterator[TrainingEngine]:
    engine = RayLocal(home, Supervisor(home.processes, home.logs), silent_url)
    job = JobSubmission("run-a-1", "ada", Resources(), "token")
    with pytest.raises(Unavailable):
        engine.submit(job)
    engine.start()
    try:
        assert engine.health().reason == "Ray is starting."
        with pytest.raises(Unavailable, match="Ray is starting"):
            engine.submit(job)
        ready(engine, home)
        yield engine
    finally:
        engine.shutdown()
        assert list(processes_with(str(home.root))) == []
        assert not path_of(home).exists()


def processes_with(text: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def state(engine: TrainingEngine, job_id: str) -> JobState | None:
    status = engine.status(job_id)
    return None if status is None else status.state


def test_an_unknown_job_is_unknown_and_stopping_it_does_nothing(engine: TrainingEngine) -> None:
    assert engine.status("run-unknown-1") is None
    engine.stop("run-unknown-1")


def test_a_job_is_submitted_once_adopted_and_stopped(
    engine: TrainingEngine, home: Home, silent_url: str
) -> None:
    job = JobSubmission("run-a-1", "ada", Resources(), "token")
    engine.submit(job)
    engine.submit(job)
    deadline = time.monotonic() + 60
    while state(engine, job.id) is not JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    # Another service process, as after a kill -9: it finds the head and the job.
    later = RayLocal(home, Supervisor(home.processes, home.logs), silent_url)
    later.start()
    ready(later, home)
    assert state(later, job.id) is JobState.RUNNING

    later.stop(job.id)
    while state(engine, job.id) is not JobState.STOPPED:
        assert time.monotonic() < deadline + 30
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
    later.close()


def test_a_head_that_died_is_started_again_and_knows_no_jobs(
    engine: TrainingEngine, home: Home
) -> None:
    assert isinstance(engine, RayLocal)
    process = Supervisor(home.processes, home.logs).process("ray")
    assert process is not None
    psutil.Process(process.pid).kill()
    deadline = time.monotonic() + 20
    while engine.health().state is not EngineState.UNAVAILABLE:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(Unavailable):
        engine.status("run-a-1")
    engine.start()
    ready(engine, home)
    assert engine.status("run-a-1") is None
