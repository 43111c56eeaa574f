"""Baking: a canary is watched for a while, then promoted or rolled back by its numbers. A shadow
is watched in the same way, also where somebody is to judge it.

All that is known lies in the records: a service that was killed goes on with the next look. The
callers' requests are counted by the gateway, which lives on meanwhile; where the gateway itself
began anew, its counts begin at nothing and are added to what was seen before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from pydantic import BaseModel, Field

from aiaas_hub.domain import parity, precision, traffic, verdict
from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.domain.endpoints import Endpoints, topic
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import DoesNotAnswer, Gateway, Notifier, ServingEngine, VersionTraffic
from aiaas_hub.domain.publishing import ReadTensors, Tensors
from aiaas_hub.domain.records import Deployment, EndpointRecords
from aiaas_hub.schemas import agreement
from aiaas_hub.schemas.endpoints import MAX_BATCH, Bake, Endpoint, VersionNumbers
from aiaas_hub.schemas.errors import AiaasError, NotFound, Unavailable
from aiaas_hub.schemas.models import ModelVersion

log = logging.getLogger(__name__)

_PROBED_ROWS = 16
_KEPT_PROBES = 200
"""Latencies of so many probes are kept."""


class Tally(BaseModel):
    """What one version's callers did since the bake began."""

    seen: dict[str, int] = {}
    """The gateway's counters at the last look, by name or by a bucket's bound."""
    total: dict[str, int] = {}
    probe_ms: list[float] = []
    probes: int = 0
    probe_errors: int = 0

    def take(self, counters: Mapping[str, int]) -> None:
        """Add what was counted since the last look; nothing while it is on no route."""
        if not counters:
            return
        anew = any(value < self.seen.get(name, 0) for name, value in counters.items())
        for name, value in counters.items():
            since = value if anew else value - self.seen.get(name, 0)
            self.total[name] = self.total.get(name, 0) + since
        self.seen = dict(counters)

    def numbers(self) -> VersionNumbers:
        latencies = {
            float(name): count
            for name, count in self.total.items()
            if name not in ("requests", "errors")
        }
        return VersionNumbers(
            requests=self.total.get("requests", 0),
            errors=self.total.get("errors", 0),
            p50_ms=verdict.quantile(latencies, 0.5),
            p95_ms=verdict.quantile(latencies, 0.95),
            p99_ms=verdict.quantile(latencies, 0.99),
            probes=self.probes,
            probe_errors=self.probe_errors,
            probe_p50_ms=float(np.median(self.probe_ms)) if self.probe_ms else None,
        )


class Progress(Bake):
    """A bake with what only its judge needs."""

    tallies: dict[int, Tally] = Field(default_factory=dict)
    compared: bool = False


