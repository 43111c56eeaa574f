"""The service's composition root: `python -m aiaas_hub.app`, as the hub starts it."""

from __future__ import annotations

import logging
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from aiaas_hub import __version__, settings
from aiaas_hub.adapters.blobs import FsspecBlobs
from aiaas_hub.adapters.columnar import ArrowTables
from aiaas_hub.adapters.duckdb_queries.engine import DuckDbQueries
from aiaas_hub.adapters.hub_events import HubEvents
from aiaas_hub.adapters.packages import own_environment
from aiaas_hub.adapters.partial_uploads import FilePartialUploads
from aiaas_hub.adapters.precision import OnnxConverter
from aiaas_hub.adapters.records.audit import SqlAuditRecords
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import SqlBlobGrants, SqlDatasetRecords
from aiaas_hub.adapters.records.endpoint_keys import SqlKeyRecords
from aiaas_hub.adapters.records.endpoints import SqlEndpointRecords
from aiaas_hub.adapters.records.environments import SqlEnvironmentRecords
from aiaas_hub.adapters.records.garbage import SqlGarbageRecords
from aiaas_hub.adapters.records.models import SqlModelRecords
from aiaas_hub.adapters.records.profiles import SqlProfileRecords
from aiaas_hub.adapters.records.requests import SqlRequestRecords
from aiaas_hub.adapters.records.runs import SqlRunRecords
from aiaas_hub.adapters.records.secrets import SqlSecretRecords
from aiaas_hub.adapters.records.usage import SqlMembers, SqlUsageRecords, meter
from aiaas_hub.adapters.remote_files import RemoteFiles
from aiaas_hub.adapters.run_logs import FileRunLogs
from aiaas_hub.adapters.sealing import FernetSealer
from aiaas_hub.adapters.spark_queries.engine import SparkQueries
from aiaas_hub.adapters.tensors import read_tensors
from aiaas_hub.adapters.waker import Waker
from aiaas_hub.api import metrics, telling
from aiaas_hub.api.application import VERSION_PREFIX, create_application
from aiaas_hub.api.identity import HubIdentity, Identity
from aiaas_hub.api.live import Live
from aiaas_hub.api.metrics import Measures
from aiaas_hub.api.services import Services
from aiaas_hub.config import ServiceConfig, read_config
from aiaas_hub.domain.admission import Admission
from aiaas_hub.domain.advancing import Advancing
from aiaas_hub.domain.baking import Baking
from aiaas_hub.domain.bringing import Bringing, DatasetLimits
from aiaas_hub.domain.canary_inference import CanaryInferences
from aiaas_hub.domain.collecting import Collecting
from aiaas_hub.domain.comparing import Comparing
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.drifting import Drifting
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.environments import Environments, OwnEnvironment, ToldEnvironment
from aiaas_hub.domain.jobs import Jobs
from aiaas_hub.domain.lineage import Lineages
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.profiling import Profiling
from aiaas_hub.domain.publishing import Publisher
from aiaas_hub.domain.querying import Querying, ResultLimits
from aiaas_hub.domain.quotas import Budgets
from aiaas_hub.domain.runs import Runs
from aiaas_hub.domain.secrets import Secrets
from aiaas_hub.domain.sleeping import Sleeping
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.domain.transforming import Transforms
from aiaas_hub.domain.trials import Trials
from aiaas_hub.domain.turns import Turns
from aiaas_hub.domain.watching import Watching
from aiaas_hub.engines import Engines, local_engines
from aiaas_hub.home import Home
from aiaas_hub.housekeeping import Housekeeping, Hub, chores
from aiaas_hub.logs import set_up_logging
from aiaas_hub.page import routes as page
from aiaas_hub.page.sessions import OAuthClient, Sessions
from aiaas_hub.reconcile import Reconciler
from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.spawner.notebook_home import directory_name

