"""What a job on Kubernetes waits for, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiaas_hub.adapters.kubernetes.waiting import pending_reason

POD = {"metadata": {"name": "run-a-1-head"}}
UNPULLABLE = {
    "image": "registry.example/ray:1.2",
    "name": "ray-head",
    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
}
QUOTA = (
    'pods "x" is forbidden: exceeded quota: team, requested: requests.cpu=4, used: 8, limited: 10'
)


def rayjob(age: float = 0, deployment: str = "Initializing", **more: Any) -> dict[str, Any]:
    made = datetime.now(UTC) - timedelta(seconds=age)
    return {
        "metadata": {
            "name": "run-a-1",
            "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "labels": {"kueue.x-k8s.io/queue-name": "users"},
        },
        "spec": more.pop("spec", {}),
        "status": {"jobDeploymentStatus": deployment, **more} if deployment else {},
    }


def pod(**status: Any) -> dict[str, Any]:
    return {**POD, "status": status}


def condition(kind: str, status: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, **more}


@pytest.mark.parametrize(
    ("job", "pods", "warnings", "sentence"),
    [
        (rayjob(), [], [], "starting pods"),
        (
            rayjob(),
            [pod(conditions=[condition("Ready", "True")]), pod()],
            [],
            "starting pods: 1 of 2 are ready",
        ),
        (
            rayjob(),
            [pod(initContainerStatuses=[UNPULLABLE])],
            [],
            "the image registry.example/ray:1.2 cannot be pulled: Back-off pulling image",
        ),
        (
            rayjob(),
            [
                pod(
                    conditions=[
                        condition(
                            "PodScheduled",
                            "False",
                            reason="Unschedulable",
                            message="0/3 nodes are available: 3 Insufficient cpu.",
                        )
                    ]
                )
            ],
            [],
            "1 of 1 pods fit on no node: 0/3 nodes are available: 3 Insufficient cpu",
        ),
        (
            rayjob(),
            [],
            ["something older", QUOTA],
            "the namespace's quota is used up: team, requested: requests.cpu=4, used: 8, "
            "limited: 10",
        ),
        (
            rayjob(
                rayClusterStatus={
                    "conditions": [condition("ReplicaFailure", "True", message=QUOTA)]
                }
            ),
            [],
            [],
            "the namespace's quota is used up: team, requested: requests.cpu=4, used: 8, "
            "limited: 10",
        ),
        (rayjob(spec={"suspend": True}), [], [], "waits in the queue users"),
        (
            rayjob(age=60, deployment=""),
            [],
            [],
            "no KubeRay operator has taken it up; see that one runs and watches this namespace",
        ),
    ],
)
def test_a_job_says_what_it_waits_for(
    job: dict[str, Any], pods: list[dict[str, Any]], warnings: list[str], sentence: str
) -> None:
    assert pending_reason(job, pods, warnings) == sentence


def test_an_operator_has_a_while_to_take_up_a_job() -> None:
    # Made here: tests are collected minutes before some of them run.
    assert pending_reason(rayjob(age=5, deployment=""), [], []) == "starting pods"


def test_kueues_own_words_are_told() -> None:
    workload = {
        "status": {
            "conditions": [
                condition(
                    "QuotaReserved", "False", message="insufficient quota for cpu, 2 more needed"
                )
            ]
        }
    }
    assert pending_reason(rayjob(spec={"suspend": True}), [], [], [workload]) == (
        "waits in the queue users: insufficient quota for cpu, 2 more needed"
    )
