"""What the operator's settings are to those that keep to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from aiaas_hub.adapters.duckdb_queries.engine import QueryLimits
from aiaas_hub.adapters.yaml_file import YamlFile
from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.holdings import UNLIMITED, RunLimits
from aiaas_hub.domain.queueing import QueueRules
from aiaas_hub.domain.quotas import Quotas
from aiaas_hub.domain.usage import Rate, Rating
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, Unavailable
from aiaas_hub.schemas.platform import WorkerProfile
from aiaas_hub.schemas.runs import Resources
from aiaas_hub.spawner.pricing import rate
from aiaas_hub.spawner.profiles import Capacity, load_profiles, offers

log = logging.getLogger(__name__)


def quotas(
    home: Home, config: ServiceConfig
) -> tuple[Callable[[], Quotas], Callable[[], Quotas | None]]:
    """The quotas as they are, and as they last were."""
    file = YamlFile(Path(config.quotas_file or home.root / "quotas.yaml"), Quotas, "quotas")

    def read() -> Quotas:
        try:
            return file.read()
        except InvalidInput as error:
            log.error("%s", error)
            raise Unavailable(
                "The platform's quotas cannot be read, so nothing new is started.",
                remedy="Whoever runs the platform finds the mistake in the service's log.",
            ) from error

    return read, file.last


def worker_profiles(config: ServiceConfig) -> Callable[[frozenset[str]], list[WorkerProfile]]:
    def open_to(groups: frozenset[str]) -> list[WorkerProfile]:
        if not config.profiles_file:
            return []
        # Whether a worker fits is for the queue to say: workers may be elsewhere.
        offered = offers(load_profiles(Path(config.profiles_file)), Capacity(gpus=0), groups)
        return [
            WorkerProfile(
                name=offer.profile.slug,
                description=offer.profile.description,
                cpus=offer.profile.cpus,
                gpus=offer.profile.gpus,
                price_per_hour=offer.profile.price_per_hour,
            )
            for offer in offered
        ]

    return open_to


def rating(config: ServiceConfig) -> Rating:
    def of(resources: Resources, concurrency: int) -> Rate:
        if not config.profiles_file:
            return Rate("", 0.0)
        try:
            profiles = load_profiles(Path(config.profiles_file)).profiles
        except AiaasError as error:
            # What a run costs must not keep it from being started or ended.
            log.error("A run is not priced: %s", error)
            return Rate("", 0.0)
        return rate(profiles, resources, concurrency)

    return of


def queue_rules(config: ServiceConfig) -> QueueRules:
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


def query_limits(config: ServiceConfig) -> QueryLimits:
    return QueryLimits(
        seconds=config.query_seconds,
        memory_bytes=config.query_memory_bytes,
        threads=config.query_threads,
        spill_bytes=config.query_spill_bytes,
    )
