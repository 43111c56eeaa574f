"""Runs' pods on the bed: what its processes need from this machine, where an image has it, and what
a test does with them."""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
import yaml
from bed.api import CORE, KubeApi, Object
from bed.control_plane import ControlPlane
from ray_operator import RayOperator

import aiaas_hub
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.kubernetes.run_settings import RunPods
from aiaas_hub.adapters.ray_kubernetes import RayKubernetes
from aiaas_hub.domain.ports import JobState, JobStatus, JobSubmission

LONG = 150
CLAIM = "checkpoints"
OPTION = Path(aiaas_hub.__file__).parents[1] / "hub_config" / "kubernetes" / "options" / "runs"
HERE = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    "PYTHONPATH": str(Path(aiaas_hub.__file__).parents[1]),
    # One machine with one loopback interface.
    "GLOO_SOCKET_IFNAME": "lo",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
    "DASHBOARD_METRIC_PORT": "0",
}


def run_pods(namespace: str, api_url: str) -> RunPods:
    return RunPods(
        namespace=namespace,
        platform="bed",
        image="aiaas/ray",
        ray_version=ray.__version__,
        api_url=api_url,
        storage_claim=CLAIM,
        worker_memory="1Gi",
        head_memory="1Gi",
        environment=HERE,
    )


def claim(api: KubeApi, namespace: str) -> None:
    """A claim for checkpoints, and a volume that it is bound to."""
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": namespace}
    volume = {**common, "capacity": size, "hostPath": {"path": "/nowhere"}}
    name = f"{CLAIM}-{namespace}"
    api.create(f"{CORE}/persistentvolumes", {"metadata": {"name": name}, "spec": volume})
    api.create(
        f"{CORE}/namespaces/{namespace}/persistentvolumeclaims",
        {"metadata": {"name": CLAIM}, "spec": {**common, "resources": {"requests": size}}},
    )


@dataclass
class Training:
    """A namespace with an operator in it, and the engine."""

    plane: ControlPlane
    namespace: str
    engine: RayKubernetes
    operator: RayOperator

    def until(
        self, job: JobSubmission, *wanted: JobState | None, seconds: float = LONG
    ) -> JobStatus | None:
        """The job's status once it is in one of these states."""
        end = time.monotonic() + seconds
        while True:
            status = self.engine.status(job.id)
            if (status.state if status else None) in wanted:
                return status
            assert time.monotonic() < end, f"{status}\n{self.words()}"
            time.sleep(0.3)

    def until_it_says(self, job: JobSubmission, words: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while True:
            status = self.engine.status(job.id)
            assert status is not None
            if words in status.message:
                assert status.state is JobState.PENDING
                return status.message
            assert time.monotonic() < end, f"{status}\n{self.words()}"
            time.sleep(0.3)

    def pods(self, kind: str = "") -> list[Object]:
        """Those of this kind of Ray node that are not being deleted; all kinds by default."""
        path = f"{CORE}/namespaces/{self.namespace}/pods"
        labels = {"labelSelector": f"ray.io/node-type={kind}"} if kind else {}
        found = self.plane.api.items(path, **labels)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def words(self) -> str:
        """The last of each container, for a test that failed."""
        logs = [
            f"--- {log.parent.name}/{log.name}\n{log.read_text(errors='replace')[-600:]}"
            for log in sorted(
                self.plane.state.glob("*/*.log"), key=lambda log: log.stat().st_mtime
            )[-4:]
        ]
        return "\n".join([*logs, f"operator: {self.operator.failures[-3:]}"])


def account(plane: ControlPlane, namespace: str, directory: Path) -> Path:
    """A kubeconfig of an account with the role that is shipped for the service, and no other."""
    documents = yaml.safe_load_all((OPTION / "runs.yaml").read_text())
    (role,) = [one for one in documents if one["kind"] == "Role"]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    plane.api.create(f"{rbac}/roles", {"metadata": {"name": "runs"}, "rules": role["rules"]})
    binding = {
        "metadata": {"name": "runs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runs"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    plane.api.create(f"{rbac}/rolebindings", binding)
    found = plane.api.get(f"{CORE}/namespaces/{namespace}/serviceaccounts/default")
    secret = f"{CORE}/namespaces/{namespace}/secrets/{found['secrets'][0]['name']}"
    config = yaml.safe_load(plane.kubeconfig.read_text())
    token = base64.b64decode(plane.api.get(secret)["data"]["token"]).decode()
    config["users"][0]["user"] = {"token": token}
    file = directory / "service.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return file


@contextmanager
def training(plane: ControlPlane, pods: RunPods) -> Iterator[Training]:
    """An engine with the rights that the service has, and its runs' pods, until the end."""
    claim(plane.api, pods.namespace)
    # Ray's sockets are below it, whose paths must be short.
    with (
        TemporaryDirectory(prefix="aiaas-k", ignore_cleanup_errors=True) as scratch,
        RayOperator(plane.api, pods.namespace, Path(scratch)) as operator,
    ):
        kubeconfig = account(plane, pods.namespace, Path(scratch))
        engine = RayKubernetes(Cluster(pods.namespace, kubeconfig), pods)
        try:
            yield Training(plane, pods.namespace, engine, operator)
        finally:
            engine.close()
