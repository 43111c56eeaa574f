"""Plays KubeRay's operator on the bed: a RayJob becomes a Ray cluster of pods and a submitter, and
its status says what became of them, as the CustomResourceDefinition has it.

Unlike on a cluster all nodes are one machine without Services: every `ray start` has ports of its
own, and workers are made once the head's are known.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import shlex
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from bed.api import CORE, KubeApi, Object, Refused
from bed.controller import Controller

from aiaas_hub.loopback import free_ports

JOBS = "/apis/ray.io/v1/namespaces/{}/rayjobs"
CLUSTERS = "/apis/ray.io/v1/namespaces/{}/rayclusters"
BATCH = "/apis/batch/v1/namespaces/{}/jobs"
FINALIZER = "ray.io/rayjob-finalizer"
POD_IP = "0.0.0.0"  # noqa: S104 - the bed puts the pod's own address in its place
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
RAY = f"{sys.executable} {Path(__file__).with_name('patient_ray.py')}"


def moment(timestamp: float | None = None) -> str:
    """Seconds since 1970; now by default."""
    found = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


class RayOperator(Controller):
    def __init__(self, api: KubeApi, namespace: str, scratch: Path) -> None:
        """`scratch`: a short path, below which Ray has its sockets."""
        super().__init__(api, JOBS.format(namespace))
        self._namespace = namespace
        self._scratch = scratch
        self._ports: dict[str, list[int]] = {}
        self._heads: dict[str, str] = {}

    def _reconcile(self, job: Object) -> None:
        name, status = job["metadata"]["name"], job.get("status") or {}
        if job["metadata"].get("deletionTimestamp"):
            self._let_go(job)
        elif status.get("jobDeploymentStatus") in ("Complete", "Failed"):
            if job["spec"].get("shutdownAfterJobFinishes"):
                self._end_cluster(status)
        elif job["spec"].get("suspend"):
            self._say(job, jobDeploymentStatus="Suspended")
        elif "rayClusterName" not in status:
            finalizers = [*job["metadata"].get("finalizers", []), FINALIZER]
            path = f"{JOBS.format(self._namespace)}/{name}"
            self._api.patch(path, {"metadata": {"finalizers": list(dict.fromkeys(finalizers))}})
            cluster = f"{name}-{secrets.token_hex(2)}"
            said = {"jobDeploymentStatus": "Initializing", "startTime": moment()}
            self._say(job, jobId=job["spec"]["jobId"], rayClusterName=cluster, **said)
        elif status["jobDeploymentStatus"] == "Initializing":
            self._initialize(job)
        else:
            self._follow(job)

    def _let_go(self, job: Object) -> None:
        status = job.get("status") or {}
        if status.get("jobStatus") not in TERMINAL and status.get("dashboardURL"):
            with contextlib.suppress(httpx.HTTPError):
                self._dashboard(job, "POST", "/stop")
        path = f"{JOBS.format(self._namespace)}/{job['metadata']['name']}"
        kept = [one for one in job["metadata"].get("finalizers", []) if one != FINALIZER]
        self._api.patch(path, {"metadata": {"finalizers": kept}})
        self._end_cluster(status)

    def _end_cluster(self, status: Object) -> None:
        cluster = status.get("rayClusterName")
        if not cluster:
            return
        path = f"{CLUSTERS.format(self._namespace)}/{cluster}"
        if self._api.find(path) is None:
            return
        for pod in self._pods(cluster):
            if not pod["metadata"].get("deletionTimestamp"):
                with contextlib.suppress(Refused):
                    self._api.delete(self._pod_path(pod["metadata"]["name"]))
        self._api.delete(path, propagationPolicy="Background")

    def _initialize(self, job: Object) -> None:
        cluster = job["status"]["rayClusterName"]
        try:
            ready = self._make_cluster(job, cluster)
        except Refused as refused:
            if refused.code != httpx.codes.FORBIDDEN:
                raise
            condition = {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreatePod",
                "message": refused.text,
                "lastTransitionTime": moment(),
            }
            self._say(job, rayClusterStatus={"conditions": [condition]})
            return
        if ready:
            self._submit(job)
            self._say(
                job,
                jobDeploymentStatus="Running",
                jobStatus="PENDING",
                dashboardURL=f"{self._heads[cluster]}:{self._ports[cluster][1]}",
                rayClusterStatus={"state": "ready", "conditions": []},
            )

    def _make_cluster(self, job: Object, cluster: str) -> bool:
        """Whether all its pods are ready."""
        spec = job["spec"]["rayClusterSpec"]
        path = f"{CLUSTERS.format(self._namespace)}/{cluster}"
        made = self._api.find(path)
        if made is None:
            made = self._api.create(
                CLUSTERS.format(self._namespace),
                {
                    "apiVersion": "ray.io/v1",
                    "kind": "RayCluster",
                    "metadata": {
                        "name": cluster,
                        "labels": job["metadata"]["labels"],
                        "ownerReferences": [_owner(job, "RayJob", "ray.io/v1")],
                    },
                    "spec": spec,
                },
            )
            token = base64.b64encode(secrets.token_hex(16).encode()).decode()
            secret = {
                "metadata": {
                    "name": cluster,
                    "ownerReferences": [_owner(made, "RayCluster", "ray.io/v1")],
                },
                "data": {"auth_token": token},
            }
            self._api.create(f"{CORE}/namespaces/{self._namespace}/secrets", secret)
        return self._make_pods(made, spec)

    def _make_pods(self, cluster: Object, spec: Object) -> bool:
        name = cluster["metadata"]["name"]
        ports = self._ports.setdefault(name, free_ports(5))
        # Those that are being deleted count no more: on a node that is lost they stay for ever.
        pods = [pod for pod in self._pods(name) if not pod["metadata"].get("deletionTimestamp")]
        for over in [pod for pod in pods if pod["status"]["phase"] == "Failed"]:
            # As KubeRay does with pods that do not restart themselves.
            self._api.delete(self._pod_path(over["metadata"]["name"]))
        heads, workers = (
            [pod for pod in pods if pod["metadata"]["labels"]["ray.io/node-type"] == kind]
            for kind in ("head", "worker")
        )
        if not heads:
            group = spec["headGroupSpec"]
            self._make_pod(cluster, "head", group, self._head_command(ports, group))
            return False
        head = heads[0]
        ip = self._heads[name] = head["status"].get("podIP", "")
        # Not whether it is ready: while a node is silent, none of its pods is.
        if head["status"]["phase"] != "Running" or not _listens(ip, ports[0]):
            return False
        (group,) = spec["workerGroupSpecs"]
        nodes = self._nodes(name, f"{ip}:{ports[1]}")
        # One after the other: those of a cluster have machines of their own, and a raylet whose
        # agent takes longer than 15 s to start gives up.
        if len(workers) < group["replicas"] and nodes > len(workers):
            command = self._worker_command(f"{ip}:{ports[0]}", group)
            self._make_pod(cluster, "worker", group, command)
            return False
        return (
            len(workers) == group["replicas"]
            and all(map(_ready, workers))
            and nodes == 1 + len(workers)
        )

    def _head_command(self, ports: list[int], group: Object) -> str:
        gcs, dashboard, agent, client, grpc = ports
        return (
            f"exec {RAY} start --head --block --node-ip-address={POD_IP} --port={gcs} "
            f"--dashboard-host={POD_IP} --dashboard-port={dashboard} --include-dashboard=true "
            f"--dashboard-agent-listen-port={agent} --ray-client-server-port={client} "
            f"--dashboard-agent-grpc-port={grpc} {self._directory(gcs)} --no-monitor "
            f"--object-store-memory=200000000 --disable-usage-stats {_processors(group)}"
        )

    def _worker_command(self, address: str, group: Object) -> str:
        agent, grpc = free_ports(2)
        return (
            f"exec {RAY} start --block --address={address} "
            f"--node-ip-address={POD_IP} --dashboard-agent-listen-port={agent} "
            f"--dashboard-agent-grpc-port={grpc} {self._directory(agent)} "
            f"--object-store-memory=200000000 --disable-usage-stats {_processors(group)}"
        )

    def _directory(self, port: int) -> str:
        """Each pod has one of its own, as on a cluster: nodes that share one take each other's
        sockets, address and logs."""
        return f"--temp-dir={self._scratch / str(port)}"

    def _make_pod(self, cluster: Object, kind: str, group: Object, command: str) -> None:
        template = group["template"]
        spec = {**template["spec"]}
        first, *others = spec["containers"]
        spec["containers"] = [
            {
                **first,
                "command": ["/bin/bash", "-c", "--"],
                "args": [command],
                "env": [*first.get("env", []), *_authentication(cluster["metadata"]["name"])],
            },
            *others,
        ]
        labels = {
            **template["metadata"].get("labels", {}),
            "ray.io/cluster": cluster["metadata"]["name"],
            "ray.io/node-type": kind,
        }
        owner = _owner(cluster, "RayCluster", "ray.io/v1")
        name = f"{cluster['metadata']['name']}-{kind}-"
        metadata = {**template["metadata"], "generateName": name, "labels": labels}
        pod = {"metadata": {**metadata, "ownerReferences": [owner]}, "spec": spec}
        self._api.create(f"{CORE}/namespaces/{self._namespace}/pods", pod)

    def _submit(self, job: Object) -> None:
        name, spec = job["metadata"]["name"], job["spec"]
        cluster = job["status"]["rayClusterName"]
        address = f"--address http://{self._heads[cluster]}:{self._ports[cluster][1]}"
        jid, entry = shlex.quote(spec["jobId"]), spec["entrypoint"]
        ray = f"{RAY} job"
        script = (
            f"if ! {ray} status {address} {jid} >/dev/null 2>&1; then "
            f"{ray} submit {address} --no-wait --submission-id {jid} -- {entry}; fi; "
            f"{ray} logs {address} --follow {jid}"
        )
        template = spec["submitterPodTemplate"]
        (container,) = template["spec"]["containers"]
        pod = {
            **template["spec"],
            "containers": [
                {
                    **container,
                    "command": ["/bin/bash", "-ce", "--"],
                    "args": [script],
                    "env": [*container.get("env", []), *_authentication(cluster)],
                }
            ],
        }
        with contextlib.suppress(Refused):  # it was made before the status could be written
            self._api.create(
                BATCH.format(self._namespace),
                {
                    "metadata": {
                        "name": name,
                        "labels": job["metadata"]["labels"],
                        "ownerReferences": [_owner(job, "RayJob", "ray.io/v1")],
                    },
                    "spec": {
                        "backoffLimit": spec["submitterConfig"]["backoffLimit"],
                        "template": {"metadata": template["metadata"], "spec": pod},
                    },
                },
            )

    def _follow(self, job: Object) -> None:
        """Ray's word on a job that was submitted; and pods that died come again."""
        cluster = self._api.find(
            f"{CLUSTERS.format(self._namespace)}/{job['status']['rayClusterName']}"
        )
        if cluster is not None:
            self._make_pods(cluster, job["spec"]["rayClusterSpec"])
        submitter = self._api.find(f"{BATCH.format(self._namespace)}/{job['metadata']['name']}")
        try:
            answer = self._dashboard(job, "GET", "")
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.is_success:
            found = answer.json()
            state = found["status"]
            said: dict[str, Any] = {"jobStatus": state, "message": found.get("message") or ""}
            if began := found.get("start_time"):
                said["rayJobInfo"] = {"startTime": moment(began / 1000)}
            if state in TERMINAL:
                failed = state == "FAILED"
                said["jobDeploymentStatus"] = "Failed" if failed else "Complete"
                said["endTime"] = moment()
                if failed:
                    said["reason"] = "AppFailed"
            self._say(job, **said)
            if state in TERMINAL:
                return
        if submitter is not None and submitter.get("status", {}).get("failed"):
            self._say(
                job,
                jobDeploymentStatus="Failed",
                reason="SubmissionFailed",
                message="The submitter failed.",
                endTime=moment(),
            )

    def _dashboard(self, job: Object, method: str, more: str) -> httpx.Response:
        cluster = job["status"]["rayClusterName"]
        url = f"http://{job['status']['dashboardURL']}/api/jobs/{job['spec']['jobId']}{more}"
        headers = {"Authorization": f"Bearer {self._token(cluster)}"}
        return httpx.request(method, url, headers=headers, timeout=10, trust_env=False)

    def _token(self, cluster: str) -> str:
        secret = self._api.find(f"{CORE}/namespaces/{self._namespace}/secrets/{cluster}") or {}
        return base64.b64decode(secret.get("data", {}).get("auth_token", "")).decode()

    def _nodes(self, cluster: str, address: str) -> int:
        headers = {"Authorization": f"Bearer {self._token(cluster)}"}
        url = f"http://{address}/nodes?view=summary"
        try:
            found = httpx.get(url, headers=headers, timeout=10, trust_env=False)
            summary = found.json()["data"]["summary"]
        except (httpx.HTTPError, ValueError, KeyError):
            return 0
        return sum(one.get("raylet", {}).get("state") == "ALIVE" for one in summary)

    def _say(self, job: Object, **status: Any) -> None:
        old = job.get("status") or {}
        if all(old.get(key) == value for key, value in status.items()):
            return
        path = f"{JOBS.format(self._namespace)}/{job['metadata']['name']}/status"
        self._api.patch(path, {"status": status})

    def _pods(self, cluster: str) -> list[Object]:
        pods = f"{CORE}/namespaces/{self._namespace}/pods"
        return self._api.items(pods, labelSelector=f"ray.io/cluster={cluster}")

    def _pod_path(self, name: str) -> str:
        return f"{CORE}/namespaces/{self._namespace}/pods/{name}"


def _processors(group: Object) -> str:
    start = group["rayStartParams"]
    return f"--num-cpus={start['num-cpus']} --num-gpus={start['num-gpus']}"


def _authentication(cluster: str) -> list[Object]:
    reference = {"secretKeyRef": {"name": cluster, "key": "auth_token"}}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": reference},
    ]


def _owner(found: Object, kind: str, version: str) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "name": found["metadata"]["name"],
        "uid": found["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _listens(ip: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ip, port)) == 0
