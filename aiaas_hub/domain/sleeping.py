"""Endpoints that nobody calls are unloaded, where they were published so; the next call loads them.

What should be is in the records: an endpoint is awake, asleep, or waking, and it is waking until
all that it serves is loaded, so that no request comes to a model that is not there. Whoever is
killed in between, the publisher's convergence makes it so. How long nobody has called is kept in
memory: a service that begins anew waits as long again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from aiaas_hub.domain import memory, traffic
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.ports import Gateway, ServingEngine
from aiaas_hub.domain.publishing import Publisher
from aiaas_hub.domain.records import EndpointRecords
from aiaas_hub.schemas.endpoints import Endpoint, Sleep
from aiaas_hub.schemas.errors import AiaasError, Unavailable

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""So long a caller waits for a model to be loaded."""
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 10.0
"""Between two looks."""
_LAST_REQUESTS_SECONDS = 0.1

Key = tuple[str, str]


@dataclass
class _Seen:
    requests: int
    at: float


class Sleeping:
    def __init__(
        self,
        records: EndpointRecords,
        endpoints: Endpoints,
        publisher: Publisher,
        engine: ServingEngine,
        gateway: Gateway,
        memory_bytes: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`memory_bytes`: what all served models together may take; None: no limit."""
        self._records = records
        self._endpoints = endpoints
        self._engine = engine
        self._memory_bytes = memory_bytes
        self._publisher = publisher
        self._gateway = gateway
        self._now = now
        self._seen: dict[Key, _Seen] = {}
        self._guard = threading.Lock()
        self._waking: dict[Key, Future[None]] = {}
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="wake")

    def work(self) -> float:
        """Put to sleep whom nobody has called for so long; seconds until the next look."""
        sleepers = {
            (endpoint.owner, endpoint.name): (endpoint, idle)
            for endpoint, _ in self._records.routed()
            if (idle := idle_seconds(endpoint)) is not None
        }
        # Also while they sleep: it counts from when they are awake again.
        shortest = min((idle for _, idle in sleepers.values()), default=4 * _MOST_SECONDS)
        pause = min(max(shortest / 4, _LEAST_SECONDS), _MOST_SECONDS)
        awake = {key: found for key, found in sleepers.items() if found[0].sleep is None}
        for gone in self._seen.keys() - awake.keys():
            del self._seen[gone]
        if not awake:
            return pause
        try:
            counted = self._gateway.traffic()
        except Unavailable:
            # Nobody can have called; and what was counted begins anew with it.
            return pause
        for key, (endpoint, idle) in awake.items():
            names = {
                (d.serving_name, d.version)
                for d in self._records.deployments(endpoint.owner, endpoint.name)
            }
            requests = sum(counted[name].requests for name in names & counted.keys())
            seen = self._seen.get(key)
            if seen is None or seen.requests != requests:
                self._seen[key] = _Seen(requests, self._now())
            elif self._now() - seen.at >= idle:
                # When it wakes, it is as long again; and so where it may not sleep now.
                del self._seen[key]
                if self._put_to_sleep(*key):
                    log.info("%s/%s is asleep: nobody called for %g s", *key, idle)
        return pause

    def wake(self, owner: str, name: str) -> None:
        """Returns when the endpoint is awake. Raises `Unavailable` with why it is not."""
        with self._guard:
            waking = self._waking.get((owner, name))
            if waking is None or waking.done():
                waking = self._pool.submit(self._wake, owner, name)
                self._waking[owner, name] = waking
        try:
            waking.result(timeout=PATIENCE_SECONDS)
        except TimeoutError:
            raise Unavailable(
                f"Endpoint {name} was asleep and takes long to be loaded.",
                remedy="Send it again in a moment.",
            ) from None

    def _put_to_sleep(self, owner: str, name: str) -> bool:
        """False where that may not be now. Raises `Unavailable` while an engine is not up, and
        then it is done when it is."""
        writer = self._publisher.writer(owner, name)
        if not writer.acquire(blocking=False):
            return False
        try:
            if not self._endpoints.set_sleep(owner, name, None, Sleep.ASLEEP):
                return False
            # What the gateway's threads sent by the routes of before comes to a loaded model.
            time.sleep(_LAST_REQUESTS_SECONDS)
            self._converge(owner, name)
        finally:
            writer.release()
        return True

    def _wake(self, owner: str, name: str) -> None:
        """Load what it serves, and lead its callers there."""
        began = time.monotonic()
        with self._publisher.writer(owner, name):
            endpoint = self._records.get(owner, name)
            if endpoint is None or endpoint.sleep is None:
                return
            if endpoint.sleep is Sleep.ASLEEP:
                self._require_room(endpoint)
                self._records.set_sleep(owner, name, Sleep.ASLEEP, Sleep.WAKING)
            try:
                self._converge(owner, name)
            except Unavailable:
                raise
            except AiaasError as error:
                log.warning("%s/%s cannot be woken: %s", owner, name, error.message)
                raise Unavailable(
                    f"Endpoint {name} was asleep and cannot be loaded.",
                    remedy="Its owner publishes its model again.",
                ) from error
        log.info("%s/%s woke in %.1f s", owner, name, time.monotonic() - began)

    def _converge(self, owner: str, name: str) -> None:
        deployments = self._records.deployments(owner, name)
        endpoint = self._records.get(owner, name)
        assert endpoint is not None, "endpoints are not deleted"  # noqa: S101 - an invariant
        self._publisher.converge_endpoint(endpoint, deployments)

    def _require_room(self, endpoint: Endpoint) -> None:
        if self._memory_bytes is None:
            return
        kept = traffic.kept(endpoint)
        mine = {
            (d.serving_name, d.version)
            for d in self._records.deployments(endpoint.owner, endpoint.name)
            if d.version in kept
        }
        sizes = self._engine.memory()
        needed = sum(size for key, size in sizes.items() if key in mine)
        others = sum(memory.taken(self._records.routed(), sizes).values())
        if needed + others > self._memory_bytes:
            raise Unavailable(
                f"Endpoint {endpoint.name} was asleep, and others have its memory now.",
                remedy="Send it again in a moment, or ask whoever runs the platform for more.",
            )


def idle_seconds(endpoint: Endpoint) -> float | None:
    """After how long without a call it sleeps: as its newest version with traffic was published."""
    newest = max(endpoint.traffic, default=None)
    found = next((v for v in endpoint.versions if v.version == newest), None)
    return None if found is None else found.options.idle_seconds
