"""etcd, the API server, the controller manager, the scheduler and the nodes, on free ports.

The binaries are found as envtest finds them: `KUBEBUILDER_ASSETS` names their folder
(https://book.kubebuilder.io/reference/envtest). Each process is this one's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx
import yaml

from aiaas_hub.loopback import free_ports

from .api import CORE, KubeApi, Object, Refused
from .certificates import CLIENTS, write_certificates
from .nodes import NODES

ASSETS = "KUBEBUILDER_ASSETS"
BINARIES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
UP_SECONDS = 90
NODE_GRACE_SECONDS = 12
"""After this silence a node counts as lost; clusters say 40."""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    # Of what pods and the service ask; the cluster's own parts ask far more.
    "rules": [
        {"level": "None", "namespaces": ["kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


def missing() -> str:
    """Why there can be no control plane here, with the remedy; empty if there can."""
    assets = os.environ.get(ASSETS)
    if not assets:
        return f"set {ASSETS} to a folder with {', '.join(BINARIES)}: `setup-envtest use -p path`"
    absent = [name for name in BINARIES if not os.access(Path(assets, name), os.X_OK)]
    if absent:
        return f"{assets} ({ASSETS}) lacks {', '.join(absent)}"
    if _etcd() is None:
        return f"etcd is neither in {assets} nor on PATH: apt-get install etcd-server"
    if shutil.which("kubectl") is None:
        return "kubectl is not on PATH: apt-get install kubernetes-client"
    return ""


def _etcd() -> str | None:
    beside = Path(os.environ[ASSETS], "etcd")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("etcd")


@dataclass
class ControlPlane:
    """`root` holds keys, data and logs. `up` waits until pods can be scheduled."""

    root: Path
    ports: list[int] = field(default_factory=lambda: free_ports(6))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    @property
    def kubeconfig(self) -> Path:
        return self._config_of("admin")

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def state(self) -> Path:
        """Of the nodes: a directory per pod, by its uid."""
        return self.root / "pods"

    @property
    def bin(self) -> Path:
        """Commands here take precedence in pods, where another cluster has them from images."""
        return self.root / "bin"

    @cached_property
    def api(self) -> KubeApi:
        """The administrator's view."""
        return KubeApi.of(self.kubeconfig)

    def _config_of(self, client: str) -> Path:
        return self.root / f"{client}.kubeconfig"

    def up(self) -> None:
        for directory in (self.root / "log", self.state / "lost"):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
        if not self.pki.exists():
            write_certificates(self.pki)
            for client in CLIENTS:
                self._write_config(client)
        for name in self._commands():
            self.start(name)
            if name == "etcd":
                self._until("etcd answers", self._etcd_answers)
            if name == "kube-apiserver":
                self._until("the API server is ready", self._server_ready)
        self._until("nodes are ready", self._nodes_ready)
        self.wait_for_account("default", "default")

    def down(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)
        if "api" in vars(self):
            self.api.close()

    def start(self, name: str) -> None:
        """Start one of the processes, again if it was stopped."""
        here = (self.bin, Path(sys.executable).parent, os.environ.get("PATH", os.defpath))
        path = os.pathsep.join(map(str, here))
        with (self.root / "log" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._commands()[name],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PATH": path},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if name == "kube-apiserver" and len(self.processes) > 2:
            self._until("the API server is ready again", self._server_ready)

    def stop(self, name: str) -> None:
        process = self.processes[name]
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def lose_node(self, name: str) -> None:
        """Its processes die and it falls silent."""
        (self.state / "lost" / name).touch()

    def find_node(self, name: str) -> None:
        (self.state / "lost" / name).unlink()
        self._until(f"{name} is ready", self._nodes_ready)

    def asked(self, account: str) -> list[tuple[str, str]]:
        """Verb and resource of each request that a service account (`NAMESPACE:NAME`) has made, in
        order; a watch counts once."""
        user = f"system:serviceaccount:{account}"
        lines = (self.root / "audit.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if f'"{user}"' in line]
        return [(one["verb"], one["objectRef"]["resource"]) for one in events]

    def logs(self) -> str:
        """The end of each process's log, for a test that failed."""
        parts = []
        for path in sorted((self.root / "log").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-25:]
            parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; its exit code is the caller's to judge."""
        return subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), "--request-timeout=30s", *words],  # noqa: S607 - whichever is installed
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def namespace(self, name: str) -> str:
        """Make a namespace and wait until pods can be made in it."""
        self.api.create(f"{CORE}/namespaces", {"metadata": {"name": name}})
        self.wait_for_account(name, "default")
        return name

    def quota(self, namespace: str, name: str, hard: dict[str, str]) -> str:
        """Make a ResourceQuota and wait until pods are held to it; returns its path."""
        quotas = f"{CORE}/namespaces/{namespace}/resourcequotas"
        self.api.create(quotas, {"metadata": {"name": name}, "spec": {"hard": hard}})
        path = f"{quotas}/{name}"
        self._until(
            f"the quota {namespace}/{name} counts",
            lambda: bool(self.api.get(path).get("status", {}).get("used")),
        )
        return path

    def wait_for_account(self, namespace: str, name: str) -> None:
        """Until this service account has its token."""
        self._until(f"{namespace}/{name} is ready", lambda: self._account_ready(namespace, name))

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + UP_SECONDS
        while not holds():
            ended = [name for name, one in self.processes.items() if one.poll() is not None]
            if time.monotonic() > end or ended:
                raise AssertionError(f"waited until {what}; ended: {ended}\n{self.logs()}")
            time.sleep(0.1)

    def _etcd_answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.ports[1]}/health"
            return httpx.get(url, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _server_ready(self) -> bool:
        try:
            return self.api.text("/readyz") == "ok"
        except (httpx.TransportError, Refused):
            return False

    def _nodes_ready(self) -> bool:
        nodes = self.api.items(f"{CORE}/nodes")
        return len(nodes) == len(NODES) and not any(map(_is_unready, nodes))

    def _account_ready(self, namespace: str, name: str) -> bool:
        account = self.api.find(f"{CORE}/namespaces/{namespace}/serviceaccounts/{name}")
        return bool(account and account.get("secrets"))

    def _write_config(self, client: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "bed",
                    "cluster": {
                        "server": self.server,
                        "certificate-authority": str(self.pki / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": client,
                    "user": {
                        "client-certificate": str(self.pki / f"{client}.crt"),
                        "client-key": str(self.pki / f"{client}.key"),
                    },
                }
            ],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": client}}],
            "current-context": "bed",
        }
        path = self._config_of(client)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))

    def _commands(self) -> dict[str, list[str]]:
        assets, pki = Path(os.environ[ASSETS]), self.pki
        server, etcd, peer, manager, scheduler, kubelet = self.ports
        client = f"http://127.0.0.1:{etcd}"
        peers = f"http://127.0.0.1:{peer}"

        def component(name: str, port: int) -> list[str]:
            config = self._config_of(name)
            return [
                str(assets / name),
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                "--port=0",
                f"--cert-dir={pki}",
            ]

        return {
            "etcd": [
                str(_etcd()),
                f"--data-dir={self.root / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
            ],
            "kube-apiserver": [
                str(assets / "kube-apiserver"),
                f"--etcd-servers={client}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={server}",
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={pki / 'server.crt'}",
                f"--tls-private-key-file={pki / 'server.key'}",
                f"--client-ca-file={pki / 'ca.crt'}",
                f"--cert-dir={pki}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki / 'sa.pub'}",
                f"--service-account-signing-key-file={pki / 'sa.key'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--kubelet-preferred-address-types=InternalIP",
                "--profiling=false",
                f"--audit-policy-file={self.root / 'audit.yaml'}",
                f"--audit-log-path={self.root / 'audit.log'}",
            ],
            "kube-controller-manager": [
                *component("kube-controller-manager", manager),
                "--use-service-account-credentials",
                f"--service-account-private-key-file={pki / 'sa.key'}",
                f"--root-ca-file={pki / 'ca.crt'}",
                "--resource-quota-sync-period=10s",
                f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
                "--node-monitor-period=2s",
                # What speaks to clouds and cables is not here.
                "--controllers=*,-ttl,-attachdetach,-cloud-node-lifecycle,-service,-route,-nodeipam",
            ],
            "kube-scheduler": component("kube-scheduler", scheduler),
            "nodes": [
                sys.executable,
                "-m",
                "bed.agent",
                str(self.kubeconfig),
                str(self.state),
                str(kubelet),
                str(pki / "server.crt"),
                str(pki / "server.key"),
                # A network of its own: two beds on one machine do not meet.
                f"127.{1 + server % 250}",
            ],
        }


def _is_unready(node: Object) -> bool:
    return any(
        taint["key"].startswith("node.kubernetes.io") for taint in node["spec"].get("taints", [])
    )