log = logging.getLogger(__name__)

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def compose(
    home: Home,
    config: ServiceConfig,
    engines: Engines,
    identity: Identity,
    prefix: str,
    browser: OAuthClient | None = None,
) -> tuple[FastAPI, Reconciler, Database]:
    """Put the parts together; starts nothing."""
    database = Database(config.records_url)
    database.migrate()
    audit = SqlAuditRecords(database)
    live = Live(config.max_streams_per_user)
    blobs = FsspecBlobs(config.artifacts_url, cache=home.artifacts / "cache")
    grants = SqlBlobGrants(database)
    logs = FileRunLogs(home.runs)
    tokens = RunTokens(bytes.fromhex(home.secret("jobs_key")))
    run_records = SqlRunRecords(database)
    endpoint_records = SqlEndpointRecords(database)

    def roots(owner: str) -> list[Path]:
        own = home.notebooks / directory_name(owner)
        return [own, *(Path(root) for root in config.dataset_roots)]

    tables = ArrowTables()
    datasets = Datasets(SqlDatasetRecords(database), blobs, tables, config.max_upload_bytes)
    queries = DuckDbQueries(home.queries, settings.query_limits(config))
    key_file = config.secrets_key_file or home.secret_file("storage_keys")
    secrets = Secrets(
        SqlSecretRecords(database), FernetSealer(Path(key_file), not config.secrets_key_file)
    )
    bringing = Bringing(
        datasets,
        blobs,
        grants,
        tables,
        queries,
        RemoteFiles(config.remote_sources, config.remote_hosts, config.secret_sources),
        secrets,
        DatasetLimits(config.max_upload_bytes, roots),
    )
    models = Models(SqlModelRecords(database), blobs, grants)
    usage, members = SqlUsageRecords(database), SqlMembers(database)
    meter(database, settings.rating(config), config.endpoint_price_per_hour)
    rules = settings.queue_rules(config)
    budgets = Budgets(
        *settings.quotas(home, config),
        usage,
        members,
        endpoint_records.count_serving,
        in_general=rules.per_user,
    )
    rules = replace(rules, of_user=budgets.run_limits)
    admission = Admission(run_records, engines.training, rules, config.max_queued_per_user, budgets)

    environments = _environments(config, database)

    def submissions() -> set[str]:
        return {live.submission_id for live in run_records.started()}

    runs = Runs(run_records, admission, datasets, grants, logs, live, PYTHON, environments)
    advancing = Advancing(run_records, admission, engines.training, logs, tokens, live)
    endpoints = Endpoints(
        endpoint_records,
        SqlKeyRecords(database),
        models,
        runs,
        engines.gateway,
        engines.serving,
        engines.signer,
        live,
    )
    publisher = Publisher(
        endpoint_records,
        endpoints,
        models,
        blobs,
        engines.serving,
        live,
        read_tensors,
        OnnxConverter(),
        config.serving_memory_bytes,
    )
    profiling = Profiling(SqlProfileRecords(database), blobs, queries, live)
    collecting = Collecting(
        SqlGarbageRecords(database), blobs, timedelta(hours=config.retired_hours)
    )
    baking = Baking(
        endpoint_records,
        endpoints,
        models,
        blobs,
        engines.serving,
        engines.gateway,
        live,
        read_tensors,
    )
    inferences = CanaryInferences(endpoint_records, models, blobs, engines.serving, read_tensors)
    watching = Watching(endpoint_records, engines.gateway, engines.serving, inferences)
    drifting = Drifting(endpoint_records, engines.serving)
    sleeping = Sleeping(
        endpoint_records,
        endpoints,
        publisher,
        engines.serving,
        engines.gateway,
        config.serving_memory_bytes,
    )
    ordered = (engines.gateway, engines.serving, engines.training, *engines.others)
    reconciler = Reconciler(
        ordered,
        advancing,
        publisher,
        baking,
        watching,
        endpoint_records,
        tend=lambda: engines.training.tend(submissions),
        background={
            "profiles": profiling.work,
            "garbage": collecting.work,
            "drift": drifting.work,
            "sleep": sleeping.work,
        },
    )
    services = Services(
        datasets=datasets,
        bringing=bringing,
        secrets=secrets,
        querying=Querying(
            datasets,
            blobs,
            queries,
            SparkQueries(home.queries, settings.query_limits(config), config.spark_address),
            Turns(config.max_queries_per_user, config.max_queries, "queries"),
            ResultLimits(config.query_rows, config.query_result_bytes, config.query_result_bytes),
        ),
        profiling=profiling,
        comparing=Comparing(datasets, profiling),
        runs=runs,
        admission=admission,
        trials=Trials(run_records, tokens, live),
        transforms=Transforms(run_records, datasets, grants),
        jobs=Jobs(
            run_records,
            datasets,
            models,
            logs,
            tokens,
            grants,
            live,
            environments,
            config.collective_seconds,
        ),
        models=models,
        endpoints=endpoints,
        watching=watching,
        drifting=drifting,
        sleeping=sleeping,
        lineages=Lineages(endpoints, models, runs, datasets),
        audit=audit,
        usage=usage,
        members=members,
        budgets=budgets,
        blobs=blobs,
        uploads=FilePartialUploads(home.artifacts / "uploads", config.max_upload_bytes),
        grants=grants,
        requests=SqlRequestRecords(database),
        run_records=run_records,
        endpoint_records=endpoint_records,
        live=live,
        wake=reconciler.wake,
        profiles=settings.worker_profiles(config),
        engines=reconciler.healths,
        gateway_url=lambda: engines.gateway.url,
        max_upload_bytes=config.max_upload_bytes,
        python=PYTHON,
    )
    measures = Measures(services)
    root = f"{prefix.rstrip('/')}/"
    beside = [metrics.routes(measures, identity, root, home.secret("metrics_token"))]
    if browser is not None:
        beside.append(telling.routes(HubEvents(home.hub_events).keep, root, browser.secret))
        beside.append(page.routes(Sessions(browser), services, identity, root))
    app = create_application(services, identity, prefix, beside, measures)
    return app, reconciler, database


