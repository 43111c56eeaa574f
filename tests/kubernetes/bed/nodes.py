"""The bed's nodes: two with CPUs, and a tainted one with four GPUs."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .api import CORE, KubeApi, Object, Refused
from .clock import micro_now, now

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
BEAT_SECONDS = 4.0


@dataclass(frozen=True)
class Node:
    name: str
    capacity: dict[str, str]
    labels: dict[str, str]
    taints: list[dict[str, str]] = field(default_factory=list)


NODES = [
    Node("cpu-1", {"cpu": "8", "memory": "32Gi"}, {"pool": "cpu"}),
    Node("cpu-2", {"cpu": "4", "memory": "16Gi"}, {"pool": "cpu"}),
    Node(
        "gpu-1",
        {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu": "4"},
        {
            "pool": "gpu",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        },
        [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
    ),
]


def node_object(node: Node, kubelet_port: int) -> Object:
    return {
        "metadata": {
            "name": node.name,
            "labels": {
                **node.labels,
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": node.taints},
        **node_status(node, kubelet_port),
    }


def node_status(node: Node, kubelet_port: int) -> Object:
    capacity = {"pods": "110", "ephemeral-storage": "100Gi", **node.capacity}
    time = now()

    def condition(kind: str, value: str, reason: str) -> dict[str, Any]:
        return {"type": kind, "status": value, "reason": reason, "lastHeartbeatTime": time}

    return {
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": node.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "kubeletVersion": "v1.20.2",
                "kubeProxyVersion": "v1.20.2",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "containerRuntimeVersion": "process://1",
                "osImage": "processes",
                "kernelVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
            "conditions": [
                condition("Ready", "True", "KubeletReady"),
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            ],
        }
    }


def lost_nodes(state: Path) -> set[str]:
    """Nodes that a test took the power from: a file of its name says so."""
    return {path.name for path in (state / "lost").glob("*")}


def beat(api: KubeApi, state: Path, kubelet_port: int, stop: threading.Event) -> None:
    """Register the nodes and say that they live, until `stop`."""
    while True:
        for node in NODES:
            if node.name in lost_nodes(state):
                continue
            try:
                _register(api, node, kubelet_port)
                _renew(api, node)
            # The API server may be away: nodes go on and report when it is back.
            except (httpx.HTTPError, Refused) as error:
                print(node.name, repr(error)[:300], file=sys.stderr, flush=True)
        if stop.wait(BEAT_SECONDS):
            return


def _register(api: KubeApi, node: Node, kubelet_port: int) -> None:
    try:
        status = node_status(node, kubelet_port)
        api.patch(f"{CORE}/nodes/{node.name}/status", status, "strategic")
    except Refused as refused:
        if refused.code != httpx.codes.NOT_FOUND:
            raise
        api.create(f"{CORE}/nodes", node_object(node, kubelet_port))


def _renew(api: KubeApi, node: Node) -> None:
    spec = {
        "holderIdentity": node.name,
        "leaseDurationSeconds": 40,
        "renewTime": micro_now(),
    }
    try:
        api.patch(f"{LEASES}/{node.name}", {"spec": spec})
    except Refused as refused:
        if refused.code != httpx.codes.NOT_FOUND:
            raise
        api.create(LEASES, {"metadata": {"name": node.name}, "spec": spec})