class Baking:
    def __init__(
        self,
        records: EndpointRecords,
        endpoints: Endpoints,
        models: Models,
        blobs: BlobStore,
        engine: ServingEngine,
        gateway: Gateway,
        notifier: Notifier,
        read_tensors: ReadTensors,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._records = records
        self._endpoints = endpoints
        self._models = models
        self._blobs = blobs
        self._engine = engine
        self._gateway = gateway
        self._notifier = notifier
        self._read_tensors = read_tensors

    def look(self, deployment: Deployment) -> None:
        """Once at a canary: count, infer, and decide if it is time to. Raises `Unavailable` while
        gateway or engine are not up: nothing is held against the canary then."""
        plan, routed_at = deployment.info.plan, deployment.info.routed_at
        endpoint = self._records.get(deployment.owner, deployment.endpoint)
        if not deployment.info.is_watched or endpoint is None:
            return
        if plan is None or routed_at is None:
            raise TypeError("A canary that is watched has a plan, and a share or copies.")
        versions = {
            d.version: d for d in self._records.deployments(deployment.owner, deployment.endpoint)
        }
        counted = self._gateway.traffic()
        former = self._former(endpoint, deployment)
        kept = self._records.bake(deployment)
        if kept is None:
            progress = Progress(
                started_at=routed_at,
                ends_at=None
                if plan.bake_seconds is None
                else routed_at + timedelta(seconds=plan.bake_seconds),
                limits=plan.limits,
                former_version=former,
            )
            if former is not None:
                # What it did before the bake is not compared. The canary did nothing before.
                begun = _counters(counted.get((versions[former].serving_name, former)))
                progress.tallies[former] = Tally(seen=begun)
        else:
            progress = Progress.model_validate(kept)
        watched = [deployment.version, *([] if former is None else [former])]
        for version in watched:
            tally = progress.tallies.setdefault(version, Tally())
            tally.take(_counters(counted.get((versions[version].serving_name, version))))
        rows, expected, model = self._held_out(deployment)
        self._probe(progress.tallies[deployment.version], deployment, rows, expected)
        other = versions[former] if former is not None else None
        if other is not None and self._takes(other, model):
            self._probe(progress.tallies[other.version], other, rows, None)
            if not progress.compared:
                self._compare(progress, deployment, other, rows)
        progress.compared = True
        progress.canary = progress.tallies[deployment.version].numbers()
        if former is not None:
            progress.former = progress.tallies[former].numbers()
        decided = verdict.judge(progress, self._now())
        if decided is None:
            self._records.keep_bake(deployment, progress.model_dump(mode="json"))
            self._notifier.notify(topic(deployment.owner, deployment.endpoint))
            return
        self._decide(deployment, progress, *decided)

    def _decide(
        self, deployment: Deployment, progress: Progress, good: bool, reasons: list[str]
    ) -> None:
        progress.decision = "promoted" if good else "rolled back"
        progress.reasons = reasons
        numbers = progress.model_dump(mode="json", exclude={"tallies"})
        why = " ".join(reasons)

        def change(endpoint: Endpoint) -> traffic.Shift | None:
            canary = traffic.canary_of(endpoint)
            if canary is None or canary.version != deployment.version:
                # Somebody was first.
                return None
            shift = (
                traffic.promote(endpoint, why)
                if good
                else traffic.roll_back(endpoint, "the platform", why)
            )
            return traffic.with_numbers(shift, numbers)

        if self._records.change(deployment.owner, deployment.endpoint, change, by=""):
            log.info(
                "Version %s of %s/%s is %s: %s",
                deployment.version,
                deployment.owner,
                deployment.endpoint,
                progress.decision,
                why,
            )
            self._endpoints.apply_routes()
            self._notifier.notify(topic(deployment.owner, deployment.endpoint))

    @staticmethod
    def _former(endpoint: Endpoint, deployment: Deployment) -> int | None:
        has_share = deployment.version in endpoint.traffic
        beside = endpoint.former if has_share else endpoint.traffic
        others = {v: p for v, p in beside.items() if v != deployment.version}
        return max(others, key=lambda v: others[v], default=None)

    def _held_out(self, deployment: Deployment) -> tuple[Tensors, Tensors, ModelVersion]:
        model = self._model(deployment)
        path = self._blobs.local_path(self._models.evaluation(model))
        inputs, expected = parity.split_evaluation(
            self._read_tensors(path, rows=MAX_BATCH), model.signature
        )
        return inputs, expected, model

    def _takes(self, other: Deployment, model: ModelVersion) -> bool:
        """Whether a version has the inputs that another has."""
        return self._model(other).signature.inputs == model.signature.inputs

    def _model(self, deployment: Deployment) -> ModelVersion:
        pinned = deployment.info.model
        return self._models.get(pinned.owner, pinned.name, pinned.version).latest

    def _probe(
        self, tally: Tally, deployment: Deployment, rows: Tensors, expected: Tensors | None
    ) -> None:
        """One canary inference: that it answers, how fast and, of the canary, rightly."""
        few = {name: array[:_PROBED_ROWS] for name, array in rows.items()}
        tally.probes += 1
        try:
            began = time.perf_counter()
            self._infer(deployment, {name: array[:1] for name, array in rows.items()})
            tally.probe_ms = [
                *tally.probe_ms[1 - _KEPT_PROBES :],
                (time.perf_counter() - began) * 1000,
            ]
            answer = self._infer(deployment, few)
        except DoesNotAnswer:
            tally.probe_errors += 1
            return
        except Unavailable:
            raise
        except AiaasError as error:
            log.warning("%s does not answer a probe: %s", deployment.serving_name, error.message)
            tally.probe_errors += 1
            return
        tolerance = precision.tolerance(deployment.info.options)
        if expected is not None and not _right(answer, expected, tolerance):
            tally.probe_errors += 1

    def _compare(
        self, progress: Progress, canary: Deployment, other: Deployment, rows: Tensors
    ) -> None:
        try:
            mine, theirs = self._infer(canary, rows), self._infer(other, rows)
        except (DoesNotAnswer, NotFound):
            return
        name = agreement.judged_output(theirs, mine)
        if name is None:
            return
        same = agreement.alike(np.asarray(theirs[name]), np.asarray(mine[name]))
        progress.rows = len(same)
        progress.disagreement = float(1 - same.mean())

    def _infer(self, deployment: Deployment, rows: Tensors) -> Tensors:
        def infer(batch: Tensors) -> Tensors:
            return self._engine.infer(deployment.serving_name, deployment.version, batch)

        return parity.in_batches(infer, rows, deployment.info.options.largest_batch)


def _counters(found: VersionTraffic | None) -> dict[str, int]:
    if found is None:
        return {}
    return {
        "requests": found.requests,
        "errors": found.errors,
        **{repr(float(bound)): count for bound, count in found.latencies.items()},
    }


def _right(answer: Tensors, expected: Tensors, tolerance: float) -> bool:
    for name, array in expected.items():
        given = answer.get(name)
        wanted = array[:_PROBED_ROWS]
        scale = max(1.0, parity.magnitude(array))
        if not parity.difference(wanted, given) <= tolerance * scale:
            return False
    return True
