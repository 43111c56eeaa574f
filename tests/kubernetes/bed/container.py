"""One container of a pod: a process of this machine, its restarts, its readiness, its status."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from .api import Object
from .clock import now
from .environment import Missing, Surroundings, expand

UNPULLABLE = "does-not-exist"
"""An image with this in its name cannot be pulled."""

LONGEST_BACK_OFF_SECONDS = 20.0
TAIL_BYTES = 1500
Event = Callable[[str, str, str, str], None]
"""Type, reason, message, container."""


class Container:
    def __init__(self, spec: Object, around: Surroundings, event: Event, waiting: str) -> None:
        self.spec = spec
        self.name = str(spec["name"])
        self.around = around
        self.state: Object = {"waiting": {"reason": waiting}}
        self.last: Object | None = None
        self.restarts = 0
        self.ready = False
        self._event = event
        self._process: subprocess.Popen[bytes] | None = None
        self._exit: int | None = None
        self._begun = 0.0
        self._next_launch = 0.0
        self._next_probe = 0.0

    @property
    def log(self) -> Path:
        return self.around.directory / f"{self.name}.log"

    @property
    def started(self) -> bool:
        """It ran, or could not be: it no longer waits."""
        return "waiting" not in self.state

    def status(self) -> Object:
        found = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "ready": self.ready,
            "started": "running" in self.state,
            "restartCount": self.restarts,
            "state": self.state,
            "containerID": f"process://{self.around.pod['metadata']['uid']}-{self.name}",
        }
        return found | ({"lastState": self.last} if self.last else {})

    def step(self, restart: str) -> int | None:
        """Launch, probe or reap, whichever is due; its exit code when it will not run again."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                self._probe()
                return None
            self._end(code if code >= 0 else 128 - code)
        if self._exit is not None:
            if restart == "Never" or (restart == "OnFailure" and self._exit == 0):
                return self._exit
            self._back_off()
        if time.monotonic() >= self._next_launch:
            self._launch()
        return None

    def _end(self, code: int) -> None:
        self._process, self.ready, self._exit = None, False, code
        self._terminated(code, "Completed" if code == 0 else "Error", self._tail() if code else "")

    def _terminated(self, code: int, reason: str, message: str) -> None:
        terminated: Object = {"exitCode": code, "reason": reason, "finishedAt": now()}
        if message:
            terminated["message"] = message
        self.state = {"terminated": terminated}

    def _tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _back_off(self) -> None:
        seconds = min(LONGEST_BACK_OFF_SECONDS, 0.5 * 2.0**self.restarts)
        self.last, self._exit = self.state, None
        self._next_launch = time.monotonic() + seconds
        self.restarts += 1
        if seconds >= 1:
            message = f"back-off {seconds:g}s restarting failed container"
            self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            self._event("Warning", "BackOff", "Back-off restarting failed container", self.name)

    def _launch(self) -> None:
        image = self.spec["image"]
        if UNPULLABLE in image:
            self._event(
                "Warning", "Failed", f'Failed to pull image "{image}": not found', self.name
            )
            message = f'Back-off pulling image "{image}"'
            self.state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._next_launch = time.monotonic() + 3600
            return
        try:
            self._process = self._popen()
        except Missing as missing:
            waiting = {"reason": "CreateContainerConfigError", "message": str(missing)}
            self.state = {"waiting": waiting}
            self._next_launch = time.monotonic() + 2
            self._event("Warning", "Failed", f"Error: {missing}", self.name)
            return
        except OSError as error:
            self._event(
                "Warning", "Failed", f"Error: failed to start container: {error}", self.name
            )
            self._exit = 128
            self._terminated(128, "StartError", str(error))
            return
        self._begun = time.monotonic()
        self._next_probe = self._begun + self._probe_spec().get("initialDelaySeconds", 0)
        self.state = {"running": {"startedAt": now()}}
        self.ready = not self._probe_spec()
        self._event("Normal", "Started", f"Started container {self.name}", self.name)

    def _popen(self) -> subprocess.Popen[bytes]:
        environ = self.around.environ(self.spec)
        words = [*self.spec.get("command", []), *self.spec.get("args", [])]
        argv = [self.around.here(expand(word, environ)) for word in words]
        if not argv:
            raise FileNotFoundError("no command: there is no image here that would know one")
        if not shutil.which(argv[0], path=environ.get("PATH")):
            raise FileNotFoundError(f'exec: "{argv[0]}": executable file not found in $PATH')
        wanted = Path(self.spec.get("workingDir") or self.around.directory)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.around.command(self.spec, argv),
                env=environ,
                cwd=wanted if wanted.is_dir() else self.around.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _probe_spec(self) -> Object:
        """Without one for readiness a container is ready from when it has started."""
        startup = {} if self.ready else self.spec.get("startupProbe")
        return dict(self.spec.get("readinessProbe") or startup or {})

    def _probe(self) -> None:
        probe = self._probe_spec()
        if not probe or time.monotonic() < self._next_probe:
            return
        # While it starts it is asked more often: tests wait for it.
        period = probe.get("periodSeconds", 10) * (1 if self.ready else 0.2)
        self._next_probe = time.monotonic() + period
        try:
            self.ready = self._answers(probe, probe.get("timeoutSeconds", 1))
        except (OSError, subprocess.SubprocessError):
            self.ready = False

    def _answers(self, probe: Object, seconds: float) -> bool:
        ip = self.around.ip
        if "httpGet" in probe:
            http = probe["httpGet"]
            host, port = http.get("host") or ip, self._port(http["port"])
            url = f"{http.get('scheme', 'HTTP').lower()}://{host}:{port}{http.get('path', '/')}"
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            secure = context if url.startswith("https") else None
            with urllib.request.urlopen(url, timeout=seconds, context=secure) as answer:  # noqa: S310 - a pod's own probe
                return bool(answer.status < 400)
        if "tcpSocket" in probe:
            with socket.create_connection((ip, self._port(probe["tcpSocket"]["port"])), seconds):
                return True
        environ = self.around.environ(self.spec)
        command = self.around.command(self.spec, probe["exec"]["command"])
        done = subprocess.run(command, env=environ, timeout=seconds, capture_output=True)
        return done.returncode == 0

    def _port(self, port: Any) -> int:
        if isinstance(port, int):
            return port
        ports = {one.get("name"): one["containerPort"] for one in self.spec.get("ports", [])}
        return int(ports[port])

    def leave(self) -> subprocess.Popen[bytes] | None:
        """Begin what it does before it is told to end (`preStop`), if it runs and does anything."""
        hook = self.spec.get("lifecycle", {}).get("preStop", {}).get("exec")
        if hook is None or self.gone():
            return None
        environ = self.around.environ(self.spec)
        with self.log.open("ab") as log:
            return subprocess.Popen(hook["command"], env=environ, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> bool:
        """Whether there was something to signal: the process or what it left in its session."""
        if self._process is None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def family(self) -> list[psutil.Process]:
        """What it started, as far as it still belongs to it."""
        try:
            found = psutil.Process(self._process.pid) if self._process else None
            return found.children(recursive=True) if found else []
        except psutil.NoSuchProcess:
            return []

    def gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def reap(self) -> None:
        """Take its last state, after it was killed."""
        if self._process is not None:
            code = self._process.wait()
            self._end(code if code >= 0 else 128 - code)
