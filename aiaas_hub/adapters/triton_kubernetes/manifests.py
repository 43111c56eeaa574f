"""A group of Triton servers as objects of Kubernetes. Pure: settings in, whole objects out.

A pod is NVIDIA's Triton as it stands and the agent; they share a directory of the pod, which the
agent fills from the object store. So pods on any number of nodes need no shared file system, each
has the files of its models beside it, and Triton itself, which runs what users published, has no
credentials of anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiaas_hub.domain.serving_names import owner_mark, owner_mark_of

Object = dict[str, Any]

HTTP_PORT, GRPC_PORT, METRICS_PORT, AGENT_PORT = 8000, 8001, 8002, 8003
MODELS = Path("/srv/models/models")
SECRETS = Path("/etc/aiaas-serving")
PLATFORM_LABEL = "aiaas.hub/platform"
GROUP_LABEL = "aiaas.hub/servers"
SPECIFICATION = "aiaas.hub/specification"
"""An annotation: the hash of what the object was made from."""

CONTROL_HEADER, INFERENCE_HEADER = "aiaas-control", "aiaas-inference"
SHARED = "shared"
_CONTROL = "model-repository,model-config,shared-memory,logging,trace,statistics"
_ANYTHING = f"{_CONTROL},inference,metadata"
_USER = 1000
_GPU = "nvidia.com/gpu"
_GRACE_SECONDS = 40
_LEAVE_SECONDS = 5
"""Until the gateway knows that a pod goes."""
_STACK_KIB = 512 << 10
_AGENT = ["python", "-m", "aiaas_hub.adapters.triton_kubernetes.agent"]

Grouping = Literal["shared", "owner"]
WorkloadName = Literal["deployment", "inferenceservice"]


@dataclass(frozen=True)
class ServerPods:
    """What an operator says of the servers."""

    namespace: str
    platform: str
    """A label's value: two platforms may share a namespace."""
    image: str
    """Of Triton: images/triton."""
    agent_image: str
    """images/hub."""
    store: str
    """URL of the object store, as pods reach it."""
    secret: str = "triton"  # noqa: S105 - the name of an object
    """A Secret with the keys `control` and `inference`."""
    store_secret: str = "serving-store"  # noqa: S105 - the name of an object
    """A Secret whose keys are variables of the agent's environment: how it reads the store."""
    grouping: Grouping = "shared"
    workload: WorkloadName = "deployment"
    replicas: int = 2
    cpus: float = 2
    gpus: int = 0
    """Of a pod; with any, models run on them."""
    memory: str = "8Gi"
    models_size: str = "20Gi"
    """Disk of a pod for models."""
    pull_secrets: Sequence[str] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Object] = ()


def group_of(model: str, grouping: Grouping) -> str:
    return SHARED if grouping == "shared" else f"owner-{owner_mark_of(model)}"


def group_of_owner(owner: str, grouping: Grouping) -> str:
    return SHARED if grouping == "shared" else f"owner-{owner_mark(owner)}"


def name_of(group: str) -> str:
    """Of all objects of a group."""
    return f"triton-{group}"


def address_of(group: str, pods: ServerPods) -> str:
    """The name that stands for the addresses of all its ready pods."""
    return f"{name_of(group)}.{pods.namespace}.svc.cluster.local"


def control_headers(secret: str) -> dict[str, str]:
    """What gRPC calls carry, in Triton's spelling."""
    return {f"triton-grpc-protocol-{CONTROL_HEADER}": secret}


def labels(group: str, pods: ServerPods) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": "aiaas-hub",
        # By these two, network policies know the servers.
        "app.kubernetes.io/part-of": "aiaas-hub",
        "app.kubernetes.io/component": "triton",
        PLATFORM_LABEL: pods.platform,
        GROUP_LABEL: group,
    }


def selector(group: str, pods: ServerPods) -> str:
    return f"{PLATFORM_LABEL}={pods.platform},{GROUP_LABEL}={group}"


