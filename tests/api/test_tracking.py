"""What runs tell about themselves: usage, progress, many points, and a sweep's trials."""

from __future__ import annotations

import math
from typing import Any

import pytest
from api_world import World
from sqlalchemy import text

import aiaas_hub.adapters.records.runs as records
from aiaas_hub.schemas.runs import EventFiles

SWEEP = {
    "space": {"lr": {"kind": "log", "low": 1e-4, "high": 0.1}},
    "trials": 3,
    "metric": "accuracy",
    "mode": "max",
    "concurrency": 2,
}


def job(world: World, run_id: str, path: str, token: str, body: Any, method: str = "POST") -> Any:
    return world.call(method, f"/runs/{run_id}/job{path}", token, json=body)


def test_usage_keeps_the_latest_of_each_worker(world: World) -> None:
    run = world.submit(resources={"workers": 2})
    token = world.run_token(run)

    def sample(worker: int, memory: int) -> dict[str, Any]:
        return {
            "worker": worker,
            "host": "here",
            "cpu_percent": 150.0,
            "memory_bytes": memory,
            "memory_total_bytes": 100,
        }

    for body in ([sample(1, 10)], [sample(0, 20), sample(1, 30)]):
        assert job(world, run["id"], "/usage", token, {"samples": body}).status_code == 204
    usage = world.ok("GET", f"/runs/{run['id']}")["usage"]
    assert [(one["worker"], one["memory_bytes"]) for one in usage] == [(0, 20), (1, 30)]
    refused = job(world, run["id"], "/usage", token, {"samples": [sample(2, 1)]})
    assert (refused.status_code, "0 to 1" in refused.text) == (400, True)


def test_what_workers_wrote_for_tensorboard_is_kept_by_attempt_and_worker(world: World) -> None:
    run = world.submit(resources={"workers": 2})
    token = world.run_token(run)

    def keep(worker: int, digest: str) -> Any:
        return job(
            world, run["id"], "/event-files", token, {"worker": worker, "digest": digest}, "PUT"
        )

    def uploaded(content: bytes) -> str:
        return str(world.ok("POST", "/blobs", token, content=content)["digest"])

    first, second, other = (uploaded(content) for content in (b"first", b"second", b"other"))
    for worker, digest in ((1, other), (0, first), (0, second)):
        assert keep(worker, digest).status_code == 204
    found = world.ok("GET", f"/runs/{run['id']}")["event_files"]
    assert found == [
        {"attempt": 1, "worker": 0, "digest": second},
        {"attempt": 1, "worker": 1, "digest": other},
    ]
    assert world.call("GET", f"/runs/{run['id']}/event-files/1/0").content == b"second"
    for missing in ("1/2", "2/0"):
        assert world.call("GET", f"/runs/{run['id']}/event-files/{missing}").status_code == 404
    theirs = world.call("GET", f"/runs/{run['id']}/event-files/1/0", "user:bob")
    assert theirs.status_code == 404

    assert keep(2, first).status_code == 400
    somebody_elses = world.ok("POST", "/blobs", "user:bob", content=b"bob's")["digest"]
    assert keep(0, somebody_elses).status_code == 404
    assert job(world, run["id"], "/events", token, {"kind": "succeeded"}).status_code == 204
    assert keep(0, first).status_code == 409
    assert world.ok("GET", f"/runs/{run['id']}")["event_files"] == found


