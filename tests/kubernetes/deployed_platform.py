"""The platform as an administrator installs it, on the bed: an overlay of the shipped manifests,
with the Secrets that docs/kubernetes.md makes, applied by kubectl. Hub, proxy and service are pods.

What another cluster has from images is this environment's: `bin` has the commands that an image
adds, and a volume the files.
"""

from __future__ import annotations

import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import ray
import yaml
from bed.api import CORE, Object
from bed.control_plane import ControlPlane
from bed.services import address_of
from cluster_hub import USERS, no_pods, until
from manifests import apply, as_the_bed_has_it, without_pods
from ray_operator import RayOperator
from sqlalchemy.engine import make_url
from training_pods import HERE

from aiaas_hub.local.hub_session import HubSession
from aiaas_hub.local.node_proxy import proxy_command
from aiaas_hub.local.shipped import shipped

PLATFORM = "aiaas"
UP_SECONDS = 120
ROOT = Path(__file__).parents[2]
FILES_OF_THE_IMAGE = "/opt/aiaas/share/aiaas-hub/hub_config"
PROFILES = [
    {
        "slug": "small",
        "name": "Small",
        "description": "d",
        "cpus": 1,
        "memory": "1G",
        "default": True,
        "volumes": [{"kind": "home", "path": "/run/aiaas-bed-home", "size": "1G"}],
    }
]
HUB_SETTINGS = {
    "public_url": "http://localhost:8000",
    # As it is by default: it is said here since the bed puts the pod's address in its place.
    "hub_bind_url": "http://0.0.0.0:8081",
    "namespace": USERS,
    "image": "aiaas-hub/singleuser:0.1.0",
    "storage_class": "homes",
    "shared_password": True,
}
OVERLAY = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": [
        "aiaas-hub/hub_config/kubernetes/base",
        "aiaas-hub/hub_config/kubernetes/options/runs",
    ],
    "generatorOptions": {"disableNameSuffixHash": True},
    "configMapGenerator": [
        {
            "name": "hub-settings",
            "namespace": PLATFORM,
            "behavior": "replace",
            "files": ["hub.yaml", "profiles.yaml"],
        },
        {
            "name": "service-settings",
            "namespace": PLATFORM,
            "behavior": "replace",
            "files": ["aiaas_config.py"],
        },
    ],
    "patches": [{"path": "account.yaml"}],
}
VOLUMES = (
    ("hub-state", "1Gi", "ReadWriteOnce", ""),
    ("state", "50Gi", "ReadWriteOnce", ""),
    ("checkpoints", "500Gi", "ReadWriteMany", ""),
    ("home", "2Gi", "ReadWriteOnce", "homes"),
)
SERVICE_SETTINGS = """
c = get_config()
c.ServiceConfig.records_url_file = "/etc/aiaas-secrets/records_url"
c.ServiceConfig.profiles_file = "/etc/aiaas/profiles.yaml"
c.ServiceConfig.log_format = "json"
c.ServiceConfig.kubernetes_namespace = "aiaas-users"
c.ServiceConfig.kubernetes_api_url = "http://service.aiaas:8080/services/aiaas/api/v1"
c.ServiceConfig.kubernetes_image = "aiaas-hub/ray:0.1.0"
c.ServiceConfig.kubernetes_storage_claim = "checkpoints"
c.ServiceConfig.kubernetes_worker_memory = "1Gi"
c.ServiceConfig.kubernetes_head_memory = "1Gi"
c.ServiceConfig.kubernetes_ray_version = {ray!r}
c.ServiceConfig.kubernetes_environment = {environment!r}
"""


