"""What endpoints do now: the gateway's and the model server's counts, and a curve of the last hour.

The curve is kept in memory: what it is drawn from is counted elsewhere, and an hour passes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiaas_hub.domain import traffic, verdict
from aiaas_hub.domain.canary_inference import CanaryInferences
from aiaas_hub.domain.ports import Gateway, ModelCounts, ServingEngine, VersionTraffic
from aiaas_hub.domain.records import EndpointRecords
from aiaas_hub.domain.serving_names import owner_mark_of
from aiaas_hub.schemas.endpoints import Endpoint
from aiaas_hub.schemas.errors import NotFound, Unavailable
from aiaas_hub.schemas.statistics import EndpointStatistics, Sample, VersionStatistics

_KEPT_SAMPLES = 240
_LEAST_SECONDS = 5.0
"""Two looks within so short a time are one."""

Key = tuple[str, int]
_NOTHING = VersionTraffic(0, 0, 0, {})


@dataclass(frozen=True)
class _Look:
    at: datetime
    traffic: VersionTraffic
    counts: ModelCounts | None


@dataclass(frozen=True)
class ServedVersion:
    """A loaded version now."""

    name: str
    """As the gateway's own statistics call it."""
    counts: ModelCounts | None
    """None: the model server is away, or does not know it yet."""
    healthy: bool | None
    """Whether the last canary inference was answered; None before the first."""


class Watching:
    def __init__(
        self,
        records: EndpointRecords,
        gateway: Gateway,
        engine: ServingEngine,
        inferences: CanaryInferences,
    ) -> None:
        self._records = records
        self._gateway = gateway
        self._engine = engine
        self._inferences = inferences
        self._lock = threading.Lock()
        self._last: dict[Key, _Look] = {}
        self._samples: dict[Key, deque[Sample]] = {}

    def look(self) -> None:
        """Ask each version for an answer, and add what callers met to the curves. Raises
        `Unavailable` while the gateway is away."""
        self._inferences.check()
        self._sample()

    def _sample(self) -> None:
        counted = self._gateway.traffic()
        counts = self._counts({model for model, _ in counted})
        now = datetime.now(UTC)
        with self._lock:
            for key in set(self._samples) - set(counted):
                if now - self._last[key].at > timedelta(hours=1):
                    del self._samples[key], self._last[key]
            for key, found in counted.items():
                look = _Look(now, found, counts.get(key[0], {}).get(key[1]))
                last = self._last.get(key)
                if last is not None and (now - last.at).total_seconds() < _LEAST_SECONDS:
                    continue
                samples = self._samples.setdefault(key, deque(maxlen=_KEPT_SAMPLES))
                if last is not None:
                    samples.append(_between(last, look))
                self._last[key] = look

    def of(self, owner: str, name: str) -> EndpointStatistics:
        """Of the versions that are loaded, newest first. What an engine that is away would know
        is left out. Raises `NotFound`."""
        endpoint = self._records.get(owner, name)
        if endpoint is None:
            raise NotFound(f"There is no endpoint {name}.", remedy="See %aiaas endpoints.")
        loaded = traffic.kept(endpoint)
        deployments = [d for d in self._records.deployments(owner, name) if d.version in loaded]
        calls = self._calls()
        found = []
        counts = self._counts({d.serving_name for d in deployments})
        for deployment in deployments:
            key = (deployment.serving_name, deployment.version)
            health = self._inferences.of(*key)
            with self._lock:
                samples = list(self._samples.get(key, ()))
            found.append(
                VersionStatistics(
                    version=deployment.version,
                    percent=endpoint.traffic.get(deployment.version, 0),
                    mirrored=_mirrored(endpoint, deployment.version),
                    **_callers(calls.get(key, _NOTHING)),
                    **_model(counts.get(deployment.serving_name, {}).get(deployment.version)),
                    healthy=None if health is None else not health.fault,
                    fault="" if health is None else health.fault,
                    checked_at=None if health is None else health.at,
                    samples=samples,
                )
            )
        return EndpointStatistics(versions=found)

    def served(self) -> Iterator[ServedVersion]:
        """Of all endpoints the versions that are loaded."""
        loaded = [
            (deployment.serving_name, deployment.version)
            for endpoint, deployments in self._records.routed()
            if endpoint.sleep is None
            for deployment in deployments
            if deployment.version in traffic.kept(endpoint)
        ]
        counts = self._counts({model for model, _ in loaded})
        for model, version in loaded:
            health = self._inferences.of(model, version)
            yield ServedVersion(
                f"{model}-v{version}",
                counts.get(model, {}).get(version),
                None if health is None else not health.fault,
            )

    def metrics(self) -> bytes:
        """The gateway's own, in Prometheus' text form. Raises `Unavailable`."""
        return self._gateway.metrics()

    def _calls(self) -> Mapping[Key, VersionTraffic]:
        try:
            return self._gateway.traffic()
        except Unavailable:
            return {}

    def _counts(self, models: Iterable[str]) -> Mapping[str, Mapping[int, ModelCounts]]:
        """Where a model server is away it is not asked for each model, and waited for as often:
        its owner's other models are left out. An owner may have servers of their own."""
        found: dict[str, Mapping[int, ModelCounts]] = {}
        away: set[str] = set()
        for model in sorted(models):
            owner = owner_mark_of(model)
            if owner in away:
                continue
            try:
                found[model] = self._engine.counts(model)
            except Unavailable:
                away.add(owner)
            except NotFound:
                continue
        return found


def _between(last: _Look, look: _Look) -> Sample:
    """The counters begin anew with the gateway, and with a version's way back onto a route."""
    now, found = look.at, look.traffic
    before = last.traffic if last.traffic.requests <= found.requests else _NOTHING
    seconds = (now - last.at).total_seconds()
    latencies = {
        bound: count - before.latencies.get(bound, 0) for bound, count in found.latencies.items()
    }
    return Sample(
        at=now,
        requests_per_second=(found.requests - before.requests) / seconds,
        errors_per_second=max(0, found.errors - before.errors) / seconds,
        p50_ms=verdict.quantile(latencies, 0.5),
        p95_ms=verdict.quantile(latencies, 0.95),
        p99_ms=verdict.quantile(latencies, 0.99),
        queue_ms=_waited(last.counts, look.counts),
    )


def _waited(before: ModelCounts | None, after: ModelCounts | None) -> float | None:
    """These counters begin anew with the model server, and where a version is loaded again."""
    if before is None or after is None:
        return None
    requests, waited = after.requests, after.queue_ns
    if before.requests <= requests:
        requests, waited = requests - before.requests, waited - before.queue_ns
    return max(0, waited) / requests / 1e6 if requests else None


def _mirrored(endpoint: Endpoint, version: int) -> int:
    shadow = endpoint.shadow
    if shadow is None or shadow.version != version or shadow.plan is None:
        return 0
    return shadow.plan.percent


def _callers(found: VersionTraffic) -> dict[str, int | float | None]:
    return {
        "requests": found.requests,
        "errors": found.errors,
        "refused": found.refused,
        **{f"p{q}_ms": verdict.quantile(found.latencies, q / 100) for q in (50, 95, 99)},
    }


def _model(counts: ModelCounts | None) -> dict[str, object]:
    if counts is None:
        return {}
    return {
        "rows": counts.rows,
        "batch_sizes": dict(sorted(counts.batch_sizes.items())),
        "queue_ms": counts.queue_ns / counts.requests / 1e6 if counts.requests else None,
        "compute_ms": counts.compute_ns / counts.runs / 1e6 if counts.runs else None,
    }
