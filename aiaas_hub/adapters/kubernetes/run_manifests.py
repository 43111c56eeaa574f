"""An attempt of a run as objects of Kubernetes: a RayJob of KubeRay, with a Ray cluster of its own,
and the Secret with its run token. Pure: a submission in, whole objects out.

KubeRay 1.5.1 or newer makes the token of each of these Ray clusters and gives it to their pods
(https://docs.ray.io/en/latest/cluster/kubernetes/user-guides/kuberay-auth.html). The run token is
a mounted file: an environment is inherited by whatever a run starts.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

from aiaas_hub.adapters.kubernetes import autoscaling
from aiaas_hub.adapters.kubernetes.confinement import confined
from aiaas_hub.adapters.kubernetes.run_settings import GpuNodes, RunPods
from aiaas_hub.domain.ports import JobSubmission
from aiaas_hub.schemas.assignments import Assignment, trial_storage
from aiaas_hub.schemas.errors import InternalError, InvalidInput

Object = dict[str, Any]

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
MANAGED_BY = "aiaas-hub"
PLATFORM_LABEL = "aiaas.hub/platform"
SUBMISSION_LABEL = "aiaas.hub/submission"
RUN_LABEL = "aiaas.hub/run"
OWNER_ANNOTATION = "aiaas.hub/owner"
LOST_ANNOTATION = "aiaas.hub/lost"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
HEAD = "ray.io/node-type=head"
"""How KubeRay labels the pods of heads."""

TOKEN_KEY = "token"  # noqa: S105 - the name of a file
_TOKENS = Path("/var/run/secrets/aiaas")
_RUNS = Path("/var/lib/aiaas/runs")
_CACHE = Path("/var/cache/aiaas")
_USER = 1000
"""Of the image for Ray."""
_MAX_NAME = 47
"""Of a RayJob: KubeRay makes longer names of it."""
_DRIVER = "python -m aiaas_magics.runtime.driver"
_GRACE_SECONDS = 30


def assignment(job: JobSubmission, pods: RunPods) -> Assignment:
    """What the driver is told. Its paths are those of the pods."""
    run_id, _, _ = job.id.rpartition("-")
    resumed = None
    if job.resumed_from is not None:
        resumed = _storage(job.resumed_from)
        if job.resumed_trial is not None:
            resumed = trial_storage(resumed, job.resumed_trial)
    return Assignment(
        submission_id=job.id,
        run_id=run_id,
        api=pods.api_url,
        token_file=_TOKENS / TOKEN_KEY,
        storage=_storage(run_id),
        resumed_storage=resumed,
    )


def rayjob(job: JobSubmission, pods: RunPods) -> Object:
    """Raises `InvalidInput` for what no pod can have."""
    spec: Object = {
        "entrypoint": _DRIVER,
        "jobId": job.id,
        "shutdownAfterJobFinishes": True,
        # Of the Ray cluster: at once. The RayJob stays until the engine tidies it away.
        "ttlSecondsAfterFinished": 0,
        # Attempts are the service's: KubeRay makes none of its own, neither of the job nor of
        # what submits it.
        "backoffLimit": 0,
        "submissionMode": "K8sJobMode",
        "submitterConfig": {"backoffLimit": 0},
        "submitterPodTemplate": _submitter(job, pods),
        "rayClusterSpec": {
            "rayVersion": pods.ray_version,
            "authOptions": {"mode": "token"},
            "headGroupSpec": _head(job, pods),
            "workerGroupSpecs": [_workers(job, pods)],
        },
    }
    if _is_autoscaled(job, pods):
        spec["rayClusterSpec"] |= {
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": autoscaling.options(pods),
        }
    metadata = _metadata(job, pods)
    if pods.queue:
        metadata["labels"][QUEUE_LABEL] = pods.queue
        # Kueue resumes it; without Kueue it waits, and does not go past the queue.
        spec["suspend"] = True
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": spec,
    }


def token_secret(job: JobSubmission, pods: RunPods, owner_uid: str) -> Object:
    """The run token; it goes with the RayJob of this uid."""
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "name": name_of(job.id),
        "uid": owner_uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {**_metadata(job, pods), "ownerReferences": [owner]},
        "stringData": {TOKEN_KEY: job.token},
    }


def stop_mark(submission_id: str, pods: RunPods, lost: str = "") -> Object:
    """Says that this job was stopped, or how it was `lost`. It outlives the RayJob: the id is never
    used again."""
    metadata: Object = {
        "name": name_of(submission_id),
        "namespace": pods.namespace,
        "labels": labels(submission_id, pods),
    }
    if lost:
        metadata["annotations"] = {LOST_ANNOTATION: lost}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def name_of(submission_id: str) -> str:
    """The name of all objects of one attempt. Raises `InternalError` for one that is none."""
    if len(submission_id) > _MAX_NAME or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", submission_id
    ):
        raise InternalError(f"{submission_id!r} is no name for an object of Kubernetes.")
    return submission_id


def labels(submission_id: str, pods: RunPods) -> dict[str, str]:
    return {
        "app.kubernetes.io/managed-by": MANAGED_BY,
        # By these two, network policies know the pods of runs.
        "app.kubernetes.io/part-of": "aiaas-hub",
        "app.kubernetes.io/component": "run",
        PLATFORM_LABEL: pods.platform,
        RUN_LABEL: submission_id.rpartition("-")[0],
        SUBMISSION_LABEL: submission_id,
    }


def selector(pods: RunPods, submission_id: str | None = None) -> str:
    """Of all this platform made, or of what belongs to one attempt."""
    platform = f"app.kubernetes.io/managed-by={MANAGED_BY},{PLATFORM_LABEL}={pods.platform}"
    return platform if submission_id is None else f"{platform},{SUBMISSION_LABEL}={submission_id}"


def owner_directory(owner: str) -> str:
    """Where an owner's checkpoints lie in the claim: of two owners it is never the same."""
    slug = re.sub(r"[^a-z0-9]+", "-", owner.lower()).strip("-")[:40]
    return f"{slug}-{hashlib.sha256(owner.encode()).hexdigest()[:16]}".lstrip("-")


