"""Runs submitted to the service, on pods: the service's own application and real Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed.control_plane import ControlPlane
from runs_on_pods import RunsOnPods, runs_on_pods

pytestmark = [pytest.mark.engines, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def platform(crds: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[RunsOnPods]:
    with runs_on_pods(crds, namespace, tmp_path) as found:
        yield found


def test_a_run_of_two_workers_ends_with_a_model(platform: RunsOnPods) -> None:
    began = time.monotonic()
    run = platform.submit(pause=0.05)
    platform.until(run, lambda run: run["state"] == "running")
    print(f"first call of train after {time.monotonic() - began:.1f} s")
    account = f"{platform.training.namespace}:default"
    before, looks = Counter(platform.training.plane.asked(account)), 10
    for _ in range(looks):
        platform.service.tick()
    asked = Counter(platform.training.plane.asked(account)) - before
    platform.end("cnn")
    platform.until_over(run, "succeeded")
    print(f"over after {time.monotonic() - began:.1f} s")
    assert {point["values"]["workers"] for point in platform.points(run)} == {2}
    for rank in range(2):
        assert f"worker {rank} of 2 begins at 0 with 5" in platform.log(run)
    model = platform.service.ok("GET", "/models/alice/cnn")["latest"]
    assert (model["version"], model["run_id"]) == (1, run)
    # A look at a run that trains is one request; that tends to jobs once a minute are three.
    assert asked["get", "rayjobs"] == looks
    assert sum(asked.values()) <= looks + 4, asked
    everything = Counter(platform.training.plane.asked(account)) - asked
    print(f"requests of the API server: {asked} in {looks} looks, and {everything} for the run")
    # What it said outlives its pods, which go with it.
    platform.until_no_pods()
    assert "begins at 0" in platform.log(run)
