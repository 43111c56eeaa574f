"""A Ray cluster that exists already: a head with its dashboard, started by nobody's service."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import httpx

from aiaas_hub.adapters import ray_head
from aiaas_hub.adapters.run_directory import remove
from aiaas_hub.adapters.supervisor import Supervisor
from aiaas_hub.home import Home
from aiaas_hub.loopback import free_ports


class RayHead:
    """`address` is that of its Jobs API; `home` is its own, and no platform's."""

    def __init__(self, home: Home) -> None:
        self.home = home
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

    @property
    def token(self) -> str:
        return self.home.secret("ray_token")

    @property
    def token_file(self) -> Path:
        return self.home.secret_file("ray_token")

    def start(self) -> None:
        self._supervisor.start(self._spec)

    def answers(self) -> bool:
        """Whether it is up to stay: it answers some seconds before Ray may still give it up."""
        if not ray_head.has_started(self.home):
            return False
        try:
            return httpx.get(
                f"{self.address}/api/version",
                headers={"Authorization": f"Bearer {self.token}"},
                trust_env=False,
            ).is_success
        except httpx.TransportError:
            return False

    def shutdown(self) -> None:
        self._supervisor.stop(ray_head.NAME)
        remove(self.home)
