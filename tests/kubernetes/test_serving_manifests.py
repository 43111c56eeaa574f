"""A group of Triton servers as objects of Kubernetes: pure, so these need no cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
from bed.definitions import CRDS
from bed.strict import faults, schema_of
from manifests import rendered
from reach import Peer, reaches

from aiaas_hub.adapters.triton_kubernetes.manifests import (
    GROUP_LABEL,
    SHARED,
    SPECIFICATION,
    ServerPods,
    address_of,
    deployment,
    group_of,
    group_of_owner,
    name_of,
    service,
)
from aiaas_hub.adapters.triton_kubernetes.workloads import WORKLOADS
from aiaas_hub.adapters.triton_local.model_configuration import configuration
from aiaas_hub.config import ServiceConfig
from aiaas_hub.domain.serving_names import serving_name
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature, TensorSpec
from aiaas_hub.serving_pods import server_pods

PODS = ServerPods(
    namespace="aiaas-serving",
    platform="aiaas",
    image="registry.example/triton:1",
    agent_image="registry.example/hub:1",
    store="s3://bucket/serving",
)
SIGNATURE = Signature(
    inputs=[TensorSpec(name="x", dtype="float32", shape=[3])],
    outputs=[TensorSpec(name="y", dtype="float32", shape=[3])],
)


def containers(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in made["spec"]["template"]["spec"]["containers"]}


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_every_object_is_valid_and_has_no_unknown_field(version: str) -> None:
    chosen = replace(
        PODS,
        gpus=1,
        pull_secrets=["pull"],
        node_selector={"pool": "serving"},
        tolerations=[{"key": "serving", "operator": "Exists", "effect": "NoSchedule"}],
    )
    for pods in (PODS, chosen):
        made = WORKLOADS["deployment"].with_replicas(deployment(SHARED, pods), pods.replicas)
        kubernetes_validate.validate(made, version, strict=True)
        kubernetes_validate.validate(service(SHARED, pods), version, strict=True)


def test_an_owner_has_a_group_of_their_own_where_that_is_the_policy() -> None:
    names = [
        serving_name(owner, endpoint, SIGNATURE)
        for owner, endpoint in (("ann", "a"), ("ann", "b-c"), ("bob", "a"))
    ]
    groups = [group_of(name, "owner") for name in names]
    assert groups[0] == groups[1] == group_of_owner("ann", "owner")
    assert groups[2] == group_of_owner("bob", "owner") != groups[0]
    assert {group_of(name, "shared") for name in names} == {SHARED}
    assert address_of(SHARED, PODS) == "triton-shared.aiaas-serving.svc.cluster.local"


def test_a_pod_is_confined_and_only_its_agent_reads_the_store() -> None:
    made = deployment("owner-1", PODS)
    spec = made["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for one in containers(made).values():
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"readinessProbe", "livenessProbe"} <= set(one)
        assert "memory" in one["resources"]["limits"]
    triton, agent = containers(made)["triton"], containers(made)["agent"]
    assert "envFrom" not in triton
    assert agent["envFrom"] == [{"secretRef": {"name": "serving-store", "optional": True}}]
    [models] = [one for one in triton["volumeMounts"] if one["name"] == "models"]
    assert models["readOnly"] is True


def test_what_loads_models_and_what_infers_need_a_secret_each_that_no_object_holds() -> None:
    triton = containers(deployment(SHARED, PODS))["triton"]
    start = triton["args"][0]
    for protocol in ("model-repository", "model-config", "shared-memory", "logging", "trace"):
        assert protocol in start.partition(":aiaas-control=")[0], protocol
    assert 'inference,metadata:aiaas-inference="$(cat /etc/aiaas-serving/inference)"' in start
    grpc = start.partition("--grpc-restricted-protocol=")[2]
    assert "inference" in grpc
    assert grpc.endswith(':aiaas-control="$(cat /etc/aiaas-serving/control)"')
    assert "--model-control-mode=explicit" in triton["args"]
    assert "env" not in triton


def test_gpus_are_triton_s_and_its_models() -> None:
    made = containers(deployment(SHARED, replace(PODS, gpus=2)))
    assert made["triton"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in json.dumps(made["agent"])
    assert "kind: KIND_GPU" in configuration("m", SIGNATURE, [1], on_gpus=True)
    assert "kind: KIND_CPU" in configuration("m", SIGNATURE, [1])


def test_an_autoscaler_keeps_its_number_and_a_change_is_noticed() -> None:
    made = deployment(SHARED, PODS)
    assert "replicas" not in made["spec"]
    assert WORKLOADS["deployment"].replicas(made) is None
    mark = made["metadata"]["annotations"][SPECIFICATION]
    assert deployment(SHARED, PODS)["metadata"]["annotations"][SPECIFICATION] == mark
    other = deployment(SHARED, replace(PODS, image="registry.example/triton:2"))
    assert other["metadata"]["annotations"][SPECIFICATION] != mark


def test_an_inference_service_has_the_same_pod_and_no_unknown_field() -> None:
    pods = replace(PODS, tolerations=[{"key": "serving", "operator": "Exists"}])
    workload = WORKLOADS["inferenceservice"]
    made = workload.with_replicas(workload.make(SHARED, pods), 3)
    schema = schema_of(CRDS / "serving.kserve.io_inferenceservices.yaml", "v1beta1")
    assert list(faults(made, schema)) == []
    assert workload.replicas(made) == 3
    assert workload.replicas(workload.make(SHARED, pods)) is None
    pod = deployment(SHARED, pods)["spec"]["template"]
    assert made["metadata"]["labels"] == pod["metadata"]["labels"]
    predictor = made["spec"]["predictor"]
    server, agent = predictor["containers"]
    assert server.pop("name") == "kserve-container"
    triton, same = pod["spec"]["containers"]
    assert (agent, server) == (same, {k: v for k, v in triton.items() if k != "name"})
    assert {k: predictor[k] for k in pod["spec"] if k != "containers"} == {
        k: v for k, v in pod["spec"].items() if k != "containers"
    }
    assert predictor["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0}
    # Our gateway splits: without Knative KServe would ignore it in silence.
    assert "canaryTrafficPercent" not in json.dumps(made)
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"


def test_network_policies_and_the_role_name_what_is_made() -> None:
    manifests = rendered("options/serving")
    wanted = deployment(SHARED, PODS)["spec"]["template"]["metadata"]["labels"]
    assert wanted[GROUP_LABEL] == SHARED
    selected = [
        one["spec"]["podSelector"]["matchLabels"]
        for one in manifests
        if (one["kind"], one["metadata"]["name"]) == ("NetworkPolicy", "triton")
    ]
    assert len(selected) == 1
    assert selected[0].items() <= wanted.items()
    ports = {
        port["containerPort"]
        for one in containers(deployment(SHARED, PODS)).values()
        for port in one["ports"]
    }
    text = json.dumps([one for one in manifests if one["kind"] == "NetworkPolicy"])
    assert all(f'"port": {port}' in text for port in ports)


SPACES = {"aiaas": "platform", "aiaas-users": "users", "aiaas-serving": "serving"}


def peer(component: str, namespace: str) -> Peer:
    labels = {"app.kubernetes.io/part-of": "aiaas-hub", "app.kubernetes.io/component": component}
    return Peer(namespace, labels, {"aiaas-hub/namespace": SPACES[namespace]})


TRITON, GATEWAY = peer("triton", "aiaas-serving"), peer("gateway", "aiaas-serving")
SERVICE = peer("service", "aiaas")
SERVER, RUN = peer("server", "aiaas-users"), peer("run", "aiaas-users")
STORE, METADATA = Peer(ip="93.184.216.34"), Peer(ip="169.254.169.254")


@pytest.mark.parametrize(
    ("source", "target", "port", "way"),
    [
        (SERVER, GATEWAY, 8080, True),
        (SERVER, GATEWAY, 8081, False),
        (STORE, GATEWAY, 8080, True),
        (STORE, GATEWAY, 8081, False),
        (GATEWAY, TRITON, 8000, True),
        (GATEWAY, TRITON, 8001, False),
        (GATEWAY, TRITON, 8003, False),
        (SERVICE, TRITON, 8001, True),
        (SERVICE, TRITON, 8003, True),
        (SERVICE, GATEWAY, 8081, True),
        (SERVER, TRITON, 8000, False),
        (RUN, TRITON, 8000, False),
        (RUN, TRITON, 8001, False),
        (TRITON, STORE, 443, True),
        (TRITON, METADATA, 443, False),
        (TRITON, SERVICE, 8080, False),
        (TRITON, TRITON, 8001, False),
        (GATEWAY, STORE, 443, False),
    ],
)
def test_who_reaches_whom(source: Peer, target: Peer, port: int, way: bool) -> None:
    manifests = rendered("base", "options/runs", "options/serving")
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    assert reaches(policies, source, target, port) is way


def test_settings_that_are_missing_are_named() -> None:
    given = {
        "serving_namespace": "aiaas-serving",
        "serving_url": "s3://bucket/serving",
        "serving_image": "triton",
        "serving_agent_image": "hub",
        "serving_gateway_url": "https://models.example",
    }
    assert server_pods(ServiceConfig(**given)).store == "s3://bucket/serving"
    for name in set(given) - {"serving_namespace"}:
        with pytest.raises(InvalidInput, match=name):
            server_pods(ServiceConfig(**{**given, name: ""}))
    with pytest.raises(InvalidInput, match="no object store"):
        server_pods(ServiceConfig(**{**given, "serving_url": "/srv/models"}))


@pytest.mark.parametrize("option", ["options/serving-hpa", "options/serving-keda"])
def test_autoscalers_are_for_the_deployment_that_is_made(option: str) -> None:
    (scaler,) = rendered(option)
    assert scaler["metadata"]["namespace"] == PODS.namespace
    assert scaler["spec"]["scaleTargetRef"]["name"] == name_of(SHARED)