def _storage(run_id: str) -> Path:
    return _RUNS / run_id / "storage"


def _metadata(job: JobSubmission, pods: RunPods) -> Object:
    return {
        "name": name_of(job.id),
        "namespace": pods.namespace,
        "labels": labels(job.id, pods),
        "annotations": {OWNER_ANNOTATION: job.owner},
    }


def _is_autoscaled(job: JobSubmission, pods: RunPods) -> bool:
    """A run of one training needs all its workers from its first step to its last."""
    return pods.autoscaled and job.concurrency > 1


def _head(job: JobSubmission, pods: RunPods) -> Object:
    resources = {"cpu": f"{pods.head_cpus:g}", "memory": pods.head_memory}
    template = _pod(job, pods, "ray-head", resources)
    if _is_autoscaled(job, pods):
        template["spec"]["volumes"].append(autoscaling.account())
    return {
        # Workers have nodes of their own, and the driver needs none of Ray's processors.
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - of its pod
        "template": template,
    }


def _workers(job: JobSubmission, pods: RunPods) -> Object:
    asked = job.resources
    resources = {"cpu": f"{asked.cpus_per_worker:g}", "memory": pods.worker_memory}
    start = {"num-cpus": str(math.ceil(asked.cpus_per_worker)), "num-gpus": "0"}
    nodes = pods.others
    if asked.gpus_per_worker:
        nodes = gpu_nodes = _gpu_nodes(job, pods)
        count = str(int(asked.gpus_per_worker))
        resources[gpu_nodes.resource] = start["num-gpus"] = count
    template = _pod(job, pods, "ray-worker", resources)
    if nodes.node_selector:
        template["spec"]["nodeSelector"] = dict(nodes.node_selector)
    template["spec"]["tolerations"] += [dict(one) for one in nodes.tolerations]
    most = asked.workers * job.concurrency
    least = asked.workers if _is_autoscaled(job, pods) else most
    return {
        "groupName": "workers",
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": start,
        "template": template,
    }


