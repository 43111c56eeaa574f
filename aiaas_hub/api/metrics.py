"""Prometheus metrics: what the service does, and how what it drives is."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Mapping

import anyio.to_thread
from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiaas_hub.api.bearer import bearer
from aiaas_hub.api.identity import Identity
from aiaas_hub.api.services import Services
from aiaas_hub.schemas.endpoints import MAX_BATCH
from aiaas_hub.schemas.errors import Forbidden, Unauthenticated
from aiaas_hub.schemas.platform import EngineState

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _State(Collector):
    """What is so at the moment of asking."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        engines = GaugeMetricFamily("aiaas_engine_up", "1 while it is ready", labels=["engine"])
        for engine in services.engines():
            engines.add_metric([engine.name], float(engine.state is EngineState.READY))
        yield engines
        runs = GaugeMetricFamily("aiaas_runs", "Runs that are not over", labels=["state"])
        workers = GaugeMetricFamily("aiaas_workers", "Workers of started runs")
        gpus = GaugeMetricFamily("aiaas_gpus", "GPUs of started runs")
        contenders = services.run_records.contenders()
        started = [one for one in contenders if one.started]
        runs.add_metric(["started"], len(started))
        runs.add_metric(["queued"], len(contenders) - len(started))
        held = [one.resources.workers * one.concurrency for one in started]
        workers.add_metric([], sum(held))
        gpus.add_metric(
            [],
            sum(
                count * one.resources.gpus_per_worker
                for count, one in zip(held, started, strict=True)
            ),
        )
        yield from (runs, workers, gpus)
        endpoints = GaugeMetricFamily("aiaas_endpoints", "Endpoints that have traffic")
        endpoints.add_metric([], len(services.endpoint_records.routed()))
        yield endpoints
        drift = GaugeMetricFamily(
            "aiaas_endpoint_input_drift",
            "Population stability index of the input that changed most",
            labels=["version"],
        )
        for version, psi in services.drifting.moved():
            drift.add_metric([version], psi)
        yield drift


class _Served(Collector):
    """What the model server counted of each loaded version since it loaded it, canary inferences
    included, and whether the last of these was answered. The gateway's metrics are of callers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        label = ["version"]
        batches = HistogramMetricFamily(
            "aiaas_endpoint_batch_rows", "Rows in a run of the model", labels=label
        )
        queue = SummaryMetricFamily(
            "aiaas_endpoint_queue_seconds", "That requests waited for their run", labels=label
        )
        compute = SummaryMetricFamily(
            "aiaas_endpoint_compute_seconds", "That runs of the model took", labels=label
        )
        healthy = GaugeMetricFamily(
            "aiaas_endpoint_healthy", "1 if the last canary inference was answered", labels=label
        )
        for version in self._services.watching.served():
            name, counts = [version.name], version.counts
            if version.healthy is not None:
                healthy.add_metric(name, float(version.healthy))
            if counts is None:
                continue
            batches.add_metric(name, _buckets(counts.batch_sizes), counts.rows)
            queue.add_metric(name, counts.requests, counts.queue_ns / 1e9)
            compute.add_metric(name, counts.runs, counts.compute_ns / 1e9)
        yield from (batches, queue, compute, healthy)


def _buckets(sizes: Mapping[int, int]) -> list[tuple[str, float]]:
    """Runs of at most so many rows, by powers of two."""
    bounds = [float(2**power) for power in range(MAX_BATCH.bit_length())]
    within = [(str(b), float(sum(n for size, n in sizes.items() if size <= b))) for b in bounds]
    return [*within, ("+Inf", float(sum(sizes.values())))]


class Measures:
    """The registry of one application."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_State(services))
        self.registry.register(_Served(services))
        self.requests = Counter(
            "aiaas_requests",
            "Requests answered",
            ["method", "operation", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "aiaas_request_seconds",
            "Until the answer began",
            ["operation"],
            buckets=_BUCKETS,
            registry=self.registry,
        )


class Measured:
    """Counts and times requests by operation: paths hold names, of which there are any number."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                operation = getattr(scope.get("endpoint"), "__name__", "none")
                method = scope["method"] if scope["method"].isalpha() else "other"
                method = method if len(method) <= 7 else "other"
                status = str(message["status"])
                self._measures.requests.labels(method, operation, status).inc()
                self._measures.seconds.labels(operation).observe(time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, counted)


def routes(measures: Measures, identity: Identity, prefix: str, token: str) -> APIRouter:
    """`{prefix}metrics`, for who shows the token of `secrets/metrics_token` or an
    administrator's."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{prefix}metrics")
    async def metrics(request: Request) -> Response:
        given = bearer(request.scope)
        if not hmac.compare_digest(given.encode(), token.encode()):
            caller = await identity.identify(given, fresh=False)
            if caller is None:
                raise Unauthenticated("The token is not valid.")
            if not caller.reads_all:
                raise Forbidden(
                    "Metrics are of everybody.",
                    remedy="Use the token in secrets/metrics_token of the platform's home.",
                )
        content = await anyio.to_thread.run_sync(generate_latest, measures.registry)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    return router
