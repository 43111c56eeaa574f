"""What pods on Kubernetes wait for, in words. Pure: objects in, a sentence out.

The words of the cluster's own parts are kept where they say what a user can act on: which quota,
which image, what no node has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiaas_hub.adapters.kubernetes.run_manifests import QUEUE_LABEL

Object = dict[str, Any]

OPERATOR_PATIENCE = timedelta(seconds=30)
"""After so long a job without any status was seen by no operator."""
_UNPULLABLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_UNSTARTABLE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_MAX_WORDS = 500


def pending_reason(
    rayjob: Object,
    pods: Sequence[Object],
    warnings: Sequence[str] = (),
    workloads: Sequence[Object] = (),
) -> str:
    """`pods` of the job, `warnings` of its Ray cluster's events in order, and Kueue's `workloads`
    for it."""
    for sentence in _reasons(rayjob, pods, warnings, workloads):
        return sentence
    running = sum(is_ready(pod) for pod in pods)
    return f"starting pods: {running} of {len(pods)} are ready" if pods else "starting pods"


def _reasons(
    rayjob: Object, pods: Sequence[Object], warnings: Sequence[str], workloads: Sequence[Object]
) -> Iterator[str]:
    if rayjob["spec"].get("suspend"):
        yield _queued(rayjob, workloads)
    yield from pod_reasons(pods)
    for words in (_not_made(rayjob), *reversed(warnings)):
        if quota := re.search(r"exceeded quota: (.+)", words):
            yield f"the namespace's quota is used up: {_short(quota[1])}"
        elif words:
            yield f"its pods cannot be made: {_short(words)}"
    if not rayjob.get("status", {}).get("jobDeploymentStatus") and _age(rayjob) > OPERATOR_PATIENCE:
        yield "no KubeRay operator has taken it up; see that one runs and watches this namespace"


def pod_reasons(pods: Sequence[Object]) -> Iterator[str]:
    """Why pods do not start, the most telling first."""
    for name, container, waiting in _waiting(pods):
        reason, words = waiting.get("reason", ""), _short(waiting.get("message", ""))
        if reason in _UNPULLABLE:
            yield f"the image {container['image']} cannot be pulled: {words or reason}"
        elif reason in _UNSTARTABLE:
            yield f"the pod {name} cannot start: {words or reason}"
        elif reason == "CrashLoopBackOff":
            yield f"the container {container['name']} of pod {name} fails again and again"
    homeless = [found for pod in pods if (found := _unschedulable(pod)) is not None]
    if homeless:
        yield f"{len(homeless)} of {len(pods)} pods fit on no node: {_short(homeless[0])}"


def _queued(rayjob: Object, workloads: Sequence[Object]) -> str:
    queue = rayjob["metadata"].get("labels", {}).get(QUEUE_LABEL, "")
    for workload in workloads:
        for condition in workload.get("status", {}).get("conditions", []):
            if condition["type"] == "QuotaReserved" and condition["status"] != "True":
                return f"waits in the queue {queue}: {_short(condition.get('message', ''))}"
    return f"waits in the queue {queue}" if queue else "suspended by whoever runs the cluster"


def _waiting(pods: Sequence[Object]) -> Iterator[tuple[str, Object, Object]]:
    for pod in pods:
        status = pod.get("status", {})
        for kind in ("initContainerStatuses", "containerStatuses"):
            for container in status.get(kind) or []:
                if waiting := (container.get("state") or {}).get("waiting"):
                    yield pod["metadata"]["name"], container, waiting


def _unschedulable(pod: Object) -> str | None:
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return str(condition.get("message", ""))
    return None


def _not_made(rayjob: Object) -> str:
    """What KubeRay says of pods that it could not create."""
    cluster = rayjob.get("status", {}).get("rayClusterStatus") or {}
    for condition in cluster.get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", ""))
    return ""


def is_ready(pod: Object) -> bool:
    """Whether the cluster counts a pod as ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _age(rayjob: Object) -> timedelta:
    made = rayjob["metadata"].get("creationTimestamp")
    return datetime.now(UTC) - datetime.fromisoformat(made) if made else timedelta()


def _short(words: str) -> str:
    words = " ".join(words.split()).rstrip(".")
    return words if len(words) <= _MAX_WORDS else f"{words[:_MAX_WORDS]}…"
