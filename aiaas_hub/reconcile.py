"""Desired state against actual state, at start and for ever.

Everything here may be repeated: a service that was killed at any line goes on from the records.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from aiaas_hub.domain.advancing import Advancing
from aiaas_hub.domain.baking import Baking
from aiaas_hub.domain.ports import Engine
from aiaas_hub.domain.publishing import Publisher
from aiaas_hub.domain.records import EndpointRecords
from aiaas_hub.domain.watching import Watching
from aiaas_hub.schemas.errors import AiaasError, Unavailable
from aiaas_hub.schemas.platform import EngineHealth, EngineState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Seconds between looks. A change wakes the loops at once; these find what nobody told."""

    engines: float = 2.0
    runs_busy: float = 1.0
    idle: float = 10.0
    converge: float = 5.0
    bake: float = 2.0
    health: float = 15.0
    restart: float = 5.0
    """Least time between two starts of one engine; doubled while it does not come up."""
    restart_at_most: float = 300.0


class _Loop:
    """One thread that calls `step` when woken and at least every `step`'s answer in seconds."""

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        self._name = name
        self._step = step
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                pause = self._step()
            except Unavailable as error:
                log.info("%s waits: %s", self._name, error.message)
                pause = 1.0
            except Exception:
                # A defect in one step must not end the loop: the next look may do better.
                log.exception("A step of %s failed", self._name)
                pause = 5.0
            self._wake.wait(pause)


class Reconciler:
    def __init__(
        self,
        engines: Sequence[Engine],
        advancing: Advancing,
        publisher: Publisher,
        baking: Baking,
        watching: Watching,
        endpoint_records: EndpointRecords,
        pace: Pace | None = None,
        tend: Callable[[], None] = lambda: None,
        background: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        """`background` holds more to do in loops of its own: each step gives the seconds until
        the next."""
        self._tend = tend
        self._engines = engines
        self._advancing = advancing
        self._publisher = publisher
        self._baking = baking
        self._watching = watching
        self._endpoint_records = endpoint_records
        self._pace = pace or Pace()
        self._started: dict[int, float] = {}
        self._healths: dict[int, EngineHealth] = {}
        self._failures: dict[int, int] = defaultdict(int)
        self._publishing: dict[tuple[str, str], Future[None]] = {}
        # Few, since each loads a model; enough that a slow one does not hold up the others.
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="publish")
        self._converged_at = 0.0
        self._loops = [
            _Loop("engines", self._keep_engines),
            _Loop("runs", self._advance_runs),
            _Loop("endpoints", self._advance_endpoints),
            _Loop("health", self._check_health),
        ]
        self.background = dict(background or {})
        self._background = [_Loop(name, step) for name, step in self.background.items()]
        self._loops += self._background

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """There is something to do for runs, endpoints or in the background."""
        for loop in (*self._loops[1:3], *self._background):
            loop.wake()

    def stop(self) -> None:
        """Stop looking; what is under way is gone on with at the next start."""
        for loop in self._loops:
            loop.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def healths(self) -> list[EngineHealth]:
        """What was last seen of the engines: asking them takes longer than people wait."""
        seen = dict(self._healths)
        return [seen.get(position) or e.health() for position, e in enumerate(self._engines)]

    def _keep_engines(self) -> float:
        for position, engine in enumerate(self._engines):
            try:
                self._keep(position, engine)
            except Exception:
                log.exception("An engine cannot be looked after")
        try:
            self._tend()
        except AiaasError as error:
            # A run then starts its workers itself, which only takes longer.
            log.warning("No workers wait for runs: %s", error.message)
        return self._pace.engines

    def _keep(self, position: int, engine: Engine) -> None:
        health = engine.health()
        before = self._healths.get(position)
        now = time.monotonic()
        if health.state is EngineState.READY:
            self._failures[position] = 0
        pause = min(self._pace.restart * 2 ** self._failures[position], self._pace.restart_at_most)
        due = now - self._started.get(position, -1e9) >= pause
        if (before is None or health.state is EngineState.UNAVAILABLE) and due:
            self._started[position] = now
            self._failures[position] += 1
            try:
                engine.start()
            except AiaasError as error:
                # For example no wheel for this machine: health says it, the others go on.
                log.warning("%s does not start: %s", health.name, error.message)
            health = engine.health()
        self._healths[position] = health
        if before is None or before.state is not health.state:
            log.info("%s is %s %s", health.name, health.state, health.reason)
            if before is not None:
                self._converged_at = 0.0
                self._loops[1].wake()
                self._loops[2].wake()

    def _advance_runs(self) -> float:
        return self._pace.runs_busy if self._advancing.advance_all() else self._pace.idle

    def _advance_endpoints(self) -> float:
        unsettled = self._endpoint_records.unsettled()
        underway = [d for d in unsettled if d.info.is_underway]
        baking = [d for d in unsettled if d.info.is_watched]
        for deployment in (*underway, *baking):
            endpoint = (deployment.owner, deployment.endpoint)
            running = self._publishing.get(endpoint)
            if running is None or running.done():
                step = self._publish_one if deployment.info.is_underway else self._bake_one
                self._publishing[endpoint] = self._pool.submit(
                    step, deployment.owner, deployment.endpoint
                )
        now = time.monotonic()
        if now - self._converged_at >= self._pace.converge:
            self._publisher.converge()
            self._converged_at = now
        if underway:
            return 1.0
        return self._pace.bake if baking else self._pace.converge

    def _check_health(self) -> float:
        self._watching.look()
        return self._pace.health

    def _publish_one(self, owner: str, endpoint: str) -> None:
        for deployment in self._endpoint_records.unsettled():
            mine = (deployment.owner, deployment.endpoint) == (owner, endpoint)
            if mine and deployment.info.is_underway:
                try:
                    self._publisher.publish(deployment)
                except Unavailable as error:
                    log.info("Publishing %s/%s waits: %s", owner, endpoint, error.message)

    def _bake_one(self, owner: str, endpoint: str) -> None:
        for deployment in self._endpoint_records.unsettled():
            if (deployment.owner, deployment.endpoint) == (owner, endpoint):
                try:
                    self._baking.look(deployment)
                except Unavailable as error:
                    log.info("Baking %s/%s waits: %s", owner, endpoint, error.message)
                except Exception:
                    # The next look may do better; until one does, the split stays as it is.
                    log.exception("Baking %s/%s failed", owner, endpoint)
