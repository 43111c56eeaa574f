"""What a run on Kubernetes says while it waits, and how it is stopped then: on a real API server
and scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from bed.api import CORE, Object
from bed.control_plane import ControlPlane
from training_pods import Training, run_pods, training

from aiaas_hub.adapters import ray_kubernetes
from aiaas_hub.adapters.kubernetes.client import Cluster
from aiaas_hub.adapters.kubernetes.run_settings import RunPods
from aiaas_hub.adapters.ray_kubernetes import RayKubernetes
from aiaas_hub.domain.ports import JobState, JobSubmission
from aiaas_hub.schemas.errors import Unavailable
from aiaas_hub.schemas.platform import EngineState
from aiaas_hub.schemas.runs import Resources

JOB = JobSubmission("run-waits-1", "ada", Resources(workers=2), "token")
NOWHERE = "http://127.0.0.1:9/api/v1"


@pytest.fixture
def changes() -> dict[str, object]:
    """Of what pods are made of: head pods that fit on no node, so that none starts Ray."""
    return {"head_cpus": 100}


@pytest.fixture
def world(crds: ControlPlane, namespace: str, changes: dict[str, object]) -> Iterator[Training]:
    pods: RunPods = replace(run_pods(namespace, NOWHERE), **changes)  # type: ignore[arg-type]
    with training(crds, pods) as world:
        yield world


def rayjobs(world: Training) -> list[Object]:
    return world.plane.api.items(f"/apis/ray.io/v1/namespaces/{world.namespace}/rayjobs")


def test_no_node_fits(world: Training) -> None:
    world.engine.submit(JOB)
    said = world.until_it_says(JOB, "Insufficient cpu")
    assert said.startswith("1 of 1 pods fit on no node: 0/3 nodes are available: ")


@pytest.mark.parametrize("changes", [{"image": "registry.example/does-not-exist:1"}])
def test_the_image_cannot_be_pulled(world: Training) -> None:
    world.engine.submit(JOB)
    assert world.until_it_says(JOB, "cannot be pulled").startswith(
        "the image registry.example/does-not-exist:1 cannot be pulled: "
    )


def test_the_namespaces_quota_is_used_up(world: Training) -> None:
    world.plane.quota(world.namespace, "team", {"requests.cpu": "1"})
    world.engine.submit(JOB)
    said = world.until_it_says(JOB, "quota is used up")
    assert said.startswith("the namespace's quota is used up: team, requested: requests.cpu=100")


@pytest.mark.parametrize("changes", [{"queue": "users"}])
def test_it_waits_for_kueue(world: Training) -> None:
    world.engine.submit(JOB)
    world.until_it_says(JOB, "waits in the queue users")
    assert world.pods() == []


def test_a_job_that_waits_is_stopped_for_ever(world: Training) -> None:
    world.engine.submit(JOB)
    world.engine.submit(JOB)
    assert [job["metadata"]["name"] for job in rayjobs(world)] == [JOB.id]
    secrets = f"{CORE}/namespaces/{world.namespace}/secrets/{JOB.id}"
    assert world.plane.api.get(secrets)["metadata"]["ownerReferences"][0]["kind"] == "RayJob"
    world.until_it_says(JOB, "fit on no node")
    world.engine.stop(JOB.id)
    world.engine.stop(JOB.id)
    world.until(JOB, JobState.STOPPED)
    assert (rayjobs(world), world.pods()) == ([], [])
    # Nor does another process of the service start it again.
    again = RayKubernetes(Cluster(world.namespace, world.plane.kubeconfig), world.engine._pods)
    again.submit(JOB)
    assert rayjobs(world) == []
    status = again.status(JOB.id)
    assert status is not None
    assert status.state is JobState.STOPPED
    again.close()


def test_a_submission_that_was_cut_short_is_completed(world: Training) -> None:
    world.engine.submit(JOB)
    secret = f"{CORE}/namespaces/{world.namespace}/secrets/{JOB.id}"
    # As after a crash between the two objects.
    world.plane.api.delete(secret)
    world.engine.submit(JOB)
    assert world.plane.api.find(secret) is not None
    assert len(rayjobs(world)) == 1


def test_what_is_over_and_was_kept_for_long_enough_goes(world: Training) -> None:
    world.engine.submit(JOB)
    path = f"/apis/ray.io/v1/namespaces/{world.namespace}/rayjobs/{JOB.id}"
    ended = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    world.plane.api.patch(
        f"{path}/status", {"status": {**ended, "endTime": "2026-01-01T00:00:00Z"}}
    )
    world.engine.tend(list)
    world.until(JOB, None)


def test_an_api_server_that_is_down_is_unavailable_and_nothing_is_lost(world: Training) -> None:
    world.engine.submit(JOB)
    world.until_it_says(JOB, "fit on no node")
    world.plane.stop("kube-apiserver")
    try:
        for call in (
            lambda: world.engine.submit(JOB),
            lambda: world.engine.status(JOB.id),
            lambda: world.engine.stop(JOB.id),
        ):
            with pytest.raises(Unavailable, match="API server does not answer"):
                call()
    finally:
        world.plane.start("kube-apiserver")
    world.until_it_says(JOB, "fit on no node")
    assert world.engine.health().state is EngineState.READY


def test_an_unknown_job_is_unknown_and_stopping_it_does_nothing(
    crds: ControlPlane, namespace: str
) -> None:
    engine = RayKubernetes(Cluster(namespace, crds.kubeconfig), run_pods(namespace, NOWHERE))
    assert engine.health().state is EngineState.READY
    assert engine.status("run-unknown-1") is None
    engine.stop("run-unknown-1")
    engine.close()


def test_a_job_that_no_run_has_any_more_is_stopped(
    world: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(JOB, id="run-live-1")
    world.engine.submit(JOB)
    world.engine.submit(other)
    world.engine.tend(list)
    # One that was submitted just now may be of a run that the records do not have yet.
    assert len(rayjobs(world)) == 2
    monkeypatch.setattr(ray_kubernetes, "_ORPHANS_SPARED", timedelta())
    monkeypatch.setattr(ray_kubernetes, "_TIDY_SECONDS", 0)
    world.engine.tend(lambda: {other.id})
    world.until(JOB, JobState.STOPPED)
    assert [job["metadata"]["name"] for job in rayjobs(world)] == [other.id]


def test_a_head_that_another_took_the_place_of_has_lost_its_job(
    world: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_kubernetes, "_TIDY_SECONDS", 0)
    world.engine.submit(JOB)
    world.until_it_says(JOB, "fit on no node")
    # As if it had started on another head a while ago, of which the submitter still waits to hear.
    said = {
        "jobDeploymentStatus": "Running",
        "jobStatus": "RUNNING",
        "dashboardURL": "127.0.0.1:9",
        "rayJobInfo": {"startTime": "2100-01-01T00:00:00Z"},
    }
    path = f"/apis/ray.io/v1/namespaces/{world.namespace}/rayjobs/{JOB.id}/status"
    world.plane.api.patch(path, {"status": said})
    world.engine.tend(lambda: {JOB.id})
    world.until(JOB, JobState.RUNNING)
    said["rayJobInfo"] = {"startTime": "2026-01-01T00:00:00Z"}
    world.plane.api.patch(path, {"status": said})
    world.engine.tend(lambda: {JOB.id})
    status = world.until(JOB, JobState.LOST)
    assert status is not None
    assert status.message == (
        "The pod of the Ray head that ran this was lost, and another took its place."
    )
    assert (rayjobs(world), world.pods()) == ([], [])


def test_very_many_jobs_are_asked_for_in_turn_and_a_stopped_one_at_once(
    world: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.submit(JOB)
    world.until_it_says(JOB, "fit on no node")
    account = f"{world.namespace}:default"
    # As with a thousand of them: the turn of each comes every 20 s.
    monkeypatch.setattr(ray_kubernetes, "_ASKED_PER_SECOND", 1 / 20)
    before = len(world.plane.asked(account))
    for _ in range(100):
        status = world.engine.status(JOB.id)
        assert status is not None
        assert status.state is JobState.PENDING
    assert len(world.plane.asked(account)) == before
    world.engine.stop(JOB.id)
    assert world.engine.status(JOB.id) != status
    monkeypatch.undo()
    world.until(JOB, JobState.STOPPED)