def test_an_attempt_that_ended_meanwhile_keeps_no_files(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    runs = records.SqlRunRecords(world.database)
    files = EventFiles(attempt=1, worker=0, digest="0" * 64)
    assert runs.add_event_files(run["id"], files)
    # Authentication saw it alive; it is asked again where it is written.
    assert not runs.add_event_files(run["id"], files.model_copy(update={"attempt": 2}))
    assert job(world, run["id"], "/events", token, {"kind": "succeeded"}).status_code == 204
    assert not runs.add_event_files(run["id"], files.model_copy(update={"worker": 1}))
    assert len(world.ok("GET", f"/runs/{run['id']}")["event_files"]) == 1


def test_progress_comes_with_metrics(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    body = {"sequence": 0, "points": [], "progress": {"step": 3, "total": 10}}
    assert job(world, run["id"], "/metrics", token, body).status_code == 204
    assert world.ok("GET", f"/runs/{run['id']}")["progress"] == {"step": 3, "total": 10}


def test_many_points_are_read_in_pages_or_as_a_curve(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    values = [math.sin(step / 50) for step in range(6000)]
    values[4321] = 7.0
    for first in (0, 150, 300):  # small ones are merged, and repeats dropped
        batch(world, run, token, first, values[first : first + 200])
    for first in range(500, 6000, 1100):
        batch(world, run, token, first, values[first : first + 1100])
    found: list[Any] = []
    since = 0
    while True:
        page = world.ok("GET", f"/runs/{run['id']}/metrics?since={since}")
        if not page["points"]:
            break
        found += page["points"]
        since = page["next_since"]
    assert [point["values"]["loss"] for point in found] == values
    middle = world.ok("GET", f"/runs/{run['id']}/metrics?since=5990")
    assert [point["step"] for point in middle["points"]] == list(range(5990, 6000))
    curve = world.ok("GET", f"/runs/{run['id']}/metrics?points=200")
    losses = [point["values"]["loss"] for point in curve["points"]]
    assert len(losses) <= 200
    assert (max(losses), min(losses)) == (7.0, min(values))
    assert (losses[0], losses[-1]) == (values[0], values[-1])
    assert (curve["total"], curve["next_since"]) == (6000, 6000)
    assert world.call("GET", f"/runs/{run['id']}/metrics?points=3").status_code == 400


def batch(world: World, run: Any, token: str, first: int, values: list[float]) -> None:
    points = [
        {"step": first + i, "time": 1.0, "values": {"loss": value}}
        for i, value in enumerate(values)
    ]
    body = {"sequence": first, "points": points}
    assert job(world, run["id"], "/metrics", token, body).status_code == 204


def test_metrics_that_come_and_go(world: World) -> None:
    """One that a point does not hold is absent there, which NaN is not."""
    run = world.submit()
    token = world.run_token(run)
    told = [{"loss": 1.0}, {"loss": "nan", "step": 2.0}, {"accuracy": 0.5}, {"loss": 0.5}]
    points = [{"step": i, "time": 0.0, "values": values} for i, values in enumerate(told)]
    assert job(world, run["id"], "/metrics", token, {"sequence": 0, "points": points}).is_success
    for query in ("", "?points=10"):
        answer = world.ok("GET", f"/runs/{run['id']}/metrics{query}")
        assert [point["values"] for point in answer["points"]] == told


def test_a_step_may_have_no_metric(world: World) -> None:
    """`ctx.report(step=1)` says how far the run is, and no more."""
    run = world.submit()
    token = world.run_token(run)
    for first, told in ((0, [{}]), (1, [{}, {"loss": 1.0}, {}])):
        points = [{"step": first + i, "time": 0.0, "values": one} for i, one in enumerate(told)]
        body = {"sequence": first, "points": points}
        assert job(world, run["id"], "/metrics", token, body).is_success
        all_of_them = world.ok("GET", f"/runs/{run['id']}/metrics")["points"]
        assert len(all_of_them) == first + len(told)
        curve = world.ok("GET", f"/runs/{run['id']}/metrics?points=10")
        values = [point["values"] for point in curve["points"] if point["values"]]
        assert values == [one for one in told if one]


def test_a_run_keeps_so_many_metrics_and_no_more(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    for attempt, status in ((0, 204), (1, 413)):
        values = {f"m{attempt}-{n}": 1.0 for n in range(150)}
        body = {"sequence": attempt, "points": [{"step": 0, "time": 0.0, "values": values}]}
        assert job(world, run["id"], "/metrics", token, body).status_code == status
    assert len(world.ok("GET", f"/runs/{run['id']}")["last_metrics"]) == 150


def sweep(world: World, **changes: Any) -> tuple[Any, str]:
    run = world.submit(kind="sweep", sweep=SWEEP, params={"epochs": 2}, **changes)
    token = world.run_token(run)
    assert job(world, run["id"], "/events", token, {"kind": "started"}).status_code == 204
    return run, token


def begin(world: World, run: Any, token: str, number: int) -> Any:
    body = {"number": number, "params": {"lr": 0.01 * (number + 1)}}
    answer = job(world, run["id"], "/trials", token, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_trial_is_a_run_of_its_sweep(world: World) -> None:
    run, token = sweep(world)
    trial = begin(world, run, token, 0)
    assert begin(world, run, token, 0) == trial  # a repeat begins nothing
    shown = world.ok("GET", f"/runs/{trial['run_id']}")
    assert (shown["kind"], shown["parent"], shown["state"]) == ("trial", run["id"], "running")
    assert shown["params"] == {"epochs": 2, "lr": 0.01}
    # Neither in the lists, nor in the queue, nor in the quota.
    assert [one["id"] for one in world.ok("GET", "/runs")["items"]] == [run["id"]]
    listed = world.ok("GET", f"/runs?parent={run['id']}")["items"]
    assert [one["id"] for one in listed] == [trial["run_id"]]
    assert world.ok("GET", "/me")["quota"]["workers"]["used"] == 2  # the sweep's own, twice one
    assert world.ok("GET", "/me")["live_runs"] == 1
    # It reports as any job does, with its own token and about itself alone.
    own = trial["token"]
    body = {"sequence": 0, "points": [{"step": 1, "time": 0.0, "values": {"accuracy": 0.9}}]}
    assert job(world, trial["run_id"], "/metrics", own, body).status_code == 204
    log = {"offset": 0, "text": "step 1\n"}
    assert job(world, trial["run_id"], "/log", own, log).status_code == 204
    handed = world.hand_over()
    assert job(world, trial["run_id"], "/model", own, handed, "PUT").status_code == 200
    assert job(world, run["id"], "/metrics", own, body).status_code == 401
    assert job(world, trial["run_id"], "/metrics", token, body).status_code == 401
    refused = job(world, trial["run_id"], "/trials", own, {"number": 1, "params": {}})
    assert (refused.status_code, "Only a sweep" in refused.text) == (400, True)
    assert job(world, trial["run_id"], "/events", own, {"kind": "succeeded"}).status_code == 204
    shown = world.ok("GET", f"/runs/{trial['run_id']}")
    assert (shown["state"], shown["model"]["name"]) == ("succeeded", "cnn")
    assert begin(world, run, token, 0)["state"] == "succeeded"


def test_a_sweep_has_as_many_trials_as_it_said(world: World) -> None:
    run, token = sweep(world)
    refused = job(world, run["id"], "/trials", token, {"number": 3, "params": {}})
    assert (refused.status_code, "3 trials" in refused.text) == (400, True)
    plain = world.submit()
    refused = job(
        world, plain["id"], "/trials", world.run_token(plain), {"number": 0, "params": {}}
    )
    assert refused.status_code == 400


def test_a_trial_that_is_stopped_early_or_cancelled(world: World) -> None:
    run, token = sweep(world)
    stopped, cancelled = (begin(world, run, token, number) for number in range(2))
    assert job(
        world, stopped["run_id"], "/events", stopped["token"], {"kind": "stopped"}
    ).is_success
    world.ok("POST", f"/runs/{cancelled['run_id']}/cancel")
    world.tick()
    shown = world.ok("GET", f"/runs/{stopped['run_id']}")
    assert (shown["state"], shown["reason"]) == ("cancelled", "stopped early by the sweep")
    assert world.ok("GET", f"/runs/{cancelled['run_id']}")["state"] == "cancelled"
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == "running"
    # No other run is stopped that way.
    assert job(world, run["id"], "/events", token, {"kind": "stopped"}).status_code == 400


@pytest.mark.parametrize(
    ("ending", "sweeps", "trials"),
    [
        ("cancel", "cancelled", "cancelled"),
        ("fail", "failed", "failed"),
        ("lose", "lost", "lost"),
        ("succeed", "succeeded", "cancelled"),
    ],
)
def test_trials_end_with_their_sweep(world: World, ending: str, sweeps: str, trials: str) -> None:
    run, token = sweep(world)
    done, going = (begin(world, run, token, number) for number in range(2))
    assert job(world, done["run_id"], "/events", done["token"], {"kind": "succeeded"}).is_success
    if ending == "cancel":
        world.ok("POST", f"/runs/{run['id']}/cancel")
    elif ending == "lose":
        world.training.jobs.clear()
    else:
        error = {"message": "No.", "remedy": "", "traceback": ""}
        event = {"kind": "failed", "error": error} if ending == "fail" else {"kind": "succeeded"}
        assert job(world, run["id"], "/events", token, event).status_code == 204
    world.tick(3)
    assert world.ok("GET", f"/runs/{run['id']}")["state"] == sweeps
    shown = world.ok("GET", f"/runs/{going['run_id']}")
    assert shown["state"] == trials
    assert (shown["error"] is None) == (trials == "cancelled")
    assert world.ok("GET", f"/runs/{done['run_id']}")["state"] == "succeeded"
    late = job(world, going["run_id"], "/log", going["token"], {"offset": 0, "text": "x"})
    assert late.status_code == 409


def test_a_trial_goes_on_as_a_run_of_its_own(world: World) -> None:
    run, token = sweep(world)
    trial = begin(world, run, token, 1)
    assert job(world, trial["run_id"], "/events", trial["token"], {"kind": "succeeded"}).is_success
    resumed = world.ok("POST", f"/runs/{trial['run_id']}/resume", json={"params": {"epochs": 9}})
    assert (resumed["kind"], resumed["parent"]) == ("train", None)
    assert resumed["resumed_from"] == trial["run_id"]
    assert resumed["params"] == {"epochs": 9, "lr": 0.02}
    world.call("POST", f"/runs/{run['id']}/cancel")
    world.tick(2)
    # Its checkpoint lies with its sweep.
    begun = next(job for job in world.training.submissions if job.id == f"{resumed['id']}-1")
    assert (begun.resumed_from, begun.resumed_trial) == (run["id"], 1)
    refused = world.call("POST", f"/runs/{run['id']}/resume", json={})
    assert refused.status_code == 409
    assert "A sweep has no checkpoint" in refused.text


def test_the_end_of_a_log_in_whole_lines(world: World) -> None:
    run = world.submit()
    token = world.run_token(run)
    text = "".join(f"line {number} é\n" for number in range(100))
    assert job(world, run["id"], "/log", token, {"offset": 0, "text": text}).status_code == 204
    tail = world.ok("GET", f"/runs/{run['id']}/logs?tail=30")
    assert tail["text"] == "line 98 é\nline 99 é\n"
    assert tail["next_offset"] == len(text.encode())
    assert world.ok("GET", f"/runs/{run['id']}/logs?tail=100000")["text"] == text


def test_streams_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.submit()
    monkeypatch.setattr(world.services.live, "_max_streams", 1)
    path = f"/runs/{run['id']}/events"
    headers = {"Authorization": "Bearer user:alice"}
    with world.client.stream("GET", f"{world.base}{path}", headers=headers) as stream:
        lines = stream.iter_lines()  # closed with the last reference to it
        assert next(lines).startswith("event")
        refused = world.call("GET", path)
        assert refused.status_code == 429
        assert "watch 1 things" in refused.json()["error"]["message"]
        theirs = world.submit("user:bob")
        headers = {"Authorization": "Bearer user:bob"}
        url = f"{world.base}/runs/{theirs['id']}/events"
        with world.client.stream("GET", url, headers=headers) as other:
            assert next(other.iter_lines()).startswith("event")


def test_points_take_room_by_their_values(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.submit()
    token = world.run_token(run)

    def send(sequence: int, values: list[dict[str, float]]) -> int:
        points = [{"step": n, "time": 0.0, "values": one} for n, one in enumerate(values)]
        body = {"sequence": sequence, "points": points}
        status: int = job(world, run["id"], "/metrics", token, body).status_code
        return status

    sparse = [{f"m{n % 200}": float(n)} for n in range(2000)]
    assert send(0, sparse[:3]) == send(3, sparse[3:]) == 204
    with world.database.engine.connect() as connection:
        stored = connection.execute(text("SELECT sum(length(points)) FROM metric_chunks")).scalar()
    assert stored is not None
    assert stored < 50 * len(sparse)
    read = world.ok("GET", f"/runs/{run['id']}/metrics")["points"]
    assert [point["values"] for point in read] == sparse
    curves = world.ok("GET", f"/runs/{run['id']}/metrics?points=10")
    assert [point["values"] for point in curves["points"]] == sparse
    # What holds nothing counts too.
    monkeypatch.setattr(records, "MAX_METRIC_VALUES", 2005)
    assert send(2000, [{}] * 5) == 204
    assert send(2005, [{}]) == 413