@dataclass
class DeployedPlatform:
    plane: ControlPlane
    root: Path
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def url(self) -> str:
        return f"http://{address_of(self.plane.state, 'proxy-public.aiaas')}:8000"

    @property
    def gateway(self) -> str:
        """Of the service's own Envoy, in its pod."""
        with self.session("ada") as session:
            found = session.http.get("/services/aiaas/api/v1/health").json()
        return str(found["gateway"])

    def session(self, user: str) -> HubSession:
        """A signed-in visit."""
        session = HubSession(self.url, user)
        session.sign_in(self.password)
        return session

    def manifests(self) -> list[dict[str, Any]]:
        """What an administrator's overlay renders, with the images' files and an older API."""
        overlay = self.root / "overlay"
        (overlay / "aiaas-hub").mkdir(parents=True)
        (overlay / "aiaas-hub" / "hub_config").symlink_to(ROOT / "hub_config")
        (patch,) = re.findall(
            r"^```yaml\n(spec:\n.*?)^```",
            (ROOT / "docs" / "training.md").read_text(),
            re.DOTALL | re.MULTILINE,
        )
        named = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "service", "namespace": PLATFORM},
        }
        for name, content in {
            "kustomization.yaml": yaml.safe_dump(OVERLAY),
            "account.yaml": yaml.safe_dump({**named, **yaml.safe_load(patch)}),
            "hub.yaml": yaml.safe_dump(HUB_SETTINGS),
            "profiles.yaml": yaml.safe_dump({"profiles": PROFILES}),
            "aiaas_config.py": SERVICE_SETTINGS.format(ray=ray.__version__, environment=HERE),
        }.items():
            (overlay / name).write_text(content)
        done = self.plane.kubectl("kustomize", str(overlay))
        assert done.returncode == 0, done.stderr
        manifests = [as_the_bed_has_it(one) for one in yaml.safe_load_all(done.stdout)]
        for manifest in manifests:
            if (manifest["kind"], manifest["metadata"]["name"]) == ("Deployment", "hub"):
                pod = manifest["spec"]["template"]["spec"]
                files = {"name": "image", "hostPath": {"path": str(shipped("hub_config"))}}
                pod["volumes"].append(files)
                mount = {"name": "image", "mountPath": FILES_OF_THE_IMAGE, "readOnly": True}
                pod["containers"][0]["volumeMounts"].append(mount)
        return manifests

    def write_commands(self) -> None:
        """That images have beside those of this environment."""
        proxy = shlex.join(proxy_command(shipped("hub_config") / "proxy", print))
        # Pods here run as whoever runs the tests.
        server = f"{shlex.quote(sys.executable)} -m jupyterhub.singleuser --allow-root"
        self.plane.bin.mkdir(exist_ok=True)
        for name, command in (
            ("configurable-http-proxy", proxy),
            ("jupyterhub-singleuser", server),
        ):
            file = self.plane.bin / name
            file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            file.chmod(0o755)

    def make_secrets(self, postgresql: str) -> None:
        urls = {}
        with psycopg.connect(postgresql, autocommit=True) as connection:
            for name in ("hub", "records"):
                connection.execute(f"CREATE DATABASE deployed_{name}")  # type: ignore[call-overload]
                url = make_url(postgresql).set(
                    drivername="postgresql+psycopg", database=f"deployed_{name}"
                )
                urls[name] = url.render_as_string(hide_password=False)
        keys = ("cookie_secret", "proxy_auth_token", "auth_state_key", "service_token")
        hub = {key: secrets.token_hex(32) for key in keys} | {
            "database_url": urls["hub"],
            "user_password": self.password,
            "admin_password": secrets.token_hex(16),
        }
        for name, data in (("hub", hub), ("service", {"records_url": urls["records"]})):
            secret = {"metadata": {"name": name}, "stringData": data}
            self.plane.api.create(f"{CORE}/namespaces/{PLATFORM}/secrets", secret)

    def make_volumes(self) -> None:
        """For the hub's and the service's state, checkpoints and a home."""
        for name, size, mode, kind in VOLUMES:
            spec: Object = {
                "capacity": {"storage": size},
                "accessModes": [mode],
                "storageClassName": kind,
                "hostPath": {"path": "/nowhere"},
            }
            volume = {"metadata": {"name": f"deployed-{name}"}, "spec": spec}
            self.plane.api.create(f"{CORE}/persistentvolumes", volume)

    def pod(self, component: str, namespace: str = PLATFORM) -> Object:
        """The one of this component that is not being deleted; empty if there is none."""
        labels = {"labelSelector": f"app.kubernetes.io/component={component}"}
        pods = self.plane.api.items(f"{CORE}/namespaces/{namespace}/pods", **labels)
        return next((pod for pod in pods if not pod["metadata"].get("deletionTimestamp")), {})

    def delete_pod(self, component: str, namespace: str = PLATFORM, **options: Any) -> float:
        """When; the pod is gone or going."""
        name = self.pod(component, namespace)["metadata"]["name"]
        self.plane.api.delete(f"{CORE}/namespaces/{namespace}/pods/{name}", **options)
        return time.monotonic()

    def is_ready(self, component: str) -> bool:
        conditions = self.pod(component).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def until(self, holds: Callable[[], bool], seconds: float = UP_SECONDS) -> None:
        until(holds, seconds, self.words)

    def until_it_answers(self) -> None:
        for component in ("proxy", "hub", "service"):
            self.until(lambda component=component: self.is_ready(component))  # type: ignore[misc]
        for path in ("/hub/health", "/services/aiaas/api/v1/health"):
            self.until(lambda path=path: self.answers(path))  # type: ignore[misc]

    def words(self) -> str:
        """The last of each container, for a test that failed."""
        files = sorted(self.plane.state.glob("*/*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(
            f"--- {log.parent.name}/{log.name}\n{log.read_text(errors='replace')[-2500:]}"
            for log in files[-8:]
        )


@contextmanager
def deployed_platform(
    plane: ControlPlane, root: Path, postgresql: str
) -> Iterator[DeployedPlatform]:
    """Applied, and taken away again: the namespaces are those of other tests too."""
    platform = DeployedPlatform(plane, root)
    platform.write_commands()
    platform.make_secrets(postgresql)
    platform.make_volumes()
    # Ray's sockets are below it, whose paths must be short.
    with (
        TemporaryDirectory(prefix="aiaas-k", ignore_cleanup_errors=True) as scratch,
        RayOperator(plane.api, USERS, Path(scratch)),
    ):
        try:
            apply(plane, platform.manifests())
            yield platform
        finally:
            apply(plane, without_pods())
            for namespace in (USERS, PLATFORM):
                plane.api.delete(f"/apis/ray.io/v1/namespaces/{USERS}/rayjobs")
                no_pods(plane, namespace)
                claims = f"{CORE}/namespaces/{namespace}/persistentvolumeclaims"
                plane.api.delete(claims)
            for name in ("hub", "service"):
                plane.api.delete(f"{CORE}/namespaces/{PLATFORM}/secrets/{name}")
            for name, *_ in VOLUMES:
                plane.api.delete(f"{CORE}/persistentvolumes/deployed-{name}")
