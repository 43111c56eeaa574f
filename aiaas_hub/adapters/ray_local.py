"""The training engine of one machine: a Ray head of our own, and a driver for each run."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection

from aiaas_hub.adapters import assigned, ray_head, run_directory
from aiaas_hub.adapters.ray_drivers import RayDrivers, Reserve
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.domain.ports import Capacity, JobState, JobStatus, JobSubmission
from aiaas_hub.home import Home
from aiaas_hub.loopback import ADDRESS
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState
from aiaas_hub.schemas.runs import Resources

_START_SECONDS = 180.0
_HEALTH_SECONDS = 1.0
_CONNECT_SECONDS = 2.0


class RayLocal:
    """`TrainingEngine` on a head that outlives the service and is adopted by the next one."""

    def __init__(
        self, home: Home, supervisor: Supervisor, api_url: str, reserve: Reserve | None = None
    ) -> None:
        self._home = home
        self._supervisor = supervisor
        self._api_url = api_url
        self._lock = threading.RLock()
        self._ports: ray_head.RayPorts | None = None
        self._reserve = reserve or Reserve()
        self._drivers = RayDrivers(home.ray / "drivers", supervisor, self._reserve)
        self._started_at = time.monotonic()
        self._health: tuple[float, EngineHealth] | None = None

    def start(self) -> None:
        """Start the head, or adopt it where it runs; returns before it is up."""
        with self._lock:
            ports = ray_head.read_ports(self._home)
            if ports is None or not self._supervisor.alive(ray_head.NAME):
                self._end_what_is_left()
                ports = ray_head.choose_ports(self._home)
            self._supervisor.start(ray_head.head_process(self._home, ports))
            self._ports = ports
            self._started_at = time.monotonic()
            self._health = None

    def shutdown(self) -> None:
        """End the head, the drivers and their workers; a repeat does nothing."""
        with self._lock:
            self._end_what_is_left()
            self.close()

    def close(self) -> None:
        """Let go of the head without ending it."""
        with self._lock:
            self._ports = None
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
        environment = self._environment()

        def live(submission_id: str) -> bool:
            status = self._drivers.status(submission_id, environment)
            return status is not None and status.state is JobState.RUNNING

        assigned.forget_tokens(self._home.runs, live)
        self._drivers.assign(assigned.make(self._home.runs, job, self._api_url), environment)

    def status(self, submission_id: str) -> JobStatus | None:
        return self._drivers.status(submission_id, self._environment())

    def stop(self, submission_id: str) -> None:
        self._environment()
        self._drivers.stop(submission_id)

    def capacity(self) -> Capacity:
        return ray_head.capacity()

    def tend(self, live: Callable[[], Collection[str]]) -> None:
        if self.health().state is EngineState.READY:
            self._drivers.tend(self._environment())

    def warm(self, resources: Resources) -> bool:
        # Those that wait hold no GPU.
        enough = resources.workers <= self._reserve.workers and not resources.gpus_per_worker
        return enough and self._drivers.ready()

    def _end_what_is_left(self) -> None:
        """What a dead head left would hold the ports that are looked for next."""
        self._drivers.end_all()
        self._supervisor.stop(ray_head.NAME)
        run_directory.remove(self._home, ray_head.NAME)
        assigned.forget_tokens(self._home.runs, lambda _: False)  # their jobs ended with the head

    def _examine(self) -> tuple[EngineState, str]:
        logs = self._supervisor.log_file(ray_head.NAME)
        if self._ports is None or not self._supervisor.alive(ray_head.NAME):
            return EngineState.UNAVAILABLE, f"Ray is not running; see {logs}."
        if (
            ray_head.has_started(self._home)
            and _connects(socket.AF_INET, (ADDRESS, self._ports.gcs))
            and _connects(socket.AF_UNIX, str(ray_head.raylet_socket(self._home)))
        ):
            return EngineState.READY, ""
        if time.monotonic() - self._started_at < _START_SECONDS:
            return EngineState.STARTING, "Ray is starting."
        return EngineState.UNAVAILABLE, f"Ray does not answer; see {logs}."

    def _environment(self) -> dict[str, str]:
        """The environment of a driver; raises `Unavailable` while the head is not up."""
        health = self.health()
        ports = self._ports
        if health.state is not EngineState.READY or ports is None:
            raise Unavailable(
                health.reason or "Ray is not up.", remedy="The run goes on as soon as it is."
            )
        environment = ray_head.head_environment(self._home)
        return {**environment, "RAY_ADDRESS": f"{ADDRESS}:{ports.gcs}"}


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        return connection.connect_ex(address) == 0
