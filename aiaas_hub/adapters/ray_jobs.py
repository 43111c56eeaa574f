"""The Jobs API of a Ray cluster, over HTTP.

Plain requests rather than Ray's client: importing ray costs the control plane seconds and
memory, and its process would need Ray's token in the environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from urllib.parse import quote

import httpx

from aiaas_hub.domain.ports import JobState, JobStatus
from aiaas_hub.schemas.errors import InternalError, Unavailable

_STATES = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.ENDED,
    "FAILED": JobState.FAILED,
    "STOPPED": JobState.STOPPED,
}
_TIMEOUT = httpx.Timeout(30, connect=2)
_MAX_MESSAGE = 2000


class RayJobs:
    """Submits, asks and stops. Raises `Unavailable` while Ray does not answer."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_TIMEOUT,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def answers(self) -> bool:
        """Whether jobs can be submitted now."""
        with contextlib.suppress(httpx.TransportError):
            return self._http.get("/api/version", timeout=2).is_success
        return False

    def submit(self, submission_id: str, entrypoint: str, metadata: Mapping[str, str]) -> None:
        """Start a job unless one with this id exists."""
        response = self._ask(
            "POST",
            "/api/jobs/",
            {
                "submission_id": submission_id,
                "entrypoint": entrypoint,
                "metadata": dict(metadata),
            },
        )
        if response.is_success or "already exists" in response.text:
            return
        if response.status_code >= 500:
            # Its agents come up after its API does.
            raise Unavailable("Ray does not take jobs yet.", remedy="Try again in a moment.")
        raise InternalError(f"Ray refused the job with status {response.status_code}.")

    def status(self, submission_id: str) -> JobStatus | None:
        response = self._ask("GET", f"/api/jobs/{quote(submission_id, safe='')}")
        if response.status_code == 404:
            return None
        job = self._success(response).json()
        message = str(job.get("message") or "")
        return JobStatus(_STATES[job["status"]], message[-_MAX_MESSAGE:])

    def stop(self, submission_id: str) -> None:
        """SIGTERM to the job's processes and, 3 s later, SIGKILL; nothing if it is unknown."""
        response = self._ask("POST", f"/api/jobs/{quote(submission_id, safe='')}/stop")
        if response.status_code != 404:
            self._success(response)

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise Unavailable("Ray does not answer.", remedy="Try again in a moment.") from error

    @staticmethod
    def _success(response: httpx.Response) -> httpx.Response:
        if response.status_code >= 500:
            raise Unavailable("Ray is in trouble.", remedy="Try again in a moment.")
        if response.is_error:
            raise InternalError(f"Ray answered with status {response.status_code}.")
        return response
