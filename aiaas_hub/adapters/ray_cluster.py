"""The training engine of a Ray cluster that exists already, through its Jobs API.

Its nodes have this distribution installed, see the directory of the runs at the same path, and
reach the service. Nothing waits there in advance: each run starts its driver.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection
from pathlib import Path

from aiaas_hub.adapters import assigned
from aiaas_hub.adapters.ray_jobs import RayJobs
from aiaas_hub.domain.ports import Capacity, JobState, JobStatus, JobSubmission
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState
from aiaas_hub.schemas.runs import Resources

NAME = "ray"


class RayCluster:
    """`TrainingEngine` on somebody else's head. `storage` is a directory that service and cluster
    share; `api_url` is the service as the cluster reaches it."""

    def __init__(self, jobs: RayJobs, storage: Path, api_url: str, address: str) -> None:
        self._jobs = jobs
        self._storage = storage
        self._api_url = api_url
        self._address = address

    def start(self) -> None:
        """Nothing: whoever runs the cluster starts it."""

    def health(self) -> EngineHealth:
        if self._jobs.answers():
            return EngineHealth(name=NAME, state=EngineState.READY)
        return EngineHealth(
            name=NAME,
            state=EngineState.UNAVAILABLE,
            reason=f"The Ray cluster at {self._address} does not answer.",
        )

    def submit(self, job: JobSubmission) -> None:
        if not self._jobs.answers():
            raise Unavailable(
                f"The Ray cluster at {self._address} does not answer.",
                remedy="The run goes on as soon as it does.",
            )
        assigned.forget_tokens(self._storage, self._live)
        assignment = assigned.make(self._storage, job, self._api_url)
        told = shlex.quote(assignment.model_dump_json())
        self._jobs.submit(
            job.id,
            f"AIAAS_ASSIGNMENT={told} exec python -m aiaas_magics.runtime.driver",
            {"owner": job.owner},
        )

    def status(self, submission_id: str) -> JobStatus | None:
        return self._jobs.status(submission_id)

    def stop(self, submission_id: str) -> None:
        self._jobs.stop(submission_id)

    def capacity(self) -> Capacity:
        # Others use it too, and it may grow: Ray says itself what a job waits for.
        return Capacity(cpus=math.inf, gpus=math.inf)

    def tend(self, live: Callable[[], Collection[str]]) -> None:
        """Nothing: no workers are kept waiting on a cluster of others."""

    def warm(self, resources: Resources) -> bool:
        return False

    def close(self) -> None:
        self._jobs.close()

    def _live(self, submission_id: str) -> bool:
        status = self.status(submission_id)
        return status is not None and status.state in (JobState.PENDING, JobState.RUNNING)
