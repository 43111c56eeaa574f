"""The service's composition root: `python -m aiaas_hub.app`, as the hub starts it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from aiaas_hub.adapters.blobs import FsspecBlobs
from aiaas_hub.adapters.columnar import ArrowTables
from aiaas_hub.adapters.duckdb_queries.engine import DuckDbQueries, QueryLimits
from aiaas_hub.adapters.packages import own_environment
from aiaas_hub.adapters.partial_uploads import FilePartialUploads
from aiaas_hub.adapters.records.database import Database
from aiaas_hub.adapters.records.datasets import SqlBlobGrants, SqlDatasetRecords
from aiaas_hub.adapters.records.endpoints import SqlEndpointRecords
from aiaas_hub.adapters.records.garbage import SqlGarbageRecords
from aiaas_hub.adapters.records.models import SqlModelRecords
from aiaas_hub.adapters.records.profiles import SqlProfileRecords
from aiaas_hub.adapters.records.requests import SqlRequestRecords
from aiaas_hub.adapters.records.runs import SqlRunRecords
from aiaas_hub.adapters.remote_files import RemoteFiles
from aiaas_hub.adapters.run_logs import FileRunLogs
from aiaas_hub.adapters.tensors import read_tensors
from aiaas_hub.api.application import VERSION_PREFIX, create_application
from aiaas_hub.api.identity import HubIdentity, Identity
from aiaas_hub.api.live import Live
from aiaas_hub.api.services import Services
from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.admission import Admission
from aiaas_hub.domain.advancing import Advancing
from aiaas_hub.domain.bringing import Bringing, DatasetLimits
from aiaas_hub.domain.collecting import Collecting
from aiaas_hub.domain.comparing import Comparing
from aiaas_hub.domain.datasets import Datasets
from aiaas_hub.domain.endpoints import Endpoints
from aiaas_hub.domain.jobs import Jobs
from aiaas_hub.domain.lineage import Lineages
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import Gateway, ServingEngine, Signer, TrainingEngine
from aiaas_hub.domain.profiling import Profiling
from aiaas_hub.domain.publishing import Publisher
from aiaas_hub.domain.querying import Querying, ResultLimits
from aiaas_hub.domain.queueing import UNLIMITED, QueueRules, RunLimits
from aiaas_hub.domain.runs import Runs
from aiaas_hub.domain.tokens import RunTokens
from aiaas_hub.domain.trials import Trials
from aiaas_hub.domain.turns import Turns
from aiaas_hub.home import Home
from aiaas_hub.loopback import is_loopback
from aiaas_hub.reconcile import Reconciler
from aiaas_hub.schemas.errors import AiaasError, InvalidInput
from aiaas_hub.schemas.runs import Environment
from aiaas_hub.spawner.notebook_home import directory_name

if TYPE_CHECKING:
    from aiaas_hub.adapters.supervisor import Supervisor

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Engines:
    """The engines that this service drives."""

    def __init__(
        self, training: TrainingEngine, serving: ServingEngine, gateway: Gateway, signer: Signer
    ) -> None:
        self.training = training
        self.serving = serving
        self.gateway = gateway
        self.signer = signer


def read_config(home: Home) -> ServiceConfig:
    """The operator's settings; a file that does not exist sets nothing."""
    loaded = Config()
    if (home.root / "aiaas_config.py").exists():
        loader = PyFileConfigLoader("aiaas_config.py", path=str(home.root))
        loaded = loader.load_config()
    config = ServiceConfig(config=loaded)
    if config.records_url_file:
        config.records_url = Path(config.records_url_file).read_text().strip()
    config.records_url = config.records_url or home.records_url
    config.artifacts_url = config.artifacts_url or str(home.artifacts / "blobs")
    return config


def local_engines(home: Home, api_url: str, config: ServiceConfig) -> Engines:
    # Imported here, since only the engines that are driven need be installed.
    from aiaas_hub.adapters.envoy_local import EnvoyLocal
    from aiaas_hub.adapters.supervisor import Supervisor
    from aiaas_hub.adapters.triton_local import TritonLocal
    from aiaas_hub.gateway.keys import GatewayKeys

    supervisor = Supervisor(records=home.processes, logs=home.logs)
    keys = GatewayKeys(home)
    return Engines(
        training=_training(home, supervisor, api_url, config),
        serving=TritonLocal(home, supervisor),
        gateway=EnvoyLocal(home, supervisor),
        signer=keys,
    )


def _training(
    home: Home, supervisor: Supervisor, api_url: str, config: ServiceConfig
) -> TrainingEngine:
    if config.ray_address:
        from aiaas_hub.adapters.ray_cluster import RayCluster
        from aiaas_hub.adapters.ray_jobs import RayJobs

        if not config.ray_storage and not is_loopback(config.ray_address):
            raise InvalidInput(
                f"The Ray cluster at {config.ray_address} does not see this machine's disk, and "
                "no directory is named that both have.",
                remedy="Set c.ServiceConfig.ray_storage in aiaas_config.py.",
            )
        token = Path(config.ray_token_file).read_text().strip() if config.ray_token_file else ""
        return RayCluster(
            RayJobs(config.ray_address, token),
            Path(config.ray_storage) if config.ray_storage else home.runs,
            config.ray_api_url or api_url,
            config.ray_address,
        )
    from aiaas_hub.adapters.ray_drivers import Reserve
    from aiaas_hub.adapters.ray_local import RayLocal

    reserve = Reserve(config.waiting_drivers, config.waiting_workers, config.waiting_seconds)
    return RayLocal(home, supervisor, api_url, reserve)


