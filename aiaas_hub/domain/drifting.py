"""How the inputs of endpoints move: what the serving engine counted, as far back as it says
something about now.

Kept in memory, as the curves of `watching` are. A service that begins anew finds what the engine
counted since it loaded each version; an engine that begins anew counts from nothing, and what was
seen before is still known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from aiaas_hub.domain import input_drift, traffic
from aiaas_hub.domain.input_drift import Counts
from aiaas_hub.domain.ports import ServingEngine
from aiaas_hub.domain.records import Deployment, EndpointRecords
from aiaas_hub.schemas.drift import EndpointDrift, InputReference, VersionDrift
from aiaas_hub.schemas.endpoints import Endpoint
from aiaas_hub.schemas.errors import NotFound, Unavailable

WINDOW = timedelta(hours=1)
WINDOW_ROWS = 1000
"""Where the last hour has fewer, it is gone back further."""
_LOOK_SECONDS = 60.0
_CHUNK_ROWS = 50
"""A chunk with fewer is added to however long it takes: so there are never many."""

Key = tuple[str, int]
_NOT_COUNTED = (
    "Nobody counts this version's inputs: it was published before they were counted, or on pods, "
    "where they are not. On a local platform, publish it again."
)


@dataclass
class _Chunk:
    began: datetime | None
    counts: Counts

    def grows(self, now: datetime) -> bool:
        """Whether what comes now belongs to it."""
        if self.began is None:
            return False
        short = (now - self.began).total_seconds() < _LOOK_SECONDS
        return short or rows_of(self.counts) < _CHUNK_ROWS


@dataclass
class Window:
    """The counts of one version's newest rows."""

    seen: Counts | None = None
    """The engine's counters at the last look."""
    looked_at: datetime | None = None
    chunks: list[_Chunk] = field(default_factory=list)

    def take(self, counters: Counts, now: datetime) -> None:
        """Add what was counted since the last look. Counters that are less than they were began
        anew meanwhile, and all they say came since."""
        before, self.seen = self.seen, counters
        began, self.looked_at = self.looked_at, now
        anew = before is None or bool((counters < before).any())
        fresh = counters if before is None or anew else counters - before
        if not rows_of(fresh):
            return
        last = self.chunks[-1] if self.chunks else None
        if last is not None and last.grows(now):
            last.counts = last.counts + fresh
        else:
            self.chunks.append(_Chunk(began, fresh))
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        """What is older than the window, as long as enough is left."""
        rows = [rows_of(chunk.counts) for chunk in self.chunks]
        while len(self.chunks) > 1 and sum(rows[1:]) >= WINDOW_ROWS:
            # A chunk ends where the next begins. How old the rows of one without a beginning are,
            # nobody knows.
            ended = self.chunks[1].began
            if self.chunks[0].began is not None and ended is not None and now - ended <= WINDOW:
                return
            del self.chunks[0], rows[0]

    @property
    def counts(self) -> Counts | None:
        if not self.chunks:
            return None
        total: Counts = np.sum([chunk.counts for chunk in self.chunks], axis=0)
        return total

    @property
    def since(self) -> datetime | None:
        """None: when the version was loaded."""
        return self.chunks[0].began if self.chunks else None


class Drifting:
    def __init__(self, records: EndpointRecords, engine: ServingEngine) -> None:
        self._records = records
        self._engine = engine
        self._lock = threading.Lock()
        self._next = 0.0
        self._windows: dict[Key, Window] = {}
        self._references: dict[Key, InputReference | None] = {}

    def work(self) -> float:
        """Look at what all versions were sent; seconds until the next time.

        A look reads all that was counted, and whoever changes anything wakes this.
        """
        waits = self._next - time.monotonic()
        if waits > 0:
            return waits
        self._next = time.monotonic() + _LOOK_SECONDS
        with suppress(Unavailable):
            self.look(datetime.now(UTC))
        return _LOOK_SECONDS

    def look(self, now: datetime) -> None:
        """Raises `Unavailable` while the engine is away."""
        # Read under the lock: counters that are older than those of the last look look as if the
        # engine had begun anew.
        with self._lock:
            counted = self._engine.input_counts()
            served = {
                (deployment.serving_name, deployment.version)
                for _, deployments in self._loaded()
                for deployment in deployments
            }
            for gone in self._references.keys() - served:
                del self._references[gone]
                self._windows.pop(gone, None)
            for key in served:
                expected = self._reference(key)
                if expected is not None and expected.features:
                    shape = input_drift.bins(expected.features).shape
                    counters = counted.get(key, np.zeros(shape, np.int64))
                    self._windows.setdefault(key, Window()).take(counters, now)

    def of(self, owner: str, name: str) -> EndpointDrift:
        """Of the versions that are loaded, newest first, as of now, or of the last look where the
        engine is away. Raises `NotFound`."""
        endpoint = self._records.get(owner, name)
        if endpoint is None:
            raise NotFound(f"There is no endpoint {name}.", remedy="See %aiaas endpoints.")
        with suppress(Unavailable):
            self.look(datetime.now(UTC))
        loaded = traffic.kept(endpoint)
        return EndpointDrift(
            versions=[
                self._version(deployment, endpoint.traffic.get(deployment.version, 0))
                for deployment in self._records.deployments(owner, name)
                if deployment.version in loaded
            ]
        )

    def moved(self) -> Iterator[tuple[str, float]]:
        """Of each version that is compared its name, as the gateway's statistics have it, and the
        index of the input that changed most, as of the last look."""
        for _, deployments in self._loaded():
            for deployment in deployments:
                drift = self._version(deployment, percent=0)
                if drift.features:
                    yield f"{deployment.serving_name}-v{deployment.version}", drift.features[0].psi

    def _loaded(self) -> Iterator[tuple[Endpoint, Sequence[Deployment]]]:
        for endpoint, deployments in self._records.routed():
            loaded = traffic.kept(endpoint)
            yield endpoint, [d for d in deployments if d.version in loaded]

    def _reference(self, key: Key) -> InputReference | None:
        """It lies beside the model's file and never changes."""
        if key not in self._references:
            self._references[key] = self._engine.input_reference(*key)
        return self._references[key]

    def _version(self, deployment: Deployment, percent: int) -> VersionDrift:
        key = (deployment.serving_name, deployment.version)
        drift = VersionDrift(
            version=deployment.version, percent=percent, needed_rows=input_drift.MIN_ROWS
        )
        with self._lock:
            expected, window = self._reference(key), self._windows.get(key, Window())
            counts, drift.since = window.counts, window.since
        if expected is None:
            drift.reason = _NOT_COUNTED
            return drift
        drift.reference_rows, drift.omitted = expected.rows, expected.omitted
        drift.reason = expected.reason
        if counts is not None:
            drift.rows = rows_of(counts)
            if drift.rows >= input_drift.MIN_ROWS:
                drift.features = input_drift.compare(expected, counts)
        if not drift.features and not drift.reason:
            drift.reason = (
                f"{drift.rows} of the {input_drift.MIN_ROWS} rows were seen that comparing takes: "
                "call the endpoint, and look again."
            )
        return drift


def rows_of(counts: Counts) -> int:
    """Each row is counted once for each feature; those that are counted right now, not for all."""
    return int(counts.sum(axis=1).min())
