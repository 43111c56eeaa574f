"""Triton's pods made by KServe: an InferenceService for each group, and all else as without it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from bed.api import CORE
from bed.control_plane import ControlPlane
from kserve_operator import KServeOperator
from manifests import rights
from object_store import object_store
from serving_pods import Serving, server_pods, serving

from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.engine import TritonKubernetes
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.home import Home
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState

pytestmark = pytest.mark.timeout(300)

SIGNATURE = onnx_models.SCALE_SIGNATURE
MODEL = serving_name("ann", "scale", SIGNATURE)
SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"


@dataclass
class World:
    serving: Serving
    operator: KServeOperator
    directory: Path


@pytest.fixture(scope="module")
def world(crds: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("kserve")
    home = Home(directory / "home")
    home.prepare()
    namespace = crds.namespace(f"test-{uuid.uuid4().hex[:8]}")
    with object_store(directory / "s3") as store, KServeOperator(crds.api, namespace) as operator:
        pods = replace(server_pods(namespace, store), workload="inferenceservice")
        with serving(crds, home, store, pods, options=("serving", "serving-kserve")) as found:
            yield World(found, operator, directory)
    crds.api.delete(f"{CORE}/namespaces/{namespace}")


def is_ready(triton: TritonKubernetes) -> bool:
    """After what the reconciler does: until KServe has made the pods there are none."""
    triton.start()
    return triton.health().state is EngineState.READY


def test_a_model_is_served_by_the_pods_of_an_inference_service(world: World) -> None:
    triton = world.serving.triton
    world.serving.until(lambda: is_ready(triton))
    staged = triton.stage(
        MODEL, 1, SIGNATURE, onnx_models.scale(world.directory / "model.onnx", 3.0)
    )
    triton.install(staged)
    began = time.monotonic()
    triton.set_versions(MODEL, SIGNATURE, [1])
    print(f"loaded by both pods after {time.monotonic() - began:.2f} s")
    assert triton.ready_versions(MODEL) == {1}
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert (triton.infer(MODEL, 1, {"x": x})["y"] == 3 * x).all()
    servers = world.serving.servers()
    assert len(servers) == 2
    assert {pod["metadata"]["labels"]["serving.kserve.io/inferenceservice"] for pod in servers} == {
        "triton-shared"
    }
    assert world.operator.failures == []


def test_a_setting_that_changed_changes_the_inference_service(world: World) -> None:
    """What somebody else says of the number of pods stays."""
    serving = world.serving
    path = f"{SERVICES.format(serving.namespace)}/triton-shared"
    serving.api.patch(path, {"spec": {"predictor": {"minReplicas": 1}}})
    other = TritonKubernetes(
        Cluster(serving.namespace, serving.kubeconfig),
        replace(serving.pods, cpus=0.25),
        Catalogue(serving.pods.store),
        serving.control,
        world.directory / "staging",
    )
    try:
        other.start()
        predictor = serving.api.get(path)["spec"]["predictor"]
        assert predictor["minReplicas"] == 1
        assert predictor["containers"][0]["resources"]["requests"]["cpu"] == "0.25"
        serving.until(lambda: len(serving.servers()) == 1)
        serving.until(lambda: is_ready(other))
        assert other.ready_versions(MODEL) == {1}
    finally:
        other.close()


def test_a_cluster_without_kserve_is_named(world: World, tmp_path: Path) -> None:
    """By the server's own answer about a kind that it does not know."""
    serving = world.serving
    triton = TritonKubernetes(
        Cluster(serving.namespace, serving.plane.kubeconfig),
        serving.pods,
        Catalogue(serving.pods.store),
        serving.control,
        tmp_path,
    )
    unknown = replace(triton._workload.kind, plural="nothings")
    triton._workload = replace(triton._workload, kind=unknown)
    try:
        with pytest.raises(Unavailable, match="no KServe"):
            triton.start()
        health = triton.health()
    finally:
        triton.close()
    assert health.state is EngineState.UNAVAILABLE
    assert "no KServe" in health.reason
    assert 'serving_workload = "deployment"' in health.reason


def test_every_right_that_kserve_needs_is_used(world: World) -> None:
    used = set(world.serving.plane.asked(f"{world.serving.namespace}:default"))
    of_kserve = rights("options/serving-kserve")
    assert of_kserve <= used
    # Nor does the service touch Deployments any more.
    assert not {one for one in used - of_kserve if one[1] == "deployments"}
