"""The engines that the service drives, chosen by the operator's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.ports import Engine, Gateway, ServingEngine, Signer, TrainingEngine
from aiaas_hub.home import Home
from aiaas_hub.loopback import is_loopback
from aiaas_hub.schemas.errors import InvalidInput

if TYPE_CHECKING:
    from aiaas_hub.adapters.kubernetes.run_settings import GpuNodes, Nodes, RunPods
    from aiaas_hub.adapters.supervisor import Supervisor
    from aiaas_hub.gateway.keys import GatewayKeys
    from aiaas_hub.spawner.profiles import Profile


@dataclass(frozen=True)
class Engines:
    training: TrainingEngine
    serving: ServingEngine
    gateway: Gateway
    signer: Signer
    others: Sequence[Engine] = ()
    """What is kept alive beside them."""


def local_engines(home: Home, api_url: str, config: ServiceConfig) -> Engines:
    # Imported here, since only the engines that are driven need be installed.
    from aiaas_hub.adapters.supervisor import Supervisor
    from aiaas_hub.gateway.keys import GatewayKeys

    supervisor = Supervisor(records=home.processes, logs=home.logs)
    keys = GatewayKeys(home)
    serving, gateway, others = _serving(home, supervisor, keys, config)
    return Engines(
        training=_training(home, supervisor, api_url, config),
        serving=serving,
        gateway=gateway,
        signer=keys,
        others=others,
    )


def _serving(
    home: Home, supervisor: Supervisor, keys: GatewayKeys, config: ServiceConfig
) -> tuple[ServingEngine, Gateway, Sequence[Engine]]:
    if config.serving_namespace:
        from aiaas_hub.serving_pods import serving_on_pods

        return *serving_on_pods(home, keys, config), ()
    from aiaas_hub.adapters.envoy_local import EnvoyLocal
    from aiaas_hub.adapters.translator.engine import TranslatorLocal
    from aiaas_hub.adapters.triton_local import TritonLocal

    return (
        TritonLocal(home, supervisor),
        EnvoyLocal(home, supervisor, parallel=config.max_requests_per_user),
        # Before it is the gateway, where there is one.
        [TranslatorLocal(home, supervisor)] if find_spec("envoy") else [],
    )


def _training(
    home: Home, supervisor: Supervisor, api_url: str, config: ServiceConfig
) -> TrainingEngine:
    if config.kubernetes_namespace:
        from aiaas_hub.adapters.kubernetes.client import Cluster
        from aiaas_hub.adapters.ray_kubernetes import RayKubernetes

        kubeconfig = config.kubernetes_kubeconfig
        cluster = Cluster(config.kubernetes_namespace, Path(kubeconfig) if kubeconfig else None)
        return RayKubernetes(cluster, run_pods(config))
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


def run_pods(config: ServiceConfig) -> RunPods:
    """What the pods of runs are made of. Raises `InvalidInput` for settings that are missing."""
    from aiaas_hub.adapters.kubernetes.run_settings import RunPods

    for name in ("kubernetes_api_url", "kubernetes_image", "kubernetes_storage_claim"):
        if not getattr(config, name):
            raise InvalidInput(
                f"Runs on Kubernetes need {name}, which is not set.",
                remedy=f"Set c.ServiceConfig.{name} in aiaas_config.py: see docs/training.md.",
            )
    return RunPods(
        namespace=config.kubernetes_namespace,
        platform=config.kubernetes_platform,
        image=config.kubernetes_image,
        ray_version=config.kubernetes_ray_version or _installed_ray(),
        api_url=config.kubernetes_api_url,
        storage_claim=config.kubernetes_storage_claim,
        worker_memory=config.kubernetes_worker_memory,
        head_memory=config.kubernetes_head_memory,
        keep_seconds=config.kubernetes_keep_seconds,
        queue=config.kubernetes_queue,
        gpus=_gpu_nodes(config),
        others=_other_nodes(config),
        autoscaled=config.kubernetes_autoscaling,
        idle_seconds=config.kubernetes_idle_seconds,
        pull_secrets=config.kubernetes_pull_secrets,
        environment=config.kubernetes_environment,
        node_patience_seconds=config.kubernetes_node_patience_seconds,
    )


def _installed_ray() -> str:
    try:
        return version("ray")
    except PackageNotFoundError as error:
        raise InvalidInput(
            "The version of Ray in the pods of runs is not known.",
            remedy="Set c.ServiceConfig.kubernetes_ray_version in aiaas_config.py.",
        ) from error


def _gpu_nodes(config: ServiceConfig) -> GpuNodes | None:
    slug = config.kubernetes_gpu_profile
    if not slug:
        return None
    from aiaas_hub.adapters.kubernetes.run_settings import GpuNodes
    from aiaas_hub.spawner.kubernetes import gpu_resource

    profile = _profile(config, "kubernetes_gpu_profile", slug)
    if not profile.gpus:
        raise InvalidInput(
            f"The profile {slug!r} of {config.profiles_file} has no GPUs.",
            remedy="Name one that has in c.ServiceConfig.kubernetes_gpu_profile.",
        )
    return GpuNodes(
        resource=gpu_resource(profile),
        node_selector=profile.node_selector,
        tolerations=[one.model_dump(exclude_none=True) for one in profile.tolerations],
    )


def _other_nodes(config: ServiceConfig) -> Nodes:
    from aiaas_hub.adapters.kubernetes.run_settings import Nodes

    slug = config.kubernetes_worker_profile
    if not slug:
        return Nodes()
    profile = _profile(config, "kubernetes_worker_profile", slug)
    return Nodes(
        node_selector=profile.node_selector,
        tolerations=[one.model_dump(exclude_none=True) for one in profile.tolerations],
    )


def _profile(config: ServiceConfig, setting: str, slug: str) -> Profile:
    from aiaas_hub.spawner.profiles import load_profiles

    if not config.profiles_file:
        raise InvalidInput(
            f"No file of profiles is named, in which {slug!r} would be.",
            remedy="Set c.ServiceConfig.profiles_file in aiaas_config.py.",
        )
    for profile in load_profiles(Path(config.profiles_file)).profiles:
        if profile.slug == slug:
            return profile
    raise InvalidInput(
        f"{config.profiles_file} has no profile {slug!r}.",
        remedy=f"Name one in c.ServiceConfig.{setting}.",
    )
