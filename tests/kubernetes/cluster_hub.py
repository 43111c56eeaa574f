"""A real hub and its proxy as processes, with the shipped configuration for clusters, on the bed.

The hub speaks to the API server as its own service account: what the manifests do not grant, it
does not have. Where another cluster's pods have an image, these start this environment's server.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from bed.api import CORE
from bed.control_plane import ControlPlane

from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.shipped import shipped
from aiaas_hub.loopback import free_ports
from aiaas_hub.spawner.cluster_settings import VARIABLE

UP_SECONDS = 90
USERS = "aiaas-users"
CONFIG = """
load_subconfig({shipped!r})
c.KubeSpawner.cmd = [{python!r}, "-m", "jupyterhub.singleuser"]
c.Spawner.args = [*c.Spawner.args, "--allow-root"]
c.Spawner.poll_interval = 1
c.ProfileSpawner.service_api_url = ""
c.JupyterHub.services.append({{"name": "tester", "api_token": {token!r}}})
c.JupyterHub.load_roles.append({{
    "name": "tester",
    "services": ["tester"],
    "scopes": ["admin:users", "admin:servers", "access:servers", "list:users"],
}})
"""


@dataclass
class ClusterHub:
    plane: ControlPlane
    root: Path
    profiles: list[dict[str, Any]]
    start_seconds: int
    service_url: str = "http://127.0.0.1:9"
    """Nothing is there by default: servers start without the service."""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def prepare(self) -> None:
        secret = self.root / "secrets"
        secret.mkdir(parents=True)
        for name in ("proxy_auth_token", "cookie_secret", "auth_state_key", "service_token"):
            (secret / name).write_text(secrets.token_hex(32))
        (secret / "database_url").write_text(f"sqlite:///{self.root / 'hub.sqlite'}")
        (secret / "user_password").write_text(self.password)
        (secret / "admin_password").write_text(secrets.token_hex(16))
        self.write_profiles(self.profiles)
        _public, proxy_api, hub = self.ports
        settings = {
            "public_url": self.url,
            "bind_url": self.url,
            "hub_bind_url": f"http://127.0.0.1:{hub}",
            "hub_connect_url": f"http://127.0.0.1:{hub}",
            "proxy_api_url": f"http://127.0.0.1:{proxy_api}",
            "service_url": self.service_url,
            "namespace": USERS,
            "image": "this-environment",
            "storage_class": "bed",
            "node_patience_seconds": 5,
            "start_seconds": self.start_seconds,
            "profiles_file": str(self.root / "profiles.yaml"),
            "secrets": str(secret),
            "shared_password": True,
        }
        (self.root / "hub.yaml").write_text(yaml.safe_dump(settings))
        (self.root / "config.py").write_text(
            CONFIG.format(
                shipped=str(shipped("hub_config") / "kubernetes" / "jupyterhub_config.py"),
                python=sys.executable,
                token=self.token,
            )
        )
        self._write_kubeconfig()

    def write_profiles(self, profiles: list[dict[str, Any]]) -> None:
        (self.root / "profiles.yaml").write_text(yaml.safe_dump({"profiles": profiles}))

    def _write_kubeconfig(self) -> None:
        account = self.plane.api.token("aiaas", "hub")
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": account}
        path = self.root / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))

    def start_proxy(self) -> None:
        public, api, hub = self.ports
        command = proxy_command(shipped("hub_config") / "proxy", print)
        words = [
            f"--port={public}",
            "--ip=127.0.0.1",
            f"--api-port={api}",
            "--api-ip=127.0.0.1",
            f"--default-target=http://127.0.0.1:{hub}",
        ]
        token = (self.root / "secrets" / "proxy_auth_token").read_text()
        self._popen("proxy", [*command, *words], CONFIGPROXY_AUTH_TOKEN=token)

    def start_hub(self) -> None:
        command = [sys.executable, "-m", "jupyterhub", "--config", str(self.root / "config.py")]
        environ = {
            VARIABLE: str(self.root / "hub.yaml"),
            "KUBECONFIG": str(self.root / "kubeconfig"),
            "AIAAS_HOME": str(self.root),
        }
        self._popen("hub", command, **environ)
        until(self._answers, UP_SECONDS, self.logs)

    def _popen(self, name: str, command: list[str], **environ: str) -> None:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("JUPYTER", "AIAAS_SIGN_IN"))
        }
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env={**kept, **environ},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        ended = self.processes["hub"].poll()
        assert ended is None, self.logs()
        try:
            return self.api("GET", "").is_success
        except httpx.TransportError:
            return False

    def stop(self, *names: str) -> None:
        for name in names or list(self.processes):
            process = self.processes[name]
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}"
            for path in sorted(self.root.glob("*.log"))
        )

    def api(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The hub's REST API, asked by whoever may administrate users and servers."""
        return httpx.request(
            method,
            f"{self.url}/hub/api/{path}",
            headers={"Authorization": f"token {self.token}"},
            timeout=60,
            trust_env=False,
            **arguments,
        )

    def ask(self, user: str, **options: Any) -> httpx.Response:
        """Ask for a user's server; the hub's answer, refusals included."""
        self.api("POST", f"users/{user}")
        return self.api("POST", f"users/{user}/server", json=options)

    def server(self, user: str) -> dict[str, Any]:
        """The user's server as the hub describes it; empty if it has none."""
        found: dict[str, Any] = self.api("GET", f"users/{user}").json()["servers"].get("", {})
        return found

    def spawn(self, user: str, **options: Any) -> None:
        answer = self.ask(user, **options)
        assert answer.is_success, answer.text
        until(lambda: self.server(user).get("ready", False), 90, self.logs)

    def stop_server(self, user: str) -> None:
        self.api("DELETE", f"users/{user}/server")
        until(lambda: not self.server(user), 60, self.logs)

    def progress(self, user: str) -> Iterator[str]:
        """What the page that shows a start would say, to its end."""
        with httpx.stream(
            "GET",
            f"{self.url}/hub/api/users/{user}/server/progress",
            headers={"Authorization": f"token {self.token}"},
            timeout=120,
            trust_env=False,
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield str(yaml.safe_load(line.removeprefix("data:"))["message"])


@contextmanager
def cluster_hub(
    plane: ControlPlane, root: Path, profiles: list[dict[str, Any]], start_seconds: int
) -> Iterator[ClusterHub]:
    """It takes its servers along, which a hub in production leaves to its successor."""
    running = ClusterHub(plane, root, profiles, start_seconds)
    running.prepare()
    try:
        running.start_proxy()
        running.start_hub()
        yield running
    finally:
        running.stop()
        no_pods(plane, USERS)


def no_pods(plane: ControlPlane, namespace: str) -> None:
    """Delete all pods of a namespace and wait until they are gone."""
    path = f"{CORE}/namespaces/{namespace}/pods"
    plane.api.delete(path, gracePeriodSeconds=1)
    until(lambda: not plane.api.items(path), 60, lambda: str(plane.api.items(path)))


def until(holds: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it never came\n{explain()}"
        time.sleep(0.2)
