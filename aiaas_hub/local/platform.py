"""The whole platform on one machine: start it, know when it can be used, stop all of it.

    LocalPlatform ── hub ─┬─ proxy                   (JupyterHub's children)
                          ├─ service ── Ray, Triton, Envoy   (recorded in the home's `processes`)
                          └─ users' servers ── kernels

One platform per home: a lock is held while it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

import httpx
import psutil

from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.supervisor import ProcessSpec, Supervisor
from aiaas_hub.home import MARKER, Home, write_private
from aiaas_hub.local.environment import kept_environment
from aiaas_hub.local.hub_settings import HubSettings
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.processes import end_processes, find_processes, marker_of
from aiaas_hub.local.reach import Reach
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import free_ports, try_port
from aiaas_hub.schemas.errors import Conflict, Unavailable

_HUB = "hub"
_HUB_GRACE_SECONDS = 45
"""It stops users' servers, the service and the proxy first."""
_USABLE_SECONDS = 180
_LARGEST_LOG = 10_000_000


class Interrupted(Exception):
    """The operator asked to stop while the platform was starting."""


def check_port(port: int) -> None:
    """Raise `Conflict` if something listens on this port already."""
    try:
        try_port(port)
    except OSError as error:
        raise Conflict(
            f"Port {port} of 127.0.0.1 cannot be used: {error.strerror}.",
            remedy=f"Choose another one: PORT={port + 1 if port < 65535 else 8000} make up.",
        ) from error


def hold(home: Home) -> IO[str]:
    """The home for oneself until the answer is closed; `Conflict` while a platform runs on it."""
    lock = home.lock_file.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Conflict(
            f"A platform runs on {home.root} already{_running_at(home)}.",
            remedy="Use that one, stop it with Ctrl-C, or choose another AIAAS_HOME.",
        ) from None
    return lock


def _running_at(home: Home) -> str:
    try:
        running = json.loads(home.platform_file.read_text())
        return f", at {running['url']} (process {running['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it is starting still


