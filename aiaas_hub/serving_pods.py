"""Serving on Kubernetes, put together from the operator's settings."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from aiaas_hub.adapters.envoy_kubernetes import EnvoyKubernetes, GatewayPods
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.engine import TritonKubernetes
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    HTTP_PORT,
    INFERENCE_HEADER,
    Grouping,
    ServerPods,
    WorkloadName,
    address_of,
    group_of_owner,
)
from aiaas_hub.config import ServiceConfig
from aiaas_hub.gateway.keys import GatewayKeys
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import InvalidInput

_NEEDED = ("serving_url", "serving_image", "serving_agent_image", "serving_gateway_url")


def serving_on_pods(
    home: Home, keys: GatewayKeys, config: ServiceConfig
) -> tuple[TritonKubernetes, EnvoyKubernetes]:
    """Raises `InvalidInput` for settings that are missing or cannot be meant."""
    pods = server_pods(config)
    try:
        secret = Path(config.serving_secret_file).read_text().strip()
    except OSError as error:
        raise InvalidInput(
            f"{config.serving_secret_file}, with which models are loaded, cannot be read.",
            remedy="Make the Secret `triton`, and mount it: see docs/kubernetes.md.",
        ) from error
    kubeconfig = Path(config.kubernetes_kubeconfig) if config.kubernetes_kubeconfig else None

    def cluster() -> Cluster:
        return Cluster(config.serving_namespace, kubeconfig)

    serving = TritonKubernetes(cluster(), pods, Catalogue(config.serving_url), secret, home.triton)
    gateway = EnvoyKubernetes(
        cluster(),
        GatewayPods(
            namespace=config.serving_namespace,
            url=config.serving_gateway_url,
            triton_port=HTTP_PORT,
            triton_header=INFERENCE_HEADER,
        ),
        keys,
        lambda owner: address_of(group_of_owner(owner, pods.grouping), pods),
        parallel=config.max_requests_per_user,
    )
    return serving, gateway


def server_pods(config: ServiceConfig) -> ServerPods:
    """What the pods of Triton are made of."""
    for name in _NEEDED:
        if not getattr(config, name):
            raise InvalidInput(
                f"Serving on Kubernetes needs {name}, which is not set.",
                remedy=f"Set c.ServiceConfig.{name} in aiaas_config.py: see docs/kubernetes.md.",
            )
    if "://" not in config.serving_url or config.serving_url.startswith("file:"):
        raise InvalidInput(
            f"{config.serving_url} is no object store that pods reach.",
            remedy="Set c.ServiceConfig.serving_url to s3://bucket/prefix in aiaas_config.py.",
        )
    return ServerPods(
        namespace=config.serving_namespace,
        platform=config.kubernetes_platform,
        image=config.serving_image,
        agent_image=config.serving_agent_image,
        store=config.serving_url,
        grouping=cast("Grouping", config.serving_groups),
        workload=cast("WorkloadName", config.serving_workload),
        replicas=config.serving_replicas,
        cpus=config.serving_cpus,
        gpus=config.serving_gpus,
        memory=str(config.serving_pod_memory_bytes),
        pull_secrets=config.kubernetes_pull_secrets,
        node_selector=config.serving_node_selector,
        tolerations=config.serving_tolerations,
    )
