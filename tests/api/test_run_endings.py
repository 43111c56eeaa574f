"""How a run is gone on with, and how one ends that does not end itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_world import World, serving

import aiaas_hub.domain.advancing as advancing
from aiaas_hub.domain.ports import JobState, JobStatus
from aiaas_hub.home import Home

ERROR = {"message": "Terminated.", "remedy": "", "traceback": ""}


def started(world: World, **changes: Any) -> tuple[Any, str]:
    run = world.submit(**changes)
    token = world.run_token(run)
    report(world, run, token, {"kind": "started"})
    return run, token


def report(world: World, run: Any, token: str, event: Any) -> int:
    answer = world.call("POST", f"/runs/{run['id']}/job/events", token, json=event)
    status: int = answer.status_code
    return status


def seen(world: World, run: Any) -> Any:
    return world.ok("GET", f"/runs/{run['id']}")


def held(world: World) -> float:
    used: float = world.ok("GET", "/me")["quota"]["runs"]["used"]
    return used


def test_resuming_goes_on_with_the_same_code_and_data(world: World) -> None:
    world.dataset()
    run, token = started(
        world,
        datasets=["digits"],
        params={"lr": 0.1, "batch": 64},
        resources={"workers": 2},
        time_limit=60,
        early_stop={"metric": "loss"},
    )
    refused = world.call("POST", f"/runs/{run['id']}/resume", json={})
    assert (refused.status_code, "only one that is over" in refused.text) == (409, True)
    report(world, run, token, {"kind": "failed", "error": ERROR})
    world.dataset(rows=7)  # a newer version, which the resumed run does not take
    body = {"params": {"batch": 32}, "time_limit": 120}
    resumed = world.ok("POST", f"/runs/{run['id']}/resume", json=body)
    assert resumed["id"] != run["id"]
    assert resumed["resumed_from"] == run["id"]
    assert resumed["params"] == {"lr": 0.1, "batch": 32}
    assert resumed["time_limit"] == 120
    for same in ("name", "snapshot", "datasets", "resources", "early_stop", "owner"):
        assert resumed[same] == run[same], same
    second = world.run_token(resumed)
    assert world.training.submissions[-1].resumed_from == run["id"]
    job = world.call("GET", f"/runs/{resumed['id']}/job", second).json()
    assert (job["resumed_from"], job["time_limit"]) == (run["id"], 120)
    assert job["early_stop"]["metric"] == "loss"


def test_a_run_over_its_time_limit_is_ended_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, token = started(world, time_limit=7200)
    world.tick(2)
    assert seen(world, run)["state"] == "running"
    began = datetime.now(UTC) - timedelta(hours=2, seconds=30)
    world.services.run_records.update(run["id"], 1, started_at=began)
    world.tick(2)
    assert seen(world, run)["state"] == "running"  # it may still stop by itself
    world.services.run_records.update(run["id"], 1, started_at=began - timedelta(seconds=30))
    # The job's own last words, when it is stopped, do not hide why it was.
    monkeypatch.setattr(world.training, "stop", lambda _id: None)
    world.tick()
    assert report(world, run, token, {"kind": "failed", "error": ERROR}) == 204
    shown = seen(world, run)
    assert shown["state"] == "failed"
    assert shown["error"]["message"] == "The run was stopped after its time limit of 2 h."
    assert f"%aiaas resume {run['id']}" in shown["error"]["remedy"]
    assert held(world) == 0


def test_the_service_stops_what_does_not_report_either(world: World) -> None:
    run, token = started(world, time_limit=1)
    began = datetime.now(UTC) - timedelta(seconds=62)
    world.services.run_records.update(run["id"], 1, started_at=began)
    world.tick(2)
    assert world.training.stopped == [f"{run['id']}-1"]
    assert seen(world, run)["error"]["message"].endswith("time limit of 1 s.")
    assert report(world, run, token, {"kind": "succeeded"}) == 409


def test_success_before_the_stop_is_success_and_a_failure_is_a_cancel(world: World) -> None:
    done, first = started(world)
    fell, second = started(world)
    for run in (done, fell):
        world.ok("POST", f"/runs/{run['id']}/cancel")
    assert report(world, done, first, {"kind": "succeeded"}) == 204
    assert report(world, fell, second, {"kind": "failed", "error": ERROR}) == 204
    world.tick(2)
    assert (seen(world, done)["state"], seen(world, done)["error"]) == ("succeeded", None)
    assert (seen(world, fell)["state"], seen(world, fell)["error"]) == ("cancelled", None)
    assert held(world) == 0


def test_workers_that_never_start_are_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, again = world.submit(), world.submit(retries=1)
    world.tick(2)
    assert [seen(world, run)["state"] for run in (once, again)] == ["starting"] * 2
    monkeypatch.setattr(advancing, "START_LIMIT", timedelta(0))
    world.tick()
    monkeypatch.undo()
    world.tick()
    shown = seen(world, once)
    assert (shown["state"], "did not start within" in shown["error"]["message"]) == ("failed", True)
    assert sorted(world.training.stopped)[:2] == sorted(f"{r['id']}-1" for r in (once, again))
    shown = seen(world, again)
    assert (shown["state"], shown["attempt"]) == ("starting", 2)


def test_an_engine_out_of_reach_does_not_hold_a_run_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, token = started(world)
    retried, _ = started(world, retries=1)
    cancelled, _ = started(world)
    alive, living = started(world)
    world.ok("POST", f"/runs/{cancelled['id']}/cancel")
    world.training.ready = False
    world.tick()
    assert seen(world, lost)["state"] == "running"
    sample = {
        "worker": 0,
        "host": "here",
        "cpu_percent": 1,
        "memory_bytes": 1,
        "memory_total_bytes": 2,
    }
    ago = datetime.now(UTC) - advancing.REACH_LIMIT
    for run in (lost, retried, cancelled, alive):
        world.services.run_records.update(run["id"], 1, unseen_since=ago)
    told = world.call("POST", f"/runs/{alive['id']}/job/usage", living, json={"samples": [sample]})
    assert told.status_code == 204
    world.tick()
    assert seen(world, lost)["state"] == "lost"
    assert f"%aiaas resume {lost['id']}" in seen(world, lost)["error"]["remedy"]
    assert (seen(world, retried)["state"], seen(world, retried)["attempt"]) == ("queued", 2)
    assert seen(world, cancelled)["state"] == "cancelled"
    # Its workers tell of themselves: it is Ray that cannot be asked.
    assert seen(world, alive)["state"] == "running"
    assert report(world, lost, token, {"kind": "succeeded"}) == 409
    world.training.ready = True
    world.tick()
    found = world.services.run_records.live(alive["id"])
    assert found is not None
    assert found.unseen_since is None


def test_each_ending_gives_back_what_was_held(world: World) -> None:
    runs = [started(world, resources={"workers": 2}) for _ in range(3)]
    assert held(world) == 3
    report(world, *runs[0], {"kind": "succeeded"})
    report(world, *runs[1], {"kind": "failed", "error": ERROR})
    world.training.jobs[f"{runs[2][0]['id']}-1"] = JobStatus(JobState.FAILED)
    del world.training.jobs[f"{runs[2][0]['id']}-1"]
    world.tick()
    assert [seen(world, run)["state"] for run, _ in runs] == ["succeeded", "failed", "lost"]
    quota = world.ok("GET", "/me")["quota"]
    assert (quota["runs"]["used"], quota["workers"]["used"]) == (0, 0)


def test_what_the_engine_lost_says_how_and_goes_on_where_it_may(world: World) -> None:
    how = "The pod of the Ray head that ran this was lost, and another took its place."
    over, _ = started(world)
    retried, _ = started(world, retries=1)
    for run in (over, retried):
        world.training.jobs[f"{run['id']}-1"] = JobStatus(JobState.LOST, how)
    world.tick()
    assert seen(world, over)["state"] == "lost"
    assert seen(world, over)["error"]["message"] == how
    assert f"%aiaas resume {over['id']}" in seen(world, over)["error"]["remedy"]
    assert seen(world, retried)["attempt"] == 2
    assert held(world) == 1


def test_who_may_not_read_the_data_any_more_cannot_go_on(world: World) -> None:
    world.dataset("secret", token="user:bob")
    run = world.submit("admin:alice", datasets=["bob/secret"])
    world.ok("POST", f"/runs/{run['id']}/cancel")
    world.tick(2)
    refused = world.call("POST", f"/runs/{run['id']}/resume", json={})
    assert (refused.status_code, "no dataset secret" in refused.text) == (404, True)
    # An administrator goes on with somebody's run on its owner's own data.
    world.dataset("own", token="user:bob")
    theirs = world.submit("user:bob", datasets=["own"])
    world.ok("POST", f"/runs/{theirs['id']}/cancel", "user:bob")
    world.tick(2)
    assert world.ok("POST", f"/runs/{theirs['id']}/resume", "admin:root", json={})["owner"] == "bob"


def test_parameters_are_counted_together(world: World) -> None:
    run = world.submit(params={f"p{n}": n for n in range(100)})
    world.ok("POST", f"/runs/{run['id']}/cancel")
    world.tick(2)
    refused = world.call("POST", f"/runs/{run['id']}/resume", json={"params": {"more": 1}})
    assert (refused.status_code, "101 parameters" in refused.text) == (400, True)
    body = {"params": {"p0": 1}}
    assert world.ok("POST", f"/runs/{run['id']}/resume", json=body)["params"]["p0"] == 1


def test_a_key_names_one_request_and_no_other(world: World) -> None:
    headers = {"Idempotency-Key": "the-same-key"}
    made = []
    for name in ("one", "two"):
        run = world.submit(name=name)
        world.ok("POST", f"/runs/{run['id']}/cancel")
        world.tick(2)
        address = f"/runs/{run['id']}/resume"
        first = world.ok("POST", address, json={}, headers=headers)
        assert first["resumed_from"] == run["id"]
        assert world.ok("POST", address, json={}, headers=headers)["id"] == first["id"]
        made.append(first["id"])
    assert made[0] != made[1]


def test_waiting_for_a_turn_in_a_cluster_is_not_starting(world: World) -> None:
    run = world.submit()
    world.tick(2)
    job, ago = f"{run['id']}-1", datetime.now(UTC) - 2 * advancing.START_LIMIT
    world.training.jobs[job] = JobStatus(JobState.PENDING, "waits for 4 CPUs")
    world.services.run_records.update(run["id"], 1, submitted_at=ago)
    world.tick(2)
    assert (seen(world, run)["state"], seen(world, run)["reason"]) == (
        "starting",
        "waits for 4 CPUs",
    )
    # From then on the workers have their time.
    world.training.jobs[job] = JobStatus(JobState.RUNNING)
    world.tick(2)
    assert seen(world, run)["state"] == "starting"
    world.services.run_records.update(run["id"], 1, pending_at=ago)
    world.tick(2)
    assert "did not start" in seen(world, run)["error"]["message"]


def test_a_worker_that_starts_again_has_what_is_left_of_the_time(world: World) -> None:
    run = world.submit(time_limit=3600)
    token = world.run_token(run)

    def left() -> float:
        seconds: float = world.call("GET", f"/runs/{run['id']}/job", token).json()["time_left"]
        return seconds

    assert left() == 3600
    report(world, run, token, {"kind": "started"})
    began = datetime.now(UTC) - timedelta(minutes=30)
    world.services.run_records.update(run["id"], 1, started_at=began)
    assert 0 < left() <= 1800
    world.services.run_records.update(run["id"], 1, started_at=began - timedelta(hours=1))
    assert left() == 0


def test_a_job_is_told_how_long_its_workers_wait_for_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    settings = {"collective_seconds": 77}
    with serving(Home(tmp_path / "home"), url, settings=settings) as world:
        run = world.submit()
        token = world.run_token(run)
        job = world.call("GET", f"/runs/{run['id']}/job", token).json()
    assert job["collective_seconds"] == 77


def test_a_run_that_goes_on_says_why(world: World) -> None:
    run, token = started(world, retries=2)
    # Workers died, and the driver has others in the same attempt.
    died = "Worker 0 died: its machine went away. Going on from its checkpoint (retry 1 of 2)."
    world.services.run_records.update(run["id"], 1, reason="Ray does not answer.")
    assert report(world, run, token, {"kind": "retrying", "reason": died}) == 204
    assert (seen(world, run)["state"], seen(world, run)["reason"]) == ("running", died)
    # The new workers begin.
    assert report(world, run, token, {"kind": "started"}) == 204
    assert seen(world, run)["reason"] == died
    world.call("POST", f"/runs/{run['id']}/job/log", token, json={"offset": 0, "text": "first\n"})
    # Then the whole attempt is lost.
    world.training.jobs[f"{run['id']}-1"] = JobStatus(JobState.LOST, "The Ray head is gone.")
    world.tick()
    lost = "Attempt 1 was lost: The Ray head is gone. Going on from its checkpoint (retry 1 of 2)."
    assert (seen(world, run)["state"], seen(world, run)["reason"]) == ("starting", lost)
    second = world.training.submissions[-1].token
    world.call("POST", f"/runs/{run['id']}/job/log", second, json={"offset": 0, "text": "next\n"})
    report(world, run, second, {"kind": "started"})
    assert (seen(world, run)["state"], seen(world, run)["reason"]) == ("running", lost)
    log = world.ok("GET", f"/runs/{run['id']}/logs")["text"]
    assert log == f"first\n[aiaas] {lost}\nnext\n"
    report(world, run, second, {"kind": "succeeded"})
    assert seen(world, run)["reason"] == ""


def test_a_killed_driver_and_a_free_start_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advancing, "REPORT_GRACE", timedelta())
    killed, _ = started(world, retries=1)
    world.training.jobs[f"{killed['id']}-1"] = JobStatus(JobState.FAILED, "Its driver was killed.")
    never = world.submit()
    world.tick()
    del world.training.jobs[f"{never['id']}-1"]
    world.tick(2)
    assert seen(world, killed)["reason"] == (
        "Attempt 1 was lost: Its driver was killed. Going on from its checkpoint (retry 1 of 1)."
    )
    # One without retries, whose workers had not begun.
    assert seen(world, never)["reason"] == (
        "Attempt 1 was lost: The Ray head that ran this was lost. Starting again."
    )


def test_a_repeated_step_tells_a_lost_attempt_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = started(world, retries=1)
    records = world.services.run_records
    with monkeypatch.context() as broken:

        def die(*_: object, **__: object) -> None:
            raise RuntimeError("killed between the two")

        broken.setattr(records, "transition", die)
        world.training.jobs[f"{run['id']}-1"] = JobStatus(JobState.LOST, "The Ray head is gone.")
        world.tick()
    assert seen(world, run)["attempt"] == 1
    world.tick()
    assert seen(world, run)["attempt"] == 2
    assert world.ok("GET", f"/runs/{run['id']}/logs")["text"].count("was lost") == 1
