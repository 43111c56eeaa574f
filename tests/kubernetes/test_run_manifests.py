"""A run's attempt as objects of Kubernetes: pure, so these need no cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from bed.strict import faults, schema_of

from aiaas_hub.adapters.kubernetes.run_manifests import (
    assignment,
    owner_directory,
    rayjob,
    stop_mark,
    token_secret,
)
from aiaas_hub.adapters.kubernetes.run_settings import GpuNodes, Nodes, RunPods
from aiaas_hub.domain.ports import JobSubmission
from aiaas_hub.schemas.assignments import Assignment
from aiaas_hub.schemas.errors import InternalError, InvalidInput
from aiaas_hub.schemas.runs import Resources

CRDS = Path(__file__).parent / "crds"
PODS = RunPods(
    namespace="runs",
    platform="aiaas",
    image="registry.example/ray:1.2",
    ray_version="2.60.0",
    api_url="http://aiaas.hub:8081/api/v1",
    storage_claim="checkpoints",
)
SLICES = GpuNodes(
    resource="nvidia.com/mig-1g.10gb",
    node_selector={"gpu": "a100"},
    tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
)
SECRET = "the-run-token-that-nobody-may-see"
JOB = JobSubmission(
    "run-abcdefghjk-2", "ada", Resources(workers=3, cpus_per_worker=1.5), SECRET, "run-before"
)
SWEEP = replace(JOB, resources=Resources(cpus_per_worker=2), concurrency=8)
ON_GPUS = replace(JOB, resources=Resources(workers=2, gpus_per_worker=2))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return schema_of(CRDS / "ray.io_rayjobs.yaml", "v1")


def pods_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return {
        "submitter": job["spec"]["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        "worker": cluster["workerGroupSpecs"][0]["template"],
    }


def containers_of(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for pod in pods_of(job).values():
        yield from pod["spec"].get("initContainers", [])
        yield from pod["spec"]["containers"]


@pytest.mark.parametrize(
    ("job", "pods"),
    [
        (JOB, PODS),
        (JOB, replace(PODS, queue="users", pull_secrets=["pull"], environment={"A": "b"})),
        (ON_GPUS, replace(PODS, gpus=SLICES)),
        (SWEEP, replace(PODS, autoscaled=True)),
    ],
)
def test_the_definition_of_kuberay_knows_every_field(
    schema: dict[str, Any], job: JobSubmission, pods: RunPods
) -> None:
    made = rayjob(job, pods)
    assert list(faults(made, schema)) == []
    made["spec"]["rayClusterSpec"]["authOption"] = {}
    made["spec"]["backoffLimit"] = "none"
    assert sorted(faults(made, schema)) == [
        ".spec.backoffLimit: 'none' is no integer",
        ".spec.rayClusterSpec.authOption: unknown field",
    ]


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    for made in (token_secret(JOB, PODS, "uid-of-the-job"), stop_mark(JOB.id, PODS)):
        kubernetes_validate.validate(made, version, strict=True)
    for pod in pods_of(rayjob(JOB, replace(PODS, pull_secrets=["pull"]))).values():
        whole = {"apiVersion": "v1", "kind": "Pod", **pod}
        kubernetes_validate.validate(whole, version, strict=True)


def test_a_run_has_a_cluster_of_its_own_that_goes_with_it() -> None:
    spec = rayjob(JOB, PODS)["spec"]
    assert spec["jobId"] == JOB.id
    assert spec["shutdownAfterJobFinishes"]
    assert spec["ttlSecondsAfterFinished"] == 0
    assert (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"]) == (0, 0)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    workers = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    assert {workers["replicas"], workers["minReplicas"], workers["maxReplicas"]} == {3}
    # Ray counts whole processors; the pod asks for what the run asks for.
    assert workers["rayStartParams"]["num-cpus"] == "2"
    asked = workers["template"]["spec"]["containers"][0]["resources"]
    assert asked["requests"] == {"cpu": "1.5", "memory": "4Gi"} == asked["limits"]
    assert "suspend" not in spec


def test_the_same_submission_makes_the_same_objects() -> None:
    assert rayjob(JOB, PODS) == rayjob(JOB, PODS)
    assert rayjob(JOB, PODS)["metadata"]["name"] == JOB.id
    with pytest.raises(InternalError):
        rayjob(replace(JOB, id="Run_1"), PODS)
    with pytest.raises(InternalError):
        rayjob(replace(JOB, id="r" * 48), PODS)


def test_the_run_token_is_in_a_mounted_secret_and_nowhere_else() -> None:
    made = rayjob(JOB, PODS)
    assert SECRET not in json.dumps(made)
    secret = token_secret(JOB, PODS, "uid-of-the-job")
    assert secret["stringData"] == {"token": SECRET}
    # It goes with the job.
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-of-the-job"
    for name in ("head", "worker"):
        spec = pods_of(made)[name]["spec"]
        (volume,) = [one for one in spec["volumes"] if one["name"] == "token"]
        assert volume["secret"]["secretName"] == secret["metadata"]["name"]
        (told,) = {
            one["value"]
            for container in [*spec["initContainers"], *spec["containers"]]
            for one in container["env"]
            if one["name"] == "AIAAS_ASSIGNMENT"
        }
        (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "token"]
        assert mount["readOnly"]
        file = Assignment.model_validate_json(told).token_file
        assert str(file) == f"{mount['mountPath']}/token"


def test_no_pod_has_rights_that_a_run_does_not_need() -> None:
    made = rayjob(JOB, replace(PODS, environment={"HTTPS_PROXY": "http://proxy.example"}))
    for pod in pods_of(made).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = [one for pod in pods_of(made).values() for one in pod["spec"].get("volumes", [])]
    # The run's token is nobody's but its user's and group's.
    assert {one["secret"]["defaultMode"] for one in volumes if "secret" in one} == {0o440}
    for container in containers_of(made):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert {"name": "HTTPS_PROXY", "value": "http://proxy.example"} in container["env"]


def test_a_first_step_fetches_the_snapshot_and_takes_no_gpu() -> None:
    made = rayjob(ON_GPUS, replace(PODS, gpus=SLICES))
    worker = pods_of(made)["worker"]["spec"]
    (first,) = worker["initContainers"]
    assert first["command"] == ["python", "-m", "aiaas_magics.runtime.node"]
    assert SLICES.resource not in first["resources"]["limits"]
    assert worker["containers"][0]["resources"]["limits"][SLICES.resource] == "2"
    assert worker["nodeSelector"] == {"gpu": "a100"}
    assert worker["tolerations"][2:] == SLICES.tolerations
    # The head keeps off the nodes with GPUs.
    head = pods_of(made)["head"]["spec"]["tolerations"]
    assert head == worker["tolerations"][:2]
    assert {one["key"] for one in head} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    assert {one["tolerationSeconds"] for one in head} == {60}


def test_workers_without_gpus_go_where_the_operator_says_and_heads_do_not() -> None:
    spot = Nodes({"pool": "spot"}, [{"key": "spot", "operator": "Exists"}])
    made = pods_of(rayjob(JOB, replace(PODS, others=spot)))
    assert made["worker"]["spec"]["nodeSelector"] == {"pool": "spot"}
    assert made["worker"]["spec"]["tolerations"][2:] == spot.tolerations
    for name in ("head", "submitter"):
        assert "nodeSelector" not in made[name]["spec"]
        assert len(made[name]["spec"]["tolerations"]) == 2
    on_gpus = pods_of(rayjob(ON_GPUS, replace(PODS, others=spot, gpus=SLICES)))
    assert on_gpus["worker"]["spec"]["nodeSelector"] == {"gpu": "a100"}


def test_a_sweep_has_a_worker_for_each_trial_that_runs_at_a_time() -> None:
    cluster = rayjob(SWEEP, PODS)["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (8, 8, 8)
    assert "enableInTreeAutoscaling" not in cluster


def test_an_autoscaled_sweep_begins_small_and_its_code_has_no_account() -> None:
    autoscaled = replace(PODS, autoscaled=True, idle_seconds=90)
    cluster = rayjob(SWEEP, autoscaled)["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (1, 1, 8)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] == 90
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["automountServiceAccountToken"] is False
    (account,) = [one for one in head["volumes"] if "projected" in one]
    # In the autoscaler's container, which KubeRay adds, and in none of the run's.
    (mount,) = cluster["autoscalerOptions"]["volumeMounts"]
    assert mount["name"] == account["name"]
    assert mount["readOnly"] is True
    for container in [*head["initContainers"], *head["containers"]]:
        assert account["name"] not in {one["name"] for one in container["volumeMounts"]}
    # A training needs all of its workers for as long as it is.
    assert "enableInTreeAutoscaling" not in rayjob(JOB, autoscaled)["spec"]["rayClusterSpec"]
    for version in ("1.25", "1.37"):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": head}
        kubernetes_validate.validate(whole, version, strict=True)


def test_gpus_that_no_pod_can_have_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no nodes with GPUs"):
        rayjob(ON_GPUS, PODS)
    half = replace(JOB, resources=Resources(gpus_per_worker=0.5))
    with pytest.raises(InvalidInput, match=r"asks for 0\.5 GPUs per worker"):
        rayjob(half, replace(PODS, gpus=SLICES))


def test_kueue_is_asked_by_its_label_and_the_job_waits_for_it() -> None:
    made = rayjob(JOB, replace(PODS, queue="users"))
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "users"
    assert made["spec"]["suspend"] is True


def test_checkpoints_of_an_owner_lie_in_a_directory_of_their_own() -> None:
    names = ["ada", "Ada", "ada.", "a/../b", "..", "", "ä" * 300]
    made = [owner_directory(name) for name in names]
    assert len(set(made)) == len(names)
    for one in made:
        assert "/" not in one
        assert ".." not in one
        assert len(one) < 64
    told = assignment(JOB, PODS)
    assert told.storage.parent.name == "run-abcdefghjk"
    assert told.resumed_storage == told.storage.parents[1] / "run-before" / "storage"