def service(group: str, pods: ServerPods) -> Object:
    """Without an address of its own: its name gives those of the ready pods, between which the
    gateway chooses."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(group, pods),
        "spec": {
            "clusterIP": "None",
            "selector": {PLATFORM_LABEL: pods.platform, GROUP_LABEL: group},
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http"}],
        },
    }


def deployment(group: str, pods: ServerPods) -> Object:
    """Without the number of replicas, so that an autoscaler may have it."""
    selected = {PLATFORM_LABEL: pods.platform, GROUP_LABEL: group}
    spec: Object = {
        "selector": {"matchLabels": selected},
        # Another pod serves before one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        # A large model is fetched and loaded first.
        "progressDeadlineSeconds": 1800,
        "template": {"metadata": {"labels": labels(group, pods)}, "spec": _pod(group, pods)},
    }
    made = marked(metadata(group, pods), spec)
    return {"apiVersion": "apps/v1", "kind": "Deployment", **made}


def marked(named: Object, spec: Object) -> Object:
    """Metadata and specification, with what tells whether it was made from the same."""
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
    return {"metadata": {**named, "annotations": {SPECIFICATION: digest}}, "spec": spec}


def metadata(group: str, pods: ServerPods) -> Object:
    return {
        "name": name_of(group),
        "namespace": pods.namespace,
        "labels": labels(group, pods),
    }


def _pod(group: str, pods: ServerPods) -> Object:
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {
                    "matchLabels": {PLATFORM_LABEL: pods.platform, GROUP_LABEL: group}
                },
            }
        ],
        "containers": [_triton(pods), _agent(group, pods)],
        "volumes": [
            {"name": "models", "emptyDir": {"sizeLimit": pods.models_size}},
            {"name": "temporary", "emptyDir": {}},
            # The container's own is 64 MiB.
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            _secret("secrets", pods, "control", "inference"),
        ],
    }
    if pods.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pods.pull_secrets]
    if pods.node_selector:
        spec["nodeSelector"] = dict(pods.node_selector)
    if pods.tolerations:
        spec["tolerations"] = [dict(one) for one in pods.tolerations]
    return spec


def _secret(name: str, pods: ServerPods, *keys: str) -> Object:
    items = [{"key": key, "path": key} for key in keys]
    return {
        "name": name,
        "secret": {"secretName": pods.secret, "defaultMode": 0o440, "items": items},
    }


def _triton(pods: ServerPods) -> Object:
    requests = {"cpu": f"{pods.cpus:g}", "memory": pods.memory}
    limits = {"memory": pods.memory}
    if pods.gpus:
        requests[_GPU] = limits[_GPU] = str(pods.gpus)
    return {
        "name": "triton",
        "image": pods.image,
        "command": ["/bin/sh", "-c"],
        "args": [_start(), "triton", *_flags()],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT},
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "readinessProbe": _probe("/v2/health/ready", "http", period=2),
        "livenessProbe": _probe("/v2/health/live", "http", period=10, failures=6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_SECONDS)]}}},
        "resources": {"requests": requests, "limits": limits},
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": "models", "mountPath": str(MODELS.parent), "readOnly": True},
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - of the container
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108 - of the container
            {"name": "secrets", "mountPath": str(SECRETS), "readOnly": True},
        ],
    }


def _start() -> str:
    """Triton takes secrets in its command line only: the shell puts them there, so that they are in
    no object of the cluster. JSON that is nested deeply overflows the stack of the thread that
    parses it: the gateway bounds such bodies, and this bears the bound."""
    control, inference = (f'"$(cat {SECRETS / key})"' for key in ("control", "inference"))
    return (
        f"ulimit -S -s {_STACK_KIB}; until [ -d {MODELS} ]; do sleep 0.1; done; "
        'exec tritonserver "$@" '
        f"--http-restricted-api={_CONTROL}:{CONTROL_HEADER}={control} "
        f"--http-restricted-api=inference,metadata:{INFERENCE_HEADER}={inference} "
        f"--grpc-restricted-protocol={_ANYTHING}:{CONTROL_HEADER}={control}"
    )


def _flags() -> list[str]:
    return [
        f"--model-repository={MODELS}",
        # The agent loads: Triton counts as ready when all is there.
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--strict-readiness=false",
        "--http-address=0.0.0.0",
        f"--http-port={HTTP_PORT}",
        "--grpc-address=0.0.0.0",
        f"--grpc-port={GRPC_PORT}",
        "--metrics-address=0.0.0.0",
        f"--metrics-port={METRICS_PORT}",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
        f"--exit-timeout-secs={_GRACE_SECONDS - 2 * _LEAVE_SECONDS}",
    ]


def _agent(group: str, pods: ServerPods) -> Object:
    return {
        "name": "agent",
        "image": pods.agent_image,
        "command": _AGENT,
        "env": [
            {"name": "AIAAS_GROUP", "value": group},
            {"name": "AIAAS_SERVING_URL", "value": pods.store},
            {
                "name": "AIAAS_POD_ADDRESS",
                "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
            },
        ],
        "envFrom": [{"secretRef": {"name": pods.store_secret, "optional": True}}],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "readinessProbe": _probe("/ready", "agent", period=1),
        "livenessProbe": {
            "tcpSocket": {"port": "agent"},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": "192Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": "models", "mountPath": str(MODELS.parent)},
            {"name": "secrets", "mountPath": str(SECRETS), "readOnly": True},
        ],
    }


def _probe(path: str, port: str, *, period: int, failures: int = 3) -> Object:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _confined() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