class LocalPlatform:
    """Starts in `start`, is stopped by `stop`; a context manager for both.

    `stop_requested` is looked at while starting: set it from a signal handler.
    """

    def __init__(
        self,
        home: Home,
        port: int,
        say: Callable[[str], None],
        stop_requested: threading.Event,
    ) -> None:
        self.home = home
        self.reach = Reach.from_environment(os.environ)
        self.url = self.reach.url(port)
        self.gateway = ""
        self._port = port
        self._say = say
        self._stop_requested = stop_requested
        self._marker = marker_of(home.root)
        self._supervisor = Supervisor(home.processes, home.logs)
        self._lock: IO[str] | None = None

    @property
    def user_password(self) -> str:
        return self.home.secret("user_password", nbytes=8)

    @property
    def admin_password(self) -> str:
        return self.home.secret("admin_password")

    def __enter__(self) -> LocalPlatform:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the platform can be used: hub, proxy and service answer.

        `Conflict`: another one runs on this home, or the port is taken. `Unavailable`: a part is
        missing or does not start. `Interrupted`: `stop_requested` was set meanwhile.
        """
        self.home.prepare()
        self._acquire()
        self._clear_leftovers()
        check_port(self._port)
        command = proxy_command(shipped("hub_config") / "proxy", self._say)
        hub_port, proxy_api_port, service_port = free_ports(3)
        HubSettings(
            port=self._port,
            hub_port=hub_port,
            proxy_api_port=proxy_api_port,
            service_port=service_port,
            proxy_command=command,
            reach=self.reach,
            marker=self._marker,
        ).write(self.home)
        self._shorten_logs()
        self._supervisor.start(
            ProcessSpec(
                name=_HUB,
                argv=[
                    sys.executable,
                    "-m",
                    "jupyterhub",
                    "--config",
                    str(shipped("hub_config") / "jupyterhub_config.py"),
                ],
                env={
                    **kept_environment(os.environ),
                    "AIAAS_HOME": str(self.home.root),
                    MARKER: self._marker,
                    "PYTHONUNBUFFERED": "1",
                },
                cwd=self.home.hub,
                stop_signal=signal.SIGTERM,
                grace_seconds=_HUB_GRACE_SECONDS,
            )
        )
        self._wait_until_usable(service_port)
        write_private(
            self.home.platform_file,
            json.dumps(
                {
                    "url": self.url,
                    "gateway": self.gateway,
                    "user_password": self.user_password,
                    "admin_password": self.admin_password,
                    "pid": os.getpid(),
                },
                indent=1,
            )
            + "\n",
        )

    def alive(self) -> bool:
        return self._supervisor.alive(_HUB)

    def stop(self) -> None:
        """End every process of this platform; nothing happens unless this one holds the home."""
        if self._lock is None:
            return
        try:
            self._clear_leftovers()
        finally:
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        self._lock = hold(self.home)

    def _clear_leftovers(self) -> None:
        """End what runs on this home: ours when stopping, a killed platform's when starting.

        The hub first, then the service and whatever else outlived it, then the engines: a
        service that still lives would start them again.
        """
        self.home.platform_file.unlink(missing_ok=True)
        self._supervisor.stop(_HUB)
        engines = self._engine_pids()
        rest = [process for process in find_processes(self._marker) if process.pid not in engines]
        end_processes(rest)
        self._supervisor.stop_all()
        stubborn = end_processes(find_processes(self._marker))
        if stubborn:
            raise Unavailable(
                "These processes of the platform do not end: "
                f"{', '.join(str(process.pid) for process in stubborn)}.",
                remedy="End them by hand, then try again.",
            )
        run_directory.remove(self.home)

    def _engine_pids(self) -> set[int]:
        """Engines and what they started: their own stop is more orderly than ours."""
        leaders = {
            engine.pid
            for name in self._supervisor.names()
            if (engine := self._supervisor.process(name)) is not None
        }
        members = set(leaders)
        for process in find_processes(self._marker):
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                parents = {parent.pid for parent in process.parents()}
                if os.getsid(process.pid) in leaders or parents & leaders:
                    members.add(process.pid)
        return members

    def _wait_until_usable(self, service_port: int) -> None:
        deadline = time.monotonic() + _USABLE_SECONDS
        health = "/services/aiaas/api/v1/health"
        # First the service itself, then as people reach it: asked through the proxy too early,
        # each question would be an error page in the hub's log.
        waiting = [
            f"http://127.0.0.1:{service_port}{health}",
            f"{self.reach.bind_url(self._port)}{health}",
        ]
        asked = self.reach.question(self._port)
        # `trust_env` off: an HTTP proxy of the environment does not lead to our loopback.
        with httpx.Client(timeout=5, trust_env=False, verify=self.reach.trusted()) as client:
            while waiting:
                if self._stop_requested.is_set():
                    raise Interrupted
                if not self.alive():
                    raise self._not_started("The hub ended while starting")
                if time.monotonic() > deadline:
                    raise self._not_started(f"It cannot be used after {_USABLE_SECONDS} s")
                try:
                    answer = client.get(waiting[0], **asked)
                    answer.raise_for_status()
                    self.gateway = str(answer.json()["gateway"])
                    del waiting[0]
                except (httpx.HTTPError, ValueError, KeyError):
                    # Not yet: the loop has a deadline.
                    self._stop_requested.wait(0.2)

    def _not_started(self, what: str) -> Unavailable:
        return Unavailable(
            f"The platform did not start. {what}; the last words in its logs:\n"
            f"{self.last_words()}\n",
            remedy=f"The whole logs are in {self.home.logs}.",
        )

    def last_words(self, lines: int = 12) -> str:
        """The ends of the service's and the hub's logs."""
        parts = []
        for name in ("service", _HUB):
            parts += [f"  {name}: {line}" for line in self._supervisor.last_lines(name, lines)]
        return "\n".join(parts)

    def _shorten_logs(self) -> None:
        for name in ("service", _HUB):
            log = self._supervisor.log_file(name)
            if log.exists() and log.stat().st_size > _LARGEST_LOG:
                log.replace(log.with_name(log.name + ".1"))
