"""The training engine of one machine: a Ray head of our own, jobs through its Jobs API."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from pathlib import Path

from aiaas_hub.adapters import ray_head, run_directory
from aiaas_hub.adapters.ray_jobs import RayJobs
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import JobState, JobStatus, JobSubmission
from aiaas_hub.home import Home, write_private
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState

_START_SECONDS = 180.0
_HEALTH_SECONDS = 1.0


class RayLocal:
    """`TrainingEngine` on a head that outlives the service and is adopted by the next one."""

    def __init__(self, home: Home, supervisor: Supervisor, api_url: str) -> None:
        self._home = home
        self._supervisor = supervisor
        self._api_url = api_url
        self._lock = threading.RLock()
        self._jobs: RayJobs | None = None
        self._started_at = time.monotonic()
        self._health: tuple[float, EngineHealth] | None = None

    def start(self) -> None:
        """Start the head, or adopt it where it runs; returns before it is up."""
        with self._lock:
            ports = ray_head.read_ports(self._home)
            if ports is None or not self._supervisor.alive(ray_head.NAME):
                # What a dead head left would hold the ports that are looked for next.
                self._supervisor.stop(ray_head.NAME)
                run_directory.remove(self._home, ray_head.NAME)
                ports = ray_head.choose_ports(self._home)
                for file in self._token_files():
                    file.unlink(missing_ok=True)  # their jobs ended with the head
            self._supervisor.start(ray_head.head_process(self._home, ports))
            if self._jobs is not None:
                self._jobs.close()
            self._jobs = RayJobs(
                f"http://127.0.0.1:{ports.dashboard}",
                self._home.secret("ray_token"),
                f"http://127.0.0.1:{ports.agent}",
            )
            self._started_at = time.monotonic()
            self._health = None

    def shutdown(self) -> None:
        """End the head, its workers and the drivers of its jobs; a repeat does nothing."""
        with self._lock:
            self._supervisor.stop(ray_head.NAME)
            run_directory.remove(self._home, ray_head.NAME)
            self.close()

    def close(self) -> None:
        """Let go of the head without ending it."""
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
                self._jobs = None
            self._health = None

    def health(self) -> EngineHealth:
        with self._lock:
            if self._health is not None and time.monotonic() - self._health[0] < _HEALTH_SECONDS:
                return self._health[1]
            state, reason = self._examine()
            health = EngineHealth(name=ray_head.NAME, state=state, reason=reason)
            self._health = (time.monotonic(), health)
            return health

    def submit(self, job: JobSubmission) -> None:
        jobs = self._ready()
        self._forget_tokens(jobs)
        run_id, _, attempt = job.id.rpartition("-")
        directory = self._home.runs / run_id
        storage = directory / "storage"
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        token_file = directory / f"token-{attempt}"
        write_private(token_file, job.token)
        # In the entry point, not in the job's runtime environment: one that is the same for
        # every run lets a worker process that was warmed up serve any of them.
        environment = {
            "AIAAS_API": self._api_url,
            "AIAAS_RUN_ID": run_id,
            "AIAAS_RUN_TOKEN_FILE": str(token_file),
            "AIAAS_RUN_STORAGE": str(storage),
        }
        assignments = " ".join(f"{name}={shlex.quote(text)}" for name, text in environment.items())
        python = shlex.quote(sys.executable)
        jobs.submit(
            job.id,
            f"{assignments} exec {python} -m aiaas_magics.runtime.driver",
            {"owner": job.owner},
        )

    def status(self, submission_id: str) -> JobStatus | None:
        return self._ready().status(submission_id)

    def stop(self, submission_id: str) -> None:
        self._ready().stop(submission_id)

    def _token_files(self) -> list[Path]:
        return list(self._home.runs.glob("*/token-*"))

    def _forget_tokens(self, jobs: RayJobs) -> None:
        """Remove the tokens of jobs that are over."""
        for file in self._token_files():
            status = jobs.status(f"{file.parent.name}-{file.name.removeprefix('token-')}")
            if status is None or status.state not in (JobState.PENDING, JobState.RUNNING):
                file.unlink(missing_ok=True)

    def _examine(self) -> tuple[EngineState, str]:
        logs = self._supervisor.log_file(ray_head.NAME)
        if self._jobs is None or not self._supervisor.alive(ray_head.NAME):
            return EngineState.UNAVAILABLE, f"Ray is not running; see {logs}."
        if self._jobs.answers():
            return EngineState.READY, ""
        if time.monotonic() - self._started_at < _START_SECONDS:
            return EngineState.STARTING, "Ray is starting."
        return EngineState.UNAVAILABLE, f"Ray does not answer; see {logs}."

    def _ready(self) -> RayJobs:
        health = self.health()
        jobs = self._jobs
        if health.state is not EngineState.READY or jobs is None:
            raise Unavailable(
                health.reason or "Ray is not up.", remedy="The run goes on as soon as it is."
            )
        return jobs
