"""The whole local platform as a subprocess, as somebody's terminal would run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from aiaas_hub.adapters import run_directory
from aiaas_hub.adapters.triton_local.server import shared_memory_prefix
from aiaas_hub.home import Home
from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.processes import find_processes, marker_of
from aiaas_hub.local.reach import Reach
from aiaas_hub.loopback import free_ports

START_SECONDS = 150
STOP_SECONDS = 120


@dataclass
class RunningPlatform:
    """`aiaas up` on a home. `start` waits until it can be used, `stop` until all is over."""

    home: Home
    port: int
    up: subprocess.Popen[bytes] | None = None

    @classmethod
    def on(cls, root: Path, *, reserve: bool = True) -> RunningPlatform:
        """Tests that begin no run do without the workers that wait for one: they cost each start
        three processes that load PyTorch."""
        made = cls(Home(root), free_ports(1)[0])
        if not reserve:
            made.home.prepare()
            made.home.config.write_text("c.ServiceConfig.waiting_drivers = 0\n")
        return made

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def gateway(self) -> str:
        return str(self.facts["gateway"])

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.home.platform_file.read_text())
        return facts

    @property
    def shared_memory(self) -> list[str]:
        """That its Triton made, and that is still there."""
        shared = Path("/dev/shm")  # noqa: S108  # looked at only
        return [path.name for path in shared.glob(f"{shared_memory_prefix(self.home)}*")]

    @property
    def output(self) -> Path:
        return self.home.root.with_name(self.home.root.name + ".out")

    def command(self, port: int | None = None) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "AIAAS_HOME": str(self.home.root),
            "PORT": str(port or self.port),
            # A secret of the operator's shell that nothing of the platform needs.
            "CANARY_SECRET": "canary-of-the-shell",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "aiaas_hub.cli", "up"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> float:
        """Seconds until it could be used."""
        begun = time.monotonic()
        self.up = self.command()
        while not self._ready():
            if self.up.poll() is not None or time.monotonic() - begun > START_SECONDS:
                raise AssertionError(f"the platform did not start:\n{self.logs()}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def _ready(self) -> bool:
        try:
            return bool(self.up and self.facts["pid"] == self.up.pid)
        except FileNotFoundError:
            return False

    def stop(self) -> None:
        """Ctrl-C, and then nothing may be left."""
        assert self.up is not None
        family = psutil.Process(self.up.pid).children(recursive=True)
        self.up.send_signal(signal.SIGINT)
        status = self.up.wait(STOP_SECONDS)
        assert status == 0, f"`aiaas up` ended with {status}:\n{self.logs()}"
        self.up = None
        # Asked of the processes themselves too, should one have lost the platform's marker.
        alive = [process for process in family if is_alive(process)]
        assert not alive, f"left running: {alive}"
        self.assert_nothing_left()

    def end(self) -> None:
        """For a test that failed: end it one way or the other."""
        if self.up is not None and self.up.poll() is None:
            self.up.terminate()
            try:
                self.up.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()

    def processes(self) -> list[psutil.Process]:
        return find_processes(marker_of(self.home.root))

    def assert_nothing_left(self) -> None:
        left = [f"{process.pid} {process.name()}" for process in self.processes()]
        assert not left, f"left running: {left}"
        records = [path.name for path in self.home.processes.glob("*.json")]
        assert not records, f"recorded as running: {records}"
        assert not self.home.platform_file.exists()
        assert not run_directory.path_of(self.home).exists()
        with socket.socket() as probe:
            probe.settimeout(1)
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0, "the port is still served"

    def session(self, user: str) -> HubSession:
        """A signed-in visit."""
        session = HubSession(self.url, user, Reach.from_environment(os.environ).trusted())
        session.sign_in(str(self.facts["user_password"]))
        return session

    def logs(self) -> str:
        parts = [self.output, *sorted(self.home.logs.glob("*.log"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-5000:]}"
            for path in parts
            if path.exists()
        )


def is_alive(process: psutil.Process) -> bool:
    """Running, and no zombie, whose parent may be slow to ask for it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
