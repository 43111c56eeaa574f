"""The pods of a group of Triton servers, as the service asks them: agents over HTTP, Triton over
gRPC, by the addresses of the pods."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import httpx
from pydantic import ValidationError

from aiaas_hub.adapters.kubernetes import client
from aiaas_hub.adapters.kubernetes.client import Cluster, Object
from aiaas_hub.adapters.kubernetes.waiting import is_ready, pod_reasons
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    AGENT_PORT,
    GRPC_PORT,
    ServerPods,
    control_headers,
    selector,
)
from aiaas_hub.adapters.triton_local.client import LOAD_SECONDS, TritonClient
from aiaas_hub.schemas.errors import AiaasError, ErrorBody, InternalError, Unavailable, from_body

T = TypeVar("T")

_KNOWN_SECONDS = 1.0
"""So long a list of pods is believed by who only asks."""
_FORGOTTEN_SECONDS = 4.0
"""After which the gateway leads no more to a pod that is going: it asks for names every two, and
when a pod was deleted is known to a second."""
_AT_A_TIME = 16


@dataclass(frozen=True)
class Server:
    name: str
    address: str
    ready: bool


class Servers:
    """Thread-safe."""

    def __init__(self, cluster: Cluster, pods: ServerPods, secret: str) -> None:
        self._cluster = cluster
        self._pods = pods
        self._headers = control_headers(secret)
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {secret}"},
            timeout=httpx.Timeout(LOAD_SECONDS + 60, connect=3),
            trust_env=False,
        )
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="servers")
        self._guard = threading.Lock()
        self._clients: dict[str, TritonClient] = {}
        self._known: dict[str, tuple[float, list[Object]]] = {}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._http.close()
        for triton in self._clients.values():
            triton.close()

    def alive(self, group: str) -> list[Server]:
        """Of the pods that run and are not going."""
        return [
            Server(pod["metadata"]["name"], pod["status"]["podIP"], is_ready(pod))
            for pod in self.look(group)
            if not pod["metadata"].get("deletionTimestamp")
            and pod["status"].get("phase") == "Running"
            and pod["status"].get("podIP")
        ]

    def ready(self, group: str) -> list[Server]:
        """At least one; raises `Unavailable` where there is none, and says why."""
        with self._guard:
            at, pods = self._known.get(group, (0.0, []))
        if time.monotonic() - at >= _KNOWN_SECONDS:
            pods = self.look(group)
        found = [
            Server(pod["metadata"]["name"], pod["status"]["podIP"], True)
            for pod in pods
            if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
        ]
        if not found:
            raise Unavailable(f"Triton is not up: {why(pods)}.", remedy="Try again in a moment.")
        return found

    def wait_for_gateway(self, group: str) -> None:
        """Until it leads to no pod that is going, and so was told nothing."""
        asked = [
            datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
            - timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds", 0))
            for pod in self.look(group)
            if pod["metadata"].get("deletionTimestamp")
        ]
        if asked:
            since = (datetime.now(UTC) - max(asked)).total_seconds()
            # Whatever the two clocks say.
            time.sleep(min(max(_FORGOTTEN_SECONDS - since, 0), _FORGOTTEN_SECONDS))

    def look(self, group: str) -> list[Object]:
        """The pods as the cluster has them now."""
        found = self._cluster.items(client.PODS, labelSelector=selector(group, self._pods))
        with self._guard:
            self._known[group] = (time.monotonic(), found)
        return found

    def triton(self, server: Server) -> TritonClient:
        with self._guard:
            if server.address not in self._clients:
                target = f"{server.address}:{GRPC_PORT}"
                self._clients[server.address] = TritonClient(target, self._headers)
            return self._clients[server.address]

    def forget_others(self, groups: Sequence[str]) -> None:
        """Close connections to pods that are gone."""
        there = {server.address for group in groups for server in self.alive(group)}
        with self._guard:
            gone = [self._clients.pop(one) for one in set(self._clients) - there]
        for triton in gone:
            triton.close()

    def each(self, servers: Sequence[Server], ask: Callable[[Server], T]) -> list[T]:
        """The answers in the servers' order; raises what the first of those that failed raised,
        when all have answered."""
        futures = [self._pool.submit(ask, server) for server in servers]
        failures = [future.exception() for future in futures]
        for failure in failures:
            if failure is not None:
                raise failure
        return [future.result() for future in futures]

    def tell(self, server: Server, method: str, path: str) -> None:
        """Have a pod's agent do something. Raises what it answers, and `Unavailable` where it does
        not answer."""
        url = f"http://{server.address}:{AGENT_PORT}{path}"
        try:
            answer = self._http.request(method, url)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The pod {server.name} does not answer.", remedy="Try again in a moment."
            ) from error
        if answer.is_error:
            raise _told(answer)


def _told(answer: httpx.Response) -> AiaasError:
    try:
        return from_body(ErrorBody.model_validate_json(answer.content))
    except ValidationError:
        return InternalError(f"A pod's agent answered with status {answer.status_code}.")


def why(pods: Sequence[Object]) -> str:
    """What a group without a ready pod waits for."""
    for sentence in pod_reasons(pods):
        return sentence
    if not pods:
        return "it has no pods yet"
    return f"0 of {len(pods)} pods are ready; they fetch and load their models"