def compose(
    home: Home, config: ServiceConfig, engines: Engines, identity: Identity, prefix: str
) -> tuple[FastAPI, Reconciler, Database]:
    """Put the parts together; starts nothing."""
    database = Database(config.records_url)
    database.migrate()
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
    queries = DuckDbQueries(home.queries, _query_limits(config))
    bringing = Bringing(
        datasets,
        blobs,
        grants,
        tables,
        queries,
        RemoteFiles(config.remote_sources, config.remote_hosts),
        DatasetLimits(config.max_upload_bytes, roots),
    )
    models = Models(SqlModelRecords(database), blobs, grants)
    admission = Admission(
        run_records, engines.training, _queue_rules(config), config.max_queued_per_user
    )

    def workers_environment(packages: Iterable[str]) -> Environment | None:
        # What a cluster of others has installed, only its operator knows.
        return None if config.ray_address else own_environment(packages)

    runs = Runs(run_records, admission, datasets, grants, logs, live, PYTHON, workers_environment)
    advancing = Advancing(run_records, admission, engines.training, logs, tokens, live)
    endpoints = Endpoints(
        endpoint_records, models, runs, engines.gateway, engines.serving, engines.signer, live
    )
    publisher = Publisher(
        endpoint_records, endpoints, models, blobs, engines.serving, live, read_tensors
    )
    profiling = Profiling(SqlProfileRecords(database), blobs, queries, live)
    collecting = Collecting(
        SqlGarbageRecords(database), blobs, timedelta(hours=config.retired_hours)
    )
    ordered = (engines.gateway, engines.serving, engines.training)
    reconciler = Reconciler(
        ordered,
        advancing,
        publisher,
        endpoint_records,
        tend=engines.training.tend,
        background={"profiles": profiling.work, "garbage": collecting.work},
    )
    services = Services(
        datasets=datasets,
        bringing=bringing,
        querying=Querying(
            datasets,
            blobs,
            queries,
            Turns(config.max_queries_per_user, config.max_queries, "queries"),
            ResultLimits(config.query_rows, config.query_result_bytes, config.query_result_bytes),
        ),
        profiling=profiling,
        comparing=Comparing(datasets, profiling),
        runs=runs,
        admission=admission,
        trials=Trials(run_records, tokens, live),
        jobs=Jobs(run_records, datasets, models, logs, tokens, live),
        models=models,
        endpoints=endpoints,
        lineages=Lineages(endpoints, models, runs),
        blobs=blobs,
        uploads=FilePartialUploads(home.artifacts / "uploads", config.max_upload_bytes),
        grants=grants,
        requests=SqlRequestRecords(database),
        run_records=run_records,
        endpoint_records=endpoint_records,
        live=live,
        wake=reconciler.wake,
        engines=reconciler.healths,
        gateway_url=lambda: engines.gateway.url,
        max_upload_bytes=config.max_upload_bytes,
        python=PYTHON,
    )
    return create_application(services, identity, prefix), reconciler, database


def _queue_rules(config: ServiceConfig) -> QueueRules:
    def limits(runs: int, workers: int | None, gpus: int | None) -> RunLimits:
        return RunLimits(
            runs,
            UNLIMITED if workers is None else workers,
            UNLIMITED if gpus is None else gpus,
        )

    return QueueRules(
        per_user=limits(
            config.max_runs_per_user, config.max_workers_per_user, config.max_gpus_per_user
        ),
        in_all=limits(config.max_runs, config.max_workers, config.max_gpus),
        patience=timedelta(seconds=config.queue_patience_seconds),
    )


def _query_limits(config: ServiceConfig) -> QueryLimits:
    return QueryLimits(
        seconds=config.query_seconds,
        memory_bytes=config.query_memory_bytes,
        threads=config.query_threads,
        spill_bytes=config.query_spill_bytes,
    )


def main() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Their requests carry tokens in headers that debug levels would show.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Home.from_environment()
    home.prepare()
    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    host, port = address.hostname or "127.0.0.1", address.port
    assert port is not None, "the hub names a port"  # noqa: S101 - an invariant
    # Jobs report to the service itself: neither hub nor proxy need to be up for that.
    api_url = f"http://{host}:{port}{prefix.rstrip('/')}{VERSION_PREFIX}"
    config = read_config(home)
    try:
        engines = local_engines(home, api_url, config)
    except AiaasError as error:
        sys.exit(f"{error.message} {error.remedy}")
    app, reconciler, database = compose(home, config, engines, HubIdentity(), prefix)
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
    reconciler.start()
    try:
        server.run()
    finally:
        reconciler.stop()
        database.close()


if __name__ == "__main__":
    main()