def _gpu_nodes(job: JobSubmission, pods: RunPods) -> GpuNodes:
    if pods.gpus is None:
        raise InvalidInput(
            "The run asks for GPUs, and this platform has no nodes with GPUs for runs.",
            remedy="Ask for none, or ask the operator to set "
            "c.ServiceConfig.kubernetes_gpu_profile.",
        )
    if job.resources.gpus_per_worker != int(job.resources.gpus_per_worker):
        raise InvalidInput(
            f"The run asks for {job.resources.gpus_per_worker:g} GPUs per worker, and a pod has "
            "whole ones.",
            remedy="Ask for a whole number of GPUs per worker.",
        )
    return pods.gpus


def _pod(job: JobSubmission, pods: RunPods, name: str, resources: dict[str, str]) -> Object:
    # GPUs are the worker's alone; what the step before it takes is not added to the pod's.
    plain = {unit: amount for unit, amount in resources.items() if unit in ("cpu", "memory")}
    environment = [
        {"name": key, "value": value}
        for key, value in {
            "AIAAS_ASSIGNMENT": assignment(job, pods).model_dump_json(),
            # A directory in the volume: that itself belongs to root.
            "AIAAS_NODE_CACHE": str(_CACHE / "node"),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A pod that takes another's place may wait for a node, and that for the image.
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
            **pods.environment,
        }.items()
    ]
    mounts = [
        {"name": "token", "mountPath": str(_TOKENS), "readOnly": True},
        {"name": "runs", "mountPath": str(_RUNS), "subPath": owner_directory(job.owner)},
        {"name": "cache", "mountPath": str(_CACHE)},
    ]

    def container(name: str, resources: dict[str, str], **more: Any) -> Object:
        return {
            "name": name,
            "image": pods.image,
            **more,
            "env": environment,
            "resources": {"requests": dict(resources), "limits": dict(resources)},
            "securityContext": confined(),
            "volumeMounts": mounts,
        }

    command = ["python", "-m", "aiaas_magics.runtime.node"]
    spec = {
        **_pod_rules(pods),
        "initContainers": [container("snapshot", plain, command=command)],
        "containers": [container(name, resources)],
        "volumes": [
            {"name": "token", "secret": {"secretName": name_of(job.id), "defaultMode": 0o440}},
            {"name": "runs", "persistentVolumeClaim": {"claimName": pods.storage_claim}},
            {"name": "cache", "emptyDir": {}},
        ],
    }
    return {"metadata": _pod_metadata(job, pods), "spec": spec}


def _submitter(job: JobSubmission, pods: RunPods) -> Object:
    """KubeRay adds the command: `ray job submit`, and the log until the job's end."""
    container = {
        "name": "ray-job-submitter",
        "image": pods.image,
        "env": [{"name": key, "value": value} for key, value in pods.environment.items()],
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "securityContext": confined(),
    }
    return {
        "metadata": _pod_metadata(job, pods),
        "spec": {
            **_pod_rules(pods),
            "affinity": {"podAffinity": _beside_head(job, pods)},
            "containers": [container],
        },
    }


def _beside_head(job: JobSubmission, pods: RunPods) -> Object:
    """Without what submitted it KubeRay gives a job up: where the head is, both live or neither."""
    key, _, value = HEAD.partition("=")
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {**labels(job.id, pods), key: value}},
    }
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term}
        ]
    }


def _pod_metadata(job: JobSubmission, pods: RunPods) -> Object:
    return {"labels": labels(job.id, pods), "annotations": {OWNER_ANNOTATION: job.owner}}


def _pod_rules(pods: RunPods) -> Object:
    rules: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "tolerations": _patience(pods),
        # A run has no business with the cluster's API.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if pods.pull_secrets:
        rules["imagePullSecrets"] = [{"name": name} for name in pods.pull_secrets]
    return rules


def _patience(pods: RunPods) -> list[Object]:
    """Else Kubernetes waits five minutes before it gives up the pods of a silent node."""
    return [
        {
            "key": f"node.kubernetes.io/{silence}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": pods.node_patience_seconds,
        }
        for silence in ("not-ready", "unreachable")
    ]
