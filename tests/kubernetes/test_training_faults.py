"""Runs on pods while things break: the API server away, pods deleted, a node lost, a quota used up.
Nothing is lost or doubled, every ending gives back what it held, and the user reads why.

One run, the *survivor*, may be retried and goes through all of it, in the order of this file; after
it runs that may not be retried are broken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bed.api import CORE, Object
from bed.control_plane import ControlPlane
from runs_on_pods import RunsOnPods, runs_on_pods

pytestmark = [pytest.mark.engines, pytest.mark.long, pytest.mark.timeout(600)]

OUTAGE_SECONDS = 30
NODE_PATIENCE_SECONDS = 10


def healed(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.1f} s")


@pytest.fixture(scope="module")
def platform(crds: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunsOnPods]:
    namespace = crds.namespace("training-faults")
    directory = tmp_path_factory.mktemp("faults")
    patience = NODE_PATIENCE_SECONDS
    with runs_on_pods(crds, namespace, directory, node_patience_seconds=patience) as found:
        yield found
    crds.api.delete(f"{CORE}/namespaces/{namespace}")


@pytest.fixture(scope="module")
def survivor(platform: RunsOnPods) -> str:
    run = platform.submit("survivor", retries=9)
    platform.until(run, lambda run: run["state"] == "running")
    platform.until_it_steps(run)
    return run


def node_of(pod: Object) -> str:
    return str(pod["spec"]["nodeName"])


def cordon(platform: RunsOnPods, node: str, closed: bool) -> None:
    platform.api.patch(f"{CORE}/nodes/{node}", {"spec": {"unschedulable": closed}})


def until_it_begins_again(platform: RunsOnPods, run: str, lives: int, attempt: int) -> None:
    """After so many lives it has another one, from its checkpoint, and nothing is missing."""
    found = platform.until(run, lambda _: len(platform.beginnings(run)) > lives)
    assert found["attempt"] == attempt
    platform.until_it_steps(run)
    assert 0 not in platform.beginnings(run)[1:], "it went on from its checkpoint"
    platform.assert_whole(run)
    assert platform.held() == 1


def test_the_api_server_away(platform: RunsOnPods, survivor: str) -> None:
    plane = platform.training.plane
    plane.stop("kube-apiserver")
    try:
        until = time.monotonic() + OUTAGE_SECONDS
        said = platform.until(
            survivor, lambda run: "API server does not answer" in run["reason"], OUTAGE_SECONDS
        )
        assert said["state"] == "running"
        before = len(platform.points(survivor))
        while time.monotonic() < until:
            platform.service.tick()
            time.sleep(0.5)
        assert len(platform.points(survivor)) > before
    finally:
        plane.start("kube-apiserver")
    began = time.monotonic()
    found = platform.until(survivor, lambda run: not run["reason"])
    healed(f"API server away for {OUTAGE_SECONDS} s: seen again", began)
    assert (found["state"], found["attempt"]) == ("running", 1)
    assert len(platform.beginnings(survivor)) == 1
    platform.assert_whole(survivor)


def test_a_deleted_worker(platform: RunsOnPods, survivor: str) -> None:
    lives = len(platform.beginnings(survivor))
    (head,) = platform.training.pods("head")
    worker, _ = platform.training.pods("worker")
    # What takes its place is where the head is not.
    cordon(platform, node_of(head), True)
    try:
        deleted = platform.delete_pod(worker["metadata"]["name"])
        until_it_begins_again(platform, survivor, lives, attempt=1)
    finally:
        cordon(platform, node_of(head), False)
    healed("worker deleted: goes on from its checkpoint", deleted)


def test_a_lost_node(platform: RunsOnPods, survivor: str) -> None:
    (head,) = platform.training.pods("head")
    lives = len(platform.beginnings(survivor))
    away = {node_of(pod) for pod in platform.training.pods("worker")} - {node_of(head)}
    assert away
    node = away.pop()
    plane = platform.training.plane
    lost = time.monotonic()
    plane.lose_node(node)
    try:
        until_it_begins_again(platform, survivor, lives, attempt=1)
        healed("node of a worker lost: goes on from its checkpoint", lost)
        assert node not in {node_of(pod) for pod in platform.training.pods("worker")}
    finally:
        plane.find_node(node)


def test_a_deleted_head(platform: RunsOnPods, survivor: str) -> None:
    lives = len(platform.beginnings(survivor))
    (head,) = platform.training.pods("head")
    deleted = platform.delete_pod(head["metadata"]["name"])
    platform.until(survivor, lambda run: run["attempt"] == 2)
    healed("head deleted: a new attempt is made", deleted)
    until_it_begins_again(platform, survivor, lives, attempt=2)
    healed("head deleted: goes on from its checkpoint", deleted)


def test_the_survivor_ends_with_one_model(platform: RunsOnPods, survivor: str) -> None:
    platform.end("survivor")
    platform.until_over(survivor, "succeeded")
    platform.assert_whole(survivor)
    assert platform.service.ok("GET", "/models/alice/survivor")["latest"]["version"] == 1
    assert platform.held() == 0
    platform.until_no_pods()


def test_runs_without_retries_wait_for_the_quota_and_say_how_they_ended(
    platform: RunsOnPods,
) -> None:
    training = platform.training
    quota = training.plane.quota(training.namespace, "team", {"requests.cpu": "50m"})
    runs = {name: platform.submit(name, workers=1) for name in ("by-its-worker", "by-the-head")}
    for run in runs.values():
        found = platform.until(run, lambda run: "the namespace's quota is used up" in run["reason"])
        assert found["state"] == "starting"
    platform.api.delete(quota)
    released = time.monotonic()
    for run in runs.values():
        platform.until(run, lambda run: run["state"] == "running")
        platform.until_it_steps(run)
    healed("quota given back: two runs train", released)
    assert platform.held() == 2

    def pod(name: str, kind: str) -> str:
        (found,) = [
            one["metadata"]["name"]
            for one in platform.training.pods(kind)
            if one["metadata"]["labels"]["aiaas.hub/run"] == runs[name]
        ]
        return str(found)

    deleted = platform.delete_pod(pod("by-its-worker", "worker"))
    platform.delete_pod(pod("by-the-head", "head"))
    broken = platform.until_over(runs["by-its-worker"], "failed")
    healed("worker deleted: a run without retries has failed", deleted)
    assert "Worker 0 died" in broken["error"]["message"]
    assert "--retries" in broken["error"]["remedy"], broken["error"]
    broken = platform.until_over(runs["by-the-head"], "lost")
    healed("head deleted: a run without retries is lost", deleted)
    assert "that ran this was lost" in broken["error"]["message"]
    assert f"%aiaas resume {broken['id']}" in broken["error"]["remedy"]
    for run in runs.values():
        platform.assert_whole(run)
    assert platform.held() == 0
    platform.until_no_pods()
