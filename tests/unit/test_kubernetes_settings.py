"""Which settings make runs go to Kubernetes, and what is said of those that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.config import ServiceConfig
from aiaas_hub.engines import run_pods
from aiaas_hub.schemas.errors import InvalidInput

NEEDED = {
    "kubernetes_namespace": "runs",
    "kubernetes_api_url": "http://aiaas.hub:8081/api/v1",
    "kubernetes_image": "registry.example/ray:1.2",
    "kubernetes_storage_claim": "checkpoints",
    "kubernetes_ray_version": "2.60.0",
}


def test_settings_become_what_pods_are_made_of() -> None:
    pods = run_pods(ServiceConfig(**NEEDED, kubernetes_queue="users"))
    assert (pods.namespace, pods.queue, pods.image) == ("runs", "users", NEEDED["kubernetes_image"])
    assert pods.gpus is None


@pytest.mark.parametrize(
    "name", ["kubernetes_api_url", "kubernetes_image", "kubernetes_storage_claim"]
)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        run_pods(ServiceConfig(**{**NEEDED, name: ""}))
    assert name in raised.value.message
    assert name in raised.value.remedy


def test_workers_with_gpus_go_where_a_profile_says(tmp_path: Path) -> None:
    profile = {
        "slug": "slice",
        "name": "Slice",
        "description": "A slice of a GPU.",
        "cpus": 4,
        "memory": "16G",
        "gpus": 1,
        "gpu_kind": "mig",
        "mig_slice": "1g.10gb",
        "node_selector": {"gpu": "a100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "default": True,
    }
    file = tmp_path / "profiles.yaml"
    file.write_text(yaml.safe_dump({"profiles": [profile]}))
    settings = {**NEEDED, "profiles_file": str(file)}
    gpus = run_pods(ServiceConfig(**settings, kubernetes_gpu_profile="slice")).gpus
    assert gpus is not None
    assert gpus.resource == "nvidia.com/mig-1g.10gb"
    assert gpus.node_selector == {"gpu": "a100"}
    assert gpus.tolerations == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    with pytest.raises(InvalidInput, match="no profile 'other'"):
        run_pods(ServiceConfig(**settings, kubernetes_gpu_profile="other"))


def test_a_cluster_that_is_not_known_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidInput, match="Kubernetes cluster is not known") as raised:
        Cluster("runs")
    assert "kubernetes_kubeconfig" in raised.value.remedy
    with pytest.raises(InvalidInput, match="Kubernetes cluster is not known"):
        Cluster("runs", tmp_path / "none")
