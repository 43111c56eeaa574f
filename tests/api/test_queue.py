"""The queue over HTTP: places, plans, quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import World

import aiaas_hub.app
from aiaas_hub.domain.holdings import RunLimits
from aiaas_hub.domain.ports import Capacity
from aiaas_hub.domain.queueing import QueueRules

SNAPSHOT = {"digest": "0" * 64, "python": aiaas_hub.app.PYTHON, "client": "0"}


def plan(world: World, token: str = "user:alice", **changes: Any) -> Any:
    body = {"name": "cnn", "snapshot": SNAPSHOT, **changes}
    return world.ok("POST", "/runs/plan", token, json=body)


def seen(world: World, run: Any, token: str = "user:alice") -> Any:
    return world.ok("GET", f"/runs/{run['id']}", token)


def test_why_a_run_waits_and_what_would_start_instead(world: World) -> None:
    world.training.has = Capacity(cpus=4, gpus=0)
    theirs = world.submit("user:bob", resources={"workers": 3})
    world.tick()
    mine = world.submit(resources={"workers": 2})
    assert mine["queue"] == {
        "position": 1,
        "blocked_by": "waits for 1 CPU: another user's run holds 3 of 4",
        "remedy": "with --workers 1 it would start now",
        "never": False,
        "expected_seconds": None,
    }
    world.tick()
    shown = seen(world, mine)
    assert (shown["state"], shown["reason"]) == ("queued", mine["queue"]["blocked_by"])
    assert shown["queue"] == mine["queue"]
    listed = world.ok("GET", "/runs")["items"]
    assert listed[0]["queue"] == mine["queue"]
    assert theirs["id"] not in str(listed)
    # What it does not hold any more is given away at once.
    world.ok("POST", f"/runs/{theirs['id']}/cancel", "user:bob")
    world.tick(2)
    shown = seen(world, mine)
    assert (shown["state"], shown["queue"]) == ("starting", None)


def test_a_small_run_in_the_gap_says_so(world: World) -> None:
    world.training.has = Capacity(cpus=4, gpus=0)
    world.submit("user:bob", resources={"workers": 2})
    world.tick()
    world.submit(resources={"workers": 4})
    small = world.submit("user:carol")
    world.tick()
    shown = seen(world, small, "user:carol")
    assert (shown["state"], "ahead of a bigger run" in shown["reason"]) == ("starting", True)


def test_priorities_order_ones_own_runs(world: World) -> None:
    world.training.has = Capacity(cpus=1, gpus=0)
    first = world.submit()
    world.tick()
    low, high = world.submit(priority="low"), world.submit(priority="high")
    assert seen(world, low)["queue"]["position"] == 2
    world.ok("POST", f"/runs/{first['id']}/cancel")
    world.tick(2)
    assert [seen(world, run)["state"] for run in (low, high)] == ["queued", "starting"]


def test_a_plan_changes_nothing_and_tells_all(world: World) -> None:
    world.dataset()
    world.training.has = Capacity(cpus=4, gpus=0)
    told = plan(world, datasets=["digits"], resources={"workers": 2})
    assert told["datasets"] == [{"owner": "alice", "name": "digits", "version": 1}]
    assert told["queue"] is None
    assert told["expected_start_seconds"] is None  # no run was started yet
    assert told["quota"]["runs"] == {"used": 0, "limit": 4}
    assert told["environment"]["python"] == aiaas_hub.app.PYTHON
    assert world.ok("GET", "/runs")["items"] == []

    run = world.submit(resources={"workers": 3})
    token = world.run_token(run)
    world.call("POST", f"/runs/{run['id']}/job/events", token, json={"kind": "started"})
    told = plan(world)
    assert told["expected_start_seconds"] >= 0
    assert told["quota"]["workers"] == {"used": 3, "limit": None}
    assert world.ok("GET", "/me")["quota"] == told["quota"]
    told = plan(world, resources={"workers": 2})
    assert told["queue"]["blocked_by"] == f"waits for 1 CPU: your {run['id']} holds 3 of 4"
    assert told["expected_start_seconds"] is None
    theirs = plan(world, "user:bob", resources={"workers": 2})
    assert theirs["queue"]["blocked_by"] == "waits for 1 CPU: another user's run holds 3 of 4"
    assert theirs["quota"]["runs"]["used"] == 0


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"datasets": ["nothing"]}, 404, "no dataset"),
        ({"kind": "trial"}, 400, "kind"),
        ({"kind": "sweep"}, 400, "what it sweeps"),
        ({"time_limit": 0}, 400, "time_limit"),
        ({"time_limit": 1e9}, 400, "time_limit"),
        ({"priority": "urgent"}, 400, "priority"),
        ({"early_stop": {"metric": "loss", "patience": 0}}, 400, "patience"),
        ({"resources": {"workers": 9}}, 400, "at most 8"),
        ({"resources": {"gpus_per_worker": 1}}, 400, "at most 0"),
    ],
)
def test_what_could_never_start_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, changes: Any, status: int, words: str
) -> None:
    rules = QueueRules(per_user=RunLimits(workers=8, gpus=0))
    monkeypatch.setattr(world.services.admission, "_rules", rules)
    body = {"name": "cnn", "snapshot": {**SNAPSHOT, "digest": world.upload(b"x")}, **changes}
    for path in ("/runs", "/runs/plan"):
        answer = world.call("POST", path, json=body)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"]
    assert world.ok("GET", "/runs")["items"] == []


def test_a_line_is_not_endless(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.services.admission, "_max_queued", 2)
    world.submit()
    world.submit()
    body = {"name": "cnn", "snapshot": {**SNAPSHOT, "digest": world.upload(b"x")}}
    answer = world.call("POST", "/runs", json=body)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "too_many"
    world.submit("user:bob")


def test_lists_are_filtered(world: World) -> None:
    cancelled = world.submit()
    world.ok("POST", f"/runs/{cancelled['id']}/cancel")
    world.tick()
    other = world.submit(name="other")

    def ids(query: str) -> list[str]:
        return [run["id"] for run in world.ok("GET", f"/runs?{query}")["items"]]

    assert ids("state=cancelled") == [cancelled["id"]]
    assert ids("state=queued&state=cancelled") == [other["id"], cancelled["id"]]
    assert ids("name=other") == [other["id"]]
    assert ids("kind=sweep") == []
    assert world.call("GET", "/runs?state=nonsense").status_code == 400


def test_a_key_with_another_body_is_refused(world: World) -> None:
    """On each route that takes a key."""
    world.dataset("thing")
    world.model("thing")
    ended = world.submit()
    world.ok("POST", f"/runs/{ended['id']}/cancel")
    world.tick()
    x, y = world.upload(b"x"), world.upload(b"y")
    handed = world.hand_over()
    for path, body, other in (
        ("/runs", {"name": "a", "snapshot": {**SNAPSHOT, "digest": x}}, {"name": "b"}),
        (f"/runs/{ended['id']}/resume", {"params": {"lr": 1}}, {"params": {"lr": 2}}),
        ("/models/alice/new/versions", handed, {"onnx": y}),
        ("/endpoints/alice/thing/publish", {"model": "thing"}, {"model": "cnn"}),
        ("/endpoints/alice/thing/keys", {}, {"note": "another"}),
    ):
        headers = {"Idempotency-Key": "the-same-key"}
        first = world.ok("POST", path, json=body, headers=dict(headers))
        again = world.ok("POST", path, json=body, headers=dict(headers))
        assert again.get("id", again.get("name")) == first.get("id", first.get("name"))
        answer = world.call("POST", path, json={**body, **other}, headers=dict(headers))
        assert answer.status_code == 409, path
        assert "Idempotency-Key" in answer.json()["error"]["message"]
    fresh = world.call("POST", "/datasets/alice/thing/versions", json={"blob": x}, headers=headers)
    assert fresh.status_code == 400  # not Parquet, but a key is taken by what was asked first
    other = world.call("POST", "/datasets/alice/thing/versions", json={"blob": y}, headers=headers)
    assert other.status_code == 409


def trained(
    world: World, seconds: float, token: str = "user:alice", start: float = 0
) -> tuple[Any, str]:
    """A run that called `train` as if `seconds` ago, and `start` seconds after its submission."""
    run = world.submit(token)
    reports = world.run_token(run)
    world.call("POST", f"/runs/{run['id']}/job/events", reports, json={"kind": "started"})
    began = datetime.now(UTC) - timedelta(seconds=seconds)
    values = {"submitted_at": began - timedelta(seconds=start), "started_at": began}
    world.services.run_records.update(run["id"], 1, **values)
    return run, reports


def over(world: World, run: Any, reports: str) -> None:
    world.call("POST", f"/runs/{run['id']}/job/events", reports, json={"kind": "succeeded"})


def test_until_when_a_run_waits_is_told_from_how_long_runs_took(world: World) -> None:
    world.training.has = Capacity(cpus=1, gpus=0)
    over(world, *trained(world, 590, start=7))
    trained(world, 0)
    told = plan(world)
    assert told["queue"]["expected_seconds"] == 600
    assert told["expected_start_seconds"] == 607
    mine = world.submit()
    assert mine["queue"]["expected_seconds"] == 600
    # Behind both of them.
    assert plan(world)["queue"]["expected_seconds"] == 1200
    assert seen(world, mine)["queue"]["expected_seconds"] == 600
    (listed,) = [one for one in world.ok("GET", "/runs")["items"] if one["id"] == mine["id"]]
    assert listed["queue"]["expected_seconds"] == 600
    # As long as the engine takes nothing, nobody knows.
    world.training.ready = False
    assert plan(world)["queue"]["expected_seconds"] is None
    assert plan(world)["expected_start_seconds"] is None


def test_starts_on_workers_that_wait_and_others_are_told_apart(world: World) -> None:
    for warm, took in ((True, 2), (False, 40)):
        world.training.waiting = int(warm)
        trained(world, 0, start=took)
    assert plan(world)["expected_start_seconds"] == 40
    world.training.waiting = 1
    assert plan(world)["expected_start_seconds"] == 2


def test_hours_that_are_left_are_in_the_plan(world: World) -> None:
    (world.home.root / "quotas.yaml").write_text(
        "period: day\ndefault: {worker_hours: 3, gpu_hours: 2}\n"
    )
    assert [(one["name"], one["used"], one["limit"]) for one in plan(world)["hours"]] == [
        ("worker-hours", 0, 3)
    ]
    world.training.has = Capacity(cpus=4, gpus=4)
    told = plan(world, resources={"gpus_per_worker": 1})["hours"]
    assert [(one["name"], one["limit"]) for one in told] == [("GPU-hours", 2), ("worker-hours", 3)]


def test_more_than_there_is_is_told_in_the_plan_and_refused(world: World) -> None:
    world.training.has = Capacity(cpus=4, gpus=0)
    told = plan(world, resources={"workers": 5})
    assert (told["queue"]["never"], told["warm"]) == (True, False)
    for resources, remedy in (
        ({"workers": 5}, "Ask for at most --workers 4."),
        ({"cpus_per_worker": 6}, "Ask for at most --cpus-per-worker 4."),
        ({"gpus_per_worker": 1}, "Ask for at most --gpus-per-worker 0."),
    ):
        body = {"name": "cnn", "snapshot": SNAPSHOT, "resources": resources}
        digest = world.upload(b"a snapshot")
        body["snapshot"] = {**SNAPSHOT, "digest": digest}
        answer = world.call("POST", "/runs", json=body)
        assert (answer.status_code, answer.json()["error"]["remedy"]) == (400, remedy)
    # As long as nobody knows what there is, nothing is refused.
    world.training.ready = False
    assert world.submit(resources={"workers": 5})["state"] == "queued"


def test_a_plan_is_warm_where_enough_workers_wait(world: World) -> None:
    world.training.waiting = 2
    assert plan(world, resources={"workers": 2})["warm"]
    assert not plan(world, resources={"workers": 3})["warm"]
