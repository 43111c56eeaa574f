"""One pod on a node: its containers' lives, and its status as the API server is told."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil

from .api import CORE, KubeApi, Object, Refused
from .clock import now
from .container import Container
from .environment import GPU, Missing, Surroundings

STEP_SECONDS = 0.15
MOUNTS_SECONDS = 60.0
"""So often a pod that nobody changed has its mounts looked at."""


class Addresses:
    """Pod addresses of this bed, and the GPUs of each node: each is held by one pod at a time."""

    def __init__(self, network: str) -> None:
        self.network = network
        self._lock = threading.Lock()
        self._held: dict[str, str] = {}
        self._gpus: dict[tuple[str, int], str] = {}

    def take(self, uid: str) -> str:
        with self._lock:
            free = (
                f"{self.network}.{third}.{fourth}"
                for third in range(1, 250)
                for fourth in range(1, 250)
            )
            address = next(one for one in free if one not in self._held)
            self._held[address] = uid
            return address

    def take_gpus(self, uid: str, node: str, count: int) -> list[int]:
        with self._lock:
            free = [index for index in range(64) if (node, index) not in self._gpus][:count]
            self._gpus |= {(node, index): uid for index in free}
            return free

    def release(self, uid: str) -> None:
        with self._lock:
            self._held = {ip: holder for ip, holder in self._held.items() if holder != uid}
            self._gpus = {gpu: holder for gpu, holder in self._gpus.items() if holder != uid}


class Pod:
    """`deleted` is set when the API server wants it gone, `lost` when its node is."""

    def __init__(self, api: KubeApi, pod: Object, state: Path, addresses: Addresses) -> None:
        self.name = str(pod["metadata"]["name"])
        self.thread = threading.Thread(target=self._run, daemon=True, name=self.name)
        self.api = api
        self.pod = pod
        self.uid = str(pod["metadata"]["uid"])
        self.spec: Object = pod["spec"]
        self.path = f"{CORE}/namespaces/{pod['metadata']['namespace']}/pods/{self.name}"
        self.deleted = threading.Event()
        self.lost = threading.Event()
        self.phase = "Pending"
        self._addresses = addresses
        self._began = now()
        self._initialized = False
        self._why: tuple[str, str] | None = None
        self._sent = ""
        self._mounts_due = time.monotonic() + MOUNTS_SECONDS
        self._changes: dict[str, tuple[bool, str]] = {}
        directory = state / self.uid
        directory.mkdir(parents=True, exist_ok=True)
        node = self.spec["nodeName"]
        gpus = addresses.take_gpus(self.uid, node, _gpus(self.spec))
        around = Surroundings(api, pod, state, directory, addresses.take(self.uid), gpus)
        self.around = around
        init = self.spec.get("initContainers", [])
        waiting = "PodInitializing" if init else "ContainerCreating"
        self.init = [Container(spec, around, self._event, waiting) for spec in init]
        self.main = [
            Container(spec, around, self._event, waiting) for spec in self.spec["containers"]
        ]

    def see(self, pod: Object) -> None:
        """What the API server has of it now. A pod that was changed has its mounts looked at."""
        marks = [one["metadata"].get("annotations") for one in (self.pod, pod)]
        self.pod = pod
        if marks[0] != marks[1]:
            self._mounts_due = 0.0

    def log(self, container: str) -> Path | None:
        found = [one.log for one in (*self.init, *self.main) if one.name == container]
        return found[0] if found and found[0].exists() else None

    def _run(self) -> None:
        try:
            self._live()
            self.deleted.wait()
            self._finish()
        finally:
            self._addresses.release(self.uid)

    def _over(self) -> bool:
        return self.deleted.is_set() or self.lost.is_set()

    def _live(self) -> None:
        if self.pod["status"].get("phase") == "Running":
            # From before this kubelet started: its processes are gone.
            return self._fail("NodeLost", "the kubelet was restarted")
        self._push()
        restart = self.spec.get("restartPolicy", "Always")
        if not self._initialize(restart):
            return None
        self._initialized = True
        limit = self.spec.get("activeDeadlineSeconds")
        begun = time.monotonic()
        while not self._over():
            self._follow_mounts()
            codes = [container.step(restart) for container in self.main]
            if all(code is not None for code in codes):
                self.phase = "Failed" if any(codes) else "Succeeded"
            elif limit and time.monotonic() - begun > limit:
                self._kill(5)
                return self._fail("DeadlineExceeded", "Pod was active longer than its deadline")
            elif self.phase == "Pending" and any(one.started for one in self.main):
                self.phase = "Running"
            self._push()
            if self.phase in ("Succeeded", "Failed"):
                return self._settle()
            self.deleted.wait(STEP_SECONDS)
        return None

    def _follow_mounts(self) -> None:
        if time.monotonic() < self._mounts_due or self.phase != "Running":
            return
        self._mounts_due = time.monotonic() + MOUNTS_SECONDS
        try:
            self.around.refresh()
        # What was mounted stays.
        except (httpx.HTTPError, Refused, Missing) as error:
            self._complain("mounts", error)

    def _initialize(self, restart: str) -> bool:
        """Run the init containers in turn; whether the others may start."""
        for container in self.init:
            while True:
                if self._over():
                    return False
                code = container.step("Never" if restart == "Never" else "OnFailure")
                if code == 0:
                    container.ready = True
                self._push()
                if code == 0:
                    break
                if code is not None:
                    self.phase = "Failed"
                    self._settle()
                    return False
                time.sleep(STEP_SECONDS)
        return True

    def _fail(self, reason: str, message: str) -> None:
        self.phase, self._why = "Failed", (reason, message)
        self._settle()

    def _settle(self) -> None:
        """The last word must arrive, however long the API server is away."""
        while not self._push() and not self._over():
            self.deleted.wait(1)

    def _kill(self, grace: float) -> None:
        containers = [*self.init, *self.main]
        family = [one for container in containers for one in container.family()]
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            for container in containers:
                container.signal(number)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not all(one.gone() for one in containers):
                time.sleep(0.05)
        for container in containers:
            # Children that outlived the leader.
            container.signal(signal.SIGKILL)
            container.reap()
        for process in family:
            # Those in sessions of their own too: with a container all of its processes end.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _finish(self) -> None:
        if self.lost.is_set():
            return self._kill(0)
        ends = time.monotonic() + float(self.pod["metadata"].get("deletionGracePeriodSeconds", 30))
        for hook in [hook for container in self.main if (hook := container.leave())]:
            try:
                hook.wait(max(0.0, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                hook.kill()
        # As a kubelet: who took all of the grace before gets two seconds more.
        self._kill(max(2.0, ends - time.monotonic()))
        self._push()
        preconditions = {"preconditions": {"uid": self.uid}}
        try:
            self.api.delete(self.path, gracePeriodSeconds=0, **preconditions)
        except Refused as refused:
            if refused.code not in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
                raise
        shutil.rmtree(self.around.directory / "volumes", ignore_errors=True)
        return None

    def _push(self) -> bool:
        """Tell the API server the status if it changed; whether it knows it now."""
        body = json.dumps(status := self._status(), sort_keys=True)
        if body == self._sent or self.lost.is_set():
            return True
        patch = {"metadata": {"uid": self.uid}, "status": status}
        try:
            self.api.patch(f"{self.path}/status", patch, "strategic")
        except Refused as refused:
            if refused.code == httpx.codes.NOT_FOUND:
                self.deleted.set()
                return True
            self._complain("status", refused)
            return False
        except httpx.HTTPError as error:
            self._complain("status", error)
            return False
        self._sent = body
        return True

    def _status(self) -> Object:
        ready = self.phase == "Running" and all(one.ready for one in self.main)
        unready = "PodCompleted" if self.phase == "Succeeded" else "ContainersNotReady"
        status: Object = {
            "phase": self.phase,
            "hostIP": "127.0.0.1",
            "podIP": self.around.ip,
            "podIPs": [{"ip": self.around.ip}],
            "startTime": self._began,
            "containerStatuses": [one.status() for one in self.main],
            "initContainerStatuses": [one.status() for one in self.init],
            "conditions": [
                self._condition("Initialized", self._initialized, "ContainersNotInitialized"),
                self._condition("Ready", ready, unready),
                self._condition("ContainersReady", ready, unready),
                self._condition("PodScheduled", True, ""),
            ],
        }
        if self._why:
            status["reason"], status["message"] = self._why
        return status

    def _condition(self, kind: str, holds: bool, reason: str) -> Object:
        if kind not in self._changes or self._changes[kind][0] != holds:
            self._changes[kind] = (holds, now())
        found = {
            "type": kind,
            "status": str(holds),
            "lastTransitionTime": self._changes[kind][1],
        }
        return found if holds else found | {"reason": reason}

    def _event(self, kind: str, reason: str, message: str, container: str) -> None:
        metadata = self.pod["metadata"]
        event = {
            "metadata": {"generateName": f"{self.name}."},
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "source": {"component": "kubelet", "host": self.spec["nodeName"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": self.name,
                "uid": self.uid,
                "fieldPath": f"spec.containers{{{container}}}",
            },
        }
        try:
            self.api.create(f"{CORE}/namespaces/{metadata['namespace']}/events", event)
        # As a kubelet does: an event is told once or never.
        except (httpx.HTTPError, Refused) as error:
            self._complain("event", error)

    def _complain(self, what: str, error: Exception) -> None:
        print(now(), self.name, what, repr(error)[:300], file=sys.stderr, flush=True)


def _gpus(spec: Object) -> int:
    limits = [one.get("resources", {}).get("limits", {}) for one in spec["containers"]]
    return sum(int(one.get(GPU, 0)) for one in limits)
