"""The whole platform on the bed: the hub and its servers' pods, the service with the rights that
the manifests give it, runs as RayJobs, a real object store, Triton and the gateway as pods."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import ray
import yaml
from bed.api import CORE, Object
from bed.control_plane import ControlPlane
from cluster_hub import USERS, ClusterHub, no_pods, until
from manifests import as_the_bed_has_it, rendered
from object_store import ObjectStore, object_store
from ray_operator import RayOperator
from serving_pods import AGENT, SPACE, TRITON, end_pods, install_images, make_secrets, program
from training_pods import HERE

from aiaas_hub.loopback import free_ports

PREFIX = "/services/aiaas/"
OPTIONS = ("options/runs", "options/serving")
NOTEBOOK_IMAGE = "this-environment"
SMALL: dict[str, Any] = {
    "slug": "small",
    "name": "Small",
    "description": "d",
    "cpus": 1,
    "memory": "1G",
    "default": True,
}


@dataclass
class ClusterPlatform:
    hub: ClusterHub
    plane: ControlPlane
    root: Path
    service_url: str
    store: ObjectStore
    operator: RayOperator

    def pods(self, namespace: str, **labels: str) -> list[Object]:
        wanted = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.plane.api.items(f"{CORE}/namespaces/{namespace}/pods", labelSelector=wanted)

    def words(self) -> str:
        """The last of everything, for a test that failed."""
        logs = [*self.plane.state.glob("*/*.log"), *self.root.glob("*.log")]
        logs.sort(key=lambda log: log.stat().st_mtime)
        parts = [f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs[-14:]]
        return "\n".join([*parts, str(self.operator.failures[-3:])])


@contextmanager
def cluster_platform(plane: ControlPlane, root: Path) -> Iterator[ClusterPlatform]:
    """`plane` has the definitions of KubeRay and the shipped base."""
    root.mkdir()
    (port,) = free_ports(1)
    service_url = f"http://127.0.0.1:{port}"
    hub = ClusterHub(plane, root / "hub", [SMALL], 120, service_url=service_url)
    # Ray's sockets are below it, whose paths must be short.
    with (
        TemporaryDirectory(prefix="aiaas-k", ignore_cleanup_errors=True) as scratch,
        object_store(root / "s3") as store,
        RayOperator(plane.api, USERS, Path(scratch)) as operator,
    ):
        platform = ClusterPlatform(hub, plane, root, service_url, store, operator)
        install_images(plane.state)
        program(plane.state, NOTEBOOK_IMAGE, "python", [sys.executable])
        control = _apply(plane, store)
        service = None
        try:
            hub.prepare()
            hub.start_proxy()
            hub.start_hub()
            service = _start_service(platform, control)
            yield platform
        finally:
            if service is not None:
                service.terminate()
                service.wait(30)
            hub.stop()
            no_pods(plane, USERS)
            end_pods(plane.api, SPACE)


def _apply(plane: ControlPlane, store: ObjectStore) -> str:
    """What an administrator applies beside the base; the secret with which models are loaded."""
    manifests = [as_the_bed_has_it(one) for one in rendered(*OPTIONS)]
    done = plane.kubectl("apply", "--validate=true", "-f-", stdin=yaml.safe_dump_all(manifests))
    assert done.returncode == 0, done.stderr
    size = {"storage": "500Gi"}
    volume = {"accessModes": ["ReadWriteMany"], "capacity": size, "hostPath": {"path": "/nowhere"}}
    plane.api.create(
        f"{CORE}/persistentvolumes", {"metadata": {"name": "checkpoints"}, "spec": volume}
    )
    plane.wait_for_account("aiaas", "service")
    plane.wait_for_account(SPACE, "default")
    return make_secrets(plane.api, SPACE, store)


def _start_service(platform: ClusterPlatform, control: str) -> subprocess.Popen[bytes]:
    plane, root, hub = platform.plane, platform.root, platform.hub
    home = root / "service"
    home.mkdir()
    (root / "control").write_text(control)
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": plane.api.token("aiaas", "service")}
    kubeconfig = root / "service.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(config))
    settings: dict[str, object] = {
        "artifacts_url": f"{platform.store.url}/artifacts",
        "profiles_file": str(hub.root / "profiles.yaml"),
        "kubernetes_kubeconfig": str(kubeconfig),
        "kubernetes_namespace": USERS,
        "kubernetes_api_url": f"{platform.service_url}{PREFIX}api/v1",
        "kubernetes_image": "ray",
        "kubernetes_ray_version": ray.__version__,
        "kubernetes_storage_claim": "checkpoints",
        "kubernetes_worker_memory": "1Gi",
        "kubernetes_head_memory": "1Gi",
        "kubernetes_environment": HERE,
        "serving_namespace": SPACE,
        "serving_url": f"{platform.store.url}/serving",
        "serving_image": TRITON,
        "serving_agent_image": AGENT,
        "serving_secret_file": str(root / "control"),
        "serving_gateway_url": f"http://gateway.{SPACE}.svc.cluster.local:8080",
        "serving_cpus": 0.5,
        "serving_pod_memory_bytes": 2 << 30,
    }
    lines = [f"c.ServiceConfig.{name} = {value!r}" for name, value in settings.items()]
    (home / "aiaas_config.py").write_text("\n".join(["c = get_config()", *lines, ""]))
    environ = {
        **os.environ,
        **platform.store.variables,
        "AIAAS_HOME": str(home),
        "JUPYTERHUB_SERVICE_NAME": "aiaas",
        "JUPYTERHUB_SERVICE_URL": platform.service_url,
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.ports[2]}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "service-aiaas",
        "JUPYTERHUB_API_TOKEN": (hub.root / "secrets" / "service_token").read_text(),
    }
    with (root / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiaas_hub.app"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready() -> bool:
        assert process.poll() is None, platform.words()
        try:
            return httpx.get(
                f"{platform.service_url}{PREFIX}api/v1/health", trust_env=False
            ).is_success
        except httpx.TransportError:
            return False

    until(ready, 90, platform.words)
    return process


def measured(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