def _environments(config: ServiceConfig, database: Database) -> Environments:
    if config.kubernetes_namespace:
        place = f"kubernetes:{config.kubernetes_namespace}/{config.kubernetes_image}"
    elif config.ray_address:
        place = f"ray:{config.ray_address}"
    else:
        return OwnEnvironment(own_environment)
    # Notebooks are updated with the service, and would be refused for what was there before.
    return ToldEnvironment(SqlEnvironmentRecords(database), f"{place} {__version__}")


def _hub_tls(environ: Mapping[str, str]) -> ssl.SSLContext | bool:
    """With the certificate that a hub with internal TLS gave this service."""
    if "JUPYTERHUB_SSL_KEYFILE" not in environ:
        return True
    context = ssl.create_default_context(cafile=environ["JUPYTERHUB_SSL_CLIENT_CA"])
    context.load_cert_chain(environ["JUPYTERHUB_SSL_CERTFILE"], environ["JUPYTERHUB_SSL_KEYFILE"])
    return context


def main() -> None:
    home = Home.from_environment()
    home.prepare()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    host, port = address.hostname or "127.0.0.1", address.port
    assert port is not None, "the hub names a port"  # noqa: S101 - an invariant
    # Jobs report to the service itself: neither hub nor proxy need to be up for that.
    api_url = f"http://{host}:{port}{prefix.rstrip('/')}{VERSION_PREFIX}"
    config = read_config(home)
    set_up_logging(config.log_format)
    hub = Hub(
        os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"], _hub_tls(os.environ)
    )
    browser = OAuthClient(
        client_id=os.environ["JUPYTERHUB_CLIENT_ID"],
        secret=hub.token,
        authorize_url=f"{os.environ.get('JUPYTERHUB_HOST', '')}"
        f"{os.environ['JUPYTERHUB_BASE_URL']}hub/api/oauth2/authorize",
        token_url=f"{hub.api_url}/oauth2/token",
        # With a host of its own, where the hub gave the service one.
        redirect_uri=os.environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL")
        or f"{prefix.rstrip('/')}/oauth_callback",
        tls=hub.tls,
    )
    try:
        engines = local_engines(home, api_url, config)
    except AiaasError as error:
        sys.exit(f"{error.message} {error.remedy}")
    app, reconciler, database = compose(home, config, engines, HubIdentity(), prefix, browser)
    server: Any = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            # The proxy tells who called; nothing else may.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    housekeeping = Housekeeping(
        chores(
            app.state.services,
            SqlUsageRecords(database),
            HubEvents(home.hub_events),
            hub,
        )
    )
    waker = Waker(home, app.state.services.sleeping.wake) if engines.gateway.wakes else None
    if waker is not None:
        waker.start()
    reconciler.start()
    housekeeping.start()
    try:
        server.run()
    finally:
        housekeeping.stop()
        if waker is not None:
            waker.stop()
        reconciler.stop()
        database.close()


if __name__ == "__main__":
    main()
