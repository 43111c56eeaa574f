"""The training engine of a Kubernetes cluster: each attempt of a run is a RayJob of KubeRay, with a
Ray cluster of its own.

The service writes objects and reads their status; KubeRay's operator makes the pods. What a job
is known by is the name of its RayJob, so another process of the service finds it again. A job that
was stopped leaves a mark behind, since its RayJob is gone and its id must not start again; the mark
of one that was lost says how.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from aiaas_hub.adapters.kubernetes import client
from aiaas_hub.adapters.kubernetes.client import Cluster, Object
from aiaas_hub.adapters.kubernetes.run_manifests import (
    HEAD,
    LOST_ANNOTATION,
    QUEUE_LABEL,
    SUBMISSION_LABEL,
    name_of,
    rayjob,
    selector,
    stop_mark,
    token_secret,
)
from aiaas_hub.adapters.kubernetes.run_settings import RunPods
from aiaas_hub.adapters.kubernetes.waiting import pending_reason
from aiaas_hub.domain.ports import Capacity, JobState, JobStatus, JobSubmission
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState
from aiaas_hub.schemas.runs import Resources

NAME = "ray"
_HEALTH_SECONDS = 5.0
_MARKS_KEPT = timedelta(days=7)
_TIDY_SECONDS = 60.0
_ORPHANS_SPARED = timedelta(minutes=10)
"""A job is submitted before the records say so."""
_LOST_PODS = timedelta(seconds=60)
"""So long after its grace a pod that is being deleted is on a node that does not answer."""
_MAX_MESSAGE = 2000
_ASKED_PER_SECOND = 50.0
"""So often the API server is asked for jobs, however many there are: runs report their ends
themselves, and asking finds those that cannot."""
_FORGOTTEN_SECONDS = 600.0
_ENDED_ITSELF = ("AppFailed", "DeadlineExceeded", "ValidationFailed")
"""KubeRay's reasons for a failure that is the job's own; by any other it lost the job."""
_HEAD_REPLACED = "The pod of the Ray head that ran this was lost, and another took its place."

# What KubeRay says of a RayJob: its own state of the deployment, and Ray's of the job.
_WAITING = ("", "Initializing", "Waiting", "Suspended", "Suspending", "Retrying")
_STATES = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.ENDED,
    "STOPPED": JobState.STOPPED,
    "FAILED": JobState.FAILED,
}


class RayKubernetes:
    """`TrainingEngine` on KubeRay."""

    def __init__(self, cluster: Cluster, pods: RunPods) -> None:
        self._cluster = cluster
        self._pods = pods
        self._lock = threading.Lock()
        self._health: tuple[float, EngineHealth] | None = None
        self._tidied_at = -math.inf
        self._seen: dict[str, tuple[float, JobStatus]] = {}

    def start(self) -> None:
        """Nothing: whoever runs the cluster runs KubeRay."""

    def close(self) -> None:
        self._cluster.close()

    def health(self) -> EngineHealth:
        with self._lock:
            if self._health is None or time.monotonic() - self._health[0] >= _HEALTH_SECONDS:
                self._health = (time.monotonic(), self._examine())
            return self._health[1]

    def submit(self, job: JobSubmission) -> None:
        name, body = name_of(job.id), rayjob(job, self._pods)
        if self._cluster.get(client.CONFIG_MAPS, name) is not None:
            return  # it was stopped
        made = self._cluster.create(client.RAYJOBS, body) or self._rayjob(name)
        if made is None:
            raise Unavailable(
                f"The RayJob {name} is being deleted.", remedy="The run goes on when it is gone."
            )
        # After the RayJob, with which it goes: its pods wait for it.
        secret = token_secret(job, self._pods, str(made["metadata"]["uid"]))
        self._cluster.create(client.SECRETS, secret)

    def status(self, submission_id: str) -> JobStatus | None:
        """As it is, or with very many jobs as it was when its turn came last."""
        now = time.monotonic()
        seen = self._seen.get(submission_id)
        turn = len(self._seen) / _ASKED_PER_SECOND
        if seen is not None and turn > 1 and now - seen[0] < turn:
            return seen[1]
        found = self._ask(submission_id)
        if found is None:
            self._seen.pop(submission_id, None)
        else:
            self._seen[submission_id] = (now, found)
        return found

    def _ask(self, submission_id: str) -> JobStatus | None:
        name = name_of(submission_id)
        found = self._rayjob(name)
        if found is None:
            return self._stopped(submission_id)
        if found["metadata"].get("deletionTimestamp"):
            return JobStatus(JobState.RUNNING, "its pods are being ended")
        status = found.get("status") or {}
        deployment = status.get("jobDeploymentStatus", "")
        message = str(status.get("message") or "")[-_MAX_MESSAGE:]
        if deployment == "ValidationFailed":
            return JobStatus(JobState.FAILED, message)
        if deployment in _WAITING:
            return JobStatus(JobState.PENDING, self._waits_for(found))
        state = _STATES.get(status.get("jobStatus", ""), JobState.PENDING)
        if deployment == "Failed" and state is not JobState.STOPPED:
            # Whatever Ray said of the job last: its cluster is gone.
            reason = str(status.get("reason") or "")
            message = f"{reason}: {message}".strip(": ")
            if state is JobState.FAILED or reason in _ENDED_ITSELF:
                return JobStatus(JobState.FAILED, message)
            return JobStatus(JobState.LOST, f"The Ray cluster that ran this was lost ({message}).")
        if state is JobState.PENDING:
            message = self._waits_for(found)
        return JobStatus(state, message)

    def stop(self, submission_id: str) -> None:
        self._seen.pop(submission_id, None)
        name = name_of(submission_id)
        found = self._rayjob(name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        if (found.get("status") or {}).get("jobDeploymentStatus") in ("Complete", "Failed"):
            return
        self._cluster.create(client.CONFIG_MAPS, stop_mark(submission_id, self._pods))
        # KubeRay asks Ray to stop the job before it lets go of the RayJob.
        self._cluster.delete(client.RAYJOBS, name)

    def capacity(self) -> Capacity:
        # Others use the cluster too, and it may grow: its scheduler says what a job waits for.
        return Capacity(cpus=math.inf, gpus=math.inf if self._pods.gpus else 0)

    def tend(self, live: Callable[[], Collection[str]]) -> None:
        """No workers wait on a cluster of others. What is over and was kept for long enough goes,
        and so does a job that no run has any more, as after records were restored, and one whose
        head knows nothing of it."""
        if time.monotonic() - self._tidied_at < _TIDY_SECONDS:
            return
        self._tidied_at = now = time.monotonic()
        for name, (asked, _) in list(self._seen.items()):
            if now - asked >= _FORGOTTEN_SECONDS:
                self._seen.pop(name, None)
        mine = f"{selector(self._pods)},{SUBMISSION_LABEL}"
        jobs = self._cluster.items(client.RAYJOBS, labelSelector=mine)
        wanted = live()
        self._end_headless(jobs)
        for found in jobs:
            name, made = found["metadata"]["name"], found["metadata"]["creationTimestamp"]
            ended = (found.get("status") or {}).get("endTime")
            if ended and _past(ended, timedelta(seconds=self._pods.keep_seconds)):
                self._cluster.delete(client.RAYJOBS, name)
            elif not ended and name not in wanted and _past(made, _ORPHANS_SPARED):
                self.stop(name)
        for mark in self._cluster.items(client.CONFIG_MAPS, labelSelector=mine):
            if _past(mark["metadata"]["creationTimestamp"], _MARKS_KEPT):
                self._cluster.delete(client.CONFIG_MAPS, mark["metadata"]["name"])

    def _end_headless(self, jobs: Sequence[Object]) -> None:
        """KubeRay puts a new head where one was lost, which has no jobs. It learns that from what
        submitted the job, and from a node that fell silent that may never hear."""
        running = {
            found["metadata"]["name"]: began
            for found in jobs
            if (status := found.get("status") or {}).get("jobDeploymentStatus") == "Running"
            and (began := (status.get("rayJobInfo") or {}).get("startTime"))
        }
        if not running:
            return
        heads: dict[str, list[str]] = {}
        for pod in self._cluster.items(client.PODS, labelSelector=f"{selector(self._pods)},{HEAD}"):
            if not pod["metadata"].get("deletionTimestamp"):
                name = pod["metadata"]["labels"].get(SUBMISSION_LABEL, "")
                heads.setdefault(name, []).append(pod["metadata"]["creationTimestamp"])
        for name, began in running.items():
            if name in heads and all(_after(made, began) for made in heads[name]):
                mark = stop_mark(name, self._pods, _HEAD_REPLACED)
                self._cluster.create(client.CONFIG_MAPS, mark)
                self._cluster.delete(client.RAYJOBS, name)

    def warm(self, resources: Resources) -> bool:
        return False

    def _rayjob(self, name: str) -> Object | None:
        return self._cluster.get(client.RAYJOBS, name)

    def _stopped(self, submission_id: str) -> JobStatus | None:
        """Of a job without a RayJob: it is over once its pods are."""
        mark = self._cluster.get(client.CONFIG_MAPS, name_of(submission_id))
        if mark is None:
            return None
        if any(_lives(pod) for pod in self._job_pods(submission_id)):
            return JobStatus(JobState.RUNNING, "its pods are being ended")
        if lost := (mark["metadata"].get("annotations") or {}).get(LOST_ANNOTATION):
            return JobStatus(JobState.LOST, lost)
        return JobStatus(JobState.STOPPED)

    def _job_pods(self, submission_id: str) -> Sequence[Object]:
        return self._cluster.items(client.PODS, labelSelector=selector(self._pods, submission_id))

    def _waits_for(self, found: Object) -> str:
        name = found["metadata"]["name"]
        workloads: Sequence[Object] = ()
        if found["spec"].get("suspend") and QUEUE_LABEL in found["metadata"].get("labels", {}):
            workloads = [
                one
                for one in self._cluster.items(client.WORKLOADS)
                if any(
                    owner["kind"] == "RayJob" and owner["name"] == name
                    for owner in one["metadata"].get("ownerReferences", [])
                )
            ]
        pods = [pod for pod in self._job_pods(name) if _lives(pod)]
        return pending_reason(found, pods, self._warnings(found), workloads)

    def _warnings(self, found: Object) -> Sequence[str]:
        """What the cluster's events hold against the job and its Ray cluster."""
        names = [found["metadata"]["name"], (found.get("status") or {}).get("rayClusterName")]
        events = [
            event
            for name in filter(None, names)
            for event in self._cluster.items(
                client.EVENTS, fieldSelector=f"involvedObject.name={name},type=Warning"
            )
        ]
        events.sort(key=lambda event: event.get("lastTimestamp") or "")
        return [str(event.get("message", "")) for event in events]

    def _examine(self) -> EngineHealth:
        try:
            found = self._cluster.answers(client.RAYJOBS)
        except Unavailable as error:
            return EngineHealth(name=NAME, state=EngineState.UNAVAILABLE, reason=error.message)
        if not found:
            return EngineHealth(
                name=NAME,
                state=EngineState.UNAVAILABLE,
                reason="The Kubernetes cluster has no KubeRay: it does not know RayJobs.",
            )
        return EngineHealth(name=NAME, state=EngineState.READY)


def _lives(pod: Object) -> bool:
    """Whether a pod may still run something."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    ends = pod["metadata"].get("deletionTimestamp")
    return ends is None or not _past(ends, _LOST_PODS)


def _after(moment: str, other: str) -> bool:
    return datetime.fromisoformat(moment) > datetime.fromisoformat(other)


def _past(moment: str, after: timedelta) -> bool:
    """Whether so much time has passed since the moment, in Kubernetes' spelling."""
    return datetime.now(UTC) - datetime.fromisoformat(moment) >= after
