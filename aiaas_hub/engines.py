"""The engines that the service drives, chosen by the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.ports import Gateway, ServingEngine, Signer, TrainingEngine
from aiaas_hub.home import Home
from aiaas_hub.loopback import is_loopback
from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    from aiaas_hub.adapters.supervisor import Supervisor


@dataclass(frozen=True)
class Engines:
    training: TrainingEngine
    serving: ServingEngine
    gateway: Gateway
    signer: Signer


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
        gateway=EnvoyLocal(home, supervisor, parallel=config.max_requests_per_user),
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
