"""Runs that train while things break: processes killed at random moments, a locked database, a
full queue. Nothing is lost or doubled, and every ending gives back what it held.

One platform goes through all of it, in the order of this file. Its *survivor* may be retried and
is there from the first fault to the last; next to it runs that may not be retried are broken.
FAULT_SEED repeats the moments of a former execution.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from running_platform import RunningPlatform
from service_calls import until
from trainings import LONG, STARTS, Trainings, healed, kill

from aiaas_hub.adapters.records.database import BUSY_TIMEOUT_SECONDS

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

QUEUE_LENGTH = 4


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with a short queue."""
    root = tmp_path_factory.mktemp("faults") / "home"
    root.mkdir(mode=0o700)
    (root / "aiaas_config.py").write_text(
        f"c.ServiceConfig.max_queued_per_user = {QUEUE_LENGTH}\n"
        "c.ServiceConfig.max_runs_per_user = 4\n"
    )
    running = RunningPlatform.on(root)
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.end()


@pytest.fixture(scope="module")
def trainings(own: RunningPlatform, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings.on(own, tmp_path_factory.mktemp("ends"))


def test_the_service_killed_from_submission_to_first_step(trainings: Trainings) -> None:
    request = trainings.request("survivor", retries=20)

    def submit() -> httpx.Response:
        key = {"Idempotency-Key": "the-survivor"}
        return trainings.calls.call("POST", "/runs", json=request, headers=key)

    def break_off() -> None:
        trainings.moment(0.05)
        kill(trainings.service())

    killer = threading.Thread(target=break_off)
    killer.start()
    begun = time.monotonic()
    trainings.runs["survivor"] = until(submit, lambda _: True, LONG)["id"]
    healed("service killed at a submission: submitted", begun)
    killer.join()
    trainings.wait("survivor", "queued", "starting", "running")
    for name in ("by-its-worker", "by-its-driver"):
        trainings.submit(name)
    trainings.submit("by-the-head", checkpoints=False)
    trainings.wait("survivor", "starting", "running", seconds=STARTS)
    trainings.moment(3)
    killed = kill(trainings.service())
    trainings.wait("survivor", "running", seconds=STARTS)
    trainings.moment(2)
    kill(trainings.service())
    trainings.until_it_steps(*trainings.runs, beyond=5, seconds=STARTS)
    healed("service killed at the start of runs: all train", killed)
    listed = trainings.calls.ok("GET", "/runs")["items"]
    assert sorted(run["name"] for run in listed) == sorted(trainings.runs)
    for name in trainings.runs:
        assert trainings.state(name)["attempt"] == 1
        assert len(trainings.beginnings(name)) == 1
        trainings.assert_whole(name)


def test_a_full_queue(trainings: Trainings) -> None:
    trainings.submit("next")
    never = [f"never-{number}" for number in range(1, QUEUE_LENGTH)]
    for place, name in enumerate(never, start=2):
        queued = trainings.calls.ok("GET", f"/runs/{trainings.submit(name)}")
        assert queued["state"] == "queued"
        assert queued["queue"]["position"] == place
        assert "waits for" in queued["queue"]["blocked_by"]
    refused = trainings.calls.call("POST", "/runs", json=trainings.request("refused"))
    assert refused.status_code == 429
    assert "%aiaas runs" in refused.json()["error"]["remedy"]
    for name in never:
        trainings.calls.ok("POST", f"/runs/{trainings.runs[name]}/cancel")
        trainings.wait(name, "cancelled")
    assert trainings.held() == 4


def test_a_killed_worker(trainings: Trainings) -> None:
    trainings.moment(1)
    killed = kill(trainings.worker("survivor"), trainings.worker("by-its-worker"))
    broken = trainings.wait("by-its-worker", "failed")
    healed("worker killed: a run without retries has failed", killed)
    assert "Worker 0 died" in broken["error"]["message"]
    assert "--retries" in broken["error"]["remedy"]
    trainings.assert_whole("by-its-worker")
    trainings.wait("next", "running")
    healed("worker killed: the next in the queue runs", killed)
    while len(trainings.beginnings("survivor")) < 2:
        assert time.monotonic() < killed + LONG
        time.sleep(0.2)
    healed("worker killed: goes on from its checkpoint", killed)
    trainings.until_it_steps("survivor", beyond=3)
    found = trainings.state("survivor")
    assert (found["state"], found["attempt"]) == ("running", 1)
    # It says what it outlived, in its log and as its reason.
    cause = "Worker 0 died: its process ended without a word"
    again = "Going on from its checkpoint (retry 1 of 20)."
    assert found["reason"].startswith(cause)
    assert found["reason"].endswith(again)
    (told,) = [line for line in trainings.log("survivor") if line.startswith(f"[aiaas] {cause}")]
    assert f"{again} If that fails, too: Make the batch or the model smaller" in told
    trainings.assert_whole("survivor")
    trainings.end("next")
    trainings.wait("next", "succeeded")
    assert trainings.held() == 3


def test_a_killed_driver(trainings: Trainings) -> None:
    orphans = [trainings.worker("survivor"), trainings.worker("by-its-driver")]
    trainings.moment(1)
    killed = kill(trainings.driver("survivor"), trainings.driver("by-its-driver"))
    _, alive = psutil.wait_procs(orphans, timeout=LONG)
    assert not alive
    healed("driver killed: its workers are gone", killed)
    broken = trainings.wait("by-its-driver", "failed", "lost")
    healed("driver killed: a run without retries is over", killed)
    assert broken["error"]["message"]
    assert broken["error"]["remedy"]
    trainings.assert_whole("by-its-driver")
    assert trainings.held() == 2
    trainings.until_attempt("survivor", 2)
    healed("driver killed: goes on from its checkpoint", killed)
    lost = (
        "Attempt 1 was lost: Its driver was killed. Going on from its checkpoint (retry 1 of 20)."
    )
    assert trainings.state("survivor")["reason"] == lost
    assert f"[aiaas] {lost}" in trainings.log("survivor")
    trainings.assert_whole("survivor")


def test_a_locked_database(trainings: Trainings) -> None:
    request = trainings.request("refused")
    records = sqlite3.connect(trainings.platform.home.records_url.removeprefix("sqlite:///"))
    with contextlib.closing(records) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        refused = trainings.calls.call("POST", "/runs", json=request)
        assert time.monotonic() - begun < 2 * BUSY_TIMEOUT_SECONDS + 5
        assert refused.status_code == 503
        assert "try again" in refused.json()["error"]["remedy"].lower()
        # Who only reads does not wait.
        assert trainings.state("survivor")["state"] == "running"
        other.execute("ROLLBACK")
    released = time.monotonic()
    trainings.until_it_steps("survivor", beyond=3)
    healed("database locked: metrics arrive again", released)
    assert "refused" not in [one["name"] for one in trainings.calls.ok("GET", "/runs")["items"]]
    assert trainings.state("survivor")["attempt"] == 2
    trainings.assert_whole("survivor")


def test_a_killed_head(trainings: Trainings) -> None:
    attempt = trainings.state("survivor")["attempt"]
    victim = trainings.moments.choice(["ray", "gcs_server", "raylet"])
    if victim == "ray":
        process = trainings.recorded("ray")
    else:
        (process,) = [one for one in trainings.platform.processes() if one.name() == victim]
    trainings.moment(1)
    killed = kill(process)
    broken = trainings.wait("by-the-head", "lost")
    healed(f"{victim} of the head killed: a run without retries is lost", killed)
    assert "head" in broken["error"]["message"]
    assert f"%aiaas resume {broken['id']}" in broken["error"]["remedy"]
    trainings.until_attempt("survivor", attempt + 1)
    healed(f"{victim} of the head killed: goes on from its checkpoint", killed)
    for name in ("survivor", "by-the-head"):
        trainings.assert_whole(name)
    assert trainings.held() == 1


def test_the_service_killed_at_the_end(trainings: Trainings) -> None:
    trainings.end("survivor")
    trainings.moment(0.5)
    killed = kill(trainings.service())
    trainings.wait("survivor", "succeeded")
    healed("service killed at the end of a run: succeeded", killed)
    trainings.assert_whole("survivor")
    assert trainings.calls.ok("GET", f"/runs/{trainings.runs['survivor']}/logs")["complete"]
    assert trainings.held() == 0
