"""The web application: routers, identity and the one error shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

import aiaas_hub
from aiaas_hub.api import (
    audit,
    auditing,
    blobs,
    datasets,
    endpoints,
    errors,
    jobs,
    models,
    queries,
    runs,
    secrets,
    uploads,
    usage,
)
from aiaas_hub.api.identity import Caller, Identity, Scope
from aiaas_hub.api.metrics import Measured, Measures
from aiaas_hub.api.services import Api, Services
from aiaas_hub.schemas.errors import ErrorBody, Forbidden
from aiaas_hub.schemas.platform import Me, WorkerProfile

VERSION_PREFIX = "/api/v1"
THREADS = 16
"""In which calls are answered; those that take long have their own (`waiting`, `blobs`). Each wants
the one interpreter: with anyio's forty twenty callers' lists got in each other's way, and the
slowest in a hundred took 40 to 130 ms instead of 30 (`tests/benchmarks/data.py`)."""


class Health(BaseModel):
    status: str
    gateway: str


def _platform() -> APIRouter:
    router = APIRouter(tags=["platform"])

    @router.get("/health")
    def health(api: Api) -> Health:
        """Answers as soon as the service can be used; needs no token."""
        return Health(status="ok", gateway=api.gateway_url())

    @router.get("/me")
    def me(caller: Caller, api: Api) -> Me:
        caller.require(Scope.READ, caller.user)
        return Me(
            user=caller.user,
            admin=caller.admin,
            gateway=api.gateway_url(),
            engines=list(api.engines()),
            quota=api.admission.quota(caller.user),
            allowances=api.budgets.allowances(caller.user),
            live_runs=api.run_records.count_live(caller.user),
            serving_endpoints=api.endpoint_records.count_serving(caller.user),
            version=aiaas_hub.__version__,
            python=api.python,
        )

    @router.get("/profiles")
    def profiles(caller: Caller, api: Api) -> list[WorkerProfile]:
        """The profiles that are open to me; empty where the platform has none."""
        caller.require(Scope.READ, caller.user)
        return api.profiles(caller.groups)

    @router.get("/gateway/metrics", response_class=PlainTextResponse)
    def gateway_metrics(caller: Caller, api: Api) -> PlainTextResponse:
        """Envoy's own metrics in Prometheus' text form, of all owners' endpoints: for admins. Its
        dashboard is hub_config/grafana/serving.json."""
        if not caller.admin:
            raise Forbidden(
                "Metrics of the whole platform are for its administrators.",
                remedy="See your endpoints' with %aiaas endpoint NAME --statistics.",
            )
        return PlainTextResponse(
            api.watching.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return router


def create_application(
    services: Services,
    identity: Identity,
    prefix: str,
    beside: Sequence[APIRouter] = (),
    measures: Measures | None = None,
) -> FastAPI:
    """The application below `prefix` (the hub's `/services/aiaas`).

    `beside` are routes that are no part of the API: metrics, and a page for browsers, which has a
    sign-in of its own at the prefix itself and at `oauth_callback`.

    The prefix is part of each route rather than a `root_path`: the hub's proxy passes it on.
    """
    root = prefix.rstrip("/")
    base = root + VERSION_PREFIX
    app = FastAPI(
        title="AIaaS Hub",
        version=aiaas_hub.__version__,
        description="Datasets, runs, models and endpoints.",
        openapi_url=f"{base}/openapi.json",
        # The interactive pages load scripts from a content delivery network.
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": ErrorBody, "description": "What went wrong"}},
        lifespan=_with_few_threads,
    )
    app.state.services = services
    app.state.identity = identity
    errors.install(app)
    for router in (
        _platform(),
        blobs.router,
        uploads.router,
        datasets.router,
        queries.router,
        jobs.router,
        runs.router,
        models.router,
        endpoints.router,
        audit.router,
        usage.router,
        secrets.router,
    ):
        app.include_router(router, prefix=base)
    for router in beside:
        app.include_router(router)
    app.add_middleware(auditing.Audited)
    app.add_middleware(
        errors.RequestBoundary,
        unlimited=f"{base}/blobs",
        public=frozenset(
            {f"{base}/health", f"{base}/openapi.json", root, f"{root}/", f"{root}/oauth_callback"}
        ),
    )
    if measures is not None:
        app.add_middleware(Measured, measures=measures)
    return app


@asynccontextmanager
async def _with_few_threads(_: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
